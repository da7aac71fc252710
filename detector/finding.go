package detector

import (
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

const (
	mergeWithin  int64 = 30 * 60
	reopenWithin int64 = 60 * 60
	acceptAfter  int64 = 24 * 3600
	calmSlots          = 5
	// calmEvidence is what must speak for the base rate, against the incident's, since
	// it last did not, beside a price for how often it may have begun to: the log of the
	// refusals, or of those who got in, until then. halfEvidence is what must speak
	// against half of the incident.
	calmEvidence = 5
	halfEvidence = 1.5
	// wellKnown is the denials too many, or too few, from which on the size of a wall is
	// known. More might be those of a time in which it was over.
	wellKnown = 100
	maxCauses = 64
	maxRules  = 64
	// stillActive is how much of its excess a part must show after the rest
	// recovered.
	stillActive = 0.6
)

// refineAt are the ages in slots at which a young finding's scope is looked for
// again.
var refineAt = [...]int64{1, 2, 3, 5, 8, 12, 16, 25}

// namedRule counts refusals by a rule that a layer named.
type namedRule struct {
	cause, rule string
	n           int64
}

type causeCount struct {
	cause string
	n     int64
}

// betterLate is by how many nats a scope must be better when the windows do not
// hold the onset any more.
const betterLate = 4

// finding is what one judge knows of an incident: one scope left its baseline in
// one direction. Its cells are masked while it is open.
type finding struct {
	uid  uint64
	mask uint16
	scope
	dir   int8
	fresh bool // of direction "new"
	// known tells that it was found, and is followed, by people who used to get in:
	// there are too many other refusals in its scope to see it without.
	known bool
	// rules tells the same of declared rules that are broken, and of doors that were
	// learned to be closed; rulesBroken counts which.
	rules       bool
	rulesBroken []ruleCount
	// flag is the feature flag that all who are refused have on, "" for none.
	flag string
	// version is the version of the application that refuses all of them while others
	// answer too, "" for none.
	version string
	// accepted tells that it did not recover but became the new normal; former is what
	// was known before that, nil if it is not remembered.
	accepted bool
	former   []former
	// opened and resolved are ends of slots, started is the start of one; resolved
	// is 0 while open.
	opened, started, resolved int64
	// began is started with how uncertain that is.
	began onset
	// awake and from are opened and started of the current episode: they differ
	// after the finding was reopened.
	awake, from int64
	share       float64 // of the wall that came up, or down
	rate, base  float64 // of the requests that share is measured by
	// wallX denials of wallN requests that count, wallM expected, are these: since it was
	// located, but for what speaks for recovery, until enough is known.
	wallX, wallN, wallM float64

	requests, denials int64
	expected          float64
	trace             trace
	who, named        people
	used              people // of who, let in on the route before
	back              people // of who, let in again after they were last refused
	accounts          people
	layers            [event.Layers]int64
	causes            []causeCount
	byRule            []namedRule
	sampled           uint8
	degraded          bool
	estimated         bool // requests and denials: lines stand for several of them
	// kept is set while its incident is open, from whatever vantage.
	kept bool

	calm      float64 // evidence for recovery, against half of the wall
	calmSince int64   // the slot in which it left zero
	over      float64 // evidence against the wall since then
	refused   int64   // the end of the last slot that left none for recovery
	// calmX denials of calmN requests were seen since then, calmM expected.
	calmX, calmN, calmM float32
	// The current slot's sums: denials, requests, expected denials, and the
	// log-likelihood ratios of the wall and of half of it.
	sx, sn, sm float32
	llr, half  float64
}

// begin prepares for the counts of a slot.
func (f *finding) begin() { f.sx, f.sn, f.sm, f.llr, f.half = 0, 0, 0, 0, 0 }

// win is a window of the finding's kind.
func (f *finding) win(since int64) window {
	return window{since: since, known: f.known, rules: f.rules}
}

// counts are a cell's requests in the finding: n, x of them refused where m were
// expected, with the variance v of coin tosses. r is normal.
func (f *finding) counts(t *pastCount, r baseline.Rate) (n, x int64, m float64, v float32) {
	switch out := t.valid + t.leaked; {
	case f.rules && f.dir == baseline.Down && out > 0:
		return int64(out), int64(t.valid), float64(out), 0
	case f.rules && f.dir == baseline.Up: // the rule expects nobody to be refused
		return int64(t.n), int64(t.x), 0, 0
	}
	p := r.Share()
	return int64(t.n), int64(t.x), float64(t.n) * float64(p), float32(t.n) * p * (1 - p)
}

// add counts a cell's requests of the slot from start to end, where r is normal.
func (f *finding) add(t *pastCount, r baseline.Rate, start, end int64) {
	n, x, m, v := f.counts(t, r)
	f.requests += n
	f.denials += x
	f.expected += m
	f.trace.add(start, end, true, n, x, m, v)
}

// what returns how many requests of a cell in one slot a finding's kind of window
// counts, how many of them were refused, and the rate that is expected, ok unless the
// cell says nothing.
func (j *judge) what(w window, dir int8, t *pastCount) (n, x float32, p float64, ok bool) {
	c := &j.cells[t.cell]
	switch {
	case w.rules:
		n, x, share, _, ok := j.doors(t, dir)
		return n, x, float64(share), ok && n > 0
	case w.known:
		return t.nc, t.yc, float64(j.usual(c).Share()), j.telling(c)
	}
	return t.nc, t.xc, float64(j.normal(c).Share()), !t.explained
}

// follow adds a cell's counts of the current slot to the finding that explains it.
func (j *judge) follow(f *finding, t *touched, r baseline.Rate) {
	f.add(t, r, j.start, j.end())
	n, x, p, ok := j.what(f.win(0), f.dir, t)
	if !ok {
		return
	}
	f.sx += x
	f.sn += n
	f.sm += n * float32(p)
	f.llr += baseline.WallRatio(float64(n), float64(x), p, f.dir, f.share)
	f.half += baseline.WallRatio(float64(n), float64(x), p, f.dir, f.share/2)
}

// witness adds who was refused in one slot of the past on the finding's cells.
func (j *judge) witness(f *finding, p *pastSlot) {
	through := f.rules && f.dir == baseline.Down
	for i := range p.leaks {
		k := &p.leaks[i]
		if !through || j.cells[k.cell].mask != f.mask {
			continue
		}
		f.broken(k.rule)
		f.who.add(k.id)
		if k.named {
			f.named.add(k.id)
		}
		if k.account != 0 {
			f.accounts.add(k.account)
		}
	}
	for i := range p.hits {
		h := &p.hits[i]
		if through || j.cells[h.cell].mask != f.mask {
			continue
		}
		if f.dir == baseline.Up {
			f.broken(h.rule)
		}
		f.who.add(h.id)
		if h.known {
			f.used.add(h.id)
		}
		if h.named {
			f.named.add(h.id)
		}
		if h.account != 0 {
			f.accounts.add(h.account)
		}
	}
	for i := range p.splits {
		s := &p.splits[i]
		if j.cells[s.cell].mask != f.mask || s.layer >= event.Layers {
			continue
		}
		f.layers[s.layer] += int64(s.n)
		f.blame(s.cause, int64(s.n))
		f.blameRule(s.cause, s.rule, int64(s.n))
	}
	f.sampled = max(f.sampled, p.sampled)
	f.degraded = f.degraded || p.partial || p.sampled > 0
	f.estimated = f.estimated || p.estimated
}

func (f *finding) blame(cause string, n int64) {
	if cause == "" {
		return
	}
	for i := range f.causes {
		if f.causes[i].cause == cause {
			f.causes[i].n += n
			return
		}
	}
	if len(f.causes) < maxCauses {
		f.causes = append(f.causes, causeCount{cause, n})
	}
}

func (f *finding) blameRule(cause, rule string, n int64) {
	if rule == "" {
		return
	}
	for i := range f.byRule {
		if x := &f.byRule[i]; x.cause == cause && x.rule == rule {
			x.n += n
			return
		}
	}
	if len(f.byRule) < maxRules {
		f.byRule = append(f.byRule, namedRule{cause, rule, n})
	}
}

// masking returns the open finding with a mask.
func (j *judge) masking(mask uint16) *finding {
	for _, f := range j.findings {
		if f.mask == mask && f.resolved == 0 {
			return f
		}
	}
	return nil
}

// freeMask returns a mask that nobody uses, 0 when there is none left.
func (j *judge) freeMask() uint16 {
	for m := uint16(1); m != 0; m++ {
		used := slices.ContainsFunc(j.findings, func(f *finding) bool { return f.mask == m && f.resolved == 0 }) ||
			slices.ContainsFunc(j.announced, func(a announcement) bool { return a.mask == m })
		if !used {
			return m
		}
	}
	return 0
}

// open makes a finding of a located change, or widens or reopens an older one.
// It returns the scope that is explained now.
func (j *judge) open(l *located, fired []int32) scope {
	now := j.end()
	// A recent finding may be a part of something wider.
	for i := len(j.findings) - 1; i >= 0; i-- {
		f := j.findings[i]
		// What the statistics find may be more of what broke a rule.
		if f.resolved != 0 || f.dir != l.dir || !f.rules && l.win.rules || now-f.awake > mergeWithin {
			continue
		}
		if f.known != l.win.known {
			// What people who used to get in were seen by cannot be weighed against all
			// refusals, but a part of what is found now is no incident of its own.
			if !f.rules && l.scope.contains(&j.book, f.scope) {
				j.widen(f, l)
				return f.scope
			}
			continue
		}
		kind := window{since: j.sight(f), known: l.win.known, rules: l.win.rules}
		w, ok := j.best(nil, l.dir, f.mask, &l.scope, j.views(kind))
		if !ok || !w.scope.overlaps(&j.book, f.scope) {
			continue
		}
		// Two changes at a time stay two unless one scope explains both as well.
		alone, _ := j.scoreOf(f.scope, f.dir, f.mask, j.views(kind))
		inside := l.scope.contains(&j.book, f.scope)
		if inside && !w.matters() {
			w = *l
		}
		if inside || w.matters() && !separate(l.score, alone, w.score) {
			j.widen(f, &w)
			return f.scope
		}
	}
	for i := len(j.findings) - 1; i >= 0; i-- {
		f := j.findings[i]
		if f.resolved == 0 || f.dir != l.dir || now-f.resolved > reopenWithin ||
			!f.scope.contains(&j.book, l.scope) && !l.scope.contains(&j.book, f.scope) {
			continue
		}
		if f.mask = j.freeMask(); f.mask == 0 {
			break
		}
		since := max(j.onset(l, fired).at, f.resolved)
		f.resolved, f.awake, f.from, f.accepted = 0, now, since, false
		j.locate(f, l)
		j.hide(f)
		j.recount(f, since)
		if f.rules {
			j.size(f)
		}
		j.reset(f.scope)
		j.changed = append(j.changed, f)
		return f.scope
	}
	f := &finding{mask: j.freeMask(), dir: l.dir, opened: now, awake: now}
	if f.mask == 0 {
		return l.scope
	}
	j.nextUID++
	f.uid = j.nextUID
	f.began = j.onset(l, fired)
	f.started = f.began.at
	f.from = f.started
	f.fresh = l.dir == baseline.Up && !l.win.known && !l.win.rules && j.isNew(l.scope) && f.started-j.firstSeen(l.scope) <= newOnset
	j.locate(f, l)
	j.findings = append(j.findings, f)
	j.hide(f)
	j.recount(f, f.started)
	if f.rules {
		j.size(f)
	}
	j.reset(f.scope)
	j.changed = append(j.changed, f)
	return f.scope
}

// size measures the wall of a finding of rules from its onset on: the window that it was
// located in may reach back much further.
func (j *judge) size(f *finding) {
	var n, x, m float64
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < f.from {
			continue
		}
		for k := range p.counts {
			t := &p.counts[k]
			if j.cells[t.cell].mask != f.mask {
				continue
			}
			if cn, cx, share, ok := j.what(f.win(0), f.dir, t); ok {
				n, x, m = n+float64(cn), x+float64(cx), m+float64(cn)*share
			}
		}
	}
	if n > 0 {
		f.measure(x, n, m)
	}
}

