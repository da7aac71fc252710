package detector

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// cell is a leaf with its baseline.
type cell struct {
	baseline.Cell
	route, role, geo, plan, host int32
	// next is the next cell of the same route, -1 at the end.
	next int32
	// parents are the series that the cell is part of, by level, -1 for none.
	parents [monitored]int32
	// Of in identities that were let in, new had never been before, discounted.
	in, new float32
	// Decayed windows over about 5 and 40 minutes: denials, requests, expected
	// denials.
	x5, n5, m5, x40, n40, m40 float32
	last                      uint32 // the slot the windows were last decayed to
	// mask is the finding or announcement that explains the cell, 0 for none.
	mask   uint16
	season uint16
	touch  int32 // 1 + its place in the current slot, 0 when not seen
}

// group is the series of the cell's role on its route, whose cells change together.
func (c *cell) group() int32 {
	if s := c.parents[lvRouteRole]; s >= 0 {
		return s
	}
	return c.parents[lvRoute]
}

// blank empties the windows of a scan: what they hold was no ordinary traffic.
func (c *cell) blank() { c.x5, c.n5, c.m5, c.x40, c.n40, c.m40 = 0, 0, 0, 0, 0, 0 }

// series is a sum of cells that is judged.
type series struct {
	baseline.Evidence
	baseline.Dispersion
	// k of n requests of its cells' baselines were refused; u of m were refusals of
	// people who used to get in. Of the whole, and of a role as a whole, without walls.
	k, n, u, m float32
	scope      scope
	level      uint8
	acc        int32 // 1 + its place among the current slot's sums, 0 when not touched
	hot        int32 // 1 + its place among judge.hot, 0 when not there
}

// cellKey finds a cell.
type cellKey struct{ route, role, geo, plan, host int32 }

// touched is a cell of the current slot.
type touched = pastCount

// judge watches one service from one vantage, for one class of denial.
type judge struct {
	book
	vantage event.Vantage
	service string
	class   event.Denial
	index   int
	// visitors is shared by the judges of all classes.
	visitors *visitors
	// in and new sum those of the cells; they are made anew with every learning
	// period.
	in, new float32

	step    int64
	born    int64 // the first slot with data
	start   int64 // the slot being judged
	flushed int64 // when a learning period last ended
	h       float32
	slow    float32 // log of the slots of a learning period, see baseline.Scale
	learn   int64   // seconds of silence after born

	cells  []cell
	cellID finder // by cell.key
	// byNumber are the cells of slots.Leaf.Number in numbering: 1 + the cell, 0 not
	// known.
	byNumber  []int32
	numbering uint32
	series    []series
	seriesID  finder           // by scope.key
	counts    [monitored]int32 // series of each level
	seasons   []baseline.Season
	seasonID  map[[2]int32]uint16
	levels    [monitored]baseline.Level
	clump     baseline.Clumping
	buckets   buckets
	past      past
	hours     hours

	findings  []*finding
	nextUID   uint64
	hot       []hot
	announced []announcement
	changed   []*finding // opened or reopened in this slot

	folded uint64
	// leaves is the service's part of the slot being closed.
	leaves []slots.Leaf
	turned bool // a learning period ended with this slot

	dirtyCells, dirtySeries []bool
	dirty, dirtyBook        bool

	slot    []touched
	within  []admitted
	acc     []baseline.Sum
	sumOf   []int32
	decay5  [256]float32
	decay40 [256]float32
	scans   []candidate
	recent  []spell
	scanID  map[uint64]int32
	// rejected are the scopes found not worth an incident in this slot, suspects
	// those of them that look like scans.
	rejected []scope
	suspects []suspicion
	exempt   []string // config first_visit

	access *access.Model
	least  int // people who make a breach of a rule an incident
	ruled  map[int32]*ruling
	// dirtyRuled are the blocks of ruled that changed.
	dirtyRuled map[int]bool
}

const (
	blockSize  = 4096 // cells or series of one durable block
	maxSeasons = 4096
	// settle is how long after a cold start noise and season are not learned: the
	// baselines are still too young.
	settle = 6 * 3600
	// grownAfter is how long after a cold start what rises is learned all the same: the
	// first day is all anybody knows of most rates.
	grownAfter = 24 * 3600
	// waitRequests is how many requests the baseline of a series must know.
	waitRequests = 100
	// stirPart is the part of the threshold from which on a residual is no noise, risePart
	// of a rise that has not stood for long.
	stirPart, risePart = 0.6, 0.3
)

