package main

import (
	"fmt"
	"math"
	"time"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/sim"
)

// The usual rules, as people deploy them: each watches the raw rate of refusals of
// all requests, of every prefix, route, role and country by itself. They ignore
// whatever has no volume, wait half an hour before they resolve, and what fires at
// one time on overlapping slices is one incident, named by the strongest.

const (
	leastRequests = 20 // of the last five minutes or so, for any opinion
	bucketMinutes = 10 // of Holt-Winters and of last week
	dayBuckets    = 1440 / bucketMinutes
	weekBuckets   = 7 * dayBuckets
	quietAfter    = 30 * time.Minute
	rivalWarmUp   = 1440 // minutes before a rule may speak
)

// watched is one slice with what all rules remember of it.
type watched struct {
	scope incident.Scope
	n, x  float64 // of this minute
	n5    float64 // decayed over five minutes
	x5    float64
	hour  moments // of the rate of a minute
	day   moments
	ewma  float64
	// Holt-Winters of the rate of a bucket, with a daily season.
	bn, bx       float64
	level, trend float64
	miss         float64 // mean absolute error
	season       [dayBuckets]float64
	forecast     float64
	week         [weekBuckets]float64 // the rate of every bucket, -1 for unknown
	minutes      int
}

// moments is an exponentially weighted mean and variance.
type moments struct{ mean, square float64 }

func (m *moments) add(x, keep float64) {
	m.mean = keep*m.mean + (1-keep)*x
	m.square = keep*m.square + (1-keep)*x*x
}

func (m *moments) deviation() float64 {
	return math.Sqrt(max(m.square-m.mean*m.mean, 1e-8))
}

// rules are the rules, each with a lenient and a strict limit. A strength is beyond
// a limit in the direction of its sign.
var rules = []struct {
	name     string
	strength func(s *watched, minute int64) float64
	limits   [2]float64
}{
	{"threshold %g", func(s *watched, _ int64) float64 { return s.x5 / s.n5 }, [2]float64{0.05, 0.2}},
	{"z-score %g", func(s *watched, _ int64) float64 {
		rate := s.x5 / s.n5
		a, b := (rate-s.hour.mean)/s.hour.deviation(), (rate-s.day.mean)/s.day.deviation()
		if a*b <= 0 {
			return 0
		}
		return math.Copysign(min(math.Abs(a), math.Abs(b)), a)
	}, [2]float64{3, 12}},
	{"EWMA %g", func(s *watched, _ int64) float64 {
		const weight = 0.1
		return (s.ewma - s.day.mean) / (s.day.deviation() * math.Sqrt(weight/(2-weight)))
	}, [2]float64{8, 30}},
	{"Holt-Winters %g", func(s *watched, _ int64) float64 {
		return (s.x5/s.n5 - s.forecast) / max(s.miss, 1e-4)
	}, [2]float64{8, 40}},
	{"last week x%g", func(s *watched, minute int64) float64 {
		then := s.week[minute/bucketMinutes%weekBuckets]
		if then < 0 || s.minutes < 7*1440 {
			return 0
		}
		return (s.x5/s.n5 + 0.002) / (then + 0.002)
	}, [2]float64{2, 16}},
}

// gang is all rivals with the slices they watch.
type gang struct {
	slices []*watched
	by     map[incident.Scope]*watched
	told   [][]alarm // of every rule and limit
	floor  float64   // the least decayed volume
}

// alarm is an incident of a rule.
type alarm struct {
	found
	strength float64
	fired    time.Time // last
}

func newGang() *gang {
	return &gang{by: map[incident.Scope]*watched{}, told: make([][]alarm, 2*len(rules)), floor: leastRequests}
}

func (g *gang) slice(s incident.Scope) *watched {
	w := g.by[s]
	if w == nil {
		w = &watched{scope: s}
		for i := range w.week {
			w.week[i] = -1
		}
		g.by[s] = w
		g.slices = append(g.slices, w)
	}
	return w
}

