package parsers

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// path is what a parser remembers of the objects of its stream. Machines write
// their keys in one order, so the text between two values is mostly what it was
// on the line before: one comparison with it finds the next key, the punctuation
// and the absence of white space. What is remembered is only ever what text
// means where it stands, so that lines of any shape are read as a parser without
// a past reads them.
//
// A walk follows the track, the stretches of a line that was studied, in which
// values that hardly vary are text as well. Where the line differs it goes on
// from stretch to stretch until it meets the track again.
type path struct {
	// stretches are found by place and text.
	stretches [pathSlots]*stretch
	// spare is for a stretch too long to remember.
	spare  stretch
	places []*place // where walks begin
	salt   uint64   // of the last place

	track []leg
	// text and constants are those of the track.
	text      []byte
	constants []constant

	// A line is studied every so often, and then until one is a request.
	lines, study int
	studied      bool
	steps        []step
}

const (
	pathSlots = 256
	// maxStretch and maxConstant bound what is remembered, in bytes.
	maxStretch  = 192
	maxConstant = 64
	// maxSteps bounds the values of a line that is studied.
	maxSteps = 512
	// studyEvery is how many lines there are between two that are studied.
	studyEvery = 64
	// constantFrom is how often a value must have been seen again.
	constantFrom = 8
	// legWorth is how many lines a leg must have served since it failed.
	legWorth = 16
)

// place is an object within those around it.
type place struct {
	node  *node
	outer *place // nil: the walk began here and ends with this object
	depth int
	inner []*place
	salt  uint64
	// begin stands for the stretch before the object, where a walk begins here.
	begin stretch
}

// meaning is what a value is, as its key and place tell.
type meaning struct {
	at   *place // nil: there is none, the walk ends
	hit  hit
	kind kind
}

// stretch is a text between two values: from behind the one (or from the brace
// that begins a walk) to the other, the first quote, brace or bracket of which
// belongs to it.
type stretch struct {
	meaning // of the value behind it
	text    []byte
	from    *place
	// next is the stretch that followed last, other the one that did before.
	next, other *stretch
	leg         int // on the track, the leg that may follow

	// value is the start of the value as it was when last studied, size the length
	// of all of it, and same how often it was that before.
	value [maxConstant]byte
	size  int
	same  int
}

// leg is a text from the start of a stretch over values that hardly vary, to the
// first one that does.
type leg struct {
	meaning // of that value
	text    []byte
	over    []constant
	last    *stretch // the one before that value
	after   *stretch // the one before the value before the leg; nil: the begin
	served  int
	spoilt  bool // its values vary
}

// constant is a value within a leg.
type constant struct {
	hit      hit
	kind     kind
	from, to int // in its text
}

// step is a stretch on a line that is studied.
type step struct {
	s        *stretch
	from     *place
	start    int // of the stretch
	value    int // its end
	valueEnd int // -1: the value is read in a way of its own
}

// begin is the place of a walk.
func (m *path) begin(n *node, depth int) *place {
	for _, at := range m.places {
		if at.node == n && at.depth == depth {
			return at
		}
	}
	at := m.place(n, nil, depth)
	m.places = append(m.places, at)
	return at
}

// within is the place of an object with the meaning n in the one at at.
func (m *path) within(at *place, n *node) *place {
	for _, in := range at.inner {
		if in.node == n {
			return in
		}
	}
	in := m.place(n, at, at.depth+1)
	at.inner = append(at.inner, in)
	return in
}

func (m *path) place(n *node, outer *place, depth int) *place {
	m.salt += 0x9e3779b97f4a7c15
	return &place{node: n, outer: outer, depth: depth, salt: m.salt}
}

// remember returns the stretch of that text and meaning. A text too long is not
// remembered, and what it returns then is good until the next call.
func (m *path) remember(text []byte, from, to *place, h hit, k kind) *stretch {
	if len(text) > maxStretch {
		m.spare = stretch{meaning: meaning{at: to, hit: h, kind: k}}
		return &m.spare
	}
	home := int((xxhash.Sum64(text) ^ from.salt) % pathSlots)
	i := home
	for range keyProbes {
		s := m.stretches[i]
		if s == nil {
			break
		}
		if s.from == from && string(s.text) == string(text) {
			return s
		}
		i = (i + 1) % pathSlots
	}
	if m.stretches[i] != nil {
		i = home
	} else {
		m.stretches[i] = &stretch{}
	}
	s := m.stretches[i]
	s.meaning = meaning{at: to, hit: h, kind: k}
	s.text, s.from = append(s.text[:0], text...), from
	s.next, s.other, s.leg = nil, nil, 0
	s.size, s.same = -1, 0
	return s
}

// stands tells whether s is the text at the start of b, a part of an object at
// the place at.
func (s *stretch) stands(b []byte, at *place) bool {
	return s != nil && s.from == at && s.follows(b, s.text)
}

// follows tells whether b starts with text and, if that is a number, the value.
func (m *meaning) follows(b, text []byte) bool {
	n := len(text)
	if n > len(b) || string(b[:n]) != string(text) {
		return false
	}
	if m.kind != kindNumber {
		return true
	}
	return n < len(b) && b[n] > ' ' && b[n] != '"' && b[n] != '{' && b[n] != '['
}

