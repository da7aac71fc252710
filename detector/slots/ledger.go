package slots

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route/slug"
	"github.com/denywatch/denywatch/internal/tally"
)

// The rules of event time.
const (
	// HoldUnknown is how long a stream whose source cannot say whether there is
	// more keeps its vantage waiting, by the wall clock. After it slots close
	// partial.
	HoldUnknown = 10 * time.Minute
	// HoldVantage is how long vantages wait for each other so that they close
	// in event-time order, by the wall clock; a vantage further behind is left
	// behind, so that slow edge logs do not delay what the application tells.
	HoldVantage = 2 * time.Minute
	// Ahead is how many slots beyond the watermark and the lateness a stream
	// may read.
	Ahead = 16
	// maxGap is the longest stretch of slots without data that is handed over
	// slot by slot.
	maxGap = 7 * 24 * time.Hour
	// maxTotals and maxKeys bound what is kept by name.
	maxTotals = 20_000
	maxKeys   = 200_000
	// maxHits bounds the refused identities kept of one slot.
	maxHits = 1 << 20
	// maxSplits bounds the distinct denial splits of a leaf in a slot.
	maxSplits = 64
	// maxReasons and maxOpen bound the reasons and the denials that wait for one.
	maxReasons, maxOpen = 1 << 17, 1 << 17
	// maxEntered bounds the identities kept that were let in.
	maxEntered = 1 << 13
)

const never = math.MinInt64

// Config fixes how slots are cut.
type Config struct {
	// Step is the slot's length; a divisor of an hour, at least a second.
	Step time.Duration
	// Lateness says per vantage how long after its slot a line may come: the
	// largest of its sources' values.
	Lateness [event.Vantages]time.Duration
	// Routes are the configured patterns, which learning leaves alone.
	Routes []string
	// MaxBlind is per source the share of its recent lines of which no request can
	// be judged above which judging of the source is suspended. Sources that are
	// not in it are never suspended.
	MaxBlind map[string]float64
}

// Source is the running count of one configured source.
type Source struct {
	Name string
	tally.Stats
	// Late counts events whose slot was closed already: counted in Totals,
	// neither judged nor learned.
	Late uint64
	// Reasons counts lines that were skipped or not understood, by a short word
	// each.
	Reasons map[string]uint64
	// Suspended is the start (seconds) of the slot since which the source is not
	// judged, 0 while it is. Recent are the lines on which that was decided last,
	// Blind those of them of which no request can be judged.
	Suspended     int64
	Recent, Blind uint64
	// Unjudged counts the slots in which judging was suspended.
	Unjudged uint64

	vantage  event.Vantage
	services map[string]bool // those it brought events of
	window   tally.Health    // lines since Recent
	early    tally.Health    // lines that belong to the next slot that closes
}

const (
	// minRecent is how many lines it takes at least to suspend a source, or to
	// judge it again.
	minRecent = 50
	// maxWords bounds the reasons that are told apart of a source, maxServices its
	// services.
	maxWords, maxServices = 64, 1024
)

// Total counts one route's events by status column since the state began, late
// ones included. Route is as the collector names it, before anything is learned.
type Total struct {
	Vantage        event.Vantage
	Service, Route string
	Status         [tally.Statuses]uint64
	// Valid counts the refusals that the declared access model asks for.
	Valid uint64
}

type totalKey struct {
	vantage        event.Vantage
	service, route string
}

// leafKey is a leaf's key in a source, shared by the streams that see the leaf.
// Sources are kept apart until their slot closes, because one of them may not be
// judged.
type leafKey struct {
	tally.Key
	dims
	index *index // that it is in, or was in until there were too many keys
	n     uint32 // among those of its service in the index, in order of creation, from 1
	total *total
	// learned is what is learned of its route, as the key with that route.
	learned *routeKey
	as      *leafKey
	// counts are those of the open slots that have the leaf; rarely more than two.
	counts []slotCounts
}

// slotCounts are a leaf's counts in an open slot.
type slotCounts struct {
	slot *openSlot
	acc  *leafAcc
}

// total is a Total with its place in the durable state.
type total struct {
	Total
	n int // number in order of creation
}

type stream struct {
	vantage event.Vantage
	leaves  []*leafKey
	state   tally.StreamState
	newest  int64 // ns
	clock   int64 // ns, for CaughtUp
	since   int64 // wall clock (ns) at which it became Unknown
	// floor is what it last contributed before it became Unknown.
	floor int64
}

type leafAcc struct {
	Leaf    // but for its key
	key     *leafKey
	hits    int // how many hits were added, merged or not
	entered int // how many identities Entered will hold
	// Most leaves that refuse do it once a slot.
	oneHit   [1]Hit
	oneSplit [1]Split
}

// slab allocates many values of a kind at once. They are freed together.
type slab[T any] struct{ free []T }

