package alertmanager_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
	"github.com/denywatch/denywatch/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alert is what the fake and the real Alertmanager tell of alerts.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Link        string            `json:"generatorURL"`
}

// fake keeps what it is sent.
type fake struct {
	*httptest.Server
	mu   sync.Mutex
	sent [][]alert
	fail int // status to answer with; 0 accepts
}

func newFake(t *testing.T) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		var list []alert
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil || r.URL.Path != "/prefix/api/v2/alerts" || r.Header.Get("X-Scope-OrgID") != "acme" {
			t.Errorf("%v: %s %v", err, r.URL.Path, r.Header)
		}
		if f.fail != 0 {
			w.WriteHeader(f.fail)
			_, _ = io.WriteString(w, "canary of the server")
			return
		}
		f.sent = append(f.sent, list)
	}))
	t.Cleanup(f.Close)
	return f
}

func open(t *testing.T, c alertmanager.Config) *alertmanager.Notifier {
	t.Helper()
	n, err := alertmanager.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// step is a transition of an incident that started ten minutes ago.
func step(id string, seq int, kind incident.Kind, severity incident.Severity) incident.Transition {
	start := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	in := incident.Incident{
		ID: id, State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, OpenedAt: start.Add(2 * time.Minute), StartedAt: start,
		Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member", Geo: "BR"}, ExpectedRate: 0.004, ObservedRate: 0.38,
		Requests: 1000, Denials: 380, Identities: 212, Accounts: 38, Severity: severity, Team: "growth", Layer: "app", Causes: []string{"app_policy"}, Marker: "shop-v2.31.0",
	}
	t := incident.Transition{Seq: seq, Kind: kind, At: start.Add(time.Duration(seq) * 2 * time.Minute), Incident: in}
	if kind == incident.ResolvedKind {
		t.Incident.State, t.Incident.Resolution, t.Incident.ResolvedAt = incident.Resolved, incident.Recovered, &t.At
	}
	return t
}

func delivery(t incident.Transition, memory json.RawMessage) *alerts.Delivery {
	d := alerts.NewDelivery(t, alerts.Dest{Sink: "alertmanager"})
	d.Memory = memory
	return &d
}

func TestLifeOfAnAlert(t *testing.T) {
	f := newFake(t)
	n := open(t, alertmanager.Config{
		URLs: []string{f.URL + "/prefix/"}, Headers: map[string]secret.String{"X-Scope-OrgID": "acme"}, Labels: map[string]string{"env": "prod"},
	})
	var memory json.RawMessage
	for _, s := range []incident.Transition{
		step("i1", 1, incident.Opened, incident.Medium), step("i1", 2, incident.Grew, incident.Medium), step("i1", 3, incident.Grew, incident.Critical),
		step("i1", 4, incident.ResolvedKind, incident.Critical),
	} {
		m, err := n.Notify(t.Context(), delivery(s, memory))
		if err != nil {
			t.Fatal(err)
		}
		memory = m
	}
	want := map[string]string{
		"alertname": "AccessWall", "incident": "i1", "severity": "medium", "team": "growth", "direction": "up", "service": "shop",
		"route": "/billing/upgrade", "role": "member", "country": "BR", "env": "prod",
	}
	worse := maps.Clone(want)
	worse["severity"] = "critical"
	now := time.Now()
	for i, x := range []struct {
		labels []map[string]string
		ended  []bool
	}{
		{[]map[string]string{want}, []bool{false}},
		{[]map[string]string{want}, []bool{false}},
		{[]map[string]string{worse, want}, []bool{false, true}},
		{[]map[string]string{worse}, []bool{true}},
	} {
		if len(f.sent[i]) != len(x.labels) {
			t.Fatalf("request %d has %d alerts, want %d", i, len(f.sent[i]), len(x.labels))
		}
		for j, a := range f.sent[i] {
			if !maps.Equal(a.Labels, x.labels[j]) {
				t.Errorf("request %d: labels %v, want %v", i, a.Labels, x.labels[j])
			}
			if ended := !a.EndsAt.After(now); ended != x.ended[j] || !a.EndsAt.After(a.StartsAt) {
				t.Errorf("request %d: from %v to %v, ended %v", i, a.StartsAt, a.EndsAt, ended)
			}
		}
	}
	first, last := f.sent[0][0], f.sent[3][0]
	if !last.StartsAt.Equal(first.StartsAt) || first.Annotations["summary"] != "/billing/upgrade refuses role member from BR" ||
		!strings.Contains(first.Annotations["description"], "212 people on 38 accounts.") || !strings.Contains(last.Annotations["summary"], "Recovered") || first.Annotations["marker"] != "shop-v2.31.0" {
		t.Errorf("%+v\n%+v", first, last)
	}
}

// TestOneMemberIsEnough: every member of a cluster is asked, and one that takes the
// alert suffices.
func TestOneMemberIsEnough(t *testing.T) {
	a, b := newFake(t), newFake(t)
	n := open(t, alertmanager.Config{
		URLs: []string{a.URL + "/prefix", b.URL + "/prefix"}, Headers: map[string]secret.String{"X-Scope-OrgID": "acme"},
	})
	for _, x := range []struct {
		a, b int
		kind alerts.ErrorKind
		ok   bool
	}{{0, 503, 0, true}, {500, 0, 0, true}, {400, 400, alerts.Permanent, false}, {401, 401, alerts.Misconfigured, false}, {503, 503, alerts.Temporary, false}} {
		a.fail, b.fail = x.a, x.b
		_, err := n.Notify(t.Context(), delivery(step("i1", 1, incident.Opened, incident.Low), nil))
		if (err == nil) != x.ok {
			t.Errorf("%d, %d: %v", x.a, x.b, err)
		}
		if e, ok := errors.AsType[*alerts.Error](err); err != nil && (!ok || e.Kind != x.kind || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%d, %d: %v", x.a, x.b, err)
		}
	}
	a.fail, b.fail = 0, 503
	if _, err := n.Test(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "url[1]: alertmanager: the server answered 503") {
		t.Errorf("a test with a member away: %v", err)
	}
	if last := a.sent[len(a.sent)-1][0]; last.Labels["incident"] != "test" || last.Annotations["summary"] != alerts.TestText {
		t.Errorf("%+v", last)
	}
	a.sent = a.sent[1:]
	if len(a.sent) != 1 || len(b.sent) != 1 {
		t.Errorf("%d and %d alerts taken", len(a.sent), len(b.sent))
	}
}

// TestRefresh: what is open is told again, as it is now, whatever is remembered yet.
func TestRefresh(t *testing.T) {
	f := newFake(t)
	n := open(t, alertmanager.Config{URLs: []string{f.URL + "/prefix"}, Headers: map[string]secret.String{"X-Scope-OrgID": "acme"}})
	tell := func(s incident.Transition, memory json.RawMessage) json.RawMessage {
		t.Helper()
		m, err := n.Notify(t.Context(), delivery(s, memory))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a := tell(step("a", 1, incident.Opened, incident.Low), nil)
	b := tell(step("b", 1, incident.Opened, incident.Low), nil)
	remembered := []json.RawMessage{a, b, json.RawMessage(`{"labels":{}}`), json.RawMessage(`nonsense`)}
	again := func(want ...string) {
		t.Helper()
		f.sent = nil
		if err := n.Refresh(t.Context(), func() []json.RawMessage { return remembered }); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, list := range f.sent {
			for _, x := range list {
				got = append(got, x.Labels["incident"]+" "+x.Labels["severity"])
				if left := time.Until(x.EndsAt); left < alertmanager.HoldOpen-time.Minute {
					t.Errorf("%s ends in %v", x.Labels["incident"], left)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("told again %q, want %q", got, want)
		}
	}
	again("a low", "b low")
	// Told, and not remembered yet.
	worse := tell(step("a", 2, incident.Grew, incident.High), a)
	over := tell(step("b", 2, incident.ResolvedKind, incident.Low), b)
	again("a high")
	remembered[0], remembered[1] = worse, over
	again("a high")
	remembered[0] = tell(step("a", 3, incident.ResolvedKind, incident.High), worse)
	again()
	// Another process, which knows only what was remembered.
	remembered[0] = worse
	n = open(t, alertmanager.Config{URLs: []string{f.URL + "/prefix"}, Headers: map[string]secret.String{"X-Scope-OrgID": "acme"}})
	again("a high")
	f.fail = 503
	if err := n.Refresh(t.Context(), func() []json.RawMessage { return remembered }); err == nil {
		t.Error("a failure is not told")
	}
}

// TestHostileText: what logs hold cannot mention or link anybody, in whatever the
// receivers' templates make of it, and is bounded.
func TestHostileText(t *testing.T) {
	f := newFake(t)
	n := open(t, alertmanager.Config{URLs: []string{f.URL + "/prefix"}, Headers: map[string]secret.String{"X-Scope-OrgID": "acme"}})
	for _, evil := range []string{"<!channel> <https://evil.example|x>", "a\r\nX: y\x00\x1b[31m", strings.Repeat("ü", 1<<20), "\u202egnp.exe\u2066", "[x](https://evil.example) *b* `c`", "\xff\xfe"} {
		s := step("i1", 1, incident.Opened, incident.Low)
		in := &s.Incident
		in.Scope = incident.Scope{Service: evil, Route: "/" + evil, Role: evil, Geo: evil, Plan: evil, Host: evil, Flag: evil}
		in.Team, in.Journey, in.Marker, in.Causes, in.Rules = evil, evil, evil, []string{evil}, []incident.RuleCount{{Name: evil, Denials: 3}}
		if _, err := n.Notify(t.Context(), delivery(s, nil)); err != nil {
			t.Fatal(err)
		}
		a := f.sent[len(f.sent)-1][0]
		for _, m := range []map[string]string{a.Labels, a.Annotations} {
			for name, v := range m {
				if strings.ContainsAny(v, "<>\r\n\x00\x1b\u202e") || len([]rune(v)) > 1010 {
					t.Errorf("%s: %.200q", name, v)
				}
			}
		}
		for _, v := range a.Annotations {
			if strings.Contains(v, "](") || strings.Contains(v, "`") {
				t.Errorf("%.200q", v)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for _, x := range []struct {
		c    alertmanager.Config
		want string
	}{
		{alertmanager.Config{}, "url: is missing"},
		{alertmanager.Config{URLs: []string{"http://am:9093/api/v2/alerts"}}, "url[0]: must end before /api/"},
		{alertmanager.Config{URLs: []string{"http://ann:hush@am:9093"}}, "url[0]: must hold no password"},
		{alertmanager.Config{URLs: []string{"am:9093"}}, "url[0]: is not a complete"},
		{alertmanager.Config{URLs: []string{"http://am"}, Labels: map[string]string{"severity": "x", "a-b": "x", "c": ""}}, "severity is set by denywatch itself"},
		{alertmanager.Config{URLs: []string{"http://am"}, Headers: map[string]secret.String{"Host": "x"}}, "headers: Host is set"},
	} {
		if err := x.c.Validate(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
}

// TestRealAlertmanager: a real one takes the alerts, tells each once, and that they
// are over, also when it was restarted meanwhile.
func TestRealAlertmanager(t *testing.T) {
	program := servertest.Need(t, "prometheus-alertmanager")
	var mu sync.Mutex
	var told []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Alerts []struct {
				Status string            `json:"status"`
				Labels map[string]string `json:"labels"`
			} `json:"alerts"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range body.Alerts {
			told = append(told, fmt.Sprintf("%s %s %s", a.Labels["incident"], a.Labels["severity"], a.Status))
		}
	}))
	defer receiver.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
route: { receiver: test, group_by: [incident, severity], group_wait: 10ms, group_interval: 50ms, repeat_interval: 1h }
receivers: [{ name: test, webhook_configs: [{ url: %q }] }]
`, receiver.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", servertest.FreePort(t))
	n := open(t, alertmanager.Config{URLs: []string{"http://" + address}})
	var p *servertest.Process
	run := func() {
		t.Helper()
		p = servertest.Start(t, exec.Command(program, "--config.file="+config, "--storage.path="+t.TempDir(), "--web.listen-address="+address, "--cluster.listen-address="))
		p.Await(t, "Alertmanager to answer", func() (bool, string) {
			resp, err := http.Get("http://" + address + "/-/ready")
			if err != nil {
				return false, err.Error()
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK, resp.Status
		})
	}
	run()
	const link = "https://watch.example.com/v1/incidents/i1"
	var memory json.RawMessage
	tell := func(s incident.Transition) {
		t.Helper()
		for range 2 { // the second try after an uncertain one
			d := delivery(s, memory)
			d.URL = link
			m, err := n.Notify(t.Context(), d)
			if err != nil {
				t.Fatalf("%v\n%s", err, p.Stderr.Tail())
			}
			memory = m
		}
	}
	heard := func(want ...string) {
		t.Helper()
		p.Await(t, "what is told", func() (bool, string) {
			mu.Lock()
			defer mu.Unlock()
			got := slices.Clone(told)
			slices.Sort(got)
			slices.Sort(want)
			return slices.Equal(got, want), strings.Join(got, ", ")
		})
	}
	tell(step("i1", 1, incident.Opened, incident.Medium))
	heard("i1 medium firing")
	tell(step("i1", 2, incident.Grew, incident.Medium))
	resp, err := http.Get("http://" + address + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var active []alert
	if err := json.NewDecoder(resp.Body).Decode(&active); err != nil || len(active) != 1 || active[0].Labels["route"] != "/billing/upgrade" || active[0].Link != link {
		t.Errorf("%v: %+v", err, active)
	}
	tell(step("i1", 3, incident.Grew, incident.Critical))
	heard("i1 medium firing", "i1 medium resolved", "i1 critical firing")
	// Another one, which knows nothing.
	p.Kill()
	mu.Lock()
	told = nil
	mu.Unlock()
	run()
	if err := n.Refresh(t.Context(), func() []json.RawMessage { return []json.RawMessage{memory} }); err != nil {
		t.Fatal(err)
	}
	heard("i1 critical firing")
	quiet := step("i1", 4, incident.Silenced, incident.Critical)
	quiet.Act = &incident.Act{By: "ada <!channel>", Via: "api", At: time.Now(), Until: time.Now().Add(time.Hour)}
	tell(quiet)
	states := func() (list []string) {
		resp, err := http.Get("http://" + address + "/api/v2/silences")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var all []struct {
			Status   struct{ State string }
			Comment  string
			Matchers []struct{ Name, Value string }
		}
		if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Matchers[0].Name != "incident" || x.Matchers[0].Value != "i1" || strings.Contains(x.Comment, "<") {
				t.Errorf("%+v", x)
			}
			list = append(list, x.Status.State)
		}
		slices.Sort(list)
		return list
	}
	if got := states(); !slices.Equal(got, []string{"active", "expired"}) { // tell tries twice
		t.Errorf("silences %v", got)
	}
	loud := step("i1", 5, incident.Unsilenced, incident.Critical)
	loud.Act = &incident.Act{By: "ada", Via: "api", At: time.Now()}
	tell(loud)
	if got := states(); !slices.Equal(got, []string{"expired", "expired"}) {
		t.Errorf("silences %v", got)
	}
	tell(step("i1", 6, incident.ResolvedKind, incident.Critical))
	heard("i1 critical firing", "i1 critical resolved")
}
