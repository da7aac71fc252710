package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

const oncallToken = "0123456789abcdef-oncall"

// wards is a configuration with callers of every sort.
var wards = Config{
	Tokens:    []secret.Token{{Name: "ci", Token: ciToken}, {Name: "oncall", Token: oncallToken}},
	Operators: []string{"oncall"},
	HMAC:      []Key{{"bot", botSecret}},
}

func warded() *fake {
	return &fake{
		incidents: []incident.Incident{{ID: "a1", State: incident.Open}},
		timelines: map[string][]incident.Transition{"a1": {{Seq: 1, Kind: incident.Opened, Incident: incident.Incident{ID: "a1", State: incident.Open}}}},
	}
}

// TestActs: what people decide reaches the backend with who they are, and only from
// those who may.
func TestActs(t *testing.T) {
	h := func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }
	for _, c := range []struct {
		name   string
		cfg    Config
		q      request
		status int
		want   string // of the error, or the act
	}{
		{"local", Config{}, request{target: "/v1/incidents/a1/acknowledge"}, 200, "acknowledge a1 by  () via api for 0s"},
		{"local, named", Config{}, request{target: "/v1/incidents/a1/silence", body: `{"by":"ada","via":"cli","for":"2h"}`}, 200, "silence a1 by ada () via cli for 2h0m0s"},
		{"token", wards, request{target: "/v1/incidents/a1/dismiss", header: h(oncallToken)}, 200, "dismiss a1 by oncall () via api for 0s"},
		{"token, for somebody", wards, request{target: "/v1/incidents/a1/accept", header: h(oncallToken), body: `{"by":"ada"}`}, 200, "accept a1 by ada (oncall) via api for 0s"},
		{"unsilence", wards, request{target: "/v1/incidents/a1/unsilence", header: h(oncallToken)}, 200, "unsilence a1 by oncall () via api for 0s"},
		{"reopen", wards, request{target: "/v1/incidents/a1/reopen", header: h(oncallToken)}, 200, "reopen a1 by oncall () via api for 0s"},
		{"too long over", Config{}, request{target: "/v1/incidents/old/reopen"}, 409, "too long ago"},
		{"reopen by a pipeline's token", wards, request{target: "/v1/incidents/a1/reopen", header: h(ciToken)}, 403, "may not change incidents"},
		{"merge", wards, request{target: "/v1/incidents/a1/merge", body: `{"into":"b2"}`, header: h(oncallToken)}, 200, "merge a1 by oncall () via api into b2 for 0s"},
		{"merge into nothing", Config{}, request{target: "/v1/incidents/a1/merge"}, 400, "into is needed to merge"},
		{"accept into another", Config{}, request{target: "/v1/incidents/a1/accept", body: `{"into":"b2"}`}, 400, "into is needed to merge"},
		{"merge by a pipeline's token", wards, request{target: "/v1/incidents/a1/merge", body: `{"into":"b2"}`, header: h(ciToken)}, 403, "may not change incidents"},
		{"a pipeline's token", wards, request{target: "/v1/incidents/a1/accept", header: h(ciToken)}, 403, "may not change incidents"},
		{"a signature", wards, request{target: "/v1/incidents/a1/silence", body: `{"for":"2h"}`, header: map[string]string{SignatureHeader: signed(botSecret, time.Now(), `{"for":"2h"}`)}}, 403, "may not change incidents"},
		{"no token", wards, request{target: "/v1/incidents/a1/accept"}, 401, "a token is needed"},
		{"a page of another site", Config{}, request{target: "/v1/incidents/a1/accept", header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, 403, "another site"},
		{"a form", Config{}, request{target: "/v1/incidents/a1/accept", body: "for=2h", header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, 415, "JSON"},
		{"from another host", Config{}, request{target: "/v1/incidents/a1/accept", peer: "192.0.2.7:999"}, 403, "this host only"},
		{"unknown", Config{}, request{target: "/v1/incidents/zz/accept"}, 404, "nothing of this id"},
		{"over", Config{}, request{target: "/v1/incidents/over/accept"}, 409, "is over"},
		{"unknown verb", Config{}, request{target: "/v1/incidents/a1/explode"}, 404, "nothing at this path"},
		{"reading a verb", Config{}, request{method: "GET", target: "/v1/incidents/a1/accept"}, 405, "use one of POST"},
		{"silence without an end", Config{}, request{target: "/v1/incidents/a1/silence"}, 400, "for is needed"},
		{"accept for a while", Config{}, request{target: "/v1/incidents/a1/accept", body: `{"for":"2h"}`}, 400, "for is needed to silence"},
		{"a bad duration", Config{}, request{target: "/v1/incidents/a1/silence", body: `{"for":"-2h"}`}, 400, "no duration"},
		{"a misspelt field", Config{}, request{target: "/v1/incidents/a1/silence", body: `{"four":"2h"}`}, 400, "cannot be read"},
		{"a hostile name", Config{}, request{target: "/v1/incidents/a1/accept", body: `{"by":"a\u001b[2J"}`}, 400, "control characters"},
		{"via where nobody is", Config{}, request{target: "/v1/incidents/a1/accept", body: `{"via":"slack"}`}, 400, "neither api nor cli"},
		{"a scope", Config{}, request{target: "/v1/incidents/a1/silence", body: `{"for":"1h","scope":{"role":"x"}}`}, 400, "of POST /v1/silences"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := warded()
			if c.q.method == "" {
				c.q.method = http.MethodPost
			}
			w := c.q.do(t, New(c.cfg, b, nil, slog.New(slog.DiscardHandler)))
			if c.status != 200 {
				told(t, w, c.status, c.want)
				if len(b.acts) > 0 {
					t.Errorf("it was done: %v", b.acts)
				}
				return
			}
			var got struct{ Incident incident.Incident }
			if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != 200 || err != nil || got.Incident.ID != "a1" || !slices.Equal(b.acts, []string{c.want}) {
				t.Errorf("status %d, %s; did %v, want %s", w.Code, w.Body, b.acts, c.want)
			}
		})
	}
}

