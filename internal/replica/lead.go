package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/state"
)

const (
	// partBytes is how much of a transaction goes into one record: less than brokers
	// take, also when it cannot be compressed.
	partBytes = 512 << 10
	// rewriteFactor is how many times as large as the whole state the transactions
	// since may become before it is written again; rewriteLeast is the least size at
	// which that is worth it.
	rewriteFactor = 4
	rewriteLeast  = 16 << 20
	// sweepKeys is how many tombstones go into one batch.
	sweepKeys = 5000
	// retryPause lies between two tries to write a record.
	retryPause = 100 * time.Millisecond
)

// Lead is the time in which this member is active: from its election until somebody
// else takes over or Close.
type Lead struct {
	m       *Member
	id      termID
	started time.Time
	lost    chan struct{}   // closed when another member has taken over
	life    context.Context //nolint:containedctx // it is what ends with the lead
	end     context.CancelFunc

	// updates is held during a transaction; it guards what follows.
	updates   sync.Mutex
	tx        uint64 // the last that was begun
	confirmed uint64 // the last that is known to hold
	n         uint64 // the last record that was numbered
	// undo is how to undo what unconfirmed transactions change, by bucket and key.
	undo map[[2]string]state.Change
	// wholeSize is that of the last whole transaction, sinceSize that of all since.
	wholeSize, sinceSize int

	// m.mu guards what follows.
	lease   time.Time // when the last record that was read back was sent
	applied uint64    // the last transaction that the store holds
	ready   bool      // the first transaction holds
	over    bool      // lost is closed
}

// newLead starts the lead of a term that m has won; it ends with ctx at the latest.
func newLead(ctx context.Context, m *Member, id termID) *Lead {
	l := &Lead{m: m, id: id, started: time.Now(), lost: make(chan struct{}), undo: map[[2]string]state.Change{}}
	l.life, l.end = context.WithCancel(ctx)
	m.background.Go(l.begin)
	m.background.Go(l.beat)
	return l
}

// Lost is closed when another member has taken over: nothing can be written any
// more, and what was read since the last update is that member's to read.
func (l *Lead) Lost() <-chan struct{} { return l.lost }

// Holds reports whether it is certain that no other member has taken over yet.
func (l *Lead) Holds() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return !l.over && time.Since(l.lease) < l.m.opt.Session*3/4
}

// Resign tells the others that this member stops, so that one of them takes over at
// once, and closes the lead. Everything must be durable before. The member does not
// stand for election again.
func (l *Lead) Resign(ctx context.Context) error {
	l.m.change(func() { l.m.resigned = true })
	l.updates.Lock()
	defer l.updates.Unlock()
	err := l.write(ctx, kindResign)
	if errors.Is(err, ErrSuperseded) {
		err = nil
	}
	l.Close()
	return err
}

// Close ends the lead without a word. It may be called more than once.
func (l *Lead) Close() {
	l.m.change(func() {
		if l.m.lead == l {
			l.m.lead = nil
			l.end()
		}
	})
}

// lose notes that another member has taken over. m.mu is held.
func (l *Lead) lose() {
	if !l.over {
		l.over = true
		close(l.lost)
		l.end()
	}
}

