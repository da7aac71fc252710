package slack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v4"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the golden files")

var start1004 = time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)

// step is a transition of the incident id.
func step(id string, seq int, kind incident.Kind) incident.Transition {
	minutes := map[int]int{1: 3, 2: 11, 3: 40, 4: 55}[seq]
	at := start1004.Add(time.Duration(minutes) * time.Minute)
	in := incident.Incident{
		ID: id, State: incident.Open, Direction: incident.Up, StartedAt: start1004, OpenedAt: start1004.Add(3 * time.Minute),
		Scope:        incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"},
		ExpectedRate: 0.004, ObservedRate: 0.61, Requests: 700, Denials: 427, Identities: []int64{0, 212, 480, 1104, 1190}[seq], Accounts: []int64{0, 38, 71, 122, 130}[seq],
		Layer: "app", Causes: []string{"entitlement_missing"}, Marker: "shop-v2.31.0",
		MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: start1004.Add(-4 * time.Minute), Service: "shop", Version: "v2.31.0", Previous: "v2.30.4"},
		Severity:   incident.Critical, Team: "growth", Journey: "Upgrade",
		Contrast: []incident.Contrast{{Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "owner"}}, {Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "admin"}}},
	}
	if kind == incident.ResolvedKind {
		back := int64(980)
		in.State, in.Resolution, in.ResolvedAt, in.GotInAgain = incident.Resolved, incident.Recovered, &at, &back
	}
	return incident.Transition{Seq: seq, Kind: kind, At: at, Incident: in}
}

func life(id string) []incident.Transition {
	return []incident.Transition{step(id, 1, incident.Opened), step(id, 2, incident.Grew), step(id, 3, incident.ResolvedKind), step(id, 4, incident.Reopened)}
}

func open(t *testing.T, s *slackfake.Server, edit func(*slack.Config), log *slog.Logger) *slack.Notifier {
	t.Helper()
	conf := slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: s.URL()}
	if edit != nil {
		edit(&conf)
	}
	n, err := slack.New(conf, slack.Options{Pace: slack.NewPace(time.Microsecond), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// tell delivers ts one after another as the outbox does, and fails on errors.
func tell(t *testing.T, n *slack.Notifier, mem json.RawMessage, ts ...incident.Transition) json.RawMessage {
	t.Helper()
	for _, tr := range ts {
		m, err := try(n, mem, false, tr)
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			mem = m
		}
	}
	return mem
}

func try(n *slack.Notifier, mem json.RawMessage, uncertain bool, tr incident.Transition) (json.RawMessage, error) {
	d := alerts.NewDelivery(tr, alerts.Dest{Sink: "slack"})
	d.QueuedAt, d.Memory, d.Uncertain = time.Now(), mem, uncertain
	return n.Notify(context.Background(), &d)
}

func lines(ms []slackfake.Message) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Text)
	}
	return out
}

var allLines = []string{
	"10:07 opened: 212 people on 38 accounts",
	"10:15 grew to 480 people on 71 accounts",
	"10:44 recovered after 40 min: 1,104 people on 122 accounts",
	"10:59 opened again: 1,190 people on 130 accounts",
}

func TestOneMessageWithATimeLine(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	var mem json.RawMessage
	for i, tr := range life("i1") {
		mem = tell(t, n, mem, tr)
		ms := s.Messages()
		if len(ms) != 1 || ms[0].Edits != i {
			t.Fatalf("after %s: %+v", tr.Kind, ms)
		}
		if got := lines(s.Thread(ms[0].TS)); !slices.Equal(got, allLines[:i+1]) {
			t.Errorf("thread = %q", got)
		}
		if p := ms[0].Payload; ms[0].EventType != "denywatch_incident" || p["incident"] != "i1" || p["seq"] != float64(tr.Seq) || p["part"] != "message" {
			t.Errorf("metadata = %s %v", ms[0].EventType, p)
		}
	}
	// Two incidents do not share a message, and one told twice stays one.
	tell(t, n, nil, life("i2")[0])
	tell(t, n, mem, life("i1")[3])
	if ms := s.Messages(); len(ms) != 2 || len(s.Thread(ms[0].TS)) != 4 {
		t.Errorf("%d messages", len(ms))
	}
}

func pretty(raw ...json.RawMessage) string {
	var b bytes.Buffer
	for _, r := range raw {
		_ = json.Indent(&b, r, "", "  ")
		b.WriteByte('\n')
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and look at the diff); got:\n%s", path, got)
	}
}

