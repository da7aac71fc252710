package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/web"
)

// snapshot is what the core shows of itself without being asked; it is never
// changed after it was published.
type snapshot struct {
	now       time.Time // of the core's clock
	sources   []slots.Source
	streams   map[string][]streamStatus // by source
	waiting   []string                  // sources that have not opened their streams yet
	detector  detector.Stats
	openSlots int
	watermark map[event.Vantage]time.Time
	cuts      uint64
	cutTook   time.Duration
	lastCut   time.Time // the last that was durable
	cutErr    error
}

// publishEvery is how old a snapshot may be.
const publishEvery = 500 * time.Millisecond

// setBack is how far event time must be ahead of the clock for the clock to have
// been set back: lines of hosts whose clocks are ahead move it on by five minutes
// at most.
const setBack = 5*time.Minute + leap

// publish makes a snapshot for readers on other goroutines.
func (c *core) publish() {
	if time.Since(c.published) < publishEvery {
		return
	}
	c.published = time.Now()
	s := &snapshot{
		now: time.Unix(0, c.now()).UTC(), sources: c.ledger.Sources(), streams: map[string][]streamStatus{},
		waiting: slices.Sorted(maps.Keys(c.waiting)), detector: c.det.Stats(), openSlots: c.ledger.OpenSlots(),
		watermark: map[event.Vantage]time.Time{},
		cuts:      c.cuts, cutTook: c.cutTook, lastCut: c.goodCut, cutErr: c.cutErr,
	}
	for _, st := range c.streams {
		s.streams[st.Source] = append(s.streams[st.Source], *st)
	}
	for v := range event.Vantages {
		if w := c.ledger.Watermark(v); w > 0 {
			s.watermark[v] = time.Unix(0, w).UTC()
		}
	}
	c.snap.Store(s)
}

// lag is how far behind the wall clock a source is: that of its furthest stream
// that has unread lines, zero when all are caught up.
func (s *snapshot) lag(source string) time.Duration {
	var worst time.Duration
	for _, st := range s.streams[source] {
		if st.State == tally.CaughtUp || st.Newest == event.NoTime {
			continue
		}
		worst = max(worst, s.now.Sub(time.Unix(0, st.Newest)))
	}
	return worst
}

func (s *snapshot) trouble(source string) string {
	for _, st := range s.streams[source] {
		if st.State == tally.Unknown && st.Trouble != "" {
			return st.Trouble
		}
	}
	return ""
}

// backend is the daemon as the HTTP API sees it.
type backend struct{ d *Daemon }

// Incidents implements web.Backend.
func (b backend) Incidents(ctx context.Context) (out []incident.Incident, err error) {
	err = b.d.core.post(ctx, func() { out = openFirst(b.d.core.incidents()) })
	return out, err
}

// Timeline implements web.Backend.
func (b backend) Timeline(ctx context.Context, id string) (out []incident.Transition, err error) {
	err = b.d.core.post(ctx, func() { out = slices.Clone(b.d.core.timelines[id]) })
	if err == nil && out == nil {
		err = web.ErrNotFound
	}
	return out, err
}

// Trace implements web.Backend.
func (b backend) Trace(ctx context.Context, id string) (t incident.Trace, err error) {
	known := false
	err = b.d.core.post(ctx, func() {
		if t, known = b.d.core.det.Trace(id); known {
			b.d.core.desk.Decorate(&t.Incident)
		}
	})
	if err == nil && !known {
		err = web.ErrNotFound
	}
	return t, err
}

// Markers implements web.Backend.
func (b backend) Markers(ctx context.Context) (out []marker.Marker, err error) {
	err = b.d.core.post(ctx, func() { out = b.d.core.det.Markers() })
	return out, err
}

