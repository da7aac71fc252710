package app

import (
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
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/replica"
	"github.com/denywatch/denywatch/internal/state"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/web"
	"github.com/denywatch/denywatch/parsers"
)

// The buckets of the durable state that the core owns.
const (
	bucketPositions = "positions"
	bucketSlots     = "slots"
	bucketDetector  = "detector"
	bucketTimeline  = "timeline"
	bucketDesk      = "desk"
	bucketDiary     = "diary"
	bucketRefusals  = "refusals"
	bucketValid     = "valid_refusals"
	bucketMeta      = "core"
)

const (
	// cutEvery is how often the state is made durable when only counts changed;
	// an incident's transition is cut at once.
	cutEvery = 2 * time.Second
	// advanceEvery is how often event time is looked at when no block arrives.
	advanceEvery = 200 * time.Millisecond
	// historyBefore tells history from news: what happened longer than this
	// before the state was born was over before anybody asked.
	historyBefore = time.Hour
	// metaHistory is the meta value that tells that the past was summarised.
	metaHistory = "history"
	// metaCounting is the meta value with the hash of what decides what is counted.
	metaCounting = "counting"
	// metaFirst is the meta value with the start of the first slot that was closed.
	metaFirst = "first"
	// maxHistory bounds the incidents of the past that are named.
	maxHistory = 20
	// maxTimelines bounds the incidents whose time line is kept.
	maxTimelines = 1000
)

// position is where a stream stands, and whose it is.
type position struct {
	Source string          `json:"source"`
	At     ingest.Position `json:"at"`
}

// durable is where streams stand in the last durable cut. It is safe for
// concurrent use: sources ask what they may commit elsewhere.
type durable struct {
	mu sync.Mutex
	at map[string]ingest.Position
}

// update takes over the positions of changed streams; those that have none are
// forgotten.
func (d *durable) update(changed map[string]bool, positions map[string]position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[string]ingest.Position{}
	}
	for stream := range changed {
		if p, ok := positions[stream]; ok {
			d.at[stream] = p.At
		} else {
			delete(d.at, stream)
		}
	}
}

func (d *durable) position(stream string) (ingest.Position, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.at[stream]
	return p, ok
}

// streamStatus is what is known of a stream's progress.
type streamStatus struct {
	Source  string
	Vantage event.Vantage
	State   tally.StreamState
	Newest  int64 // ns
	Trouble string
}

// span is a time that may not have ended yet.
type span struct{ from, to time.Time }

// core is the single writer: it applies the blocks of all streams, closes slots,
// judges them and makes everything durable in one cut. All its methods but post
// are called from the goroutine of run (or of the replay).
type core struct {
	ledger *slots.Ledger
	det    *detector.Detector
	clock  *collect.Clock
	log    *slog.Logger

	// store and outbox are nil in replay.
	store  *state.Store
	outbox *alerts.Outbox
	desk   *routing.Desk
	diary  diary
	denied refusals
	valid  refusals  // those that the access rules ask for
	born   time.Time // of the state; zero in replay

	in    chan *tally.Block
	calls chan func()
	done  chan struct{} // closed when run returns

	waiting map[string]bool // sources that have not opened their streams yet
	// waitingSince is the wall clock at which they were asked to.
	waitingSince time.Time
	positions    map[string]position
	dirtyPos     map[string]bool
	durable      durable
	streams      map[string]*streamStatus
	meta         map[string]string // small values of bucketMeta

	pending   []alerts.Delivery     // to be told, not yet durable
	fresh     []incident.Transition // of time lines, not yet durable
	timelines map[string][]incident.Transition
	order     []string        // incidents in order of their first transition
	untold    map[string]bool // incidents of the past that nobody was told of
	told      func(incident.Transition)
	// unjudged is when judging of which source was suspended; kept in replay only.
	unjudged map[string][]span

	dirty     bool
	urgent    bool      // a stream is new: cut at once
	lastCut   time.Time // the last try
	goodCut   time.Time // the last that succeeded
	published time.Time
	snap      atomic.Pointer[snapshot]
	cutTook   time.Duration
	cutErr    error
	cuts      uint64
	attended  time.Time // by the machine's clock
}

func newCore(sc slots.Config, dc detector.Config, clock *collect.Clock, log *slog.Logger) *core {
	c := &core{
		ledger: slots.New(sc), det: detector.New(dc), clock: clock, log: log,
		desk: routing.NewDesk(routing.New(&routing.Config{}, nil)), diary: newDiary(),
		in: make(chan *tally.Block, 64), calls: make(chan func()), done: make(chan struct{}),
		waiting: map[string]bool{}, waitingSince: time.Now(), positions: map[string]position{}, dirtyPos: map[string]bool{},
		streams: map[string]*streamStatus{}, meta: map[string]string{},
		timelines: map[string][]incident.Transition{}, untold: map[string]bool{},
		unjudged: map[string][]span{},
	}
	c.valid.rule = c.ruleText
	return c
}

