package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyCaddy reads Caddy's access log, which is JSON
// (https://caddyserver.com/docs/logging). Lines of its other loggers are skipped.
// Caddy says neither who answered nor why, but what it passes on carries the
// headers of the server behind: a second Server or, from 2.9 on, Via; and a Date,
// which every server with a clock must send (RFC 9110, section 6.6.1) and which
// Caddy's own answers get only after they are logged.
const familyCaddy = "caddy"

// The fields that only Caddy's log knows.
const (
	caddyLogger = fields + iota
	caddyServer
	caddyVia
	caddyDate
	caddyHeaders // any header of the answer
)

func caddyFamily() fixedFamily {
	return fixedFamily{
		text: "Caddy", vantage: event.Web,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileDialect(c.Mapping, loc, dialect{
				names: headerNames(map[field][]string{
					fieldRequestID: before(fieldRequestID, "request.headers.xrequestid respheaders.xrequestid"),
					caddyLogger:    {"logger"},
					caddyServer:    {"respheaders.server"},
					caddyVia:       {"respheaders.via"},
					caddyDate:      {"respheaders.date"},
					caddyHeaders:   {"respheaders.contenttype respheaders.contentlength"},
				}, "respheaders."),
				// The status is 0 when no handler wrote an answer.
				request: func(p *jsonParser) bool { return caddyAccess(p) && p.seen&(1<<fieldMethod) != 0 },
				finish: func(p *jsonParser, e *event.Event) error {
					if !caddyAccess(p) {
						return ErrOtherLogger
					}
					caddyAnswer(p, e)
					return nil
				},
			})
			return func() Parser { return newJSONParser(prog) }
		},
	}
}

// caddyAccess tells whether the line is of an access logger: http.log.access, or
// that with the name of the log. Logs that were filtered may have no logger.
func caddyAccess(p *jsonParser) bool {
	l := p.own(caddyLogger)
	return len(l) == 0 || hasPrefix(l, "http.log.access")
}

// caddyAnswer says who answered, and splits the roles of a header.
func caddyAnswer(p *jsonParser, e *event.Event) {
	has := func(f field) bool { return p.seen&(1<<f) != 0 }
	passed := has(caddyVia) || has(caddyDate)
	servers := members{b: p.vals[caddyServer].raw}
	if has(caddyServer) && p.vals[caddyServer].kind == kindArray {
		for servers.next() {
			passed = passed || servers.kind == kindString && string(servers.raw) != "Caddy"
		}
	}
	switch {
	case passed:
		passedOn(e, e.Status)
	case has(caddyServer) || has(caddyHeaders):
		ownAnswer(e, nil)
	}
	n := len(e.Roles)
	for i := range n {
		if bytes.IndexByte(e.Roles[i], ',') >= 0 {
			e.Roles = splitList(e.Roles, e.Roles[i])
			e.Roles = append(e.Roles[:i], e.Roles[i+1:]...)
			break // one header, as a rule
		}
	}
}

func caddyCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyCaddy}, why: "are of Caddy's access log",
		sign: func(line []byte, _ *event.Event, err error) vote {
			switch {
			case bytes.Contains(line, caddyKey):
				return voteYes
			case err != nil:
				return voteMaybe
			}
			return voteNo
		},
	}}
}

var caddyKey = []byte(`"http.log.access`)
