package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testHost keeps what it is given as the real one does: lines and the position
// behind them change together.
type testHost struct {
	t  testing.TB
	mu sync.Mutex
	// lines holds every line consumed, without newline, per stream.
	lines     map[string][]string
	positions map[string]ingest.Position
	open      map[string]bool
	opened    []string // in order
	forgotten []string
	closed    int
	ready     bool
	atReady   []string // streams open at Ready
	skipped   int
	unknown   map[string]error // nil entries: recovered
	caughtUp  map[string]int   // calls
	caughtAt  map[string]int   // lines when last caught up
	events    []string         // for tests of order
	// crash, if not nil, is asked before each line is consumed; true ends the run
	// in the middle of the batch.
	crash func() bool
	stop  context.CancelFunc
	// park blocks in Batch while it is not nil.
	park  func(ctx context.Context, stream string)
	keep  bool // keep lines
	trace bool // keep an event per batch
}

func newHost(t testing.TB) *testHost {
	return &testHost{
		t: t, lines: map[string][]string{}, positions: map[string]ingest.Position{}, open: map[string]bool{},
		unknown: map[string]error{}, caughtUp: map[string]int{}, caughtAt: map[string]int{}, keep: true,
	}
}

func (h *testHost) Open(ctx context.Context, stream string) (ingest.Handler, ingest.Position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ingest.Position{}, ctx.Err()
	}
	if h.open[stream] {
		h.t.Errorf("stream %s is opened twice", stream)
	}
	h.open[stream] = true
	h.opened = append(h.opened, stream)
	h.event("open %s", stream)
	pos := h.positions[stream]
	pos.Mark = slices.Clone(pos.Mark)
	if _, ok := h.positions[stream]; !ok {
		h.positions[stream] = pos
	}
	return &testHandler{host: h, stream: stream}, pos, nil
}

func (h *testHost) Saved() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for s := range h.positions {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func (h *testHost) Durable(string) (ingest.Position, bool) { return ingest.Position{}, false }

func (h *testHost) Ready() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = true
	for s := range h.open {
		h.atReady = append(h.atReady, s)
	}
	slices.Sort(h.atReady)
}

func (h *testHost) event(format string, args ...any) {
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *testHost) get(path string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines[streamPrefix+path])
}

func (h *testHost) count(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lines[streamPrefix+path])
}

type testHandler struct {
	host   *testHost
	stream string
	over   bool
}

var errCrash = errors.New("test: crash in the middle of a batch")

func (h *testHandler) check(ctx context.Context, what string) {
	if h.over {
		h.host.t.Errorf("%s of %s after Close", what, h.stream)
	}
	if ctx.Err() != nil && what != "Close" {
		// Allowed only if the context ended after the call began; the source
		// checks just before, so this is never seen in practice but may be.
		h.host.t.Logf("%s of %s raced with the end of its context", what, h.stream)
	}
}

func (h *testHandler) Batch(ctx context.Context, b *ingest.Batch) error {
	host := h.host
	h.check(ctx, "Batch")
	if park := host.park; park != nil {
		park(ctx, h.stream)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	host.mu.Lock()
	defer host.mu.Unlock()
	n := b.End.Offset - b.Start.Offset
	if len(b.Data) > 0 && b.Data[len(b.Data)-1] != '\n' {
		host.t.Errorf("batch of %s does not end in a newline", h.stream)
	}
	if int64(len(b.Data)) != n && int64(len(b.Data)) != n+1 {
		host.t.Errorf("batch of %s holds %d bytes, its positions are %d apart", h.stream, len(b.Data), n)
	}
	if len(b.Data) == 0 && n != 0 {
		host.t.Errorf("empty batch of %s moves by %d", h.stream, n)
	}
	if host.trace {
		id, _ := decodeIdentity(b.End.Mark)
		host.event("batch %d-%d of inode %d (head %d): %.12q", b.Start.Offset, b.End.Offset, id.ino, id.n, b.Data)
	}
	host.skipped += b.Skipped
	delete(host.unknown, h.stream)
	if !host.keep {
		host.positions[h.stream] = b.End
		return nil
	}
	off := int64(0)
	for data := b.Data; len(data) > 0; {
		i := bytes.IndexByte(data, '\n')
		if host.crash != nil && host.crash() {
			host.positions[h.stream] = ingest.Position{Offset: b.Start.Offset + off, Mark: b.Start.Mark}
			host.stop()
			return errCrash
		}
		host.lines[h.stream] = append(host.lines[h.stream], string(data[:i]))
		off += int64(i + 1)
		data = data[i+1:]
	}
	host.positions[h.stream] = b.End
	return nil
}

func (h *testHandler) CaughtUp(ctx context.Context) error {
	h.check(ctx, "CaughtUp")
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	delete(h.host.unknown, h.stream)
	h.host.caughtUp[h.stream]++
	h.host.caughtAt[h.stream] = len(h.host.lines[h.stream])
	return nil
}

func (h *testHandler) Unknown(err error) {
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	h.host.unknown[h.stream] = err
}

func (h *testHandler) Leave(ctx context.Context) error { return h.Close(ctx, false) }

func (h *testHandler) Close(ctx context.Context, forget bool) error {
	h.check(ctx, "Close")
	if ctx.Err() != nil {
		h.host.t.Errorf("Close of %s with a context that is over", h.stream)
	}
	h.over = true
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	h.host.closed++
	delete(h.host.open, h.stream)
	h.host.event("close %s %v", h.stream, forget)
	if forget {
		h.host.forgotten = append(h.host.forgotten, h.stream)
		delete(h.host.positions, h.stream)
	}
	return nil
}

// quick is a configuration for tests: everything happens soon.
func quick(paths ...string) Config {
	return Config{
		Paths: paths, Check: 5 * time.Millisecond, Grace: 60 * time.Millisecond,
		Rescan: 20 * time.Millisecond, Forget: 150 * time.Millisecond,
	}
}

// logged collects log text.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) has(s string) bool { return strings.Contains(l.String(), s) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a source; the function it returns stops it and checks that every
// handler was closed.
func run(t testing.TB, cfg Config, h *testHost, log *slog.Logger) (stop func()) {
	t.Helper()
	if errs := cfg.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h.mu.Lock()
	h.stop = cancel
	h.mu.Unlock()
	go func() { done <- New(cfg, log).Run(ctx, h) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			for s := range h.open {
				t.Errorf("stream %s was not closed", s)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// until waits for cond; only the time limit of the whole test run ends it.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(2 * time.Minute)
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// seen waits until all lines of path were delivered and checks them.
func seen(t testing.TB, h *testHost, path string, want []string) {
	t.Helper()
	until(t, fmt.Sprintf("%d lines of %s (got %d)", len(want), path, h.count(path)), func() bool {
		return h.count(path) >= len(want)
	})
	same(t, h.get(path), want)
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("line %d is %.80q, want %.80q (%d lines, want %d)", i, got[i], want[i], len(got), len(want))
		}
	}
	t.Fatalf("%d lines, want %d", len(got), len(want))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
