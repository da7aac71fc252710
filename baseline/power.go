package baseline

import "math"

// Power is the probability that a rise of the rate of n requests from q to w, from
// the first of them on, has made the evidence cross the threshold h by now, with
// what noise explains taken off as Evidence.Add does. It is that of the alternative
// that sees it best: its evidence has the mean n (w d - log(1 + q (e^d - 1))), and
// about a normal distribution with the standard deviation d sqrt(phi n w (1-w)).
func Power(n, q, w, h float64, sc *Scale) float64 {
	if n <= 0 || w <= q {
		return 0
	}
	phi, best := float64(sc.Phi), 0.0
	for _, shift := range Grid[:Ups] {
		d := float64(shift)
		mean := n * (w*d - math.Log1p(q*math.Expm1(d)))
		// Where it crosses, l = h (phi + sigma2 2 l / d² + n / (N + Trust)).
		room := 1 - 2*h*float64(sc.Sigma2)/(d*d)
		if mean <= 0 || room <= 0 {
			continue
		}
		need := h * (phi + n/(float64(sc.N)+Trust)) / room
		sd := d * math.Sqrt(phi*n*max(w*(1-w), 1e-9))
		best = max(best, math.Erfc((need-mean)/(sd*math.Sqrt2))/2)
	}
	// And the refusals must be more than the sample of q explains.
	x, sd := n*w, math.Sqrt(phi*n*w*(1-w))
	g := float64(sc.surprise(float32(x), float32(n), float32(q)))
	less := float64(sc.surprise(float32(max(x-sd, n*q)), float32(n), float32(q)))
	if g == less {
		return best // no sample
	}
	return min(best, math.Erfc((h-g)/((g-less)*math.Sqrt2))/2)
}
