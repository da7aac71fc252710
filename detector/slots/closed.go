// Package slots keeps the open slots of event time: it adds up the blocks that
// streams hand over, decides by watermark when a slot is complete, and hands
// closed slots to the detector in an order that depends on event time alone.
package slots

import (
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// Split counts denials of a leaf by class, layer, cause and rule.
type Split struct {
	Class event.Denial
	Layer event.Layer
	Cause string
	Rule  string
	N     uint32
}

// Hit is what one refused identity, or one that leaked, did on one leaf in one slot,
// over all streams of the vantage; tally.Hit says what each field means.
type Hit struct {
	Class             event.Denial
	Named, Presumed   bool
	Rule              uint64
	Identity, Account uint64
	Requests, Denials uint32
}

// Flag counts the leaf's events that had a feature flag on.
type Flag struct {
	Name             string
	Requests, Denied uint32
}

// Leaf is one leaf's counts in a closed slot.
type Leaf struct {
	Key tally.Key
	// Number stands for Key: leaves of one service with one Number, in slots of one
	// vantage and one Closed.Numbering, have equal keys. Numbers are small. 0 stands
	// for nothing.
	Number uint32
	Status [tally.Statuses]uint32
	Denied [event.Denials]uint32
	// Leaked counts requests that were let in though the declared access model keeps
	// them out.
	Leaked uint32
	// Unseen is what of these counts was not seen but estimated; nil where every line
	// stands for one event.
	Unseen *tally.Unseen
	Splits []Split // in order of class, layer, cause, rule
	Hits   []Hit   // in order of identity, class
	Flags  []Flag  // in order of name
	// Entered holds keyed hashes, as Hit.Identity, of identities that were let in
	// on this leaf in this slot, whether they were let in before or not. It is
	// lossy and bounded, in ascending order without repeats. What is left out must
	// depend on the slot, not on the identity alone: somebody who comes often must
	// be told sooner or later.
	Entered []uint64
}

// miss adds to what was not seen.
func (l *Leaf) miss(u *tally.Unseen) {
	if l.Unseen == nil {
		l.Unseen = new(tally.Unseen)
	}
	l.Unseen.Add(u)
}

// Requests is the number of events.
func (l *Leaf) Requests() uint32 {
	var n uint32
	for _, x := range l.Status {
		n += x
	}
	return n
}

// Closed is one vantage's slot, complete behind the watermark. It is valid
// until the next call of the ledger.
type Closed struct {
	Vantage event.Vantage
	// Start is the slot's start in seconds since the Unix epoch, a multiple of
	// Step; Step is the slot's length in seconds.
	Start, Step int64
	// Partial tells that a source was given up waiting for: neither "down" nor
	// recovery may be judged on this slot.
	Partial bool
	// Blind are the services, sorted, of sources of which too few lines were
	// understood. What those sources said in this slot is not in Leaves, so the
	// slot is partial for these services.
	Blind []string
	// Turned are the sources, in order of name, whose judging is suspended from
	// this slot on, or no longer. They are the ledger's: to be read only.
	Turned []*Source
	// Sampled is n when hits were kept for one identity in 2^n.
	Sampled uint8
	// EnteredSampled is n when of those who were let in only the ones are told that
	// tally.KeptIn keeps, one in 2^n.
	EnteredSampled uint8
	// Numbering says which numbering of keys holds; it changes when the ledger
	// numbers them anew.
	Numbering uint32
	// Leaves holds what was seen, in order of Key (service, route, role, geo,
	// plan, host). A slot without data is handed over too, with no leaves: no
	// data is unknown, not zero.
	Leaves []Leaf
}
