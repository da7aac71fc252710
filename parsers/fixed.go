package parsers

import (
	"math/bits"

	"github.com/denywatch/denywatch/internal/event"
)

// The methods below are for families whose lines are JSON objects with fields
// that their maker defined: they read them with the scanner of the json format
// and judge the values themselves. Numbers from fields on are such a family's own
// fields.

// walk reads line, one object, into p.
func (p *jsonParser) walk(line []byte) error {
	p.seen = 0
	p.path.begins()
	i := space(line, 0)
	if i == len(line) || line[i] != '{' {
		return ErrNotObject
	}
	i, ok := p.object(line, i, p.prog.root, 0)
	if !ok || space(line, i) != len(line) {
		return ErrSyntax
	}
	if p.path.studied {
		p.path.learn(line)
	}
	return nil
}

// has tells whether the line has a usable value for f.
func (p *jsonParser) has(f field) bool { return p.seen&(1<<f) != 0 }

// raw is the value of f as it stands in the line, nil if the line has none.
func (p *jsonParser) raw(f field) []byte {
	if !p.has(f) {
		return nil
	}
	return p.vals[f].raw
}

// status reads a status field: absent, null, 0 and what is no status are 0.
func (p *jsonParser) status(f field) uint16 {
	n, _ := statusNumber(p.raw(f))
	return n
}

// take fills e from the fields of events, status and upstream left out. A line
// without a time is an error.
func (p *jsonParser) take(e *event.Event) error {
	if !p.has(fieldTime) {
		return ErrTime
	}
	t, ok := p.clock.any(p.text(p.vals[fieldTime].raw))
	if !ok {
		return ErrTime
	}
	e.Time = t
	for left := p.seen & (1<<fields - 1<<fieldService); left != 0; left &= left - 1 {
		f := field(bits.TrailingZeros64(left))
		v := &p.vals[f]
		switch f {
		case fieldUser:
			e.User, e.UserClaimed = p.text(v.raw), v.claimed
		case fieldPath:
			e.Path = p.text(v.raw)
		case fieldStatus, fieldUpstream, fieldRequest: // read by the family
		case fieldRole:
			e.Roles = p.list(e.Roles, v)
		case fieldFlags:
			e.Flags = p.list(e.Flags, v)
		case fieldCause:
			e.Cause = p.text(v.raw)
		default:
			setText(f, p.text(v.raw), e)
		}
	}
	return nil
}

// word is a constant as a view of scratch space.
func (p *jsonParser) word(s string) []byte {
	from := len(p.scratch)
	p.scratch = append(p.scratch, s...)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// bounded is a name, or nothing if it is too long to be one.
func bounded(v []byte) []byte {
	if len(v) > maxCause {
		return nil
	}
	return v
}

// smallNumber reads a positive whole number, 0 if it is none or exceeds uint32.
func smallNumber(v []byte) uint32 {
	n := uint64(0)
	for _, c := range v {
		if c-'0' > 9 {
			return 0
		}
		if n = n*10 + uint64(c-'0'); n > 1<<32-1 {
			return 0
		}
	}
	return uint32(n)
}
