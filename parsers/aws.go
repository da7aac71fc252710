package parsers

import (
	"bytes"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyALB reads the access logs of AWS's Application Load Balancers and, told
// apart line by line, of Classic Load Balancers, whose lines lack the type in
// front and end with the TLS protocol. Fields are those of "Access logs for your
// Application Load Balancer" in AWS's documentation; later fields are ignored, as
// it asks for.
const familyALB = "alb"

// albFamily describes the family to Config.
func albFamily() fixedFamily {
	return fixedFamily{
		text: "AWS load balancer", vantage: event.Edge,
		compile: func(_ Config, loc *time.Location) func() Parser {
			return func() Parser { return &albParser{clock: clock{loc: loc}} }
		},
	}
}

func albCandidates() []candidate {
	return []candidate{{config: Config{Format: familyALB}, why: "have the fields of AWS load balancers"}}
}

type albParser struct {
	clock   clock
	scratch []byte
}

// Parse implements Parser.
func (p *albParser) Parse(line []byte, e *event.Event) error {
	line = bytes.TrimSuffix(line, carriageReturn)
	p.scratch = p.scratch[:0]
	first, rest := word(line)
	switch string(first) {
	case "http", "https", "h2", "grpcs", "ws", "wss":
		first, rest = word(rest)
	case "tls": // of a Network Load Balancer
		return ErrConnection
	}
	if len(first) < isoMin || first[4] != '-' {
		return ErrMismatch
	}
	at, ok := p.clock.iso(first)
	if !ok {
		return ErrTime
	}
	_, rest = word(rest) // the balancer
	client, rest := word(rest)
	if digits(client) { // a port: the connection log of a balancer
		return ErrConnection
	}
	for range 4 { // the target and three durations
		_, rest = word(rest)
	}
	status, rest := word(rest)
	target, rest := word(rest)
	_, rest = word(rest)
	_, rest = word(rest)
	if len(rest) == 0 {
		return ErrShort
	}
	if rest[0] != '"' {
		return ErrMismatch
	}
	if e.Status, ok = statusNumber(status); !ok && len(given(status)) > 0 {
		return ErrStatus
	}
	request, rest := p.field(rest)
	agent, rest := p.field(rest)
	e.Time, e.Client, e.UserAgent = at, withoutPort(client), given(p.text(agent))
	if e.Status == 0 && hasPrefix(request, "- - -") {
		return ErrConnection // of a TCP listener
	}
	if !hasPrefix(request, "- ") { // what the balancer could not read
		e.Method, e.Path = splitRequest(p.text(request))
		e.Host, e.Path = cutURL(e.Path)
	}
	for range 3 { // cipher, protocol, target group
		_, rest = p.field(rest)
	}
	trace, rest := p.field(rest)
	e.RequestID = given(trace)
	domain, rest := p.field(rest)
	if len(e.Host) == 0 {
		e.Host = given(domain)
	}
	_, rest = p.field(rest) // certificate
	priority, rest := p.field(rest)
	_, rest = p.field(rest) // the time of the request's creation
	actions, _ := p.field(rest)
	if n, ok := statusNumber(target); ok && n > 0 {
		passedOn(e, n)
		if n != e.Status && e.Status >= 400 {
			e.Layer = event.LayerEdge
		}
		return nil
	}
	e.Upstream = event.UpstreamNone
	switch last := actions[bytes.LastIndexByte(actions, ',')+1:]; string(last) {
	case "waf":
		// The firewall let nothing after it happen. A challenge is answered with 202
		// and a puzzle with 405; a block with 403 or what the rule says.
		e.Layer, e.Denial, e.Cause = event.LayerEdge, event.Refused, causeWAF
		if e.Status == 202 || e.Status == 405 {
			e.Denial, e.Cause = event.Soft, causeChallenge
		}
	case "fixed-response":
		if e.Status/100 == 4 {
			e.Layer, e.Cause, e.Rule = event.LayerEdge, causeLBRule, given(priority)
		}
	default:
		if e.Status >= 400 {
			e.Layer = event.LayerEdge
		}
	}
	return nil
}

// isoMin is the shortest ISO 8601 time.
const isoMin = len("2006-01-02T15:04:05")

var carriageReturn = []byte{'\r'}

// The causes that edges have words for.
var (
	causeWAF          = []byte("waf")
	causeChallenge    = []byte("challenge")
	causeLBRule       = []byte("lb_rule")
	causeGeo          = []byte("geo")
	causeEdgeBlock    = []byte("edge_block")
	causeEdgeFunction = []byte("edge_function")
	causeCached       = []byte("cached_denial")
	causeBot          = []byte("bot")
	causeReputation   = []byte("reputation")
	causeIAP          = []byte("identity_proxy")
)

// field cuts the first field of b, quoted or not, and the space behind it.
func (p *albParser) field(b []byte) (v, rest []byte) {
	if len(b) == 0 || b[0] != '"' {
		return word(b)
	}
	end := stringEnd(b, 1)
	if end < 0 {
		return b[1:], nil
	}
	v, rest = b[1:end], b[end+1:]
	if len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return v, rest
}

// text is a value with its \xHH resolved.
func (p *albParser) text(v []byte) []byte {
	if bytes.IndexByte(v, '\\') < 0 {
		return v
	}
	from := len(p.scratch)
	p.scratch = Unescape(p.scratch, v)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// withoutPort is an address without the port that always follows it; IPv6 may
// stand in brackets or not.
func withoutPort(a []byte) []byte {
	i := bytes.LastIndexByte(a, ':')
	if i < 0 {
		return given(a)
	}
	if a = a[:i]; len(a) > 1 && a[0] == '[' && a[len(a)-1] == ']' {
		a = a[1 : len(a)-1]
	}
	return a
}

// cutURL cuts an absolute URL into its host, without the port, and the rest.
func cutURL(u []byte) (host, path []byte) {
	i := bytes.Index(u, schemeSlashes)
	if i < 0 || i > 8 {
		return nil, u
	}
	host = u[i+len(schemeSlashes):]
	end := bytes.IndexAny(host, "/?#")
	if end < 0 {
		end = len(host)
	}
	host, path = host[:end], host[end:]
	if len(path) == 0 {
		path = rootPath
	}
	if k := bytes.LastIndexByte(host, ':'); k >= 0 && bytes.IndexByte(host[k:], ']') < 0 {
		host = host[:k]
	}
	return host, path
}

var rootPath = []byte{'/'}

// familyAWSWAF reads the logs of AWS WAF, one JSON object a line, as "Log fields
// for protection pack (web ACL) traffic" in AWS's documentation describes them.
// They hold every request the firewall looked at, unless a filter was set.
const familyAWSWAF = "awswaf"

// The fields that only AWS WAF knows.
const (
	wafAction = fields + iota
	wafRule
	wafRuleType
	wafArgs
	wafHeaders
	wafACL
)

// wafHeader is a header that Mapping names.
type wafHeader struct {
	name  string
	field field
}

// wafHeaderPath is in front of the name of a header in Mapping.
const wafHeaderPath = "httprequest.headers."

// awsWAFFamily describes the family to Config.
func awsWAFFamily() fixedFamily {
	return fixedFamily{
		text: "AWS WAF", vantage: event.Edge,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			names := make(map[field][]string)
			for f := fieldTime; f < fields; f++ {
				names[f] = nil // nothing is taken for what it is not
			}
			names[fieldTime] = []string{"timestamp"}
			names[fieldStatus] = []string{"responsecodesent"}
			names[fieldClient] = []string{"httprequest.clientip"}
			names[fieldGeo] = []string{"httprequest.country"}
			names[fieldMethod] = []string{"httprequest.httpmethod"}
			names[fieldPath] = []string{"httprequest.uri"}
			names[fieldRequestID] = []string{"httprequest.requestid"}
			names[wafAction] = []string{"action"}
			names[wafRule] = []string{"terminatingruleid"}
			names[wafRuleType] = []string{"terminatingruletype"}
			names[wafArgs] = []string{"httprequest.args"}
			names[wafHeaders] = []string{"httprequest.headers"}
			names[wafACL] = []string{"webaclid"}
			var headers []wafHeader
			for key, path := range c.Mapping {
				if len(path) > len(wafHeaderPath) && strings.EqualFold(path[:len(wafHeaderPath)], wafHeaderPath) {
					headers = append(headers, wafHeader{path[len(wafHeaderPath):], mappable(key)})
				}
			}
			prog := compileDialect(c.Mapping, loc, dialect{
				names: names,
				request: func(p *jsonParser) bool {
					return p.has(wafAction) && p.has(wafACL)
				},
				finish: func(p *jsonParser, e *event.Event) error { return finishWAF(p, e, headers) },
			})
			return func() Parser { return newJSONParser(prog) }
		},
	}
}

func awsWAFCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyAWSWAF}, why: "have the fields of AWS WAF",
		sign: func(_ []byte, _ *event.Event, err error) vote {
			if err != nil {
				return voteMaybe
			}
			return voteYes
		},
	}}
}

