package slack

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// desk notes what it is asked to do.
type desk struct {
	mu   sync.Mutex
	done []string
	fail error
	some chan struct{}
}

func (d *desk) Act(_ context.Context, id string, verb incident.Verb, act incident.Act) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := fmt.Sprintf("%s %s by %s (%s) via %s", verb, id, act.By, act.ID, act.Via)
	if act.Other != "" {
		s += " other " + act.Other
	}
	if !act.Until.IsZero() {
		s += " for " + act.Until.Sub(act.At).String()
	}
	d.done = append(d.done, s)
	if d.some != nil {
		d.some <- struct{}{}
	}
	return d.fail
}

// Mergeable knows two open incidents.
func (d *desk) Mergeable(_ context.Context, id string) ([]incident.Incident, error) {
	scope := incident.Scope{Service: "shop", Route: "/billing/plans", Role: "editor <!channel>"}
	return []incident.Incident{{ID: "c3d4", State: incident.Open, Direction: incident.Up, Scope: scope},
		{ID: "e5f6", State: incident.Open, Direction: incident.Up, Scope: incident.Scope{Route: "/" + strings.Repeat("long/", 30)}}}, d.fail
}

func (d *desk) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.done)
}

// payload is what Slack says of a click.
func payload(action, value, responseURL string) json.RawMessage {
	a := map[string]any{"type": "button", "action_id": action, "block_id": "b1", "value": value, "action_ts": "1.1"}
	if action == actionSilence || action == actionMerge {
		a = map[string]any{"type": "static_select", "action_id": action, "block_id": "b1", "selected_option": map[string]any{"value": value, "text": map[string]any{"type": "plain_text", "text": "x"}}}
	}
	b, err := json.Marshal(map[string]any{"type": "block_actions", "api_app_id": "A1", "user": map[string]any{"id": "U024BE7LH", "username": "ada", "name": "ada"},
		"response_url": responseURL, "channel": map[string]any{"id": "C1"}, "message": map[string]any{"ts": "1.2", "text": strings.Repeat("x", 30<<10)}, "actions": []any{a}})
	if err != nil {
		panic(err)
	}
	return b
}

func sign(key, body string, at time.Time) http.Header {
	ts := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(m, "v0:"+ts+":"+body)
	h := http.Header{}
	h.Set("X-Slack-Request-Timestamp", ts)
	h.Set("X-Slack-Signature", "v0="+hex.EncodeToString(m.Sum(nil)))
	return h
}

const (
	key      = "0123456789abcdef0123456789abcdef"
	otherKey = "fedcba9876543210fedcba9876543210"
)

func TestClicks(t *testing.T) {
	form := func(action, value string) string {
		return url.Values{"payload": {string(payload(action, value, ""))}}.Encode()
	}
	now := time.Now()
	for _, c := range []struct {
		name, body string
		header     func(http.Header)
		key        string
		at         time.Time
		status     int
		done       string
	}{
		{"acknowledge", form(actionAcknowledge, "a1b2"), nil, key, now, 200, "acknowledge a1b2 by ada (U024BE7LH) via slack"},
		{"of another app", form(actionDismiss, "a1b2"), nil, otherKey, now, 200, "dismiss a1b2 by ada (U024BE7LH) via slack"},
		{"accept", form(actionAccept, "a1b2"), nil, key, now, 200, "accept a1b2 by ada (U024BE7LH) via slack"},
		{"reopen", form(actionReopen, "a1b2"), nil, key, now, 200, "reopen a1b2 by ada (U024BE7LH) via slack"},
		{"merge", form(actionMerge, "a1b2 c3d4"), nil, key, now, 200, "merge a1b2 by ada (U024BE7LH) via slack other c3d4"},
		{"merge into nothing", form(actionMerge, "a1b2"), nil, key, now, 200, ""},
		{"silence", form(actionSilence, "a1b2 24h0m0s"), nil, key, now, 200, "silence a1b2 by ada (U024BE7LH) via slack for 24h0m0s"},
		{"end of silence", form(actionUnsilence, "a1b2"), nil, key, now, 200, "unsilence a1b2 by ada (U024BE7LH) via slack"},
		{"a silence nobody offered", form(actionSilence, "a1b2 9000h0m0s"), nil, key, now, 200, ""},
		{"no incident's id", form(actionAcknowledge, "../../etc\n"), nil, key, now, 200, ""},
		{"not ours", form("approve_payment", "a1b2"), nil, key, now, 200, ""},
		{"signed by nobody", form(actionAccept, "a1b2"), nil, strings.Repeat("0", 32), now, 401, ""},
		{"too old", form(actionAccept, "a1b2"), nil, key, now.Add(-301 * time.Second), 401, ""},
		{"from the future", form(actionAccept, "a1b2"), nil, key, now.Add(302 * time.Second), 401, ""},
		{"without a signature", form(actionAccept, "a1b2"), func(h http.Header) { h.Del("X-Slack-Signature") }, key, now, 401, ""},
		{"with a bad signature", form(actionAccept, "a1b2"), func(h http.Header) { h.Set("X-Slack-Signature", "v0=zz") }, key, now, 401, ""},
		{"unreadable", "payload=%7B", nil, key, now, 400, ""},
		{"another kind", url.Values{"payload": {`{"type":"shortcut","callback_id":"x"}`}}.Encode(), nil, key, now, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{}
			h := NewClicks(d, nil)
			defer h.Close()
			h.SetSecrets([]secret.String{otherKey, key})
			header := sign(c.key, c.body, c.at)
			if c.header != nil {
				c.header(header)
			}
			status, _, err := h.Take(t.Context(), header, []byte(c.body))
			if got := strings.Join(d.all(), "; "); status != c.status || got != c.done || (err == nil) != (status == 200) {
				t.Errorf("%d %q, want %d %q: %v", status, got, c.status, c.done, err)
			}
		})
	}
}