func (s *slab[T]) take() *T {
	if len(s.free) == 0 {
		s.free = make([]T, 64)
	}
	x := &s.free[0]
	s.free = s.free[1:]
	return x
}

// unexplained is denials that wait for a reason.
type unexplained struct {
	key *leafKey
	tally.Unexplained
}

// entered is an identity that was let in on a leaf.
type entered struct {
	key      *leafKey
	identity uint64
}

// reason is who refused and why.
type reason struct {
	layer event.Layer
	cause string
	rule  string
}

// reasons are what is known about requests, by their keys.
type reasons map[uint64]reason

// add notes a reason; of several for one request the first in order counts, so
// that it does not matter which came first.
func (rs reasons) add(key uint64, r reason) {
	if key == 0 || len(rs) >= maxReasons {
		return
	}
	if old, ok := rs[key]; !ok || cmp.Or(-cmp.Compare(r.layer, old.layer), cmp.Compare(r.cause, old.cause), cmp.Compare(r.rule, old.rule)) < 0 {
		rs[key] = r
	}
}

type openSlot struct {
	leaves  []*leafAcc
	entered []entered
	// enteredAt is the sampling of entered.
	enteredAt uint8
	open      []unexplained
	reasons   reasons
	hits      int
	sampled   uint8
	health    map[string]tally.Health // by source
}

// Ledger keeps open slots. It has one writer: all methods are for one goroutine.
type Ledger struct {
	step     int64 // seconds
	lateness [event.Vantages]int64
	maxBlind map[string]float64
	streams  map[string]*stream
	index    [event.Vantages]*index
	// numbering counts the indexes.
	numbering [event.Vantages]uint32
	open      [event.Vantages]map[int64]*openSlot
	closed    [event.Vantages]int64 // start of the newest closed slot; never
	behind    [event.Vantages]int64 // wall clock at which it fell behind the others; 0
	mark      [event.Vantages]int64 // watermark (ns), only grows
	totals    map[totalKey]*total
	byNumber  []*total
	sources   map[string]*Source
	out       Closed
	// slugs learns which parts of routes are names of things.
	slugs *slug.Learner
	seen  []*routeKey // of the slot being closed
	found []found     // its leaves under their learned keys
	// handed are the counts that out shares, spare those that may be used again.
	handed, spare []*leafAcc
	spareLeaves   []*leafAcc
	// There are many leaves and they come in crowds.
	newKeys      slab[leafKey]
	newAccs      slab[leafAcc]
	newCounts    slab[[2]slotCounts]
	spareOpen    []unexplained
	spareEntered []entered
	entered      []uint64 // what Closed.Leaves[].Entered share
	places       []int32  // of distinct: 1 + the place in its list, by hash
	// before holds the reasons of each vantage's last closed slot.
	before [event.Vantages]reasons
	// What changed since Save: blocks of totals, sources, slots by vantage.
	dirtyTotals  map[int]bool
	dirtySources bool
	dirtySlots   [event.Vantages]map[int64]bool
}

// New returns an empty ledger.
func New(c Config) *Ledger {
	l := &Ledger{
		step:    int64(c.Step / time.Second),
		streams: map[string]*stream{},
		totals:  map[totalKey]*total{},
		sources: map[string]*Source{},

		dirtyTotals: map[int]bool{},
		slugs:       slug.New(c.Routes),
	}
	for v := range l.open {
		l.open[v] = map[int64]*openSlot{}
		l.index[v] = newIndex()
		l.dirtySlots[v] = map[int64]bool{}
		l.closed[v], l.mark[v] = never, never
	}
	l.Configure(c)
	return l
}

// Configure changes everything but the step, which of a ledger never changes. A
// source that is not in c.MaxBlind any more is not suspended any more.
func (l *Ledger) Configure(c Config) {
	l.slugs.Keep(c.Routes)
	l.maxBlind = c.MaxBlind
	for name, s := range l.sources {
		if _, has := c.MaxBlind[name]; !has && s.Suspended != 0 {
			s.Suspended = 0
			l.dirtySources = true
		}
	}
	for v := range l.lateness {
		l.lateness[v] = int64(c.Lateness[v])
	}
}

// Step is the slot's length in seconds.
func (l *Ledger) Step() int64 { return l.step }

// Open adds a stream; until its first block it holds its vantage.
func (l *Ledger) Open(name string, v event.Vantage) {
	l.streams[name] = &stream{vantage: v, newest: event.NoTime, floor: never}
}

// source returns the running count of a configured source.
func (l *Ledger) source(name string) *Source {
	s := l.sources[name]
	if s == nil {
		s = &Source{Name: name, Reasons: map[string]uint64{}, services: map[string]bool{}}
		l.sources[name] = s
	}
	return s
}

