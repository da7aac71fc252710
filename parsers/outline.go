package parsers

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// outline remembers where in the objects of one stream the wanted keys stand, so
// that the next object need not be walked. Machines write their keys in one
// order, and the text between two wanted keys has a length that hardly varies:
// read jumps over it, by the least distance seen, and looks for the key from
// there.
//
// It relies on two facts. First, in a JSON object a quoted name with a colon
// behind and a comma, brace or space before it is a key wherever it stands, as
// quotes inside of strings are escaped: so the search may start anywhere. Second,
// an object with other keys has another number of quotes: lines that differ in it
// are walked, as is every walkEvery-th line, so that an exchange of one key for
// another is seen too. So what is read is what walking the object would find.
type outline struct {
	keys []outlineKey
	// quotes is how many quotes there are around strings, values of keys left out.
	quotes int
	lines  int
	// wait is how many lines in vain are let pass before learning again, so that
	// a stream without a fixed order is not learned line by line.
	wait, waited int
	seen         []member
}

// outlineKey is a wanted key, or one whose value is an object or array, the
// number of whose quotes varies.
type outlineKey struct {
	name []byte
	hit  hit
	// gap is the least distance seen from the end of the value before.
	gap int
	// only: the value must be usable, as a worse key of the same field is not
	// looked for.
	only bool
}

const (
	walkEvery  = 256
	maxWait    = 1024
	maxOutline = 64
)

var (
	quote          = []byte{'"'}
	escapedQuote   = []byte{'\\', '"'}
	twoBackslashes = []byte{'\\', '\\'}
)

// quotes counts the quotes of b, a part of the line, that start and end strings.
// No backslash of it is escaped.
func (p *jsonParser) quotes(b []byte) int {
	n := bytes.Count(b, quote)
	if p.escaped {
		n -= bytes.Count(b, escapedQuote)
	}
	return n
}

// read takes the values of the wanted keys of line into p. It returns false when
// the line has to be walked; what p has seen means nothing then.
func (o *outline) read(p *jsonParser, line []byte) bool {
	if len(o.keys) == 0 || len(line) == 0 || line[len(line)-1] != '}' {
		return false
	}
	if p.escaped && bytes.Contains(line, twoBackslashes) {
		return false // its quotes cannot be counted
	}
	if o.lines++; o.lines == walkEvery {
		o.lines = 0
		return false
	}
	p.seen = 0
	quotes := o.quotes
	at := 0
	for k := range o.keys {
		key := &o.keys[k]
		i := findKey(line, at+key.gap, key.name)
		if i < 0 {
			return false
		}
		from := i
		switch c := line[i]; c {
		case '"':
			end := stringEnd(line, i+1)
			if end < 0 {
				return false
			}
			if at = end + 1; at >= len(line) || line[at] != ',' && line[at] != '}' && line[at] > ' ' {
				return false
			}
			quotes += 2
			if key.hit.field != fieldNone {
				p.offer(&key.hit, kindString, line[i+1:end])
			}
		case '{', '[':
			if i+1 < len(line) && line[i+1] == c+2 { // "{}" or "[]"
				at = i + 2
				break
			}
			var ok bool
			if c == '{' && key.hit.node != nil {
				at, ok = p.object(line, i, key.hit.node, 1)
			} else {
				at, ok = skipNested(line, i)
			}
			if !ok {
				return false
			}
			quotes += p.quotes(line[from:at])
			if c == '[' && key.hit.field != fieldNone {
				p.offer(&key.hit, kindArray, line[from:at])
			}
		default:
			for i < len(line) && line[i] != ',' && line[i] != '}' && line[i] > ' ' {
				i++
			}
			at = i
			if key.hit.field != fieldNone {
				p.offer(&key.hit, kindNumber, line[from:i])
			}
		}
		if key.only && p.seen&(1<<key.hit.field) == 0 {
			return false
		}
	}
	if p.quotes(line) != quotes {
		return false
	}
	o.wait, o.waited = 0, 0
	return true
}

// findKey is the index of the value of the key called name, which stands at or
// behind line[from:], or -1.
func findKey(line []byte, from int, name []byte) int {
	if from > 0 && from < len(line) && line[from] == '"' {
		if v := keyAt(line, from, name); v > 0 {
			return v
		}
	}
	// Eight bytes at once for a comma with a quote behind it. The masks may have a
	// bit too many, never too few.
	const (
		ones   = 0x0101010101010101
		commas = ',' * ones
		quotes = '"' * ones
	)
	i := max(from-1, 0)
	for ; i+9 <= len(line); i += 8 {
		x := binary.LittleEndian.Uint64(line[i:]) ^ commas
		y := binary.LittleEndian.Uint64(line[i+1:]) ^ quotes
		for m := (x - ones) &^ x & ((y - ones) &^ y) & (0x80 * ones); m != 0; m &= m - 1 {
			if v := keyAt(line, i+1+bits.TrailingZeros64(m)>>3, name); v > 0 {
				return v
			}
		}
	}
	// The first key, and lines with spaces between their keys.
	for i = from; i < len(line); i++ {
		n := bytes.IndexByte(line[i:], '"')
		if n < 0 {
			return -1
		}
		if i += n; i > 0 {
			if v := keyAt(line, i, name); v > 0 {
				return v
			}
		}
	}
	return -1
}

