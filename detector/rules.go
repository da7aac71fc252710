package detector

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// breachSlots is how many slots the shorter of the two windows has in which
	// breaches of rules are looked for; the other is the whole detailed past.
	breachSlots = 10
	// A rule that was declared is believed to be broken by brokenPrior, one that
	// keeps people out by leakedPrior, of rulePrior requests until more is known.
	brokenPrior = 0.05
	leakedPrior = 0.005
	rulePrior   = 50
	// ruleBase is how many requests' worth of baseline a rule is.
	ruleBase = 1000
	// A route keeps a role out if of at least wallRequests requests, with as many
	// more as chance may hide (the rule of three), hardly any were let in.
	wallRequests = 100
	wallChance   = 3
	wallLets     = 0.03
	// maxThrough bounds how many of those who came through a learned wall are noted
	// of a leaf and slot, maxBroken the rules that are counted of a finding.
	maxThrough = 64
	maxBroken  = 16
)

// breach is how often one kind of rule was broken on a cell: k of n, discounted, with
// the same lag as the baselines.
type breach struct{ k, n, k1, n1, k0, n0 float32 }

// learn adds k of n to what will teach later.
func (b *breach) learn(k, n float32) {
	b.k0 += k
	b.n0 += n
}

// turn ends a learning period.
func (b *breach) turn(discount float32) {
	b.k, b.n = b.k*discount+b.k1, b.n*discount+b.n1
	b.k1, b.n1, b.k0, b.n0 = b.k0, b.n0, 0, 0
}

// fill adds requests at the level of all cells of a group, so that they count as
// ruleBase together.
func (b *breach) fill(all breach, cells float32) {
	if all.n > 0 {
		n := max(ruleBase-all.n, 0) / cells
		b.k, b.n = b.k+n*all.k/all.n, b.n+n
	}
}

// forget drops what was not learned yet.
func (b *breach) forget() { b.k1, b.n1, b.k0, b.n0 = 0, 0, 0, 0 }

// rate is how often the rule is usually broken.
func (b *breach) rate(prior float64) float64 {
	return (float64(b.k) + prior) / (float64(b.n) + rulePrior)
}

// ruling is what is known of a cell's rules: let of those who are let in, kept of
// those who are kept out.
type ruling struct {
	let, kept breach
	keeps     bool // somebody is kept out here
}

// ruledBy makes or finds the ruling of a cell.
func (j *judge) ruledBy(id int32) *ruling {
	r := j.ruled[id]
	if r == nil {
		if j.ruled == nil {
			j.ruled = map[int32]*ruling{}
		}
		// Until now nobody broke the rule.
		r = &ruling{let: breach{n: j.cells[id].N}}
		j.ruled[id] = r
	}
	j.dirtyRuled[int(id)/blockSize] = true
	return r
}

// inheritRules adds what is known of the rules of one cell to another.
func (j *judge) inheritRules(from, to int32) {
	o := j.ruled[from]
	if o == nil {
		return
	}
	fresh := j.ruled[to] == nil
	r := j.ruledBy(to)
	if fresh {
		r.let = breach{}
	}
	r.let.k, r.let.n = r.let.k+o.let.k, r.let.n+o.let.n
	r.kept.k, r.kept.n = r.kept.k+o.kept.k, r.kept.n+o.kept.n
	r.keeps = r.keeps || o.keeps
}

// configure takes over what the judge needs of a configuration.
func (j *judge) configure(c *Config) {
	j.access, j.least = c.Access, c.MinIdentities
	j.welcome(c.FirstVisit)
}

// binding reports whether a rule that a hit breaks counts: it is still declared, and
// if it is only presumed to speak of those without a role, the log does name roles.
func (j *judge) binding(h *slots.Hit) bool {
	if h.Rule == 0 {
		return false
	}
	_, ok := j.access.Find(h.Rule)
	return ok && (!h.Presumed || slices.ContainsFunc(j.roles.list, func(s string) bool { return s != "" }))
}

