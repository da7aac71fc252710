// Package app puts the parts together: it builds the stages from a
// configuration, runs them in one process, reloads them and takes them down in
// the order in which data flows, so that nothing is lost. It is what the
// commands call; main only turns flags and signals into its arguments.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/file"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/ingest/push"
	"github.com/denywatch/denywatch/ingest/syslog"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/crash"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/geo"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/replica"
	"github.com/denywatch/denywatch/internal/state"
	"github.com/denywatch/denywatch/internal/web"
)

// Options are what a daemon needs besides its configuration.
type Options struct {
	// Stdout is where the console sink prints; Colour lets it use colours.
	Stdout io.Writer
	Colour bool
	Log    *slog.Logger
	// Now is the wall clock; time.Now if nil. The demo runs on a faster one.
	Now func() time.Time
	// Listener is used instead of the configured address if it is not nil.
	Listener net.Listener
	// PushListener is used instead of the configured one if it is not nil.
	PushListener net.Listener
	// Version is shown by the API.
	Version string
}

// Daemon is a running denywatch.
type Daemon struct {
	opt   Options
	log   *slog.Logger
	store *state.Store
	key   collect.IdentityKey
	core  *core
	paced bool            // Options.Now is not the wall clock
	lead  *replica.Lead   // nil where this is no member of a cluster
	peers *replica.Member // the same

	mu     sync.Mutex // held during a reload and the stop
	cfg    *configs.Config
	hosts  *group // sources
	notify *group // outbox
	web    *web.Server
	clicks clicking
	push   pushing
	meters *meters
	charts charts
	fatal  error // a reload failed half way

	// shown is what readers on other goroutines see of what a reload changes.
	shown struct {
		mu       sync.Mutex
		formats  map[string]string // by source
		vantages map[string]event.Vantage
		outbox   *alerts.Outbox
		topics   map[string]*kafka.Source // by source, those that read Kafka
		markers  *markerTopics            // nil without topics of markers
		spools   spools
	}
}

// Run runs the daemon until ctx ends and everything is stopped and durable.
// reload asks it to load its configuration anew with load.
func Run(ctx context.Context, cfg *configs.Config, opt Options, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	if cfg.Cluster.Named() {
		return runMember(ctx, cfg, opt, reload, load)
	}
	d, err := start(ctx, cfg, opt)
	if err != nil {
		return err
	}
	return d.serve(ctx, reload, load)
}

// start opens the state and builds everything; nothing runs yet.
func start(ctx context.Context, cfg *configs.Config, opt Options) (_ *Daemon, err error) {
	d, err := open(ctx, cfg, opt)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.web = web.New(cfg.API(), backend{d}, d.clicks.signed, opt.Log)
	return d, nil
}

// open opens the listeners and the state, and reads what it holds.
func open(ctx context.Context, cfg *configs.Config, opt Options) (_ *Daemon, err error) {
	d := &Daemon{opt: opt, log: opt.Log, cfg: cfg, meters: newMeters()}
	if d.opt.Now == nil {
		d.opt.Now = time.Now
	} else {
		d.paced = true
	}
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			f()
		}
	}()
	ln := opt.Listener
	if ln == nil {
		if ln, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen: %s: %w (is another denywatch running? set listen: to another address)", cfg.Listen, err)
		}
		d.opt.Listener = ln
	}
	undo = append(undo, func() { _ = ln.Close() })
	d.push = pushing{server: push.NewServer(opt.Log), listener: opt.PushListener, failed: make(chan error, 1)}
	undo = append(undo, d.push.close)
	if err := d.push.hear(ctx, cfg, opt.Log); err != nil {
		return nil, err
	}
	if d.store, err = state.Open(cfg.State, opt.Log.With("component", "state"), d.load); err != nil {
		return nil, err
	}
	undo = append(undo, func() { _ = d.store.Close() })
	if !cfg.Cluster.Named() {
		if err := replica.Forget(d.store); err != nil {
			return nil, err
		}
	}
	if cfg.IdentityKey != "" {
		d.key = collect.SharedIdentityKey(cfg.IdentityKey.Reveal())
	} else if d.key, err = collect.LoadIdentityKey(cfg.State); err != nil {
		return nil, err
	}
	return d, nil
}

// close closes what open has opened and nothing has served yet.
func (d *Daemon) close() error {
	_ = d.opt.Listener.Close()
	d.push.close()
	return d.store.Close()
}

