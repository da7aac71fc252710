package detector_test

import (
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestSampledLogs lets the same week happen thrice: logged in full, one request of ten,
// and on two servers of which one logs all of its requests and the other one of ten. All
// three tell the same incidents and nothing else, from the first hours on; the less is
// logged the later. What happened is estimated, who was hit is who was seen. (What chance
// tells beside, on a site of 16 lines a minute, is counted in DESIGN.md; this week has
// none of it.)
func TestSampledLogs(t *testing.T) {
	walls := []struct {
		hour  int
		deny  float64
		scope incident.Scope
	}{
		{50, 0.6, incident.Scope{Service: "shop", Route: "/a0/r0"}},
		{74, 0.9, incident.Scope{Service: "shop", Geo: "FR"}},
		{98, 0.01, incident.Scope{Service: "shop", Route: "/a0/r4"}},
		{122, 0.5, incident.Scope{Service: "shop", Role: "editor"}},
	}
	const length = 3 * time.Hour
	hours := 168
	if raceOn {
		hours, walls = 54, walls[:1]
	}
	watch := func(arrange func(w *world)) (told []incident.Incident) {
		w := newWorld(5)
		w.noise = 0.1
		site(w, 12, 160, 0.2)
		arrange(w)
		d := detector.New(detector.Defaults())
		start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		usual := map[*flow]float64{}
		for _, f := range w.flows {
			usual[f] = f.deny
		}
		for m := range hours * 60 {
			now := start.Add(time.Duration(m) * time.Minute)
			for _, wall := range walls {
				at := start.Add(time.Duration(wall.hour) * time.Hour)
				for _, f := range w.flows {
					s := &wall.scope
					switch {
					case s.Route != "" && s.Route != f.key.Route || s.Role != "" && s.Role != f.key.Role || s.Geo != "" && s.Geo != f.key.Geo:
					case now.Equal(at) && wall.deny < 0.1:
						f.deny = min(f.deny, wall.deny)
					case now.Equal(at):
						f.deny += (1 - f.deny) * wall.deny
					case now.Equal(at.Add(length)):
						f.deny = usual[f]
					}
				}
			}
			d.Close(w.slot(now.Unix(), 60)[event.App])
		}
		return d.Incidents()
	}
	full := watch(func(*world) {})
	if len(full) != len(walls) {
		t.Fatalf("of the full log %d incidents are told, want %d: %+v", len(full), len(walls), full)
	}
	for name, arrange := range map[string]func(w *world){
		"one of ten": func(w *world) {
			for _, f := range w.flows {
				f.sample = 10
			}
		},
		"two servers": func(w *world) {
			for _, f := range w.flows[:len(w.flows):len(w.flows)] {
				f.rate /= 2
				g := *f
				g.sample = 10
				w.flows = append(w.flows, &g)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := watch(arrange)
			if len(told) != len(full) {
				t.Errorf("%d incidents are told, want %d", len(told), len(full))
			}
			for i := range told {
				in := &told[i]
				t.Logf("%s %+v %s, %.3f against %.4f, %d of %d, %d people", in.OpenedAt.Format("02 15:04"), in.Scope, in.Direction, in.ObservedRate, in.ExpectedRate, in.Denials, in.Requests, in.Identities)
				if i >= len(full) {
					continue
				}
				want := &full[i]
				if in.Scope != want.Scope || in.Direction != want.Direction || !in.Estimated || want.Estimated {
					t.Errorf("told %s %+v, estimated %v, of the full log %s %+v, estimated %v", in.Direction, in.Scope, in.Estimated, want.Direction, want.Scope, want.Estimated)
				}
				if late := in.OpenedAt.Sub(want.OpenedAt); late < -2*time.Minute || late > 45*time.Minute {
					t.Errorf("%+v is told %v after it would be of the full log", in.Scope, late)
				}
				near := func(a, b int64) bool { return 3*a > 2*b && 2*a < 3*b }
				if in.Direction != incident.Down && !near(in.Denials, want.Denials) || !near(in.Requests, want.Requests) || in.Identities > want.Identities {
					t.Errorf("%+v: %d of %d refused, %d people; of the full log %d of %d, %d", in.Scope, in.Denials, in.Requests, in.Identities, want.Denials, want.Requests, want.Identities)
				}
			}
		})
	}
}
