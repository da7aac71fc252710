package seen_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/seen"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	week = 7 * 24 * time.Hour
	sec  = int64(week / time.Second)
)

type blocks map[string][]byte

func (b blocks) put(key string, value []byte) error {
	b[key] = append([]byte(nil), value...)
	return nil
}

func (b blocks) get(key string) []byte { return b[key] }

// TestFalseRate fills both generations to the brim and asks for strangers: the
// stated bound must hold, and everything that was not forgotten be known.
func TestFalseRate(t *testing.T) {
	f := seen.New(seen.Options{Bytes: 1 << 20, Half: week})
	keys := 1 << 20 * 8 / 20
	for k := range 2*keys - 100 {
		f.Add(uint64(k), int64(k)/100)
	}
	// A key that seems known already takes no room.
	if n := f.Keys(); n > 2*keys-100 || n < 2*keys*99/100 || f.Bytes() != 2<<20 {
		t.Fatalf("%d keys in %d bytes", n, f.Bytes())
	}
	for k := range 2*keys - 100 {
		if !f.Has(uint64(k)) {
			t.Fatalf("%d is forgotten", k)
		}
	}
	wrong, r := 0, rand.New(rand.NewPCG(1, 2))
	const asked = 400_000
	for range asked {
		if f.Has(r.Uint64() | 1<<63) {
			wrong++
		}
	}
	rate := float64(wrong) / asked
	t.Logf("%d keys, %.3f%% of strangers are known", f.Keys(), 100*rate)
	if rate > seen.FalseRate {
		t.Errorf("%.3f%% of strangers are known", 100*rate)
	}
	// One more key than there is room for forgets the oldest, not everything.
	for k := range 2000 {
		f.Add(uint64(1<<40+k), 1<<20)
	}
	if f.Bytes() > 2<<20 || f.Has(7) && f.Has(8) && f.Has(9) || !f.Has(uint64(2*keys-101)) {
		t.Error("a full filter must drop its oldest keys alone")
	}
}

// TestLife: a key lives for one to two half-lives, and longer when it comes again.
func TestLife(t *testing.T) {
	f := seen.New(seen.Options{Bytes: 1 << 20, Half: week})
	if f.Since() != -1 || f.Has(1) {
		t.Fatal("an empty filter knows something")
	}
	f.Add(1, 1000)
	f.Add(2, 1000)
	f.Turn(1000 + sec - 1)
	if !f.Has(1) || f.Since() != 1000 {
		t.Fatal("forgotten within the half-life")
	}
	f.Add(3, 1000+sec)
	f.Add(2, 1000+sec+5)
	f.Turn(1000 + 2*sec)
	if f.Has(1) || !f.Has(2) || !f.Has(3) {
		t.Fatalf("after two half-lives: %v %v %v", f.Has(1), f.Has(2), f.Has(3))
	}
	f.Turn(1000 + 9*sec)
	if f.Has(2) || f.Has(3) {
		t.Fatal("remembered for ever")
	}
}

// TestGrant: without room a filter works in its first page and has a shorter
// memory.
func TestGrant(t *testing.T) {
	f := seen.New(seen.Options{Bytes: 4 << 20, Half: week, Grant: func(int) bool { return false }})
	for k := range 100_000 {
		f.Add(uint64(k), 5)
	}
	if f.Bytes() > 32<<10 || !f.Has(99_999) || f.Has(1) && f.Has(2) && f.Has(3) {
		t.Fatalf("%d bytes", f.Bytes())
	}
}

// TestRestarts saves at random, loads at random, and compares with a filter that
// never was: every answer must be the same.
func TestRestarts(t *testing.T) {
	o := seen.Options{Bytes: 64 << 10, Half: week}
	r := rand.New(rand.NewPCG(3, 4))
	a, b, kept := seen.New(o), seen.New(o), blocks{}
	now, saves := int64(100), 0
	for i := range 120_000 {
		now += r.Int64N(60)
		k := r.Uint64N(60_000)
		a.Add(k, now)
		b.Add(k, now)
		if r.IntN(300) == 0 {
			if err := b.Save(r.IntN(20) == 0, kept.put); err != nil {
				t.Fatal(err)
			}
			saves++
			if r.IntN(3) == 0 {
				var err error
				if b, err = seen.Load(o, kept.get); err != nil {
					t.Fatal(err)
				}
			}
		}
		q := r.Uint64N(80_000)
		if a.Has(q) != b.Has(q) || i%1000 == 0 && (a.Keys() != b.Keys() || a.Bytes() != b.Bytes() || a.Since() != b.Since()) {
			t.Fatalf("key %d after %d: %v and, with restarts, %v", q, i, a.Has(q), b.Has(q))
		}
	}
	x, y := blocks{}, blocks{}
	if err := a.Save(true, x.put); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(true, y.put); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(x, y, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Error("the blocks differ")
	}
}

