package access_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/internal/access"
)

// rules reads rules from text, one a line: "allow /a/** role=x,y".
func rules(text string) (out []access.Rule) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		r := access.Rule{Allow: map[string]string{"allow": "true", "deny": "false", "either": "either"}[words[0]]}
		for _, w := range words[1:] {
			k, v, ok := strings.Cut(w, "=")
			list := strings.Split(v, ",")
			switch {
			case !ok:
				r.Route = append(r.Route, w)
			case k == "role":
				r.Role = list
			case k == "plan":
				r.Plan = list
			case k == "geo":
				r.Geo = list
			case k == "flag":
				r.Flag = list
			case k == "method":
				r.Method = list
			case k == "service":
				r.Service = list
			}
		}
		out = append(out, r)
	}
	return out
}

func model(t interface{ Fatal(...any) }, text string) *access.Model {
	m, bad := access.New(rules(text))
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	return m
}

// query reads a request: "route=/a role=x,y anonymous".
func query(text string) (route string, q access.Query) {
	for _, w := range strings.Fields(text) {
		k, v, _ := strings.Cut(w, "=")
		var list [][]byte
		for _, x := range strings.Split(v, ",") {
			list = append(list, []byte(x))
		}
		switch k {
		case "route":
			route = v
		case "role":
			q.Roles = list
		case "flag":
			q.Flags = list
		case "plan":
			q.Plan = []byte(v)
		case "geo":
			q.Geo = []byte(v)
		case "method":
			q.Method = []byte(v)
		case "service":
			q.Service = v
		case "anonymous":
			q.Anonymous = true
		}
	}
	return route, q
}

func decide(m *access.Model, text string) access.Decision {
	route, q := query(text)
	rs := m.On(route)
	if rs == nil {
		return access.Decision{}
	}
	return rs.Decide(&q)
}

func TestLastMatchWins(t *testing.T) {
	m := model(t, `
		deny  /admin/**
		allow /admin/** role=owner,admin
		deny  /admin/keys/{id} role=admin method=DELETE
		allow /
		allow /docs/** /blog/*
		deny  /exports/** plan=free
		deny  /exports/** geo=KP,IR
		deny  /beta/**
		allow /beta/** flag=beta
		allow /v1/report-{name}.pdf service=api
		either /blog/drafts
		allow /members/**
		deny  /members/** role=_none
	`)
	for _, c := range []struct {
		request, want string
		rule          int
	}{
		{"route=/admin role=viewer", "deny", 0},
		{"route=/admin/users/{id} role=admin", "allow", 1},
		{"route=/admin/users/{id} role=viewer,owner", "allow", 1},
		{"route=/admin/keys/{uuid} role=admin method=DELETE", "deny", 2},
		{"route=/admin/keys/{uuid} role=admin method=GET", "allow", 1},
		{"route=/admin/keys/{uuid} role=admin", "undeclared", 0}, // the log has no methods
		{"route=/administration role=viewer", "undeclared", 0},
		{"route=/", "allow", 3},
		{"route=/docs/a/b/c", "allow", 4},
		{"route=/blog/{slug}", "allow", 4},
		{"route=/blog/{slug}/comments", "undeclared", 0},
		{"route=/blog/drafts", "either", 10},
		{"route=/exports/csv plan=free", "deny", 5},
		{"route=/exports/csv plan=pro geo=IR", "deny", 6},
		{"route=/exports/csv plan=free geo=DE", "deny", 5},
		{"route=/exports/csv plan=pro geo=DE", "undeclared", 0},
		{"route=/exports/csv geo=DE", "undeclared", 0}, // whose plan is not known
		{"route=/beta/x flag=beta,dark", "allow", 8},
		{"route=/beta/x flag=dark", "deny", 7},
		{"route=/beta/x", "undeclared", 0}, // flags may not be logged at all
		{"route=/v1/report-7.pdf service=api", "allow", 9},
		{"route=/v1/report-.pdf service=api", "undeclared", 0},
		{"route=/v1/report-7.pdf service=shop", "undeclared", 0},
		// A web server that knows no roles cannot tell who it was ...
		{"route=/admin/users", "undeclared", 0},
		// ... an application can.
		{"route=/admin/users anonymous", "deny presumed", 0},
		{"route=/members/x anonymous", "deny presumed", 12},
		{"route=/members/x role=viewer", "allow", 11},
		{"route=/exports/csv geo=DE anonymous", "undeclared", 0},
		// Questions of browsers are no visits.
		{"route=/admin/users role=viewer method=OPTIONS", "undeclared", 0},
		{"route=_other role=viewer", "undeclared", 0},
	} {
		d := decide(m, c.request)
		got := d.Verdict.String()
		if d.Verdict != access.Undeclared && d.Presumed {
			got += " presumed"
		}
		if n, _ := m.Find(d.Rule); got != c.want || d.Rule != 0 && n != c.rule {
			t.Errorf("%s: got %s by rule %d, want %s by %d", c.request, got, n, c.want, c.rule)
		}
	}
}

