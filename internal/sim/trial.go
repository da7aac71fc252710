package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// Setting is the kind of product that a Trial simulates, and for how long.
type Setting struct {
	// Seed decides every random choice.
	Seed uint64
	// Start is the first minute; it is cut to a whole one.
	Start time.Time
	// WarmUp is how many days pass before the first happening, Test how many days
	// happenings go on then.
	WarmUp, Test int
	// Routes (at least 6), Roles (1 to 9, visitors without an account among them)
	// and Geos (1 to 16) are how many of each the product has. With one role, or
	// one country, requests do not say which.
	Routes, Roles, Geos int
	// Rate is the mean of requests a minute over a week.
	Rate float64
	// Anonymous is the role that requests of visitors without an account name.
	Anonymous string
	// NoAccounts leaves account ids out, NoUsers user ids too.
	NoAccounts, NoUsers bool
	// Loyal is the share of people whose ordinary refusals are always the same:
	// who was refused somewhere is refused there tomorrow.
	Loyal float64
	// Releases a day change nothing and are told as markers.
	Releases float64
	// Hard makes the noise strong and slow, lets the rates drift from day to day,
	// and adds botnets.
	Hard bool
	// NewRoutes lets nothing go wrong but on new routes, of TrialNewRoutes.
	NewRoutes bool
	// Quiet leaves out all incidents and benign happenings but releases.
	Quiet bool
}

func (s *Setting) check() error {
	var errs []error
	between := func(name string, v, lo, hi float64) {
		if !(v >= lo && v <= hi) {
			errs = append(errs, fmt.Errorf("%s: %v is not between %v and %v", name, v, lo, hi))
		}
	}
	between("warm-up", float64(s.WarmUp), 0, 365)
	between("test", float64(s.Test), 1, 365)
	between("routes", float64(s.Routes), 6, 5000)
	between("roles", float64(s.Roles), 1, float64(len(ranks)))
	between("geos", float64(s.Geos), 1, float64(len(lands)))
	between("rate", s.Rate, 1, 1e6)
	between("loyal", s.Loyal, 0, 1)
	between("releases", s.Releases, 0, 1000)
	if s.Start.IsZero() {
		errs = append(errs, errors.New("start: give the first minute"))
	}
	return errors.Join(errs...)
}

// Visit is one request of a Trial.
type Visit struct {
	// Time is milliseconds since the Unix epoch.
	Time int64
	// Route, Role and Geo number the values of the Trial's lists.
	Route, Role, Geo int32
	// Person numbers who it is; Named tells that he has an account.
	Person uint32
	Named  bool
	Denied bool
	// Late tells that the request is logged some minutes after it happened.
	Late bool
}

// Trial is labelled traffic of a product that the seed invents: the same Setting
// gives the same visits. It serves to measure a watcher: visits can be counted
// directly, or written as an application's log. It is not safe for concurrent use.
type Trial struct {
	Setting
	// RouteNames, RoleNames and GeoNames are the values that visits number.
	RouteNames, RoleNames, GeoNames []string

	labels  []Label
	markers []marker.Marker
	turns   []trialTurn
	crowds  []trialCrowd
	gaps    []trialGap
	routes  []trialRoute
	prefix  []string // of every route

	curve            []float64
	roleShare, share []float64    // of roles, of countries
	picks            []picker     // routes by role
	weights          [][]float64  // the same as shares
	taken            map[int]bool // routes whose rates change for good
	odds             []float64    // route x role
	lean             []float64    // by role, the amplitude of the daily cycle of its odds
	first            []uint32     // role x geo: number of its first person
	count            []int        // role x geo: how many
	passing          []float64    // by role: share of visitors who never come again

	rng, noise rng
	all        wander
	ofRoute    []wander
	ofRole     []wander
	ofGeo      []wander
	ofPair     []wander  // role x geo
	drift      []float64 // route x role, changes daily in hard mode
	routeF     []float64
	pairF      []float64
	minute     int64 // of the epoch
	end        int64
	strangers  uint32
	again      []Visit // retries in the next minute
	visits     []Visit
}

