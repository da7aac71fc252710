package detector

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/wire"
)

// Writer keeps blocks of state by key.
type Writer interface {
	// Put keeps value under key, in place of what was there. It may not keep the
	// slice.
	Put(key string, value []byte) error
}

// stateVersion is the first byte of every block.
const stateVersion = 17

// ErrState is wrapped by Load's errors: the blocks are not what Save wrote.
var ErrState = errors.New("the detector's state cannot be read")

// Rewrite makes the next Save write everything, whether it changed or not. It is
// for a cut that Save took part in and that did not become durable.
func (d *Detector) Rewrite() { d.rewrite = true }

// Save writes what changed since the last Save. Blocks of cells and series change
// only when slots close. After an error the next Save writes everything.
func (d *Detector) Save(w Writer) (err error) {
	s := saver{w: w, all: d.rewrite}
	d.rewrite = true
	s.block("head", d.dirty, d.putHead)
	s.block("markers", d.dirtyMarks, d.putMarks)
	s.block("incidents", d.dirty, d.putGroups)
	s.block("scans", d.dirty, d.putScans)
	// Trials name their markers by place.
	s.block("trials", d.dirty || d.dirtyMarks, d.putTrials)
	for i, v := range *d.visits {
		s.block(sessionsKey(i), d.dirty, v.sessions.put)
		if s.err == nil {
			s.err = d.visits.save(i, s.all, w.Put)
		}
	}
	for _, j := range d.judges {
		j.save(&s)
	}
	if s.err != nil {
		return fmt.Errorf("save the detector: %w", s.err)
	}
	d.dirty, d.dirtyMarks, d.rewrite = false, false, false
	return nil
}

type saver struct {
	w   Writer
	buf wire.Writer
	all bool
	err error
}

func (s *saver) block(key string, dirty bool, put func(*wire.Writer) error) {
	if s.err != nil || !dirty && !s.all {
		return
	}
	s.buf.B = append(s.buf.B[:0], stateVersion)
	if s.err = put(&s.buf); s.err == nil {
		s.err = s.w.Put(key, s.buf.B)
	}
}

// sessionsKey is the block of the sessions of a service and vantage.
func sessionsKey(i int) string { return fmt.Sprintf("sessions/%d", i) }

func (d *Detector) putHead(w *wire.Writer) error {
	for _, l := range d.last {
		w.Int(l)
	}
	w.Uint(uint64(len(d.judges)))
	for _, j := range d.judges {
		w.Uint(uint64(j.vantage))
		w.String(j.service)
		w.Uint(uint64(j.class))
	}
	return nil
}

func (d *Detector) putScans(w *wire.Writer) error {
	w.Uint(uint64(len(d.scans)))
	for _, s := range d.scans {
		w.Uint(uint64(s.judge))
		for _, id := range [...]int32{s.scope.prefix, s.scope.route, s.scope.role, s.scope.geo} {
			w.Uint(uint64(id + 1))
		}
		for _, x := range [...]int64{s.from, s.to, s.requests, s.denials} {
			w.Int(x)
		}
		w.Bool(s.crowd)
		for _, p := range [...]*people{&s.who, &s.strangers} {
			if err := p.put(w); err != nil {
				return err
			}
		}
		w.Uint(uint64(len(s.routes)))
		for _, r := range s.routes {
			w.Uint(uint64(r.route))
			w.Int(r.n)
		}
	}
	return nil
}

func (d *Detector) putMarks(w *wire.Writer) error {
	w.Uint(uint64(len(d.marks)))
	for i := range d.marks {
		b, err := json.Marshal(&d.marks[i].Marker)
		if err != nil {
			return fmt.Errorf("marker: %w", err)
		}
		w.Bytes(b)
		for _, x := range d.marks[i].done {
			w.Bool(x)
		}
	}
	return nil
}

func (d *Detector) putGroups(w *wire.Writer) error {
	w.Uint(uint64(len(d.groups)))
	for _, g := range d.groups {
		if err := putJSON(w, &g.inc); err != nil {
			return fmt.Errorf("incident: %w", err)
		}
		w.Bool(g.rise)
		w.Uint(uint64(g.seq))
		w.Uint(uint64(len(g.members)))
		for i := range g.members {
			m := &g.members[i]
			w.Uint(uint64(m.judge))
			w.Uint(m.uid)
			w.String(m.from)
			w.Int(m.started)
			if err := putJSON(w, &m.scope); err != nil {
				return fmt.Errorf("incident: %w", err)
			}
		}
		w.Int(g.told.at)
		if err := putJSON(w, &g.told.scope); err != nil {
			return fmt.Errorf("incident: %w", err)
		}
		w.Int(g.told.identities)
		w.String(g.told.lead)
		w.String(g.told.marker)
		g.trace.put(w)
	}
	return nil
}

