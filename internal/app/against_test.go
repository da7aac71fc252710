package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestReplayAgainst: a configuration that does not count 403 drops the incident
// that the default tells; the other way round it is added; and a configuration
// against itself changes nothing.
func TestReplayAgainst(t *testing.T) {
	_, app := simulate(t, brokenRole(5))
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, bytes.Join(app.lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	blind := configs.Default()
	blind.Denials.Statuses = []int{451}
	run := func(a, b *configs.Config, asJSON bool) (int, string) {
		t.Helper()
		var out bytes.Buffer
		n, err := ReplayAgainst(context.Background(), ReplayOptions{
			Files: []string{path}, Format: "auto", Config: a, JSON: asJSON, Stdout: &out, Stderr: &out, Log: slog.New(slog.DiscardHandler),
		}, b)
		if err != nil {
			t.Fatal(err)
		}
		return n, out.String()
	}
	n, text := run(configs.Default(), blind, false)
	if n != 1 || !strings.Contains(text, "drops 1") || !strings.Contains(text, " - Tue 17 Nov") {
		t.Errorf("%d differences:\n%s", n, text)
	}
	n, text = run(blind, configs.Default(), true)
	var d Difference
	if err := json.Unmarshal([]byte(text), &d); err != nil || n != 1 || d.Change != Added || d.Incident != nil || d.Other == nil {
		t.Errorf("%d differences (%v):\n%s", n, err, text)
	}
	own := configs.Default()
	own.Routing.Templates.Headline = "{{.Role}}s are locked out of {{.Route}}"
	for _, c := range [][2]*configs.Config{{own, blind}, {blind, own}, {configs.Default(), own}} {
		if _, text := run(c[0], c[1], false); !strings.Contains(text, "s are locked out of /") {
			t.Errorf("the team's own words are missing:\n%s", text)
		}
	}
	n, text = run(nil, configs.Default(), false)
	if n != 0 || !strings.Contains(text, "tells the same: 1 incident") {
		t.Errorf("%d differences:\n%s", n, text)
	}
}

func TestCompareIncidents(t *testing.T) {
	at := func(min int) time.Time { return time.Date(2026, 3, 2, 8, min, 0, 0, time.UTC) }
	in := func(from, told, to int, scope incident.Scope) incident.Incident {
		end := at(to)
		return incident.Incident{Direction: incident.Up, Class: "refused", StartedAt: at(from), OpenedAt: at(told), ResolvedAt: &end, Scope: scope}
	}
	member, admin := incident.Scope{Role: "member"}, incident.Scope{Role: "admin"}
	route := incident.Scope{Route: "/a", Role: "member"}
	got := ""
	for _, d := range compare(
		[]incident.Incident{in(0, 3, 20, member), in(5, 6, 10, admin), in(30, 32, 40, member)},
		[]incident.Incident{in(0, 5, 20, route), in(1, 30, 40, member), in(50, 51, 52, member)},
	) {
		got += string(d.Change) + " "
	}
	if want := "later dropped earlier added "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestReplayWords: a replay says incidents in the team's own words, as messages do.
func TestReplayWords(t *testing.T) {
	_, app := simulate(t, brokenRole(5))
	path := filepath.Join(t.TempDir(), "app.log")
	if err := os.WriteFile(path, bytes.Join(app.lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := configs.Default()
	cfg.Routing.Templates = alerts.Templates{Headline: "{{if .Over}}gone{{else}}{{.Identities}} are locked out of {{.Route}}{{end}}", Reason: "Ask {{.Role}}s."}
	run := func(asJSON bool) string {
		t.Helper()
		var out bytes.Buffer
		if _, err := Replay(context.Background(), ReplayOptions{
			Files: []string{path}, Format: "auto", Config: cfg, JSON: asJSON, Stdout: &out, Stderr: &out, Log: slog.New(slog.DiscardHandler),
		}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var line struct {
		incident.Incident
		Words incident.Words `json:"words"`
	}
	if err := json.Unmarshal([]byte(run(true)), &line); err != nil || line.State != incident.Resolved {
		t.Fatalf("%v: %+v", err, line)
	}
	want := incident.Words{Headline: fmt.Sprintf("%d are locked out of %s", line.Identities, line.Scope.Route), Reason: "Ask " + line.Scope.Role + "s."}
	if line.Words != want {
		t.Errorf("got %+v, want %+v", line.Words, want)
	}
	if text := run(false); !strings.Contains(text, want.Headline) || !strings.Contains(text, want.Reason) {
		t.Errorf("%s does not say %+v", text, want)
	}
	cfg.Routing.Templates = alerts.Templates{}
	if text := run(true); strings.Contains(text, "words") {
		t.Errorf("without templates: %s", text)
	}
}