func newJudge(v event.Vantage, service string, class event.Denial, learn int64) *judge {
	j := &judge{vantage: v, service: service, class: class, learn: learn, born: -1,
		seasonID: map[[2]int32]uint16{}, dirtyRuled: map[int]bool{}, dirty: true, dirtyBook: true}
	for i := range j.buckets.dirty {
		j.buckets.dirty[i] = true
	}
	j.past.leaving = func(p *pastSlot) { j.hours.add(p, j.step) }
	return j
}

// sibling is a judge of another class at the same service that begins when the
// class first occurs. Nothing was ever refused in that class, and the requests of
// its history are those of j.
func (j *judge) sibling(class event.Denial) *judge {
	o := newJudge(j.vantage, j.service, class, j.learn)
	o.visitors, o.exempt, o.access, o.least = j.visitors, j.exempt, j.access, j.least
	if j.born < 0 {
		return o
	}
	o.book = j.book.clone()
	o.setStep(j.step)
	o.born, o.start, o.flushed = j.born, j.start, j.flushed
	o.seasonID = maps.Clone(j.seasonID)
	o.seasons = make([]baseline.Season, len(j.seasons))
	o.announced = slices.Clone(j.announced)
	o.cells = make([]cell, 0, len(j.cells))
	for i := range j.cells {
		c := &j.cells[i]
		n := cell{Cell: c.Clean(), route: c.route, role: c.role, geo: c.geo, plan: c.plan, host: c.host, next: c.next,
			last: c.last, season: c.season, in: c.in, new: c.new, n5: c.n5, n40: c.n40}
		if slices.ContainsFunc(j.announced, func(a announcement) bool { return a.mask == c.mask }) {
			n.mask = c.mask
		}
		o.cells = append(o.cells, n)
		o.numberCell(int32(i))
		if i%blockSize == 0 {
			o.dirtyCells = append(o.dirtyCells, true)
		}
		o.link(int32(i))
	}
	o.hours.inherit(j)
	o.relearn()
	return o
}

// welcome marks the routes that people may visit before they were let in.
func (j *judge) welcome(routes []string) {
	j.exempt = routes
	for i := range j.routes {
		j.routes[i].welcome = slices.Contains(routes, j.routeNames.list[i])
	}
}

// setStep tells the length of slots. A new length makes all evidence void.
func (j *judge) setStep(step int64) {
	if j.step == step {
		return
	}
	if j.step != 0 {
		for i := range j.series {
			j.series[i].Reset()
			j.markSeries(int32(i))
		}
	}
	j.step = step
	j.slow = float32(math.Log(float64(max(baseline.Lag/step, 1))))
	for i := range j.decay5 {
		dt := float64(int64(i) * step)
		j.decay5[i] = float32(math.Exp(-dt / shortTau))
		j.decay40[i] = float32(math.Exp(-dt / longTau))
	}
}

func (j *judge) markCell(i int32)   { j.dirtyCells[i/blockSize] = true }
func (j *judge) markSeries(i int32) { j.dirtySeries[i/blockSize] = true }

// end is the end of the slot being judged.
func (j *judge) end() int64 { return j.start + j.step }

// number is the slot's number, for the age of evidence.
func (j *judge) number() uint16 { return uint16(j.start / j.step) }

// decay brings a cell's windows to the current slot. Whoever only looks at them changes
// them too: two steps are not, bit by bit, the same as one.
func (j *judge) decay(id int32) {
	c := &j.cells[id]
	if now := uint32(j.start); c.last < now {
		j.markCell(id)
		dt := min(int64(now-c.last)/j.step, 255)
		a, b := j.decay5[dt], j.decay40[dt]
		c.x5 *= a
		c.n5 *= a
		c.m5 *= a
		c.x40 *= b
		c.n40 *= b
		c.m40 *= b
		c.last = now
	}
}

// normal is the cell's expected rate at this hour.
func (j *judge) normal(c *cell) baseline.Rate { return c.P.Shift(j.seasons[c.season].Steps) }

