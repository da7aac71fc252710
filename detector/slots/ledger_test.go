package slots_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

const step = 60

var lateness = [event.Vantages]time.Duration{event.Edge: 5 * time.Minute, event.Web: time.Minute, event.App: 30 * time.Second}

func newLedger() *slots.Ledger {
	return slots.New(slots.Config{Step: step * time.Second, Lateness: lateness})
}

type line struct {
	t    int64 // seconds
	leaf int
	who  uint64 // refused when odd; 4 leaks, 5 is refused as it should be
}

// feeder turns the lines of one stream into blocks, as a collector does.
type feeder struct {
	name    string
	vantage event.Vantage
	lines   []line
	known   map[tally.Key]uint32
	newest  int64
	counter *tally.Counter
	ended   bool
}

func (f *feeder) block(n int) *tally.Block {
	b := &tally.Block{Stream: f.name, Source: f.name, Vantage: f.vantage}
	n = min(n, len(f.lines))
	for _, l := range f.lines[:n] {
		k := tally.Key{Service: "shop", Route: fmt.Sprintf("/r%d", l.leaf)}
		id, ok := f.known[k]
		if !ok {
			id = uint32(len(f.known))
			f.known[k] = id
			b.Keys = append(b.Keys, k)
		}
		f.counter.Slot(l.t - l.t%step)
		var r *tally.Refusal
		st := tally.S2xx
		if l.who%2 == 1 {
			st = tally.S403
			r = &tally.Refusal{Class: event.Refused, Layer: event.LayerWeb, Identity: l.who, Cause: fmt.Sprint("c", l.who%3),
				Rule: uint64(l.t % 3), Presumed: l.t%3 != 0 && l.t%2 == 0}
		}
		switch l.who {
		case 4:
			r = &tally.Refusal{Class: event.NotDenied, Identity: l.who, Rule: 9}
		case 5:
			r.Class = event.Valid
		}
		weight := uint32(1)
		if l.leaf == 3 && l.t%2 == 0 { // a sampled line
			weight = 10
		}
		f.counter.Add(id, st, weight, l.who, r)
		b.Stats.Lines++
		f.newest = max(f.newest, l.t*int64(time.Second))
	}
	f.lines = f.lines[n:]
	f.counter.Take(b)
	b.Newest = f.newest
	if len(f.lines) == 0 {
		b.State, f.ended = tally.Ended, true
	}
	return b
}

func newFeeder(name string, v event.Vantage, lines []line) *feeder {
	return &feeder{name: name, vantage: v, lines: slices.Clone(lines), known: map[tally.Key]uint32{}, newest: event.NoTime, counter: tally.NewCounter()}
}

func render(c *slots.Closed) string {
	// Numbers stand for keys, but which depends on who came first.
	bare := *c
	bare.Leaves = slices.Clone(c.Leaves)
	bare.Numbering = 0
	for i := range bare.Leaves {
		bare.Leaves[i].Number = 0
	}
	b, err := json.Marshal(bare)
	if err != nil {
		panic(err)
	}
	// Empty lists may be nil or not: they mean the same.
	return strings.ReplaceAll(string(b), ":null", ":[]")
}

