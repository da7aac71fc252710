package replica

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/denywatch/denywatch/ingest/kafka"
)

// TestChaos: members die, freeze, stop and lose their brokers at random while records
// are lost or come late and the topic is compacted. No confirmed update is ever lost,
// none is applied twice, no two members hold the lease at once, and in the end all
// copies are the same.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed+i), func(t *testing.T) {
			bubble(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed+i, 0)), 150) })
		})
	}
}

func chaos(t *testing.T, rnd *rand.Rand, steps int) {
	at := newTopic()
	nodes := []*node{newNode(t, at, "a"), newNode(t, at, "b"), newNode(t, at, "c")}
	up := map[*node]bool{}
	var late [][]kafka.Record
	flaky := func(n *node) {
		// Reading and writing have a generator each, for they are not locked together.
		r, q := rand.New(rand.NewPCG(rnd.Uint64(), 1)), rand.New(rand.NewPCG(rnd.Uint64(), 2))
		n.h.set(func() {
			n.h.before = func(rs []kafka.Record) error {
				switch r.IntN(3) {
				case 0:
					return errAway
				case 1:
					at.mu.Lock()
					late = append(late, append([]kafka.Record(nil), rs...))
					at.mu.Unlock()
					return errAway
				}
				return nil
			}
			n.h.after = func([]kafka.Record) error {
				if r.IntN(2) == 0 {
					return errAway
				}
				return nil
			}
			n.h.reads = func() error {
				if q.IntN(4) == 0 {
					return errAway
				}
				return nil
			}
		})
	}
	calm := func(n *node) { n.h.set(func() { n.h.before, n.h.after, n.h.reads = nil, nil, nil }) }
	frozen := map[*node]bool{}
	thaw := func(n *node) {
		if frozen[n] {
			n.h.thaw()
			frozen[n] = false
		}
	}
	look := func() {
		holders := 0
		for _, n := range nodes {
			if !up[n] {
				continue
			}
			select {
			case l := <-n.m.Elected():
				n.lead = l
			default:
			}
			if n.lead == nil {
				continue
			}
			if n.lead.Holds() {
				holders++
			}
			select {
			case <-n.lead.Lost():
				n.lead.Close()
				n.lead = nil
			default:
			}
		}
		if holders > 1 {
			t.Fatalf("%d members hold the lease", holders)
		}
	}
	var confirmed []string
	ids := 0
	update := func(n *node) {
		b, err := n.store.Get("b", "n")
		if err != nil {
			t.Fatal(err)
		}
		before, _ := strconv.Atoi(string(b))
		ids++
		id := fmt.Sprint("op", ids)
		if n.put("n", strconv.Itoa(before+1), fmt.Sprintf("%06d", before+1), id) == nil {
			confirmed = append(confirmed, id)
		}
	}
	for range steps {
		n := nodes[rnd.IntN(len(nodes))]
		switch op := rnd.IntN(20); {
		case op < 8:
			for _, n := range nodes {
				if up[n] && n.lead != nil {
					update(n)
				}
			}
		case op < 10 && !up[n]:
			n.start()
			up[n] = true
		case op == 10 && up[n]:
			thaw(n)
			n.kill()
			up[n] = false
		case op == 11 && up[n] && n.lead != nil && !frozen[n]:
			calm(n)
			_ = n.lead.Resign(t.Context()) // it may have been replaced
			n.kill()
			up[n] = false
		case op == 12 && up[n] && !frozen[n]:
			n.h.freeze()
			frozen[n] = true
		case op == 13:
			thaw(n)
		case op == 14:
			flaky(n)
		case op == 15:
			calm(n)
		case op == 16:
			at.compact(rnd.IntN(20))
		case op == 17:
			at.mu.Lock()
			rs := late
			late = nil
			at.mu.Unlock()
			for _, i := range rnd.Perm(len(rs)) {
				at.append(rs[i]...)
			}
		default:
			time.Sleep(time.Duration(rnd.Int64N(int64(2 * session))))
		}
		look()
	}
	for _, n := range nodes {
		thaw(n)
		calm(n)
		if !up[n] {
			n.start()
			up[n] = true
		}
	}
	for range 20 {
		time.Sleep(session)
		look()
	}
	var active *node
	for _, n := range nodes {
		if n.lead != nil {
			active = n
		}
	}
	if active == nil {
		for _, n := range nodes {
			t.Logf("%s: %+v\n%s", n.opt.Name, n.m.Status(), n.log)
		}
		t.Fatal("nobody is active in the end")
	}
	active.must("end", "1")
	all := active.holds()
	for _, n := range nodes {
		n.wants(flat(all)...)
	}
	last, _ := strconv.Atoi(all["n"])
	place := map[string]int{}
	for i := 1; i <= last; i++ {
		id := all[fmt.Sprintf("%06d", i)]
		if place[id] != 0 || id == "" {
			t.Errorf("update %d is %q, as was %d", i, id, place[id])
		}
		place[id] = i
	}
	for i, id := range confirmed {
		if place[id] == 0 || i > 0 && place[id] < place[confirmed[i-1]] {
			t.Errorf("the confirmed update %s is at place %d", id, place[id])
		}
	}
	t.Logf("%d updates, %d confirmed, %d hold", ids, len(confirmed), last)
	for _, n := range nodes {
		n.kill()
	}
}