// trialRoute is a route of the product; those that come later have a start.
type trialRoute struct {
	rank int   // who may come in: the least rank
	from int64 // minute, 0 for ever
	take float64
}

// trialTurn changes outcomes in a scope from a minute to another (not).
type trialTurn struct {
	scope    trialScope
	from, to int64
	share    float64 // of outcomes that turn
	odds     float64 // factor of the odds of a refusal, 0 for none
	ramp     int64   // minutes until it is whole
	down     bool
	loyal    bool // the same people all the time
	seed     uint64
}

// whole is how much of the turn is there in a minute, 0..1.
func (t *trialTurn) whole(minute int64) float64 {
	if t.ramp == 0 {
		return 1
	}
	return min(1, float64(minute-t.from+1)/float64(t.ramp))
}

// after is the rate of refusals p becomes in a minute.
func (t *trialTurn) after(p float64, minute int64) float64 {
	w := t.whole(minute)
	switch {
	case t.odds > 0:
		o := p / (1 - p) * math.Exp(w*math.Log(t.odds))
		return o / (1 + o)
	case t.down:
		return p * (1 - w*t.share)
	}
	return p + (1-p)*w*t.share
}

// trialCrowd adds requests: size times those of a scope, or a number a minute of
// strangers.
type trialCrowd struct {
	scope    trialScope
	from, to int64
	factor   float64 // of role and country in the scope
	rate     float64 // of extra requests a minute
	people   int     // extra requests come from so many strangers; 0: each from another
	hostile  bool    // they ask for what they may not have
	begun    uint32  // number of the first of them
}

type trialGap struct {
	from, to int64
	late     float64 // this share is late; 0: all is lost
}

// trialScope is a slice as numbers, -1 for all.
type trialScope struct {
	prefix           string
	route, role, geo int
}

var wholeTrial = trialScope{"", -1, -1, -1}

func (t *Trial) in(s *trialScope, route, role, geo int) bool {
	return (s.route < 0 || s.route == route) && (s.role < 0 || s.role == role) && (s.geo < 0 || s.geo == geo) &&
		(s.prefix == "" || s.prefix == t.prefix[route])
}

// ranks are the roles after the anonymous one, the least powerful first.
var ranks = []string{"", "viewer", "member", "editor", "billing", "support", "manager", "admin", "owner"}

// lands are countries with their time zones in minutes.
var lands = []struct {
	code   string
	offset int
}{{"US", -360}, {"DE", 60}, {"GB", 0}, {"FR", 60}, {"IN", 330}, {"BR", -180}, {"CA", -300}, {"JP", 540},
	{"NL", 60}, {"ES", 60}, {"IT", 60}, {"AU", 600}, {"PL", 60}, {"SE", 60}, {"MX", -360}, {"KR", 540}}

// trialAreas are the first segments of paths, with the rank that a role needs
// there: 0 everybody, 1 who has an account, 2 the middle of the roles, 3 the
// highest one.
var trialAreas = []struct {
	name string
	rank int
}{{"projects", 1}, {"docs", 0}, {"tasks", 1}, {"billing", 2}, {"search", 1}, {"pricing", 0}, {"reports", 2}, {"admin", 3},
	{"files", 1}, {"blog", 0}, {"team", 2}, {"inbox", 1}, {"settings", 2}, {"support", 0}, {"boards", 1}, {"exports", 2},
	{"calendar", 1}, {"audit", 3}, {"integrations", 2}, {"profile", 1}, {"help", 0}, {"messages", 1}, {"workflows", 2}, {"shares", 1}}

var trialNouns = strings.Fields(`overview list detail history members items comments activity export import archive
	templates labels filters views usage limits invoices plans cards keys tokens rules alerts drafts versions
	links owners groups roles events tags notes boards metrics summary timeline checks`)

