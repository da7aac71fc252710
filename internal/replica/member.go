package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/state"
)

// bucket is the part of the store that is this member's own: its place.
const (
	bucket   = "replica"
	keyPlace = "place"
)

// Options are what a member needs. All fields but Logger are needed.
type Options struct {
	Log Log
	// Store is this member's copy of the state. The member changes it; see Member.
	Store *state.Store
	// Name is how people call this member.
	Name string
	// Key is a fingerprint of the identity key.
	Key string
	// CountsAlike tells whether this member would count as the state was counted, so
	// that it may take over before others. It must not block.
	CountsAlike func() bool
	// Session is how long the active member may be silent.
	Session time.Duration
	// Logger gets what happens in plain words; nil discards it.
	Logger *slog.Logger
}

// Member follows the log and becomes active when its turn comes. Its life is New,
// one Run, and Elected and Status in between; all methods are safe for concurrent
// use. From New on the store is changed by the member alone: every Update of it
// becomes a transaction of the log, or fails with ErrStandby or ErrSuperseded.
type Member struct {
	opt     Options
	log     *slog.Logger
	wait    time.Duration // for new records
	elected chan *Lead

	// sweeps and the like; they end with Run's context or with the lead's.
	background sync.WaitGroup

	mu       sync.Mutex // guards everything below
	owner    uint64
	t        tracker
	read     int64  // the offset to read next
	end      int64  // of the log, when it was read last
	caught   bool   // it was read to its end, and brokers answered since
	met      bool   // it was read to its end once
	before   termID // the term that held then
	quiet    time.Time
	owed     *found        // a transaction that holds and could not be applied yet
	changed  chan struct{} // closed and made anew when any of this changes
	lead     *Lead         // while this member is active
	mine     map[uint64]bool
	trouble  error
	refusal  string
	suspect  int64 // offset at which a damaged batch was found; -1
	resigned bool  // this member wants to be active no more
}

// New returns a member of the cluster that shares opt.Log. It reads its place from
// the store and from then on decides about its updates. It connects to nothing yet.
func New(opt Options) (*Member, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Member{
		opt: opt, log: opt.Logger.With("component", "replica", "member", opt.Name), wait: min(500*time.Millisecond, opt.Session/10),
		elected: make(chan *Lead), changed: make(chan struct{}), mine: map[uint64]bool{}, read: fromStart, suspect: -1,
	}
	b, err := opt.Store.Get(bucket, keyPlace)
	if err != nil {
		return nil, err
	}
	var p place
	if b != nil {
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, fmt.Errorf("%w: the place in the state topic: %w", state.ErrDamaged, err)
		}
		m.t.resume(&p)
		m.read = p.Offset
	}
	for p.Owner == 0 {
		p.Owner = rand.Uint64()
		p.Offset = fromStart
		c, err := p.change()
		if err != nil {
			return nil, err
		}
		if err := opt.Store.Apply([]state.Change{c}, false); err != nil {
			return nil, err
		}
	}
	m.owner = p.Owner
	opt.Store.Replicate(m.commit)
	return m, nil
}

// Forget makes a store no copy of any cluster's state any more, because it is going
// to be changed without one. Should it take part again, it begins with what it reads.
func Forget(s *state.Store) error {
	b, err := s.Get(bucket, keyPlace)
	if err != nil || b == nil {
		return err
	}
	return s.Apply([]state.Change{{Bucket: bucket, Key: keyPlace}}, false)
}

// fromStart is the offset of who has read nothing yet.
const fromStart = -1

func (p *place) change() (state.Change, error) {
	b, err := json.Marshal(p)
	return state.Change{Bucket: bucket, Key: keyPlace, Value: b}, err
}

// Elected delivers a Lead whenever this member becomes active and everything the
// state holds stands in the log. Whoever receives it must Close it: before that the
// member does not stand for election again.
func (m *Member) Elected() <-chan *Lead { return m.elected }

