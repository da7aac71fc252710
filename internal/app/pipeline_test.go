package app

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/sim"
	"github.com/denywatch/denywatch/parsers"
)

// feed is one log of a test, line by line.
type feed struct {
	name    string
	vantage event.Vantage
	format  parsers.Config
	times   []int64
	lines   [][]byte
}

const upstreamFormat = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" us="$upstream_status"`

// simulate returns the access log and the application's log of a scenario.
func simulate(t *testing.T, sc sim.Scenario) (web, app feed) {
	t.Helper()
	s, err := sim.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	web = feed{name: "web", vantage: event.Web, format: parsers.Config{Format: "nginx", LogFormat: upstreamFormat}}
	app = feed{name: "app", vantage: event.App, format: parsers.Config{Format: "json"}}
	for r := s.Next(); r != nil; r = s.Next() {
		web.times = append(web.times, r.Time)
		web.lines = append(web.lines, sim.AppendNginxUpstream(nil, r))
		if r.ReachedApp() {
			app.times = append(app.times, r.Time)
			app.lines = append(app.lines, sim.AppendAppJSON(nil, r))
		}
	}
	return web, app
}

// shuffle puts the lines in another order that the lateness allows.
func (f feed) shuffle(r *rand.Rand, lateness time.Duration) feed {
	due := make([]int64, len(f.lines))
	idx := make([]int, len(f.lines))
	for i := range idx {
		idx[i] = i
		due[i] = f.times[i] + r.Int64N(int64(lateness))
	}
	slices.SortStableFunc(idx, func(a, b int) int { return int(max(min(due[a]-due[b], 1), -1)) })
	g := f
	g.lines, g.times = nil, nil
	for _, i := range idx {
		g.lines, g.times = append(g.lines, f.lines[i]), append(g.times, f.times[i])
	}
	return g
}

// pipeline runs feeds through collectors, ledger and detector. With r it cuts
// the feeds into random chunks.
func pipeline(t *testing.T, feeds []feed, markers []marker.Marker, r *rand.Rand) (ts []incident.Transition, c *core) {
	t.Helper()
	cfg := configs.Default()
	cfg.Service = ""
	cfg.Detection.Judge.Learn = 2 * time.Hour
	clock := collect.NewClock(nil)
	sc := slots.Config{Step: cfg.Slot}
	log := slog.New(slog.DiscardHandler)
	base, _, err := shared(cfg, collect.FixedIdentityKey(), 60, log)
	if err != nil {
		t.Fatal(err)
	}
	var shares []*collect.Config
	for _, f := range feeds {
		format, err := parsers.Compile(f.format)
		if err != nil {
			t.Fatal(err)
		}
		one := base
		cc := &one
		cc.Source, cc.Vantage, cc.Log = f.name, f.vantage, log
		cc.NewParser = func(string, [][]byte) (parsers.Parser, error) { return format.New(), nil }
		shares = append(shares, cc)
		sc.Lateness[f.vantage] = max(sc.Lateness[f.vantage], time.Minute)
	}
	c = newCore(sc, cfg.Detection.Judge, clock, log)
	c.told = func(t incident.Transition) { ts = append(ts, t) }
	for _, m := range markers {
		if err := m.Normalise(m.Time); err != nil {
			t.Fatal(err)
		}
		c.mark(m)
	}
	c.waiting["test"] = true
	var wg sync.WaitGroup
	for i, f := range feeds {
		cut := func() int { return 2000 }
		if r != nil {
			own := rand.New(rand.NewPCG(r.Uint64(), 1))
			cut = func() int { return 1 + own.IntN(3000) }
		}
		host := collect.NewHost(shares[i], nil, nil, clock, &collect.Names{}, c.in)
		wg.Go(func() {
			ctx := context.Background()
			h, _, err := host.Open(ctx, f.name)
			if err != nil {
				t.Error(err)
				return
			}
			var at int64
			for lines := f.lines; len(lines) > 0; {
				n := min(cut(), len(lines))
				data := bytes.Join(lines[:n], nil)
				b := &ingest.Batch{Data: data, Start: ingest.Position{Offset: at}, End: ingest.Position{Offset: at + int64(len(data))}}
				if err := h.Batch(ctx, b); err != nil {
					t.Error(err)
					return
				}
				clear(data) // the reader has its bytes back
				at += int64(len(data))
				lines = lines[n:]
			}
			if err := h.Close(ctx, true); err != nil {
				t.Error(err)
			}
		})
	}
	// All streams are known to the ledger before event time may move.
	for len(c.streams) < len(feeds) {
		c.apply(<-c.in)
	}
	delete(c.waiting, "test")
	c.advance()
	go func() { wg.Wait(); close(c.in) }()
	for b := range c.in {
		c.apply(b)
		c.advance()
	}
	c.advance()
	return ts, c
}

