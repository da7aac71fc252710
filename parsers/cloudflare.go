package parsers

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyCloudflare reads the data sets http_requests and firewall_events of
// Cloudflare's Logpush and Logpull, one JSON object a line, told apart line by
// line. Field names, values and the meaning of statuses are those of Cloudflare's
// documentation of the two data sets, of its "Security fields" and of its
// "Pathing status" pages.
const familyCloudflare = "cloudflare"

// The fields that only this family knows.
const (
	cfStatus        = fields + iota // EdgeResponseStatus; 0 when the connection was closed
	cfOrigin                        // OriginResponseStatus; 0 when the origin was not asked
	cfAction                        // SecurityAction
	cfActions                       // SecurityActions
	cfSources                       // SecuritySources, by the index of cfActions
	cfRules                         // SecurityRuleIDs, likewise
	cfRule                          // SecurityRuleID
	cfEventAction                   // Action of firewall_events
	cfEventSource                   // Source of firewall_events
	cfMatch                         // MatchIndex of firewall_events
	cfQuery                         // ClientRequestQuery of firewall_events
	cfRequestSource                 // ClientRequestSource
	cfParent                        // ParentRayID
	cfSubrequest                    // WorkerSubrequest
	cfSample                        // SampleInterval
	cfCache                         // CacheCacheStatus
	cfCacheAnswer                   // CacheResponseStatus
	cfPathing                       // EdgePathingSrc
	cfPathingOp                     // EdgePathingOp
	cfPathingStatus                 // EdgePathingStatus
	cfWorker                        // WorkerStatus
	cfWorkerCount                   // WorkerSubrequestCount
	cfClientCert                    // ClientMTLSAuthStatus
	cfClientClass                   // ClientIPClass
	cfContent                       // content, of the test upload
	cfFields
)

// The sets of fields have room for all of them.
var _ [maxFields - cfFields]struct{}

// cloudflareNames are the names of the fields, best first. The WAF... and
// Firewall... names are those of before August 2023.
var cloudflareNames = map[field][]string{
	fieldTime:       {"EdgeStartTimestamp Datetime", "EdgeEndTimestamp"},
	fieldHost:       {"ClientRequestHost", "EdgeRequestHost"},
	fieldMethod:     {"ClientRequestMethod"},
	fieldPath:       {"ClientRequestURI", "ClientRequestPath"},
	fieldClient:     {"ClientIP"},
	fieldGeo:        {"ClientCountry"},
	fieldRequestID:  {"RayID"},
	fieldUserAgent:  {"ClientRequestUserAgent"},
	cfStatus:        {"EdgeResponseStatus"},
	cfOrigin:        {"OriginResponseStatus"},
	cfAction:        {"SecurityAction", "WAFAction"},
	cfActions:       {"SecurityActions", "FirewallMatchesActions"},
	cfSources:       {"SecuritySources", "FirewallMatchesSources"},
	cfRules:         {"SecurityRuleIDs", "FirewallMatchesRuleIDs"},
	cfRule:          {"SecurityRuleID RuleID", "WAFRuleID"},
	cfEventAction:   {"Action"},
	cfEventSource:   {"Source"},
	cfMatch:         {"MatchIndex"},
	cfQuery:         {"ClientRequestQuery"},
	cfRequestSource: {"ClientRequestSource"},
	cfParent:        {"ParentRayID"},
	cfSubrequest:    {"WorkerSubrequest"},
	cfSample:        {"SampleInterval"},
	cfCache:         {"CacheCacheStatus"},
	cfCacheAnswer:   {"CacheResponseStatus"},
	cfPathing:       {"EdgePathingSrc"},
	cfPathingOp:     {"EdgePathingOp"},
	cfPathingStatus: {"EdgePathingStatus"},
	cfWorker:        {"WorkerStatus"},
	cfWorkerCount:   {"WorkerSubrequestCount"},
	cfClientCert:    {"ClientMTLSAuthStatus"},
	cfClientClass:   {"ClientIPClass"},
	cfContent:       {"content"},
}

