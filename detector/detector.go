// Package detector is the judge: it learns what share of requests is normally
// refused for every slice of the traffic and tells, when slots close, which
// slices left their baseline: broken walls (up), vanished walls (down), new
// routes that refuse (new).
//
// It takes event time as an argument and knows neither clock nor randomness: the
// same slots and markers in the same order give the same transitions, whether
// live or replayed, and a detector that was saved and loaded goes on as if
// nothing had happened. A Detector has a single writer: all methods must be
// called from one goroutine. DESIGN.md beside this file explains the statistics.
package detector

import (
	"cmp"
	"slices"
	"time"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
)

const (
	// maxJudges bounds the services times vantages; each may have a judge for
	// every class of denial.
	maxJudges  = 1000
	maxMarkers = 20_000
	// markerLife is how long a marker is remembered in event time.
	markerLife = 14 * 24 * time.Hour
	// maxRecent bounds the resolved incidents that are remembered, recentLife how
	// long they are, in seconds of event time.
	maxRecent        = 1000
	recentLife int64 = 7 * 24 * 3600
)

// mark is a marker with the vantages it already took effect on.
type mark struct {
	marker.Marker
	done [event.Vantages]bool
	// trial is what is counted of it, nil before it took effect anywhere.
	trial *trial
}

// Detector judges closed slots. Create it with New.
type Detector struct {
	cfg     Config
	judges  []*judge
	judgeID map[judgeKey]*judge
	// last is the start of each vantage's last slot, -1 before the first.
	last    [event.Vantages]int64
	marks   []mark // by time, id
	markIDs map[string]struct{}
	groups  []*group // in order of opening
	visits  *visits
	scans   []*suspect // in order of their beginning
	live    []*trial   // of markers on probation
	cells   [event.Denials]int

	dirty, dirtyMarks, rewrite bool
}

type judgeKey struct {
	vantage event.Vantage
	service string
	class   event.Denial
}

// New returns a detector that knows nothing. The configuration must be valid.
func New(cfg Config) *Detector {
	d := &Detector{cfg: cfg, judgeID: map[judgeKey]*judge{}, markIDs: map[string]struct{}{}, visits: new(visits), rewrite: true}
	for v := range d.last {
		d.last[v] = -1
	}
	return d
}

// Mark tells of a change. It takes effect when a slot closes that contains or
// follows its time, and names incidents that follow it by its own time, however
// late it came. It reports whether the marker's id was new; a known id changes
// nothing.
func (d *Detector) Mark(m marker.Marker) bool {
	if _, known := d.markIDs[m.ID]; known || m.ID == "" {
		return false
	}
	d.markIDs[m.ID] = struct{}{}
	at, _ := slices.BinarySearchFunc(d.marks, mark{Marker: m}, byTime)
	d.marks = slices.Insert(d.marks, at, mark{Marker: m})
	d.forgetMarks(1)
	d.dirtyMarks = true
	return true
}

func byTime(a, b mark) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) }

// forgetMarks drops the oldest markers while there are too many, and those whose
// life is over for every vantage.
func (d *Detector) forgetMarks(keep int) {
	oldest := int64(-1)
	for _, l := range d.last {
		if l >= 0 && (oldest < 0 || l < oldest) {
			oldest = l
		}
	}
	n := max(len(d.marks)-maxMarkers, 0)
	for n < len(d.marks)-keep && oldest >= 0 && d.marks[n].Time.Unix() < oldest-int64(markerLife/time.Second) {
		n++
	}
	for i := range n {
		delete(d.markIDs, d.marks[i].ID)
		if t := d.marks[i].trial; t != nil {
			t.over = true
		}
	}
	if n > 0 {
		d.live = slices.DeleteFunc(d.live, func(t *trial) bool { return t.over })
		d.marks = slices.Delete(d.marks, 0, n)
		d.dirtyMarks = true
	}
}

// Close judges one vantage's closed slot and returns what happened to incidents,
// in a stable order. Slots of a vantage must come in increasing order of Start
// (others are ignored); jumps are gaps without data. It keeps nothing of c.
func (d *Detector) Close(c *slots.Closed) []incident.Transition {
	if c.Vantage >= event.Vantages || c.Step <= 0 || c.Start < 0 || c.Start > 1<<32-1<<20 || c.Start <= d.last[c.Vantage] {
		return nil
	}
	d.last[c.Vantage] = c.Start
	d.dirty = true
	d.effect(c)
	d.judgesOf(c)
	for _, j := range d.judges {
		if j.vantage != c.Vantage {
			continue
		}
		if j.class == event.Refused {
			j.visitors.turn(c.Start)
		}
		before, had := len(j.series), len(j.cells)
		if j.h == 0 {
			j.h = float32(baseline.Threshold(d.series(), d.cfg.AlertsPerWeek, c.Step))
		}
		room := d.cfg.MaxCells - d.cells[j.class]
		seen := c
		if !c.Partial && slices.Contains(c.Blind, j.service) {
			part := *c
			part.Partial = true
			seen = &part
		}
		j.close(seen, j.leaves, &room)
		d.observe(j)
		d.cells[j.class] += len(j.cells) - had
		if len(j.series) != before || j.turned {
			j.h = float32(baseline.Threshold(d.series(), d.cfg.AlertsPerWeek, c.Step))
		}
	}
	for _, j := range d.judges {
		if j.vantage == c.Vantage {
			d.suspectScans(j)
		}
	}
	// Who got in is remembered after everybody was judged by what was known before.
	for _, j := range d.judges {
		if j.class == event.Refused && j.vantage == c.Vantage {
			j.visitors.enter(c, j.leaves, min(maxSessions, sessionsAll/len(*d.visits)))
		}
		j.leaves = nil
	}
	d.forgetMarks(0)
	out := d.settle(c)
	d.conclude(c.Vantage, c.Step, out)
	return out
}

