package collect

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/tally"
)

// Host opens streams for one source. It implements ingest.Host.
type Host struct {
	config *Config
	clock  *Clock
	out    chan<- *tally.Block

	names *Names

	mu    sync.Mutex
	saved map[string]ingest.Position // by stream
	own   []string                   // streams of this source in earlier runs
	ready bool
}

// Names is who opened which stream, over all hosts of a process. The zero value
// is ready.
type Names struct {
	mu sync.Mutex
	by map[string]string // source by stream
}

// take gives the stream to the source; it returns who has it already, if anybody.
func (n *Names) take(stream, source string) (taken string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.by[stream]; ok {
		return s
	}
	if n.by == nil {
		n.by = map[string]string{}
	}
	n.by[stream] = source
	return ""
}

func (n *Names) give(stream string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.by, stream)
}

// unread is the handler of a stream that another source has: it takes lines and
// does nothing with them.
type unread struct{}

func (unread) Batch(ctx context.Context, _ *ingest.Batch) error { return ctx.Err() }
func (unread) CaughtUp(context.Context) error                   { return nil }
func (unread) Unknown(error)                                    {}
func (unread) Close(context.Context, bool) error                { return nil }
func (unread) Leave(context.Context) error                      { return nil }

// NewHost returns the host of a source. saved holds the positions of all streams
// of earlier runs, own those that were this source's; names is shared by all hosts
// of the process. Blocks go to out until the last stream is closed.
func NewHost(c *Config, saved map[string]ingest.Position, own []string, clock *Clock, names *Names, out chan<- *tally.Block) *Host {
	h := &Host{config: c, clock: clock, names: names, out: out, saved: maps.Clone(saved), own: slices.Sorted(slices.Values(own))}
	if h.saved == nil {
		h.saved = map[string]ingest.Position{}
	}
	return h
}

// Open implements ingest.Host.
func (h *Host) Open(ctx context.Context, name string) (ingest.Handler, ingest.Position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.names.take(name, h.config.Source); other != "" {
		h.config.Log.Error("two sources match the same file; it is counted for the first of them only: take it out of the other's files",
			"stream", name, "first", other, "other", h.config.Source)
		return unread{}, ingest.Position{}, nil
	}
	pos := h.saved[name]
	s := newStream(h.config, name, pos, h.clock, h.out)
	// The detector hears of the stream before it can move event time on.
	if err := s.hand(ctx); err != nil {
		h.names.give(name)
		return nil, ingest.Position{}, err
	}
	return &hosted{Stream: s, host: h}, pos, nil
}

// hosted tells the host when the stream is closed, with the position to go on
// from if it is opened again in this process.
type hosted struct {
	*Stream
	host *Host
}

// Close implements ingest.Handler.
func (s *hosted) Close(ctx context.Context, forget bool) error {
	err := s.Stream.Close(ctx, forget)
	s.over(forget)
	return err
}

// Leave implements ingest.Handler.
func (s *hosted) Leave(ctx context.Context) error {
	err := s.Stream.Leave(ctx)
	s.over(false)
	return err
}

// over lets the stream be opened again.
func (s *hosted) over(forget bool) {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.host.names.give(s.name)
	if forget {
		delete(s.host.saved, s.name)
	} else {
		s.host.saved[s.name] = s.pos
	}
}

// Saved implements ingest.Host.
func (h *Host) Saved() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.own)
}

// Durable implements ingest.Host.
func (h *Host) Durable(stream string) (ingest.Position, bool) {
	if h.config.Durable == nil {
		return ingest.Position{}, false
	}
	return h.config.Durable(stream)
}

// Ready implements ingest.Host.
func (h *Host) Ready() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ready {
		h.ready = true
		h.out <- &tally.Block{Source: h.config.Source, Vantage: h.config.Vantage, Ready: true}
	}
}
