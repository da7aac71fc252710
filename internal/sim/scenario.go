package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// Scenario is what happens to the simulated product. The zero value of
// everything but Start and Rate is an uneventful life.
type Scenario struct {
	// Seed decides every random choice.
	Seed uint64
	// Start is the time of the first requests. End is when they stop; zero:
	// never.
	Start, End time.Time
	// Rate is the mean over a week of the requests a second that people make.
	// Retries, scanners and surges come on top, some three percent while
	// nothing happens.
	Rate float64
	// Calm leaves out scanners, office crowds, retries and the noise of the
	// denial rates, so that counts are binomial and tests can be exact.
	Calm bool
	// Incidents are what a watcher should report, Benign what it should not.
	Incidents []Incident
	Benign    []Benign
	// Releases are the changes a team announces. They have no effect of their
	// own; see Markers.
	Releases []marker.Marker
}

// Kind is what sort of thing happens.
type Kind string

// The kinds of Incident.
const (
	// RoleMismatch: the application refuses a role it used to let in.
	RoleMismatch Kind = "role_mismatch"
	// GeoBlock: the web server refuses a country.
	GeoBlock Kind = "geo_block"
	// PrefixRule: the web server refuses a part of the path tree.
	PrefixRule Kind = "prefix_rule"
	// NewRouteDenied: a route that did not exist before From is refused by the
	// application from its first requests on. Scope.Route is its template and
	// must not be one of Routes. About two percent of what signed-in people ask
	// for goes there, also after To.
	NewRouteDenied Kind = "new_route_denied"
	// Vanished: whom the product used to refuse gets in.
	Vanished Kind = "vanished"
	// GlobalSpike: refusals everywhere, static pages of the web server included.
	GlobalSpike Kind = "global_spike"
	// SlowRamp: the application refuses more and more; Rate is reached half way
	// between From and To.
	SlowRamp Kind = "slow_ramp"
	// Blip is a RoleMismatch of a few minutes.
	Blip Kind = "blip"

	// The others happen in a Trial only.

	// SmallShift: the odds of a refusal of many people become a few times as high.
	SmallShift Kind = "small_shift"
	// LowVolume: a role loses a route that it rarely asks for.
	LowVolume Kind = "low_volume"
	// AdminOpen: a role gets into a part of the product that it never may.
	AdminOpen Kind = "admin_open"
	// PlanDowngrade: a role loses many routes of one part of the product.
	PlanDowngrade Kind = "plan_downgrade"
	// RouteGeo: a country loses one route.
	RouteGeo Kind = "route_geo"
	// NewRoute30 and so on: a route comes and refuses that percentage of those who
	// may come in. Some are asked for a few times a minute, some often.
	NewRoute30  Kind = "new_route_30"
	NewRoute50  Kind = "new_route_50"
	NewRoute80  Kind = "new_route_80"
	NewRoute100 Kind = "new_route_100"
)

// The kinds of Benign.
const (
	// MixSurge: the scope gets Size times its usual requests, with its usual
	// share of refusals.
	MixSurge Kind = "mix_surge"
	// Scanner: three clients probe the product with Size times the mean rate
	// of requests, nearly all of them refused or not found. The scope's country
	// is theirs.
	Scanner Kind = "scanner"
	// OfficeCrowd: the people of one account, behind one address, work on the
	// scope together, with Size times the mean rate of requests.
	OfficeCrowd Kind = "office_crowd"
	// Announced: like an incident that the application causes, and Markers has
	// a marker that announces it. Size is the share as in Incident.Rate;
	// Expect is the direction; a zero To is for good.
	Announced Kind = "announced"
	// ReleaseNoop: Markers has a release that changes nothing.
	ReleaseNoop Kind = "release_noop"
	// NewRoute: a route appears as in NewRouteDenied, and works.
	NewRoute Kind = "new_route"
	// DataGap: nothing is logged; people go on all the same.
	DataGap Kind = "data_gap"

	// The others happen in a Trial only.

	// Surge: everybody, or a crowd on one route, comes several times as often.
	Surge Kind = "surge"
	// LateData: a part of the log comes minutes late.
	LateData Kind = "late_data"
	// Botnet: many strangers ask for what they may not have.
	Botnet Kind = "botnet"
)

