package detector

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

const (
	// joinWithin is how far apart the onsets of one incident may lie between
	// vantages, in seconds.
	joinWithin int64 = 30 * 60
	// tellSlots is how many slots must pass between an incident's news.
	tellSlots   = 5
	maxContrast = 3
	topCauses   = 5
	topRules    = 5
)

// member is a finding that belongs to a group.
type member struct {
	judge int
	uid   uint64
	// from is the incident that brought it, empty if it is of this one itself.
	from string
	// started and scope are the finding's, for findings that ended long ago.
	started int64
	scope   incident.Scope
}

// group is the incident that people hear of: the findings of all vantages with
// one direction, one class of denial, overlapping scopes and one onset.
type group struct {
	inc     incident.Incident
	rise    bool
	seq     int
	members []member
	// What was last told, and when (the end of the slot).
	told struct {
		at         int64
		scope      incident.Scope
		identities int64
		lead       string
		marker     string
	}
	// judge and lead are who numbers it, as of the last refresh.
	judge *judge
	lead  *finding
	// trace is the lead's.
	trace trace
}

// clone copies the incident, so that nobody shares its lists.
func (g *group) clone() incident.Incident {
	inc := g.inc
	inc.Causes = slices.Clone(inc.Causes)
	inc.Rules = slices.Clone(inc.Rules)
	inc.Vantages = slices.Clone(inc.Vantages)
	inc.Contrast = slices.Clone(inc.Contrast)
	inc.Merged = slices.Clone(inc.Merged)
	if inc.ResolvedAt != nil {
		t := *inc.ResolvedAt
		inc.ResolvedAt = &t
	}
	if inc.AccessRule != nil {
		r := *inc.AccessRule
		inc.AccessRule = &r
	}
	if inc.MarkerInfo != nil {
		m := *inc.MarkerInfo
		inc.MarkerInfo = &m
	}
	if inc.FixInfo != nil {
		m := *inc.FixInfo
		inc.FixInfo = &m
	}
	return inc
}

func instant(sec int64) time.Time { return time.Unix(sec, 0).UTC() }

// settle turns what the judges of one vantage found into transitions.
func (d *Detector) settle(c *slots.Closed) []incident.Transition {
	now := c.Start + c.Step
	var out []incident.Transition
	tell := func(g *group, kind incident.Kind) { out = append(out, d.tell(g, kind, now)) }
	for _, j := range d.judges {
		if j.vantage != c.Vantage {
			continue
		}
		for _, f := range j.changed {
			g := d.groupOf(j, f)
			kind := incident.Reopened
			switch {
			case g == nil:
				g = &group{rise: f.dir == baseline.Up}
				g.inc.OpenedAt = instant(now)
				g.inc.Direction = direction(f)
				g.members = []member{{judge: j.index, uid: f.uid}}
				d.refresh(g, now)
				g.inc.ID = d.identify(g)
				d.groups = append(d.groups, g)
				kind = incident.Opened
			case g.inc.State == incident.Open:
				continue // it joined, or a part of it came back
			}
			g.inc.State, g.inc.ResolvedAt, g.inc.Resolution = incident.Open, nil, ""
			d.refresh(g, now)
			tell(g, kind)
		}
		j.changed = j.changed[:0]
	}
	for _, g := range d.groups {
		if g.inc.State != incident.Open || !d.concerns(g, c.Vantage) {
			continue
		}
		if open := d.refresh(g, now); !open {
			tell(g, incident.ResolvedKind)
			continue
		}
		// A better scope is told at once, numbers are not.
		sharper := g.inc.Scope != g.told.scope && (within(&g.inc.Scope, &g.told.scope) || within(&g.told.scope, &g.inc.Scope))
		if !sharper && now-g.told.at < tellSlots*c.Step {
			continue
		}
		// Who is told of what is urgent only must hear when it has become so.
		before := g.inc
		before.Scope, before.Identities = g.told.scope, g.told.identities
		worse := slices.Index(incident.Severities, g.inc.Severity) > slices.Index(incident.Severities, incident.ByNumbers(&before))
		if sharper || worse || g.inc.Scope != g.told.scope || g.inc.Identities >= 2*max(g.told.identities, 1) ||
			g.inc.Vantages[0] != g.told.lead || g.inc.Marker != g.told.marker {
			tell(g, incident.Grew)
		}
	}
	d.forgetGroups(now)
	return out
}

// tell makes the transition of a kind that a refreshed group goes through now.
func (d *Detector) tell(g *group, kind incident.Kind, now int64) incident.Transition {
	if kind == incident.ResolvedKind {
		t := instant(now)
		g.inc.State, g.inc.ResolvedAt = incident.Resolved, &t
		d.mended(g)
	} else {
		g.inc.Fix, g.inc.FixInfo = "", nil
		d.contrast(g)
	}
	g.seq++
	g.told.at, g.told.scope, g.told.identities = now, g.inc.Scope, g.inc.Identities
	g.told.lead, g.told.marker = g.inc.Vantages[0], g.inc.Marker
	return incident.Transition{Seq: g.seq, Kind: kind, At: instant(now), Incident: g.clone()}
}