// putJSON keeps what has a JSON form of its own; Go writes floats and times so
// that they come back exactly.
func putJSON(w *wire.Writer, v any) error {
	b, err := json.Marshal(v)
	w.Bytes(b)
	return err
}

func getJSON(r *wire.Reader, v any) {
	if b := r.Bytes(); r.Err == nil && json.Unmarshal(b, v) != nil {
		corrupt(r)
	}
}

func (j *judge) key(name string, n int) string {
	return fmt.Sprintf("judge/%d/%s/%d", j.index, name, n)
}

// save writes the judge's blocks.
func (j *judge) save(s *saver) {
	s.block(j.key("book", 0), j.dirtyBook, j.putBook)
	for i := range j.dirtyCells {
		s.block(j.key("cells", i), j.dirtyCells[i], func(w *wire.Writer) error { j.putCells(w, i); return nil })
	}
	for i := range j.dirtySeries {
		s.block(j.key("series", i), j.dirtySeries[i], func(w *wire.Writer) error { j.putSeries(w, i); return nil })
	}
	for i := range j.dirtyCells {
		if j.dirtyRuled[i] || s.all && len(j.ruled) > 0 {
			s.block(j.key("rules", i), true, func(w *wire.Writer) error { j.putRules(w, i); return nil })
		}
	}
	for i := range j.buckets.m {
		s.block(j.key("people", i), j.buckets.dirty[i], func(w *wire.Writer) error { j.buckets.put(w, i); return nil })
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		// The place repeats after more slots than are remembered.
		s.block(j.key("past", int(p.start/j.step%(2*pastSlots))), p.dirty, func(w *wire.Writer) error { p.put(w); return nil })
	}
	for i := range j.hours.list {
		h := &j.hours.list[i]
		s.block(j.key("hours", j.hourPlace(h.start)), h.dirty, func(w *wire.Writer) error { h.put(w); return nil })
	}
	s.block(j.key("seasons", 0), j.dirty, j.putSeasons)
	s.block(j.key("rest", 0), j.dirty, j.putRest)
	if s.err != nil {
		return
	}
	j.dirtyBook, j.dirty = false, false
	clear(j.dirtyCells)
	clear(j.dirtySeries)
	clear(j.dirtyRuled)
	j.buckets.dirty = [shards]bool{}
	for i := range j.past.slots {
		j.past.slots[i].dirty = false
	}
	for i := range j.hours.list {
		j.hours.list[i].dirty = false
	}
}

func (j *judge) putBook(w *wire.Writer) error {
	for _, n := range [...]*names{&j.routeNames, &j.prefixNames, &j.roles, &j.geos, &j.plans, &j.hosts} {
		w.Uint(uint64(len(n.list)))
		for _, s := range n.list {
			w.String(s)
		}
	}
	for i := range j.routes {
		w.Int(j.routes[i].first)
		w.Uint(uint64(j.routes[i].heir))
	}
	for i := range j.prefixes {
		w.Int(j.prefixes[i].first)
	}
	return nil
}

func (j *judge) putSeasons(w *wire.Writer) error {
	w.Uint(uint64(len(j.seasons)))
	for i := range j.seasons {
		j.seasons[i].Put(w)
	}
	return nil
}

func (j *judge) getSeasons(r *wire.Reader) {
	for range r.Len(24 * 8) {
		var s baseline.Season
		s.Get(r)
		j.seasons = append(j.seasons, s)
	}
}

func (j *judge) putCells(w *wire.Writer, block int) {
	cells := j.cells[block*blockSize : min((block+1)*blockSize, len(j.cells))]
	w.Uint(uint64(len(cells)))
	for i := range cells {
		c := &cells[i]
		for _, id := range [...]int32{c.route, c.role, c.geo, c.plan, c.host} {
			w.Uint(uint64(id))
		}
		c.Cell.Put(w)
		for _, x := range [...]float32{c.in, c.new, c.x5, c.n5, c.m5, c.x40, c.n40, c.m40} {
			baseline.PutFloat(w, x)
		}
		w.Uint(uint64(c.last))
		w.Uint(uint64(c.mask))
		w.Uint(uint64(c.season))
	}
}