// finishWAF reads the action. Requests that pass have no status: another server
// answers them.
func finishWAF(p *jsonParser, e *event.Event, headers []wafHeader) error {
	if !p.has(wafAction) || !p.has(wafACL) {
		return ErrMismatch
	}
	if args := p.own(wafArgs); len(args) > 0 && len(e.Path) > 0 {
		from := len(p.scratch)
		p.scratch = append(append(append(p.scratch, e.Path...), '?'), args...)
		e.Path = p.scratch[from:len(p.scratch):len(p.scratch)]
	}
	p.readHeaders(e, headers)
	e.Upstream = event.UpstreamNone
	switch string(p.own(wafAction)) {
	case "BLOCK":
		e.Denial, e.Cause = event.Refused, wafCause(p.own(wafRuleType), p.own(wafRule))
		if e.Status == 0 {
			e.Status = 403 // unless the rule says otherwise
		}
	case "CAPTCHA":
		e.Denial, e.Cause = event.Soft, causeChallenge
		if e.Status == 0 {
			e.Status = 405
		}
	case "CHALLENGE":
		e.Denial, e.Cause = event.Soft, causeChallenge
		if e.Status == 0 {
			e.Status = 202
		}
	default:
		e.Upstream = event.UpstreamUnknown
		return nil
	}
	e.Layer, e.Rule = event.LayerEdge, bounded(p.own(wafRule))
	return nil
}

