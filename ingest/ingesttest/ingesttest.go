// Package ingesttest is a host for tests of sources: it keeps what it is told as the
// real one does, lines together with the position behind them. Only tests import it.
package ingesttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/ingest"
)

// What a stream may say of itself last.
const (
	Reading  = "reading"
	CaughtUp = "caught up"
	Unknown  = "unknown"
	Closed   = "closed"
)

// ErrCrash is what Batch returns when a stream is to end in the middle of it.
var ErrCrash = errors.New("test: crash in the middle of a batch")

// Host is an ingest.Host of one stream at a time. It is safe for concurrent use.
type Host struct {
	t testing.TB

	mu      sync.Mutex
	changed chan struct{}
	open    bool
	ready   bool
	saved   map[string]ingest.Position
	lines   []string
	n       int
	skipped int
	state   string
	why     string
	crash   int
	durable bool
	// Drop makes the host count lines and not keep them.
	Drop bool
}

// New returns a host that has seen nothing. What it is given is durable at once.
func New(t testing.TB) *Host {
	return &Host{t: t, changed: make(chan struct{}), saved: map[string]ingest.Position{}, crash: -1, durable: true}
}

// CrashAt makes the stream end before it consumes line n more; negative never.
func (h *Host) CrashAt(n int) { h.change(func() { h.crash = n }) }

// Forgetful makes nothing durable from now on.
func (h *Host) Forgetful() { h.change(func() { h.durable = false }) }

// Lines returns the lines that were consumed.
func (h *Host) Lines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines)
}

// Count returns how many lines were consumed and how many were skipped.
func (h *Host) Count() (lines, skipped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n, h.skipped
}

// State returns what the stream said of itself last, and why.
func (h *Host) State() (state, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.why
}

// IsReady tells whether the source said so.
func (h *Host) IsReady() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

// Await waits until n lines were consumed, for as long as the test may take.
func (h *Host) Await(n int) {
	h.t.Helper()
	over := make(chan struct{})
	if t, ok := h.t.(*testing.T); ok {
		if end, limited := t.Deadline(); limited {
			defer time.AfterFunc(time.Until(end)-5*time.Second, func() { close(over) }).Stop()
		}
	}
	for {
		h.mu.Lock()
		got, changed := h.n, h.changed
		h.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-over:
			h.t.Fatalf("waited for %d lines, got %d", n, got)
		}
	}
}

func (h *Host) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

// Open implements ingest.Host.
func (h *Host) Open(ctx context.Context, stream string) (ingest.Handler, ingest.Position, error) {
	var pos ingest.Position
	h.change(func() {
		if h.open {
			h.t.Errorf("stream %s is opened twice", stream)
		}
		h.open = true
		pos = h.saved[stream]
		h.saved[stream] = pos
	})
	return &handler{host: h, stream: stream}, pos, ctx.Err()
}

// Saved implements ingest.Host.
func (h *Host) Saved() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for s := range h.saved {
		out = append(out, s)
	}
	return out
}

// Durable implements ingest.Host.
func (h *Host) Durable(stream string) (ingest.Position, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.saved[stream]
	return p, ok && h.durable
}

// Ready implements ingest.Host.
func (h *Host) Ready() { h.change(func() { h.ready = true }) }

type handler struct {
	host   *Host
	stream string
}

// Batch implements ingest.Handler.
func (s *handler) Batch(ctx context.Context, b *ingest.Batch) (err error) {
	h := s.host
	h.change(func() {
		h.state, h.why = Reading, ""
		pos := ingest.Position{Offset: b.Start.Offset, Mark: slices.Clone(b.Start.Mark)}
		h.skipped += b.Skipped
		h.saved[s.stream] = pos
		for rest := b.Data; len(rest) > 0; {
			if err = ctx.Err(); err != nil {
				return
			}
			if h.crash == 0 {
				h.crash, err = -1, ErrCrash
				return
			}
			h.crash--
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				h.t.Errorf("a batch ends in the middle of a line: %q", rest)
				return
			}
			h.n++
			if !h.Drop {
				h.lines = append(h.lines, string(rest[:i]))
			}
			rest = rest[i+1:]
			pos.Offset += int64(i + 1)
			h.saved[s.stream] = pos
		}
		h.saved[s.stream] = ingest.Position{Offset: b.End.Offset, Mark: slices.Clone(b.End.Mark)}
	})
	return err
}

// CaughtUp implements ingest.Handler.
func (s *handler) CaughtUp(ctx context.Context) error {
	s.host.change(func() { s.host.state, s.host.why = CaughtUp, "" })
	return ctx.Err()
}

// Unknown implements ingest.Handler.
func (s *handler) Unknown(err error) {
	s.host.change(func() { s.host.state, s.host.why = Unknown, err.Error() })
}

// Close implements ingest.Handler.
func (s *handler) Close(_ context.Context, forget bool) error {
	s.host.change(func() {
		s.host.open = false
		s.host.state = Closed
		if forget {
			delete(s.host.saved, s.stream)
		}
	})
	return nil
}

// Leave implements ingest.Handler.
func (s *handler) Leave(ctx context.Context) error { return s.Close(ctx, false) }
