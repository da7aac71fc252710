// Package route turns request targets into route templates: "/users/8141/export"
// becomes "/users/{id}/export".
//
// A Router tries the configured patterns first, then the application's own
// route, then the shapes of the path's segments. A segment is judged by its text,
// its place and its neighbours; in doubt it is a literal, and package slug learns
// from many paths what one cannot tell. Everything is a pure function of its
// arguments and the configuration, so every collector, today or after a
// restart, finds the same template. For each line only Key is computed, a 64-bit
// hash that is equal only for targets with equal templates; the template itself
// is built once per key.
//
// Templates hold no query strings, not even those that came with an encoded
// question mark, no matrix parameters, and no byte that RFC 3986 forbids in a
// path; escapes that say the same are written the same, and dot segments and
// doubled slashes are resolved.
package route

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// Bounds of a template. What is deeper or longer ends in "/**".
const (
	MaxSegments = 12
	MaxBytes    = 200
	maxSegment  = 64
)

// Problem is a mistake in a configured pattern.
type Problem struct {
	Index int // of the pattern
	Msg   string
}

// Error implements error.
func (p Problem) Error() string { return p.Msg }

type pattern struct {
	text string
	segs []string
	deep bool // ends in "**"
}

// Router resolves targets. It is safe for concurrent use.
type Router struct {
	seed     maphash.Seed
	patterns []pattern
	// special are the segments of patterns that fit only some of the texts of
	// one shape: a literal that looks like an id, "report-{name}.pdf". Which of
	// them a segment fits is part of the key.
	special []string
	// rooms are of *splitRoom, used again so that nothing is allocated.
	rooms sync.Pool
}

// New compiles patterns such as "/projects/{id}/export", "/~{user}/**". In a
// segment {name} and * stand for any text; ** at the end stands for any rest,
// also none. Of several that match, the one with the earliest literal wins.
func New(patterns []string) (*Router, []Problem) {
	r := &Router{seed: maphash.MakeSeed()}
	var bad []Problem
	seen := map[string]bool{}
	for i, p := range patterns {
		c, err := compile(p)
		if err == "" && seen[p] {
			err = fmt.Sprintf("%q is given twice", p)
		}
		if err != "" {
			bad = append(bad, Problem{i, err})
			continue
		}
		seen[p] = true
		for _, s := range c.segs {
			if s != "*" && !(s[0] == '{' && s[len(s)-1] == '}') && !plain(scan([]byte(s))) && !slices.Contains(r.special, s) {
				r.special = append(r.special, s)
			}
		}
		r.patterns = append(r.patterns, c)
	}
	return r, bad
}

func compile(p string) (pattern, string) {
	switch {
	case !strings.HasPrefix(p, "/"):
		if m, rest, ok := strings.Cut(p, " "); ok && strings.HasPrefix(rest, "/") {
			return pattern{}, fmt.Sprintf("%q: a route has no method; write %q without %s", p, rest, m)
		}
		return pattern{}, fmt.Sprintf("%q: a route starts with /", p)
	case len(p) > MaxBytes:
		return pattern{}, fmt.Sprintf("a route is at most %d bytes long", MaxBytes)
	case strings.ContainsAny(p, "?#"):
		return pattern{}, fmt.Sprintf("%q: a route has no query string or fragment", p)
	}
	c := pattern{text: p}
	segs := strings.Split(strings.Trim(p, "/"), "/")
	if p == "/" {
		segs = nil
	}
	if len(segs) > MaxSegments {
		return pattern{}, fmt.Sprintf("%q: at most %d segments", p, MaxSegments)
	}
	for i, s := range segs {
		switch {
		case s == "**":
			if i != len(segs)-1 {
				return pattern{}, fmt.Sprintf("%q: ** may only stand at the end", p)
			}
			c.deep = true
			continue
		case strings.Count(s, "{") != strings.Count(s, "}") || strings.Count(s, "{") > 1 || strings.Index(s, "}") < strings.Index(s, "{"):
			return pattern{}, fmt.Sprintf("%q: segment %q needs one {name} with both braces", p, s)
		case s == "":
			return pattern{}, fmt.Sprintf("%q: an empty segment (//) matches nothing", p)
		}
		if !wild(s) {
			t, _, _ := normalise([]byte(s), new([maxRaw]byte))
			s = string(t)
		}
		c.segs = append(c.segs, s)
	}
	return c, ""
}

func wild(seg string) bool { return seg == "*" || strings.Contains(seg, "{") }

