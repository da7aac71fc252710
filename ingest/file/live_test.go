//go:build unix

package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denywatch/denywatch/ingest"
)

// lagHost measures how old lines are when they are delivered.
type lagHost struct {
	stop  context.CancelFunc
	want  int64
	epoch time.Time
	lines atomic.Int64
	calls int
	worst time.Duration
}

func (h *lagHost) Open(context.Context, string) (ingest.Handler, ingest.Position, error) {
	return h, ingest.Position{}, nil
}
func (h *lagHost) Saved() []string { return nil }
func (h *lagHost) Ready()          {}
func (h *lagHost) Durable(string) (ingest.Position, bool) {
	return ingest.Position{}, false
}

func (h *lagHost) Batch(_ context.Context, b *ingest.Batch) error {
	if len(b.Data) == 0 {
		return nil
	}
	h.calls++
	var at int64 // the first line is the oldest
	for _, c := range b.Data[:16] {
		at = at*10 + int64(c-'0')
	}
	h.worst = max(h.worst, time.Since(h.epoch)-time.Duration(at))
	if h.lines.Add(int64(bytes.Count(b.Data, []byte("\n")))) >= h.want {
		h.stop()
	}
	return nil
}
func (h *lagHost) CaughtUp(context.Context) error    { return nil }
func (h *lagHost) Unknown(error)                     {}
func (h *lagHost) Close(context.Context, bool) error { return nil }
func (h *lagHost) Leave(context.Context) error       { return nil }

// BenchmarkLive follows a file that is written at a fixed rate, lines of 254
// bytes, and reports the age of the oldest line delivered and the CPU time of
// writer and reader together. Run it with -cpu 1 for one core.
func BenchmarkLive(b *testing.B) {
	for _, rate := range []int{10_000, 30_000, 100_000, 200_000} {
		for _, poll := range []bool{false, true} {
			b.Run(fmt.Sprintf("rate=%d/poll=%v", rate, poll), func(b *testing.B) {
				path := filepath.Join(b.TempDir(), "a.log")
				f, err := os.Create(path)
				must(b, err)
				defer f.Close()
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				n := max(b.N, rate/10)
				h := &lagHost{stop: cancel, want: int64(n), epoch: time.Now()}
				done := make(chan error, 1)
				go func() { done <- New(Config{Paths: []string{path}, Poll: poll}, quiet()).Run(ctx, h) }()
				tail := bytes.Repeat([]byte("u"), 237)
				var buf []byte
				before := cpu()
				b.ResetTimer()
				h.epoch = time.Now()
				// What the writer itself suffers tells a slow machine from a slow reader.
				var stall time.Duration
				last := h.epoch
				for i := 0; i < n; {
					now := time.Now()
					stall = max(stall, now.Sub(last))
					last = now
					due := min(n, int(time.Since(h.epoch).Seconds()*float64(rate))+1)
					buf = buf[:0]
					for ; i < due; i++ {
						buf = fmt.Appendf(buf, "%016d%s\n", time.Since(h.epoch).Nanoseconds(), tail)
					}
					_, err := f.Write(buf)
					must(b, err)
					time.Sleep(2 * time.Millisecond)
				}
				must(b, <-done)
				b.StopTimer()
				b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(n), "cpu-ns/line")
				b.ReportMetric(float64(h.worst.Milliseconds()), "worst-lag-ms")
				b.ReportMetric(float64(stall.Milliseconds()), "writer-stall-ms")
				b.ReportMetric(float64(n)/float64(max(1, h.calls)), "lines/batch")
			})
		}
	}
}