func encode(t *testing.T, ts []incident.Transition) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i := range ts {
		if err := e.Encode(&ts[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

var simStart = time.Date(2026, 11, 17, 6, 0, 0, 0, time.UTC)

func brokenRole(hours int) sim.Scenario {
	return sim.Scenario{
		Seed: 7, Start: simStart, End: simStart.Add(time.Duration(hours) * time.Hour), Rate: 4, Calm: true,
		Incidents: []sim.Incident{{
			Kind: sim.RoleMismatch, Scope: sim.Scope{Route: "/projects/{id}", Role: "member"}, Rate: 0.8,
			From: simStart.Add(3 * time.Hour), To: simStart.Add(4 * time.Hour),
		}},
		Releases: []marker.Marker{{Kind: marker.Release, Service: sim.Service, Version: "v2", Time: simStart.Add(3*time.Hour - 2*time.Minute)}},
	}
}

// TestIncidentsDependOnEventTimeOnly: the same input gives byte-identical
// incidents whatever the chunks, the interleaving of the sources and the order
// of lines within the lateness.
func TestIncidentsDependOnEventTimeOnly(t *testing.T) {
	web, app := simulate(t, brokenRole(5))
	markers := brokenRole(5).Releases
	// The access log is written by two servers.
	var parts [2]feed
	for i := range parts {
		parts[i] = feed{name: []string{"web-1", "web-2"}[i], vantage: web.vantage, format: web.format}
	}
	for i := range web.lines {
		p := &parts[i*7919%11%2]
		p.lines, p.times = append(p.lines, web.lines[i]), append(p.times, web.times[i])
	}
	feeds := []feed{parts[0], parts[1], app}
	ts, c := pipeline(t, feeds, markers, nil)
	want := encode(t, ts)
	if len(ts) == 0 {
		t.Fatal("nothing was found")
	}
	_, late := counted(c)
	if late != 0 {
		t.Fatalf("%d lines were late", late)
	}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 403))
		var mixed []feed
		for _, f := range feeds {
			mixed = append(mixed, f.shuffle(r, time.Minute))
		}
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		ts, c := pipeline(t, mixed, markers, r)
		if _, late := counted(c); late != 0 {
			t.Fatalf("seed %d: %d lines were late", seed, late)
		}
		if got := encode(t, ts); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// TestTwoVantagesOneIncident: the access log and the application's log of the
// same traffic are one incident, with the application's head-counts.
func TestTwoVantagesOneIncident(t *testing.T) {
	web, app := simulate(t, brokenRole(5))
	last := func(ts []incident.Transition) map[string]incident.Incident {
		m := map[string]incident.Incident{}
		for _, x := range ts {
			m[x.Incident.ID] = x.Incident
		}
		return m
	}
	both, _ := pipeline(t, []feed{web, app}, brokenRole(5).Releases, nil)
	alone, _ := pipeline(t, []feed{app}, brokenRole(5).Releases, nil)
	got, want := last(both), last(alone)
	if len(got) != 1 || len(want) != 1 {
		t.Fatalf("%d incidents from both logs, %d from the application's:\n%s", len(got), len(want), encode(t, both))
	}
	for _, in := range got {
		for _, a := range want {
			if in.Identities != a.Identities || in.Accounts != a.Accounts || in.Denials != a.Denials || in.Requests != a.Requests {
				t.Errorf("head-counts %d/%d/%d/%d, want the application's %d/%d/%d/%d",
					in.Identities, in.Accounts, in.Denials, in.Requests, a.Identities, a.Accounts, a.Denials, a.Requests)
			}
		}
		if in.Scope.Route != "/projects/{id}" || in.Scope.Role != "member" || in.Layer != "app" || in.State != incident.Resolved {
			t.Errorf("got %+v", in)
		}
		if in.MarkerInfo == nil || in.MarkerInfo.Version != "v2" {
			t.Errorf("the release is not named: %+v", in.MarkerInfo)
		}
		if len(in.Vantages) != 2 {
			t.Errorf("vantages %v", in.Vantages)
		}
	}
}