func (l *Ledger) total(v event.Vantage, service, route string) *total {
	k := totalKey{v, service, route}
	t := l.totals[k]
	if t == nil {
		if len(l.totals) >= maxTotals && route != tally.Other {
			return l.total(v, service, tally.Other)
		}
		t = l.newTotal(k)
	}
	return t
}

func (l *Ledger) newTotal(k totalKey) *total {
	t := &total{Total: Total{Vantage: k.vantage, Service: k.service, Route: k.route}, n: len(l.byNumber)}
	l.byNumber = append(l.byNumber, t)
	l.totals[k] = t
	return t
}

func (l *Ledger) key(v event.Vantage, src *Source, k tally.Key) *leafKey {
	x := l.index[v]
	d := x.dims(src, &k)
	lk := x.keys[d]
	if lk == nil {
		if len(x.keys) >= maxKeys {
			// Streams hold pointers; forgetting the index only means that a leaf
			// may be there twice, and equal leaves are merged when a slot closes.
			x = newIndex()
			l.index[v] = x
			l.numbering[v]++
			d = x.dims(src, &k)
		}
		rk := x.learned[d.route]
		if rk == nil {
			rk = &routeKey{ref: slug.Ref{Service: k.Service, Route: k.Route}}
			x.learned[d.route] = rk
		}
		x.last[k.Service]++
		lk = l.newKeys.take()
		*lk = leafKey{
			Key: k, dims: d, index: x, n: x.last[k.Service], total: l.total(v, k.Service, k.Route), learned: rk,
			counts: l.newCounts.take()[:0],
		}
		x.keys[d] = lk
		if len(src.services) < maxServices {
			src.services[k.Service] = true
		}
	}
	return lk
}

// Apply adds what b holds. now is the wall clock in nanoseconds, NoTime in
// replay. b may be released afterwards.
func (l *Ledger) Apply(b *tally.Block, now int64) {
	l.reclaim()
	st := l.streams[b.Stream]
	if st == nil {
		l.Open(b.Stream, b.Vantage)
		st = l.streams[b.Stream]
	}
	if b.Reset {
		st.leaves = st.leaves[:0]
	}
	src := l.source(b.Source)
	src.vantage = st.vantage
	for _, k := range b.Keys {
		st.leaves = append(st.leaves, l.key(st.vantage, src, k))
	}
	src.Add(&b.Stats)
	for _, u := range b.Uncounted {
		if _, known := src.Reasons[u.Reason]; known || len(src.Reasons) < maxWords {
			src.Reasons[u.Reason] += u.N
		}
	}
	for _, h := range b.Health {
		if h.Slot == event.NoTime || h.Slot <= l.closed[st.vantage] {
			src.early.Add(h)
			continue
		}
		slot := l.slot(st.vantage, h.Slot)
		if slot.health == nil {
			slot.health = map[string]tally.Health{}
		}
		sum := slot.health[src.Name]
		sum.Add(h)
		slot.health[src.Name] = sum
	}
	l.dirtySources = l.dirtySources || b.Stats != tally.Stats{} || len(b.Slots) > 0
	for i := range b.Slots {
		l.applySlot(st, src, &b.Slots[i])
	}
	if b.Newest != event.NoTime && b.Newest > st.newest {
		st.newest = b.Newest
	}
	if b.State == tally.Unknown && st.state != tally.Unknown {
		st.floor, st.since = st.contribution(), now
	}
	st.state, st.clock = b.State, b.Clock
	if b.State == tally.Ended {
		delete(l.streams, b.Stream)
	}
}

// slot returns the open slot that starts at start, to be changed.
func (l *Ledger) slot(v event.Vantage, start int64) *openSlot {
	slot := l.open[v][start]
	if slot == nil {
		slot = &openSlot{leaves: l.spareLeaves[:0], open: l.spareOpen[:0], entered: l.spareEntered[:0]}
		l.spareLeaves, l.spareOpen, l.spareEntered = nil, nil, nil
		l.open[v][start] = slot
	}
	l.dirtySlots[v][start] = true
	return slot
}

