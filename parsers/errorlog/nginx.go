package errorlog

import (
	"bytes"

	"github.com/denywatch/denywatch/internal/event"
)

// The fields behind a message, in nginx's order.
const (
	clientField     = ", client: "
	serverField     = ", server: "
	requestField    = `, request: "`
	subrequestField = `, subrequest: "`
	upstreamField   = `, upstream: "`
	hostField       = `, host: "`
	referrerField   = `, referrer: "`
)

// parseNginx reads "2006/01/02 15:04:05 [level] PID#TID: *CONN message" and the
// fields behind the message; it returns false, and may have filled l in part, if
// b has no such header. "*CONN " is missing in messages of the server itself.
func (p *Parser) parseNginx(b []byte, l *Line) bool {
	const level = len("2006/01/02 15:04:05 [")
	if len(b) < level || b[4] != '/' || b[level-2] != ' ' || b[level-1] != '[' {
		return false
	}
	t, zoned, ok := p.clock.iso(b[:level-2])
	if !ok {
		return false
	}
	end := bytes.IndexByte(b[level:min(len(b), level+8)], ']')
	if end < 0 || !nginxLevel(b[level:level+end]) {
		return false
	}
	crit := string(b[level:level+end]) == "crit"
	b = b[level+end+1:]
	if len(b) == 0 || b[0] != ' ' {
		return false
	}
	_, n := decimal(b[1:])
	if b = b[1+n:]; n == 0 || len(b) == 0 || b[0] != '#' {
		return false
	}
	_, n = decimal(b[1:])
	if b = b[1+n:]; n == 0 || len(b) == 0 || b[0] != ':' {
		return false
	}
	b = b[1:]
	l.Time, l.Zoned = t, zoned
	if begins(b, " *") {
		conn, n := decimal(b[2:])
		if n > 0 && len(b) > 2+n && b[2+n] == ' ' {
			l.Conn = conn
			b = b[2+n:]
		}
	}
	if len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	fields := l.nginxCause(b, crit)
	if fields < 0 {
		// The message is of no interest and may hold what a client wrote; so may
		// the fields. The last beginning is right unless a referrer fakes one.
		fields = bytes.LastIndex(b, []byte(clientField))
	}
	request := fields >= 0 && l.nginxFields(b[fields:])
	if l.Denies && !request {
		// The stream module refuses connections with the same words.
		l.Cause, l.Layer, l.Status, l.Denies = "", event.LayerUnknown, 0, false
	}
	return true
}

func nginxLevel(b []byte) bool {
	switch string(b) {
	case "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug", "stderr":
		return true
	}
	return false
}

// decimal reads the digits at the start of b and says how many there are. A
// number that does not fit is 0.
func decimal(b []byte) (v uint64, n int) {
	for n < len(b) && digit(b[n]) {
		v = v*10 + uint64(b[n]-'0')
		n++
	}
	if n > 19 {
		v = 0
	}
	return v, n
}