// normalAt is what it was at the hour of an earlier time, by what is known now.
func (j *judge) normalAt(c *cell, at int64) baseline.Rate {
	return c.P.Shift(j.seasons[c.season].At(int(at / 3600 % 24)))
}

// cellOf returns the cell of a leaf, as find does.
func (j *judge) cellOf(l *slots.Leaf, room *int) int32 {
	n := int(l.Number)
	if n < len(j.byNumber) && j.byNumber[n] != 0 {
		return j.byNumber[n] - 1
	}
	folded := j.folded
	id := j.find(&l.Key, room)
	if n == 0 || j.folded != folded {
		return id // what was folded counts anew every time
	}
	if n >= len(j.byNumber) {
		j.byNumber = append(j.byNumber, make([]int32, max(n+1, 2*len(j.byNumber))-len(j.byNumber))...)
	}
	j.byNumber[n] = id + 1
	return id
}

// find returns the cell of a key. When it is new and there is no room, the key
// folds to the one of everything else.
func (j *judge) find(k *tally.Key, room *int) int32 {
	if route, ok := j.routeNames.id[k.Route]; ok {
		role, ok1 := j.roles.id[k.Role]
		geo, ok2 := j.geos.id[k.Geo]
		plan, ok3 := j.plans.id[k.Plan]
		host, ok4 := j.hosts.id[k.Host]
		if ok1 && ok2 && ok3 && ok4 {
			if id := j.cellOfKey(cellKey{route, role, geo, plan, host}); id >= 0 {
				return id
			}
		}
	}
	if *room > 0 || k.Route == tally.Other && k.Role == j.rest(&j.roles) && k.Geo == j.rest(&j.geos) && k.Plan == "" && k.Host == "" {
		*room--
		return j.create(k)
	}
	j.folded++
	rest := tally.Key{Route: tally.Other, Role: j.rest(&j.roles), Geo: j.rest(&j.geos)}
	return j.find(&rest, room)
}

// rest is the value that stands for the rest of a dimension: "_other" if the
// dimension is used at all.
func (j *judge) rest(n *names) string {
	switch {
	case len(n.list) == 0:
		return ""
	case len(n.list) == 1:
		return n.list[0]
	}
	return tally.Other
}

// create adds a cell, and the series that come with it.
func (j *judge) create(k *tally.Key) int32 {
	roles, geos := len(j.roles.list), len(j.geos.list)
	route, more := j.route(k.Route, j.start)
	ck := cellKey{route, j.roles.of(k.Role), j.geos.of(k.Geo), j.plans.of(k.Plan), j.hosts.of(k.Host)}
	id := int32(len(j.cells))
	c := cell{route: route, role: ck.role, geo: ck.geo, plan: ck.plan, host: ck.host, last: uint32(j.start)}
	c.next = j.routes[route].cells
	j.routes[route].cells = id
	c.season = j.seasonFor(c.role, c.geo)
	j.cells = append(roomy(j.cells), c)
	j.numberCell(id)
	if int(id)%blockSize == 0 {
		j.dirtyCells = append(j.dirtyCells, true)
	}
	j.markCell(id)
	j.dirtyBook = true
	if c.next < 0 {
		j.routes[route].welcome = slices.Contains(j.exempt, k.Route)
		j.inherit(route)
	}
	j.link(id)
	// A dimension that just got its second value now has series of its own.
	switch {
	case roles == 1 && len(j.roles.list) == 2 || geos == 1 && len(j.geos.list) == 2:
		for i := range j.cells {
			j.link(int32(i))
		}
	case more:
		for i := j.routes[j.prefixes[j.routes[route].prefix].only].cells; i >= 0; i = j.cells[i].next {
			j.link(i)
		}
	}
	j.legacy(id)
	j.expect(id)
	for _, f := range j.findings {
		if f.resolved == 0 && j.cells[id].mask == 0 && f.scope.has(&j.book, &j.cells[id]) {
			j.cells[id].mask = f.mask
		}
	}
	for k := range j.announced {
		if a := &j.announced[k]; a.mask != 0 && j.cells[id].mask == 0 {
			if in := j.choose(&a.scope); in.has(&j.cells[id]) {
				j.cells[id].mask = a.mask
			}
		}
	}
	return id
}

