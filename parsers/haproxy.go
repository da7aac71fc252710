package parsers

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyHAProxy reads HAProxy's HTTP and HTTPS log formats and "option httplog
// clf" (HAProxy configuration manual, sections 8.2.3 to 8.2.5 and, for the
// session state at disconnection, 8.5), told apart line by line. Lines of its TCP
// log format and its messages about servers and proxies are skipped. Times have
// no zone, except in clf. The address is cut off its port here, as IPv6 has no
// brackets there.
//
// Mapping takes captured headers by HAProxy's own names for them:
// capture.req.hdr(0), capture.res.hdr(1).
const familyHAProxy = "haproxy"

func haproxyFamily() fixedFamily {
	return fixedFamily{
		text: "HAProxy", vantage: event.Web,
		mapping: func(key, value string) error {
			switch mappable(key) {
			case fieldTime, fieldMethod, fieldPath, fieldStatus, fieldUpstream:
				return fmt.Errorf("is always taken from its own place in a line of HAProxy; remove it")
			}
			_, err := readCapture(value)
			return err
		},
		compile: func(c Config, loc *time.Location) func() Parser {
			var captures []capture
			for key, value := range c.Mapping {
				cp, err := readCapture(value)
				if f := mappable(key); err == nil && f != fieldNone {
					cp.field = f
					captures = append(captures, cp)
				}
			}
			return func() Parser { return &haproxyParser{clock: clock{loc: loc}, captures: captures} }
		},
	}
}

func haproxyCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyHAProxy}, why: "have the fields of HAProxy's HTTP log format",
		sign: func(_ []byte, _ *event.Event, err error) vote {
			if err != nil {
				return voteMaybe
			}
			return voteYes
		},
	}}
}

// capture is a captured header that means something.
type capture struct {
	response bool
	index    int
	field    field
}

// readCapture reads "capture.req.hdr(0)".
func readCapture(s string) (capture, error) {
	var c capture
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, "capture.req.hdr(")
	if !ok {
		rest, c.response = strings.CutPrefix(s, "capture.res.hdr(")
	}
	digits, closed := strings.CutSuffix(rest, ")")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok && !c.response || !closed || err != nil {
		return c, fmt.Errorf("%q is no captured header; count HAProxy's capture lines from 0 and write capture.req.hdr(0) or capture.res.hdr(0)", clip(s))
	}
	c.index = int(n)
	return c, nil
}

type haproxyParser struct {
	clock    clock
	captures []capture
	scratch  []byte
}

// Parse implements Parser.
func (p *haproxyParser) Parse(line []byte, e *event.Event) error {
	p.scratch = p.scratch[:0]
	line = bytes.TrimRight(line, " \r")
	for _, s := range haproxyMessages {
		if hasPrefix(line, s) {
			return ErrNotice
		}
	}
	sp := bytes.IndexByte(line, ' ')
	if sp < 1 || sp+1 >= len(line) {
		return ErrMismatch
	}
	if line[sp+1] != '[' {
		return p.common(line, sp, e)
	}
	colon := bytes.LastIndexByte(line[:sp], ':')
	end := sp + bytes.IndexByte(line[sp:], ']')
	if colon < 1 || end < sp+2 || len(line) < end+2 {
		return ErrMismatch
	}
	at, ok := p.clock.local(line[sp+2 : end])
	if !ok {
		return ErrTime
	}
	frontend, b := word(line[end+2:])
	server, b := word(b)
	timers, b := word(b)
	if bytes.HasSuffix(frontend, colonByte) {
		return ErrConnection // "fe/1: Connection error during SSL handshake"
	}
	slash := bytes.LastIndexByte(server, '/')
	waited, n := timer(timers)
	if n == 0 { // many put the host or what they like in front of the timers
		timers, b = word(b)
		waited, n = timer(timers)
	}
	switch {
	case slash < 0:
		return ErrMismatch
	case n == 3 || n == 2:
		return ErrConnection // the TCP format has three
	case n != 5:
		return ErrMismatch
	}
	status, b := word(b)
	_, b = word(b) // bytes
	_, b = word(b) // cookies
	_, b = word(b)
	state, b := word(b)
	_, b = word(b) // connections
	_, b = word(b) // queues
	if len(state) < 2 {
		return ErrShort
	}
	e.Time = at
	e.Client = given(line[:colon])
	for block := 0; len(b) > 0 && b[0] == '{'; block++ {
		closed := bytes.IndexByte(b, '}')
		if closed < 0 {
			return ErrShort
		}
		more := len(b) > closed+2 && b[closed+1] == ' ' && b[closed+2] == '{'
		p.capture(b[1:closed], block, !more && block == 0, e)
		b = bytes.TrimLeft(b[closed+1:], " ")
	}
	bad := false
	if len(b) > 0 && b[0] == '"' {
		b = b[1:]
		if n := bytes.IndexByte(b, '"'); n >= 0 {
			b = b[:n]
		}
		bad = string(b) == "<BADREQ>"
		e.Method, e.Path = splitRequest(p.text(b))
	}
	err := haproxyAnswer(e, server[slash+1:], state, waited, status, bad)
	if e.Status/100 != 4 && e.Denial == event.NotDenied {
		e.Cause = nil // the application gives reasons for refusals only
	}
	return err
}

var colonByte = []byte{':'}

// haproxyMessages begin lines that tell of HAProxy itself.
var haproxyMessages = []string{"Server ", "Proxy ", "backend ", "Health check ", "Stopping ", "Pausing ", "Connect from ", "["}