// load makes the core of what a store holds.
func (d *Daemon) load(s *state.Store) error {
	clock := collect.NewClock(nil)
	if d.paced {
		clock.Now = func() int64 { return d.opt.Now().UnixNano() }
	} else {
		clock.Now = newSteady(d.log.With("component", "core")).now
		clock.Wall = func() int64 { return time.Now().UnixNano() }
	}
	d.core = newCore(slots.Config{Step: d.cfg.Slot}, d.cfg.Detection.Judge, clock, d.log.With("component", "core"))
	for _, b := range []string{alerts.BucketOutbox, alerts.BucketSink, alerts.BucketDead} {
		if err := s.View(b, func(string, []byte) error { return nil }); err != nil {
			return err
		}
	}
	return d.core.load(s)
}

// prepare makes the core that was loaded ready to run.
func (d *Daemon) prepare() error {
	if step := time.Duration(d.core.ledger.Step()) * time.Second; step != d.cfg.Slot {
		d.log.Warn("slot: the state counts in slots of another length and goes on so; to change it, move the state away",
			"configured", d.cfg.Slot, "kept", step, "state", d.store.Path())
	}
	d.core.store = d.store
	if err := d.birth(); err != nil {
		return err
	}
	sinks, err := d.notifiers(d.cfg)
	if err != nil {
		return err
	}
	if err := d.newOutbox(sinks, alerts.Site(d.cfg.PublicURL)); err != nil {
		return err
	}
	d.core.route(d.cfg)
	d.clicks.signed = slack.NewClicks(backend{d}, d.log)
	return nil
}

// birth notes when the state began, and a changed configuration as a marker.
func (d *Daemon) birth() error {
	c := d.core
	now := d.opt.Now().UTC()
	if s := c.meta["born"]; s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return fmt.Errorf("%s: birth time: %w", d.store.Path(), err)
		}
		c.born = t
	} else {
		c.born = now
		c.meta["born"] = now.Format(time.RFC3339Nano)
	}
	d.noteConfig(d.cfg, now)
	return nil
}

// noteConfig sets a config marker if cfg counts differently from what the state
// was counted with. It is called on the core's goroutine or before it runs.
func (d *Daemon) noteConfig(cfg *configs.Config, now time.Time) {
	c := d.core
	hash := countingHash(cfg)
	if old := c.meta[metaCounting]; old != "" && old != hash {
		m := marker.Marker{Kind: marker.Config, Time: now, Version: hash[:8]}
		if err := m.Normalise(now); err == nil {
			m.Repeated()
			c.mark(m)
			d.log.Info("the configuration counts differently now: a config marker is set and a new epoch begins", "marker", m.ID)
		}
	}
	c.meta[metaCounting] = hash
	c.dirty = true
}

// newOutbox makes the outbox for the sinks from what the store holds; what they tell
// links to site.
func (d *Daemon) newOutbox(sinks map[string]alerts.Notifier, site alerts.Site) error {
	opt := alerts.Options{Log: d.opt.Log.With("component", "alerts"), Meter: d.meters, Crash: crash.Point, Site: site}
	if d.lead != nil {
		opt.May = d.lead.Holds
	}
	o, err := alerts.New(outboxStore{d.store}, sinks, opt)
	if err != nil {
		return err
	}
	d.shown.mu.Lock()
	d.shown.outbox = o
	d.shown.mu.Unlock()
	d.core.outbox = o
	return nil
}

// geoEvery is how often the country database's file is looked at.
const geoEvery = 10 * time.Second

// startSources opens and follows the configured sources. The core must know the
// sources' names before: it waits until each has opened its streams.
func (d *Daemon) startSources(ctx context.Context, cfg *configs.Config, cs []*collect.Config, db *geo.DB, saved map[string]ingest.Position, own map[string][]string) {
	g, ctx := newGroup(ctx)
	d.hosts = g
	if db != nil {
		g.start(func() {
			tick := time.NewTicker(geoEvery)
			defer tick.Stop()
			db.Watch(ctx, tick.C)
		})
	}
	names := &collect.Names{}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		log := d.opt.Log.With("component", "ingest", "source", s.Name)
		cs[i].Durable = d.core.durable.position
		src := d.source(cfg, s, log)
		host := collect.NewHost(cs[i], saved, own[s.Name], d.core.clock, names, d.core.in)
		g.start(func() { supervise(ctx, s.Name, src, host, log) })
	}
	d.startMarkers(ctx, g, cfg, own)
	d.shown.mu.Lock()
	d.push.server.SetSources(d.shown.spools.clone().pushed)
	d.shown.mu.Unlock()
	orphans(cfg, d.log)
}

