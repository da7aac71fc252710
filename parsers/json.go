package parsers

import (
	"bytes"
	"math/bits"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/denywatch/denywatch/internal/event"
)

// The json format reads one object a line, whatever the order of its keys. The
// scanner below walks a line once and keeps views of the values it wants, with
// no tree in between: it costs about a third of a general decoder, and it
// forgives what hand-made templates of servers write and decoders refuse (empty
// values, "-" for numbers, \x22 in strings, Apache's """" for an empty user).
// The tests compare it with encoding/json.

// hit is what a key means at its place.
type hit struct {
	node    *node // of a nested object that holds wanted fields
	field   field
	rank    uint8
	claimed bool
}

// node is an object whose fields are known by name, exactly (from Mapping) or
// folded (recognised names).
type node struct {
	exact  map[string]hit
	folded map[string]hit
	salt   uint64 // keeps equal keys of different objects apart in a keyCache
	// record marks the lists of OpenTelemetry's export requests and the records in
	// them.
	record bool
}

func (n *node) find(key []byte) hit {
	var buf, folded [maxKey]byte
	if bytes.IndexByte(key, '\\') >= 0 {
		key = Unescape(buf[:0], key)
	}
	h, ok := n.exact[string(key)]
	f := n.findFolded(appendFolded(folded[:0], key))
	if !ok {
		return f
	}
	if h.node == nil {
		h.node = f.node
	}
	if h.field == fieldNone {
		h.field, h.rank, h.claimed = f.field, f.rank, f.claimed
	}
	return h
}

func (n *node) findFolded(key []byte) hit {
	f, ok := n.folded[string(key)]
	if !ok {
		if i := bytes.IndexByte(key, '.'); i > 0 { // "attributes.http.method"
			if c := n.folded[string(key[:i])]; c.node != nil {
				return c.node.findFolded(key[i+1:])
			}
		}
	}
	return f
}

// jsonProgram is a compiled json format, immutable and shared.
type jsonProgram struct {
	root    *node
	loc     *time.Location
	dialect dialect
}

// dialect is what a family knows of its own JSON beyond the recognised names.
type dialect struct {
	// server marks the log of a web server: its users are what clients claimed.
	server bool
	// names replaces the recognised names of a field; from fields on, they are of
	// values that only the dialect reads.
	names map[field][]string
	// request tells whether a line without a status is a request; nil: none is.
	request func(p *jsonParser) bool
	// finish completes the event of a line, or refuses the line.
	finish func(p *jsonParser, e *event.Event) error
}

// containerRank is added to the rank of names inside containers.
const containerRank = 16

// compileJSON compiles c for logs without a dialect.
func compileJSON(c Config, loc *time.Location) *jsonProgram {
	return compileDialect(c.Mapping, loc, dialect{server: c.Format == familyNginx || c.Format == familyApache})
}

func compileDialect(mapping map[string]string, loc *time.Location, d dialect) *jsonProgram {
	b := jsonBuilder{nodes: map[string]*node{}, names: d.names, server: d.server}
	root := b.node("")
	mapped := [fields]bool{}
	for key, path := range mapping {
		f := mappable(key)
		mapped[f] = true
		b.add(path, hit{field: f, claimed: f == fieldUser && claimedNames[fold(path)]}, true)
	}
	b.addRecognised("", 0, mapped)
	b.addOwn()
	inner := jsonBuilder{nodes: map[string]*node{}, names: d.names, salt: 1 << 32, server: d.server}
	inside := inner.node("")
	inner.addRecognised("", containerRank, mapped)
	for _, c := range containers {
		if b.nodes[c] != nil { // the mapping goes there too
			b.addRecognised(c+".", containerRank, mapped)
			continue
		}
		root.folded[c] = hit{node: inside}
	}
	if d.names == nil {
		records := jsonBuilder{nodes: map[string]*node{}, salt: 2 << 32, server: d.server}
		record := records.node("")
		records.addRecognised("", containerRank, mapped)
		record.record = true
		record.folded["attributes"] = hit{node: inside}
		for _, list := range []string{"scopelogs", "logrecords"} {
			record.folded[list] = hit{node: record}
		}
		root.folded["resourcelogs"] = hit{node: record}
	}
	return &jsonProgram{root: root, loc: loc, dialect: d}
}

