package detector

import (
	"slices"

	"github.com/denywatch/denywatch/internal/wire"
)

// What one identity may contribute: three denials at once, then one in ten
// minutes, kept as seconds of credit so that arithmetic is exact.
const (
	creditPerDenial = 600
	creditMost      = 3 * creditPerDenial
	// maxBuckets bounds the identities whose credit is known; beyond it an
	// identity may contribute one denial a slot.
	maxBuckets = 1 << 18
	shards     = 16
)

type bucket struct {
	credit uint32
	at     uint32
}

// buckets holds the credit of identities that were refused lately. One that is
// full again is dropped.
type buckets struct {
	m     [shards]map[uint64]bucket
	n     int
	dirty [shards]bool
}

// take asks for one denial of an identity at now.
func (b *buckets) take(id uint64, now uint32) bool {
	s := id >> 60
	t, ok := b.m[s][id]
	if !ok {
		if b.n >= maxBuckets {
			return true
		}
		if b.m[s] == nil {
			b.m[s] = map[uint64]bucket{}
		}
		b.n++
		t = bucket{creditMost, now}
	}
	t.credit = min(creditMost, t.credit+min(now-t.at, creditMost))
	t.at = now
	ok = t.credit >= creditPerDenial
	if ok {
		t.credit -= creditPerDenial
	}
	b.m[s][id] = t
	b.dirty[s] = true
	return ok
}

// empty reports whether an identity has no credit left at now.
func (b *buckets) empty(id uint64, now uint32) bool {
	t, ok := b.m[id>>60][id]
	return ok && t.credit+min(now-t.at, creditMost) < creditPerDenial
}

// sweep drops the buckets that are full again.
func (b *buckets) sweep(now uint32) {
	for s := range b.m {
		for id, t := range b.m[s] {
			if t.credit+min(now-t.at, creditMost) >= creditMost {
				delete(b.m[s], id)
				b.n--
				b.dirty[s] = true
			}
		}
	}
}

func (b *buckets) put(w *wire.Writer, s int) {
	ids := make([]uint64, 0, len(b.m[s]))
	for id := range b.m[s] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		t := b.m[s][id]
		w.Word(id)
		w.Uint(uint64(t.credit))
		w.Uint(uint64(t.at))
	}
}

func (b *buckets) get(r *wire.Reader, s int) {
	n := r.Len(10)
	b.m[s] = make(map[uint64]bucket, n)
	for range n {
		id := r.Word()
		b.m[s][id] = bucket{uint32(min(r.Uint(), creditMost)), uint32(r.Uint())}
	}
	b.n += len(b.m[s])
}
