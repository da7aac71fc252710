package app_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/sim"
)

var quiet = slog.New(slog.DiscardHandler)

// bigLog writes a log and returns its path and number of lines.
func bigLog(tb testing.TB, format sim.Bulk, size int64) (string, int64) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "access.log")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	lines, err := sim.WriteBulk(w, format, size, 1, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return path, lines
}

func replay(tb testing.TB, files ...string) {
	tb.Helper()
	_, err := app.Replay(context.Background(), app.ReplayOptions{
		Files: files, JSON: true, Stdout: io.Discard, Stderr: io.Discard, Log: quiet,
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkReplay is the whole pipeline, detection included; .ci/bench compares
// it with grep.
func BenchmarkReplay(b *testing.B) {
	for _, format := range []sim.Bulk{sim.BulkCombined, sim.BulkAppJSON, sim.BulkCloudflare} {
		b.Run(string(format), func(b *testing.B) {
			path, lines := bigLog(b, format, 200<<20)
			b.SetBytes(200 << 20)
			b.ReportAllocs()
			for b.Loop() {
				replay(b, path)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
		})
	}
}

// TestReplayAllocations holds the budget of 0.02 allocations a line in steady
// state: what a log twice as long costs more, once most leaves have been seen.
func TestReplayAllocations(t *testing.T) {
	if raceOn {
		t.Skip("with the race detector pools drop at random what they hold; make test runs this once more without it")
	}
	mallocs := func(path string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		replay(t, path)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	for format, size := range map[sim.Bulk]int64{sim.BulkCombined: 64 << 20, sim.BulkAppJSON: 128 << 20} {
		short, shortLines := bigLog(t, format, size)
		long, longLines := bigLog(t, format, 2*size)
		mallocs(short) // what is made once in a process
		a, b := mallocs(short), mallocs(long)
		per := (float64(b) - float64(a)) / float64(longLines-shortLines)
		t.Logf("%s: %.4f allocations a line", format, per)
		if per > 0.02 {
			t.Errorf("%s: %.4f allocations a line in steady state, the budget is 0.02", format, per)
		}
	}
}
