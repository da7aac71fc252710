package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// follower stands by.
type follower struct{ active string }

func (f follower) Active() string { return f.active }

func (f follower) Status(context.Context) (Status, error) {
	return Status{Ready: true, Cluster: &ClusterStatus{Member: "b", Role: "standby", Active: f.active}}, nil
}

func (follower) WriteMetrics(w io.Writer) { _, _ = io.WriteString(w, "up 1\n") }

// TestStandby: a member that stands by tells how it is and who is active, and hands
// everything to another server as long as it is told to.
func TestStandby(t *testing.T) {
	ask := func(h http.Handler, method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader("{}"))
		h.ServeHTTP(w, r)
		return w
	}
	s := NewStandby(Config{}, follower{"a"}, slog.New(slog.DiscardHandler))
	for _, x := range []struct {
		method, path string
		code         int
		says         string
	}{
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/metrics", 200, "up 1"},
		{"GET", "/v1/status", 200, `"role":"standby"`},
		{"GET", "/readyz", 200, "ready\nrole: standby, active: a\n"},
		{"GET", "/readyz?role=active", 503, "not ready"},
		{"GET", "/v1/incidents", 503, "stands by; a is active"},
		{"GET", "/v1/incidents/x", 503, "a is active"},
		{"GET", "/v1/markers/x/verdict", 503, "a is active"},
		{"POST", "/v1/markers", 503, "takes nothing"},
		{"POST", "/v1/markers/github", 503, "takes nothing"},
		{"DELETE", "/v1/markers", 405, "method"},
		{"GET", "/v1/none", 404, "nothing"},
	} {
		w := ask(s, x.method, x.path)
		if w.Code != x.code || !strings.Contains(w.Body.String(), x.says) {
			t.Errorf("%s %s: %d %s", x.method, x.path, w.Code, w.Body)
		}
		if strings.HasPrefix(x.path, "/v1/") && x.code == 503 && w.Header().Get("Retry-After") != "5" {
			t.Errorf("%s %s: no Retry-After", x.method, x.path)
		}
	}
	if w := ask(NewStandby(Config{}, follower{}, slog.New(slog.DiscardHandler)), "GET", "/v1/incidents"); !strings.Contains(w.Body.String(), "no other is active") {
		t.Errorf("without an active member: %s", w.Body)
	}
	other := NewStandby(Config{}, follower{"c"}, slog.New(slog.DiscardHandler))
	s.Instead(other)
	if w := ask(s, "GET", "/readyz"); !strings.Contains(w.Body.String(), "active: c") {
		t.Errorf("instead: %s", w.Body)
	}
	s.Instead(nil)
	if w := ask(s, "GET", "/readyz"); !strings.Contains(w.Body.String(), "active: a") {
		t.Errorf("itself: %s", w.Body)
	}
}