// now is the wall clock in nanoseconds, event.NoTime in replay.
func (c *core) now() int64 {
	if c.clock.Now == nil {
		return event.NoTime
	}
	return c.clock.Now()
}

// apply takes one block.
func (c *core) apply(b *tally.Block) {
	if b.Ready {
		delete(c.waiting, b.Source)
		return
	}
	c.ledger.Apply(b, c.now())
	st := c.streams[b.Stream]
	if st == nil {
		st = &streamStatus{Source: b.Source, Vantage: b.Vantage}
		c.streams[b.Stream] = st
	}
	st.State, st.Newest, st.Trouble = b.State, b.Newest, b.Trouble
	if b.State == tally.Ended {
		delete(c.streams, b.Stream)
	}
	if b.Forget {
		c.forget(b.Stream)
	} else {
		c.moveTo(b.Stream, position{b.Source, b.Position})
	}
	c.dirty = true
	b.Release()
}

// moveTo notes where a stream stands; p.At.Mark is copied.
func (c *core) moveTo(stream string, p position) {
	if !c.moved(stream, p) {
		return
	}
	// A stream that no cut knows yet could not be found again if it were rotated
	// away while nobody reads.
	c.urgent = c.urgent || len(c.positions[stream].At.Mark) == 0
	p.At.Mark = slices.Clone(p.At.Mark)
	c.positions[stream] = p
	c.dirtyPos[stream], c.dirty = true, true
}

// forget drops the position of a stream that is gone for good.
func (c *core) forget(stream string) {
	delete(c.positions, stream)
	c.dirtyPos[stream], c.dirty = true, true
}

func (c *core) moved(stream string, p position) bool {
	old, ok := c.positions[stream]
	return !ok || old.Source != p.Source || old.At.Offset != p.At.Offset || string(old.At.Mark) != string(p.At.Mark)
}

// advance closes and judges every slot that is complete.
func (c *core) advance() {
	if len(c.waiting) > 0 && time.Since(c.waitingSince) < slots.HoldUnknown {
		return
	}
	for name := range c.waiting {
		c.log.Error("a source has not opened its files for ten minutes; the others go on without it, and what it brings later may be late", "source", name)
		delete(c.waiting, name)
	}
	now := c.now()
	for s := c.ledger.Next(now); s != nil; s = c.ledger.Next(now) {
		c.dirty = true
		if c.meta[metaFirst] == "" {
			c.meta[metaFirst] = time.Unix(s.Start, 0).UTC().Format(time.RFC3339)
		}
		for _, src := range s.Turned {
			c.turned(src, s.Start)
		}
		for _, t := range c.det.Close(s) {
			c.transition(t)
		}
		if c.store != nil {
			c.diary.note(s, c.ledger.Sources)
			c.denied.note(s)
			c.valid.note(s)
		}
		c.clock.SetClosed(s.Vantage, s.Start)
		// Streams that wait for the watermark may go on between slots.
		c.clock.Move(c.ledger.Horizon(now))
	}
	c.clock.Move(c.ledger.Horizon(now))
	c.tellHistory(now)
}

// turned tells that judging of a source is suspended from the slot at start on,
// or no longer.
func (c *core) turned(src *slots.Source, start int64) {
	at := time.Unix(start, 0).UTC()
	if src.Suspended == 0 {
		c.log.Info("the source is judged again", "source", src.Name, "from", at, "slots_not_judged", src.Unjudged)
	} else {
		c.log.Error("judging of the source is suspended until its lines are understood again", "source", src.Name, "from", at, "reason", blindness(src))
	}
	if spans := c.unjudged[src.Name]; src.Suspended == 0 && len(spans) > 0 {
		spans[len(spans)-1].to = at
	} else if src.Suspended != 0 && c.store == nil {
		c.unjudged[src.Name] = append(spans, span{from: at})
	}
}

// blindness says how many of a source's recent lines are of no use, and why.
func blindness(src *slots.Source) string {
	return fmt.Sprintf("%s of %s recent lines cannot be judged; %s", group3(src.Blind), group3(src.Recent), remedy(src))
}

// remedy says what to do about a source's lines that are not understood.
func remedy(src *slots.Source) string {
	for _, e := range []*parsers.LineError{parsers.ErrUTF16, parsers.ErrBinary} {
		if src.Reasons[e.Reason]*2 > src.Unparsed {
			return e.Error()
		}
	}
	return "denywatch parse shows how they are understood"
}