func (j *judge) firstSeen(s scope) int64 {
	if s.route != all {
		return j.routes[s.route].first
	}
	return j.prefixes[s.prefix].first
}

// locate takes over what a scan found.
func (j *judge) locate(f *finding, l *located) {
	f.scope = l.scope
	f.known, f.rules = l.win.known, l.win.rules
	f.measure(float64(l.X), float64(l.N), float64(l.M))
	f.calm, f.refused = 0, j.end()
}

// measure takes over how large the wall is, by x of n requests refused where m were
// expected. No wall is whole: one request more may come through it, or be refused of
// those that it lets in.
func (f *finding) measure(x, n, m float64) {
	f.wallX, f.wallN, f.wallM = x, n, m
	f.rate, f.base = x/n, m/n
	n++
	if f.dir == baseline.Down {
		x++
		m++
	}
	share := (x - m) / max(n-m, 1e-3*n)
	if f.dir == baseline.Down {
		share = (m - x) / max(m, 1e-3*n)
	}
	f.share = min(max(share, 0.002), 0.995)
}

// onsetDoubt is by how many nats an onset may be less likely than the best one.
const onsetDoubt = 2

// onset estimates the start of the slot in which the change began: the start that makes
// the located shift most likely, over the past that is remembered, and how uncertain that
// is. What rises slowly began when a change of a part of its size may have. What began
// before is told by the evidence of the series that fired.
func (j *judge) onset(l *located, fired []int32) onset {
	change := l.Change()
	changes := [...]int{change, baseline.Smaller(change)}
	o := onset{j.start, j.start, j.start}
	var starts []int64 // the newest first
	var likely [len(changes)][]float64
	var sum [len(changes)]float64
	best := math.Inf(-1)
	add := func(n, x float32, r baseline.Rate) {
		for k, change := range changes {
			sum[k] += baseline.Ratio(n, x, r, l.dir, change)
		}
	}
	end := func(start int64) {
		starts = append(starts, start)
		for k := range sum {
			likely[k] = append(likely[k], sum[k])
		}
		if sum[0] > best {
			best, o.at = sum[0], start
		}
	}
	in := j.unmasked(l.scope)
	for i := range slices.Backward(j.past.slots) {
		p := &j.past.slots[i]
		for k := range p.counts {
			if t := &p.counts[k]; in(t.cell) {
				if n, x, p, ok := j.what(l.win, l.dir, t); ok {
					add(n, x, baseline.RateOf(p))
				}
			}
		}
		end(p.start)
	}
	if j.lingers(l.win) {
		for i := range slices.Backward(j.hours.list) {
			h := &j.hours.list[i]
			if !j.looksAt(l.win, h) {
				break
			}
			for k := range h.counts {
				if t := &h.counts[k]; in(t.cell) {
					add(t.nc, t.xc, j.normalAt(&j.cells[t.cell], h.start))
				}
			}
			end(h.start)
		}
	}
	// Most likely in a long step, or before all: the series that fired know it better.
	if n := len(starts); n > 0 && (o.at < j.detail() || o.at == starts[n-1]) {
		var most float32
		from, to := o.at, min(o.at+length(j.step), j.detail())
		if o.at == starts[n-1] {
			from = 0
		}
		for _, s := range fired {
			if !j.series[s].scope.overlaps(&j.book, l.scope) {
				continue
			}
			if e, age := j.evidence(s, l.win.known).Best(l.dir, j.number()); e > most {
				most = e
				o.at = max(from, min(to, j.start-int64(age)*j.step))
			}
		}
	}
	o.at = max(o.at, j.born)
	o.earliest, o.latest = o.at, o.at
	for k := range changes {
		if len(starts) == 0 {
			break
		}
		doubtful := slices.Max(likely[k]) - onsetDoubt
		for i, start := range starts {
			switch {
			case likely[k][i] < doubtful:
			case start < o.earliest:
				o.earliest = start
			case k == 0 && start > o.latest:
				o.latest = start
			}
		}
	}
	o.earliest = max(o.earliest, j.born)
	return o
}