// forgetGroups drops resolved incidents that are old or too many.
func (d *Detector) forgetGroups(now int64) {
	resolved := 0
	for _, g := range d.groups {
		if g.inc.State == incident.Resolved {
			resolved++
		}
	}
	d.groups = slices.DeleteFunc(d.groups, func(g *group) bool {
		if g.inc.State != incident.Resolved || resolved <= maxRecent && g.inc.ResolvedAt.Unix() >= now-recentLife {
			return false
		}
		resolved--
		return true
	})
	d.forgetTraces()
}

func direction(f *finding) incident.Direction {
	switch {
	case f.dir == baseline.Down:
		return incident.Down
	case f.fresh:
		return incident.New
	}
	return incident.Up
}

// refusing are the status codes that a refusal of a class shows.
func (d *Detector) refusing(class string) []int {
	switch class {
	case event.Unauthorized.String():
		return []int{401}
	case event.Payment.String():
		return []int{402}
	case event.Concealed.String():
		return []int{404}
	case event.Masked.String():
		return nil
	}
	var out []int
	for _, code := range d.cfg.Statuses {
		if code != 401 && code != 402 { // these have classes of their own
			out = append(out, code)
		}
	}
	slices.Sort(out)
	return out
}

// identify makes the public id from what the incident was when it opened. Another of
// the same onset and scope, found after the first was narrowed, is told from it by
// when it opened.
func (d *Detector) identify(g *group) string {
	s := &g.inc.Scope
	key := fmt.Sprintf("%q %s %d %q", s.Service, g.inc.Direction, g.inc.StartedAt.Unix(),
		[]string{s.Prefix, s.Route, s.Role, s.Geo, s.Plan, s.Host})
	if g.inc.Class != incident.ClassRefused {
		key += " " + g.inc.Class
	}
	for {
		h := xxhash.Sum64String(key)
		id := hex.EncodeToString([]byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16)})
		if !slices.ContainsFunc(d.groups, func(o *group) bool { return o.inc.ID == id }) {
			return id
		}
		key += fmt.Sprintf(" %d", g.inc.OpenedAt.Unix())
	}
}

// finding returns the finding of a member, nil when it ended long ago.
func (d *Detector) finding(m *member) (*judge, *finding) {
	j := d.judges[m.judge]
	for _, f := range j.findings {
		if f.uid == m.uid {
			return j, f
		}
	}
	return j, nil
}

// concerns reports whether a member of the group is seen from the vantage.
func (d *Detector) concerns(g *group, v event.Vantage) bool {
	return slices.ContainsFunc(g.members, func(m member) bool { return d.judges[m.judge].vantage == v })
}

// kin reports whether findings of two classes can be one incident: a refusal that
// the application tells may reach the web server's log masked.
func kin(a, b event.Denial) bool {
	return a == b || a == event.Refused && b == event.Masked || a == event.Masked && b == event.Refused
}

// groupOf returns the group that a finding belongs to, or joins: one of other
// vantages with the same direction, a class that goes with it, an overlapping scope
// and an onset close by.
func (d *Detector) groupOf(j *judge, f *finding) *group {
	for _, g := range d.groups {
		if slices.ContainsFunc(g.members, func(m member) bool { return m.judge == j.index && m.uid == f.uid }) {
			return g
		}
	}
	scope := j.public(j.service, f.scope)
	for _, g := range slices.Backward(d.groups) {
		if g.rise != (f.dir == baseline.Up) || g.inc.State == incident.Resolved && f.opened-g.inc.ResolvedAt.Unix() > reopenWithin {
			continue
		}
		for i := range g.members {
			m := &g.members[i]
			if o := d.judges[m.judge]; o.vantage == j.vantage && o.class == j.class || !kin(o.class, j.class) {
				continue
			}
			if gap := f.started - m.started; gap >= -joinWithin && gap <= joinWithin && overlap(&m.scope, &scope) {
				g.members = append(g.members, member{judge: j.index, uid: f.uid, from: m.from, started: f.started, scope: scope})
				return g
			}
		}
	}
	return nil
}

