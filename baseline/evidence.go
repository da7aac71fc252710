package baseline

import "math"

// Trust in a series without any baseline, in requests: one that is refused almost
// always is believed, one that is refused now and then is not.
const Trust = 8

// Kappa is by how much the union bound over nested series overstates the number
// of alerts (measured: DESIGN.md of the detector).
const Kappa = 100

// Threshold is the evidence in nats at which one of n series alarms so that the
// product gets at most perWeek false alarms a week, when every series is judged
// once in step seconds. It is the e-detector bound E[time to false alarm] >= e^h
// (Shin, Ramdas and Rinaldo, NEJSDS 2023) over all series and alternatives, eased
// by Kappa, with half the budget.
func Threshold(n int, perWeek float64, step int64) float64 {
	slots := 7 * 24 * 3600 / float64(step)
	return max(math.Log(float64(max(n, 1))*slots/(perWeek*Kappa/2))+math.Log(Shifts), 3)
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
}

// of is the factor that the evidence l of alternative j, gathered over the
// binomial variance v, must be divided by; perV is requests per unit of variance.
func (s *Scale) of(j int, l, v, perV float32) float32 {
	return s.Phi + s.Sigma2*2*l/(Grid[j]*Grid[j]) + v*perV/(s.N+Trust)
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
	perV := s.N / max(s.V, 1e-5*s.N)
	n := Shifts
	if upOnly {
		n = Ups
	}
	for j := range n {
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
		if l > h*sc.of(j, l, e.v[j], perV) {
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
	lo, hi := 0, Ups
	if dir == Down {
		lo, hi = Ups, Shifts
	}
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
	lo, hi := 0, Ups
	if dir == Down {
		lo, hi = Ups, Shifts
	}
	for j := lo; j < hi; j++ {
		e.l[j] *= 0.7
	}
}

// Zero reports whether there is no evidence at all.
func (e *Evidence) Zero() bool { return e.l == [Shifts]float32{} }

// Quiet reports whether all evidence is far below the threshold h.
func (e *Evidence) Quiet(h float32, sc *Scale) bool {
	for j, l := range e.l {
		if l >= 0.6*h*(sc.Phi+sc.Sigma2*2*l/(Grid[j]*Grid[j])) {
			return false
		}
	}
	return true
}

// Reset forgets all evidence.
func (e *Evidence) Reset() { *e = Evidence{} }

// Excess is a located slice: sums over a window of time, and the log-partition
// of every shift of a scan.
type Excess struct {
	N, X, M, V float32
	// Base is the number of requests behind the expectation.
	Base float32
	D    [Scans]float32
}

// Add adds a cell's window of n requests, x refused, m expected, in direction
// dir, with base requests behind the expectation.
func (e *Excess) Add(n, x, m, base float32, dir int8) {
	t := &rates()[RateOf(float64(m/n))]
	d := &t.up
	if dir == Down {
		d = &t.down
	}
	e.N += n
	e.X += x
	e.M += m
	e.V += m * (1 - m/n)
	e.Base += base
	for j := range d {
		e.D[j] += n * d[j]
	}
}

// Merge adds o to e.
func (e *Excess) Merge(o *Excess) {
	e.N += o.N
	e.X += o.X
	e.M += o.M
	e.V += o.V
	e.Base += o.Base
	for j := range e.D {
		e.D[j] += o.D[j]
	}
}

// Likelihood is the log-likelihood ratio of the best common shift in direction
// dir against none, and what it must be divided by; 0 when the slice moved the
// other way. Kulldorff's scan statistic for log-odds.
func (e *Excess) Likelihood(dir int8, sc *Scale) (g, phi float64) {
	if e.N < 0.5 || (e.X-e.M)*float32(dir) <= 0 {
		return 0, 1
	}
	w := 0.0
	for j, d := range ScanGrid {
		if y := float64(e.X)*d*float64(dir) - float64(e.D[j]); y > g {
			g, w = y, 2/(d*d)
		}
	}
	phi = float64(sc.Phi) + float64(sc.Sigma2)*g*w + float64(e.N)/(float64(e.Base)+Trust)
	return g, phi
}

// Without is the likelihood ratio in direction dir when x denials, and as many
// requests, are taken out.
func (e *Excess) Without(x float64, dir int8) float64 {
	keep := max(float64(e.N)-x, 0) / float64(e.N)
	var g float64
	for j, d := range ScanGrid {
		g = max(g, (float64(e.X)-x)*d*float64(dir)-float64(e.D[j])*keep)
	}
	return g
}

// Shift is the index in ScanGrid of the shift that explains the slice best.
func (e *Excess) Shift(dir int8) int {
	best, at := 0.0, 0
	for j, d := range ScanGrid {
		if y := float64(e.X)*d*float64(dir) - float64(e.D[j]); y > best {
			best, at = y, j
		}
	}
	return at
}

// Ratio is the log-likelihood ratio of x of n requests refused, where r is
// normal, for the shift number j of a scan in direction dir.
func Ratio(n, x float32, r Rate, dir int8, j int) float64 {
	t := &rates()[r]
	if dir == Down {
		return float64(-x)*ScanGrid[j] - float64(n*t.down[j])
	}
	return float64(x)*ScanGrid[j] - float64(n*t.up[j])
}

// LogPartition is log(1 + p(e^d - 1)): what a request costs the hypothesis that
// the log-odds of p moved by d.
func LogPartition(p, d float64) float64 { return math.Log1p(p * math.Expm1(d)) }
