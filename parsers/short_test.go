package parsers

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestShort: what is compared eight bytes at once is found as byte by byte.
func TestShort(t *testing.T) {
	const few = "ab\x00\x80\xff "
	r := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = few[r.IntN(len(few))]
		}
		return b
	}
	for range 200_000 {
		b, c := text(r.IntN(40)), few[r.IntN(len(few))]
		if r.IntN(2) == 0 {
			b = bytes.ReplaceAll(b, []byte{c}, []byte{c + 1}) // one off is nearly found
			b = append(b, text(r.IntN(3))...)
		}
		if got, want := indexShort(b, c), bytes.IndexByte(b, c); got != want {
			t.Fatalf("%q stands at %d of %q, not at %d", c, want, b, got)
		}
		o := op{lit: string(text(r.IntN(4)))}
		if r.IntN(4) == 0 {
			o.lit += strings.Repeat(" ", r.IntN(9))
		}
		o.short = newShortText(o.lit)
		n := r.IntN(len(b) + 1)
		if got, want := o.litAt(b, n), bytes.HasPrefix(b[n:], []byte(o.lit)); got != want {
			t.Fatalf("%q at %q: %t", o.lit, b[n:], got)
		}
	}
}
