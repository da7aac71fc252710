package slug_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/route/slug"
	"github.com/denywatch/denywatch/internal/wire"
)

// store is a Writer that keeps what it is given.
type store map[string][]byte

func (s store) Put(key string, value []byte) error { s[key] = slices.Clone(value); return nil }
func (s store) Delete(key string) error            { delete(s, key); return nil }

func (s store) load(keep ...string) (*slug.Learner, error) {
	l := slug.New(keep)
	for k, v := range s { // in any order
		if err := l.Load(k, v); err != nil {
			return nil, err
		}
	}
	return l, l.Loaded()
}

func save(t testing.TB, l *slug.Learner, s store) {
	t.Helper()
	if err := l.Save(s); err != nil {
		t.Fatal(err)
	}
	l.Saved()
}

func titles(n int) []string {
	rnd := rand.New(rand.NewPCG(7, uint64(n)))
	seen := map[string]bool{}
	for len(seen) < n {
		seen[text(rnd, 3)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func expect(t *testing.T, l *slug.Learner, service string, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := l.Template(ref(service, pairs[i])); got != pairs[i+1] {
			t.Errorf("%s: got %s, want %s", pairs[i], got, pairs[i+1])
		}
	}
}

func TestCollapse(t *testing.T) {
	l := slug.New(nil)
	list := titles(45)
	for _, s := range list[:30] {
		l.Observe(ref("web", "/blog/"+s), 3, 3)
	}
	l.EndSlot()
	expect(t, l, "web", "/blog/"+list[0], "/blog/"+list[0])
	for _, s := range list {
		l.Observe(ref("web", "/blog/"+s), 2, 2)
		l.Observe(ref("web", "/blog/"+s+"/comments"), 1, 1)
	}
	// A page with a sub-tree of its own and much traffic.
	for _, s := range []string{"", "/{year}", "/{year}/{month}", "/by-author"} {
		l.Observe(ref("web", "/blog/chronicle"+s), 300, 300)
	}
	l.Observe(ref("web", "/blog/search"), 1, 1)
	l.Observe(ref("web", "/blog/{id}"), 5, 5)
	l.EndSlot()
	expect(t, l, "web",
		"/blog/"+list[0], "/blog/{slug}",
		"/blog/"+list[0]+"/comments", "/blog/{slug}/comments",
		"/blog/never-seen-before", "/blog/{slug}",
		"/blog/never-seen-before/comments", "/blog/{slug}/comments",
		"/blog/chronicle", "/blog/chronicle",
		"/blog/chronicle/{year}/{month}", "/blog/chronicle/{year}/{month}",
		"/blog/search", "/blog/search",
		"/blog/{id}", "/blog/{id}",
		"/blog", "/blog",
	)
	expect(t, l, "other", "/blog/"+list[0], "/blog/"+list[0])
}

// TestRoutesStay: the end points of an API, each with traffic or more below.
func TestRoutesStay(t *testing.T) {
	l := slug.New(nil)
	rnd := rand.New(rand.NewPCG(1, 1))
	var names []string
	for _, a := range vocabulary[:60] {
		names = append(names, a, a+"-"+vocabulary[rnd.IntN(60)])
	}
	for range 20 {
		for i, n := range names {
			l.Observe(ref("api", "/api/v1/"+n), uint32(1+600/(i+1)), 1)
			l.Observe(ref("api", "/api/v1/"+n+"/{id}"), uint32(1+300/(i+1)), 1)
			if i < 60 {
				l.Observe(ref("api", "/"+n), uint32(5+600/(i+1)), 1)
			}
		}
		l.EndSlot()
	}
	for _, n := range names {
		expect(t, l, "api", "/api/v1/"+n, "/api/v1/"+n, "/api/v1/"+n+"/{id}", "/api/v1/"+n+"/{id}")
	}
	expect(t, l, "api", "/"+names[3], "/"+names[3])
}

func TestForms(t *testing.T) {
	l := slug.New(nil)
	for i := range 25 {
		l.Observe(ref("web", fmt.Sprintf("/rooms/room%d", i)), 1000, 990)
		l.Observe(ref("web", fmt.Sprintf("/%d", i)), 10, 10)
		l.Observe(ref("web", fmt.Sprintf("/pics/side-%d.jpg", i)), 10, 10)
	}
	l.Observe(ref("web", "/rooms/lobby"), 10, 10)
	l.EndSlot()
	expect(t, l, "web", "/rooms/room7", "/rooms/room{id}", "/rooms/room99/key", "/rooms/room{id}/key", "/rooms/lobby", "/rooms/lobby",
		"/7", "/{id}", "/pics/side-7.jpg", "/pics/side-{id}.jpg")
}

func TestLocales(t *testing.T) {
	l := slug.New(nil)
	for _, p := range []string{"/cart", "/checkout", "/help/{id}"} {
		for _, loc := range []string{"{locale}", "it", "us", "my"} {
			if loc != "my" || p == "/cart" {
				l.Observe(ref("shop", "/"+loc+p), 9, 9)
			}
		}
	}
	l.Observe(ref("shop", "/my/orders"), 9, 9)
	l.Observe(ref("shop", "/my/points"), 9, 9)
	l.EndSlot()
	expect(t, l, "shop", "/it/cart", "/{locale}/cart", "/us/help/{id}", "/{locale}/help/{id}", "/it/new", "/{locale}/new", "/my/orders", "/my/orders", "/de/cart", "/de/cart")
}

func TestUnmatched(t *testing.T) {
	l := slug.New([]string{"/legacy/import"})
	for range 300 {
		l.Observe(ref("app", "/billing/plans"), 20, 19)
		l.Observe(ref("app", "/wp-login.php"), 50, 0) // much asked for, but by nobody who means it
		l.Observe(ref("app", "/.env"), 3, 0)
		l.Observe(ref("app", "/legacy/import"), 1, 0)
		l.Observe(ref("app", "/billing/{plan}"), 1, 0)
		l.Observe(ref("app", "/users/{id}"), 1, 0)
		l.EndSlot()
	}
	l.Observe(ref("app", "/billing/upgrade"), 5, 0)
	l.Observe(ref("app", "/"), 5, 0)
	l.EndSlot()
	expect(t, l, "app",
		"/wp-login.php", slug.Unmatched, "/.env", slug.Unmatched,
		"/legacy/import", "/legacy/import", "/billing/{plan}", "/billing/{plan}", "/users/{id}", "/users/{id}", "/", "/",
		"/billing/plans", "/billing/plans",
		"/billing/upgrade", slug.Unmatched, // not yet
		"", "", "_other", "_other", "/files/**", "/files/**", "/{a}/**", "/{a}/**",
	)
	long := "/a/b/c/d/e/f/g/h/i/j/k/l/**"
	l.Observe(ref("app", long), 1, 0)
	l.EndSlot()
	expect(t, l, "app", long, slug.Unmatched)
	for range 7 {
		l.Observe(ref("app", "/billing/upgrade"), 5, 0)
		l.EndSlot()
	}
	// A new wall that people run into is a route, and stays one.
	expect(t, l, "app", "/billing/upgrade", "/billing/upgrade")
	for range 3000 {
		l.EndSlot()
	}
	expect(t, l, "app", "/billing/upgrade", "/billing/upgrade", "/wp-login.php", slug.Unmatched)
	// One success proves the path.
	l.Observe(ref("app", "/wp-login.php"), 1, 1)
	l.EndSlot()
	expect(t, l, "app", "/wp-login.php", "/wp-login.php")
	for range 3 {
		l.Observe(ref("app", "/wp-login.php"), 1, 0)
		l.EndSlot()
	}
	expect(t, l, "app", "/wp-login.php", "/wp-login.php")
}

type observed struct {
	service, route string
	requests, ok   uint32
}

// slots is traffic for the tests of order, restarts and bounds.
func slots(seed uint64, n, size int) [][]observed {
	rnd := rand.New(rand.NewPCG(seed, 1))
	all := make([][]observed, n)
	for i := range all {
		for range size {
			o := observed{service: []string{"a", "b"}[rnd.IntN(2)], requests: 1 + uint32(rnd.IntN(30))}
			switch rnd.IntN(8) {
			case 0:
				o.route = "/blog/" + text(rnd, 3)
			case 1:
				o.route = "/u/" + text(rnd, 1) + text(rnd, 1) + "/repos/" + text(rnd, 2)
			case 2:
				o.route = fmt.Sprintf("/it%d/x%d", rnd.IntN(40), rnd.IntN(40))
			case 3:
				o.route = "/{locale}/" + []string{"p", "c"}[rnd.IntN(2)] + "/" + text(rnd, 2) + ".html"
			case 4:
				o.route = "/it/" + []string{"p", "c"}[rnd.IntN(2)] + "/" + text(rnd, 2) + ".html"
			case 5:
				o.route = "/" + text(rnd, 1) + "/" + text(rnd, 4)
			case 6:
				o.route = "/" + text(rnd, 1) + "/{id}/" + text(rnd, 1)
			default:
				o.route = "/scan/" + text(rnd, 5)
				o.requests = 1
			}
			if rnd.IntN(5) > 0 && !strings.HasPrefix(o.route, "/scan") {
				o.ok = o.requests
			}
			all[i] = append(all[i], o)
		}
	}
	return all
}

// ref is a reference that knows nothing yet.
func ref(service, route string) *slug.Ref { return &slug.Ref{Service: service, Route: route} }

// refs remembers references, as a caller does who sees the same routes again.
type refs map[observed]*slug.Ref

func (rs refs) of(service, route string) *slug.Ref {
	k := observed{service: service, route: route}
	if rs[k] == nil {
		rs[k] = ref(service, route)
	}
	return rs[k]
}

func feed(l *slug.Learner, slot []observed, find func(service, route string) *slug.Ref) {
	for _, o := range slot {
		l.Observe(find(o.service, o.route), o.requests, o.ok)
	}
	l.EndSlot()
}

// TestOrderAndRestarts: the same slots give the same state, in any order inside
// a slot, over restarts, and whether references are remembered or new; what has collapsed stays collapsed.
func TestOrderAndRestarts(t *testing.T) {
	traffic := slots(3, 40, 400)
	known := refs{}
	straight, shuffled, restarted := slug.New(nil), slug.New(nil), slug.New(nil)
	sa, sb, sc := store{}, store{}, store{}
	rnd := rand.New(rand.NewPCG(9, 9))
	collapsed := map[observed]string{}
	for i, slot := range traffic {
		feed(straight, slot, known.of)
		mixed := slices.Clone(slot)
		rnd.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		feed(shuffled, mixed, ref)
		feed(restarted, slot, ref)
		save(t, restarted, sc)
		if i%3 == 0 {
			var err error
			if restarted, err = sc.load(); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range slot {
			k := observed{service: o.service, route: o.route}
			got := straight.Template(known.of(o.service, o.route))
			if was := collapsed[k]; strings.Count(was, "{") > strings.Count(got, "{") {
				t.Fatalf("slot %d: %s was %s and is %s", i, o.route, was, got)
			}
			if got != slug.Unmatched {
				collapsed[k] = got
			}
			if again := straight.Template(ref(o.service, got)); again != got {
				t.Fatalf("the template of template %s is %s", got, again)
			}
			if other := restarted.Template(ref(o.service, o.route)); other != got {
				t.Fatalf("slot %d: %s is %s, after restarts %s", i, o.route, got, other)
			}
		}
	}
	save(t, straight, sa)
	save(t, shuffled, sb)
	if !maps.EqualFunc(sa, sb, slices.Equal) {
		t.Error("the order inside slots matters")
	}
	if !maps.EqualFunc(sa, sc, slices.Equal) {
		t.Error("restarts matter")
	}
	expect(t, straight, "a", "/blog/x-y-z", "/blog/{slug}", "/u/ann/repos/b", "/u/{slug}/repos/{slug}", "/it3/x4", "/it{id}/x{id}", "/it/p/z.html", "/{locale}/p/{slug}.html")
}

// TestBounds: whatever scanners and long tails bring, the state and the set of
// templates stay small, and order still does not matter.
func TestBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	traffic := make([][]observed, 4)
	traffic[0] = []observed{{"s", "/billing/plans", 500, 500}}
	for i := 1; i < len(traffic); i++ {
		for j := range 80_000 {
			ok := uint32(0)
			if j%10 == 0 {
				ok = 1
			}
			traffic[i] = append(traffic[i], observed{"s", fmt.Sprintf("/q%dx/a%db/.c%dd", j%200, i, j*7919), 1, ok})
		}
		traffic[i] = append(traffic[i], observed{"s", "/billing/plans", 500, 500})
	}
	a, b := slug.New(nil), slug.New(nil)
	known := refs{}
	for _, slot := range traffic {
		feed(a, slot, known.of)
		slices.Reverse(slot)
		feed(b, slot, ref)
		names := map[string]bool{}
		for _, o := range slot {
			names[a.Template(ref(o.service, o.route))] = true
		}
		if len(names) > 1<<15 {
			t.Errorf("%d templates", len(names))
		}
	}
	sa, sb := store{}, store{}
	save(t, a, sa)
	save(t, b, sb)
	if !maps.EqualFunc(sa, sb, slices.Equal) {
		t.Error("the order inside slots matters")
	}
	size := 0
	for _, v := range sa {
		size += len(v)
	}
	if size > 2<<20 {
		t.Errorf("%d bytes of state", size)
	}
	if _, err := sa.load(); err != nil {
		t.Error(err)
	}
	expect(t, a, "s", "/billing/plans", "/billing/plans")
}

func TestLoadRefuses(t *testing.T) {
	l := slug.New(nil)
	feed(l, slots(5, 1, 50)[0], ref)
	s := store{}
	save(t, l, s)
	for k, v := range s {
		for cut := range v {
			if cut%7 > 0 && cut > 8 {
				continue
			}
			broken := maps.Clone(s)
			broken[k] = v[:cut]
			if _, err := broken.load(); !errors.Is(err, wire.ErrCorrupt) {
				t.Fatalf("%s cut at %d of %d: %v", k, cut, len(v), err)
			}
		}
	}
	delete(s, "nodes/000000")
	if l, err := s.load(); err != nil || l.Template(ref("a", "/x")) != "/x" {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	l := slug.New(nil)
	for _, slot := range slots(4, 3, 60) {
		feed(l, slot, ref)
	}
	s := store{}
	if err := l.Save(s); err != nil {
		f.Fatal(err)
	}
	f.Add(s["head"], s["nodes/000000"], "/blog/x")
	small := slug.New(nil)
	small.Observe(ref("a", "/b/c1"), 9, 1)
	small.Observe(ref("a", "/b/{id}"), 9, 1)
	small.EndSlot()
	for i := range 20 {
		small.Observe(ref("a", fmt.Sprint("/", i)), 1, 1)
	}
	small.EndSlot()
	s = store{}
	if err := small.Save(s); err != nil {
		f.Fatal(err)
	}
	f.Add(s["head"], s["nodes/000000"], "/b/c1")
	f.Add([]byte{1, 5}, []byte{1, 1, 1, 1, 1, 'a', 0, 0, 0, 0, 0}, "/a")
	f.Fuzz(func(t *testing.T, head, nodes []byte, path string) {
		l := slug.New(nil)
		if l.Load("head", head) != nil || l.Load("nodes/000000", nodes) != nil {
			return
		}
		err := l.Loaded()
		l.Observe(ref("a", path), 1, 1)
		l.EndSlot()
		l.Template(ref("a", path))
		out := store{}
		if err == nil {
			save(t, l, out)
		}
	})
}

// FuzzObserve: no sequence of slots breaks what holds between them.
func FuzzObserve(f *testing.F) {
	f.Add("/blog/a-b-c\n/blog/d-e-f\n\n/x/{id}/1\n/{locale}/cart\n/it/cart", uint8(50))
	f.Fuzz(func(t *testing.T, script string, many uint8) {
		l := slug.New(nil)
		s := store{}
		for line := range strings.SplitSeq(script, "\n") {
			if line == "" {
				l.EndSlot()
				continue
			}
			for i := range many {
				l.Observe(ref("s", strings.ReplaceAll(line, "a", fmt.Sprint("a", i))), uint32(i)+1, uint32(i)&3)
				l.Observe(ref("s", strings.ReplaceAll(line, "b", vocabulary[int(i)%len(vocabulary)])), uint32(i)+1, uint32(i)&3)
			}
		}
		l.EndSlot()
		if err := l.Save(s); err != nil {
			t.Fatal(err)
		}
		again, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(script, "\n") {
			got := l.Template(ref("s", line))
			if other := again.Template(ref("s", line)); other != got {
				t.Fatalf("%q: %q, after a restart %q", line, got, other)
			}
		}
	})
}

func BenchmarkSlot(b *testing.B) {
	traffic := slots(8, 60, 2000)
	l := slug.New(nil)
	known := refs{}
	for _, s := range traffic {
		feed(l, s, known.of)
	}
	b.Run("observe", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			feed(l, traffic[i%len(traffic)], known.of)
		}
	})
	b.Run("template", func(b *testing.B) {
		b.ReportAllocs()
		slot := traffic[0]
		for i := 0; b.Loop(); i++ {
			o := &slot[i%len(slot)]
			l.Template(known.of(o.service, o.route))
		}
	})
}
