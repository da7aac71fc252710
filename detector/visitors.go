package detector

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/seen"
)

// How long it is remembered who was let in, and when that is believed.
const (
	// visitHalf is the half-life of the memory: one to two weeks.
	visitHalf = 7 * 24 * time.Hour
	// sessionHalf is the same for who is here right now. Somebody who stays for several
	// slots comes once, and who came to a route for the first time did not use to get in
	// there until then: whoever looks around gets in somewhere.
	sessionHalf = 30 * time.Minute
	// prowlHalf is the same for strangers who were mostly refused, or in a suspected scan:
	// they stay strangers for a day or two.
	prowlHalf = 24 * time.Hour
	// visitBytes bounds one of the two generations of one service and vantage,
	// sessionBytes that of who is here and prowlBytes of who prowls, visitBytesAll all
	// of them together.
	visitBytes    = 4 << 20
	sessionBytes  = 256 << 10
	prowlBytes    = 256 << 10
	visitBytesAll = 256 << 20
	// knowAfter is the age in seconds from which on it is learned how often people
	// who used to get in are refused, judgeAfter from which on that is evidence and
	// strangers are told apart without reserve.
	knowAfter  int64 = 12 * 3600
	judgeAfter int64 = 24 * 3600
	// fewVisitors is how many must be remembered before anybody is a stranger.
	fewVisitors = 20
	// askAtMost bounds how many of a leaf's visitors are looked up in a slot.
	askAtMost = 64
	// knownPrice is by how much more, in nats, the evidence of people who used to
	// get in must show: it is as many more series.
	knownPrice = 2
	// growth is by how many steps of a Rate the refusals of people who used to get in
	// may exceed what was learned: as memory grows, more of the same people are known.
	// It is a factor of two.
	growth = 44
	// rarely is the rate of refusals of people who used to get in, mostly the rate of
	// all refusals, from which on nobody really used to: such a cell is not judged by
	// them.
	rarely = 0.1
	mostly = 0.5
	// strangerPrior is how many visitors' worth the share of strangers on a route is
	// trusted to be the service's, and that in a scope there to be the route's.
	strangerPrior = 5
	// crowdEvidence is by how many nats there must be more strangers than usual to be a
	// crowd, which is some four in a hundred by chance.
	crowdEvidence = 1.5
)

// visitors is who was let in lately at one service, as one vantage sees it. A nil
// visitors knows nobody.
type visitors struct {
	// filter holds identities that get in, and identities on a route that were let in
	// there; here those on a route that were so within the hour, and for the first time.
	filter, here *seen.Filter
	// prowlers holds strangers who were mostly refused, and those of suspected scans.
	prowlers *seen.Filter
	// sessions tells who of the others gets in.
	sessions sessions
}

// memories are the filters of a visitors, with the names of their blocks and their
// bounds.
func (v *visitors) memories() [3]memory {
	return [3]memory{
		{"visitors", &v.filter, visitBytes, visitHalf},
		{"here", &v.here, sessionBytes, sessionHalf},
		{"prowlers", &v.prowlers, prowlBytes, prowlHalf},
	}
}

type memory struct {
	name   string
	filter **seen.Filter
	bytes  int
	half   time.Duration
}

// visits is who was let in lately, by service and vantage in order of creation.
type visits []*visitors

// add makes and numbers the memory of one service and vantage.
func (vs *visits) add() *visitors {
	v := new(visitors)
	for _, m := range v.memories() {
		*m.filter = seen.New(vs.options(&m))
	}
	*vs = append(*vs, v)
	return v
}

func (vs *visits) options(m *memory) seen.Options {
	return seen.Options{Bytes: m.bytes, Half: m.half, Grant: func(n int) bool { return n+vs.bytes() <= visitBytesAll }}
}

// bytes is the memory of all.
func (vs *visits) bytes() (n int) {
	for _, v := range *vs {
		for _, m := range v.memories() {
			n += (*m.filter).Bytes()
		}
	}
	return n
}

