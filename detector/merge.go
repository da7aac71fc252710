package detector

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/denywatch/denywatch/internal/incident"
)

// maxMerged bounds the incidents that one takes in.
const maxMerged = 20

// ErrUnlike means that two incidents cannot be one.
var ErrUnlike = errors.New("they cannot be one")

// Merge makes two open incidents one, because somebody says that they have one cause:
// what is behind the first is a part of the other from now on, whose numbers are of both,
// and the first is over. It returns what happened to each of them. What the first had taken
// in becomes a part of the other like the first itself. Reopen takes each of them out again.
//
// Requests are never counted twice: of two parts that different vantages or classes see
// and whose scopes overlap only the one of the incident itself counts, or the one that
// was taken in first.
//
// The error is ErrGone if one of them is not open, or ErrUnlike, with words for that
// person. Like Close it has a single caller; what it changes is durable with the next
// Save.
func (d *Detector) Merge(id, into string) (over, grown incident.Transition, err error) {
	g, to := d.group(id), d.group(into)
	switch {
	case g == nil || to == nil || g.inc.State != incident.Open || to.inc.State != incident.Open:
		return over, grown, fmt.Errorf("%w: both must be open", ErrGone)
	case g == to:
		return over, grown, fmt.Errorf("%w: that is the same one", ErrUnlike)
	case g.rise != to.rise:
		return over, grown, fmt.Errorf("%w: in one people are refused, in the other a door stands open", ErrUnlike)
	case len(g.inc.Merged)+len(to.inc.Merged)+1 > maxMerged:
		return over, grown, fmt.Errorf("%w: more than %d would be in one", ErrUnlike, maxMerged)
	}
	now := max(d.latest(g), d.latest(to))
	d.refresh(g, now)
	for _, m := range g.members {
		m.from = cmp.Or(m.from, id)
		to.members = append(to.members, m)
	}
	for _, o := range d.groups {
		if o.inc.MergedInto == id {
			o.inc.MergedInto = into
		}
	}
	g.members = nil
	g.inc.Merged, g.inc.MergedInto, g.inc.Resolution = nil, into, incident.Merged
	over = d.decided(g, incident.ResolvedKind, now)
	d.refresh(to, now)
	return over, d.decided(to, incident.MergedKind, now), nil
}

// group returns the incident of an id, nil if it is not remembered.
func (d *Detector) group(id string) *group {
	if i := slices.IndexFunc(d.groups, func(g *group) bool { return g.inc.ID == id }); i >= 0 {
		return d.groups[i]
	}
	return nil
}

// latest is the end of the last slot that was judged where a group is seen.
func (d *Detector) latest(g *group) (now int64) {
	for i := range g.members {
		now = max(now, d.judges[g.members[i].judge].end())
	}
	return now
}

// brought returns the members that an incident brought into this one.
func (g *group) brought(id string) (list []member) {
	for _, m := range g.members {
		if m.from == id {
			m.from = ""
			list = append(list, m)
		}
	}
	return list
}

// leave takes what an incident brought out of this one.
func (g *group) leave(id string) {
	g.members = slices.DeleteFunc(g.members, func(m member) bool { return m.from == id })
	g.inc.Merged = slices.DeleteFunc(g.inc.Merged, func(p incident.Part) bool { return p.ID == id })
}

// sight is a finding with who found it, and the incident that brought it.
type sight struct {
	j    *judge
	f    *finding
	from string
}

// parts returns of findings, the most telling first, those whose counts make up the
// incident's: one of itself, and one of each that it took in.
func parts(live []sight) []sight {
	out := live[:1:1]
	for _, s := range live[1:] {
		if slices.ContainsFunc(out, func(o sight) bool { return o.from == s.from }) {
			continue
		}
		scope := s.j.public(s.j.service, s.f.scope)
		if !slices.ContainsFunc(out, func(o sight) bool {
			other := o.j.public(o.j.service, o.f.scope)
			return o.j != s.j && overlap(&other, &scope)
		}) {
			out = append(out, s)
		}
	}
	return out
}

// merged says what was taken in, in order.
func (g *group) merged() (list []incident.Part) {
	for i := range g.members {
		m := &g.members[i]
		if m.from != "" && !slices.ContainsFunc(list, func(p incident.Part) bool { return p.ID == m.from }) {
			list = append(list, incident.Part{ID: m.from, Scope: m.scope})
		}
	}
	return list
}

// sum is what the scopes of several findings looked like together. Where some of them
// had not begun yet only those that had are shown.
func sum(of []sight) trace {
	t := of[0].f.trace
	t.points = slices.Clone(t.points)
	if len(of) == 1 {
		return t
	}
	for _, s := range of[1:] {
		t.width = max(t.width, s.f.trace.width)
		t.points = append(t.points, s.f.trace.points...)
	}
	slices.SortStableFunc(t.points, func(a, b point) int { return cmp.Compare(a.start, b.start) })
	t.fold()
	for len(t.points) > incident.MaxPoints && t.width < instantMost {
		t.width *= 2
		t.fold()
	}
	return t
}

// fold makes one of the points, in order of their start, that lie in one width. What is
// counted in it leaves no room for what is not.
func (t *trace) fold() {
	out := t.points[:0]
	for _, p := range t.points {
		k := len(out) - 1
		switch {
		case k < 0 || out[k].start/t.width != p.start/t.width:
			out = append(out, p)
		case out[k].counted == p.counted:
			l := &out[k]
			l.end = max(l.end, p.end)
			l.n, l.x, l.m, l.v = l.n+p.n, l.x+p.x, l.m+p.m, l.v+p.v
		case p.counted:
			out[k] = p
		}
	}
	t.points = out
}
