package baseline

import "math"

// Trust in a series without any baseline, in requests: one of which half is refused is
// believed within some ten requests, one that is refused now and then is not (measured:
// DESIGN.md of the detector).
const Trust = 16

// Kappa is by how much the union bound over nested series overstates the number
// of alerts of KappaSeries and more of them; of fewer it is less, by the square
// root, since fewer are nested in each other (measured: DESIGN.md of the detector).
const (
	Kappa       = 100
	KappaSeries = 400
)

// Threshold is the evidence in nats at which one of n series alarms so that the
// product gets at most perWeek false alarms a week, when every series is judged
// once in step seconds. It is the e-detector bound E[time to false alarm] >= e^h
// (Shin, Ramdas and Rinaldo, NEJSDS 2023) over all series and alternatives, eased
// by Kappa, with half the budget.
func Threshold(n int, perWeek float64, step int64) float64 {
	slots := 7 * 24 * 3600 / float64(step)
	kappa := Kappa * math.Sqrt(min(1, float64(max(n, 1))/KappaSeries))
	return max(math.Log(float64(max(n, 1))*slots/(perWeek*kappa/2))+math.Log(Shifts), 3)
}

// Sum is what a series saw in one slot and what was expected of it.
type Sum struct {
	// N requests, X refused, M expected to be refused with binomial variance V.
	N, X, M, V float32
	// D is the expected log-partition of every alternative.
	D [Shifts]float32
}

// Part is one cell's share of the sums: n requests, x refused, where r is normal.
func Part(n, x float32, r Rate) Sum {
	t := &rates()[r]
	s := Sum{N: n, X: x, M: n * t.p}
	s.V = s.M * (1 - t.p)
	for j := range s.D {
		s.D[j] = n * t.tilt[j]
	}
	return s
}

// Add adds o to s.
func (s *Sum) Add(o *Sum) {
	s.N += o.N
	s.X += o.X
	s.M += o.M
	s.V += o.V
	for j := range s.D {
		s.D[j] += o.D[j]
	}
}

// Scale says how much of the evidence noise explains.
type Scale struct {
	// Phi is the clumping of denials, Sigma2 the variance of the log-odds.
	Phi, Sigma2 float32
	// N is the number of requests behind the expectation.
	N float32
	// Slow is by how many nats the threshold is lower for what noise explains: the log of
	// how many slots one draw of the noise lasts that Sigma2 measures.
	Slow float32
}

// beyond reports whether the evidence l of alternative j, gathered over the binomial
// variance v, is beyond the threshold h; perV is requests per unit of variance. What
// noise explains goes by the shift that was seen where that is larger than the
// alternative: between two of them noise would seem to explain more than it can. s is a
// slot of the series, for its mix of rates.
func (sc *Scale) beyond(h float32, j int, l, v, perV float32, s *Sum) bool {
	need := h * (sc.Phi + v*perV/(sc.N+Trust))
	if l <= need {
		return false
	}
	d := Grid[j]
	if s.V > 0 {
		n, m := v*perV, v*s.M/s.V
		x := (l + v*s.D[j]/s.V) / d
		if j < Ups && sc.surprise(x, n, m/n) <= h {
			return false
		}
		if seen := LogOdds(float64(x/n)) - LogOdds(float64(m/n)); math.Abs(seen) > math.Abs(float64(d)) && seen*float64(d) > 0 {
			d = float32(seen)
		}
	}
	return l > need+max(h-sc.Slow, 0)*sc.Sigma2*2*l/(d*d)
}

// sample is the number of requests behind an expectation from which on it is a sample.
// Of fewer Trust says what they are worth.
const sample = 20