// save and load keep number i of them.
func (vs *visits) save(i int, all bool, put func(key string, value []byte) error) error {
	for _, m := range (*vs)[i].memories() {
		if err := (*m.filter).Save(all, func(key string, value []byte) error { return put(fmt.Sprintf("%s/%d/%s", m.name, i, key), value) }); err != nil {
			return err
		}
	}
	return nil
}

func (vs *visits) load(i int, get func(key string) []byte) error {
	for _, m := range (*vs)[i].memories() {
		f, err := seen.Load(vs.options(&m), func(key string) []byte { return get(fmt.Sprintf("%s/%d/%s", m.name, i, key)) })
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		*m.filter = f
	}
	return nil
}

// routeHash stands for a route in the memory of visitors.
func routeHash(route string) uint64 { return xxhash.Sum64String(route) }

// novice is a key's second half for who is new on a route.
const novice = 1

// anywhere is the key of an identity that gets in.
func anywhere(id uint64) uint64 { return seen.Pair(id, 0) }

// knows reports whether an identity gets in, and was let in on the route, not for the
// first time just now.
func (v *visitors) knows(id, route uint64) bool {
	k := seen.Pair(id, route)
	return v.met(id) && v.filter.Has(k) && !v.here.Has(seen.Pair(k, novice))
}

// met reports whether an identity gets in: was let in more often than refused, in a
// session that is over.
func (v *visitors) met(id uint64) bool { return v != nil && v.filter.Has(anywhere(id)) }

// prowls reports whether an identity is a stranger who was mostly refused, or in a
// suspected scan.
func (v *visitors) prowls(id uint64) bool { return v != nil && v.prowlers.Has(id) }

// ask counts the visitors of a leaf who just came to its route, up to some, and
// those of them never met before.
func (v *visitors) ask(entered []uint64, route uint64) (in, strangers float32) {
	if v == nil {
		return 0, 0
	}
	for _, id := range entered[:min(len(entered), askAtMost)] {
		if v.here.Has(seen.Pair(id, route)) || v.prowls(id) {
			continue
		}
		in++
		if !v.met(id) {
			strangers++
		}
	}
	return in, strangers
}

// turn lets time pass.
func (v *visitors) turn(now int64) {
	v.sessions.turn(now, v.part)
	for _, m := range v.memories() {
		(*m.filter).Turn(now)
	}
}

// enter remembers who got in during a slot, with room for so many sessions.
func (v *visitors) enter(c *slots.Closed, leaves []slots.Leaf, room int) {
	v.attend(c, leaves, room)
	for i := range leaves {
		if len(leaves[i].Entered) == 0 {
			continue
		}
		route := routeHash(leaves[i].Key.Route)
		for _, id := range leaves[i].Entered {
			// Not again while he is here, so that who never leaves counts every hour.
			k := seen.Pair(id, route)
			if v.here.Has(k) || v.prowls(id) {
				continue
			}
			v.here.Add(k, c.Start)
			if !v.filter.Has(k) {
				v.here.Add(seen.Pair(k, novice), c.Start)
			}
			v.filter.Add(k, c.Start)
		}
	}
}

// age is for how many seconds visitors were remembered, -1 if there were none.
func (v *visitors) age(now int64) int64 {
	if v == nil || v.filter.Since() < 0 {
		return -1
	}
	return now - v.filter.Since()
}

