package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/state"
)

// bubble runs a test on a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// TestTakeover: the standby has what the active one wrote, takes over when that
// falls silent, and not before.
func TestTakeover(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1", "y", "1")
		b := newNode(t, at, "b").start()
		a.must("x", "2", "y", "-", "z", "")
		b.wants("x", "2", "z", "")
		b.standsBy(10 * session)
		if err := b.put("x", "3"); !errors.Is(err, ErrStandby) {
			t.Fatalf("a standby could write: %v", err)
		}
		if s := b.m.Status(); s.Role != Standby || s.ActiveName != "a" || s.Behind != 0 || s.Silent > session/2 || s.Cut < 2 {
			t.Errorf("the standby says %+v", s)
		}
		if s := a.m.Status(); s.Role != Active || !a.lead.Holds() {
			t.Errorf("the active one says %+v", s)
		}
		killed := time.Now()
		a.kill()
		b.elect()
		if took := time.Since(killed); took < session*4/5 || took > 2*session {
			t.Errorf("it took %v", took)
		}
		b.must("x", "4")
		b.wants("x", "4", "z", "")
		// Who comes back with an old copy follows, as does who has none.
		a.start()
		a.wants("x", "4", "z", "")
		a.standsBy(2 * session)
		c := newNode(t, at, "c").start()
		c.wants("x", "4", "z", "")
		for _, n := range []*node{a, b, c} {
			n.kill()
		}
	})
}

// TestStop: after a clean stop the next one takes over at once.
func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		a.must("x", "1")
		stopped := time.Now()
		if err := a.lead.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.put("x", "2"); !errors.Is(err, ErrStandby) {
			t.Errorf("after it resigned: %v", err)
		}
		b.elect()
		if took := time.Since(stopped); took > session/5 {
			t.Errorf("it took %v", took)
		}
		a.kill()
		b.wants("x", "1")
		b.kill()
	})
}

// TestRestart: the active member goes on at once after it was killed.
func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1")
		for i := range 3 {
			a.kill()
			start := time.Now()
			a.start().elect()
			if took := time.Since(start); took > session/5 {
				t.Errorf("it took %v", took)
			}
			a.must(fmt.Sprint(i), "1")
		}
		a.wants("x", "1", "0", "1", "1", "1", "2", "1")
		a.kill()
	})
}

// TestZombie: an active member that was frozen, was replaced and wakes up commits
// nothing, knows that it must not tell anybody anything, and follows.
func TestZombie(t *testing.T) {
	for _, when := range []string{"idle", "in an update"} {
		t.Run(when, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				at := newTopic()
				a := newNode(t, at, "a").start().elect()
				b := newNode(t, at, "b").start()
				a.must("x", "1")
				a.h.freeze()
				failed := make(chan error, 1)
				if when != "idle" {
					go func() { failed <- a.put("x", "zombie") }()
				}
				b.elect()
				if a.lead.Holds() {
					t.Error("two members hold the lease")
				}
				b.must("x", "2")
				a.h.thaw()
				if when == "idle" {
					failed <- a.put("x", "zombie")
				}
				// The first may have been given up before it could know why.
				if err := <-failed; err == nil {
					t.Error("the zombie has written")
				}
				<-a.lead.Lost()
				if err := a.put("x", "zombie"); !errors.Is(err, ErrSuperseded) {
					t.Errorf("afterwards: %v", err)
				}
				a.wants("x", "2")
				a.standsBy(3 * session)
				a.lead.Close()
				b.kill()
				a.elect()
				a.must("y", "3")
				a.wants("x", "2", "y", "3")
				a.kill()
			})
		})
	}
}

// TestFrozenStandby: a standby that was frozen for longer than a session, and wakes up
// with the answer to what it asked before, does not take over from a member that lives.
func TestFrozenStandby(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b")
		frozen := make(chan struct{})
		b.start()
		a.must("x", "1")
		b.wants("x", "1")
		b.h.set(func() { b.h.answered = func() { <-frozen } })
		time.Sleep(3 * session)
		close(frozen)
		b.standsBy(3 * session)
		if b.m.Status().Epoch != 1 || !a.lead.Holds() {
			t.Errorf("the member that lived was replaced: %+v\n%s", b.m.Status(), b.log)
		}
		a.must("x", "2")
		b.wants("x", "2")
		a.kill()
		b.elect()
		b.kill()
	})
}

