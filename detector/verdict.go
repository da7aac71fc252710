package detector

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// maxLive bounds the markers that are on probation at a time and get a verdict,
	// maxTrials those whose verdict is remembered.
	maxLive   = 64
	maxTrials = 500
	// maxTried bounds the judges that a verdict looks at, maxSlices the routes and
	// roles that are counted of each.
	maxTried  = 100
	maxSlices = 4096

	maxBreaks    = 20
	maxEarlier   = 5
	maxUncovered = 5

	// sure is the power from which on enough was seen, and half the usual traffic
	// must have been covered.
	sure        = 0.95
	enoughCover = 0.5
	// smallWall and smallOdds are the smallest wall that matters on the whole scope,
	// sliceWall the one on a slice.
	smallWall = 0.1
	smallOdds = 3
	sliceWall = 0.5
	// keptOut is from which share of refusals on a slice counts as closed already.
	keptOut = 0.5

	// stalled is how long a verdict waits for a vantage that stands still.
	stalled int64 = 3600
)

// trial is what is counted of a marker's scope during its probation. It is kept,
// without what only counting needs, as long as its marker.
type trial struct {
	id    string
	scope marker.Scope
	at    int64
	until int64 // the end of the probation, later while something may be rising
	over  bool
	// degraded tells that a bound bit.
	degraded bool
	rows     []*tried // in order of first sight
	broken   []marker.Broken
}

// tried is what one judge saw of a trial.
type tried struct {
	judge  int
	before span
	since  span

	valid          int64
	expected       float64
	slots, partial int
	who            people
	identities     int64 // of who, when that is gone
	// n requests could be judged, m expected to be refused; slices are those by the
	// series of route and role.
	n, m   float64
	slices map[int32]float32
	// power, covered and uncovered hold from the end of the trial on.
	power, covered float64
	uncovered      []marker.Uncovered

	// in is the scope in the judge's numbers, as of known names.
	in    chosen
	known [3]int
}

// span is the counts of a time; from and to are 0 when there are none.
type span struct{ from, to, requests, denials int64 }

func (s *span) take(from, to int64) {
	if s.to == 0 {
		s.from = from
	}
	s.to = to
}

func (s *span) public() marker.Counts {
	c := marker.Counts{Requests: s.requests, Denials: s.denials}
	if s.to != 0 {
		c.From, c.To = instant(s.from), instant(s.to)
	}
	return c
}

func newTrial(m *mark) *trial {
	t := &trial{id: m.ID, scope: m.Scope, at: m.Time.Unix()}
	if len(t.scope.Service) == 0 && m.Service != "" {
		t.scope.Service = marker.List{m.Service}
	}
	t.until = t.at + probation
	return t
}

// try begins the trial of a marker that takes effect with the slot at start.
func (d *Detector) try(m *mark, start int64) {
	t := newTrial(m)
	t.over = t.until <= start
	if m.trial != nil || !t.over && len(d.live) == maxLive {
		return
	}
	m.trial = t
	if !t.over {
		d.live = append(d.live, t)
	}
	// It may have been told late.
	for _, g := range d.groups {
		t.note(&g.inc, 0)
	}
	kept := 0
	for i := len(d.marks) - 1; i >= 0; i-- {
		if o := &d.marks[i]; o.trial != nil {
			if kept++; kept > maxTrials && o.trial.over {
				o.trial = nil
			}
		}
	}
}

// note takes down an incident that the marker may have caused, or strikes it out
// when it turned out to be elsewhere. The onset may be estimated a slot early.
func (t *trial) note(inc *incident.Incident, step int64) {
	at := inc.StartedAt.Unix()
	is := inc.Marker == t.id || at >= t.at-2*step && at < t.until && marked(&t.scope, &inc.Scope)
	i := slices.IndexFunc(t.broken, func(b marker.Broken) bool { return b.ID == inc.ID })
	switch {
	case is && i >= 0:
		t.broken[i] = inShort(inc)
	case is && len(t.broken) < maxBreaks:
		t.broken = append(t.broken, inShort(inc))
	case !is && i >= 0:
		t.broken = slices.Delete(t.broken, i, i+1)
	}
}

func inShort(inc *incident.Incident) marker.Broken {
	return marker.Broken{ID: inc.ID, State: inc.State, Direction: inc.Direction, Class: inc.Class, Scope: inc.Scope, StartedAt: inc.StartedAt,
		Identities: inc.Identities, UsedToGetIn: inc.UsedToGetIn, Marker: inc.Marker}
}

