package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// clicked is a taker of clicks with one answer.
type clicked struct {
	status int
	answer []byte
	err    error
	got    string
}

func (c *clicked) Take(_ context.Context, h http.Header, body []byte) (int, []byte, error) {
	c.got = h.Get("X-Slack-Signature") + " " + string(body)
	return c.status, c.answer, c.err
}

func TestClicks(t *testing.T) {
	send := func(c Clicks, body string) (int, string) {
		s, _ := newServer(t, Config{}, &fake{clicks: c})
		// A proxy passes it on, under the name that Slack knows.
		w := request{method: http.MethodPost, target: "/v1/slack/interactions", body: body, host: "denywatch.example.com",
			header: map[string]string{"X-Slack-Signature": "v0=1", "X-Forwarded-For": "203.0.113.9", "Content-Type": "application/x-www-form-urlencoded"}}.do(t, s)
		return w.Code, w.Body.String()
	}
	ok := &clicked{status: 200}
	if code, body := send(ok, "payload=x"); code != 200 || body != "" || ok.got != "v0=1 payload=x" {
		t.Errorf("%d %q, taken %q", code, body, ok.got)
	}
	if code, body := send(&clicked{status: 200, answer: []byte(`{"options":[]}`)}, "payload=y"); code != 200 || body != `{"options":[]}` {
		t.Errorf("%d %q", code, body)
	}
	for status, want := range map[int]string{401: "Signing Secret", 409: "click again", 503: "click again"} {
		if code, body := send(&clicked{status: status, err: errors.New("no")}, "x"); code != status || !strings.Contains(body, want) {
			t.Errorf("%d %s", code, body)
		}
	}
	if code, body := send(nil, "x"); code != 404 || !strings.Contains(body, "signing_secret") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := send(ok, strings.Repeat("x", maxClick+1)); code != 413 {
		t.Errorf("%d", code)
	}
}