// cloudflareRefusal are the fields that matter only for requests that may have
// been refused.
const cloudflareRefusal = 1<<cfSources | 1<<cfRules | 1<<cfRule | 1<<cfCache | 1<<cfCacheAnswer |
	1<<cfPathing | 1<<cfPathingOp | 1<<cfPathingStatus | 1<<cfWorker | 1<<cfWorkerCount |
	1<<cfClientCert | 1<<cfClientClass

// cloudflareHeaders are the objects that hold the headers and cookies a Logpush
// job was told to add ("custom fields"), the most trustworthy first: the
// application sets what it answers, a client may send what it likes.
var cloudflareHeaders = []string{"ResponseHeaders", "RequestHeaders", "Cookies"}

// cloudflareFamily describes the family to Config.
func cloudflareFamily() fixedFamily {
	return fixedFamily{
		text:    "Cloudflare",
		vantage: event.Edge,
		mapping: func(_, value string) error {
			if head, rest, ok := strings.Cut(value, "."); ok && (rest == "" || head == "") {
				return fmt.Errorf("%q is no field; use a name such as ZoneName, or RequestHeaders.x-user-role for a header", clip(value))
			}
			return nil
		},
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileCloudflare(c, loc)
			return func() Parser { return newCloudflareParser(prog) }
		},
	}
}

func compileCloudflare(c Config, loc *time.Location) *jsonProgram {
	b := jsonBuilder{nodes: map[string]*node{}}
	root := b.node("")
	var mapped [cfFields]bool
	mapped[fieldUserAgent] = c.SkipUserAgent
	for key, path := range c.Mapping {
		f := mappable(key)
		h := hit{field: f}
		switch f {
		case fieldStatus:
			f, h.field = cfStatus, cfStatus
		case fieldUpstream:
			f, h.field = cfOrigin, cfOrigin
		}
		mapped[f] = true
		b.add(path, h, true)
	}
	for f, ranks := range cloudflareNames {
		if mapped[f] {
			continue
		}
		for rank, names := range ranks {
			for name := range strings.FieldsSeq(names) {
				b.add(name, hit{field: f, rank: uint8(rank)}, false)
			}
		}
	}
	for rank, object := range cloudflareHeaders {
		b.node(object)
		for name, f := range identityNames() {
			switch f {
			case fieldUser, fieldAccount, fieldRole, fieldPlan, fieldFlags:
			case fieldRoute:
				if rank > 0 { // only the application knows its route
					continue
				}
			default: // the edge knows the country and the id itself
				continue
			}
			if mapped[f] {
				continue
			}
			for _, prefix := range []string{"", "x"} {
				b.add(object+"."+prefix+name, hit{field: f, rank: uint8(rank), claimed: f == fieldUser && rank > 0}, false)
			}
		}
	}
	return &jsonProgram{root: root, loc: loc}
}

// cloudflareParser reads the lines of one stream.
type cloudflareParser struct{ jsonParser }

func newCloudflareParser(p *jsonProgram) *cloudflareParser {
	return &cloudflareParser{*newJSONParser(p)}
}

// Parse implements Parser. Requests that a worker made itself are ErrSubrequest.
// A line of firewall_events is an event with CauseOnly.
//
// What explains refusals is looked for on lines like the one before: if that told of
// none, a line that does is read twice.
func (p *cloudflareParser) Parse(line []byte, e *event.Event) error {
	p.scratch = p.scratch[:0]
	p.escaped = bytes.IndexByte(line, '\\') >= 0
	if err := p.walk(line); err != nil {
		return err
	}
	plain := p.plain()
	if p.leave != 0 && !plain {
		p.leave, p.scratch = 0, p.scratch[:0]
		if err := p.walk(line); err != nil {
			return err
		}
	}
	switch {
	case p.has(cfEventAction) && (p.has(cfEventSource) || p.has(cfMatch)):
		return p.firewall(e)
	case p.has(cfStatus) && (p.has(fieldTime) || p.has(fieldRequestID) || p.has(fieldPath)):
		if plain {
			p.leave = cloudflareRefusal
		}
		return p.request(e)
	case p.has(cfContent) && p.seen == 1<<cfContent:
		return ErrSetup
	}
	return ErrMismatch
}