// jsonBuilder makes the nodes. Nodes of mapped and recognised names are shared
// through the folded path.
type jsonBuilder struct {
	nodes map[string]*node
	names map[field][]string // instead of the recognised ones
	salt  uint64
	// server is the dialect's.
	server bool
}

// addRecognised enters all recognised names but those of mapped fields.
func (b *jsonBuilder) addRecognised(prefix string, rank uint8, mapped [fields]bool) {
	for f := fieldTime; f < fields; f++ {
		if mapped[f] {
			continue
		}
		known, own := b.names[f]
		if !own {
			known = recognised[f]
		}
		for i, names := range known {
			for name := range strings.FieldsSeq(names) {
				b.add(prefix+name, hit{field: f, rank: uint8(i) + rank, claimed: f == fieldUser && (claimedNames[name] || b.server && serverUsers[name])}, false)
			}
		}
	}
}

// addOwn enters the names of the values that only the dialect reads.
func (b *jsonBuilder) addOwn() {
	for f, known := range b.names {
		if f < fields {
			continue
		}
		for i, names := range known {
			for name := range strings.FieldsSeq(names) {
				b.add(name, hit{field: f, rank: uint8(i)}, false)
			}
		}
	}
}

// add enters a dotted path: as nested objects, as one key with dots, and as
// anything between.
func (b *jsonBuilder) add(path string, h hit, exact bool) {
	cuts := []int{}
	for i := 0; i < len(path); i++ {
		if path[i] == '.' && i > 0 && i < len(path)-1 {
			cuts = append(cuts, i)
		}
	}
	starts := append([]int{0}, cuts...)
	ends := append(append([]int{}, cuts...), len(path))
	for si, s := range starts {
		from := 0
		prefix := ""
		if si > 0 {
			from, prefix = s+1, path[:s]
		}
		n := b.node(prefix)
		for ei := si; ei < len(ends); ei++ {
			key := path[from:ends[ei]]
			m := n.folded
			if exact {
				m = n.exact
			} else {
				key = fold(key)
			}
			old := m[key]
			if ends[ei] == len(path) {
				if old.field == fieldNone || h.rank < old.rank {
					old.field, old.rank, old.claimed = h.field, h.rank, h.claimed
				}
			} else {
				old.node = b.node(path[:ends[ei]])
			}
			m[key] = old
		}
	}
}

func (b *jsonBuilder) node(path string) *node {
	path = fold(path)
	n := b.nodes[path]
	if n == nil {
		n = &node{exact: map[string]hit{}, folded: map[string]hit{}, salt: (b.salt + uint64(len(b.nodes))) * 0x9e3779b97f4a7c15}
		b.nodes[path] = n
	}
	return n
}

// kind is the type of a JSON value.
type kind uint8

const (
	kindString kind = iota
	kindNumber      // and true, false
	kindArray
	kindObject
	kindAttributes // an arrayValue of OpenTelemetry's JSON
)

// value is a value that was seen for a field.
type value struct {
	raw     []byte // without quotes, escapes unresolved
	kind    kind
	rank    uint8
	claimed bool
}

// keyCache remembers what keys mean. Logs repeat their keys on every line, mostly
// in one order, so the key that came after the last one before is tried first:
// if it stands there again, it needs neither to be scanned nor to be looked up.
// Else the key is found by its hash; when its places are full, it takes the first.
type keyCache struct {
	slots [keySlots + 1]keySlot // the last is the start of a line
	last  int
}

const (
	keySlots  = 128
	keyProbes = 8
)

type keySlot struct {
	parent *node
	key    []byte
	hit    hit
	next   int
}

// maxKey bounds the keys that can mean something; no recognised name is longer.
const maxKey = 64

var noHit hit

func (c *keyCache) restart() { c.last = len(c.slots) - 1 }

