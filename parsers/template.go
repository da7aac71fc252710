package parsers

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// field is a place in an event that a value of a line goes to.
type field uint8

// The fields. Those before fieldRequest are the keys of Config.Mapping.
const (
	fieldNone field = iota
	fieldTime
	fieldService
	fieldHost
	fieldMethod
	fieldPath
	fieldRoute
	fieldStatus
	fieldUpstream
	fieldClient
	fieldUser
	fieldAccount
	fieldRole
	fieldPlan
	fieldGeo
	fieldFlags
	fieldVersion
	fieldRequestID
	fieldCause
	fieldRequest
	fieldUserAgent
	// fieldForwarded is a list of clients and proxies (X-Forwarded-For). It is
	// the client where the peer is only a proxy of one's own.
	fieldForwarded
	// fieldConn is nginx's number of the connection.
	fieldConn
	// fieldOriginal is Apache's status from before error pages, where a format has
	// the final one too.
	fieldOriginal
	fields
)

// keys are the names of the fields in Config.Mapping and in text for people.
var keys = [fields]string{
	fieldTime: "time", fieldService: "service", fieldHost: "host", fieldMethod: "method", fieldPath: "path",
	fieldRoute: "route", fieldStatus: "status", fieldUpstream: "upstream_status", fieldClient: "client",
	fieldUser: "user", fieldAccount: "account", fieldRole: "role", fieldPlan: "plan", fieldGeo: "geo",
	fieldFlags: "flags", fieldVersion: "version", fieldRequestID: "request_id", fieldCause: "cause",
}

// escaping is how a format writes bytes that would break it.
type escaping uint8

const (
	// escapeBackslash: a value holds no raw '"' (nginx default and json, Apache).
	escapeBackslash escaping = iota
	// escapeNone: anything may stand raw.
	escapeNone
)

// shape says how far a value can reach.
type shape uint8

const (
	shapeText      shape = iota // up to the fixed text that follows
	shapeToken                  // the same, and it holds no space
	shapePath                   // text that starts with '/'
	shapeNumber                 // digits and '.', or '-', or nothing
	shapeStatus                 // three digits, or '-'
	shapeList                   // nginx's upstream lists: "a, b : c"
	shapeCLF                    // parseCLF's 26 bytes, or '-'
	shapeBracketed              // the same in brackets (Apache's %t), or '-'
	shapeISO                    // $time_iso8601's 25 bytes, or '-'
	shapeStamp                  // the parts of Apache's %{...}t, or '-'
	shapeQuery                  // '?' or nothing
)

// element is one variable, or one stretch of fixed text, of a format as its
// family compiled it.
type element struct {
	lit   string // fixed text, when name is empty
	name  string // the variable as people write it
	shape shape
	field field
	// rank orders the variables of one field: the least is taken.
	rank uint8
	// claimed marks users that are only what the client claimed.
	claimed bool
	// wild marks values in which spaces are common (user agents).
	wild bool
	// quotedEmpty: an empty value may be written as "" (Apache's %u).
	quotedEmpty bool
	// dashQuery: the path is $uri$is_args$args, which writes "-" for no args.
	dashQuery bool
	// original marks a status from before error pages and internal redirects.
	original bool
	// end marks times of the end of the request, where others are of its start.
	end   bool
	parts []stampPart
}

// op is an element made ready for the hot path: a value and the fixed text that
// follows it.
type op struct {
	shape       shape
	field       field
	look        shape // of the next value, to tell false ends from true ones
	lookLit     string
	quoted      bool // lit starts with '"', which no value holds
	toSlash     bool // the next value starts with '/' and nothing is between
	last        bool // nothing follows
	greedy      bool // ends at the last place where lit stands
	claimed     bool
	quotedEmpty bool
	dashQuery   bool
	setMethod   bool // of fieldRequest
	setPath     bool
	lit         string
	short       shortText // of lit
	// before is the fixed text in front, for values cut from the right.
	before string
	parts  []stampPart
}

