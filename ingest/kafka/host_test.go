package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store keeps lines and positions together, as a durable cut does. Several hosts
// may share one.
type store struct {
	t  testing.TB
	mu sync.Mutex
	// changed is closed and made anew whenever anything changes.
	changed   chan struct{}
	positions map[string]ingest.Position
	lines     map[string][]string // by stream
	fields    []string            // of each line, where there are any
	n         int
	skipped   int
	open      map[opened]bool
	caught    map[string]int // lines at the last CaughtUp
	unknown   map[string]string
	told      []string // all that Unknown said
	left      int
	ready     int
	keep      bool // lines, not only their number
	// crash ends the stream before that line is consumed; -1 never.
	crash int
	stop  context.CancelFunc
}

func newStore(t testing.TB) *store {
	return &store{
		t: t, changed: make(chan struct{}), positions: map[string]ingest.Position{}, lines: map[string][]string{}, open: map[opened]bool{},
		caught: map[string]int{}, unknown: map[string]string{}, keep: true, crash: -1,
	}
}

// change runs f and wakes those who wait.
func (s *store) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until ok holds. Only the test's own deadline ends it otherwise.
func (s *store) wait(what string, ok func() bool) {
	s.t.Helper()
	over := make(chan struct{})
	if t, ok := s.t.(*testing.T); ok {
		if end, limited := t.Deadline(); limited {
			defer time.AfterFunc(time.Until(end)-5*time.Second, func() { close(over) }).Stop()
		}
	}
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-over:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("still no %s: %d lines, unknown %v, positions %v", what, s.n, s.unknown, s.positions)
		}
	}
}

func (s *store) waitLines(n int) {
	s.t.Helper()
	s.wait(fmt.Sprintf("%d lines", n), func() bool { return s.n >= n })
}