// nginxCause finds out why the message's request was refused and returns where
// in msg the fields begin, -1 if it does not know. It looks for the end of a
// message from its beginning, so that what a client wrote into the fields (a
// referrer, say) cannot move it.
func (l *Line) nginxCause(msg []byte, crit bool) (fields int) {
	if len(msg) == 0 {
		return -1
	}
	switch msg[0] {
	case 'a':
		// ngx_http_access_module: allow, deny, limit_except.
		if after := past(msg, 0, "access forbidden by rule"); after > 0 {
			l.set(CauseACL, 403)
			return after
		}
	case 'd':
		if start := past(msg, 0, `directory index of "`); start > 0 {
			end, after := find(msg, start, `" is forbidden`)
			if end < 0 {
				return -1
			}
			l.set(CauseDirectoryIndex, 403)
			l.File = msg[start:end]
			return after
		}
	case 'l':
		// "limiting requests, dry run, excess: ..." refuses nobody. The status is
		// limit_req_status's and limit_conn_status's.
		cause, start := CauseRateLimit, past(msg, 0, "limiting requests, excess: ")
		if start < 0 {
			cause, start = CauseConnLimit, past(msg, 0, "limiting connections by zone")
			start -= len(" by zone")
		}
		if start < 0 {
			break
		}
		_, zone := find(msg, start, ` by zone "`)
		if zone < 0 {
			return -1
		}
		end, after := find(msg, zone, `"`)
		if end < 0 {
			return -1
		}
		l.set(cause, 0)
		l.Rule = msg[zone:end]
		return after
	case 'F':
		start := past(msg, 0, `FastCGI sent in stderr: "`)
		if start < 0 {
			return -1
		}
		end, after := find(msg, start, `" while reading `)
		if end < 0 {
			return -1
		}
		l.fpm(msg[start:end])
		end, _ = find(msg, after, clientField)
		return end
	case '[':
		client := past(msg, 0, "[client ")
		if client < 0 {
			return -1
		}
		_, after := find(msg, client, "] ")
		if after < 0 || !begins(msg[after:], modSecurity) {
			return -1
		}
		return l.nginxModSecurity(msg, after)
	case 'M':
		if begins(msg, modSecurity) {
			return l.nginxModSecurity(msg, 0)
		}
	case '"':
		// ngx_http_index_module: a directory that may not be searched.
		end, after := find(msg, 1, `" is forbidden (13: `)
		if end < 0 {
			return -1
		}
		_, after = find(msg, after, ")")
		l.set(CauseFSPermission, 403)
		l.File = msg[1:end]
		return after
	default:
		return l.nginxCall(msg, crit)
	}
	return l.nginxCall(msg, crit)
}

// nginxCall reads `call() "FILE" failed (ERRNO: text)`.
func (l *Line) nginxCall(msg []byte, crit bool) (fields int) {
	open := bytes.Index(msg[:min(len(msg), len(`opendir() "`))], []byte(`() "`))
	if open < 0 {
		return -1
	}
	// What a call's failure means for the answer: those that only look are
	// followed by other attempts, rename ends a PUT with 500.
	decides := true
	call := string(msg[:open])
	switch call {
	case "open", "openat", "opendir", "mkdir", "rmdir", "unlink":
	case "stat", "lstat", "rename":
		decides = false
	default:
		return -1
	}
	start := open + len(`() "`)
	end, errno := find(msg, start, `" failed (`)
	if end < 0 {
		return -1
	}
	no, n := decimal(msg[errno:])
	_, after := find(msg, errno, ")")
	if n == 0 || after < 0 {
		return -1
	}
	fields, _ = find(msg, after, clientField)
	if fields > after && !begins(msg[after:], " while sending to client, ") {
		return fields // "while reading upstream" and the like: temporary files
	}
	file, text := msg[start:end], msg[errno+n:after]
	opens := call == "open" || call == "openat"
	switch {
	case no == 13:
		// Where EACCES means 403, nginx logs it at level error; where it means 500
		// (an unreadable file of users) or nothing yet, at level crit.
		l.set(CauseFSPermission, 403)
		if crit || !decides {
			l.Status = 0
		}
	case opens && begins(text, ": Too many l"), call == "openat" && no == 20:
		// ELOOP or, on some systems, EMLINK: disable_symlinks. ENOTDIR alone is
		// mostly a 404.
		l.set(CauseSymlink, 403)
		if no == 20 {
			l.Status = 0
		}
	case no == 2 && call == "open" && bytes.Contains(file[bytes.LastIndexByte(file, '/')+1:], []byte("htpasswd")):
		// auth_basic_user_file; or somebody asks for a file of such a name.
		l.set(CauseAuthBackend, 0)
	default:
		return fields
	}
	if _, to := find(file, 0, `" to "`); to >= 0 && call == "rename" {
		file = file[to:]
	}
	l.File = file
	return fields
}

// nginxModSecurity reads the message of ModSecurity at msg[at:]. Its last tags
// are the module's own; the fields follow them.
func (l *Line) nginxModSecurity(msg []byte, at int) (fields int) {
	end := len(msg)
	if _, id := find(msg, at, ` [unique_id "`); id >= 0 {
		if i, _ := find(msg, id, `"], client: `); i >= 0 {
			end, fields = i+2, i+2
		}
	}
	l.modSecurity(msg[at:end])
	if fields == 0 {
		return -1
	}
	return fields
}