// surprise is by how many nats x refusals of n requests are more than may come where the rate
// q is known from N requests only: the likelihood of the rate that was seen against that of the
// beta-binomial distribution with the shapes q N + 1/2 and (1-q) N + 1/2, which is that of
// what comes after such a sample (Gelman et al., Bayesian Data Analysis, 2.4). Of rates of which
// hardly any refusals are known it is much less than the evidence against q: each refusal
// is as improbable as q, and q may be twice that. Clumps are as many refusals less, there and here.
func (sc *Scale) surprise(x, n, q float32) float32 {
	if sc.N < sample || q <= 0 || q >= 1 {
		return math.MaxFloat32
	}
	in, out := float64(x/sc.Phi), float64(max(n-x, 0)/sc.Phi)
	a, b := float64(q*sc.N/sc.Phi+0.5), float64((1-q)*sc.N/sc.Phi+0.5)
	g := logBeta(a, b) - logBeta(a+in, b+out)
	if in > 0 {
		g += in * math.Log(in/(in+out))
	}
	if out > 0 {
		g += out * math.Log(out/(in+out))
	}
	return float32(g)
}

// Evidence is a mixture CUSUM: for every alternative the log-likelihood ratio
// since it last was zero.
type Evidence struct {
	l, v [Shifts]float32
	from [Shifts]uint16
}

// Directions of a change.
const (
	Up   int8 = 1
	Down int8 = -1
)

// Add takes in one slot, numbered by slot, and reports for each direction whether
// some alternative is beyond the threshold h. With upOnly nothing is said of, and
// nothing is added to, the falls.
func (e *Evidence) Add(s *Sum, slot uint16, h float32, sc *Scale, upOnly bool) (up, down bool) {
	if upOnly {
		return e.add(s, slot, h, sc, 0, Ups)
	}
	return e.add(s, slot, h, sc, 0, Shifts)
}

// surges is the first alternative that AddSurge considers.
const surges = 1

// AddSurge is Add for the rises of the log-odds by 1 and more alone: of a rate
// that may grow slowly by itself.
func (e *Evidence) AddSurge(s *Sum, slot uint16, h float32, sc *Scale) bool {
	up, _ := e.add(s, slot, h, sc, surges, Ups)
	return up
}

// Zero reports whether there is no evidence of anything.
func (e *Evidence) Zero() bool { return e.l == [Shifts]float32{} }

func (e *Evidence) add(s *Sum, slot uint16, h float32, sc *Scale, lo, hi int) (up, down bool) {
	perV := s.N / max(s.V, 1e-5*s.N)
	for j := lo; j < hi; j++ {
		l := e.l[j] + s.X*Grid[j] - s.D[j]
		if l <= 0 {
			e.l[j], e.v[j] = 0, 0
			continue
		}
		if e.l[j] == 0 {
			e.from[j] = slot
		}
		e.l[j] = l
		e.v[j] += s.V
		if sc.beyond(h, j, l, e.v[j], perV, s) {
			if j < Ups {
				up = true
			} else {
				down = true
			}
		}
	}
	return up, down
}

// Best returns the strongest evidence for a direction and how many slots before
// slot it began. Ages beyond 65,535 slots wrap around.
func (e *Evidence) Best(dir int8, slot uint16) (l float32, age int) {
	lo, hi := side(dir)
	for j := lo; j < hi; j++ {
		if e.l[j] > l {
			l, age = e.l[j], int(slot-e.from[j])
		}
	}
	return l, age
}

// Damp takes away a part of the evidence for a direction: what was not worth an
// incident must prove more.
func (e *Evidence) Damp(dir int8) {
	lo, hi := side(dir)
	for j := lo; j < hi; j++ {
		e.l[j] *= 0.7
	}
}

// Calm reports whether all evidence for a direction is below h, leaving the
// uncertainty of the baseline aside.
func (e *Evidence) Calm(dir int8, h float32, sc *Scale) bool {
	lo, hi := side(dir)
	for j := lo; j < hi; j++ {
		if l := e.l[j]; l >= h*(sc.Phi+sc.Sigma2*2*l/(Grid[j]*Grid[j])) {
			return false
		}
	}
	return true
}

