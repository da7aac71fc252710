package detector

import (
	"testing"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// visit is a slot in which the identities from..to-1 were let in, and some refused.
func visit(start int64, from, to uint64, refused ...uint64) *slots.Closed {
	l := slots.Leaf{Key: tally.Key{Service: "shop", Route: "/a"}}
	for id := from; id < to; id++ {
		l.Entered = append(l.Entered, id)
	}
	l.Status[tally.S2xx] = 300
	l.Status[tally.S403] = uint32(len(refused))
	l.Denied[event.Refused] = uint32(len(refused))
	for _, id := range refused {
		l.Hits = append(l.Hits, slots.Hit{Class: event.Refused, Identity: id, Requests: 1, Denials: 1})
	}
	return &slots.Closed{Vantage: event.Web, Start: start, Step: 60, Leaves: []slots.Leaf{l}}
}

// TestEarlierSlotsOnly: somebody let in and refused in one slot did not use to get
// in; in the next slot he did. Who came just now is no stranger only after a while.
func TestEarlierSlotsOnly(t *testing.T) {
	d := New(Defaults())
	last := func() pastHit {
		p := d.judges[0].past.slots
		return p[len(p)-1].hits[0]
	}
	d.Close(visit(600_000, 1, 50, 7))
	if h := last(); h.known || h.met {
		t.Fatalf("known in his first slot: %+v", h)
	}
	d.Close(visit(600_060, 1, 2, 7))
	if h := last(); !h.known || h.met {
		t.Fatalf("a minute later: %+v", h)
	}
	d.Close(visit(600_060+2*3600, 1, 2, 7))
	if h := last(); !h.known || !h.met {
		t.Fatalf("two hours later: %+v", h)
	}
	d.Close(visit(600_120+2*3600, 1, 2, 7777))
	if h := last(); h.known || h.met {
		t.Fatalf("a stranger: %+v", h)
	}
}

// TestStrangers: the share of strangers that is usual is everybody at first, and
// what the visitors showed after a day.
func TestStrangers(t *testing.T) {
	d := New(Defaults())
	j := func() *judge { return d.judges[0] }
	start, here := int64(600_000), map[int32]float64{0: 1}
	for m := range int64(36 * 60) {
		// Forty regulars, and every tenth slot somebody new.
		c := visit(start+60*m, 1, 40)
		if m%10 == 0 {
			c.Leaves[0].Entered = append(c.Leaves[0].Entered, uint64(1000+m))
		}
		d.Close(c)
		if p := j().strangers(everything, here); m < 60 && p < 0.9 {
			t.Fatalf("after %d minutes %.2f", m, p)
		}
	}
	if p := j().strangers(everything, here); p < 0.05 || p > 0.35 {
		t.Fatalf("after 36 hours %.2f", p)
	}
}