// through notes who came through a door that rules, or what was learned, keep closed.
func (j *judge) through(l *slots.Leaf, t *touched, p *pastSlot) {
	closed := t.valid+t.leaked > 0
	if r := j.ruled[t.cell]; closed && (r == nil || !r.keeps) {
		j.ruledBy(t.cell).keeps = true
	}
	for i := range l.Hits {
		if h := &l.Hits[i]; h.Class == event.NotDenied && j.binding(h) {
			p.leaks = append(p.leaks, pastLeak{t.cell, h.Named, h.Rule, h.Identity, h.Account})
			t.lc += float32(uint32(1) << min(p.sampled, 31))
		}
	}
	if closed || len(l.Entered) == 0 || j.start < j.born+j.learn || !j.keepsOut(&j.cells[t.cell]) {
		return
	}
	for _, id := range l.Entered[:min(len(l.Entered), maxThrough)] {
		p.leaks = append(p.leaks, pastLeak{cell: t.cell, id: id})
		t.lc++
	}
}

// keepsOut reports whether it was learned, beyond doubt, that the cell's route keeps
// its role out.
func (j *judge) keepsOut(c *cell) bool {
	s := c.parents[lvRouteRole]
	if s < 0 {
		s = c.parents[lvRoute]
	}
	se := &j.series[s]
	return se.n >= wallRequests && se.n-se.k+wallChance <= wallLets*se.n
}

// heed teaches how often rules are broken on a cell, in a slot in which nothing is
// known to be wrong there.
func (j *judge) heed(t *touched) {
	if t.valid+t.leaked > 0 {
		j.ruledBy(t.cell).kept.learn(t.lc, t.vc+t.lc)
	}
	if t.bc > 0 || j.ruled[t.cell] != nil {
		j.ruledBy(t.cell).let.learn(t.bc, t.nc)
	}
}

// doors returns, of a rules' window in a direction, how many requests of a cell in a
// slot count, how many of them were refused, what rate is expected, and the requests
// behind that; ok is false where the rules say nothing. Of a rise only refusals
// against a rule count as refused. Of a fall the requests are those of people who are
// kept out.
func (j *judge) doors(t *pastCount, dir int8) (n, x, p, base float32, ok bool) {
	if n, x = t.nc, t.bc; dir == baseline.Down {
		if n, x = t.xc+t.lc, t.xc; t.valid+t.leaked > 0 {
			n, x = t.vc+t.lc, t.vc
		}
	}
	p, base, ok = j.ruledRate(t.cell, dir)
	return n, x, p, base, ok
}

// ruledRate is the share of refusals that a rules' window expects of a cell.
func (j *judge) ruledRate(id int32, dir int8) (p, base float32, ok bool) {
	c, r := &j.cells[id], j.ruled[id]
	switch {
	case dir == baseline.Up && r == nil:
		r = &ruling{let: breach{n: c.N}}
		fallthrough
	case dir == baseline.Up:
		return float32(r.let.rate(brokenPrior)), ruleBase + r.let.n, true
	case r != nil && r.keeps:
		return float32(1 - r.kept.rate(leakedPrior)), ruleBase + r.kept.n, true
	}
	return j.normal(c).Share(), c.N, j.keepsOut(c) || c.mask != 0
}

// breaches turns refusals against rules, and what came through closed doors, into
// findings. It needs no learning.
func (j *judge) breaches(dir int8) {
	for range maxRounds {
		if !j.pressing(dir) {
			break
		}
		l, ok := j.best(nil, dir, 0, &everything, j.views(window{rules: true}))
		if !ok {
			break
		}
		if a, ok := j.part(l.scope, dir, 0, l.win, l.score); ok && j.accept(&a) == worthy {
			l = a
		}
		if j.accept(&l) == worthy {
			j.open(&l, nil)
		} else {
			j.rejected = append(j.rejected, l.scope)
		}
	}
	j.rejected = j.rejected[:0]
}