// TestRestartOfNothing: what never held a key is saved too.
func TestRestartOfNothing(t *testing.T) {
	o, kept := seen.Options{Bytes: 64 << 10, Half: week}, blocks{}
	if err := seen.New(o).Save(false, kept.put); err != nil {
		t.Fatal(err)
	}
	if f, err := seen.Load(o, kept.get); err != nil || f.Keys() != 0 || f.Since() != -1 {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestSaveIsSmall: a cut writes what is new, not the whole filter.
func TestSaveIsSmall(t *testing.T) {
	f := seen.New(seen.Options{Bytes: 4 << 20, Half: week})
	for k := range 1_000_000 {
		f.Add(uint64(k), 5)
	}
	n := 0
	count := func(_ string, v []byte) error { n += len(v); return nil }
	if err := f.Save(false, count); err != nil || n < 2<<20 {
		t.Fatalf("the first cut has %d bytes, error %v", n, err)
	}
	n = 0
	if err := f.Save(false, count); err != nil || n != 0 {
		t.Fatalf("a cut without news has %d bytes, error %v", n, err)
	}
	for k := range 1000 {
		f.Add(uint64(1<<40+k), 6)
	}
	if err := f.Save(false, count); err != nil || n == 0 || n > 20_000 {
		t.Fatalf("a cut with 1,000 new keys has %d bytes, error %v", n, err)
	}
	total := 0
	for round := range 200 {
		n = 0
		for k := range 1000 {
			f.Add(uint64(1<<41+round*1000+k), 7)
		}
		if err := f.Save(false, count); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	t.Logf("%.0f bytes a key over time", float64(total)/200_000)
	if total > 200_000*150 {
		t.Errorf("%d bytes for 200,000 keys", total)
	}
}

func TestSteadyKeysDoNotAllocate(t *testing.T) {
	f := seen.New(seen.Options{Bytes: 1 << 20, Half: week})
	for k := range 10_000 {
		f.Add(uint64(k), 5)
	}
	k := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { f.Add(k, 6); f.Has(k + 1); k++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLoad(f *testing.F) {
	o := seen.Options{Bytes: 64 << 10, Half: week}
	src, state := seen.New(o), blocks{}
	for k := range 5000 {
		src.Add(uint64(k), int64(k)*200)
	}
	if err := src.Save(true, state.put); err != nil {
		f.Fatal(err)
	}
	for k := range 50 {
		src.Add(uint64(k)+1<<50, 1_000_100)
	}
	if err := src.Save(false, state.put); err != nil {
		f.Fatal(err)
	}
	keys := []string{"head", "fresh/0", "page/1/0/0", "page/0/0/0"}
	for i, k := range keys {
		f.Add(i, state[k])
		f.Add(i, state[k][:len(state[k])/2])
	}
	f.Fuzz(func(t *testing.T, n int, b []byte) {
		bad := maps.Clone(state)
		bad[keys[uint(n)%uint(len(keys))]] = b
		g, err := seen.Load(o, bad.get)
		if err != nil {
			if !errors.Is(err, wire.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		g.Add(1, 2_000_000)
		if !g.Has(1) {
			t.Fatal("what loads must be usable")
		}
		if err := g.Save(true, blocks{}.put); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	f := seen.New(seen.Options{Bytes: 4 << 20, Half: week})
	for k := range 1_500_000 {
		f.Add(uint64(k), 5)
	}
	k := uint64(0)
	for b.Loop() {
		f.Add(k%1_500_000, 5)
		k += 7919
	}
}
