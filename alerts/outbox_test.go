package alerts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errKilled = errors.New("the process was killed")

// disk is a store in memory that survives the processes that use it.
type disk struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
	commits int
	// step is called before and after every commit; fail may refuse one.
	step func(point string)
	fail func() error
}

func newDisk() *disk { return &disk{buckets: map[string]map[string][]byte{}} }

type diskTx struct {
	puts map[[2]string][]byte // nil: deleted
}

func (t *diskTx) Put(bucket, key string, value []byte) error {
	t.puts[[2]string{bucket, key}] = bytes.Clone(value)
	return nil
}

func (t *diskTx) Delete(bucket, key string) error {
	t.puts[[2]string{bucket, key}] = nil
	return nil
}

func (d *disk) Update(fn func(alerts.Tx) error) error {
	tx := &diskTx{puts: map[[2]string][]byte{}}
	if err := fn(tx); err != nil {
		return err
	}
	if d.step != nil {
		d.step("before-commit")
	}
	if d.fail != nil {
		if err := d.fail(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.commits++
	for k, v := range tx.puts {
		b := d.buckets[k[0]]
		if b == nil {
			b = map[string][]byte{}
			d.buckets[k[0]] = b
		}
		if v == nil {
			delete(b, k[1])
		} else {
			b[k[1]] = v
		}
	}
	d.mu.Unlock()
	if d.step != nil {
		d.step("after-commit")
	}
	return nil
}

func (d *disk) View(bucket string, fn func(key string, value []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(d.buckets[bucket])) {
		v := bytes.Clone(d.buckets[bucket][k])
		if err := fn(k, v); err != nil {
			return err
		}
		clear(v) // the value died with fn
	}
	return nil
}

func (d *disk) size(bucket string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.buckets[bucket])
}

// receiver is a sink that knows idempotency keys.
type receiver struct {
	mu    sync.Mutex
	got   []string // keys in order of first arrival
	calls []alerts.Delivery
	times []time.Time
	// answer decides about call n (from 0); taken says whether the sink kept it.
	answer func(n int, d *alerts.Delivery) (taken bool, mem json.RawMessage, err error)
	now    int
	most   int // most calls at once
	delay  time.Duration
}

func (r *receiver) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	r.mu.Lock()
	n := len(r.calls)
	r.calls = append(r.calls, *d)
	r.times = append(r.times, time.Now())
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	if r.delay > 0 {
		select {
		case <-time.After(r.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	taken, mem, err := true, json.RawMessage(nil), error(nil)
	if r.answer != nil {
		taken, mem, err = r.answer(n, d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if taken && !slices.Contains(r.got, d.Key) {
		r.got = append(r.got, d.Key)
	}
	return mem, err
}

func (r *receiver) all() []alerts.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *receiver) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func step(id string, seq int, kind incident.Kind) incident.Transition {
	at := time.Date(2026, 11, 18, 10, 7, 0, 0, time.UTC).Add(time.Duration(seq) * time.Minute)
	return incident.Transition{Seq: seq, Kind: kind, At: at, Incident: incident.Incident{
		ID: id, State: incident.Open, Direction: incident.Up, StartedAt: at, OpenedAt: at, Identities: int64(seq) * 100,
		Scope: incident.Scope{Route: "/billing/upgrade", Role: "member"}, Severity: incident.High,
	}}
}

func life(id string, kinds ...incident.Kind) []incident.Transition {
	var ts []incident.Transition
	for i, k := range kinds {
		ts = append(ts, step(id, i+1, k))
	}
	return ts
}

// plan returns the deliveries of transitions, in order, to the sinks' own places.
func plan(ts []incident.Transition, sinks ...string) []alerts.Delivery {
	var ds []alerts.Delivery
	for _, t := range ts {
		for _, sink := range sinks {
			ds = append(ds, alerts.NewDelivery(t, alerts.Dest{Sink: sink}))
		}
	}
	return ds
}

// send commits transitions as the detector does.
func send(t *testing.T, o *alerts.Outbox, d alerts.Store, ts []incident.Transition, sinks ...string) {
	t.Helper()
	ds := plan(ts, sinks...)
	if err := d.Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil {
		t.Fatal(err)
	}
	o.Add(ds)
}

// start runs o and returns how to stop it.
func start(t *testing.T, o *alerts.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func build(t *testing.T, d alerts.Store, sinks map[string]alerts.Notifier, opt alerts.Options) *alerts.Outbox {
	t.Helper()
	o, err := alerts.New(d, sinks, opt)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDeliversInOrderAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a, b := newDisk(), &receiver{}, &receiver{}
		o := build(t, d, map[string]alerts.Notifier{"a": a, "b": b}, alerts.Options{})
		stop := start(t, o)
		send(t, o, d, append(life("i1", incident.Opened, incident.Grew, incident.ResolvedKind), life("i2", incident.Opened)...), "a", "b")
		synctest.Wait()
		for name, r := range map[string]*receiver{"a": a, "b": b} {
			got := r.keys()
			slices.Sort(got)
			want := []string{name + "/i1/1", name + "/i1/2", name + "/i1/3", name + "/i2/1"}
			if !slices.Equal(got, want) {
				t.Errorf("sink %s got %v, want %v", name, got, want)
			}
			checkOrder(t, r.keys())
		}
		if n := d.size(alerts.BucketOutbox); n != 0 {
			t.Errorf("%d deliveries left in the store", n)
		}
		for _, h := range o.Health() {
			if h.State != alerts.SinkOK || h.Depth != 0 || h.LastError != "" {
				t.Errorf("health = %+v", h)
			}
		}
		stop()
	})
}

// TestTargetsAreLanesOfTheirOwn: what a sink remembers of an incident belongs to one
// of its places, and trouble at one holds up no other.
func TestTargetsAreLanesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDisk(), &receiver{}
		r.answer = func(_ int, d *alerts.Delivery) (bool, json.RawMessage, error) {
			if d.Target == "#gone" {
				return false, nil, &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: errors.New("no such place")}
			}
			return true, json.RawMessage(`"` + d.Target + `"`), nil
		}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		for i, tr := range life("i1", incident.Opened, incident.Grew) {
			var ds []alerts.Delivery
			for _, target := range []string{"#a", "#gone", ""} {
				ds = append(ds, alerts.NewDelivery(tr, alerts.Dest{Sink: "s", Target: target}))
			}
			if err := d.Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil {
				t.Fatal(err)
			}
			o.Add(ds)
			synctest.Wait()
			if got := len(r.all()); got != 3*(i+1) {
				t.Fatalf("%d calls after %d transitions", got, i+1)
			}
		}
		for _, c := range r.all()[3:] {
			if want := map[string]string{"#a": `"#a"`, "": `""`}[c.Target]; string(c.Memory) != want {
				t.Errorf("%s: remembered %s, want %s", c.Key, c.Memory, want)
			}
		}
		got := r.keys()
		slices.Sort(got)
		if want := []string{"s/i1/1", "s/i1/1/#a", "s/i1/2", "s/i1/2/#a"}; !slices.Equal(got, want) {
			t.Errorf("delivered %v, want %v", got, want)
		}
		stop()
	})
}