// program is a compiled format. It is immutable and shared by parsers.
type program struct {
	escape escaping
	head   string
	ops    []op
	// back, if any, are cut from the end of the line, last first, when the last
	// of ops is reached: its value may hold the text between values.
	back []op
	// core is how many of ops hold what a request must have. A line that fails
	// behind them was cut off, or the format has grown, and it still counts.
	core   int
	strict bool
	stamp  bool // the time comes from shapeStamp
	loc    *time.Location
	has    [fields]bool
}

// assemble makes a program of elements. A strict one checks lines to their end
// (for recognising formats); the other stops after the last value it needs.
func assemble(elems []element, esc escaping, loc *time.Location, strict bool) (*program, error) {
	elems, err := mergeStamps(mergeText(elems))
	if err != nil {
		return nil, err
	}
	p := &program{escape: esc, loc: loc, strict: strict}
	best := chooseElements(elems)
	if err := tellApart(elems, best); err != nil {
		return nil, err
	}

	if len(elems) > 0 && elems[0].name == "" {
		p.head, elems = elems[0].lit, elems[1:]
		for i := range best {
			best[i]--
		}
	}
	type built struct {
		op
		wild   bool
		forged bool // wild, and a client may write what follows it
	}
	var ops []built
	for i := 0; i < len(elems); i++ {
		e := &elems[i]
		o := built{op: op{
			shape: e.shape, claimed: e.claimed, quotedEmpty: e.quotedEmpty, dashQuery: e.dashQuery, parts: e.parts,
		}, wild: e.wild, forged: e.wild && e.field != fieldRequest}
		switch {
		case e.field == fieldTime && e.shape == shapeStamp:
			// All stamps of the chosen moment add up to the time.
			if b := best[fieldTime]; b >= 0 && elems[b].shape == shapeStamp && elems[b].end == e.end {
				o.field, p.stamp = fieldTime, true
			}
		case e.field == fieldRequest:
			o.setMethod, o.setPath = best[fieldMethod] == i, best[fieldPath] == i
			if o.setMethod || o.setPath {
				o.field = fieldRequest
			}
		case e.field != fieldNone && best[e.field] == i:
			o.field = e.field
		case e.original && e.field == fieldStatus:
			o.field = fieldOriginal
		}
		if o.field != fieldNone {
			p.has[o.field] = true
		}
		switch next := i + 1; {
		case next == len(elems):
			o.last = true
		case elems[next].name == "":
			o.lit = elems[next].lit
			i++
		default:
			if err := adjacent(e, &elems[next]); err != nil {
				return nil, err
			}
			o.toSlash = e.shape == shapeText || e.shape == shapeToken
		}
		o.quoted = o.lit != "" && o.lit[0] == '"' && esc != escapeNone
		o.greedy = o.lit != "" && !o.quoted && o.shape == shapeText && i == len(elems)-1
		ops = append(ops, o)
	}
	if best[fieldMethod] >= 0 {
		p.has[fieldMethod] = true
	}
	if best[fieldPath] >= 0 {
		p.has[fieldPath] = true
	}

	last := 0 // how many ops are needed
	for i := range ops {
		ops[i].short = newShortText(ops[i].lit)
		if i+1 < len(ops) {
			ops[i].look, ops[i].lookLit = ops[i+1].shape, ops[i+1].lit
		}
		switch ops[i].field {
		case fieldNone:
		case fieldTime, fieldStatus, fieldRequest, fieldPath, fieldMethod, fieldClient:
			p.core, last = i+1, i+1
		default:
			last = i + 1
		}
	}
	wild := -1
	for i := range ops {
		if ops[i].wild && !ops[i].quoted && !ops[i].last && backwards(ops[i].lit, ops[i].look) {
			wild = i
			break
		}
	}
	if wild < 0 {
		// Nor may a client forge the status behind its words.
		wild = slices.IndexFunc(ops, func(o built) bool {
			return o.forged && !o.quoted && !o.last && o.lit == " " && (o.look == shapeStatus || o.look == shapeNumber)
		})
		if wild >= 0 && slices.ContainsFunc(ops[wild+1:], func(o built) bool { return o.wild }) {
			wild = -1
		}
	}
	if wild >= 0 {
		for i := wild + 1; i < len(ops); i++ {
			if s := ops[i].shape; s > shapeStatus || ops[i].quoted || ops[i].toSlash || ops[i-1].lit == "" {
				wild = -1 // cannot be cut from the right
				break
			}
		}
	}
	for i := range ops {
		switch {
		case wild >= 0 && i > wild:
			ops[i].before = ops[i-1].lit
			p.back = append(p.back, ops[i].op)
		case i < last || strict:
			p.ops = append(p.ops, ops[i].op)
		}
	}
	if wild >= 0 && !strict && last <= wild {
		p.back = nil
	}
	return p, nil
}

// backwards tells whether a value that may hold spaces needs cutting from the
// right: it ends with a space and what follows does not tell by its shape.
func backwards(lit string, look shape) bool {
	return lit != "" && lit[0] == ' ' && (len(lit) == 1 && look <= shapePath)
}

// mergeText joins neighbouring stretches of fixed text.
func mergeText(elems []element) []element {
	var out []element
	for _, e := range elems {
		if n := len(out); e.name == "" && n > 0 && out[n-1].name == "" {
			out[n-1].lit += e.lit
			continue
		}
		if e.name != "" || e.lit != "" {
			out = append(out, e)
		}
	}
	return out
}

// mergeStamps joins stamps of one moment that have only fixed text between them.
func mergeStamps(elems []element) ([]element, error) {
	out := make([]element, 0, len(elems))
	for i := 0; i < len(elems); i++ {
		e := elems[i]
		if e.shape != shapeStamp || e.name == "" {
			out = append(out, e)
			continue
		}
		e.parts = append([]stampPart(nil), e.parts...)
		for i+1 < len(elems) {
			next := i + 1
			if elems[next].name == "" && next+1 < len(elems) {
				next++
			}
			n := &elems[next]
			if n.name == "" || n.shape != shapeStamp || n.end != e.end {
				break
			}
			if next == i+2 {
				e.parts = appendText(e.parts, elems[i+1].lit)
			}
			e.parts = append(e.parts, n.parts...)
			e.name += n.name
			i = next
		}
		for k := 1; k < len(e.parts); k++ {
			if variable(e.parts[k-1].kind) && variable(e.parts[k].kind) {
				return nil, fmt.Errorf("%s: two numbers of any length stand side by side; put text between them", e.name)
			}
		}
		out = append(out, e)
	}
	return out, nil
}

func variable(kind byte) bool {
	return kind == 's' || kind == partEpochMilli || kind == partEpochMicro
}

// chooseElements finds the element for each field, -1 for none.
func chooseElements(elems []element) [fields]int {
	var best [fields]int
	for i := range best {
		best[i] = -1
	}
	offer := func(f field, i int, rank uint8) {
		if b := best[f]; b < 0 || rank < elems[b].rank {
			best[f] = i
		}
	}
	// Stamps count only together, per moment.
	var parts [2][]stampPart
	for i := range elems {
		if e := &elems[i]; e.name != "" && e.shape == shapeStamp && e.field == fieldTime {
			k := 0
			if e.end {
				k = 1
			}
			parts[k] = append(parts[k], e.parts...)
		}
	}
	for i := range elems {
		e := &elems[i]
		switch {
		case e.name == "" || e.field == fieldNone:
		case e.field == fieldRequest:
			offer(fieldRequest, i, e.rank)
			offer(fieldMethod, i, e.rank)
			offer(fieldPath, i, e.rank)
		case e.field == fieldTime && e.shape == shapeStamp:
			k := 0
			if e.end {
				k = 1
			}
			w := judgeStamp(parts[k])
			if !w.complete {
				continue
			}
			e.rank = 2
			if w.fine {
				e.rank = 0
			}
			if e.end {
				e.rank += 3
			}
			offer(fieldTime, i, e.rank)
		default:
			offer(e.field, i, e.rank)
		}
	}
	return best
}

// adjacent refuses two values with nothing between them whose border nobody can
// find.
func adjacent(a, b *element) error {
	switch a.shape {
	case shapeStamp:
		if !variable(a.parts[len(a.parts)-1].kind) || b.shape < shapeNumber {
			return nil
		}
	case shapeCLF, shapeBracketed, shapeISO, shapeStatus, shapeQuery:
		return nil
	case shapeToken, shapeText:
		if b.shape == shapePath {
			return nil
		}
	case shapeNumber:
		if b.shape == shapePath || b.shape == shapeQuery {
			return nil
		}
	}
	return fmt.Errorf("%s%s cannot be told apart: put a space or other text between them", a.name, b.name)
}

// tellApart refuses values of the client's that may hold spaces and have nothing
// but spaces between them, if one of them is needed, or one that stands among
// them: whoever writes one of them moves the others. An unquoted request is no such
// value, as what follows it tells where it ends, nor are roles, cookies and the like,
// which are seldom more than a word.
func tellApart(elems []element, best [fields]int) error {
	first := -1     // the first such value of a run
	needed := false // one that is needed was seen since, itself included
	for i := range elems {
		e := &elems[i]
		if e.name == "" {
			if strings.Trim(e.lit, " ") != "" {
				first = -1
			}
			continue
		}
		switch e.shape {
		case shapeCLF, shapeBracketed, shapeISO, shapeStamp:
			first = -1
			continue
		}
		used := e.field != fieldNone && e.field != fieldUserAgent && best[e.field] == i
		loose := e.wild && e.shape == shapeText
		switch e.field {
		case fieldNone:
			loose = loose && strings.Contains(strings.ToLower(e.name), "referer")
		case fieldUserAgent, fieldClient:
		case fieldUser:
			loose = loose && e.claimed
		default:
			loose = false
		}
		if loose && first < 0 {
			first, needed = i, used
			continue
		}
		if needed = needed || used; loose && needed && first >= 0 {
			return fmt.Errorf("%s and %s may hold spaces and cannot be told apart with only spaces between them: put each in quotes, as in \"%s\"",
				elems[first].name, e.name, e.name)
		}
	}
	return nil
}

// templateParser cuts the lines of one stream as its program says.
type templateParser struct {
	p       *program
	clock   clock
	stamp   stamp
	escaped bool // the line holds a backslash
	scratch []byte
}

func newTemplateParser(p *program) *templateParser {
	return &templateParser{p: p, clock: clock{loc: p.loc}}
}

// Parse implements Parser.
func (t *templateParser) Parse(line []byte, e *event.Event) error {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	p := t.p
	t.scratch = t.scratch[:0]
	t.escaped = p.escape != escapeNone && bytes.IndexByte(line, '\\') >= 0
	if p.stamp {
		t.stamp.reset()
	}
	if !hasPrefix(line, p.head) {
		return ErrMismatch
	}
	rest := line[len(p.head):]
	for i := range p.ops {
		o := &p.ops[i]
		if len(p.back) > 0 && i == len(p.ops)-1 {
			var err error
			if rest, err = t.cutBack(rest, e); err != nil && (p.strict || i < p.core) {
				return err
			}
			if err := t.take(o, rest, e); err != nil {
				return err
			}
			rest = nil
			break
		}
		var n int
		if o.shape <= shapePath {
			n = o.text(rest)
		} else {
			n = t.reach(o, rest)
		}
		if n < 0 || !o.litAt(rest, n) {
			if i >= p.core && !p.strict {
				break
			}
			if len(rest) == 0 {
				return ErrShort
			}
			return ErrMismatch
		}
		if o.field != fieldNone {
			if err := t.take(o, rest[:n], e); err != nil {
				return err
			}
		}
		rest = rest[n+len(o.lit):]
	}
	if p.strict && len(rest) > 0 {
		return ErrMismatch
	}
	if p.has[fieldCause] && e.Status/100 != 4 {
		e.Cause = nil
	}
	if p.stamp && !t.stamp.absent {
		at, ok := t.stamp.instant(p.loc)
		if !ok {
			return ErrTime
		}
		e.Time = at
	}
	return nil
}

// reach is the length of o's value at the start of b, or -1.
func (t *templateParser) reach(o *op, b []byte) int {
	switch o.shape {
	case shapeCLF:
		if len(b) >= clfLen && b[2] == '/' {
			return clfLen
		}
		return dash(b)
	case shapeBracketed:
		if len(b) >= clfLen+2 && b[0] == '[' && b[clfLen+1] == ']' {
			return clfLen + 2
		}
		return dash(b)
	case shapeISO:
		if len(b) >= isoLen && b[4] == '-' {
			return isoLen
		}
		return dash(b)
	case shapeStatus:
		if len(b) >= 3 && b[0]-'0' <= 9 && b[1]-'0' <= 9 && b[2]-'0' <= 9 {
			return 3
		}
		return dash(b)
	case shapeNumber:
		return numberLen(b)
	case shapeList:
		return listLen(b, o.lit)
	case shapeQuery:
		if len(b) > 0 && b[0] == '?' {
			return 1
		}
		return 0
	case shapeStamp:
		if o.field != fieldTime {
			var s stamp // not asked for: only its length counts
			if n := s.read(o.parts, b); n >= 0 {
				return n
			}
			return dash(b)
		}
		n := t.stamp.read(o.parts, b)
		if n < 0 {
			if n = dash(b); n > 0 {
				t.stamp.absent = true
			}
		}
		return n
	}
	return -1
}

// litAt tells whether o's fixed text stands at b[n:].
func (o *op) litAt(b []byte, n int) bool {
	if l := len(o.lit); l > 8 || n+8 > len(b) {
		return len(b)-n >= l && string(b[n:n+l]) == o.lit
	}
	return o.short.begins(b[n:])
}

// text is the length of the text at the start of b that ends where o's fixed
// text begins, or -1.
func (o *op) text(b []byte) int {
	switch {
	case o.quoted:
		n := bytes.IndexByte(b, '"')
		if n > 0 && b[n-1] == '\\' {
			n = quoteEnd(b)
		}
		if n == 0 && o.quotedEmpty && len(b) > 2 && b[1] == '"' && hasPrefix(b[2:], o.lit) {
			return 2
		}
		return n
	case o.last:
		return len(b)
	case o.greedy:
		return lastIndex(b, o.lit)
	case o.toSlash:
		n := bytes.IndexByte(b, '/')
		// A request that the server could not read has no path: "shop.example-".
		none := len(b)
		if o.lookLit != "" {
			none = bytes.Index(b, []byte(o.lookLit))
		}
		if none > 0 && (n < 0 || none <= n) && b[none-1] == '-' {
			return none - 1
		}
		return n
	}
	first := o.lit[0]
	within := b
	if o.shape == shapeToken {
		n := indexShort(b, ' ')
		if first == ' ' {
			return n
		}
		if n >= 0 {
			within = b[:n]
		}
	}
	from := 0
	for {
		n := indexShort(within[from:], first)
		if n < 0 {
			return -1
		}
		n += from
		if o.litAt(b, n) && o.follows(b[n+len(o.lit):]) {
			return n
		}
		from = n + 1
	}
}

const isoLen = len("2006-01-02T15:04:05+00:00")