const attack = "<!channel> @here *b* _i_ ~s~ `c` :fire: & <https://evil.example|x>"

func hostile(v string) incident.Transition {
	tr := step("i1", 1, incident.Opened)
	in := &tr.Incident
	in.Scope = incident.Scope{Service: v, Route: v, Role: v, Geo: v, Plan: v, Host: v, Flag: v}
	in.Team, in.Journey, in.Causes, in.ID = v, v, []string{v}, v
	in.MarkerInfo = &incident.MarkerInfo{Kind: v, Time: start1004, Service: v, Version: v, Previous: v}
	in.Contrast = []incident.Contrast{{Scope: incident.Scope{Role: v + "2"}}, {Scope: incident.Scope{Route: v + "3"}}}
	in.Degraded = true
	in.Vantages = []string{v}
	in.Acknowledged = &incident.Act{By: v, ID: v, Via: v, At: tr.At}
	in.Silenced = &incident.Act{By: v, ID: v, Via: v, At: tr.At, Until: tr.At.Add(time.Hour)}
	tr.Act = in.Silenced
	return tr
}

func TestLook(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	cases := map[string]incident.Transition{"hostile": hostile(attack), "quiet": {Seq: 1, Kind: incident.Opened, At: start1004, Incident: incident.Incident{ID: "q", Direction: incident.Up, Severity: incident.Low}}}
	for i, name := range []string{"opened", "grew", "resolved", "reopened"} {
		cases[name] = life("i1")[i]
	}
	vanished := step("i1", 1, incident.Opened)
	vanished.Incident.Direction, vanished.Incident.ExpectedRate, vanished.Incident.ObservedRate = incident.Down, 0.97, 0.01
	vanished.Incident.Contrast = slices.Clone(vanished.Incident.Contrast)
	for i := range vanished.Incident.Contrast {
		vanished.Incident.Contrast[i].ObservedRate = 0.98 // locked as before
	}
	cases["vanished"] = vanished
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		tell(t, n, nil, cases[name])
		ms := s.Messages()
		m := ms[len(ms)-1]
		golden(t, name+".golden", "text: "+m.Text+"\nthread: "+strings.Join(lines(s.Thread(m.TS)), "\n")+"\n"+pretty(m.Blocks, m.Attachments))
	}
	if calls := s.Calls(); len(calls) != 2*len(cases) {
		t.Errorf("some message was sent again: %v", calls)
	}
}

func TestHostileTextIsInert(t *testing.T) {
	s := slackfake.New(t)
	n := whole(t, s, &painter{fail: errors.New("no picture")}, nil)
	values := []string{attack, "> quote", "@channel", "#general", "_x_", "a\n\n*b*", "\u202e<!here>", strings.Repeat("&", 400), strings.Repeat("<@U1>", 100),
		strings.Repeat("👩", 300), strings.Repeat("ש", 300), strings.Repeat("`", 300), "\xff\xfe", strings.Repeat("x", 1<<20)}
	for _, v := range values {
		for kind, seq := range map[incident.Kind]int{incident.Opened: 1, incident.ResolvedKind: 3} {
			tr := hostile(v)
			tr.Kind, tr.Seq = kind, seq
			tell(t, n, nil, tr)
		}
	}
	ms := s.Messages()
	if len(ms) != 2*len(values) || len(s.Calls()) != 4*len(values) {
		t.Errorf("%d messages, %d calls: some were refused", len(ms), len(s.Calls()))
	}
	for _, m := range ms {
		for _, raw := range []string{m.Text, text(t, m.Blocks), text(t, m.Attachments)} {
			for _, bad := range []string{"<", ">", "`", "@here", "@channel", "#general", "~s~", ":fire:"} {
				if bad == "@here" && raw == m.Text || bad == "@channel" && raw == m.Text || bad == "#general" && raw == m.Text {
					continue // inert there: parse is none
				}
				if bad[0] != '<' && bad[0] != '>' && (raw == m.Text || strings.Contains(raw, "header")) {
					continue // no markup is read in plain text
				}
				if strings.Contains(raw, bad) {
					t.Errorf("%q in %s", bad, alerts.Clip(raw, 300))
				}
			}
		}
	}
}

// text returns the strings of a JSON document.
func text(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			b.WriteString(v + "\n")
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				if k != "fallback" {
					walk(x)
				}
			}
		}
	}
	walk(v)
	return b.String()
}

