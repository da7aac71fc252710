package sim

import "math"

// rng is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, OOPSLA 2014). It is eight bytes, inlines, and its stream never
// changes with a Go release, which phi tests rely on. Any seed is good,
// so a value derived with mix starts an independent stream.
type rng struct{ state uint64 }

const phi = 0x9e3779b97f4a7c15

func (r *rng) next() uint64 {
	r.state += phi
	return mix(r.state)
}

// unit is uniform in [0, 1).
func (r *rng) unit() float64 { return unit(r.next()) }

// below is uniform in [0, n), with a bias below 2^-32 for the small n used here.
func (r *rng) below(n int) int { return int((r.next() >> 32) * uint64(n) >> 32) }

// chance is true with probability p.
func (r *rng) chance(p float64) bool { return r.unit() < p }

// exp is exponential with mean 1.
func (r *rng) exp() float64 { return -math.Log(1 - r.unit()) }

// spread has mean 0 and variance 1. It is uniform, not normal: its uses add up
// dozens of draws.
func (r *rng) spread() float64 { return (r.unit() - 0.5) * math.Sqrt(12) }

// rank is in [0, n), the r-th with a probability that falls as 1/sqrt(r): busy
// people are much busier than quiet ones, yet nobody is half of the traffic.
func (r *rng) rank(n int) int {
	x := r.unit()*(math.Sqrt(float64(n)+1)-1) + 1
	return min(int(x*x)-1, n-1)
}

// power is in [0, n), the r-th with a probability that falls as r^-s; 0 < s < 1.
func (r *rng) power(n int, s float64) int {
	top := math.Pow(float64(n)+1, 1-s)
	return min(int(math.Pow(r.unit()*(top-1)+1, 1/(1-s)))-1, n-1)
}

// poisson is how many independent events happen where mean are expected; large
// means are taken for normal.
func (r *rng) poisson(mean float64) int {
	if mean > 60 {
		z := math.Sqrt(2*r.exp()) * math.Cos(2*math.Pi*r.unit())
		return max(0, int(math.Round(mean+math.Sqrt(mean)*z)))
	}
	n, p, e := 0, r.unit(), math.Exp(-mean)
	for p > e {
		n++
		p *= r.unit()
	}
	return n
}

// mix hashes x; it is the finaliser of SplitMix64 and a bijection.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stream derives the seed of the n-th independent stream. It is the n-th draw of
// an rng with that seed, so who also draws from one numbers streams from 100.
func stream(seed uint64, n int) uint64 { return mix(seed + uint64(n+1)*phi) }

func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// picker draws indices with given weights in constant time (Walker's alias
// method).
type picker struct {
	keep  []float64
	alias []int32
}

// newPicker makes a picker for weights that are not all zero.
func newPicker(weights []float64) picker {
	n := len(weights)
	p := picker{keep: make([]float64, n), alias: make([]int32, n)}
	total := 0.0
	for _, w := range weights {
		total += w
	}
	var small, large []int32
	for i, w := range weights {
		p.keep[i] = w * float64(n) / total
		p.alias[i] = int32(i)
		if p.keep[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.alias[s] = l
		p.keep[l] -= 1 - p.keep[s]
		if p.keep[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	// Whatever is left differs from 1 by rounding only, unless a weight of zero
	// found no partner, which the sum rules out.
	for _, i := range small {
		p.keep[i] = 1
	}
	for _, i := range large {
		p.keep[i] = 1
	}
	return p
}

func (p *picker) pick(r *rng) int {
	x := r.unit() * float64(len(p.keep))
	i := int(x)
	if x-float64(i) < p.keep[i] {
		return i
	}
	return int(p.alias[i])
}

// zipf returns weights that fall as rank^-s.
func zipf(n int, s float64) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = math.Pow(float64(i+1), -s)
	}
	return w
}
