package parsers

import (
	"bytes"
	"unicode/utf8"

	"github.com/denywatch/denywatch/internal/event"
)

// splitRequest cuts a request line ("GET /x HTTP/1.1") into method and target.
// Servers log what they read, unvalidated: the protocol may be absent
// (HTTP/0.9), the target may hold spaces, and all of it may be garbage such as a
// TLS hello, which has neither.
func splitRequest(r []byte) (method, path []byte) {
	sp := indexShort(r, ' ')
	if sp <= 0 || sp > 32 {
		return nil, nil
	}
	method = r[:sp]
	for _, c := range method {
		if !methodByte[c] {
			return nil, nil
		}
	}
	path = r[sp+1:]
	if n := len(path) - len(" HTTP/1.1"); n >= 0 && string(path[n:n+6]) == " HTTP/" {
		path = path[:n]
	} else if i := bytes.LastIndexByte(path, ' '); i >= 0 && bytes.HasPrefix(path[i+1:], httpSlash) {
		path = path[:i]
	}
	switch {
	case len(path) == 0:
		return nil, nil
	case path[0] == '/', path[0] == '*', bytes.Contains(path, schemeSlashes), string(method) == "CONNECT":
		return method, path
	}
	return nil, nil
}

// methodByte are the bytes that a method may have: those of a token of RFC 9110, more
// or less; '\\' is what binary bytes are logged as.
var methodByte = func() (t [256]bool) {
	for c := byte(' ' + 1); c < 0x7f; c++ {
		t[c] = bytes.IndexByte([]byte(`\"{(</:`), c) < 0
	}
	return t
}()

var (
	httpSlash     = []byte("HTTP/")
	schemeSlashes = []byte("://")
)

// upstreamStatus reads nginx's $upstream_status: servers tried in turn are
// separated by ", ", internal redirects by " : ". The last of the last group is
// what nginx got in the end.
func upstreamStatus(v []byte, e *event.Event) {
	for {
		i := bytes.LastIndexByte(v, ' ')
		if i < 0 {
			break
		}
		v = v[i+1:]
	}
	if i := bytes.LastIndexByte(v, ','); i >= 0 {
		v = v[i+1:]
	}
	n, ok := statusNumber(v)
	if !ok || n == 0 {
		e.Upstream = event.UpstreamNone
		return
	}
	e.Upstream, e.UpstreamStatus = event.UpstreamAnswered, n
}

// statusNumber reads a status of three digits. 000 is a request that was never
// answered.
func statusNumber(v []byte) (uint16, bool) {
	if len(v) != 3 {
		return 0, false
	}
	a, b, c := v[0]-'0', v[1]-'0', v[2]-'0'
	if a > 9 || b > 9 || c > 9 {
		return 0, false
	}
	return uint16(a)*100 + uint16(b)*10 + uint16(c), true
}