// source makes what reads a configured source. All but files are shown in the metrics
// from then on.
func (d *Daemon) source(cfg *configs.Config, s *configs.Source, log *slog.Logger) ingest.Source {
	d.shown.mu.Lock()
	defer d.shown.mu.Unlock()
	switch {
	case s.Kafka.Named():
		c := s.Consume()
		c.Alone = cfg.Cluster.Named() // the only active member
		src := kafka.New(c, log)
		d.shown.topics[s.Name] = src
		return src
	case s.Push.Named():
		c := s.Take()
		c.Dir = spoolOf(cfg, s.Name)
		src := push.New(c, log)
		d.shown.spools.pushed[s.Name] = src
		return src
	case s.Syslog.Named():
		c := s.Hear()
		c.Dir = spoolOf(cfg, s.Name)
		src := syslog.New(c, log)
		d.shown.spools.syslog[s.Name] = src
		return src
	}
	return file.New(s.Follow(), log)
}

// saved returns all positions, and the streams of each source. It runs on the
// core's goroutine or before it runs.
func (c *core) saved() (pos map[string]ingest.Position, own map[string][]string) {
	pos, own = map[string]ingest.Position{}, map[string][]string{}
	for stream, p := range c.positions {
		pos[stream] = p.At
		own[p.Source] = append(own[p.Source], stream)
	}
	return pos, own
}

// adopt makes the core expect the sources of cfg.
func (d *Daemon) adopt(cfg *configs.Config, cs []*collect.Config) {
	d.core.ledger.Configure(slotsConfig(cfg, cs))
	d.core.waiting, d.core.waitingSince = map[string]bool{}, time.Now()
	formats, vantages := map[string]string{}, map[string]event.Vantage{}
	for i := range cfg.Sources {
		name := cfg.Sources[i].Name
		d.core.waiting[name] = true
		formats[name] = cfg.Sources[i].Parse.Format
		vantages[name] = cs[i].Vantage
	}
	d.shown.mu.Lock()
	d.shown.formats, d.shown.vantages = formats, vantages
	d.shown.topics, d.shown.markers = map[string]*kafka.Source{}, nil
	d.shown.spools = newSpools()
	d.shown.mu.Unlock()
}

// serve starts everything and stops it in the order of the data: sources, core,
// outbox, HTTP.
func (d *Daemon) serve(ctx context.Context, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	cs, db, err := d.gather()
	if err != nil {
		return errors.Join(err, d.close())
	}
	httpGroup, httpErr := d.serveHTTP(ctx)
	failed := d.work(ctx, cs, db, httpErr, reload, load)
	httpGroup.stop()
	return errors.Join(failed, d.store.Close())
}

// serveHTTP answers requests until the group is stopped, which is later than ctx
// ends.
func (d *Daemon) serveHTTP(ctx context.Context) (*group, <-chan error) {
	g, ctx := newGroup(context.WithoutCancel(ctx))
	failed := make(chan error, 1)
	g.start(func() { failed <- d.web.Serve(ctx, d.opt.Listener) })
	return g, failed
}

// gather makes what the streams of each source share, and the country database.
func (d *Daemon) gather() ([]*collect.Config, *geo.DB, error) {
	return collectors(d.cfg, d.key, d.core.ledger.Step(), d.opt.Log)
}