func TestActIsNotAcknowledgedUnlessStored(t *testing.T) {
	b := warded()
	b.onMark = func(context.Context) error { return errors.New("disk full") }
	w := request{method: http.MethodPost, target: "/v1/incidents/a1/accept"}.do(t, New(Config{}, b, nil, slog.New(slog.DiscardHandler)))
	told(t, w, 503, "could not be stored")
	if w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "disk full") {
		t.Errorf("header %v, body %s", w.Header(), w.Body)
	}
}

func TestStopping(t *testing.T) {
	b := warded()
	stopping := func(context.Context) error { return ErrStopping }
	b.onMark, b.onRead = stopping, stopping
	s, log := newServer(t, Config{}, b)
	for _, q := range []request{{method: http.MethodPost, target: "/v1/incidents/a1/accept"}, {method: http.MethodGet, target: "/v1/incidents"}} {
		w := q.do(t, s)
		told(t, w, 503, "the daemon is stopping")
		if w.Header().Get("Retry-After") == "" || log.String() != "" {
			t.Errorf("header %v, log %s", w.Header(), log)
		}
	}
}

func TestSilences(t *testing.T) {
	b := warded()
	s := New(Config{}, b, nil, slog.New(slog.DiscardHandler))
	w := request{method: http.MethodPost, target: "/v1/silences", body: `{"scope":{"route":"/billing/**","role":"viewer"},"for":"90m","by":"ada"}`}.do(t, s)
	var one incident.Silencing
	if err := json.Unmarshal(w.Body.Bytes(), &one); w.Code != 201 || err != nil || one.Scope.Route != "/billing/**" || rounded(one.Act) != 90*time.Minute || one.Act.By != "ada" {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	w = request{method: http.MethodGet, target: "/v1/silences"}.do(t, s)
	var list struct{ Silences []incident.Silencing }
	if err := json.Unmarshal(w.Body.Bytes(), &list); w.Code != 200 || err != nil || len(list.Silences) != 1 || list.Silences[0].ID != one.ID {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	told(t, request{method: http.MethodPost, target: "/v1/silences", body: `{"scope":{},"for":"1h"}`}.do(t, s), 400, "no scope")
	told(t, request{method: http.MethodPost, target: "/v1/silences", body: `{"scope":{"role":"x"}}`}.do(t, s), 400, "how long")
	told(t, request{method: http.MethodDelete, target: "/v1/silences/zz"}.do(t, s), 404, "nothing of this id")
	told(t, request{method: http.MethodDelete, target: "/v1/silences/s-1"}.do(t, New(wards, b, nil, slog.New(slog.DiscardHandler))), 401, "a token is needed")
	if w := (request{method: http.MethodDelete, target: "/v1/silences/s-1"}).do(t, s); w.Code != 204 || !slices.Equal(b.acts, []string{"unsilence s-1 by "}) {
		t.Errorf("status %d: %s, %v", w.Code, w.Body, b.acts)
	}
}
