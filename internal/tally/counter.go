package tally

import (
	"math/bits"
	"slices"

	"github.com/denywatch/denywatch/internal/event"
)

// Refusal says what was refused, by whom and why. Of class NotDenied it is a leak: an
// event that was let in though Rule keeps it out.
type Refusal struct {
	Class event.Denial
	// Rule is the access rule that is broken, 0 if none; Presumed as in Hit.
	Rule              uint64
	Presumed          bool
	Layer             event.Layer
	Cause             string // a bounded token that outlives the call
	ByRule            string // the layer's name of the rule, as Cause
	Identity, Account uint64
	Named             bool
	// Keys name the request for a join with Reasons; zero if there is none.
	Keys [Keys]uint64
}

// Bounds of one counter.
const (
	// MaxIdentities bounds the (identity, leaf) pairs counted of one slot; beyond
	// it identities are sampled by hash.
	MaxIdentities = 1 << 18
	maxSplits     = 1 << 16
	// MaxEntered bounds the identities told of as let in, of one slot between two
	// calls of Take; beyond it they are sampled by hash.
	MaxEntered = 1 << 13
	// maxJoin bounds the unexplained denials and the reasons of a slot each.
	maxJoin = 1 << 16
)

// Counter counts one stream's events by leaf and slot until Take hands them
// over. It belongs to the stream's goroutine.
//
// Refused identities are told with all their requests on the leaf, those before
// and after the refusal too. So the counter keeps who was seen in a slot until
// Forget says that the slot is closed.
//
// Finding who an event belongs to is a random access to a large table. Events
// that were not refused wait in a small queue, so that many of these accesses
// are under way at once instead of one after the other; sums do not depend on
// the order.
type Counter struct {
	slots map[int64]*slot
	cur   *slot // the slot of the last event
	free  []*slot
	dirty bool

	queue  [queued]queuedEvent // of cur
	queueN int
	sink   uint64 // keeps the compiler from dropping the early loads
}

// queued is how many accesses may be under way: more than a core can keep in
// flight, few enough to stay in the first-level cache.
const queued = 64

type queuedEvent struct {
	key, identity uint64
	leaf          uint32
	in            bool // it was let in
}

type slot struct {
	start int64
	dirty bool
	pages []*page // by leaf / pageLeaves
	spare []page  // of which pages are taken
	// unseen and its index, by leaf 1 + the position, stay empty while every line stands
	// for one event.
	unseen   []LeafUnseen
	unseenAt []int32
	splits   []Split
	flags    []FlagCount
	flagAt   map[uint64]int32 // by leaf and the flag's id: the place in flags

	unexplained []Unexplained
	reasons     []Reason
	entered     []Entered
	enteredAt   uint8 // sampling of entered

	who     []who // open addressing by key, a power of two
	whoN    int
	refused []refused
	changed []int32 // positions in refused
	sampled uint8

	valid   []Hit            // of class Valid, not taken yet
	validAt map[uint64]int32 // by key: the place in valid
	validN  int              // how many there were
}

// page is the counts of neighbouring leaves: a leaf's are found without an index, and
// handed over in the order of leaves, in which those who take them keep theirs too.
type page [pageLeaves]LeafCount

const pageLeaves = 8

// sparePages are made at once at most: a large site has thousands of pages, and most of
// its slots see some for the first time.
const sparePages = 64

// who is one identity on one leaf.
type who struct {
	key uint64 // of identity and leaf; 0 free
	n   uint32 // lines; the top bit tells that it was let in
	hit int32  // 1 + position in refused, 0 if never refused
}

// wasIn is the top bit of who.n.
const wasIn = 1 << 31

type refused struct {
	Hit
	told                      bool // queued in changed
	toldRequests, toldDenials uint32
	next                      int32 // 1 + position of the same identity's next class
}

// NewCounter returns an empty counter.
func NewCounter() *Counter { return &Counter{slots: map[int64]*slot{}} }