func (l *Ledger) applySlot(st *stream, src *Source, d *tally.SlotDelta) {
	late := d.Slot <= l.closed[st.vantage]
	var slot *openSlot
	if !late {
		slot = l.slot(st.vantage, d.Slot)
		slot.sampled = max(slot.sampled, d.Sampled)
	}
	for i := range d.Leaves {
		c := &d.Leaves[i]
		lk := st.leaves[c.Leaf]
		for s, n := range c.Status {
			lk.total.Status[s] += uint64(n)
		}
		lk.total.Valid += uint64(c.Denied[event.Valid])
		l.dirtyTotals[lk.total.n/totalsBlock] = true
		if late {
			src.Late += uint64(c.Requests())
			continue
		}
		a := l.acc(slot, lk)
		for s, n := range c.Status {
			a.Status[s] += n
		}
		for s, n := range c.Denied {
			a.Denied[s] += n
		}
		a.Leaked += c.Leaked
	}
	if late {
		return
	}
	for i := range d.Unseen {
		l.acc(slot, st.leaves[d.Unseen[i].Leaf]).miss(&d.Unseen[i].Unseen)
	}
	for i := range d.Splits {
		l.acc(slot, st.leaves[d.Splits[i].Leaf]).split(d.Splits[i])
	}
	for i := range d.Unexplained {
		u := unexplained{st.leaves[d.Unexplained[i].Leaf], d.Unexplained[i]}
		if len(slot.open) >= maxOpen {
			l.acc(slot, u.key).split(u.as(reason{u.Layer, u.Cause, u.Rule}))
			continue
		}
		slot.open = append(slot.open, u)
	}
	slot.enteredAt = max(slot.enteredAt, d.EnteredSampled)
	for _, e := range d.Entered {
		if tally.KeptIn(e.Identity, d.Slot, slot.enteredAt) {
			slot.entered = append(slot.entered, entered{st.leaves[e.Leaf], e.Identity})
		}
	}
	if len(slot.entered) > maxEntered {
		// Streams share people, and after a restart tell of them again: the sample must
		// not depend on it.
		slot.entered = l.distinct(slot.entered)
	}
	for len(slot.entered) > maxEntered && slot.enteredAt < 16 {
		slot.enteredAt++
		slot.entered = slices.DeleteFunc(slot.entered, func(e entered) bool { return !tally.KeptIn(e.identity, d.Slot, slot.enteredAt) })
	}
	for _, r := range d.Reasons {
		if slot.reasons == nil {
			slot.reasons = reasons{}
		}
		for _, k := range r.Keys {
			slot.reasons.add(k, reason{r.Layer, r.Cause, r.Rule})
		}
	}
	for i := range d.Flags {
		f := &d.Flags[i]
		a := l.acc(slot, st.leaves[f.Leaf])
		j := slices.IndexFunc(a.Flags, func(x Flag) bool { return x.Name == f.Flag })
		if j < 0 {
			a.Flags = append(a.Flags, Flag{Name: f.Flag})
			j = len(a.Flags) - 1
		}
		a.Flags[j].Requests += f.Requests
		a.Flags[j].Denied += f.Denied
	}
	for i := range d.Hits {
		h := &d.Hits[i]
		if !kept(h.Identity, slot.sampled) {
			continue
		}
		a := l.acc(slot, st.leaves[h.Leaf])
		a.Hits = append(a.Hits, Hit{Class: h.Class, Named: h.Named, Presumed: h.Presumed, Rule: h.Rule, Identity: h.Identity, Account: h.Account, Requests: h.Requests, Denials: h.Denials})
		slot.hits++
		if n := len(a.Hits); n >= 64 && n >= 2*a.hits {
			// Streams report an identity again and again as the slot fills.
			a.mergeHits()
			slot.hits -= n - len(a.Hits)
			a.hits = len(a.Hits)
		}
	}
	if slot.hits > maxHits+maxHits/4 {
		slot.sample(maxHits)
	}
}

// sample keeps no more than so many hits, of one identity in 2^sampled. Many may be of
// the same people: how finely they are sampled must not depend on how often they were told
// of, nor on cuts, which add them up.
func (s *openSlot) sample(most int) {
	if s.hits <= most {
		return
	}
	for _, a := range s.leaves {
		a.mergeHits()
	}
	for {
		s.hits = 0
		for _, a := range s.leaves {
			a.Hits = slices.DeleteFunc(a.Hits, func(h Hit) bool { return !kept(h.Identity, s.sampled) })
			a.hits = len(a.Hits)
			s.hits += a.hits
		}
		if s.hits <= most {
			return
		}
		s.sampled++
	}
}

// distinct drops repeats from list.
func (l *Ledger) distinct(list []entered) []entered {
	size := 1 << bits.Len(uint(2*len(list))) // at most half of it is filled
	l.places = slices.Grow(l.places[:0], size)[:size]
	clear(l.places)
	n := 0
	for _, e := range list {
		hi, lo := bits.Mul64(e.identity^uint64(e.key.n), 0xd6e8feb86659fd93)
		i := int(hi^lo) & (size - 1)
		for l.places[i] != 0 && list[l.places[i]-1] != e {
			i = (i + 1) & (size - 1)
		}
		if l.places[i] == 0 {
			list[n] = e
			n++
			l.places[i] = int32(n)
		}
	}
	clear(list[n:])
	return list[:n]
}

// kept reports whether an identity is among the 1 in 2^n that are kept.
func kept(identity uint64, n uint8) bool { return tally.Kept(identity, n) }