// fail tells that the line differs from l.
func (l *leg) fail() {
	l.spoilt = l.spoilt || len(l.over) > 0 && l.served < legWorth
	l.served = 0
}

// turn is the stretch at b[i:] when it is not the one that followed last before.
// It returns the end of the stretch too, -1 if b is no object.
func (p *jsonParser) turn(b []byte, i int, at *place, last *stretch) (*stretch, int) {
	if o := last.other; o.stands(b[i:], at) {
		last.next, last.other = o, last.next
		return o, i + len(o.text)
	}
	s, end := p.step(b, i, at, last == &at.begin)
	if end >= 0 && s != last.next && s != &p.path.spare {
		last.next, last.other = s, last.next
	}
	return s, end
}

// step reads the stretch at b[i:], whatever it is; fresh tells that an object
// begins with it.
func (p *jsonParser) step(b []byte, i int, at *place, fresh bool) (*stretch, int) {
	from, start := at, i
	for {
		if fresh {
			i++ // the brace
		}
		if i = space(b, i); i >= len(b) {
			return nil, -1
		}
		switch {
		case b[i] == '}':
			i++
			if at.outer == nil {
				return p.path.remember(b[start:i], from, nil, noHit, kindString), i
			}
			at, fresh = at.outer, false
			continue
		case fresh:
		case b[i] == ',':
			i = space(b, i+1)
		default:
			return nil, -1
		}
		if i >= len(b) || b[i] != '"' {
			return nil, -1
		}
		end := stringEnd(b, i+1)
		if end < 0 {
			return nil, -1
		}
		h := p.keys.find(at.node, b[i+1:end])
		i = space(b, end+1)
		if i >= len(b) || b[i] != ':' {
			return nil, -1
		}
		if i = space(b, i+1); i >= len(b) {
			return nil, -1
		}
		k := kindNumber
		switch b[i] {
		case '"':
			k = kindString
			i++
		case '[':
			k = kindArray
			i++
		case '{':
			if h.node != nil && at.depth < maxDepth && !wantsObject(h.field) {
				at, fresh = p.path.within(at, h.node), true
				continue
			}
			k = kindObject
			i++
		}
		return p.path.remember(b[start:i], from, at, *h, k), i
	}
}

// wantsObject tells whether an object as a whole can be a value of f.
func wantsObject(f field) bool { return f == fieldFlags || f == fieldRole }

// scalarEnd is the end of the number or word at b[i:], which may be empty, or -1
// if it is no value.
func scalarEnd(b []byte, i int) int {
	if i+8 <= len(b) {
		const ones = 0x0101010101010101
		x := binary.LittleEndian.Uint64(b[i:]) ^ '0'*ones
		// The first of eight bytes that is no digit: 0x76 takes all above 9 to 0x80.
		if m := (x&(0x7f*ones) + 0x76*ones | x) & (0x80 * ones); m != 0 {
			end := i + bits.TrailingZeros64(m)>>3
			if c := b[end]; c == ',' || c == '}' {
				return end
			}
		}
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] > ' ' {
		switch b[i] {
		case '"', '{', '[', ']', ':':
			return -1
		}
		i++
	}
	return i
}

// begins tells that a line begins.
func (m *path) begins() {
	m.lines++
	m.studied = m.lines >= m.study
	m.steps = m.steps[:0]
}

// learn makes the track from b, a line that was studied.
func (m *path) learn(b []byte) {
	if len(m.steps) == maxSteps {
		return
	}
	for i := range m.steps {
		st := &m.steps[i]
		if s := st.s; s.from != st.from || string(s.text) != string(b[st.start:st.value]) {
			return // other stretches of the line took its place
		}
	}
	m.study = m.lines + min(m.lines, studyEvery)
	m.track, m.text, m.constants = m.track[:0], m.text[:0], m.constants[:0]
	var after *stretch
	for i := 0; i < len(m.steps); i++ {
		start, text, constants := m.steps[i].start, len(m.text), len(m.constants)
		for m.steps[i].constant(b) {
			st := &m.steps[i]
			if s := st.s; s.hit.field != fieldNone && (s.kind != kindObject || wantsObject(s.hit.field)) {
				from := st.value - start
				if s.kind == kindArray || s.kind == kindObject {
					from--
				}
				m.constants = append(m.constants, constant{hit: s.hit, kind: s.kind, from: from, to: st.valueEnd - start})
			}
			i++
		}
		m.text = append(m.text, b[start:m.steps[i].value]...)
		last := m.steps[i].s
		last.leg = len(m.track) + 1
		m.track = append(m.track, leg{
			meaning: last.meaning, text: m.text[text:], over: m.constants[constants:], last: last, after: after,
		})
		after = last
	}
}

// constant tells whether the value behind a step, which is never the last,
// hardly varies.
func (st *step) constant(b []byte) bool {
	s := st.s
	if s.at == nil || s.hit.node != nil || st.valueEnd < 0 {
		return false
	}
	v := b[st.value:st.valueEnd]
	if len(v) > len(s.value) || len(v) != s.size || string(s.value[:s.size]) != string(v) {
		s.size, s.same = len(v), 0
		copy(s.value[:], v)
		return false
	}
	s.same = min(s.same+1, constantFrom)
	return s.same == constantFrom
}