// observe counts the slot that a judge just closed for the trials it concerns.
func (d *Detector) observe(j *judge) {
	for _, t := range d.live {
		if j.start >= t.until || j.end() <= t.at || j.service != "" && !t.scope.Service.Has(j.service) {
			continue
		}
		at := slices.IndexFunc(t.rows, func(r *tried) bool { return r.judge == j.index })
		if at < 0 {
			if t.degraded = t.degraded || len(t.rows) == maxTried; !t.degraded {
				t.rows = append(t.rows, t.begin(j))
			}
			continue
		}
		if n := len(j.past.slots); n > 0 && j.past.slots[n-1].start == j.start {
			t.rows[at].count(j, &j.past.slots[n-1], t)
		}
	}
}

// begin makes the row of a judge from what it remembers.
func (t *trial) begin(j *judge) *tried {
	r := &tried{judge: j.index}
	r.choose(j, t)
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start+j.step > t.at {
			r.count(j, p, t)
			continue
		}
		r.before.take(p.start, p.start+j.step)
		for k := range p.counts {
			if c := &p.counts[k]; r.in.has(&j.cells[c.cell]) {
				r.before.requests += int64(c.n)
				r.before.denials += int64(c.x)
			}
		}
	}
	return r
}

// choose brings the scope up to the judge's names.
func (r *tried) choose(j *judge, t *trial) {
	if known := [3]int{len(j.routeNames.list), len(j.roles.list), len(j.geos.list)}; known != r.known {
		r.in, r.known = j.choose(&t.scope), known
	}
}

// count takes in a slot of the past.
func (r *tried) count(j *judge, p *pastSlot, t *trial) {
	r.choose(j, t)
	r.since.take(p.start, p.start+j.step)
	r.slots++
	if p.partial {
		r.partial++
	}
	// What came while everything was only learned is what is normal now.
	judged := t.at >= j.born+j.learn
	// Cells of one slice follow each other.
	at, n := int32(-1), float32(0)
	for k := range p.counts {
		x := &p.counts[k]
		c := &j.cells[x.cell]
		if !r.in.has(c) {
			continue
		}
		q := float64(j.normal(c).Share())
		r.since.requests += int64(x.n)
		r.since.denials += int64(x.x)
		r.valid += int64(x.valid)
		r.expected += float64(x.n) * q
		// What is masked is not judged: it is an incident, or announced.
		if !judged || c.mask != 0 {
			continue
		}
		r.n += float64(x.nc)
		r.m += float64(x.nc) * q
		if j.class != event.Refused {
			continue
		}
		if s := slice(c); s != at {
			r.sliced(at, n, t)
			at, n = s, 0
		}
		n += x.nc
	}
	r.sliced(at, n, t)
	for k := range p.hits {
		if h := &p.hits[k]; r.in.has(&j.cells[h.cell]) {
			r.who.add(h.id)
		}
	}
}

// sliced adds requests of a slice, unless it is none.
func (r *tried) sliced(s int32, n float32, t *trial) {
	if s < 0 {
		return
	}
	if r.slices == nil {
		r.slices = map[int32]float32{}
	}
	if _, ok := r.slices[s]; ok || len(r.slices) < maxSlices {
		r.slices[s] += n
	} else {
		t.degraded = true
	}
}

// slice is the series of a cell's route and role.
func slice(c *cell) int32 {
	if s := c.parents[lvRouteRole]; s >= 0 {
		return s
	}
	return c.parents[lvRoute]
}

// conclude ends the trials whose probation is over for everybody who can say so.
// It is called at the end of a vantage's slot.
func (d *Detector) conclude(v event.Vantage, step int64, out []incident.Transition) {
	for i := range out {
		for k := range d.marks {
			if t := d.marks[k].trial; t != nil {
				t.note(&out[i].Incident, step)
			}
		}
	}
	now := d.last[v] + step
	for _, t := range d.live {
		if now < t.until {
			continue
		}
		if until := t.until + baseline.Lag; until <= t.at+baseline.MaxHold && d.rising(t, v) {
			t.until = until
			continue
		}
		t.over = true
		for _, r := range t.rows {
			last := d.last[d.judges[r.judge].vantage]
			t.over = t.over && (last+step >= t.until || now >= t.until+stalled)
		}
		if t.over {
			for _, r := range t.rows {
				d.finish(t, r)
			}
		}
	}
	d.live = slices.DeleteFunc(d.live, func(t *trial) bool { return t.over })
}