func (j *judge) putSeries(w *wire.Writer, block int) {
	ss := j.series[block*blockSize : min((block+1)*blockSize, len(j.series))]
	w.Uint(uint64(len(ss)))
	for i := range ss {
		s := &ss[i]
		for _, id := range [...]int32{s.scope.prefix, s.scope.route, s.scope.role, s.scope.geo} {
			w.Uint(uint64(id + 1))
		}
		w.Uint(uint64(s.level))
		for _, x := range [...]float32{s.k, s.n, s.u, s.m} {
			baseline.PutFloat(w, x)
		}
		s.Evidence.Put(w)
		s.Dispersion.Put(w)
	}
}

func (p *pastSlot) put(w *wire.Writer) {
	w.Int(p.start)
	w.Uint(uint64(p.sampled))
	w.Bool(p.partial)
	w.Bool(p.estimated)
	w.Uint(uint64(len(p.counts)))
	for i := range p.counts {
		c := &p.counts[i]
		w.Uint(uint64(c.cell))
		w.Uint(uint64(c.n))
		w.Uint(uint64(c.x))
		w.Uint(uint64(c.denied))
		baseline.PutFloat(w, c.nc)
		baseline.PutFloat(w, c.xc)
		baseline.PutFloat(w, c.yc)
		w.Bool(c.explained)
		ruled := c.valid|c.leaked != 0 || c.bc != 0 || c.lc != 0
		w.Bool(ruled)
		if ruled {
			w.Uint(uint64(c.valid))
			w.Uint(uint64(c.leaked))
			baseline.PutFloat(w, c.vc)
			baseline.PutFloat(w, c.bc)
			baseline.PutFloat(w, c.lc)
		}
	}
	w.Uint(uint64(len(p.hits)))
	for i := range p.hits {
		h := &p.hits[i]
		h.put(w)
		w.Bool(h.known)
		w.Bool(h.explained)
		w.Word(h.account)
		w.Bool(h.rule != 0)
		if h.rule != 0 {
			w.Word(h.rule)
		}
	}
	w.Uint(uint64(len(p.leaks)))
	for i := range p.leaks {
		k := &p.leaks[i]
		w.Uint(uint64(k.cell))
		w.Bool(k.named)
		w.Word(k.rule)
		w.Word(k.id)
		w.Word(k.account)
	}
	w.Uint(uint64(len(p.splits)))
	for i := range p.splits {
		s := &p.splits[i]
		w.Uint(uint64(s.cell))
		w.Uint(uint64(s.layer))
		w.Uint(uint64(s.n))
		w.String(s.cause)
		w.String(s.rule)
	}
	w.Uint(uint64(len(p.flags)))
	for i := range p.flags {
		f := &p.flags[i]
		w.Uint(uint64(f.route))
		w.String(f.name)
		w.Uint(uint64(f.n))
		w.Uint(uint64(f.denied))
	}
	putComers(w, p.comers)
}

func (j *judge) putRest(w *wire.Writer) error {
	w.Uint(uint64(len(j.cells)))
	w.Uint(uint64(len(j.series)))
	w.Uint(uint64(len(j.ruled)))
	for _, x := range [...]int64{j.step, j.born, j.start, j.flushed} {
		w.Int(x)
	}
	baseline.PutFloat(w, j.h)
	baseline.PutFloat(w, j.in)
	baseline.PutFloat(w, j.new)
	w.Uint(uint64(len(j.hot)))
	for i := range j.hot {
		w.Uint(uint64(j.hot[i].series))
		j.hot[i].Put(w)
	}
	w.Uint(j.folded)
	w.Uint(j.nextUID)
	for l := range j.levels {
		j.levels[l].Put(w)
	}
	j.clump.Put(w)
	w.Uint(uint64(len(j.past.slots)))
	for i := range j.past.slots {
		w.Int(j.past.slots[i].start)
	}
	w.Uint(uint64(len(j.hours.list)))
	for i := range j.hours.list {
		w.Int(j.hours.list[i].start)
	}
	w.Uint(uint64(len(j.announced)))
	for i := range j.announced {
		a := &j.announced[i]
		if err := putJSON(w, &a.scope); err != nil {
			return fmt.Errorf("announcement: %w", err)
		}
		w.Int(int64(a.dir))
		w.Uint(uint64(a.mask))
		w.Int(a.sight)
		w.Int(a.ends)
	}
	w.Uint(uint64(len(j.findings)))
	for _, f := range j.findings {
		if err := f.put(w); err != nil {
			return err
		}
	}
	return nil
}