// connection reads the number of a connection, 0 if v is none.
func connection(v []byte) (n uint64) {
	if len(v) > 19 {
		return 0
	}
	for _, c := range v {
		if c-'0' > 9 {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// splitList appends the words of v to list: separated by commas or semicolons
// where there are any, else by white space. Empty words and "-" are left out.
func splitList(list [][]byte, v []byte) [][]byte {
	if oneWord(v) {
		return append(list, v)
	}
	commas := bytes.IndexByte(v, ',') >= 0 || bytes.IndexByte(v, ';') >= 0
	start := 0
	for i := 0; i <= len(v); i++ {
		if i < len(v) && !isSeparator(v[i], commas) {
			continue
		}
		if w := bytes.TrimSpace(v[start:i]); len(w) > 0 && !(len(w) == 1 && w[0] == '-') {
			list = append(list, w)
		}
		start = i + 1
	}
	return list
}

// oneWord tells whether v is a single word of ASCII, as most lists are.
func oneWord(v []byte) bool {
	for _, c := range v {
		if c <= ' ' || c == ',' || c == ';' || c >= 0x7f {
			return false
		}
	}
	return len(v) > 1 || len(v) == 1 && v[0] != '-'
}

// splitBracketed appends the words of v as splitList does, and those of lists that
// were made text: "[a b]" of Go, "[a, b]" of Java, "['a', 'b']" of Python.
func splitBracketed(list [][]byte, v []byte) [][]byte {
	n := len(v)
	if n < 2 || v[0] != '[' || v[n-1] != ']' {
		return splitList(list, v)
	}
	from := len(list)
	list = splitList(list, v[1:n-1])
	for i, w := range list[from:] {
		if n := len(w); n > 1 && (w[0] == '"' || w[0] == '\'') && w[n-1] == w[0] {
			list[from+i] = w[1 : n-1]
		}
	}
	return list
}

func isSeparator(c byte, commas bool) bool {
	if commas {
		return c == ',' || c == ';'
	}
	return c == ' ' || c == '\t'
}

func hex(c byte) (byte, bool) {
	switch {
	case c-'0' <= 9:
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// Unescape appends v to dst with the escapes of nginx (\xHH), Apache (\" \\ \n
// \t \xhh ...) and JSON (\uXXXX) resolved. A backslash that starts no escape
// stands for itself.
func Unescape(dst, v []byte) []byte {
	for {
		i := bytes.IndexByte(v, '\\')
		if i < 0 || i+1 >= len(v) {
			return append(dst, v...)
		}
		dst = append(dst, v[:i]...)
		c := v[i+1]
		v = v[i+2:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'v':
			dst = append(dst, '\v')
		case 'x':
			if len(v) >= 2 {
				h, ok1 := hex(v[0])
				l, ok2 := hex(v[1])
				if ok1 && ok2 {
					dst = append(dst, h<<4|l)
					v = v[2:]
					continue
				}
			}
			dst = append(dst, '\\', 'x')
		case 'u':
			r, ok := hex4(v)
			if !ok {
				dst = append(dst, '\\', 'u')
				continue
			}
			v = v[4:]
			if r >= 0xd800 && r < 0xdc00 && len(v) >= 6 && v[0] == '\\' && v[1] == 'u' {
				if low, ok := hex4(v[2:]); ok && low >= 0xdc00 && low < 0xe000 {
					r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
					v = v[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, '\\', c)
		}
	}
}

func hex4(v []byte) (rune, bool) {
	if len(v) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range v[:4] {
		d, ok := hex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// quoteEnd is the index of the first '"' of b that no backslash escapes, or -1.
func quoteEnd(b []byte) int {
	from := 0
	for {
		i := bytes.IndexByte(b[from:], '"')
		if i < 0 {
			return -1
		}
		i += from
		slashes := 0
		for k := i - 1; k >= 0 && b[k] == '\\'; k-- {
			slashes++
		}
		if slashes&1 == 0 {
			return i
		}
		from = i + 1
	}
}

// firstClient is the client in a list of addresses, which begins with it and goes
// on with the proxies that its request came through: the first that is not
// private, as a proxy at the client's puts its address there, which means nothing
// elsewhere; the first if all are.
func firstClient(v []byte) []byte {
	if bytes.IndexByte(v, ',') < 0 {
		return bytes.TrimSpace(v)
	}
	var first []byte
	for len(v) > 0 {
		a := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			a, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		switch a = bytes.TrimSpace(a); {
		case len(a) == 0 || string(a) == "-" || string(a) == "unknown":
		case !private(a):
			return a
		case first == nil:
			first = a
		}
	}
	return first
}

// private tells whether an address can only be a neighbour's: loopback, private
// (RFC 1918, RFC 4193), shared (RFC 6598) or link-local. It may hold a port.
func private(a []byte) bool {
	if hasPrefix(a, "[") {
		a = a[1:]
	}
	if hasPrefix(a, "::ffff:") {
		a = a[len("::ffff:"):]
	}
	if len(a) < 3 || hasPrefix(a, "10.") || hasPrefix(a, "127.") || hasPrefix(a, "192.168.") || hasPrefix(a, "169.254.") {
		return true
	}
	if second, n := number(a, 4); hasPrefix(a, "172.") && n > 4 {
		return second >= 16 && second <= 31
	} else if hasPrefix(a, "100.") && n > 4 {
		return second >= 64 && second <= 127
	}
	if bytes.IndexByte(a[:min(len(a), 6)], ':') < 0 {
		return hasPrefix(a, "unix:")
	}
	return hasPrefix(a, "::1") && (len(a) == 3 || a[3] == ']') || hasPrefix(a, "fe80:") ||
		a[0]|0x20 == 'f' && (a[1]|0x20 == 'c' || a[1]|0x20 == 'd') || hasPrefix(a, "unix:")
}

// number reads the digits at v[i:], at most nine, and returns their number and
// the index behind them.
func number(v []byte, i int) (n, end int) {
	for end = i; end < len(v) && end < i+9 && v[end]-'0' <= 9; end++ {
		n = n*10 + int(v[end]-'0')
	}
	return n, end
}
