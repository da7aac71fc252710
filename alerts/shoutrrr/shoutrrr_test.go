package shoutrrr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

func TestMain(m *testing.M) {
	// The library sends through the default client, which keeps connections.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// fake is a server that takes texts as they are.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	texts  []string
	status int
	hang   chan struct{}
}

func newFake(t *testing.T) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		status, hang := f.status, f.hang
		if status == 0 && hang == nil {
			f.texts = append(f.texts, string(b))
		}
		f.mu.Unlock()
		if hang != nil {
			<-hang
		}
		if status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "canary of the server")
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) open(t *testing.T) *Notifier {
	t.Helper()
	n, err := New(Config{URL: secret.String(strings.Replace(f.URL, "http://", "generic+http://", 1) + "/hush-token")})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var start = time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)

func step(seq int, kind incident.Kind, severity incident.Severity) alerts.Delivery {
	in := incident.Incident{
		ID: "i1", State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, OpenedAt: start.Add(2 * time.Minute), StartedAt: start,
		Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"}, ExpectedRate: 0.004, ObservedRate: 0.38,
		Requests: 1000, Denials: 380, Identities: 212, Accounts: 38, Severity: severity, Team: "growth", Layer: "app",
	}
	t := incident.Transition{Seq: seq, Kind: kind, At: start.Add(time.Duration(seq) * 2 * time.Minute), Incident: in}
	if kind == incident.ResolvedKind {
		t.Incident.State, t.Incident.Resolution, t.Incident.ResolvedAt = incident.Resolved, incident.Recovered, &t.At
	}
	return alerts.NewDelivery(t, alerts.Dest{Sink: "shoutrrr"})
}

func TestTexts(t *testing.T) {
	f := newFake(t)
	n := f.open(t)
	opened := step(1, incident.Opened, incident.Medium)
	memory, err := n.Notify(t.Context(), &opened)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []alerts.Delivery{step(2, incident.Grew, incident.Medium), step(3, incident.Grew, incident.High), step(4, incident.Grew, incident.Low), step(5, incident.ResolvedKind, incident.High)} {
		d.Memory = memory
		m, err := n.Notify(t.Context(), &d)
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			memory = m
		}
	}
	post := alerts.NewPost(&alerts.Post{ID: "d", Headline: "Yesterday: nothing wrong", Parts: []alerts.Part{{Title: "Watched", Lines: []string{"3 sources"}}}}, alerts.Dest{Sink: "shoutrrr"})
	if _, err := n.Post(t.Context(), &post); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Test(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if len(f.texts) != 5 {
		t.Fatalf("%d texts: %q", len(f.texts), f.texts)
	}
	for i, want := range []string{
		"[medium] /billing/upgrade refuses role member\n38 % of their requests are refused (usually 0.4 %). 212 people on 38 accounts.\nStarted 10:04 UTC.",
		"[high] /billing/upgrade refuses role member\n", "[recovered] Recovered: /billing/upgrade lets role member in again\n", "Yesterday: nothing wrong\nWatched:\n3 sources", alerts.TestText,
	} {
		if !strings.HasPrefix(f.texts[i], want) {
			t.Errorf("text %d: %q, want %q", i, f.texts[i], want)
		}
	}
}

func TestTroubles(t *testing.T) {
	for _, x := range []struct {
		status int
		kind   alerts.ErrorKind
	}{{500, alerts.Temporary}, {429, alerts.Temporary}, {401, alerts.Misconfigured}, {404, alerts.Misconfigured}, {400, alerts.Permanent}} {
		f := newFake(t)
		f.status = x.status
		d := step(1, incident.Opened, incident.High)
		_, err := f.open(t).Notify(t.Context(), &d)
		e, ok := errors.AsType[*alerts.Error](err)
		if !ok || e.Kind != x.kind || strings.Contains(fmt.Sprint(err), "hush") || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%d: %v", x.status, err)
		}
	}
	f := newFake(t)
	n := f.open(t)
	f.Close()
	d := step(1, incident.Opened, incident.High)
	_, err := n.Notify(t.Context(), &d)
	if e, ok := errors.AsType[*alerts.Error](err); !ok || e.Kind != alerts.Temporary || strings.Contains(err.Error(), "hush") {
		t.Errorf("nobody there: %v", err)
	}
}