// matchSeg matches one segment; {name} stands for one or more bytes.
func matchSeg(p string, s []byte) bool {
	if p == "*" {
		return true
	}
	i := strings.IndexByte(p, '{')
	if i < 0 {
		return p == string(s)
	}
	pre, post := p[:i], p[strings.IndexByte(p, '}')+1:]
	return len(s) > len(pre)+len(post) && string(s[:len(pre)]) == pre && string(s[len(s)-len(post):]) == post
}

func (p *pattern) match(segs []segment, more bool) bool {
	if len(segs) < len(p.segs) || (more || len(segs) > len(p.segs)) && !p.deep {
		return false
	}
	for i, s := range p.segs {
		if !matchSeg(s, segs[i].text) {
			return false
		}
	}
	return true
}

// better reports whether p is more specific than q, both matching.
func (p *pattern) better(q *pattern) bool {
	for i := range min(len(p.segs), len(q.segs)) {
		a, b := wild(p.segs[i]), wild(q.segs[i])
		if a != b {
			return b
		}
	}
	if len(p.segs) != len(q.segs) {
		return len(p.segs) > len(q.segs)
	}
	if p.deep != q.deep {
		return q.deep
	}
	return p.text < q.text
}

// Path cuts the path out of a request target: without scheme and host of the
// absolute form and without doubled leading slashes; Key finds its end. A target
// that has no path, such as "*" or garbage, is returned as an empty path.
func Path(target []byte) []byte {
	if len(target) > 0 && target[0] != '/' {
		i := bytes.Index(target, []byte("://"))
		if i <= 0 || i > 16 || !isAlpha(target[0]) {
			return nil
		}
		target = target[i+3:]
		if i = bytes.IndexAny(target, "/?#"); i < 0 || target[i] != '/' {
			return slash
		}
		target = target[i:]
	}
	for len(target) > 1 && target[1] == '/' {
		target = target[1:]
	}
	return target
}

var slash = []byte("/")

const (
	markID   = 0xd6e8feb86659fd93 // an id
	markText = 0xa0761d6478bd642f // ends text as it stands in the path
	markTail = 0xe7037ed1a0b428db // ends text behind a placeholder
	markMore = 0x1d8e4e27c47d124f // the template ends in "/**"
	markApp  = 0x589965cc75374cc3 // follows the application's own route
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0x8ebc6af09c88c6e3)
	return hi ^ lo
}

// Key returns a hash that is equal only for targets with equal templates, and
// the end of the path in the path it was given (query string and trailing slash
// cut off). Targets that differ in nothing but ids have equal keys. path is what
// Path returned; app is the application's own route or empty. Keys of different
// Routers differ.
func (r *Router) Key(path, app []byte) (key uint64, end int) {
	h := uint64(markMore)
	if len(app) > 0 && usable(app) {
		h = mix(maphash.Bytes(r.seed, app), markApp)
		if len(r.patterns) == 0 {
			return h, pathEnd(path)
		}
	}
	// A key is made of what the template is made of: text as it stands in the
	// path, from run on, and the shapes of the segments that are no such text.
	c := context{}
	run, i := 0, 0
	if len(path) > 0 && path[0] == '/' {
		end = 1
	}
	for {
		for i < len(path) && path[i] == '/' {
			i++
		}
		start, digits, seen := i, 0, uint8(0)
		for i < len(path) {
			k := class[path[i]]
			if k&cStop != 0 {
				break
			}
			seen |= k
			digits += int(k & cDigit)
			i++
		}
		if i == start {
			break
		}
		if c.depth++; c.depth > MaxSegments {
			if run < end {
				h = mix(h^maphash.Bytes(r.seed, path[run:end]), markText)
			}
			return mix(h, markMore), pathEnd(path)
		}
		seg := path[start:i]
		end = i
		switch {
		case plain(seg, digits, seen):
			c.before = literal
		case number(seg, digits, seen):
			h = mix(h^maphash.Bytes(r.seed, path[run:start]), markID)
			if len(r.special) > 0 {
				h = r.fits(h, seg)
			}
			c.before, run = kID, i
		default:
			c.rest = path[i:]
			k, cut, changed := r.other(h, path[run:start], seg, digits, seen, &c)
			if changed {
				h, run = k, i
			}
			if c.before == kRest {
				return h, pathEnd(path)
			}
			if cut >= 0 {
				return mix(h, markText), start + cut
			}
		}
		c.parent = seg
	}
	if run < end {
		h = mix(h^maphash.Bytes(r.seed, path[run:end]), markText)
	}
	return h, end
}