// roomy returns s with room for one more. There may be a million: append would make a
// quarter more than that, this a sixteenth of what are very many.
func roomy[T any](s []T) []T {
	if len(s) < cap(s) || len(s) < 16*blockSize {
		return s
	}
	return append(make([]T, 0, len(s)+len(s)/16), s...)
}

// seasonFor returns the season of a role in a country; beyond the bound all
// share the first.
func (j *judge) seasonFor(role, geo int32) uint16 {
	k := [2]int32{role, geo}
	if id, ok := j.seasonID[k]; ok {
		return id
	}
	id := uint16(0)
	if len(j.seasons) < maxSeasons {
		id = uint16(len(j.seasons))
		j.seasons = append(j.seasons, baseline.Season{})
	}
	j.seasonID[k] = id
	return id
}

// link finds or makes the series of a cell.
func (j *judge) link(id int32) {
	c := &j.cells[id]
	ss, ok := j.scopes(c)
	for l := range c.parents {
		c.parents[l] = -1
		if !ok[l] {
			continue
		}
		s := j.seriesOfKey(ss[l].key())
		if s < 0 {
			s = int32(len(j.series))
			j.series = append(roomy(j.series), series{scope: ss[l], level: uint8(l)})
			j.numberSeries(s)
			j.counts[l]++
			if int(s)%blockSize == 0 {
				j.dirtySeries = append(j.dirtySeries, true)
			}
			j.markSeries(s)
		}
		c.parents[l] = s
	}
}

// expect sets a cell's rate from its baseline and those above it: total, role,
// role in the prefix, role on the route, cell. What most of the others are refused is
// expected to be refused to a role of which nothing else is known there.
func (j *judge) expect(id int32) {
	c := &j.cells[id]
	q := baseline.FirstGuess
	u := baseline.FirstKnownGuess
	shrink := func(s int32) {
		if s >= 0 {
			se := &j.series[s]
			q = baseline.Own(se.k, se.n, q)
			u = baseline.Shrink(se.u, se.m, u)
		}
	}
	shrink(c.parents[lvTotal])
	shrink(c.parents[lvRole])
	getsIn := false
	for _, path := range [...]struct{ role, all int }{{lvPrefixRole, lvPrefix}, {lvRouteRole, lvRoute}} {
		s, whole := c.parents[path.role], c.parents[path.all]
		if s < 0 || whole < 0 {
			shrink(whole)
			continue
		}
		own, all := &j.series[s], &j.series[whole]
		if k, n := all.k-own.k, all.n-own.n; wall(k, n) {
			if getsIn = getsIn || 2*own.k < own.n; !getsIn {
				q = float64(k / n)
			}
		}
		shrink(s)
	}
	c.P = baseline.RateOf(baseline.Own(c.K, c.N, q))
	c.Q = baseline.RateOf(baseline.Shrink(c.U, c.M, u))
}

// wall reports whether k refusals of n requests are a door that is closed to most.
func wall(k, n float32) bool { return n >= newRequests && k > mostly*n }

// leaveWalls leaves the walls out of what is known of the product as a whole and of each role
// as a whole, which is the guess for routes of which nothing is known: that people are
// refused at /admin says nothing of a new route. It is all that is known of a role that
// is refused nearly everywhere it comes to.
func (j *judge) leaveWalls() {
	type sums struct{ k, n, u, m float32 }
	level := uint8(lvRouteRole)
	if len(j.roles.list) < 2 {
		level = lvRoute
	}
	walls := map[int32]*sums{}
	for i := range j.series {
		s := &j.series[i]
		if s.level != level || !wall(s.k, s.n) {
			continue
		}
		of := [...]int32{j.seriesOfKey(everything.key()), j.seriesOfKey(scope{all, all, s.scope.role, all}.key())}
		if of[1] == of[0] {
			of[1] = -1
		}
		for _, id := range of {
			if id < 0 {
				continue
			}
			if walls[id] == nil {
				walls[id] = new(sums)
			}
			w := walls[id]
			w.k, w.n, w.u, w.m = w.k+s.k, w.n+s.n, w.u+s.u, w.m+s.m
		}
	}
	for id, w := range walls {
		if s := &j.series[id]; 2*w.n < s.n {
			s.k, s.n, s.u, s.m = max(s.k-w.k, 0), s.n-w.n, max(s.u-w.u, 0), max(s.m-w.m, 0)
		}
	}
}