// rising reports whether something in a trial's scope is half way to an alarm, as
// seen from a vantage. The probation of its cells goes on then too.
func (d *Detector) rising(t *trial, v event.Vantage) bool {
	for _, r := range t.rows {
		j := d.judges[r.judge]
		if j.vantage != v {
			continue
		}
		r.choose(j, t)
		for i := range j.cells {
			if c := &j.cells[i]; c.mask == 0 && c.Held() && r.in.has(c) && j.suspect(c) {
				return true
			}
		}
	}
	return false
}

// finish turns what a row counted into what is kept.
func (d *Detector) finish(t *trial, r *tried) {
	r.power, r.covered, r.uncovered = d.weighTrial(t, r)
	r.identities = r.who.count()
	r.who, r.slices, r.in, r.known = people{}, nil, chosen{}, [3]int{}
}

// weighTrial says what a row would have shown.
func (d *Detector) weighTrial(t *trial, r *tried) (power, covered float64, thin []marker.Uncovered) {
	j := d.judges[r.judge]
	if j.class != event.Refused || r.n <= 0 {
		return 0, 0, nil
	}
	h := float64(j.h)
	if h == 0 { // the configuration was just replaced
		h = baseline.Threshold(d.series(), d.cfg.AlertsPerWeek, j.step)
	}
	in := r.in
	if r.known != [3]int{len(j.routeNames.list), len(j.roles.list), len(j.geos.list)} {
		in = j.choose(&t.scope)
	}
	usual := map[int32]float64{}
	var base, total float64
	for i := range j.cells {
		c := &j.cells[i]
		if c.N <= 0 || !in.has(c) {
			continue
		}
		base += float64(c.N)
		// Who is kept out anyway needs no wall.
		if s := slice(c); j.series[s].k < keptOut*j.series[s].n {
			usual[s] += float64(c.N)
			total += float64(c.N)
		}
	}
	q := r.m / r.n
	wall := max(q+smallWall*(1-q), smallOdds*q/(1-q+smallOdds*q))
	power = baseline.Power(r.n, q, wall, h, &baseline.Scale{Phi: j.clump.Phi(), Sigma2: j.levels[lvTotal].Sigma2(&j.clump), N: float32(base)})
	for _, s := range slices.Sorted(maps.Keys(usual)) {
		se := &j.series[s]
		n := float64(r.slices[s])
		rate := baseline.Shrink(se.k, se.n, q)
		sc := j.scale(se)
		if baseline.Power(n, rate, rate+sliceWall*(1-rate), h, &sc) >= sure {
			covered += usual[s]
			continue
		}
		thin = append(thin, marker.Uncovered{Scope: j.public(j.service, se.scope), Share: usual[s] / total, Requests: int64(n + 0.5)})
	}
	slices.SortStableFunc(thin, func(a, b marker.Uncovered) int { return -cmp.Compare(a.Share, b.Share) })
	if total > 0 {
		covered /= total
	}
	return power, covered, slices.Clone(thin[:min(len(thin), maxUncovered)])
}

