package push

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/ingest/ingesttest"
	"github.com/denywatch/denywatch/ingest/spool"
)

// TestSilence: event time follows the clock between batches for as long as the
// lateness allows, and no longer.
func TestSilence(t *testing.T) {
	cfg := edge(t)
	synctest.Test(t, func(t *testing.T) {
		src, h := New(cfg, slog.New(slog.DiscardHandler)), ingesttest.New(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- src.Run(ctx, h) }()
		synctest.Wait()
		send := func(line string) {
			t.Helper()
			src.hear()
			if _, err := src.spool.Load().Append(ctx, &spool.Batch{Body: [][]byte{[]byte(line + "\n")}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		expect := func(after time.Duration, state, why string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if s, w := h.State(); s != state || !strings.Contains(w, why) {
				t.Errorf("%s %q, want %s %q", s, w, state, why)
			}
		}
		expect(time.Hour, "", "") // nothing was ever sent: nothing is held back
		send("a")
		expect(settle-time.Second, ingesttest.Reading, "")
		expect(2*time.Second, ingesttest.CaughtUp, "")
		send("b")
		expect(0, ingesttest.Reading, "")
		expect(50*time.Second, ingesttest.CaughtUp, "")
		expect(11*time.Second, ingesttest.Unknown, "nothing was pushed since 2000-01-01T01:00:06Z")
		expect(time.Hour, ingesttest.Unknown, "nothing was pushed since 2000-01-01T01:00:06Z")
		src.hear() // an empty body: the sender lives
		expect(10*time.Second, ingesttest.CaughtUp, "")
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		// After a restart nobody knows what was sent meanwhile.
		src = New(cfg, slog.New(slog.DiscardHandler))
		ctx, stop = context.WithCancel(t.Context())
		go func() { done <- src.Run(ctx, h) }()
		expect(time.Second, ingesttest.Unknown, "since the start")
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
