package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v4"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "0123456789abcdef"

func delivery() *alerts.Delivery {
	in := incident.Incident{ID: "a1b2", Direction: incident.Up, Scope: incident.Scope{Route: "/x<script>", Role: "member"}}
	return &alerts.Delivery{Key: "hook/a1b2/1", Dest: alerts.Dest{Sink: "hook"}, Transition: incident.Transition{Seq: 1, Kind: incident.Opened, At: time.Unix(1795000000, 0).UTC(), Incident: in}}
}

func open(t *testing.T, conf webhook.Config) *webhook.Notifier {
	t.Helper()
	n, err := webhook.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestPostsSignedJSON(t *testing.T) {
	var mu sync.Mutex
	var bodies [][]byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if err := webhook.Verify(key, r.Header.Get("Denywatch-Signature"), b, time.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodPost || r.Header.Get("Idempotency-Key") != "hook/a1b2/1" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Team") != "growth" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		bodies = append(bodies, b)
		w.WriteHeader(http.StatusAccepted)
	})
	n := open(t, webhook.Config{URL: secret.String(s.URL + "/hook?token=abc"), Secret: key, Headers: map[string]secret.String{"x-team": "growth"}})
	for range 2 {
		if _, err := n.Notify(t.Context(), delivery()); err != nil {
			t.Fatal(err)
		}
	}
	if string(bodies[0]) != string(bodies[1]) {
		t.Error("the second try has another body under the same key")
	}
	var got webhook.Body
	if err := json.Unmarshal(bodies[0], &got); err != nil || got.Version != 1 || got.ID != "hook/a1b2/1" || got.Transition.Incident.Scope.Role != "member" {
		t.Errorf("body %s: %v", bodies[0], err)
	}
}

func TestAnswers(t *testing.T) {
	date := time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		status     int
		retryAfter string
		kind       alerts.ErrorKind
		wait       time.Duration // at least, within 5 s
		refused    bool
	}{
		{429, "30", alerts.Temporary, 30 * time.Second, true},
		{429, "", alerts.Temporary, 0, true},
		{503, date, alerts.Temporary, 85 * time.Second, false},
		{500, "soon", alerts.Temporary, 0, false},
		{599, "-3", alerts.Temporary, 0, false},
		{408, "", alerts.Temporary, 0, true},
		{425, "", alerts.Temporary, 0, true},
		{401, "", alerts.Misconfigured, 0, true},
		{403, "", alerts.Misconfigured, 0, true},
		{404, "", alerts.Misconfigured, 0, true},
		{307, "", alerts.Misconfigured, 0, true},
		{400, "", alerts.Permanent, 0, true},
		{413, "", alerts.Permanent, 0, true},
		{422, "", alerts.Permanent, 0, true},
	} {
		t.Run(fmt.Sprint(c.status, c.retryAfter), func(t *testing.T) {
			followed := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.retryAfter != "" {
					w.Header().Set("Retry-After", c.retryAfter)
				}
				w.Header().Set("Location", followed.URL)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, strings.Repeat("secret of the server ", 10000))
			})
			n := open(t, webhook.Config{URL: secret.String(s.URL + "/hook-canary?token=canary"), Secret: key})
			_, err := n.Notify(t.Context(), delivery())
			e, ok := errors.AsType[*alerts.Error](err)
			if !ok {
				t.Fatalf("err = %v", err)
			}
			if e.Kind != c.kind || e.Refused != c.refused || e.RetryAfter < c.wait || e.RetryAfter > c.wait+5*time.Second {
				t.Errorf("got %v refused=%v after %v: %v", e.Kind, e.Refused, e.RetryAfter, err)
			}
			if s := err.Error(); strings.Contains(s, "canary") || strings.Contains(s, "secret of the server") || !strings.Contains(s, fmt.Sprint(c.status)) {
				t.Errorf("error = %s", s)
			}
		})
	}
}