// TestOrderDoesNotMatter: whatever the chunks, the interleaving of the streams
// and the order of lines within the lateness, the same slots close in the same
// order, and saving and loading in the middle changes nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var streams [][]line
		vantages := []event.Vantage{event.Web, event.Web, event.App, event.Edge}
		for i := range vantages {
			var ls []line
			now := int64(1_700_000_000)
			for range rapid.IntRange(1, 60).Draw(t, fmt.Sprint("lines", i)) {
				now += rapid.Int64Range(0, 90).Draw(t, "gap")
				ls = append(ls, line{now, rapid.IntRange(0, 3).Draw(t, "leaf"), rapid.Uint64Range(1, 6).Draw(t, "who")})
			}
			streams = append(streams, ls)
		}
		run := func(shuffle bool) (out []string, sources, totals string) {
			l, m := newLedger(), memory{}
			var fs []*feeder
			for i, ls := range streams {
				if shuffle {
					// Any order whose lines are at most the lateness late.
					ls = slices.Clone(ls)
					late := int64(lateness[vantages[i]] / time.Second)
					key := make(map[int]int64, len(ls))
					for j := range ls {
						key[j] = ls[j].t + rapid.Int64Range(0, late).Draw(t, "delay")
					}
					idx := make([]int, len(ls))
					for j := range idx {
						idx[j] = j
					}
					slices.SortStableFunc(idx, func(a, b int) int { return int(key[a] - key[b]) })
					sorted := make([]line, len(ls))
					for j, k := range idx {
						sorted[j] = ls[k]
					}
					ls = sorted
				}
				f := newFeeder(fmt.Sprint("s", i), vantages[i], ls)
				l.Open(f.name, f.vantage)
				fs = append(fs, f)
			}
			for len(fs) > 0 {
				i := 0
				n := 1 << 20
				if shuffle {
					i = rapid.IntRange(0, len(fs)-1).Draw(t, "stream")
					n = rapid.IntRange(1, 20).Draw(t, "chunk")
				}
				l.Apply(fs[i].block(n), event.NoTime)
				if fs[i].ended {
					fs = slices.Delete(fs, i, i+1)
				}
				if shuffle {
					for c := l.Next(event.NoTime); c != nil; c = l.Next(event.NoTime) {
						out = append(out, render(c))
					}
					if rapid.IntRange(0, 20).Draw(t, "save") == 0 && len(fs) > 0 {
						l = reload(t, l, m, fs)
					}
				}
			}
			for c := l.Next(event.NoTime); c != nil; c = l.Next(event.NoTime) {
				out = append(out, render(c))
			}
			if l.OpenSlots() != 0 {
				t.Fatalf("%d slots are left open", l.OpenSlots())
			}
			for _, s := range l.Sources() {
				if s.Late != 0 {
					t.Fatalf("%d lines were late", s.Late)
				}
			}
			return out, fmt.Sprint(l.Sources()), fmt.Sprint(l.Totals())
		}
		a, as, at := run(false)
		b, bs, bt := run(true)
		if as != bs || at != bt {
			t.Fatalf("counts differ:\n%s\n%s\n%s\n%s", as, bs, at, bt)
		}
		for i := range max(len(a), len(b)) {
			if i >= len(a) || i >= len(b) || a[i] != b[i] {
				t.Fatalf("slot %d of %d and %d differs:\n%s\n%s", i, len(a), len(b), at2(a, i), at2(b, i))
			}
		}
	})
}

func at2(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return "none"
}

type memory map[string][]byte

func (m memory) Put(k string, v []byte) error { m[k] = slices.Clone(v); return nil }
func (m memory) Delete(k string) error        { delete(m, k); return nil }

