package pagerduty_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/internal/incident"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "0123456789abcdef0123456789abcdef"

// event is what PagerDuty's own schema asks for.
type event struct {
	path       string
	RoutingKey string `json:"routing_key"`
	Action     string `json:"event_action"`
	DedupKey   string `json:"dedup_key"`
	Client     string `json:"client"`
	Payload    *struct {
		Summary   string            `json:"summary"`
		Source    string            `json:"source"`
		Severity  string            `json:"severity"`
		Timestamp time.Time         `json:"timestamp"`
		Component string            `json:"component"`
		Group     string            `json:"group"`
		Class     string            `json:"class"`
		Details   map[string]string `json:"custom_details"`
	} `json:"payload"`
}

// fake answers as PagerDuty does.
type fake struct {
	*httptest.Server
	events []event
	fail   map[string]int // status by path
	answer string
}

func newFake(t *testing.T) *fake {
	f := &fake{fail: map[string]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := event{path: r.URL.Path}
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || e.RoutingKey != key {
			t.Errorf("%v: %+v", err, e)
		}
		if code := f.fail[r.URL.Path]; code != 0 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, f.answer)
			return
		}
		switch {
		case e.path == "/v2/change/enqueue" && (e.Payload == nil || e.Payload.Summary == "" || e.Action != ""),
			e.path == "/v2/enqueue" && (e.DedupKey == "" || len(e.DedupKey) > 255 || !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, e.Action)),
			e.Action == "trigger" && (e.Payload == nil || e.Payload.Summary == "" || utf8.RuneCountInString(e.Payload.Summary) > 1024 || e.Payload.Source == "" ||
				!slices.Contains([]string{"critical", "error", "warning", "info"}, e.Payload.Severity)):
			t.Errorf("PagerDuty would refuse %s %+v %+v", e.path, e, e.Payload)
		}
		f.events = append(f.events, e)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) list() (out []string) {
	for i := range f.events {
		e := &f.events[i]
		s := strings.TrimPrefix(e.path, "/v2/") + " " + e.Action + " " + e.DedupKey
		if e.Payload != nil {
			s += " " + e.Payload.Severity + ": " + e.Payload.Summary
		}
		out = append(out, s)
	}
	f.events = nil
	return out
}

