package web

import (
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// Overlaps reports whether some request can lie in both scopes. What a scope does
// not say is all: an empty field overlaps everything. A prefix holds itself and
// what lies below it, at whole segments; in templates {name} and * stand for any
// text of a segment and a last ** for any rest, so the placeholders' names do not
// matter. Fields that a marker cannot have never keep scopes apart.
func Overlaps(m marker.Scope, s incident.Scope) bool {
	has := func(l marker.List, v string) bool { return v == "" || l.Has(v) }
	return has(m.Service, s.Service) && has(m.Role, s.Role) && has(m.Geo, s.Geo) && pathsOverlap(m, s)
}

func pathsOverlap(m marker.Scope, s incident.Scope) bool {
	// What the incident says of its path, as a template; a route says more than
	// the prefix beside it.
	where := below("/")
	switch {
	case s.Route != "":
		where = segments(s.Route)
	case s.Prefix != "":
		where = below(s.Prefix)
	}
	return anyOf(m.Prefix, func(p string) bool { return meet(below(p), where) }) &&
		anyOf(m.Route, func(r string) bool { return meet(segments(r), where) })
}

// anyOf reports whether f holds for one of l; an empty list names everything.
func anyOf(l marker.List, f func(string) bool) bool {
	return len(l) == 0 || slices.ContainsFunc(l, f)
}

// segments splits a template.
func segments(template string) []string {
	t := strings.Trim(template, "/")
	if t == "" {
		return nil
	}
	return strings.Split(t, "/")
}

// below is the template of everything under a prefix; people write "/billing",
// "/billing/", "/billing/*" and "/billing/**" for the same.
func below(prefix string) []string {
	s := segments(prefix)
	for len(s) > 0 && (s[len(s)-1] == "*" || s[len(s)-1] == "**") {
		s = s[:len(s)-1]
	}
	return append(s, "**")
}

// meet reports whether some path fits both templates.
func meet(a, b []string) bool {
	for i := 0; ; i++ {
		switch {
		case i < len(a) && a[i] == "**", i < len(b) && b[i] == "**":
			return true
		case i == len(a) || i == len(b):
			return len(a) == len(b)
		case !share(a[i], b[i]):
			return false
		}
	}
}

// share reports whether some text fits both segments.
func share(a, b string) bool {
	if a == b {
		return true
	}
	headA, tailA, openA := parts(a)
	headB, tailB, openB := parts(b)
	begin := strings.HasPrefix(headA, headB) || strings.HasPrefix(headB, headA)
	end := strings.HasSuffix(tailA, tailB) || strings.HasSuffix(tailB, tailA)
	switch {
	case openA && openB:
		return begin && end
	case openA:
		return begin && end && len(b) > len(headA)+len(tailA)
	case openB:
		return begin && end && len(a) > len(headB)+len(tailB)
	}
	return false
}

// parts returns what a segment starts and ends with, and whether something may
// stand in between.
func parts(segment string) (head, tail string, open bool) {
	if segment == "*" {
		return "", "", true
	}
	head, rest, open := strings.Cut(segment, "{")
	if !open {
		return segment, segment, false
	}
	_, tail, _ = strings.Cut(rest, "}")
	return head, tail, true
}