// tellHistory says what the past would have told, once it has been read, and tells
// of incidents that began before anybody asked and are still open.
func (c *core) tellHistory(now int64) {
	if c.meta[metaHistory] != "" && len(c.untold) == 0 || now == event.NoTime || len(c.waiting) > 0 {
		return
	}
	read := false
	for v := range event.Vantages {
		w := c.ledger.Watermark(v)
		if w > 0 && now-w > int64(historyBefore) {
			return
		}
		_, closed := c.ledger.ClosedSlot(v)
		read = read || w > 0 && closed
	}
	if !read {
		return
	}
	c.summarise()
	for _, id := range slices.Sorted(maps.Keys(c.untold)) {
		if t := c.last(id); c.untold[id] && t != nil {
			c.pending = append(c.pending, c.desk.Tell(*t, c.wall())...)
		}
	}
	c.untold = map[string]bool{}
	c.dirty = true
}

// run applies blocks and calls until in is closed, cutting the state every now
// and then and a last time at the end. After ctx ends slots stay open: streams
// that stop are not streams that have said everything.
func (c *core) run(ctx context.Context) error {
	defer close(c.done)
	tick := time.NewTicker(advanceEvery)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-c.in:
			if !ok {
				return c.cut()
			}
			c.apply(b)
			for more := true; more; {
				select {
				case b, ok := <-c.in:
					if !ok {
						return c.cut()
					}
					c.apply(b)
				default:
					more = false
				}
			}
		case f := <-c.calls:
			f()
		case <-tick.C:
		}
		if ctx.Err() == nil {
			c.advance()
			c.attend()
		}
		if (len(c.pending) > 0 || c.urgent) && c.cutErr == nil || c.dirty && time.Since(c.lastCut) >= cutEvery {
			_ = c.cut() // told by cutErr; the next one tries again
		}
		c.publish()
	}
}

