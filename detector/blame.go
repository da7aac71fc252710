package detector

import (
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

const (
	// takesEffect is how long a change takes until it shows, on average: most do at once,
	// a roll-out takes a quarter or half an hour.
	takesEffect = 10 * time.Minute
	// blameCost is the most that may speak against a change, in nats: one that was half an
	// hour early is no cause.
	blameCost = 3
	// declares is how much less speaks against a change that declares where it is and is
	// there than against one that may be anywhere.
	declares = 1
)

// onset is when something began: most likely in the slot that starts at at, and in none
// before earliest or after latest, which are less likely by onsetDoubt.
type onset struct{ earliest, at, latest int64 }

// cost is what speaks, in nats, against a change at t for what began so: that it began away
// from where it is most likely to have, plus how long the change took to show. By late
// seconds it may be told, or take effect, later than it was seen.
func (o onset) cost(t, late int64) float64 {
	const tau = float64(takesEffect / time.Second)
	if t > o.at {
		x := float64(t-o.at) / float64(o.latest+late-o.at)
		if x > 1 {
			return blameCost + 1
		}
		return onsetDoubt * x * x
	}
	// It began u before at, which is where the two add up to the least.
	w, gap := float64(o.at-o.earliest), float64(o.at-t)
	u := min(w*w/(2*onsetDoubt*tau), w, gap)
	doubt := 0.0
	if w > 0 {
		doubt = onsetDoubt * u * u / (w * w)
	}
	return doubt + (gap-u)/tau
}

// likeliest returns the change that fits best what began so in a scope, among those that
// may is true of, nil if none does. late is as for cost.
func (d *Detector) likeliest(o onset, late int64, scope *incident.Scope, may func(*marker.Marker) bool) *marker.Marker {
	var best *marker.Marker
	var least float64
	from := instant(o.earliest).Add(-blameCost * takesEffect)
	for i := len(d.marks) - 1; i >= 0 && !d.marks[i].Time.Before(from); i-- {
		m := &d.marks[i].Marker
		cost := o.cost(m.Time.Unix(), late)
		if cost > blameCost || !may(m) || !marked(attributed(m), scope) {
			continue
		}
		if len(m.Scope.Prefix)+len(m.Scope.Route)+len(m.Scope.Role)+len(m.Scope.Geo) > 0 {
			cost -= declares
		}
		if best == nil || cost < least {
			best, least = m, cost
		}
	}
	return best
}

// attribute names the change that the incident most likely followed. What came after
// people were told, such as a rollback, was not the cause.
func (d *Detector) attribute(g *group, o onset) {
	inc := &g.inc
	inc.Marker, inc.MarkerInfo = name(d.likeliest(o, 2*g.judge.step, &inc.Scope, func(m *marker.Marker) bool { return m.Time.Before(inc.OpenedAt) }))
}

// mended names the change that the recovery most likely followed, after the one that the
// incident did. One after which people were refused for longer than changes take to reach
// everybody is not it; where nobody came in between it may have been any since.
func (d *Detector) mended(g *group) {
	inc := &g.inc
	inc.Fix, inc.FixInfo = "", nil
	if inc.Resolution != incident.Recovered || g.lead == nil {
		return
	}
	// What spoke for recovery began in this slot; like an onset it may be a slot early.
	o := onset{g.lead.refused, g.lead.refused, max(g.lead.calmSince, g.lead.refused)}
	inc.Fix, inc.FixInfo = name(d.likeliest(o, 2*g.judge.step, &inc.Scope, func(m *marker.Marker) bool {
		return m.Time.After(inc.StartedAt) && m.ID != inc.Marker
	}))
}

// name is what an incident says of a change, of none if m is nil.
func name(m *marker.Marker) (id string, about *incident.MarkerInfo) {
	if m == nil {
		return "", nil
	}
	i := info(m)
	return m.ID, &i
}
