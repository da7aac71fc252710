package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/denywatch/denywatch/internal/incident"
)

// The buckets of the store that the outbox owns.
const (
	// BucketOutbox holds the deliveries that wait; their keys sort in order.
	BucketOutbox = "outbox"
	// BucketSink holds what sinks remember of incidents, by sink, incident and target.
	BucketSink = "sink"
	// BucketDead holds deliveries that were given up, with the reason.
	BucketDead = "dead"
)

// Tx is one transaction of the store.
type Tx interface {
	Put(bucket, key string, value []byte) error
	Delete(bucket, key string) error
}

// Store is where the outbox is durable. Update applies all of what fn does or
// nothing, and has it on disk when it returns nil. View calls fn for every pair
// of a bucket; key and value die when fn returns.
type Store interface {
	Update(fn func(Tx) error) error
	View(bucket string, fn func(key string, value []byte) error) error
}

// The crash points of a delivery, in order. Options.Crash is called with each.
const (
	// PointMark: nothing of the try is recorded.
	PointMark = "outbox-mark"
	// PointTry: the try is recorded, the sink was not called.
	PointTry = "outbox-try"
	// PointTried: the sink was called, the outcome is not recorded.
	PointTried = "outbox-tried"
	// PointSettled: the outcome is recorded.
	PointSettled = "outbox-settled"
)

// CrashPoints lists the crash points in the order of a delivery's life.
var CrashPoints = []string{PointMark, PointTry, PointTried, PointSettled}

// Meter counts what the outbox does. Its methods are called concurrently.
type Meter interface {
	// Delivered is called for every delivery that a sink took; wait is the time
	// since it was queued.
	Delivered(sink string, wait time.Duration)
	// Failed is called for every try that failed.
	Failed(sink string, kind ErrorKind)
	// Dead is called for every delivery that was given up.
	Dead(sink string)
	// Coalesced is called with the number of updates that a later one replaced.
	Coalesced(sink string, n int)
}

// Options tune an outbox. The zero value is right for production but for Log.
type Options struct {
	// Log gets what went wrong; nil discards it.
	Log *slog.Logger
	// Meter counts; nil counts nothing.
	Meter Meter
	// Concurrency is how many incidents one sink is told of at once; 4 if 0.
	Concurrency int
	// TryTimeout bounds one try; 30 s if 0. It covers the pacing inside a sink.
	TryTimeout time.Duration
	// StopTimeout bounds how long Run lets tries end when it is told to stop;
	// 10 s if 0.
	StopTimeout time.Duration
	// CoalesceAfter is how long a "grew" that no try was made of must have
	// waited before a following "grew" of the same incident replaces it; 1 min
	// if 0. Nothing else is ever replaced.
	CoalesceAfter time.Duration
	// GiveUpAfter is the age at which a delivery that keeps failing becomes a
	// dead letter, so that a sink that is gone for good does not fill the store;
	// 7 days if 0.
	GiveUpAfter time.Duration
	// MaxDead bounds the dead letters kept, MaxMemory the incidents remembered
	// for all sinks together; the oldest go first. 1,000 and 10,000 if 0.
	MaxDead, MaxMemory int
	// Site is where sinks link to.
	Site Site
	// May is asked directly before a sink is called; while it says no, deliveries wait.
	// Where several processes share one store, it says whether this one still is the
	// one that delivers. nil: always.
	May func() bool
	// Crash is called at the crash points, so that tests can end the process
	// there; nil in production.
	Crash func(point string)
}

// Back-off between tries: of one incident's delivery after a temporary failure,
// and of a whole sink while it is misconfigured. Both double and are spread by
// half either way.
const (
	retryFirst, retryMost         = time.Second, time.Minute
	misconfigFirst, misconfigMost = 5 * time.Second, 5 * time.Minute
	// mostRetryAfter bounds what a sink may ask for.
	mostRetryAfter = time.Hour
	// maxErrorText bounds stored and shown error texts, in runes.
	maxErrorText = 300
)

