// Package route turns request targets into route templates: "/users/8141/export"
// becomes "/users/{id}/export".
//
// A Router tries the configured patterns first, then the application's own
// route, then the shapes of the path's segments. Everything is a pure function
// of its arguments and the configuration, so every collector, today or after a
// restart, finds the same template. For each line only Key is computed, a 64-bit
// hash that is equal for targets with equal templates; the template itself is
// built once per key.
package route

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/bits"
	"strings"
)

// Bounds of a template. What is deeper or longer ends in "/**".
const (
	MaxSegments = 12
	MaxBytes    = 200
	maxSegment  = 64
)

// Placeholders of the segment shapes.
const (
	ID   = "{id}"
	Date = "{date}"
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
	// exact is set when a pattern has a literal that looks like an id: then
	// paths cannot be told apart by their normalised form alone.
	exact bool
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
			if !wild(s) && shape([]byte(s)) != "" {
				r.exact = true
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

func (p *pattern) match(segs [][]byte) bool {
	if len(segs) < len(p.segs) || len(segs) > len(p.segs) && !p.deep {
		return false
	}
	for i, s := range p.segs {
		if !matchSeg(s, segs[i]) {
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
		if i < 0 || i > 16 {
			return nil
		}
		target = target[i+3:]
		if i = bytes.IndexByte(target, '/'); i < 0 {
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
	markID   = 0xd6e8feb86659fd93
	markDate = 0xa0761d6478bd642f
	markEnd  = 0xe7037ed1a0b428db
)

// Byte classes for Key.
const (
	cDigit = 1 << iota
	cHex   // a-f, A-F, '-': may stand in a hexadecimal id
	cUpper
	cStop // '/', '?', '#'
	cAt   // '@' or '%'
	cOther
)

var class = func() (t [256]uint8) {
	for i := range t {
		t[i] = cOther
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = cDigit
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] = cHex
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = cUpper | cOther
		if c <= 'F' {
			t[c] = cUpper | cHex
		}
	}
	t['-'] = cHex
	t['/'], t['?'], t['#'] = cStop, cStop, cStop
	t['@'], t['%'] = cAt|cOther, cAt|cOther
	return t
}()

// shapeOf tells the shape of a segment from what was seen in it: 0 for a literal,
// else the mark of its placeholder.
func shapeOf(seg []byte, digits int, seen uint8) uint64 {
	n := len(seg)
	switch {
	case n > maxSegment:
		return markID
	case seen&cAt != 0 && hasAt(seg):
		return markID // an e-mail address
	case digits == 0:
		return 0
	case digits == n:
		return markID
	case digits == 8 && n == 10 && seg[4] == '-' && seg[7] == '-' && seen == cDigit|cHex:
		return markDate
	case digits >= 4:
		return markID
	case n >= 8 && seen&cOther == 0:
		return markID // hexadecimal
	case n >= 16 && digits >= 2 && seen&cUpper != 0:
		return markID // base64 and the like
	}
	return 0
}

func hasAt(seg []byte) bool {
	return bytes.IndexByte(seg, '@') >= 0 || bytes.Contains(seg, []byte("%40"))
}

// shape is the placeholder of a segment, empty for a literal.
func shape(seg []byte) string {
	digits, seen := 0, uint8(0)
	for _, c := range seg {
		k := class[c]
		seen |= k
		digits += int(k & cDigit)
	}
	switch shapeOf(seg, digits, seen) {
	case markID:
		return ID
	case markDate:
		return Date
	}
	return ""
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0x8ebc6af09c88c6e3)
	return hi ^ lo
}

// Key returns a hash that is equal for targets with equal templates, and the
// end of the path in the path it was given (query string and trailing slash cut
// off). path is what Path returned; app is the application's own route or empty.
// Keys of different Routers differ.
func (r *Router) Key(path, app []byte) (key uint64, end int) {
	h := uint64(markDate)
	if len(app) > 0 {
		h = mix(maphash.Bytes(r.seed, app), markEnd)
		if len(r.patterns) == 0 {
			return h, pathEnd(path)
		}
	}
	if r.exact {
		end = pathEnd(path)
		return mix(h, maphash.Bytes(r.seed, path[:end])), end
	}
	run, start, i := 0, 0, 0 // start of the literal run and of the segment
	depth := 0
	for {
		digits, seen := 0, uint8(0)
		for i < len(path) {
			k := class[path[i]]
			if k&cStop != 0 {
				break
			}
			seen |= k
			digits += int(k & cDigit)
			i++
		}
		if m := shapeOf(path[start:i], digits, seen); m != 0 {
			h = mix(h^maphash.Bytes(r.seed, path[run:start]), m)
			run = i
		}
		if i >= len(path) || path[i] != '/' {
			break
		}
		next := i + 1
		for next < len(path) && path[next] == '/' {
			next++
		}
		if i > 0 && (next == len(path) || class[path[next]]&cStop != 0) {
			break // a trailing slash
		}
		if depth++; depth > MaxSegments {
			if run < i {
				h = mix(h^maphash.Bytes(r.seed, path[run:i]), markEnd)
			}
			return mix(h, markDate), pathEnd(path)
		}
		i++
		start = i
	}
	if i == 0 && len(path) > 0 && path[0] == '/' {
		i = 1
	}
	if run < i {
		h = mix(h^maphash.Bytes(r.seed, path[run:i]), markEnd)
	}
	return h, i
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

// Template builds the template of path[:end] of Key, appending to dst. app is
// the application's own route or empty. An empty path has the template "" .
func (r *Router) Template(dst, path, app []byte) []byte {
	var buf segments
	if len(path) > 0 && len(r.patterns) > 0 {
		segs := buf.split(path)
		var best *pattern
		for i := range r.patterns {
			p := &r.patterns[i]
			if p.match(segs) && (best == nil || p.better(best)) {
				best = p
			}
		}
		if best != nil {
			return append(dst, best.text...)
		}
	}
	if t, ok := appTemplate(dst, app); ok {
		return t
	}
	if len(path) == 0 {
		return dst
	}
	from := len(dst)
	for i, s := range buf.split(path) {
		mark := len(dst)
		dst = append(dst, '/')
		if p := shape(s); p != "" {
			dst = append(dst, p...)
		} else {
			dst = appendClean(dst, s)
		}
		if i >= MaxSegments || len(dst)-from > MaxBytes-3 {
			return append(dst[:mark], "/**"...)
		}
	}
	if len(dst) == from {
		dst = append(dst, '/')
	}
	return dst
}

// segments holds the segments of a path; the last element is all of the rest of
// one that is too deep.
type segments [MaxSegments + 1][]byte

func (s *segments) split(path []byte) [][]byte {
	path = bytes.Trim(path, "/")
	if len(path) == 0 {
		return nil
	}
	for n := range s {
		i := bytes.IndexByte(path, '/')
		if i < 0 || n == len(s)-1 {
			s[n] = path
			return s[:n+1]
		}
		s[n], path = path[:i], path[i+1:]
	}
	return s[:]
}

// appTemplate cleans an application's own route: ":id" and "<int:id>" become
// "{id}". Anything that does not look like a template is refused.
func appTemplate(dst, app []byte) ([]byte, bool) {
	if len(app) == 0 || len(app) > MaxBytes {
		return dst, false
	}
	if app[0] != '/' {
		if bytes.IndexByte(app, '/') < 0 || bytes.IndexAny(app, " \"'^$()?\\") >= 0 {
			return dst, false
		}
	}
	for _, c := range app {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '?' || c == '\\' {
			return dst, false
		}
	}
	var buf segments
	segs := buf.split(app)
	for _, s := range segs {
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
	if len(segs) == 0 {
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
