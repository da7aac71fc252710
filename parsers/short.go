package parsers

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// indexShort is bytes.IndexByte, faster where c mostly is among the first bytes.
func indexShort(b []byte, c byte) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	if len(b) < 16 {
		return bytes.IndexByte(b, c)
	}
	x := binary.LittleEndian.Uint64(b) ^ uint64(c)*ones
	if m := (x - ones) &^ x & highs; m != 0 {
		return bits.TrailingZeros64(m) >> 3
	}
	x = binary.LittleEndian.Uint64(b[8:]) ^ uint64(c)*ones
	if m := (x - ones) &^ x & highs; m != 0 {
		return 8 + bits.TrailingZeros64(m)>>3
	}
	if n := bytes.IndexByte(b[16:], c); n >= 0 {
		return 16 + n
	}
	return -1
}

// shortText is a text of up to eight bytes, made ready to be compared at once.
type shortText struct{ word, mask uint64 }

// newShortText is of the first eight bytes of s.
func newShortText(s string) (t shortText) {
	for i := range min(len(s), 8) {
		t.word |= uint64(s[i]) << (8 * i)
		t.mask |= 0xff << (8 * i)
	}
	return t
}

// begins tells whether b, of at least eight bytes, begins with the text.
func (t *shortText) begins(b []byte) bool { return binary.LittleEndian.Uint64(b)&t.mask == t.word }
