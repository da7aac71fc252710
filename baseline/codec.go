package baseline

import (
	"encoding/binary"
	"math"

	"github.com/denywatch/denywatch/internal/wire"
)

// PutFloat appends the exact bits of x, 4 bytes.
func PutFloat(w *wire.Writer, x float32) {
	w.B = binary.LittleEndian.AppendUint32(w.B, math.Float32bits(x))
}

// GetFloat takes what PutFloat wrote and refuses what is not a finite number.
func GetFloat(r *wire.Reader) float32 {
	if len(r.B) < 4 {
		corrupt(r)
		return 0
	}
	x := math.Float32frombits(binary.LittleEndian.Uint32(r.B))
	r.B = r.B[4:]
	if !(x-x == 0) {
		corrupt(r)
		return 0
	}
	return x
}

// GetFloat64 takes what wire.Writer.Float wrote and refuses what is not a finite
// number.
func GetFloat64(r *wire.Reader) float64 {
	x := r.Float()
	if !(x-x == 0) {
		corrupt(r)
		return 0
	}
	return x
}

func corrupt(r *wire.Reader) {
	r.Err = wire.ErrCorrupt
	r.B = nil
}

func get32(r *wire.Reader) uint32 {
	x := r.Uint()
	if x > math.MaxUint32 {
		corrupt(r)
	}
	return uint32(x)
}

// Put appends the cell.
func (c *Cell) Put(w *wire.Writer) {
	for _, x := range [...]float32{c.K, c.N, c.U, c.M, c.k0, c.n0, c.u0, c.k1, c.n1, c.u1} {
		PutFloat(w, x)
	}
	w.Uint(uint64(c.hold))
	w.Uint(uint64(c.since))
	w.Uint(uint64(c.P))
	w.Uint(uint64(c.Q))
}

// Get takes what Put wrote.
func (c *Cell) Get(r *wire.Reader) {
	for _, x := range [...]*float32{&c.K, &c.N, &c.U, &c.M, &c.k0, &c.n0, &c.u0, &c.k1, &c.n1, &c.u1} {
		*x = GetFloat(r)
	}
	c.hold, c.since = get32(r), get32(r)
	for _, to := range [...]*Rate{&c.P, &c.Q} {
		p := r.Uint()
		if p >= Rates {
			corrupt(r)
			p = 0
		}
		*to = Rate(p)
	}
}

// Put appends the evidence; what is zero takes no room.
func (e *Evidence) Put(w *wire.Writer) {
	var mask uint64
	for j, l := range e.l {
		if l != 0 {
			mask |= 1 << j
		}
	}
	w.Uint(mask)
	for j, l := range e.l {
		if l != 0 {
			PutFloat(w, l)
			PutFloat(w, e.v[j])
			w.Uint(uint64(e.from[j]))
		}
	}
}

// Get takes what Put wrote.
func (e *Evidence) Get(r *wire.Reader) {
	e.Reset()
	mask := r.Uint()
	if mask >= 1<<Shifts {
		corrupt(r)
		return
	}
	for j := range e.l {
		if mask>>j&1 != 0 {
			e.l[j], e.v[j] = GetFloat(r), GetFloat(r)
			e.from[j] = uint16(r.Uint())
		}
	}
}

// Put appends the dispersion.
func (d *Dispersion) Put(w *wire.Writer) {
	for _, x := range [...]float32{d.x, d.m, d.v, d.s2, d.s1, d.sv} {
		PutFloat(w, x)
	}
}

// Get takes what Put wrote.
func (d *Dispersion) Get(r *wire.Reader) {
	for _, x := range [...]*float32{&d.x, &d.m, &d.v, &d.s2, &d.s1, &d.sv} {
		*x = GetFloat(r)
	}
}

// Put appends the pool.
func (l *Level) Put(w *wire.Writer) {
	w.Float(l.r2)
	w.Float(l.v)
	w.Float(l.vv)
}

// Get takes what Put wrote.
func (l *Level) Get(r *wire.Reader) { l.r2, l.v, l.vv = GetFloat64(r), GetFloat64(r), GetFloat64(r) }

// Put appends the clumping.
func (c *Clumping) Put(w *wire.Writer) {
	w.Float(c.r2)
	w.Float(c.v)
}

// Get takes what Put wrote.
func (c *Clumping) Get(r *wire.Reader) { c.r2, c.v = GetFloat64(r), GetFloat64(r) }

// Put appends the season.
func (s *Season) Put(w *wire.Writer) {
	for h := range s.x {
		PutFloat(w, s.x[h])
		PutFloat(w, s.m[h])
	}
	PutFloat(w, s.cx)
	PutFloat(w, s.cm)
	w.Int(int64(s.Steps))
}

// Get takes what Put wrote.
func (s *Season) Get(r *wire.Reader) {
	for h := range s.x {
		s.x[h], s.m[h] = GetFloat(r), GetFloat(r)
	}
	s.cx, s.cm = GetFloat(r), GetFloat(r)
	n := r.Int()
	if n < math.MinInt16 || n > math.MaxInt16 {
		corrupt(r)
	}
	s.Steps = int16(n)
}