// board is a receiver that takes posts too.
type board struct{ receiver }

func (b *board) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	return b.Notify(ctx, d)
}

// TestPosts: posts reach the sinks that take them, also over a restart, and are dead
// letters at others.
func TestPosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b, r := newDisk(), &board{}, &receiver{}
		sinks := map[string]alerts.Notifier{"board": b, "machine": r}
		o := build(t, d, sinks, alerts.Options{})
		p := &alerts.Post{ID: "digest-growth-2026-11-19", Headline: "Nothing wrong"}
		ds := []alerts.Delivery{alerts.NewPost(p, alerts.Dest{Sink: "board", Target: "#a"}), alerts.NewPost(p, alerts.Dest{Sink: "machine"})}
		if err := d.Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil {
			t.Fatal(err)
		}
		o = build(t, d, sinks, alerts.Options{}) // the process died before Add
		stop := start(t, o)
		synctest.Wait()
		if got := b.all(); len(got) != 1 || got[0].Key != "board/digest-growth-2026-11-19/#a" || got[0].Post.Headline != "Nothing wrong" {
			t.Errorf("the board got %+v", got)
		}
		if got := r.all(); len(got) != 0 {
			t.Errorf("the machine got %+v", got)
		}
		if dead, err := o.DeadLetters(); err != nil || len(dead) != 1 || dead[0].Delivery.Sink != "machine" {
			t.Errorf("dead letters %+v, %v", dead, err)
		}
		stop()
	})
}