// plain tells whether nothing of what explains refusals matters for the request
// of this line: no security feature acted, and the status is the origin's own or
// no error.
func (p *cloudflareParser) plain() bool {
	status, origin := p.status(cfStatus), p.status(cfOrigin)
	switch {
	case status < 100:
		return false
	case status == origin:
	case status >= 400 || origin >= 400:
		return false
	}
	if p.has(cfAction) && cloudflareAction(p.vals[cfAction].raw) != event.NotDenied {
		return false
	}
	if p.has(cfActions) {
		action, _ := lastRefusal(p.vals[cfActions].raw)
		return action == event.NotDenied
	}
	return true
}

// request fills e from a line of http_requests.
func (p *cloudflareParser) request(e *event.Event) error {
	if p.subrequest() {
		return ErrSubrequest
	}
	e.Status = p.status(cfStatus)
	if err := p.take(e); err != nil {
		return err
	}
	if s := p.raw(cfSample); s != nil {
		e.Weight = smallNumber(s)
	}
	p.judge(e)
	return nil
}

// subrequest tells whether a worker or Cloudflare itself made the request.
// orangeToOrange is a visitor who comes through a customer's own zone.
func (p *cloudflareParser) subrequest() bool {
	if parent := p.raw(cfParent); len(parent) > 0 && string(parent) != "00" {
		return true
	}
	switch string(p.raw(cfRequestSource)) {
	case "", "eyeball", "unknown", "orangeToOrange":
	default:
		return true
	}
	return string(p.raw(cfSubrequest)) == "true"
}

// judge tells whether the line's request was refused, by whom and why.
//
// An action of a security feature decides first, whatever the status: challenges
// and rate limits answer 403, 429 or what the customer configured. Without one,
// OriginResponseStatus 0 has several meanings: the edge's own configuration, a
// refusal of the origin that the cache repeats, or a worker.
func (p *cloudflareParser) judge(e *event.Event) {
	origin := p.status(cfOrigin)
	switch {
	case origin != 0:
		e.Upstream, e.UpstreamStatus = event.UpstreamAnswered, origin
	case p.has(cfOrigin):
		e.Upstream = event.UpstreamNone
	}
	if action, at := p.action(); action != event.NotDenied && (e.Status == 0 || e.Status >= 400 || origin == 0) {
		e.Denial, e.Layer = action, event.LayerEdge
		if !p.has(fieldCause) {
			e.Cause = p.cause(action, nth(p.raw(cfSources), at))
		}
		if e.Rule = nth(p.raw(cfRules), at); len(e.Rule) == 0 {
			e.Rule = p.raw(cfRule)
		}
		e.Rule = bounded(p.text(e.Rule))
		return
	}
	if e.Status < 400 {
		if forbidden(origin) {
			e.Denial, e.Layer = event.Masked, event.LayerEdge
			p.because(e, "masked")
		}
		return
	}
	if origin != 0 {
		switch {
		case e.Status == origin: // the origin: its web server or the application
		case forbidden(origin) && !forbidden(e.Status):
			e.Denial, e.Layer = event.Masked, event.LayerEdge
			p.because(e, "masked")
		default:
			e.Layer = event.LayerEdge
			if p.worker() {
				p.because(e, "worker")
			}
		}
		return
	}
	switch {
	case string(p.raw(cfPathing)) == "err":
		e.Layer = event.LayerEdge
		p.because(e, "edge_config")
	case string(p.raw(cfPathingOp)) == "ban":
		e.Denial, e.Layer = event.Refused, event.LayerEdge
		p.because(e, p.banned())
	case p.cached(e.Status):
		// Layer and Upstream stay unknown: the origin refused once, and the cache
		// repeats it.
		e.Upstream = event.UpstreamUnknown
		p.because(e, "cached_denial")
	case p.worker():
		e.Layer = event.LayerEdge
		p.because(e, "worker")
	case p.has(cfOrigin) && p.has(cfCache):
		e.Layer = event.LayerEdge
	default:
		// Without the field it may have come from the cache, or from the origin.
		e.Upstream = event.UpstreamUnknown
	}
}