// NewTrial invents the product of a setting and all that happens to it.
func NewTrial(set Setting) (*Trial, error) {
	if err := set.check(); err != nil {
		return nil, fmt.Errorf("trial: %w", err)
	}
	t := &Trial{Setting: set, taken: map[int]bool{}, curve: weekCurve(), rng: rng{stream(mix(set.Seed), 1)}, noise: rng{stream(mix(set.Seed), 2)}}
	t.minute = set.Start.Unix() / 60
	t.end = t.minute + int64(set.WarmUp+set.Test)*1440
	t.build(rng{stream(mix(set.Seed), 3)})
	t.populate()
	t.happen(rng{stream(mix(set.Seed), 4)})
	n := len(t.RouteNames)
	t.ofRoute, t.ofRole, t.ofGeo = make([]wander, n), make([]wander, set.Roles), make([]wander, set.Geos)
	t.ofPair = make([]wander, set.Roles*set.Geos)
	t.drift = make([]float64, n*set.Roles)
	t.routeF, t.pairF = make([]float64, n), make([]float64, set.Roles*set.Geos)
	return t, nil
}

// build invents routes, roles, countries and the ordinary odds of refusals.
func (t *Trial) build(r rng) {
	for i := range t.Roles {
		name := ranks[min(i, len(ranks)-1)]
		if i == 0 {
			name = t.Anonymous
		}
		if t.Roles == 1 {
			name = ""
		}
		t.RoleNames = append(t.RoleNames, name)
		w := 0.34
		if i > 0 {
			w = 0.66 * math.Pow(0.5, float64(i))
		}
		t.roleShare = append(t.roleShare, w)
		t.lean = append(t.lean, 0.25*r.unit())
		t.passing = append(t.passing, 0)
	}
	t.passing[0] = 0.2 + 0.3*r.unit()
	for i := range t.Geos {
		name := lands[i].code
		if t.Geos == 1 {
			name = ""
		}
		t.GeoNames = append(t.GeoNames, name)
		t.share = append(t.share, math.Pow(float64(i+1), -0.9))
	}
	normalise(t.roleShare)
	normalise(t.share)
	areas := min(len(trialAreas), max(3, t.Routes/7))
	for i := range t.Routes {
		a := i % areas
		if i >= 2*areas { // the first of each area is there for sure
			a = r.below(areas)
		}
		t.addRoute(&r, a, trialRoute{rank: trialAreas[a].rank})
	}
	// Who is popular is not who is first.
	w := zipf(t.Routes, 0.9+0.2*r.unit())
	for i := len(w) - 1; i > 0; i-- {
		j := r.below(i + 1)
		w[i], w[j] = w[j], w[i]
	}
	for role := range t.Roles {
		share := make([]float64, t.Routes)
		for i := range share {
			share[i] = w[i]
			if !t.may(t.routes[i].rank, role) {
				share[i] *= 0.05 + 0.1*r.unit()
			} else if role > 0 && t.routes[i].rank == 0 {
				share[i] *= 0.3
			}
		}
		t.picks = append(t.picks, newPicker(share))
		normalise(share)
		t.weights = append(t.weights, share)
	}
	t.odds = make([]float64, t.Routes*t.Roles)
	for i := range t.Routes {
		bad := 0.3 + 0.67*r.unit() // of who may not, how many are refused
		for role := range t.Roles {
			p := 0.002 + 0.02*r.unit()*r.unit()
			if !t.may(t.routes[i].rank, role) {
				p = bad
			}
			t.odds[i*t.Roles+role] = p / (1 - p) * math.Exp(0.3*r.spread())
		}
	}
}

func normalise(w []float64) {
	sum := 0.0
	for _, x := range w {
		sum += x
	}
	for i := range w {
		w[i] /= sum
	}
}

