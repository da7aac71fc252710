package alerts_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestDigest holds digests against testdata/digest.golden.
func TestDigest(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	to := time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)
	from := to.AddDate(0, 0, -1)
	one := func(id string, change func(*incident.Incident)) *incident.Transition {
		in := incident.Incident{ID: id, State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, Severity: incident.Medium, StartedAt: from.Add(3 * time.Hour), Identities: 20,
			Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"}}
		change(&in)
		return &incident.Transition{Seq: 2, Kind: incident.Grew, At: to, Incident: in}
	}
	resolved := func(how incident.Resolution) func(*incident.Incident) {
		return func(in *incident.Incident) {
			end := in.StartedAt.Add(time.Hour)
			in.State, in.Resolution, in.ResolvedAt, in.Severity = incident.Resolved, how, &end, incident.Low
		}
	}
	calm := alerts.Summary{ID: "d", From: from, To: to, Location: berlin, Routes: 182, Series: 1204,
		Sources: []alerts.SourceSummary{{Name: "web", Lines: 1_000_000, Unparsed: 20}, {Name: "app", Lines: 204_000}}}
	busy := calm
	busy.Team = "growth"
	busy.Sources = append(busy.Sources, alerts.SourceSummary{Name: "edge"}, alerts.SourceSummary{Name: "old", Lines: 4, Unparsed: 4, Suspended: true})
	busy.Incidents = []*incident.Transition{
		one("a1", resolved(incident.Recovered)), one("b2", resolved(incident.Dismissed)),
		one("c3", func(in *incident.Incident) {
			in.Severity, in.Journey, in.Identities, in.Accounts = incident.Critical, "Upgrade", 212, 38
		}),
	}
	for i := range 12 {
		busy.Incidents = append(busy.Incidents, one(fmt.Sprintf("z%02d", i), resolved(incident.Recovered)))
	}
	for i := range 7 {
		busy.Valid = append(busy.Valid, alerts.ValidSummary{Route: fmt.Sprintf("/exports/%d", i), Role: []string{"", "viewer", incident.NoRole}[i%3], N: uint64(1000 * i)})
	}
	for i := range 4 {
		busy.Scans = append(busy.Scans, incident.Scan{TopRoute: "/wp-login.php", Routes: i, Denials: int64(10 * i), Identities: int64(i), From: from.Add(time.Hour)})
	}
	busy.Waiting, busy.Dead = 3, 1
	blind := alerts.Summary{From: from, To: to, Sources: []alerts.SourceSummary{{Name: "web"}}}
	first := calm
	first.First = true
	var b strings.Builder
	for _, s := range []*alerts.Summary{&calm, &busy, &blind, &first} {
		p := alerts.Digest(s)
		fmt.Fprintln(&b, p.Headline)
		for _, part := range p.Parts {
			if part.Title != "" {
				fmt.Fprintln(&b, "  "+part.Title)
			}
			for _, l := range part.Lines {
				fmt.Fprintln(&b, "    "+l)
			}
		}
		fmt.Fprintln(&b)
	}
	const file = "testdata/digest.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s", b.String())
	}
}

// TestDigestIsHarmless: what came from logs is cleaned and cut.
func TestDigestIsHarmless(t *testing.T) {
	for _, v := range nasty {
		in := fill(v)
		s := &alerts.Summary{Team: v, Incidents: []*incident.Transition{&in}, Valid: []alerts.ValidSummary{{Route: v, Role: v, N: 1}},
			Scans: []incident.Scan{{TopRoute: v}}, Sources: []alerts.SourceSummary{{Name: v, Lines: 1}, {Name: v, Suspended: true}}}
		p := alerts.Digest(s)
		lines := []string{p.Headline}
		for _, part := range p.Parts {
			lines = append(lines, part.Lines...)
		}
		for _, l := range lines {
			if strings.ContainsAny(l, "\n\r\x1b\x00\u202e") || len([]rune(l)) > 600 {
				t.Errorf("%.40q made %.200q", v, l)
			}
		}
	}
}
