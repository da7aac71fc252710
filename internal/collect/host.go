package collect

import (
	"context"
	"fmt"
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

	mu    sync.Mutex
	saved map[string]ingest.Position // by stream
	own   []string                   // streams of this source in earlier runs
	open  map[string]bool
	ready bool
}

// NewHost returns the host of a source. saved holds the positions of all streams
// of earlier runs, own names those that were this source's. Blocks go to out
// until the last stream is closed.
func NewHost(c *Config, saved map[string]ingest.Position, own []string, clock *Clock, out chan<- *tally.Block) *Host {
	h := &Host{config: c, clock: clock, out: out, saved: maps.Clone(saved), own: slices.Sorted(slices.Values(own)), open: map[string]bool{}}
	if h.saved == nil {
		h.saved = map[string]ingest.Position{}
	}
	return h
}

// Open implements ingest.Host.
func (h *Host) Open(ctx context.Context, name string) (ingest.Handler, ingest.Position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[name] {
		return nil, ingest.Position{}, fmt.Errorf("stream %s is open already: two patterns of source %s match it", name, h.config.Source)
	}
	pos := h.saved[name]
	s := newStream(h.config, name, pos, h.clock, h.out)
	// The detector hears of the stream before it can move event time on.
	if err := s.hand(ctx); err != nil {
		return nil, ingest.Position{}, err
	}
	h.open[name] = true
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
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	delete(s.host.open, s.name)
	if forget {
		delete(s.host.saved, s.name)
	} else {
		s.host.saved[s.name] = s.pos
	}
	return err
}

// Saved implements ingest.Host.
func (h *Host) Saved() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.own)
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