// wafCause is the class of a block by the kind of the rule that ended it and, for
// AWS's own rule groups, their names.
func wafCause(kind, rule []byte) []byte {
	switch string(kind) {
	case "RATE_BASED":
		return causeRateLimit
	case "MANAGED_RULE_GROUP":
		switch {
		case bytes.Contains(rule, wafBots), bytes.Contains(rule, wafTakeover), bytes.Contains(rule, wafSignUps):
			return causeBot
		case bytes.Contains(rule, wafAddresses), bytes.Contains(rule, wafAnonymous):
			return causeReputation
		}
		return causeWAF
	case "REGULAR":
		return causeACL
	}
	return causeWAF
}

var (
	wafBots      = []byte("BotControl")
	wafTakeover  = []byte("ATPRuleSet")
	wafSignUps   = []byte("ACFPRuleSet")
	wafAddresses = []byte("IpReputation")
	wafAnonymous = []byte("AnonymousIp")
)

// readHeaders reads the host, the user agent and the mapped headers from
// [{"name":"Host","value":"shop.example"}, ...].
func (p *jsonParser) readHeaders(e *event.Event, mapped []wafHeader) {
	b := p.raw(wafHeaders)
	var name []byte
	isName, isValue := false, false
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{':
			name = nil
		case '"':
			end := stringEnd(b, i+1)
			if end < 0 {
				return
			}
			s := b[i+1 : end]
			i = end
			if next := space(b, end+1); next < len(b) && b[next] == ':' {
				isName, isValue = string(s) == "name", string(s) == "value"
				i = next
				continue
			}
			switch {
			case isName:
				name = s
			case isValue && bytes.EqualFold(name, headerHost):
				e.Host = p.text(s)
			case isValue && bytes.EqualFold(name, headerUserAgent):
				e.UserAgent = p.text(s)
			case isValue:
				for k := range mapped {
					if h := &mapped[k]; len(h.name) == len(name) && equalFold(name, h.name) {
						v := p.text(s)
						if h.field == fieldUser {
							e.User, e.UserClaimed = v, true
						} else {
							setText(h.field, v, e)
						}
					}
				}
			}
			isName, isValue = false, false
		}
	}
}

var (
	headerHost      = []byte("host")
	headerUserAgent = []byte("user-agent")
)

// equalFold compares names of headers of one length.
func equalFold(b []byte, s string) bool {
	for i := range b {
		x, y := b[i], s[i]
		if x-'A' < 26 {
			x += 'a' - 'A'
		}
		if y-'A' < 26 {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}
