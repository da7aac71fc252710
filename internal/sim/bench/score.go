package main

import (
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/sim"
)

const (
	// grace is how long after an incident's end it may still be told of.
	grace = 5 * time.Minute
	// echo is how long after its end an incident may be the reason for a false one.
	echo = 2 * time.Hour
)

// found is an incident as a watcher told it.
type found struct {
	opened time.Time
	// resolved is zero while it is open.
	resolved time.Time
	rise     bool
	// first is its scope when it was told, last the final one; the service is not
	// set. marker is the change it named at first.
	first, last incident.Scope
	marker      string
	// numbers are what was told of it last.
	numbers incident.Incident
}

// kindScore is what became of the incidents of one kind.
type kindScore struct {
	n, hits, exact, exactFirst int
	// marked is how many of the hits have a change as their cause, blamed how many
	// named it when they were told.
	marked, blamed int
	// delays and bounds are minutes, the minute of the onset counted as 1, of hits.
	delays, bounds []float64
	// lasted is by how many minutes they were resolved after their ends. early is
	// how many were resolved before, stuck how many were not for two hours.
	lasted       []float64
	early, stuck int
}

// score is how good a watcher was.
type score struct {
	kinds map[sim.Kind]*kindScore
	// wrong matched no label; of them echoes follow an incident. again is how often
	// an incident was told twice.
	wrong, echoes, again int
	// early is how many were told during the warm-up, in which nothing happens.
	early int
	// during counts the false ones by what happened at the time.
	during map[sim.Kind]int
	// days is how long incidents could be told, watched with the warm-up.
	days, watched float64
	// series is how many slices the watcher holds, bytes what it takes with all that
	// belongs to them, cpu the seconds spent on work slices times minutes; simulated
	// is the seconds for making the traffic.
	series, bytes        int
	cpu, simulated, work float64
}

func newScore() *score {
	return &score{kinds: map[sim.Kind]*kindScore{}, during: map[sim.Kind]int{}}
}

// prefixOf is the first segment of a route.
func prefixOf(s *incident.Scope) string {
	if s.Route == "" {
		return s.Prefix
	}
	if i := strings.IndexByte(s.Route[1:], '/'); i > 0 {
		return s.Route[:i+1]
	}
	return s.Route
}

// overlaps reports whether two scopes can share a request.
func overlaps(a, b *incident.Scope) bool {
	differ := func(x, y string) bool { return x != "" && y != "" && x != y }
	return !differ(a.Role, b.Role) && !differ(a.Geo, b.Geo) && !differ(a.Route, b.Route) && !differ(prefixOf(a), prefixOf(b))
}

// judge adds what a watcher told about a trial, of which the test began at a time,
// to the score. Each mismatch is handed to note.
func (s *score) judge(labels []sim.Label, test time.Time, told []found, note func(string, *sim.Label, *found)) {
	hit := make([]*found, len(labels))
	for i := range told {
		f := &told[i]
		if !f.opened.After(test) {
			s.early++
			note("early", nil, f)
			continue
		}
		matched := false
		for k := range labels {
			l := &labels[k]
			if l.Benign || f.rise == (l.Direction == incident.Down) || !f.opened.After(l.From) || f.opened.After(l.To.Add(grace)) ||
				!overlaps(&f.first, &l.Scope) && !overlaps(&f.last, &l.Scope) {
				continue
			}
			matched = true
			if hit[k] == nil {
				hit[k] = f
			} else {
				s.again++
				note("again", l, f)
			}
			break
		}
		if matched {
			continue
		}
		s.wrong++
		var why *sim.Label
		for k := range labels {
			l := &labels[k]
			if !f.opened.After(l.From) || f.opened.After(l.To.Add(echo)) {
				continue
			}
			if !l.Benign && overlaps(&f.last, &l.Scope) {
				why = l
				s.echoes++
				break
			}
			if l.Benign && !f.opened.After(l.To.Add(30*time.Minute)) {
				why = l
			}
		}
		if why != nil {
			s.during[why.Kind]++
		}
		note("false", why, f)
	}
	for k := range labels {
		l := &labels[k]
		if l.Benign {
			continue
		}
		ks := s.kinds[l.Kind]
		if ks == nil {
			ks = &kindScore{}
			s.kinds[l.Kind] = ks
		}
		ks.n++
		f := hit[k]
		if f == nil {
			note("missed", l, nil)
			continue
		}
		ks.hits++
		ks.delays = append(ks.delays, f.opened.Sub(l.From).Minutes())
		ks.bounds = append(ks.bounds, float64(l.Bound))
		switch over := f.resolved.Sub(l.To); {
		case f.resolved.IsZero() || over > echo:
			ks.stuck++
			note("stuck", l, f)
		case over <= 0:
			ks.early++
		default:
			ks.lasted = append(ks.lasted, over.Minutes())
		}
		if f.first == l.Scope {
			ks.exactFirst++
		}
		if f.last == l.Scope {
			ks.exact++
		} else {
			note("scope", l, f)
		}
		if l.Marker != "" {
			ks.marked++
			if f.marker == l.Marker {
				ks.blamed++
			} else {
				note("marker", l, f)
			}
		}
		if float64(l.Bound)*4 < f.opened.Sub(l.From).Minutes() {
			note("slow", l, f)
		}
	}
}

// add adds another trial's score.
func (s *score) add(o *score) {
	for k, v := range o.kinds {
		ks := s.kinds[k]
		if ks == nil {
			ks = &kindScore{}
			s.kinds[k] = ks
		}
		ks.add(v)
	}
	for k, n := range o.during {
		s.during[k] += n
	}
	s.wrong += o.wrong
	s.echoes += o.echoes
	s.again += o.again
	s.early += o.early
	s.days += o.days
	s.watched += o.watched
	s.series += o.series
	s.bytes += o.bytes
	s.cpu += o.cpu
	s.work += o.work
	s.simulated += o.simulated
}

func (k *kindScore) add(o *kindScore) {
	k.n += o.n
	k.hits += o.hits
	k.exact += o.exact
	k.exactFirst += o.exactFirst
	k.marked += o.marked
	k.blamed += o.blamed
	k.early += o.early
	k.stuck += o.stuck
	k.lasted = append(k.lasted, o.lasted...)
	k.delays = append(k.delays, o.delays...)
	k.bounds = append(k.bounds, o.bounds...)
}

// total sums the kinds.
func (s *score) total() *kindScore {
	t := &kindScore{}
	for _, k := range s.kinds {
		t.add(k)
	}
	return t
}
