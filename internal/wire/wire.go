// Package wire is the small binary encoding that durable state is written in:
// variable-length integers, fixed 64-bit words and length-prefixed strings. A
// Reader never panics and never allocates more than its input could hold.
package wire

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrCorrupt is the Reader's error for input that no Writer wrote.
var ErrCorrupt = errors.New("state block is malformed")

// Writer appends values to its buffer. The zero Writer is ready.
type Writer struct{ B []byte }

// Uint appends an unsigned integer, 1 to 10 bytes.
func (w *Writer) Uint(x uint64) { w.B = binary.AppendUvarint(w.B, x) }

// Int appends a signed integer, 1 to 10 bytes.
func (w *Writer) Int(x int64) { w.B = binary.AppendVarint(w.B, x) }

// Word appends 8 bytes.
func (w *Writer) Word(x uint64) { w.B = binary.LittleEndian.AppendUint64(w.B, x) }

// Float appends the exact bits of x.
func (w *Writer) Float(x float64) { w.Word(math.Float64bits(x)) }

// Bool appends one byte.
func (w *Writer) Bool(x bool) {
	var b byte
	if x {
		b = 1
	}
	w.B = append(w.B, b)
}

// String appends s with its length.
func (w *Writer) String(s string) {
	w.Uint(uint64(len(s)))
	w.B = append(w.B, s...)
}

// Bytes appends b with its length.
func (w *Writer) Bytes(b []byte) {
	w.Uint(uint64(len(b)))
	w.B = append(w.B, b...)
}

// Reader takes values from B in the order they were written. After the first
// mistake every method returns zero and Err is set.
type Reader struct {
	B   []byte
	Err error
}

func (r *Reader) fail() {
	r.Err = ErrCorrupt
	r.B = nil
}

// Uint takes an unsigned integer.
func (r *Reader) Uint() uint64 {
	x, n := binary.Uvarint(r.B)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.B = r.B[n:]
	return x
}

// Int takes a signed integer.
func (r *Reader) Int() int64 {
	x, n := binary.Varint(r.B)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.B = r.B[n:]
	return x
}

// Word takes 8 bytes.
func (r *Reader) Word() uint64 {
	if len(r.B) < 8 {
		r.fail()
		return 0
	}
	x := binary.LittleEndian.Uint64(r.B)
	r.B = r.B[8:]
	return x
}

// Float takes the exact bits of a number.
func (r *Reader) Float() float64 { return math.Float64frombits(r.Word()) }

// Bool takes one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	if len(r.B) == 0 || r.B[0] > 1 {
		r.fail()
		return false
	}
	x := r.B[0] == 1
	r.B = r.B[1:]
	return x
}

// Bytes takes length-prefixed bytes; they are a view of the input.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.B)) {
		r.fail()
		return nil
	}
	x := r.B[:n]
	r.B = r.B[n:]
	return x
}

// String takes a length-prefixed string.
func (r *Reader) String() string { return string(r.Bytes()) }

// Len takes a count of things that each need at least size bytes of input.
func (r *Reader) Len(size int) int {
	n := r.Uint()
	if n > uint64(len(r.B))/uint64(max(size, 1)) {
		r.fail()
		return 0
	}
	return int(n)
}

// Done returns the error, which is ErrCorrupt too when input is left over.
func (r *Reader) Done() error {
	if r.Err == nil && len(r.B) != 0 {
		r.fail()
	}
	return r.Err
}