func TestReplayedClickIsRefused(t *testing.T) {
	d := &desk{}
	h := NewClicks(d, nil)
	defer h.Close()
	h.SetSecrets([]secret.String{key})
	body := url.Values{"payload": {string(payload(actionAcknowledge, "a1b2", ""))}}.Encode()
	header := sign(key, body, time.Now())
	var codes []int
	for i := range 3 {
		if i == 2 {
			header.Set("X-Slack-Signature", "v0="+strings.ToUpper(header.Get("X-Slack-Signature")[3:]))
		}
		status, _, _ := h.Take(t.Context(), header, []byte(body))
		codes = append(codes, status)
	}
	if !slices.Equal(codes, []int{200, 409, 409}) || len(d.all()) != 1 {
		t.Errorf("answers %v, done %v", codes, d.all())
	}
	// What is remembered is bounded, and makes room once it is too old to matter.
	for i := range maxSeen - 1 {
		if err := h.take(fmt.Sprintf("v0=%064x", i), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.take(fmt.Sprintf("v0=%064x", maxSeen), time.Now()); !errors.Is(err, errBusy) {
		t.Errorf("err = %v", err)
	}
	if err := h.take(fmt.Sprintf("v0=%064x", maxSeen), time.Now().Add(3*window)); err != nil || len(h.seen) != 1 {
		t.Errorf("err = %v, %d remembered", err, len(h.seen))
	}
}

func TestWhoClickedIsToldWhatFailed(t *testing.T) {
	got := make(chan string, 1)
	slackHost := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}))
	defer slackHost.Close()
	d := &desk{fail: errors.New("the incident is over <!channel>\x00")}
	h := NewClicks(d, nil)
	defer h.Close()
	h.host = slackHost.URL
	h.SetSecrets([]secret.String{key})
	for _, to := range []string{"https://evil.example/x", slackHost.URL + "/actions/1"} {
		body := url.Values{"payload": {string(payload(actionAccept, "a1b2", to))}}.Encode()
		if status, _, err := h.Take(t.Context(), sign(key, body, time.Now()), []byte(body)); status != 200 {
			t.Errorf("%d %v", status, err)
		}
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(<-got), &m); err != nil || m["text"] != "That did not work: the incident is over &lt;!channel&gt;" || m["response_type"] != "ephemeral" {
		t.Errorf("told %v", m)
	}
}

// asking is what Slack says when somebody opens the menu of incidents to merge into.
func asking(block, action, typed string) json.RawMessage {
	b, err := json.Marshal(map[string]any{"type": "block_suggestion", "action_id": action, "block_id": block, "value": typed, "user": map[string]any{"id": "U024BE7LH"}})
	if err != nil {
		panic(err)
	}
	return b
}