// other adds to the key h a segment that is neither plain nor number. text is
// what was not added yet of the path before it. changed is false for a literal
// that is left as it stands in the path; cut is what segment says.
func (r *Router) other(h uint64, text, seg []byte, digits int, seen uint8, c *context) (key uint64, cut int, changed bool) {
	var g segment
	if seen&cClean == 0 {
		g, cut = segment{text: seg, shape: classify(seg, len(seg), digits, seen, c)}, -1
	} else {
		var buf [maxRaw]byte
		g, cut = c.segment(seg, &buf)
	}
	c.before = g.kind
	if g.kind == literal && !g.cleaned {
		return h, cut, false
	}
	h ^= maphash.Bytes(r.seed, text)
	switch {
	case g.pre == 0 && g.post == len(g.text):
		h = mix(h, marks[g.kind])
	default:
		h = mix(mix(h, markText)^maphash.Bytes(r.seed, g.text[:g.pre]), marks[g.kind])
		h = mix(h^maphash.Bytes(r.seed, g.text[g.post:]), markTail)
	}
	if len(r.special) > 0 {
		h = r.fits(h, g.text)
	}
	return h, cut, true
}

// fits adds to a key which of the special segments t fits.
func (r *Router) fits(h uint64, t []byte) uint64 {
	for i, s := range r.special {
		if matchSeg(s, t) {
			h = mix(h, uint64(i)+1)
		}
	}
	return h
}

// scan tells what plain wants to know of a segment.
func scan(seg []byte) (s []byte, digits int, seen uint8) {
	for _, c := range seg {
		seen |= class[c]
		digits += int(class[c] & cDigit)
	}
	return seg, digits, seen
}

func pathEnd(path []byte) int {
	end := bytes.IndexAny(path, "?#")
	if end < 0 {
		end = len(path)
	}
	for end > 1 && path[end-1] == '/' {
		end--
	}
	return end
}

// segment is one segment of a path with what it is.
type segment struct {
	text []byte
	shape
	cleaned bool // text is not what stands in the path
}

// maxRaw is how much of a segment is decoded; what is longer is no literal.
const maxRaw = 3*maxSegment + 8

// segment cleans and classifies the segment raw; depth, before, parent and rest
// of c are set. cut is where in raw the path ends, or -1.
func (c *context) segment(raw []byte, buf *[maxRaw]byte) (g segment, cut int) {
	t, decoded, cut := normalise(raw, buf)
	if cut >= 0 {
		c.rest = nil
	}
	_, digits, seen := scan(t)
	g.text, g.shape = t, classify(t, decoded, digits, seen, c)
	g.cleaned = len(t) != len(raw) || cut >= 0 || len(t) > 0 && &t[0] != &raw[0]
	return g, cut
}

// normalise returns a segment without its matrix parameters (";jsessionid=...")
// and with those bytes decoded that may stand in a path unencoded; the other
// escapes get capitals. decoded is its length with an escape counted once. cut is
// the offset of a query string that came with an encoded or without a question
// mark, or -1. The text is raw itself, or lies in buf, which holds enough for
// any segment that is not too long to be a literal.
func normalise(raw []byte, buf *[maxRaw]byte) (t []byte, decoded, cut int) {
	i := bytes.IndexAny(raw, "%;&")
	if i < 0 {
		return raw, len(raw), -1
	}
	cut = -1
	if i > len(buf) {
		return raw[:len(buf)], i, -1
	}
	n := copy(buf[:], raw[:i])
	decoded = n
	for i < len(raw) && n+3 <= len(buf) {
		ch := raw[i]
		switch {
		case ch == ';':
			return buf[:n], decoded, -1
		case ch == '&' && isParameter(raw[i+1:]):
			return buf[:n], decoded, i
		case ch == '%' && i+2 < len(raw):
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi > 15 || lo > 15 {
				break
			}
			x := hi<<4 | lo
			switch {
			case x == ';':
				return buf[:n], decoded, -1
			case x == '?':
				return buf[:n], decoded, i
			case isAlnum(x) || bytes.IndexByte([]byte("-._~!$'()*+,:@"), x) >= 0:
				buf[n] = x
				n++
			default:
				buf[n], buf[n+1], buf[n+2] = '%', hexDigits[hi], hexDigits[lo]
				n += 3
			}
			decoded++
			i += 3
			continue
		}
		buf[n] = ch
		n++
		decoded++
		i++
	}
	if i < len(raw) {
		decoded += len(raw) - i + maxSegment
	}
	return buf[:n], decoded, cut
}

