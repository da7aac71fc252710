package detector_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestSlowRiseIsNoNoise lets the odds of one route triple where all rates waver. What
// gathers evidence over an hour must not be taken for noise, nor for normal, meanwhile.
func TestSlowRiseIsNoNoise(t *testing.T) {
	if raceOn {
		t.Skip("a matter of rates, not of races")
	}
	found, wrong, total := 0, 0, 0
	var delays []time.Duration
	for seed := range 4 {
		w := newWorld(uint64(4100 + seed))
		w.noise = 0.25
		for i := range 12 {
			w.flows = append(w.flows, &flow{vantage: event.App, key: tally.Key{Service: "shop", Route: fmt.Sprintf("/a%d/r%d", i/4, i), Role: "viewer", Geo: "DE"},
				rate: 6 + 2*float64(i), deny: 0.01 + 0.002*float64(i%5), users: 400, first: uint64(1000 * (i + 1)), named: true, layer: event.LayerApp, cause: "app_policy"})
		}
		d := detector.New(detector.Defaults())
		now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
		var told []incident.Transition
		run := func(m int) {
			told = told[:0]
			for range m {
				told = append(told, d.Close(w.slot(now.Unix(), 60)[event.App])...)
				now = now.Add(time.Minute)
			}
		}
		run(60 * 60)
		for i := range 3 {
			f := w.flows[(5*i+seed)%len(w.flows)]
			usual, start := f.deny, now
			odds := 3.2 * usual / (1 - usual)
			f.deny = odds / (1 + odds)
			run(5 * 60)
			total++
			for _, tr := range told {
				switch {
				case tr.Kind != incident.Opened:
				case tr.Incident.Scope.Route == f.key.Route:
					found++
					delays = append(delays, tr.Incident.OpenedAt.Sub(start))
				default:
					wrong++
					t.Logf("seed %d: %s %+v", seed, tr.Incident.Direction, tr.Incident.Scope)
				}
			}
			f.deny = usual
			run(10 * 60)
		}
	}
	t.Logf("%d of %d found, %d false, after %v", found, total, wrong, delays)
	if found < total*5/6 || wrong > 2 {
		t.Error("worse than promised")
	}
}
