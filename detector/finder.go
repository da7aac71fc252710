package detector

import "math/bits"

// finder is a set of numbers found by the hash of what they number: a hash table
// of 4 bytes a place, at most two thirds full, where a map would keep the keys
// once more. The zero value is empty.
type finder struct {
	places []int32 // 1 + the number, 0 free; a power of two
	n      int
}

// find returns the number of that hash which is holds for, -1 if there is none.
func (f *finder) find(hash uint64, is func(id int32) bool) int32 {
	if len(f.places) == 0 {
		return -1
	}
	mask := uint64(len(f.places) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch id := f.places[i] - 1; {
		case id < 0:
			return -1
		case is(id):
			return id
		}
	}
}

// add adds a number that is not there. hash gives the hash of any number.
func (f *finder) add(id int32, hash func(id int32) uint64) {
	if 3*(f.n+1) > 2*len(f.places) {
		old := f.places
		f.places = make([]int32, max(2*len(old), 16))
		for _, p := range old {
			if p != 0 {
				f.put(p, hash(p-1))
			}
		}
	}
	f.put(id+1, hash(id))
	f.n++
}

func (f *finder) put(place int32, hash uint64) {
	mask := uint64(len(f.places) - 1)
	i := hash & mask
	for f.places[i] != 0 {
		i = (i + 1) & mask
	}
	f.places[i] = place
}

// blend mixes a number into a hash.
func blend(h, x uint64) uint64 {
	hi, lo := bits.Mul64(h^x^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}

func (k *cellKey) hash() uint64 {
	h := blend(uint64(uint32(k.route))<<32|uint64(uint32(k.role)), 1)
	return blend(h, uint64(uint32(k.geo))<<40|uint64(uint32(k.plan))<<20|uint64(uint32(k.host)))
}

func (c *cell) key() cellKey { return cellKey{c.route, c.role, c.geo, c.plan, c.host} }

// cellOfKey is the number of a cell, -1 if there is none.
func (j *judge) cellOfKey(k cellKey) int32 {
	return j.cellID.find(k.hash(), func(id int32) bool { return j.cells[id].key() == k })
}

// numberCell makes the cell of a number found by its key.
func (j *judge) numberCell(id int32) {
	j.cellID.add(id, func(id int32) uint64 { k := j.cells[id].key(); return k.hash() })
}

// seriesOfKey is the number of a series, -1 if there is none.
func (j *judge) seriesOfKey(key uint64) int32 {
	return j.seriesID.find(blend(key, 2), func(id int32) bool { return j.series[id].scope.key() == key })
}

// numberSeries makes the series of a number found by its scope.
func (j *judge) numberSeries(id int32) {
	j.seriesID.add(id, func(id int32) uint64 { return blend(j.series[id].scope.key(), 2) })
}
