package collect

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/denywatch/denywatch/internal/event"
)

// Clock is what the detector tells the streams of event time: how far they may
// read and which slots are closed. It is safe for concurrent use.
type Clock struct {
	// Now is the time in nanoseconds since the epoch that event time follows when
	// nothing is logged; nil in replay.
	Now func() int64
	// Wall is what the host's clock shows, in the same unit, where Now does not
	// follow all its leaps; nil if they are the same.
	Wall func() int64

	horizon atomic.Int64
	closed  [event.Vantages]atomic.Int64

	mu    sync.Mutex
	moved chan struct{} // closed when the horizon moves; nil if nobody waits
}

// NewClock returns a clock at whose start nothing may be read beyond the first
// event of each stream.
func NewClock(now func() int64) *Clock {
	c := &Clock{Now: now}
	c.horizon.Store(math.MinInt64)
	for v := range c.closed {
		c.closed[v].Store(math.MinInt64)
	}
	return c
}

// now is the wall clock, event.NoTime in replay.
func (c *Clock) now() int64 {
	if c.Now == nil {
		return event.NoTime
	}
	return c.Now()
}

// shown is what the host's clock shows; it is not for replay.
func (c *Clock) shown() int64 {
	if c.Wall == nil {
		return c.Now()
	}
	return c.Wall()
}

// Horizon is the event time in nanoseconds beyond which no stream may read.
func (c *Clock) Horizon() int64 { return c.horizon.Load() }

// Move sets the horizon and wakes the streams that wait for it.
func (c *Clock) Move(horizon int64) {
	if c.horizon.Swap(horizon) >= horizon {
		return
	}
	c.mu.Lock()
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
	c.mu.Unlock()
}

// SetClosed tells that a vantage's slots up to the one that starts at start
// (seconds) are closed.
func (c *Clock) SetClosed(v event.Vantage, start int64) { c.closed[v].Store(start) }

// Closed is the start (seconds) of the vantage's newest closed slot, MinInt64 if
// there is none.
func (c *Clock) Closed(v event.Vantage) int64 { return c.closed[v].Load() }

// wait returns when the horizon has reached t, or with ctx's error.
func (c *Clock) wait(ctx context.Context, t int64) error {
	for {
		c.mu.Lock()
		if c.Horizon() >= t {
			c.mu.Unlock()
			return nil
		}
		if c.moved == nil {
			c.moved = make(chan struct{})
		}
		moved := c.moved
		c.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
