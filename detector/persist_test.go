package detector_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
)

// feed is everything a detector is told in a test: slots, and markers before
// some of them.
type feed struct {
	seed  uint64
	slots []*slots.Closed
	marks map[int][]marker.Marker
	// accepts are the slots after which somebody accepts the oldest open incident, reopens
	// those after which the incident that was opened last is said not to be over, merges
	// those after which two open incidents become one.
	accepts, reopens, merges map[int]bool
}

// vary makes a feed of what happens to logs and to people: a service that is blind for
// a while, hits that are sampled, lines that stand for several requests, versions and
// flags, incidents that are accepted.
func (f *feed) vary(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 12))
	f.accepts, f.reopens, f.merges = map[int]bool{}, map[int]bool{}, map[int]bool{}
	act := rand.New(rand.NewPCG(seed, 13))
	var blind, sampled, weight, flags int // until which slot
	for i, c := range f.slots {
		if r.IntN(150) == 0 {
			f.accepts[i] = true
		}
		f.reopens[i], f.merges[i] = act.IntN(60) == 0, act.IntN(60) == 0
		for _, until := range [...]*int{&blind, &sampled, &weight, &flags} {
			if r.IntN(120) == 0 {
				*until = i + r.IntN(90)
			}
		}
		if i < blind {
			c.Blind = []string{"shop"}
		}
		if i < sampled {
			c.Sampled = 1
		}
		for k := range c.Leaves {
			l := &c.Leaves[k]
			if i < sampled {
				l.Hits = slices.DeleteFunc(l.Hits, func(h slots.Hit) bool { return !tally.Kept(h.Identity, 1) })
			}
			if n := l.Requests(); i < weight && n > 1 {
				l.Unseen = &tally.Unseen{Requests: n / 2}
				for class := range l.Denied {
					l.Unseen.Denied[class] = l.Denied[class] / 2
				}
			}
			if i < flags {
				l.Flags = []slots.Flag{{Name: []string{"new_checkout", tally.VersionFlag + "v2"}[k%2], Requests: l.Requests() / 2, Denied: l.Denied[event.Refused]}}
			}
		}
	}
}

// busyFeed draws a day with incidents in several vantages, markers of all sorts,
// gaps and partial slots.
func busyFeed(seed uint64, hours int) feed {
	w := newWorld(seed)
	r := rand.New(rand.NewPCG(seed, 11))
	roles := []string{"", "viewer", "editor"}
	for i := range 4 {
		for _, role := range roles {
			w.flows = append(w.flows, &flow{vantage: event.App, key: tally.Key{Service: "shop", Route: fmt.Sprintf("/p%d/r%d", i/2, i), Role: role, Geo: []string{"DE", "FR"}[i%2]},
				rate: 2 + 6*r.Float64(), deny: 0.01 + 0.1*r.Float64(), users: 40 + r.IntN(200), named: true, first: uint64(len(w.flows)) << 20,
				layer: event.LayerApp, cause: "app_policy", also: event.Web, twice: true})
		}
	}
	for i, class := range []event.Denial{event.Unauthorized, event.Masked, event.Soft} {
		w.flows = append(w.flows, &flow{vantage: event.Web, key: tally.Key{Service: "shop", Route: fmt.Sprintf("/p0/r%d", i)}, rate: 4, deny: 0.02, users: 60, first: uint64(50+i) << 20,
			layer: event.LayerApp, class: class, passing: i == 2})
	}
	w.flows = append(w.flows, &flow{vantage: event.Edge, key: tally.Key{Route: "/login"}, rate: 5, deny: 0.05, users: 90, first: 1 << 50, layer: event.LayerEdge, cause: "waf"})
	w.access = busyRules()
	f := feed{seed: seed, marks: map[int][]marker.Marker{}}
	start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	// A first half hour, a day before, so that it is known who used to get in. It is learned
	// soon after it, as it is where slots without data are told.
	for m := range 33 {
		m += 29 * max(m-29, 0)
		for _, c := range w.slot(start.Add(time.Duration(m-1500)*time.Minute).Unix(), 60) {
			f.slots = append(f.slots, c)
		}
	}
	for m := range hours * 60 {
		at := start.Add(time.Duration(m) * time.Minute)
		if m > 150 && r.IntN(50) == 0 {
			x := w.flows[r.IntN(len(w.flows))]
			if r.IntN(5) == 0 {
				x.key.Route = "/p0/{slug}"
			}
			x.deny = []float64{0.02, 0.6, 0.9, 0.05}[r.IntN(4)]
		}
		if r.IntN(120) == 0 {
			k := marker.Marker{ID: fmt.Sprint("m", m), Kind: marker.Release, Time: at.Add(time.Duration(r.IntN(90)-60) * time.Minute),
				Expect: []marker.Expect{"", "", marker.ExpectUp, marker.ExpectDown}[r.IntN(4)]}
			if r.IntN(2) == 0 {
				k.Scope.Route = marker.List{fmt.Sprintf("/p0/r%d", r.IntN(3))}
			}
			f.marks[len(f.slots)] = append(f.marks[len(f.slots)], k)
		}
		gap, partial := r.IntN(40) == 0, r.IntN(30) == 0
		for v, c := range w.slot(at.Unix(), 60) {
			if gap && v == 1 {
				c.Leaves = nil
			}
			c.Partial = partial
			f.slots = append(f.slots, c)
		}
	}
	return f
}