func (f *finding) put(w *wire.Writer) error {
	w.Uint(f.uid)
	w.Uint(uint64(f.mask))
	for _, id := range [...]int32{f.prefix, f.route, f.role, f.geo} {
		w.Uint(uint64(id + 1))
	}
	w.Int(int64(f.dir))
	w.Bool(f.fresh)
	w.Bool(f.known)
	w.Bool(f.rules)
	w.Bool(f.accepted)
	w.String(f.flag)
	w.String(f.version)
	for _, x := range [...]int64{f.opened, f.started, f.began.earliest, f.began.at, f.began.latest, f.resolved, f.awake, f.from, f.requests, f.denials, f.calmSince, f.refused} {
		w.Int(x)
	}
	for _, x := range [...]float64{f.share, f.rate, f.base, f.wallX, f.wallN, f.wallM, f.expected, f.calm, f.over} {
		w.Float(x)
	}
	for _, x := range [...]float32{f.calmX, f.calmN, f.calmM} {
		baseline.PutFloat(w, x)
	}
	for _, p := range [...]*people{&f.who, &f.named, &f.used, &f.back, &f.accounts} {
		if err := p.put(w); err != nil {
			return err
		}
	}
	for _, n := range f.layers {
		w.Int(n)
	}
	w.Uint(uint64(len(f.causes)))
	for _, c := range f.causes {
		w.String(c.cause)
		w.Int(c.n)
	}
	w.Uint(uint64(len(f.rulesBroken)))
	for _, r := range f.rulesBroken {
		w.Word(r.rule)
		w.Int(r.n)
	}
	w.Uint(uint64(len(f.byRule)))
	for _, c := range f.byRule {
		w.String(c.cause)
		w.String(c.rule)
		w.Int(c.n)
	}
	w.Uint(uint64(f.sampled))
	w.Bool(f.degraded)
	w.Bool(f.estimated)
	w.Bool(f.kept)
	f.trace.put(w)
	w.Uint(uint64(len(f.former)))
	for i := range f.former {
		f.former[i].put(w)
	}
	return nil
}

// Load makes d what it was when its blocks were saved. The blocks may come in any
// order; no blocks at all leave d as it is. On an error, which wraps ErrState
// unless it is the source's own, d is unchanged.
func (d *Detector) Load(blocks func(yield func(key string, value []byte) error) error) error {
	kept := map[string][]byte{}
	err := blocks(func(key string, value []byte) error {
		kept[key] = slices.Clone(value)
		return nil
	})
	if err != nil || len(kept) == 0 {
		return err
	}
	l := New(d.cfg)
	if err := l.load(kept); err != nil {
		return err
	}
	*d = *l
	return nil
}

type loader map[string][]byte

func (l loader) block(key string, get func(*wire.Reader)) error {
	b, ok := l[key]
	if !ok {
		return fmt.Errorf("%w: block %q is missing", ErrState, key)
	}
	if len(b) == 0 || b[0] != stateVersion {
		return fmt.Errorf("%w: block %q has an unknown form", ErrState, key)
	}
	r := wire.Reader{B: b[1:]}
	get(&r)
	if err := r.Done(); err != nil {
		return fmt.Errorf("%w: block %q: %w", ErrState, key, err)
	}
	return nil
}

func (d *Detector) load(l loader) error {
	err := errors.Join(l.block("head", d.getHead), l.block("markers", d.getMarks))
	for i := 0; i < len(*d.visits) && err == nil; i++ {
		if err = l.block(sessionsKey(i), (*d.visits)[i].sessions.get); err != nil {
			break
		}
		if err = d.visits.load(i, func(key string) []byte { return l[key] }); err != nil {
			err = fmt.Errorf("%w: visitors %d: %w", ErrState, i, err)
		}
	}
	for i := 0; i < len(d.judges) && err == nil; i++ {
		j := d.judges[i]
		err = j.load(l)
		j.configure(&d.cfg)
		d.cells[j.class] += len(j.cells)
	}
	d.dirtyMarks = false
	if err != nil {
		return err
	}
	return errors.Join(l.block("incidents", d.getGroups), l.block("scans", d.getScans), l.block("trials", d.getTrials))
}