// checkOrder fails if an incident's transitions came out of order.
func checkOrder(t *testing.T, keys []string) {
	t.Helper()
	last := map[string]int{}
	for _, k := range keys {
		parts := strings.Split(k, "/")
		var seq int
		if _, err := fmt.Sscan(parts[2], &seq); err != nil {
			t.Fatal(err)
		}
		if seq <= last[parts[1]] {
			t.Errorf("%s came after number %d of its incident", k, last[parts[1]])
		}
		last[parts[1]] = seq
	}
}

func TestMemoryIsHandedToTheNextDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		r := &receiver{answer: func(n int, d *alerts.Delivery) (bool, json.RawMessage, error) {
			if n == 1 {
				// Half done: the progress must be kept beside the error.
				return false, json.RawMessage(`{"ts":"1b"}`), errors.New("half")
			}
			return true, json.RawMessage(fmt.Sprintf(`{"ts":"%d"}`, d.Transition.Seq)), nil
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened, incident.Grew), "s")
		time.Sleep(time.Minute)
		stop()
		// A new process still knows.
		o = build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop = start(t, o)
		send(t, o, d, []incident.Transition{step("i1", 3, incident.ResolvedKind)}, "s")
		synctest.Wait()
		stop()
		var got []string
		for _, c := range r.calls {
			got = append(got, fmt.Sprintf("%d %s uncertain=%v attempt=%d", c.Transition.Seq, c.Memory, c.Uncertain, c.Attempts))
		}
		want := []string{
			"1  uncertain=false attempt=1",
			`2 {"ts":"1"} uncertain=false attempt=1`,
			`2 {"ts":"1b"} uncertain=true attempt=2`,
			`3 {"ts":"2"} uncertain=false attempt=1`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestKilledAtEveryStep(t *testing.T) {
	// The script of a detector: each entry is one cut.
	cuts := [][]incident.Transition{
		append(life("i1", incident.Opened), life("i2", incident.Opened)...),
		{step("i1", 2, incident.Grew)},
		{step("i1", 3, incident.ResolvedKind), step("i2", 2, incident.ResolvedKind)},
		{step("i2", 3, incident.Reopened)},
	}
	var want []string
	for _, c := range cuts {
		for _, sink := range []string{"a", "b"} {
			for _, tr := range c {
				want = append(want, fmt.Sprintf("%s/%s/%d", sink, tr.Incident.ID, tr.Seq))
			}
		}
	}
	slices.Sort(want)
	kills := 0
	for kill := 1; ; kill++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			world := map[string]*receiver{"a": {}, "b": {}}
			// b drops the connection after it accepted, now and then.
			world["b"].answer = func(n int, _ *alerts.Delivery) (bool, json.RawMessage, error) {
				if n%3 == 1 {
					return true, nil, errors.New("connection reset")
				}
				return true, nil, nil
			}
			next, left := 0, kill
			for process := 0; process < 2; process++ {
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				dead := false
				isDead := func() bool { mu.Lock(); defer mu.Unlock(); return dead }
				die := func(string) {
					mu.Lock()
					defer mu.Unlock()
					if left--; left == 0 {
						dead, reached = true, true
						cancel()
					}
				}
				d.step = die
				d.fail = func() error {
					if isDead() {
						return errKilled
					}
					return nil
				}
				sinks := map[string]alerts.Notifier{}
				for name, r := range world {
					sinks[name] = notifier(func(ctx context.Context, del *alerts.Delivery) (json.RawMessage, error) {
						if isDead() {
							return nil, errKilled
						}
						mem, err := r.Notify(ctx, del)
						die("in the sink")
						return mem, err
					})
				}
				o := build(t, d, sinks, alerts.Options{Crash: die, StopTimeout: time.Millisecond})
				done := make(chan struct{})
				go func() {
					defer close(done)
					if err := o.Run(ctx); err != nil {
						t.Errorf("Run = %v", err)
					}
				}()
				// The detector goes on behind its last durable cut.
				next = 0
				_ = d.View("detector", func(_ string, v []byte) error { return json.Unmarshal(v, &next) })
				for ; next < len(cuts) && !isDead(); next++ {
					ds := plan(cuts[next], "a", "b")
					err := d.Update(func(tx alerts.Tx) error {
						if err := o.Enqueue(tx, ds); err != nil {
							return err
						}
						return tx.Put("detector", "next", fmt.Append(nil, next+1))
					})
					if err == nil {
						o.Add(ds)
					}
					time.Sleep(time.Second)
				}
				if !isDead() {
					time.Sleep(5 * time.Minute)
				}
				cancel()
				<-done
			}
			var got []string
			for _, r := range world {
				checkOrder(t, r.keys())
				got = append(got, r.keys()...)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("killed at step %d: got %v, want %v", kill, got, want)
			}
			if n := d.size(alerts.BucketOutbox); n != 0 {
				t.Errorf("killed at step %d: %d deliveries left", kill, n)
			}
			// A receiver without keys must have been told whenever it may have
			// had the delivery before.
			for name, r := range world {
				seen := map[string]bool{}
				for _, c := range r.calls {
					if seen[c.Key] && !c.Uncertain {
						t.Errorf("killed at step %d: sink %s was called again for %s without a warning", kill, name, c.Key)
					}
					seen[c.Key] = true
				}
			}
		})
		if !reached {
			break
		}
		kills++
	}
	if kills < 60 {
		t.Errorf("only %d steps were tried", kills)
	}
	t.Logf("killed at %d different steps", kills)
}

