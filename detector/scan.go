package detector

import (
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
)

// What a change must be to become an incident.
const (
	// minEvidence is the evidence in scaled nats that the located slice itself
	// must show; it keeps faded evidence from naming a wrong slice.
	minEvidence = 6
	// A rise must move the log-odds and the rate by this much.
	minRise     = 0.4
	minRiseRate = 0.004
	// A fall must be a wall that vanished, not an improvement: a rate that merely
	// halves moves the log-odds by less, unless nearly all were refused.
	minFall     = 1.3
	minFallRate = 0.01
	// A rise needs this many distinct identities. On a route without history it
	// needs as many that an application names, or more addresses: crawlers try
	// unknown paths all day.
	minPeople          = 3
	minStrangers       = 8
	penalty            = 1.5 // of the log of the number of scopes of a level
	betterBy           = 3   // nats by which a new scope must win
	maxRounds          = 3   // incidents a slot and direction
	newRoute     int64 = 24 * 3600
	newRequests        = 20   // baseline requests that make a route known
	newOnset     int64 = 1800 // a new route refuses "from its first requests"
)

// candidate is a slice during a scan.
type candidate struct {
	baseline.Excess
	scope scope
	level uint8
}

// located is the slice that explains an excess best.
type located struct {
	candidate
	dir        int8
	long       bool
	score, sig float64
	phi        float64
}

// scan sums the cells' windows over the lattice. Cells that another incident
// than keep explains are left out.
func (j *judge) scan(long bool, dir int8, keep uint16) []candidate {
	k := 0
	if long {
		k = 1
	}
	buf := j.scans[k][:0]
	buf = slices.Grow(buf, len(j.series))[:len(j.series)]
	clear(buf)
	if j.scanID == nil {
		j.scanID = map[uint64]int32{}
	}
	clear(j.scanID)
	for i := range j.cells {
		c := &j.cells[i]
		if c.n40 == 0 || c.mask != 0 && c.mask != keep {
			continue
		}
		j.decay(c)
		x, n, m := c.x5, c.n5, c.m5
		if long {
			x, n, m = c.x40, c.n40, c.m40
		}
		if n < 0.02 {
			continue
		}
		var e baseline.Excess
		e.Add(n, x, m, c.N, dir)
		for _, s := range c.parents {
			if s >= 0 {
				buf[s].Merge(&e)
			}
		}
		ss, ok := j.scopes(c)
		for l := monitored; l < levels; l++ {
			if !ok[l] {
				continue
			}
			// Both levels bind role and country, so the path tells them apart.
			key := ss[l].key()
			id, known := j.scanID[key]
			if !known {
				id = int32(len(buf))
				j.scanID[key] = id
				buf = append(buf, candidate{scope: ss[l], level: uint8(l)})
			}
			buf[id].Merge(&e)
		}
	}
	for i := range j.series {
		buf[i].scope, buf[i].level = j.series[i].scope, j.series[i].level
	}
	j.scans[k] = buf
	return buf
}

// weigh gives the score of a candidate: the log-likelihood that it moved as one,
// less a price for how many scopes of its kind there are, and the same evidence
// after what noise explains.
func (j *judge) weigh(id int, c *candidate, leaves int, dir int8) (score, sig, phi float64) {
	sc := baseline.Scale{Phi: j.clump.Phi()}
	n := leaves
	switch {
	case id < len(j.series):
		sc.Sigma2 = j.series[id].Sigma2(&j.levels[c.level], &j.clump)
		n = int(j.counts[c.level])
	default: // not watched: as noisy as its watched parents usually are
		sc.Sigma2 = j.levels[lvRouteRole].Sigma2(&j.clump)
	}
	g, phi := c.Likelihood(dir, &sc)
	return g - penalty*math.Log(float64(max(n, 1))), g / phi, phi
}

// best returns the slice with the highest score among those that touch one of
// the series in fired or, if must is given, overlap with it.
func (j *judge) best(fired []int32, dir int8, keep uint16, must *scope) (best located, ok bool) {
	best.score = math.Inf(-1)
	if len(fired) > 40 {
		fired = fired[:40]
	}
	for _, long := range [...]bool{false, true} {
		buf := j.scan(long, dir, keep)
		leaves := len(buf) - len(j.series)
		for id := range buf {
			c := &buf[id]
			if c.N < 0.5 {
				continue
			}
			score, sig, phi := j.weigh(id, c, leaves, dir)
			if score <= best.score || sig <= 0 {
				continue
			}
			if must != nil {
				if !c.scope.overlaps(&j.book, *must) {
					continue
				}
			} else if !slices.ContainsFunc(fired, func(s int32) bool { return c.scope.overlaps(&j.book, j.series[s].scope) }) {
				continue
			}
			best = located{candidate: *c, dir: dir, long: long, score: score, sig: sig, phi: phi}
			ok = true
		}
	}
	return best, ok
}