func TestDeletedMessageIsPostedAnew(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	mem := tell(t, n, nil, life("i1")[0])
	s.Delete(s.Messages()[0].TS)
	mem = tell(t, n, mem, life("i1")[1:]...)
	ms := s.Messages()
	if len(ms) != 1 || ms[0].Edits != 2 || len(s.Thread(ms[0].TS)) != 3 {
		t.Errorf("messages %+v, thread %q", ms, lines(s.Thread(ms[0].TS)))
	}
	// Deleted between the edit and the reply.
	s.Fail(slackfake.Fault{Method: "chat.postMessage", Error: "thread_not_found", Times: 1})
	s.Delete(ms[0].TS)
	s.Fail(slackfake.Fault{Method: "chat.update", Body: `{"ok":true,"channel":"C0ACCESSWALLS","ts":"1.2"}`, Times: 1})
	next := life("i1")[3]
	next.Seq = 5
	tell(t, n, mem, next)
	if ms := s.Messages(); len(ms) != 1 || ms[0].TS == "1.2" || len(s.Thread(ms[0].TS)) != 1 {
		t.Errorf("messages %+v", ms)
	}
}

func TestUncertainLooksBeforeItPosts(t *testing.T) {
	for _, drop := range []string{"message", "line"} {
		for _, channel := range []string{"#access-walls", "C0ACCESSWALLS"} {
			t.Run(drop+" to "+channel, func(t *testing.T) {
				s := slackfake.New(t)
				s.SetPageSize(3)
				for i := range 20 {
					s.AddChannel(fmt.Sprint("a", i))
				}
				n := open(t, s, func(c *slack.Config) { c.Channel = channel }, nil)
				s.Post("before")
				skip := map[string]int{"message": 0, "line": 1}[drop]
				s.Fail(slackfake.Fault{Method: "chat.postMessage", Drop: true, Skip: skip, Times: 1})
				mem, err := try(n, nil, false, life("i1")[0])
				if e, ok := errors.AsType[*alerts.Error](err); !ok || e.Kind != alerts.Temporary || e.Refused {
					t.Fatalf("err = %#v", err)
				}
				for range 10 {
					s.Post("noise")
				}
				// A new process, which remembers only what was returned.
				n = open(t, s, func(c *slack.Config) { c.Channel = channel }, nil)
				m2, err := try(n, mem, true, life("i1")[0])
				if err != nil {
					t.Fatal(err)
				}
				if m2 != nil {
					mem = m2
				}
				tell(t, n, mem, life("i1")[1])
				var ours []slackfake.Message
				for _, m := range s.Messages() {
					if m.EventType != "" {
						ours = append(ours, m)
					}
				}
				if len(ours) != 1 || !slices.Equal(lines(s.Thread(ours[0].TS)), allLines[:2]) {
					t.Errorf("messages %+v, thread %q", ours, lines(s.Thread(ours[0].TS)))
				}
			})
		}
	}
}