// Slot selects the slot that starts at start (seconds) for the calls of Add that
// follow.
func (c *Counter) Slot(start int64) {
	if c.cur != nil && c.cur.start == start {
		return
	}
	c.flush()
	s := c.slots[start]
	if s == nil {
		if n := len(c.free); n > 0 {
			s = c.free[n-1]
			c.free = c.free[:n-1]
		} else {
			size := 64
			if c.cur != nil {
				size = len(c.cur.who) // the slot before was as busy
			}
			s = &slot{who: make([]who, size)}
		}
		s.start = start
		c.slots[start] = s
	}
	c.cur = s
}

// Add counts an event of a leaf in the selected slot that stands for weight
// requests. identity is a keyed hash; r is nil unless the event was refused or
// leaked.
func (c *Counter) Add(leaf uint32, st Status, weight uint32, identity uint64, r *Refusal) {
	s := c.cur
	s.dirty, c.dirty = true, true
	lc := s.leaf(leaf)
	lc.Status[st] += weight
	if weight != 1 {
		s.miss(leaf, weight-1, r)
	}
	switch {
	case r == nil:
	case r.Class == event.NotDenied:
		lc.Leaked += weight
	default:
		lc.Denied[r.Class] += weight
		if r.Keys != [Keys]uint64{} && len(s.unexplained) < maxJoin {
			s.unexplained = append(s.unexplained, Unexplained{leaf, r.Class, r.Layer, r.Cause, r.ByRule, r.Keys, weight})
		} else {
			s.split(leaf, weight, r)
		}
	}
	key := mixKey(identity, leaf)
	if r != nil {
		if r.Class == event.Valid {
			s.validly(key, leaf, identity, r)
		} else {
			s.person(key, leaf, identity, r.Class == event.NotDenied, r)
		}
		return
	}
	c.queue[c.queueN] = queuedEvent{key, identity, leaf, st <= S3xx}
	if c.queueN++; c.queueN == queued {
		c.flush()
	}
}

// flush counts the queued events.
func (c *Counter) flush() {
	s := c.cur
	if c.queueN == 0 {
		return
	}
	q := c.queue[:c.queueN]
	c.queueN = 0
	mask := uint64(len(s.who) - 1)
	var early uint64
	for i := range q {
		early += s.who[q[i].key>>16&mask].key
	}
	c.sink = early
	for i := range q {
		s.person(q[i].key, q[i].leaf, q[i].identity, q[i].in, nil)
	}
}

// person counts a line of an identity on a leaf.
func (s *slot) person(key uint64, leaf uint32, identity uint64, in bool, r *Refusal) {
	if s.whoN*4 >= len(s.who)*3 {
		s.grow()
	}
	if !Kept(identity, s.sampled) {
		return
	}
	w := s.find(key)
	w.n++
	if in && w.n&wasIn == 0 {
		w.n |= wasIn
		s.enter(identity, leaf)
	}
	if w.hit == 0 && r == nil {
		return
	}
	s.hit(w, leaf, identity, r)
}

// miss counts the n events of a leaf that a line stands for beside its own.
func (s *slot) miss(leaf, n uint32, r *Refusal) {
	if int(leaf) >= len(s.unseenAt) {
		s.unseenAt = append(s.unseenAt, make([]int32, max(int(leaf)+1-len(s.unseenAt), len(s.unseenAt), 16))...)
	}
	i := s.unseenAt[leaf]
	if i == 0 {
		s.unseen = append(s.unseen, LeafUnseen{Leaf: leaf})
		i = int32(len(s.unseen))
		s.unseenAt[leaf] = i
	}
	u := &s.unseen[i-1]
	u.Requests += n
	switch {
	case r == nil:
	case r.Class == event.NotDenied:
		u.Leaked += n
	default:
		u.Denied[r.Class] += n
	}
}