// effect applies the markers that are due.
func (d *Detector) effect(c *slots.Closed) {
	for i := range d.marks {
		m := &d.marks[i]
		if m.done[c.Vantage] {
			continue
		}
		if m.Time.Unix() >= c.Start+c.Step {
			break
		}
		m.done[c.Vantage] = true
		d.dirtyMarks = true
		d.try(m, c.Start)
		for _, j := range d.judges {
			if j.vantage == c.Vantage {
				j.apply(&m.Marker, c.Start)
			}
		}
	}
}

// judgesOf hands the slot's leaves, which are in order of service, to their
// judges, and makes those that are missing. Every service has a judge of plain
// refusals, and one for each other class from when the class first occurs.
func (d *Detector) judgesOf(c *slots.Closed) {
	for i := 0; i < len(c.Leaves); {
		service := c.Leaves[i].Key.Service
		k := i + 1
		for k < len(c.Leaves) && c.Leaves[k].Key.Service == service {
			k++
		}
		key := judgeKey{c.Vantage, service, event.Refused}
		first := d.judgeID[key]
		if first == nil && (d.cells[event.Refused] >= d.cfg.MaxCells || len(*d.visits) >= maxJudges) {
			key.service = tally.Other
			first = d.judgeID[key]
		}
		if first == nil {
			first = newJudge(c.Vantage, key.service, event.Refused, int64(d.cfg.Learn/time.Second))
			first.visitors = d.visits.add()
			first.configure(&d.cfg)
			d.add(first)
		}
		if key.service != service {
			first.folded += uint64(k - i)
			// Numbers are those of another service.
			for n := i; n < k; n++ {
				c.Leaves[n].Number = 0
			}
		}
		var occurs [event.Denials]bool
		for n := i; n < k; n++ {
			for class, denied := range &c.Leaves[n].Denied {
				occurs[class] = occurs[class] || denied > 0
			}
		}
		for class := event.Refused; class < event.Valid; class++ {
			key.class = class
			j := d.judgeID[key]
			if j == nil {
				if !occurs[class] {
					continue
				}
				j = first.sibling(class)
				d.add(j)
				d.cells[class] += len(j.cells)
			}
			if j.leaves == nil {
				j.leaves = c.Leaves[i:k:k]
			} else {
				j.leaves = append(j.leaves, c.Leaves[i:k]...)
			}
		}
		i = k
	}
}

// add numbers a judge.
func (d *Detector) add(j *judge) {
	j.index = len(d.judges)
	d.judgeID[judgeKey{j.vantage, j.service, j.class}] = j
	d.judges = append(d.judges, j)
}

func (d *Detector) series() int {
	n := 0
	for _, j := range d.judges {
		n += len(j.series)
	}
	return n
}

// Incidents returns the open and the recent incidents as they are now, in order
// of opening.
func (d *Detector) Incidents() []incident.Incident {
	out := make([]incident.Incident, len(d.groups))
	for i, g := range d.groups {
		out[i] = g.clone()
	}
	return out
}

// Markers returns the remembered markers by time.
func (d *Detector) Markers() []marker.Marker {
	out := make([]marker.Marker, len(d.marks))
	for i := range d.marks {
		out[i] = d.marks[i].Marker
	}
	return out
}

// Stats says how much a detector holds.
type Stats struct {
	// Judges is the number of services times vantages times classes of denial that
	// occur there, Cells of leaves with a baseline, Series of sums that are judged.
	Judges, Cells, Series int
	// Folded counts leaves of slots that went to "_other" because MaxCells was
	// reached.
	Folded uint64
	// Open is the number of open incidents, Recent of resolved ones remembered.
	Open, Recent int
	// Markers is the number of markers remembered.
	Markers int
	// Learning is the number of judges that are still silent after a cold start.
	Learning int
	// Scans is the number of suspected scans remembered.
	Scans int
	// Known is about how many identities, and identities on a route, are remembered
	// as let in, KnownBytes the memory for it.
	Known, KnownBytes int
}

// Stats counts what the detector holds.
func (d *Detector) Stats() Stats {
	s := Stats{Judges: len(d.judges), Series: d.series(), Markers: len(d.marks), Scans: len(d.scans)}
	for _, n := range d.cells {
		s.Cells += n
	}
	s.KnownBytes = d.visits.bytes()
	for _, v := range *d.visits {
		s.Known += v.filter.Keys()
	}
	for _, j := range d.judges {
		s.Folded += j.folded
		if j.born < 0 || j.start < j.born+j.learn {
			s.Learning++
		}
	}
	for _, g := range d.groups {
		if g.inc.State == incident.Open {
			s.Open++
		} else {
			s.Recent++
		}
	}
	return s
}
