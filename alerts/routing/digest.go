package routing

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// Digest says when a summary of what happened is told, even if nothing did.
type Digest struct {
	// Daily is a time of day such as "09:00", Weekly a day and a time such as
	// "mon 09:00"; empty for never.
	Daily  string `yaml:"daily"`
	Weekly string `yaml:"weekly"`
}

// CommonDigest is the digest of everything, at the sinks' own places.
type CommonDigest struct {
	Digest `yaml:",inline"`
	// Timezone is the zone of its times, UTC if empty.
	Timezone string `yaml:"timezone"`
}

// Period is a digest that is due: all from the last one before it.
type Period struct {
	// Team is whose it is, empty for everybody's.
	Team   string
	Weekly bool
	// At is when it was due, From how long it reaches back at least.
	At, From time.Time
	Zone     *time.Location
	// To are the places it is told at.
	To []alerts.Dest
}

// Key tells the digests of a configuration apart, such as "growth/daily".
func (p *Period) Key() string {
	kind := "/daily"
	if p.Weekly {
		kind = "/weekly"
	}
	return cmp.Or(p.Team, "_all") + kind
}

// Due returns for every configured digest the last time that it was due, in the order
// of the configuration, everybody's first. Digests that no sink takes are left out.
func (r *Router) Due(now time.Time) []Period {
	var out []Period
	add := func(team string, d Digest, zone *time.Location) {
		var to []alerts.Dest
		for _, p := range r.placesOf(team, mostUrgent) {
			if p.Sink.Posts {
				to = append(to, p.Dest)
			}
		}
		if len(to) == 0 {
			return
		}
		for _, x := range []struct {
			text   string
			weekly bool
		}{{d.Daily, false}, {d.Weekly, true}} {
			if x.text != "" {
				at, from := lastDue(x.text, now.In(zone))
				out = append(out, Period{Team: team, Weekly: x.weekly, At: at, From: from, Zone: zone, To: to})
			}
		}
	}
	add("", r.digest.Digest, r.zone)
	for _, t := range r.order {
		add(t.Name, t.Digest, t.zone)
	}
	return out
}

// lastDue returns the last time at or before now that a day's or a week's time came
// round, and the one before that.
func lastDue(text string, now time.Time) (at, before time.Time) {
	days, minutes, day := 1, 0, time.Weekday(-1)
	if word, rest, weekly := strings.Cut(text, " "); weekly {
		days = 7
		day, _ = weekday(word)
		text = rest
	}
	minutes, _ = clock(text)
	on := func(back int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()-back, minutes/60, minutes%60, 0, 0, now.Location())
	}
	back := 0
	for ; back <= days; back++ {
		if x := on(back); !x.After(now) && (days == 1 || x.Weekday() == day) {
			break
		}
	}
	return on(back), on(back + days)
}

// digest checks the times of a digest.
func (k *checker) digest(at string, d *Digest) {
	if _, ok := clock(d.Daily); d.Daily != "" && !ok {
		k.bad(at+".daily", `must be a time of day such as "09:00"`)
	}
	if d.Weekly != "" {
		word, rest, _ := strings.Cut(d.Weekly, " ")
		_, known := weekday(word)
		if _, ok := clock(rest); !ok || !known {
			k.bad(at+".weekly", `must be a day and a time such as "mon 09:00"`)
		}
	}
}

// Due is Router.Due of the desk's router.
func (d *Desk) Due(now time.Time) []Period { return d.router.Due(now) }

// Concerns reports whether an incident concerns a team, by the desk's router.
func (d *Desk) Concerns(in *incident.Incident, team string) bool {
	dec := d.router.Route(in, "")
	return dec.Concerns(team)
}

// Concerns reports whether a team owns or watches what was decided about. Everything
// concerns everybody, the empty team.
func (d *Decision) Concerns(team string) bool {
	return team == "" || slices.Contains([]string{d.Team, d.Watcher}, team)
}