// work reads, judges and tells until ctx ends or something fails, and then stops in
// the order of the data: sources, core, outbox.
func (d *Daemon) work(ctx context.Context, cs []*collect.Config, db *geo.DB, httpErr <-chan error, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	d.adopt(d.cfg, cs)
	saved, own := d.core.saved()
	// What stops later must outlive ctx.
	behind := context.WithoutCancel(ctx)
	d.startOutbox(behind)
	d.startClicks(behind, d.cfg)
	coreErr := make(chan error, 1)
	go func() { coreErr <- d.core.run(ctx) }()
	d.startSources(ctx, d.cfg, cs, db, saved, own)
	d.push.start(behind, d.log)
	d.log.Info("denywatch runs", "version", d.opt.Version, "listen", "http://"+d.opt.Listener.Addr().String(), "state", d.store.Path(), "sources", len(d.cfg.Sources))

	var failed error
	for failed == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err := <-httpErr:
			failed = fmt.Errorf("the HTTP API stopped: %w", err)
		case failed = <-d.push.failed:
		case <-reload:
			if err := d.reload(ctx, load); err != nil {
				d.unchanged(err)
				failed = d.fatal
			}
		}
	}
	d.log.Info("stopping", "cause", context.Cause(ctx))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.push.stop()
	d.hosts.stop()
	close(d.core.in)
	cutErr := <-coreErr
	d.clicks.stop()
	d.notify.stop()
	return errors.Join(failed, cutErr)
}

// unchanged logs why a configuration was not taken over.
func (d *Daemon) unchanged(err error) {
	if p, ok := errors.AsType[*configs.Problems](err); ok {
		err = errors.New(p.Text(false, "nothing was changed"))
	}
	d.log.Error("the configuration was not reloaded; everything goes on as before", "error", err)
}

func (d *Daemon) startOutbox(ctx context.Context) {
	g, ctx := newGroup(ctx)
	d.notify = g
	o := d.core.outbox
	g.start(func() {
		if err := o.Run(ctx); err != nil {
			d.log.Error("the outbox stopped", "error", err)
		}
	})
}

// reload loads the configuration anew. All that can fail is done before anything
// is touched; positions, baselines and incidents stay.
func (d *Daemon) reload(ctx context.Context, load func() (*configs.Config, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg, err := load()
	if err != nil {
		return err
	}
	changes := configs.Diff(d.cfg, cfg)
	if len(changes) == 0 {
		d.log.Info("configuration reloaded: nothing changed")
		return nil
	}
	cs, db, err := collectors(cfg, d.key, d.core.ledger.Step(), d.opt.Log)
	if err != nil {
		return err
	}
	sinks, err := d.notifiers(cfg)
	if err != nil {
		return err
	}
	if err := d.push.hear(ctx, cfg, d.opt.Log); err != nil {
		return err
	}
	if later := changes.Having(configs.Restart); len(later) > 0 {
		d.log.Warn("these settings hold after the next restart only", "settings", strings.Join(later, ", "))
	}
	d.hosts.stop()
	d.notify.stop()
	var saved map[string]ingest.Position
	var own map[string][]string
	var outErr error
	if err := d.core.post(ctx, func() {
		// The streams have handed over everything, but the core may not have
		// applied all of it yet.
		for more := true; more; {
			select {
			case b := <-d.core.in:
				d.core.apply(b)
			default:
				more = false
			}
		}
		outErr = d.newOutbox(sinks, alerts.Site(cfg.PublicURL))
		if outErr != nil {
			return
		}
		d.core.route(cfg)
		d.core.det.Configure(cfg.Detection.Judge)
		d.core.ledger.Drop()
		d.core.streams = map[string]*streamStatus{}
		d.adopt(cfg, cs)
		d.noteConfig(cfg, d.opt.Now().UTC())
		saved, own = d.core.saved()
	}); err != nil {
		return nil // the daemon is stopping
	}
	if outErr != nil {
		// Nothing can be told any more, and what was read is durable: starting anew
		// is the way out, not going on half.
		d.fatal = fmt.Errorf("the outbox cannot be read after a reload: %w", outErr)
		return d.fatal
	}
	d.startOutbox(context.WithoutCancel(ctx))
	d.clicks.stop()
	d.startClicks(context.WithoutCancel(ctx), cfg)
	d.web.Reload(cfg.API())
	d.cfg = cfg
	d.startSources(ctx, cfg, cs, db, saved, own)
	d.push.start(context.WithoutCancel(ctx), d.log)
	d.log.Info("configuration reloaded", "changes", len(changes), "effect", changes.Effect())
	return nil
}

// openFirst orders incidents for people: open ones first, then the newest.
func openFirst(in []incident.Incident) []incident.Incident {
	slices.SortStableFunc(in, func(a, b incident.Incident) int {
		if x, y := a.State == incident.Open, b.State == incident.Open; x != y {
			if x {
				return -1
			}
			return 1
		}
		return b.OpenedAt.Compare(a.OpenedAt)
	})
	return in
}