func (d *Detector) getHead(r *wire.Reader) {
	for v := range d.last {
		d.last[v] = bounded(r, r.Int(), -1, 1<<32)
	}
	for range r.Len(3) {
		v := event.Vantage(bounded(r, r.Uint(), 0, uint64(event.Vantages)-1))
		service := r.String()
		class := event.Denial(bounded(r, r.Uint(), uint64(event.Refused), uint64(event.Valid)-1))
		first := d.judgeID[judgeKey{v, service, event.Refused}]
		if d.judgeID[judgeKey{v, service, class}] != nil || (first == nil) != (class == event.Refused) || r.Err != nil || len(*d.visits) > maxJudges {
			corrupt(r)
			return
		}
		j := newJudge(v, service, class, int64(d.cfg.Learn.Seconds()))
		if first == nil {
			j.visitors = d.visits.add()
		} else {
			j.visitors = first.visitors
		}
		d.add(j)
	}
}

func (d *Detector) getScans(r *wire.Reader) {
	for range r.Len(10) {
		s := &suspect{judge: int(bounded(r, r.Uint(), 0, uint64(len(d.judges))))}
		if s.judge >= len(d.judges) {
			corrupt(r)
			return
		}
		j := d.judges[s.judge]
		s.scope = j.getScope(r)
		s.from, s.to = getTime(r), getTime(r)
		s.requests, s.denials = r.Int(), r.Int()
		s.crowd = r.Bool()
		s.who.get(r)
		s.strangers.get(r)
		for range r.Len(2) {
			route := bounded(r, r.Uint(), 0, uint64(len(j.routes)))
			if route >= uint64(len(j.routes)) {
				corrupt(r)
			}
			s.routes = append(s.routes, routeCount{int32(route), r.Int()})
		}
		if r.Err != nil || len(d.scans) == maxScans || len(s.routes) > maxScanRoutes {
			corrupt(r)
			return
		}
		d.scans = append(d.scans, s)
	}
}

// bounded refuses a number outside of lo..hi.
func bounded[T int64 | uint64](r *wire.Reader, x, lo, hi T) T {
	if x < lo || x > hi {
		corrupt(r)
		return lo
	}
	return x
}

// instantMost bounds times, so that arithmetic with them cannot overflow.
const instantMost = 1 << 40

func getTime(r *wire.Reader) int64 { return bounded(r, r.Int(), -1, instantMost) }

func (d *Detector) getMarks(r *wire.Reader) {
	for range r.Len(1 + int(event.Vantages)) {
		var m mark
		getJSON(r, &m.Marker)
		for v := range m.done {
			m.done[v] = r.Bool()
		}
		if _, known := d.markIDs[m.ID]; known || r.Err != nil || len(d.marks) > 0 && byTime(d.marks[len(d.marks)-1], m) >= 0 {
			corrupt(r)
			return
		}
		d.markIDs[m.ID] = struct{}{}
		d.marks = append(d.marks, m)
	}
}

func (d *Detector) getGroups(r *wire.Reader) {
	for range r.Len(8) {
		g := new(group)
		getJSON(r, &g.inc)
		g.rise = r.Bool()
		g.seq = int(bounded(r, r.Uint(), 1, math.MaxInt32))
		for range r.Len(4) {
			m := member{judge: int(bounded(r, r.Uint(), 0, maxJudges)), uid: r.Uint(), from: strings.Clone(r.String()), started: getTime(r)}
			getJSON(r, &m.scope)
			g.members = append(g.members, m)
			if m.judge >= len(d.judges) {
				corrupt(r)
			}
		}
		g.told.at = getTime(r)
		getJSON(r, &g.told.scope)
		g.told.identities = r.Int()
		g.told.lead, g.told.marker = r.String(), r.String()
		g.trace.get(r)
		if r.Err != nil || len(g.inc.Vantages) == 0 || g.inc.State == incident.Resolved && g.inc.ResolvedAt == nil {
			corrupt(r)
			return
		}
		d.groups = append(d.groups, g)
	}
}

