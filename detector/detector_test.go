package detector_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
)

func TestValidate(t *testing.T) {
	ok := detector.Defaults()
	if ps := ok.Validate(); len(ps) != 0 {
		t.Fatalf("the defaults are refused: %v", ps)
	}
	for path, spoil := range map[string]func(*detector.Config){
		"alerts_per_week": func(c *detector.Config) { c.AlertsPerWeek = 0 },
		"learn":           func(c *detector.Config) { c.Learn = -time.Hour },
		"max_cells":       func(c *detector.Config) { c.MaxCells = 1 << 30 },
		"first_visit[1]":  func(c *detector.Config) { c.FirstVisit = []string{"/signup", "login"} },
		"min_identities":  func(c *detector.Config) { c.MinIdentities = 0 },
	} {
		c := detector.Defaults()
		spoil(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Path != path || ps[0].Msg == "" {
			t.Errorf("%s: %v", path, ps)
		}
	}
}

// steady feeds minutes of a world and returns what was told.
func steady(d *detector.Detector, w *world, from time.Time, minutes int, change func(*slots.Closed)) []incident.Transition {
	var out []incident.Transition
	for m := range minutes {
		for _, c := range w.slot(from.Add(time.Duration(m)*time.Minute).Unix(), 60) {
			if change != nil {
				change(c)
			}
			out = append(out, d.Close(c)...)
		}
	}
	return out
}

var monday = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

func shopWorld(seed uint64) *world {
	w := newWorld(seed)
	for i, r := range []string{"/home", "/billing/plans", "/billing/upgrade", "/docs/{page}"} {
		w.flows = append(w.flows, &flow{vantage: event.Web, key: tally.Key{Service: "shop", Route: r}, rate: 40, deny: 0.004, users: 4000, first: uint64(i) << 20, layer: event.LayerWeb, cause: "acl"})
	}
	return w
}

// TestKeyExplosion floods the detector with names: the bound holds, the rest is
// counted as other, and known routes keep being judged.
func TestKeyExplosion(t *testing.T) {
	cfg := detector.Defaults()
	cfg.MaxCells = 200
	d, w := detector.New(cfg), shopWorld(4)
	n := 0
	flood := func(c *slots.Closed) {
		if c.Vantage != event.Web {
			return
		}
		for range 100 {
			n++
			l := slots.Leaf{Key: tally.Key{Service: "shop", Route: fmt.Sprintf("/x%d/y", n), Role: fmt.Sprint("r", n), Geo: fmt.Sprint("g", n)}}
			l.Status[tally.S2xx] = 1
			c.Leaves = append(c.Leaves, l)
			l.Key.Service = fmt.Sprint("service", n)
			c.Leaves = append(c.Leaves, l)
		}
		arrange(c)
	}
	steady(d, w, monday, 10, nil)
	told := steady(d, w, monday.Add(10*time.Minute), 600, flood)
	s := d.Stats()
	if len(told) != 0 || s.Cells > cfg.MaxCells+50 || s.Folded == 0 || s.Judges > 210 {
		t.Fatalf("%d told, %+v", len(told), s)
	}
	w.flows[2].deny = 0.5
	told = steady(d, w, monday.Add(610*time.Minute), 10, flood)
	if len(told) == 0 || told[0].Incident.Scope.Route != "/billing/upgrade" {
		t.Fatalf("the known route was not found: %+v", told)
	}
}

// TestSampledHits keeps one refused identity of four: the incident is found and
// its head-count is about right.
func TestSampledHits(t *testing.T) {
	d, w := detector.New(detector.Defaults()), shopWorld(5)
	sample := func(c *slots.Closed) {
		c.Sampled = 2
		for i := range c.Leaves {
			c.Leaves[i].Hits = slices.DeleteFunc(c.Leaves[i].Hits, func(h slots.Hit) bool { return h.Identity>>8%4 != 0 })
		}
	}
	if told := steady(d, w, monday, 600, sample); len(told) != 0 {
		t.Fatalf("told before all: %+v", told[0])
	}
	w.flows[1].deny = 0.7
	told := steady(d, w, monday.Add(600*time.Minute), 20, sample)
	if len(told) == 0 {
		t.Fatal("not found")
	}
	in := d.Incidents()[0]
	if in.Scope.Route != "/billing/plans" || !in.Degraded || in.Identities < 350 || in.Identities > 700 {
		t.Fatalf("%+v", in)
	}
}

// TestRulesAreEvidence: an incident names the rules that refused, also after a
// restart.
func TestRulesAreEvidence(t *testing.T) {
	d, w := detector.New(detector.Defaults()), shopWorld(5)
	w.flows[1].cause = "waf"
	rules := func(c *slots.Closed) {
		for i := range c.Leaves {
			l := &c.Leaves[i]
			for k := range l.Splits {
				if l.Splits[k].Cause != "waf" {
					continue
				}
				l.Splits[k].Rule = "942100"
				if n := l.Splits[k].N / 4; n > 0 {
					l.Splits[k].N -= n
					l.Splits = append(l.Splits, slots.Split{Class: event.Refused, Layer: event.LayerWeb, Cause: "waf", Rule: "949110", N: n})
				}
			}
		}
	}
	steady(d, w, monday, 600, rules)
	w.flows[1].deny = 0.7
	steady(d, w, monday.Add(600*time.Minute), 20, rules)
	if len(d.Incidents()) != 1 {
		t.Fatalf("%d incidents", len(d.Incidents()))
	}
	in := d.Incidents()[0]
	if len(in.Rules) != 2 || in.Rules[0].Name != "942100" || in.Rules[0].Cause != "waf" || in.Rules[1].Name != "949110" ||
		in.Rules[0].Denials+in.Rules[1].Denials != in.Denials {
		t.Fatalf("rules %+v of %d denials", in.Rules, in.Denials)
	}
}

// TestBlindServiceDoesNotRecover: while a source of a service is not understood,
// what its other sources say ends no incident of the service; other services'
// incidents end.
func TestBlindServiceDoesNotRecover(t *testing.T) {
	for _, blind := range []string{"shop", "other"} {
		d, w := detector.New(detector.Defaults()), shopWorld(5)
		steady(d, w, monday, 600, nil)
		w.flows[1].deny = 0.7
		steady(d, w, monday.Add(600*time.Minute), 30, nil)
		w.flows[1].deny = 0.004
		steady(d, w, monday.Add(630*time.Minute), 60, func(c *slots.Closed) { c.Blind = []string{blind} })
		if len(d.Incidents()) != 1 {
			t.Fatalf("%d incidents", len(d.Incidents()))
		}
		in := d.Incidents()[0]
		if open := in.State == incident.Open; open != (blind == "shop") {
			t.Errorf("blind %s: the incident is %s", blind, in.State)
		}
		if in.Degraded != (blind == "shop") {
			t.Errorf("blind %s: degraded %v", blind, in.Degraded)
		}
		steady(d, w, monday.Add(690*time.Minute), 60, nil)
		if in := d.Incidents()[0]; in.State != incident.Resolved {
			t.Errorf("blind %s before: the incident is %s", blind, in.State)
		}
	}
}

// TestMarkersUpFront: a replay that knows all markers before the first slot tells
// the same as a live run that hears of each in its slot.
func TestMarkersUpFront(t *testing.T) {
	f := busyFeed(8, 6)
	live := feed{slots: f.slots, marks: map[int][]marker.Marker{}}
	all := feed{slots: f.slots, marks: map[int][]marker.Marker{}}
	for at, ms := range f.marks {
		for _, m := range ms {
			m.Time = time.Unix(f.slots[at].Start, 0).UTC()
			live.marks[at] = append(live.marks[at], m)
			all.marks[0] = append(all.marks[0], m)
		}
	}
	a, _ := live.play(t, detector.New(detector.Defaults()), nil)
	b, _ := all.play(t, detector.New(detector.Defaults()), nil)
	if !bytes.Equal(a, b) || len(a) == 0 {
		t.Fatalf("live:\n%s\nup front:\n%s", a, b)
	}
}

func TestMarkIsIdempotent(t *testing.T) {
	d := detector.New(detector.Defaults())
	m := marker.Marker{ID: "a", Kind: marker.Release, Time: monday}
	if !d.Mark(m) || d.Mark(m) || len(d.Markers()) != 1 {
		t.Fatalf("%v", d.Markers())
	}
	if d.Mark(marker.Marker{}) {
		t.Fatal("a marker without an id was taken")
	}
}

// TestOddSlots: what the ledger never hands over must not hurt.
func TestOddSlots(t *testing.T) {
	d := detector.New(detector.Defaults())
	for _, c := range []*slots.Closed{
		{Vantage: 77, Start: 60, Step: 60}, {Start: 60}, {Start: -60, Step: 60}, {Start: 1 << 40, Step: 60},
	} {
		if d.Close(c) != nil {
			t.Fatalf("%+v was judged", c)
		}
	}
	d.Close(&slots.Closed{Start: 120, Step: 60})
	d.Close(&slots.Closed{Start: 60, Step: 60, Leaves: []slots.Leaf{{Key: tally.Key{Route: "/"}, Status: [tally.Statuses]uint32{1}}}})
	if d.Stats().Cells != 0 {
		t.Fatal("a slot from before was judged")
	}
	if err := d.Load(blocks{}.read); err != nil {
		t.Fatalf("an empty store: %v", err)
	}
}

// TestIdenticalIDs: the same input gives the same public id.
func TestIdenticalIDs(t *testing.T) {
	run := func() string {
		d, w := detector.New(detector.Defaults()), shopWorld(9)
		steady(d, w, monday, 300, nil)
		w.flows[0].deny = 0.6
		steady(d, w, monday.Add(5*time.Hour), 10, nil)
		in := d.Incidents()
		if len(in) != 1 || len(in[0].ID) != 12 {
			t.Fatalf("%+v", in)
		}
		return in[0].ID
	}
	if a, b := run(), run(); a != b {
		t.Fatalf("the same input gave %s and %s", a, b)
	}
}