// Verdict says what came of a marker, so far or at the end of its probation. It
// changes nothing. ok is false if no marker of this id is remembered.
func (d *Detector) Verdict(markerID string) (v marker.Verdict, ok bool) {
	at := slices.IndexFunc(d.marks, func(m mark) bool { return m.ID == markerID })
	if at < 0 {
		return marker.Verdict{}, false
	}
	m := &d.marks[at]
	v = marker.Verdict{Verdict: marker.Pending, Marker: m.Marker, Until: m.Time.Add(Probation),
		Incidents: []marker.Broken{}, Evidence: []marker.Evidence{}, Earlier: d.earlier(at)}
	t := m.trial
	switch {
	case t == nil && m.done == [event.Vantages]bool{}:
		v.Reason = "The change has not taken effect yet: no log has reached its time."
		return v, true
	case t == nil:
		v.Verdict, v.Degraded = marker.NotEnoughData, true
		v.Reason = "Nothing was counted: more markers were on probation than are counted at a time, or it was long ago."
		return v, true
	}
	v.Until, v.Degraded = instant(t.until), t.degraded
	for _, b := range t.broken {
		if i := slices.IndexFunc(d.groups, func(g *group) bool { return g.inc.ID == b.ID }); i >= 0 {
			b = inShort(&d.groups[i].inc)
		}
		v.Incidents = append(v.Incidents, b)
	}
	slices.SortStableFunc(v.Incidents, func(a, b marker.Broken) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range t.rows {
		v.Evidence = append(v.Evidence, d.evidenceOf(t, r))
	}
	slices.SortStableFunc(v.Evidence, func(a, b marker.Evidence) int {
		return cmp.Or(cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Service, b.Service))
	})
	enough, lack := suffices(v.Evidence)
	v.OK = enough && len(v.Incidents) == 0
	switch n := len(v.Incidents); {
	case n == 1:
		v.Verdict, v.Reason = marker.Fail, "An incident began in its scope during its probation."
	case n > 1:
		v.Verdict, v.Reason = marker.Fail, fmt.Sprintf("%d incidents began in its scope during its probation.", n)
	case !t.over && enough:
		v.Reason = "Nothing was found so far, and what matters would have been seen. Its probation is not over yet."
	case !t.over:
		v.Reason = "Nothing was found so far. " + lack
	case enough:
		v.Verdict, v.Reason = marker.Pass, "Nothing was found, and what matters would have been seen."
	default:
		v.Verdict, v.Reason = marker.NotEnoughData, "Nothing was found. "+lack
	}
	return v, true
}

// evidenceOf writes a row for people.
func (d *Detector) evidenceOf(t *trial, r *tried) marker.Evidence {
	j := d.judges[r.judge]
	e := marker.Evidence{Vantage: j.vantage.String(), Service: j.service, Class: j.class.String(), Since: r.since.public(), Before: r.before.public(),
		ExpectedDenials: r.expected, Identities: r.identities, Valid: r.valid, Slots: r.slots, PartialSlots: r.partial}
	if t.over {
		e.Power, e.Covered, e.Uncovered = r.power, r.covered, slices.Clone(r.uncovered)
	} else {
		e.Identities = r.who.count()
		e.Power, e.Covered, e.Uncovered = d.weighTrial(t, r)
	}
	// A class is judged from when it first occurs; until then none of the requests
	// that plain refusals are judged by was refused in it.
	if j.class != event.Refused && r.before.to == 0 {
		for _, o := range t.rows {
			if k := d.judges[o.judge]; k.vantage == j.vantage && k.service == j.service && k.class == event.Refused {
				e.Before = o.before.public()
				e.Before.Denials = 0
			}
		}
	}
	return e
}

// suffices reports whether some vantage saw enough, and what is missing else.
func suffices(evidence []marker.Evidence) (enough bool, lack string) {
	lack = "No requests were seen in its scope during its probation."
	best := -1.0
	for i := range evidence {
		e := &evidence[i]
		if e.Class != incident.ClassRefused || e.Since.Requests == 0 {
			continue
		}
		complete := 2*e.PartialSlots < e.Slots
		if complete && e.Power >= sure && e.Covered >= enoughCover {
			return true, ""
		}
		if e.Power < best {
			continue
		}
		best = e.Power
		switch {
		case !complete:
			lack = "Half of the time a source was missing or not understood."
		case e.Power < sure:
			lack = fmt.Sprintf("Too few requests could be judged: a wall for a tenth of them would have been seen with %.0f %%.", 100*math.Floor(100*e.Power)/100)
		default:
			lack = fmt.Sprintf("Only %.0f %% of the usual traffic is on routes that were asked for enough.", 100*math.Floor(100*e.Covered)/100)
		}
	}
	return false, lack
}

// earlier are the changes before a marker to compare it with.
func (d *Detector) earlier(at int) []marker.Earlier {
	out := []marker.Earlier{}
	for i := at - 1; i >= 0 && len(out) < maxEarlier; i-- {
		m := &d.marks[i]
		t := m.trial
		if t == nil || !t.over || m.Service != d.marks[at].Service || m.Kind != d.marks[at].Kind {
			continue
		}
		e := marker.Earlier{ID: m.ID, Version: m.Version, Time: m.Time, Verdict: marker.NotEnoughData}
		var evidence []marker.Evidence
		inner := -1
		for _, r := range t.rows {
			evidence = append(evidence, d.evidenceOf(t, r))
			if j := d.judges[r.judge]; j.class == event.Refused && r.since.requests > 0 && (inner < 0 || j.vantage > d.judges[inner].vantage) {
				inner = r.judge
				e.Requests, e.Denials, e.ExpectedDenials, e.Identities = r.since.requests, r.since.denials, r.expected, r.identities
			}
		}
		if enough, _ := suffices(evidence); enough {
			e.Verdict = marker.Pass
		}
		if len(t.broken) > 0 {
			e.Verdict = marker.Fail
		}
		out = append(out, e)
	}
	return out
}

