package errorlog

import (
	"bytes"
	"slices"
)

// How far parts of a header are looked for: bounds that no real one reaches.
const (
	maxGroup = 256
	maxOS    = 160
)

// header is what the beginning of an Apache line tells beside what Line keeps.
type header struct {
	module       []byte
	level        bool
	modern       bool // 2.4: it has a module or a process
	timed, about bool // about: a line about a request or connection, without a level
	errno        uint64
}

// parseApache reads the groups in brackets that begin every line of Apache, in
// any order: ErrorLogFormat decides. It returns false, and may have filled l in
// part, if they are not the groups of an error line.
//
//	[time] [module:level] [pid P:tid T] [log id] file.c(1): (13)OS text: [client A:port] message
//	[time] [level] [client A] (13)OS text: message
func (p *Parser) parseApache(b []byte, l *Line) bool {
	if len(b) == 0 || b[0] != '[' {
		return false
	}
	var h header
	for len(b) > 0 {
		var n int
		switch b[0] {
		case ' ':
			n = 1
		case '[':
			n = p.group(b, l, &h)
		case '(':
			n = osError(b, &h)
		default:
			n = sourceFile(b)
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	if !h.level && !(h.timed && (h.about || l.Client != nil)) {
		return false
	}
	if l.Client != nil {
		l.Client = address(l.Client, h.modern)
	}
	l.Escaped = true
	l.apacheCause(b, &h)
	return true
}

// group reads one group in brackets and returns its length, 0 if it is none of a
// header and the message begins with it.
func (p *Parser) group(b []byte, l *Line, h *header) int {
	near := b[:min(len(b), maxGroup)]
	end := bytes.IndexByte(near, ']')
	if end < 0 {
		return 0
	}
	g := b[1:end]
	client, isClient := bytes.CutPrefix(g, []byte("client "))
	if !isClient {
		client, isClient = bytes.CutPrefix(g, []byte("remote ")) // HTTP/2
	}
	switch {
	case isClient:
		if len(client) > 0 && client[0] == '[' { // [client [2001:db8::1]:80]
			n := bytes.IndexByte(near[end+1:], ']')
			if n < 0 {
				return 0
			}
			client = b[end-len(client) : end+1+n]
			end += 1 + n
		}
		if l.Client == nil { // ModSecurity repeats it
			l.Client = client
		}
	case l.Client != nil:
		return 0
	case !h.timed && !h.level && len(g) >= 19:
		t, zoned, ok := p.clock.any(g)
		if !ok {
			return 0
		}
		l.Time, l.Zoned, h.timed = t, zoned, true
	case !h.level && apacheLevel(g, h):
		h.level = true
	case begins(g, "pid "):
		h.modern = true
	case begins(g, "tid "), string(g) == "-":
	case begins(g, "R:"):
		l.LogID, h.about, h.modern = g[2:], true, true
	case begins(g, "C:"):
		h.about, h.modern = true, true
	case h.level && len(l.LogID) == 0 && logID(g):
		l.LogID = g
	default:
		return 0
	}
	return end + 1
}

// apacheLevel reads "level" (2.2), "module:level" or ":level".
func apacheLevel(g []byte, h *header) bool {
	module, level, ok := bytes.Cut(g, []byte(":"))
	if !ok {
		module, level = nil, g
	}
	switch string(level) {
	case "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
		"trace1", "trace2", "trace3", "trace4", "trace5", "trace6", "trace7", "trace8":
	default:
		return false
	}
	h.module = module
	h.modern = h.modern || ok
	return true
}

// logID says whether g can be a log id: 11 bytes in base64 from the server
// itself, 24 or 27 from mod_unique_id.
func logID(g []byte) bool {
	if len(g) < 8 || len(g) > 64 {
		return false
	}
	for _, c := range g {
		switch {
		case digit(c), c|0x20 >= 'a' && c|0x20 <= 'z', c == '@', c == '-', c == '_', c == '+', c == '/', c == '=':
		default:
			return false
		}
	}
	return true
}

// osError reads "(13)Permission denied: " or "(EAI 2)...: " and returns its
// length, 0 if b begins otherwise.
func osError(b []byte, h *header) int {
	near := b[:min(len(b), maxOS)]
	end := bytes.IndexByte(near[:min(len(near), 16)], ')')
	if end < 2 {
		return 0
	}
	no, digits := decimal(b[1:end])
	if digits != end-1 && !begins(b, "(EAI ") {
		return 0
	}
	colon := bytes.Index(near[end:], []byte(": "))
	if colon < 0 {
		return 0
	}
	h.errno = no
	return end + colon + 2
}

// sourceFile reads "mod_x.c(815): " (or right-aligned, as at level debug) and
// returns its length, 0 if b begins otherwise.
func sourceFile(b []byte) int {
	near := b[:min(len(b), 80)]
	paren := bytes.Index(near, []byte(".c("))
	if paren < 0 || bytes.IndexByte(near[:paren], ' ') >= 0 {
		return 0
	}
	_, n := decimal(near[paren+3:])
	after := past(near, paren+3+n, "): ")
	if n == 0 || after < 0 {
		return 0
	}
	return after
}

// address takes the port off an address: "192.0.2.1:80", "[2001:db8::1]:80", and
// "2001:db8::1:80" as 2.4 writes it without brackets. There, the last group is
// always the port; 2.2 never wrote one, so with fewer than eight groups only its
// age tells the two apart.
func address(a []byte, modern bool) []byte {
	if len(a) > 0 && a[0] == '[' {
		if end := bytes.IndexByte(a, ']'); end > 0 {
			return a[1:end]
		}
		return a
	}
	last := bytes.LastIndexByte(a, ':')
	if last < 0 || !port(a[last+1:]) {
		return a
	}
	ip := a[:last]
	colons := bytes.Count(ip, []byte(":"))
	switch {
	case colons == 0, // IPv4 or a host name
		colons >= 7, // all eight groups, or seven and "::"
		bytes.IndexByte(ip, '.') >= 0, bytes.IndexByte(ip, '%') >= 0:
		return ip
	case bytes.Contains(ip, []byte("::")) && modern:
		return ip
	}
	return a
}

func port(b []byte) bool {
	for _, c := range b {
		if !digit(c) {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 5
}

// apacheCause finds out why the message's request was refused.
func (l *Line) apacheCause(msg []byte, h *header) {
	// The client's words begin, at the latest, with the referer: by default
	// ", referer: F" ends the line, in the documentation's example " , referer F".
	if i := bytes.Index(msg, []byte(", referer")); i >= 0 && i+9 < len(msg) && (msg[i+9] == ':' || msg[i+9] == ' ') {
		msg = bytes.TrimRight(msg[:i], " ")
	}
	if begins(msg, modSecurity) {
		l.modSecurity(msg)
		l.Host = tag(msg, `[hostname "`)
		l.Path = tag(msg, `[uri "`)
		if id := tag(msg, `[unique_id "`); len(l.LogID) == 0 && logID(id) {
			l.LogID = id
		}
		return
	}
	if num, ok := ahNumber(msg); ok {
		msg = bytes.TrimLeft(msg[bytes.IndexByte(msg, ':')+1:], " ")
		if num == 1071 { // mod_proxy_fcgi
			if text, ok := bytes.CutPrefix(msg, []byte("Got error '")); ok {
				l.fpm(text)
			}
			return
		}
		i, ok := slices.BinarySearchFunc(numbered[:], num, func(r rule, n uint32) int { return int(r.num) - int(n) })
		switch {
		case !ok || !numbered[i].apply(msg, l):
		case num == 1631:
			l.authzPath(msg)
		case num == 132 && h.errno == 6: // ENXIO: a socket, a device without a driver
			l.Cause = CauseNotRegularFile
		}
		return
	}
	if l.denied(msg, h) {
		return
	}
	for i := range unnumbered {
		if unnumbered[i].apply(msg, l) {
			return
		}
	}
}

// denied reads the messages of 2.2 whose meaning their text alone does not give.
func (l *Line) denied(msg []byte, h *header) bool {
	const config = "client denied by server configuration: "
	if at := past(msg, 0, config); at > 0 {
		if begins(h.module, "evasive") {
			l.set(CauseRateLimit, 0) // 403, some builds 429
		} else {
			l.set(CauseACL, 403)
		}
		l.File = msg[at:]
		return true
	}
	at := past(msg, 0, "access to ")
	switch {
	case h.errno == 13 && bytes.Contains(msg, []byte(" pcfg_openfile: unable to check htaccess file")):
		l.set(CauseFSPermission, 403)
		l.File, _, _ = bytes.Cut(msg, []byte(" pcfg_openfile: "))
	case at > 0 && h.errno == 13 && bytes.HasSuffix(msg, []byte(" denied")):
		l.set(CauseFSPermission, 403)
		l.Path = msg[at : len(msg)-len(" denied")]
	case at > 0 && h.errno == 36 && bytes.HasSuffix(msg, []byte(" failed")):
		l.set(CauseNameTooLong, 403)
		l.Path = msg[at : len(msg)-len(" failed")]
	default:
		return false
	}
	return true
}

// ahNumber reads "AH01630:" at the start of msg.
func ahNumber(msg []byte) (uint32, bool) {
	if len(msg) < 8 || msg[0] != 'A' || msg[1] != 'H' {
		return 0, false
	}
	num, n := decimal(msg[2:min(len(msg), 9)])
	if n < 5 || 2+n >= len(msg) || msg[2+n] != ':' {
		return 0, false
	}
	return uint32(num), true
}

// apply fills l if msg is r's message.
func (r *rule) apply(msg []byte, l *Line) bool {
	at := past(msg, 0, r.text)
	if at < 0 {
		return false
	}
	end, behind := len(msg), len(msg)
	if r.tail != "" {
		if end, behind = find(msg, at, r.tail); end < 0 {
			return false
		}
	}
	part := msg[at:end]
	l.set(r.cause, r.status)
	switch r.names {
	case aFile:
		l.File = part
	case aFileBehind:
		l.File = msg[behind:]
	case aPath:
		l.Path = part
	case aRequest:
		l.request(part)
	}
	return true
}

// authzPath takes the path from `user NAME: authorization failure for "PATH": `,
// where both can hold quotes.
func (l *Line) authzPath(msg []byte) {
	_, at := find(msg, 0, `: authorization failure for "`)
	if at < 0 {
		l.Cause, l.Layer, l.Denies = "", 0, false
		return
	}
	if end := bytes.LastIndex(msg, []byte(`":`)); end >= at {
		l.Path = msg[at:end]
	}
}