// load reads the judge's blocks.
func (j *judge) load(l loader) error {
	var cells, series, ruled int
	var starts, hours []int64
	err := l.block(j.key("book", 0), j.getBook)
	if err == nil {
		err = l.block(j.key("rest", 0), func(r *wire.Reader) { cells, series, ruled, starts, hours = j.getRest(r) })
	}
	if err == nil {
		err = l.block(j.key("seasons", 0), j.getSeasons)
	}
	for i := 0; err == nil && len(j.cells) < cells; i++ {
		err = l.block(j.key("cells", i), func(r *wire.Reader) { j.getCells(r, cells) })
	}
	for i := 0; err == nil && len(j.series) < series; i++ {
		err = l.block(j.key("series", i), func(r *wire.Reader) { j.getSeries(r, series) })
	}
	for i := 0; err == nil && i <= len(j.cells)/blockSize; i++ {
		if _, ok := l[j.key("rules", i)]; ok {
			err = l.block(j.key("rules", i), j.getRules)
		}
	}
	if err == nil && len(j.ruled) != ruled {
		return fmt.Errorf("%w: a rule of judge %d is missing", ErrState, j.index)
	}
	for i := 0; err == nil && i < shards; i++ {
		err = l.block(j.key("people", i), func(r *wire.Reader) { j.buckets.get(r, i) })
	}
	for i := 0; err == nil && i < len(starts); i++ {
		err = l.block(j.key("past", int(starts[i]/j.step%(2*pastSlots))), func(r *wire.Reader) { j.getPast(r, starts[i]) })
	}
	for i := 0; err == nil && i < len(hours); i++ {
		err = l.block(j.key("hours", j.hourPlace(hours[i])), func(r *wire.Reader) { j.getHour(r, hours[i]) })
	}
	if err != nil {
		return err
	}
	n := len(j.series)
	for i := range j.cells {
		j.link(int32(i))
	}
	if len(j.series) != n {
		return fmt.Errorf("%w: a series of judge %d is missing", ErrState, j.index)
	}
	for i := range j.hot {
		s := j.hot[i].series
		if int(s) >= len(j.series) || j.series[s].hot != 0 {
			return fmt.Errorf("%w: the evidence of judge %d", ErrState, j.index)
		}
		j.series[s].hot = int32(i) + 1
	}
	j.dirtyBook = false
	clear(j.dirtyCells)
	clear(j.dirtySeries)
	clear(j.dirtyRuled)
	return nil
}

func (j *judge) getBook(r *wire.Reader) {
	lists := [...]*names{&j.routeNames, &j.prefixNames, &j.roles, &j.geos, &j.plans, &j.hosts}
	for _, n := range lists {
		for i := range r.Len(1) {
			if id := n.of(r.String()); r.Err != nil || int(id) != i {
				corrupt(r)
				return
			}
		}
	}
	routes, prefixes := j.routeNames.list, j.prefixNames.list
	for i := range routes {
		p, known := j.prefixNames.id[prefixOf(routes[i])]
		if !known || int(p) > len(j.prefixes) {
			corrupt(r)
			return
		}
		if int(p) == len(j.prefixes) {
			j.prefixes = append(j.prefixes, prefixInfo{only: int32(i)})
		}
		j.prefixes[p].routes++
		j.routes = append(j.routes, routeInfo{prefix: p, cells: -1, first: getTime(r), heir: int32(bounded(r, r.Uint(), 0, uint64(len(routes))))})
	}
	if len(prefixes) != len(j.prefixes) {
		corrupt(r)
		return
	}
	for i := range j.routes {
		if h := j.routes[i].heir; h > 0 {
			j.routes[h-1].inherits = true
		}
	}
	for i := range prefixes {
		j.prefixes[i].first = getTime(r)
	}
}

func (j *judge) getCells(r *wire.Reader, total int) {
	n := r.Len(5 + 10*4 + 4 + 8*4 + 3)
	if want := min(blockSize, total-len(j.cells)); n != want {
		corrupt(r)
		return
	}
	j.dirtyCells = append(j.dirtyCells, false)
	for range n {
		var c cell
		for k, id := range [...]*int32{&c.route, &c.role, &c.geo, &c.plan, &c.host} {
			list := [...]*names{&j.routeNames, &j.roles, &j.geos, &j.plans, &j.hosts}[k].list
			*id = int32(bounded(r, r.Uint(), 0, uint64(len(list))))
			if int(*id) >= len(list) {
				corrupt(r)
			}
		}
		c.Cell.Get(r)
		for _, x := range [...]*float32{&c.in, &c.new, &c.x5, &c.n5, &c.m5, &c.x40, &c.n40, &c.m40} {
			*x = baseline.GetFloat(r)
		}
		c.last = uint32(bounded(r, r.Uint(), 0, math.MaxUint32))
		c.mask = uint16(bounded(r, r.Uint(), 0, math.MaxUint16))
		c.season = uint16(bounded(r, r.Uint(), 0, maxSeasons))
		key := cellKey{c.route, c.role, c.geo, c.plan, c.host}
		if r.Err != nil || j.cellOfKey(key) >= 0 || int(c.season) >= len(j.seasons) {
			corrupt(r)
			return
		}
		id := int32(len(j.cells))
		c.next = j.routes[c.route].cells
		j.routes[c.route].cells = id
		j.seasonID[[2]int32{c.role, c.geo}] = c.season
		j.cells = append(roomy(j.cells), c)
		j.numberCell(id)
	}
}

