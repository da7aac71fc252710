package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// familyAkamai reads Akamai's DataStream 2 in JSON
// (https://techdocs.akamai.com/datastream2/docs/data-set-parameters). Numbers are
// strings, text is percent-encoded (RFC 1738), and fields without a value are
// "-" or absent. An errorCode that begins with ERR_ACCESS_DENIED, or a rule that
// denied, is a refusal of the edge; the log does not hold the origin's status.
const familyAkamai = "akamai"

// The fields that only Akamai's log knows.
const (
	akamaiError = fields + iota
	akamaiRules
)

func akamaiFamily() fixedFamily {
	return fixedFamily{
		text: "Akamai DataStream", vantage: event.Edge,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileDialect(c.Mapping, loc, dialect{
				names: map[field][]string{
					fieldTime:      {"reqtimemillis", "reqtimesec", "reqtime"},
					fieldHost:      {"reqhost"},
					fieldMethod:    {"reqmethod"},
					fieldPath:      {"reqpath"},
					fieldStatus:    {"statuscode"},
					fieldClient:    {"cliip"},
					fieldForwarded: {"xforwardedfor"},
					fieldGeo:       {"country"},
					fieldRequestID: {"reqid"},
					fieldUserAgent: {"ua"},
					fieldCause:     {},
					akamaiError:    {"errorcode"},
					akamaiRules:    {"securityrules"},
				},
				finish: akamaiAnswer,
			})
			return func() Parser { return newJSONParser(prog) }
		},
	}
}

// akamaiAnswer decodes what is percent-encoded and says who refused.
func akamaiAnswer(p *jsonParser, e *event.Event) error {
	if e.Path = p.percent(e.Path); len(e.Path) > 0 && e.Path[0] != '/' { // some versions leave it out
		from := len(p.scratch)
		p.scratch = append(append(p.scratch, '/'), e.Path...)
		e.Path = p.scratch[from:len(p.scratch):len(p.scratch)]
	}
	e.UserAgent = p.percent(e.UserAgent)
	e.Client = p.percent(e.Client) // IPv6
	if !hasPrefix(p.own(akamaiError), "ERR_ACCESS_DENIED") {
		return nil
	}
	e.Layer, e.Cause = event.LayerEdge, causeEdgeACL
	if kind := p.own(akamaiError)[len("ERR_ACCESS_DENIED"):]; hasPrefix(kind, "|") && len(kind) > 1 {
		e.Rule = kind[1:]
	}
	if rules := p.own(akamaiRules); len(rules) > 0 {
		e.Cause, e.Rule = causeWAF, rules
		if i := bytes.IndexByte(rules, '|'); i >= 0 {
			e.Rule = rules[:i] // the policy; its rules follow
		}
	}
	return nil
}

var causeEdgeACL = []byte("edge_acl")

// percent resolves %HH in v.
func (p *jsonParser) percent(v []byte) []byte {
	if bytes.IndexByte(v, '%') < 0 {
		return v
	}
	from := len(p.scratch)
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
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

func akamaiCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyAkamai}, why: "have the fields of Akamai's DataStream",
		sign: func(line []byte, _ *event.Event, err error) vote {
			switch {
			case err != nil:
				return voteMaybe
			case bytes.Contains(line, akamaiKey):
				return voteYes
			}
			return voteNo
		},
	}}
}

var akamaiKey = []byte(`"cliIP"`)
