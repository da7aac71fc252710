package tally_test

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

type who struct {
	slot     int64
	leaf     uint32
	identity uint64
}

// TestTakeAnywhere: however often the counts are taken, they add up to the same,
// and a refused identity is told with all its requests. So is one that leaked; valid
// refusals are told apart, with the rule that asks for them. A line that stands for several events is one
// line of its identity, and the others were not seen.
func TestTakeAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := tally.NewCounter()
		requests, denials, refused := map[who]uint32{}, map[who]uint32{}, map[who]bool{}
		gotReq, gotDen := map[who]uint32{}, map[who]uint32{}
		leaves, wantLeaves := map[who]uint32{}, map[who]uint32{}
		unseen, wantUnseen := map[who]tally.Unseen{}, map[who]tally.Unseen{}
		splits := uint32(0)
		var leaked, valid, wantLeaked, wantValid uint32
		type broken struct {
			who
			class event.Denial
		}
		rules, wantRules := map[broken]uint64{}, map[broken]uint64{}
		keptOut, wantKeptOut := map[who]uint32{}, map[who]uint32{}
		var b tally.Block
		take := func() {
			c.Take(&b)
			for _, d := range b.Slots {
				for _, l := range d.Leaves {
					leaves[who{d.Slot, l.Leaf, 0}] += l.Requests()
					leaked += l.Leaked
					valid += l.Denied[event.Valid]
				}
				for _, l := range d.Unseen {
					u := unseen[who{d.Slot, l.Leaf, 0}]
					u.Add(&l.Unseen)
					unseen[who{d.Slot, l.Leaf, 0}] = u
				}
				for _, s := range d.Splits {
					splits += s.N
				}
				for _, h := range d.Hits {
					k := who{d.Slot, h.Leaf, h.Identity}
					rules[broken{k, h.Class}] = max(h.Rule, rules[broken{k, h.Class}])
					if h.Class == event.Valid && h.Requests == h.Denials {
						keptOut[k] += h.Denials
					}
					if h.Class == event.NotDenied || h.Class == event.Valid {
						continue
					}
					gotReq[k] += h.Requests
					gotDen[k] += h.Denials
				}
			}
		}
		var denied uint32
		for range rapid.IntRange(0, 300).Draw(t, "events") {
			k := who{
				rapid.Int64Range(0, 2).Draw(t, "slot") * 60,
				rapid.Uint32Range(0, 40).Draw(t, "leaf"),
				rapid.Uint64Range(1, 9).Draw(t, "who"),
			}
			c.Slot(k.slot)
			var r *tally.Refusal
			rule := rapid.Uint64Range(0, 3).Draw(t, "rule")
			weight := rapid.SampledFrom([]uint32{1, 1, 1, 10}).Draw(t, "weight")
			miss := tally.Unseen{Requests: weight - 1}
			switch rapid.IntRange(0, 9).Draw(t, "denied") {
			case 0, 1:
				r = &tally.Refusal{Class: event.Refused, Layer: event.LayerApp, Identity: k.identity, Rule: rule}
				refused[k] = true
				denials[k]++
				denied += weight
				miss.Denied[event.Refused] = weight - 1
				b := broken{k, event.Refused}
				wantRules[b] = max(wantRules[b], rule)
			case 2:
				r = &tally.Refusal{Class: event.Valid, Layer: event.LayerApp, Identity: k.identity, Rule: rule}
				wantValid += weight
				wantKeptOut[k]++
				b := broken{k, event.Valid}
				wantRules[b] = max(wantRules[b], rule)
				denied += weight
				miss.Denied[event.Valid] = weight - 1
			case 3:
				r = &tally.Refusal{Class: event.NotDenied, Identity: k.identity, Rule: rule + 1}
				wantLeaked += weight
				miss.Leaked = weight - 1
				b := broken{k, event.NotDenied}
				wantRules[b] = max(wantRules[b], rule+1)
			}
			if r == nil || r.Class != event.Valid {
				requests[k]++
			}
			leaf := who{k.slot, k.leaf, 0}
			wantLeaves[leaf] += weight
			if weight > 1 {
				u := wantUnseen[leaf]
				u.Add(&miss)
				wantUnseen[leaf] = u
			}
			c.Add(k.leaf, tally.S2xx, weight, k.identity, r)
			if rapid.IntRange(0, 9).Draw(t, "take") == 0 {
				take()
			}
		}
		take()
		if c.Dirty() {
			t.Fatal("dirty after Take")
		}
		for k, n := range wantLeaves {
			if leaves[k] != n {
				t.Fatalf("leaf %v: got %d, want %d", k, leaves[k], n)
			}
		}
		if !maps.Equal(unseen, wantUnseen) {
			t.Fatalf("not seen are %+v, want %+v", unseen, wantUnseen)
		}
		if splits != denied {
			t.Fatalf("splits add up to %d of %d denials", splits, denied)
		}
		for k := range refused {
			if gotReq[k] != requests[k] || gotDen[k] != denials[k] {
				t.Fatalf("%v: told %d/%d, want %d/%d", k, gotDen[k], gotReq[k], denials[k], requests[k])
			}
		}
		if len(gotReq) != len(refused) {
			t.Fatalf("%d identities told, %d refused", len(gotReq), len(refused))
		}
		if leaked != wantLeaked || valid != wantValid || len(rules) != len(wantRules) {
			t.Fatalf("%d leaked of %d, %d valid of %d, %d breaches of %d", leaked, wantLeaked, valid, wantValid, len(rules), len(wantRules))
		}
		if !maps.Equal(keptOut, wantKeptOut) {
			t.Fatalf("kept out %v, want %v", keptOut, wantKeptOut)
		}
		for b, rule := range wantRules {
			if rules[b] != rule {
				t.Fatalf("%v breaks %d, told %d", b, rule, rules[b])
			}
		}
		c.Forget(1000)
		if c.Slots() != 0 {
			t.Fatalf("%d slots kept", c.Slots())
		}
	})
}