// hide masks the cells of a finding: they leave every series and teach nothing.
func (j *judge) hide(f *finding) {
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == 0 && f.scope.has(&j.book, c) {
			c.mask = f.mask
			j.markCell(int32(i))
		}
	}
}

// show unmasks the cells of a mask. With forget, what they saw is tainted: it is
// neither learned nor scanned, and the old epoch stays the judge.
func (j *judge) show(mask uint16, forget bool) {
	if forget {
		j.taint(mask)
	}
	for i := range j.cells {
		c := &j.cells[i]
		if c.mask != mask {
			continue
		}
		c.mask = 0
		j.markCell(int32(i))
		if forget {
			c.Forget()
			c.Thaw()
			c.blank()
		}
	}
}

// taint takes the refusals of people who used to get in, and what broke rules, out of
// the past of the cells of a mask: they are explained.
func (j *judge) taint(mask uint16) {
	j.explain(func(c *cell) bool { return c.mask == mask })
	for i := range j.past.slots {
		p := &j.past.slots[i]
		for k := range p.counts {
			if t := &p.counts[k]; t.yc+t.bc+t.lc != 0 && j.cells[t.cell].mask == mask {
				t.yc, t.bc, t.lc = 0, 0, 0
				p.dirty = true
			}
		}
		for k := range p.hits {
			if h := &p.hits[k]; h.rule != 0 && j.cells[h.cell].mask == mask {
				h.rule = 0
				p.dirty = true
			}
		}
		if n := len(p.leaks); n > 0 {
			p.leaks = slices.DeleteFunc(p.leaks, func(k pastLeak) bool { return j.cells[k.cell].mask == mask })
			j.past.hits -= n - len(p.leaks)
			p.dirty = p.dirty || n != len(p.leaks)
		}
	}
}