// witnesses calls f with everybody of a slot who broke a rule in a direction: was
// refused though let in, or came through.
func (j *judge) witnesses(p *pastSlot, dir int8, f func(cell int32, rule, id uint64, sure bool)) {
	if dir == baseline.Down {
		for i := range p.leaks {
			k := &p.leaks[i]
			f(k.cell, k.rule, k.id, true)
		}
		return
	}
	for i := range p.hits {
		if h := &p.hits[i]; h.rule != 0 && h.counted {
			f(h.cell, h.rule, h.id, h.named || h.met)
		}
	}
}

// pressing reports whether the newest slot has breaches that nothing explains yet, and
// the detailed past enough of them to be worth a scan.
func (j *judge) pressing(dir int8) bool {
	fresh, who := false, map[uint64]struct{}{}
	type sum struct{ n, x, m float64 }
	cells := map[int32]*sum{}
	for i := len(j.past.slots) - 1; i >= 0; i-- {
		p := &j.past.slots[i]
		j.witnesses(p, dir, func(cell int32, _, id uint64, _ bool) {
			if j.cells[cell].mask != 0 {
				return
			}
			fresh = fresh || p.start == j.start
			who[id] = struct{}{}
			cells[cell] = &sum{}
		})
		if !fresh {
			return false
		}
	}
	if len(who) < j.few() {
		return false
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		for k := range p.counts {
			if s := cells[p.counts[k].cell]; s != nil {
				if n, x, share, _, ok := j.doors(&p.counts[k], dir); ok {
					s.n, s.x, s.m = s.n+float64(n), s.x+float64(x), s.m+float64(n*share)
				}
			}
		}
	}
	var g float64
	for _, id := range slices.Sorted(maps.Keys(cells)) {
		if s := cells[id]; (s.x-s.m)*float64(dir) > 0 {
			g += baseline.Divergence(s.x, s.n, s.m)
		}
	}
	return g >= minEvidence
}

// few is how many people suffice where nobody else is: of a role that few have.
func (j *judge) few() int { return (2*j.least + 2) / 3 }

// broke decides whether a located breach of rules is worth an incident.
func (j *judge) broke(l *located) verdict {
	if l.sig < minEvidence || j.mutes(l) {
		return tooLittle
	}
	// Addresses that were never let in are a few crawlers as likely as people: they
	// count where they are not a few among many, and more of them are needed.
	stranger := 0.0
	if l.X >= l.N/2 {
		stranger = minPeople / float64(minStrangers)
	}
	who, learned, declared := map[uint64]float64{}, 0, 0
	times, weight := 0, 1.0
	for i := len(j.past.slots) - 1; i >= 0; i-- {
		p := &j.past.slots[i]
		if l.win.weight(p.start, j.start) == 0 {
			break
		}
		seen := false
		j.witnesses(p, l.dir, func(cell int32, rule, id uint64, sure bool) {
			c := &j.cells[cell]
			if c.mask != 0 || !l.scope.has(&j.book, c) {
				return
			}
			seen = true
			if declared++; rule == 0 {
				declared, learned = declared-1, learned+1
			}
			if sure {
				who[id] = 1
			} else {
				who[id] = max(who[id], stranger)
			}
		})
		if seen {
			times++
			weight = max(weight, float64(uint64(1)<<min(p.sampled, 31)))
		}
	}
	people := 0.0
	for _, id := range slices.Sorted(maps.Keys(who)) {
		people += who[id]
	}
	need := float64(j.least)
	if alone := l.X >= l.N-0.01 && l.dir == baseline.Up || l.X <= 0.01 && l.dir == baseline.Down; alone && times > 1 {
		need = float64(j.few())
	}
	switch {
	case people*weight < need:
		return tooLittle
	case l.dir == baseline.Up:
		if math.Abs(l.Shift()) < minRise || float64(l.X-l.M) < minRiseRate*float64(l.N) {
			return tooLittle
		}
	case learned > declared && (l.sig < float64(j.h) || people*weight < float64(j.least) || !j.fallen(l) || !j.several(l) || j.fleeting(l)):
		// Of many walls that were only learned, some let somebody in by chance.
		return tooLittle
	}
	return worthy
}