// Explain notes a reason in the selected slot.
func (c *Counter) Explain(r Reason) {
	s := c.cur
	s.dirty, c.dirty = true, true
	if len(s.reasons) < maxJoin {
		s.reasons = append(s.reasons, r)
	}
}

// Flag counts an event of a leaf that had a feature flag on. id stands for name in
// the counter; name must outlive the call.
func (c *Counter) Flag(leaf, id uint32, name string, weight uint32, denied bool) {
	s := c.cur
	key := uint64(leaf)<<32 | uint64(id)
	i, ok := s.flagAt[key]
	if !ok {
		if len(s.flags) >= maxSplits {
			return
		}
		if s.flagAt == nil {
			s.flagAt = map[uint64]int32{}
		}
		i = int32(len(s.flags))
		s.flagAt[key] = i
		s.flags = append(s.flags, FlagCount{Leaf: leaf, Flag: name})
	}
	f := &s.flags[i]
	f.Requests += weight
	if denied {
		f.Denied += weight
	}
}

func (s *slot) leaf(leaf uint32) *LeafCount {
	at := int(leaf / pageLeaves)
	if at >= len(s.pages) || s.pages[at] == nil {
		s.addPage(at)
	}
	return &s.pages[at][leaf%pageLeaves]
}

func (s *slot) addPage(at int) {
	if at >= len(s.pages) {
		s.pages = append(s.pages, make([]*page, at+1-len(s.pages))...)
	}
	if len(s.spare) == 0 {
		s.spare = make([]page, min(1+len(s.pages)/8, sparePages))
	}
	p := &s.spare[0]
	s.spare = s.spare[1:]
	for i := range p {
		p[i].Leaf = uint32(at*pageLeaves + i)
	}
	s.pages[at] = p
}

// takeCounts appends what pages hold and empties them.
func (s *slot) takeCounts(to []LeafCount) []LeafCount {
	for _, p := range s.pages {
		if p == nil {
			continue
		}
		for i := range p {
			if c := &p[i]; c.Requests() > 0 {
				to = append(to, *c)
				*c = LeafCount{Leaf: c.Leaf}
			}
		}
	}
	return to
}

func (s *slot) split(leaf, weight uint32, r *Refusal) {
	// Denials are rare and their kinds few; the newest are the likeliest.
	for i := len(s.splits) - 1; i >= 0 && i >= len(s.splits)-32; i-- {
		x := &s.splits[i]
		if x.Leaf == leaf && x.Class == r.Class && x.Layer == r.Layer && x.Cause == r.Cause && x.Rule == r.ByRule {
			x.N += weight
			return
		}
	}
	s.splits = append(s.splits, Split{Leaf: leaf, Class: r.Class, Layer: r.Layer, Cause: r.Cause, Rule: r.ByRule, N: weight})
	if len(s.splits) >= maxSplits {
		s.splits = mergeSplits(s.splits)
	}
}

func mergeSplits(in []Split) []Split {
	type key struct {
		leaf  uint32
		class event.Denial
		layer event.Layer
		cause string
		rule  string
	}
	at := make(map[key]int, len(in))
	out := in[:0]
	for _, x := range in {
		k := key{x.Leaf, x.Class, x.Layer, x.Cause, x.Rule}
		if i, ok := at[k]; ok {
			out[i].N += x.N
			continue
		}
		at[k] = len(out)
		out = append(out, x)
	}
	return out
}

// mixKey names an identity on a leaf. Its low bits are the identity's, so that
// Kept may be asked of the key too.
func mixKey(identity uint64, leaf uint32) uint64 {
	hi, lo := bits.Mul64(identity^0x9e3779b97f4a7c15, uint64(leaf)*0xd6e8feb86659fd93+0x8ebc6af09c88c6e3)
	return (hi^lo)&^lowBits | 1<<63 | identity&lowBits
}

const lowBits = 1<<16 - 1