// Scope is a slice of the traffic; an empty field means all.
type Scope struct {
	// Route is a template of Routes.
	Route string
	// Prefix is a part of the path tree, such as "/billing" or "/api/v1".
	Prefix string
	// Role is "member", "editor", "owner" or Anonymous.
	Role string
	// Geo is a country code, in capitals.
	Geo string
}

// Incident is something that goes wrong from From (inclusive) to To (not).
type Incident struct {
	Kind     Kind
	Scope    Scope
	From, To time.Time
	// Rate is the share of the scope's requests whose outcome turns: those that
	// would be let in are refused, for Vanished the other way round. So the
	// observed share of refusals is p + (1-p) Rate where p is the ordinary one,
	// and p (1-Rate) for Vanished.
	Rate float64
}

// Benign is something that looks like trouble and is none.
type Benign struct {
	Kind     Kind
	Scope    Scope
	From, To time.Time
	// Size is how big it is; each Kind says in what.
	Size float64
	// Expect is the direction of an Announced change.
	Expect marker.Expect
}

// Label is what a judge of a watcher must know of one happening.
type Label struct {
	Kind Kind
	// Benign happenings must not be reported, and have no Direction.
	Benign    bool
	Direction incident.Direction
	// Scope has the service and what the happening's own scope names.
	Scope    incident.Scope
	From, To time.Time
	// Layer is who refuses most, for incidents.
	Layer event.Layer
	// Marker is the id of the change that caused it, if there is one, and Bound the
	// minutes that a watcher who knows all rates and the scope needs to be as sure
	// as one false alarm a week asks for; of a Trial only.
	Marker string
	Bound  int
}

// Labels lists the truth, incidents first, each in the order of the scenario.
// So Request.Incident is an index into it.
func (sc *Scenario) Labels() []Label {
	var out []Label
	scope := func(s Scope) incident.Scope {
		return incident.Scope{Service: Service, Route: s.Route, Prefix: s.Prefix, Role: s.Role, Geo: s.Geo}
	}
	for _, x := range sc.Incidents {
		l := Label{Kind: x.Kind, Direction: incident.Up, Scope: scope(x.Scope), From: x.From, To: x.To, Layer: event.LayerApp}
		switch x.Kind {
		case Vanished:
			l.Direction = incident.Down
		case NewRouteDenied:
			l.Direction = incident.New
		case GeoBlock, PrefixRule:
			l.Layer = event.LayerWeb
		}
		out = append(out, l)
	}
	for _, x := range sc.Benign {
		out = append(out, Label{Kind: x.Kind, Benign: true, Scope: scope(x.Scope), From: x.From, To: x.To})
	}
	return out
}

// Markers lists, in the order of their times, what the team announces: the
// releases, those without effect, and the announced changes.
func (sc *Scenario) Markers() []marker.Marker {
	out := slices.Clone(sc.Releases)
	for i, x := range sc.Benign {
		m := marker.Marker{Time: x.From, Service: Service}
		switch x.Kind {
		case ReleaseNoop:
			m.Kind, m.Version = marker.Release, fmt.Sprintf("noop-%d", i+1)
		case Announced:
			m.Kind, m.Version, m.Expect = marker.Entitlement, fmt.Sprintf("announced-%d", i+1), x.Expect
			one := func(s string) marker.List {
				if s == "" {
					return nil
				}
				return marker.List{s}
			}
			m.Scope = marker.Scope{Prefix: one(x.Scope.Prefix), Route: one(x.Scope.Route), Role: one(x.Scope.Role), Geo: one(x.Scope.Geo)}
		default:
			continue
		}
		m.ID = Service + "-" + m.Version
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b marker.Marker) int { return a.Time.Compare(b.Time) })
	return out
}