// broken counts that somebody of a finding broke a rule, 0 for none.
func (f *finding) broken(rule uint64) {
	for i := range f.rulesBroken {
		if f.rulesBroken[i].rule == rule {
			f.rulesBroken[i].n++
			return
		}
	}
	if len(f.rulesBroken) < maxBroken {
		f.rulesBroken = append(f.rulesBroken, ruleCount{rule, 1})
	}
}

// ruleCount is how many of a finding's people, once a slot and cell, broke a rule, or
// none if that is 0.
type ruleCount struct {
	rule uint64
	n    int64
}

// Rule describes a declared rule by its id, nil if there is none of that id.
func (d *Detector) Rule(id uint64) *incident.AccessRule { return d.cfg.Access.Describe(id) }

// rule is the declared rule that a finding breaks, nil if it is not about one.
func (j *judge) rule(f *finding) *incident.AccessRule {
	var top ruleCount
	all := int64(0)
	for _, r := range f.rulesBroken {
		all += r.n
		if r.rule != 0 && cmp.Or(cmp.Compare(r.n, top.n), cmp.Compare(r.rule, top.rule)) > 0 {
			top = r
		}
	}
	if top.n == 0 || !f.rules && 2*top.n < all {
		return nil
	}
	return j.access.Describe(top.rule)
}

// settleRules makes what a mask's cells showed since a time, as far as is remembered in
// detail, the usual of their rules.
func (j *judge) settleRules(mask uint16, since int64) {
	fresh := map[int32]*ruling{}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < since {
			continue
		}
		for k := range p.counts {
			t := &p.counts[k]
			r := j.ruled[t.cell]
			if j.cells[t.cell].mask != mask || r == nil && t.bc == 0 && t.valid+t.leaked == 0 {
				continue
			}
			n := fresh[t.cell]
			if n == nil {
				n = &ruling{keeps: r != nil && r.keeps}
				fresh[t.cell] = n
			}
			n.let.k, n.let.n = n.let.k+t.bc, n.let.n+t.nc
			if t.valid+t.leaked > 0 {
				n.keeps = true
				n.kept.k, n.kept.n = n.kept.k+t.lc, n.kept.n+t.vc+t.lc
			}
		}
	}
	// What was seen for minutes only counts as much as what is known of a rule, and the
	// countries of a role on a route share it.
	type level struct {
		let, kept breach
		cells     float32
	}
	levels := map[int32]*level{}
	ids := slices.Sorted(maps.Keys(fresh)) // sums depend on the order
	for _, id := range ids {
		r := fresh[id]
		l := levels[j.cells[id].group()]
		if l == nil {
			l = new(level)
			levels[j.cells[id].group()] = l
		}
		l.let.k, l.let.n = l.let.k+r.let.k, l.let.n+r.let.n
		l.kept.k, l.kept.n = l.kept.k+r.kept.k, l.kept.n+r.kept.n
		l.cells++
	}
	for _, id := range ids {
		r := fresh[id]
		l := levels[j.cells[id].group()]
		r.let.fill(l.let, l.cells)
		r.kept.fill(l.kept, l.cells)
		*j.ruledBy(id) = *r
	}
}

// turnRules ends a learning period of all rules.
func (j *judge) turnRules(discount float32) {
	for id, r := range j.ruled {
		if j.cells[id].mask != 0 {
			r.let.forget()
			r.kept.forget()
		} else {
			r.let.turn(discount)
			r.kept.turn(discount)
		}
		j.dirtyRuled[int(id)/blockSize] = true
	}
}

