package detector_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/tally"
)

// site draws an application of n routes with roles and countries, of rates as
// real ones have them: few busy routes, many rare ones.
func site(w *world, n int, perMinute, cycle float64) {
	roles := []struct {
		name        string
		share, deny float64
	}{{"", 0.3, 0.03}, {"viewer", 0.45, 0.01}, {"editor", 0.2, 0.004}, {"admin", 0.05, 0.002}}
	geos := []struct {
		name  string
		share float64
	}{{"DE", 0.45}, {"FR", 0.25}, {"US", 0.2}, {"BR", 0.1}}
	var total float64
	for i := range n {
		total += 1 / float64(i+1)
	}
	for i := range n {
		for _, r := range roles {
			deny := r.deny * (0.3 + 2*w.rng.Float64())
			if i%9 == 4 && r.name != "admin" {
				deny = 0.9 // an area for administrators
			}
			for _, g := range geos {
				w.flows = append(w.flows, &flow{vantage: event.App, key: tally.Key{Service: "shop", Route: fmt.Sprintf("/a%d/r%d", i/5, i), Role: r.name, Geo: g.name},
					rate: perMinute / float64(i+1) / total * r.share * g.share, deny: deny, users: 2000, named: r.name != "",
					first: uint64(len(w.flows)) << 20, layer: event.LayerApp, cycle: cycle})
			}
		}
	}
}

// TestNullIsSilent feeds traffic in which nothing happens: several sites for
// several days, noisier than coin tosses and with a daily cycle. There may be no
// more alarms than the team accepted, chance included. DENYWATCH_NULL_DAYS=N and
// DENYWATCH_NULL_SITES=N measure more of it.
func TestNullIsSilent(t *testing.T) {
	days, sites := 3, 2
	if raceOn {
		days, sites = 1, 1
	}
	if s := os.Getenv("DENYWATCH_NULL_DAYS"); s != "" {
		days, _ = strconv.Atoi(s)
		sites = 8
	}
	if s := os.Getenv("DENYWATCH_NULL_SITES"); s != "" {
		sites, _ = strconv.Atoi(s)
	}
	kinds := []struct {
		routes int
		rate   float64
		noise  float64
		cycle  float64
	}{{8, 100, 0, 0}, {30, 60, 0.1, 0.2}, {60, 150, 0.15, 0.15}, {4, 4, 0, 0.2}}
	for k, kind := range kinds {
		alarms := 0
		for seed := range sites {
			w := newWorld(uint64(100*k + seed))
			w.noise = kind.noise
			site(w, kind.routes, kind.rate, kind.cycle)
			d := detector.New(detector.Defaults())
			start := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
			for m := range days * 1440 {
				c := w.slot(start.Add(time.Duration(m)*time.Minute).Unix(), 60)[event.App]
				for _, tr := range d.Close(c) {
					if tr.Kind == incident.Opened {
						alarms++
						in := &tr.Incident
						t.Logf("kind %d seed %d %s %s %+v %.4f against %.4f, %d of %d, %d people", k, seed, tr.At.Format("02 15:04"), in.Direction, in.Scope, in.ObservedRate, in.ExpectedRate, in.Denials, in.Requests, in.Identities)
					}
				}
			}
		}
		weeks := float64(days*sites) / 7
		t.Logf("kind %d: %d alarms in %.1f weeks", k, alarms, weeks)
		if float64(alarms) > weeks+2 { // chance
			t.Errorf("kind %d: %d alarms in %.1f weeks", k, alarms, weeks)
		}
	}
}