// Mark implements web.Backend.
func (b backend) Mark(ctx context.Context, m marker.Marker) (web.Marked, error) {
	var out web.Marked
	var failed error
	err := b.d.core.post(ctx, func() {
		c := b.d.core
		out.ProbationUntil = m.Time.Add(detector.Probation)
		var k marker.Marker
		if k, out.Known = c.marker(m.ID); out.Known && !marker.Same(k, m) {
			failed = web.ErrConflict
			return
		}
		if !out.Known {
			c.mark(m)
		}
		// A known marker may not be durable yet either.
		if c.dirty {
			failed = c.cut()
		}
	})
	if err == nil {
		err = failed
	}
	return out, err
}

// Verdict implements web.Backend.
func (b backend) Verdict(ctx context.Context, id string) (v marker.Verdict, err error) {
	known := false
	err = b.d.core.post(ctx, func() {
		c := b.d.core
		if v, known = c.det.Verdict(id); !known {
			return
		}
		for _, src := range c.ledger.Sources() {
			if src.Suspended != 0 {
				v.Suspended = append(v.Suspended, src.Name)
			}
		}
	})
	if err == nil && !known {
		err = web.ErrNotFound
	}
	return v, err
}

// Scans implements web.Backend.
func (b backend) Scans(ctx context.Context) (out []incident.Scan, err error) {
	err = b.d.core.post(ctx, func() { out = b.d.core.det.Scans() })
	return out, err
}

// Access implements web.Backend.
func (b backend) Access(ctx context.Context) ([]web.Door, error) {
	var doors []detector.Door
	if err := b.d.core.post(ctx, func() { doors = b.d.core.det.Doors() }); err != nil {
		return nil, err
	}
	out := make([]web.Door, len(doors))
	for i, d := range doors {
		out[i] = web.Door{Vantage: d.Vantage, Service: d.Service, Route: d.Route, Role: d.Role, State: string(d.State),
			Requests: d.Requests, Refused: d.Refused, Low: d.Low, High: d.High, Valid: d.Valid, Broken: d.Broken, Leaked: d.Leaked}
	}
	return out, nil
}

// Routes implements web.Backend.
func (b backend) Routes(ctx context.Context) ([]web.RouteCount, error) {
	var totals []slots.Total
	if err := b.d.core.post(ctx, func() { totals = b.d.core.ledger.Totals() }); err != nil {
		return nil, err
	}
	var out []web.RouteCount
	for _, t := range totals {
		for st, n := range t.Status {
			if n > 0 {
				out = append(out, web.RouteCount{Vantage: t.Vantage.String(), Service: t.Service, Route: t.Route, Status: tally.Status(st).String(), Count: n})
			}
		}
	}
	return out, nil
}