// busyRules are broken now and then by what a busyFeed holds.
func busyRules() *access.Model {
	m, _ := access.New([]access.Rule{
		{Route: []string{"/p0/r1"}, Role: []string{"viewer"}, Allow: "true"},
		{Route: []string{"/p1/**"}, Role: []string{"editor"}, Allow: "true"},
		{Route: []string{"/p1/r3"}, Role: []string{"_none", "viewer"}, Allow: "false"},
	})
	return m
}

// play feeds a detector; between slots, rest may exchange it.
func (f *feed) play(t interface{ Fatal(...any) }, d *detector.Detector, rest func(int, *detector.Detector) *detector.Detector) ([]byte, any) {
	var out bytes.Buffer
	for i, c := range f.slots {
		for _, m := range f.marks[i] {
			d.Mark(m)
		}
		told := d.Close(c)
		if open := d.Incidents(); f.accepts[i] {
			if at := slices.IndexFunc(open, func(in incident.Incident) bool { return in.State == incident.Open }); at >= 0 {
				if tr, ok := d.Accept(open[at].ID); ok {
					told = append(told, tr)
				}
			}
		}
		if all := d.Incidents(); f.reopens[i] && len(all) > 0 {
			if tr, err := d.Reopen(all[len(all)-1].ID); err == nil {
				told = append(told, tr...)
			}
		}
		if open := slices.DeleteFunc(d.Incidents(), func(in incident.Incident) bool { return in.State != incident.Open }); f.merges[i] && len(open) > 1 {
			if over, grown, err := d.Merge(open[1].ID, open[0].ID); err == nil {
				told = append(told, over, grown)
			}
		}
		for _, tr := range told {
			b, err := tr.Encode()
			if err != nil {
				t.Fatal(err)
			}
			out.Write(append(b, '\n'))
		}
		if rest != nil {
			d = rest(i, d)
		}
	}
	var verdicts []marker.Verdict
	for _, m := range d.Markers() {
		v, _ := d.Verdict(m.ID)
		verdicts = append(verdicts, v)
	}
	return out.Bytes(), struct {
		Verdicts  []marker.Verdict
		Incidents []incident.Incident
		Scans     []incident.Scan
		Doors     []detector.Door
		Stats     detector.Stats
	}{verdicts, d.Incidents(), d.Scans(), d.Doors(), d.Stats()}
}

// TestRestartsChangeNothing saves and loads at random slots; every transition
// must be the same, byte by byte, as without.
func TestRestartsChangeNothing(t *testing.T) {
	cfg := detector.Defaults()
	cfg.Learn, cfg.Access = time.Hour, busyRules()
	seen := 0
	// A feed takes a while; -rapid.checks=N tries more than a dozen.
	if n := flag.Lookup("rapid.checks"); n != nil && n.Value.String() == n.DefValue {
		old := n.Value.String()
		few := "12"
		if raceOn {
			few = "3"
		}
		if err := n.Value.Set(few); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.Value.Set(old); err != nil {
				t.Error(err)
			}
		}()
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := busyFeed(rapid.Uint64Range(1, 1<<40).Draw(rt, "seed"), 4)
		if rapid.Bool().Draw(rt, "vary") {
			f.vary(f.seed)
		}
		every := rapid.IntRange(1, 400).Draw(rt, "every")
		want, wantNow := f.play(rt, detector.New(cfg), nil)
		seen += bytes.Count(want, []byte("\n"))
		kept := blocks{}
		got, gotNow := f.play(rt, detector.New(cfg), func(i int, d *detector.Detector) *detector.Detector {
			if i%31 == 0 || i%every == 0 {
				if err := d.Save(kept); err != nil {
					rt.Fatal(err)
				}
			}
			if i%every != 0 {
				return d
			}
			n := detector.New(cfg)
			if err := n.Load(kept.read); err != nil {
				rt.Fatal(err)
			}
			return n
		})
		if !bytes.Equal(want, got) {
			rt.Fatalf("with restarts:\n%s\nwithout:\n%s", got, want)
		}
		a, _ := json.Marshal(wantNow)
		b, _ := json.Marshal(gotNow)
		if !bytes.Equal(a, b) {
			rt.Fatalf("incidents with restarts:\n%s\nwithout:\n%s", b, a)
		}
	})
	if seen == 0 && !raceOn {
		t.Fatal("the feeds held no incident")
	}
}

