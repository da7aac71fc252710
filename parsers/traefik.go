package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyTraefik reads the access log of Traefik
// (https://doc.traefik.io/traefik/observability/access-logs/) in both its formats,
// told apart line by line: JSON, and "common", which is the combined format with
// a count, the router, the server's URL and a duration.
const familyTraefik = "traefik"

// The fields that only Traefik's JSON knows.
const (
	traefikServer = fields + iota // the server that was asked
	traefikRouter
)

func traefikFamily() fixedFamily {
	return fixedFamily{
		text: "Traefik", vantage: event.Web,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileDialect(c.Mapping, loc, dialect{
				names: headerNames(map[field][]string{
					fieldForwarded: before(fieldForwarded, "requestxforwardedfor"),
					fieldRequestID: before(fieldRequestID, "requestxrequestid originxrequestid"),
					traefikServer:  {"serviceaddr serviceurl", "backendaddr backendurl"},
					traefikRouter:  {"routername", "frontendname"},
				}, "origin"),
				finish: func(p *jsonParser, e *event.Event) error {
					switch {
					case e.Upstream == event.UpstreamAnswered:
						passedOn(e, e.UpstreamStatus)
					case e.Upstream == event.UpstreamUnknown && len(p.own(traefikServer)) > 0:
						// fields.names of its configuration drops OriginStatus.
					default:
						ownAnswer(e, traefikCause(e.Status))
						e.Rule = p.own(traefikRouter)
					}
					return nil
				},
			})
			base, bare := mustAssemble(nginxCombined, loc), mustAssemble(traefikBare, loc)
			return func() Parser {
				return &traefikParser{json: newJSONParser(prog), clf: newTemplateParser(base), bare: newTemplateParser(bare)}
			}
		},
	}
}

// traefikBare is the combined format without the referer, which old versions
// write as a dash without quotes.
const traefikBare = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent - "$http_user_agent"`

// mustAssemble compiles a log_format of nginx that is a constant.
func mustAssemble(format string, loc *time.Location) *program {
	elems, err := nginxElements(nginxSpec{format: format})
	if err == nil {
		var p *program
		if p, err = assemble(elems, escapeBackslash, loc, true); err == nil {
			return p
		}
	}
	panic(format + ": " + err.Error())
}

func traefikCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyTraefik}, why: "have the fields of Traefik's access log",
		sign: func(line []byte, _ *event.Event, err error) vote {
			switch {
			case err != nil:
				return voteMaybe
			case line[0] != '{' || bytes.Contains(line, traefikKey):
				return voteYes
			}
			return voteNo
		},
	}}
}

var traefikKey = []byte(`"DownstreamStatus"`)

type traefikParser struct {
	json      *jsonParser
	clf, bare *templateParser
}

// Parse implements Parser.
func (p *traefikParser) Parse(line []byte, e *event.Event) error {
	if i := space(line, 0); i < len(line) && line[i] == '{' {
		return p.json.Parse(line, e)
	}
	line = bytes.TrimRight(line, " \r")
	// COUNT "ROUTER" "URL" 12ms, from the right: the texts are quoted as by Go.
	sp := bytes.LastIndexByte(line, ' ')
	if sp < 0 || !bytes.HasSuffix(line, milliseconds) {
		return ErrMismatch
	}
	if _, end := number(line, sp+1); end == sp+1 || end != len(line)-len(milliseconds) {
		return ErrMismatch
	}
	server, rest, ok := lastQuoted(line[:sp])
	if !ok {
		return ErrMismatch
	}
	router, rest, ok := lastQuoted(rest)
	if !ok {
		return ErrMismatch
	}
	if sp = bytes.LastIndexByte(rest, ' '); sp < 0 {
		return ErrMismatch
	}
	if _, end := number(rest, sp+1); end != len(rest) && string(rest[sp+1:]) != "-" {
		return ErrMismatch
	}
	if err := p.clf.Parse(rest[:sp], e); err != nil {
		e.Reset()
		if p.bare.Parse(rest[:sp], e) != nil {
			return err
		}
	}
	switch {
	case hasPrefix(router, "Auth for "), string(server) == "-", len(server) == 0: // the first is of Traefik 1
		ownAnswer(e, traefikCause(e.Status))
		if string(router) != "-" {
			e.Rule = router
		}
	case bytes.Contains(server, schemeSlashes):
		passedOn(e, e.Status)
	}
	return nil
}

var milliseconds = []byte("ms")

// lastQuoted cuts the quoted string from the end of b, and the space before it.
func lastQuoted(b []byte) (v, rest []byte, ok bool) {
	n := len(b)
	if n < 3 || b[n-1] != '"' {
		return nil, nil, false
	}
	i := lastIndex(b[:n-1], ` "`)
	if i < 0 {
		return nil, nil, false
	}
	return b[i+2 : n-1], b[:i], true
}

// traefikCause is what a middleware's answer tells: ipAllowList and forwardAuth
// look alike.
func traefikCause(status uint16) []byte {
	switch status {
	case 401, 407:
		return causeAuth
	case 403:
		return causeMiddleware
	case 429:
		return causeRateLimit
	}
	return nil
}

var causeMiddleware = []byte("middleware")
