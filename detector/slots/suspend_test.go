package slots_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// minute is what a source brings in one slot: good lines, of which every third
// is refused, and blind ones, which have no time of their own.
type minute struct{ good, blind int }

// source turns minutes into blocks of n lines.
func source(name string, minutes []minute, n func() int) (blocks []*tally.Block) {
	c := tally.NewCounter()
	newest := event.NoTime
	b := &tally.Block{}
	said, lines := false, 0
	slot := int64(event.NoTime)
	hand := func() {
		if !said && newest != event.NoTime {
			said = true
			b.Keys = []tally.Key{{Service: "shop", Route: "/a"}}
		}
		b.Stream, b.Source, b.Vantage, b.Newest = name, name, event.Web, int64(newest)
		c.Take(b)
		blocks = append(blocks, b)
		b, lines = &tally.Block{}, 0
	}
	line := func(blind bool) {
		h := tally.Health{Slot: slot, Lines: 1}
		if blind {
			h.Blind = 1
			b.Stats.Unparsed++
		}
		b.Health = append(b.Health, h)
		b.Stats.Lines++
		if lines++; lines >= n() {
			hand()
		}
	}
	for i, m := range minutes {
		for k := range m.good {
			slot = 6000 + int64(i)*step
			newest = max(newest, int(at(slot)))
			c.Slot(slot)
			var r *tally.Refusal
			st := tally.S2xx
			if k%3 == 0 {
				st, r = tally.S403, &tally.Refusal{Class: event.Refused, Layer: event.LayerWeb, Identity: uint64(k)}
			}
			c.Add(0, st, 1, uint64(k), r)
			line(false)
		}
		for range m.blind {
			line(true)
		}
	}
	hand()
	blocks[len(blocks)-1].State = tally.Ended
	return blocks
}

// story is what came of the slots: leaves, requests, whom not to judge, who turned.
func story(c *slots.Closed) string {
	n := uint32(0)
	for i := range c.Leaves {
		n += c.Leaves[i].Requests()
	}
	var turned []string
	for _, s := range c.Turned {
		turned = append(turned, fmt.Sprint(s.Name, " ", s.Suspended != 0, " ", s.Blind, "/", s.Recent))
	}
	return fmt.Sprint(c.Start, " ", n, " ", c.Blind, " ", turned)
}

var limits = map[string]float64{"bad": 0.5, "good": 0.5}

func suspendable() *slots.Ledger {
	return slots.New(slots.Config{Step: step * 1e9, Lateness: lateness, MaxBlind: limits})
}

func close1(l *slots.Ledger) (out []string) {
	for c := l.Next(event.NoTime); c != nil; c = l.Next(event.NoTime) {
		out = append(out, story(c))
	}
	return out
}

// TestBlindSourceIsNotJudged: what a source says in a slot in which too few of
// its lines are understood is not handed over, its services are named, and the
// other source goes on; also when there is no good line to tell the time.
func TestBlindSourceIsNotJudged(t *testing.T) {
	bad := []minute{{60, 0}, {60, 40}, {40, 60}, {0, 100}, {0, 100}, {30, 70}, {100, 0}, {100, 0}, {1, 0}}
	good := make([]minute, len(bad))
	for i := range good {
		good[i] = minute{60, 2}
	}
	want := []string{
		"6000 120 [] []",
		"6060 120 [] []",
		"6120 60 [shop] [bad true 260/300]", // its time stands still until 6300
		"6180 60 [shop] []",
		"6240 60 [shop] []",
		"6300 60 [shop] []",
		"6360 160 [] [bad false 0/100]",
		"6420 160 [] []",
		"6480 61 [] []",
	}
	run := func(n func() int, pick func(n int) int, l *slots.Ledger, save func(l *slots.Ledger) *slots.Ledger) (out []string) {
		todo := [][]*tally.Block{source("bad", bad, n), source("good", good, n)}
		l.Open("bad", event.Web)
		l.Open("good", event.Web)
		for len(todo) > 0 {
			i := pick(len(todo))
			l.Apply(todo[i][0], event.NoTime)
			if todo[i] = todo[i][1:]; len(todo[i]) == 0 {
				todo = slices.Delete(todo, i, i+1)
			}
			out = append(out, close1(l)...)
			if len(todo) == 2 {
				l = save(l)
			}
		}
		if s := l.Sources()[0]; s.Unjudged != 4 || s.Lines != 761 || s.Unparsed != 370 || s.Suspended != 0 {
			t.Fatalf("got %+v", s)
		}
		return out
	}
	same := func(l *slots.Ledger) *slots.Ledger { return l }
	got := run(func() int { return 1 << 20 }, func(int) int { return 0 }, suspendable(), same)
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	rapid.Check(t, func(t *rapid.T) {
		got := run(
			func() int { return rapid.IntRange(1, 200).Draw(t, "chunk") },
			func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "source") },
			suspendable(), same)
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestSuspensionIsDurable: a restart does not judge what was suspended, and a
// source that is configured no more suspends nothing.
func TestSuspensionIsDurable(t *testing.T) {
	l := suspendable()
	l.Open("bad", event.Web)
	for _, b := range source("bad", []minute{{60, 0}, {10, 90}, {10, 90}, {10, 90}, {1, 0}}, func() int { return 7 }) {
		if b.State != tally.Ended {
			l.Apply(b, event.NoTime)
		}
	}
	close1(l)
	m := memory{}
	if err := l.Save(m); err != nil {
		t.Fatal(err)
	}
	full := suspendable()
	for k, v := range m {
		if err := full.Load(k, v); err != nil {
			t.Fatal(err)
		}
	}
	a, b := l.Sources()[0], full.Sources()[0]
	if fmt.Sprint(a) != fmt.Sprint(b) || b.Suspended != 6060 {
		t.Fatalf("got %+v, want %+v", b, a)
	}
	full.Configure(slots.Config{Lateness: lateness})
	if s := full.Sources()[0]; s.Suspended != 0 {
		t.Fatalf("a source that is configured no more is suspended: %+v", s)
	}
}

// TestNeverUnderstoodHarmsNobody: a source of which no line was ever understood
// has no part in any service.
func TestNeverUnderstoodHarmsNobody(t *testing.T) {
	l := suspendable()
	l.Open("bad", event.Web)
	l.Open("good", event.Web)
	for _, b := range source("bad", []minute{{0, 5000}}, func() int { return 1000 }) {
		l.Apply(b, event.NoTime)
	}
	for _, b := range source("good", []minute{{60, 0}, {60, 0}}, func() int { return 1000 }) {
		l.Apply(b, event.NoTime)
	}
	want := []string{"6000 60 [] [bad true 5000/5000]", "6060 60 [] []"}
	if got := close1(l); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}
