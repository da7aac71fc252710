// Package sim simulates the traffic of a small software-as-a-service product,
// with the things that happen to it: people of four roles in eight countries,
// daily and weekly cycles, ordinary refusals whose rates wander, scanners, and
// on request the incidents a watcher should find and the events it should not
// take for one. It serves `denywatch demo`, tests and benchmarks.
//
// A Sim is a pure function of its Scenario: it reads no clock, and the same
// scenario gives the same requests, byte for byte on one processor
// architecture. Incidents change outcomes only: without them the same people ask
// for the same things at the same times, except that who is refused tries again
// now and then, and that a new route draws visits from others.
//
//	start := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
//	s, err := sim.New(sim.Scenario{
//		Seed: 1, Start: start, End: start.Add(24 * time.Hour), Rate: 5,
//		Incidents: []sim.Incident{{
//			Kind:  sim.RoleMismatch,
//			Scope: sim.Scope{Route: "/billing/upgrade", Role: "member"},
//			From:  start.Add(10 * time.Hour), To: start.Add(11 * time.Hour), Rate: 0.6,
//		}},
//	})
//	...
//	var access, app []byte
//	for r := s.Next(); r != nil; r = s.Next() {
//		access = sim.AppendNginxUpstream(access, r)
//		app = sim.AppendAppJSON(app, r)
//	}
package sim

