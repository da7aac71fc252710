package markers

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// tolerance is how far the time of a signed delivery may lie from now.
const tolerance = 5 * time.Minute

// gitlabKey is a webhook made ready to compare with: the token's hash, since
// comparing hashes takes the same time whatever the lengths, or the signing key.
type gitlabKey struct {
	name    string
	token   [sha256.Size]byte
	signing []byte
}

func newGitLabKey(g GitLab) gitlabKey {
	k := gitlabKey{name: g.Name}
	if g.SigningToken != "" {
		k.signing, _ = decodeSigning(g.SigningToken) // Validate has seen it
	} else {
		k.token = sha256.Sum256([]byte(g.Token.Reveal()))
	}
	return k
}

// VerifyGitLab returns the name of the configured webhook that a delivery comes
// from. GitLab sends a webhook's secret token as X-Gitlab-Token. With a signing
// token it signs as the Standard Webhooks specification says: "webhook-signature"
// lists "v1,<base64>" of the HMAC-SHA256 of "<webhook-id>.<webhook-timestamp>.<body>"
// (docs.gitlab.com, "Webhooks"; gitlab-org/gitlab!230944). The time may lie 5
// minutes away from now.
func (a *Adapters) VerifyGitLab(h http.Header, body []byte, now time.Time) (name string, ok bool) {
	token := sha256.Sum256([]byte(h.Get("X-Gitlab-Token")))
	id, stamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	fresh := err == nil && now.Sub(time.Unix(unix, 0)).Abs() <= tolerance
	signatures := strings.Fields(h.Get("Webhook-Signature"))
	// Every webhook is tried, so the time says nothing.
	for i := range a.gitlab {
		k := &a.gitlab[i]
		switch {
		case k.signing == nil:
			if h.Get("X-Gitlab-Token") != "" && subtle.ConstantTimeCompare(token[:], k.token[:]) == 1 {
				name, ok = k.name, true
			}
		case fresh && len(signatures) <= maxSignatures:
			mac := hmac.New(sha256.New, k.signing)
			_, _ = mac.Write([]byte(id + "." + stamp + ".")) // a hash takes everything
			_, _ = mac.Write(body)
			want := mac.Sum(nil)
			for _, s := range signatures {
				text, v1 := strings.CutPrefix(s, "v1,")
				given, err := base64.StdEncoding.DecodeString(text)
				if v1 && err == nil && hmac.Equal(want, given) {
					name, ok = k.name, true
				}
			}
		}
	}
	return name, ok
}

// maxSignatures bounds the signatures of a delivery: there are two while a token is
// exchanged.
const maxSignatures = 10

// TakesGitLab reports whether a webhook of GitLab is configured.
func (a *Adapters) TakesGitLab() bool { return len(a.gitlab) > 0 }

// gitlabEvent is what is read of a deployment event (docs.gitlab.com, "Webhook
// events", "Deployment events").
type gitlabEvent struct {
	Kind        string `json:"object_kind"`
	Status      string `json:"status"`
	ChangedAt   string `json:"status_changed_at"`
	ID          int64  `json:"deployment_id"`
	Environment string `json:"environment"`
	Tier        string `json:"environment_tier"`
	ShortSHA    string `json:"short_sha"`
	Ref         string `json:"ref"`
	Project     struct {
		Path string `json:"path_with_namespace"`
	} `json:"project"`
}

// gitlabTimes are the ways in which GitLab writes times.
var gitlabTimes = [...]string{"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST", time.RFC3339}

// GitLab makes the marker of a delivery: of a deployment that succeeded in an
// environment that users see. The error is an *Ignored, or says that the body is
// not what GitLab sends. The marker is not normalised yet, and has no time if
// GitLab told none.
func (a *Adapters) GitLab(_ http.Header, body []byte) (marker.Marker, error) {
	var e gitlabEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return marker.Marker{}, fmt.Errorf("the body is not GitLab's deployment event: %w", err)
	}
	switch {
	case e.Kind == "":
		return marker.Marker{}, errors.New("object_kind is missing; this path is for GitLab's webhooks")
	case e.Kind != "deployment":
		return marker.Marker{}, ignored("%s events are not used; choose only Deployment events in the webhook's settings", clip(e.Kind))
	case e.Status == "" || e.ID <= 0 || e.Project.Path == "":
		return marker.Marker{}, errors.New("the body names no deployment with its status and project; GitLab sends them from version 14 on")
	case e.Status != "success":
		return marker.Marker{}, ignored("the deployment's status is %s; it is a marker when it is success", clip(e.Status))
	}
	var at time.Time
	for _, layout := range gitlabTimes {
		if t, err := time.Parse(layout, e.ChangedAt); err == nil {
			at = t
			break
		}
	}
	if at.IsZero() && e.ChangedAt != "" {
		return marker.Marker{}, fmt.Errorf("status_changed_at %q is not a time", clip(e.ChangedAt))
	}
	return a.marker(&deployment{
		tool: "gitlab", what: e.Project.Path, environment: e.Environment, production: e.Tier == "production",
		version: version(e.Ref, e.ShortSHA), number: strconv.FormatInt(e.ID, 10), ended: at,
	})
}
