package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/ingest/push"
	"github.com/denywatch/denywatch/ingest/spool"
	"github.com/denywatch/denywatch/internal/web"
)

// spoolFolder is the folder of the state that holds the spools, one a source.
const spoolFolder = "spool"

// pushing is what hears senders. Its listener is opened when the first source is
// pushed to, and then stays.
type pushing struct {
	server   *push.Server
	listener net.Listener // nil: nobody is heard
	group    *group       // nil: it does not run
	failed   chan error
}

// hear opens the listener if a source of cfg needs it and it is not open yet.
func (p *pushing) hear(ctx context.Context, cfg *configs.Config, log *slog.Logger) error {
	if p.listener != nil || !slices.ContainsFunc(cfg.Sources, func(s configs.Source) bool { return s.Push.Named() }) {
		return nil
	}
	ln, err := cfg.Push.Open(ctx, log)
	if err != nil {
		return err
	}
	p.listener = ln
	return nil
}

// start begins to answer senders, if anybody is heard.
func (p *pushing) start(ctx context.Context, log *slog.Logger) {
	if p.listener == nil || p.group != nil {
		return
	}
	g, ctx := newGroup(ctx)
	p.group = g
	g.start(func() {
		if err := p.server.Serve(ctx, p.listener); err != nil {
			p.failed <- err
		}
	})
	log.Info("logs may be pushed", "listen", p.listener.Addr().String())
}

// stop ends it. Batches that were acknowledged are on the disk.
func (p *pushing) stop() {
	if p.group != nil {
		p.group.stop()
	}
}

// close closes a listener that was never served.
func (p *pushing) close() {
	if p.listener != nil && p.group == nil {
		_ = p.listener.Close()
	}
}

// pushed makes the source that is pushed to.
func pushed(cfg *configs.Config, s *configs.Source, log *slog.Logger) *push.Source {
	c := s.Take()
	c.Dir = filepath.Join(cfg.State, spoolFolder, s.Name)
	return push.New(c, log)
}

// orphans tells of spools whose source is not configured: what was acknowledged is
// not counted.
func orphans(cfg *configs.Config, log *slog.Logger) {
	dirs, err := spool.Unread(filepath.Join(cfg.State, spoolFolder))
	if err != nil {
		log.Warn("the spools of pushed logs cannot be looked at", "error", err)
	}
	for _, name := range dirs {
		if !slices.ContainsFunc(cfg.Sources, func(s configs.Source) bool { return s.Name == name && s.Push.Named() }) {
			log.Warn(fmt.Sprintf("logs were pushed to a source that is not configured any more, and are not counted: configure it again, or delete the folder %s", filepath.Join(cfg.State, spoolFolder, name)))
		}
	}
}

// pushStatus is what the API shows of a source that is pushed to.
func pushStatus(st push.Stats) *web.PushStatus {
	return &web.PushStatus{
		Batches: st.Batches, Duplicates: st.Spool.Known, Rejected: st.Rejected,
		SpoolBytes: st.Spool.Bytes, UnreadBytes: st.Spool.Unread, LastBatch: st.Heard.UTC(),
	}
}

// pushes brings up to date what is known of the sources that are pushed to.
func (m *meters) pushes(pushed map[string]*push.Source, unauthorized uint64) {
	if len(pushed) > 0 {
		m.count(unauthorized, "push_unauthorized_total")
	}
	for source, p := range pushed {
		st := p.Stats()
		m.count(st.Batches, "push_batches_total", "source", source)
		m.count(st.Lines, "push_lines_total", "source", source)
		m.count(st.Bytes, "push_bytes_total", "source", source)
		m.count(st.Sent, "push_sent_bytes_total", "source", source)
		m.count(st.Spool.Known, "push_duplicates_total", "source", source)
		for reason, n := range st.Rejected {
			m.count(n, "push_rejected_total", "source", source, "reason", reason)
		}
		m.gauge(float64(st.Spool.Bytes), "spool_bytes", "source", source)
		m.gauge(float64(st.Spool.Unread), "spool_unread_bytes", "source", source)
		m.count(st.Spool.Damaged, "spool_damaged_batches_total", "source", source)
	}
}