// maxSpare bounds the counts kept for use again.
const maxSpare = 1 << 16

// acc returns a leaf's counts in an open slot, new ones if it has none there yet.
func (l *Ledger) acc(s *openSlot, k *leafKey) *leafAcc {
	for i := range k.counts {
		if k.counts[i].slot == s {
			return k.counts[i].acc
		}
	}
	var a *leafAcc
	if n := len(l.spare); n > 0 {
		a = l.spare[n-1]
		l.spare = l.spare[:n-1]
	} else {
		a = l.newAccs.take()
		a.Hits, a.Splits = a.oneHit[:0], a.oneSplit[:0]
	}
	a.key = k
	s.leaves = append(s.leaves, a)
	k.counts = append(k.counts, slotCounts{s, a})
	return a
}

// leave forgets that k has counts in s.
func (k *leafKey) leave(s *openSlot) {
	k.counts = slices.DeleteFunc(k.counts, func(c slotCounts) bool { return c.slot == s })
}

// reclaim takes back what the last closed slot was handed over in.
func (l *Ledger) reclaim() {
	for _, a := range l.handed {
		if len(l.spare) >= maxSpare {
			break
		}
		*a = leafAcc{Leaf: Leaf{Splits: a.Splits[:0], Hits: a.Hits[:0], Flags: a.Flags[:0]}}
		l.spare = append(l.spare, a)
	}
	clear(l.handed)
	l.handed = l.handed[:0]
}

func (a *leafAcc) split(d tally.Split) {
	s := Split{Class: d.Class, Layer: d.Layer, Cause: d.Cause, Rule: d.Rule, N: d.N}
	if a.add(s) {
		return
	}
	if len(a.Splits) >= maxSplits {
		// First rules become one, then causes.
		if s.Rule = tally.Other; a.add(s) {
			return
		}
		if s.Cause, s.Rule = tally.Other, ""; a.add(s) {
			return
		}
	}
	a.Splits = append(a.Splits, s)
}

// add adds to the split that s belongs to, if there is one.
func (a *leafAcc) add(s Split) bool {
	for i := range a.Splits {
		x := &a.Splits[i]
		if x.Class == s.Class && x.Layer == s.Layer && x.Cause == s.Cause && x.Rule == s.Rule {
			x.N += s.N
			return true
		}
	}
	return false
}

// mergeHits sorts the hits by identity and class and adds up equal ones.
func (a *leafAcc) mergeHits() {
	slices.SortFunc(a.Hits, func(x, y Hit) int {
		return cmp.Or(cmp.Compare(x.Identity, y.Identity), cmp.Compare(x.Class, y.Class))
	})
	n := 0
	for i := range a.Hits {
		h := &a.Hits[i]
		if n > 0 && a.Hits[n-1].Identity == h.Identity && a.Hits[n-1].Class == h.Class {
			p := &a.Hits[n-1]
			p.Requests += h.Requests
			p.Denials += h.Denials
			p.Named = p.Named || h.Named
			p.Rule, p.Presumed = tally.Breaks(p.Rule, p.Presumed, h.Rule, h.Presumed)
			p.Account = max(p.Account, h.Account)
			continue
		}
		a.Hits[n] = *h
		n++
	}
	a.Hits = a.Hits[:n]
}

// contribution is up to when a stream vouches that all was delivered, but for
// lateness.
func (s *stream) contribution() int64 {
	switch s.state {
	case tally.CaughtUp:
		return s.clock
	case tally.Unknown:
		return s.floor
	}
	return s.newest
}

// watermarks computes up to when each vantage is complete, but for lateness:
// the least of what its streams vouch for, MaxInt64 where none is left.
func (l *Ledger) watermarks(now int64) (w [event.Vantages]int64, partial [event.Vantages]bool) {
	for v := range w {
		w[v] = math.MaxInt64
		if now != event.NoTime {
			w[v] = now
		}
	}
	var vouched [event.Vantages]bool
	for _, s := range l.streams {
		vouched[s.vantage] = true
		if s.state == tally.Unknown && now != event.NoTime && now-s.since >= int64(HoldUnknown) {
			partial[s.vantage] = true
			continue
		}
		w[s.vantage] = min(w[s.vantage], s.contribution())
	}
	for v := range w {
		w[v] = max(w[v], l.mark[v])
		// Where no stream vouches for anything the clock is good enough to close
		// slots, but not to call late what a stream that comes later brings.
		if vouched[v] && w[v] != math.MaxInt64 {
			l.mark[v] = w[v]
		}
	}
	return w, partial
}