func TestSaveWritesOnlyWhatChanged(t *testing.T) {
	f := busyFeed(3, 4)
	d := detector.New(detector.Defaults())
	f.play(t, d, nil)
	first, second := blocks{}, blocks{}
	if err := d.Save(first); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(second); err != nil {
		t.Fatal(err)
	}
	if len(first) == 0 || len(second) != 0 {
		t.Fatalf("the first cut has %d blocks, one without new slots %d", len(first), len(second))
	}
	d.Rewrite()
	if err := d.Save(second); err != nil || len(second) < len(first)-3*60 {
		t.Fatalf("after Rewrite %d blocks of %d were written: %v", len(second), len(first), err)
	}
}

// TestScopesAreToldAtOnce: whenever an incident's scope became wider or more
// specific, that was told in the same slot.
func TestScopesAreToldAtOnce(t *testing.T) {
	part := func(x, y string) bool { return y == "" || x == y }
	inside := func(a, b incident.Scope) bool {
		return part(a.Role, b.Role) && part(a.Geo, b.Geo) && part(a.Route, b.Route) && (part(a.Prefix, b.Prefix) || a.Route != "" && a.Route[:3] == b.Prefix)
	}
	changed := 0
	for seed := range uint64(4) {
		f, d := busyFeed(20+seed, 5), detector.New(detector.Defaults())
		told := map[string]incident.Scope{}
		for i, c := range f.slots {
			for _, m := range f.marks[i] {
				d.Mark(m)
			}
			for _, tr := range d.Close(c) {
				if tr.Kind == incident.Grew && tr.Incident.Scope != told[tr.Incident.ID] {
					changed++
				}
				told[tr.Incident.ID] = tr.Incident.Scope
			}
			for _, in := range d.Incidents() {
				if was := told[in.ID]; in.State == incident.Open && in.Scope != was && (inside(in.Scope, was) || inside(was, in.Scope)) {
					t.Fatalf("seed %d: %s is %+v, told was %+v", seed, in.ID, in.Scope, was)
				}
			}
		}
	}
	if changed == 0 {
		t.Error("no scope changed")
	}
}

func FuzzLoad(f *testing.F) {
	fd := busyFeed(5, 5)
	cfg := detector.Defaults()
	cfg.Access = busyRules()
	d := detector.New(cfg)
	fd.play(f, d, nil)
	state := blocks{}
	if err := d.Save(state); err != nil {
		f.Fatal(err)
	}
	var keys []string
	for _, k := range []string{"head", "markers", "incidents", "judge/0/book/0", "judge/0/rest/0", "judge/1/cells/0", "judge/1/series/0", "judge/1/people/3", "judge/1/seasons/0", "scans", "judge/2/rules/0", "judge/2/past/20", "visitors/1/head", "here/1/head"} {
		if state[k] == nil {
			f.Fatalf("no block %s", k)
		}
		keys = append(keys, k)
		f.Add(len(keys)-1, state[k])
		f.Add(len(keys)-1, state[k][:len(state[k])/2])
	}
	f.Fuzz(func(t *testing.T, n int, b []byte) {
		bad := blocks{}
		for k, v := range state {
			bad[k] = v
		}
		bad[keys[uint(n)%uint(len(keys))]] = b
		d := detector.New(cfg)
		if d.Load(bad.read) != nil {
			return
		}
		// What loads must be usable.
		for _, c := range busyFeed(6, 1).slots[:6] {
			c.Start += 86400
			d.Close(c)
		}
		d.Incidents()
		d.Doors()
		if err := d.Save(blocks{}); err != nil {
			t.Fatal(err)
		}
	})
}
