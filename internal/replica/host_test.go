package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// topic is a log in memory that several members share.
type topic struct {
	mu      sync.Mutex
	records []kafka.Record
	end     int64
	changed chan struct{}
}

func newTopic() *topic { return &topic{changed: make(chan struct{})} }

func (t *topic) append(rs ...kafka.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range rs {
		r.Offset = t.end
		t.end++
		t.records = append(t.records, r)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// compact does what a broker does with all but the last keep records: of each key
// only the last is left, and none if that is a tombstone.
func (t *topic) compact(keep int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := max(len(t.records)-keep, 0)
	last := map[string]int{}
	for i, r := range t.records[:n] {
		last[string(r.Key)] = i
	}
	var left []kafka.Record
	for i, r := range t.records {
		if i >= n || last[string(r.Key)] == i && r.Value != nil {
			left = append(left, r)
		}
	}
	t.records = left
}

// handle is a member's connection to the topic. Its hooks are set while the member
// is not running, or through set.
type handle struct {
	*topic
	hooks sync.Mutex
	gate  chan struct{} // not nil: calls wait until it is closed
	// before and after see what is appended, one call after the other; their errors
	// fail it.
	before, after func([]kafka.Record) error
	reads         func() error
	// answered is called when a Read has its answer, before the member has it.
	answered func()
}

func (h *handle) set(f func()) {
	h.hooks.Lock()
	defer h.hooks.Unlock()
	f()
}

// freeze makes all calls wait until thaw.
func (h *handle) freeze() { h.set(func() { h.gate = make(chan struct{}) }) }
func (h *handle) thaw()   { h.set(func() { close(h.gate); h.gate = nil }) }

func (h *handle) pass(ctx context.Context) error {
	h.hooks.Lock()
	gate := h.gate
	h.hooks.Unlock()
	if gate == nil {
		return ctx.Err()
	}
	select {
	case <-gate:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *handle) Ensure(context.Context) error { return nil }

func (h *handle) Bounds(context.Context) (first, end int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return 0, h.end, nil
}

func (h *handle) Append(ctx context.Context, rs ...kafka.Record) error {
	if err := h.pass(ctx); err != nil {
		return err
	}
	h.hooks.Lock()
	defer h.hooks.Unlock()
	if h.before != nil {
		if err := h.before(rs); err != nil {
			return err
		}
	}
	h.append(rs...)
	if h.after != nil {
		return h.after(rs)
	}
	return nil
}

// pageSize is few, so that members see transactions in pieces.
const pageSize = 3

func (h *handle) Read(ctx context.Context, from int64, wait time.Duration) (p kafka.Page, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if err := h.pass(ctx); err != nil {
			return p, err
		}
		h.hooks.Lock()
		reads := h.reads // called by the reading goroutine alone
		h.hooks.Unlock()
		if reads != nil {
			if err := reads(); err != nil {
				return p, err
			}
		}
		h.mu.Lock()
		end, changed := h.end, h.changed
		p = kafka.Page{Next: from, End: end}
		if from > end {
			h.mu.Unlock()
			return p, kafka.ErrOutOfRange
		}
		for _, r := range h.records {
			if r.Offset >= from && len(p.Records) < pageSize {
				p.Records = append(p.Records, r)
				p.Next = r.Offset + 1
			}
		}
		if len(p.Records) < pageSize {
			p.Next = end
		}
		h.mu.Unlock()
		if p.Next > from {
			return p, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			h.hooks.Lock()
			answered := h.answered
			h.hooks.Unlock()
			if answered != nil {
				answered()
			}
			return p, nil
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// node is a process that takes part.
type node struct {
	t      *testing.T
	h      *handle
	on     Log // not nil: used instead of h
	opt    Options
	dir    string
	store  *state.Store
	m      *Member
	log    *strings.Builder
	cancel context.CancelFunc
	done   chan struct{}
	lead   *Lead
}

const session = 10 * time.Second

func newNode(t *testing.T, at *topic, name string) *node {
	return &node{t: t, h: &handle{topic: at}, dir: t.TempDir(), opt: Options{Name: name, Key: "key", CountsAlike: func() bool { return true }, Session: session}}
}

// start starts the process.
func (n *node) start() *node {
	n.t.Helper()
	var err error
	if n.store, err = state.Open(n.dir, slog.New(slog.DiscardHandler), nil); err != nil {
		n.t.Fatal(err)
	}
	n.log = &strings.Builder{}
	if n.opt.Log = n.h; n.on != nil {
		n.opt.Log, n.opt.Session = n.on, quickly
	}
	n.opt.Store, n.opt.Logger = n.store, slog.New(slog.NewTextHandler(&locked{w: n.log}, nil))
	if n.m, err = New(n.opt); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan struct{})
	go func() { defer close(n.done); n.m.Run(ctx) }()
	return n
}

// locked makes a writer safe.
type locked struct {
	mu sync.Mutex
	w  *strings.Builder
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// kill ends the process without a word.
func (n *node) kill() {
	n.t.Helper()
	n.cancel()
	<-n.done
	if err := n.store.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.lead = nil
}

// elect waits until the member is active.
func (n *node) elect() *node {
	n.t.Helper()
	select {
	case n.lead = <-n.m.Elected():
	case <-time.After(10 * time.Minute):
		n.t.Fatalf("%s was not elected: %+v\n%s", n.opt.Name, n.m.Status(), n.log)
	}
	return n
}

// standsBy fails if the member becomes active within a time.
func (n *node) standsBy(d time.Duration) {
	n.t.Helper()
	select {
	case <-n.m.Elected():
		n.t.Fatalf("%s was elected\n%s", n.opt.Name, n.log)
	case <-time.After(d):
	}
}

// put updates the state.
func (n *node) put(kv ...string) error {
	return n.store.Update(func(tx *state.Tx) error {
		for i := 0; i < len(kv); i += 2 {
			err := tx.Put("b", kv[i], []byte(kv[i+1]))
			if kv[i+1] == "-" {
				err = tx.Delete("b", kv[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// must is put, which must succeed.
func (n *node) must(kv ...string) {
	n.t.Helper()
	if err := n.put(kv...); err != nil {
		n.t.Fatalf("%s: %v\n%s", n.opt.Name, err, n.log)
	}
}

// holds returns the node's copy of the state.
func (n *node) holds() map[string]string {
	n.t.Helper()
	m := map[string]string{}
	if err := n.store.View("b", func(k string, v []byte) error { m[k] = string(v); return nil }); err != nil {
		n.t.Fatal(err)
	}
	return m
}

// wants fails unless the node's copy becomes this soon.
func (n *node) wants(kv ...string) {
	n.t.Helper()
	want := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		want[kv[i]] = kv[i+1]
	}
	var got map[string]string
	for range 100 {
		if got = n.holds(); maps.Equal(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	n.t.Fatalf("%s holds %s, want %s\n%s", n.opt.Name, short(got), short(want), n.log)
}

func short(m map[string]string) string {
	s := fmt.Sprint(m)
	return s[:min(len(s), 500)]
}

var errAway = errors.New("the brokers are away")

func TestNoHostName(t *testing.T) {
	host, err := os.Hostname()
	if got := (Config{}).Member(); err == nil && got != host || got == "" {
		t.Errorf("the name of a member without one is %q", got)
	}
}