// Next closes the next complete slot and returns it, or nil. now is the wall
// clock in nanoseconds, NoTime in replay.
//
// Slots close in order of their end plus their vantage's lateness, then of the
// vantage: an order that event time alone decides, however the blocks came. Only
// a vantage that was behind the others for HoldVantage by the wall clock is not
// waited for.
func (l *Ledger) Next(now int64) *Closed {
	l.reclaim()
	w, partial := l.watermarks(now)
	var next, due [event.Vantages]int64
	first := -1
	for v := range w {
		next[v], due[v] = l.next(v, w[v] == math.MaxInt64), math.MaxInt64
		if next[v] == never {
			continue
		}
		due[v] = (next[v]+l.step)*int64(time.Second) + l.lateness[v]
		if first < 0 || due[v] < due[first] {
			first = v
		}
	}
	if first < 0 {
		return nil
	}
	for v := range w {
		switch {
		case w[v] >= due[first]:
			l.behind[v] = 0
		case now == event.NoTime:
			return nil
		case l.behind[v] == 0:
			l.behind[v] = now
		}
	}
	// The first by due time whose vantage is complete, unless an earlier one may
	// still be waited for.
	best := -1
	for v := range w {
		if due[v] == math.MaxInt64 || w[v] < due[v] && l.excused(v, now) {
			continue
		}
		if best < 0 || due[v] < due[best] {
			best = v
		}
	}
	if best < 0 {
		return nil
	}
	for v := range w {
		if w[v] < due[best] && !l.excused(v, now) {
			return nil
		}
	}
	return l.close(best, next[best], partial[best])
}

// excused reports whether vantage v has been behind for so long that the others
// do not wait for it.
func (l *Ledger) excused(v int, now int64) bool {
	return now != event.NoTime && l.behind[v] != 0 && now-l.behind[v] >= int64(HoldVantage)
}

// next is the start of the vantage's next slot to close, never if there is none.
// ended tells that no stream is left: then there is nothing after the last slot
// with data.
func (l *Ledger) next(v int, ended bool) int64 {
	first := int64(math.MaxInt64)
	for s := range l.open[v] {
		first = min(first, s)
	}
	if l.closed[v] == never {
		if first == math.MaxInt64 {
			return never
		}
		return first
	}
	n := l.closed[v] + l.step
	if first != math.MaxInt64 && first-n > int64(maxGap/time.Second) {
		return first
	}
	if first == math.MaxInt64 && ended {
		return never
	}
	return n
}

func (l *Ledger) close(v int, start int64, partial bool) *Closed {
	slot := l.open[v][start]
	delete(l.open[v], start)
	l.dirtySlots[v][start] = true
	l.closed[v] = start
	l.out.Leaves = l.out.Leaves[:0]
	l.out = Closed{Vantage: event.Vantage(v), Start: start, Step: l.step, Partial: partial, Leaves: l.out.Leaves}
	l.suspend(slot)
	if slot == nil {
		l.before[v] = nil
		return &l.out
	}
	slot.sample(maxHits)
	l.out.Sampled, l.out.EnteredSampled = slot.sampled, slot.enteredAt
	l.explain(v, slot)
	l.enter(slot, start)
	clear(slot.entered)
	l.spareEntered, slot.entered = slot.entered, nil
	slot.leaves = slices.DeleteFunc(slot.leaves, func(a *leafAcc) bool {
		a.key.leave(slot)
		suspended := a.key.source.Suspended != 0
		if suspended {
			l.handed = append(l.handed, a)
		}
		return suspended
	})
	l.learn(event.Vantage(v), slot)
	index := l.index[v]
	index.rank()
	known := true
	for _, a := range slot.leaves {
		k := a.key.as
		known = known && k.index == index
		l.found = append(l.found, found{k.place(), k, a})
	}
	compare := func(x, y found) int { return x.place.compare(y.place) }
	if !known {
		compare = func(x, y found) int { return CompareKeys(&x.key.Key, &y.key.Key) }
	}
	slices.SortFunc(l.found, compare)
	l.out.Leaves = slices.Grow(l.out.Leaves, len(l.found))
	l.out.Numbering = l.numbering[v]
	for i, f := range l.found {
		a := f.acc
		if len(a.Hits) > 0 {
			a.Hits = slices.DeleteFunc(a.Hits, func(h Hit) bool { return !kept(h.Identity, slot.sampled) })
		}
		a.Key = f.key.Key
		if f.key.index == index {
			a.Number = f.key.n
		}
		if i > 0 && compare(f, l.found[i-1]) == 0 {
			merge(&l.out.Leaves[len(l.out.Leaves)-1], &a.Leaf)
			continue
		}
		l.out.Leaves = append(l.out.Leaves, a.Leaf)
	}
	for i := range l.out.Leaves {
		l.out.Leaves[i].sort()
	}
	l.handed = append(l.handed, slot.leaves...)
	clear(slot.leaves)
	clear(l.found)
	l.spareLeaves, slot.leaves, l.found = slot.leaves[:0], nil, l.found[:0]
	return &l.out
}