type notifier func(context.Context, *alerts.Delivery) (json.RawMessage, error)

func (f notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	return f(ctx, d)
}

func TestTemporaryFailuresBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		r := &receiver{answer: func(n int, _ *alerts.Delivery) (bool, json.RawMessage, error) {
			if n < 12 {
				return false, nil, &alerts.Error{Kind: alerts.Temporary, Err: errors.New("503")}
			}
			return true, nil, nil
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened, incident.ResolvedKind), "s")
		time.Sleep(20 * time.Second)
		if h := o.Health()[0]; h.State != alerts.SinkRetrying || h.LastError != "503" || h.Depth != 2 || h.Oldest != 20*time.Second {
			t.Errorf("health = %+v", h)
		}
		time.Sleep(time.Hour)
		stop()
		if got := r.keys(); !slices.Equal(got, []string{"s/i1/1", "s/i1/2"}) {
			t.Fatalf("got %v", got)
		}
		for i := 1; i < 12; i++ {
			nominal := min(time.Second<<(i-1), time.Minute)
			if gap := r.times[i].Sub(r.times[i-1]); gap < nominal/2 || gap > nominal*3/2 {
				t.Errorf("try %d came after %v, want %v +-50 %%", i, gap, nominal)
			}
		}
		if h := o.Health()[0]; h.State != alerts.SinkOK || h.LastError != "" {
			t.Errorf("after recovery: health = %+v", h)
		}
	})
}

func TestRetryAfterHoldsTheWholeSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, other := newDisk(), &receiver{}
		r := &receiver{answer: func(n int, _ *alerts.Delivery) (bool, json.RawMessage, error) {
			if n == 0 {
				return false, nil, &alerts.Error{Kind: alerts.Temporary, RetryAfter: 90 * time.Second, Refused: true, Err: errors.New("429")}
			}
			return true, nil, nil
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r, "other": other}, alerts.Options{Concurrency: 1})
		stop := start(t, o)
		send(t, o, d, append(life("i1", incident.Opened), life("i2", incident.Opened)...), "s", "other")
		time.Sleep(89 * time.Second)
		if len(r.all()) != 1 {
			t.Errorf("%d calls before Retry-After was over", len(r.all()))
		}
		if len(other.keys()) != 2 {
			t.Errorf("the other sink got %v", other.keys())
		}
		time.Sleep(2 * time.Second)
		if got := r.keys(); !slices.Equal(got, []string{"s/i1/1", "s/i2/1"}) {
			t.Errorf("got %v", got)
		}
		if r.all()[1].Uncertain {
			t.Error("a refused try left the delivery uncertain")
		}
		stop()
	})
}

func TestPermanentBecomesADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		r := &receiver{answer: func(_ int, del *alerts.Delivery) (bool, json.RawMessage, error) {
			if del.Transition.Seq == 1 {
				return false, nil, &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: errors.New("too large")}
			}
			return true, nil, nil
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{MaxDead: 3})
		stop := start(t, o)
		for i := range 5 {
			send(t, o, d, life(fmt.Sprintf("i%d", i), incident.Opened, incident.ResolvedKind), "s")
			synctest.Wait()
		}
		stop()
		if got := r.keys(); len(got) != 5 || got[0] != "s/i0/2" {
			t.Errorf("got %v", got)
		}
		dead, err := o.DeadLetters()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, l := range dead {
			ids = append(ids, l.Delivery.Key+": "+l.Reason)
		}
		if want := []string{"s/i2/1: too large", "s/i3/1: too large", "s/i4/1: too large"}; !slices.Equal(ids, want) {
			t.Errorf("dead letters %v, want %v", ids, want)
		}
		if h := o.Health()[0]; h.Dead != 5 {
			t.Errorf("health = %+v", h)
		}
	})
}

func TestMisconfiguredWaitsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, other := newDisk(), &receiver{}
		var mended atomic.Bool
		r := &receiver{answer: func(int, *alerts.Delivery) (bool, json.RawMessage, error) {
			if !mended.Load() {
				return false, nil, &alerts.Error{Kind: alerts.Misconfigured, Refused: true, Err: errors.New("invite the bot to the channel")}
			}
			return true, nil, nil
		}}
		var log bytes.Buffer
		o := build(t, d, map[string]alerts.Notifier{"s": r, "other": other}, alerts.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		stop := start(t, o)
		for i := range 10 {
			send(t, o, d, life(fmt.Sprintf("i%d", i), incident.Opened), "s", "other")
		}
		time.Sleep(24 * time.Hour)
		if n := len(r.all()); n < 24*60/8 || n > 24*60/2 {
			t.Errorf("%d tries in a day, want one in about 5 minutes", n)
		}
		h := o.Health()
		if h[1].State != alerts.SinkMisconfigured || h[1].LastError != "invite the bot to the channel" || h[1].Depth != 10 {
			t.Errorf("health = %+v", h)
		}
		if h[0].State != alerts.SinkOK || len(other.keys()) != 10 {
			t.Errorf("the other sink: %+v, %v", h[0], other.keys())
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors logged for one cause:\n%s", n, log.String())
		}
		mended.Store(true)
		time.Sleep(8 * time.Minute)
		if len(r.keys()) != 10 {
			t.Errorf("after mending: %v", r.keys())
		}
		stop()
	})
}

func TestSlowSinkGetsOnlyTheLatestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var up atomic.Bool
		r := &receiver{answer: func(int, *alerts.Delivery) (bool, json.RawMessage, error) {
			if !up.Load() {
				return false, nil, &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: errors.New("down")}
			}
			return true, nil, nil
		}}
		m := &meter{}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{Meter: m})
		stop := start(t, o)
		G := incident.Grew
		send(t, o, d, life("i1", incident.Opened, G, G, G, incident.ResolvedKind, incident.Reopened, G, G), "s")
		time.Sleep(10 * time.Minute)
		up.Store(true)
		time.Sleep(2 * time.Minute)
		stop()
		if got, want := r.keys(), []string{"s/i1/1", "s/i1/4", "s/i1/5", "s/i1/6", "s/i1/8"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := d.size(alerts.BucketOutbox); n != 0 || o.Health()[0].Depth != 0 {
			t.Errorf("%d left in the store, health %+v", n, o.Health())
		}
		if m.coalesced != 3 || m.delivered != 5 || m.failed == 0 {
			t.Errorf("meter = %+v", m)
		}
	})
}

type meter struct {
	mu                                 sync.Mutex
	delivered, failed, dead, coalesced int
}

func (m *meter) Delivered(string, time.Duration) { m.mu.Lock(); m.delivered++; m.mu.Unlock() }
func (m *meter) Failed(string, alerts.ErrorKind) { m.mu.Lock(); m.failed++; m.mu.Unlock() }
func (m *meter) Dead(string)                     { m.mu.Lock(); m.dead++; m.mu.Unlock() }
func (m *meter) Coalesced(_ string, n int)       { m.mu.Lock(); m.coalesced += n; m.mu.Unlock() }

func TestManyIncidentsGoAtOnceButBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDisk(), &receiver{delay: time.Second}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		began := time.Now()
		for i := range 100 {
			send(t, o, d, life(fmt.Sprintf("i%d", i), incident.Opened, incident.ResolvedKind), "s")
		}
		time.Sleep(50*time.Second + time.Millisecond)
		if len(r.keys()) != 200 || r.most != 4 {
			t.Errorf("%d delivered after %v, at most %d at once", len(r.keys()), time.Since(began), r.most)
		}
		checkOrder(t, r.keys())
		stop()
	})
}

func TestHangingSinkIsTimedOutAndStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, other := newDisk(), &receiver{}
		r := &receiver{delay: 1000 * time.Hour}
		o := build(t, d, map[string]alerts.Notifier{"s": r, "other": other}, alerts.Options{TryTimeout: 10 * time.Second, StopTimeout: 3 * time.Second})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened), "s", "other")
		time.Sleep(10*time.Second + time.Millisecond)
		if h := o.Health()[1]; h.State != alerts.SinkRetrying || !strings.Contains(h.LastError, "deadline") {
			t.Errorf("health = %+v", h)
		}
		if len(other.keys()) != 1 {
			t.Errorf("the other sink got %v", other.keys())
		}
		time.Sleep(5 * time.Second) // into the second try
		began := time.Now()
		stop()
		if took := time.Since(began); took > 3*time.Second+time.Millisecond {
			t.Errorf("stopping took %v", took)
		}
		// Durable, and known to be uncertain.
		r2 := &receiver{}
		o = build(t, d, map[string]alerts.Notifier{"s": r2, "other": other}, alerts.Options{})
		stop = start(t, o)
		synctest.Wait()
		stop()
		if len(r2.calls) != 1 || !r2.calls[0].Uncertain || r2.calls[0].Attempts != 3 {
			t.Errorf("calls = %+v", r2.calls)
		}
	})
}

func TestUnwritableStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		d, r := newDisk(), &receiver{}
		d.fail = func() error {
			if full.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}
		r.answer = func(int, *alerts.Delivery) (bool, json.RawMessage, error) {
			full.Store(true) // between the sink's yes and its record
			return true, nil, nil
		}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		ds := plan(life("i1", incident.Opened, incident.ResolvedKind), "s")
		if err := d.Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		o.Add(ds)
		time.Sleep(10 * time.Second)
		if len(r.all()) != 0 {
			t.Error("a try was made that is not recorded")
		}
		h := o.Health()[0]
		if h.State != alerts.SinkUnrecorded || !strings.Contains(h.LastError, "no space left") {
			t.Errorf("health = %+v", h)
		}
		for range 2 {
			full.Store(false)
			time.Sleep(10 * time.Minute)
		}
		full.Store(false)
		time.Sleep(10 * time.Minute)
		stop()
		if len(r.all()) != 2 {
			t.Errorf("%d calls for two deliveries that the sink took at once", len(r.all()))
		}
		if n := d.size(alerts.BucketOutbox); n != 0 || o.Health()[0].State != alerts.SinkOK {
			t.Errorf("%d left, health %+v", n, o.Health())
		}
	})
}