// post runs f on the core's goroutine and waits for it. The error is web.ErrStopping or
// that of ctx; f did not run then.
func (c *core) post(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case c.calls <- func() { f(); close(done) }:
		<-done
		return nil
	case <-c.done:
		return web.ErrStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mark takes a marker; one whose id is known changes nothing.
func (c *core) mark(m marker.Marker) {
	c.det.Mark(m)
	c.dirty = true
}

// bucket is a part of the store as the parts of the core see it.
type bucket struct {
	tx   *state.Tx
	name string
}

func (b bucket) Put(key string, value []byte) error { return b.tx.Put(b.name, key, value) }
func (b bucket) Delete(key string) error            { return b.tx.Delete(b.name, key) }

// outboxStore is the outbox's view of the store.
type outboxStore struct{ *state.Store }

func (s outboxStore) Update(fn func(alerts.Tx) error) error {
	return s.Store.Update(func(tx *state.Tx) error { return fn(tx) })
}

// cut makes everything durable at once. On failure nothing is lost: what is not
// durable stays pending and the next cut tries again.
func (c *core) cut() error {
	if c.store == nil {
		return nil
	}
	start := time.Now()
	err := c.store.Update(func(tx *state.Tx) error {
		for stream := range c.dirtyPos {
			p, ok := c.positions[stream]
			if !ok {
				if err := tx.Delete(bucketPositions, stream); err != nil {
					return err
				}
				continue
			}
			if err := putJSON(tx, bucketPositions, stream, p); err != nil {
				return err
			}
		}
		if err := c.ledger.Save(bucket{tx, bucketSlots}); err != nil {
			return err
		}
		if err := c.det.Save(bucket{tx, bucketDetector}); err != nil {
			return err
		}
		if err := c.saveTimelines(tx); err != nil {
			return err
		}
		if err := c.desk.Save(bucket{tx, bucketDesk}); err != nil {
			return err
		}
		if err := c.diary.save(bucket{tx, bucketDiary}); err != nil {
			return err
		}
		if err := c.denied.save(bucket{tx, bucketRefusals}); err != nil {
			return err
		}
		if err := c.valid.save(bucket{tx, bucketValid}); err != nil {
			return err
		}
		return c.outbox.Enqueue(tx, c.pending)
	})
	c.lastCut, c.cutTook = time.Now(), time.Since(start)
	if err != nil {
		if c.cutErr == nil && !errors.Is(err, replica.ErrSuperseded) {
			c.log.Error("state cannot be written; counting goes on in memory, notifications wait, and the next cut tries again",
				"file", c.store.Path(), "error", err)
		}
		c.cutErr = err
		c.det.Rewrite()
		return err
	}
	if c.cutErr != nil {
		c.log.Info("state is written again", "file", c.store.Path())
	}
	c.cuts++
	c.goodCut = c.lastCut
	c.cutErr, c.dirty, c.urgent = nil, false, false
	c.ledger.Saved()
	c.durable.update(c.dirtyPos, c.positions)
	clear(c.dirtyPos)
	c.desk.Saved()
	c.diary.saved()
	c.denied.saved()
	c.valid.saved()
	c.outbox.Add(c.pending)
	c.pending, c.fresh = c.pending[:0], c.fresh[:0]
	return nil
}

func putJSON(tx *state.Tx, bucket, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(bucket, key, b)
}

func timelineKey(id string, seq int) string { return fmt.Sprintf("%s/%06d", id, seq) }

// saveTimelines writes the fresh transitions, the untold ones and the meta
// values, and drops the oldest time lines beyond the bound.
func (c *core) saveTimelines(tx *state.Tx) error {
	for i := range c.fresh {
		t := &c.fresh[i]
		if err := putJSON(tx, bucketTimeline, timelineKey(t.Incident.ID, t.Seq), t); err != nil {
			return err
		}
	}
	untold, err := json.Marshal(c.untold)
	if err != nil {
		return err
	}
	c.meta["untold"] = string(untold)
	for _, k := range slices.Sorted(maps.Keys(c.meta)) {
		if err := tx.Put(bucketMeta, k, []byte(c.meta[k])); err != nil {
			return err
		}
	}
	for len(c.order) > maxTimelines {
		at := max(slices.IndexFunc(c.order, func(id string) bool { return c.last(id).Incident.State == incident.Resolved }), 0)
		id := c.order[at]
		for _, t := range c.timelines[id] {
			if err := tx.Delete(bucketTimeline, timelineKey(id, t.Seq)); err != nil {
				return err
			}
		}
		c.desk.Forget(id)
		delete(c.timelines, id)
		c.order = slices.Delete(c.order, at, at+1)
	}
	return nil
}

// load reads what an earlier run kept.
func (c *core) load(s *state.Store) error {
	if err := s.View(bucketPositions, func(k string, v []byte) error {
		var p position
		if err := json.Unmarshal(v, &p); err != nil {
			return damaged(err)
		}
		c.positions[k] = p
		c.durable.update(map[string]bool{k: true}, c.positions)
		return nil
	}); err != nil {
		return err
	}
	if err := s.View(bucketSlots, func(k string, v []byte) error { return damaged(c.ledger.Load(k, v)) }); err != nil {
		return err
	}
	if err := damaged(c.ledger.Loaded()); err != nil {
		return err
	}
	if err := damaged(c.det.Load(func(yield func(string, []byte) error) error {
		return s.View(bucketDetector, yield)
	})); err != nil {
		return err
	}
	if err := s.View(bucketTimeline, func(k string, v []byte) error {
		var t incident.Transition
		if err := json.Unmarshal(v, &t); err != nil {
			return damaged(err)
		}
		id, _, _ := strings.Cut(k, "/")
		if _, ok := c.timelines[id]; !ok {
			c.order = append(c.order, id)
		}
		c.timelines[id] = append(c.timelines[id], t)
		return nil
	}); err != nil {
		return err
	}
	if err := s.View(bucketRefusals, func(k string, v []byte) error { return damaged(c.denied.load(k, v)) }); err != nil {
		return err
	}
	if err := s.View(bucketValid, func(k string, v []byte) error { return damaged(c.valid.load(k, v)) }); err != nil {
		return err
	}
	if err := s.View(bucketDiary, func(k string, v []byte) error { return damaged(c.diary.load(k, v)) }); err != nil {
		return err
	}
	if err := s.View(bucketDesk, func(k string, v []byte) error { return damaged(c.desk.Load(k, v)) }); err != nil {
		return err
	}
	slices.SortStableFunc(c.order, func(a, b string) int { return c.timelines[a][0].At.Compare(c.timelines[b][0].At) })
	if err := s.View(bucketMeta, func(k string, v []byte) error { c.meta[k] = string(v); return nil }); err != nil {
		return err
	}
	if u := c.meta["untold"]; u != "" {
		if err := json.Unmarshal([]byte(u), &c.untold); err != nil {
			return damaged(err)
		}
	}
	for v := range event.Vantages {
		if start, ok := c.ledger.ClosedSlot(v); ok {
			c.clock.SetClosed(v, start)
		}
	}
	return nil
}

// damaged makes any error of decoding ErrDamaged.
func damaged(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", state.ErrDamaged, err)
}