// found is a leaf of the slot being closed under its learned key.
type found struct {
	place place
	key   *leafKey
	acc   *leafAcc
}

// sort brings what a leaf holds into the order that Closed promises.
func (l *Leaf) sort() {
	if len(l.Hits) > 1 {
		a := leafAcc{Leaf: *l}
		a.mergeHits()
		l.Hits = a.Hits
	}
	if len(l.Splits) > 1 {
		slices.SortFunc(l.Splits, func(x, y Split) int {
			return cmp.Or(cmp.Compare(x.Class, y.Class), cmp.Compare(x.Layer, y.Layer), cmp.Compare(x.Cause, y.Cause), cmp.Compare(x.Rule, y.Rule))
		})
	}
	if len(l.Flags) > 1 {
		slices.SortFunc(l.Flags, func(x, y Flag) int { return cmp.Compare(x.Name, y.Name) })
	}
	if len(l.Entered) > 1 {
		slices.Sort(l.Entered)
		l.Entered = slices.Compact(l.Entered)
	}
}

// suspend decides for every source of the vantage whether the slot that closes,
// l.out, may be judged by what the source says. It depends on the source's own
// lines alone. A source that brings too few lines stays as it is.
func (l *Ledger) suspend(slot *openSlot) {
	for name, src := range l.sources {
		limit, has := l.maxBlind[name]
		if !has || src.vantage != l.out.Vantage {
			continue
		}
		h := src.early
		if slot != nil {
			h.Add(slot.health[name])
		}
		if h.Lines > 0 {
			src.early = tally.Health{}
			src.window.Add(h)
			l.dirtySources = true
		}
		if w := src.window; w.Lines >= minRecent {
			src.Recent, src.Blind, src.window = w.Lines, w.Blind, tally.Health{}
			switch bad := float64(w.Blind) > limit*float64(w.Lines); {
			case bad && src.Suspended == 0:
				src.Suspended = l.out.Start
				l.out.Turned = append(l.out.Turned, src)
			case !bad && src.Suspended != 0:
				src.Suspended = 0
				l.out.Turned = append(l.out.Turned, src)
			}
		}
		if src.Suspended == 0 {
			continue
		}
		src.Unjudged++
		l.dirtySources = true
		for service := range src.services {
			if !slices.Contains(l.out.Blind, service) {
				l.out.Blind = append(l.out.Blind, service)
			}
		}
	}
	slices.Sort(l.out.Blind)
	slices.SortFunc(l.out.Turned, func(x, y *Source) int { return strings.Compare(x.Name, y.Name) })
}

// enter hands the slot's leaves the identities that were let in, all in one piece
// of memory.
func (l *Ledger) enter(slot *openSlot, start int64) {
	slot.entered = slices.DeleteFunc(slot.entered, func(e entered) bool { return !tally.KeptIn(e.identity, start, slot.enteredAt) })
	for _, e := range slot.entered {
		l.acc(slot, e.key).entered++
	}
	l.entered = slices.Grow(l.entered[:0], len(slot.entered))
	used := 0
	for _, e := range slot.entered {
		a := l.acc(slot, e.key)
		if a.Entered == nil {
			a.Entered = l.entered[used : used : used+a.entered]
			used += a.entered
		}
		a.Entered = append(a.Entered, e.identity)
	}
}

// learn tells the learner of routes what the slot held and gives the slot's
// leaves the keys with their learned routes. Leaves whose keys become equal are
// merged by the caller.
func (l *Ledger) learn(v event.Vantage, slot *openSlot) {
	for _, a := range slot.leaves {
		rk := a.key.learned
		if !rk.seen {
			rk.seen, rk.requests, rk.ok = true, 0, 0
			l.seen = append(l.seen, rk)
		}
		// Only 400, 404, 405 and 410 say that there is nothing at a path. A refusal
		// says the opposite: what is refused from its first request on is what we
		// look for, and must not vanish among the paths that scanners try.
		n := a.Requests()
		ok := n - a.Status[tally.S404] - a.Status[tally.S4xx]
		if a.Unseen != nil { // what was seen counts
			n -= min(n, a.Unseen.Requests)
			ok = min(ok, n)
		}
		rk.requests += n
		rk.ok += ok
	}
	for _, rk := range l.seen {
		l.slugs.Observe(&rk.ref, rk.requests, rk.ok)
	}
	l.slugs.EndSlot()
	for _, rk := range l.seen {
		rk.seen, rk.template = false, l.slugs.Template(&rk.ref)
	}
	clear(l.seen)
	l.seen = l.seen[:0]
	for _, a := range slot.leaves {
		k, template := a.key, a.key.learned.template
		switch {
		case template == k.Route:
			k.as = k
		case k.as == nil || k.as.Route != template:
			as := k.Key
			as.Route = template
			k.as = l.key(v, k.source, as)
		}
	}
}