func TestNoRules(t *testing.T) {
	m, bad := access.New(nil)
	if m != nil || bad != nil || m.Len() != 0 || m.On("/x") != nil || m.Describe(1) != nil || m.Conflicts() != nil {
		t.Fatal("no rules are not nothing")
	}
}

func TestDescribe(t *testing.T) {
	rs := rules("allow /billing/** role=owner,admin plan=pro")
	rs[0].Hint = "Ask the billing team"
	m, _ := access.New(rs)
	d := decide(m, "route=/billing role=owner plan=pro")
	r := m.Describe(d.Rule)
	if r == nil || r.Text != "allow /billing/** role=owner,admin plan=pro" || !r.Allow || r.Hint != "Ask the billing team" {
		t.Fatalf("got %+v", r)
	}
	// The id of a rule is that of what it says: it outlives its place and its hint.
	other := model(t, "deny /x\nallow /billing/** role=owner,admin plan=pro")
	if n, ok := other.Find(d.Rule); !ok || n != 1 {
		t.Fatalf("the rule is at %d, %t", n, ok)
	}
}

func TestConflicts(t *testing.T) {
	names := map[access.Kind]string{access.Duplicate: "duplicate", access.Contradiction: "contradiction", access.Shadowed: "shadowed", access.Crossing: "crossing"}
	for _, c := range []struct{ rules, want string }{
		{"deny /admin/**\nallow /admin/** role=admin", ""},
		{"allow /admin/** role=admin\ndeny /admin/**", "0 shadowed by 1"},
		{"allow /a role=x,y\nallow /a role=y,x", "0 duplicate by 1"},
		{"allow /a\ndeny /a\neither /a", "0 contradiction by 1, 1 contradiction by 2"},
		{"allow /a/{id}\ndeny /a/**", "0 shadowed by 1"},
		{"allow /a/{id} /b\ndeny /a/**", "0 crossing by 1"},
		{"allow /a/{id}\ndeny /a/x", ""},
		{"deny /exports/** plan=free\nallow /exports/** role=owner", "0 crossing by 1"},
		{"deny /exports/** plan=free\nallow /docs/** role=owner", ""},
		{"deny /x role=a\nallow /x role=b", ""},
		{"deny /x geo=DE\nallow /x geo=DE,FR", "0 shadowed by 1"},
		{"allow /x method=OPTIONS\ndeny /x", ""},
		{"allow /x/*\ndeny /*/y", "0 crossing by 1"},
		{"allow /x service=a\ndeny /x service=b", ""},
		{"either /x plan=a\nallow /x role=b", ""},
	} {
		var got []string
		for _, x := range model(t, c.rules).Conflicts() {
			got = append(got, fmt.Sprintf("%d %s by %d", x.Earlier, names[x.Kind], x.Later))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%q: got %q, want %q", c.rules, s, c.want)
		}
	}
}

