package web

import (
	"testing"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

func TestOverlaps(t *testing.T) {
	type m = marker.Scope
	type in = incident.Scope
	l := func(s ...string) marker.List { return s }
	for _, c := range []struct {
		name string
		m    marker.Scope
		in   incident.Scope
		want bool
	}{
		{"everything and everything", m{}, in{}, true},
		{"everything and a slice", m{}, in{Service: "shop", Route: "/billing/upgrade", Role: "member", Geo: "BR"}, true},
		{"a slice and everything", m{Service: l("shop"), Prefix: l("/billing"), Role: l("member"), Geo: l("BR")}, in{}, true},

		{"same service", m{Service: l("shop")}, in{Service: "shop"}, true},
		{"other service", m{Service: l("shop")}, in{Service: "blog"}, false},
		{"one of the services", m{Service: l("shop", "blog")}, in{Service: "blog"}, true},
		{"services are told apart by case", m{Service: l("Shop")}, in{Service: "shop"}, false},

		{"same role", m{Role: l("member")}, in{Role: "member"}, true},
		{"other role", m{Role: l("member")}, in{Role: "owner"}, false},
		{"other country", m{Geo: l("BR", "PT")}, in{Geo: "DE"}, false},
		{"all fields must agree", m{Role: l("member"), Geo: l("BR")}, in{Role: "member", Geo: "DE"}, false},

		{"route below the prefix", m{Prefix: l("/billing")}, in{Route: "/billing/upgrade"}, true},
		{"route is the prefix", m{Prefix: l("/billing")}, in{Route: "/billing"}, true},
		{"route that only starts like the prefix", m{Prefix: l("/bill")}, in{Route: "/billing/upgrade"}, false},
		{"route above the prefix", m{Prefix: l("/billing/upgrade")}, in{Route: "/billing"}, false},
		{"prefix of deeper prefix", m{Prefix: l("/billing/plans")}, in{Prefix: "/billing"}, true},
		{"prefix below the marker's", m{Prefix: l("/billing")}, in{Prefix: "/billing/plans"}, true},
		{"other prefix", m{Prefix: l("/billing")}, in{Prefix: "/admin"}, false},
		{"one of the prefixes", m{Prefix: l("/admin", "/billing")}, in{Prefix: "/billing"}, true},
		{"the root prefix is everything", m{Prefix: l("/")}, in{Route: "/billing/upgrade"}, true},
		{"the incident's root prefix is everything", m{Prefix: l("/billing")}, in{Prefix: "/"}, true},
		{"slash at the end", m{Prefix: l("/billing/")}, in{Route: "/billing/upgrade"}, true},
		{"stars at the end", m{Prefix: l("/billing/**")}, in{Route: "/billing"}, true},
		{"one star at the end", m{Prefix: l("/billing/*")}, in{Route: "/billing/a/b"}, true},
		{"prefix through a placeholder", m{Prefix: l("/projects/{project}/billing")}, in{Route: "/projects/{id}/billing/upgrade"}, true},
		{"prefix with a value under a placeholder", m{Prefix: l("/projects/7")}, in{Route: "/projects/{id}/export"}, true},

		{"same route", m{Route: l("/users/{id}/export")}, in{Route: "/users/{id}/export"}, true},
		{"other name of the placeholder", m{Route: l("/users/{user}/export")}, in{Route: "/users/{id}/export"}, true},
		{"other last segment", m{Route: l("/users/{id}/export")}, in{Route: "/users/{id}/import"}, false},
		{"longer route", m{Route: l("/users/{id}")}, in{Route: "/users/{id}/export"}, false},
		{"rest of a route", m{Route: l("/files/**")}, in{Route: "/files/a/b"}, true},
		{"rest may be none", m{Route: l("/files/**")}, in{Route: "/files"}, true},
		{"rest on the incident's side", m{Route: l("/files/a/b")}, in{Route: "/files/**"}, true},
		{"placeholder with fixed ends, fits", m{Route: l("/~{user}/x")}, in{Route: "/~ann/x"}, true},
		{"placeholder with fixed ends, does not", m{Route: l("/~{user}/x")}, in{Route: "/ann/x"}, false},
		{"placeholder stands for something", m{Route: l("/~{user}")}, in{Route: "/~"}, false},
		{"two placeholders, ends agree", m{Route: l("/v{n}")}, in{Route: "/v1{x}"}, true},
		{"two placeholders, ends differ", m{Route: l("/v{n}")}, in{Route: "/w{x}"}, false},
		{"root route", m{Route: l("/")}, in{Route: "/"}, true},
		{"root route is not everything", m{Route: l("/")}, in{Route: "/billing"}, false},
		{"route in the incident's prefix", m{Route: l("/billing/upgrade")}, in{Prefix: "/billing"}, true},
		{"route outside the incident's prefix", m{Route: l("/admin/users")}, in{Prefix: "/billing"}, false},

		{"prefix and route must both hold", m{Prefix: l("/admin"), Route: l("/billing/upgrade")}, in{Route: "/billing/upgrade"}, false},
		{"the incident's route says more than its prefix", m{Route: l("/billing/plans")}, in{Prefix: "/billing", Route: "/billing/upgrade"}, false},
		{"fields a marker cannot have", m{Role: l("member")}, in{Role: "member", Plan: "free", Host: "a", Flag: "f", Layer: "edge"}, true},
	} {
		if got := Overlaps(c.m, c.in); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestMeetIsSymmetric: which side a template is on must not matter.
func TestMeetIsSymmetric(t *testing.T) {
	templates := []string{"/", "/a", "/a/b", "/a/{x}", "/{x}/b", "/**", "/a/**", "/a/{x}/**", "/~{u}", "/~", "/*", "/a/*/c", "/a{x}b", "/ab", "/axb"}
	for _, a := range templates {
		if !meet(segments(a), segments(a)) {
			t.Errorf("%s does not meet itself", a)
		}
		for _, b := range templates {
			if meet(segments(a), segments(b)) != meet(segments(b), segments(a)) {
				t.Errorf("%s and %s: the order matters", a, b)
			}
		}
	}
}
