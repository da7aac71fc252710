package parsers

import (
	"strings"

	"github.com/denywatch/denywatch/internal/event"
)

// What the reverse proxies of this package (Traefik, Envoy, Caddy, HAProxy) have
// in common: each line says in the proxy's own way whether the answer came from
// behind it, which decides the layer of a refusal.

// passedOn notes that the answer came from the server behind, with that status.
func passedOn(e *event.Event, status uint16) {
	e.Upstream, e.UpstreamStatus = event.UpstreamAnswered, status
	if status != e.Status || status/100 != 4 {
		return
	}
	e.Layer = event.LayerApp
	if len(e.Cause) == 0 && (status == 403 || status == 451) {
		e.Cause = causeAppPolicy
	}
}

// ownAnswer notes that the proxy answered itself, asking nobody, and why.
func ownAnswer(e *event.Event, cause []byte) {
	e.UpstreamStatus = 0
	e.Upstream = event.UpstreamNone
	refusedHere(e, cause)
}

// refusedHere notes that the proxy refused, whoever it had asked before.
func refusedHere(e *event.Event, cause []byte) {
	if e.Status/100 != 4 {
		return
	}
	e.Layer = event.LayerWeb
	if len(cause) > 0 {
		e.Cause = cause
	}
}

// The causes that several formats have words for.
var (
	causeACL          = []byte("acl")
	causeAppPolicy    = []byte("app_policy")
	causeAuth         = []byte("authn")
	causeAuthBackend  = []byte("auth_backend")
	causeConfigReturn = []byte("config_return")
	causeRateLimit    = []byte("rate_limit")
	causeSubrequest   = []byte("auth_subrequest")
)

// before puts names in front of the recognised ones of a field.
func before(f field, names ...string) []string {
	return append(names, recognised[f]...)
}

// headerNames puts in front of the recognised names those of the headers that
// say who the user is, in the answer of the application: with a prefix that the
// proxy gives them, and with and without "X-".
func headerNames(own map[field][]string, prefix string) map[field][]string {
	for name, f := range identityNames() {
		if f == fieldRequestID || f == fieldRoute || f == fieldCause {
			continue
		}
		known, ok := own[f]
		if !ok {
			known = before(f, "")
		}
		known[0] = strings.TrimSpace(known[0] + " " + prefix + name + " " + prefix + "x" + name)
		own[f] = known
	}
	return own
}
