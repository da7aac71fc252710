package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/incident"
)

const accessConfig = `service: shop
sources: [{files: app.jsonl, format: json}]
access:
  - { route: "/admin/**", allow: false }
  - { route: "/admin/**", role: admin, allow: true }
  - { route: "/billing/**", role: [member, owner], allow: true, hint: "Entitlements live in billing/plans.go" }
  - { route: "/exports/**", plan: free, allow: false }
`

// accessLog is an hour of a product nobody knew before: viewers bounce off the
// administration, as they should, until somebody forgets the check after half of
// it; members are refused in billing from minute 40 to 50.
func accessLog() []byte {
	var b bytes.Buffer
	start := time.Date(2026, 11, 18, 10, 0, 0, 0, time.UTC)
	line := func(at time.Time, status int, path, user, role, plan string) {
		fmt.Fprintf(&b, `{"time":%q,"method":"GET","path":%q,"status":%d,"client_ip":"192.0.2.%d","user_id":%q,"account_id":"acct-%s","role":%q,"plan":%q,"country":"DE"}`+"\n",
			at.Format(time.RFC3339), path, status, len(user)+int(user[len(user)-1])%100, user, user[len(user)-1:], role, plan)
	}
	for m := range 90 {
		for i := range 6 {
			at := start.Add(time.Duration(m)*time.Minute + time.Duration(i*10)*time.Second)
			who := fmt.Sprint((m*6 + i) % 23)
			line(at, 200, "/home", "v"+who, "viewer", "free")
			line(at, 200, "/billing/invoices/"+who, "o"+who, "owner", "pro")
			line(at, 403, "/exports/"+who+"/csv", "f"+who, "viewer", "free")
			admin := 403
			if m >= 60 && m < 75 {
				admin = 200
			}
			if i%2 == 0 {
				line(at, admin, "/admin/users", "v"+who, "viewer", "free")
			}
			line(at, 200, "/admin/users", "a"+who, "admin", "pro")
			member := 200
			if m >= 40 && m < 50 {
				member = 403
			}
			line(at, member, "/billing/upgrade", "m"+who, "member", "pro")
		}
	}
	return b.Bytes()
}

// TestAccessRulesInReplay: rules find what is broken and what leaks in a product
// without history; refusals that they ask for are no news.
func TestAccessRulesInReplay(t *testing.T) {
	dir := t.TempDir()
	log, cfgFile := filepath.Join(dir, "app.jsonl"), filepath.Join(dir, "denywatch.yaml")
	for name, data := range map[string][]byte{log: accessLog(), cfgFile: []byte(accessConfig)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := configs.Load(cfgFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	replay := func(asJSON bool) (string, int) {
		var out bytes.Buffer
		n, err := app.Replay(context.Background(), app.ReplayOptions{
			Files: []string{log}, Format: "auto", Config: cfg, JSON: asJSON, Stdout: &out, Stderr: io.Discard, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.String(), n
	}
	out, n := replay(true)
	var got []incident.Incident
	for line := range strings.Lines(out) {
		var in incident.Incident
		if err := json.Unmarshal([]byte(line), &in); err != nil {
			t.Fatal(err)
		}
		got = append(got, in)
	}
	if n != 2 || len(got) != 2 {
		t.Fatalf("%d incidents:\n%s", n, out)
	}
	clock := func(at time.Time) string { return at.Format("15:04") }
	up, down := &got[0], &got[1]
	if up.Direction != incident.Up || up.Scope.Route != "/billing/upgrade" || up.Scope.Role != "member" && up.Scope.Role != "" || up.AccessRule == nil ||
		up.AccessRule.Text != "allow /billing/** role=member,owner" || up.AccessRule.Hint != "Entitlements live in billing/plans.go" ||
		clock(up.StartedAt) != "10:40" || up.OpenedAt.Sub(up.StartedAt) > 2*time.Minute || up.ResolvedAt == nil || up.Identities != 23 {
		t.Errorf("the broken rule: %+v, rule %+v", up, up.AccessRule)
	}
	if down.Direction != incident.Down || down.Scope.Route != "/admin/users" || down.Scope.Role != "viewer" || down.AccessRule == nil ||
		down.AccessRule.Text != "deny /admin/**" || clock(down.StartedAt) != "11:00" || down.OpenedAt.Sub(down.StartedAt) > 2*time.Minute || down.ResolvedAt == nil {
		t.Errorf("the leak: %+v, rule %+v", down, down.AccessRule)
	}
	text, _ := replay(false)
	for _, want := range []string{
		"your access rules", "Your access rules let roles member and owner into /billing/**", "Your access rules keep everyone out of /admin/**",
		"765 refusals are what your access rules ask for.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestCheckAccess(t *testing.T) {
	cfg, _, err := configs.Parse([]byte(accessConfig), filepath.Join(t.TempDir(), "denywatch.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    app.AccessQuestion
		want string
	}{
		{app.AccessQuestion{Path: "/billing/8141", Roles: []string{"owner"}},
			"route /billing/{id}, service shop, role owner\n  allow, by access[2] (line 6): allow /billing/** role=member,owner\n  hint: Entitlements live in billing/plans.go\n"},
		{app.AccessQuestion{Path: "/admin", Roles: []string{"viewer"}}, "route /admin, service shop, role viewer\n  deny, by access[0] (line 4): deny /admin/**\n"},
		{app.AccessQuestion{Path: "/exports/{id}/csv"},
			"route /exports/{id}/csv, service shop\n  undeclared: no rule matches, or it hangs on what was not said; what is usual decides\n  rules of this route ask for: plan\n"},
		{app.AccessQuestion{Path: "/home"}, "route /home, service shop\n  undeclared: no rule speaks of this route; what is usual decides\n"},
	} {
		var out bytes.Buffer
		if err := app.CheckAccess(cfg, c.q, &out); err != nil || out.String() != c.want {
			t.Errorf("%+v: %v\n%swant\n%s", c.q, err, out.String(), c.want)
		}
	}
	if err := app.CheckAccess(cfg, app.AccessQuestion{Path: "billing"}, io.Discard); err == nil {
		t.Error("a path without / is one")
	}
}
