package detector

import (
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/seen"
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
	// halves moves the log-odds by less, unless nearly all were refused. This
	// share of those who used to be refused must get in now.
	minFall      = 1.3
	minFallRate  = 0.01
	minFallShare = 0.3
	halved       = 2 // the change of a scan that about halves a rate
	// and it must have stood for so long, in seconds: what was seen only since may be a
	// trouble that was learned, and that is over.
	minWall int64 = 24 * 3600
	// stillThere is the share of a rise that the slots which are remembered in detail must
	// show of a longer window, or it is over.
	stillThere = 0.25
	// A rise needs this many distinct identities. On a route without history it
	// needs as many that an application names, or more addresses: crawlers try
	// unknown paths all day.
	minPeople    = 3
	minStrangers = 8
	seldom       = 0.1 // rate of refusals below which people are not refused twice by chance
	// The scan's decayed windows, in seconds.
	shortTau          = 300
	longTau           = 2400
	penalty           = 1.5  // of the log of the number of scopes of a level
	betterBy          = 2    // nats by which a new scope must win
	apartBy           = 0.05 // of a score by which two changes must explain more than one
	maxRounds         = 3    // incidents a slot and direction
	likewise          = 0.7  // of a change that another class must make up for
	sharpShare        = 0.9  // of a rise that a slice of it must hold
	sharpExcess       = 6    // denials from which on that is no chance
	newRoute    int64 = 24 * 3600
	newRequests       = 20   // baseline requests that make a route known
	newOnset    int64 = 1800 // a new route refuses "from its first requests"
)

// candidate is a slice during a scan.
type candidate struct {
	baseline.Excess
	scope scope
	level uint8
}

// window is the time that a scan looks at: since a slot, as far as the past is remembered,
// or decayed over about 5 or 40 minutes.
type window struct {
	since int64
	tau   float64 // seconds, when since is 0
	known bool    // only refusals of people who used to get in; since is not 0
	rules bool    // only what breaks rules; since is not 0
}

// views are the windows of the kind of w that are tried: the decayed ones, and since a
// slot if that is not 0. Refusals of known people, and what breaks rules, are only
// kept in the detailed past.
func (j *judge) views(w window) []window {
	since := w.since
	switch {
	case (w.known || w.rules) && len(j.past.slots) == 0:
		return nil
	case w.rules && since == 0:
		first := max(j.past.slots[0].start, 1)
		return []window{{since: max(first, j.start-(breachSlots-1)*j.step), rules: true}, {since: first, rules: true}}
	case w.known, w.rules:
		w.since = max(since, j.past.slots[0].start, 1)
		return []window{w}
	case since == 0:
		return []window{{tau: shortTau}, {tau: longTau}}
	}
	return []window{{tau: shortTau}, {tau: longTau}, {since: since}}
}

// weight is how much a slot counts in the window at now.
func (w window) weight(start, now int64) float64 {
	switch {
	case w.since == 0:
		return math.Exp(-float64(now-start) / w.tau)
	case start < w.since:
		return 0
	}
	return 1
}

// located is the slice that explains an excess best.
type located struct {
	candidate
	dir        int8
	win        window
	score, sig float64
	phi        float64
	// tight tells that the scope is not the one that scored best but holds all of it.
	tight bool
}

// spell is what a cell was seen to do since a slot: x of n requests were refused, of them
// m of the old ones, that are not remembered in detail, were expected to.
type spell struct{ x, n, old, m float32 }

// expected is how many of the requests were expected to be refused where p are now.
func (s *spell) expected(p float32) float32 { return (s.n-s.old)*p + s.m }

// sums returns what every cell was seen to do in a window since a slot.
func (j *judge) sums(w window, dir int8) []spell {
	sums := slices.Grow(j.recent[:0], len(j.cells))[:len(j.cells)]
	clear(sums)
	j.recent = sums
	for i := range j.past.slots {
		if p := &j.past.slots[i]; p.start >= w.since {
			for k := range p.counts {
				t := &p.counts[k]
				n, x := t.nc, t.xc
				switch {
				case w.known:
					x = t.yc
				case w.rules:
					n, x, _, _, _ = j.doors(t, dir)
				case t.explained:
					continue
				}
				sums[t.cell].x += x
				sums[t.cell].n += n
			}
		}
	}
	if !j.lingers(w) {
		return sums
	}
	for i := range j.hours.list {
		h := &j.hours.list[i]
		if !j.looksAt(w, h) {
			continue
		}
		for k := range h.counts {
			t := &h.counts[k]
			c, s := &j.cells[t.cell], &sums[t.cell]
			s.x += t.xc
			s.n += t.nc
			s.old += t.nc
			s.m += t.nc * j.normalAt(c, h.start).Share()
		}
	}
	return sums
}