// because sets the cause unless Mapping says where it is.
func (p *cloudflareParser) because(e *event.Event, cause string) {
	if !p.has(fieldCause) {
		e.Cause = p.word(cause)
	}
}

// forbidden tells whether a status refuses by itself.
func forbidden(status uint16) bool { return status == 403 || status == 451 }

// action is the refusal among the line's security actions, and its place in the
// lists that go together by index, -1 if only SecurityAction tells.
func (p *cloudflareParser) action() (event.Denial, int) {
	if d, at := lastRefusal(p.raw(cfActions)); d != event.NotDenied {
		return d, at
	}
	at := -1
	if !p.has(cfActions) && nth(p.raw(cfSources), 1) == nil && nth(p.raw(cfRules), 1) == nil {
		at = 0 // lists of one, without the list of actions
	}
	return cloudflareAction(p.raw(cfAction)), at
}

// cached tells whether the answer came from the cache.
func (p *cloudflareParser) cached(status uint16) bool {
	switch string(p.raw(cfCache)) {
	case "hit", "stale", "updating", "revalidated", "stream_hit":
		return true
	}
	return status != 0 && p.status(cfCacheAnswer) == status
}

// worker tells whether a worker ran for the request.
func (p *cloudflareParser) worker() bool {
	switch string(p.raw(cfWorker)) {
	case "", "unknown":
		n := p.raw(cfWorkerCount)
		return len(n) > 0 && string(n) != "0"
	}
	return true
}

// banned is the cause of a ban as logs of before the security fields tell it.
func (p *cloudflareParser) banned() string {
	switch string(p.raw(cfPathing)) {
	case "bic":
		return "bot"
	case "hot":
		return "hotlink"
	case "user":
		if string(p.raw(cfPathingStatus)) == "ctry" {
			return "geo"
		}
		return "acl"
	}
	return "edge_block"
}

// firewall fills e from a line of firewall_events. Such a line stands beside the
// request's own line in http_requests, and there may be several for one request:
// it explains and is never counted.
func (p *cloudflareParser) firewall(e *event.Event) error {
	e.Status = p.status(cfStatus)
	if err := p.take(e); err != nil {
		return err
	}
	e.CauseOnly = true
	if q := p.raw(cfQuery); len(q) > 0 && len(e.Path) > 0 {
		from := len(p.scratch)
		p.scratch = append(append(p.scratch, e.Path...), p.text(q)...)
		e.Path = p.scratch[from:len(p.scratch):len(p.scratch)]
	}
	switch origin := p.status(cfOrigin); {
	case origin != 0:
		e.Upstream, e.UpstreamStatus = event.UpstreamAnswered, origin
	case p.has(cfOrigin):
		e.Upstream = event.UpstreamNone
	}
	action := cloudflareAction(p.raw(cfEventAction))
	if m := p.raw(cfMatch); action == event.NotDenied || len(m) > 0 && string(m) != "0" {
		return nil // it did not end the request
	}
	e.Denial, e.Layer = action, event.LayerEdge
	if !p.has(fieldCause) {
		e.Cause = p.cause(action, p.raw(cfEventSource))
	}
	e.Rule = bounded(p.text(p.raw(cfRule)))
	return nil
}

// cause names the class of a refusal by the security feature that decided.
//
// Custom rules are acl, except where the line gives away what the rule asked for:
// the client's certificate, or whether it comes through Tor.
func (p *cloudflareParser) cause(action event.Denial, source []byte) []byte {
	if action == event.Soft {
		return p.word("challenge")
	}
	var buf [maxWord]byte
	switch string(foldWord(&buf, source)) {
	case "waf", "firewallmanaged":
		return p.word("waf")
	case "ratelimit":
		return p.word("rate_limit")
	case "country":
		return p.word("geo")
	case "bic", "botfight", "botmanagement":
		return p.word("bot")
	case "hot":
		return p.word("hotlink")
	case "l7ddos":
		return p.word("l7ddos")
	case "securitylevel":
		return p.word("reputation")
	case "validation":
		return p.word("invalid_request")
	case "apishield", "apishieldschemavalidation":
		return p.word("api_schema")
	case "apishieldtokenvalidation":
		return p.word("api_token")
	case "apishieldsequencemitigation":
		return p.word("api_sequence")
	case "dlp":
		return p.word("dlp")
	case "firewallcustom", "firewallrules":
		switch string(p.raw(cfClientCert)) {
		case "absent", "untrusted", "notyetvalid", "expired":
			return p.word("client_cert")
		}
		if string(p.raw(cfClientClass)) == "tor" {
			return p.word("geo")
		}
		return p.word("acl")
	case "ip", "iprange", "asn", "zonelockdown", "uablock":
		return p.word("acl")
	}
	return p.word("edge_block")
}

// cloudflareAction tells whether an action refuses. The data sets and the rules
// API spell actions differently (managedChallenge, managedchallenge,
// managed_challenge). What is not listed lets the request pass: allow, log, skip,
// bypass, rewrite, unknown, and challenges that were solved or bypassed.
func cloudflareAction(a []byte) event.Denial {
	var buf [maxWord]byte
	switch string(foldWord(&buf, a)) {
	case "block", "connectionclose", "forceconnectionclose", "drop":
		return event.Refused
	case "challenge", "challengefailed", "jschallenge", "jschallengefailed", "managedchallenge", "simulatechallenge":
		return event.Soft
	}
	return event.NotDenied
}

// maxWord is longer than any action or source.
const maxWord = 40

// foldWord is w in lower case without '_' and '-', empty if it is too long to be
// a known word.
func foldWord(buf *[maxWord]byte, w []byte) []byte {
	if len(w) > maxWord {
		return nil
	}
	return appendFolded(buf[:0], w)
}

// lastRefusal finds the last action of a JSON array that refuses, and its index.
// A skip or log may stand beside a block.
func lastRefusal(array []byte) (event.Denial, int) {
	found, at := event.NotDenied, -1
	for i, n := 1, 0; i < len(array); i++ {
		if array[i] != '"' {
			continue
		}
		end := stringEnd(array, i+1)
		if end < 0 {
			break
		}
		if d := cloudflareAction(array[i+1 : end]); d != event.NotDenied {
			found, at = d, n
		}
		i, n = end, n+1
	}
	return found, at
}

// nth is the string at an index of a JSON array, nil if there is none.
func nth(array []byte, index int) []byte {
	if index < 0 {
		return nil
	}
	for i := 1; i < len(array); i++ {
		if array[i] != '"' {
			continue
		}
		end := stringEnd(array, i+1)
		if end < 0 {
			return nil
		}
		if index == 0 {
			return array[i+1 : end]
		}
		i, index = end, index-1
	}
	return nil
}

// cloudflareCandidates are the formats that Detect tries.
func cloudflareCandidates() []candidate {
	return []candidate{{config: Config{Format: familyCloudflare}, why: "have the fields of Cloudflare's http_requests or firewall_events"}}
}
