package detector

import (
	"fmt"
	"slices"

	"github.com/axiomhq/hyperloglog"

	"github.com/denywatch/denywatch/internal/wire"
)

// exactPeople is up to how many distinct people are counted exactly.
const exactPeople = 4096

// people counts distinct identities: exactly while few, then with a HyperLogLog
// sketch of 16 KB (standard error 0.8 %). The sketch is dense from the start, so
// that its estimate depends on the set alone. The zero value is empty.
type people struct {
	exact  map[uint64]struct{}
	sketch *hyperloglog.Sketch
}

// spread makes any numbering of people uniform (the finaliser of SplitMix64).
func spread(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func (p *people) add(id uint64) {
	if p.sketch != nil {
		p.sketch.InsertHash(spread(id))
		return
	}
	if p.exact == nil {
		p.exact = map[uint64]struct{}{}
	}
	p.exact[id] = struct{}{}
	if len(p.exact) > exactPeople {
		p.estimate()
	}
}

// join adds all of o.
func (p *people) join(o *people) {
	for id := range o.exact {
		p.add(id)
	}
	if o.sketch == nil {
		return
	}
	if p.sketch == nil {
		p.estimate()
	}
	_ = p.sketch.Merge(o.sketch) // all are of one precision
}

// estimate goes over to the sketch.
func (p *people) estimate() {
	p.sketch = hyperloglog.NewNoSparse()
	for id := range p.exact {
		p.sketch.InsertHash(spread(id))
	}
	p.exact = nil
}

func (p *people) count() int64 {
	if p.sketch != nil {
		return int64(p.sketch.Estimate())
	}
	return int64(len(p.exact))
}

func (p *people) put(w *wire.Writer) error {
	if p.sketch != nil {
		b, err := p.sketch.MarshalBinary()
		if err != nil {
			return fmt.Errorf("save the count of people: %w", err)
		}
		w.Bool(true)
		w.Bytes(b)
		return nil
	}
	w.Bool(false)
	ids := make([]uint64, 0, len(p.exact))
	for id := range p.exact {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		w.Word(id)
	}
	return nil
}

func (p *people) get(r *wire.Reader) {
	*p = people{}
	if r.Bool() {
		b := r.Bytes()
		sk := new(hyperloglog.Sketch)
		// Only the dense form of this precision is ever written.
		if len(b) != 8+1<<14 || b[1] != 14 || b[3] != 0 || sk.UnmarshalBinary(slices.Clone(b)) != nil {
			corrupt(r)
			return
		}
		p.sketch = sk
		return
	}
	n := r.Len(8)
	if n == 0 {
		return
	}
	p.exact = make(map[uint64]struct{}, n)
	for range n {
		p.exact[r.Word()] = struct{}{}
	}
}

func corrupt(r *wire.Reader) {
	r.Err = wire.ErrCorrupt
	r.B = nil
}
