package markers

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var began = time.Date(2026, 11, 18, 10, 0, 2, 0, time.UTC)

// is compares what a delivery became: "" stands for no error.
func is(t *testing.T, m marker.Marker, err error, want marker.Marker, say string) {
	t.Helper()
	switch {
	case say == "" && err != nil:
		t.Fatal(err)
	case say != "" && (err == nil || !strings.Contains(err.Error(), say)):
		t.Fatalf("got %v, want %q", err, say)
	case say != "":
		return
	}
	if err := m.Normalise(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if !m.Time.Equal(want.Time) || m.ID != want.ID || m.Service != want.Service || m.Version != want.Version || m.Kind != marker.Release {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

func TestGitHub(t *testing.T) {
	usual := marker.Marker{ID: "github-acme-shop-990017", Time: began, Version: "v2.31.0"}
	with := func(f func(*marker.Marker)) marker.Marker { m := usual; f(&m); return m }
	for _, c := range []struct {
		name, event string
		cfg         Config
		old, now    string
		want        marker.Marker
		say         string
	}{
		{name: "success", want: usual},
		{name: "rolls back to a branch", old: `"ref": "v2.31.0"`, now: `"ref": "main"`, want: with(func(m *marker.Marker) { m.Version = "5f2c9ab0" })},
		{name: "a tag with any name", old: `"ref": "v2.31.0"`, now: `"ref": "refs/tags/autumn"`, want: with(func(m *marker.Marker) { m.Version = "autumn" })},
		{name: "a job that built for an hour first", old: "T10:00:02Z", now: "T09:00:02Z",
			want: with(func(m *marker.Marker) { m.Time = time.Date(2026, 11, 18, 9, 49, 31, 0, time.UTC) })},
		{name: "mapped", cfg: Config{Services: map[string]string{"Acme/Shop": "web"}}, want: with(func(m *marker.Marker) { m.Service = "web" })},
		{name: "not mapped", cfg: Config{Services: map[string]string{"acme/blog": "blog"}}, say: `"acme/shop" is not in markers.deployments.services`},
		{name: "GitHub calls it production", old: `"environment": "production"`, now: `"environment": "shop.acme.test"`, want: usual},
		{name: "but the team does not", cfg: Config{Environments: []string{"eu", "us"}}, say: `"production" is not one of`},
		{name: "patterns", cfg: Config{Environments: []string{"PROD*"}}, want: usual},
		{name: "under way", old: `"state": "success"`, now: `"state": "in_progress"`, say: "status is in_progress"},
		{name: "ping", event: "ping", say: "pong"},
		{name: "release", event: "release", say: "release events are not used"},
		{name: "a stranger", event: "-", say: "X-GitHub-Event is missing"},
		{name: "no deployment", old: `"id": 990017`, now: `"id": 0`, say: "names no deployment"},
		{name: "another shape", old: `"id": 990017`, now: `"id": "990017"`, say: "not GitHub's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"X-Github-Event": {"deployment_status"}}
			switch c.event {
			case "":
			case "-":
				h.Del("X-GitHub-Event")
			default:
				h.Set("X-GitHub-Event", c.event)
			}
			body := sample(t, "github_deployment_status.json")
			if c.old != "" {
				body = strings.ReplaceAll(body, c.old, c.now)
			}
			a := New(c.cfg)
			m, err := a.GitHub(h, []byte(body))
			is(t, m, err, c.want, c.say)
			// The form holds the same.
			h.Set("Content-Type", "application/x-www-form-urlencoded")
			m, err = a.GitHub(h, []byte(url.Values{"payload": {body}}.Encode()))
			is(t, m, err, c.want, c.say)
		})
	}
}

func TestStagingIsNoMarker(t *testing.T) {
	body := strings.ReplaceAll(sample(t, "github_deployment_status.json"), `"environment": "production"`, `"environment": "staging"`)
	body = strings.Replace(body, `"production_environment": true`, `"production_environment": false`, 1)
	_, err := New(Config{}).GitHub(http.Header{"X-Github-Event": {"deployment_status"}}, []byte(body))
	if _, ok := errors.AsType[*Ignored](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestGitLab(t *testing.T) {
	usual := marker.Marker{ID: "gitlab-web-shop-318", Time: time.Date(2026, 11, 18, 10, 4, 31, 0, time.UTC), Version: "5f2c9ab0"}
	with := func(f func(*marker.Marker)) marker.Marker { m := usual; f(&m); return m }
	for _, c := range []struct {
		name     string
		cfg      Config
		old, now string
		want     marker.Marker
		say      string
	}{
		{name: "success", want: usual},
		{name: "a tag", old: `"ref": "main"`, now: `"ref": "2.31.0-rc1"`, want: with(func(m *marker.Marker) { m.Version = "2.31.0-rc1" })},
		{name: "UTC", old: "11:04:31 +0100", now: "10:04:31 UTC", want: usual},
		{name: "no time", old: `"status_changed_at": "2026-11-18 11:04:31 +0100",`, want: with(func(m *marker.Marker) { m.Time = time.Unix(1, 0) })},
		{name: "an odd time", old: "2026-11-18 11:04:31 +0100", now: "yesterday", say: "is not a time"},
		{name: "mapped", cfg: Config{Services: map[string]string{"web/shop": "shop"}}, want: with(func(m *marker.Marker) { m.Service = "shop" })},
		{name: "a folder of environments", cfg: Config{Environments: []string{"production/*"}}, want: usual},
		{name: "staging", old: `"production"`, now: `"staging"`, say: `"production/eu" is not one of`},
		{name: "running", old: `"status": "success"`, now: `"status": "running"`, say: "status is running"},
		{name: "push", old: `"object_kind": "deployment"`, now: `"object_kind": "push"`, say: "push events are not used"},
		{name: "old GitLab", old: `"deployment_id": 318,`, say: "version 14"},
		{name: "something else", old: `"object_kind"`, now: `"kind"`, say: "object_kind is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := sample(t, "gitlab_deployment.json")
			if c.old != "" {
				body = strings.Replace(body, c.old, c.now, 1)
			}
			m, err := New(c.cfg).GitLab(nil, []byte(body))
			is(t, m, err, c.want, c.say)
		})
	}
}

// argoBody renders the template that we publish, as Argo CD does.
func argoBody(t testing.TB, app string) []byte {
	t.Helper()
	file, err := os.ReadFile("../../configs/deploy/argocd-notifications.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(file), "        body: |\n")
	text, _, ok2 := strings.Cut(text, "  trigger.")
	if !ok || !ok2 {
		t.Fatal("the body is not found in the published template")
	}
	// Sprig's function of this name, which Argo CD offers.
	funcs := template.FuncMap{"toJson": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err }}
	tmpl, err := template.New("body").Funcs(funcs).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var data any
	if err := json.Unmarshal([]byte(app), &data); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, map[string]any{"app": data}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestArgoCD decodes what the published template makes of an Application.
func TestArgoCD(t *testing.T) {
	usual := marker.Marker{ID: "argocd-shop-5f2c9ab0-20261118T100431Z", Time: time.Date(2026, 11, 18, 10, 2, 10, 0, time.UTC), Service: "shop-web", Version: "v2.31.0"}
	with := func(f func(*marker.Marker)) marker.Marker { m := usual; f(&m); return m }
	const labels = `, "labels": {"denywatch-service": "shop-web"}`
	for _, c := range []struct {
		name     string
		cfg      Config
		old, now string
		want     marker.Marker
		say      string
	}{
		{name: "succeeded", want: usual},
		{name: "environments do not matter", cfg: Config{Environments: []string{"live"}}, want: usual},
		{name: "without labels", old: labels, want: with(func(m *marker.Marker) { m.Service = "" })},
		{name: "mapped", cfg: Config{Services: map[string]string{"shop": "shop"}}, old: labels, want: with(func(m *marker.Marker) { m.Service = "shop" })},
		{name: "other labels", old: "denywatch-service", now: "team", want: with(func(m *marker.Marker) { m.Service = "" })},
		{name: "not mapped", cfg: Config{Services: map[string]string{"blog": "blog"}}, old: labels, say: `"shop" is not in`},
		{name: "a side-car", old: "jobs:v2.31.0", now: "proxy:1.4", want: with(func(m *marker.Marker) { m.Version = "5f2c9ab0" })},
		{name: "digests", old: "shop:v2.31.0", now: "shop@sha256:aa", want: with(func(m *marker.Marker) { m.Version = "5f2c9ab0" })},
		{name: "several sources", old: `"syncResult": {"revision"`, now: `"syncResult": {"revisions"`,
			want: with(func(m *marker.Marker) { m.ID = "argocd-shop--20261118T100431Z" })},
		{name: "failed", old: "Succeeded", now: "Failed", say: "phase is Failed"},
		{name: "not finished", old: `"finishedAt"`, now: `"x"`, say: "finished_at is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			app := sample(t, "argocd_application.json")
			if c.old != "" {
				app = strings.Replace(app, c.old, c.now, 1)
			}
			m, err := New(c.cfg).ArgoCD(argoBody(t, app))
			is(t, m, err, c.want, c.say)
		})
	}
	body := func(env string) []byte {
		return []byte(`{"app":"a","finished_at":"2026-11-18T10:00:00Z","environment":"` + env + `"}`)
	}
	if _, err := New(Config{}).ArgoCD(body("staging")); err == nil {
		t.Error("a named environment was not looked at")
	}
	if _, err := New(Config{}).ArgoCD(body("prod")); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{}).ArgoCD([]byte(`{"app":<no value>}`)); err == nil || !strings.Contains(err.Error(), "template") {
		t.Errorf("got %v", err)
	}
}

func sum(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}

func TestVerifyGitHub(t *testing.T) {
	a := New(Config{GitHub: []GitHub{{"one", "0123456789abcdef"}, {"two", "fedcba9876543210"}}})
	sign := func(key, body string) string { return "sha256=" + hex.EncodeToString(sum([]byte(key), body)) }
	for _, c := range []struct{ header, want string }{
		{sign("0123456789abcdef", "{}"), "one"},
		{sign("fedcba9876543210", "{}"), "two"},
		{sign("fedcba9876543210", "{ }"), ""},
		{sign("another-secret-16", "{}"), ""},
		{strings.TrimPrefix(sign("0123456789abcdef", "{}"), "sha256="), ""},
		{"sha256=", ""},
		{"", ""},
	} {
		if name, ok := a.VerifyGitHub(http.Header{"X-Hub-Signature-256": {c.header}}, []byte("{}")); name != c.want || ok != (c.want != "") {
			t.Errorf("%q is from %q", c.header, name)
		}
	}
	if !a.TakesGitHub() || a.TakesGitLab() {
		t.Error("it is not known what is configured")
	}
}

func TestVerifyGitLab(t *testing.T) {
	key := bytes.Repeat([]byte{7}, signingKey)
	a := New(Config{GitLab: []GitLab{{Name: "token", Token: "0123456789abcdef"},
		{Name: "signed", SigningToken: "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}}})
	now := time.Unix(1_790_000_000, 0)
	sign := func(key []byte, at time.Time, body string) http.Header {
		stamp := strconv.FormatInt(at.Unix(), 10)
		return http.Header{"Webhook-Id": {"d1"}, "Webhook-Timestamp": {stamp},
			"Webhook-Signature": {"v1,AAAA v1," + base64.StdEncoding.EncodeToString(sum(key, "d1."+stamp+"."+body))}}
	}
	for i, c := range []struct {
		h    http.Header
		want string
	}{
		{http.Header{"X-Gitlab-Token": {"0123456789abcdef"}}, "token"},
		{http.Header{"X-Gitlab-Token": {"0123456789abcdeg"}}, ""},
		{http.Header{"X-Gitlab-Token": {""}}, ""},
		{http.Header{}, ""},
		{sign(key, now.Add(4*time.Minute), "{}"), "signed"},
		{sign(key, now.Add(-6*time.Minute), "{}"), ""},
		{sign(key, now, "{ }"), ""},
		{sign(key[1:], now, "{}"), ""},
		{http.Header{"Webhook-Id": {"d1"}, "Webhook-Timestamp": {"soon"}, "Webhook-Signature": {"v1,"}}, ""},
	} {
		if name, ok := a.VerifyGitLab(c.h, []byte("{}"), now); name != c.want || ok != (c.want != "") {
			t.Errorf("%d: from %q", i, name)
		}
	}
}

func TestValidate(t *testing.T) {
	const good = "0123456789abcdef"
	if ps := (Config{Environments: []string{"prod-*"}, Services: map[string]string{"acme/shop": "shop"},
		GitHub: []GitHub{{"a", good}}, GitLab: []GitLab{{Name: "b", Token: good + "2"}}}).Validate(); len(ps) != 0 {
		t.Fatal(ps)
	}
	ps := Config{
		Environments: []string{"", "a["},
		Services:     map[string]string{"A/b": "x", "a/B": "", "": "y"},
		GitHub:       []GitHub{{"", ""}, {"a", "short"}, {"a", good}, {"c", good}},
		GitLab:       []GitLab{{Name: "d"}, {Name: "e", Token: good, SigningToken: "whsec_x"}, {Name: "f", SigningToken: "whsec_x"}, {Name: "two words", Token: "0123456789abcdeX"}},
	}.Validate()
	var got []string
	for _, p := range ps {
		got = append(got, p.Path+" "+p.Msg)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{
		"environments[0] is no name", "environments[1] is no pattern", "services a name", "services.a/B is the same as A/b",
		"github[0].name is missing", "github[0].secret is missing", "github[1].secret is shorter", "github[2].name is the name of github[1]",
		"github[3].secret is the same as github[2].secret", "gitlab[0] has neither", "gitlab[1].token is not needed",
		"gitlab[2].signing_token is not whsec_", "gitlab[3].name must be",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, good) {
		t.Error("a secret is shown")
	}
}

// FuzzDecode holds for any body: no panic, and a marker that is made has an id that
// stands in a path as it is.
func FuzzDecode(f *testing.F) {
	f.Add(sample(f, "github_deployment_status.json"))
	f.Add(sample(f, "gitlab_deployment.json"))
	f.Add(string(argoBody(f, sample(f, "argocd_application.json"))))
	f.Add(`{"app":"` + strings.Repeat("ü", 200) + `","finished_at":"2026-11-18T10:00:00Z","images":["a:b@c","","/"]}`)
	f.Add(`payload=%7B%7D`)
	f.Fuzz(func(t *testing.T, body string) {
		a := New(Config{Environments: []string{"*"}})
		check := func(m marker.Marker, err error) {
			if err != nil {
				if err.Error() == "" {
					t.Error("an error that says nothing")
				}
				return
			}
			if m.ID == "" || len(m.ID) > 200 || url.PathEscape(m.ID) != m.ID {
				t.Errorf("id %q", m.ID)
			}
			again := m
			if m.Normalise(time.Unix(0, 0)) == nil && m.ID != again.ID {
				t.Errorf("normalising changed the id %q", m.ID)
			}
		}
		h := http.Header{"X-Github-Event": {"deployment_status"}}
		check(a.GitHub(h, []byte(body)))
		check(a.GitLab(h, []byte(body)))
		check(a.ArgoCD([]byte(body)))
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		check(a.GitHub(h, []byte(body)))
	})
}