// close judges one slot. The leaves are those of the judge's service.
func (j *judge) close(c *slots.Closed, leaves []slots.Leaf, room *int) {
	j.changed = j.changed[:0]
	j.suspects = j.suspects[:0]
	j.dirty = true
	j.setStep(c.Step)
	if j.start > 0 {
		j.turnHour(j.start/3600, c.Start/3600)
	}
	j.start = c.Start
	j.endAnnounced()
	if len(leaves) > 0 {
		if j.born < 0 {
			j.born, j.flushed = c.Start, c.Start
		}
		j.count(c, leaves, room)
		j.judgeSlot(c)
	} else {
		j.tend(c.Partial)
	}
	j.turned = j.born >= 0 && j.end()/baseline.Lag > j.flushed/baseline.Lag
	if j.turned {
		j.turn()
	}
}

// count takes the slot's leaves in: raw and capped counts of its cells, and the
// detailed past.
func (j *judge) count(c *slots.Closed, leaves []slots.Leaf, room *int) {
	j.slot, j.within = j.slot[:0], j.within[:0]
	if j.numbering != c.Numbering {
		j.numbering = c.Numbering
		clear(j.byNumber)
	}
	p := j.past.push(c.Start, pastSlots*j.step)
	p.sampled, p.partial = c.Sampled, c.Partial
	for i := range leaves {
		l := &leaves[i]
		leaked := l.Leaked
		n, x, valid := j.share(l.Requests(), &l.Denied, leaked)
		if n == 0 && (valid+leaked == 0 || j.class != event.Refused) {
			continue
		}
		id := j.cellOf(l, room)
		ce := &j.cells[id]
		if ce.touch == 0 {
			j.slot = append(j.slot, touched{cell: id})
			ce.touch = int32(len(j.slot))
		}
		t := &j.slot[ce.touch-1]
		t.n += n
		t.x += x
		for class := event.Refused; class < event.Valid; class++ {
			t.denied += l.Denied[class]
		}
		// What lines stand for is told to people; only lines are evidence.
		vs := valid
		if u := l.Unseen; u != nil {
			un, ux, uv := j.share(u.Requests, &u.Denied, u.Leaked)
			n, x, vs = n-min(n, un), x-min(x, ux), valid-min(valid, uv)
			p.estimated = true
		}
		nc, xc, yc, bc := j.cap(l, id, float32(n), float32(x), c.Sampled, p)
		t.nc += nc
		t.xc += xc
		t.yc += yc
		t.bc += bc
		j.greet(l, id, nc-xc, p)
		if j.class == event.Refused {
			t.valid += valid
			t.vc += float32(vs)
			t.leaked += leaked
			j.through(l, t, p)
		}
		if ce.mask == 0 {
			in, strangers := j.visitors.ask(l.Entered, routeHash(l.Key.Route))
			ce.in += in
			ce.new += strangers
		}
		if len(l.Flags) > 0 {
			p.addFlags(ce.route, l.Flags)
		}
		if ce.mask != 0 && len(l.Entered) > 0 {
			j.within = append(j.within, admitted{id, l.Entered})
		}
		for k := range l.Splits {
			if s := &l.Splits[k]; s.Class == j.class {
				p.splits = append(p.splits, pastSplit{id, s.Layer, s.N, s.Cause, s.Rule})
			}
		}
	}
	for i := range j.slot {
		j.cells[j.slot[i].cell].touch = 0
	}
	p.counts = append(p.counts, j.slot...)
	j.past.filled()
}

// share returns the requests that are judged, those of them refused in the judge's
// class, and valid refusals: whom the rules keep out is judged by the rules alone.
func (j *judge) share(requests uint32, denied *[event.Denials]uint32, leaked uint32) (n, x, valid uint32) {
	valid = denied[event.Valid]
	n = requests - min(requests, valid+leaked)
	return n, min(denied[j.class], n), valid
}