// find returns the entry of key, a new one if there is none; there is room.
func (s *slot) find(key uint64) *who {
	mask := uint64(len(s.who) - 1)
	i := key >> 16 & mask
	for {
		w := &s.who[i]
		if w.key == key {
			return w
		}
		if w.key == 0 {
			s.whoN++
			w.key = key
			return w
		}
		i = (i + 1) & mask
	}
}

// grow makes room: a larger table, or half the identities once it is at its
// bound.
func (s *slot) grow() {
	size := 2 * len(s.who)
	if len(s.who) >= 2*MaxIdentities && s.sampled < 16 {
		size = len(s.who)
		s.sampled++
	}
	old, oldRefused := s.who, s.refused
	s.who, s.whoN = make([]who, size), 0
	place := make([]int32, len(oldRefused)+1)
	if size == len(old) {
		s.refused, s.changed = nil, s.changed[:0]
		for i := range oldRefused {
			if !Kept(oldRefused[i].Identity, s.sampled) {
				continue
			}
			h := oldRefused[i]
			h.next = place[h.next] // chains point backwards
			s.refused = append(s.refused, h)
			place[i+1] = int32(len(s.refused))
			if h.told {
				s.changed = append(s.changed, place[i+1]-1)
			}
		}
	} else {
		for i := range place {
			place[i] = int32(i)
		}
	}
	for i := range old {
		if old[i].key == 0 || !Kept(old[i].key, s.sampled) {
			continue
		}
		w := s.find(old[i].key)
		w.n, w.hit = old[i].n, place[old[i].hit]
	}
}

// enter notes that an identity was let in.
func (s *slot) enter(identity uint64, leaf uint32) {
	if !KeptIn(identity, s.start, s.enteredAt) {
		return
	}
	s.entered = append(s.entered, Entered{identity, leaf})
	for len(s.entered) > MaxEntered && s.enteredAt < 16 {
		s.enteredAt++
		s.entered = slices.DeleteFunc(s.entered, func(e Entered) bool { return !KeptIn(e.Identity, s.start, s.enteredAt) })
	}
}

// hit notes that a refused identity did something.
func (s *slot) hit(w *who, leaf uint32, identity uint64, r *Refusal) {
	found := false
	for i := w.hit; i != 0; i = s.refused[i-1].next {
		h := &s.refused[i-1]
		if r != nil && h.Class == r.Class {
			h.Denials++
			h.Account = max(h.Account, r.Account)
			h.Named = h.Named || r.Named
			h.Rule, h.Presumed = Breaks(h.Rule, h.Presumed, r.Rule, r.Presumed)
			found = true
		}
		h.Requests = w.n &^ wasIn
		if !h.told {
			h.told = true
			s.changed = append(s.changed, i-1)
		}
	}
	if r == nil || found {
		return
	}
	s.refused = append(s.refused, refused{
		Hit: Hit{
			Leaf: leaf, Class: r.Class, Named: r.Named, Presumed: r.Presumed, Rule: r.Rule, Identity: identity, Account: r.Account,
			Requests: w.n &^ wasIn, Denials: 1,
		},
		told: true, next: w.hit,
	})
	w.hit = int32(len(s.refused))
	s.changed = append(s.changed, w.hit-1)
}

// maxValid bounds the identities of a slot of whom it is told that they were refused as
// the rules ask for: nobody judges by them, they are there for who asks about somebody.
const maxValid = 1000

// validly counts a refusal that the access rules ask for. Whoever is refused as he should
// be is apart from those whose requests are counted.
func (s *slot) validly(key uint64, leaf uint32, identity uint64, r *Refusal) {
	i, known := s.validAt[key]
	if !known {
		if s.validN >= maxValid {
			return
		}
		if s.validAt == nil {
			s.validAt = map[uint64]int32{}
		}
		s.validN++
		i = int32(len(s.valid))
		s.validAt[key] = i
		s.valid = append(s.valid, Hit{Leaf: leaf, Class: r.Class, Identity: identity})
	}
	h := &s.valid[i]
	h.Requests++
	h.Denials++
	h.Account, h.Named, h.Rule = max(h.Account, r.Account), h.Named || r.Named, max(h.Rule, r.Rule)
}

