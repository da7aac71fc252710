package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// TrialKinds are the incidents of a Trial, each once in thirteen; TrialBenign what
// happens between them.
var (
	TrialKinds = []Kind{RoleMismatch, GeoBlock, NewRouteDenied, SlowRamp, SmallShift, LowVolume, Vanished,
		AdminOpen, GlobalSpike, PrefixRule, PlanDowngrade, Blip, RouteGeo}
	// TrialNewRoutes are the incidents instead where Setting.NewRoutes is set.
	TrialNewRoutes = []Kind{NewRoute30, NewRoute50, NewRoute80, NewRoute100}
	TrialBenign    = []Kind{Surge, Scanner, Announced, DataGap, NewRoute, LateData, ReleaseNoop, MixSurge}
)

// newRouteShare is what share of those who may come in a new route refuses.
var newRouteShare = map[Kind]float64{NewRoute30: 0.3, NewRoute50: 0.5, NewRoute80: 0.8, NewRoute100: 1}

// longest is when nobody waits for the bound any more, in minutes.
const longest = 300

// happen plans the incidents, a new one about every thirteen hours, and something
// benign after each.
func (t *Trial) happen(r rng) {
	from := t.minute + int64(t.WarmUp)*1440
	noops := int(t.Releases * float64(t.WarmUp+t.Test))
	for range noops {
		at := t.minute + int64(r.below((t.WarmUp+t.Test)*1440))
		t.tell(&r, marker.Marker{Kind: marker.Release, Time: clock(at), Version: fmt.Sprintf("v1.%d", len(t.markers))})
	}
	defer func() {
		slices.SortStableFunc(t.markers, func(a, b marker.Marker) int { return a.Time.Compare(b.Time) })
	}()
	if t.Quiet {
		return
	}
	benign := slices.Clone(TrialBenign)
	if t.Hard {
		benign = append(benign, Botnet, Botnet, Botnet)
	}
	n := max(1, t.Test*13/7)
	pace := int64(t.Test) * 1440 / int64(n)
	var kinds, calm []Kind
	for i := range n {
		if len(kinds) == 0 {
			all := TrialKinds
			if t.NewRoutes {
				all = TrialNewRoutes
			}
			kinds = shuffled(&r, all)
		}
		if len(calm) == 0 {
			calm = shuffled(&r, benign)
		}
		at := from + int64(i)*pace + int64(r.below(int(pace)*2/5))
		end := t.strike(&r, kinds[0], at, int(pace)*9/20)
		kinds = kinds[1:]
		at = end + 40 + int64(r.below(60))
		t.calm(&r, calm[0], at, from+int64(i+1)*pace)
		calm = calm[1:]
	}
	slices.SortStableFunc(t.labels, func(a, b Label) int { return a.From.Compare(b.From) })
}