// explain joins the slot's unexplained denials to the reasons of the slot, or of
// the one before: an access line may come later than the error line it belongs
// to.
func (l *Ledger) explain(v int, slot *openSlot) {
	for _, u := range slot.open {
		r := reason{u.Layer, u.Cause, u.Rule}
	search:
		for _, k := range u.Keys {
			for _, rs := range []reasons{slot.reasons, l.before[v]} {
				if found, ok := rs[k]; ok && k != 0 {
					r = found
					break search
				}
			}
		}
		l.acc(slot, u.key).split(u.as(r))
	}
	l.before[v] = slot.reasons
	clear(slot.open)
	l.spareOpen, slot.open = slot.open, nil
}

func (u *unexplained) as(r reason) tally.Split {
	return tally.Split{Class: u.Class, Layer: r.layer, Cause: r.cause, Rule: r.rule, N: u.N}
}

// merge adds y, a leaf of the same key, to x.
func merge(x, y *Leaf) {
	for i := range x.Status {
		x.Status[i] += y.Status[i]
	}
	for i := range x.Denied {
		x.Denied[i] += y.Denied[i]
	}
	x.Leaked += y.Leaked
	if y.Unseen != nil {
		x.miss(y.Unseen)
	}
	x.Hits = append(x.Hits, y.Hits...)
	x.Entered = append(x.Entered, y.Entered...)
	a := leafAcc{Leaf: *x}
	for _, s := range y.Splits {
		a.split(tally.Split{Class: s.Class, Layer: s.Layer, Cause: s.Cause, Rule: s.Rule, N: s.N})
	}
	for _, f := range y.Flags {
		if j := slices.IndexFunc(a.Flags, func(x Flag) bool { return x.Name == f.Name }); j >= 0 {
			a.Flags[j].Requests += f.Requests
			a.Flags[j].Denied += f.Denied
		} else {
			a.Flags = append(a.Flags, f)
		}
	}
	*x = a.Leaf
}

// CompareKeys orders leaves: service, route, role, geo, plan, host.
func CompareKeys(x, y *tally.Key) int {
	return cmp.Or(
		strings.Compare(x.Service, y.Service), strings.Compare(x.Route, y.Route), strings.Compare(x.Role, y.Role),
		strings.Compare(x.Geo, y.Geo), strings.Compare(x.Plan, y.Plan), strings.Compare(x.Host, y.Host))
}

// Horizon is the event time in nanoseconds beyond which no stream may read yet:
// the least watermark plus the lateness plus Ahead slots; NoTime while a stream
// has not begun.
func (l *Ledger) Horizon(now int64) int64 {
	w, _ := l.watermarks(now)
	least, late := int64(math.MaxInt64), int64(0)
	for v := range w {
		if w[v] < least && !l.excused(v, now) {
			least = w[v]
		}
		late = max(late, l.lateness[v])
	}
	if least == never {
		return event.NoTime
	}
	reach := late + Ahead*l.step*int64(time.Second)
	if least > math.MaxInt64-reach {
		return math.MaxInt64
	}
	return least + reach
}

// ClosedSlot is the start (seconds) of the vantage's newest closed slot, and
// whether there is one.
func (l *Ledger) ClosedSlot(v event.Vantage) (int64, bool) {
	return l.closed[v], l.closed[v] != never
}

// Watermark is up to when the vantage is known to be complete, but for lateness,
// in nanoseconds; MinInt64 when nothing is known.
func (l *Ledger) Watermark(v event.Vantage) int64 { return l.mark[v] }

// Sources returns the running counts in order of name.
func (l *Ledger) Sources() []Source {
	out := make([]Source, 0, len(l.sources))
	for _, s := range l.sources {
		x := *s
		x.Reasons = maps.Clone(s.Reasons)
		out = append(out, x)
	}
	slices.SortFunc(out, func(x, y Source) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// Totals returns the counts per route in order of vantage, service, route.
func (l *Ledger) Totals() []Total {
	out := make([]Total, 0, len(l.totals))
	for _, t := range l.totals {
		out = append(out, t.Total)
	}
	slices.SortFunc(out, func(x, y Total) int {
		return cmp.Or(cmp.Compare(x.Vantage, y.Vantage), strings.Compare(x.Service, y.Service), strings.Compare(x.Route, y.Route))
	})
	return out
}

// OpenSlots is how many slots are open.
func (l *Ledger) OpenSlots() int {
	n := 0
	for v := range l.open {
		n += len(l.open[v])
	}
	return n
}

// Drop forgets all streams: those that go on are opened again. Event time keeps
// what it has reached.
func (l *Ledger) Drop() { clear(l.streams) }
