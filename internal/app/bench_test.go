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

// bigLog writes a combined log and returns its path and number of lines.
func bigLog(tb testing.TB, size int64) (string, int64) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "access.log")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	lines, err := sim.WriteCombined(w, size, 1, 1000)
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
		Files: files, Format: "nginx", JSON: true, Stdout: io.Discard, Stderr: io.Discard, Log: quiet,
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkReplay is the whole pipeline, detection included, on a combined log;
// .ci/bench compares it with grep.
func BenchmarkReplay(b *testing.B) {
	path, lines := bigLog(b, 200<<20)
	b.SetBytes(200 << 20)
	b.ReportAllocs()
	for b.Loop() {
		replay(b, path)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
}

// TestReplayAllocations holds the budget of 0.02 allocations a line in steady
// state: what a log twice as long costs more.
func TestReplayAllocations(t *testing.T) {
	mallocs := func(path string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		replay(t, path)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	short, shortLines := bigLog(t, 64<<20)
	long, longLines := bigLog(t, 128<<20)
	a, b := mallocs(short), mallocs(long)
	per := float64(b-a) / float64(longLines-shortLines)
	t.Logf("%.4f allocations a line", per)
	if per > 0.02 {
		t.Errorf("%.4f allocations a line in steady state, the budget is 0.02", per)
	}
}