// keyAt is the index of the value if the key called name starts with the byte
// line[i], a quote, else -1.
func keyAt(line []byte, i int, name []byte) int {
	end := i + 1 + len(name)
	if end+2 >= len(line) || line[end] != '"' || string(line[i+1:end]) != string(name) {
		return -1
	}
	if c := line[i-1]; c != ',' && c != '{' && c > ' ' {
		return -1
	}
	if line[end+1] == ':' && line[end+2] > ' ' {
		return end + 2
	}
	if i = space(line, end+1); i < len(line) && line[i] == ':' {
		if i = space(line, i+1); i < len(line) {
			return i
		}
	}
	return -1
}

// learn takes the outline of obj, a line that p has walked. The fields of
// the set leave are not wanted.
func (o *outline) learn(p *jsonParser, obj []byte, leave uint64) {
	if obj[0] != '{' || obj[len(obj)-1] != '}' || p.escaped && bytes.Contains(obj, twoBackslashes) {
		return // read does not take such lines
	}
	if o.waited < o.wait {
		o.waited++
		return
	}
	o.wait, o.waited = min(2*o.wait+1, maxWait), 0
	all := p.members(o.seen[:0], obj)
	if o.seen = all; len(all) == 0 {
		return
	}
	var best [maxFields]uint8 // the least rank of a usable value, and 1
	var worse uint64          // fields that have worse keys too
	for i := range all {
		m := &all[i]
		if leave&(1<<m.hit.field) != 0 {
			m.hit.field = fieldNone
		}
		if b := &best[m.hit.field]; m.usable && (*b == 0 || m.hit.rank < *b-1) {
			*b = m.hit.rank + 1
		}
	}
	for i := range all {
		m := &all[i]
		if b := best[m.hit.field]; m.hit.field != fieldNone && b > 0 && m.hit.rank >= b {
			worse |= 1 << m.hit.field
			m.hit.field = fieldNone
		}
	}
	quotes := p.quotes(obj)
	at, n, same := 0, 0, true
	for i := range all {
		m := &all[i]
		if m.hit.field == fieldNone && m.hit.node == nil && !m.nested {
			continue
		}
		if n == maxOutline {
			o.keys = o.keys[:0]
			return
		}
		quotes -= p.quotes(obj[m.from:m.to])
		name, gap := obj[m.open+1:m.close], m.open-at
		at = m.to
		if n == len(o.keys) {
			if n == cap(o.keys) {
				o.keys = append(o.keys, outlineKey{})
			}
			o.keys = o.keys[:n+1]
			same = false
		}
		k := &o.keys[n]
		if string(k.name) != string(name) {
			same = false
		}
		if same {
			gap = min(gap, k.gap)
		}
		k.name, k.hit, k.gap = append(k.name[:0], name...), m.hit, gap
		k.only = m.hit.field != fieldNone && worse&(1<<m.hit.field) != 0
		n++
	}
	o.keys, o.quotes = o.keys[:n], quotes
}

// member is a key of an object and the place of its value.
type member struct {
	open, close int // of the key's quotes
	from, to    int // of the value
	hit         hit
	nested      bool
	usable      bool
}

// members appends the members of obj, a line that p has walked; none if the line
// is not JSON in the strict sense.
func (p *jsonParser) members(to []member, obj []byte) []member {
	for i := space(obj, 1); i < len(obj) && obj[i] == '"'; i = space(obj, i+1) {
		m := member{open: i, close: stringEnd(obj, i+1)}
		if m.close < 0 {
			break
		}
		m.hit = *p.keys.find(p.prog.root, obj[m.open+1:m.close])
		i = space(obj, m.close+1)
		if i = space(obj, i+1); i >= len(obj) {
			break
		}
		m.from = i
		switch c := obj[i]; c {
		case '"':
			end := stringEnd(obj, i+1)
			if i = end + 1; end < 0 || i >= len(obj) || obj[i] != ',' && obj[i] != '}' && obj[i] > ' ' {
				return to[:0] // quotes in quotes, which are no JSON
			}
			m.usable = plausible(m.hit.field, kindString, obj[m.from+1:end])
		case '{', '[':
			m.nested = true
			i, _ = skipNested(obj, i)
		default:
			for i < len(obj) && obj[i] != ',' && obj[i] != '}' && obj[i] > ' ' {
				i++
			}
			m.usable = plausible(m.hit.field, kindNumber, obj[m.from:i])
		}
		m.to = i
		to = append(to, m)
		i = space(obj, i)
	}
	return to
}
