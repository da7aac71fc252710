package detector

import (
	"github.com/denywatch/denywatch/internal/event"
)

// How much of the recent past a judge remembers in detail, to count an incident
// from its onset and to see who was behind it.
const (
	pastSlots  = 60
	pastCounts = 1 << 18
	pastHits   = 1 << 16
)

// pastCount is one cell in one slot: requests, denials, denials of any class, the
// first two as seen and capped, and how many of the capped denials hit people who used
// to get in on the route. valid refusals and leaked requests are apart from those, vc of
// the valid ones were seen; of the capped denials bc break a rule, and lc people came
// through a closed door. What was seen is evidence; the others are what a sampled log
// stands for, which is told to people. Of what is explained, by an incident that is over or
// by a crowd, only people hear.
type pastCount struct {
	cell          int32
	n, x          uint32
	denied        uint32
	nc, xc, yc    float32
	valid, leaked uint32
	vc, bc, lc    float32
	explained     bool
}

// hit is one refused identity on one cell in one slot; counted tells that the denial passed
// the cap, met that the identity was let in anywhere or may come without, prowls that it
// is a stranger who was mostly refused before.
type hit struct {
	cell                        int32
	named, counted, met, prowls bool
	id                          uint64
}

// pastHit is a hit in detail; known tells that the identity used to get in on the route,
// explained that an incident or a crowd that is over is why, rule which rule it breaks.
type pastHit struct {
	hit
	known, explained bool
	account          uint64
	rule             uint64
}

// pastLeak is one identity that came through a door that a rule keeps closed for it,
// or, of rule 0, one that was learned to be closed.
type pastLeak struct {
	cell              int32
	named             bool
	rule, id, account uint64
}

// pastSplit is who refused on one cell in one slot.
type pastSplit struct {
	cell  int32
	layer event.Layer
	n     uint32
	cause string
	rule  string
}

type pastSlot struct {
	start   int64
	sampled uint8
	partial bool
	// estimated tells that lines stand for several requests.
	estimated bool
	dirty     bool
	counts    []pastCount
	hits      []pastHit
	splits    []pastSplit
	leaks     []pastLeak
	flags     []pastFlag
	comers    []comer
}

// past holds the last slots that had data, oldest first.
type past struct {
	slots        []pastSlot
	counts, hits int
	spare        pastSlot
	// leaving is called with every slot that is dropped.
	leaving func(*pastSlot)
}

// push appends a slot and drops what is beyond the bounds; the newest slot always
// stays. It returns the slot to be filled; filled must be called after.
func (p *past) push(start, horizon int64) *pastSlot {
	drop := 0
	for drop < len(p.slots) && (p.slots[drop].start < start-horizon || len(p.slots)-drop >= pastSlots) {
		drop++
	}
	p.drop(drop)
	s := p.spare
	p.spare = pastSlot{}
	p.slots = append(p.slots, pastSlot{start: start, dirty: true, counts: s.counts[:0], hits: s.hits[:0], splits: s.splits[:0], leaks: s.leaks[:0], flags: s.flags[:0], comers: s.comers[:0]})
	return &p.slots[len(p.slots)-1]
}

// filled takes account of the newest slot.
func (p *past) filled() {
	s := &p.slots[len(p.slots)-1]
	p.counts += len(s.counts)
	p.hits += len(s.hits) + len(s.leaks)
	drop, c, h := 0, p.counts, p.hits
	for drop < len(p.slots)-1 && (c > pastCounts || h > pastHits) {
		c -= len(p.slots[drop].counts)
		h -= len(p.slots[drop].hits) + len(p.slots[drop].leaks)
		drop++
	}
	p.drop(drop)
}

// drop forgets the n oldest slots and keeps the lists of one for the next push.
func (p *past) drop(n int) {
	if n == 0 {
		return
	}
	for i := range n {
		p.leaving(&p.slots[i])
		p.counts -= len(p.slots[i].counts)
		p.hits -= len(p.slots[i].hits) + len(p.slots[i].leaks)
	}
	p.spare = p.slots[n-1]
	m := copy(p.slots, p.slots[n:])
	clear(p.slots[m:])
	p.slots = p.slots[:m]
}