// SinkState is how a sink is doing.
type SinkState string

// The states of a sink.
const (
	// SinkOK: the last try succeeded, or none was made yet.
	SinkOK SinkState = "ok"
	// SinkRetrying: the last try failed; deliveries wait for the next.
	SinkRetrying SinkState = "retrying"
	// SinkMisconfigured: the sink refuses everything until someone mends its
	// configuration.
	SinkMisconfigured SinkState = "misconfigured"
	// SinkUnrecorded: the store cannot be written, or Options.May says no, so no try is
	// made.
	SinkUnrecorded SinkState = "unrecorded"
)

// Health is how one sink is doing.
type Health struct {
	Sink  string    `json:"sink"`
	State SinkState `json:"state"`
	// Depth is how many deliveries wait, Oldest how long the oldest has.
	Depth  int           `json:"depth"`
	Oldest time.Duration `json:"oldest"`
	// LastError is the last failure since the last success; empty if none.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Dead is how many deliveries were given up since the process started.
	Dead int `json:"dead"`
}

// DeadLetter is a delivery that was given up.
type DeadLetter struct {
	// ID tells dead letters apart; it is set when they are listed.
	ID       string    `json:"-"`
	Delivery Delivery  `json:"delivery"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
	// Raw is what was found instead of a delivery that could be read.
	Raw []byte `json:"raw,omitempty"`
}

// remembered is a record of BucketSink.
type remembered struct {
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"data"`
}

// Outbox delivers what was made durable. Its life is New, one Run, and any
// number of Enqueue and Add in between; all methods are safe for concurrent use.
type Outbox struct {
	store Store
	opt   Options
	sinks map[string]*sink
	names []string

	// commits is held around a transaction that changes dead or mem and the
	// change itself, so that the bounds of both hold in the store as well. It is
	// taken before the store's own lock, mu after it.
	commits sync.Mutex

	mu   sync.Mutex // guards everything below and in sinks and lanes
	next uint64     // the sequence number of the next delivery
	mem  map[string]remembered
	dead []string // keys of the dead letters, the oldest first
}

// sink is the state of one sink.
type sink struct {
	name     string
	notifier Notifier
	wake     chan struct{} // one token: something changed

	lanes       map[string]*lane // by name
	depth       int
	running     int
	state       SinkState
	pausedUntil time.Time
	misconfig   *backoff.ExponentialBackOff
	lastErr     string
	lastErrAt   time.Time
	dead        int
}

// lane is the queue of one incident to one place of a sink. While busy, only its
// worker changes the head of the queue and memory.
type lane struct {
	name      string // Delivery.lane
	queue     []*Delivery
	busy      bool
	notBefore time.Time
	retry     *backoff.ExponentialBackOff
}

// New returns an outbox over what the store holds. Deliveries for a sink that is
// not configured any more, and records that cannot be read, become dead letters.
// The sinks' names must be valid (ValidateSinkName). It starts nothing.
func New(store Store, sinks map[string]Notifier, opt Options) (*Outbox, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Log = opt.Log.With("component", "alerts")
	if opt.Meter == nil {
		opt.Meter = noMeter{}
	}
	if opt.Crash == nil {
		opt.Crash = func(string) {}
	}
	if opt.May == nil {
		opt.May = func() bool { return true }
	}
	orElse(&opt.Concurrency, 4)
	orElse(&opt.TryTimeout, 30*time.Second)
	orElse(&opt.StopTimeout, 10*time.Second)
	orElse(&opt.CoalesceAfter, time.Minute)
	orElse(&opt.GiveUpAfter, 7*24*time.Hour)
	orElse(&opt.MaxDead, 1000)
	orElse(&opt.MaxMemory, 10000)
	o := &Outbox{store: store, opt: opt, sinks: map[string]*sink{}, next: 1, mem: map[string]remembered{}}
	for name, n := range sinks {
		if err := ValidateSinkName(name); err != nil {
			return nil, fmt.Errorf("alerts: sink %q: %w", Clean(name, maxSinkName), err)
		}
		o.sinks[name] = &sink{name: name, notifier: n, wake: make(chan struct{}, 1), lanes: map[string]*lane{},
			state: SinkOK, misconfig: newBackOff(misconfigFirst, misconfigMost)}
		o.names = append(o.names, name)
	}
	slices.Sort(o.names)
	if err := o.load(); err != nil {
		return nil, fmt.Errorf("alerts: load the outbox: %w", err)
	}
	return o, nil
}

