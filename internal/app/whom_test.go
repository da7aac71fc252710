package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/incident"
)

const routingConfig = accessConfig + `journeys:
  - { name: Upgrade, steps: [/pricing, "POST /billing/upgrade"], importance: critical, owner: growth }
owners:
  - { match: "**", team: platform }
  - { match: "/billing/**", team: growth }
  - { layer: edge, team: security }
teams:
  growth: { slack: "#growth", mention: { critical: S0123456789 }, escalate: { critical: 15m, to: platform } }
  security: { slack: "#sec" }
  platform:
sinks:
  slack: { token: xoxb-1-2-abcdefghijkl, channel: "#walls" }
  webhook: { url: "https://hooks.example/x", min_severity: critical }
`

func TestCheckRouting(t *testing.T) {
	cfg, _, err := configs.Parse([]byte(routingConfig), filepath.Join(t.TempDir(), "denywatch.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    app.AccessQuestion
		want string
	}{
		{app.AccessQuestion{Path: "/billing/upgrade", Roles: []string{"viewer"}, Layer: "app", Direction: "up", People: 50}, `  an incident there: high for 50 people, then critical because the journey Upgrade is critical
  journey: Upgrade, step 2 of 2
  owner: team growth, by owners[1] (line 12): /billing/**
  told at: webhook
  told at: slack #growth, calling S0123456789
  unless it is acknowledged within 15 min: team platform
`},
		{app.AccessQuestion{Path: "/billing/upgrade", Layer: "edge", Direction: "up", People: 1}, `  an incident there: low for 1 person, then high because the journey Upgrade is critical
  journey: Upgrade, step 2 of 2
  owner: team security, by owners[2] (line 13): layer=edge
  told too: team growth, whose journey it is
  told at: slack #sec
  told at: slack #growth (team growth)
`},
		{app.AccessQuestion{Path: "/search", Layer: "app", Direction: "down", People: 50}, `  an incident there: medium by the share that was refused before
  owner: team platform, by owners[0] (line 11): **
  told at: slack
`},
	} {
		var out bytes.Buffer
		if err := app.CheckRouting(cfg, c.q, &out); err != nil || out.String() != c.want {
			t.Errorf("%+v: %v\n%swant\n%s", c.q, err, out.String(), c.want)
		}
	}
	if err := app.CheckRouting(cfg, app.AccessQuestion{Path: "billing"}, io.Discard); err == nil {
		t.Error("a path without / is one")
	}
}

// TestReplayKnowsTeams: a replay says whose incident it would have been, and how
// urgent.
func TestReplayKnowsTeams(t *testing.T) {
	dir := t.TempDir()
	log, cfgFile := filepath.Join(dir, "app.jsonl"), filepath.Join(dir, "denywatch.yaml")
	for name, data := range map[string][]byte{log: accessLog(), cfgFile: []byte(routingConfig)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := configs.Load(cfgFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := app.Replay(context.Background(), app.ReplayOptions{
		Files: []string{log}, Format: "auto", Config: cfg, JSON: true, Stdout: &out, Stderr: io.Discard, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		var in incident.Incident
		if err := json.Unmarshal([]byte(line), &in); err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Join([]string{in.Scope.Route, in.Team, in.Journey, string(in.Severity)}, " "))
	}
	if want := "/billing/upgrade growth Upgrade high|/admin/users platform  high"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