// may tells whether a role may use routes of a rank.
func (t *Trial) may(rank, role int) bool {
	switch rank {
	case 0:
		return true
	case 1:
		return role > 0 || t.Roles == 1
	case 2:
		return role >= t.Roles/2
	}
	return role == t.Roles-1
}

// addRoute gives the product a route of an area with a name of its own.
func (t *Trial) addRoute(r *rng, area int, x trialRoute) int {
	for {
		name := "/" + trialAreas[area].name
		if r.chance(0.5) {
			name += "/{id}"
		}
		name += "/" + trialNouns[r.below(len(trialNouns))]
		if r.chance(0.4) {
			name += "/" + trialNouns[r.below(len(trialNouns))]
		}
		if !slices.Contains(t.RouteNames, name) {
			t.RouteNames = append(t.RouteNames, name)
			t.prefix = append(t.prefix, "/"+trialAreas[area].name)
			t.routes = append(t.routes, x)
			return len(t.routes) - 1
		}
	}
}

// populate numbers the people of every role and country.
func (t *Trial) populate() {
	users := min(max(8*t.Rate, 300), 60_000)
	next := uint32(1)
	for role := range t.Roles {
		for geo := range t.Geos {
			n := max(int(users*t.roleShare[role]*t.share[geo]), 8)
			t.first = append(t.first, next)
			t.count = append(t.count, n)
			next += uint32(n)
		}
	}
	t.strangers = 1 << 28
}

// Labels lists the truth, incidents and benign happenings in the order of time.
func (t *Trial) Labels() []Label { return slices.Clone(t.labels) }

// Markers lists what the team told, in the order of time.
func (t *Trial) Markers() []marker.Marker { return slices.Clone(t.markers) }

// busy is how busy the people of a role and a country are in a minute.
func (t *Trial) busy(role, geo int, minute int64) float64 {
	b := t.curve[(minute+3*1440+int64(lands[geo].offset)+week)%week]
	if role == 0 {
		return 0.4 + 0.6*b
	}
	return b
}

// volume is the requests a minute of a role and a country.
func (t *Trial) volume(role, geo int, minute int64) float64 {
	return t.Rate * t.roleShare[role] * t.share[geo] * t.busy(role, geo, minute)
}

// season is the factor of the odds by the hour.
func (t *Trial) season(role, geo int, minute int64) float64 {
	return math.Exp(t.lean[role] * math.Sin(2*math.Pi*float64(minute+int64(lands[geo].offset))/1440))
}

// usual is the odds of a refusal when nothing happens.
func (t *Trial) usual(route, role int) float64 {
	if route < t.Routes {
		return t.odds[route*t.Roles+role]
	}
	return 0.005
}

// step draws the noise of a minute.
func (t *Trial) step() {
	sd, keep := 1.0, persistence
	if t.Hard {
		sd, keep = 2.2, 0.99
	}
	move := func(w *wander, size float64) float64 {
		w.log = keep*w.log + sd*size*math.Sqrt(1-keep*keep)*t.noise.spread()
		return w.log
	}
	all := move(&t.all, 0.05)
	for i := range t.routeF {
		t.routeF[i] = math.Exp(all + move(&t.ofRoute[i], 0.1))
	}
	for i := range t.ofRole {
		move(&t.ofRole[i], 0.06)
	}
	for i := range t.ofGeo {
		move(&t.ofGeo[i], 0.06)
	}
	for i := range t.pairF {
		role, geo := i/t.Geos, i%t.Geos
		t.pairF[i] = math.Exp(t.ofRole[role].log+t.ofGeo[geo].log+move(&t.ofPair[i], 0.06)) * t.season(role, geo, t.minute)
	}
	if t.Hard && t.minute%60 == 0 {
		for i := range t.drift {
			t.drift[i] += 0.03 * t.noise.spread()
			t.drift[i] *= 0.995
		}
	}
}

