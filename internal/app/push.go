package app

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/ingest/push"
	"github.com/denywatch/denywatch/ingest/spool"
	"github.com/denywatch/denywatch/ingest/syslog"
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
	if p.listener != nil || !isPushed(cfg) {
		return nil
	}
	ln, err := cfg.Push.Open(ctx, log)
	if err != nil {
		return err
	}
	p.listener = ln
	return nil
}

// isPushed tells whether a source of cfg is pushed to.
func isPushed(cfg *configs.Config) bool {
	return slices.ContainsFunc(cfg.Sources, func(s configs.Source) bool { return s.Push.Named() })
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

// spoolOf is the folder of a source's spool.
func spoolOf(cfg *configs.Config, source string) string {
	return filepath.Join(cfg.State, spoolFolder, source)
}

// orphans tells of spools whose source is not configured: what was acknowledged is
// not counted.
func orphans(cfg *configs.Config, log *slog.Logger) {
	dirs, err := spool.Unread(filepath.Join(cfg.State, spoolFolder))
	if err != nil {
		log.Warn("the spools of earlier runs cannot be looked at", "error", err)
	}
	for _, name := range dirs {
		if !slices.ContainsFunc(cfg.Sources, func(s configs.Source) bool { return s.Name == name && (s.Push.Named() || s.Syslog.Named()) }) {
			log.Warn("a source that was pushed to is not configured any more, and what waits in its spool is not counted: configure it again, or delete the folder", "folder", spoolOf(cfg, name))
		}
	}
}

// spools are the sources that keep what they are told in a spool, by name.
type spools struct {
	pushed map[string]*push.Source
	syslog map[string]*syslog.Source
}

func newSpools() spools {
	return spools{pushed: map[string]*push.Source{}, syslog: map[string]*syslog.Source{}}
}

// clone returns a copy for readers that do not hold the lock.
func (s *spools) clone() spools { return spools{maps.Clone(s.pushed), maps.Clone(s.syslog)} }

// has tells whether it has that source.
func (s *spools) has(source string) bool { return s.pushed[source] != nil || s.syslog[source] != nil }

// status adds to x what the API shows of such a source.
func (s *spools) status(x *web.SourceStatus) {
	var sp spool.Stats
	switch p, l := s.pushed[x.Name], s.syslog[x.Name]; {
	case p != nil:
		st := p.Stats()
		x.Push = &web.PushStatus{Batches: st.Batches, Duplicates: st.Spool.Known, Rejected: happened(st.Rejected), LastBatch: st.Heard.UTC()}
		sp = st.Spool
	case l != nil:
		st := l.Stats()
		x.Syslog = &web.SyslogStatus{Messages: st.Messages, Dropped: happened(st.Dropped), Connections: st.Connections}
		sp = st.Spool
	default:
		return
	}
	x.Spool = &web.SpoolStatus{Bytes: sp.Bytes, UnreadBytes: sp.Unread, MaxBytes: sp.Most, Damaged: sp.Damaged}
	if sp.Trouble != "" && x.Trouble == "" {
		x.Trouble = "its spool cannot be written, and senders are told to try again; free space or mend the permissions of state: " + sp.Trouble
	}
}

// happened leaves out what did not.
func happened(counts map[string]uint64) map[string]uint64 {
	maps.DeleteFunc(counts, func(_ string, n uint64) bool { return n == 0 })
	return counts
}

// spools brings up to date what is known of the sources that have spools.
func (m *meters) spools(s spools, unauthorized uint64) {
	if len(s.pushed) > 0 {
		m.count(unauthorized, "push_unauthorized_total")
	}
	for source, p := range s.pushed {
		st := p.Stats()
		m.count(st.Batches, "push_batches_total", "source", source)
		m.count(st.Lines, "push_lines_total", "source", source)
		m.count(st.Bytes, "push_bytes_total", "source", source)
		m.count(st.Sent, "push_sent_bytes_total", "source", source)
		m.count(st.Spool.Known, "push_duplicates_total", "source", source)
		for reason, n := range st.Rejected {
			m.count(n, "push_rejected_total", "source", source, "reason", reason)
		}
		m.spool(source, st.Spool)
	}
	for source, l := range s.syslog {
		st := l.Stats()
		m.count(st.Messages, "syslog_messages_total", "source", source)
		m.count(st.Bytes, "syslog_bytes_total", "source", source)
		m.gauge(float64(st.Connections), "syslog_connections", "source", source)
		m.count(st.Refused, "syslog_refused_connections_total", "source", source)
		for reason, n := range st.Dropped {
			m.count(n, "syslog_dropped_total", "source", source, "reason", reason)
		}
		m.spool(source, st.Spool)
	}
}

func (m *meters) spool(source string, st spool.Stats) {
	m.count(st.Syncs, "spool_syncs_total", "source", source)
	m.gauge(float64(st.Bytes), "spool_bytes", "source", source)
	m.gauge(float64(st.Unread), "spool_unread_bytes", "source", source)
	m.gauge(float64(st.Most), "spool_max_bytes", "source", source)
	m.count(st.Damaged, "spool_damaged_batches_total", "source", source)
}