// check reports every mistake in the scenario.
func (sc *Scenario) check() error {
	var errs []error
	bad := func(f string, a ...any) { errs = append(errs, fmt.Errorf(f, a...)) }
	if sc.Start.IsZero() {
		bad("start: give the time of the first requests")
	}
	if !sc.End.IsZero() && !sc.End.After(sc.Start) {
		bad("end: must be after the start")
	}
	if !(sc.Rate > 0 && sc.Rate <= 1e6) {
		bad("rate: must be above 0 and at most 1e6 requests a second")
	}
	routes := newSite()
	for i, x := range sc.Incidents {
		where := fmt.Sprintf("incidents[%d] (%s)", i, x.Kind)
		switch x.Kind {
		case RoleMismatch, GeoBlock, PrefixRule, Vanished, GlobalSpike, SlowRamp, Blip, NewRouteDenied:
		default:
			bad("%s: unknown kind", where)
			continue
		}
		if !(x.Rate > 0 && x.Rate <= 1) {
			bad("%s: rate: must be above 0 and at most 1", where)
		}
		if !x.To.After(x.From) {
			bad("%s: to: must be after from", where)
		}
		errs = append(errs, x.Scope.check(where, routes, x.Kind == NewRouteDenied))
	}
	for i, x := range sc.Benign {
		where := fmt.Sprintf("benign[%d] (%s)", i, x.Kind)
		least := 0.0
		switch x.Kind {
		case MixSurge:
			least = 1
		case Scanner, OfficeCrowd, Announced, ReleaseNoop, NewRoute, DataGap:
		default:
			bad("%s: unknown kind", where)
			continue
		}
		switch x.Kind {
		case MixSurge, Scanner, OfficeCrowd, Announced:
			if !(x.Size > least && x.Size <= 1000) || x.Kind == Announced && x.Size > 1 {
				bad("%s: size: out of range", where)
			}
		}
		switch x.Kind {
		case ReleaseNoop, NewRoute:
		case Announced:
			if x.Expect != marker.ExpectUp && x.Expect != marker.ExpectDown {
				bad("%s: expect: must be up or down", where)
			}
			if !x.To.IsZero() && !x.To.After(x.From) {
				bad("%s: to: must be after from, or zero", where)
			}
		default:
			if !x.To.After(x.From) {
				bad("%s: to: must be after from", where)
			}
		}
		errs = append(errs, x.Scope.check(where, routes, x.Kind == NewRoute))
	}
	return errors.Join(errs...)
}

// check reports a scope that names what the product does not have, or, if
// fresh, whose route it has already.
func (s Scope) check(where string, routes []route, fresh bool) error {
	var errs []error
	bad := func(f string, a ...any) { errs = append(errs, fmt.Errorf(where+": "+f, a...)) }
	known := slices.ContainsFunc(routes, func(r route) bool { return r.template == s.Route })
	switch {
	case fresh && (known || !strings.HasPrefix(s.Route, "/") || strings.Count(s.Route, "{") != strings.Count(s.Route, "{id}")):
		bad("scope.route: must be the template of a route that does not exist yet, with {id} for its variable segments")
	case !fresh && s.Route != "" && !known:
		bad("scope.route: the product has no %q", s.Route)
	}
	if s.Route != "" && s.Prefix != "" && !under(s.Route, s.Prefix) {
		bad("scope: %s does not lie under %s", s.Route, s.Prefix)
	}
	if s.Prefix != "" && !slices.ContainsFunc(routes, func(r route) bool { return under(r.template, s.Prefix) }) {
		bad("scope.prefix: the product has nothing under %q", s.Prefix)
	}
	if s.Role != "" && roleMask(s.Role) == 0 {
		bad("scope.role: unknown role %q", s.Role)
	}
	if s.Geo != "" && geoMask(s.Geo) == 0 {
		bad("scope.geo: the product has no visitors from %q", s.Geo)
	}
	return errors.Join(errs...)
}

// region is a compiled Scope.
type region struct {
	routes           []bool
	roles, countries uint8
}

func (s Scope) compile(routes []route) region {
	out := region{routes: make([]bool, len(routes)), roles: roleMask(s.Role), countries: geoMask(s.Geo)}
	for i := range routes {
		t := routes[i].template
		out.routes[i] = (s.Route == "" || t == s.Route) && (s.Prefix == "" || under(t, s.Prefix))
	}
	return out
}

func (s *region) has(route int, role, geo uint8) bool {
	return s.routes[route] && s.roles>>role&1 != 0 && s.countries>>geo&1 != 0
}

func roleMask(role string) uint8 {
	switch role {
	case "":
		return 1<<nRoles - 1
	case Anonymous:
		return 1 << anonymous
	}
	for i, n := range roleNames {
		if n == role {
			return 1 << i
		}
	}
	return 0
}

func geoMask(code string) uint8 {
	if code == "" {
		return 1<<nGeos - 1
	}
	for i, g := range geos {
		if g.code == code {
			return 1 << i
		}
	}
	return 0
}

// under tells whether path lies in the tree of prefix.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
