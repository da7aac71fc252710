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
		// Where it crosses, l = h (phi + sigma2 2 l / d² + n / (N + Trust)), or what unsure says.
		room := 1 - 2*h*float64(sc.Sigma2)/(d*d)
		if mean <= 0 || room <= 0 {
			continue
		}
		need := max(h*(phi+n/(float64(sc.N)+Trust)), phi*h+float64(sc.unsure(float32(n*w), float32(n), float32(q)))) / room
		sd := d * math.Sqrt(phi*n*max(w*(1-w), 1e-9))
		best = max(best, math.Erfc((need-mean)/(sd*math.Sqrt2))/2)
	}
	return best
}