// refresh makes the public incident from its members and reports whether one is
// still open.
func (d *Detector) refresh(g *group, now int64) (open bool) {
	var live []sight
	for i := range g.members {
		m := &g.members[i]
		j, f := d.finding(m)
		if f == nil {
			continue
		}
		m.started, m.scope = f.started, j.public(j.service, f.scope)
		live = append(live, sight{j, f, m.from})
		open = open || f.resolved == 0
	}
	for _, s := range live {
		// It may be another vantage's, whose judge closed no slot now.
		s.j.dirty = s.j.dirty || s.f.kept != open
		s.f.kept = open
	}
	if len(live) == 0 {
		return false
	}
	g.inc.Merged = g.merged()
	of := func(s sight) int { // the incident itself first
		return slices.IndexFunc(g.inc.Merged, func(p incident.Part) bool { return p.ID == s.from })
	}
	over := func(s sight) int {
		if open && s.f.resolved != 0 {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(live, func(a, b sight) int {
		return cmp.Or(cmp.Compare(over(a), over(b)), cmp.Compare(of(a), of(b)), -cmp.Compare(a.f.named.count(), b.f.named.count()), -cmp.Compare(a.f.who.count(), b.f.who.count()),
			-cmp.Compare(a.j.vantage, b.j.vantage), cmp.Compare(a.f.uid, b.f.uid))
	})
	lead := live[0]
	f, inc := lead.f, &g.inc
	g.judge, g.lead = lead.j, f
	counted := parts(live)
	g.trace = sum(counted)
	inc.Scope = lead.j.public(lead.j.service, f.scope)
	inc.Version = ""
	for _, s := range live { // that only applications tell
		inc.Scope.Flag, inc.Version = cmp.Or(inc.Scope.Flag, s.f.flag), cmp.Or(inc.Version, s.f.version)
	}
	number(inc, counted)
	inc.AccessRule = nil
	for _, s := range live {
		if inc.AccessRule = s.j.rule(s.f); inc.AccessRule != nil {
			break
		}
	}
	if r := inc.AccessRule; r != nil && f.rules {
		// The rule speaks of nobody else, and what it tells apart may be no dimension.
		for _, d := range [...]struct {
			of *string
			is []string
		}{{&inc.Scope.Role, r.Roles}, {&inc.Scope.Plan, r.Plans}, {&inc.Scope.Geo, r.Geos}, {&inc.Scope.Flag, r.Flags}} {
			if *d.of == "" && len(d.is) == 1 {
				*d.of = d.is[0]
			}
		}
	}
	inc.Class = lead.j.class.String()
	inc.Vantages = inc.Vantages[:0:0]
	inc.Degraded = false
	causes := map[string]int64{}
	var rules []incident.RuleCount
	inner := -1
	accepted := true
	for i, s := range live {
		if s.j.class == event.Refused {
			inc.Class = incident.ClassRefused
		}
		accepted = accepted && s.f.accepted
		if v := s.j.vantage.String(); !slices.Contains(inc.Vantages, v) {
			inc.Vantages = append(inc.Vantages, v)
		}
		inc.Degraded = inc.Degraded || s.f.degraded
		for _, c := range s.f.causes {
			causes[c.cause] += c.n
		}
		for _, c := range s.f.byRule {
			k := slices.IndexFunc(rules, func(r incident.RuleCount) bool { return r.Cause == c.cause && r.Name == c.rule })
			if k < 0 {
				k = len(rules)
				rules = append(rules, incident.RuleCount{Cause: c.cause, Name: c.rule})
			}
			// Vantages see the same refusals: they are not added up.
			rules[k].Denials = max(rules[k].Denials, c.n)
		}
		if s.f.denials > 0 && (inner < 0 || s.j.vantage > live[inner].j.vantage) {
			inner = i
		}
	}
	inc.Layer = event.LayerUnknown.String()
	if inner >= 0 {
		inc.Layer = layer(live[inner].f).String()
	}
	names := make([]string, 0, len(causes))
	for c := range causes {
		names = append(names, c)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(-cmp.Compare(causes[a], causes[b]), cmp.Compare(a, b)) })
	inc.Causes = names[:min(len(names), topCauses)]
	slices.SortFunc(rules, func(a, b incident.RuleCount) int {
		return cmp.Or(-cmp.Compare(a.Denials, b.Denials), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Name, b.Name))
	})
	inc.Rules = rules[:min(len(rules), topRules)]
	if !open {
		inc.Resolution = incident.Recovered
		if accepted {
			inc.Resolution = incident.Accepted
		}
	}
	began := counted[0].f.began
	for _, s := range counted[1:] {
		o := s.f.began
		began = onset{min(began.earliest, o.earliest), min(began.at, o.at), min(began.latest, o.latest)}
	}
	d.attribute(g, began)
	inc.Statuses = d.refusing(inc.Class)
	inc.Severity = incident.ByNumbers(inc)
	return open
}

