package baseline

// How dispersion is learned.
const (
	// dispersionDiscount is the memory of residuals for one learning period: a
	// half-life of 100 h.
	dispersionDiscount = 0.99654
	// seriesWeight is how much squared variance the pooled dispersion of a level
	// weighs at least in each of its series.
	seriesWeight = 300
	// poolWeight is the same for the first guess of a level.
	poolWeight = 3000
	// firstSigma2 is the first guess of the variance of a rate's log-odds.
	firstSigma2 = 0.01
	// firstPhi is the first guess of the clumping of denials.
	firstPhi = 1.3
)

// Dispersion learns how much noisier than coin tosses one series is: the
// variance of its log-odds, from squared residuals over learning periods.
type Dispersion struct {
	x, m, v    float32 // the current period
	s2, s1, sv float32 // discounted squared residuals, variance, squared variance
}

// Add takes in one slot.
func (d *Dispersion) Add(s *Sum) {
	d.x += s.X
	d.m += s.M
	d.v += s.V
}

// Drop forgets the current period.
func (d *Dispersion) Drop() { d.x, d.m, d.v = 0, 0, 0 }

// Level pools the dispersion of all series of a kind.
type Level struct{ r2, v, vv float64 }

// Sigma2 is the variance of the log-odds of a series, shrunk to its level's. That a
// series is noisier than others is believed at once. That it is quieter is not: what
// squared residuals tell has the variance 2 phi² / sv, so that half of the series of a
// level would seem to be without any noise, and what all series of a level differ by is
// about what they have (as an exponential distribution).
func (d *Dispersion) Sigma2(l *Level, c *Clumping) float32 {
	own, pool := max(0, d.s2-c.Phi()*d.s1), l.Sigma2(c)
	weight := float32(seriesWeight)
	if own < pool*d.sv {
		weight = max(weight, 2*c.Phi()*c.Phi()/(pool*pool))
	}
	return (own + pool*weight) / (d.sv + weight)
}

// Sigma2 is the pooled variance of the log-odds of a level.
func (l *Level) Sigma2(c *Clumping) float32 {
	return float32((max(0, l.r2-float64(c.Phi())*l.v) + firstSigma2*poolWeight) / (l.vv + poolWeight))
}

// Age discounts the pool by one learning period.
func (l *Level) Age() {
	l.r2 *= dispersionDiscount
	l.v *= dispersionDiscount
	l.vv *= dispersionDiscount
}

// Clumping learns the Fano factor of denials in small series: how far denials
// come in clumps (one person, several requests).
type Clumping struct{ r2, v float64 }

// Phi is the clumping, 1 for independent denials.
func (c *Clumping) Phi() float32 {
	if c.v <= 2000 {
		return firstPhi
	}
	return float32(min(max(c.r2/c.v, 1), 2.5))
}

// Numbers of variances at which a residual is cut. For noise it is three standard
// deviations: what is larger is more likely a change. The clumps of small series are
// larger than that.
const (
	extremeNoise = 9
	extremeClump = 16
)

// Learn ends a period: its residual, cut where it is extreme, teaches its level, the
// clumping and, with own, the series itself.
func (d *Dispersion) Learn(l *Level, c *Clumping, own bool) {
	if d.v <= 0 {
		d.Drop()
		return
	}
	r2 := (d.x - d.m) * (d.x - d.m)
	usual := c.Phi()*d.v + d.Sigma2(l, c)*d.v*d.v + 1
	noise := min(r2, extremeNoise*usual)
	if own {
		d.s2 = d.s2*dispersionDiscount + noise
		d.s1 = d.s1*dispersionDiscount + d.v
		d.sv = d.sv*dispersionDiscount + d.v*d.v
	}
	if d.v > 1 {
		l.r2 += float64(noise)
		l.v += float64(d.v)
		l.vv += float64(d.v) * float64(d.v)
	}
	if d.v > 0.3 && d.v < 6 {
		c.r2 = c.r2*0.99999 + float64(min(r2, extremeClump*usual))
		c.v = c.v*0.99999 + float64(d.v)
	}
	d.Drop()
}

// Season knows by how much the rate of a kind of visitor changes with the hour
// of the day: discounted observed and expected denials of every hour.
type Season struct {
	x, m   [24]float32
	cx, cm float32 // the current hour
	// Steps is what the current hour adds to a Rate.
	Steps int16
}

const (
	seasonDiscount = 0.85 // a day
	seasonPrior    = 40   // expected denials
)

// Learn adds x refused where m were expected of the unseasonal baseline.
func (s *Season) Learn(x, m float32) {
	s.cx += x
	s.cm += m
}

// Forget lets what the current hour saw so far teach nothing.
func (s *Season) Forget() { s.cx, s.cm = 0, 0 }

// Turn ends the hour old, which teaches when learn is set, and begins hour.
func (s *Season) Turn(old, hour int, learn bool) {
	if learn {
		s.x[old] = s.x[old]*seasonDiscount + s.cx
		s.m[old] = s.m[old]*seasonDiscount + s.cm
	}
	s.cx, s.cm = 0, 0
	s.Steps = s.At(hour)
}

// At is what an hour, 0..23, adds to a Rate by what is known now.
func (s *Season) At(hour int) int16 {
	f := float64((s.x[hour] + seasonPrior) / (s.m[hour] + seasonPrior))
	return Steps(min(max(f, 0.3), 3))
}