// TestCopiedStore: a member that begins with a copy of another one's store is not
// taken for that one, which lives.
func TestCopiedStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1")
		a.kill()
		b := newNode(t, at, "b")
		if err := os.CopyFS(b.dir, os.DirFS(a.dir)); err != nil {
			t.Fatal(err)
		}
		a.start().elect()
		b.start()
		b.standsBy(3 * session)
		a.must("x", "2")
		b.wants("x", "2")
		a.kill()
		b.elect()
		b.kill()
	})
}

// TestLostRace: of members that claim at the same time one holds.
func TestLostRace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		var nodes []*node
		for i := range 5 {
			nodes = append(nodes, newNode(t, at, fmt.Sprint("n", i)))
			nodes[i].h.freeze()
			nodes[i].start()
		}
		for _, n := range nodes {
			n.h.thaw()
		}
		leads := 0
		for range 2 {
			time.Sleep(3 * session)
			for _, n := range nodes {
				select {
				case n.lead = <-n.m.Elected():
					leads++
				default:
				}
			}
		}
		if leads != 1 {
			t.Errorf("%d members are active", leads)
		}
		for _, n := range nodes {
			n.kill()
		}
	})
}

// TestIncomplete: of a transaction whose writer died in the middle nothing is left.
func TestIncomplete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		a.must("x", "1")
		written := 0
		a.h.set(func() {
			a.h.before = func(rs []kafka.Record) error {
				if _, _, beat, _ := parseKey(string(rs[0].Key)); !beat {
					written++
				}
				if written > 2 {
					return errAway
				}
				return nil
			}
		})
		big := strings.Repeat("v", 3*partBytes)
		if err := a.put("x", big, "y", "2"); err == nil {
			t.Fatal("half of an update is whole")
		}
		a.kill()
		b.elect()
		b.wants("x", "1")
		b.must("z", "3")
		a.h.set(func() { a.h.before = nil })
		a.start()
		a.wants("x", "1", "z", "3")
		a.kill()
		b.kill()
	})
}

// TestOversized: values and states larger than a message.
func TestOversized(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		big := strings.Repeat("0123456789", 7*partBytes/20)
		a.must("x", big, "y", "2", "z", big)
		b.wants("x", big, "y", "2", "z", big)
		a.kill()
		b.elect()
		c := newNode(t, at, "c").start()
		c.wants("x", big, "y", "2", "z", big)
		for _, r := range at.records {
			if len(r.Value) > partBytes+100 {
				t.Errorf("a record has %d bytes", len(r.Value))
			}
		}
		b.kill()
		c.kill()
	})
}

// TestUnconfirmed: an update that was given up may have been written all the same,
// or arrive later; after the next one it makes no difference.
func TestUnconfirmed(t *testing.T) {
	for _, fate := range []string{"lost", "written", "late", "too late"} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprint(fate, " crash ", crash), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					at := newTopic()
					a := newNode(t, at, "a").start().elect()
					b := newNode(t, at, "b").start()
					a.must("x", "1", "y", "1", "z", "1")
					var kept []kafka.Record
					away := func([]kafka.Record) error { return errAway }
					a.h.set(func() {
						a.h.reads = func() error { return errAway }
						switch fate {
						case "written":
							a.h.after = away
						default:
							a.h.before = func(rs []kafka.Record) error {
								if _, _, beat, _ := parseKey(string(rs[0].Key)); !beat {
									kept = append(kept[:0:0], rs...)
								}
								return errAway
							}
						}
					})
					if err := a.put("x", "2", "y", "-", "new", "2"); err == nil {
						t.Fatal("an update without an answer succeeded")
					}
					a.wants("x", "1", "y", "1", "z", "1")
					a.h.set(func() { a.h.reads, a.h.before, a.h.after = nil, nil, nil })
					if fate == "late" {
						at.append(kept...)
					}
					if crash {
						a.kill()
						b.elect()
						if fate == "lost" || fate == "too late" {
							b.wants("x", "1", "y", "1", "z", "1")
						} else {
							b.wants("x", "2", "new", "2", "z", "1")
						}
						at.append(kept...)
						b.must("z", "3")
						a.start()
						a.wants(flat(b.holds())...)
					} else {
						a.must("z", "3")
						if fate == "too late" {
							at.append(kept...)
						}
						a.wants("x", "1", "y", "1", "z", "3")
						b.wants("x", "1", "y", "1", "z", "3")
						a.must("y", "4")
						b.wants("x", "1", "y", "4", "z", "3")
					}
					a.kill()
					b.kill()
				})
			})
		}
	}
}