// Minute returns the next minute's start in seconds since the Unix epoch and its
// visits in no order, ok false at the end. They are valid until the next call.
func (t *Trial) Minute() (start int64, visits []Visit, ok bool) {
	if t.minute >= t.end {
		return 0, nil, false
	}
	now := t.minute
	t.step()
	r := &t.rng
	t.visits, t.again = append(t.visits[:0], t.again...), t.again[:0]
	var open []*trialTurn
	for i := range t.turns {
		if x := &t.turns[i]; now >= x.from && now < x.to {
			open = append(open, x)
		}
	}
	for i := range t.visits {
		t.decide(&t.visits[i], open, r)
	}
	retried := len(t.visits)
	for role := range t.Roles {
		for geo := range t.Geos {
			rate := t.volume(role, geo, now)
			for i := range t.crowds {
				if c := &t.crowds[i]; c.factor > 0 && now >= c.from && now < c.to && (c.scope.role < 0 || c.scope.role == role) && (c.scope.geo < 0 || c.scope.geo == geo) {
					rate *= c.factor
				}
			}
			for range r.poisson(rate) {
				t.visit(r, role, geo, open)
			}
		}
	}
	for i := range t.crowds {
		if c := &t.crowds[i]; c.rate > 0 && now >= c.from && now < c.to {
			t.flock(c, r, open)
		}
	}
	for i := range t.visits[:] {
		v := &t.visits[i]
		if i >= retried {
			v.Time = now*60_000 + int64(r.below(60_000))
		}
		if v.Denied && r.chance(0.25) {
			again := *v
			again.Time += 60_000
			again.Late = false
			t.again = append(t.again, again)
		}
	}
	for i := range t.gaps {
		g := &t.gaps[i]
		switch {
		case now < g.from || now >= g.to:
		case g.late == 0:
			t.visits = t.visits[:0]
		default:
			for k := range t.visits {
				t.visits[k].Late = r.chance(g.late)
			}
		}
	}
	t.minute++
	return now * 60, t.visits, true
}

// visit draws an ordinary request of a role and a country.
func (t *Trial) visit(r *rng, role, geo int, open []*trialTurn) {
	pair := role*t.Geos + geo
	v := Visit{Route: int32(t.picks[role].pick(r)), Role: int32(role), Geo: int32(geo), Named: role > 0}
	for i := t.Routes; i < len(t.routes); i++ {
		if x := &t.routes[i]; x.from <= t.minute && t.may(x.rank, role) && r.chance(x.take) {
			v.Route = int32(i)
		}
	}
	if t.passing[role] > 0 && r.chance(t.passing[role]) {
		v.Person = t.stranger()
	} else {
		v.Person = t.first[pair] + uint32(r.rank(t.count[pair]))
	}
	t.decide(&v, open, r)
	t.visits = append(t.visits, v)
}

func (t *Trial) stranger() uint32 { t.strangers++; return t.strangers }

// flock draws the extra requests of a crowd.
func (t *Trial) flock(c *trialCrowd, r *rng, open []*trialTurn) {
	if c.begun == 0 {
		c.begun = t.strangers + 1
		t.strangers += uint32(c.people)
	}
	for range r.poisson(c.rate) {
		v := Visit{Route: int32(c.scope.route)}
		if v.Geo = int32(c.scope.geo); c.scope.geo < 0 {
			v.Geo = int32(r.below(t.Geos))
		}
		if c.people > 0 {
			v.Person = c.begun + uint32(r.below(c.people))
		} else {
			v.Person = t.stranger()
		}
		if v.Route < 0 {
			for range 100 {
				v.Route = int32(r.below(t.Routes))
				if (c.scope.prefix == "" || t.prefix[v.Route] == c.scope.prefix) && !(c.hostile && t.Roles > 1 && t.may(t.routes[v.Route].rank, 0)) {
					break
				}
			}
		}
		if c.hostile {
			v.Denied = r.chance(0.95)
		} else {
			t.decide(&v, open, r)
		}
		t.visits = append(t.visits, v)
	}
}

