package route_test

import (
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/route"
)

func router(t testing.TB, patterns ...string) *route.Router {
	t.Helper()
	r, bad := route.New(patterns)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	return r
}

func template(r *route.Router, target, app string) string {
	p := route.Path([]byte(target))
	_, end := r.Key(p, []byte(app))
	return string(r.Template(nil, p[:end], []byte(app)))
}

func TestShapes(t *testing.T) {
	r := router(t)
	for _, c := range []struct{ target, want string }{
		{"/", "/"},
		{"/?a=/b/1", "/"},
		{"/pricing", "/pricing"},
		{"/pricing/", "/pricing"},
		{"/pricing/?plan=pro", "/pricing"},
		{"/users/8141/export", "/users/{id}/export"},
		{"/users/8141/export?token=s3cr3t", "/users/{id}/export"},
		{"/users/8141#top", "/users/{id}"},
		{"/o/550e8400-e29b-41d4-a716-446655440000", "/o/{id}"},
		{"/c/deadbeef01", "/c/{id}"},
		{"/c/facade", "/c/facade"},
		{"/c/deadbeef", "/c/deadbeef"},
		{"/r/2026-11-24", "/r/{date}"},
		{"/api/v1/items", "/api/v1/items"},
		{"/files/AbC9xYz81LmNoPqR", "/files/{id}"},
		{"/u/ann@example.org/mail", "/u/{id}/mail"},
		{"/u/ann%40example.org/mail", "/u/{id}/mail"},
		{"/x/" + strings.Repeat("a", 65), "/x/{id}"},
		{"http://shop.example/users/12?x=1", "/users/{id}"},
		{"http://shop.example", "/"},
		{"*", ""},
		{"", ""},
		{`\x16\x03`, ""},
		{"/{id}/<b>\x00", "/%7Bid%7D/%3Cb%3E%00"},
		{"/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o", "/a/b/c/d/e/f/g/h/i/j/k/l/**"},
		{"/order-12345", "/{id}"},
	} {
		if got := template(r, c.target, ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.target, got, c.want)
		}
	}
}

func TestAppRoute(t *testing.T) {
	r := router(t)
	for _, c := range []struct{ app, want string }{
		{"/users/:id/export", "/users/{id}/export"},
		{"/users/{userId}", "/users/{userId}"},
		{"/p/<int:pk>/", "/p/{pk}"},
		{"users/<slug>", "/users/{slug}"},
		{"^p/(?P<pk>[0-9]+)$", "/p/{id}"},
		{"UsersController#show", "/p/{id}"},
		{"/a b", "/p/{id}"},
	} {
		if got := template(r, "/p/1", c.app); got != c.want {
			t.Errorf("%q: got %q, want %q", c.app, got, c.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	r := router(t, "/projects/{id}/export", "/projects/new", "/~{user}/**", "/reports/2024", "/files/**", "/files/{name}.pdf")
	for _, c := range []struct{ target, want string }{
		{"/projects/my-first/export", "/projects/{id}/export"},
		{"/projects/new", "/projects/new"},
		{"/projects/my-first", "/projects/my-first"},
		{"/~ann/a/b", "/~{user}/**"},
		{"/~ann", "/~{user}/**"},
		{"/reports/2024", "/reports/2024"},
		{"/reports/2025", "/reports/{id}"},
		{"/files", "/files/**"},
		{"/files/a.pdf", "/files/{name}.pdf"},
		{"/files/a/b.pdf", "/files/**"},
	} {
		if got := template(r, c.target, ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.target, got, c.want)
		}
	}
	if got := template(r, "/projects/x/export", "/projects/:id/:what"); got != "/projects/{id}/export" {
		t.Errorf("a pattern must win over the application's route, got %q", got)
	}
}

func TestPatternMistakes(t *testing.T) {
	_, bad := route.New([]string{"POST /x", "x", "/a/**/b", "/a//b", "/a/{b", "/ok", "/ok", "/q?x"})
	if len(bad) != 7 {
		t.Fatalf("got %d problems: %v", len(bad), bad)
	}
}

// TestKeyFollowsTemplate: equal keys mean equal templates; that is what makes a
// cache of templates by key right.
func TestKeyFollowsTemplate(t *testing.T) {
	for _, r := range []*route.Router{router(t), router(t, "/projects/{id}/export", "/a/**"), router(t, "/reports/2024")} {
		seen := map[uint64]string{}
		for _, target := range []string{
			"/", "/a", "/a/", "/a//", "/a/1", "/a/22", "/a/b", "/1/a", "/a1", "/1a", "/a/1/b", "/a/1/b/", "/a/1/b?q", "/a/2026-01-02", "/a/1/2",
			"/reports/2024", "/reports/2025", "/reports/2025/", "/projects/x/export", "/projects/y/export",
			"/a/b/c/d/e/f/g/h/i/j/k/l/m", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/1", "/a/b/c/d/e/f/g/h/i/j/k/l", "/a/b/c/d/e/f/g/h/i/j/k/l/?", "//", "///a",
		} {
			p := route.Path([]byte(target))
			k, end := r.Key(p, nil)
			tpl := string(r.Template(nil, p[:end], nil))
			if old, ok := seen[k]; ok && old != tpl {
				t.Errorf("%q has the key of %q but the template %q", target, old, tpl)
			}
			seen[k] = tpl
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("/users/12", "/users/13")
	f.Add("/a/b/c/d/e/f/g/h/i/j/k/l/m/1", "/a/b/c/d/e/f/g/h/i/j/k/l/m/2?x")
	r := router(f, "/p/{id}/x", "/q/**")
	f.Fuzz(func(t *testing.T, a, b string) {
		pa, pb := route.Path([]byte(a)), route.Path([]byte(b))
		ka, ea := r.Key(pa, nil)
		kb, eb := r.Key(pb, nil)
		ta, tb := string(r.Template(nil, pa[:ea], nil)), string(r.Template(nil, pb[:eb], nil))
		if ka == kb && ta != tb {
			t.Fatalf("%q and %q have one key, templates %q and %q", a, b, ta, tb)
		}
		if len(ta) > route.MaxBytes {
			t.Fatalf("%d bytes of template", len(ta))
		}
	})
}

func BenchmarkKey(b *testing.B) {
	r := router(b)
	p := []byte("/api/v1/projects/81413/members/550e8400-e29b-41d4-a716-446655440000?page=2")
	b.ReportAllocs()
	for b.Loop() {
		r.Key(p, nil)
	}
}
