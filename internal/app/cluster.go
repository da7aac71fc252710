package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/replica"
	"github.com/denywatch/denywatch/internal/web"
)

// resignTime bounds how long a member that stops tries to tell the others.
const resignTime = 5 * time.Second

// cluster is this process as a member of a cluster. While it is active, a Daemon made
// of what the state holds does the work; each time a new one, so that nothing is left
// of what an earlier one had in memory.
type cluster struct {
	base  *Daemon // what all of them share, and what answers while this member stands by
	peers *replica.Member
	log   *slog.Logger

	mu  sync.Mutex
	cfg *configs.Config
}

// runMember is Run for a member of a cluster.
func runMember(ctx context.Context, cfg *configs.Config, opt Options, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	d, err := open(ctx, cfg, opt)
	if err != nil {
		return err
	}
	topic := kafka.NewLog(cfg.Cluster.Kafka(), cfg.Cluster.Topic)
	c := &cluster{base: d, cfg: cfg, log: opt.Log.With("component", "cluster", "member", cfg.Cluster.Member())}
	c.peers, err = replica.New(replica.Options{
		Log: topic, Store: d.store, Name: cfg.Cluster.Member(), Key: d.key.Fingerprint(), CountsAlike: c.countsAlike,
		Session: cfg.Cluster.Session, Logger: opt.Log,
	})
	if err != nil {
		return errors.Join(err, d.close())
	}
	d.peers = c.peers
	d.web = web.NewStandby(cfg.API(), standby{d}, opt.Log)
	httpGroup, httpErr := d.serveHTTP(ctx)
	following, followCtx := newGroup(context.WithoutCancel(ctx))
	following.start(func() { c.peers.Run(followCtx) })
	c.log.Info("denywatch stands by", "version", opt.Version, "listen", "http://"+d.opt.Listener.Addr().String(), "state", d.store.Path(), "topic", cfg.Cluster.Topic)
	failed := c.serve(ctx, httpErr, reload, load)
	following.stop()
	topic.Close()
	httpGroup.stop()
	return errors.Join(failed, d.store.Close())
}

// config is the configuration that holds now.
func (c *cluster) config() *configs.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg
}

// configure makes cfg hold from now on.
func (c *cluster) configure(cfg *configs.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg = cfg
}

// countsAlike tells whether the state was counted as the configuration asks for.
func (c *cluster) countsAlike() bool {
	kept, err := c.base.store.Get(bucketMeta, metaCounting)
	return err == nil && (kept == nil || string(kept) == countingHash(c.config()))
}

// serve stands by, and works when this member is active, until ctx ends or something
// fails.
func (c *cluster) serve(ctx context.Context, httpErr <-chan error, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	for {
		select {
		case <-ctx.Done():
			c.log.Info("stopping", "cause", context.Cause(ctx))
			return nil
		case err := <-httpErr:
			return fmt.Errorf("the HTTP API stopped: %w", err)
		case <-reload:
			if err := c.reload(load); err != nil {
				c.base.unchanged(err)
			}
		case lead := <-c.peers.Elected():
			if err := c.work(ctx, lead, httpErr, reload, load); err != nil {
				return err
			}
		}
	}
}

// reload loads the configuration anew while this member stands by.
func (c *cluster) reload(load func() (*configs.Config, error)) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	changes := configs.Diff(c.config(), cfg)
	if later := changes.Having(configs.Restart); len(later) > 0 {
		c.log.Warn("these settings hold after the next restart only", "settings", strings.Join(later, ", "))
	}
	c.configure(cfg)
	c.base.web.Reload(cfg.API())
	c.log.Info("configuration reloaded; it holds when this member takes over", "changes", len(changes))
	return nil
}