func TestUncertainWithoutTheScopeToLook(t *testing.T) {
	s := slackfake.New(t)
	var log bytes.Buffer
	n := open(t, s, nil, slog.New(slog.NewTextHandler(&log, nil)))
	s.Fail(slackfake.Fault{Method: "conversations.list", Error: "missing_scope"})
	for range 2 {
		if _, err := try(n, nil, true, life("i1")[0]); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Messages()) == 0 || strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "missing_scope") {
		t.Errorf("%d messages, log:\n%s", len(s.Messages()), log.String())
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		fault   slackfake.Fault
		kind    alerts.ErrorKind
		wait    time.Duration
		refused bool
		says    string
	}{
		{"429", slackfake.Fault{Status: 429, RetryAfter: "17"}, alerts.Temporary, 17 * time.Second, true, "429"},
		{"429 without a time", slackfake.Fault{Status: 429}, alerts.Temporary, 0, true, "429"},
		{"429 with rubbish", slackfake.Fault{Status: 429, RetryAfter: "soon"}, alerts.Temporary, 0, true, "429"},
		{"500", slackfake.Fault{Status: 500}, alerts.Temporary, 0, false, "500"},
		{"503 with a time", slackfake.Fault{Status: 503, RetryAfter: "5"}, alerts.Temporary, 5 * time.Second, false, "503"},
		{"no answer", slackfake.Fault{Hang: true}, alerts.Temporary, 0, false, "no answer in time"},
		{"dropped", slackfake.Fault{Drop: true}, alerts.Temporary, 0, false, "EOF"},
		{"malformed", slackfake.Fault{Body: `{"ok":tru`}, alerts.Temporary, 0, false, "not one of Slack's"},
		{"empty object", slackfake.Fault{Body: `{}`}, alerts.Temporary, 0, false, "not one of Slack's"},
		{"HTML", slackfake.Fault{Body: `<html>sign in</html>`}, alerts.Temporary, 0, false, "not one of Slack's"},
		{"not ok without a code", slackfake.Fault{Body: `{"ok":false}`}, alerts.Temporary, 0, false, "not one of Slack's"},
		{"invalid_auth", slackfake.Fault{Error: "invalid_auth"}, alerts.Misconfigured, 0, true, "copy the Bot User OAuth Token"},
		{"token_revoked", slackfake.Fault{Error: "token_revoked"}, alerts.Misconfigured, 0, true, "install the app again"},
		{"account_inactive", slackfake.Fault{Error: "account_inactive"}, alerts.Misconfigured, 0, true, "install the app again"},
		{"channel_not_found", slackfake.Fault{Error: "channel_not_found"}, alerts.Misconfigured, 0, true, "/invite @denywatch"},
		{"not_in_channel", slackfake.Fault{Error: "not_in_channel"}, alerts.Misconfigured, 0, true, "/invite @denywatch"},
		{"is_archived", slackfake.Fault{Error: "is_archived"}, alerts.Misconfigured, 0, true, "unarchive"},
		{"missing_scope", slackfake.Fault{Body: `{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"x"}`}, alerts.Misconfigured, 0, true, "add the scope chat:write"},
		{"invalid_blocks for ever", slackfake.Fault{Error: "invalid_blocks"}, alerts.Permanent, 0, true, "invalid_blocks"},
		{"fatal_error", slackfake.Fault{Error: "fatal_error"}, alerts.Temporary, 0, false, "fatal_error"},
		{"unknown", slackfake.Fault{Error: "something_new\n<x>"}, alerts.Temporary, 0, true, "something_new"},
	} {
		for _, method := range []string{"chat.postMessage", "chat.update"} {
			t.Run(c.name+" "+method, func(t *testing.T) {
				s := slackfake.New(t)
				var log bytes.Buffer
				n := open(t, s, nil, slog.New(slog.NewTextHandler(&log, nil)))
				var mem json.RawMessage
				tr := life("i1")[0]
				if method == "chat.update" {
					mem, tr = tell(t, n, nil, tr), life("i1")[1]
				}
				c.fault.Method = method
				s.Fail(c.fault)
				d := alerts.NewDelivery(tr, alerts.Dest{Sink: "slack"})
				d.Memory, d.QueuedAt = mem, time.Now()
				ctx := context.Background()
				if c.fault.Hang {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
					defer cancel()
				}
				_, err := n.Notify(ctx, &d)
				e, ok := errors.AsType[*alerts.Error](err)
				if !ok {
					t.Fatalf("err = %v", err)
				}
				if e.Kind != c.kind || e.RetryAfter != c.wait || e.Refused != c.refused || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, wait %v, refused=%v: %v", e.Kind, e.RetryAfter, e.Refused, err)
				}
				for _, out := range []string{err.Error(), log.String()} {
					if strings.Contains(out, "fakefakefake") || strings.Contains(out, "/api/") {
						t.Errorf("a token or a URL in %q", out)
					}
				}
				// After the trouble it goes on where it was.
				s.Clear()
				if strings.HasPrefix(c.name, "429") {
					n = open(t, s, nil, nil) // this one waits
				}
				if _, err := try(n, mem, !e.Refused, tr); err != nil {
					t.Fatal(err)
				}
				if ms := s.Messages(); len(ms) != 1 || len(s.Thread(ms[0].TS)) != tr.Seq {
					t.Errorf("messages %+v", ms)
				}
			})
		}
	}
}