// cap returns the requests and denials of a leaf that count: retries of one
// identity in one slot are one denial, and an identity without credit leaves with
// its requests in proportion (removing only its denials would look like a fall).
// Denials that no hit explains count as they are. Of sampled hits each stands for
// 2^sampled identities. yc are those of the denials that count whose identities
// were let in on the route before, bc those that break a declared rule.
func (j *judge) cap(l *slots.Leaf, id int32, n, x float32, sampled uint8, p *pastSlot) (nc, xc, yc, bc float32) {
	var seen, kept, gone, asked float32
	route, welcome := routeHash(l.Key.Route), j.routes[j.cells[id].route].welcome
	for i := range l.Hits {
		h := &l.Hits[i]
		if h.Class != j.class || h.Denials == 0 {
			continue
		}
		ok := j.buckets.take(h.Identity, id, uint32(j.start))
		known := j.visitors.knows(h.Identity, route)
		met := welcome || j.visitors.met(h.Identity)
		prowls := !met && j.visitors.prowls(h.Identity)
		hit := pastHit{hit: hit{cell: id, named: h.Named, counted: ok, met: met, prowls: prowls, id: h.Identity}, known: known, account: h.Account}
		if j.binding(h) {
			hit.rule = h.Rule
		}
		p.hits = append(p.hits, hit)
		k, r, a := float32(h.Denials), float32(max(h.Requests, h.Denials)), float32(0)
		if ok {
			a = 1
			if known {
				yc++
			}
			if hit.rule != 0 {
				bc++
			}
		}
		seen += k
		asked += r
		kept += a
		gone += r * (k - a) / k
	}
	// Where many are refused, an identity without credit that is let in now and then
	// would look like a fall.
	if j.normal(&j.cells[id]).Share() > oftenRefused {
		for _, who := range l.Entered {
			if _, refused := slices.BinarySearchFunc(l.Hits, who, against); !refused && j.buckets.empty(who, uint32(j.start)) {
				gone++
			}
		}
	}
	if sampled == 0 {
		kept += max(x-seen, 0)
		return max(n-gone, kept), kept, yc, bc
	}
	weight := float32(uint32(1) << min(sampled, 31))
	kept = min(kept*weight, x)
	perDenial := float32(1)
	if seen > 0 {
		perDenial = asked / seen
	}
	return max(n-(x-kept)*perDenial, kept), kept, min(yc*weight, kept), min(bc*weight, kept)
}

// judgeSlot weighs the slot's counts.
func (j *judge) judgeSlot(c *slots.Closed) {
	for _, f := range j.findings {
		f.begin()
	}
	j.acc, j.sumOf = j.acc[:0], j.sumOf[:0]
	j.heat()
	for i := range j.slot {
		t := &j.slot[i]
		ce := &j.cells[t.cell]
		r := j.normal(ce)
		part := baseline.Part(t.nc, t.xc, r)
		j.decay(t.cell)
		ce.x5 += t.xc
		ce.n5 += t.nc
		ce.m5 += part.M
		ce.x40 += t.xc
		ce.n40 += t.nc
		ce.m40 += part.M
		j.markCell(t.cell)
		if ce.mask != 0 {
			if f := j.masking(ce.mask); f != nil {
				j.follow(f, t, r)
			}
			continue
		}
		j.heed(t)
		if t.nc <= 0.01 {
			continue
		}
		ce.Learn(t.xc, t.nc, t.yc)
		if p := ce.P.Share(); p < 0.7 && !ce.Held() {
			j.seasons[ce.season].Learn(t.xc, t.nc*p)
		}
		apart := j.apart(ce)
		var known baseline.Sum
		telling := len(j.hot) > 0 && j.telling(ce)
		for l, s := range ce.parents {
			if s < 0 || apart>>l&1 != 0 {
				continue
			}
			se := &j.series[s]
			if se.hot != 0 && telling {
				if known.N == 0 {
					known = baseline.Part(t.nc, t.yc, j.usual(ce))
				}
				j.hot[se.hot-1].sum.Add(&known)
			}
			if se.acc == 0 {
				j.acc = append(j.acc, baseline.Sum{})
				j.sumOf = append(j.sumOf, s)
				se.acc = int32(len(j.acc))
			}
			j.acc[se.acc-1].Add(&part)
		}
	}
	var up, down []int32
	for i, s := range j.sumOf {
		se := &j.series[s]
		se.acc = 0
		sum := &j.acc[i]
		sc := j.scale(se)
		se.Dispersion.Add(sum)
		u, d := se.Evidence.Add(sum, j.number(), j.h, &sc, c.Partial)
		j.markSeries(s)
		// A series that moved both ways is taken where its evidence is stronger.
		if u && d {
			lu, _ := se.Best(baseline.Up, 0)
			ld, _ := se.Best(baseline.Down, 0)
			u, d = lu >= ld, lu < ld
		}
		if u {
			up = append(up, s)
		}
		if d {
			down = append(down, s)
		}
	}
	regulars := j.cool()
	j.tend(c.Partial)
	switch {
	case j.start < j.born+j.learn:
		if j.end() >= j.born+j.learn {
			j.reset(everything)
		}
	default:
		j.alarm(up, baseline.Up, false)
		// What an alarm explained began anew.
		j.alarm(slices.DeleteFunc(regulars, func(s int32) bool { return j.evidence(s, true).Zero() }), baseline.Up, true)
		j.alarm(down, baseline.Down, false)
	}
	// Rules need no learning, and what the statistics explain is explained.
	j.breaches(baseline.Up)
	if j.class == event.Refused {
		j.breaches(baseline.Down)
	}
}

