package detector

import (
	"testing"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

func TestBuckets(t *testing.T) {
	var b buckets
	got := ""
	for i, at := range []uint32{0, 0, 0, 0, 60, 600, 660, 1200, 6000, 6000, 6000, 6000} {
		if b.take(7, int32(i), at) {
			got += "y"
		} else {
			got += "n"
		}
	}
	if got != "yyynnynyyyyn" {
		t.Fatalf("three at once, then one in ten minutes: %s", got)
	}
	b.sweep(7000)
	if b.n != 1 {
		t.Fatal("a bucket that is not full was dropped")
	}
	b.sweep(9000)
	if b.n != 0 || len(b.m[0]) != 0 {
		t.Fatal("a full bucket was kept")
	}
}

// TestRetriesCountOnce: who tries again on the same cell counts once in ten minutes, also in
// the next slot; elsewhere he counts.
func TestRetriesCountOnce(t *testing.T) {
	var b buckets
	for _, c := range []struct {
		cell   int32
		at     uint32
		counts bool
	}{{1, 0, true}, {1, 60, false}, {1, 540, false}, {2, 540, true}, {1, 660, true}, {1, 1200, false}, {1, 1260, true}} {
		if b.take(7, c.cell, c.at) != c.counts {
			t.Errorf("%+v", c)
		}
	}
}

// TestCap: a muted client leaves with its requests in proportion, so that the
// rate of the others is what remains.
func TestCap(t *testing.T) {
	j, room := newJudge(event.App, "", event.Refused, 0), 1
	j.setStep(60)
	j.find(&tally.Key{Route: "/"}, &room)
	p := &pastSlot{}
	l := &slots.Leaf{Hits: []slots.Hit{
		{Class: event.Refused, Identity: 1, Requests: 100, Denials: 100},
		{Class: event.Refused, Identity: 2, Requests: 10, Denials: 5},
		{Class: event.Soft, Identity: 3, Requests: 5, Denials: 5},
	}}
	n, x, _, _ := j.cap(l, 0, 210, 105, 0, p)
	if x != 2 || n != 210-99-8 {
		t.Fatalf("%v of %v", x, n)
	}
	// Denials that no hit explains stay.
	if n, x, _, _ := j.cap(&slots.Leaf{}, 0, 50, 20, 0, p); n != 50 || x != 20 {
		t.Fatalf("%v of %v", x, n)
	}
	// Of sampled hits each stands for four.
	l = &slots.Leaf{Hits: []slots.Hit{{Class: event.Refused, Identity: 9, Requests: 4, Denials: 2}}}
	if n, x, _, _ := j.cap(l, 0, 100, 30, 2, p); x != 4 || n != 100-26*2 {
		t.Fatalf("%v of %v", x, n)
	}
}

func TestPeople(t *testing.T) {
	var p people
	for i := range uint64(4000) {
		p.add(i)
		p.add(i)
	}
	if p.count() != 4000 {
		t.Fatalf("exact: %d", p.count())
	}
	for i := range uint64(100_000) {
		p.add(i)
	}
	if n := p.count(); n < 98_000 || n > 102_000 {
		t.Fatalf("100,000 people are %d", n)
	}
}

func TestPrefixOf(t *testing.T) {
	for route, want := range map[string]string{"/": "/", "": "", "/billing": "/billing", "/billing/": "/billing", "/billing/upgrade/x": "/billing", "_other": "_other", "//x": "//x", "*": "*", "/api/users/{id}": "/api",
		"/api/v1/tasks/{id}": "/api/v1/tasks", "/api/v12/tasks": "/api/v12/tasks", "/v2/projects/{id}/members": "/v2/projects", "/api/v1": "/api/v1", "/v1": "/v1",
		"/v/x": "/v", "/videos/x": "/videos", "/v1x/y": "/v1x"} {
		if got := prefixOf(route); got != want {
			t.Errorf("%q lies in %q, want %q", route, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		template, route string
		want            bool
	}{
		{"/blog/{slug}", "/blog/hello-world", true},
		{"/blog/{slug}", "/blog/{id}", true},
		{"/blog/{slug}", "/blog", false},
		{"/blog/{slug}", "/blog/", false},
		{"/blog/{slug}", "/blog/a/b", false},
		{"/{slug}/a.html", "/x/a.html", true},
		{"/docs/{slug}.html", "/docs/setup.html", true},
		{"/docs/{slug}.html", "/docs/setup.png", false},
		{"/docs/v{id}", "/docs/v", false},
		{"/docs", "/docs", true},
		{"/users/{id}", "/users/me", false},
		{"/users/{id}/{slug}", "/users/{id}/about", true},
		{"/users/{id}/{slug}", "/users/me/about", false},
		{"/{locale}/start", "/de/start", true},
		{"/shop/item{id}", "/shop/item12a", true},
	} {
		if got := covers(c.template, c.route); got != c.want {
			t.Errorf("%s stands for %s: %v", c.template, c.route, got)
		}
	}
}
