package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/sim"
)

// The demo's story, in event time after the moment at which it goes live.
const (
	demoPast     = 3 * 24 * time.Hour // of logs that are there before
	demoSpeed    = 60                 // event time per wall-clock time
	demoRate     = 3                  // requests a second
	demoRelease  = 6 * time.Minute
	demoRollback = 26 * time.Minute
	demoEnd      = 2 * time.Hour
	demoLimit    = 4 * time.Minute // of the wall clock
)

// demoScope is what the release breaks.
var demoScope = sim.Scope{Route: "/projects", Role: "member"}

// DemoOptions say where the demo runs and what it prints.
type DemoOptions struct {
	// Dir holds the demo's logs and state; a temporary folder, removed at the
	// end, if empty.
	Dir    string
	Stdout io.Writer
	Colour bool
	Log    *slog.Logger
}

// Demo backfills three days of logs of a simulated product, follows them live on
// a clock that runs 60 times as fast, lets a release break one role on one route
// and rolls it back. It returns nil when the incident was told and its recovery
// too.
func Demo(ctx context.Context, opt DemoOptions) (err error) {
	dir := opt.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "denywatch-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	live := demoStart(time.Now())
	say := func(format string, a ...any) { fmt.Fprintf(opt.Stdout, format+"\n", a...) }
	say("A product called %q is simulated, with its nginx and application logs in %s.", sim.Service, dir)
	w, err := newDemoWorld(dir, live)
	if err != nil {
		return err
	}
	began := time.Now()
	lines, err := w.backfill()
	if err != nil {
		return err
	}
	say("%s lines of the three days before %s were written in %v.", group3(uint64(lines)), live.Format("Mon 2 Jan 15:04 UTC"), time.Since(began).Round(100*time.Millisecond))

	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:8403")
	if err != nil {
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return err
		}
	}
	cfg, err := demoConfig(dir)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	clock := &scaledClock{zero: live}
	d, err := start(ctx, cfg, Options{Stdout: opt.Stdout, Colour: opt.Colour, Log: opt.Log, Now: clock.now, Listener: ln, Version: "demo"})
	if err != nil {
		return err
	}
	dctx, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- d.serve(dctx, nil, nil) }()
	ended := func() error { stop(); return <-served }

	if err := w.tell(dctx, d, clock, say, "http://"+ln.Addr().String()); err != nil {
		return errors.Join(err, ended())
	}
	return ended()
}

// demoStart is ten o'clock of the newest Tuesday, Wednesday or Thursday that is
// over by now: the demo's people are at work.
func demoStart(now time.Time) time.Time {
	d := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	for d.Weekday() < time.Tuesday || d.Weekday() > time.Thursday {
		d = d.AddDate(0, 0, -1)
	}
	return d.Add(10 * time.Hour)
}

// scaledClock stands still at zero until it is started and then runs demoSpeed
// times as fast as the wall clock.
type scaledClock struct {
	mu      sync.Mutex
	zero    time.Time
	started time.Time
}

func (c *scaledClock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = time.Now()
}

func (c *scaledClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started.IsZero() {
		return c.zero
	}
	return c.zero.Add(demoSpeed * time.Since(c.started))
}

const demoYAML = `service: shop
state: %[1]s/state
listen: 127.0.0.1:8403
sources:
  - name: web
    files: %[1]s/access.log
    format: nginx
    log_format: '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" us="$upstream_status"'
  - name: app
    vantage: app
    files: %[1]s/app.jsonl
    format: json
sinks:
  console: true
`

func demoConfig(dir string) (*configs.Config, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	cfg, _, err := configs.Parse(fmt.Appendf(nil, demoYAML, abs), filepath.Join(abs, "denywatch.yaml"), os.LookupEnv)
	return cfg, err
}

// demoWorld writes the simulated product's logs.
type demoWorld struct {
	live time.Time
	sim  *sim.Sim
	next *sim.Request
	logs [2]*os.File
	buf  [2]*bufio.Writer
	line []byte
}

