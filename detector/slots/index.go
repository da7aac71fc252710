package slots

import (
	"cmp"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/route/slug"
	"github.com/denywatch/denywatch/internal/tally"
)

// dictionary keeps the names of one dimension in order, so that closing a slot
// compares integers instead of names. In steady state nothing is new and it
// costs nothing.
type dictionary struct {
	byName map[name]*named
	sorted []*named
	fresh  []*named // not sorted in yet
}

// name is a service's route, or "" and the value of another dimension.
type name struct{ service, value string }

func (x name) compare(y name) int {
	return cmp.Or(strings.Compare(x.service, y.service), strings.Compare(x.value, y.value))
}

// named is a name with its rank among those of its dictionary. Ranks change when
// names are sorted in.
type named struct {
	name
	rank uint32
}

// of returns the entry of a name, a new one if there is none.
func (d *dictionary) of(n name) *named {
	e := d.byName[n]
	if e == nil {
		if d.byName == nil {
			d.byName = map[name]*named{}
		}
		e = &named{name: n}
		d.byName[n] = e
		d.fresh = append(d.fresh, e)
	}
	return e
}

// rank sorts new names in.
func (d *dictionary) rank() {
	if len(d.fresh) == 0 {
		return
	}
	slices.SortFunc(d.fresh, func(x, y *named) int { return x.compare(y.name) })
	old := d.sorted
	d.sorted = slices.Grow(old, len(d.fresh))[:len(old)+len(d.fresh)]
	i, k := len(old)-1, len(d.fresh)-1
	for to := len(d.sorted) - 1; k >= 0; to-- {
		if i >= 0 && d.sorted[i].compare(d.fresh[k].name) > 0 {
			d.sorted[to] = d.sorted[i]
			i--
		} else {
			d.sorted[to] = d.fresh[k]
			k--
		}
	}
	for i, e := range d.sorted {
		e.rank = uint32(i)
	}
	clear(d.fresh)
	d.fresh = d.fresh[:0]
}

// index keeps the leaf keys of one vantage.
type index struct {
	routes, roles, geos, plans, hosts dictionary
	keys                              map[dims]*leafKey
	learned                           map[*named]*routeKey
	last                              map[string]uint32 // the last number given to a key of a service
}

func newIndex() *index {
	return &index{keys: map[dims]*leafKey{}, learned: map[*named]*routeKey{}, last: map[string]uint32{}}
}

func (x *index) dims(source *Source, k *tally.Key) dims {
	return dims{
		source,
		x.routes.of(name{k.Service, k.Route}), x.roles.of(name{"", k.Role}), x.geos.of(name{"", k.Geo}),
		x.plans.of(name{"", k.Plan}), x.hosts.of(name{"", k.Host}),
	}
}

// dims are a key's source and values.
type dims struct {
	source                       *Source
	route, role, geo, plan, host *named
}

// rank sorts new names in.
func (x *index) rank() {
	for _, d := range [...]*dictionary{&x.routes, &x.roles, &x.geos, &x.plans, &x.hosts} {
		d.rank()
	}
}

// place is where a leaf stands in the order of CompareKeys.
type place struct{ high, low uint64 }

// place is comparable with those of the index's other keys until names are
// sorted in. There are fewer than 2^20 names: see maxKeys.
func (d *dims) place() place {
	return place{uint64(d.route.rank)<<32 | uint64(d.role.rank), uint64(d.geo.rank)<<44 | uint64(d.plan.rank)<<22 | uint64(d.host.rank)}
}

func (p place) compare(q place) int {
	if p.high != q.high {
		return cmp.Compare(p.high, q.high)
	}
	return cmp.Compare(p.low, q.low)
}

// routeKey is a service's route, as collectors name it, in one vantage.
type routeKey struct {
	ref          slug.Ref
	seen         bool // in the slot being closed
	requests, ok uint32
	template     string
}
