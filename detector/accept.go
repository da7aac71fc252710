package detector

import "github.com/denywatch/denywatch/internal/incident"

// Accept takes what an open incident shows since its onset as the new normal of its
// scope at once, in all vantages that see it, as a day of it would. It returns the
// transition that ends the incident, ok unless no open incident has that id. Like
// Close it has a single caller; what it changes is durable with the next Save.
func (d *Detector) Accept(id string) (t incident.Transition, ok bool) {
	for _, g := range d.groups {
		if g.inc.ID != id || g.inc.State != incident.Open {
			continue
		}
		now := int64(0)
		for i := range g.members {
			if j, f := d.finding(&g.members[i]); f != nil && f.resolved == 0 {
				j.sinceOnset(f)
				j.adopt(f)
				j.dirty = true
				now = max(now, j.end())
			}
		}
		d.refresh(g, now)
		return d.decided(g, incident.ResolvedKind, now), true
	}
	return incident.Transition{}, false
}

// sinceOnset makes the recent level of a finding's cells that since its onset: the
// usual window reaches back to what was before. Where the onset is further back than
// is remembered in detail, all of the window is after it.
func (j *judge) sinceOnset(f *finding) {
	since := j.reach(f)
	if since == 0 {
		return
	}
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == f.mask {
			j.decay(int32(i))
			c.x40, c.n40 = 0, 0
		}
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < since {
			continue
		}
		for k := range p.counts {
			t := &p.counts[k]
			if c := &j.cells[t.cell]; c.mask == f.mask {
				c.x40 += t.xc
				c.n40 += t.nc
			}
		}
	}
}