func (j *judge) putRules(w *wire.Writer, block int) {
	var ids []int32
	for id := range j.ruled {
		if int(id)/blockSize == block {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		r := j.ruled[id]
		w.Uint(uint64(id))
		r.put(w)
	}
}

func (x *ruling) put(w *wire.Writer) {
	w.Bool(x.keeps)
	for _, b := range [...]*breach{&x.let, &x.kept} {
		for _, v := range [...]float32{b.k, b.n, b.k1, b.n1, b.k0, b.n0} {
			baseline.PutFloat(w, v)
		}
	}
}

func (x *ruling) get(r *wire.Reader) {
	x.keeps = r.Bool()
	for _, b := range [...]*breach{&x.let, &x.kept} {
		for _, v := range [...]*float32{&b.k, &b.n, &b.k1, &b.n1, &b.k0, &b.n0} {
			*v = baseline.GetFloat(r)
		}
	}
}

func (j *judge) getRules(r *wire.Reader) {
	for range r.Len(2) {
		id := int32(bounded(r, r.Uint(), 0, uint64(len(j.cells))))
		if int(id) >= len(j.cells) || j.ruled[id] != nil {
			corrupt(r)
			return
		}
		j.ruledBy(id).get(r)
	}
}

// DoorState is what was learned of a route and a role.
type DoorState string

// The states, by the share of requests refused that is certain to 95 %.
const (
	// LetsIn: at most one in five is refused.
	LetsIn DoorState = "lets_in"
	// KeepsOut: at most one in five is let in.
	KeepsOut DoorState = "keeps_out"
	// Mixed: some are let in and some are not.
	Mixed DoorState = "mixed"
	// Unsure: too little was seen.
	Unsure DoorState = "unknown"
)

// Door is one route for one role in the learned access matrix: who gets in, as one
// vantage sees it. Counts are discounted with a half-life of two days and lag by half
// an hour or more; repeated refusals of one person count once a minute.
type Door struct {
	Vantage string
	Service string
	Route   string
	// Role is incident.NoRole for requests without one.
	Role  string
	State DoorState
	// Requests, Refused of them plainly, between Low and High as a share with 95 %
	// certainty.
	Requests float64
	Refused  float64
	Low      float64
	High     float64
	// Valid is how many of Refused the declared rules ask for; Broken how many are
	// against them; Leaked how many requests were let in against them.
	Valid  float64
	Broken float64
	Leaked float64
}

// Doors returns the learned access matrix: every route and role of which something is
// known, by vantage, service, route and role.
func (d *Detector) Doors() []Door {
	var out []Door
	for _, j := range d.judges {
		if j.class != event.Refused {
			continue
		}
		at := map[[2]int32]int{}
		for i := range j.cells {
			c := &j.cells[i]
			r := j.ruled[int32(i)]
			if r == nil {
				r = &ruling{}
			}
			if c.N+r.kept.n <= 0 {
				continue
			}
			k, ok := at[[2]int32{c.route, c.role}]
			if !ok {
				k = len(out)
				at[[2]int32{c.route, c.role}] = k
				out = append(out, Door{Vantage: j.vantage.String(), Service: j.service, Route: j.routeNames.public(c.route), Role: j.roles.public(c.role)})
			}
			o := &out[k]
			valid := float64(r.kept.n - r.kept.k)
			o.Requests += float64(c.N + r.kept.n)
			o.Refused += float64(c.K) + valid
			o.Valid += valid
			o.Leaked += float64(r.kept.k)
			o.Broken += float64(r.let.k)
		}
	}
	for i := range out {
		o := &out[i]
		o.Low, o.High = wilson(min(o.Refused, o.Requests), o.Requests)
		switch {
		case o.High <= 0.2:
			o.State = LetsIn
		case o.Low >= 0.8:
			o.State = KeepsOut
		case o.Low > 0.05 && o.High < 0.95:
			o.State = Mixed
		default:
			o.State = Unsure
		}
	}
	slices.SortFunc(out, func(a, b Door) int {
		return cmp.Or(cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Role, b.Role))
	})
	return out
}

// wilson is the interval that holds the share of k of n with 95 % (Wilson, JASA 1927).
func wilson(k, n float64) (low, high float64) {
	const z = 1.96
	p := k / n
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	off := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(0, mid-off), min(1, mid+off)
}