func orElse[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

func newBackOff(first, most time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: most, Multiplier: 2, RandomizationFactor: 0.5}
}

func (o *Outbox) load() error {
	type lost struct {
		key    string
		letter DeadLetter
	}
	var pending []*Delivery
	var losts []lost
	now := time.Now()
	err := o.store.View(BucketOutbox, func(key string, value []byte) error {
		o.after(key)
		d := new(Delivery)
		readable := json.Unmarshal(value, d) == nil && d.storeKey() == key
		if !readable {
			losts = append(losts, lost{strings.Clone(key), DeadLetter{At: now, Reason: "the record cannot be read", Raw: bytes.Clone(value)}})
			return nil
		}
		if o.sinks[d.Sink] == nil {
			losts = append(losts, lost{strings.Clone(key), DeadLetter{At: now, Reason: "the sink is not configured any more", Delivery: *d}})
			return nil
		}
		pending = append(pending, d)
		return nil
	})
	if err != nil {
		return err
	}
	err = o.store.View(BucketDead, func(key string, _ []byte) error {
		o.after(key)
		o.dead = append(o.dead, strings.Clone(key))
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(o.dead)
	err = o.store.View(BucketSink, func(key string, value []byte) error {
		var r remembered
		if json.Unmarshal(value, &r) == nil {
			o.mem[strings.Clone(key)] = r
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(losts) > 0 {
		o.opt.Log.Warn("deliveries without a sink or a readable record were moved to the dead letters", "count", len(losts))
		if err := o.store.Update(func(tx Tx) error {
			for _, l := range losts {
				if err := tx.Delete(BucketOutbox, l.key); err != nil {
					return err
				}
				if err := o.bury(tx, l.key, l.letter); err != nil {
					return err
				}
				o.buried(l.key)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	slices.SortFunc(pending, func(a, b *Delivery) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	for _, d := range pending {
		o.enter(d)
	}
	return nil
}

// after makes sure that sequence numbers go on behind key's.
func (o *Outbox) after(key string) {
	if n, err := strconv.ParseUint(key, 10, 64); err == nil {
		o.next = max(o.next, n+1)
	}
}

// Enqueue numbers the deliveries, stamps them and writes them in the caller's
// transaction, which is the one of the cut that holds the transitions. After it
// was committed the caller hands the same slice to Add; if it fails, the caller
// forgets it and may call Enqueue again.
func (o *Outbox) Enqueue(tx Tx, ds []Delivery) error {
	now := time.Now().UTC()
	for i := range ds {
		d := &ds[i]
		o.mu.Lock()
		d.Seq = o.next
		o.next++
		o.mu.Unlock()
		d.QueuedAt = now
		if err := put(tx, BucketOutbox, d.storeKey(), d); err != nil {
			return fmt.Errorf("alerts: queue %s: %w", d.Key, err)
		}
	}
	return nil
}

// Add hands over deliveries that Enqueue wrote and that are committed. It does
// not block on sinks. Deliveries for unknown sinks are left to the next New.
func (o *Outbox) Add(ds []Delivery) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range ds {
		if s := o.sinks[ds[i].Sink]; s != nil {
			d := ds[i]
			o.enter(&d)
			s.poke()
		}
	}
}

// enter appends d to its lane. o.mu is held, or nothing runs yet.
func (o *Outbox) enter(d *Delivery) {
	s := o.sinks[d.Sink]
	name := d.lane()
	l := s.lanes[name]
	if l == nil {
		l = &lane{name: name, retry: newBackOff(retryFirst, retryMost)}
		s.lanes[name] = l
	}
	l.queue = append(l.queue, d)
	s.depth++
}

func (s *sink) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends. Then it starts no more tries, gives those under
// way Options.StopTimeout, cancels the rest and returns nil; what was not
// delivered stays durable. No goroutine of it is left when it returns. It may be
// called once.
func (o *Outbox) Run(ctx context.Context) error {
	// Tries outlive ctx by the stop timeout.
	tries, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for _, name := range o.names {
		s := o.sinks[name]
		wg.Go(func() { o.dispatch(ctx, tries, s) })
		if r, ok := s.notifier.(Refresher); ok {
			wg.Go(func() { o.refresh(ctx, s, r) })
		}
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	<-ctx.Done()
	bound := time.NewTimer(o.opt.StopTimeout)
	defer bound.Stop()
	select {
	case <-done:
	case <-bound.C:
		cancel()
		<-done
	}
	return nil
}

// dispatch starts a worker for every lane that may go, until ctx ends; then it
// waits for its workers.
func (o *Outbox) dispatch(ctx, tries context.Context, s *sink) {
	var workers sync.WaitGroup
	defer workers.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		l, wait := o.pick(s)
		if l != nil {
			workers.Go(func() { o.work(tries, s, l) })
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// refresh tells a sink again what it was told, until ctx ends.
func (o *Outbox) refresh(ctx context.Context, s *sink, r Refresher) {
	tick := time.NewTicker(RefreshEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if o.opt.May != nil && !o.opt.May() {
			continue
		}
		err := r.Refresh(ctx, func() []json.RawMessage { return o.memories(s) })
		switch {
		case ctx.Err() != nil:
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			o.opt.Log.Warn("a sink could not be told again of what is open; it is tried again", "sink", s.name, "error", err)
		}
	}
}

// memories is what a sink remembers of all incidents, in the order of their keys.
func (o *Outbox) memories(s *sink) (list []json.RawMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(o.mem)) {
		if strings.HasPrefix(key, s.name+"/") {
			list = append(list, o.mem[key].Data)
		}
	}
	return list
}

// pick returns the lane whose head waits longest among those that may go now,
// marked busy, or how long to wait for one.
func (o *Outbox) pick(s *sink) (*lane, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, wait := time.Now(), time.Hour
	most := o.opt.Concurrency
	if s.state != SinkOK {
		// A sink in trouble is probed, not stormed.
		most = 1
	}
	if s.running >= most {
		return nil, wait
	}
	if d := s.pausedUntil.Sub(now); d > 0 {
		return nil, d
	}
	var best *lane
	for _, l := range s.lanes {
		if l.busy {
			continue
		}
		if d := l.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if best == nil || l.queue[0].Seq < best.queue[0].Seq {
			best = l
		}
	}
	if best != nil {
		best.busy = true
		s.running++
	}
	return best, wait
}

// work makes one try of the lane's head and settles it.
func (o *Outbox) work(ctx context.Context, s *sink, l *lane) {
	d, drop, memory := o.head(s, l)
	before := d.Uncertain
	d.Uncertain = true
	d.Attempts++
	o.opt.Crash(PointMark)
	err := o.store.Update(func(tx Tx) error {
		for _, old := range drop {
			if err := tx.Delete(BucketOutbox, old); err != nil {
				return err
			}
		}
		return put(tx, BucketOutbox, d.storeKey(), &d)
	})
	if err != nil {
		o.finish(s, l, func() {
			if s.state != SinkUnrecorded {
				o.opt.Log.Error("deliveries wait, for the outbox cannot be written", "sink", s.name, "error", err)
			}
			s.fail(SinkUnrecorded, "the outbox cannot be written: "+err.Error())
			l.notBefore = time.Now().Add(l.retry.NextBackOff())
		})
		return
	}
	o.dropped(s, l, len(drop))

	o.opt.Crash(PointTry)
	if !o.opt.May() {
		o.finish(s, l, func() {
			s.fail(SinkUnrecorded, "another process may deliver by now")
			l.notBefore = time.Now().Add(l.retry.NextBackOff())
		})
		return
	}
	try := d
	try.Uncertain = before
	try.Memory = memory
	if d.Post == nil {
		id := d.Transition.Incident.ID
		try.URL, try.Chart = o.opt.Site.Incident(id), o.opt.Site.Chart(id)
	}
	tctx, cancel := context.WithTimeout(ctx, o.opt.TryTimeout)
	mem, err := s.deliver(tctx, &try)
	cancel()
	o.opt.Crash(PointTried)

	if err == nil {
		if o.settle(ctx, s, l, &d, mem, nil) {
			o.opt.Meter.Delivered(s.name, time.Since(d.QueuedAt))
			o.opt.Crash(PointSettled)
		}
		return
	}
	o.failed(ctx, s, l, &d, before, mem, err)
}

// deliver hands a delivery to the sink.
func (s *sink) deliver(ctx context.Context, d *Delivery) (json.RawMessage, error) {
	if d.Post == nil {
		return s.notifier.Notify(ctx, d)
	}
	p, ok := s.notifier.(Poster)
	if !ok {
		return nil, &Error{Kind: Permanent, Refused: true, Err: errors.New("the sink takes incidents only")}
	}
	return p.Post(ctx, d)
}

// head returns a copy of the lane's head and its memory, and the keys of the
// updates before it that it replaces.
func (o *Outbox) head(s *sink, l *lane) (d Delivery, drop []string, memory json.RawMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := 0
	for ; i+1 < len(l.queue); i++ {
		h := l.queue[i]
		if h.Transition.Kind != incident.Grew || l.queue[i+1].Transition.Kind != incident.Grew ||
			h.Uncertain || len(h.Mention) > 0 || time.Since(h.QueuedAt) < o.opt.CoalesceAfter {
			break
		}
		drop = append(drop, h.storeKey())
	}
	return *l.queue[i], drop, o.mem[memKey(s, l)].Data
}

func memKey(s *sink, l *lane) string { return s.name + "/" + l.name }

// dropped forgets n replaced updates once that is durable.
func (o *Outbox) dropped(s *sink, l *lane, n int) {
	if n == 0 {
		return
	}
	o.mu.Lock()
	l.queue = l.queue[n:]
	s.depth -= n
	o.mu.Unlock()
	o.opt.Meter.Coalesced(s.name, n)
}

// failed decides what becomes of a try that failed.
func (o *Outbox) failed(ctx context.Context, s *sink, l *lane, d *Delivery, before bool, mem json.RawMessage, err error) {
	kind, retryAfter, refused := Temporary, time.Duration(0), false
	if e, ok := errors.AsType[*Error](err); ok {
		kind, retryAfter, refused = e.Kind, min(e.RetryAfter, mostRetryAfter), e.Refused
	}
	d.LastError = Clean(err.Error(), maxErrorText)
	d.Uncertain = before || !refused
	o.opt.Meter.Failed(s.name, kind)
	log := o.opt.Log.With("sink", s.name, "delivery", d.Key, "attempt", d.Attempts, "kind", kind.String(), "error", d.LastError)

	reason := d.LastError
	since := d.QueuedAt
	if since.Before(d.ResentAt) {
		since = d.ResentAt
	}
	age := time.Since(since)
	if kind != Permanent && age > o.opt.GiveUpAfter {
		kind, reason = Permanent, "given up after "+Span(age)+": "+reason
	}
	if kind == Permanent {
		log.Error("a delivery was given up and is kept as a dead letter", "reason", reason)
		letter := &DeadLetter{Delivery: *d, Reason: reason, At: time.Now().UTC()}
		if o.settle(ctx, s, l, d, mem, letter) {
			o.opt.Meter.Dead(s.name)
			o.opt.Crash(PointSettled)
		}
		return
	}

	// If this cannot be written, the record of the try says uncertain and the
	// sink looks for what got through: nothing is lost but a look-up.
	o.commits.Lock()
	if uerr := o.store.Update(func(tx Tx) error {
		if err := o.remember(tx, s, l, mem); err != nil {
			return err
		}
		return put(tx, BucketOutbox, d.storeKey(), d)
	}); uerr != nil {
		log.Warn("the outcome of a try cannot be written", "store_error", uerr)
	}
	o.mu.Lock()
	o.remembered(s, l, mem)
	o.mu.Unlock()
	o.commits.Unlock()
	o.opt.Crash(PointSettled)
	o.finish(s, l, func() {
		*l.queue[0] = *d
		now := time.Now()
		wait := retryAfter
		switch {
		case kind == Misconfigured:
			if s.state != SinkMisconfigured {
				log.Error("a sink refuses everything; its deliveries wait until it is mended")
			}
			s.fail(SinkMisconfigured, d.LastError)
			s.pausedUntil = now.Add(max(wait, s.misconfig.NextBackOff()))
			return
		case s.state == SinkOK:
			log.Warn("a delivery failed and will be tried again")
		}
		s.fail(SinkRetrying, d.LastError)
		if wait > 0 {
			s.pausedUntil = now.Add(wait)
			return
		}
		l.notBefore = now.Add(l.retry.NextBackOff())
	})
}

// fail notes a failure of the sink. o.mu is held.
func (s *sink) fail(state SinkState, text string) {
	s.state, s.lastErr, s.lastErrAt = state, Clean(text, maxErrorText), time.Now().UTC()
}

// settle takes the lane's head off the outbox, durably: it was delivered, or
// with a letter it is dead. The sink has been called already, so it insists
// until the store takes it or ctx ends; then it reports false and the next
// process finds the delivery uncertain.
func (o *Outbox) settle(ctx context.Context, s *sink, l *lane, d *Delivery, mem json.RawMessage, letter *DeadLetter) bool {
	retry := newBackOff(retryFirst, retryMost)
	for {
		err := o.trySettle(s, l, d, mem, letter)
		if err == nil {
			break
		}
		o.opt.Log.Error("the outcome of a delivery cannot be written; trying again", "sink", s.name, "delivery", d.Key, "error", err)
		o.mu.Lock()
		s.fail(SinkUnrecorded, "the outbox cannot be written: "+err.Error())
		o.mu.Unlock()
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			o.finish(s, l, func() { l.notBefore = time.Now().Add(retryMost) })
			return false
		case <-timer.C:
		}
	}
	o.finish(s, l, func() {
		if letter != nil {
			s.dead++
			s.lastErr, s.lastErrAt = Clean(letter.Reason, maxErrorText), letter.At
		} else {
			s.lastErr, s.lastErrAt = "", time.Time{}
		}
		if s.state != SinkOK {
			o.opt.Log.Info("the sink answers again", "sink", s.name)
		}
		s.state = SinkOK
		s.misconfig.Reset()
		l.retry.Reset()
		l.queue = l.queue[1:]
		s.depth--
		if len(l.queue) == 0 {
			delete(s.lanes, l.name)
		}
	})
	return true
}

// trySettle is one try of settle's transaction.
func (o *Outbox) trySettle(s *sink, l *lane, d *Delivery, mem json.RawMessage, letter *DeadLetter) error {
	o.commits.Lock()
	defer o.commits.Unlock()
	err := o.store.Update(func(tx Tx) error {
		if err := tx.Delete(BucketOutbox, d.storeKey()); err != nil {
			return err
		}
		if letter != nil {
			if err := o.bury(tx, d.storeKey(), *letter); err != nil {
				return err
			}
		}
		return o.remember(tx, s, l, mem)
	})
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remembered(s, l, mem)
	if letter != nil {
		o.buried(d.storeKey())
	}
	return nil
}

// finish ends the work on a lane: it calls fn under the lock and lets the
// dispatcher look again.
func (o *Outbox) finish(s *sink, l *lane, fn func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fn()
	l.busy = false
	s.running--
	s.poke()
}

// remember writes a sink's memory of an incident and evicts the oldest ones.
func (o *Outbox) remember(tx Tx, s *sink, l *lane, mem json.RawMessage) error {
	if mem == nil {
		return nil
	}
	for _, old := range o.forgettable(memKey(s, l)) {
		if err := tx.Delete(BucketSink, old); err != nil {
			return err
		}
	}
	return put(tx, BucketSink, memKey(s, l), remembered{At: time.Now().UTC(), Data: mem})
}

// remembered is remember's part in memory. o.mu is held.
func (o *Outbox) remembered(s *sink, l *lane, mem json.RawMessage) {
	if mem == nil {
		return
	}
	key := memKey(s, l)
	for _, old := range o.oldest(key) {
		delete(o.mem, old)
	}
	o.mem[key] = remembered{At: time.Now().UTC(), Data: mem}
}

func (o *Outbox) forgettable(newKey string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.oldest(newKey)
}

// oldest returns the memories that must go to make room for newKey's: a tenth of
// all at a time, so that the search for them is rare. o.mu is held.
func (o *Outbox) oldest(newKey string) []string {
	if _, known := o.mem[newKey]; known || len(o.mem) < o.opt.MaxMemory {
		return nil
	}
	keys := make([]string, 0, len(o.mem))
	for k := range o.mem {
		name, lane, _ := strings.Cut(k, "/")
		if s := o.sinks[name]; s != nil && s.lanes[lane] != nil {
			continue
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if c := o.mem[a].At.Compare(o.mem[b].At); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return keys[:min(len(keys), o.opt.MaxMemory/10+1)]
}

// bury writes a dead letter and removes the oldest ones above the bound.
func (o *Outbox) bury(tx Tx, key string, letter DeadLetter) error {
	o.mu.Lock()
	old := o.dead[:max(0, len(o.dead)+1-o.opt.MaxDead)]
	o.mu.Unlock()
	for _, k := range old {
		if err := tx.Delete(BucketDead, k); err != nil {
			return err
		}
	}
	return put(tx, BucketDead, key, letter)
}

// buried is bury's part in memory. o.mu is held, or nothing runs yet.
func (o *Outbox) buried(key string) {
	o.dead = append(o.dead[max(0, len(o.dead)+1-o.opt.MaxDead):], key)
}

// Health says how every sink is doing, in the order of their names.
func (o *Outbox) Health() []Health {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	hs := make([]Health, 0, len(o.names))
	for _, name := range o.names {
		s := o.sinks[name]
		h := Health{Sink: name, State: s.state, Depth: s.depth, LastError: s.lastErr, LastErrorAt: s.lastErrAt, Dead: s.dead}
		for _, l := range s.lanes {
			h.Oldest = max(h.Oldest, now.Sub(l.queue[0].QueuedAt))
		}
		hs = append(hs, h)
	}
	return hs
}

func put(tx Tx, bucket, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(bucket, key, b)
}

type noMeter struct{}

func (noMeter) Delivered(string, time.Duration) {}
func (noMeter) Failed(string, ErrorKind)        {}
func (noMeter) Dead(string)                     {}
func (noMeter) Coalesced(string, int)           {}