// strangers is the share of people never met before that is usual among those who are
// let in where people of a scope are refused, by how often on which route: somebody
// who reads the public pages is no sign of who comes to the others. It is 1 while
// nobody can tell.
func (j *judge) strangers(s scope, refused map[int32]float64) float64 {
	age := j.visitors.age(j.start)
	if age < 0 || j.visitors.filter.Keys() < fewVisitors {
		return 1
	}
	shrink := func(in, new, above float64) float64 { return (new + strangerPrior*above) / (in + strangerPrior) }
	usual := 1.0
	if j.in > 0 {
		usual = float64(j.new / j.in)
	}
	var sum, weights float64
	for _, route := range slices.Sorted(maps.Keys(refused)) {
		var in, new, inside, newInside float64
		for i := j.routes[route].cells; i >= 0; i = j.cells[i].next {
			c := &j.cells[i]
			in += float64(c.in)
			new += float64(c.new)
			if s.has(&j.book, c) {
				inside += float64(c.in)
				newInside += float64(c.new)
			}
		}
		sum += refused[route] * shrink(inside, newInside, shrink(in, new, usual))
		weights += refused[route]
	}
	return min(1, sum/max(weights, 1e-9)+max(0, 1-float64(age)/float64(judgeAfter)))
}

// vouched reports whether an identity is no stranger although it was never met: whom an
// application names has an account, unless he only claims it.
func (j *judge) vouched(named bool) bool { return named && j.class != event.Unauthorized }

// hot is a series in which people who used to get in are refused, with the
// evidence that they are more than usual.
type hot struct {
	baseline.Evidence
	series int32
	sum    baseline.Sum // of the current slot
}

// usual is the rate of refusals of people who used to get in up to which the cell is
// as it always was, at this hour.
func (j *judge) usual(c *cell) baseline.Rate { return c.Q.Shift(j.seasons[c.season].Steps + growth) }

// telling reports whether refusals of people who used to get in say something of
// the cell. Where nearly everybody is refused now and then, more and more people
// have a first success behind them, and so they have on a route that is new.
func (j *judge) telling(c *cell) bool {
	return j.usual(c).Share() < rarely && j.normal(c).Share() < mostly && j.remembers(c, j.start, judgeAfter)
}

// remembers reports whether at now visitors of the cell's route were remembered for so
// many seconds.
func (j *judge) remembers(c *cell, now, age int64) bool {
	return j.visitors.age(now) >= age && now-j.routes[c.route].first >= age
}

// heat makes the series hot in which somebody who used to get in was refused in
// this slot.
func (j *judge) heat() {
	for i := range j.hot {
		j.hot[i].sum = baseline.Sum{}
	}
	for i := range j.slot {
		t := &j.slot[i]
		c := &j.cells[t.cell]
		if t.yc == 0 || c.mask != 0 || !j.telling(c) {
			continue
		}
		apart := j.apart(c)
		for l, s := range c.parents {
			if s >= 0 && apart>>l&1 == 0 && j.series[s].hot == 0 {
				j.hot = append(j.hot, hot{series: s})
				j.series[s].hot = int32(len(j.hot))
			}
		}
	}
}

// cool weighs the slot in the hot series and returns those in which more people
// who used to get in are refused than can be chance. Series without evidence are
// not hot any more.
func (j *judge) cool() (fired []int32) {
	for i := range j.hot {
		h := &j.hot[i]
		se := &j.series[h.series]
		sc := j.scale(se)
		sc.N = se.m
		if h.AddSurge(&h.sum, j.number(), j.h+knownPrice, &sc) {
			fired = append(fired, h.series)
		}
	}
	j.hot = slices.DeleteFunc(j.hot, func(h hot) bool {
		if h.Zero() {
			j.series[h.series].hot = 0
			return true
		}
		return false
	})
	for i := range j.hot {
		j.series[j.hot[i].series].hot = int32(i) + 1
	}
	return fired
}

// chill forgets the evidence of people who used to get in.
func (j *judge) chill(se *series) {
	if se.hot != 0 {
		j.hot[se.hot-1].Reset()
	}
}

// evidence is what a series knows of a change, of people who used to get in if
// known.
func (j *judge) evidence(s int32, known bool) *baseline.Evidence {
	se := &j.series[s]
	switch {
	case !known:
		return &se.Evidence
	case se.hot != 0:
		return &j.hot[se.hot-1].Evidence
	}
	return &baseline.Evidence{}
}