func TestTransportFailures(t *testing.T) {
	hang := make(chan struct{})
	hanging := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	dropping := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	for _, c := range []struct {
		name, url string
		kind      alerts.ErrorKind
		refused   bool
		says      string
	}{
		{"hangs", hanging.URL, alerts.Temporary, false, "no answer in time"},
		{"drops", dropping.URL, alerts.Temporary, false, "EOF"},
		{"refuses connections", closed, alerts.Temporary, true, "refused"},
		{"unknown certificate", tlsServer.URL, alerts.Misconfigured, true, "certificate"},
		{"no TLS", strings.Replace(hanging.URL, "http:", "https:", 1), alerts.Misconfigured, true, "TLS"},
		{"unknown name", "http://no-such-host.invalid", alerts.Misconfigured, true, "name is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := open(t, webhook.Config{URL: secret.String(c.url + "/canary?token=canary")})
			ctx := t.Context()
			if c.name == "hangs" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			_, err := n.Notify(ctx, delivery())
			e, ok := errors.AsType[*alerts.Error](err)
			if !ok {
				t.Fatalf("err = %v", err)
			}
			if c.name == "unknown name" && e.Kind == alerts.Temporary {
				t.Skip("SKIPPED: the resolver of this machine does not answer NXDOMAIN: " + err.Error())
			}
			if e.Kind != c.kind || e.Refused != c.refused || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v refused=%v: %v", e.Kind, e.Refused, err)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows the URL: %v", err)
			}
		})
	}
	close(hang)
}

func TestVerify(t *testing.T) {
	now := time.Unix(1795000000, 0)
	body := []byte(`{"version":1}`)
	good := webhook.Sign(key, now, body)
	if want := "t=1795000000,v1="; !strings.HasPrefix(good, want) {
		t.Fatalf("header = %s", good)
	}
	other := webhook.Sign("another secret!!", now, body)
	for _, c := range []struct {
		name   string
		key    secret.String
		header string
		body   string
		now    time.Time
		ok     bool
	}{
		{"good", key, good, string(body), now, true},
		{"at the edge of the tolerance", key, good, string(body), now.Add(5 * time.Minute), true},
		{"both secrets", key, other + "," + strings.Split(good, ",")[1], string(body), now, true},
		{"too old", key, good, string(body), now.Add(5*time.Minute + time.Second), false},
		{"from the future", key, good, string(body), now.Add(-6 * time.Minute), false},
		{"body changed", key, good, `{"version":2}`, now, false},
		{"time changed", key, strings.Replace(good, "t=1795000000", "t=1795000001", 1), string(body), now, false},
		{"other secret", key, other, string(body), now, false},
		{"empty secret", "", good, string(body), now, false},
		{"no header", key, "", string(body), now, false},
		{"no time", key, strings.Split(good, ",")[1], string(body), now, false},
		{"two times", key, "t=1," + good, string(body), now, false},
		{"not hex", key, "t=1795000000,v1=zz", string(body), now, false},
		{"short", key, "t=1795000000,v1=abcd", string(body), now, false},
	} {
		err := webhook.Verify(c.key, c.header, []byte(c.body), c.now, 5*time.Minute)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		conf webhook.Config
		want []string
	}{
		{"good", webhook.Config{URL: "https://example.com/hook"}, nil},
		{"all", webhook.Config{URL: "https://example.com", Secret: key, Headers: map[string]secret.String{"Authorization": "Bearer x"}}, nil},
		{"missing", webhook.Config{}, []string{"url: is missing"}},
		{"relative", webhook.Config{URL: "canary/hook"}, []string{"url: is not a complete"}},
		{"scheme", webhook.Config{URL: "ftp://canary/"}, []string{"url: is not a complete"}},
		{"unparsable", webhook.Config{URL: "http://[canary"}, []string{"url: is not a complete"}},
		{"everything at once", webhook.Config{URL: "https://e/#canary", Secret: "canary", Headers: map[string]secret.String{"a b": "x", "host": "x", "X-A": "canary\r\nX-B: y"}},
			[]string{"url: must not have", "secret: is shorter", "headers: \"a b\"", "headers: Host is set", "headers: the value of X-A"}},
	} {
		err := c.conf.Validate()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", c.name, err, w)
			}
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows a secret: %v", c.name, err)
		}
	}
	var conf webhook.Config
	if err := yaml.Unmarshal([]byte("url: https://e/x\nsecret: s\nheaders: {A: b}\n"), &conf); err != nil || conf.URL.Reveal() != "https://e/x" || conf.Headers["A"].Reveal() != "b" {
		t.Errorf("%+v, %v", conf, err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1,v1=00", "x")
	f.Add("t=1795000000,v1=,v1=,t=", "")
	f.Fuzz(func(t *testing.T, header, body string) {
		if webhook.Verify(key, header, []byte(body), time.Unix(1795000000, 0), time.Minute) == nil {
			t.Error("a signature was guessed")
		}
	})
}