// begin writes the whole state and then delivers the lead.
func (l *Lead) begin() {
	for l.life.Err() == nil {
		l.updates.Lock()
		err := l.whole()
		l.updates.Unlock()
		if err == nil {
			break
		}
		l.m.log.Error("the whole state cannot be written to the state topic; trying again", "error", err)
		pause(l.life, retryPause)
	}
	l.m.change(func() { l.ready = l.life.Err() == nil })
	if l.life.Err() == nil {
		l.m.log.Info("this member is active", "epoch", l.id.Epoch)
		l.m.background.Go(l.sweep)
	}
	select {
	case <-l.life.Done():
		l.Close()
	case l.m.elected <- l:
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// beat tells the others that this member lives, whenever nothing else has told it.
func (l *Lead) beat() {
	every := l.m.opt.Session / 5
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		l.m.mu.Lock()
		// Who cannot keep its own copy should be replaced.
		due := time.Since(l.lease) >= every && l.m.owed == nil
		l.m.mu.Unlock()
		if due {
			bounded, done := context.WithTimeout(l.life, l.m.opt.Session/2)
			_ = l.write(bounded, kindBeat) // Run tells what is wrong with the topic
			done()
		}
		select {
		case <-tick.C:
		case <-l.life.Done():
			return
		}
	}
}

// write writes a beat or a resignation.
func (l *Lead) write(ctx context.Context, k kind) error {
	key := l.id.beat()
	return l.append(ctx, func(sent time.Duration) kafka.Record {
		return kafka.Record{Key: []byte(key), Value: sealBeat(key, k, sent)}
	})
}

// append writes one record, which is made anew for each try, until ctx ends.
func (l *Lead) append(ctx context.Context, record func(sent time.Duration) kafka.Record) error {
	for {
		select {
		case <-l.lost:
			return ErrSuperseded
		default:
		}
		err := l.m.opt.Log.Append(ctx, record(time.Since(l.started)))
		if err == nil {
			return nil
		}
		pause(ctx, retryPause)
		if ctx.Err() != nil {
			return l.why(err)
		}
	}
}

// why is ErrSuperseded if that is why something failed, else err.
func (l *Lead) why(err error) error {
	select {
	case <-l.lost:
		return ErrSuperseded
	default:
		return err
	}
}

// commit decides about an update of the store.
func (m *Member) commit(changes []state.Change) error {
	m.mu.Lock()
	l := m.lead
	ready := l != nil && l.ready
	m.mu.Unlock()
	if !ready {
		return ErrStandby
	}
	l.updates.Lock()
	defer l.updates.Unlock()
	if len(changes) == 0 {
		return l.why(nil)
	}
	if err := l.transact(changes, false); err != nil {
		return err
	}
	if l.sinceSize > max(rewriteLeast, rewriteFactor*l.wholeSize) {
		if err := l.whole(); err != nil {
			m.log.Warn("the whole state could not be written again; trying with the next update", "error", err)
			return nil
		}
		l.sweep()
	}
	return nil
}

// whole writes everything the store holds as one transaction. updates is held.
func (l *Lead) whole() error {
	changes, err := l.m.opt.Store.All(bucket)
	if err != nil {
		return err
	}
	return l.transact(changes, true)
}

// transact writes a transaction and waits until the store holds it. updates is held.
func (l *Lead) transact(changes []state.Change, whole bool) error {
	m := l.m
	l.tx++
	tx := l.tx
	var body []byte
	if !whole {
		written := make(map[[2]string]bool, len(changes))
		for i := range changes {
			written[[2]string{changes[i].Bucket, changes[i].Key}] = true
		}
		for at, c := range l.undo {
			if !written[at] {
				body = encode(body, []state.Change{c})
			}
		}
	}
	body = encode(body, changes)
	size := len(body)
	// A large state takes longer, and nobody minds as long as brokers take it.
	ctx, cancel := context.WithTimeout(l.life, m.opt.Session/2+time.Duration(size/partBytes)*time.Second)
	defer cancel()
	for index := uint64(0); ; index++ {
		n := min(len(body), partBytes)
		p := part{tx: tx, prev: l.confirmed, index: index, last: n == len(body), whole: whole, body: body[:n]}
		body = body[n:]
		if err := l.append(ctx, func(sent time.Duration) kafka.Record {
			// Each try has a key of its own: a copy that comes late must not make
			// compaction remove the one that stands in its place.
			l.n++
			key := l.id.key(l.n)
			p.sent = sent
			return kafka.Record{Key: []byte(key), Value: p.seal(key)}
		}); err != nil {
			return l.unconfirmed(tx, changes, whole, fmt.Errorf("the state topic cannot be written: %w", err))
		}
		if p.last {
			break
		}
	}
	if !l.await(ctx, tx) {
		return l.unconfirmed(tx, changes, whole, errors.New("the state topic does not give back what was written to it"))
	}
	l.confirm(tx, whole, size)
	return nil
}

func (l *Lead) confirm(tx uint64, whole bool, size int) {
	l.confirmed = tx
	clear(l.undo)
	if whole {
		l.wholeSize, l.sinceSize = size, 0
	} else {
		l.sinceSize += size
	}
}

// await waits until the store holds a transaction, or ctx ends.
func (l *Lead) await(ctx context.Context, tx uint64) bool {
	for {
		l.m.mu.Lock()
		done, changed := l.applied >= tx, l.m.changed
		l.m.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// unconfirmed prepares for that a transaction which was given up holds after all: it
// remembers how to undo it. It returns nil if it held before it could be given up.
func (l *Lead) unconfirmed(tx uint64, changes []state.Change, whole bool, err error) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.applied >= tx {
		l.confirm(tx, whole, 0)
		return nil
	}
	if e := l.why(nil); e != nil {
		return e
	}
	if whole {
		return err // it changes nothing
	}
	for i := range changes {
		at := [2]string{changes[i].Bucket, changes[i].Key}
		if _, known := l.undo[at]; known {
			continue
		}
		old, readErr := l.m.opt.Store.Get(at[0], at[1])
		if readErr != nil {
			// What cannot be undone must not be followed by anything.
			l.m.resigned = true
			l.lose()
			return fmt.Errorf("%w, and this member's copy cannot be read: %w", err, readErr)
		}
		l.undo[at] = state.Change{Bucket: at[0], Key: at[1], Value: old}
	}
	return err
}

// sweep writes tombstones for what lies in the log for nothing.
func (l *Lead) sweep() {
	l.m.mu.Lock()
	keys := l.m.t.superfluous()
	l.m.mu.Unlock()
	for len(keys) > 0 {
		n := min(len(keys), sweepKeys)
		rs := make([]kafka.Record, n)
		for i, k := range keys[:n] {
			rs[i].Key = []byte(k)
		}
		if err := l.m.opt.Log.Append(l.life, rs...); err != nil {
			l.m.log.Warn("superfluous records stay in the state topic until the whole state is written again", "error", err)
			return
		}
		keys = keys[n:]
	}
}