// TestMayNot: while another process may be the one that delivers, no sink is called,
// and afterwards nothing is missing and nobody takes the tries for ones that were made.
func TestMayNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var may atomic.Bool
		d, r := newDisk(), &receiver{}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{May: may.Load})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened, incident.ResolvedKind), "s")
		time.Sleep(time.Minute)
		if h := o.Health()[0]; len(r.all()) != 0 || h.State != alerts.SinkUnrecorded || h.Depth != 2 {
			t.Errorf("%d calls, health %+v", len(r.all()), h)
		}
		may.Store(true)
		time.Sleep(10 * time.Minute)
		stop()
		if got := r.all(); len(got) != 2 || got[0].Uncertain || got[1].Uncertain {
			t.Errorf("calls = %+v", got)
		}
		if h := o.Health()[0]; h.State != alerts.SinkOK {
			t.Errorf("health = %+v", h)
		}
	})
}

func TestRemovedSinkAndDamagedRecordAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDisk(), &receiver{}
		o := build(t, d, map[string]alerts.Notifier{"gone": r, "s": r}, alerts.Options{})
		send(t, o, d, life("i1", incident.Opened), "gone", "s")
		d.buckets[alerts.BucketOutbox]["00000000000000000077"] = []byte("{rubbish")
		o = build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		synctest.Wait()
		stop()
		if got := r.keys(); !slices.Equal(got, []string{"s/i1/1"}) {
			t.Errorf("got %v", got)
		}
		dead, err := o.DeadLetters()
		if err != nil || len(dead) != 2 {
			t.Fatalf("dead = %+v, %v", dead, err)
		}
		if dead[0].Delivery.Key != "gone/i1/1" || !strings.Contains(dead[0].Reason, "not configured") {
			t.Errorf("dead[0] = %+v", dead[0])
		}
		if string(dead[1].Raw) != "{rubbish" {
			t.Errorf("dead[1] = %+v", dead[1])
		}
		// Numbers go on behind the damaged record's.
		ds := plan(life("i2", incident.Opened), "s")
		if err := d.Update(func(tx alerts.Tx) error { return o.Enqueue(tx, ds) }); err != nil || ds[0].Seq != 78 {
			t.Errorf("seq = %d, %v", ds[0].Seq, err)
		}
	})
}

func TestGivesUpAfterAWeekAndForgetsOldIncidents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		var down atomic.Bool
		down.Store(true)
		r := &receiver{answer: func(_ int, del *alerts.Delivery) (bool, json.RawMessage, error) {
			if down.Load() {
				return false, nil, errors.New("down")
			}
			return true, json.RawMessage(`{}`), nil
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{MaxMemory: 20})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened), "s")
		time.Sleep(7*24*time.Hour + 2*time.Minute)
		if dead, err := o.DeadLetters(); err != nil || len(dead) != 1 || !strings.Contains(dead[0].Reason, "given up after 7 d") {
			t.Errorf("dead = %+v, %v", dead, err)
		}
		down.Store(false)
		for i := range 100 {
			send(t, o, d, life(fmt.Sprintf("m%d", i), incident.Opened), "s")
			time.Sleep(time.Second)
		}
		stop()
		if n := d.size(alerts.BucketSink); n > 20 || n < 10 {
			t.Errorf("%d incidents remembered, want at most 20", n)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.buckets[alerts.BucketSink]["s/m99"] == nil {
			t.Error("the newest was forgotten")
		}
	})
}

func TestErrorTextsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		r := &receiver{answer: func(int, *alerts.Delivery) (bool, json.RawMessage, error) {
			return false, nil, errors.New("line\n\x1b[31m" + strings.Repeat("x", 10000))
		}}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, alerts.Options{})
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened), "s")
		synctest.Wait()
		e := o.Health()[0].LastError
		if len([]rune(e)) > 301 || strings.ContainsAny(e, "\n\x1b") {
			t.Errorf("last error = %q", e)
		}
		stop()
	})
}

func TestSinkNames(t *testing.T) {
	for name, ok := range map[string]bool{"slack": true, "team-1_x": true, "": false, "a/b": false, "Ä": false, "A": false, strings.Repeat("x", 65): false} {
		if err := alerts.ValidateSinkName(name); (err == nil) != ok {
			t.Errorf("ValidateSinkName(%q) = %v", name, err)
		}
	}
	if _, err := alerts.New(newDisk(), map[string]alerts.Notifier{"a b": &receiver{}}, alerts.Options{}); err == nil {
		t.Error("New took a bad name")
	}
}

// TestDeadLettersAreSentAgain: what was given up is tried again with the same key, and
// given up again only after its time; what cannot be sent can be dropped.
func TestDeadLettersAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDisk(), &receiver{}
		var failure atomic.Pointer[error]
		fail := func(err error) { failure.Store(&err) }
		fail(&alerts.Error{Kind: alerts.Permanent, Refused: true, Err: errors.New("no such channel")})
		r.answer = func(int, *alerts.Delivery) (bool, json.RawMessage, error) {
			err := *failure.Load()
			return err == nil, nil, err
		}
		opt := alerts.Options{GiveUpAfter: time.Hour}
		o := build(t, d, map[string]alerts.Notifier{"s": r}, opt)
		stop := start(t, o)
		send(t, o, d, life("i1", incident.Opened), "s")
		synctest.Wait()
		letters := func(want int) []alerts.DeadLetter {
			t.Helper()
			ls, err := o.DeadLetters()
			if err != nil || len(ls) != want || o.Dead() != want {
				t.Fatalf("dead letters %+v (%d), %v; want %d", ls, o.Dead(), err, want)
			}
			return ls
		}
		id := letters(1)[0].ID
		for _, f := range []func(string) error{o.Resend, o.Drop} {
			if err := f("nobody"); !errors.Is(err, alerts.ErrNoLetter) {
				t.Errorf("an unknown id: %v", err)
			}
		}
		// It is older than what is given up, but tried anew.
		time.Sleep(2 * time.Hour)
		fail(errors.New("connection lost"))
		if err := o.Resend(id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		letters(0)
		stop()
		o = build(t, d, map[string]alerts.Notifier{"s": r}, opt) // durable
		stop = start(t, o)
		fail(nil)
		time.Sleep(2 * time.Minute)
		if got := r.keys(); !slices.Equal(got, []string{"s/i1/1"}) {
			t.Errorf("got %v", got)
		}
		if last := r.all()[len(r.all())-1]; !last.Uncertain {
			t.Error("the sink is not told that an earlier try may have got through")
		}
		stop()

		fail(&alerts.Error{Kind: alerts.Permanent, Refused: true, Err: errors.New("no")})
		o = build(t, d, map[string]alerts.Notifier{"s": r}, opt)
		stop = start(t, o)
		send(t, o, d, life("i2", incident.Opened), "s")
		synctest.Wait()
		stop()
		o = build(t, d, map[string]alerts.Notifier{"other": r}, opt)
		id = letters(1)[0].ID
		if err := o.Resend(id); !errors.Is(err, alerts.ErrNotSendable) {
			t.Errorf("a sink that is gone: %v", err)
		}
		if err := o.Drop(id); err != nil {
			t.Error(err)
		}
		letters(0)
		if o = build(t, d, map[string]alerts.Notifier{"other": r}, opt); o.Dead() != 0 {
			t.Error("what was dropped is back")
		}
	})
}
