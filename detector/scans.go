package detector

import (
	"cmp"
	"slices"

	"github.com/denywatch/denywatch/internal/incident"
)

const (
	// maxScans bounds the suspected scans that are remembered, maxScanRoutes the
	// routes that are counted of each.
	maxScans      = 100
	maxScanRoutes = 64
	// minScan is how many refusals are worth a word.
	minScan = 10
	// scanGap is how long a scan may pause.
	scanGap int64 = 60 * 60
)

// suspicion is a rejected rise of one slot, since an onset if that is not 0; crowd tells
// that it was one of strangers.
type suspicion struct {
	scope
	since int64
	crowd bool
}

// suspect is a suspected scan.
type suspect struct {
	judge    int
	scope    scope
	from, to int64 // the first slot, the end of the last one that was counted
	crowd    bool  // of strangers, whose refusals the windows of the scan still hold

	requests, denials int64
	who, strangers    people
	routes            []routeCount
}

type routeCount struct {
	route int32
	n     int64
}

// suspectScans takes down what the judge rejected in this slot.
func (d *Detector) suspectScans(j *judge) {
	for _, x := range j.suspects {
		at := slices.IndexFunc(d.scans, func(s *suspect) bool {
			return s.judge == j.index && j.end()-s.to <= scanGap && s.scope.overlaps(&j.book, x.scope)
		})
		if at < 0 {
			s := &suspect{judge: j.index, scope: x.scope, from: x.since, to: x.since}
			if x.since == 0 || x.since > j.start {
				s.from, s.to = j.start, j.start
			}
			if s.count(j, x.crowd); s.denials < minScan {
				continue
			}
			j.unlearn(x.scope)
			d.scans = append(d.scans, s)
			d.scans = slices.Delete(d.scans, 0, max(0, len(d.scans)-maxScans))
			continue
		}
		s := d.scans[at]
		if j.end()-s.from < acceptAfter {
			j.unlearn(x.scope)
		}
		if x.scope.contains(&j.book, s.scope) {
			s.scope = x.scope
		}
		s.count(j, x.crowd)
	}
	for _, s := range d.scans {
		if s.judge == j.index && s.crowd && j.end()-s.to >= calmSlots*j.step {
			s.end(j)
		}
	}
}

// unlearn lets what a scope saw lately teach nothing: it was a scan, whose end would look
// like a wall that vanished, and which would pass for noise and for the season. The old
// epoch stays the judge.
func (j *judge) unlearn(s scope) {
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == 0 && s.has(&j.book, c) {
			c.Forget()
			c.Thaw()
			j.seasons[c.season].Forget()
			j.markCell(int32(i))
		}
	}
	for i := range j.series {
		if se := &j.series[i]; s.overlaps(&j.book, se.scope) {
			se.Drop()
			j.markSeries(int32(i))
		}
	}
}

// end empties the windows after a crowd: for hours its refusals would be found again in
// them.
func (s *suspect) end(j *judge) {
	s.crowd = false
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == 0 && s.scope.has(&j.book, c) {
			c.blank()
			j.markCell(int32(i))
		}
	}
	j.explain(func(c *cell) bool { return c.mask == 0 && s.scope.has(&j.book, c) })
}

// count adds the slots since the last one. The strangers of a crowd prowl from now on.
func (s *suspect) count(j *judge, crowd bool) {
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < s.to {
			continue
		}
		for k := range p.counts {
			t := &p.counts[k]
			c := &j.cells[t.cell]
			if !s.scope.has(&j.book, c) {
				continue
			}
			s.requests += int64(t.n)
			s.denials += int64(t.x)
			at := slices.IndexFunc(s.routes, func(r routeCount) bool { return r.route == c.route })
			switch {
			case t.x == 0:
			case at >= 0:
				s.routes[at].n += int64(t.x)
			case len(s.routes) < maxScanRoutes:
				s.routes = append(s.routes, routeCount{c.route, int64(t.x)})
			}
		}
		for k := range p.hits {
			h := &p.hits[k]
			if !s.scope.has(&j.book, &j.cells[h.cell]) {
				continue
			}
			s.who.add(h.id)
			if !h.met && !j.vouched(h.named) {
				s.strangers.add(h.id)
				if crowd {
					j.visitors.prowlers.Add(h.id, j.start)
				}
			}
		}
	}
	s.to, s.crowd = j.end(), s.crowd || crowd
}

// Scans returns the suspected scans that are remembered, the oldest first.
func (d *Detector) Scans() []incident.Scan {
	out := make([]incident.Scan, 0, len(d.scans))
	for _, s := range d.scans {
		j := d.judges[s.judge]
		x := incident.Scan{Vantage: j.vantage.String(), Class: j.class.String(), Scope: j.public(j.service, s.scope), From: instant(s.from), To: instant(s.to),
			Requests: s.requests, Denials: s.denials, Identities: s.who.count(), Strangers: s.strangers.count(), Routes: len(s.routes)}
		if len(s.routes) > 0 {
			top := slices.MaxFunc(s.routes, func(a, b routeCount) int { return cmp.Or(cmp.Compare(a.n, b.n), -cmp.Compare(a.route, b.route)) })
			x.TopRoute, x.TopDenials = j.routeNames.public(top.route), top.n
		}
		out = append(out, x)
	}
	return out
}