func (j *judge) getScope(r *wire.Reader) scope {
	var s scope
	for k, id := range [...]*int32{&s.prefix, &s.route, &s.role, &s.geo} {
		list := [...]*names{&j.prefixNames, &j.routeNames, &j.roles, &j.geos}[k].list
		*id = int32(bounded(r, r.Uint(), 0, uint64(len(list)))) - 1
	}
	return s
}

func (j *judge) getSeries(r *wire.Reader, total int) {
	n := r.Len(4 + 1 + 16 + 1 + 24)
	if want := min(blockSize, total-len(j.series)); n != want {
		corrupt(r)
		return
	}
	j.dirtySeries = append(j.dirtySeries, false)
	for range n {
		s := series{scope: j.getScope(r)}
		s.level = uint8(bounded(r, r.Uint(), 0, monitored-1))
		for _, x := range [...]*float32{&s.k, &s.n, &s.u, &s.m} {
			*x = baseline.GetFloat(r)
		}
		s.Evidence.Get(r)
		s.Dispersion.Get(r)
		if r.Err != nil || j.seriesOfKey(s.scope.key()) >= 0 {
			corrupt(r)
			return
		}
		j.counts[s.level]++
		j.series = append(roomy(j.series), s)
		j.numberSeries(int32(len(j.series) - 1))
	}
}

func (j *judge) getPast(r *wire.Reader, start int64) {
	p := pastSlot{start: r.Int(), sampled: uint8(bounded(r, r.Uint(), 0, 63)), partial: r.Bool(), estimated: r.Bool()}
	cell := func() int32 {
		id := bounded(r, r.Uint(), 0, uint64(len(j.cells)))
		if id >= uint64(len(j.cells)) {
			corrupt(r)
		}
		return int32(id)
	}
	count := func() uint32 { return uint32(bounded(r, r.Uint(), 0, math.MaxUint32)) }
	for range r.Len(17) {
		t := pastCount{cell: cell(), n: count(), x: count(), denied: count(), nc: baseline.GetFloat(r), xc: baseline.GetFloat(r), yc: baseline.GetFloat(r), explained: r.Bool()}
		if r.Bool() {
			t.valid, t.leaked, t.vc, t.bc, t.lc = count(), count(), baseline.GetFloat(r), baseline.GetFloat(r), baseline.GetFloat(r)
		}
		p.counts = append(p.counts, t)
	}
	for range r.Len(23) {
		h := pastHit{hit: getHit(r, len(j.cells)), known: r.Bool(), explained: r.Bool(), account: r.Word()}
		if r.Bool() {
			h.rule = r.Word()
		}
		p.hits = append(p.hits, h)
	}
	for range r.Len(26) {
		p.leaks = append(p.leaks, pastLeak{cell(), r.Bool(), r.Word(), r.Word(), r.Word()})
	}
	for range r.Len(5) {
		p.splits = append(p.splits, pastSplit{cell(), event.Layer(bounded(r, r.Uint(), 0, uint64(event.Layers)-1)), count(), strings.Clone(r.String()), strings.Clone(r.String())})
	}
	for range r.Len(4) {
		route := bounded(r, r.Uint(), 0, uint64(len(j.routes)))
		if route >= uint64(len(j.routes)) {
			corrupt(r)
		}
		p.flags = append(p.flags, pastFlag{int32(route), strings.Clone(r.String()), count(), count()})
	}
	p.comers = j.getComers(r)
	if p.start != start || r.Err != nil || len(j.past.slots) > 0 && j.past.slots[len(j.past.slots)-1].start >= start {
		corrupt(r)
		return
	}
	j.past.slots = append(j.past.slots, p)
	j.past.counts += len(p.counts)
	j.past.hits += len(p.hits) + len(p.leaks)
}

func (h *hit) put(w *wire.Writer) {
	w.Uint(uint64(h.cell))
	w.Bool(h.named)
	w.Bool(h.counted)
	w.Bool(h.met)
	w.Bool(h.prowls)
	w.Word(h.id)
}

// getHit reads a hit on one of so many cells.
func getHit(r *wire.Reader, cells int) hit {
	h := hit{int32(bounded(r, r.Uint(), 0, uint64(cells))), r.Bool(), r.Bool(), r.Bool(), r.Bool(), r.Word()}
	if int(h.cell) >= cells {
		corrupt(r)
	}
	return h
}

