package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/denywatch/denywatch/ingest"
)

// supervise runs a source until ctx ends, again after a pause whenever it gives
// up.
func supervise(ctx context.Context, name string, src ingest.Source, host ingest.Host, log *slog.Logger) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, time.Minute
	for {
		started := time.Now()
		err := src.Run(ctx, host)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > pause.MaxInterval {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		log.Error("source stopped; it is started again", "source", name, "after", wait.Round(time.Millisecond), "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// group runs goroutines that are stopped together.
type group struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newGroup returns a group whose goroutines get the context that comes with it.
func newGroup(ctx context.Context) (*group, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &group{cancel: cancel}, ctx
}

func (g *group) start(f func()) { g.wg.Go(f) }

// stop cancels the group's context and waits for its goroutines.
func (g *group) stop() {
	g.cancel()
	g.wg.Wait()
}