func (d *Detector) putTrials(w *wire.Writer) error {
	n := 0
	for i := range d.marks {
		if d.marks[i].trial != nil {
			n++
		}
	}
	w.Uint(uint64(n))
	for i := range d.marks {
		t := d.marks[i].trial
		if t == nil {
			continue
		}
		w.Uint(uint64(i))
		w.Int(t.until)
		w.Bool(t.over)
		w.Bool(t.degraded)
		if err := putJSON(w, t.broken); err != nil {
			return fmt.Errorf("verdict: %w", err)
		}
		w.Uint(uint64(len(t.rows)))
		for _, r := range t.rows {
			if err := r.put(w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *tried) put(w *wire.Writer) error {
	w.Uint(uint64(r.judge))
	for _, s := range [...]*span{&r.before, &r.since} {
		for _, x := range [...]int64{s.from, s.to, s.requests, s.denials} {
			w.Int(x)
		}
	}
	w.Int(r.valid)
	w.Uint(uint64(r.slots))
	w.Uint(uint64(r.partial))
	w.Int(r.identities)
	for _, x := range [...]float64{r.expected, r.n, r.m, r.power, r.covered} {
		w.Float(x)
	}
	if err := r.who.put(w); err != nil {
		return err
	}
	w.Uint(uint64(len(r.slices)))
	for _, s := range slices.Sorted(maps.Keys(r.slices)) {
		w.Uint(uint64(s))
		baseline.PutFloat(w, r.slices[s])
	}
	if err := putJSON(w, r.uncovered); err != nil {
		return fmt.Errorf("verdict: %w", err)
	}
	return nil
}

// getTrials reads the trials; markers and judges are loaded already.
func (d *Detector) getTrials(r *wire.Reader) {
	for range r.Len(7) {
		i := bounded(r, r.Uint(), 0, uint64(len(d.marks)))
		if i >= uint64(len(d.marks)) || d.marks[i].trial != nil {
			corrupt(r)
			return
		}
		m := &d.marks[i]
		t := newTrial(m)
		t.until = getTime(r)
		t.over, t.degraded = r.Bool(), r.Bool()
		getJSON(r, &t.broken)
		for range r.Len(60) {
			t.rows = append(t.rows, d.getTried(r))
		}
		if r.Err != nil || len(t.rows) > maxTried || len(t.broken) > maxBreaks || !t.over && len(d.live) == maxLive {
			corrupt(r)
			return
		}
		m.trial = t
		if !t.over {
			d.live = append(d.live, t)
		}
	}
}

func (d *Detector) getTried(r *wire.Reader) *tried {
	x := &tried{judge: int(bounded(r, r.Uint(), 0, uint64(len(d.judges))))}
	if x.judge >= len(d.judges) {
		corrupt(r)
		return x
	}
	for _, s := range [...]*span{&x.before, &x.since} {
		s.from, s.to = getTime(r), getTime(r)
		s.requests, s.denials = r.Int(), r.Int()
	}
	x.valid = r.Int()
	x.slots = int(bounded(r, r.Uint(), 0, math.MaxInt32))
	x.partial = int(bounded(r, r.Uint(), 0, math.MaxInt32))
	x.identities = r.Int()
	for _, f := range [...]*float64{&x.expected, &x.n, &x.m, &x.power, &x.covered} {
		*f = baseline.GetFloat64(r)
	}
	x.who.get(r)
	series := len(d.judges[x.judge].series)
	for range r.Len(5) {
		s := int32(bounded(r, r.Uint(), 0, uint64(series)))
		if int(s) >= series {
			corrupt(r)
			return x
		}
		if x.slices == nil {
			x.slices = map[int32]float32{}
		}
		x.slices[s] = baseline.GetFloat(r)
	}
	getJSON(r, &x.uncovered)
	return x
}
