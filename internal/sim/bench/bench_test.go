package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/sim"
)

func minute(m int) time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// TestScore holds what counts as found, as exact, as told again and as false.
func TestScore(t *testing.T) {
	billing := incident.Scope{Prefix: "/billing"}
	cards := incident.Scope{Route: "/billing/cards", Role: "viewer"}
	labels := []sim.Label{
		{Kind: sim.RoleMismatch, Direction: incident.Up, Scope: cards, From: minute(100), To: minute(160), Marker: "v2", Bound: 2},
		{Kind: sim.Surge, Benign: true, From: minute(200), To: minute(220)},
		{Kind: sim.Vanished, Direction: incident.Down, Scope: incident.Scope{Route: "/admin/users"}, From: minute(300), To: minute(360), Bound: 4},
	}
	told := []found{
		{opened: minute(90), rise: true, first: cards, last: cards},                                               // before it began
		{opened: minute(103), rise: true, first: billing, last: cards, marker: "v2"},                              // found, later exact
		{opened: minute(110), rise: true, first: billing, last: billing},                                          // again
		{opened: minute(170), rise: true, first: cards, last: cards},                                              // an echo
		{opened: minute(210), rise: true, first: incident.Scope{Geo: "DE"}, last: incident.Scope{Role: "editor"}}, // during a surge
		{opened: minute(310), rise: true, first: incident.Scope{Route: "/admin/users"}},                           // the wrong direction
		{opened: minute(350), rise: false, first: incident.Scope{Route: "/docs"}, last: billing},                  // elsewhere
		{opened: minute(364), rise: false, first: incident.Scope{}, last: incident.Scope{Role: "any"}},            // late but not too late
	}
	s := newScore()
	notes := map[string]int{}
	s.judge(labels, minute(0), told, func(what string, _ *sim.Label, _ *found) { notes[what]++ })
	k := s.kinds[sim.RoleMismatch]
	if k.hits != 1 || k.exact != 1 || k.exactFirst != 0 || k.blamed != 1 || k.delays[0] != 3 || k.ratios()[0] != 1.5 {
		t.Errorf("the broken role: %+v", k)
	}
	if k := s.kinds[sim.Vanished]; k.hits != 1 || k.exact != 0 || k.delays[0] != 64 {
		t.Errorf("the vanished wall: %+v", k)
	}
	if s.wrong != 5 || s.again != 1 || s.echoes != 2 || s.during[sim.Surge] != 1 {
		t.Errorf("%d false, %d echoes, %d again, during %v", s.wrong, s.echoes, s.again, s.during)
	}
	if want := map[string]int{"false": 5, "again": 1, "scope": 1, "slow": 1, "stuck": 2}; !reflect.DeepEqual(notes, want) {
		t.Errorf("notes %v, want %v", notes, want)
	}
}

func trial(t *testing.T) *sim.Trial {
	t.Helper()
	tr, err := sim.NewTrial(sim.Setting{Seed: 3, Start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), WarmUp: 0, Test: 1, Routes: 12, Roles: 3, Geos: 3, Rate: 60, Quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestFeed: the counts are those of the visits, in the order of the ledger.
func TestFeed(t *testing.T) {
	a, b := trial(t), newFeed(trial(t), 1)
	for range 300 {
		start, visits, _ := a.Minute()
		c := b.next()
		var n, denied, hits, entered int
		for i := range c.Leaves {
			l := &c.Leaves[i]
			n += int(l.Requests())
			denied += int(l.Denied[event.Refused])
			entered += len(l.Entered)
			for k := range l.Hits {
				hits += int(l.Hits[k].Denials)
				if l.Hits[k].Requests < l.Hits[k].Denials {
					t.Fatalf("%+v", l.Hits[k])
				}
			}
			if i > 0 && c.Leaves[i-1].Key.Route > l.Key.Route {
				t.Fatalf("%+v comes before %+v", c.Leaves[i-1].Key, l.Key)
			}
		}
		want := 0
		for i := range visits {
			if visits[i].Denied {
				want++
			}
		}
		if c.Start != start || n != len(visits) || denied != want || hits != want || entered > n-denied {
			t.Fatalf("%d: %d requests, %d denied, %d by hits, %d entered; of %d visits %d were refused", c.Start, n, denied, hits, entered, len(visits), want)
		}
	}
}

// TestRun prints a whole table, of a small product and with all rivals.
func TestRun(t *testing.T) {
	o := options{setting: "tiny", set: "held-out", n: 1, first: 1, warm: 1, days: 1, perWeek: 1, rivals: true}
	var out bytes.Buffer
	if err := o.run(&out); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"denywatch", "threshold 0.05", "z-score 12", "EWMA 8", "Holt-Winters 40", "last week x2"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("no %q in\n%s", word, out.String())
		}
	}
	o.setting = "huge"
	if err := o.run(&out); err == nil || !strings.Contains(err.Error(), "standard") {
		t.Errorf("unknown setting: %v", err)
	}
}
