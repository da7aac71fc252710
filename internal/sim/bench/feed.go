package main

import (
	"cmp"
	"slices"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/sim"
	"github.com/denywatch/denywatch/internal/tally"
)

// feed counts a trial's visits into closed slots, as collectors and ledger would
// count its log.
type feed struct {
	t *sim.Trial
	// sample is n when one of n visits is logged.
	sample uint32
	order  []int32 // place of every cell in the order of keys
	at     []int32 // 1 + place of every cell among the slot's cells
	cells  []int32
	seen   []seen
	slot   slots.Closed
	ids    []uint64
}

// seen is a visit that counts.
type seen struct {
	cell   int32
	denied bool
	named  bool
	id     uint64
}

func newFeed(t *sim.Trial, sample uint32) *feed {
	f := &feed{t: t, sample: sample, slot: slots.Closed{Vantage: event.App, Step: 60}}
	places := func(names []string) []int32 {
		by := make([]int, len(names))
		for i := range by {
			by[i] = i
		}
		slices.SortFunc(by, func(a, b int) int { return cmp.Compare(names[a], names[b]) })
		out := make([]int32, len(names))
		for place, i := range by {
			out[i] = int32(place)
		}
		return out
	}
	routes, roles, geos := places(t.RouteNames), places(t.RoleNames), places(t.GeoNames)
	for i := range routes {
		for j := range roles {
			for k := range geos {
				f.order = append(f.order, (routes[i]*int32(len(roles))+roles[j])*int32(len(geos))+geos[k])
			}
		}
	}
	f.at = make([]int32, len(f.order))
	return f
}

// identity is a hash of a person as collectors make it.
func identity(person uint32) uint64 {
	x := uint64(person) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) | 1<<63
}

// next returns the trial's next minute, nil at its end. It is valid until the next
// call. Late visits are not in it: nobody waits that long.
func (f *feed) next() *slots.Closed {
	start, visits, ok := f.t.Minute()
	if !ok {
		return nil
	}
	for _, c := range f.cells {
		f.at[c] = 0
	}
	f.cells, f.seen = f.cells[:0], f.seen[:0]
	roles, geos := int32(len(f.t.RoleNames)), int32(len(f.t.GeoNames))
	for i := range visits {
		v := &visits[i]
		if v.Late || f.sample > 1 && identity(v.Person^uint32(v.Time)*0x9e3779b1)>>33%uint64(f.sample) != 0 {
			continue
		}
		cell := (v.Route*roles+v.Role)*geos + v.Geo
		if f.at[cell] == 0 {
			f.cells = append(f.cells, cell)
			f.at[cell] = 1
		}
		f.seen = append(f.seen, seen{cell, v.Denied, v.Named && !f.t.NoUsers, identity(v.Person)})
	}
	slices.SortFunc(f.cells, func(a, b int32) int { return cmp.Compare(f.order[a], f.order[b]) })
	c := &f.slot
	c.Start = start
	c.Leaves = slices.Grow(c.Leaves[:0], len(f.cells))[:len(f.cells)]
	counts := make([]int, len(f.cells)+1)
	for i, cell := range f.cells {
		f.at[cell] = int32(i) + 1
		l := &c.Leaves[i]
		*l = slots.Leaf{Hits: l.Hits[:0], Splits: l.Splits[:0]}
		if f.sample > 1 {
			l.Unseen = &tally.Unseen{}
		}
		l.Key = tally.Key{Service: sim.Service, Route: f.t.RouteNames[cell/geos/roles], Role: f.t.RoleNames[cell/geos%roles], Geo: f.t.GeoNames[cell%geos]}
	}
	for i := range f.seen {
		s := &f.seen[i]
		s.cell = f.at[s.cell] - 1
		l := &c.Leaves[s.cell]
		if l.Unseen != nil {
			l.Unseen.Requests += f.sample - 1
		}
		if s.denied {
			l.Status[tally.S403] += f.sample
			l.Denied[event.Refused] += f.sample
			if l.Unseen != nil {
				l.Unseen.Denied[event.Refused] += f.sample - 1
			}
			hit(l, s)
		} else {
			l.Status[tally.S2xx] += f.sample
			counts[s.cell+1]++
		}
	}
	for i := range f.cells {
		counts[i+1] += counts[i]
	}
	f.ids = slices.Grow(f.ids[:0], counts[len(f.cells)])[:counts[len(f.cells)]]
	for i := range f.seen {
		if s := &f.seen[i]; !s.denied {
			f.ids[counts[s.cell]] = s.id
			counts[s.cell]++
		}
	}
	from := 0
	for i := range c.Leaves {
		l := &c.Leaves[i]
		let := f.ids[from:counts[i]:counts[i]]
		from = counts[i]
		for k := range l.Hits {
			for _, id := range let {
				if id == l.Hits[k].Identity {
					l.Hits[k].Requests++
				}
			}
		}
		slices.Sort(let)
		l.Entered = slices.Compact(let)
		if n := l.Denied[event.Refused]; n > 0 {
			slices.SortFunc(l.Hits, func(a, b slots.Hit) int { return cmp.Compare(a.Identity, b.Identity) })
			l.Splits = append(l.Splits, slots.Split{Class: event.Refused, Layer: event.LayerApp, N: n})
		}
	}
	return c
}

func hit(l *slots.Leaf, s *seen) {
	for i := range l.Hits {
		if h := &l.Hits[i]; h.Identity == s.id {
			h.Requests++
			h.Denials++
			return
		}
	}
	l.Hits = append(l.Hits, slots.Hit{Class: event.Refused, Named: s.named, Identity: s.id, Requests: 1, Denials: 1})
}