// against compares a hit with an identity; one of a valid refusal, the last of its
// identity, is behind it.
func against(h slots.Hit, id uint64) int {
	if c := cmp.Compare(h.Identity, id); c != 0 || h.Class != event.Valid {
		return c
	}
	return 1
}

// oftenRefused is the rate of refusals from which on it matters who is let in.
const oftenRefused = 0.1

// busyRequests is from how many requests of about the last 40 minutes on a young
// route is judged by itself. One that is asked for less could not be: its requests
// are a part of the wider slices like those of the many rare paths of a small site.
const busyRequests = 5

// lately is how many requests a route had in about the last 40 minutes.
func (j *judge) lately(r *routeInfo) (n float32) {
	for i := r.cells; i >= 0; i = j.cells[i].next {
		n += j.cells[i].n40
	}
	return n
}

// apart is the set of levels, as bits, that a cell is not judged in: a route that
// came after the cold start is judged by itself until it has a baseline, since
// the history of wider slices says nothing of it. A prefix is wide enough for it
// if it is as young.
func (j *judge) apart(c *cell) uint16 {
	const prefix = 1<<lvPrefix | 1<<lvPrefixRole | 1<<lvPrefixGeo | 1<<lvPrefixRoleGeo
	const wide = 1<<lvTotal | 1<<lvRole | 1<<lvGeo | 1<<lvRoleGeo
	known := j.born + max(j.learn, baseline.Lag)
	r := &j.routes[c.route]
	if r.first < known || j.series[c.parents[lvRoute]].n >= newRequests || j.lately(r) < busyRequests {
		return 0
	}
	if j.prefixes[r.prefix].first < known || j.prefixes[r.prefix].first < r.first-newOnset {
		return wide | prefix
	}
	return wide
}

// scale is how much of a series' evidence noise explains.
func (j *judge) scale(se *series) baseline.Scale {
	return baseline.Scale{Phi: j.clump.Phi(), Sigma2: se.Sigma2(&j.levels[se.level], &j.clump), N: se.n, Slow: j.slow}
}

// reset makes the series that share cells with s start from zero.
func (j *judge) reset(s scope) {
	for i := range j.series {
		if se := &j.series[i]; s.overlaps(&j.book, se.scope) {
			se.Reset()
			se.Drop()
			j.chill(se)
			j.markSeries(int32(i))
		}
	}
}

// turnHour ends an hour of the season.
func (j *judge) turnHour(old, hour int64) {
	if old == hour {
		return
	}
	learn := j.born >= 0 && j.start >= j.born+settle
	for i := range j.seasons {
		j.seasons[i].Turn(int(old%24), int(hour%24), learn)
	}
}

// suspect reports whether a cell is part of something that may be changing: then a
// probation does not end clean yet.
func (j *judge) suspect(c *cell) bool {
	for _, s := range c.parents {
		if s >= 0 && (!j.calm(&j.series[s], baseline.Up, 0.5) || !j.calm(&j.series[s], baseline.Down, 0.5)) {
			return true
		}
	}
	return false
}