func open(t *testing.T, f *fake) *pagerduty.Notifier {
	t.Helper()
	n, err := pagerduty.New(pagerduty.Config{RoutingKey: key, URL: f.URL + "/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

var start = time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)

func step(seq int, kind incident.Kind) alerts.Delivery {
	in := incident.Incident{
		ID: "i1", State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, OpenedAt: start.Add(2 * time.Minute), StartedAt: start,
		Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"}, ExpectedRate: 0.004, ObservedRate: 0.38,
		Requests: 1000, Denials: 380, Identities: 212, Accounts: 38, Severity: incident.High, Team: "growth", Layer: "app",
		Marker: "shop-v2.31.0", MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: start.Add(-time.Minute), Service: "shop", Version: "v2.31.0", Previous: "v2.30.4"},
	}
	t := incident.Transition{Seq: seq, Kind: kind, At: start.Add(time.Duration(seq) * 2 * time.Minute), Incident: in}
	if kind == incident.ResolvedKind {
		t.Incident.State, t.Incident.Resolution, t.Incident.ResolvedAt = incident.Resolved, incident.Recovered, &t.At
	}
	if kind == incident.Acknowledged || kind == incident.Silenced {
		t.Act = &incident.Act{By: "ada", Via: "api", At: t.At, Until: t.At.Add(time.Hour)}
	}
	return alerts.NewDelivery(t, alerts.Dest{Sink: "pagerduty"})
}

const headline = "/billing/upgrade refuses role member. 212 people on 38 accounts."

func TestLifeOfAnIncident(t *testing.T) {
	f := newFake(t)
	n := open(t, f)
	var memory json.RawMessage
	for _, kind := range []incident.Kind{incident.Opened, incident.Grew, incident.Acknowledged, incident.Silenced, incident.ResolvedKind, incident.Reopened} {
		d := step(1, kind)
		d.Memory = memory
		m, err := n.Notify(t.Context(), &d)
		if err != nil {
			t.Fatal(err)
		}
		memory = m
	}
	details := f.events[0].Payload
	want := []string{
		"enqueue trigger denywatch/i1 error: " + headline,
		"change/enqueue   : release shop v2.31.0",
		"enqueue trigger denywatch/i1 error: " + headline,
		"enqueue acknowledge denywatch/i1",
		"enqueue acknowledge denywatch/i1",
		"enqueue resolve denywatch/i1",
		"enqueue trigger denywatch/i1 error: Again: /billing/upgrade refuses role member. 212 people on 38 accounts.",
	}
	if got := f.list(); !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if details.Source != "shop" || details.Component != "/billing/upgrade" || details.Group != "growth" || details.Class != "up" || !details.Timestamp.Equal(start) ||
		!strings.Contains(details.Details["reason"], "38 %") || details.Details["next"] == "" {
		t.Errorf("%+v", details)
	}
}

// TestFirstAcknowledged: a place that is told late hears of the incident before its
// acknowledgement.
func TestFirstAcknowledged(t *testing.T) {
	f := newFake(t)
	n := open(t, f)
	d := step(3, incident.Acknowledged)
	if _, err := n.Notify(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	if got := f.list(); len(got) != 3 || !strings.HasPrefix(got[0], "enqueue trigger") || !strings.HasPrefix(got[1], "enqueue acknowledge") {
		t.Errorf("%q", got)
	}
}

func TestAnswers(t *testing.T) {
	for _, x := range []struct {
		status int
		answer string
		kind   alerts.ErrorKind
		wait   time.Duration
	}{
		{429, "", alerts.Temporary, 7 * time.Second},
		{500, "canary", alerts.Temporary, 7 * time.Second},
		{400, `{"status":"invalid event","errors":["'payload.severity' is invalid"]}`, alerts.Permanent, 0},
		{400, `{"status":"Invalid key","message":"Event object is invalid","errors":["Invalid Routing Key"]}`, alerts.Misconfigured, 0},
		{403, "", alerts.Misconfigured, 0},
	} {
		f := newFake(t)
		f.fail["/v2/enqueue"], f.answer = x.status, x.answer
		d := step(1, incident.Opened)
		_, err := open(t, f).Notify(t.Context(), &d)
		e, ok := errors.AsType[*alerts.Error](err)
		if !ok || e.Kind != x.kind || e.RetryAfter != x.wait || strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", x.status, err)
		}
	}
	// An integration that takes no changes is no trouble, and asked again next time.
	f := newFake(t)
	n := open(t, f)
	f.fail["/v2/change/enqueue"] = 404
	d := step(1, incident.Opened)
	m, err := n.Notify(t.Context(), &d)
	if err != nil {
		t.Fatal(err)
	}
	f.fail = nil
	d = step(2, incident.Grew)
	d.Memory = m
	if _, err := n.Notify(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	if got := f.list(); len(got) != 3 || !strings.HasPrefix(got[2], "change/") {
		t.Errorf("%q", got)
	}
}

func TestTest(t *testing.T) {
	f := newFake(t)
	did, err := open(t, f).Test(t.Context(), "")
	got := f.list()
	if err != nil || did == "" || len(got) != 2 || !strings.Contains(got[0], "info: "+alerts.TestText) || !strings.HasPrefix(got[1], "enqueue resolve") {
		t.Errorf("%q, %v: %q", did, err, got)
	}
}

// TestHostileText: what logs hold is bounded, one line, and never a key or an action.
func TestHostileText(t *testing.T) {
	f := newFake(t)
	n := open(t, f)
	for _, evil := range []string{"<!channel>\",\"event_action\":\"resolve", "a\r\nX: y\x00\x1b[31m", strings.Repeat("ü", 1<<20), "\u202egnp.exe\u2066", "\xff\xfe"} {
		d := step(1, incident.Opened)
		in := &d.Transition.Incident
		in.Scope = incident.Scope{Service: evil, Route: "/" + evil, Role: evil, Geo: evil, Plan: evil, Host: evil, Flag: evil}
		in.Team, in.Journey, in.Marker, in.Causes, in.Rules = evil, evil, evil, []string{evil}, []incident.RuleCount{{Name: evil, Denials: 3}}
		in.MarkerInfo = &incident.MarkerInfo{Kind: evil, Service: evil, Version: evil, Previous: evil, Time: start}
		if _, err := n.Notify(t.Context(), &d); err != nil {
			t.Fatal(err)
		}
		for _, e := range f.events {
			all := []string{e.DedupKey, e.Payload.Summary, e.Payload.Source, e.Payload.Component, e.Payload.Group}
			for _, v := range e.Payload.Details {
				all = append(all, v)
			}
			for _, v := range all {
				if strings.ContainsAny(v, "\r\n\x00\x1b\u202e") || utf8.RuneCountInString(v) > 1024 {
					t.Errorf("%.200q", v)
				}
			}
			if e.path == "/v2/enqueue" && e.Action != "trigger" {
				t.Errorf("action %q", e.Action)
			}
		}
		f.events = nil
	}
}

func TestValidate(t *testing.T) {
	for _, x := range []struct {
		c    pagerduty.Config
		want string
	}{
		{pagerduty.Config{}, "routing_key: is missing"},
		{pagerduty.Config{RoutingKey: "short"}, "routing_key: must be 32"},
		{pagerduty.Config{RoutingKey: key, URL: "events.pagerduty.com"}, "url: is not a complete"},
		{pagerduty.Config{RoutingKey: key, URL: "https://events.eu.pagerduty.com/v2/enqueue"}, "url: must have no path"},
	} {
		if err := x.c.Validate(); err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(fmt.Sprint(err, x.c), key) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
}