func (j *judge) getRest(r *wire.Reader) (cells, series, ruled int, starts, hours []int64) {
	cells = int(bounded(r, r.Uint(), 0, 4*maxCells))
	series = int(bounded(r, r.Uint(), 0, 4*monitored*maxCells))
	ruled = int(bounded(r, r.Uint(), 0, 4*maxCells))
	step := bounded(r, r.Int(), 0, 24*3600)
	j.born, j.start, j.flushed = getTime(r), getTime(r), getTime(r)
	j.h = baseline.GetFloat(r)
	j.in, j.new = baseline.GetFloat(r), baseline.GetFloat(r)
	for range r.Len(2) {
		h := hot{series: int32(bounded(r, r.Uint(), 0, math.MaxInt32))}
		h.Get(r)
		j.hot = append(j.hot, h)
	}
	j.folded, j.nextUID = r.Uint(), r.Uint()
	for l := range j.levels {
		j.levels[l].Get(r)
	}
	j.clump.Get(r)
	for range r.Len(1) {
		starts = append(starts, getTime(r))
	}
	for range r.Len(1) {
		hours = append(hours, getTime(r))
	}
	for range r.Len(6) {
		var a announcement
		getJSON(r, &a.scope)
		a.dir = getDir(r)
		a.mask = uint16(bounded(r, r.Uint(), 0, math.MaxUint16))
		a.sight, a.ends = getTime(r), getTime(r)
		j.announced = append(j.announced, a)
	}
	for range r.Len(60) {
		f := new(finding)
		f.get(r, j, cells)
		j.findings = append(j.findings, f)
	}
	if step == 0 && (cells > 0 || len(starts)+len(hours) > 0) || len(starts) > pastSlots || len(hours) > hourSlots {
		corrupt(r)
	}
	if r.Err == nil && step > 0 {
		j.setStep(step)
	}
	return cells, series, ruled, starts, hours
}

func getDir(r *wire.Reader) int8 {
	d := r.Int()
	if d != int64(baseline.Up) && d != int64(baseline.Down) {
		corrupt(r)
	}
	return int8(d)
}

// get reads what put wrote of a judge that has that many cells.
func (f *finding) get(r *wire.Reader, j *judge, cells int) {
	f.uid = r.Uint()
	f.mask = uint16(bounded(r, r.Uint(), 0, math.MaxUint16))
	f.scope = j.getScope(r)
	f.dir = getDir(r)
	f.fresh, f.known, f.rules, f.accepted = r.Bool(), r.Bool(), r.Bool(), r.Bool()
	f.flag, f.version = strings.Clone(r.String()), strings.Clone(r.String())
	f.opened, f.started = getTime(r), getTime(r)
	f.began = onset{getTime(r), getTime(r), getTime(r)}
	f.resolved = getTime(r)
	f.awake, f.from = getTime(r), getTime(r)
	f.requests, f.denials = r.Int(), r.Int()
	f.calmSince, f.refused = getTime(r), getTime(r)
	for _, x := range [...]*float64{&f.share, &f.rate, &f.base, &f.wallX, &f.wallN, &f.wallM, &f.expected, &f.calm, &f.over} {
		*x = baseline.GetFloat64(r)
	}
	for _, x := range [...]*float32{&f.calmX, &f.calmN, &f.calmM} {
		*x = baseline.GetFloat(r)
	}
	for _, p := range [...]*people{&f.who, &f.named, &f.used, &f.back, &f.accounts} {
		p.get(r)
	}
	for l := range f.layers {
		f.layers[l] = r.Int()
	}
	for range r.Len(2) {
		f.causes = append(f.causes, causeCount{strings.Clone(r.String()), r.Int()})
	}
	for range r.Len(9) {
		f.rulesBroken = append(f.rulesBroken, ruleCount{r.Word(), r.Int()})
	}
	for range r.Len(3) {
		f.byRule = append(f.byRule, namedRule{strings.Clone(r.String()), strings.Clone(r.String()), r.Int()})
	}
	f.sampled = uint8(bounded(r, r.Uint(), 0, 63))
	f.degraded, f.estimated, f.kept = r.Bool(), r.Bool(), r.Bool()
	f.trace.get(r)
	for range r.Len(18) {
		var x former
		x.get(r, cells)
		f.former = append(f.former, x)
	}
}