func TestRefusedLayoutGoesAsPlainText(t *testing.T) {
	s := slackfake.New(t)
	n := open(t, s, nil, nil)
	s.Fail(slackfake.Fault{Method: "chat.postMessage", Error: "invalid_blocks", Times: 1}, slackfake.Fault{Method: "chat.update", Error: "msg_too_long", Times: 1})
	mem := tell(t, n, nil, life("i1")[0])
	m := s.Messages()[0]
	if string(m.Blocks) != "[]" || !strings.HasPrefix(m.Text, "/billing/upgrade refuses role member. 61 % of their requests") {
		t.Errorf("%+v", m)
	}
	tell(t, n, mem, life("i1")[1])
	if m := s.Messages()[0]; m.Edits != 1 || string(m.Blocks) != "[]" || string(m.Attachments) != "[]" || m.EventType == "" {
		t.Errorf("%+v", m)
	}
}

func TestIncomingWebhook(t *testing.T) {
	s := slackfake.New(t)
	var log bytes.Buffer
	n := open(t, s, func(c *slack.Config) { *c = slack.Config{Webhook: secret.String(s.WebhookURL())} }, slog.New(slog.NewTextHandler(&log, nil)))
	tell(t, n, nil, life("i1")...)
	ms := s.Messages()
	if len(ms) != 3 {
		t.Fatalf("%d messages, want opened, resolved and reopened", len(ms))
	}
	golden(t, "webhook.golden", "text: "+ms[1].Text+"\n"+pretty(ms[1].Blocks, ms[1].Attachments))
	for _, c := range []struct {
		fault slackfake.Fault
		kind  alerts.ErrorKind
	}{
		{slackfake.Fault{Status: 403}, alerts.Misconfigured}, {slackfake.Fault{Status: 404}, alerts.Misconfigured}, {slackfake.Fault{Status: 410}, alerts.Misconfigured},
		{slackfake.Fault{Status: 429, RetryAfter: "3"}, alerts.Temporary}, {slackfake.Fault{Status: 500}, alerts.Temporary}, {slackfake.Fault{Drop: true}, alerts.Temporary},
		{slackfake.Fault{Status: 400}, alerts.Permanent},
	} {
		s.Clear()
		s.Fail(c.fault)
		n := open(t, s, func(conf *slack.Config) { *conf = slack.Config{Webhook: secret.String(s.WebhookURL())} }, slog.New(slog.NewTextHandler(&log, nil)))
		_, err := try(n, nil, false, life("i1")[0])
		if e, ok := errors.AsType[*alerts.Error](err); !ok || e.Kind != c.kind || strings.Contains(err.Error(), "hook-secret") {
			t.Errorf("%+v: %v", c.fault, err)
		}
	}
	s.Clear()
	s.Fail(slackfake.Fault{Status: 400, Times: 1})
	before := len(s.Messages())
	tell(t, n, nil, life("i1")[0])
	if ms := s.Messages(); len(ms) != before+1 || len(ms[before].Blocks) != 0 {
		t.Errorf("plain text after a refused layout: %+v", ms[before:])
	}
	if strings.Contains(log.String(), "hook-secret") {
		t.Errorf("the log shows the webhook's URL:\n%s", log.String())
	}
}

// disk is a store in memory; see the outbox's own tests.
type disk struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
	step    func()
	dead    func() bool
}

type diskTx map[[2]string][]byte

func (t diskTx) Put(bucket, key string, value []byte) error {
	t[[2]string{bucket, key}] = bytes.Clone(value)
	return nil
}
func (t diskTx) Delete(bucket, key string) error { t[[2]string{bucket, key}] = nil; return nil }

var errKilled = errors.New("the process was killed")

func (d *disk) Update(fn func(alerts.Tx) error) error {
	tx := diskTx{}
	if err := fn(tx); err != nil {
		return err
	}
	d.step()
	if d.dead() {
		return errKilled
	}
	d.mu.Lock()
	for k, v := range tx {
		if d.buckets[k[0]] == nil {
			d.buckets[k[0]] = map[string][]byte{}
		}
		if v == nil {
			delete(d.buckets[k[0]], k[1])
		} else {
			d.buckets[k[0]][k[1]] = v
		}
	}
	d.mu.Unlock()
	d.step()
	return nil
}

func (d *disk) View(bucket string, fn func(key string, value []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(d.buckets[bucket])) {
		if err := fn(k, d.buckets[bucket][k]); err != nil {
			return err
		}
	}
	return nil
}

// watch reports to a channel what the outbox did.
type watch struct {
	delivered, failed chan struct{}
}

func (w *watch) Delivered(string, time.Duration) { w.delivered <- struct{}{} }
func (w *watch) Failed(string, alerts.ErrorKind) { w.failed <- struct{}{} }
func (w *watch) Dead(string)                     {}
func (w *watch) Coalesced(string, int)           {}