// explain takes what cells were seen to do out of the windows of a scan.
func (j *judge) explain(in func(*cell) bool) {
	cells := make([]bool, len(j.cells))
	for i := range j.cells {
		cells[i] = in(&j.cells[i])
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		for k := range p.counts {
			if t := &p.counts[k]; !t.explained && cells[t.cell] {
				t.explained, p.dirty = true, true
			}
		}
		for k := range p.hits {
			if h := &p.hits[k]; cells[h.cell] {
				h.explained = true
			}
		}
	}
	j.hours.explain(cells)
}

// recount adds what the past knows of a finding since a time.
func (j *judge) recount(f *finding, since int64) {
	j.begin(f)
	j.before(f, since)
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < since {
			continue
		}
		for k := range p.counts {
			t := &p.counts[k]
			if c := &j.cells[t.cell]; c.mask == f.mask {
				f.add(t, j.normal(c), p.start, p.start+j.step)
			}
		}
		j.witness(f, p)
	}
	j.tellFlag(f)
	if f.scope.route != all && j.routeNames.list[f.scope.route] == tally.Other {
		f.degraded = true
	}
}

// widen gives a finding the scope that a scan found and counts it anew.
func (j *judge) widen(f *finding, l *located) {
	j.show(f.mask, false)
	first := f.from == f.started
	o := j.onset(l, nil)
	f.from = min(f.from, o.at)
	if first {
		f.started = f.from
		f.began = onset{min(o.earliest, f.from), f.from, max(o.latest, f.from)}
	}
	j.locate(f, l)
	j.hide(f)
	if f.rules {
		j.size(f)
	}
	if !first {
		// What an earlier episode counted stays.
	} else if len(j.past.slots) > 0 && j.past.slots[0].start <= max(f.started, j.born) {
		f.requests, f.denials, f.expected, f.trace = 0, 0, 0, trace{}
		f.who, f.named, f.used, f.accounts = people{}, people{}, people{}, people{}
		f.layers, f.causes, f.byRule, f.rulesBroken = [event.Layers]int64{}, nil, nil, nil
		j.recount(f, f.started)
	} else {
		f.degraded = true // the past is gone: what was counted stays
	}
	j.reset(f.scope)
}