// work is what this member does while it is active. It returns an error only if the
// process should end.
func (c *cluster) work(ctx context.Context, lead *replica.Lead, httpErr <-chan error, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	term, end := context.WithCancelCause(ctx)
	watch, _ := newGroup(ctx)
	watch.start(func() {
		select {
		case <-lead.Lost():
			end(replica.ErrSuperseded)
		case <-term.Done():
		}
	})
	err := c.run(term, lead, httpErr, reload, load)
	end(nil)
	watch.stop()
	if errors.Is(context.Cause(term), replica.ErrSuperseded) {
		lead.Close()
		c.log.Info("denywatch stands by again")
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTime)
	defer cancel()
	if failed := lead.Resign(bounded); failed != nil {
		c.log.Warn("the other members could not be told that this one stops; one of them takes over after the session", "error", failed)
	}
	return err
}

// run works until the term ends.
func (c *cluster) run(term context.Context, lead *replica.Lead, httpErr <-chan error, reload <-chan struct{}, load func() (*configs.Config, error)) error {
	b := c.base
	d := &Daemon{opt: b.opt, log: b.log, store: b.store, key: b.key, paced: b.paced, cfg: c.config(), meters: newMeters(), push: b.push, lead: lead, peers: c.peers}
	if err := d.load(d.store); err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return err
	}
	cs, db, err := d.gather()
	if err != nil {
		return err
	}
	d.web = web.New(d.cfg.API(), backend{d}, d.clicks.signed, d.log)
	b.web.Instead(d.web)
	err = d.work(term, cs, db, httpErr, reload, load)
	b.web.Instead(nil)
	c.configure(d.cfg)
	return err
}

// standby is a member that stands by as the HTTP API sees it.
type standby struct{ d *Daemon }

// Active implements web.Standby.
func (s standby) Active() string { return s.d.peers.Status().ActiveName }

// Status implements web.Standby.
func (s standby) Status(context.Context) (web.Status, error) {
	st := web.Status{Ready: true, Version: s.d.opt.Version}
	s.d.clustered(&st)
	return st, nil
}

// WriteMetrics implements web.Standby.
func (s standby) WriteMetrics(w io.Writer) {
	s.d.meters.cluster(s.d.peers.Status(), false)
	s.d.meters.write(w, nil, nil, nil, s.d.store.Size())
}

// clustered adds to st how this member of a cluster is doing, if it is one.
func (d *Daemon) clustered(st *web.Status) {
	if d.peers == nil {
		return
	}
	s := d.peers.Status()
	st.Cluster = &web.ClusterStatus{
		Member: s.Name, Role: string(s.Role), Active: s.ActiveName, Epoch: s.Epoch, Cut: s.Cut, Behind: s.Behind, SilentSeconds: s.Silent.Seconds(),
	}
	bad := func(ready bool, problem string) {
		st.Ready = st.Ready && ready
		st.Problems = append(st.Problems, problem)
	}
	if s.Trouble != "" {
		bad(false, "the state topic cannot be used: "+s.Trouble)
	}
	switch {
	case s.Refusal != "":
		bad(false, s.Refusal)
	case s.Role == replica.Starting && s.Trouble == "":
		bad(false, "starting: the state topic is being read")
	case s.Role == replica.Standby && s.ActiveName == "":
		bad(true, "no member of the cluster is active at the moment")
	}
}

// cluster brings up to date what is known of a cluster; holds tells of the lease of
// the active member.
func (m *meters) cluster(s replica.Status, holds bool) {
	flag := func(metric string, is bool) {
		v := 0.0
		if is {
			v = 1
		}
		m.gauge(v, metric)
	}
	flag("cluster_active", s.Role == replica.Active)
	flag("cluster_lease_held", holds)
	flag("cluster_topic_trouble", s.Trouble != "")
	flag("cluster_takeover_refused", s.Refusal != "")
	m.gauge(float64(s.Epoch), "cluster_epoch")
	m.gauge(float64(s.Cut), "cluster_cut")
	m.gauge(float64(s.Behind), "cluster_behind_records")
	m.gauge(s.Silent.Seconds(), "cluster_silent_seconds")
	m.count(uint64(s.Damaged), "cluster_damaged_records_total")
}