// Breaks chooses one of two rules that an identity breaks on a leaf, with other
// methods or flags, 0 for none: the same in any order, a sure one before a presumed
// one.
func Breaks(a uint64, aPresumed bool, b uint64, bPresumed bool) (rule uint64, presumed bool) {
	switch {
	case a == 0 || b != 0 && aPresumed && !bPresumed:
		return b, b != 0 && bPresumed
	case b == 0 || aPresumed != bPresumed:
		return a, aPresumed
	}
	return max(a, b), aPresumed
}

// Dirty reports whether there is anything to take.
func (c *Counter) Dirty() bool { return c.dirty }

// Take moves what was counted since the last Take into b.Slots, whose capacity
// is used again.
func (c *Counter) Take(b *Block) {
	c.flush()
	b.Slots = b.Slots[:0]
	c.dirty = false
	for _, s := range c.slots {
		if !s.dirty {
			continue
		}
		s.dirty = false
		n := len(b.Slots)
		if n < cap(b.Slots) {
			b.Slots = b.Slots[:n+1]
		} else {
			b.Slots = append(b.Slots, SlotDelta{})
		}
		d := &b.Slots[n]
		d.Slot, d.Sampled = s.start, s.sampled
		for i := range s.unseen {
			s.unseenAt[s.unseen[i].Leaf] = 0
		}
		d.Leaves = s.takeCounts(d.Leaves[:0])
		// The block gets the filled slices and the slot the block's old ones.
		d.Unseen, s.unseen = s.unseen, d.Unseen[:0]
		d.Splits, s.splits = s.splits, d.Splits[:0]
		d.Flags, s.flags = s.flags, d.Flags[:0]
		clear(s.flagAt)
		d.Unexplained, s.unexplained = s.unexplained, d.Unexplained[:0]
		d.Reasons, s.reasons = s.reasons, d.Reasons[:0]
		d.Entered, s.entered = s.entered, d.Entered[:0]
		d.EnteredSampled = s.enteredAt
		d.Hits = d.Hits[:0]
		for _, i := range s.changed {
			h := &s.refused[i]
			x := h.Hit
			x.Requests -= h.toldRequests
			x.Denials -= h.toldDenials
			h.toldRequests, h.toldDenials, h.told = h.Requests, h.Denials, false
			d.Hits = append(d.Hits, x)
		}
		s.changed = s.changed[:0]
		d.Hits = append(d.Hits, s.valid...)
		s.valid = s.valid[:0]
		clear(s.validAt)
	}
}

// Forget drops the slots up to and including the one that starts at closed, but
// for what was not taken yet.
func (c *Counter) Forget(closed int64) {
	c.flush()
	for start, s := range c.slots {
		if start > closed || s.dirty {
			continue
		}
		delete(c.slots, start)
		if c.cur == s {
			c.cur = nil
		}
		if len(c.free) >= 4 || len(s.who) > 1<<16 && s.whoN*8 < len(s.who) {
			continue
		}
		clear(s.who)
		*s = slot{
			pages: s.pages, spare: s.spare, unseen: s.unseen[:0], unseenAt: s.unseenAt, splits: s.splits[:0], flags: s.flags[:0], flagAt: s.flagAt,
			unexplained: s.unexplained[:0], reasons: s.reasons[:0], entered: s.entered[:0],
			who: s.who, refused: s.refused[:0], changed: s.changed[:0], valid: s.valid[:0], validAt: s.validAt,
		}
		c.free = append(c.free, s)
	}
}

// Reset drops the numbering of leaves: the next Add may use any number anew.
// Everything must have been taken.
func (c *Counter) Reset() {
	c.queueN = 0
	c.cur = nil
	clear(c.slots)
	c.free = c.free[:0]
}

// Slots is how many slots are kept.
func (c *Counter) Slots() int { return len(c.slots) }
