// Package baseline holds what is normal: the pure statistics of denial rates,
// without clock, input or bookkeeping. A Cell learns the rate of one slice of
// traffic with a lag and a memory and knows about epochs and probation; Season
// corrects it for the hour of the day; Evidence weighs what was seen against
// what was expected; Dispersion keeps the evidence honest where traffic is
// noisier than coin tosses.
//
// Nothing here is safe for concurrent use. Times are seconds since the Unix
// epoch, evidence is in nats. Results depend on the order of calls only where a
// comment says so. The formulas are explained in detector/DESIGN.md.
package baseline

import "math"

// Memory and strength of the baseline.
const (
	// HalfLife is how long it takes, in seconds, until a count weighs half.
	HalfLife = 48 * 3600
	// Lag is the period in seconds of learning: counts wait between one and two
	// of them before they teach, so that a change is judged before it is learned.
	Lag = 1800
	// Prior is how many requests' worth every level of the hierarchy trusts the
	// level above.
	Prior = 20
	// FirstGuess is the rate of a product of which nothing is known.
	FirstGuess = 0.02
	// FirstKnownGuess is the same for the rate at which requests are refusals of
	// people who used to get in.
	FirstKnownGuess = 0.002
	// MaxHold bounds in seconds how long overlapping probations can freeze a
	// baseline, and how long a slow rise can keep it from learning.
	MaxHold = 6 * 3600
)

// Discount returns the factor by which counts lose weight in d seconds.
func Discount(d int64) float32 { return float32(math.Exp2(-float64(d) / HalfLife)) }

// Shrink is the posterior mean of a rate after k of n, given the rate prior of
// the level above with the weight of Prior requests. Where the rarer outcome was
// hardly seen yet, the prior weighs as much as half of one: a thousand clean
// requests below a rate of 0.05 % do not prove 0.001 %.
func Shrink(k, n float32, prior float64) float64 {
	rare, seen := prior, float64(k)
	if prior > 0.5 {
		rare, seen = 1-prior, float64(n-k)
	}
	w := max(Prior, 0.5/(max(rare, 1e-6)*(1+max(seen, 0))))
	return (float64(k) + w*prior) / (float64(n) + w)
}

// Own is Shrink, unless k of n show that the rate has nothing to do with that of the level
// above: a door is mostly open or mostly closed, whatever the others are. It is the mean of
// both guesses, by how probable they are: that the rate is near prior, as that of Prior
// requests is, or that it may be anything (Jeffreys' prior), which disagree nats speak
// against beforehand (the Bayes factor of two beta-binomial distributions).
func Own(k, n float32, prior float64) float64 {
	like := Shrink(k, n, prior)
	kk, nn := float64(k), float64(n)
	if nn < 1 || math.Abs(kk-nn*like) < 1 {
		return like // as most are
	}
	p := min(max(prior, 1e-5), 1-1e-5)
	g := logBeta(kk+0.5, nn-kk+0.5) - logBeta(0.5, 0.5) - logBeta(kk+Prior*p, nn-kk+Prior*(1-p)) + logBeta(Prior*p, Prior*(1-p))
	own := (kk + 0.5) / (nn + 1)
	return like + (own-like)/(1+math.Exp(disagree-g))
}

// logBeta is the logarithm of the Beta function.
func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// Cell is what is known of the rate of one slice of traffic: discounted counts
// of its current epoch, newer counts on their way in, and, during probation, the
// hold that keeps the old epoch as judge.
type Cell struct {
	// K of N requests were refused, discounted.
	K, N float32
	// U of M requests were refusals of people who used to get in, discounted, since
	// it is known who did.
	U, M float32
	// k0 of n0 is the newest data, k1 of n1 what waits, u0 and u1 the same for U.
	k0, n0, u0, k1, n1, u1 float32
	// hold is the end of the probation, 0 when there is none; since is its start.
	hold, since uint32
	// P is the expected rate, shrunk towards the cell's parents, Q the same for
	// people who used to get in. The owner sets both.
	P, Q Rate
}

// Learn adds k of n requests to what will teach the baseline later; u of the k
// were people who used to get in.
func (c *Cell) Learn(k, n, u float32) {
	c.k0 += k
	c.n0 += n
	c.u0 += u
}

// Forget drops what was not learned yet.
func (c *Cell) Forget() { c.k0, c.n0, c.u0, c.k1, c.n1, c.u1 = 0, 0, 0, 0, 0, 0 }

// Inherit adds what another cell learned.
func (c *Cell) Inherit(o *Cell) {
	c.K += o.K
	c.N += o.N
	c.U += o.U
	c.M += o.M
	if o.hold > c.hold {
		c.hold, c.since = o.hold, o.since
	}
}