// runUntil runs a process over the disk: it sends what is not sent yet and ends
// when it is killed, when a try failed, or when all was delivered.
func runUntil(t *testing.T, d *disk, n alerts.Notifier, stop time.Duration, killed chan struct{}, step func(string), all []incident.Transition) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &watch{delivered: make(chan struct{}, 1000), failed: make(chan struct{}, 1000)}
	o, err := alerts.New(d, map[string]alerts.Notifier{"slack": n}, alerts.Options{Crash: step, Meter: w, StopTimeout: stop})
	if err != nil {
		t.Fatal(err)
	}
	left := o.Health()[0].Depth
	next := 0
	_ = d.View("detector", func(_ string, v []byte) error { return json.Unmarshal(v, &next) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = o.Run(ctx)
	}()
	for ; next < len(all); next++ {
		ds := []alerts.Delivery{alerts.NewDelivery(all[next], alerts.Dest{Sink: "slack"})}
		if err := d.Update(func(tx alerts.Tx) error {
			if err := o.Enqueue(tx, ds); err != nil {
				return err
			}
			return tx.Put("detector", "next", fmt.Append(nil, next+1))
		}); err != nil {
			break // killed
		}
		o.Add(ds)
		left++
	}
	for ; left > 0; left-- {
		select {
		case <-w.delivered:
			continue
		case <-killed:
		case <-w.failed:
		}
		break
	}
	cancel()
	<-done
}

func checkShown(t *testing.T, s *slackfake.Server, what string) {
	t.Helper()
	ms := s.Messages()
	if len(ms) != 2 {
		t.Errorf("%s: %d messages for 2 incidents", what, len(ms))
	}
	for _, m := range ms {
		if m.Payload["seq"] != float64(4) {
			t.Errorf("%s: the message shows transition %v", what, m.Payload["seq"])
		}
		if got := lines(s.Thread(m.TS)); !slices.Equal(got, allLines) {
			t.Errorf("%s: thread %q", what, got)
		}
	}
}

func TestKilledAtEveryStepShowsEverythingOnce(t *testing.T) {
	var all []incident.Transition
	for i := range 4 {
		all = append(all, life("i1")[i], life("i2")[i])
	}
	kills := 0
	for kill := 1; ; kill++ {
		s, err := slackfake.Start()
		if err != nil {
			t.Fatal(err)
		}
		d := &disk{buckets: map[string]map[string][]byte{}}
		var mu sync.Mutex
		left, dead := kill, false
		killed := make(chan struct{})
		step := func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				dead = true
				close(killed)
			}
		}
		isDead := func() bool { mu.Lock(); defer mu.Unlock(); return dead }
		d.step, d.dead = step, isDead
		for process := range 2 {
			n := whole(t, s, &painter{}, nil)
			if process == 1 {
				killed = nil
			}
			runUntil(t, d, guard{n, isDead}, 10*time.Millisecond, killed, func(string) { step() }, all)
			n.Close()
			s.Settle() // what was under way at the kill arrives before the next process looks
			mu.Lock()
			reached := dead
			dead = false
			mu.Unlock()
			if !reached {
				break
			}
			kills++
		}
		checkShown(t, s, fmt.Sprintf("killed at step %d", kill))
		s.Close()
		if kills < kill {
			break
		}
	}
	if kills < 40 {
		t.Errorf("only %d steps were tried", kills)
	}
	t.Logf("killed at %d different steps", kills)
}

// guard is a notifier of a process that may be dead.
type guard struct {
	alerts.Notifier
	dead func() bool
}

func (g guard) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	if g.dead() {
		return nil, errKilled
	}
	return g.Notifier.Notify(ctx, d)
}

func TestConnectionLostInEveryCallShowsEverythingOnce(t *testing.T) {
	var all []incident.Transition
	for i := range 4 {
		all = append(all, life("i1")[i], life("i2")[i])
	}
	for skip := 0; ; skip++ {
		s, err := slackfake.Start()
		if err != nil {
			t.Fatal(err)
		}
		s.SetPageSize(1)
		d := &disk{buckets: map[string]map[string][]byte{}, step: func() {}, dead: func() bool { return false }}
		s.Fail(slackfake.Fault{Drop: true, Skip: skip, Times: 1})
		// The first process ends at the failure; the second meets a dropped
		// connection of its own; the third finishes.
		for process := range 3 {
			n := whole(t, s, &painter{}, nil)
			if process == 1 {
				s.Fail(slackfake.Fault{Drop: true, Skip: skip % 3, Times: 1})
			} else if process == 2 {
				s.Clear()
			}
			runUntil(t, d, n, time.Minute, nil, func(string) {}, all)
			n.Close()
		}
		calls := len(s.Calls())
		checkShown(t, s, fmt.Sprintf("connection lost in call %d", skip))
		s.Close()
		if skip > calls {
			break
		}
	}
}

