package slots

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestPlaces: whatever names come when, places say what comparing keys says.
func TestPlaces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	l := New(Config{Step: time.Minute})
	var all []*leafKey
	pick := func(kind string, n int) string { return fmt.Sprint(kind, rnd.IntN(n)) }
	for range 40 {
		for range 20 {
			all = append(all, l.key(event.Web, l.source("s"), tally.Key{
				Service: pick("s", 3), Route: pick("/", 100), Role: pick("r", 4), Geo: pick("", 5), Plan: pick("p", 3), Host: pick("h", 2),
			}))
		}
		l.index[event.Web].rank()
		for range 2000 {
			x, y := all[rnd.IntN(len(all))], all[rnd.IntN(len(all))]
			want := CompareKeys(&x.Key, &y.Key)
			if got := x.place().compare(y.place()); got != want {
				t.Fatalf("%v and %v: %d, want %d", x.Key, y.Key, got, want)
			}
			if (x.n == y.n && x.Service == y.Service) != (want == 0) || x.n == 0 {
				t.Fatalf("%v is number %d, %v number %d", x.Key, x.n, y.Key, y.n)
			}
		}
	}
}

// TestForgottenKeys: leaves whose keys were forgotten because there are too many
// close in order and merged with equal ones all the same.
func TestForgottenKeys(t *testing.T) {
	l := New(Config{Step: time.Minute})
	block := func(stream string, routes ...string) {
		b := &tally.Block{Stream: stream, Source: "s", Vantage: event.Web, Newest: 0, State: tally.Reading}
		d := tally.SlotDelta{Slot: 0}
		for i, r := range routes {
			b.Keys = append(b.Keys, tally.Key{Service: "shop", Route: r})
			c := tally.LeafCount{Leaf: uint32(i)}
			c.Status[tally.StatusOf(200)] = 1
			d.Leaves = append(d.Leaves, c)
		}
		b.Slots = []tally.SlotDelta{d}
		l.Apply(b, event.NoTime)
	}
	block("old", "/b", "/d", "/f")
	l.index[event.Web] = newIndex()
	l.numbering[event.Web]++
	block("new", "/a", "/b", "/e", "/f")
	for _, s := range []string{"old", "new"} {
		l.Apply(&tally.Block{Stream: s, Source: "s", Vantage: event.Web, Newest: int64(10 * time.Minute), State: tally.Reading}, event.NoTime)
	}
	c := l.Next(event.NoTime)
	got := ""
	for i := range c.Leaves {
		got += fmt.Sprint(c.Leaves[i].Key.Route, c.Leaves[i].Requests(), " ")
	}
	if got != "/a1 /b2 /d1 /e1 /f2 " {
		t.Errorf("closed %s", got)
	}
}