// common reads the rest of a line of option httplog clf, whose client ends at sp:
//
//	ADDR - - [TIME] "REQUEST" STATUS BYTES "" "" PORT MS "FE" "BE" "SRV"
//	TR TW TC TR TA STATE ...
func (p *haproxyParser) common(line []byte, sp int, e *event.Event) error {
	b := line[sp:]
	open := bytes.IndexByte(b, '[')
	if open < 0 || open > 64 || len(b) < open+clfLen+4 || b[open+clfLen+1] != ']' || b[open+clfLen+3] != '"' {
		return ErrMismatch
	}
	at, ok := p.clock.clf(b[open+1 : open+1+clfLen])
	if !ok {
		return ErrTime
	}
	b = b[open+clfLen+4:]
	end := bytes.IndexByte(b, '"')
	if end < 0 || len(b) < end+2 {
		return ErrShort
	}
	request := b[:end]
	status, b := word(b[end+2:])
	_, b = word(b) // bytes
	var fields [13][]byte
	for i := range fields { // cookies, port, ms, fe, be, srv, five timers, state
		if len(b) > 0 && b[0] == '"' {
			n := bytes.IndexByte(b[1:], '"')
			if n < 0 {
				return ErrShort
			}
			fields[i], b = b[1:1+n], bytes.TrimLeft(b[n+2:], " ")
			continue
		}
		fields[i], b = word(b)
	}
	waited, state := fields[10], fields[12]
	if len(state) != 4 {
		return ErrMismatch
	}
	e.Time = at
	e.Client = line[:sp]
	e.Method, e.Path = splitRequest(p.text(request))
	return haproxyAnswer(e, fields[6], state, waited, status, string(request) == "<BADREQ>")
}

// timer is the fourth of the timers, how long the server took to answer ("-1":
// it did not), and how many there are.
func timer(v []byte) (waited []byte, n int) {
	from := 0
	for i := 0; i <= len(v); i++ {
		if i < len(v) && v[i] != '/' {
			if v[i]-'0' > 9 && v[i] != '-' && v[i] != '+' {
				return nil, 0
			}
			continue
		}
		if n++; n == 4 {
			waited = v[from:i]
		}
		from = i + 1
	}
	return waited, n
}

// haproxyAnswer decides who answered, by the session state at disconnection: its
// first character says who ended the session (P: HAProxy, by a rule or a limit;
// L: it answered itself), its second in which state.
func haproxyAnswer(e *event.Event, server, state, waited, status []byte, bad bool) error {
	none := len(status) > 0 && status[0] == '-' // no answer was sent
	if !none {
		n, ok := statusNumber(status)
		if !ok {
			return ErrStatus
		}
		e.Status = n
	}
	named := len(server) > 0 && server[0] != '<' // not <NOSRV>, <STATS>
	answered := len(waited) > 0 && waited[0] != '-'
	switch {
	case state[0] == 'P' && none:
		e.Upstream = event.UpstreamNone
		if !bad { // reject, silent-drop
			e.Layer, e.Denial, e.Cause = event.LayerWeb, event.Refused, causeReject
		}
	case state[0] == 'P' && named && state[1] != 'R' && state[1] != 'T':
		refusedHere(e, causeResponse) // http-response deny
	case state[0] == 'P':
		ownAnswer(e, haproxyCause(e.Status, state[1], bad))
	case state[0] == 'L':
		ownAnswer(e, causeConfigReturn)
	case named && answered:
		passedOn(e, e.Status)
	case !named:
		ownAnswer(e, nil)
	}
	return nil
}

// haproxyCause is the cause of a refusal of the request itself.
func haproxyCause(status uint16, state byte, bad bool) []byte {
	switch {
	case bad:
		return nil
	case state == 'T':
		return causeTarpit
	case status == 401, status == 407:
		return causeAuth
	case status == 429:
		return causeRateLimit
	case status == 400, status == 408:
		return nil
	}
	return causeACL
}

var (
	causeReject   = []byte("reject")
	causeTarpit   = []byte("tarpit")
	causeResponse = []byte("acl_response")
)

// capture takes the mapped headers of a block "a|b|c". Requests come first; only
// says that the block is the only one, so that it may be of responses.
func (p *haproxyParser) capture(b []byte, block int, only bool, e *event.Event) {
	if len(p.captures) == 0 {
		return
	}
	response := block > 0
	if only {
		response = true
		for i := range p.captures {
			response = response && p.captures[i].response
		}
	}
	for i := 0; ; i++ {
		v := b
		end := bytes.IndexByte(b, '|')
		if end >= 0 {
			v, b = b[:end], b[end+1:]
		}
		for k := range p.captures {
			if c := &p.captures[k]; c.index == i && c.response == response && len(v) > 0 {
				p.take(c, p.text(v), e)
			}
		}
		if end < 0 {
			return
		}
	}
}

func (p *haproxyParser) take(c *capture, v []byte, e *event.Event) {
	switch c.field {
	case fieldUser:
		e.User, e.UserClaimed = v, !c.response
	case fieldClient:
		e.Client = firstClient(v)
	case fieldCause:
		if len(v) <= maxCause {
			e.Cause = v
		}
	default:
		setText(c.field, v, e)
	}
}

// text resolves HAProxy's escapes: '#' and two hexadecimal digits.
func (p *haproxyParser) text(v []byte) []byte {
	if bytes.IndexByte(v, '#') < 0 {
		return v
	}
	from := len(p.scratch)
	for i := 0; i < len(v); i++ {
		if v[i] == '#' && i+2 < len(v) {
			h, ok1 := hex(v[i+1])
			l, ok2 := hex(v[i+2])
			if ok1 && ok2 {
				p.scratch = append(p.scratch, h<<4|l)
				i += 2
				continue
			}
		}
		p.scratch = append(p.scratch, v[i])
	}
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}
