package detector

import (
	"math/rand/v2"
	"testing"
)

// TestFinder compares a finder with a map.
func TestFinder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var f finder
	var keys []cellKey
	known := map[cellKey]int32{}
	find := func(k cellKey) int32 { return f.find(k.hash(), func(id int32) bool { return keys[id] == k }) }
	for range 20_000 {
		k := cellKey{rnd.Int32N(200), rnd.Int32N(5), rnd.Int32N(12), rnd.Int32N(2), rnd.Int32N(2)}
		want, ok := known[k]
		if !ok {
			want = -1
		}
		if got := find(k); got != want {
			t.Fatalf("%v is %d, want %d", k, got, want)
		}
		if !ok {
			id := int32(len(keys))
			keys, known[k] = append(keys, k), id
			f.add(id, func(id int32) uint64 { return keys[id].hash() })
		}
	}
}
