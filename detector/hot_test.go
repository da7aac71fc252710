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

// TestKnownByTheirSessions: whoever is let in is known when his session is over, an hour
// later at most, unless he was mostly refused in it; then he is not for a day or two. Who
// was known stays so, however long he is refused.
func TestKnownByTheirSessions(t *testing.T) {
	d := New(Defaults())
	now := int64(600_000)
	slot := func(from, to uint64, refused ...uint64) {
		d.Close(visit(now, from, to, refused...))
		now += 60
	}
	expect := func(when string, id uint64, known, met bool) {
		t.Helper()
		slot(1, 2, id)
		p := d.judges[0].past.slots
		if h := p[len(p)-1].hits[0]; h.known != known || h.met != met {
			t.Fatalf("%s: %d is %+v", when, id, h)
		}
	}
	slot(1, 50, 7)
	expect("a minute later", 7, false, false)
	for range 3 { // more often let in than refused
		slot(7, 8)
	}
	for range 5 {
		slot(1, 2, 9)
	}
	now += 2 * 3600
	expect("two hours later", 7, true, true)
	expect("who was mostly refused", 9, false, false)
	slot(9, 10)
	expect("a stranger", 7777, false, false)
	for range 90 {
		slot(1, 2, 20)
	}
	now += 2 * 3600
	expect("who was refused for long", 20, true, true)
	expect("a prowler, let in once", 9, false, false)
	now += 50 * 3600
	for range 3 {
		slot(9, 10)
	}
	now += 2 * 3600
	expect("who prowled two days ago", 9, true, true)
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
