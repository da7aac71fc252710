package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyEnvoy reads the access log of Envoy in its default text format, in those
// of Istio, and in JSON under Istio's names for the command operators, told apart
// line by line
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage,
// https://istio.io/latest/docs/tasks/observability/logs/access-log/).
const (
	familyEnvoy = "envoy"
	familyIstio = "istio" // the same under its other name
)

// The fields that only Envoy's JSON knows.
const (
	envoyFlags = fields + iota
	envoyDetails
	envoyHost
	envoyTime
)

func envoyFamily(text string) fixedFamily {
	return fixedFamily{
		text: text, vantage: event.Web,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileDialect(c.Mapping, loc, dialect{
				names: map[field][]string{
					fieldTime:    before(fieldTime, "starttime"),
					fieldHost:    before(fieldHost, "authority :authority"),
					fieldPath:    before(fieldPath, "xenvoyoriginalpath xenvoyoriginpath originalpath", ":path"),
					fieldClient:  before(fieldClient, "downstreamremoteaddress", "downstreamdirectremoteaddress"),
					envoyFlags:   {"responseflags"},
					envoyDetails: {"responsecodedetails"},
					envoyHost:    {"upstreamhost"},
					envoyTime:    {"upstreamservicetime xenvoyupstreamservicetime"},
				},
				// The code is 0 when the client left before the answer.
				request: func(p *jsonParser) bool {
					return p.seen&(1<<fieldMethod) != 0 && p.seen&(1<<envoyFlags|1<<envoyDetails) != 0
				},
				finish: func(p *jsonParser, e *event.Event) error {
					envoyAnswer(e, p.own(envoyFlags), p.own(envoyDetails), p.own(envoyHost), p.own(envoyTime))
					return nil
				},
			})
			return func() Parser { return &envoyParser{json: newJSONParser(prog), clock: clock{loc: loc}} }
		},
	}
}

func envoyCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyEnvoy}, why: "have the fields of Envoy's access log",
		sign: func(line []byte, _ *event.Event, err error) vote {
			switch {
			case err != nil:
				return voteMaybe
			case line[0] == '[', bytes.HasPrefix(line, ambassador):
				return voteYes
			}
			for _, k := range envoyKeys {
				if bytes.Contains(line, k) {
					return voteYes
				}
			}
			return voteNo
		},
	}}
}

var envoyKeys = [][]byte{[]byte(`"response_flags"`), []byte(`"response_code_details"`), []byte(`"responseFlags"`), []byte(`"responseCodeDetails"`),
	[]byte(`"x-envoy-origin-path"`), []byte(`"downstream_remote_address"`), // of Envoy Gateway
}

// ambassador stands in front of the lines of Envoys that Ambassador configured.
var ambassador = []byte("ACCESS ")

type envoyParser struct {
	json  *jsonParser
	clock clock
}

// Parse implements Parser.
func (p *envoyParser) Parse(line []byte, e *event.Event) error {
	line = bytes.TrimRight(line, " \r")
	i := space(line, 0)
	if i < len(line) && line[i] == '{' {
		return p.json.Parse(line, e)
	}
	line = bytes.TrimPrefix(line, ambassador)
	// [START] "REQUEST" CODE FLAGS ...
	end := bytes.IndexByte(line, ']')
	if end < 1 || line[0] != '[' {
		return ErrMismatch
	}
	at, ok := p.clock.iso(line[1:end])
	if !ok {
		return ErrTime
	}
	b := line[end+1:]
	if !hasPrefix(b, ` "`) {
		return ErrMismatch
	}
	// A path may hold a quote; the code follows the one that ends the request.
	from := 2
	for {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			return ErrShort
		}
		from += n + 1
		if len(b) > from && b[from] == ' ' {
			if _, to := number(b, from+1); to > from+1 && to < len(b) && b[to] == ' ' {
				break
			}
		}
	}
	e.Time = at
	e.Method, e.Path = splitRequest(b[2 : from-1])
	code, to := number(b, from+1)
	if code != 0 && (code < 100 || code > 999) {
		return ErrStatus
	}
	e.Status = uint16(code)
	b = b[to+1:]
	flags, b := word(b)
	// Istio puts details, the connection's termination and the upstream's failure
	// here. The bytes received are the first number.
	var details []byte
	for len(b) > 0 {
		if _, n := number(b, 0); n > 0 && n < len(b) && b[n] == ' ' {
			break
		}
		var v []byte
		if b[0] == '"' {
			n := bytes.IndexByte(b[1:], '"')
			if n < 0 {
				return ErrShort
			}
			b = bytes.TrimLeft(b[n+2:], " ")
			continue
		}
		if v, b = word(b); details == nil {
			details = v
		}
	}
	// RX TX DURATION SERVICE-TIME "XFF" "UA" "ID" "AUTHORITY" "HOST" ...
	_, b = word(b)
	_, b = word(b)
	_, b = word(b)
	took, b := word(b)
	tail := lastIndex(b, `"`)
	if len(b) < 2 || b[0] != '"' || tail < 1 {
		return ErrShort
	}
	rest := bytes.TrimLeft(b[tail+1:], " ")
	quoted := b[:tail+1]
	host, quoted, ok1 := lastQuoted(quoted)
	authority, quoted, ok2 := lastQuoted(quoted)
	id, quoted, ok3 := lastQuoted(quoted)
	// What is left are the forwarded addresses and the user agent, which may hold
	// anything.
	cut := bytes.Index(quoted, quotesBetween)
	if !ok1 || !ok2 || !ok3 || cut < 1 || len(quoted) < cut+len(quotesBetween)+1 || quoted[len(quoted)-1] != '"' {
		return ErrShort
	}
	forwarded, agent := quoted[1:cut], quoted[cut+len(quotesBetween):len(quoted)-1]
	e.Host, e.RequestID, e.UserAgent = given(authority), given(id), given(agent)
	// CLUSTER UPSTREAM-LOCAL DOWNSTREAM-LOCAL DOWNSTREAM-REMOTE SNI ROUTE, of Istio.
	_, rest = word(rest)
	_, rest = word(rest)
	_, rest = word(rest)
	remote, _ := word(rest)
	e.Client = given(remote)
	if f := given(forwarded); len(f) > 0 && (len(e.Client) == 0 || private(e.Client)) {
		e.Client = firstClient(f)
	}
	envoyAnswer(e, flags, details, host, took)
	return nil
}