// Clean is the same cell for another class of refusals, of which none was seen
// yet: as many requests, none refused.
func (c *Cell) Clean() Cell {
	d := *c
	d.K, d.k0, d.k1, d.U, d.u0, d.u1 = 0, 0, 0, 0, 0, 0
	return d
}

// Held reports whether the old epoch is frozen as judge.
func (c *Cell) Held() bool { return c.hold != 0 }

// Ends reports whether a probation is over at now.
func (c *Cell) Ends(now int64) bool { return c.hold != 0 && int64(c.hold) <= now }

// Freeze keeps the baseline as it is from now until then, while newer counts
// gather apart as the new epoch. An earlier hold is prolonged, to MaxHold in all.
func (c *Cell) Freeze(now, until int64) {
	if until <= now {
		return
	}
	if c.hold == 0 {
		c.since = uint32(now)
	}
	c.hold = max(c.hold, uint32(min(until, int64(c.since)+MaxHold)))
}

// Extend prolongs a hold until then, and reports whether MaxHold allowed it.
func (c *Cell) Extend(until int64) bool {
	if c.hold == 0 || until > int64(c.since)+MaxHold {
		return false
	}
	c.hold = max(c.hold, uint32(until))
	return true
}

// Thaw ends a hold and keeps the old epoch.
func (c *Cell) Thaw() { c.hold, c.since = 0, 0 }

// Turn ends one learning period: what waited is learned, what is newest waits.
// During a hold everything waits. known tells that it is known who used to get in.
func (c *Cell) Turn(discount float32, known bool) {
	if c.hold != 0 {
		c.Wait()
		return
	}
	c.K *= discount
	c.N *= discount
	c.U *= discount
	c.M *= discount
	c.take(known)
}

// Wait ends one learning period in which nothing is learned: what is newest waits too.
func (c *Cell) Wait() {
	c.k1 += c.k0
	c.n1 += c.n0
	c.u1 += c.u0
	c.k0, c.n0, c.u0 = 0, 0, 0
}

// take learns what waited; what is newest waits.
func (c *Cell) take(known bool) {
	c.K += c.k1
	c.N += c.n1
	if known {
		c.U += c.u1
		c.M += c.n1
	}
	c.k1, c.n1, c.u1 = c.k0, c.n0, c.u0
	c.k0, c.n0, c.u0 = 0, 0, 0
}

// Epoch sums what cells of one group know at the end of a probation.
type Epoch struct{ oldK, oldN, newK, newN float64 }

// Add adds a cell whose probation ends.
func (e *Epoch) Add(c *Cell) {
	e.oldK += float64(c.K)
	e.oldN += float64(c.N)
	e.newK += float64(c.k0 + c.k1)
	e.newN += float64(c.n0 + c.n1)
}

// disagree is the evidence (three standard deviations) from which on two rates are taken to be
// different, epochsDisagree (three and a half, since a release asks that of hundreds of groups,
// whose denials come in clumps) the old and the new epoch of a group.
const (
	disagree       = 4.5
	epochsDisagree = 6 * firstPhi
)

// Keep is the share of the old counts that stays as a prior for the new epoch:
// never more than the group's own new evidence, and no more than Prior requests
// when the epochs disagree; at least Prior requests' worth, so that rare routes
// do not go blind.
func (e *Epoch) Keep() float32 {
	if e.oldN <= Prior {
		return 1
	}
	most := max(e.newN, Prior)
	// Two samples: that none of many was refused before says not that nobody is.
	q := (e.oldK + e.newK) / (e.oldN + e.newN)
	if Divergence(e.newK, e.newN, e.newN*q)+Divergence(e.oldK, e.oldN, e.oldN*q) > epochsDisagree {
		most = Prior
	}
	return float32(min(1, most/e.oldN))
}

// Begin ends a hold with the new epoch: of the old counts the share keep stays,
// the new ones are learned.
func (c *Cell) Begin(keep float32, known bool) {
	c.K *= keep
	c.N *= keep
	c.U *= keep
	c.M *= keep
	c.take(known)
	c.Thaw()
}

// Replace makes k of n the whole baseline and ends any hold. All k may have been
// people who used to get in.
func (c *Cell) Replace(k, n float32) {
	c.K, c.N, c.U, c.M = k, n, k, n
	c.Forget()
	c.Thaw()
}

// Divergence is the Kullback-Leibler information, in nats, of x of n requests
// refused where m were expected.
func Divergence(x, n, m float64) float64 {
	m = min(max(m, 1e-9), n-1e-9)
	var g float64
	if x > 0 {
		g += x * math.Log(x/m)
	}
	if n-x > 1e-9 {
		g += (n - x) * math.Log((n-x)/(n-m))
	}
	return max(g, 0)
}

// LogOdds of a rate, kept away from certainty.
func LogOdds(p float64) float64 {
	p = min(max(p, 1e-5), 1-1e-5)
	return math.Log(p / (1 - p))
}