// tend looks after the open findings at the end of a slot: it counts who was
// refused, refines young scopes, and resolves what recovered or became normal.
func (j *judge) tend(partial bool) {
	now := j.end()
	j.forgetFindings(now)
	var seen *pastSlot
	if n := len(j.past.slots); n > 0 && j.past.slots[n-1].start == j.start {
		seen = &j.past.slots[n-1]
	}
	for _, f := range j.findings {
		if f.resolved != 0 {
			continue
		}
		if seen != nil {
			j.witness(f, seen)
			j.welcomeBack(f, seen)
		}
		age := (now - f.awake) / j.step
		if slices.Contains(refineAt[:], age) {
			j.refine(f)
			j.tellFlag(f)
			if f.rules && f.calm == 0 {
				j.size(f)
			}
		}
		recovered, old := seen != nil && j.recovered(f, partial) && age >= calmSlots, now-f.awake >= acceptAfter
		switch {
		case recovered && !old && j.narrow(f):
		case recovered, old && f.calm > 0 && f.over >= calmEvidence: // too few came for more
			f.resolved = now
			j.show(f.mask, true)
			j.reset(f.scope)
		case old:
			j.adopt(f)
		}
	}
}

// sight is since when a scan can look at a finding: its onset, or the oldest that is
// remembered of what it is about.
func (j *judge) sight(f *finding) int64 {
	if f.known || f.rules {
		return max(f.from, j.detail())
	}
	return max(f.from, j.oldest())
}

// reach is since when a finding can be seen in the detailed past: its onset, or 0
// when that is too long ago.
func (j *judge) reach(f *finding) int64 {
	if len(j.past.slots) == 0 || f.from < j.past.slots[0].start {
		return 0
	}
	return f.from
}