// Run follows the log, and stands for election, until ctx ends. Passing troubles are
// logged, shown by Status and tried again. It returns when nothing of it runs any
// more.
func (m *Member) Run(ctx context.Context) {
	defer m.background.Wait()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = m.opt.Session/100, m.opt.Session/5
	ensured, said := false, ""
	for ctx.Err() == nil {
		var err error
		if !ensured {
			err = m.opt.Log.Ensure(ctx)
			ensured = err == nil
		}
		if err == nil {
			err = m.step(ctx)
			ensured = err == nil // a topic that was deleted is made again
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if said != "" {
				m.log.Info("the state topic is read again")
			}
			said = ""
			pause.Reset()
			continue
		}
		if text := err.Error(); text != said {
			m.log.Error("the state topic cannot be used; trying again", "error", err)
			said = text
		}
		m.change(func() { m.trouble, m.caught = err, false })
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// change runs f under the lock and wakes those who wait.
func (m *Member) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

// errDamaged asks for the same records once more: the network may have damaged them.
var errDamaged = errors.New("records of the state topic are damaged (a wrong checksum)")

// step reads once and takes what comes.
func (m *Member) step(ctx context.Context) error {
	if err := m.settle(); err != nil {
		return err
	}
	if m.read == fromStart {
		first, _, err := m.opt.Log.Bounds(ctx)
		if err != nil {
			return err
		}
		m.change(func() { m.read = first })
	}
	asked := time.Now()
	page, err := m.opt.Log.Read(ctx, m.read, m.wait)
	if errors.Is(err, kafka.ErrOutOfRange) {
		m.log.Error("the state topic is another one than before, or brokers lost its end; it is read from its start, and the whole state is written to it again", "offset", m.read)
		m.change(func() {
			m.read, m.before = fromStart, m.t.term.termID
			if m.lead != nil {
				m.lead.lose()
			}
		})
		return err
	}
	if err != nil {
		return err
	}
	if page.Damaged > 0 {
		if m.suspect != m.read {
			m.suspect = m.read
			return errDamaged
		}
		m.log.Error("records of the state topic are damaged and left out", "batches", page.Damaged, "from", m.read, "to", page.Next)
	}
	for i := range page.Records {
		r := &page.Records[i]
		m.mu.Lock()
		gap := m.t.gap
		f := m.t.take(string(r.Key), r.Value)
		holes := m.t.gap && !gap
		m.read = r.Offset + 1
		m.mu.Unlock()
		if holes {
			m.log.Error("a transaction is missing in the state topic; reading on to the next whole state")
		}
		m.heed(&f)
		if f.tx != 0 {
			m.change(func() { m.owed = &f })
			if err := m.settle(); err != nil {
				return err
			}
		}
	}
	m.change(func() {
		m.read, m.end, m.trouble = page.Next, page.End, nil
		if m.caught || m.read < m.end {
			return
		}
		m.caught, m.quiet = true, time.Now()
		if !m.met {
			m.met, m.before = true, m.t.term.termID
		}
	})
	return m.stand(ctx, asked)
}

// heed looks at signs of life and at claims.
func (m *Member) heed(f *found) {
	if !f.sign {
		return
	}
	m.change(func() {
		m.quiet = time.Now()
		l := m.lead
		if l != nil && l.id == m.t.term.termID && !f.claimed {
			if sent := l.started.Add(f.sent); sent.After(l.lease) {
				l.lease = sent
			}
		}
		if !f.claimed {
			return
		}
		if l != nil && l.id != m.t.term.termID {
			l.lose()
			m.log.Warn("another member has taken over; this one stands by from now on", "active", m.t.term.Name, "epoch", m.t.term.Epoch)
		} else if !m.mine[m.t.term.Nonce] {
			m.log.Info("another member is active", "active", m.t.term.Name, "epoch", m.t.term.Epoch)
		}
	})
}

// settle applies the transaction that is owed to the store.
func (m *Member) settle() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owed == nil {
		return nil
	}
	p := place{Owner: m.owner, Term: m.t.term, Tx: m.owed.tx, Offset: m.read, Spans: m.t.spans}
	c, err := p.change()
	if err == nil {
		err = m.opt.Store.Apply(append(m.owed.changes, c), m.owed.whole, bucket)
	}
	if err != nil {
		return fmt.Errorf("%s: the copy of the state cannot be written: %w", m.opt.Store.Path(), err)
	}
	if l := m.lead; l != nil && l.id == m.t.term.termID {
		l.applied = m.owed.tx
	}
	m.owed = nil
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

// stand becomes active if a claim of this member holds, and claims if its turn has
// come. The log was asked for more at the time asked.
func (m *Member) stand(ctx context.Context, asked time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.t.term.termID
	if m.lead != nil || m.resigned {
		return nil
	}
	if m.mine[id.Nonce] {
		clear(m.mine)
		m.lead = newLead(ctx, m, id)
		return nil
	}
	why, refusal := m.due(asked)
	if m.refusal != refusal {
		if m.refusal = refusal; refusal != "" {
			m.log.Error("standing by, but not ready to take over", "reason", refusal)
		}
	}
	if why == "" {
		return nil
	}
	claim := claim{Owner: m.owner, Name: m.opt.Name, Key: m.opt.Key}
	next := termID{Epoch: id.Epoch + 1, Nonce: rand.Uint64()}
	m.mine[next.Nonce] = true
	m.mu.Unlock()
	m.log.Info("taking over", "because", why, "epoch", next.Epoch)
	bounded, cancel := context.WithTimeout(ctx, m.opt.Session/2)
	err := m.opt.Log.Append(bounded, kafka.Record{Key: []byte(next.key(0)), Value: claim.seal(next.key(0))})
	cancel()
	m.mu.Lock()
	m.quiet = time.Now() // whatever became of it, the next claim is not due at once
	return err
}

// due says why this member should take over now, or why it would not even if its
// turn came; or nothing. What counts is the silence until the log was asked, for a
// member that is frozen then wakes up with an answer that is old.
func (m *Member) due(asked time.Time) (why, refusal string) {
	t := &m.t
	switch {
	case !m.caught || m.read < m.end:
		return "", m.refusal
	case t.term.Epoch == 0 && len(t.spans) > 0:
		return "", "the state topic has lost its beginning; this member waits until the active one writes the whole state again"
	case t.term.Epoch == 0:
		why = "nobody was active yet"
	case t.term.Key != m.opt.Key:
		return "", "this member has another identity_key than " + t.term.Name +
			", so it does not take over: the people it counts would be others; give all members the same key, or name another cluster.topic to begin anew"
	case t.gap:
		return "", "the state topic has a hole; this member waits until the active one writes the whole state again"
	case t.term.Owner == m.owner && t.term.Name == m.opt.Name && t.term.termID == m.before && len(m.mine) == 0:
		why = "this member was the active one before its restart"
	}
	if why != "" {
		return why, ""
	}
	patience := m.opt.Session
	if why = "the active member is silent"; t.resigned {
		patience, why = 0, "the active member has stopped"
	}
	if !m.opt.CountsAlike() {
		// Members that do go first.
		patience += m.opt.Session
		why += ", and no member counts as it did: the configuration of this one holds"
	}
	if patience > 0 && asked.Sub(m.quiet) < patience {
		return "", ""
	}
	return why, ""
}

// Role is what a member does.
type Role string

// The roles.
const (
	// Starting: the log has not been read to its end yet.
	Starting Role = "starting"
	// Standby: another member is active, or none, and this one follows.
	Standby Role = "standby"
	// Active: this member reads the logs and tells of incidents.
	Active Role = "active"
)

// Status is how a member is doing.
type Status struct {
	// Name is this member's.
	Name string
	Role Role
	// ActiveName is the member that is active, as far as this one has read; empty if
	// none ever was or the last one stopped.
	ActiveName string
	// Epoch counts the takeovers, Cut the transactions since the last of them that
	// this member's copy holds.
	Epoch, Cut uint64
	// Behind is how many records of the topic are not read yet.
	Behind int64
	// Silent is how long nothing was heard of the active member.
	Silent time.Duration
	// Damaged counts records that could not be read.
	Damaged int
	// Trouble is why the topic cannot be used, Refusal why this member would not take
	// over; empty if all is well.
	Trouble, Refusal string
}

// Status says how this member is doing.
func (m *Member) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Name: m.opt.Name, Role: Standby, ActiveName: m.t.term.Name, Epoch: m.t.term.Epoch, Cut: m.t.tx, Behind: max(m.end-m.read, 0),
		Silent: time.Since(m.quiet), Damaged: m.t.damaged, Refusal: m.refusal,
	}
	if m.t.resigned {
		s.ActiveName = ""
	}
	switch {
	case m.lead != nil && m.lead.ready && !m.lead.over:
		s.Role = Active
	case !m.met:
		s.Role = Starting
	}
	if m.trouble != nil {
		s.Trouble = m.trouble.Error()
	}
	return s
}