func newDemoWorld(dir string, live time.Time) (*demoWorld, error) {
	s, err := sim.New(sim.Scenario{
		Seed: 403, Start: live.Add(-demoPast), End: live.Add(demoEnd), Rate: demoRate,
		Incidents: []sim.Incident{{
			Kind: sim.RoleMismatch, Scope: demoScope, Rate: 0.6,
			From: live.Add(demoRelease), To: live.Add(demoRollback),
		}},
	})
	if err != nil {
		return nil, err
	}
	w := &demoWorld{live: live, sim: s}
	for i, name := range []string{"access.log", "app.jsonl"} {
		if w.logs[i], err = os.Create(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		w.buf[i] = bufio.NewWriterSize(w.logs[i], 1<<16)
	}
	return w, nil
}

// writeUntil writes the requests before t.
func (w *demoWorld) writeUntil(t time.Time) (lines int, err error) {
	for {
		if w.next == nil {
			if w.next = w.sim.Next(); w.next == nil {
				break
			}
		}
		if w.next.Time >= t.UnixNano() {
			break
		}
		w.line = sim.AppendNginxUpstream(w.line[:0], w.next)
		if _, err := w.buf[0].Write(w.line); err != nil {
			return lines, err
		}
		lines++
		if w.next.ReachedApp() {
			w.line = sim.AppendAppJSON(w.line[:0], w.next)
			if _, err := w.buf[1].Write(w.line); err != nil {
				return lines, err
			}
			lines++
		}
		w.next = nil
	}
	return lines, errors.Join(w.buf[0].Flush(), w.buf[1].Flush())
}

func (w *demoWorld) backfill() (int, error) { return w.writeUntil(w.live) }

// tell runs the story until the incident has recovered.
func (w *demoWorld) tell(ctx context.Context, d *Daemon, clock *scaledClock, say func(string, ...any), url string) error {
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	b := backend{d}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	wait := func() error {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the demo did not get to its end: %w", ctx.Err())
		case <-tick.C:
			return nil
		}
	}
	began := time.Now()
	for !d.read(w.live) {
		if err := wait(); err != nil {
			return err
		}
	}
	st := d.core.snap.Load()
	say("denywatch has read them in %v and watches %s; from now on a minute takes a second. Its API is at %s", time.Since(began).Round(100*time.Millisecond), count(st.detector.Series, "series", "series"), url)
	say("")
	clock.start()
	cl := &client.Client{BaseURL: url}
	marks := []struct {
		at time.Time
		m  marker.Marker
	}{
		{w.live.Add(demoRelease), marker.Marker{Kind: marker.Release, Service: sim.Service, Version: "v2.31.0", Previous: "v2.30.4"}},
		{w.live.Add(demoRollback), marker.Marker{Kind: marker.Release, Service: sim.Service, Version: "v2.30.4-rollback", Previous: "v2.31.0"}},
	}
	for {
		if err := wait(); err != nil {
			return err
		}
		now := clock.now()
		if _, err := w.writeUntil(now); err != nil {
			return err
		}
		if len(marks) > 0 && !now.Before(marks[0].at) {
			m := marks[0].m
			m.Time = marks[0].at
			if _, err := cl.Mark(ctx, m); err != nil {
				return err
			}
			say("▲ %s  the pipeline announces release %s of %s", m.Time.Format("Mon 2 Jan 15:04"), m.Version, m.Service)
			marks = marks[1:]
		}
		incidents, err := b.Incidents(ctx)
		if err != nil {
			return err
		}
		for _, in := range incidents {
			if in.State == incident.Resolved && in.ResolvedAt.After(w.live.Add(demoRelease)) && d.told() {
				say("")
				say("That was the demo: one release, one role, one route; everyone else was fine. In the real world it took %s to be told.",
					alerts.Span(in.OpenedAt.Sub(w.live.Add(demoRelease))))
				return nil
			}
		}
	}
}

// read reports whether all that was logged before t has been read and judged but
// for the lateness.
func (d *Daemon) read(t time.Time) bool {
	s := d.core.snap.Load()
	if s == nil || len(s.waiting) > 0 {
		return false
	}
	for name := range d.shown.formats {
		if s.lag(name) > 0 || len(s.streams[name]) == 0 {
			return false
		}
	}
	for _, w := range s.watermark {
		if t.Sub(w) > time.Minute {
			return false
		}
	}
	return len(s.watermark) > 0
}

// told reports whether no notification waits.
func (d *Daemon) told() bool {
	d.shown.mu.Lock()
	defer d.shown.mu.Unlock()
	for _, h := range d.shown.outbox.Health() {
		if h.Depth > 0 {
			return false
		}
	}
	return true
}
