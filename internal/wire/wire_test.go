package wire_test

import (
	"math"
	"testing"

	"github.com/denywatch/denywatch/internal/wire"
)

func TestRoundTrip(t *testing.T) {
	var w wire.Writer
	w.Uint(0)
	w.Uint(math.MaxUint64)
	w.Int(math.MinInt64)
	w.Word(7)
	w.Float(math.Copysign(0, -1))
	w.Bool(true)
	w.String("é\x00")
	w.Bytes(nil)
	for cut := range len(w.B) {
		if err := take(&wire.Reader{B: w.B[:cut]}); err == nil {
			t.Fatalf("%d of %d bytes were accepted", cut, len(w.B))
		}
	}
	if err := take(&wire.Reader{B: w.B}); err != nil {
		t.Fatal(err)
	}
	if err := take(&wire.Reader{B: append(w.B, 0)}); err == nil {
		t.Fatal("left-over input was accepted")
	}
}

func take(r *wire.Reader) error {
	ok := r.Uint() == 0
	ok = r.Uint() == math.MaxUint64 && ok
	ok = r.Int() == math.MinInt64 && ok
	ok = r.Word() == 7 && ok
	ok = math.Signbit(r.Float()) && ok
	ok = r.Bool() && ok
	ok = r.String() == "é\x00" && ok
	ok = len(r.Bytes()) == 0 && ok
	if err := r.Done(); err != nil {
		return err
	}
	if !ok {
		return wire.ErrCorrupt
	}
	return nil
}

func TestLenIsBounded(t *testing.T) {
	var w wire.Writer
	w.Uint(1 << 60)
	r := wire.Reader{B: w.B}
	if n := r.Len(8); n != 0 || r.Err == nil {
		t.Fatalf("a count beyond the input gave %d, %v", n, r.Err)
	}
}