// TestValidIsBounded: of those who are refused as the rules ask for some are told, and all
// are counted.
func TestValidIsBounded(t *testing.T) {
	c := tally.NewCounter()
	var b tally.Block
	told, counted := 0, uint32(0)
	for i := range uint64(50_000) {
		c.Slot(0)
		c.Add(uint32(i%7), tally.S403, 1, i*0x9e3779b97f4a7c15, &tally.Refusal{Class: event.Valid, Identity: i})
		if i%9999 == 0 || i == 49_999 {
			c.Take(&b)
			told += len(b.Slots[0].Hits)
			for _, l := range b.Slots[0].Leaves {
				counted += l.Denied[event.Valid]
			}
		}
	}
	if told != 1000 || counted != 50_000 {
		t.Errorf("%d told, %d counted", told, counted)
	}
}

// TestSampling: a flood of identities is bounded, and what is kept is a fair
// sample that is told as such.
func TestSampling(t *testing.T) {
	c := tally.NewCounter()
	c.Slot(0)
	x := uint64(88172645463325252)
	const n = 1_500_000
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		c.Add(uint32(x>>40)%8, tally.S403, 1, x, &tally.Refusal{Class: event.Refused, Identity: x})
	}
	var b tally.Block
	c.Take(&b)
	d := &b.Slots[0]
	if d.Sampled == 0 || len(d.Hits) > 2*tally.MaxIdentities {
		t.Fatalf("%d hits kept, sampled %d", len(d.Hits), d.Sampled)
	}
	got := float64(len(d.Hits)) * float64(int(1)<<d.Sampled)
	if got < 0.97*n || got > 1.03*n {
		t.Fatalf("%d hits at 1 in 2^%d estimate %.0f of %d", len(d.Hits), d.Sampled, got, n)
	}
	var requests uint32
	for _, l := range d.Leaves {
		requests += l.Requests()
	}
	if requests != n {
		t.Fatalf("%d requests counted of %d", requests, n)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	c := tally.NewCounter()
	var b tally.Block
	r := &tally.Refusal{Class: event.Refused, Identity: 3}
	slot := int64(0)
	run := func() {
		slot += 60
		c.Slot(slot)
		for i := range uint32(200) {
			c.Add(i%20, tally.S2xx, 1, uint64(i%7), nil)
			if i%5 == 0 {
				c.Add(i%20, tally.S403, 1, 3, r)
			}
		}
		c.Take(&b)
		c.Forget(slot - 60)
	}
	for range 50 {
		run()
	}
	if a := testing.AllocsPerRun(100, run); a > 0.5 {
		t.Fatalf("%v allocations for 240 events", a)
	}
}

func BenchmarkAdd(b *testing.B) {
	c := tally.NewCounter()
	var blk tally.Block
	x := uint64(88172645463325252)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if i%60_000 == 0 {
			c.Take(&blk)
			c.Forget(int64(i) - 60_000)
			c.Slot(int64(i))
		}
		c.Add(uint32(x>>40)%700, tally.S2xx, 1, x%50_000, nil)
		i++
	}
}

// TestBreaks: which of several rules is kept depends on none's coming first.
func TestBreaks(t *testing.T) {
	type broken struct {
		rule     uint64
		presumed bool
	}
	one := rapid.Custom(func(t *rapid.T) broken {
		return broken{rapid.Uint64Range(0, 3).Draw(t, "rule"), rapid.Bool().Draw(t, "presumed")}
	})
	join := func(a, b broken) (c broken) {
		c.rule, c.presumed = tally.Breaks(a.rule, a.presumed, b.rule, b.presumed)
		return c
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := one.Draw(t, "a"), one.Draw(t, "b"), one.Draw(t, "c")
		if join(a, b) != join(b, a) || join(a, join(b, c)) != join(join(a, b), c) {
			t.Fatalf("the order of %v, %v, %v counts", a, b, c)
		}
	})
}