// decide draws whether a visit is refused.
func (t *Trial) decide(v *Visit, open []*trialTurn, r *rng) {
	route, role, geo := int(v.Route), int(v.Role), int(v.Geo)
	o := t.usual(route, role) * t.routeF[route] * t.pairF[role*t.Geos+geo]
	if t.Hard {
		o *= math.Exp(t.drift[route*t.Roles+role])
	}
	who := uint64(v.Person)<<16 | uint64(route)
	x := r.unit()
	if t.Loyal > 0 && unit(mix(t.Seed^uint64(v.Person)*phi)) < t.Loyal {
		x = unit(mix(t.Seed + who*phi))
	}
	p := o / (1 + o)
	for _, c := range open {
		if c.odds > 0 && t.in(&c.scope, route, role, geo) {
			p = c.after(p, t.minute)
		}
	}
	v.Denied = x < p
	for _, c := range open {
		if c.odds > 0 || c.down != v.Denied || !t.in(&c.scope, route, role, geo) {
			continue
		}
		y := r.unit()
		if c.loyal {
			y = unit(mix(c.seed + who*phi))
		}
		if y < c.share*c.whole(t.minute) {
			v.Denied = !c.down
		}
	}
}

// AppendJSON appends the application's line for a visit: one JSON object and a
// newline, with the keys time, method, path, route, status, client_ip, user_id,
// account_id, role and country.
func (t *Trial) AppendJSON(dst []byte, v *Visit) []byte {
	b := append(dst, `{"time":"`...)
	b = appendISOTime(b, v.Time*int64(time.Millisecond))
	b = append(b, `","method":"GET","path":"`...)
	name := t.RouteNames[v.Route]
	path, id, found := strings.Cut(name, "{id}")
	b = append(b, path...)
	if found {
		b = appendUint(b, 1000+mix(uint64(v.Time))%90_000)
		b = append(b, id...)
	}
	b = append(b, `","route":"`...)
	b = append(b, name...)
	b = append(b, `","status":`...)
	if v.Denied {
		b = append(b, "403"...)
	} else {
		b = append(b, "200"...)
	}
	b = append(b, `,"client_ip":"`...)
	x := mix(uint64(v.Person) + 77)
	if v.Person >= 1<<28 || !v.Named || t.NoUsers {
		x = uint64(v.Person) // distinct for sure
	}
	b = appendUint(b, 11+x>>24&127)
	for _, s := range [...]int{16, 8, 0} {
		b = append(b, '.')
		b = appendUint(b, x>>s&255)
	}
	b = append(b, '"')
	if v.Named && !t.NoUsers {
		b = append(b, `,"user_id":"u`...)
		b = appendUint(b, uint64(v.Person))
		b = append(b, '"')
		if !t.NoAccounts {
			b = append(b, `,"account_id":"a`...)
			b = appendUint(b, uint64(v.Person/7))
			b = append(b, '"')
		}
	}
	if role := t.RoleNames[v.Role]; role != "" {
		b = append(b, `,"role":"`...)
		b = append(b, role...)
		b = append(b, '"')
	}
	if geo := t.GeoNames[v.Geo]; geo != "" {
		b = append(b, `,"country":"`...)
		b = append(b, geo...)
		b = append(b, '"')
	}
	return append(b, "}\n"...)
}

// public writes a scope as a watcher should.
func (t *Trial) public(s trialScope) incident.Scope {
	out := incident.Scope{Prefix: s.prefix}
	if s.route >= 0 {
		out.Route = t.RouteNames[s.route]
	}
	if s.role >= 0 {
		if out.Role = t.RoleNames[s.role]; out.Role == "" {
			out.Role = incident.NoRole
		}
	}
	if s.geo >= 0 {
		out.Geo = t.GeoNames[s.geo]
	}
	return out
}