// scoreOf is the score of one scope now.
func (j *judge) scoreOf(s scope, dir int8, keep uint16) float64 {
	best := math.Inf(-1)
	for _, long := range [...]bool{false, true} {
		buf := j.scan(long, dir, keep)
		id := slices.IndexFunc(buf, func(c candidate) bool { return c.scope == s })
		if id < 0 {
			continue
		}
		score, _, _ := j.weigh(id, &buf[id], len(buf)-len(j.series), dir)
		best = max(best, score)
	}
	return best
}

// alarm turns the series that fired into findings, a few at most.
func (j *judge) alarm(fired []int32, dir int8) {
	for round := 0; round < maxRounds && len(fired) > 0; round++ {
		l, ok := j.best(fired, dir, 0, nil)
		if !ok || !j.accept(&l) {
			for _, s := range fired { // not worth an incident: it must prove more
				j.series[s].Damp(dir)
			}
			return
		}
		scope := j.open(&l, fired)
		fired = slices.DeleteFunc(fired, func(s int32) bool { return scope.overlaps(&j.book, j.series[s].scope) })
	}
}

// accept decides whether a located change is worth an incident.
func (j *judge) accept(l *located) bool {
	if l.sig < minEvidence || j.mutes(l) {
		return false
	}
	x, n, m := float64(l.X), float64(l.N), float64(l.M)
	q, p := (x+0.1)/(n+0.2), (m+1e-3)/(n+0.2)
	shift := math.Abs(baseline.LogOdds(q) - baseline.LogOdds(p))
	if l.dir == baseline.Down {
		return shift >= minFall && p-q >= minFallRate
	}
	return shift >= minRise && q-p >= minRiseRate && j.many(l)
}

// many reports whether a rise hits enough people: it must survive without the
// identities that were refused most.
func (j *judge) many(l *located) bool {
	tau := 300.0
	if l.long {
		tau = 2400
	}
	type share struct {
		id    uint64
		named bool
		x     float64
	}
	var who []share
	at := map[uint64]int{}
	weight := 1.0
	for i := len(j.past.slots) - 1; i >= 0; i-- {
		p := &j.past.slots[i]
		w := math.Exp(-float64(j.start-p.start)/tau) * float64(uint64(1)<<min(p.sampled, 31))
		weight = max(weight, float64(uint64(1)<<min(p.sampled, 31)))
		for k := range p.hits {
			h := &p.hits[k]
			c := &j.cells[h.cell]
			if !l.scope.has(&j.book, c) || c.mask != 0 {
				continue
			}
			n, ok := at[h.id]
			if !ok {
				n = len(who)
				at[h.id] = n
				who = append(who, share{id: h.id})
			}
			who[n].named = who[n].named || h.named
			if h.counted {
				who[n].x += w
			}
		}
	}
	if len(at) == 0 {
		// The log names no identities at all: each denial had to count.
		return true
	}
	named := 0
	xs := make([]float64, len(who))
	for i, s := range who {
		xs[i] = s.x
		if s.named {
			named++
		}
	}
	people := float64(len(who)) * weight
	if people < minPeople || j.isNew(l.scope) && float64(named)*weight < minPeople && people < minStrangers {
		return false
	}
	slices.Sort(xs)
	slices.Reverse(xs)
	cut := 0.0
	for _, x := range xs[:min(3, (len(xs)+7)/8)] {
		cut += x
	}
	return l.Without(cut, l.dir) >= minEvidence/2*l.phi
}

// isNew reports whether a scope is a route, or a prefix, that nobody knew: it
// came after the cold start, lately, and has next to no baseline.
func (j *judge) isNew(s scope) bool {
	var first int64
	switch {
	case s.route != all:
		first = j.routes[s.route].first
	case s.prefix != all:
		first = j.prefixes[s.prefix].first
	default:
		return false
	}
	if first < j.born+max(j.learn, baseline.Lag) || first < j.start-newRoute {
		return false
	}
	var n float32
	for i := range j.cells {
		if c := &j.cells[i]; s.has(&j.book, c) {
			n += c.N
		}
	}
	return n < newRequests
}