// reload restarts the ledger from its durable state; the streams go on where
// they are, numbering their leaves anew.
func reload(t interface{ Fatal(...any) }, l *slots.Ledger, m memory, fs []*feeder) *slots.Ledger {
	if err := l.Save(m); err != nil {
		t.Fatal(err)
	}
	l.Saved()
	full := newLedger()
	for k, v := range m {
		if err := full.Load(k, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := full.Loaded(); err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		full.Open(f.name, f.vantage)
		f.known = map[tally.Key]uint32{}
		f.counter = tally.NewCounter()
	}
	// Streams that have ended are not opened again; those that go on vouch for
	// what they had read.
	for _, f := range fs {
		full.Apply(&tally.Block{Stream: f.name, Source: f.name, Vantage: f.vantage, Newest: f.newest}, event.NoTime)
	}
	return full
}

func TestLateLinesAreCountedOnly(t *testing.T) {
	l := newLedger()
	f := newFeeder("s", event.App, []line{{6000, 0, 2}, {6500, 0, 2}, {6030, 0, 1}, {6500, 0, 2}})
	l.Open("s", event.App)
	l.Apply(f.block(2), event.NoTime)
	n := 0
	for c := l.Next(event.NoTime); c != nil; c = l.Next(event.NoTime) {
		n++
	}
	if n == 0 {
		t.Fatal("nothing closed")
	}
	l.Apply(f.block(10), event.NoTime)
	for c := l.Next(event.NoTime); c != nil; c = l.Next(event.NoTime) {
		for _, leaf := range c.Leaves {
			if leaf.Denied[event.Refused] != 0 {
				t.Fatalf("the late denial is in slot %d", c.Start)
			}
		}
	}
	if s := l.Sources()[0]; s.Late != 1 || s.Lines != 4 {
		t.Fatalf("got %+v", s)
	}
	if got := l.Totals()[0].Status; got[tally.S403] != 1 || got[tally.S2xx] != 3 {
		t.Fatalf("totals %v", got)
	}
}

// at is the wall clock of a live test, in seconds.
func at(s int64) int64 { return s * int64(time.Second) }

func idle(name string, v event.Vantage, now int64) *tally.Block {
	return &tally.Block{Stream: name, Source: name, Vantage: v, Newest: event.NoTime, State: tally.CaughtUp, Clock: at(now)}
}

func TestCaughtUpSourceMovesTimeOn(t *testing.T) {
	l := newLedger()
	l.Open("s", event.App)
	f := newFeeder("s", event.App, []line{{6000, 0, 2}, {6001, 0, 2}})
	l.Apply(f.block(1), at(6001))
	if l.Next(at(7000)) != nil {
		t.Fatal("a slot closed while the stream may have unread lines")
	}
	l.Apply(idle("s", event.App, 6089), at(6089))
	if l.Next(at(6089)) != nil {
		t.Fatal("closed before the lateness was over")
	}
	l.Apply(idle("s", event.App, 6090), at(6090))
	c := l.Next(at(6090))
	if c == nil || c.Start != 6000 || len(c.Leaves) != 1 {
		t.Fatalf("got %+v", c)
	}
	l.Apply(idle("s", event.App, 6150), at(6150))
	if c := l.Next(at(6150)); c == nil || c.Start != 6060 || len(c.Leaves) != 0 {
		t.Fatalf("an idle minute gave %+v", c)
	}
}

func TestUnknownSourceHoldsThenPartial(t *testing.T) {
	l := newLedger()
	l.Open("a", event.App)
	l.Open("b", event.App)
	fa, fb := newFeeder("a", event.App, []line{{6000, 0, 2}, {6001, 0, 2}}), newFeeder("b", event.App, []line{{6000, 0, 2}, {6001, 0, 2}})
	l.Apply(fa.block(1), at(6000))
	l.Apply(fb.block(1), at(6000))
	l.Apply(&tally.Block{Stream: "b", Source: "b", Vantage: event.App, Newest: event.NoTime, State: tally.Unknown}, at(6000))
	l.Apply(idle("a", event.App, 6300), at(6300))
	if l.Next(at(6300)) != nil {
		t.Fatal("did not wait for the source that cannot be known")
	}
	l.Apply(idle("a", event.App, 6600), at(6600))
	c := l.Next(at(6600))
	if c == nil || !c.Partial {
		t.Fatalf("after ten minutes: %+v", c)
	}
	l.Apply(idle("b", event.App, 6601), at(6601))
	for c = l.Next(at(6601)); c != nil; c = l.Next(at(6601)) {
		if c.Partial {
			t.Fatalf("slot %d is partial though all sources are back", c.Start)
		}
	}
}

func TestSlowVantageDoesNotDelayOthers(t *testing.T) {
	l := newLedger()
	l.Open("edge", event.Edge)
	l.Open("app", event.App)
	fe, fa := newFeeder("edge", event.Edge, []line{{6000, 0, 2}, {6001, 0, 2}}), newFeeder("app", event.App, []line{{6000, 0, 2}, {6001, 0, 2}})
	l.Apply(fe.block(1), at(6000)) // has a backlog from here on
	l.Apply(fa.block(1), at(6000))
	closed := int64(0)
	for now := int64(6060); now <= 6600; now += 10 {
		l.Apply(idle("app", event.App, now), at(now))
		for c := l.Next(at(now)); c != nil; c = l.Next(at(now)) {
			if c.Vantage != event.App {
				t.Fatalf("closed %v %d", c.Vantage, c.Start)
			}
			closed = c.Start
		}
	}
	if closed < 6600-3*step-int64(slots.HoldVantage/time.Second) {
		t.Fatalf("the application's newest closed slot is %d", closed)
	}
}

func TestHorizon(t *testing.T) {
	l := newLedger()
	if h := l.Horizon(event.NoTime); h != math.MaxInt64 {
		t.Fatalf("no streams: %d", h)
	}
	l.Open("a", event.App)
	l.Open("b", event.Web)
	if h := l.Horizon(event.NoTime); h != event.NoTime {
		t.Fatalf("a stream that has not begun: %d", h)
	}
	fa, fb := newFeeder("a", event.App, []line{{6000, 0, 2}, {6001, 0, 2}}), newFeeder("b", event.Web, []line{{9000, 0, 2}, {9001, 0, 2}})
	l.Apply(fa.block(1), event.NoTime)
	l.Apply(fb.block(1), event.NoTime)
	if h := l.Horizon(event.NoTime); h != at(6000+300+slots.Ahead*step) {
		t.Fatalf("got %d", h/int64(time.Second))
	}
	l.Apply(fa.block(1), event.NoTime) // ends
	if h := l.Horizon(event.NoTime); h != at(9000+300+slots.Ahead*step) {
		t.Fatalf("after the end of the other: %d", h/int64(time.Second))
	}
}

func FuzzLoad(f *testing.F) {
	l := newLedger()
	l.Open("s", event.App)
	l.Apply(newFeeder("s", event.App, []line{{6000, 0, 2}, {6000, 1, 1}, {6000, 1, 3}, {7000, 1, 3}}).block(3), event.NoTime)
	m := memory{}
	if err := l.Save(m); err != nil {
		f.Fatal(err)
	}
	for k, v := range m {
		f.Add(k, v)
	}
	f.Fuzz(func(t *testing.T, k string, v []byte) {
		l := newLedger()
		if l.Load(k, v) == nil {
			if err := l.Save(memory{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
