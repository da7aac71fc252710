package detector

import (
	"maps"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// all is a scope's value for a dimension it does not bind.
const all int32 = -1

// scope is a set of cells of one judge, as numbers of its book. A scope binds a
// prefix or a route, not both.
type scope struct{ prefix, route, role, geo int32 }

var everything = scope{all, all, all, all}

// The levels of the lattice: which dimensions a scope binds. The first ten are
// watched as series, the others only named by the scan.
const (
	lvTotal = iota
	lvPrefix
	lvRoute
	lvRole
	lvGeo
	lvRouteRole
	lvRouteGeo
	lvPrefixRole
	lvPrefixGeo
	lvRoleGeo
	monitored
	lvRouteRoleGeo = iota - 1
	lvPrefixRoleGeo
	levels
)

// key packs the scope into the series' key; numbers have 20 bits.
func (s scope) key() uint64 {
	path := uint64(0)
	switch {
	case s.route != all:
		path = 2<<20 | uint64(s.route)
	case s.prefix != all:
		path = 1<<20 | uint64(s.prefix)
	}
	return path<<40 | uint64(s.role+1)<<20 | uint64(s.geo+1)
}

// has reports whether the cell is in the scope.
func (s scope) has(b *book, c *cell) bool {
	return (s.route == all || s.route == c.route) &&
		(s.role == all || s.role == c.role) &&
		(s.geo == all || s.geo == c.geo) &&
		(s.prefix == all || s.prefix == b.routes[c.route].prefix)
}

// pathPrefix is the prefix that the scope lies in, all if none.
func (s scope) pathPrefix(b *book) int32 {
	if s.route != all {
		return b.routes[s.route].prefix
	}
	return s.prefix
}

// overlaps reports whether two scopes can share a cell.
func (s scope) overlaps(b *book, o scope) bool {
	if s.role != all && o.role != all && s.role != o.role || s.geo != all && o.geo != all && s.geo != o.geo {
		return false
	}
	if s.route != all && o.route != all {
		return s.route == o.route
	}
	sp, op := s.pathPrefix(b), o.pathPrefix(b)
	return sp == all || op == all || sp == op
}

// contains reports whether every cell of o is in s.
func (s scope) contains(b *book, o scope) bool {
	if s.role != all && s.role != o.role || s.geo != all && s.geo != o.geo {
		return false
	}
	if s.route != all {
		return s.route == o.route
	}
	return s.prefix == all || s.prefix == o.pathPrefix(b)
}

// names numbers the values of one dimension in order of appearance.
type names struct {
	list []string
	id   map[string]int32
}

func (n *names) of(s string) int32 {
	if id, ok := n.id[s]; ok {
		return id
	}
	if n.id == nil {
		n.id = map[string]int32{}
	}
	s = strings.Clone(s)
	id := int32(len(n.list))
	n.list = append(n.list, s)
	n.id[s] = id
	return id
}

func (n *names) public(id int32) string {
	switch {
	case id == all:
		return ""
	case n.list[id] == "":
		return incident.NoRole
	}
	return n.list[id]
}

// routeInfo and prefixInfo are what a book knows beside the name.
type routeInfo struct {
	prefix int32
	cells  int32 // the first of its cells, a list through cell.next
	first  int64 // the slot it was first seen in
	// heir is 1 + the route that took its place, 0 if none.
	heir int32
	// inherits tells that it took another one's place.
	inherits bool
	// welcome tells that people come here before they were let in anywhere.
	welcome bool
}

type prefixInfo struct {
	routes int32 // how many it has
	only   int32 // the first of them
	first  int64
}

// book is the dictionary of one judge.
type book struct {
	routeNames, prefixNames names
	roles, geos             names
	plans, hosts            names
	routes                  []routeInfo
	prefixes                []prefixInfo
}

func (n *names) clone() names { return names{slices.Clone(n.list), maps.Clone(n.id)} }

// clone copies the book.
func (b *book) clone() book {
	return book{b.routeNames.clone(), b.prefixNames.clone(), b.roles.clone(), b.geos.clone(), b.plans.clone(), b.hosts.clone(),
		slices.Clone(b.routes), slices.Clone(b.prefixes)}
}

// prefixOf is the part of the path tree that a route template belongs to: its first
// segment, or the first one after the version of an interface ("/api/v1/tasks" of
// "/api/v1/tasks/{id}"), since "/v1" says nothing of what is there; "/" for the root.
func prefixOf(route string) string {
	end := segment(route, 0)
	if route[:end] == "/api" {
		end = segment(route, end)
	}
	if !version(route[:end]) {
		end = 0
	}
	if end = segment(route, end); end > 0 && end < len(route) {
		return route[:end]
	}
	return route
}

// segment is the end of the path segment that begins at a slash; at, if none does.
func segment(route string, at int) int {
	if at+1 >= len(route) || route[at] != '/' {
		return at
	}
	if i := strings.IndexByte(route[at+1:], '/'); i > 0 {
		return at + 1 + i
	}
	return len(route)
}

// version reports whether a path ends in a segment like "v1".
func version(path string) bool {
	i := strings.LastIndexByte(path, '/') + 1
	return i < len(path)-1 && path[i] == 'v' && strings.Trim(path[i+1:], "0123456789") == ""
}

// route numbers a route; more reports that its prefix now has a second one.
func (b *book) route(name string, now int64) (id int32, more bool) {
	id = b.routeNames.of(name)
	if int(id) < len(b.routes) {
		return id, false
	}
	p := b.prefixNames.of(prefixOf(name))
	if int(p) == len(b.prefixes) {
		b.prefixes = append(b.prefixes, prefixInfo{only: id, first: now})
	}
	b.prefixes[p].routes++
	b.routes = append(b.routes, routeInfo{prefix: p, cells: -1, first: now})
	return id, b.prefixes[p].routes == 2
}

// scopes returns the scope of every level that the cell is in; a level that says
// the same as a wider one (a dimension with a single value) has ok false.
func (b *book) scopes(c *cell) (ss [levels]scope, ok [levels]bool) {
	p := b.routes[c.route].prefix
	ss = [levels]scope{
		lvTotal:         everything,
		lvPrefix:        {p, all, all, all},
		lvRoute:         {all, c.route, all, all},
		lvRole:          {all, all, c.role, all},
		lvGeo:           {all, all, all, c.geo},
		lvRouteRole:     {all, c.route, c.role, all},
		lvRouteGeo:      {all, c.route, all, c.geo},
		lvPrefixRole:    {p, all, c.role, all},
		lvPrefixGeo:     {p, all, all, c.geo},
		lvRoleGeo:       {all, all, c.role, c.geo},
		lvRouteRoleGeo:  {all, c.route, c.role, c.geo},
		lvPrefixRoleGeo: {p, all, c.role, c.geo},
	}
	prefix, role, geo := b.prefixes[p].routes > 1, len(b.roles.list) > 1, len(b.geos.list) > 1
	ok = [levels]bool{
		lvTotal: true, lvPrefix: prefix, lvRoute: true, lvRole: role, lvGeo: geo,
		lvRouteRole: role, lvRouteGeo: geo, lvPrefixRole: prefix && role, lvPrefixGeo: prefix && geo,
		lvRoleGeo: role && geo, lvRouteRoleGeo: role && geo, lvPrefixRoleGeo: prefix && role && geo,
	}
	return ss, ok
}

// public writes a scope for people.
func (b *book) public(service string, s scope) incident.Scope {
	return incident.Scope{Service: service, Prefix: b.prefixNames.public(s.prefix), Route: b.routeNames.public(s.route),
		Role: b.roles.public(s.role), Geo: b.geos.public(s.geo)}
}

// overlap reports whether two public scopes can share a request. A service that
// is not known may be any.
func overlap(a, b *incident.Scope) bool {
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	if differ(a.Service, b.Service) || differ(a.Role, b.Role) || differ(a.Geo, b.Geo) || differ(a.Route, b.Route) {
		return false
	}
	in := func(s *incident.Scope) string {
		if s.Route != "" {
			return prefixOf(s.Route)
		}
		return s.Prefix
	}
	return !differ(in(a), in(b))
}

// within reports whether every request of a is one of b.
func within(a, b *incident.Scope) bool {
	in := func(x, y string) bool { return y == "" || x == y }
	switch {
	case !in(a.Service, b.Service) || !in(a.Role, b.Role) || !in(a.Geo, b.Geo) || !in(a.Plan, b.Plan) || !in(a.Host, b.Host):
		return false
	case b.Route != "":
		return a.Route == b.Route
	case b.Prefix != "":
		return a.Prefix == b.Prefix || a.Route != "" && prefixOf(a.Route) == b.Prefix
	}
	return true
}

// under reports whether path is prefix or lies below it.
func under(path, prefix string) bool {
	return prefix == "/" || path == prefix || len(path) > len(prefix) && path[len(prefix)] == '/' && strings.HasPrefix(path, prefix)
}

// markerScope writes a scope as a marker would.
func (b *book) markerScope(s scope) marker.Scope {
	of := func(n *names, id int32) marker.List {
		if id == all {
			return nil
		}
		return marker.List{n.public(id)}
	}
	return marker.Scope{Prefix: of(&b.prefixNames, s.prefix), Route: of(&b.routeNames, s.route), Role: of(&b.roles, s.role), Geo: of(&b.geos, s.geo)}
}

func anyOf(l marker.List, f func(string) bool) bool {
	if len(l) == 0 {
		return true
	}
	for _, x := range l {
		if f(x) {
			return true
		}
	}
	return false
}

// marked reports whether a marker of scope m concerns the public scope s.
func marked(m *marker.Scope, s *incident.Scope) bool {
	has := func(l marker.List, v string) bool { return v == "" || l.Has(v) }
	return has(m.Service, s.Service) && has(m.Role, s.Role) && has(m.Geo, s.Geo) && has(m.Route, s.Route) &&
		anyOf(m.Prefix, func(p string) bool {
			switch {
			case s.Route != "":
				return under(s.Route, p)
			case s.Prefix != "":
				return under(s.Prefix, p) || under(p, s.Prefix)
			}
			return true
		}) &&
		(s.Route != "" || s.Prefix == "" || anyOf(m.Route, func(r string) bool { return prefixOf(r) == s.Prefix }))
}

// chosen is a marker's scope in the numbers of one judge: which routes, roles and
// countries it concerns.
type chosen struct{ routes, roles, geos []bool }

func (b *book) choose(m *marker.Scope) chosen {
	var c chosen
	pick := func(n *names, f func(string) bool) []bool {
		in := make([]bool, len(n.list))
		for i, s := range n.list {
			if s == "" {
				s = incident.NoRole
			}
			in[i] = f(s)
		}
		return in
	}
	c.routes = pick(&b.routeNames, func(r string) bool {
		return m.Route.Has(r) && anyOf(m.Prefix, func(p string) bool { return under(r, p) })
	})
	c.roles = pick(&b.roles, m.Role.Has)
	c.geos = pick(&b.geos, m.Geo.Has)
	return c
}

// has reports whether the cell is concerned; names that came later are not.
func (c *chosen) has(x *cell) bool {
	return int(x.route) < len(c.routes) && c.routes[x.route] && int(x.role) < len(c.roles) && c.roles[x.role] &&
		int(x.geo) < len(c.geos) && c.geos[x.geo]
}
