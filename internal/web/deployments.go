package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/denywatch/denywatch/ingest/markers"
	"github.com/denywatch/denywatch/internal/marker"
)

// maxDelivery bounds the body of a deployment tool's delivery: GitHub sends the
// whole repository and workflow along.
const maxDelivery = 1 << 20

// postGitHub takes a delivery of GitHub's webhook.
func (s *Server) postGitHub(w http.ResponseWriter, r *http.Request) error {
	a := s.creds.Load().deployments
	if !a.TakesGitHub() {
		return notConfigured("GitHub", "markers.deployments.github")
	}
	body, err := readAll(w, r, maxDelivery)
	if err != nil {
		return err
	}
	name, ok := a.VerifyGitHub(r.Header, body)
	if !ok {
		return s.unknownCaller(r, "the signature X-Hub-Signature-256 is not that of a configured secret",
			"give the webhook in GitHub the secret of one of markers.deployments.github")
	}
	m, err := a.GitHub(r.Header, body)
	return s.deployed(w, r, m, err, name)
}

// postGitLab takes a delivery of GitLab's webhook.
func (s *Server) postGitLab(w http.ResponseWriter, r *http.Request) error {
	a := s.creds.Load().deployments
	if !a.TakesGitLab() {
		return notConfigured("GitLab", "markers.deployments.gitlab")
	}
	body, err := readAll(w, r, maxDelivery)
	if err != nil {
		return err
	}
	name, ok := a.VerifyGitLab(r.Header, body, time.Now())
	if !ok {
		return s.unknownCaller(r, "neither X-Gitlab-Token nor webhook-signature is that of a configured webhook",
			"give the webhook in GitLab the token of one of markers.deployments.gitlab, and check the clocks of both hosts")
	}
	m, err := a.GitLab(r.Header, body)
	return s.deployed(w, r, m, err, name)
}

// postArgoCD takes a notification of Argo CD, which sends a token as any caller
// does.
func (s *Server) postArgoCD(w http.ResponseWriter, r *http.Request) error {
	who, body, err := s.authenticate(w, r)
	if err != nil {
		return err
	}
	m, err := s.creds.Load().deployments.ArgoCD(body)
	return s.deployed(w, r, m, err, who.name)
}

func notConfigured(tool, option string) error {
	return refuse(http.StatusForbidden, "webhooks of "+tool+" are not taken: none is configured", "add "+option+" to the configuration")
}

// deployed answers a delivery that became m or, with err, no marker. What is no
// marker is answered with success too, since the tool did nothing wrong; it shows
// the answer to whoever looks at the webhook.
func (s *Server) deployed(w http.ResponseWriter, r *http.Request, m marker.Marker, err error, name string) error {
	if no, ok := errors.AsType[*markers.Ignored](err); ok {
		s.log.Debug("delivery is no marker", "path", r.Pattern, "reason", clean(no.Reason), "caller", name)
		return reply(w, http.StatusOK, struct {
			Ignored string `json:"ignored"`
		}{clean(no.Reason)})
	}
	if err != nil {
		return refuse(http.StatusBadRequest, clean(err.Error()), "the documentation says how to set up the webhook")
	}
	who := caller{name: name, at: time.Now()}
	err = s.take(w, r, m, who)
	if errors.Is(err, ErrConflict) {
		// The deployment is known: its first success counts, and how it is mapped to a
		// service may have changed since.
		return s.taken(w, m, Marked{Known: true}, who)
	}
	return err
}
