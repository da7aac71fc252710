package detector

import (
	"maps"
	"math"
	"slices"

	"github.com/denywatch/denywatch/internal/wire"
)

// What one identity may contribute: three denials at once, then one in ten
// minutes, kept as seconds of credit so that arithmetic is exact; of the cell that it was last
// counted on one in ten minutes: who tries again a few seconds later says nothing new, in this
// slot or in the next.
const (
	creditPerDenial = 600
	creditMost      = 3 * creditPerDenial
	// maxBuckets bounds the identities whose credit is known; beyond it an
	// identity may contribute one denial a slot.
	maxBuckets = 1 << 18
	shards     = 16
)

type bucket struct {
	at     uint32 // when a denial of it was last counted
	credit uint16
	cell   uint16 // the low half of the cell it was last counted on
}

// worth is the credit at now.
func (t bucket) worth(now uint32) uint16 {
	return uint16(min(creditMost, uint32(t.credit)+min(now-t.at, creditMost)))
}

// buckets holds the credit of identities that were refused lately. One that is
// full again is dropped.
type buckets struct {
	m     [shards]map[uint64]bucket
	n     int
	dirty [shards]bool
}

// take asks for one denial of an identity on a cell at now.
func (b *buckets) take(id uint64, cell int32, now uint32) bool {
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
		t = bucket{now, creditMost, 0}
	} else if t.cell == uint16(cell) && now-t.at < creditPerDenial {
		return false
	}
	credit := t.worth(now)
	if credit < creditPerDenial {
		return false
	}
	b.m[s][id] = bucket{now, credit - creditPerDenial, uint16(cell)}
	b.dirty[s] = true
	return true
}

// empty reports whether an identity has no credit left at now.
func (b *buckets) empty(id uint64, now uint32) bool {
	t, ok := b.m[id>>60][id]
	return ok && t.worth(now) < creditPerDenial
}

// sweep drops the buckets that are full again.
func (b *buckets) sweep(now uint32) {
	for s := range b.m {
		for id, t := range b.m[s] {
			if t.worth(now) == creditMost {
				delete(b.m[s], id)
				b.n--
				b.dirty[s] = true
			}
		}
	}
}

func (b *buckets) put(w *wire.Writer, s int) {
	ids := slices.Sorted(maps.Keys(b.m[s]))
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		t := b.m[s][id]
		w.Word(id)
		w.Uint(uint64(t.credit))
		w.Uint(uint64(t.at))
		w.Uint(uint64(t.cell))
	}
}

func (b *buckets) get(r *wire.Reader, s int) {
	n := r.Len(11)
	b.m[s] = make(map[uint64]bucket, n)
	for range n {
		id := r.Word()
		b.m[s][id] = bucket{credit: uint16(min(r.Uint(), creditMost)), at: uint32(r.Uint()), cell: uint16(min(r.Uint(), math.MaxUint16))}
	}
	b.n += len(b.m[s])
}