func TestProblems(t *testing.T) {
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		rule access.Rule
		path string
		msg  string
	}{
		{access.Rule{Allow: "true"}, "[0].route", "is missing"},
		{access.Rule{Route: []string{"/a"}}, "[0].allow", "is missing"},
		{access.Rule{Route: []string{"/a"}, Allow: "yes"}, "[0].allow", "must be true, false or either"},
		{access.Rule{Route: []string{}, Allow: "true"}, "[0].route", "is empty"},
		{access.Rule{Route: []string{"a"}, Allow: "true"}, "[0].route[0]", "starts with /"},
		{access.Rule{Route: []string{"GET /a"}, Allow: "true"}, "[0].route[0]", "method: GET"},
		{access.Rule{Route: []string{"/a/**/b"}, Allow: "true"}, "[0].route[0]", "at the end"},
		{access.Rule{Route: []string{"/a//b"}, Allow: "true"}, "[0].route[0]", "empty segment"},
		{access.Rule{Route: []string{"/a/{id"}, Allow: "true"}, "[0].route[0]", "both braces"},
		{access.Rule{Route: []string{"/a?b"}, Allow: "true"}, "[0].route[0]", "query string"},
		{access.Rule{Route: []string{"/a"}, Role: []string{}, Allow: "true"}, "[0].role", "is empty"},
		{access.Rule{Route: []string{"/a"}, Role: []string{"x", "x"}, Allow: "true"}, "[0].role[1]", "twice"},
		{access.Rule{Route: []string{"/a"}, Role: []string{long}, Allow: "true"}, "[0].role[0]", "longer"},
		{access.Rule{Route: []string{"/a"}, Role: []string{"adm*"}, Allow: "true"}, "[0].role[0]", "no pattern"},
		{access.Rule{Route: []string{"/a"}, Plan: []string{" x"}, Allow: "true"}, "[0].plan[0]", "spaces"},
		{access.Rule{Route: []string{"/a"}, Geo: []string{"_none"}, Allow: "true"}, "[0].geo[0]", "only a role"},
		{access.Rule{Route: []string{"/a"}, Method: []string{"get"}, Allow: "true"}, "[0].method[0]", `write "GET"`},
		{access.Rule{Route: []string{"/a"}, Flag: []string{"a\nb"}, Allow: "true"}, "[0].flag[0]", "control"},
		{access.Rule{Route: []string{"/a"}, Allow: "true", Hint: "a\nb"}, "[0].hint", "one line"},
		{access.Rule{Route: []string{"/a"}, Allow: "true", Hint: strings.Repeat("x", 301)}, "[0].hint", "longer"},
	} {
		_, bad := access.New([]access.Rule{c.rule})
		if len(bad) != 1 || bad[0].Path != c.path || !strings.Contains(bad[0].Msg, c.msg) {
			t.Errorf("%+v: got %v, want %s: ...%s...", c.rule, bad, c.path, c.msg)
		}
	}
	if _, bad := access.New(make([]access.Rule, 501)); len(bad) != 1 || !strings.Contains(bad[0].Msg, "500") {
		t.Errorf("too many rules: %v", bad)
	}
}

// TestCoversAndMeets: what shadows a rule decides wherever the rule would, and
// rules that decide differently in both orders meet.
func TestCoversAndMeets(t *testing.T) {
	seg := rapid.SampledFrom([]string{"a", "b", "ab", "{id}", "*", "a{x}", "{x}b"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		p := "/" + strings.Join(rapid.SliceOfN(seg, 0, 3).Draw(t, "segments"), "/")
		if rapid.Bool().Draw(t, "deep") {
			p = strings.TrimSuffix(p, "/") + "/**"
		}
		return p
	})
	route := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "aab", "{id}"}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		p, q := pattern.Draw(t, "p"), pattern.Draw(t, "q")
		m := model(t, "allow "+p+"\ndeny "+q)
		kinds := map[access.Kind]bool{}
		for _, c := range m.Conflicts() {
			kinds[c.Kind] = true
		}
		r := "/" + strings.Join(route.Draw(t, "route"), "/")
		one, other := model(t, "allow "+p), model(t, "deny "+q)
		first, second := one.On(r) != nil, other.On(r) != nil
		if first && !second && (kinds[access.Shadowed] || kinds[access.Contradiction] || kinds[access.Duplicate]) {
			t.Fatalf("%s is said to be shadowed by %s, but %s", p, q, r)
		}
		// Both match and neither is an exception of the other: somebody should know.
		swapped := model(t, "deny "+q+"\nallow "+p).Conflicts()
		if first && second && len(m.Conflicts()) == 0 && len(swapped) == 0 {
			t.Fatalf("%s and %s meet in %s", p, q, r)
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, s := range []string{"/a/{id}/**", "/*", "/{", "/}{", "//", "/a*{x}"} {
		f.Add(s, "/a/b")
	}
	f.Fuzz(func(t *testing.T, pattern, template string) {
		m, bad := access.New([]access.Rule{{Route: []string{pattern}, Allow: "true"}})
		if len(bad) == 0 {
			m.On(template)
			m.On(pattern)
			m.Conflicts()
		}
	})
}

func TestDecideAllocatesNothing(t *testing.T) {
	m := model(t, "deny /a/**\nallow /a/** role=x,y plan=pro flag=f method=GET geo=DE")
	rs := m.On("/a/b")
	_, q := query("role=z,y plan=pro flag=g,f method=GET geo=DE")
	if n := testing.AllocsPerRun(100, func() { rs.Decide(&q) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	m := model(b, "deny /a/**\nallow /a/** role=x,y plan=pro flag=f method=GET geo=DE")
	rs := m.On("/a/b")
	_, q := query("role=z,y plan=pro flag=g,f method=GET geo=DE")
	b.ReportAllocs()
	for b.Loop() {
		rs.Decide(&q)
	}
}
