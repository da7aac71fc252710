package detector

import (
	"strings"

	"github.com/denywatch/denywatch/internal/route/slug"
)

// stands reports whether a segment of a template, which may hold one placeholder that
// was learned, stands for another segment.
func stands(template, seg string) bool {
	from, to := strings.IndexByte(template, '{'), strings.LastIndexByte(template, '}')
	if from < 0 || to < from || !slug.Learned(template) {
		return template == seg
	}
	head, tail := template[:from], template[to+1:]
	return len(seg) > len(head)+len(tail) && strings.HasPrefix(seg, head) && strings.HasSuffix(seg, tail)
}

// covers reports whether a route template stands for another route: their segments
// are the same but for what the template learned. "/users/{id}", which an application
// says itself, does not stand for "/users/me".
func covers(template, route string) bool {
	for {
		a, b := strings.IndexByte(template, '/'), strings.IndexByte(route, '/')
		if (a < 0) != (b < 0) {
			return false
		}
		x, y := template, route
		if a >= 0 {
			x, y = template[:a], route[:b]
		}
		if x != y && !stands(x, y) {
			return false
		}
		if a < 0 {
			return true
		}
		template, route = template[a+1:], route[b+1:]
	}
}

// inherit makes a new route with placeholders the heir of the routes that it stands
// for: their names were learned to be names of things, and from now on they are
// seen under the template. What is known of them is known of it too, and incidents
// there go on here. A route that this slot still sees by its own name is no name of
// a thing.
func (j *judge) inherit(route int32) {
	name := j.routeNames.list[route]
	if !strings.Contains(name, "{") {
		return
	}
	alive := func(route string) bool {
		for i := range j.leaves {
			if j.leaves[i].Key.Route == route {
				return true
			}
		}
		return false
	}
	r := &j.routes[route]
	for i := range j.routes[:route] {
		o := &j.routes[i]
		if old := j.routeNames.list[i]; o.heir != 0 || !covers(name, old) || alive(old) {
			continue
		}
		o.heir, r.inherits = route+1, true
		r.first = min(r.first, o.first)
		for _, f := range j.findings {
			if f.scope.route == int32(i) {
				f.scope.route = route
			}
		}
	}
}

// legacy lets a new cell know what its route's cells were known by under other
// names. Those keep their counts, which fade: they may not be gone for good.
func (j *judge) legacy(id int32) {
	c := &j.cells[id]
	if !j.routes[c.route].inherits {
		return
	}
	for i := range j.routes[:c.route] {
		if j.routes[i].heir != c.route+1 {
			continue
		}
		for k := j.routes[i].cells; k >= 0; k = j.cells[k].next {
			o := &j.cells[k]
			if o.role != c.role || o.geo != c.geo || o.plan != c.plan || o.host != c.host {
				continue
			}
			c.Inherit(&o.Cell)
			j.inheritRules(k, id)
			c.in += o.in
			c.new += o.new
		}
	}
	if c.N == 0 {
		return
	}
	for _, s := range c.parents {
		if s >= 0 {
			se := &j.series[s]
			se.k += c.K
			se.n += c.N
			se.u += c.U
			se.m += c.M
			j.markSeries(s)
		}
	}
}
