package detector

import (
	"math"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// hourSlots is how many long steps of the past are remembered, hourLength how long
	// one is in seconds (or a slot, if that is longer): four hours.
	hourSlots  = 24
	hourLength = 600
	// hourCounts bounds their counts in a judge, 5 MiB, and hourHits who was refused, 2 MiB.
	hourCounts = 1 << 18
	hourHits   = 1 << 16
	// maxTraces bounds the resolved incidents whose trace is remembered,
	// maxTraceMarks the changes that one names.
	maxTraces     = 200
	maxTraceMarks = 20
)

// hourCount is one cell in one long step: requests and denials, as seen and as they count
// for the evidence.
type hourCount struct {
	cell   int32
	n, x   uint32
	nc, xc float32
}

// hour is a long step of the past: what was counted in slots that are not remembered in
// detail any more. It is there for pictures, and for scans of what comes slowly.
type hour struct {
	start   int64
	dirty   bool
	sampled uint8
	// faceless tells that who was refused is not remembered any more.
	faceless bool
	counts   []hourCount
	hits     []hit
	comers   []comer
}

// hours holds the last long steps that had data, oldest first.
type hours struct {
	list  []hour
	total int
	hits  int
	// at is where a cell's count is in the newest step: 1 + its place, 0 for none.
	at    []int32
	spare []hourCount
}

// length is how long a long step is where slots are step long.
func length(step int64) int64 { return (hourLength + step - 1) / step * step }

// add takes a slot in that is leaving the detailed past.
func (h *hours) add(p *pastSlot, step int64) {
	start := p.start - p.start%length(step)
	if n := len(h.list); n == 0 || h.list[n-1].start != start {
		h.forget(func(i int) bool {
			return h.list[i].start < start-hourSlots*length(step) || len(h.list)-i >= hourSlots
		})
		clear(h.at)
		h.list = append(h.list, hour{start: start, counts: h.spare[:0]})
		h.spare = nil
	}
	now := &h.list[len(h.list)-1]
	now.dirty = true
	now.sampled = max(now.sampled, p.sampled)
	for i := range p.counts {
		t := &p.counts[i]
		if n := int(t.cell) + 1; n > len(h.at) {
			h.at = append(h.at, make([]int32, max(n, 2*len(h.at))-len(h.at))...)
		}
		if h.at[t.cell] == 0 {
			if len(now.counts) == hourCounts {
				continue
			}
			now.counts = append(now.counts, hourCount{cell: t.cell})
			h.at[t.cell] = int32(len(now.counts))
			h.total++
		}
		c := &now.counts[h.at[t.cell]-1]
		c.n += t.n
		c.x += t.x
		if !t.explained {
			c.nc += t.nc
			c.xc += t.xc
		}
	}
	for i := range p.hits {
		switch k := &p.hits[i]; {
		case k.explained:
		case len(now.hits) < hourHits:
			now.hits = append(now.hits, k.hit)
			h.hits++
		default:
			now.faceless = true
		}
	}
	for i := 0; h.hits > hourHits; i++ {
		if o := &h.list[i]; len(o.hits) > 0 {
			h.hits -= len(o.hits)
			o.hits, o.faceless, o.dirty = nil, true, true
		}
	}
	now.comers = append(now.comers, p.comers[:min(len(p.comers), maxComers-len(now.comers))]...)
	total := h.total
	h.forget(func(i int) bool {
		if i == len(h.list)-1 || total <= hourCounts {
			return false
		}
		total -= len(h.list[i].counts)
		return true
	})
}

// inherit takes over the past of a judge of another class, in which nothing was ever
// refused in this one.
func (h *hours) inherit(from *judge) {
	for i := range from.hours.list {
		o := &from.hours.list[i]
		h.list = append(h.list, hour{start: o.start, dirty: true, sampled: o.sampled, counts: slices.Clone(o.counts)})
	}
	h.total, h.at = from.hours.total, slices.Clone(from.hours.at)
	for i := range from.past.slots {
		p := from.past.slots[i]
		p.hits, p.comers = nil, nil
		h.add(&p, from.step)
	}
	for i := range h.list {
		for k := range h.list[i].counts {
			h.list[i].counts[k].x, h.list[i].counts[k].xc = 0, 0
		}
	}
}

// explain takes what cells were seen to do out of the evidence.
func (h *hours) explain(cells []bool) {
	for i := range h.list {
		o := &h.list[i]
		for k := range o.counts {
			if c := &o.counts[k]; c.nc+c.xc != 0 && cells[c.cell] {
				c.nc, c.xc = 0, 0
				o.dirty = true
			}
		}
		n := len(o.hits)
		o.hits = slices.DeleteFunc(o.hits, func(k hit) bool { return cells[k.cell] })
		h.hits -= n - len(o.hits)
		o.dirty = o.dirty || len(o.hits) < n
	}
}

