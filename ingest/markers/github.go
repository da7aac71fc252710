package markers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// VerifyGitHub returns the name of the configured webhook that a delivery comes
// from. GitHub signs the body with HMAC-SHA256 under the webhook's secret and sends
// "sha256=<hex>" as X-Hub-Signature-256 (docs.github.com, "Validating webhook
// deliveries").
func (a *Adapters) VerifyGitHub(h http.Header, body []byte) (name string, ok bool) {
	text, prefixed := strings.CutPrefix(h.Get("X-Hub-Signature-256"), "sha256=")
	given, err := hex.DecodeString(text)
	if !prefixed || err != nil {
		return "", false
	}
	// Every secret is tried, so the time says nothing.
	for _, g := range a.cfg.GitHub {
		mac := hmac.New(sha256.New, []byte(g.Secret.Reveal()))
		_, _ = mac.Write(body) // a hash takes everything
		if hmac.Equal(mac.Sum(nil), given) {
			name, ok = g.Name, true
		}
	}
	return name, ok
}

// TakesGitHub reports whether a webhook of GitHub is configured.
func (a *Adapters) TakesGitHub() bool { return len(a.cfg.GitHub) > 0 }

// githubEvent is what is read of a deployment_status event (docs.github.com,
// "Webhook events and payloads"; the examples of github.com/octokit/webhooks).
type githubEvent struct {
	Status struct {
		State       string    `json:"state"`
		Environment string    `json:"environment"`
		CreatedAt   time.Time `json:"created_at"`
	} `json:"deployment_status"`
	Deployment struct {
		ID          int64     `json:"id"`
		SHA         string    `json:"sha"`
		Ref         string    `json:"ref"`
		Environment string    `json:"environment"`
		Production  bool      `json:"production_environment"`
		CreatedAt   time.Time `json:"created_at"`
	} `json:"deployment"`
	Repository struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// GitHub makes the marker of a delivery: of a deployment's status "success" in an
// environment that users see. Releases that are published and workflows that ran
// are none: they say that something was made, not that users have it. The error is
// an *Ignored, or says that the body is not what GitHub sends.
//
// The marker is not normalised yet. A deployment's status may be success several
// times; all have one id, so the first counts.
func (a *Adapters) GitHub(h http.Header, body []byte) (marker.Marker, error) {
	switch event := h.Get("X-GitHub-Event"); event {
	case "deployment_status":
	case "ping":
		return marker.Marker{}, ignored("pong: the webhook is set up")
	case "":
		return marker.Marker{}, errors.New("the header X-GitHub-Event is missing; this path is for GitHub's webhooks")
	default:
		return marker.Marker{}, ignored("%s events are not used; choose only Deployment statuses in the webhook's settings", clip(event))
	}
	// The form is what GitHub's settings offer first.
	if media, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && media == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil || !form.Has("payload") {
			return marker.Marker{}, errors.New("the form has no payload; choose the content type application/json in the webhook's settings")
		}
		body = []byte(form.Get("payload"))
	}
	var e githubEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return marker.Marker{}, fmt.Errorf("the body is not GitHub's deployment_status event: %w", err)
	}
	d := &e.Deployment
	switch {
	case d.ID <= 0 || e.Repository.FullName == "" || e.Status.State == "":
		return marker.Marker{}, errors.New("the body names no deployment with its status and repository")
	case e.Status.State != "success":
		return marker.Marker{}, ignored("the deployment's status is %s; it is a marker when it is success", clip(e.Status.State))
	}
	env := d.Environment
	if env == "" {
		env = e.Status.Environment
	}
	return a.marker(&deployment{
		tool: "github", what: e.Repository.FullName, environment: env, production: d.Production,
		version: version(strings.TrimPrefix(d.Ref, "refs/heads/"), d.SHA), number: strconv.FormatInt(d.ID, 10),
		began: d.CreatedAt, ended: e.Status.CreatedAt,
	})
}
