// Package errorlog understands the error logs of nginx and Apache httpd: when,
// for whom and why the server refused a request.
//
// An error line explains a request that has an access line of its own, so it is
// never counted. Whoever joins the two finds here what tells them apart, the
// most exact first: Line.Conn with Line.Method and Line.Path (nginx), Line.LogID
// (Apache), else Line.Client with Line.Path or Line.File and Line.Time.
//
// Within one line, nothing a client sends moves the connection number, the log
// id, the time or (Apache) the client: they stand before anything it wrote. Causes
// are read where the server itself writes, but for what PHP-FPM passes on from a
// script. Across lines there is no such promise: nginx escapes nothing in this
// log, so a user name that holds a newline adds a line of the client's making,
// which is one more reason to explain with these lines and never to count them.
// Treat Line.Rule, Path, File and Host as the client's words.
//
// Wrappers (CRI, Docker, journald, RFC 5424) are taken off before; the plain
// prefix of RFC 3164, which both servers write themselves when they log to
// syslog, is taken off here.
package errorlog

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// The servers whose logs are understood, for Config.Server and as the result of
// Detect.
const (
	// Nginx is nginx and what is built from its source (OpenResty, Angie, the
	// ingress controllers).
	Nginx = "nginx"
	// Apache is Apache httpd 2.0 to 2.4.
	Apache = "apache"
	// Auto decides anew for every line.
	Auto = "auto"
)

// Line is what one error line says. All byte slices are views of the line that
// was parsed and die with it. An empty slice means that the line does not say.
type Line struct {
	// Time is when the line was written, nanoseconds since the Unix epoch, UTC;
	// event.NoTime if the line has none. nginx writes whole seconds.
	Time int64
	// Zoned says that the line named its zone itself; otherwise Time was read as
	// a time in the parser's location.
	Zoned bool
	// Client is the client's address without a port, or "unix:".
	Client []byte
	// Host is the host that the client asked for: nginx's host (with a port where
	// the client sent one), Apache's only in lines of ModSecurity.
	Host []byte
	// Server is the first server_name of the nginx server block; Apache has none.
	Server []byte
	// Method is the request method as in the request line; Apache seldom has it.
	Method []byte
	// Path is the request target. nginx has it as in the request line, query and
	// all. Apache has, in some lines, the decoded path without a query, with its
	// log's escapes (\xhh, \n, \") in it.
	Path []byte
	// PathCut is set when the line ends within Path, which then is only the
	// beginning of the target: nginx cuts its lines at 2048 bytes.
	PathCut bool
	// File is what the server complains of, where that is no URL: a file or
	// directory, or "proxy:URL". With the document root before it, it mostly ends
	// with the decoded path of the request.
	File []byte
	// Escaped is set for lines of Apache: Path and File have its log's escapes.
	Escaped bool
	// Conn is nginx's connection number, $connection in its access log; 0 if the
	// line has none. Numbers start anew when nginx does, and all requests of one
	// connection share it.
	Conn uint64
	// LogID is Apache's log id, %L in both logs, where ErrorLogFormat has it in
	// brackets before the client ("[%L]" or "[R:%L]"). In lines of ModSecurity 2 it
	// is the unique_id, which is the same value: mod_unique_id makes both.
	LogID []byte
	// Layer is who refused: event.LayerWeb, or event.LayerApp where PHP-FPM did;
	// LayerUnknown if Denies is not set.
	Layer event.Layer
	// Cause is the class of the refusal, one of the Cause constants of this
	// package; empty if Denies is not set.
	Cause string
	// Rule is the rule that refused, as the server calls it: ModSecurity's rule
	// id, nginx's limit zone.
	Rule []byte
	// Status is what the server itself answered, where the line settles that:
	// 403, or ModSecurity's own code. It is 0 where configuration decides (limits,
	// authorisation) and where the same words also go with other answers. The
	// access line may show another status, when an error page replaced it.
	Status uint16
	// Denies says that the line explains a refusal with 403 or its like, if the
	// request was refused at all: see Status. It is not set for 401 and 405,
	// redirections, dry runs and mere warnings.
	Denies bool
}