// again returns the meaning and length of the key at the start of b, which ends
// before end, if it is the one that followed the last key before, else -1.
func (c *keyCache) again(parent *node, b []byte, end byte) (*hit, int) {
	next := c.slots[c.last].next
	s := &c.slots[next]
	n := len(s.key)
	if s.parent == parent && n < len(b) && b[n] == end && string(b[:n]) == string(s.key) {
		c.last = next
		return &s.hit, n
	}
	return nil, -1
}

func (c *keyCache) find(parent *node, key []byte) *hit {
	if len(key) > maxKey {
		return &noHit
	}
	home := int((xxhash.Sum64(key) ^ parent.salt) % keySlots)
	i := home
	for range keyProbes {
		s := &c.slots[i]
		if s.parent == parent && string(s.key) == string(key) {
			c.slots[c.last].next, c.last = i, i
			return &s.hit
		}
		if s.parent == nil {
			break
		}
		i = (i + 1) % keySlots
	}
	if c.slots[i].parent != nil {
		i = home
	}
	s := &c.slots[i]
	s.parent, s.key, s.hit = parent, append(s.key[:0], key...), parent.find(key)
	c.slots[c.last].next, c.last = i, i
	return &s.hit
}

// jsonParser reads the lines of one stream.
type jsonParser struct {
	prog    *jsonProgram
	keys    keyCache
	path    path
	clock   clock
	scratch []byte
	escaped bool   // the line holds a backslash
	several bool   // the line holds several records
	leave   uint64 // bit f: nobody asks for field f on this line
	seen    uint64 // bit f: vals[f] is of this line
	vals    [maxFields]value
}

// maxFields bounds the fields of a family: those of an event and, from fields on,
// those that only the family knows.
const maxFields = 64

func newJSONParser(p *jsonProgram) *jsonParser {
	return &jsonParser{prog: p, clock: clock{loc: p.loc}}
}

// maxDepth bounds nested objects with known names; deeper ones are skipped.
const maxDepth = 16

// Parse implements Parser. A line without a status is ErrSkip: an ordinary line
// of the application's log.
func (p *jsonParser) Parse(line []byte, e *event.Event) error {
	p.seen, p.scratch, p.several = 0, p.scratch[:0], false
	p.escaped = bytes.IndexByte(line, '\\') >= 0
	p.path.begins()
	i := space(line, 0)
	if i == len(line) || line[i] != '{' {
		return p.behindText(line, i, e)
	}
	i, ok := p.object(line, i, p.prog.root, 0)
	switch {
	case !ok || space(line, i) != len(line):
		return ErrSyntax
	case p.several:
		return ErrRecords
	}
	if err := p.fill(e); err != nil {
		return err
	}
	if p.path.studied {
		p.path.learn(line)
	}
	return nil
}