// refine looks for a scope that explains a young finding better.
func (j *judge) refine(f *finding) {
	since := j.sight(f)
	views := j.views(f.win(since))
	w, ok := j.best(nil, f.dir, f.mask, &f.scope, views)
	if ok && w.scope == f.scope {
		// Two that began together may look like one.
		if a, ok := j.part(f.scope, f.dir, f.mask, w.win, w.score); ok {
			j.widen(f, &a)
		}
		return
	}
	if !ok || w.sig < minEvidence || !w.matters() {
		return
	}
	if w.tight && f.scope.contains(&j.book, w.scope) {
		j.widen(f, &w)
		return
	}
	score, excess := j.scoreOf(f.scope, f.dir, f.mask, views)
	// A wider fall must miss more, and be nearly as deep: where nobody used to be
	// refused, nobody being refused is no contradiction.
	if f.dir == baseline.Down && w.scope.contains(&j.book, f.scope) && (float64(w.M-w.X) < 1.5*excess || float64(1-w.X/w.M) < 0.7*f.share) {
		return
	}
	better := float64(betterBy)
	if since > f.from {
		better = betterLate
	}
	if w.score > score+better {
		j.widen(f, &w)
	}
}

// narrow gives a finding that seems over the part of its scope that is not, if
// there is one: its scope was too wide, or all but a part of it recovered.
func (j *judge) narrow(f *finding) bool {
	since := j.sight(f)
	if since > f.from || f.calmSince <= since {
		return false
	}
	buf := j.scan(f.win(since), f.dir, f.mask)
	best, at := 0.0, -1
	for id := range buf {
		c := &buf[id]
		if c.N < 0.5 || c.scope == f.scope || !f.scope.contains(&j.book, c.scope) {
			continue
		}
		if score, sig, _ := j.weigh(id, c, len(buf)-len(j.series), f.dir); sig >= minEvidence && score > best {
			best, at = score, id
		}
	}
	if at < 0 {
		return false
	}
	l := located{candidate: buf[at], dir: f.dir, win: f.win(since)}
	excess := func(c *candidate) float32 { return (c.X - c.M) / max(c.N, 0.5) * float32(f.dir) }
	calm := j.scan(f.win(f.calmSince), f.dir, f.mask)
	k := slices.IndexFunc(calm, func(c candidate) bool { return c.scope == l.scope })
	if k < 0 || excess(&calm[k]) < stillActive*excess(&l.candidate) {
		return false
	}
	j.widen(f, &l)
	return true
}

// recovered weighs the slot's counts for recovery: the base rate must have
// explained them better than the incident's for some slots, with evidence, and
// nothing of the excess may be left. Partial slots prove nothing.
func (j *judge) recovered(f *finding, partial bool) bool {
	if partial {
		return false
	}
	if f.sn > 0 {
		if f.calm == 0 {
			f.calmSince, f.calmX, f.calmN, f.calmM, f.over = j.start, 0, 0, 0, 0
		}
		f.calm = max(0, f.calm-f.half)
		f.over -= f.llr
		f.calmX += f.sx
		f.calmN += f.sn
		f.calmM += f.sm
		if f.calm == 0 {
			f.refused = j.end()
		}
		if f.calm == 0 && math.Abs(f.wallX-f.wallM) < wellKnown {
			f.measure(f.wallX+float64(f.calmX), f.wallN+float64(f.calmN), f.wallM+float64(f.calmM))
		}
	}
	price := math.Log1p(float64(max(min(f.denials, f.requests-f.denials), 0)))
	// A wall of which half is left is not gone, but that is rare.
	if f.calm < halfEvidence || f.over < calmEvidence+price || j.end()-f.calmSince < calmSlots*j.step {
		return false
	}
	x, n, m := float64(f.calmX), float64(f.calmN), float64(f.calmM)
	left := (x-m)*float64(f.dir) > 0 && baseline.Divergence(x, n, m) > 2 && math.Abs(x-m) > 0.25*math.Abs(f.rate-f.base)*n
	return !left
}

// adopt accepts the recent level of a finding as the new normal: it lasted a day, or
// somebody said so.
func (j *judge) adopt(f *finding) {
	f.former = j.formerly(f.mask)
	j.accustom(f.mask)
	j.settleRules(f.mask, j.reach(f))
	f.resolved, f.accepted = j.end(), true
	j.show(f.mask, true)
	j.relearn()
	j.reset(f.scope)
}