// ErrSkip is returned for lines of an error log that explain no denial. Line
// holds what else they say.
var ErrSkip = errors.New("the line explains no denial")

// ErrFreeText is an ErrSkip (errors.Is holds) for a line without the header that
// every line of the server has: the rest of a line that a client's newline
// split, or what a CGI script wrote to its standard error.
var ErrFreeText = fmt.Errorf("text without a header: %w", ErrSkip)

// ErrNoErrorLine is returned for lines that no error log has: access lines, JSON
// objects, binary data.
var ErrNoErrorLine = errors.New("not a line of an nginx or Apache error log")

// Config says whose error log it is.
type Config struct {
	// Server is Nginx, Apache or Auto; empty is Auto.
	Server string
	// Location is where times without a zone were written, which is nearly all of
	// them; nil is UTC.
	Location *time.Location
	// Near is roughly when the log's first lines were written. Syslog's stamps
	// (RFC 3164) have no year; for messages that have no time of their own, as
	// Apache's through syslog, they get the year that brings them nearest to the
	// line before, or to Near. If it is zero, such lines have no time.
	Near time.Time
}

// Parser understands the lines of one error log. It is used by one goroutine.
type Parser struct {
	nginx, apache bool
	clock         clock
	near          int64 // the time of the last line whose year was guessed; NoTime: none is
}

// New returns a parser. It fails only for a server it does not know.
func New(c Config) (*Parser, error) {
	p := &Parser{nginx: true, apache: true, near: event.NoTime}
	if !c.Near.IsZero() {
		p.near = c.Near.UnixNano()
	}
	switch c.Server {
	case Auto, "":
	case Nginx:
		p.apache = false
	case Apache:
		p.nginx = false
	default:
		return nil, fmt.Errorf("error log of an unknown server %q: use nginx, apache or auto", c.Server)
	}
	p.SetLocation(c.Location)
	return p, nil
}

// SetLocation changes where times without a zone were written, from the next
// line on: the access log of the same server may tell only later. nil is UTC.
func (p *Parser) SetLocation(l *time.Location) {
	if l == nil {
		l = time.UTC
	}
	p.clock = clock{loc: l}
}

// Parse fills l from line (its newline is ignored); it need not be empty before.
// A nil error means that l.Denies is set. The other results are ErrSkip,
// ErrFreeText and ErrNoErrorLine, none of which holds text of the line. Parse
// reads a line of any length a fixed number of times and does not allocate.
func (p *Parser) Parse(line []byte, l *Line) error {
	*l = Line{Time: event.NoTime}
	for n := len(line); n > 0 && (line[n-1] == '\n' || line[n-1] == '\r'); n-- {
		line = line[:n-1]
	}
	body := p.unwrap(line, l)
	switch {
	case p.nginx && p.parseNginx(body, l):
	case p.apache && p.parseApache(body, l):
	case foreign(line):
		*l = Line{Time: event.NoTime}
		return ErrNoErrorLine
	default:
		*l = Line{Time: event.NoTime}
		return ErrFreeText
	}
	if !l.Denies {
		return ErrSkip
	}
	return nil
}

// set notes a cause that the web server itself gives.
func (l *Line) set(cause string, status uint16) {
	l.Cause, l.Status, l.Layer, l.Denies = cause, status, event.LayerWeb, true
}

// Syslog prefixes are short; looking further for their end would find the colons
// of messages.
const (
	maxTag  = 128
	stampAt = len("Jan _2 15:04:05 ")
)