// behindText reads a line with text in front of its object, such as the time,
// level and message of zap's console format and of Monolog's lines, or a name.
// Monolog has a second object or list behind it. A line whose object is no request
// may be anything.
func (p *jsonParser) behindText(line []byte, i int, e *event.Event) error {
	from := i + bytes.IndexByte(line[i:], '{')
	if from <= i || from+1 >= len(line) || line[from+1] != '"' && line[from+1] > ' ' || line[from-1] > ' ' {
		return ErrNotObject
	}
	head := line[i:from]
	if head[0] == '[' {
		head = head[1:]
	}
	if n := isoReach(head); n > 0 {
		h := hit{field: fieldTime, rank: headRank}
		p.offer(&h, kindString, head[:n])
	}
	end, ok := p.object(line, from, p.prog.root, 0)
	if !ok {
		return ErrNotObject
	}
	switch end = space(line, end); {
	case end == len(line):
	case line[end] == '{':
		if end, ok = p.object(line, end, p.prog.root, 0); !ok || space(line, end) != len(line) {
			return ErrNotObject
		}
	case string(bytes.TrimSpace(line[end:])) != "[]":
		return ErrNotObject
	}
	if p.fill(e) != nil {
		e.Reset()
		return ErrNotObject
	}
	return nil
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// stringEnd is the index of the '"' that ends the string that starts at b[i], or
// -1.
func stringEnd(b []byte, i int) int {
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 {
		return -1
	}
	if n == 0 || b[i+n-1] != '\\' {
		return i + n
	}
	if n = quoteEnd(b[i:]); n < 0 {
		return -1
	}
	return i + n
}

// object reads the object at b[i] and returns the index behind it.
func (p *jsonParser) object(b []byte, i int, n *node, depth int) (int, bool) {
	at := p.path.begin(n, depth)
	studied := depth == 0 && p.path.studied
	track := p.path.track
	if studied || depth > 0 {
		track = nil
	}
	for k, last := 0, &at.begin; ; {
		var m *meaning
		if k < len(track) {
			before := k
			var l *leg
			if i, k, l = p.glide(b, i, k, track); k > before {
				at, last = track[k-1].at, track[k-1].last
			}
			if l != nil {
				m = &l.meaning
			}
		}
		start := i
		if m == nil {
			if k < len(track) {
				track[k].fail()
			}
			s := last.next
			if s.stands(b[i:], at) {
				i += len(s.text)
			} else if s, i = p.turn(b, i, at, last); i < 0 {
				return 0, false
			}
			m, last = &s.meaning, s
			if k = len(track); s.leg < k && track[s.leg].after == s {
				k = s.leg
			}
			if studied && len(p.path.steps) < maxSteps {
				p.path.steps = append(p.path.steps, step{s: s, from: at, start: start, value: i})
			}
		}
		if m.at == nil {
			return i, true
		}
		at = m.at
		from := i
		var to int
		wanted := m.hit.field != fieldNone && p.leave>>m.hit.field&1 == 0
		switch m.kind {
		case kindString:
			if to = i + bytes.IndexByte(b[i:], '"'); to <= i || b[to-1] == '\\' {
				if to = stringEnd(b, i); to < 0 {
					return 0, false
				}
			}
			switch {
			case wanted:
				p.offer(&m.hit, kindString, b[i:to])
			case m.hit.node != nil && m.hit.field == fieldNone && b[i] == '{' && at.depth < maxDepth:
				p.nested(b[i:to], m.hit.node, at.depth)
			}
			if i = to + 1; to == from && i < len(b) && b[i] > ' ' && b[i] != ',' && b[i] != '}' {
				// Quotes that a template put around a quoted value (HAProxy's
				// %{+Q}r), or around Apache's "" for nothing.
				end := doubledEnd(b, i)
				if end < 0 {
					return 0, false
				}
				if wanted {
					p.offer(&m.hit, kindString, b[i:end])
				}
				i, to = end+2, -1
			}
		case kindObject, kindArray:
			h, k := m.hit, m.kind // deeper ones may take its slot
			var ok bool
			if k == kindObject && h.node != nil && at.depth < maxDepth {
				i, ok = p.object(b, i-1, h.node, at.depth+1)
			} else {
				i, ok = skipNested(b, i-1)
			}
			if !ok {
				return 0, false
			}
			if k == kindArray && h.node != nil {
				p.attributes(b[from-1:i], h.node, at.depth)
			}
			if wanted && (k == kindArray || wantsObject(h.field)) {
				p.offer(&h, k, b[from-1:i])
			}
			to = i
		default:
			if i = scalarEnd(b, i); i < 0 {
				return 0, false
			}
			if wanted {
				p.offer(&m.hit, kindNumber, b[from:i])
			}
			to = i
		}
		if studied && len(p.path.steps) < maxSteps {
			p.path.steps[len(p.path.steps)-1].valueEnd = to
		}
	}
}

// glide follows the track from its leg k on, as long as the line does and the values
// are plain. It returns where it ends, the next leg, and the leg whose value stands
// there; nil if that is no value but a stretch.
func (p *jsonParser) glide(b []byte, i, k int, track []leg) (int, int, *leg) {
	for k < len(track) {
		l := &track[k]
		if l.spoilt || !l.follows(b[i:], l.text) {
			return i, k, nil
		}
		for c := range l.over {
			if c := &l.over[c]; p.leave>>c.hit.field&1 == 0 {
				p.offer(&c.hit, c.kind, b[i+c.from:i+c.to])
			}
		}
		i += len(l.text)
		l.served++
		k++
		from := i
		switch {
		case l.at == nil || l.hit.node != nil:
			return i, k, l
		case l.kind == kindString:
			to := i + bytes.IndexByte(b[i:], '"')
			if to < i || to > i && b[to-1] == '\\' || to == i && (to+1 == len(b) || b[to+1] != ',' && b[to+1] != '}') {
				return i, k, l
			}
			i = to + 1
			if l.hit.field != fieldNone && p.leave>>l.hit.field&1 == 0 {
				p.offer(&l.hit, kindString, b[from:to])
			}
		case l.kind == kindNumber:
			to := scalarEnd(b, i)
			if to < 0 {
				return i, k, l
			}
			i = to
			if l.hit.field != fieldNone && p.leave>>l.hit.field&1 == 0 {
				p.offer(&l.hit, kindNumber, b[from:to])
			}
		default:
			return i, k, l
		}
	}
	return i, k, nil
}

// nested reads an object that is written as a string, as Azure does with the
// properties of some of its logs. What is no object is passed over.
func (p *jsonParser) nested(raw []byte, n *node, depth int) {
	from := len(p.scratch)
	p.scratch = Unescape(p.scratch, raw)
	p.object(p.scratch[from:len(p.scratch):len(p.scratch)], 0, n, depth+1)
}

// doubledEnd is the index of the two quotes that end the value at b[i], or -1.
func doubledEnd(b []byte, i int) int {
	for end := i; ; end++ {
		n := bytes.IndexByte(b[end:], '"')
		if n < 0 || end+n+1 >= len(b) {
			return -1
		}
		if end += n; b[end+1] == '"' {
			return end
		}
	}
}

// skipNested returns the index behind the object or array at b[i].
func skipNested(b []byte, i int) (int, bool) {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			end := stringEnd(b, i+1)
			if end < 0 {
				return 0, false
			}
			i = end
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
		i++
	}
	return 0, false
}

// offer keeps a value for its field if it can be one and nothing better is there.
func (p *jsonParser) offer(h *hit, k kind, raw []byte) {
	if p.seen&(1<<h.field) != 0 && p.vals[h.field].rank < h.rank {
		return
	}
	if k == kindArray && h.field != fieldRole && h.field != fieldFlags && h.field < fields {
		first, fk, ok := firstOf(raw)
		if !ok {
			return
		}
		raw, k = first, fk
	}
	if k == kindString && particular>>h.field&1 == 0 {
		if len(raw) < 2 && (len(raw) == 0 || raw[0] == '-') {
			return
		}
	} else if !plausible(h.field, k, raw) {
		return
	}
	p.seen |= 1 << h.field
	p.vals[h.field] = value{raw: raw, kind: k, rank: h.rank, claimed: h.claimed}
}

// firstOf is the first string or number of an array (Caddy logs headers so).
func firstOf(raw []byte) ([]byte, kind, bool) {
	i := space(raw, 1)
	switch {
	case i >= len(raw) || raw[i] == ']' || raw[i] == '{' || raw[i] == '[':
		return nil, 0, false
	case raw[i] == '"':
		end := stringEnd(raw, i+1)
		if end < 0 {
			return nil, 0, false
		}
		return raw[i+1 : end], kindString, true
	}
	end := i
	for end < len(raw) && raw[end] != ',' && raw[end] != ']' && raw[end] > ' ' { // it may end in '}'
		end++
	}
	return raw[i:end], kindNumber, true
}

// particular are the fields for which not every text is plausible that is neither
// empty nor a dash.
const particular = 1<<fieldUpstream | 1<<fieldStatus | 1<<fieldTime | 1<<fieldMethod | 1<<fieldCause |
	1<<fieldService | 1<<fieldRoute | 1<<fieldClient | 1<<fieldForwarded

