package detector_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestFindsWalls breaks one slice after another on sites with noise and a daily
// cycle, and asks that nearly all are found, soon, and by their right name.
// DENYWATCH_WALL_SEEDS=FIRST+N measures on N other sites.
func TestFindsWalls(t *testing.T) {
	kinds := []string{"route role", "geo", "prefix", "route", "role geo", "prefix role", "route geo", "role", "all", "route role geo", "prefix geo"}
	var found, exact, total, wrong int
	var delays []time.Duration
	first, seeds := 900, 3
	if raceOn {
		seeds = 2
	}
	if s := os.Getenv("DENYWATCH_WALL_SEEDS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d+%d", &first, &seeds); err != nil {
			t.Fatalf("DENYWATCH_WALL_SEEDS is FIRST+NUMBER, such as 900+12: %v", err)
		}
	}
	for seed := range seeds {
		w := newWorld(uint64(first + seed))
		w.noise = 0.1
		site(w, 20, 120, 0.2)
		d := detector.New(detector.Defaults())
		now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		var told []incident.Transition
		run := func(m int) {
			for range m {
				told = append(told, d.Close(w.slot(now.Unix(), 60)[event.App])...)
				now = now.Add(time.Minute)
			}
		}
		run(24 * 60)
		for _, tr := range told {
			if tr.Kind == incident.Opened {
				wrong++
				t.Logf("seed %d: false before all: %+v", seed, tr.Incident.Scope)
			}
		}
		for n, kind := range kinds {
			told = nil
			// A slice that sees at least two requests a minute.
			var want incident.Scope
			var hit []*flow
			for range 1000 {
				f := w.flows[w.rng.IntN(len(w.flows))]
				want = incident.Scope{Service: "shop"}
				for _, dim := range [...]struct {
					name string
					to   *string
					v    string
				}{{"route", &want.Route, f.key.Route}, {"role", &want.Role, f.key.Role}, {"geo", &want.Geo, f.key.Geo}, {"prefix", &want.Prefix, f.key.Route[:len("/a0")]}} {
					if slices.Contains(strings.Fields(kind), dim.name) {
						*dim.to = dim.v
					}
				}
				hit = hit[:0]
				rate := 0.0
				for _, g := range w.flows {
					if (want.Route == "" || g.key.Route == want.Route) && (want.Role == "" || g.key.Role == want.Role) &&
						(want.Geo == "" || g.key.Geo == want.Geo) && (want.Prefix == "" || g.key.Route[:3] == want.Prefix) {
						hit = append(hit, g)
						rate += g.rate * (1 - g.deny)
					}
				}
				if rate > 2 && (want.Role != "" || !strings.Contains(kind, "role")) {
					break
				}
			}
			before := make([]float64, len(hit))
			share := []float64{0.6, 0.15, 0.9}[(n+seed)%3]
			for i, f := range hit {
				before[i] = f.deny
				f.deny += (1 - f.deny) * share
			}
			start := now
			run(40)
			total++
			in := incident.Incident{}
			for _, tr := range told {
				if tr.Kind == incident.Opened && in.ID == "" {
					in = tr.Incident
				} else if tr.Kind == incident.Opened {
					wrong++
					t.Logf("seed %d %s: another: %s %+v %.3f against %.3f", seed, kind, tr.Incident.Direction, tr.Incident.Scope, tr.Incident.ObservedRate, tr.Incident.ExpectedRate)
				}
				if tr.Incident.ID == in.ID {
					in = tr.Incident
				}
			}
			switch in.ID {
			case "":
				t.Logf("seed %d %s: %+v at %.0f%% not found", seed, kind, want, 100*share)
			default:
				found++
				delays = append(delays, in.OpenedAt.Sub(start))
				if in.Scope == want {
					exact++
				} else {
					t.Logf("seed %d: %+v at %.0f%% is called %+v", seed, want, 100*share, in.Scope)
				}
			}
			for i, f := range hit {
				f.deny = before[i]
			}
			told = nil
			run(80)
			for _, tr := range told {
				if tr.Kind == incident.Opened {
					wrong++
					t.Logf("seed %d after %s: false: %s %+v %.3f against %.3f", seed, kind, tr.Incident.Direction, tr.Incident.Scope, tr.Incident.ObservedRate, tr.Incident.ExpectedRate)
				}
			}
			for _, in := range d.Incidents() {
				if in.State == incident.Open {
					t.Errorf("seed %d %s: %+v is still open", seed, kind, in.Scope)
				}
			}
		}
	}
	slices.Sort(delays)
	t.Logf("%d of %d found, %d exact, %d false, median delay %v, the slowest %v", found, total, exact, wrong, delays[len(delays)/2], delays[len(delays)-1])
	if found < total*95/100 || exact < found*85/100 || wrong > 2 || delays[len(delays)/2] > 3*time.Minute {
		t.Error("worse than promised")
	}
}