// unwrap takes a syslog prefix off line: "<PRI>", then a stamp (RFC 3164's, or
// the RFC 3339 stamp that current daemons write to files), a host that may be
// missing and a tag with a colon. What l keeps of it is the time, for messages that
// have none of their own; RFC 3164's stamp has neither year nor zone.
func (p *Parser) unwrap(line []byte, l *Line) []byte {
	b := line
	if len(b) > 0 && b[0] == '<' {
		n := 1
		for n < len(b) && n < 4 && digit(b[n]) {
			n++
		}
		if n == 1 || n == len(b) || b[n] != '>' {
			return line
		}
		b = b[n+1:]
	}
	switch {
	case len(b) > stampAt && month(b) != 0 && b[3] == ' ' && b[9] == ':' && b[12] == ':' && b[15] == ' ':
		l.Time = p.guess(b)
		b = b[stampAt:]
	case len(b) > 20 && b[4] == '-' && b[10] == 'T':
		n := bytes.IndexByte(b[:min(len(b), 40)], ' ')
		if n < 0 {
			return line
		}
		t, zoned, ok := p.clock.iso(b[:n])
		if !ok || !zoned {
			return line
		}
		l.Time, l.Zoned = t, true
		b = b[n+1:]
	default:
		return line
	}
	n := bytes.Index(b[:min(len(b), maxTag)], []byte(": "))
	if n < 0 || bytes.Count(b[:n], []byte(" ")) > 1 {
		l.Time, l.Zoned = event.NoTime, false
		return line
	}
	if !l.Zoned && l.Time != event.NoTime {
		p.near = l.Time
	}
	return b[n+2:]
}

// guess reads RFC 3164's stamp with the year that brings it nearest to p.near.
func (p *Parser) guess(b []byte) int64 {
	if p.near == event.NoTime {
		return event.NoTime
	}
	at := civil{month: month(b), day: two(b[4:]), hour: two(b[7:]), minute: two(b[10:]), sec: two(b[13:])}
	if b[4] == ' ' && digit(b[5]) {
		at.day = int(b[5] - '0')
	}
	year, best := time.Unix(0, p.near).In(p.clock.loc).Year(), int64(event.NoTime)
	for _, at.year = range [...]int{year, year - 1, year + 1} {
		if t, ok := at.in(p.clock.loc); ok && (best == event.NoTime || far(t, p.near) < far(best, p.near)) {
			best = t
		}
	}
	return best
}

// far is how far two times are apart.
func far(a, b int64) int64 { return max(a-b, b-a) }

// foreign says whether a line without a header comes from another kind of log:
// it is an object, has bytes that no text has, or the time of an access line.
func foreign(line []byte) bool {
	if len(line) > 0 && line[0] == '{' {
		return true
	}
	for _, c := range line[:min(len(line), 256)] {
		if c < ' ' && c != '\t' && c != '\r' && c != 0x1b || c == 0x7f {
			return true
		}
	}
	const clf = len("[02/Jan/2006:15:04:05")
	for {
		i := bytes.IndexByte(line, '[')
		if i < 0 || len(line)-i < clf {
			return false
		}
		line = line[i:]
		if line[3] == '/' && line[7] == '/' && line[12] == ':' && line[15] == ':' && line[18] == ':' && month(line[4:]) != 0 {
			return true
		}
		line = line[1:]
	}
}

// Detect says which server's error log the sample comes from and which share of
// its lines (empty ones apart) has that server's header: 1 for whole error logs,
// less where clients' newlines or CGI scripts added text, 0 for access logs and
// for everything else, with an empty name.
func Detect(sample [][]byte) (server string, share float64) {
	p := Parser{clock: clock{loc: time.UTC}, near: event.NoTime}
	var lines, nginx, apache int
	for _, line := range sample {
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			continue
		}
		lines++
		var l Line
		switch body := p.unwrap(line, &l); {
		case p.parseNginx(body, &l):
			nginx++
		case p.parseApache(body, &l):
			apache++
		}
	}
	switch {
	case nginx == 0 && apache == 0:
		return "", 0
	case nginx >= apache:
		return Nginx, float64(nginx) / float64(lines)
	}
	return Apache, float64(apache) / float64(lines)
}