func dash(b []byte) int {
	if len(b) > 0 && b[0] == '-' {
		return 1
	}
	return -1
}

// follows tells whether b can start with the next value. It is how the end of a
// user name that holds " [", of an IPv6 host that holds ':' or of a raw request
// that holds a quote is found.
func (o *op) follows(b []byte) bool {
	var n int
	switch o.look {
	case shapeCLF:
		n = stampLen(b, clfLen, len(b) >= clfLen && b[2] == '/' && b[11] == ':')
	case shapeBracketed:
		n = stampLen(b, clfLen+2, len(b) >= clfLen+2 && b[0] == '[' && b[3] == '/' && b[clfLen+1] == ']')
	case shapeISO:
		n = stampLen(b, isoLen, len(b) >= isoLen && b[4] == '-' && b[10] == 'T')
	case shapeStatus:
		if n = 3; len(b) < 3 || b[0]-'0' > 9 || b[1]-'0' > 9 || b[2]-'0' > 9 {
			n = dash(b)
		}
		return n >= 0 && (o.lookLit == "" || n >= len(b) || b[n] == o.lookLit[0])
	case shapeNumber:
		n = numberLen(b)
		return n >= 0 && (o.lookLit == "" || n >= len(b) || b[n] == o.lookLit[0])
	default:
		return true
	}
	// Users are free to call themselves after a time, but not to write the text
	// behind it where that has a quote.
	return n >= 0 && hasPrefix(b[n:], o.lookLit)
}

// stampLen is n if a time of that length stands at the start of b, else the length
// of a dash, or -1.
func stampLen(b []byte, n int, there bool) int {
	if there {
		return n
	}
	return dash(b)
}

// numberLen is the length of the number, or of the "-", at the start of b.
func numberLen(b []byte) int {
	n := 0
	if len(b) > 0 && b[0] == '-' {
		n = 1
	}
	for n < len(b) && (b[n]-'0' <= 9 || b[n] == '.') {
		n++
	}
	return n
}

// listLen is the length of an nginx upstream list: elements without spaces, with
// ", " and " : " between them. It ends at the end of the first element that
// neither follows.
func listLen(b []byte, lit string) int {
	n := 0
	for {
		stop := byte(' ')
		if lit != "" && lit[0] != ' ' {
			stop = lit[0]
		}
		for n < len(b) && b[n] != ' ' && b[n] != stop {
			if b[n] == ',' && n+1 < len(b) && b[n+1] == ' ' {
				break
			}
			n++
		}
		switch {
		case n+1 < len(b) && b[n] == ',' && b[n+1] == ' ':
			n += 2
		case n+2 < len(b) && b[n] == ' ' && b[n+1] == ':' && b[n+2] == ' ':
			n += 3
		default:
			return n
		}
	}
}

func hasPrefix(b []byte, s string) bool { return len(b) >= len(s) && string(b[:len(s)]) == s }

// cutBack cuts the values of back from the end of b and returns what is in front
// of them.
func (t *templateParser) cutBack(b []byte, e *event.Event) ([]byte, error) {
	end := len(b)
	for i := len(t.p.back) - 1; i >= 0; i-- {
		o := &t.p.back[i]
		if o.lit != "" && i == len(t.p.back)-1 {
			if !bytes.HasSuffix(b, []byte(o.lit)) {
				return b, ErrMismatch
			}
			end -= len(o.lit)
		}
		k := lastIndex(b[:end], o.before)
		if k < 0 {
			return b[:end], ErrMismatch
		}
		if o.field != fieldNone {
			if err := t.take(o, b[k+len(o.before):end], e); err != nil {
				return b[:end], err
			}
		}
		end = k
	}
	return b[:end], nil
}

func lastIndex(b []byte, s string) int {
	for end := len(b); ; {
		k := bytes.LastIndexByte(b[:end], s[0])
		if k < 0 || hasPrefix(b[k:], s) {
			return k
		}
		end = k
	}
}