// TestExplain: a number in what the library says is not always a status.
func TestExplain(t *testing.T) {
	for text, kind := range map[string]alerts.ErrorKind{
		"dial tcp 192.0.2.7:443: connect: connection refused": alerts.Temporary,
		"read tcp 10.0.0.1:51311->192.0.2.7:400: broken pipe": alerts.Temporary,
		"got HTTP 401 Unauthorized":                           alerts.Misconfigured,
		"unexpected response status code 429":                 alerts.Temporary,
		"server returned response status \"400 Bad Request\"": alerts.Permanent,
		"chat not found (Error code: 400)":                    alerts.Permanent,
		"failed: 399, 599 and 443 are none":                   alerts.Temporary,
	} {
		if e := explain(errors.New(text)); e.Kind != kind || strings.Contains(e.Error(), "192.0.2.7") {
			t.Errorf("%s: %v, %v", text, e.Kind, e)
		}
	}
}

// TestHangs: a service that does not answer holds one text, however often it is tried.
func TestHangs(t *testing.T) {
	f := newFake(t)
	f.hang = make(chan struct{})
	n := f.open(t)
	n.timeout = 50 * time.Millisecond
	d := step(1, incident.Opened, incident.High)
	for i, want := range []string{"no answer in time", "not answered an earlier text", "not answered an earlier text"} {
		_, err := n.Notify(t.Context(), &d)
		if e, ok := errors.AsType[*alerts.Error](err); !ok || e.Kind != alerts.Temporary || e.Refused != (i > 0) || !strings.Contains(err.Error(), want) {
			t.Errorf("try %d: %v", i, err)
		}
	}
	close(f.hang)
	n.turn <- struct{}{} // the first has ended
	<-n.turn
	f.mu.Lock()
	f.hang = nil
	f.mu.Unlock()
	n.timeout = time.Minute
	if _, err := n.Notify(context.Background(), &d); err != nil {
		t.Fatal(err)
	}
}

// TestHostileText: what logs hold cannot mention, link or format anything.
func TestHostileText(t *testing.T) {
	f := newFake(t)
	n := f.open(t)
	for _, evil := range []string{"<!channel> <@everyone> @everyone", "a\r\n# b\x00\x1b[31m", "[x](https://evil.example) **b** `c` ~~d~~ ||e||", strings.Repeat("ü", 1<<20), "\u202egnp.exe\u2066"} {
		d := step(1, incident.Opened, incident.High)
		in := &d.Transition.Incident
		in.Scope = incident.Scope{Service: evil, Route: "/" + evil, Role: evil, Geo: evil, Plan: evil, Host: evil, Flag: evil}
		in.Team, in.Journey, in.Causes, in.Rules = evil, evil, []string{evil}, []incident.RuleCount{{Name: evil, Denials: 3}}
		if _, err := n.Notify(t.Context(), &d); err != nil {
			t.Fatal(err)
		}
		text := f.texts[len(f.texts)-1]
		_, values, _ := strings.Cut(text, "]") // the badge is ours
		if strings.ContainsAny(values, "<>@`*[]|\\\r\x00\x1b\u202e") || utf8.RuneCountInString(text) > maxText || strings.Contains(text, "\n#") {
			t.Errorf("%.500q", text)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, x := range []struct {
		url, want string
	}{
		{"", "url: is missing"}, {"ntfy.sh/topic", "url: is not a shoutrrr URL"}, {"logger://", "url: begins with no service"}, {"nope://hush@x", "url: begins with no service"},
	} {
		if err := (&Config{URL: secret.String(x.url)}).Validate(); err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %q", x.url, err, x.want)
		}
	}
	if err := (&Config{URL: "telegram://hush@telegram?chats=1"}).Validate(); err != nil {
		t.Error(err)
	}
}
