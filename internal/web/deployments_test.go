package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/ingest/markers"

	"github.com/denywatch/denywatch/internal/secret"
)

const (
	githubSecret = "github-secret-0123456789"
	gitlabToken  = "gitlab-token-0123456789"

	githubBody = `{"deployment_status":{"state":"success","created_at":"2000-01-01T00:00:00Z"},` +
		`"deployment":{"id":77,"ref":"v1.2.0","environment":"production","created_at":"1999-12-31T23:58:00Z"},"repository":{"full_name":"acme/shop"}}`
	gitlabBody = `{"object_kind":"deployment","status":"success","status_changed_at":"2000-01-01 00:00:00 UTC","deployment_id":8,` +
		`"environment":"prod","short_sha":"5f2c9ab0","project":{"path_with_namespace":"web/shop"}}`
	argoBody = `{"app":"shop","phase":"Succeeded","revision":"5f2c9ab01d37","finished_at":"2000-01-01T00:00:00Z","images":["shop:v3"]}`
)

func byGitHub(body string) map[string]string {
	mac := hmac.New(sha256.New, []byte(githubSecret))
	_, _ = mac.Write([]byte(body))
	return map[string]string{"X-GitHub-Event": "deployment_status", "X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)), "Content-Type": "application/json"}
}

func deliver(t testing.TB, s *Server, tool, body string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	return request{method: http.MethodPost, target: "/v1/markers/" + tool, body: body, header: header, listen: openListener, peer: "192.0.2.9:1", host: "denywatch.example.com"}.do(t, s)
}

func deploymentConfig() Config {
	return Config{
		Tokens: []secret.Token{{Name: "argocd", Token: "argocd-token-0123456789"}},
		Deployments: markers.Config{
			Services: map[string]string{"acme/shop": "shop", "web/shop": "shop", "shop": "shop"},
			GitHub:   []markers.GitHub{{Name: "github", Secret: githubSecret}},
			GitLab:   []markers.GitLab{{Name: "gitlab", Token: gitlabToken}},
		},
	}
}

// TestDeployments: each tool's delivery becomes one marker, however often it comes.
func TestDeployments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s, l := newServer(t, deploymentConfig(), f)
		for _, c := range []struct {
			tool, body, id string
			header         map[string]string
		}{
			{"github", githubBody, "github-acme-shop-77", byGitHub(githubBody)},
			{"gitlab", gitlabBody, "gitlab-web-shop-8", map[string]string{"X-Gitlab-Token": gitlabToken}},
			{"argocd", argoBody, "argocd-shop-5f2c9ab0-20000101T000000Z", map[string]string{"Authorization": "Bearer argocd-token-0123456789"}},
		} {
			if id := took(t, deliver(t, s, c.tool, c.body, c.header), 201); id != c.id {
				t.Errorf("%s: id %q", c.tool, id)
			}
			if id := took(t, deliver(t, s, c.tool, c.body, c.header), 200); id != c.id {
				t.Errorf("%s: the second id is %q", c.tool, id)
			}
		}
		// A second success of the same deployment is not another one.
		again := strings.Replace(githubBody, "2000-01-01T00:00:00Z", "2000-01-01T00:30:00Z", 1)
		took(t, deliver(t, s, "github", again, byGitHub(again)), 200)
		if len(f.markers) != 3 {
			t.Fatalf("%d markers", len(f.markers))
		}
		m := f.markers[0]
		if m.Service != "shop" || m.Version != "v1.2.0" || !m.Time.Equal(time.Date(1999, 12, 31, 23, 58, 0, 0, time.UTC)) {
			t.Errorf("%+v", m)
		}
		for _, hush := range []string{githubSecret, gitlabToken, "argocd-token"} {
			if strings.Contains(l.String(), hush) {
				t.Errorf("the log shows %q", hush)
			}
		}
	})
}

func TestDeploymentsRefused(t *testing.T) {
	f := &fake{}
	s, _ := newServer(t, deploymentConfig(), f)
	bare, _ := newServer(t, Config{}, f)
	ping := byGitHub("{}")
	ping["X-GitHub-Event"] = "ping"
	staging := strings.Replace(gitlabBody, `"prod"`, `"staging"`, 1)
	for _, c := range []struct {
		name, tool, body string
		header           map[string]string
		status           int
		want             string
	}{
		{"not signed", "github", githubBody, nil, 401, "X-Hub-Signature-256"},
		{"changed on the way", "github", githubBody + " ", byGitHub(githubBody), 401, "X-Hub-Signature-256"},
		{"no token", "gitlab", gitlabBody, nil, 401, "X-Gitlab-Token"},
		{"another token", "gitlab", gitlabBody, map[string]string{"X-Gitlab-Token": gitlabToken + "x"}, 401, "X-Gitlab-Token"},
		{"no bearer", "argocd", argoBody, nil, 401, "a token is needed"},
		{"no JSON", "github", "{", byGitHub("{"), 400, "not GitHub's"},
		{"control characters", "gitlab", strings.Replace(gitlabBody, "5f2c9ab0", `\u001b[2J`, 1), map[string]string{"X-Gitlab-Token": gitlabToken}, 400, "version: contains control"},
		{"large", "gitlab", strings.Repeat(" ", maxDelivery+1), nil, 413, "1024 KiB"},
		{"ping", "github", "{}", ping, 200, `{"ignored":"pong: the webhook is set up"}`},
		{"staging", "gitlab", staging, map[string]string{"X-Gitlab-Token": gitlabToken}, 200, "markers.deployments.environments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := deliver(t, s, c.tool, c.body, c.header)
			if c.status == 200 {
				if w.Code != 200 || !strings.Contains(w.Body.String(), c.want) {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			told(t, w, c.status, c.want)
		})
	}
	told(t, deliver(t, bare, "github", githubBody, byGitHub(githubBody)), 403, "markers.deployments.github")
	told(t, deliver(t, bare, "gitlab", gitlabBody, map[string]string{"X-Gitlab-Token": gitlabToken}), 403, "markers.deployments.gitlab")
	told(t, deliver(t, bare, "argocd", argoBody, nil), 403, "a token is needed here")
	told(t, get(t, s, "/v1/markers/github"), 405, "POST")
	if f.marks != 0 {
		t.Error("a refused delivery reached the backend")
	}
}
