package alerts_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and look at the diff); got:\n%s", path, got)
	}
}

var start1004 = time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)

// upgrade is the incident that the other cases vary.
func upgrade() incident.Incident {
	return incident.Incident{
		ID: "a1b2c3d4", State: incident.Open, Direction: incident.Up,
		StartedAt: start1004, OpenedAt: start1004.Add(3 * time.Minute),
		Scope:        incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"},
		ExpectedRate: 0.004, ObservedRate: 0.61, Requests: 700, Denials: 427, Identities: 212, Accounts: 38,
		Layer: "app", Causes: []string{"entitlement_missing"}, Marker: "shop-v2.31.0",
		MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: start1004.Add(-4 * time.Minute), Service: "shop", Version: "v2.31.0", Previous: "v2.30.4"},
		Severity:   incident.Critical, Team: "growth", Journey: "Upgrade", Vantages: []string{"app", "web"},
		Contrast: []incident.Contrast{
			{Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "owner"}, ObservedRate: 0.003, Requests: 900},
			{Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "admin"}, ObservedRate: 0.002, Requests: 400},
		},
	}
}

type textCase struct {
	name string
	t    incident.Transition
}

func textCases() []textCase {
	var cs []textCase
	add := func(name string, kind incident.Kind, minutes int, edit func(*incident.Incident)) {
		in := upgrade()
		at := start1004.Add(time.Duration(minutes) * time.Minute)
		if kind == incident.ResolvedKind {
			in.State, in.Resolution, in.ResolvedAt = incident.Resolved, incident.Recovered, &at
		}
		if edit != nil {
			edit(&in)
		}
		cs = append(cs, textCase{name, incident.Transition{Seq: len(cs) + 1, Kind: kind, At: at, Incident: in}})
	}
	noMarker := func(in *incident.Incident) { in.Marker, in.MarkerInfo = "", nil }

	add("one role on one route, opened", incident.Opened, 3, nil)
	add("the same, grown", incident.Grew, 11, func(in *incident.Incident) { in.Identities, in.Accounts = 480, 71 })
	back := int64(980)
	add("the same, recovered", incident.ResolvedKind, 40, func(in *incident.Incident) {
		in.Identities, in.Accounts, in.GotInAgain = 1104, 122, &back
	})
	add("the same while two versions run", incident.Grew, 12, func(in *incident.Incident) { in.Version = "v2.31.0" })
	add("the same, opened again", incident.Reopened, 55, func(in *incident.Incident) { in.Identities, in.Accounts = 1190, 130 })
	add("the same and another, merged", incident.MergedKind, 20, func(in *incident.Incident) {
		in.Merged = []incident.Part{{ID: "ab12", Scope: incident.Scope{Service: "shop", Route: "/billing/plans", Role: "editor"}}, {ID: "cd34", Scope: incident.Scope{Prefix: "/docs"}}}
	})
	add("the other, merged", incident.ResolvedKind, 20, func(in *incident.Incident) {
		in.Resolution, in.MergedInto = incident.Merged, "ef56"
	})
	add("roles and another route are fine", incident.Opened, 3, func(in *incident.Incident) {
		in.Contrast = append(in.Contrast, incident.Contrast{Scope: incident.Scope{Service: "shop", Route: "/home", Role: "member"}})
	})
	add("one person", incident.Opened, 3, func(in *incident.Incident) { in.Identities, in.Accounts = 1, 1 })
	add("one person, recovered", incident.ResolvedKind, 1, func(in *incident.Incident) { in.Identities, in.Accounts = 1, 0 })
	add("a country, whole site, at the edge", incident.Opened, 6, func(in *incident.Incident) {
		noMarker(in)
		in.Scope = incident.Scope{Geo: "BR"}
		in.Layer, in.Causes, in.ObservedRate, in.ExpectedRate = "edge", []string{"waf"}, 0.38, 0.0004
		in.Severity, in.Team, in.Journey, in.Accounts = incident.High, "security", "", 0
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Geo: "DE"}}, {Scope: incident.Scope{Geo: "FR"}}, {Scope: incident.Scope{Geo: "US"}}, {Scope: incident.Scope{Geo: "JP"}}, {Scope: incident.Scope{Geo: "IN"}}}
	})
	add("a country at the edge, by rules", incident.Opened, 6, func(in *incident.Incident) {
		noMarker(in)
		in.Scope = incident.Scope{Geo: "BR"}
		in.Layer, in.Causes = "edge", []string{"waf"}
		in.Rules = []incident.RuleCount{{Cause: "waf", Name: "942100", Denials: in.Denials - 7}, {Cause: "waf", Name: "_other", Denials: 4}, {Cause: "waf", Name: "block <bad> \u202ebots", Denials: 2}, {Cause: "waf", Name: "third", Denials: 1}}
	})
	add("role in a country", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope.Role, in.Scope.Geo = "editor", "BR"
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "editor", Geo: "DE"}}, {Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "owner", Geo: "BR"}}}
	})
	add("everyone on a directory, file permissions", incident.Opened, 3, func(in *incident.Incident) {
		noMarker(in)
		in.Scope = incident.Scope{Service: "docs", Prefix: "/manual"}
		in.ObservedRate, in.ExpectedRate, in.Layer, in.Causes, in.Accounts = 1, 0, "web", []string{"fs_permission", "directory_index", "acl"}, 0
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Service: "docs", Prefix: "/blog"}}}
	})
	add("more than usual, no slice", incident.Opened, 3, func(in *incident.Incident) {
		noMarker(in)
		in.Scope = incident.Scope{Route: "/search"}
		in.ObservedRate, in.Layer, in.Causes, in.Contrast, in.Degraded = 0.07, "unknown", nil, nil, true
	})
	add("a plan, price change without version", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope = incident.Scope{Route: "/exports/{id}", Plan: "team"}
		in.Estimated = true
		in.Marker = "prices-november"
		in.MarkerInfo = &incident.MarkerInfo{Kind: "pricing", Time: start1004.Add(-150 * time.Minute)}
		in.Causes = nil
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Route: "/exports/{id}", Plan: "pro"}}, {Scope: incident.Scope{Route: "/exports/{id}"}}}
	})
	add("a flag", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope = incident.Scope{Route: "/editor/{id}", Flag: "new-editor"}
		in.Marker, in.MarkerInfo = "flag-new-editor-on", &incident.MarkerInfo{Kind: "flag", Time: start1004}
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Route: "/editor/{id}"}}}
	})
	add("a host, configuration change, web", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope = incident.Scope{Route: "/pricing", Host: "eu.example.com"}
		in.Layer, in.Causes, in.ObservedRate = "web", []string{"acl"}, 0.998
		in.MarkerInfo = &incident.MarkerInfo{Kind: "config", Time: start1004.Add(2 * time.Minute)}
		in.Marker = "web-config"
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Route: "/pricing", Host: "us.example.com"}}}
	})
	add("edge only on a public route", incident.Opened, 3, func(in *incident.Incident) {
		noMarker(in)
		in.Scope = incident.Scope{Route: "/docs/{page}", Layer: "edge"}
		in.Layer, in.Causes = "", nil
	})
	add("a security rule, whole service", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope = incident.Scope{Service: "shop"}
		in.Layer = ""
		in.MarkerInfo = &incident.MarkerInfo{Kind: "security_rule", Time: start1004.Add(-time.Minute), Version: "rule 981"}
	})
	add("a vanished wall", incident.Opened, 3, func(in *incident.Incident) {
		in.Direction = incident.Down
		in.Scope = incident.Scope{Service: "shop", Route: "/admin/users", Role: "viewer"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials = 0.97, 0.004, 1240, 5
		in.Contrast = []incident.Contrast{{Scope: incident.Scope{Service: "shop", Route: "/admin/users", Role: "guest"}, ExpectedRate: 0.97, ObservedRate: 0.98}, {Scope: incident.Scope{Service: "shop", Route: "/admin/audit", Role: "viewer"}, ExpectedRate: 0.04, ObservedRate: 0.05}}
	})
	broken := &incident.AccessRule{Text: "allow /billing/** role=member,owner", Allow: true, Routes: []string{"/billing/**"}, Roles: []string{"member", "owner"},
		Hint: "Entitlements live in billing/plans.go."}
	add("an access rule broken", incident.Opened, 3, func(in *incident.Incident) {
		in.AccessRule, in.ExpectedRate, in.Identities, in.Accounts, in.UsedToGetIn = broken, 0, 5, 3, 2
	})
	add("an access rule broken, recovered", incident.ResolvedKind, 33, func(in *incident.Incident) {
		in.AccessRule, in.ExpectedRate, in.Identities, in.Accounts = broken, 0, 5, 3
	})
	add("an access rule without a hint, everyone refused", incident.Opened, 3, func(in *incident.Incident) {
		in.Scope = incident.Scope{Service: "shop", Route: "/docs/{page}"}
		in.AccessRule = &incident.AccessRule{Text: "allow /docs/** /help", Allow: true, Routes: []string{"/docs/**", "/help"}}
		in.ObservedRate, in.ExpectedRate, in.Identities, in.Accounts, in.Contrast = 1, 0, 9, 0, nil
	})
	leak := &incident.AccessRule{Text: "deny /admin/**", Routes: []string{"/admin/**"}}
	add("a leak", incident.Opened, 3, func(in *incident.Incident) {
		in.Direction, in.AccessRule, in.Layer, in.Causes = incident.Down, leak, "unknown", nil
		in.Scope = incident.Scope{Service: "shop", Route: "/admin/users", Role: "viewer"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials, in.Identities, in.Accounts = 1, 0.1, 10, 1, 7, 2
		in.Contrast = nil
	})
	add("a leak, recovered", incident.ResolvedKind, 50, func(in *incident.Incident) {
		in.Direction, in.AccessRule, in.Layer, in.Causes = incident.Down, leak, "unknown", nil
		in.Scope = incident.Scope{Service: "shop", Route: "/admin/users", Role: "viewer"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials, in.Identities, in.Accounts = 1, 0.4, 30, 12, 7, 2
		in.Contrast = nil
	})
	add("a leak to anonymous visitors on a plan's page, by method", incident.Opened, 3, func(in *incident.Incident) {
		in.Direction, in.Layer, in.Causes = incident.Down, "unknown", nil
		in.AccessRule = &incident.AccessRule{Text: "deny /exports/** method=POST,DELETE role=_none plan=free", Routes: []string{"/exports/**"}, Methods: []string{"POST", "DELETE"},
			Roles: []string{"_none"}, Plans: []string{"free"}, Hint: "Exports are part of Pro"}
		in.Scope = incident.Scope{Service: "shop", Route: "/exports/{id}", Role: incident.NoRole, Plan: "free"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials, in.Identities, in.Accounts, in.UsedToGetIn = 1, 0, 3, 0, 3, 0, 0
		in.Marker, in.MarkerInfo, in.Contrast = "", nil, nil
	})
	add("a vanished wall, grown", incident.Grew, 9, func(in *incident.Incident) {
		in.Direction = incident.Down
		in.Scope = incident.Scope{Prefix: "/admin"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials = 0.97, 0, 5000, 0
		in.Contrast = nil
	})
	add("a vanished wall, recovered", incident.ResolvedKind, 26*60, func(in *incident.Incident) {
		in.Direction = incident.Down
		in.Scope = incident.Scope{Prefix: "/admin"}
		in.ExpectedRate, in.ObservedRate, in.Requests, in.Denials = 0.97, 0.02, 5000, 100
	})
	add("a new route that refuses", incident.Opened, 3, func(in *incident.Incident) {
		in.Direction = incident.New
		in.Scope = incident.Scope{Service: "shop", Route: "/billing/v2/upgrade"}
		in.ObservedRate = 0.38
	})
	add("a new route, recovered", incident.ResolvedKind, 3*24*60, func(in *incident.Incident) {
		in.Direction = incident.New
		in.Scope = incident.Scope{Service: "shop", Route: "/billing/v2/upgrade", Role: "member"}
	})
	add("causes in sentences are left out", incident.Opened, 3, func(in *incident.Incident) {
		in.Causes = []string{"user bob@example.com may not upgrade", "none", "", "plan_expired", "rate_limit", "waf"}
	})
	add("only an id is known of the change", incident.Opened, 3, func(in *incident.Incident) { in.MarkerInfo = nil })
	add("release without the version before, other day", incident.Grew, 15*60, func(in *incident.Incident) { in.MarkerInfo.Previous = "" })
	add("nothing but a scope", incident.Opened, 3, func(in *incident.Incident) {
		*in = incident.Incident{ID: "x", Direction: incident.Up, StartedAt: start1004}
	})
	return cs
}

// nasty are values that logs can hold.
var nasty = map[string]string{
	"markup":      "<b>*bold*</b> _it_ ~no~ `code` & <https://evil.example|click>",
	"mention":     "<!channel> <!here> <@U123> @here @channel <#C1>",
	"newline":     "a\r\nb\n\n> quote\tc\x00\x1b[31mred\x1b[0m",
	"rtl":         "admin\u202egnp.exe",
	"hebrew":      "מנהל",
	"emoji":       "👩‍👩‍👧 :fire:",
	"zalgo":       "z̴̢̛̯͓a̸̛͔lgo",
	"long":        "/" + strings.Repeat("ünï/", 75),
	"invalid":     "a\xff\xfeb\u2028c",
	"invisible":   "ad\u200bmin\ufeff",
	"only spaces": " \t ",
}

func dump(x alerts.Text) string {
	var b strings.Builder
	line := func(name, v string) {
		if v != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name+":", v)
		}
	}
	line("headline", x.Headline)
	line("badge", x.Badge)
	line("reason", x.Reason)
	line("people", x.People)
	line("contrast", x.Contrast)
	line("since", x.Since)
	line("layer", x.Layer)
	line("sure", x.Sure)
	line("back", x.Back)
	for l := range strings.Lines(x.Check) {
		line("check", strings.TrimSuffix(l, "\n"))
	}
	line("likely", x.Likely)
	line("next", x.Next)
	line("note", x.Note)
	line("where", strings.Join(x.Where, " · "))
	line("step", x.Clock+" "+x.Step)
	return b.String()
}

func TestTexts(t *testing.T) {
	var b strings.Builder
	for _, c := range textCases() {
		fmt.Fprintf(&b, "## %s\n%s\n", c.name, dump(alerts.Render(c.t)))
	}
	zone := time.FixedZone("BRT", -3*3600)
	fmt.Fprintf(&b, "## another time zone\n%s\n", dump(alerts.Style{Location: zone}.Render(textCases()[0].t)))
	golden(t, "texts.golden", b.String())
}

func fill(v string) incident.Transition {
	in := upgrade()
	in.Scope = incident.Scope{Service: v, Route: v, Role: v, Geo: v, Plan: v, Host: v, Flag: v}
	in.Team, in.Journey, in.Causes = v, v, []string{v, v, v}
	in.MarkerInfo = &incident.MarkerInfo{Kind: v, Time: start1004, Service: v, Version: v, Previous: v}
	in.Contrast = []incident.Contrast{{Scope: incident.Scope{Role: v + "2"}}, {Scope: incident.Scope{Geo: v + "3"}}, {Scope: incident.Scope{Route: v + "4"}}}
	return incident.Transition{Seq: 1, Kind: incident.Opened, At: start1004.Add(3 * time.Minute), Incident: in}
}

func TestNastyValuesStayInOneLineOfText(t *testing.T) {
	var b strings.Builder
	for _, name := range []string{"markup", "mention", "newline", "rtl", "hebrew", "emoji", "zalgo", "long", "invalid", "invisible"} {
		fmt.Fprintf(&b, "## %s\n%s\n", name, dump(alerts.Render(fill(nasty[name]))))
	}
	golden(t, "nasty.golden", b.String())
	for name, v := range nasty {
		checkHarmless(t, name, alerts.Render(fill(v)))
	}
}

func checkHarmless(t *testing.T, name string, x alerts.Text) {
	t.Helper()
	for _, s := range append([]string{x.Headline, x.Reason, x.People, x.Contrast, x.Since, x.Layer, x.Likely, x.Next, x.Step}, x.Where...) {
		if !utf8.ValidString(s) {
			t.Errorf("%s: not UTF-8: %q", name, s)
		}
		if n := utf8.RuneCountInString(s); n > 600 {
			t.Errorf("%s: %d runes", name, n)
		}
		depth := 0
		for _, r := range s {
			switch {
			case r == 0x2068:
				depth++
			case r == 0x2069:
				depth--
			case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == 0x2028, r == 0x2029:
				t.Errorf("%s: %U in %q", name, r, s)
			}
		}
		if depth != 0 {
			t.Errorf("%s: isolates are not paired in %q", name, s)
		}
	}
}

func TestEveryLoggedValueIsEscaped(t *testing.T) {
	const canary = "CANARY"
	style := alerts.Style{Escape: func(s string) string { return strings.ReplaceAll(s, canary, "escaped") }}
	for _, kind := range []incident.Kind{incident.Opened, incident.Grew, incident.ResolvedKind, incident.Reopened, canary} {
		for _, dir := range []incident.Direction{incident.Up, incident.Down, incident.New} {
			for _, layer := range []string{"app", "web", "edge", canary} {
				tr := fill(canary)
				tr.Kind, tr.Incident.Direction, tr.Incident.Layer = kind, dir, layer
				for _, sc := range []incident.Scope{tr.Incident.Scope, {Prefix: canary}, {Service: canary}, {Role: canary}} {
					tr.Incident.Scope = sc
					if out := dump(style.Render(tr)); strings.Contains(out, canary) {
						t.Errorf("a value was not escaped:\n%s", out)
					}
				}
			}
		}
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"  a \n b  ", "a b"},
		{"0123456789", "0123456789"},
		{"0123456789x", "0123456789…"},
		{"012345678 x", "012345678…"},
		{"012345678  ", "012345678"},
		{"日本語日本語日本語日本語", "日本語日本語日本語日…"},
		{"a\u202eb", "ab"},
		{"\xff", "\ufffd"},
	} {
		if got := alerts.Clean(c.in, 10); got != c.want {
			t.Errorf("Clean(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct{ in, want string }{{"short", "short"}, {"exactly ten", "exactly t…"}, {"日本語日本語日本語日", "日本語日本語日本語日"}, {"12345678 0x", "12345678…"}} {
		if got := alerts.Clip(c.in, 10); got != c.want {
			t.Errorf("Clip(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, v := range nasty {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) { checkHarmless(t, "fuzz", alerts.Render(fill(v))) })
}

// TestClassesAndEndings: what is not plainly refused, and not plainly over, is
// said in its own words.
func TestClassesAndEndings(t *testing.T) {
	base := incident.Incident{
		Direction: incident.Up, Scope: incident.Scope{Route: "/reports", Role: "viewer"}, ObservedRate: 0.5, ExpectedRate: 0.01,
		Identities: 12, Accounts: 4, UsedToGetIn: 9, Class: incident.ClassRefused,
	}
	for _, c := range []struct {
		change func(*incident.Incident)
		kind   incident.Kind
		want   string
	}{
		{func(*incident.Incident) {}, incident.Opened, "/reports refuses role viewer | 50 % of their requests are refused (usually 1 %). | 12 people on 4 accounts, 9 of whom got in before."},
		{func(in *incident.Incident) { in.UsedToGetIn = 12 }, incident.Opened, "/reports refuses role viewer | 50 % of their requests are refused (usually 1 %). | 12 people on 4 accounts, all of whom got in before."},
		{func(in *incident.Incident) { in.Class = "unauthorized"; in.UsedToGetIn = 0 }, incident.Opened, "/reports does not recognise role viewer | 50 % of their requests are answered with 401, not signed in (usually 1 %). | 12 people on 4 accounts."},
		{func(in *incident.Incident) { in.Class = "soft"; in.Scope.Role = incident.NoRole }, incident.Opened, "/reports challenges visitors without a role | 50 % of their requests are challenged (usually 1 %). | 12 people on 4 accounts, 9 of whom got in before."},
		{func(in *incident.Incident) { in.Resolution = incident.Accepted; in.UsedToGetIn = 0 }, incident.ResolvedKind, "The new normal: how /reports treats role viewer has not changed for a day | 50 % of their requests were refused (usually 1 %). | 12 people on 4 accounts were affected."},
	} {
		in := base
		c.change(&in)
		x := alerts.Render(incident.Transition{Kind: c.kind, Incident: in})
		if got := x.Headline + " | " + x.Reason + " | " + x.People; got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestFixed: a recovery names the change that it followed.
func TestFixed(t *testing.T) {
	start := time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)
	cause := &incident.MarkerInfo{Kind: "release", Version: "v2.31.0", Previous: "v2.30.4", Time: start}
	for want, fix := range map[string]*incident.MarkerInfo{
		"recovered after 40 min":                                   nil,
		"after release v2.31.1: recovered after 40 min":            {Kind: "release", Version: "v2.31.1"},
		"rolled back to v2.30.4, recovered after 40 min":           {Kind: "release", Version: "v2.30.4"},
		"after configuration change fix-1: recovered after 40 min": {Kind: "config"},
	} {
		end := start.Add(40 * time.Minute)
		in := incident.Incident{Direction: incident.Up, StartedAt: start, ResolvedAt: &end, MarkerInfo: cause, FixInfo: fix, Fix: "fix-1", State: incident.Resolved}
		if x := alerts.Render(incident.Transition{Kind: incident.ResolvedKind, At: end, Incident: in}); x.Step != want {
			t.Errorf("got %q, want %q", x.Step, want)
		}
	}
}

// TestActs: what people decided is said with who did it, in the time line and at the
// end.
func TestActs(t *testing.T) {
	at := time.Date(2026, 11, 18, 10, 21, 0, 0, time.UTC)
	in := incident.Incident{
		Direction: incident.Up, Scope: incident.Scope{Route: "/reports", Role: "viewer"}, ObservedRate: 0.5, ExpectedRate: 0.01,
		StartedAt: at.Add(-17 * time.Minute), Class: incident.ClassRefused, Team: "growth",
	}
	ada := &incident.Act{By: "Ada\x1b[2J", Via: "slack", At: at, Until: at.Add(time.Hour)}
	for _, c := range []struct {
		kind           incident.Kind
		act            *incident.Act
		how            incident.Resolution
		headline, step string
	}{
		{incident.Acknowledged, ada, "", "/reports refuses role viewer", "acknowledged by Ada [2J"},
		{incident.Acknowledged, &incident.Act{Via: "api"}, "", "/reports refuses role viewer", "acknowledged"},
		{incident.Silenced, ada, "", "/reports refuses role viewer", "silenced by Ada [2J until 11:21"},
		{incident.Silenced, &incident.Act{By: "ci", Until: at.Add(24 * time.Hour)}, "", "/reports refuses role viewer", "silenced by ci until 19 Nov 10:21"},
		{incident.Unsilenced, nil, "", "/reports refuses role viewer", "no longer silenced, for the time is over"},
		{incident.Unsilenced, ada, "", "/reports refuses role viewer", "silence ended by Ada [2J"},
		{incident.Reopened, ada, "", "Again: /reports refuses role viewer", "opened again by Ada [2J"},
		{incident.MergedKind, &incident.Act{By: "ci", Other: "ab12<!channel>\n"}, "", "/reports refuses role viewer", "merged with incident ab12<!channel> by ci"},
		{incident.Split, &incident.Act{Other: "ab12"}, "", "/reports refuses role viewer", "now without incident ab12, parted"},
		{incident.Assigned, nil, "", "/reports refuses role viewer", "now with team growth"},
		{incident.Escalated, nil, "", "/reports refuses role viewer", "not acknowledged yet: more people are told"},
		{incident.ResolvedKind, ada, incident.Accepted, "The new normal: how /reports treats role viewer", "taken as the new normal by Ada [2J after 17 min"},
		{incident.ResolvedKind, ada, incident.Dismissed, "Not a problem: how /reports treats role viewer", "called not a problem by Ada [2J after 17 min"},
	} {
		tr := incident.Transition{Kind: c.kind, At: at, Act: c.act, Incident: in}
		tr.Incident.Resolution = c.how
		if x := alerts.Render(tr); x.Headline != c.headline || x.Step != c.step {
			t.Errorf("%s: %q, %q", c.kind, x.Headline, x.Step)
		}
	}
}
