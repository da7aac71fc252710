// Package markers understands what deployment tools send when something was
// deployed: GitHub's and GitLab's webhooks and Argo CD's notifications. It makes
// the marker that a delivery stands for, or says why it stands for none, and
// proves who sent it.
//
// Everything here is a function of a request's header and body and of the
// configuration: no clock, no network, no state. Ids are made from what the tool
// calls the deployment, so that a delivery that is sent again, or replayed by
// somebody who recorded it, is the same marker once more.
package markers

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// Ignored is the error of a delivery that is understood and is no marker: a
// deployment that has not ended yet, another environment, another kind of event.
// Its text says which, for whoever set up the webhook.
type Ignored struct{ Reason string }

// Error implements error.
func (e *Ignored) Error() string { return e.Reason }

func ignored(format string, args ...any) error { return &Ignored{fmt.Sprintf(format, args...)} }

// Adapters decodes and verifies deliveries under one Config. Its methods are safe
// for concurrent use.
type Adapters struct {
	cfg Config
	// services are cfg.Services by names in lower case, as the tools compare them.
	services map[string]string
	gitlab   []gitlabKey
}

// New makes adapters of a valid Config (see Config.Validate).
func New(cfg Config) *Adapters {
	a := &Adapters{cfg: cfg, services: make(map[string]string, len(cfg.Services))}
	for name, service := range cfg.Services {
		a.services[strings.ToLower(name)] = service
	}
	for _, g := range cfg.GitLab {
		a.gitlab = append(a.gitlab, newGitLabKey(g))
	}
	return a
}

// deployment is what all tools tell.
type deployment struct {
	tool string
	// what is the repository or application, environment where it went.
	what, environment string
	// production tells that the tool itself calls the environment so.
	production bool
	// service is named by the delivery itself; usually it is not.
	service string
	version string
	// number is the tool's own name for this deployment.
	number string
	// began and ended are zero if not told.
	began, ended time.Time
}

// rollout is how long before its success a deployment is taken to have begun to
// take effect, if its begin is not later: instances are exchanged one by one, but
// the hour that a job spent building before changed nothing.
const rollout = 15 * time.Minute

// marker makes the marker of a successful deployment.
func (a *Adapters) marker(d *deployment) (marker.Marker, error) {
	if !a.live(d) {
		return marker.Marker{}, ignored("the environment %q is not one of markers.deployments.environments", clip(d.environment))
	}
	service := d.service
	if service == "" && len(a.services) > 0 {
		var known bool
		if service, known = a.services[strings.ToLower(d.what)]; !known {
			return marker.Marker{}, ignored("%q is not in markers.deployments.services", clip(d.what))
		}
	}
	at := d.ended
	if !d.began.IsZero() && d.began.Before(d.ended) {
		at = d.began
		if first := d.ended.Add(-rollout); at.Before(first) {
			at = first
		}
	}
	return marker.Marker{
		ID:   d.tool + "-" + slug(d.what) + "-" + slug(d.number),
		Kind: marker.Release, Time: at, Service: service, Version: d.version,
	}, nil
}

// live reports whether a deployment reached the users. Argo CD names no
// environment unless its template does: then the subscription decides.
func (a *Adapters) live(d *deployment) bool {
	env := strings.ToLower(d.environment)
	names := a.cfg.Environments
	if len(names) == 0 {
		if d.production || env == "" && d.tool == argoTool {
			return true
		}
		names = DefaultEnvironments()
	} else if env == "" && d.tool == argoTool {
		return true
	}
	for _, n := range names {
		if ok, err := path.Match(strings.ToLower(n), env); err == nil && ok {
			return true
		}
	}
	return false
}

// maxSlug bounds a part of an id in bytes.
const maxSlug = 80

// slug makes a text fit for an id that stands in a URL's path: letters, digits,
// dots, dashes and underscores. Of long names the end tells more.
func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, s)
	return s[max(0, len(s)-maxSlug):]
}

// shortSHA is how many characters of a commit's hash name it to people.
const shortSHA = 8

// version names what was deployed: the tag, or else the commit. A ref is a tag if
// it says so or looks like a version number; branches name no version.
func version(ref, sha string) string {
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return tag
	}
	if numbered(ref) {
		return ref
	}
	return sha[:min(len(sha), shortSHA)]
}

// numbered reports whether s looks like v2.31.0 or 2026.11.3-rc1.
func numbered(s string) bool {
	major, rest, ok := strings.Cut(strings.TrimPrefix(s, "v"), ".")
	return ok && major != "" && rest != "" && rest[0] >= '0' && rest[0] <= '9' &&
		strings.Trim(major, "0123456789") == "" && !strings.ContainsAny(s, "/ ")
}

// clip bounds what is repeated from a delivery.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