// forget drops the oldest steps while old says so, and keeps the list of one.
func (h *hours) forget(old func(i int) bool) {
	n := 0
	for n < len(h.list) && old(n) {
		h.total -= len(h.list[n].counts)
		h.hits -= len(h.list[n].hits)
		n++
	}
	if n > 0 {
		h.spare = h.list[n-1].counts
		m := copy(h.list, h.list[n:])
		clear(h.list[m:])
		h.list = h.list[:m]
	}
}

// hourPlace is where a step is kept; places repeat after more than are remembered.
func (j *judge) hourPlace(start int64) int { return int(start / length(j.step) % (2 * hourSlots)) }

func (h *hour) put(w *wire.Writer) {
	w.Int(h.start)
	w.Uint(uint64(len(h.counts)))
	for i := range h.counts {
		w.Uint(uint64(h.counts[i].cell))
		w.Uint(uint64(h.counts[i].n))
		w.Uint(uint64(h.counts[i].x))
		baseline.PutFloat(w, h.counts[i].nc)
		baseline.PutFloat(w, h.counts[i].xc)
	}
	putComers(w, h.comers)
	w.Uint(uint64(h.sampled))
	w.Bool(h.faceless)
	w.Uint(uint64(len(h.hits)))
	for i := range h.hits {
		h.hits[i].put(w)
	}
}

// getHour reads the step that begins at start; they come in order.
func (j *judge) getHour(r *wire.Reader, start int64) {
	h := hour{start: r.Int()}
	clear(j.hours.at)
	j.hours.at = append(j.hours.at, make([]int32, max(0, len(j.cells)-len(j.hours.at)))...)
	for range r.Len(11) {
		c := hourCount{int32(bounded(r, r.Uint(), 0, uint64(len(j.cells)))), uint32(bounded(r, r.Uint(), 0, math.MaxUint32)), uint32(bounded(r, r.Uint(), 0, math.MaxUint32)),
			baseline.GetFloat(r), baseline.GetFloat(r)}
		if int(c.cell) >= len(j.cells) || j.hours.at[c.cell] != 0 {
			corrupt(r)
			return
		}
		h.counts = append(h.counts, c)
		j.hours.at[c.cell] = int32(len(h.counts))
	}
	h.comers = j.getComers(r)
	h.sampled = uint8(bounded(r, r.Uint(), 0, math.MaxUint8))
	h.faceless = r.Bool()
	for range r.Len(13) {
		h.hits = append(h.hits, getHit(r, len(j.cells)))
	}
	if n := len(j.hours.list); h.start != start || len(h.hits) > hourHits || len(h.counts) > hourCounts || r.Err != nil || n > 0 && j.hours.list[n-1].start >= start {
		corrupt(r)
		return
	}
	j.hours.list = append(j.hours.list, h)
	j.hours.total += len(h.counts)
	j.hours.hits += len(h.hits)
}

// point is what was counted in the scope of a finding in one step of time.
type point struct {
	start, end int64
	// counted tells that these requests are among the finding's.
	counted bool
	n, x    int64
	// m denials were expected, v is their variance if they were coin tosses.
	m float64
	v float32
}

// trace is what a finding's scope looked like over time, the oldest point first.
type trace struct {
	points []point
	// width is the length of points in seconds: a slot's, doubled whenever there are
	// too many.
	width int64
	// phi and sigma2 say how much noisier than coin tosses the scope is, as in
	// baseline.Scale.
	phi, sigma2 float32
}

// add counts requests of the time from start to end, which is the newest so far.
func (t *trace) add(start, end int64, counted bool, n, x int64, m float64, v float32) {
	t.width = max(t.width, 1)
	if k := len(t.points); k > 0 {
		if last := &t.points[k-1]; last.counted == counted && last.start/t.width == start/t.width {
			last.end = max(last.end, end)
			last.n, last.x, last.m, last.v = last.n+n, last.x+x, last.m+m, last.v+v
			return
		}
	}
	t.points = append(t.points, point{start, end, counted, n, x, m, v})
	// What is counted and what is not is never put together.
	for len(t.points) > incident.MaxPoints && t.width < instantMost {
		t.width *= 2
		old := t.points
		t.points = t.points[:0]
		for _, p := range old {
			if k := len(t.points); k > 0 && t.points[k-1].counted == p.counted && t.points[k-1].start/t.width == p.start/t.width {
				l := &t.points[k-1]
				l.end, l.n, l.x, l.m, l.v = p.end, l.n+p.n, l.x+p.x, l.m+p.m, l.v+p.v
				continue
			}
			t.points = append(t.points, p)
		}
	}
}

// end is the end of what the trace shows, 0 if it is empty.
func (t *trace) end() int64 {
	if len(t.points) == 0 {
		return 0
	}
	return t.points[len(t.points)-1].end
}

// begin makes a finding's trace ready for what a scan found.
func (j *judge) begin(f *finding) {
	f.trace.width = max(f.trace.width, j.step)
	f.trace.phi, f.trace.sigma2 = j.clump.Phi(), j.levels[lvRouteRole].Sigma2(&j.clump)
	if s := j.seriesOfKey(f.scope.key()); s >= 0 {
		sc := j.scale(&j.series[s])
		f.trace.sigma2 = sc.Sigma2
	}
}