// side is the range of the alternatives of a direction.
func side(dir int8) (lo, hi int) {
	if dir == Down {
		return Ups, Shifts
	}
	return 0, Ups
}

// Reset forgets all evidence.
func (e *Evidence) Reset() { *e = Evidence{} }

// Excess is a slice of traffic in a window of time: its sums, and the
// log-likelihood ratio of every change of a scan.
type Excess struct {
	N, X, M, V float32
	// Base is the number of requests behind the expectation.
	Base float32
	G    [Scans]float32
}

// Add adds a cell's window of n requests, x refused, m expected, in direction
// dir, with base requests behind the expectation.
func (e *Excess) Add(n, x, m, base float32, dir int8) {
	t := ratios(RateOf(float64(m/n)), dir)
	e.N += n
	e.X += x
	e.M += m
	e.V += m * (1 - m/n)
	e.Base += base
	for j := range e.G {
		e.G[j] += x*t[0][j] + (n-x)*t[1][j]
	}
}

func ratios(r Rate, dir int8) *[2][Scans]float32 {
	t := &rates()[r]
	if dir == Down {
		return &t.down
	}
	return &t.up
}

// Merge adds o to e.
func (e *Excess) Merge(o *Excess) {
	e.N += o.N
	e.X += o.X
	e.M += o.M
	e.V += o.V
	e.Base += o.Base
	for j := range o.G {
		e.G[j] += o.G[j]
	}
}

// Change is the number of the change that explains the slice best.
func (e *Excess) Change() int {
	at := 0
	for j, g := range e.G {
		if g > e.G[at] {
			at = j
		}
	}
	return at
}

// Smaller is a change of the same kind of a half to a fifth of the size.
func Smaller(change int) int {
	const kind = Scans / 2
	return max(change-2, change/kind*kind)
}

// Likelihood is the log-likelihood ratio of the best change of all cells alike
// against none, and what it must be divided by; 0 when the slice moved against
// dir. It is Kulldorff's scan statistic for refusals.
func (e *Excess) Likelihood(dir int8, sc *Scale) (g, phi float64) {
	if e.N < 0.5 || (e.X-e.M)*float32(dir) <= 0 {
		return 0, 1
	}
	g = max(float64(e.G[e.Change()]), 0)
	d := max(math.Abs(e.Shift()), ScanGrid[0])
	phi = float64(sc.Phi) + float64(sc.Sigma2)*g*2/(d*d) + float64(e.N)/(float64(e.Base)+Trust)
	return g, phi
}

// Shift is by how much the log-odds of the slice as a whole moved.
func (e *Excess) Shift() float64 {
	x, n, m := float64(e.X), float64(e.N), float64(e.M)
	return LogOdds((x+0.1)/(n+0.2)) - LogOdds((m+1e-3)/(n+0.2))
}

// Without is the likelihood ratio when x denials, and as many requests, are
// taken out of a rise, in proportion from all its cells.
func (e *Excess) Without(x float64) float64 {
	n, m := float64(e.N), float64(e.M)
	left, rest := float64(e.X)-x, n-x
	if left <= 0 || rest <= 0 {
		return 0
	}
	m *= rest / n
	if left <= m {
		return 0
	}
	return Divergence(left, rest, m)
}

// Ratio is the log-likelihood ratio of x of n requests refused, where r is
// normal, for change number j of a scan in direction dir.
func Ratio(n, x float32, r Rate, dir int8, j int) float64 {
	t := ratios(r, dir)
	return float64(x*t[0][j] + (n-x)*t[1][j])
}

// WallRatio is the log-likelihood ratio of x of n requests refused, where p is
// normal, for a wall of a share in direction dir.
func WallRatio(n, x, p float64, dir int8, share float64) float64 {
	q := Wall(p, dir, share)
	return x*math.Log(q/p) + (n-x)*math.Log((1-q)/(1-p))
}