// fpm reads what PHP-FPM wrote to its standard error.
func (l *Line) fpm(text []byte) {
	cause := ""
	if i, after := find(text, 0, fpmScript); i >= 0 {
		if end, _ := find(text, after, fpmExtensions); end >= 0 {
			cause = CauseFPMLimitExtensions
			l.File = text[after:end]
		}
	}
	if i, after := find(text, 0, fpmOpen); i >= 0 && cause == "" {
		if end, _ := find(text, after, fpmDenied); end >= 0 {
			cause = CauseFSPermission
			l.File = text[after:end]
		}
	}
	if cause != "" {
		l.set(cause, 403)
		l.Layer = event.LayerApp
	}
}

// nginxFields reads the fields, which come in a fixed order; each may be missing,
// and the line may end anywhere. It says whether there is a request.
func (l *Line) nginxFields(b []byte) (request bool) {
	if begins(b, " while ") { // what nginx was at, as in a subrequest's message
		b = b[max(0, bytes.Index(b, []byte(clientField))):]
	}
	if !begins(b, clientField) {
		return false
	}
	b = b[len(clientField):]
	end := bytes.IndexByte(b, ',')
	if end < 0 {
		l.Client = b
		return false
	}
	l.Client, b = b[:end], b[end:]
	if begins(b, serverField) {
		b = b[len(serverField):]
		end = bytes.Index(b, []byte(requestField))
		if end < 0 {
			l.Server = b
			return false
		}
		l.Server, b = b[:end], b[end:]
	}
	if !begins(b, requestField) {
		return false
	}
	// A request target can hold a quote but no space, so the first field behind
	// it is the right one.
	b = b[len(requestField):]
	end = len(b)
	for i := 0; i < len(b); i++ {
		j := bytes.Index(b[i:], []byte(`", `))
		if j < 0 {
			if n := len(b); n > 0 && b[n-1] == '"' {
				end = n - 1
			} else {
				l.PathCut = true
			}
			break
		}
		if i += j; anyField(b[i+1:]) {
			end = i
			break
		}
	}
	l.request(b[:end])
	b = b[min(end+1, len(b)):]
	if begins(b, subrequestField) {
		// Whether its refusal is the request's depends on what it was for.
		l.Status = 0
		b = skipField(b, subrequestField)
	}
	b = skipField(b, upstreamField)
	if begins(b, hostField) {
		b = b[len(hostField):]
		if end = bytes.IndexByte(b, '"'); end >= 0 {
			l.Host = b[:end]
		}
	}
	return true
}

func anyField(b []byte) bool {
	return begins(b, hostField) || begins(b, upstreamField) ||
		begins(b, subrequestField) || begins(b, referrerField)
}

// skipField returns what follows the field that begins with name, if b begins
// with it. Its value is a URL and may hold quotes, but no space.
func skipField(b []byte, name string) []byte {
	if !begins(b, name) {
		return b
	}
	b = b[len(name):]
	if i := bytes.Index(b, []byte(`", `)); i >= 0 {
		return b[i+1:]
	}
	return nil
}

// request splits a request line. The protocol is missing in HTTP/0.9 and where
// the line was cut; garbage has no path.
func (l *Line) request(r []byte) {
	method, target, ok := bytes.Cut(r, []byte(" "))
	if !ok {
		return
	}
	if i := bytes.LastIndexByte(target, ' '); i >= 0 && begins(target[i+1:], "HTTP/") {
		target = target[:i]
		l.PathCut = false
	}
	l.Method, l.Path = method, target
}

func begins(b []byte, s string) bool { return past(b, 0, s) >= 0 }

// past returns where b goes on after s, if s is at b[at:]; else -1.
func past(b []byte, at int, s string) int {
	if len(b)-at < len(s) || string(b[at:at+len(s)]) != s {
		return -1
	}
	return at + len(s)
}

// find returns where the first s in b[at:] begins and ends; -1, -1 if nowhere.
func find(b []byte, at int, s string) (start, end int) {
	// A conversion of up to 32 bytes needs no memory of its own.
	head, rest := s[:min(len(s), 32)], s[min(len(s), 32):]
	for {
		i := bytes.Index(b[at:], []byte(head))
		if i < 0 {
			return -1, -1
		}
		start = at + i
		at = start + len(head)
		if end = past(b, at, rest); end >= 0 {
			return start, end
		}
	}
}