// looksAt reports whether a long step is in the window: most of it.
func (j *judge) looksAt(w window, h *hour) bool {
	return h.start+length(j.step)/2 >= w.since
}

// lingers reports whether a window is longer than what is remembered in detail. Long steps
// know neither of refusals of known people nor of what breaks rules.
func (j *judge) lingers(w window) bool {
	return !w.known && !w.rules && w.since != 0 && w.since < j.detail()
}

// detail is the begin of the past that is remembered in detail.
func (j *judge) detail() int64 {
	if len(j.past.slots) == 0 {
		return j.start
	}
	return max(j.past.slots[0].start, 1)
}

// oldest is the begin of the past that is remembered, in detail or in long steps.
func (j *judge) oldest() int64 {
	if len(j.hours.list) > 0 {
		return max(j.hours.list[0].start, 1)
	}
	return j.detail()
}

// scan sums the cells' windows over the lattice. Cells that another incident
// than keep explains are left out. The result is valid until the next scan.
func (j *judge) scan(w window, dir int8, keep uint16) []candidate {
	buf := slices.Grow(j.scans[:0], len(j.series))[:len(j.series)]
	clear(buf)
	if j.scanID == nil {
		j.scanID = map[uint64]int32{}
	}
	clear(j.scanID)
	var since []spell
	if w.since != 0 {
		since = j.sums(w, dir)
	}
	for i := range j.cells {
		c := &j.cells[i]
		if c.mask != 0 && c.mask != keep {
			continue
		}
		var x, n, m float32
		base := c.N
		switch {
		case since != nil:
			x, n = since[i].x, since[i].n
			if w.rules {
				p, b, ok := j.ruledRate(int32(i), dir)
				if !ok {
					continue
				}
				m, base = n*p, b
				break
			}
			if w.known {
				if !j.telling(c) {
					continue
				}
				m = n * j.usual(c).Share()
				base = c.M
				break
			}
			m = since[i].expected(j.normal(c).Share())
		case c.n40 != 0:
			j.decay(int32(i))
			x, n, m = c.x5, c.n5, c.m5
			if w.tau == longTau {
				x, n, m = c.x40, c.n40, c.m40
			}
		}
		if n < 0.02 {
			continue
		}
		var e baseline.Excess
		e.Add(n, x, m, base, dir)
		apart := j.apart(c)
		for l, s := range c.parents {
			if s >= 0 && apart>>l&1 == 0 {
				buf[s].Merge(&e)
			}
		}
		ss, ok := j.scopes(c)
		for l := monitored; l < levels; l++ {
			if !ok[l] || apart>>l&1 != 0 {
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
	j.scans = buf
	return buf
}

// part looks for two changes in what seems to be one: if the best slice inside of
// s and the best of the rest score better together than s does in the window, it
// returns the first.
func (j *judge) part(s scope, dir int8, keep uint16, w window, score float64) (a located, ok bool) {
	inside := func() (best located, ok bool) {
		buf := j.scan(w, dir, keep)
		for id := range buf {
			c := &buf[id]
			if c.N < 0.5 || c.scope == s || !s.contains(&j.book, c.scope) {
				continue
			}
			if sc, sig, phi := j.weigh(id, c, len(buf)-len(j.series), dir); sig >= minEvidence && (!ok || sc > best.score) {
				best, ok = located{candidate: *c, dir: dir, win: w, score: sc, sig: sig, phi: phi}, true
			}
		}
		return best, ok
	}
	mask := j.freeMask()
	if a, ok = inside(); !ok || mask == 0 {
		return a, false
	}
	var hidden []int32
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == keep && a.scope.has(&j.book, c) {
			hidden = append(hidden, int32(i))
			c.mask = mask
		}
	}
	b, ok := inside()
	for _, i := range hidden {
		j.cells[i].mask = keep
	}
	return a, ok && separate(a.score, b.score, score)
}

// separate reports whether two changes of the scores a and b explain better what one of the
// score both explains too.
func separate(a, b, both float64) bool { return a+b > both+max(betterBy, apartBy*both) }

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

// best returns the slice with the highest score in any of the windows, among
// those that touch one of the series in fired or, if must is given, overlap with
// it.
func (j *judge) best(fired []int32, dir int8, keep uint16, must *scope, views []window) (best located, ok bool) {
	best.score = math.Inf(-1)
	if len(fired) > 40 {
		fired = fired[:40]
	}
	for _, w := range views {
		buf := j.scan(w, dir, keep)
		leaves := len(buf) - len(j.series)
		at, least := -1, 0.0
		if j.lingers(w) && dir == baseline.Up {
			// Nothing has faded: all that made the alarm is there, drawn once in a
			// learning period, not every minute.
			least = float64(j.h - j.slow)
		}
		for id := range buf {
			c := &buf[id]
			if c.N < 0.5 {
				continue
			}
			score, sig, phi := j.weigh(id, c, leaves, dir)
			if score <= best.score || sig <= least {
				continue
			}
			if slices.ContainsFunc(j.rejected, func(r scope) bool { return c.scope.overlaps(&j.book, r) }) {
				continue
			}
			if must != nil {
				if !c.scope.overlaps(&j.book, *must) {
					continue
				}
			} else if !slices.ContainsFunc(fired, func(s int32) bool { return c.scope.overlaps(&j.book, j.series[s].scope) }) {
				continue
			}
			best = located{candidate: *c, dir: dir, win: w, score: score, sig: sig, phi: phi}
			at = id
		}
		switch {
		case at < 0:
		case w.rules:
			if dir == baseline.Up {
				j.sharpen(&best, buf)
			}
			j.specify(&best, buf)
		case dir == baseline.Down:
			j.tighten(&best, buf)
		default:
			j.sharpen(&best, buf)
		}
		ok = ok || at >= 0
	}
	return best, ok
}

// tighten narrows a fall to the smallest slice that holds nearly all of it. Where
// hardly anybody used to be refused nobody being refused is no dilution, so that
// a fall's scope would be too wide.
func (j *judge) tighten(l *located, buf []candidate) {
	missing := l.M - l.X
	for id := range buf {
		c := &buf[id]
		if c.M-c.X < 0.7*missing || c.N > 0.5*l.N || !l.scope.contains(&j.book, c.scope) {
			continue
		}
		_, sig, phi := j.weigh(id, c, 1, l.dir)
		if sig >= minEvidence {
			l.candidate, l.sig, l.phi = *c, sig, phi
		}
	}
}

// specify narrows a breach of rules to the path and the role that all requests of its
// slice have: of one role on a route, or of people who are kept out, wider slices look
// the same, and the rule is about the smaller one.
func (j *judge) specify(l *located, buf []candidate) {
	bound := func(s scope) (n int) {
		if s.route != all {
			n += 4
		}
		if s.prefix != all {
			n += 2
		}
		if s.role != all {
			n++
		}
		return n
	}
	within, n := l.scope, l.N
	for id := range buf {
		c := &buf[id]
		if c.N >= 0.99*n && math.Abs(float64(c.X-l.X)) <= 0.01 && c.scope.geo == within.geo && within.contains(&j.book, c.scope) && bound(c.scope) > bound(l.scope) {
			l.candidate = *c
		}
	}
}

// sharpen narrows a rise to the slice that holds nearly all of it. Where nobody ever
// was refused, a shift of the log-odds that explains one slice changes next to
// nothing for the others, so that they do not dilute it.
func (j *judge) sharpen(l *located, buf []candidate) {
	excess := l.X - l.M
	if excess < sharpExcess {
		return
	}
	within, most := l.scope, math.Inf(-1)
	for id := range buf {
		c := &buf[id]
		if c.X-c.M < sharpShare*excess || c.N > 0.5*l.N || !within.contains(&j.book, c.scope) {
			continue
		}
		if score, sig, phi := j.weigh(id, c, len(buf)-len(j.series), l.dir); sig >= minEvidence && score > most {
			most = score
			l.candidate, l.sig, l.phi, l.tight = *c, sig, phi, true
		}
	}
}

// scoreOf is the score of one scope now, and the denials it has too many (or, of
// a fall, misses) in the window of that score.
func (j *judge) scoreOf(s scope, dir int8, keep uint16, views []window) (score, excess float64) {
	score = math.Inf(-1)
	for _, w := range views {
		buf := j.scan(w, dir, keep)
		id := slices.IndexFunc(buf, func(c candidate) bool { return c.scope == s })
		if id < 0 {
			continue
		}
		if sc, _, _ := j.weigh(id, &buf[id], len(buf)-len(j.series), dir); sc > score {
			score, excess = sc, float64(buf[id].X-buf[id].M)*float64(dir)
		}
	}
	return score, excess
}

// alarm turns the series that fired into findings, a few at most. What is not
// worth an incident must prove more, and does not hide what happens elsewhere.
// With known it is the evidence of people who used to get in.
func (j *judge) alarm(fired []int32, dir int8, known bool) {
	for round := 0; round < maxRounds && len(fired) > 0; round++ {
		since := j.began(fired, dir, known)
		l, ok := j.best(fired, dir, 0, nil, j.views(window{since: since, known: known}))
		if !ok {
			j.damp(fired, dir, known)
			break
		}
		explained := l.scope
		if a, ok := j.part(l.scope, dir, 0, l.win, l.score); ok && j.accept(&a) == worthy {
			l = a
			explained = l.scope
		}
		switch v := j.accept(&l); v {
		case worthy:
			explained = j.open(&l, fired)
		case mended:
			j.mend(&l)
		case exchanged:
			j.announce(j.markerScope(l.scope), dir, j.start, j.start)
		case scanning, crowded:
			j.suspects = append(j.suspects, suspicion{l.scope, max(since, l.win.since, j.past.slots[0].start), v == crowded})
			fallthrough
		default:
			j.damp(slices.DeleteFunc(slices.Clone(fired), func(s int32) bool { return !explained.overlaps(&j.book, j.series[s].scope) }), dir, known)
			j.rejected = append(j.rejected, explained)
		}
		fired = slices.DeleteFunc(fired, func(s int32) bool { return explained.overlaps(&j.book, j.series[s].scope) })
	}
	j.rejected = j.rejected[:0]
}

func (j *judge) damp(fired []int32, dir int8, known bool) {
	for _, s := range fired {
		j.evidence(s, known).Damp(dir)
	}
}

// began is the slot in which the strongest evidence of series that fired left
// zero, or the oldest that is remembered.
func (j *judge) began(fired []int32, dir int8, known bool) int64 {
	var most float32
	at := int64(0)
	for _, s := range fired {
		if e, age := j.evidence(s, known).Best(dir, j.number()); e > most {
			most, at = e, j.start-int64(age)*j.step
		}
	}
	return max(at, j.oldest())
}

// verdict says what a located change is worth.
type verdict uint8

const (
	tooLittle verdict = iota
	exchanged         // others of another class make up for it
	mended            // what was expected was only guessed, or a trouble that is over
	scanning          // only a few are refused: it looks like a scan
	crowded           // more strangers than usual are: it looks like one of many addresses
	worthy
)

// accept decides whether a located change is worth an incident.
func (j *judge) accept(l *located) verdict {
	if l.win.rules {
		return j.broke(l)
	}
	if l.sig < minEvidence || j.mutes(l) {
		return tooLittle
	}
	if j.exchange(l) {
		return exchanged
	}
	if l.dir == baseline.Down {
		switch {
		case !j.fallen(l), !j.several(l):
			return tooLittle
		case j.fleeting(l):
			return mended
		}
		return worthy
	}
	if !l.matters() {
		return tooLittle
	}
	// A route without history is trusted little: all it ever showed must suffice.
	if !l.win.known && j.isNew(l.scope) {
		buf := j.scan(window{since: max(j.firstSeen(l.scope), 1)}, l.dir, 0)
		id := slices.IndexFunc(buf, func(c candidate) bool { return c.scope == l.scope })
		if id < 0 {
			return tooLittle
		}
		if _, sig, _ := j.weigh(id, &buf[id], 1, l.dir); sig < float64(j.h) {
			return tooLittle
		}
	}
	return j.many(l)
}

// fallen reports whether a fall is a wall that vanished.
func (j *judge) fallen(l *located) bool {
	shift, moved := math.Abs(l.Shift()), math.Abs(float64(l.X-l.M))/float64(l.N)
	// The first minutes exaggerate: it must be plain that more than a half is gone.
	plain := float64(l.G[l.Change()]-l.G[halved]) >= 3*l.phi
	return plain && shift >= minFall && moved >= minFallRate && l.X <= (1-minFallShare)*l.M
}

// fleeting reports whether a fall shows no wall that was there: fewer refusals are known
// than are missing, so that they were only guessed, or most are of routes known for too
// short a time to say that there was a wall.
func (j *judge) fleeting(l *located) bool {
	var young, all float32
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == 0 && l.scope.has(&j.book, c) {
			all += c.K
			if j.routes[c.route].first+minWall > j.start {
				young += c.K
			}
		}
	}
	return all < l.M-l.X || 2*young > all
}

// matters reports whether a rise is large enough to be one.
func (l *located) matters() bool {
	return l.dir == baseline.Down || math.Abs(l.Shift()) >= minRise && math.Abs(float64(l.X-l.M))/float64(l.N) >= minRiseRate
}

// exchange reports whether refusals of another class make up for a change since its
// onset: who was refused with a 403 is refused with a 404 now, and nothing changed
// for him.
func (j *judge) exchange(l *located) bool {
	onset := j.onset(l, nil).at
	var n, own, others [2]float64 // before the onset and since
	for i := range j.past.slots {
		p := &j.past.slots[i]
		at := 0
		if p.start >= onset {
			at = 1
		}
		for k := range p.counts {
			t := &p.counts[k]
			if l.scope.has(&j.book, &j.cells[t.cell]) {
				n[at] += float64(t.n)
				own[at] += float64(t.x)
				others[at] += float64(t.denied - min(t.x, t.denied))
			}
		}
	}
	if n[0] < newRequests || n[1] == 0 || others[0]+others[1] == 0 {
		return false
	}
	dir := float64(l.dir)
	change, back := (own[1]/n[1]-own[0]/n[0])*dir, (others[0]/n[0]-others[1]/n[1])*dir
	return change > 0 && back > likewise*change && back < change/likewise
}

// many decides whether a rise hits enough people, and not just strangers: half of
// the least evidence must remain without the identities that were refused most. If
// more of them than is usual were never let in anywhere, all these are a crowd that
// proves nothing, like those who prowled before, and if they are the most, what the
// others show must be an alarm by itself: a crowd comes for hours, and the least evidence
// comes by chance.
func (j *judge) many(l *located) verdict {
	type share struct {
		named, met bool
		prowls     bool    // from when the window first saw him
		x          float64 // denials
		w          float64 // how far the window still sees him
	}
	var who []share
	at := map[uint64]int{}
	weight := 1.0
	cut := 0.0
	var remembered, asked float64   // denials and requests of the window that the detailed past still has
	var older float64               // denials of before, of which is known who was refused
	refused := map[int32]float64{}  // hits by route
	others := map[uint64]struct{}{} // who must not count as known
	// He is met again, from the newest refusal to the oldest.
	meet := func(h hit, w float64) {
		n, ok := at[h.id]
		if !ok {
			n = len(who)
			at[h.id] = n
			who = append(who, share{})
		}
		refused[j.cells[h.cell].route] += w
		s := &who[n]
		s.named = s.named || h.named
		s.met = s.met || h.met
		s.prowls = h.prowls
		s.w = max(s.w, w)
		if h.counted {
			s.x += w
		}
	}
	in := j.unmasked(l.scope)
	for i := len(j.past.slots) - 1; i >= 0; i-- {
		p := &j.past.slots[i]
		w := l.win.weight(p.start, j.start)
		if w == 0 {
			break
		}
		w *= float64(uint64(1) << min(p.sampled, 31))
		weight = max(weight, float64(uint64(1)<<min(p.sampled, 31)))
		for k := range p.counts {
			if t := &p.counts[k]; in(t.cell) {
				n, x, _, ok := j.what(l.win, l.dir, t)
				if !ok {
					continue
				}
				remembered += float64(x) * l.win.weight(p.start, j.start)
				asked += float64(n) * l.win.weight(p.start, j.start)
			}
		}
		for k := range p.hits {
			h := &p.hits[k]
			switch {
			case !in(h.cell) || h.explained && !l.win.rules:
			case l.win.known && !h.known:
				others[h.id] = struct{}{}
			default:
				meet(h.hit, w)
			}
		}
	}
	if j.lingers(l.win) {
		for i := range slices.Backward(j.hours.list) {
			h := &j.hours.list[i]
			if h.faceless || !j.looksAt(l.win, h) {
				continue
			}
			w := float64(uint64(1) << min(h.sampled, 31))
			weight = max(weight, w)
			for k := range h.counts {
				if in(h.counts[k].cell) {
					older += float64(h.counts[k].xc)
				}
			}
			for _, t := range slices.Backward(h.hits) {
				if in(t.cell) {
					meet(t, w)
				}
			}
		}
	}
	if base := float64(l.M / l.N); (l.win.since == 0 || j.lingers(l.win)) && remembered-asked*base <= stillThere*asked*(float64(l.X/l.N)-base) {
		return tooLittle // it is over
	}
	if len(at)+len(others) == 0 {
		// The log names no identities at all: each denial had to count.
		return worthy
	}
	people, named, met, made := 0.0, 0, 0, 0
	for _, s := range who {
		if s.prowls {
			continue
		}
		people += weight
		if !s.met && j.vouched(s.named) {
			made++
		}
	}
	var prowling, strange, familiar float64 // denials
	var everybody, unknown float64          // people
	for i := range who {
		s := &who[i]
		everybody += s.w
		if s.prowls {
			prowling += s.x
			unknown += s.w
			continue
		}
		if s.named {
			named++
		}
		// A few accounts are soon made; they are strangers, as they are among those who
		// are let in.
		s.met = s.met || float64(made)*weight >= minStrangers && j.vouched(s.named)
		if s.met {
			met++
			familiar += s.x
		} else {
			strange += s.x
			unknown += s.w
		}
	}
	if people < minPeople {
		return scanning
	}
	if j.isNew(l.scope) && float64(named)*weight < minPeople && people < minStrangers {
		return tooLittle
	}
	usual := j.strangers(l.scope, refused)
	guarded := usual < 1 && !l.win.known
	// So few may all be new by chance, where most are.
	chance := 1.5 * math.Sqrt(usual*(1-usual)/float64(len(who)))
	if guarded && usual+chance < 1 && float64(max(named, met))*weight < minPeople && people < minStrangers {
		return scanning
	}
	everybody, unknown = everybody/weight, unknown/weight
	crowd := guarded && unknown > usual*everybody && baseline.Divergence(unknown, everybody, usual*everybody) > crowdEvidence
	if l.win.known {
		// Of so many strangers some are taken for known.
		cut += seen.FalseRate * float64(len(others)) * weight
	}
	// Where refusals are rare, a few people more than usual who try again and again are no crowd.
	few := people-float64(l.M) < minStrangers && l.M < minStrangers && float64(l.M) < seldom*float64(l.N)
	var xs []float64
	for _, s := range who {
		if s.prowls || !s.met && crowd {
			continue
		}
		if few && s.x > 1 {
			cut += s.x - 1
			s.x = 1
		}
		xs = append(xs, s.x)
	}
	for _, x := range busiest(xs, (len(xs)+7)/8) {
		cut += x
	}
	// What is taken out, and what is left.
	out, left := prowling, strange+familiar
	if crowd {
		out, left = prowling+strange, familiar
	}
	cut += out
	// What is older was refused to the same people, as far as anybody knows.
	if remembered += older; remembered > 0 {
		cut *= max(1, float64(l.X)/remembered)
	}
	least := minEvidence / 2.0
	if few {
		least = minEvidence
	}
	if out > left {
		least = float64(j.h)
	}
	switch {
	case l.Without(cut) >= least*l.phi:
		return worthy
	case crowd || out > left:
		return crowded
	}
	return scanning
}

// busiest sorts xs and returns the n largest, three at most.
func busiest(xs []float64, n int) []float64 {
	slices.Sort(xs)
	slices.Reverse(xs)
	return xs[:min(n, 3, len(xs))]
}

// unmasked returns whether a cell is in the scope and nothing explains it.
func (j *judge) unmasked(s scope) func(cell int32) bool {
	return func(cell int32) bool {
		c := &j.cells[cell]
		return c.mask == 0 && s.has(&j.book, c)
	}
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