func flat(m map[string]string) (kv []string) {
	for k, v := range m {
		kv = append(kv, k, v)
	}
	return kv
}

// TestOutage: when the brokers are away nobody is replaced, and afterwards all goes
// on.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		a.must("x", "1")
		b.wants("x", "1")
		away := func() error { return errAway }
		for _, n := range []*node{a, b} {
			n.h.set(func() {
				n.h.reads, n.h.before = away, func([]kafka.Record) error { return errAway }
			})
		}
		if err := a.put("x", "2"); !errors.Is(err, errAway) {
			t.Errorf("without brokers: %v", err)
		}
		time.Sleep(20 * session)
		if a.lead.Holds() {
			t.Error("the lease holds without anybody to ask")
		}
		if s := b.m.Status(); !strings.Contains(s.Trouble, errAway.Error()) {
			t.Errorf("the standby says %+v", s)
		}
		// The standby gets there first, and does not take what it missed for silence.
		b.h.set(func() { b.h.reads, b.h.before = nil, nil })
		b.standsBy(session / 2)
		a.h.set(func() { a.h.reads, a.h.before = nil, nil })
		a.must("x", "3")
		b.wants("x", "3")
		b.standsBy(2 * session)
		if !a.lead.Holds() {
			t.Error("the lease does not hold")
		}
		a.kill()
		b.kill()
	})
}

// TestCompaction: whatever compaction leaves is enough, and what is superfluous
// goes.
func TestCompaction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		nodes := []*node{newNode(t, at, "a"), newNode(t, at, "b")}
		var want []string
		for life := range 6 {
			n := nodes[life%2]
			n.start().elect()
			for i := range 20 {
				n.must("k", fmt.Sprint(life, i), fmt.Sprint(i), fmt.Sprint(life))
			}
			if life%3 == 2 { // the state is written whole within the term
				n.lead.updates.Lock()
				if err := n.lead.whole(); err != nil {
					t.Fatal(err)
				}
				n.lead.sweep()
				n.lead.updates.Unlock()
				n.must("w", fmt.Sprint(life))
			}
			want = flat(n.holds())
			at.compact(life)
			cold := newNode(t, at, "cold").start()
			cold.wants(want...)
			cold.kill()
			n.kill()
		}
		// The last life's term and what its claim needs, not much more.
		at.compact(0)
		if len(at.records) > 10 {
			t.Errorf("%d records are left", len(at.records))
		}
		cold := newNode(t, at, "cold").start().elect()
		cold.wants(want...)
		cold.kill()
	})
}

// TestRewrite: the whole state is written again when the updates since have become
// many times as large.
func TestRewrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		big := strings.Repeat("x", 4<<20)
		for i := range 12 {
			a.must("big", big[i:])
		}
		at.compact(0)
		size := 0
		for _, r := range at.records {
			size += len(r.Value)
		}
		if size > 30<<20 {
			t.Errorf("after 48 MB of updates the topic holds %d MB", size>>20)
		}
		b := newNode(t, at, "b").start()
		b.wants("big", big[11:])
		a.kill()
		b.kill()
	})
}

// TestDamage: a damaged record is found, and the member that misses it does not take
// over before it is whole again.
func TestDamage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		for i := range 5 {
			a.must("k", fmt.Sprint(i))
		}
		at.mu.Lock()
		for i, r := range at.records { // the third transaction, of which the writer has read itself
			if strings.HasSuffix(string(r.Key), ".4") {
				v := append([]byte(nil), r.Value...)
				v[len(v)/2] ^= 1
				at.records[i].Value = v
			}
		}
		at.mu.Unlock()
		b := newNode(t, at, "b").start()
		time.Sleep(session)
		if s := b.m.Status(); s.Damaged != 1 || !strings.Contains(s.Refusal, "hole") {
			t.Errorf("the standby says %+v", s)
		}
		a.lead.updates.Lock()
		if err := a.lead.whole(); err != nil {
			t.Fatal(err)
		}
		a.lead.updates.Unlock()
		b.wants("k", "4")
		if s := b.m.Status(); s.Refusal != "" {
			t.Errorf("the standby says %+v", s)
		}
		a.kill()
		b.elect()
		b.kill()
	})
}