// TestChoices: who wants to merge chooses from the open incidents, by what he types.
func TestChoices(t *testing.T) {
	const first = `{"text":{"type":"plain_text","text":"/billing/plans refuses role editor ‹!channel› · c3d4","emoji":false},"value":"a1b2 c3d4"}`
	for _, c := range []struct {
		name, block, typed string
		fail               error
		want               func(options string) bool
	}{
		{"all", blockPrefix + "a1b2", "", nil, func(s string) bool { return strings.HasPrefix(s, first) && strings.Contains(s, "… · e5f6") }},
		{"typed", blockPrefix + "a1b2", "PLANS", nil, func(s string) bool { return s == first }},
		{"by id", blockPrefix + "a1b2", "c3d", nil, func(s string) bool { return s == first }},
		{"none such", blockPrefix + "a1b2", "zzz", nil, func(s string) bool { return s == "" }},
		{"not ours", "b1", "", nil, func(s string) bool { return s == "" }},
		{"not known", blockPrefix + "a1b2", "zzz", errors.New("denywatch is stopping"), func(s string) bool { return s == "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewClicks(&desk{fail: c.fail}, nil)
			defer h.Close()
			h.SetSecrets([]secret.String{key})
			body := url.Values{"payload": {string(asking(c.block, actionMerge, c.typed))}}.Encode()
			status, answer, err := h.Take(t.Context(), sign(key, body, time.Now()), []byte(body))
			options, ok := strings.CutPrefix(strings.TrimSuffix(string(answer), "]}"), `{"options":[`)
			if status != 200 || err != nil || !ok || !c.want(options) {
				t.Errorf("%d %v %s", status, err, answer)
			}
			var o offer
			if err := json.Unmarshal(answer, &o); err != nil {
				t.Error(err)
			}
			for _, x := range o.Options {
				if n := len(utf16.Encode([]rune(x.Text.Text))); n > maxChoice {
					t.Errorf("%d characters: %s", n, x.Text.Text)
				}
			}
		})
	}
}

// settled waits until the fake's connections are as wanted.
func settled(s *slackfake.Server, want func(now, ever int, acks []string) bool) {
	for !want(s.Sockets()) {
		<-s.Changed()
	}
}

func TestSocket(t *testing.T) {
	s, d := slackfake.New(t), &desk{some: make(chan struct{}, 10)}
	k := NewSocket(Config{Token: slackfake.Token, AppToken: slackfake.AppToken, Channel: "#access-walls", APIURL: s.URL()}, d, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.Run(ctx)
	}()
	click := func(id string, connection int) {
		t.Helper()
		settled(s, func(now, ever int, _ []string) bool { return now == 1 && ever == connection })
		for !s.Push(id, payload(actionSilence, id+" 1h0m0s", "")) {
			<-s.Changed()
		}
		settled(s, func(_, _ int, acks []string) bool { return slices.Contains(acks, id) })
		<-d.some
	}
	click("a1", 1)
	s.Disconnect() // as Slack does every few hours
	click("a2", 2)
	s.Cut()
	click("a3", 3)
	want := []string{"silence a1 by ada (U024BE7LH) via slack for 1h0m0s", "silence a2 by ada (U024BE7LH) via slack for 1h0m0s", "silence a3 by ada (U024BE7LH) via slack for 1h0m0s"}
	if got := d.all(); !slices.Equal(got, want) || k.Trouble() != "" {
		t.Errorf("done %v, trouble %q", got, k.Trouble())
	}
	for !s.Push("ask", asking(blockPrefix+"a1b2", actionMerge, "")) {
		<-s.Changed()
	}
	settled(s, func(_, _ int, acks []string) bool { return slices.Contains(acks, "ask") })
	if got := string(s.Answer("ask")); !strings.Contains(got, `"value":"a1b2 c3d4"`) {
		t.Errorf("to choose from: %s", got)
	}
	cancel()
	<-ended
	settled(s, func(now, _ int, _ []string) bool { return now == 0 })
}

func TestSocketSaysWhyItCannotConnect(t *testing.T) {
	for name, c := range map[string]struct {
		token secret.String
		fault slackfake.Fault
		want  string
	}{
		"wrong token": {"xapp-1-A1-wrong", slackfake.Fault{Method: "none"}, "invalid_auth"},
		"no scope":    {slackfake.AppToken, slackfake.Fault{Body: `{"ok":false,"error":"missing_scope","needed":"connections:write"}`}, "app_token lacks the scope connections:write"},
		"down":        {slackfake.AppToken, slackfake.Fault{Status: 503}, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			s := slackfake.New(t)
			s.Fail(c.fault)
			told := make(chan string, 10)
			log := slog.New(slog.NewTextHandler(writer(func(b []byte) { told <- string(b) }), nil))
			k := NewSocket(Config{Token: slackfake.Token, AppToken: c.token, Channel: "#access-walls", APIURL: s.URL()}, &desk{}, log)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				k.Run(ctx)
			}()
			line := <-told
			if !strings.Contains(line, c.want) || !strings.Contains(k.Trouble(), c.want) || strings.Contains(line, "xapp") {
				t.Errorf("log %s, trouble %q", line, k.Trouble())
			}
			cancel()
			<-ended
		})
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }
