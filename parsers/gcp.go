package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyGCP reads the log entries of Google Cloud's external application load
// balancers as Cloud Logging exports them, one JSON object a line
// (https://cloud.google.com/load-balancing/docs/https/https-logging-monitoring,
// https://cloud.google.com/armor/docs/request-logging).
const familyGCP = "gcp"

// The fields that only this family knows.
const (
	gcpDetails = fields + iota // statusDetails
	gcpPolicy                  // of Cloud Armor
	gcpPriority
	gcpAction
	gcpType
	gcpResource
)

// gcpFamily describes the family to Config.
func gcpFamily() fixedFamily {
	return fixedFamily{
		text: "Google Cloud load balancer", vantage: event.Edge,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			names := make(map[field][]string)
			for f := fieldTime; f < fields; f++ {
				names[f] = nil
			}
			names[fieldTime] = []string{"timestamp"}
			names[fieldStatus] = []string{"httprequest.status"}
			names[fieldMethod] = []string{"httprequest.requestmethod"}
			names[fieldPath] = []string{"httprequest.requesturl"}
			names[fieldClient] = []string{"httprequest.remoteip"}
			names[fieldUserAgent] = []string{"httprequest.useragent"}
			names[fieldRequestID] = []string{"trace", "insertid"}
			names[gcpDetails] = []string{"jsonpayload.statusdetails"}
			names[gcpPolicy] = []string{"jsonpayload.enforcedsecuritypolicy.name"}
			names[gcpPriority] = []string{"jsonpayload.enforcedsecuritypolicy.priority"}
			names[gcpAction] = []string{"jsonpayload.enforcedsecuritypolicy.configuredaction"}
			names[gcpType] = []string{"jsonpayload.@type"}
			names[gcpResource] = []string{"resource.type"}
			prog := compileDialect(c.Mapping, loc, dialect{
				names:   names,
				request: func(p *jsonParser) bool { return p.has(fieldMethod) && p.has(gcpDetails) },
				finish:  finishGCP,
			})
			return func() Parser { return newJSONParser(prog) }
		},
	}
}

func gcpCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyGCP}, why: "have the fields of Google Cloud's load balancers",
		sign: func(_ []byte, _ *event.Event, err error) vote {
			if err != nil {
				return voteMaybe
			}
			return voteYes
		},
	}}
}

// finishGCP reads who answered from statusDetails.
func finishGCP(p *jsonParser, e *event.Event) error {
	details := p.own(gcpDetails)
	if len(details) == 0 && !bytes.HasSuffix(p.raw(gcpType), gcpEntry) && !bytes.HasPrefix(p.raw(gcpResource), gcpResourceType) {
		return ErrOtherLogger // of another service
	}
	if host, path := cutURL(e.Path); len(host) > 0 {
		e.Host, e.Path = host, path
	}
	// projects/PROJECT/traces/ID; applications log the id, or the whole name.
	e.RequestID = e.RequestID[bytes.LastIndexByte(e.RequestID, '/')+1:]
	switch string(details) {
	case "response_sent_by_backend":
		passedOn(e, e.Status)
	case "denied_by_security_policy", "body_denied_by_security_policy":
		e.Upstream, e.Layer, e.Denial, e.Cause = event.UpstreamNone, event.LayerEdge, event.Refused, causeWAF
		switch string(p.own(gcpAction)) {
		case "THROTTLE", "RATE_BASED_BAN":
			e.Cause = causeRateLimit
		}
		e.Rule = gcpRule(p)
	case "redirected_by_security_policy":
		e.Upstream, e.Layer, e.Denial, e.Cause = event.UpstreamNone, event.LayerEdge, event.Soft, causeChallenge
		e.Rule = gcpRule(p)
	case "handled_by_identity_aware_proxy":
		e.Upstream = event.UpstreamNone
		if e.Status/100 == 4 {
			e.Layer, e.Cause = event.LayerEdge, causeIAP
		}
	case "response_from_cache", "response_from_cache_validated", "partial_response_from_cache":
		// What the backend refused once is repeated; by which layer is not known.
		if forbidden(e.Status) {
			e.Cause = causeCached
		}
	}
	return nil
}

var (
	gcpEntry        = []byte("LoadBalancerLogEntry")
	gcpResourceType = []byte("http_load_balancer")
)

// gcpRule is the policy and the rule's priority in it: "prod-policy/1000".
func gcpRule(p *jsonParser) []byte {
	name, priority := p.own(gcpPolicy), p.own(gcpPriority)
	if len(name) == 0 || len(name)+len(priority) >= maxCause {
		return nil
	}
	from := len(p.scratch)
	p.scratch = append(p.scratch, name...)
	if len(priority) > 0 {
		p.scratch = append(append(p.scratch, '/'), priority...)
	}
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}