// TestOtherKey: a member that would count other people does not take over, and says
// so; one that counts otherwise goes last.
func TestOtherKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1")
		b, c, d := newNode(t, at, "b"), newNode(t, at, "c"), newNode(t, at, "d")
		b.opt.Key = "other"
		c.opt.CountsAlike = func() bool { return false }
		b.start()
		c.start()
		d.start()
		b.wants("x", "1")
		a.kill()
		d.elect()
		if s := b.m.Status(); !strings.Contains(s.Refusal, "identity_key than a") && !strings.Contains(s.Refusal, "identity_key than d") {
			t.Errorf("the one with another key says %+v", s)
		}
		d.kill()
		killed := time.Now()
		c.elect()
		if took := time.Since(killed); took < 3*session/2 || took > 3*session {
			t.Errorf("the one that counts otherwise took over after %v", took)
		}
		c.kill()
		b.standsBy(10 * session)
		b.kill()
		for _, r := range at.records {
			if strings.Contains(string(r.Value), "identity") {
				t.Error("the key is in the topic")
			}
		}
	})
}

// TestTopicGone: a topic that was deleted is filled from the copies.
func TestTopicGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1")
		a.must("x", "2")
		a.kill()
		a.h.topic = newTopic()
		a.start().elect()
		a.must("y", "3")
		b := newNode(t, a.h.topic, "b").start()
		b.wants("x", "2", "y", "3")
		a.kill()
		b.kill()
	})
}

// TestTopicRecreated: the same in the middle of it all: the active member writes the
// whole state again, also for those who know nothing.
func TestTopicRecreated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		for i := range 5 {
			a.must("x", fmt.Sprint(i))
		}
		b.wants("x", "4")
		at.mu.Lock()
		at.records, at.end = nil, 0
		at.mu.Unlock()
		<-a.lead.Lost()
		a.lead.Close()
		a.elect()
		a.must("y", "5")
		b.wants("x", "4", "y", "5")
		c := newNode(t, at, "c").start()
		c.wants("x", "4", "y", "5")
		c.standsBy(3 * session)
		for _, n := range []*node{a, b, c} {
			n.kill()
		}
	})
}

// TestBeginningLost: records without the claim of their term are nothing to begin with.
func TestBeginningLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		a.must("x", "1")
		at.mu.Lock()
		at.records = at.records[1:]
		at.mu.Unlock()
		b := newNode(t, at, "b").start()
		b.standsBy(3 * session)
		if s := b.m.Status(); !strings.Contains(s.Refusal, "lost its beginning") {
			t.Errorf("the standby says %+v", s)
		}
		a.kill()
		b.kill()
	})
}

// TestCopyUnwritable: an active member that cannot write its own copy is replaced.
func TestCopyUnwritable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		a.must("x", "1")
		if err := a.store.Close(); err != nil { // as good as a broken disk
			t.Fatal(err)
		}
		if err := a.put("x", "2"); err == nil {
			t.Error("an update was confirmed that the store does not hold")
		}
		b.elect()
		if a.lead.Holds() {
			t.Error("two members hold the lease")
		}
		b.must("y", "3")
		b.wants("x", "2", "y", "3") // it stands in the log: as after a crash behind the commit
		a.kill()
		b.kill()
	})
}

// TestForget: a copy that was changed outside of the cluster is none.
func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := newTopic()
		a := newNode(t, at, "a").start().elect()
		b := newNode(t, at, "b").start()
		a.must("x", "1")
		b.wants("x", "1")
		b.kill()
		alone, err := state.Open(b.dir, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is nothing to forget
			if err := Forget(alone); err != nil {
				t.Fatal(err)
			}
		}
		if err := alone.Update(func(tx *state.Tx) error { return tx.Put("b", "own", []byte("2")) }); err != nil {
			t.Fatal(err)
		}
		if err := alone.Close(); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.wants("x", "1")
		a.kill()
		b.kill()
	})
}

// TestBadPlace: a copy that does not say what it holds is damaged.
func TestBadPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, newTopic(), "a").start().elect()
		n.must("x", "1")
		if err := n.store.Apply([]state.Change{{Bucket: bucket, Key: keyPlace, Value: []byte("{")}}, false); err != nil {
			t.Fatal(err)
		}
		if _, err := New(n.opt); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("got %v", err)
		}
		n.kill()
	})
}