// Status implements web.Backend.
func (b backend) Status(context.Context) (web.Status, error) {
	d := b.d
	st := web.Status{Ready: true, Problems: []string{}, Version: d.opt.Version, Since: d.core.born}
	s := d.core.snap.Load()
	if s == nil {
		st.Ready = false
		st.Problems = append(st.Problems, "starting")
		return st, nil
	}
	st.LastCut = s.lastCut
	bad := func(ready bool, f string, a ...any) {
		st.Ready = st.Ready && ready
		st.Problems = append(st.Problems, fmt.Sprintf(f, a...))
	}
	switch {
	case s.cutErr != nil && d.peers != nil:
		bad(false, "the state cannot be made durable: %v; counting goes on meanwhile, notifications wait", s.cutErr)
	case s.cutErr != nil:
		bad(false, "state cannot be written: %v; free space or mend the folder's permissions, counting goes on meanwhile", s.cutErr)
	}
	d.shown.mu.Lock()
	defer d.shown.mu.Unlock()
	for _, name := range s.waiting {
		bad(false, "source %s has not opened its files yet", name)
	}
	counts := map[string]slots.Source{}
	for _, src := range s.sources {
		counts[src.Name] = src
	}
	for _, name := range slices.Sorted(maps.Keys(d.shown.formats)) {
		src := counts[name]
		x := web.SourceStatus{
			Name: name, Vantage: d.shown.vantages[name].String(), Format: d.shown.formats[name], Streams: len(s.streams[name]),
			Lines: src.Lines, Unparsed: src.Unparsed, Skipped: src.Skipped, Reasons: src.Reasons, Late: src.Late, LagSeconds: s.lag(name).Seconds(), Trouble: s.trouble(name),
		}
		if k := d.shown.topics[name]; k != nil && x.Trouble == "" {
			x.Trouble = strings.Join(k.Missing(), "; ")
		}
		d.shown.spools.status(&x)
		if l := d.shown.spools.syslog[name]; l != nil && x.Trouble == "" {
			x.Trouble = l.Stats().Trouble
		}
		if src.Suspended != 0 {
			x.SuspendedSince = time.Unix(src.Suspended, 0).UTC()
		}
		st.Sources = append(st.Sources, x)
		switch {
		case x.Trouble != "":
			// A sender that is silent may well have nothing to say.
			bad(x.Push != nil, "source %s: %s", name, x.Trouble)
		case x.Streams == 0:
			what := "no file matches yet"
			switch {
			case d.shown.spools.has(name):
				what = "nothing was sent to it yet"
			case d.shown.topics[name] != nil:
				what = "no partition is assigned yet: other members of the group have all of them, or no topic matches"
			}
			bad(true, "source %s: %s", name, what)
		case x.Spool != nil && x.Spool.Bytes > x.Spool.MaxBytes/10*9:
			bad(true, "source %s: its spool is full or nearly so (%d of %d bytes), and senders are told to try again: counting does not follow, or the bound is too low", name, x.Spool.Bytes, x.Spool.MaxBytes)
		case src.Suspended != 0:
			bad(true, "source %s: judging is suspended since %s: %s", name, x.SuspendedSince.Format(time.RFC3339), blindness(&src))
		case src.Lines >= 100 && src.Folded*10 > src.Lines:
			bad(true, "source %s: its routes, roles, countries or others are too many to keep apart; %d names counted as _other so far (name its routes: in the configuration, or leave out a dimension)", name, src.Folded)
		case src.Lines >= 100 && src.Unparsed*2 > src.Lines:
			bad(true, "source %s: %d of %d lines are not understood; %s", name, src.Unparsed, src.Lines, remedy(&src))
		}
	}
	for _, trouble := range d.markerTrouble() {
		bad(true, "markers: %s", trouble)
	}
	for v := range event.Vantages {
		if w, ok := s.watermark[v]; ok && w.Sub(s.now) > setBack {
			bad(true, "the clock was set back, and event time of vantage %s has reached %s: until then lines count as late and are not judged", v, w.Format(time.RFC3339))
		}
	}
	for _, h := range d.shown.outbox.Health() {
		st.Sinks = append(st.Sinks, web.SinkStatus{Name: h.Sink, State: string(h.State), Waiting: h.Depth, Dead: h.Dead, Trouble: h.LastError})
		if h.LastError != "" {
			bad(true, "sink %s is %s, %d notifications wait: %s", h.Sink, h.State, h.Depth, h.LastError)
		}
	}
	if n := d.shown.outbox.Dead(); n > 0 {
		bad(true, "%s; denywatch dead-letters shows them, and sends them again", count(n, "notification was given up", "notifications were given up"))
	}
	for _, t := range d.clicks.troubles() {
		bad(true, "%s", t)
	}
	d.clustered(&st)
	slices.SortFunc(st.Sinks, func(a, b web.SinkStatus) int { return cmp.Compare(a.Name, b.Name) })
	return st, nil
}

// WriteMetrics implements web.Backend.
func (b backend) WriteMetrics(w io.Writer) {
	d := b.d
	d.shown.mu.Lock()
	health := d.shown.outbox.Health()
	names := slices.Sorted(maps.Keys(d.shown.formats))
	topics, spools := maps.Clone(d.shown.topics), d.shown.spools.clone()
	d.shown.mu.Unlock()
	if d.peers != nil {
		d.meters.cluster(d.peers.Status(), d.lead.Holds())
	}
	d.meters.partitions(topics)
	d.meters.spools(spools, d.push.server.Unauthorized())
	d.meters.write(w, d.core.snap.Load(), names, health, d.store.Size())
}