// rising reports whether a cell is part of something that may be rising and has not for
// long: what it shows must not become normal before it can be judged. Where next to nothing
// is known yet it is what is normal.
func (j *judge) rising(c *cell) bool {
	for _, s := range c.parents {
		if s >= 0 && j.series[s].n >= waitRequests && !j.calm(&j.series[s], baseline.Up, 0.5) && j.lasts(&j.series[s], baseline.Up) < baseline.MaxHold {
			return true
		}
	}
	return false
}

// calm reports whether a series is below a part of the threshold in a direction.
func (j *judge) calm(se *series, dir int8, part float32) bool {
	sc := j.scale(se)
	return se.Calm(dir, part*j.h, &sc)
}

// lasts is for how many seconds a series' strongest evidence for a direction has stood.
func (j *judge) lasts(se *series, dir int8) int64 {
	_, age := se.Best(dir, j.number())
	return int64(age) * j.step
}

// creeps reports whether a series may be rising slowly: it would soon take that for noise of
// its own, and never tell of it. What stands for long without becoming an incident is noise.
func (j *judge) creeps(se *series) bool {
	return !j.calm(se, baseline.Up, risePart) && j.lasts(se, baseline.Up) < baseline.MaxHold
}

// relearn makes the series' baselines and all expectations anew. Evidence that
// young series gathered against a first guess is void once they know better.
func (j *judge) relearn() {
	before := make([]float32, len(j.series))
	for i := range j.series {
		before[i] = j.series[i].n
		se := &j.series[i]
		se.k, se.n, se.u, se.m = 0, 0, 0, 0
		j.markSeries(int32(i))
	}
	j.in, j.new = 0, 0
	for i := range j.cells {
		c := &j.cells[i]
		j.in += c.in
		j.new += c.new
		for _, s := range c.parents {
			if s >= 0 {
				se := &j.series[s]
				se.k += c.K
				se.n += c.N
				se.u += c.U
				se.m += c.M
			}
		}
	}
	j.leaveWalls()
	for i := range j.series {
		if se := &j.series[i]; se.n > 2*before[i]+baseline.Trust {
			se.Reset()
			se.Drop()
			j.chill(se)
		}
	}
	for i := range j.cells {
		j.expect(int32(i))
		// The windows must not hold excess over what is not expected any more.
		c := &j.cells[i]
		p := j.normal(c).Share()
		c.m5, c.m40 = c.n5*p, c.n40*p
		j.markCell(int32(i))
	}
}

// turn ends a learning period: lagged counts are learned, probations that are
// over end, and all expectations are made anew. It is the only work that grows
// with the number of cells rather than with the traffic.
func (j *judge) turn() {
	now := j.end()
	discount := baseline.Discount(now - j.flushed)
	j.flushed = now
	epochs := map[int32]*baseline.Epoch{}
	grown := now >= j.born+grownAfter
	for i := range j.cells {
		c := &j.cells[i]
		known := j.remembers(c, now, knowAfter)
		// Who is a stranger changes faster than rates do.
		c.in *= discount * discount
		c.new *= discount * discount
		switch {
		case c.mask != 0:
			c.Forget()
		case c.Ends(now) && j.suspect(c) && c.Extend(now+baseline.Lag):
			c.Turn(discount, known)
		case grown && !c.Held() && j.rising(c):
			c.Wait()
		case c.Ends(now):
			g := c.group()
			if epochs[g] == nil {
				epochs[g] = new(baseline.Epoch)
			}
			epochs[g].Add(&c.Cell)
		default:
			c.Turn(discount, known)
		}
	}
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == 0 && c.Ends(now) {
			c.Begin(epochs[c.group()].Keep(), j.remembers(c, now, knowAfter))
			for _, s := range c.parents {
				if s >= 0 {
					j.series[s].Reset()
					j.chill(&j.series[s])
				}
			}
		}
	}
	j.turnRules(discount)
	j.relearn()
	old := now >= j.born+settle
	for i := range j.series {
		se := &j.series[i]
		if !old || !j.calm(se, baseline.Up, stirPart) || !j.calm(se, baseline.Down, stirPart) {
			se.Drop()
			continue
		}
		se.Dispersion.Learn(&j.levels[se.level], &j.clump, !grown || !j.creeps(se))
	}
	for l := range j.levels {
		j.levels[l].Age()
	}
	j.buckets.sweep(uint32(now))
}