// see lets all rules judge a slot.
func (g *gang) see(c *slots.Closed) {
	for i := range c.Leaves {
		l := &c.Leaves[i]
		n, x := float64(l.Requests()), float64(l.Denied[event.Refused])
		role := l.Key.Role
		if role == "" {
			role = incident.NoRole
		}
		route := incident.Scope{Route: l.Key.Route}
		for _, s := range [...]incident.Scope{{}, {Prefix: prefixOf(&route)}, route, {Role: role}, {Geo: l.Key.Geo}} {
			w := g.slice(s)
			w.n += n
			w.x += x
		}
	}
	minute := c.Start / 60
	at := time.Unix(c.Start+c.Step, 0).UTC()
	for _, s := range g.slices {
		s.turn(minute)
		if s.minutes < rivalWarmUp || s.n5 < g.floor {
			continue
		}
		for r := range rules {
			strength := rules[r].strength(s, minute)
			for k, limit := range rules[r].limits {
				if math.Abs(strength) > limit {
					g.fire(2*r+k, s, strength, at)
				}
			}
		}
	}
	for _, s := range g.slices {
		s.learn(minute)
	}
}

// turn takes the minute into the short windows.
func (s *watched) turn(minute int64) {
	keep := math.Exp(-1.0 / 5)
	s.n5 = s.n5*keep + s.n
	s.x5 = s.x5*keep + s.x
	if s.n > 0 {
		s.ewma = 0.9*s.ewma + 0.1*s.x/s.n
	}
	if s.minutes++; minute%bucketMinutes == 0 {
		s.forecast = s.level + s.trend + s.season[minute/bucketMinutes%dayBuckets]
	}
}

// learn takes the minute into what is usual.
func (s *watched) learn(minute int64) {
	if s.n > 0 {
		s.hour.add(s.x/s.n, math.Exp(-1.0/60))
		s.day.add(s.x/s.n, math.Exp(-1.0/1440))
	}
	s.bn += s.n
	s.bx += s.x
	s.n, s.x = 0, 0
	if (minute+1)%bucketMinutes != 0 {
		return
	}
	b := minute / bucketMinutes
	if s.week[b%weekBuckets] = -1; s.bn > 0 {
		rate := s.bx / s.bn
		s.week[b%weekBuckets] = rate
		const alpha, beta, gamma = 0.1, 0.01, 0.3
		was := s.level
		season := &s.season[b%dayBuckets]
		s.miss = 0.98*s.miss + 0.02*math.Abs(rate-s.forecast)
		s.level = alpha*(rate-*season) + (1-alpha)*(s.level+s.trend)
		s.trend = beta*(s.level-was) + (1-beta)*s.trend
		*season = gamma*(rate-s.level) + (1-gamma)**season
	}
	s.bn, s.bx = 0, 0
}

// fire adds a slice that is beyond a limit to the incidents of a rule.
func (g *gang) fire(rule int, s *watched, strength float64, at time.Time) {
	told := g.told[rule]
	rise := strength > 0
	for i := len(told) - 1; i >= 0; i-- {
		a := &told[i]
		if a.rise != rise || at.Sub(a.fired) > quietAfter || !overlaps(&a.last, &s.scope) {
			continue
		}
		a.fired = at
		if math.Abs(strength) > a.strength {
			a.strength, a.last = math.Abs(strength), s.scope
			if a.opened.Equal(at) {
				a.first = s.scope
			}
		}
		return
	}
	g.told[rule] = append(told, alarm{found: found{opened: at, rise: rise, first: s.scope, last: s.scope}, strength: math.Abs(strength), fired: at})
}

// scores judges every rule and limit by a trial's labels.
func (g *gang) scores(t *sim.Trial) (names []string, scores []*score) {
	for r := range rules {
		for k, limit := range rules[r].limits {
			s := newScore()
			s.days = float64(t.Test)
			s.series = len(g.slices)
			var told []found
			for _, a := range g.told[2*r+k] {
				a.resolved = a.fired.Add(quietAfter)
				told = append(told, a.found)
			}
			s.judge(t.Labels(), t.Start.AddDate(0, 0, t.WarmUp), told, func(string, *sim.Label, *found) {})
			names = append(names, fmt.Sprintf(rules[r].name, limit))
			scores = append(scores, s)
		}
	}
	return names, scores
}