func shuffled(r *rng, list []Kind) []Kind {
	out := slices.Clone(list)
	for i := len(out) - 1; i > 0; i-- {
		j := r.below(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func clock(minute int64) time.Time { return time.Unix(minute*60, 0).UTC() }

// strike plans an incident at a minute that is over within some, and returns when.
func (t *Trial) strike(r *rng, kind Kind, at int64, within int) (end int64) {
	length := int64(min(40+r.below(140), within))
	switch kind {
	case Blip:
		length = 3
	case SlowRamp:
		length = int64(min(180+r.below(60), within))
	case AdminOpen, SmallShift, LowVolume:
		length = int64(min(90+r.below(150), within))
	}
	_, partly := newRouteShare[kind]
	fresh := partly || kind == NewRouteDenied
	switch {
	case partly: // from a few requests a minute on a large product to many
		t.routes[t.appear(r, at)].take = 0.001 * math.Pow(20, r.unit())
	case fresh:
		t.appear(r, at)
	}
	var best trialTurn
	least, closest := 0, math.Inf(1)
	for range 200 {
		x, lo, hi, ok := t.propose(r, kind, at)
		if !ok {
			continue
		}
		x.from, x.to = at, at+length
		bound, clear := t.bound(&x)
		if !clear {
			continue
		}
		off := max(lo/float64(bound), float64(bound)/hi)
		if off < closest {
			best, least, closest = x, bound, off
		}
		if off <= 1 {
			break
		}
	}
	if closest > 2 || int64(least)*2 > length && kind != Blip {
		if fresh {
			t.routes[len(t.routes)-1].from = math.MaxInt64 // it never comes
		}
		return at // this product has no such slice
	}
	best.seed = r.next()
	best.loyal = r.chance(0.4)
	t.turns = append(t.turns, best)
	l := Label{Kind: kind, Direction: incident.Up, Scope: t.public(best.scope), From: clock(best.from), To: clock(best.to), Layer: event.LayerApp, Bound: least}
	switch {
	case best.down:
		l.Direction = incident.Down
	case fresh:
		l.Direction = incident.New
	}
	if m, ok := t.cause(r, kind, &best, l.Scope); ok {
		l.Marker = t.tell(r, m)
	}
	t.labels = append(t.labels, l)
	return best.to
}

// cause is the change that an incident follows, if it was told.
func (t *Trial) cause(r *rng, kind Kind, x *trialTurn, scope incident.Scope) (m marker.Marker, ok bool) {
	m = marker.Marker{Kind: marker.Release, Time: clock(x.from).Add(-time.Duration(r.below(480)) * time.Second), Version: fmt.Sprintf("v2.%d", len(t.markers))}
	switch kind {
	case GeoBlock, PrefixRule, RouteGeo:
		m.Kind = marker.SecurityRule
	case PlanDowngrade:
		m.Kind = marker.Entitlement
	case SlowRamp, SmallShift, LowVolume:
		return m, false
	}
	if r.chance(0.2) {
		return m, false
	}
	if m.Kind != marker.Release && r.chance(0.5) {
		one := func(s string) marker.List {
			if s == "" {
				return nil
			}
			return marker.List{s}
		}
		m.Scope = marker.Scope{Prefix: one(scope.Prefix), Route: one(scope.Route), Role: one(scope.Role), Geo: one(scope.Geo)}
	}
	return m, true
}

// tell adds a marker and returns its id. Some have none of their own.
func (t *Trial) tell(r *rng, m marker.Marker) string {
	if r.chance(0.5) {
		m.ID = fmt.Sprintf("change-%d", len(t.markers))
	}
	if err := m.Normalise(m.Time); err != nil {
		panic(err) // written here
	}
	t.markers = append(t.markers, m)
	return m.ID
}

// appear adds a route from a minute on.
func (t *Trial) appear(r *rng, at int64) int {
	var areas []int
	for a := range trialAreas {
		if trialAreas[a].rank == 1 && slices.Contains(t.prefix, "/"+trialAreas[a].name) {
			areas = append(areas, a)
		}
	}
	return t.addRoute(r, areas[r.below(len(areas))], trialRoute{rank: 1, from: at, take: 0.01 + 0.02*r.unit()})
}

// propose draws what an incident of a kind could be, and between which bounds of
// minutes it should be hard.
func (t *Trial) propose(r *rng, kind Kind, at int64) (x trialTurn, lo, hi float64, ok bool) {
	x.scope = wholeTrial
	route, role, geo := r.below(t.Routes), r.below(t.Roles), r.below(t.Geos)
	rank := t.routes[route].rank
	between := func(a, b float64) float64 { return a + (b-a)*r.unit() }
	// What a product does not tell apart is no scope.
	if t.Roles == 1 {
		role = -1
	}
	if t.Geos == 1 {
		geo = -1
	}
	may := role < 0 || t.may(rank, role)
	lo, hi = 1, 8
	switch kind {
	case RoleMismatch:
		x.scope.route, x.scope.role, x.share = route, role, between(0.5, 0.95)
		ok = may && role >= 0
	case GeoBlock:
		x.scope.geo, x.share, hi = geo, between(0.9, 1), 2
		ok = geo >= 0
	case NewRouteDenied:
		x.scope.route, x.share, hi, ok = len(t.routes)-1, between(0.9, 0.98), 6, true
	case NewRoute30, NewRoute50, NewRoute80, NewRoute100:
		x.scope.route, x.share, hi, ok = len(t.routes)-1, newRouteShare[kind], 30, true
	case SlowRamp:
		lo, hi = 10, 45
		x.ramp, x.share = 180, between(0.2, 0.6)
		switch r.below(3) {
		case 0:
			x.scope.route, ok = route, true
		case 1:
			x.scope.prefix, ok = t.prefix[route], true
		default:
			x.scope.prefix, x.scope.role, ok = t.prefix[route], role, role >= 0 && may
		}
	case SmallShift:
		lo, hi = 2, 10
		x.odds = between(2.5, 5)
		switch r.below(3) {
		case 0:
			x.scope.role, ok = role, role >= 0
		case 1:
			x.scope.prefix, ok = t.prefix[route], true
		default:
			x.scope.geo, ok = geo, geo >= 0
		}
	case LowVolume:
		lo, hi = 2, 9
		x.scope.route, x.scope.role, x.share = route, role, between(0.6, 1)
		ok = may && role >= 0 && t.Rate*t.roleShare[role]*t.weights[role][route] < 4
	case Vanished:
		lo, hi = 2, 10
		x.scope.route, x.scope.role, x.share, x.down = route, role, between(0.9, 1), true
		ok = !may
	case AdminOpen:
		lo, hi = 4, 16
		x.scope.prefix, x.scope.role, x.share, x.down = t.prefix[route], role, between(0.9, 1), true
		ok = !may && rank >= 2
	case GlobalSpike:
		x.share, hi, ok = between(0.05, 0.3), 2, true
	case PrefixRule:
		x.scope.prefix, x.share, hi, ok = t.prefix[route], between(0.8, 1), 2, true
	case PlanDowngrade:
		x.scope.prefix, x.scope.role, x.share, hi = t.prefix[route], role, between(0.4, 0.9), 4
		ok = may && role >= 0
	case Blip:
		hi = 1
		x.share = between(0.7, 1)
		switch r.below(3) {
		case 0:
			x.scope.route, ok = route, true
		case 1:
			x.scope.prefix, ok = t.prefix[route], true
		default:
			x.scope.prefix, x.scope.role, ok = t.prefix[route], role, role >= 0 && may
		}
	case RouteGeo:
		x.scope.route, x.scope.geo, x.share, hi = route, geo, between(0.8, 1), 5
		ok = geo >= 0
	}
	return x, lo, hi, ok && !t.taken[x.scope.route]
}

// flow is the requests a minute of a route by a role in a country, and the odds of
// a refusal as long as nothing happens.
func (t *Trial) flow(route, role, geo int, minute int64) (n, odds float64) {
	n = t.volume(role, geo, minute)
	switch {
	case route < t.Routes:
		n *= t.weights[role][route]
	case t.may(t.routes[route].rank, role):
		n *= t.routes[route].take
	default:
		n = 0
	}
	return n, t.usual(route, role) * t.season(role, geo, minute)
}

// bound is the first minute of a turn, counted from 1, at which the information
// that its change gives about itself, n KL(after || before) a minute, is log(series
// x minutes of a week): no watcher with one false alarm a week can be sure earlier
// on average (Lorden). clear tells that its scope is the only one that can be meant:
// no value of a free dimension has nearly all of the change, and each bound one
// leaves something out.
func (t *Trial) bound(x *trialTurn) (minutes int, clear bool) {
	var all float64
	routes, roles, geos := make([]float64, len(t.routes)), make([]float64, t.Roles), make([]float64, t.Geos)
	var beside [3]float64 // what a scope without its path, role, country would have more
	for route := range t.routes {
		for role := range t.Roles {
			for geo := range t.Geos {
				path := (x.scope.route < 0 || x.scope.route == route) && (x.scope.prefix == "" || x.scope.prefix == t.prefix[route])
				isRole, isGeo := x.scope.role < 0 || x.scope.role == role, x.scope.geo < 0 || x.scope.geo == geo
				n, o := t.flow(route, role, geo, x.from)
				p := o / (1 + o)
				change := n * math.Abs(x.after(p, x.from+x.ramp)-p)
				switch {
				case path && isRole && isGeo:
					all += change
					routes[route] += change
					roles[role] += change
					geos[geo] += change
				case isRole && isGeo:
					beside[0] += change
				case path && isGeo:
					beside[1] += change
				case path && isRole:
					beside[2] += change
				}
			}
		}
	}
	narrow := func(bound bool, parts []float64) bool {
		return bound || slices.Max(parts) < 0.85*all || len(parts) == 1
	}
	clear = all > 0 && narrow(x.scope.route >= 0, routes) && narrow(x.scope.role >= 0, roles) && narrow(x.scope.geo >= 0, geos) &&
		(x.scope.route < 0 && x.scope.prefix == "" || beside[0] > 0.25*all) &&
		(x.scope.role < 0 || beside[1] > 0.25*all) && (x.scope.geo < 0 || beside[2] > 0.25*all)
	if !clear {
		return longest, false
	}
	need := math.Log(float64(t.series()) * 10080)
	sum := 0.0
	for m := range longest {
		sum += t.information(x, x.from+int64(m))
		if sum >= need {
			return m + 1, true
		}
	}
	return longest, true
}

// information is what a minute of a turn tells of itself, in nats.
func (t *Trial) information(x *trialTurn, minute int64) (sum float64) {
	for route := range t.routes {
		if x.scope.route >= 0 && x.scope.route != route || x.scope.prefix != "" && x.scope.prefix != t.prefix[route] {
			continue
		}
		for role := range t.Roles {
			for geo := range t.Geos {
				if !t.in(&x.scope, route, role, geo) {
					continue
				}
				n, o := t.flow(route, role, geo, minute)
				p := o / (1 + o)
				q := min(max(x.after(p, minute), 1e-6), 1-1e-6)
				sum += n * (q*math.Log(q/p) + (1-q)*math.Log((1-q)/(1-p)))
			}
		}
	}
	return sum
}

// series is about how many slices of up to two dimensions there are.
func (t *Trial) series() int {
	prefixes := len(slices.Compact(slices.Sorted(slices.Values(t.prefix))))
	return 1 + (t.Routes+prefixes)*(1+t.Roles+t.Geos) + t.Roles + t.Geos + t.Roles*t.Geos
}

// calm plans something benign at a minute that is over before another.
func (t *Trial) calm(r *rng, kind Kind, at, before int64) {
	end := min(at+int64(15+r.below(45)), before)
	if end < at+10 {
		return
	}
	label := Label{Kind: kind, Benign: true, From: clock(at), To: clock(end)}
	crowd := trialCrowd{scope: wholeTrial, from: at, to: end}
	switch kind {
	case Surge:
		crowd.factor = 1.5 + 2.5*r.unit()
		switch r.below(4) {
		case 0: // everybody
		case 1:
			crowd.scope.geo = r.below(t.Geos)
		case 2:
			crowd.scope.role = r.below(t.Roles)
		default: // a link that many follow
			crowd.factor, crowd.rate = 0, (0.1+0.3*r.unit())*t.Rate
			for range 100 {
				if crowd.scope.route = r.below(t.Routes); t.routes[crowd.scope.route].rank == 0 {
					break
				}
			}
		}
	case MixSurge:
		crowd.factor = 3 + 3*r.unit()
		crowd.scope.role = r.below(max(1, t.Roles/2))
	case Scanner:
		crowd.hostile, crowd.people, crowd.rate = true, 1+r.below(5), (0.02+0.1*r.unit())*t.Rate
		crowd.scope.geo = r.below(t.Geos)
		if r.chance(0.3) {
			crowd.scope.prefix = t.prefix[r.below(t.Routes)]
		}
	case Botnet:
		crowd.hostile, crowd.people, crowd.rate = true, 100+r.below(3000), (0.02+0.1*r.unit())*t.Rate
		if r.chance(0.5) {
			crowd.scope.prefix = t.prefix[r.below(t.Routes)]
		}
	case DataGap:
		t.gaps = append(t.gaps, trialGap{from: at, to: end})
	case LateData:
		t.gaps = append(t.gaps, trialGap{from: at, to: end, late: 0.2 + 0.6*r.unit()})
	case NewRoute:
		route := t.appear(r, at)
		label.Scope = incident.Scope{Route: t.RouteNames[route]}
		if r.chance(0.7) {
			t.tell(r, marker.Marker{Kind: marker.Release, Time: clock(at), Version: fmt.Sprintf("v3.%d", len(t.markers))})
		}
	case ReleaseNoop:
		t.tell(r, marker.Marker{Kind: marker.Release, Time: clock(at), Version: fmt.Sprintf("v3.%d", len(t.markers))})
	case Announced:
		x := trialTurn{scope: wholeTrial, from: at, to: math.MaxInt64, share: 0.5 + 0.5*r.unit(), seed: r.next(), loyal: r.chance(0.5)}
		for range 100 {
			if x.scope.route, x.scope.role = r.below(t.Routes), r.below(t.Roles); t.Rate*t.roleShare[x.scope.role]*t.weights[x.scope.role][x.scope.route] > 0.5 {
				break
			}
		}
		x.down = !t.may(t.routes[x.scope.route].rank, x.scope.role)
		if t.Roles == 1 {
			x.scope.role = -1
		}
		t.turns = append(t.turns, x)
		t.taken[x.scope.route] = true
		label.Scope = t.public(x.scope)
		m := marker.Marker{Kind: marker.Entitlement, Time: clock(at), Version: fmt.Sprintf("v4.%d", len(t.markers)), Expect: marker.ExpectUp,
			Scope: marker.Scope{Route: marker.List{label.Scope.Route}}}
		if label.Scope.Role != "" {
			m.Scope.Role = marker.List{label.Scope.Role}
		}
		if x.down {
			m.Expect = marker.ExpectDown
		}
		t.tell(r, m)
	}
	if crowd.factor > 0 || crowd.rate > 0 {
		t.crowds = append(t.crowds, crowd)
	}
	t.labels = append(t.labels, label)
}