func TestPace(t *testing.T) {
	s := slackfake.New(t)
	n, err := slack.New(slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: strings.TrimSuffix(s.URL(), "/")}, slack.Options{Pace: slack.NewPace(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// Three calls may come at once, the fourth would wait for an hour.
	tell(t, n, nil, life("i1")[0])
	d := alerts.NewDelivery(life("i2")[0], alerts.Dest{Sink: "slack"})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mem, err := n.Notify(ctx, &d)
	e, ok := errors.AsType[*alerts.Error](err)
	if !ok || e.Kind != alerts.Temporary || !e.Refused || mem == nil {
		t.Errorf("memory %s, err = %v", mem, err)
	}
	if len(s.Calls()) != 3 {
		t.Errorf("calls = %v", s.Calls())
	}
}

func TestConfig(t *testing.T) {
	long := "#" + strings.Repeat("a", 81)
	for _, c := range []struct {
		name string
		conf slack.Config
		want []string
	}{
		{"name", slack.Config{Token: "xoxb-1-2-canary", Channel: "#access-walls"}, nil},
		{"id", slack.Config{Token: "xoxb-1-2-canary", Channel: "C0123456789", APIURL: "http://proxy:8080/slack"}, nil},
		{"letters of any script", slack.Config{Token: "xoxb-1-2-canary", Channel: "#größe_日本-1"}, nil},
		{"webhook", slack.Config{Webhook: "https://hooks.slack.com/services/T/B/canary"}, nil},
		{"nothing", slack.Config{}, []string{"token: is missing", "channel: is missing"}},
		{"both", slack.Config{Token: "xoxb-canary", Webhook: "https://canary/", Channel: "#a"}, []string{"webhook: give either"}},
		{"webhook with more", slack.Config{Webhook: "canary", Channel: "#a", APIURL: "x"}, []string{"webhook: is not a complete", "channel: an incoming webhook", "api_url: is not used"}},
		{"user token", slack.Config{Token: "xoxp-canary", Channel: "general"}, []string{"token: is not a bot token", "channel: is neither"}},
		{"line break", slack.Config{Token: "xoxb-canary\n", Channel: long}, []string{"token: contains", "channel: is not a channel name"}},
		{"capitals", slack.Config{Token: "xoxb-canary", Channel: "#General"}, []string{"channel: is not a channel name"}},
		{"clicks through a connection", slack.Config{Token: "xoxb-canary", Channel: "#a", AppToken: "xapp-canary"}, nil},
		{"clicks that are signed", slack.Config{Token: "xoxb-canary", Channel: "#a", SigningSecret: "0123456789abcdef0123456789abcdef"}, nil},
		{"clicks both ways", slack.Config{Token: "xoxb-canary", Channel: "#a", AppToken: "xapp-canary", SigningSecret: "0123456789abcdef0123456789abcdef"}, []string{"signing_secret: give either"}},
		{"other tokens", slack.Config{Token: "xoxb-canary", Channel: "#a", AppToken: "xoxb-canary"}, []string{"app_token: is not an app-level token"}},
		{"other secret", slack.Config{Token: "xoxb-canary", Channel: "#a", SigningSecret: "canary"}, []string{"signing_secret: is not a signing secret"}},
		{"webhook with buttons", slack.Config{Webhook: "https://canary/", AppToken: "xapp-canary"}, []string{"webhook: messages of an incoming webhook have no buttons"}},
		{"API", slack.Config{Token: "xoxb-canary", Channel: "#a", APIURL: "proxy"}, []string{"api_url: is not"}},
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
	var conf slack.Config
	if err := yaml.Unmarshal([]byte("{ token: xoxb-a, channel: \"#access-walls\" }"), &conf); err != nil || conf.Validate() != nil || conf.Token.Reveal() != "xoxb-a" {
		t.Errorf("%+v, %v", conf, err)
	}
}