// plausible keeps values from a field that cannot be meant: names such as status
// and time are used for many things.
func plausible(f field, k kind, raw []byte) bool {
	if f == fieldUpstream {
		return k == kindString || k == kindNumber
	}
	if len(raw) == 0 || len(raw) == 1 && raw[0] == '-' {
		return false
	}
	if k == kindNumber {
		switch string(raw) {
		case "null":
			return false
		case "true", "false":
			return f >= fields
		}
	}
	switch f {
	case fieldStatus:
		n, ok := statusWord(raw)
		return ok && n >= 100
	case fieldTime:
		return len(raw) >= 9 && (raw[0]-'0' <= 9 && !duration(raw) || raw[0] == '[')
	case fieldMethod:
		return k == kindString && raw[0]|0x20 >= 'a' && raw[0]|0x20 <= 'z'
	case fieldPath, fieldRequest:
		return k == kindString
	case fieldCause:
		return len(raw) <= maxCause
	case fieldService: // Heroku's router calls a latency so: service=148ms
		return k == kindString && !latency(raw)
	case fieldRoute:
		// bunyan's and Django's routes are names of handlers, not templates.
		return k == kindString && (bytes.IndexByte(raw, '/') >= 0 || bytes.IndexByte(raw, '{') >= 0)
	case fieldClient, fieldForwarded:
		return k == kindString && (raw[0]-'0' <= 9 || raw[0]|0x20 >= 'a' && raw[0]|0x20 <= 'z' || raw[0] == ':' || raw[0] == '[')
	}
	return true
}

// duration tells whether a number is too small for a time: request_time is that
// of API gateways and how long a request took in nginx.
func duration(v []byte) bool {
	for _, c := range v[:9] {
		if c-'0' > 9 {
			return c == '.'
		}
	}
	return false
}

// latency tells whether v is a number of seconds with its unit, such as 148ms.
func latency(v []byte) bool {
	n := numberLen(v)
	return n > 0 && (string(v[n:]) == "ms" || string(v[n:]) == "s" || string(v[n:]) == "us")
}

// statusWord reads a status as loggers write it: 403, "403", 403.0 or
// "403 Forbidden".
func statusWord(v []byte) (uint16, bool) {
	if len(v) > 3 && (v[3] == ' ' || v[3] == '.') {
		v = v[:3]
	}
	return statusNumber(v)
}

// text is a value with its escapes resolved.
func (p *jsonParser) text(raw []byte) []byte {
	if !p.escaped {
		return raw
	}
	return p.unescaped(raw)
}

func (p *jsonParser) unescaped(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	from := len(p.scratch)
	p.scratch = Unescape(p.scratch, raw)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// codeRank is the rank of "code" as a status: so many things are codes that it
// counts only in lines that also have a path.
var codeRank = uint8(len(recognised[fieldStatus]) - 1)

// errorRank is the rank of "error" as a cause: of its text, which is free and may
// be personal, only a class in front counts.
var errorRank = uint8(len(recognised[fieldCause]) - 1)

// className is the class of an error such as "Pundit::NotAuthorizedError: not
// allowed to show?", empty if it has none.
func className(v []byte) []byte {
	if i := bytes.Index(v, colonSpace); i >= 0 {
		v = v[:i]
	}
	if bytes.IndexByte(v, ' ') >= 0 {
		return nil
	}
	return v
}

var colonSpace = []byte(": ")

// fill turns the values into an event.
func (p *jsonParser) fill(e *event.Event) error {
	has := func(f field) bool { return p.seen&(1<<f) != 0 }
	if !has(fieldStatus) || p.vals[fieldStatus].rank%containerRank == codeRank && !has(fieldPath) && !has(fieldRequest) {
		if p.prog.dialect.request == nil || !p.prog.dialect.request(p) {
			return ErrNoStatus
		}
	} else {
		e.Status, _ = statusWord(p.vals[fieldStatus].raw)
	}
	if has(fieldRequest) {
		e.Method, e.Path = splitRequest(p.text(p.vals[fieldRequest].raw))
	}
	for left := p.seen & (1<<fields - 1); left != 0; left &= left - 1 {
		f := field(bits.TrailingZeros64(left))
		v := &p.vals[f]
		switch f {
		case fieldStatus, fieldRequest:
		case fieldTime:
			t, ok := p.clock.any(p.text(v.raw))
			if !ok {
				return ErrTime
			}
			e.Time = t
		case fieldUpstream:
			upstreamStatus(p.text(v.raw), e)
		case fieldUser:
			e.User, e.UserClaimed = p.text(v.raw), v.claimed
		case fieldPath:
			e.Path = p.text(v.raw)
		case fieldClient:
			e.Client = firstClient(p.text(v.raw))
		case fieldForwarded:
			if len(e.Client) == 0 || private(e.Client) {
				e.Client = firstClient(p.text(v.raw))
			}
		case fieldRole:
			e.Roles = p.list(e.Roles, v)
		case fieldFlags:
			e.Flags = p.list(e.Flags, v)
		case fieldCause:
			switch c := p.text(v.raw); {
			case e.Status/100 != 4:
			case v.rank%containerRank == errorRank:
				e.Cause = className(c)
			default:
				e.Cause = c
			}
		default:
			setText(f, p.text(v.raw), e)
		}
	}
	if p.prog.dialect.finish != nil {
		return p.prog.dialect.finish(p, e)
	}
	return nil
}

// own is the text of a value that only the dialect reads, nil without one.
func (p *jsonParser) own(f field) []byte {
	if p.seen&(1<<f) == 0 {
		return nil
	}
	return p.text(p.vals[f].raw)
}

// list appends the words of a string, the strings and numbers of an array, or
// the keys of an object whose values are true.
func (p *jsonParser) list(to [][]byte, v *value) [][]byte {
	if v.kind == kindString || v.kind == kindNumber {
		return splitBracketed(to, p.text(v.raw))
	}
	b := v.raw
	if v.kind == kindAttributes {
		return p.attributeList(to, b)
	}
	var key []byte
	for i := 1; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			end := stringEnd(b, i+1)
			if end < 0 {
				return to
			}
			s := b[i+1 : end]
			i = end + 1
			switch {
			case v.kind == kindObject && key == nil:
				if key = s; len(s) == 0 {
					key = b[:0:0]
				}
			case v.kind == kindObject:
				switch w := string(s); {
				case w == "true" || w == "on" || w == "enabled":
					to = appendWord(to, p.text(key))
				case nameKey(key):
					to = appendWord(to, p.text(s))
				}
				key = nil
			default:
				to = appendWord(to, p.text(s))
			}
		case c == '{' || c == '[':
			end, ok := skipNested(b, i)
			if !ok {
				return to
			}
			if v.kind == kindArray && c == '{' { // [{"name":"viewer"}]
				m := members{b: b[i:end]}
				for m.next() {
					if m.kind == kindString && nameKey(m.key) {
						to = appendWord(to, p.text(m.raw))
						break
					}
				}
			}
			i, key = end, nil
		case c == ',' || c == ':' || c == ']' || c == '}' || c <= ' ':
			i++
		default:
			end := i
			for end < len(b) && b[end] != ',' && b[end] != ']' && b[end] != '}' && b[end] > ' ' {
				end++
			}
			s := b[i:end]
			i = end
			switch {
			case v.kind == kindArray && string(s) != "null":
				to = appendWord(to, s)
			case key != nil && string(s) == "true":
				to = appendWord(to, p.text(key))
			}
			key = nil
		}
	}
	return to
}

// nameKey tells whether an object that stands for a role or a flag has its name
// under this key.
func nameKey(key []byte) bool {
	switch string(key) {
	case "name", "authority", "role", "slug", "key":
		return true
	}
	return false
}

func appendWord(to [][]byte, w []byte) [][]byte {
	if len(w) == 0 || len(w) == 1 && w[0] == '-' {
		return to
	}
	return append(to, w)
}

// jsonCandidates are the JSON formats that Detect tries.
func jsonCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyJSON}, why: "are JSON objects",
		sign: func(line []byte, e *event.Event, err error) vote {
			if line[space(line, 0)] != '{' && (err != nil || len(e.Path) == 0) {
				return voteNo
			}
			return voteYes
		},
	}}
}