// number writes the numbers of an incident, which are those of its parts together.
func number(inc *incident.Incident, of []sight) {
	inc.StartedAt, inc.Requests, inc.Denials, inc.Estimated = instant(of[0].f.started), 0, 0, false
	inc.ExpectedRate, inc.ObservedRate = 0, 0
	expected, sampled, told := 0.0, uint8(0), true
	for _, x := range of {
		f := x.f
		if at := instant(f.started); at.Before(inc.StartedAt) {
			inc.StartedAt = at
		}
		inc.Requests, inc.Denials, inc.Estimated = inc.Requests+f.requests, inc.Denials+f.denials, inc.Estimated || f.estimated
		expected += f.expected
		sampled = max(sampled, f.sampled)
		told = told && f.resolved != 0 && f.dir == baseline.Up && f.who.exact != nil
	}
	if inc.Requests > 0 {
		inc.ExpectedRate = expected / float64(inc.Requests)
		inc.ObservedRate = float64(inc.Denials) / float64(inc.Requests)
	}
	heads := func(which func(*finding) *people) int64 {
		all := which(of[0].f)
		if len(of) > 1 {
			all = new(people)
			for _, x := range of {
				all.join(which(x.f))
			}
		}
		// Of sampled hits each identity stands for its like.
		return all.count() << min(sampled, 31)
	}
	inc.Identities = heads(func(f *finding) *people { return &f.who })
	inc.Accounts = heads(func(f *finding) *people { return &f.accounts })
	inc.UsedToGetIn = min(heads(func(f *finding) *people { return &f.used }), inc.Identities)
	inc.GotInAgain = nil
	if told {
		n := min(heads(func(f *finding) *people { return &f.back }), inc.Identities)
		inc.GotInAgain = &n
	}
}

// layer is who refused most, unknown only when nobody knows.
func layer(f *finding) event.Layer {
	best := event.LayerUnknown
	for l := event.LayerEdge; l < event.Layers; l++ {
		if f.layers[l] > 0 && (best == event.LayerUnknown || f.layers[l] > f.layers[best]) {
			best = l
		}
	}
	return best
}

// attributed is the scope in which a marker's change is seen: its service's at least.
func attributed(m *marker.Marker) *marker.Scope {
	s := m.Scope
	if len(s.Service) == 0 && m.Service != "" {
		s.Service = []string{m.Service}
	}
	return &s
}

// info is what people are told of a marker.
func info(m *marker.Marker) incident.MarkerInfo {
	return incident.MarkerInfo{Kind: string(m.Kind), Time: m.Time, Service: m.Service, Version: m.Version, Previous: m.Previous}
}

// contrast finds slices beside the lead's scope that are fine: other roles on
// the same path, the role on other paths, other countries. The rates are those
// of about the last 40 minutes.
func (d *Detector) contrast(g *group) {
	j, f := g.judge, g.lead
	s := f.scope
	near := func(c *cell) (scope, int) {
		path := s.route == all && s.prefix == all || scope{s.prefix, s.route, all, all}.has(&j.book, c)
		role, geo := s.role == all || s.role == c.role, s.geo == all || s.geo == c.geo
		switch {
		case path && !role && geo:
			return scope{s.prefix, s.route, c.role, s.geo}, 0
		case !path && role && geo:
			return scope{all, c.route, s.role, s.geo}, 1
		case path && role && !geo:
			return scope{s.prefix, s.route, s.role, c.geo}, 2
		}
		return scope{}, -1
	}
	type slice struct {
		scope   scope
		kind    int
		x, n, m float64
		masked  bool
	}
	at := map[scope]int{}
	var found []slice
	for i := range j.cells {
		c := &j.cells[i]
		sc, kind := near(c)
		if kind < 0 || c.n40 == 0 {
			continue
		}
		k, ok := at[sc]
		if !ok {
			k = len(found)
			at[sc] = k
			found = append(found, slice{scope: sc, kind: kind})
		}
		j.decay(int32(i))
		found[k].x += float64(c.x40)
		found[k].n += float64(c.n40)
		found[k].m += float64(c.m40)
		found[k].masked = found[k].masked || c.mask != 0
	}
	slices.SortStableFunc(found, func(a, b slice) int { return -cmp.Compare(a.n, b.n) })
	var kinds [3][]incident.Contrast
	for i := range found {
		e := &found[i]
		if len(kinds[e.kind]) == maxContrast || e.masked || e.n < 3 || baseline.Divergence(e.x, e.n, e.m) >= 3 {
			continue
		}
		kinds[e.kind] = append(kinds[e.kind], incident.Contrast{Scope: j.public(j.service, e.scope),
			ExpectedRate: e.m / e.n, ObservedRate: e.x / e.n, Requests: int64(e.n + 0.5)})
	}
	// The busiest of each kind first, then the next ones.
	g.inc.Contrast = nil
	for rank := range maxContrast {
		for _, k := range kinds {
			if rank < len(k) && len(g.inc.Contrast) < maxContrast {
				g.inc.Contrast = append(g.inc.Contrast, k[rank])
			}
		}
	}
}