// take puts a value where it belongs.
func (t *templateParser) take(o *op, v []byte, e *event.Event) error {
	if len(v) == 0 || len(v) == 1 && v[0] == '-' || o.quotedEmpty && len(v) == 2 && v[0] == '"' && v[1] == '"' {
		if o.field == fieldUpstream {
			e.Upstream = event.UpstreamNone
		}
		return nil
	}
	if t.escaped && bytes.IndexByte(v, '\\') >= 0 {
		from := len(t.scratch)
		t.scratch = Unescape(t.scratch, v)
		v = t.scratch[from:len(t.scratch):len(t.scratch)]
	}
	switch o.field {
	case fieldTime:
		var ok bool
		switch o.shape {
		case shapeStamp: // gathered in t.stamp
			return nil
		case shapeCLF:
			e.Time, ok = t.clock.clf(v)
		case shapeBracketed:
			e.Time, ok = t.clock.clf(v[1 : len(v)-1])
		case shapeISO:
			e.Time, ok = t.clock.iso(v)
		default:
			e.Time, ok = t.clock.any(v)
		}
		if !ok {
			e.Time = event.NoTime
			return ErrTime
		}
	case fieldStatus:
		var ok bool
		if e.Status, ok = statusNumber(v); !ok {
			return ErrStatus
		}
	case fieldRequest:
		m, path := splitRequest(v)
		if o.setMethod {
			e.Method = m
		}
		if o.setPath {
			e.Path = path
		}
	case fieldPath:
		if o.dashQuery && v[len(v)-1] == '-' && bytes.IndexByte(v, '?') < 0 {
			v = v[:len(v)-1]
		}
		e.Path = v
	case fieldUpstream:
		upstreamStatus(v, e)
	case fieldUser:
		e.User, e.UserClaimed = v, o.claimed
	case fieldClient:
		if e.Client = v; o.shape != shapeToken {
			e.Client = firstClient(v)
		}
	case fieldCause:
		if len(v) <= maxCause {
			e.Cause = v
		}
	case fieldConn:
		e.Conn = connection(v)
	case fieldOriginal:
		e.OriginalStatus, _ = statusNumber(v)
	default:
		setText(o.field, v, e)
	}
	return nil
}

// maxCause is the longest cause, in bytes: a longer text is a message, not a
// reason.
const maxCause = 128

// setText stores the fields that need no conversion beyond splitting.
func setText(f field, v []byte, e *event.Event) {
	switch f {
	case fieldService:
		e.Service = v
	case fieldHost:
		e.Host = v
	case fieldMethod:
		e.Method = v
	case fieldRoute:
		e.Route = v
	case fieldClient:
		e.Client = v
	case fieldAccount:
		e.Account = v
	case fieldRole:
		e.Roles = splitList(e.Roles, v)
	case fieldPlan:
		e.Plan = v
	case fieldGeo:
		e.Geo = v
	case fieldFlags:
		e.Flags = splitList(e.Flags, v)
	case fieldVersion:
		e.Version = v
	case fieldRequestID:
		e.RequestID = v
	case fieldUserAgent:
		e.UserAgent = v
	}
}

// label is the name that fixed text in front of a variable gives it:
// `"role":"`, `role=` or ` role="`.
func label(lit string) string {
	s := strings.TrimRight(lit, " ")
	s = strings.TrimSuffix(s, `"`)
	s = strings.TrimRight(s, " ")
	switch {
	case strings.HasSuffix(s, `:`):
		s = strings.TrimRight(strings.TrimSuffix(s, ":"), " ")
		if !strings.HasSuffix(s, `"`) {
			return ""
		}
		s = s[:len(s)-1]
		return s[strings.LastIndexByte(s, '"')+1:]
	case strings.HasSuffix(s, `=`):
		s = s[:len(s)-1]
		return s[strings.LastIndexAny(s, " \t\",;|[({&?")+1:]
	}
	return ""
}