var quotesBetween = []byte(`" "`)

// word cuts the first word of b and the space behind it.
func word(b []byte) (v, rest []byte) {
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return b, nil
	}
	return b[:i], b[i+1:]
}

// given is v, or nil if it is only a dash.
func given(v []byte) []byte {
	if len(v) == 1 && v[0] == '-' {
		return nil
	}
	return v
}

// envoyAnswer decides who answered. RESPONSE_CODE_DETAILS says it best
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details);
// without them, flags other than "-" are of answers that Envoy made, and so is
// every answer without an upstream host.
func envoyAnswer(e *event.Event, flags, details, host, took []byte) {
	flags, details, host = given(flags), given(details), given(host)
	switch {
	case string(details) == "via_upstream":
		passedOn(e, e.Status)
	case hasPrefix(details, "upstream_"): // it was asked and did not answer
	case len(details) > 0:
		var cause []byte
		cause, e.Rule = envoyCause(details)
		ownAnswer(e, cause)
	case len(flags) > 0:
		if len(host) == 0 || envoyFlagCause(flags) != nil {
			ownAnswer(e, envoyFlagCause(flags))
		}
	case len(host) > 0:
		passedOn(e, e.Status)
	case len(given(took)) == 0:
		ownAnswer(e, nil)
	}
}

// envoyDetail is a response code detail that begins so.
type envoyDetail struct {
	prefix string
	cause  []byte
}

var envoyDetailCauses = []envoyDetail{
	{"rbac_access_denied", []byte("rbac")},
	{"ext_authz_denied", causeSubrequest},
	{"ext_authz_error", causeAuthBackend},
	{"jwt_authn_access_denied", causeAuth},
	{"oauth", causeAuth},
	{"basic_auth", causeAuth},
	{"api_key_auth", causeAuth},
	{"direct_response", causeConfigReturn},
	{"request_rate_limited", causeRateLimit},
	{"rate_limited", causeRateLimit},
	{"local_rate_limited", causeRateLimit},
	{"rate_limiter_error", causeRateLimit},
	{"csrf_origin_mismatch", []byte("csrf")},
	{"cors_origin_mismatch", []byte("cors")},
	{"fault_filter_abort", causeFault},
}

var causeFault = []byte("fault_injection")

// envoyCause is the class of a detail, or the detail itself, and the policy it
// names in brackets, which may hold brackets:
// rbac_access_denied_matched_policy[ns[shop]-policy[office]-rule[0]].
func envoyCause(details []byte) (cause, rule []byte) {
	name := details
	if i := bytes.IndexAny(details, "[{"); i >= 0 {
		name = details[:i]
		if end := len(details) - 1; details[end] == details[i]+2 { // ']' and '}' come two after
			rule = details[i+1 : end]
		}
	}
	if string(rule) == "none" {
		rule = nil // no policy allowed it
	}
	for i := range envoyDetailCauses {
		if hasPrefix(name, envoyDetailCauses[i].prefix) {
			return envoyDetailCauses[i].cause, rule
		}
	}
	return name, rule
}

// envoyFlagCause is the cause that a response flag tells, nil if it tells none.
// Several flags are separated by commas.
func envoyFlagCause(flags []byte) []byte {
	for len(flags) > 0 {
		f := flags
		if i := bytes.IndexByte(flags, ','); i >= 0 {
			f, flags = flags[:i], flags[i+1:]
		} else {
			flags = nil
		}
		switch string(f) {
		case "UAEX", "UnauthorizedExternalService":
			return causeSubrequest
		case "RL", "RLSE", "RateLimited", "RateLimitServiceError":
			return causeRateLimit
		case "FI", "FaultInjected":
			return causeFault
		}
	}
	return nil
}