// before shows what came before a time in the trace of a finding, from where it ends: what
// is normal there, or between two episodes.
func (j *judge) before(f *finding, until int64) {
	from := f.trace.end()
	if !f.rules || f.dir > 0 { // of closed doors the long past says nothing
		for i := range j.hours.list {
			h := &j.hours.list[i]
			end := h.start + length(j.step)
			if len(j.past.slots) > 0 {
				end = min(end, j.past.slots[0].start)
			}
			if h.start < from || end > until {
				continue
			}
			for k := range h.counts {
				if c := &j.cells[h.counts[k].cell]; c.mask == f.mask {
					t := pastCount{n: h.counts[k].n, x: h.counts[k].x}
					n, x, m, v := f.counts(&t, j.normal(c))
					f.trace.add(h.start, end, false, n, x, m, v)
				}
			}
		}
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < from || p.start >= until {
			continue
		}
		for k := range p.counts {
			if c := &j.cells[p.counts[k].cell]; c.mask == f.mask {
				n, x, m, v := f.counts(&p.counts[k], j.normal(c))
				f.trace.add(p.start, p.start+j.step, false, n, x, m, v)
			}
		}
	}
}

// band is between which shares 95 of 100 points lie while nothing is wrong: two standard
// deviations, of the noise that the judge allows for, either side of what is expected,
// with the Cornish-Fisher correction (z²-1)/6 for the skewness of rare events. Where
// rules say what is to be expected there is no noise.
func (t *trace) band(p *point) (low, high float64) {
	if p.n <= 0 {
		return 0, 1
	}
	m, n, v, phi := p.m, float64(p.n), float64(p.v), float64(t.phi)
	if v > 0 {
		sd := math.Sqrt(phi*v + float64(t.sigma2)*v*v)
		return max(min(m-2*sd+phi/2, m), 0) / n, min(m+2*sd+phi/2, n) / n
	}
	return m / n, m / n
}

func (t *trace) put(w *wire.Writer) {
	w.Int(t.width)
	baseline.PutFloat(w, t.phi)
	baseline.PutFloat(w, t.sigma2)
	w.Uint(uint64(len(t.points)))
	for i := range t.points {
		p := &t.points[i]
		w.Int(p.start)
		w.Int(p.end)
		w.Bool(p.counted)
		w.Int(p.n)
		w.Int(p.x)
		w.Float(p.m)
		baseline.PutFloat(w, p.v)
	}
}

func (t *trace) get(r *wire.Reader) {
	t.width = bounded(r, r.Int(), 0, instantMost)
	t.phi, t.sigma2 = baseline.GetFloat(r), baseline.GetFloat(r)
	for range r.Len(17) {
		p := point{start: getTime(r), end: getTime(r), counted: r.Bool(), n: r.Int(), x: r.Int(), m: baseline.GetFloat64(r), v: baseline.GetFloat(r)}
		t.points = append(t.points, p)
	}
	if len(t.points) > incident.MaxPoints {
		corrupt(r)
	}
}

// forgetTraces drops the traces of incidents that were resolved longest ago.
func (d *Detector) forgetTraces() {
	n := 0
	for _, g := range slices.Backward(d.groups) {
		if g.inc.State != incident.Resolved {
			continue
		}
		if n++; n > maxTraces {
			g.trace = trace{}
		}
	}
}

// Trace returns what an incident's scope looked like over time, from some hours before
// its onset to the last slot that was judged, or to its end. ok is false if there is no
// such incident, or it was resolved before the last 200.
func (d *Detector) Trace(id string) (t incident.Trace, ok bool) {
	i := slices.IndexFunc(d.groups, func(g *group) bool { return g.inc.ID == id })
	if i < 0 || len(d.groups[i].trace.points) == 0 {
		return t, false
	}
	g := d.groups[i]
	for k := range g.trace.points {
		p := &g.trace.points[k]
		o := incident.Point{Time: instant(p.start), Seconds: p.end - p.start, Counted: p.counted, Requests: p.n, Denials: p.x}
		if p.n > 0 {
			o.Expected = p.m / float64(p.n)
		}
		o.Low, o.High = g.trace.band(p)
		t.Points = append(t.Points, o)
	}
	t.Incident = g.clone()
	from, to := t.Points[0].Time, instant(g.trace.end())
	for i := len(d.marks) - 1; i >= 0 && len(t.Markers) < maxTraceMarks; i-- {
		m := &d.marks[i].Marker
		if m.Time.Before(from) || m.Time.After(to) || m.ID != g.inc.Marker && !marked(attributed(m), &g.inc.Scope) {
			continue
		}
		t.Markers = append(t.Markers, incident.TraceMarker{ID: m.ID, MarkerInfo: info(m)})
	}
	slices.Reverse(t.Markers)
	return t, true
}