// isParameter reports whether t begins like "name=".
func isParameter(t []byte) bool {
	i := bytes.IndexByte(t, '=')
	if i <= 0 || i > 32 {
		return false
	}
	for _, c := range t[:i] {
		if !isAlnum(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func unhex(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c|0x20-'a' < 6:
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// Template builds the template of path[:end] of Key, appending to dst. app is
// the application's own route or empty. An empty path has the template "" .
func (r *Router) Template(dst, path, app []byte) []byte {
	if len(path) == 0 {
		if t, ok := appTemplate(dst, app); ok {
			return t
		}
		return dst
	}
	room, _ := r.rooms.Get().(*splitRoom)
	if room == nil {
		room = new(splitRoom)
	}
	defer r.rooms.Put(room)
	segs, more := room.split(path)
	var best *pattern
	for i := range r.patterns {
		p := &r.patterns[i]
		if p.match(segs, more) && (best == nil || p.better(best)) {
			best = p
		}
	}
	if best != nil {
		return append(dst, best.text...)
	}
	if t, ok := appTemplate(dst, app); ok {
		return t
	}
	from := len(dst)
	for i := range segs {
		g := &segs[i]
		mark := len(dst)
		dst = append(dst, '/')
		dst = appendClean(dst, g.text[:g.pre])
		if g.kind != literal {
			dst = append(dst, placeholders[g.kind]...)
			dst = appendClean(dst, g.text[g.post:])
		}
		if len(dst)-from > MaxBytes-3 {
			return append(dst[:mark], "/**"...)
		}
	}
	if more {
		return append(dst, "/**"...)
	}
	if len(dst) == from {
		dst = append(dst, '/')
	}
	return dst
}

// splitRoom is where split puts what it finds, so that nothing is allocated.
type splitRoom struct {
	list [MaxSegments]segment
	raw  [MaxSegments][maxRaw]byte
}

// split cuts a path into what its template is made of, with dot segments
// resolved. more says that the path goes on. It follows Key step by step.
func (room *splitRoom) split(path []byte) (segs []segment, more bool) {
	list := &room.list
	c := context{}
	n := 0
	for i := 0; ; {
		for i < len(path) && path[i] == '/' {
			i++
		}
		start := i
		for i < len(path) && class[path[i]]&cStop == 0 {
			i++
		}
		if i == start {
			return list[:n], false
		}
		if c.depth++; c.depth > MaxSegments {
			return list[:n], true
		}
		c.rest = path[i:]
		g, cut := c.segment(path[start:i], &room.raw[c.depth-1])
		switch {
		case g.kind == kRest:
			return list[:n], true
		case len(g.text) == 0, string(g.text) == ".":
		case string(g.text) == "..":
			n = max(n-1, 0)
		default:
			list[n] = g
			n++
		}
		if cut >= 0 {
			return list[:n], false
		}
		c.before, c.parent = g.kind, path[start:i]
	}
}

// usable reports whether an application's own route looks like a template.
func usable(app []byte) bool {
	if len(app) > MaxBytes {
		return false
	}
	if app[0] != '/' && (bytes.IndexByte(app, '/') < 0 || bytes.ContainsAny(app, " \"'^$()?\\")) {
		return false
	}
	for _, c := range app {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '?' || c == '\\' {
			return false
		}
	}
	return true
}

// appTemplate cleans an application's own route: ":id" and "<int:id>" become
// "{id}". Anything that does not look like a template is refused.
func appTemplate(dst, app []byte) ([]byte, bool) {
	if len(app) == 0 || !usable(app) {
		return dst, false
	}
	from := len(dst)
	for rest := app; len(rest) > 0; {
		s := rest
		if i := bytes.IndexByte(rest, '/'); i >= 0 {
			s, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if len(s) == 0 {
			continue
		}
		dst = append(dst, '/')
		switch {
		case len(s) > 1 && s[0] == ':':
			dst = append(dst, '{')
			dst = append(dst, s[1:]...)
			dst = append(dst, '}')
		case len(s) > 2 && s[0] == '<' && s[len(s)-1] == '>':
			s = s[1 : len(s)-1]
			s = s[bytes.IndexByte(s, ':')+1:]
			dst = append(dst, '{')
			dst = append(dst, s...)
			dst = append(dst, '}')
		default:
			dst = append(dst, s...)
		}
	}
	if len(dst) == from {
		dst = append(dst, '/')
	}
	return dst, true
}

const hexDigits = "0123456789ABCDEF"

// appendClean keeps what may stand in a path by RFC 3986 and escapes the rest,
// braces too, so that no client can write a placeholder.
func appendClean(dst, s []byte) []byte {
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte([]byte("-._~!$&'()*+,;=:@%"), c) >= 0:
		default:
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// Prefix is the first segment of a template, "/billing" of "/billing/upgrade"
// and "/" of "/".
func Prefix(template string) string {
	if template == "" {
		return ""
	}
	if i := strings.IndexByte(template[1:], '/'); i >= 0 {
		return template[:i+1]
	}
	return template
}