// exactly fails unless the lines are want, each once and per stream in order.
func (s *store) exactly(want []string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for stream, lines := range s.lines {
		if !slices.IsSorted(lines) {
			s.t.Errorf("lines of %s are out of order", stream)
		}
		got = append(got, lines...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Fatalf("%d lines instead of %d", len(got), len(want))
	}
}

// opened is a stream that a member has open. A member keeps those it had until it
// knows which are its own next, when another may have begun already.
type opened struct {
	member *member
	stream string
}

// member is one process.
type member struct{ _ byte }

// host is a member's view of the store.
type host struct {
	*store
	member *member
}

func (h host) Open(_ context.Context, stream string) (ingest.Handler, ingest.Position, error) {
	var pos ingest.Position
	h.change(func() {
		if h.open[opened{h.member, stream}] {
			h.t.Errorf("stream %s is opened twice", stream)
		}
		h.open[opened{h.member, stream}] = true
		pos = h.positions[stream]
		h.positions[stream] = pos
	})
	return &handler{store: h.store, member: h.member, stream: stream}, pos, nil
}

func (h host) Saved() (out []string) {
	h.change(func() {
		for s := range h.positions {
			out = append(out, s)
		}
	})
	slices.Sort(out)
	return out
}

func (h host) Durable(stream string) (ingest.Position, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.positions[stream]
	return p, ok
}

func (h host) Ready() { h.change(func() { h.ready++ }) }

type handler struct {
	*store
	member *member
	stream string
	over   bool
}

var errCrash = errors.New("test: crash in the middle of a batch")

func (h *handler) Batch(ctx context.Context, b *ingest.Batch) (err error) {
	h.change(func() {
		if h.over {
			h.t.Errorf("batch of %s after its end", h.stream)
		}
		delete(h.unknown, h.stream)
		h.skipped += b.Skipped
		if len(b.Data) > 0 || b.End.Offset < b.Start.Offset+int64(len(b.Lines)) || len(b.Start.Mark) != 4 {
			h.t.Errorf("batch from %v to %v with %d lines", b.Start, b.End, len(b.Lines))
		}
		at := b.Start
		for value := range b.Each() {
			line := string(value)
			if h.crash == h.n {
				h.stop()
				err = errCrash
				return
			}
			if ctx.Err() != nil {
				err = ctx.Err()
				return
			}
			if h.keep {
				for _, f := range b.Fields {
					h.fields = append(h.fields, fmt.Sprintf("%s %s=%s", line, f.Key, f.Value))
				}
				h.lines[h.stream] = append(h.lines[h.stream], line)
			}
			h.n++
			at.Offset++
			h.positions[h.stream] = at
		}
		h.positions[h.stream] = b.End
	})
	return err
}

func (h *handler) CaughtUp(ctx context.Context) error {
	h.change(func() {
		h.caught[h.stream] = h.n
		delete(h.unknown, h.stream)
	})
	return ctx.Err()
}

func (h *handler) Unknown(err error) {
	h.change(func() {
		h.unknown[h.stream] = err.Error()
		h.told = append(h.told, h.stream+": "+err.Error())
	})
}

func (h *handler) end() {
	if h.over || !h.open[opened{h.member, h.stream}] {
		h.t.Errorf("%s ends twice", h.stream)
	}
	h.over = true
	delete(h.open, opened{h.member, h.stream})
	delete(h.unknown, h.stream)
}

func (h *handler) Close(_ context.Context, forget bool) error {
	h.change(func() {
		h.end()
		if forget {
			delete(h.positions, h.stream)
		}
	})
	return nil
}

func (h *handler) Leave(context.Context) error {
	h.change(func() { h.end(); h.left++ })
	return nil
}

// quick is a timing for tests.
var quick = timing{
	session: 3 * time.Second, rebalance: 3 * time.Second, heartbeat: 50 * time.Millisecond, rejoin: 50 * time.Millisecond,
	request: 5 * time.Second, wait: 50 * time.Millisecond, commit: 50 * time.Millisecond, watch: 100 * time.Millisecond,
	settle: time.Second, retryMin: 10 * time.Millisecond, retryMax: 100 * time.Millisecond,
	transaction: 200 * time.Millisecond,
}

// run starts a source on the store; stop ends it and waits.
func run(t testing.TB, s *store, cfg Config) (src *Source, stop func()) {
	t.Helper()
	if errs := cfg.Validate(); len(errs) > 0 {
		t.Fatal(errs)
	}
	src = New(cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	src.timing = quick
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	s.stop = cancel
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, host{s, &member{}}) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return src, stop
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

func newCluster1(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func client(t testing.TB, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// produce writes n lines over the partitions of a topic, numbered from first.
func produce(t testing.TB, cl *kgo.Client, topic string, partitions, first, n int) (lines []string) {
	t.Helper()
	var rs []*kgo.Record
	for i := first; i < first+n; i++ {
		l := fmt.Sprintf("%08d line", i)
		lines = append(lines, l)
		rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(l)})
	}
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// waitCommitted waits until the group has committed all of a partition.
func waitCommitted(t testing.TB, c *kfake.Cluster, topic string, partition int32, offset int64) {
	t.Helper()
	_, err := c.WaitGroupInfo(context.Background(), DefaultGroup, func(g *kfake.GroupInfo) bool {
		return g != nil && g.Commits[topic][partition].Offset >= offset
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nobody takes lines and does nothing with them.
type nobody struct{ ingest.Handler }

func (nobody) Batch(context.Context, *ingest.Batch) error { return nil }

func benchPartition() *partition {
	p := &partition{Source: New(Config{}, slog.New(slog.DiscardHandler)), handler: nobody{}, log: slog.New(slog.DiscardHandler), damaged: -1, mark: markOf(0)}
	p.count = p.counter("t", 0)
	return p
}

// batches counts the lines of each batch.
type batches struct {
	nobody
	of []int
}

func (b *batches) Batch(_ context.Context, x *ingest.Batch) error {
	b.of = append(b.of, len(x.Lines))
	return nil
}