import (
	"math"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// Request is one request and its fate. Strings live for ever, byte slices until
// the next call of Next.
type Request struct {
	// Time is nanoseconds since the Unix epoch.
	Time   int64
	Host   string
	Method string
	Path   []byte
	// Query has no question mark; empty: none.
	Query []byte
	// Status is what the client got. UpstreamStatus is what the application
	// answered, 0 if it was not asked.
	Status, UpstreamStatus uint16
	// Bytes is the size of the answer's body.
	Bytes     int
	Client    string
	User      string
	Account   string
	Role      string
	Plan      string
	Country   string
	Referer   string
	UserAgent string
	RequestID []byte
	// Cause is the application's word for why it refused.
	Cause string
	// Route is the template of Path; empty for paths the product does not have.
	Route string
	// Denied tells that the request was refused (with a 403), Layer by whom.
	Denied bool
	Layer  event.Layer
	// Incident is the index of the scenario's incident that turned the outcome,
	// -1 if none did. So it is also set when somebody got in who should not.
	Incident int
	// Scanner tells that the request is a scanner's.
	Scanner bool
}

// ReachedApp tells whether the application saw the request. What the web server
// refused or answered itself is in its log only.
func (r *Request) ReachedApp() bool { return r.UpstreamStatus != 0 }

// Sim makes the requests of a scenario, one after the other. It is not safe for
// concurrent use.
type Sim struct {
	sc     Scenario
	seed   uint64
	routes []route // those that happenings add come after the site's own
	// ownRoutes is how many the site has without them.
	ownRoutes int
	people    *people
	curve     []float64 // weekCurve

	// odds are the ordinary odds of a refusal; the noise factors multiply them
	// and are drawn anew every minute.
	odds       [][nRoles]float64
	noise      rng
	routeNoise []wander
	roleNoise  [nRoles]wander
	geoNoise   [nGeos]wander
	allNoise   wander

	turns   []turn
	added   []addedRoute
	gaps    [][2]int64
	sources []source
	retries retryHeap

	minute    int64 // start of the current minute, ns
	minuteEnd int64 // nothing later has been drawn
	end       int64

	req       Request
	path      []byte
	query     []byte
	requestID [32]byte
}

// turn changes the outcome of a share of the requests in a region.
type turn struct {
	region
	from, to int64
	rate     float64
	ramp     bool // rate is reached half way
	web      bool // the web server decides, before the application is asked
	down     bool // lets in instead of refusing
	cause    string
	label    int
}

func (t *turn) share(at int64) float64 {
	if !t.ramp {
		return t.rate
	}
	return t.rate * min(1, 2*float64(at-t.from)/float64(t.to-t.from))
}

// addedRoute takes its share of what signed-in people ask for from its time on.
type addedRoute struct {
	route int
	from  int64
}

const addedShare = 0.02

// wander is a factor on odds whose logarithm is an AR(1) process by minute.
type wander struct{ log, factor float64 }

// persistence is the correlation of a wander with itself a minute later: bad
// quarters of an hour exist.
const persistence = 0.95

// step moves on to the next minute; sd is the standard deviation of log.
func (w *wander) step(r *rng, sd float64) {
	w.log = persistence*w.log + sd*math.Sqrt(1-persistence*persistence)*r.spread()
	w.factor = math.Exp(w.log)
}

// source draws the arrivals of one kind of visitors, a Poisson process whose
// rate is constant within a minute. Each has a random stream of its own, so
// that none changes what the others do.
type source struct {
	rng
	region
	kind     sourceKind
	from, to int64
	// auto sources begin again some time after they ended.
	auto bool
	// size multiplies the usual rate of the region's requests (people), or the
	// mean rate of all requests (others).
	size    float64
	picks   [nRoles]picker  // routes by role
	share   [nRoles]float64 // share of the role's requests that is in the region
	cells   [nRoles * nGeos]float64
	total   float64 // of cells
	account int     // of a crowd
	geo     uint8   // of a scanner
	client  int     // of a scanner

	rate float64 // arrivals a nanosecond in this minute
	next int64   // the next one; MaxInt64 if not in this minute
}

type sourceKind uint8

const (
	persons sourceKind = iota
	crowd
	scanner
)

// visit is a request before its outcome.
type visit struct {
	at    int64
	seed  uint64 // of everything the visit still has to draw
	who   int32  // index into people; a scanner's address
	route int32  // index into routes; a scanner's probe
	tries uint8
	kind  sourceKind
	geo   uint8
	role  uint8
}

// New checks the scenario and prepares its simulation, which takes some
// milliseconds. The error names every mistake.
func New(sc Scenario) (*Sim, error) {
	if err := sc.check(); err != nil {
		return nil, err
	}
	s := &Sim{sc: sc, seed: mix(sc.Seed), routes: newSite(), curve: weekCurve(), end: math.MaxInt64}
	if !sc.End.IsZero() {
		s.end = sc.End.UnixNano()
	}
	s.people = newPeople(stream(s.seed, 0))
	s.ownRoutes = len(s.routes)
	s.addRoutes()
	s.setOdds()
	s.setTurns()
	s.setSources()
	s.startMinute(sc.Start.UnixNano())
	return s, nil
}

// addRoutes gives the site the routes that appear while it runs.
func (s *Sim) addRoutes() {
	add := func(template string, from time.Time) {
		r := newRoute("GET", template)
		r.access = private
		s.added = append(s.added, addedRoute{len(s.routes), from.UnixNano()})
		s.routes = append(s.routes, r)
	}
	for _, x := range s.sc.Incidents {
		if x.Kind == NewRouteDenied {
			add(x.Scope.Route, x.From)
		}
	}
	for _, x := range s.sc.Benign {
		if x.Kind == NewRoute {
			add(x.Scope.Route, x.From)
		}
	}
}

// setOdds gives every route its own ordinary odds around those of its access,
// and noise that is none yet.
func (s *Sim) setOdds() {
	r := rng{stream(s.seed, 1)}
	s.noise = rng{stream(s.seed, 2)}
	s.allNoise.factor = 1
	for i := range s.roleNoise {
		s.roleNoise[i].factor = 1
	}
	for i := range s.geoNoise {
		s.geoNoise[i].factor = 1
	}
	s.routeNoise = make([]wander, len(s.routes))
	for i := range s.routeNoise {
		s.routeNoise[i].factor = 1
	}
	s.odds = make([][nRoles]float64, len(s.routes))
	for i := range s.odds {
		for role := range s.odds[i] {
			p := ordinary[s.routes[i].access][role]
			s.odds[i][role] = p / (1 - p) * math.Exp(0.4*r.spread())
		}
	}
}

func (s *Sim) setTurns() {
	for i, x := range s.sc.Incidents {
		t := turn{
			region: x.Scope.compile(s.routes), from: x.From.UnixNano(), to: x.To.UnixNano(),
			rate: x.Rate, label: i, cause: "missing_permission",
		}
		switch x.Kind {
		case GeoBlock, PrefixRule:
			t.web = true
		case Vanished:
			t.down = true
		case SlowRamp:
			t.ramp = true
		case GlobalSpike:
			t.cause = "policy_unavailable"
		case NewRouteDenied:
			t.cause = "missing_entitlement"
		}
		s.turns = append(s.turns, t)
	}
	for _, x := range s.sc.Benign {
		switch x.Kind {
		case Announced:
			t := turn{
				region: x.Scope.compile(s.routes), from: x.From.UnixNano(), to: math.MaxInt64,
				rate: x.Size, label: -1, cause: "missing_permission", down: x.Expect == "down",
			}
			if !x.To.IsZero() {
				t.to = x.To.UnixNano()
			}
			s.turns = append(s.turns, t)
		case DataGap:
			s.gaps = append(s.gaps, [2]int64{x.From.UnixNano(), x.To.UnixNano()})
		}
	}
}

func (s *Sim) setSources() {
	add := func(id int, src source) {
		src.rng = rng{stream(s.seed, id)}
		src.next = math.MaxInt64
		for role := range src.picks {
			w := popularity(s.routes[:s.ownRoutes], role)
			for i := range w {
				if !src.routes[i] {
					w[i] = 0
				}
				src.share[role] += w[i]
			}
			src.picks[role] = newPicker(w)
		}
		s.sources = append(s.sources, src)
	}
	all := Scope{}.compile(s.routes)
	always := source{region: all, from: math.MinInt64, to: math.MaxInt64, size: 1}
	add(3, always)
	if !s.sc.Calm {
		// Over for ever, so restart gives them their first time.
		over := source{region: all, from: math.MinInt64, to: math.MinInt64, auto: true}
		over.kind = scanner
		add(4, over)
		add(5, over)
		over.kind = crowd
		add(6, over)
		for i := 1; i < len(s.sources); i++ {
			s.restart(&s.sources[i], s.sc.Start.UnixNano())
		}
	}
	for i, x := range s.sc.Benign {
		src := source{region: x.Scope.compile(s.routes), from: x.From.UnixNano(), to: x.To.UnixNano(), size: x.Size}
		switch x.Kind {
		case MixSurge:
			src.size--
		case Scanner:
			src.kind = scanner
		case OfficeCrowd:
			src.kind = crowd
		default:
			continue
		}
		add(16+i, src)
		s.choose(&s.sources[len(s.sources)-1])
	}
}

// choose settles who a scanner or a crowd is, within its scope.
func (s *Sim) choose(src *source) {
	for range 1000 {
		src.geo = uint8(src.below(nGeos))
		if src.countries>>src.geo&1 != 0 {
			break
		}
	}
	src.client = src.below(nScanners - 3)
	// One of the larger accounts, in the scope's country if there is one.
	for range 1000 {
		src.account = src.below(nAccounts / 10)
		first := s.people.offices[src.account][0]
		if src.countries>>s.people.all[first].geo&1 != 0 {
			return
		}
	}
}

// restart gives an automatic source that is over at the time now its next life.
func (s *Sim) restart(src *source, now int64) {
	pause, length, size := 90*time.Minute, 2+6*src.unit(), 0.05+0.2*src.unit()
	if src.kind == crowd {
		pause, length, size = 6*time.Hour, 10+10*src.unit(), 0.05+0.1*src.unit()
	}
	src.from = now + int64(float64(pause)*src.exp())
	src.to = src.from + int64(length*float64(time.Minute))
	src.size = size
	s.choose(src)
}

// startMinute draws what changes by the minute: noise, rates, first arrivals.
func (s *Sim) startMinute(at int64) {
	s.minute, s.minuteEnd = at, (at/int64(time.Minute)+1)*int64(time.Minute)
	if !s.sc.Calm {
		s.allNoise.step(&s.noise, 0.04)
		for i := range s.roleNoise {
			s.roleNoise[i].step(&s.noise, 0.05)
		}
		for i := range s.geoNoise {
			s.geoNoise[i].step(&s.noise, 0.05)
		}
		// Routes that a happening adds have none, else they would shift the
		// noise of all others.
		for i := range s.ownRoutes {
			s.routeNoise[i].step(&s.noise, 0.10)
		}
	}
	// The Unix epoch was a Thursday; the curve begins on a Monday.
	local := at/int64(time.Minute) + 3*1440
	for i := range s.sources {
		src := &s.sources[i]
		if src.auto && src.to <= at {
			s.restart(src, at)
		}
		src.next = math.MaxInt64
		if src.to <= s.minute || src.from >= s.minuteEnd {
			continue
		}
		src.total = s.sc.Rate / float64(time.Second)
		if src.kind == persons {
			src.total *= src.fillCells(s.curve, local)
		}
		src.rate = src.total * src.size
		s.draw(src, s.minute)
	}
}

// fillCells computes the share of every role and country in the minute, running
// totals, and returns the whole relative to the mean.
func (src *source) fillCells(curve []float64, minute int64) float64 {
	total := 0.0
	for g := range geos {
		busy := curve[(minute+int64(geos[g].offset))%week]
		for role := range nRoles {
			w := busy
			if role == anonymous {
				// The public pages are read around the clock.
				w = 0.4 + 0.6*busy
			}
			if src.roles>>role&1 == 0 || src.countries>>g&1 == 0 {
				w = 0
			}
			total += w * geos[g].share * roleShare[role] * src.share[role]
			src.cells[g*nRoles+role] = total
		}
	}
	for i := range src.cells {
		src.cells[i] /= max(total, math.SmallestNonzeroFloat64)
	}
	return total
}

// draw sets the source's next arrival after the time t.
func (s *Sim) draw(src *source, t int64) {
	src.next = math.MaxInt64
	if src.rate <= 0 {
		return
	}
	wait := src.exp() / src.rate
	if wait < float64(s.minuteEnd-t) {
		src.next = t + int64(wait)
	}
}

// Next returns the next request, nil at the scenario's end. Times never
// decrease. The request is the Sim's own; it and its byte slices change with
// the next call.
func (s *Sim) Next() *Request {
	for {
		best, at := -1, s.minuteEnd
		for i := range s.sources {
			if t := s.sources[i].next; t < at {
				best, at = i, t
			}
		}
		var v visit
		switch {
		case len(s.retries) > 0 && s.retries[0].at < at:
			v = s.retries.pop()
		case best >= 0:
			src := &s.sources[best]
			v = s.arrive(src, at)
			s.draw(src, at)
			if at < src.from || at >= src.to {
				continue
			}
		case at >= s.end:
			return nil
		default:
			s.startMinute(at)
			continue
		}
		if v.at >= s.end {
			return nil
		}
		s.resolve(&v)
		if !s.inGap(v.at) {
			return &s.req
		}
	}
}

func (s *Sim) inGap(at int64) bool {
	for _, g := range s.gaps {
		if at >= g[0] && at < g[1] {
			return true
		}
	}
	return false
}

// arrive draws who asks for what.
func (s *Sim) arrive(src *source, at int64) visit {
	v := visit{at: at, seed: src.rng.next(), kind: src.kind}
	switch src.kind {
	case scanner:
		v.geo, v.role = src.geo, anonymous
		v.who = int32(src.client + src.below(3))
		v.route = int32(src.below(len(probes) + 2))
		return v
	case crowd:
		office := s.people.offices[src.account]
		// Nearly always finds somebody whose role is in the scope.
		for range 16 {
			v.who = office[0] + int32(src.below(int(office[1]-office[0])))
			v.role = s.people.all[v.who].role
			if src.roles>>v.role&1 != 0 {
				break
			}
		}
		v.geo = s.people.all[v.who].geo
	default:
		x, i := src.unit(), 0
		for src.cells[i] <= x {
			i++
		}
		v.geo, v.role = uint8(i/nRoles), uint8(i%nRoles)
		who := s.people.who[v.role][v.geo]
		v.who = who[src.rank(len(who))]
	}
	v.route = int32(src.picks[v.role].pick(&src.rng))
	if v.role != anonymous {
		for i := range s.added {
			if a := &s.added[i]; at >= a.from && src.routes[a.route] && unit(stream(v.seed, 100+i)) < addedShare {
				v.route = int32(a.route)
			}
		}
	}
	return v
}

// resolve fills s.req with the visit and its fate, and lets the refused try
// again.
func (s *Sim) resolve(v *visit) {
	q := &s.req
	*q = Request{Time: v.at, Incident: -1, Country: geos[v.geo].code, Referer: "-"}
	r := rng{v.seed}
	if v.kind == scanner {
		s.probe(v, &r)
	} else {
		s.visit(v, &r)
	}
	q.RequestID = s.requestID[:]
	putHex(q.RequestID[:16], mix(v.seed+uint64(v.tries)))
	putHex(q.RequestID[16:], mix(v.seed^phi+uint64(v.tries)))
}

// probe is a scanner's request.
func (s *Sim) probe(v *visit, r *rng) {
	q := &s.req
	q.Scanner, q.Method, q.Host, q.UserAgent = true, "GET", appHost, scannerAgent
	q.Client = s.people.scanners[v.geo][v.who]
	q.Bytes = 153
	if int(v.route) >= len(probes) {
		// The administration's front door, which is closed to them.
		q.Path = append(s.path[:0], "/admin"...)
		q.Route = "/admin"
		s.deny(event.LayerApp, "not_signed_in")
		return
	}
	q.Path = append(s.path[:0], probes[v.route]...)
	if probes[v.route][1] == '.' {
		s.deny(event.LayerWeb, "")
		return
	}
	q.Status, q.UpstreamStatus = 404, 404
	q.Bytes = 300 + r.below(40)
	s.path = q.Path
}

func (s *Sim) deny(layer event.Layer, cause string) {
	q := &s.req
	q.Denied, q.Layer, q.Cause, q.Status = true, layer, cause, 403
	q.UpstreamStatus, q.Bytes = 0, 153
	if layer == event.LayerApp {
		q.UpstreamStatus, q.Bytes = 403, 512
	}
}

// visit is a person's request.
func (s *Sim) visit(v *visit, r *rng) {
	q, rt, who := &s.req, &s.routes[v.route], &s.people.all[v.who]
	q.Method, q.Host, q.Route, q.UserAgent = rt.method, rt.host, rt.template, who.agent
	q.Client, q.User, q.Account, q.Plan, q.Role = who.client, who.user, who.account, who.plan, roleNames[v.role]
	if v.kind == crowd {
		q.Client = who.office
	}
	q.Path = s.appendPath(s.path[:0], rt, r)
	s.path = q.Path
	s.query = appendQuery(s.query[:0], rt.query, r)
	q.Query = s.query
	q.Referer = referer(rt, v.role, r)

	// What is drawn below depends on the try as well.
	r.state += uint64(v.tries) << 32
	odds := s.odds[v.route][v.role] * s.allNoise.factor * s.routeNoise[v.route].factor *
		s.roleNoise[v.role].factor * s.geoNoise[v.geo].factor
	if r.unit() < odds/(1+odds) {
		layer, cause := event.LayerApp, "missing_permission"
		switch {
		case rt.web:
			layer, cause = event.LayerWeb, ""
		case v.role == anonymous:
			cause = "not_signed_in"
		}
		s.deny(layer, cause)
	} else {
		s.letIn(rt, v.role, r)
	}
	for i := range s.turns {
		t := &s.turns[i]
		if v.at < t.from || v.at >= t.to || !t.has(int(v.route), v.role, v.geo) {
			continue
		}
		if unit(stream(v.seed+uint64(v.tries), 200+i)) >= t.share(v.at) {
			continue
		}
		switch {
		case t.down && q.Denied:
			q.Denied, q.Layer, q.Cause = false, event.LayerUnknown, ""
			s.answer(rt, r)
			q.Incident = t.label
		case t.down:
		case !q.Denied:
			s.turnAway(t, rt)
			q.Incident = t.label
		case t.web:
			// Refused anyhow, but before the application was asked.
			s.deny(event.LayerWeb, "")
		}
	}
	if q.Denied && !s.sc.Calm && v.tries < 2 {
		s.tryAgain(v)
	}
}

// turnAway refuses who would have got in.
func (s *Sim) turnAway(t *turn, rt *route) {
	if t.web || rt.web {
		s.deny(event.LayerWeb, "")
	} else {
		s.deny(event.LayerApp, t.cause)
	}
}

// letIn answers somebody who was not refused; who is not signed in is sent to
// sign in.
func (s *Sim) letIn(rt *route, role uint8, r *rng) {
	if role == anonymous && rt.access != public {
		s.req.Status, s.req.Bytes = 302, 0
		if rt.host == apiHost {
			s.req.Status, s.req.Bytes = 401, 41
		}
		s.req.UpstreamStatus = s.req.Status
		return
	}
	s.answer(rt, r)
}

// answer is the ordinary answer of a route.
func (s *Sim) answer(rt *route, r *rng) {
	q := &s.req
	x := r.unit()
	q.Bytes = 200 + r.below(90)*r.below(300)
	switch {
	case x < 0.001:
		q.Status, q.Bytes = 500, 170
	case x < 0.015 && len(rt.parts) > 1:
		q.Status, q.Bytes = 404, 310
	case rt.web && x > 0.8:
		q.Status, q.Bytes = 304, 0
	case rt.method == "POST" && rt.host == apiHost:
		q.Status = 201
	case rt.method == "DELETE":
		q.Status, q.Bytes = 204, 0
	case rt.method == "POST" && x < 0.6:
		q.Status, q.Bytes = 303, 0
	default:
		q.Status = 200
	}
	if !rt.web {
		q.UpstreamStatus = q.Status
	}
}

// tryAgain lets one refused visit in four be made again a little later.
func (s *Sim) tryAgain(v *visit) {
	r := rng{stream(v.seed, 300+int(v.tries))}
	if !r.chance(0.25) {
		return
	}
	again := *v
	again.tries++
	again.at += int64(time.Second) + int64(20*float64(time.Second)*r.exp())
	s.retries.push(again)
}

func (s *Sim) appendPath(b []byte, rt *route, r *rng) []byte {
	for i := range rt.parts {
		switch p := &rt.parts[i]; p.kind {
		case literalPart:
			b = append(b, p.literal...)
		case numberPart:
			b = appendUint(b, uint64(1000+7*r.rank(40_000)))
		case uuidPart:
			b = appendUUID(b, uint64(r.rank(200_000)))
		}
	}
	return b
}

var queryWords = []string{"roadmap", "invoice", "q3+report", "caf%C3%A9", "budget", "onboarding"}

func appendQuery(b []byte, kind queryKind, r *rng) []byte {
	switch {
	case kind == searchQuery:
		b = append(b, "q="...)
		b = append(b, queryWords[r.below(len(queryWords))]...)
	case kind == pageQuery && r.chance(0.3):
		b = append(b, "page="...)
		b = appendUint(b, uint64(2+r.below(20)))
	}
	return b
}

func referer(rt *route, role uint8, r *rng) string {
	x := r.unit()
	switch {
	case rt.host == apiHost || x < 0.3:
		return "-"
	case role != anonymous:
		return "https://app.shop.example/projects"
	case x < 0.5:
		return "https://www.google.com/"
	}
	return "https://www.shop.example/pricing"
}

// retryHeap is a binary heap of the visits to come, the earliest first.
// container/heap would box every one of them.
type retryHeap []visit

func (h retryHeap) less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seed < h[j].seed
}

func (h *retryHeap) push(v visit) {
	*h = append(*h, v)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *retryHeap) pop() visit {
	q := *h
	top, n := q[0], len(q)-1
	q[0] = q[n]
	q = q[:n]
	*h = q
	for i := 0; ; {
		down := 2*i + 1
		if down >= n {
			return top
		}
		if down+1 < n && q.less(down+1, down) {
			down++
		}
		if !q.less(down, i) {
			return top
		}
		q[i], q[down] = q[down], q[i]
		i = down
	}
}
