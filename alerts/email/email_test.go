package email_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/internal/incident"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(s *server) email.Config {
	c := email.Config{Server: s.ln.Addr().String(), From: "Access Watch <watch@example.com>", To: []string{"oncall@example.com", "Ann <ann@example.com>"}}
	if s.password != "" {
		c.User, c.Password = "watch", "right-password"
	}
	if s.implicit {
		c.TLS = email.Implicit
	}
	return c
}

func open(t *testing.T, s *server, c email.Config, opt email.Options) *email.Notifier {
	t.Helper()
	opt.TLS = s.trust
	n, err := email.New(c, opt)
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
		Requests: 1000, Denials: 380, Identities: 212, Accounts: 38, Severity: severity, Team: "growth", Journey: "Upgrade", Layer: "app", Causes: []string{"app_policy"},
		Vantages: []string{"app"}, Marker: "shop-v2.31.0",
		MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: start.Add(-time.Minute), Service: "shop", Version: "v2.31.0", Previous: "v2.30.4"},
	}
	t := incident.Transition{Seq: seq, Kind: kind, At: start.Add(time.Duration(seq) * 2 * time.Minute), Incident: in}
	switch kind {
	case incident.ResolvedKind:
		t.Incident.State, t.Incident.Resolution, t.Incident.ResolvedAt = incident.Resolved, incident.Recovered, &t.At
	case incident.Acknowledged:
		t.Act = &incident.Act{By: "ada", Via: "api", At: t.At}
		t.Incident.Acknowledged = t.Act
	}
	return alerts.NewDelivery(t, alerts.Dest{Sink: "email"})
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it and run with -update\n%s", path, got)
	}
}

// TestThread: the life of an incident is one thread, with a chart, in text and HTML.
func TestThread(t *testing.T) {
	s := newServer(t, func(s *server) { s.password = "right-password" })
	drawn := 0
	n := open(t, s, config(s), email.Options{Chart: func(context.Context, string) ([]byte, error) {
		if drawn++; drawn == 2 {
			return nil, errors.New("no chart")
		}
		return bytes.Repeat([]byte{0x89, 'P', 'N', 'G'}, 100), nil
	}})
	var memory json.RawMessage
	for _, d := range []alerts.Delivery{
		step(1, incident.Opened, incident.Medium), step(2, incident.Grew, incident.Medium), step(3, incident.Grew, incident.High),
		step(4, incident.Acknowledged, incident.High), step(5, incident.ResolvedKind, incident.High),
	} {
		d.Memory = memory
		m, err := n.Notify(t.Context(), &d)
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			memory = m
		}
	}
	ms := s.messages()
	if len(ms) != 4 {
		t.Fatalf("%d messages, want 4: what only grew a little makes none", len(ms))
	}
	first := ms[0].header.Get("Message-ID")
	for i, m := range ms {
		if !m.encrypted || len(m.to) != 2 || !strings.Contains(m.from, "<watch@example.com>") || m.header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("message %d: %v from %s to %v", i, m.encrypted, m.from, m.to)
		}
		want := "[medium] /billing/upgrade refuses role member"
		if i > 0 {
			want = "Re: " + want
		}
		if m.subject() != want {
			t.Errorf("message %d: subject %q", i, m.subject())
		}
		if ref, id := m.header.Get("References"), m.header.Get("Message-ID"); i > 0 && (ref != first || m.header.Get("In-Reply-To") != first || id == first) || i == 0 && ref != "" {
			t.Errorf("message %d: id %s refers to %s, not %s", i, id, ref, first)
		}
		if (len(m.picture) > 0) != (i != 1) || strings.Contains(m.html, "cid:chart") != (i != 1) {
			t.Errorf("message %d: %d bytes of picture", i, len(m.picture))
		}
	}
	var all strings.Builder
	for _, m := range ms {
		all.WriteString("=== " + m.subject() + "\n" + m.text)
	}
	golden(t, "thread.txt", all.String())
	golden(t, "opened.html", strings.ReplaceAll(ms[0].html, "\r\n", "\n"))
	golden(t, "resolved.html", strings.ReplaceAll(ms[3].html, "\r\n", "\n"))
}

// TestSentAgain: a message that may have been taken is sent again under the same id;
// a place of its own gets its own.
func TestSentAgain(t *testing.T) {
	s := newServer(t, nil)
	n := open(t, s, config(s), email.Options{})
	d := step(1, incident.Opened, incident.High)
	s.set(func() { s.hangUp = "." })
	_, err := n.Notify(t.Context(), &d)
	if e, ok := errors.AsType[*alerts.Error](err); !ok || e.Kind != alerts.Temporary || e.Refused {
		t.Fatalf("%v", err)
	}
	s.set(func() { s.hangUp = "" })
	if _, err := n.Notify(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	there := alerts.NewDelivery(d.Transition, alerts.Dest{Sink: "email", Target: "a@example.com, Bob <b@example.com>"})
	if _, err := n.Notify(t.Context(), &there); err != nil {
		t.Fatal(err)
	}
	ms := s.messages()
	if len(ms) != 3 || ms[0].header.Get("Message-ID") != ms[1].header.Get("Message-ID") || ms[2].header.Get("Message-ID") == ms[0].header.Get("Message-ID") {
		t.Fatalf("%d messages", len(ms))
	}
	if got := strings.Join(ms[2].to, " "); !strings.Contains(got, "<a@example.com>") || !strings.Contains(got, "<b@example.com>") || strings.Contains(got, "oncall") {
		t.Errorf("to %s", got)
	}
}

func TestPostAndTest(t *testing.T) {
	s := newServer(t, func(s *server) { s.implicit = true })
	n := open(t, s, config(s), email.Options{})
	post := alerts.NewPost(&alerts.Post{ID: "digest-1", At: start, Headline: "Yesterday: nothing wrong", Parts: []alerts.Part{{Lines: []string{"3 sources were watched."}}, {Title: "Refused by rule", Lines: []string{"/admin: 12 requests"}}}}, alerts.Dest{Sink: "email"})
	if _, err := n.Post(t.Context(), &post); err != nil {
		t.Fatal(err)
	}
	if did, err := n.Test(t.Context(), ""); err != nil || did == "" {
		t.Fatal(did, err)
	}
	ms := s.messages()
	if len(ms) != 2 || ms[0].subject() != "Yesterday: nothing wrong" || !strings.Contains(ms[0].text, "Refused by rule:\n  /admin: 12 requests") || !ms[0].encrypted || !strings.Contains(ms[1].text, alerts.TestText) {
		t.Errorf("%d messages: %q", len(ms), ms[0].text)
	}
}

func TestTroubles(t *testing.T) {
	for _, x := range []struct {
		name    string
		change  func(*server)
		conf    func(*email.Config)
		kind    alerts.ErrorKind
		refused bool
		want    string
	}{
		{"greylisted", func(s *server) { s.reply["RCPT"] = "451 4.7.1 come back" }, nil, alerts.Temporary, true, "answered 451 to a recipient"},
		{"no such recipient", func(s *server) { s.reply["RCPT"] = "550 5.1.1 canary" }, nil, alerts.Misconfigured, true, "refuses (550) a recipient: mend to"},
		{"sender refused", func(s *server) { s.reply["MAIL"] = "553 5.7.1 canary" }, nil, alerts.Misconfigured, true, "refuses (553) the sender"},
		{"content refused", func(s *server) { s.reply["."] = "554 5.7.1 canary spam" }, nil, alerts.Permanent, true, "refuses (554) the message"},
		{"full", func(s *server) { s.reply["."] = "452 4.3.1 canary" }, nil, alerts.Temporary, true, "answered 452"},
		{"breaks before", func(s *server) { s.hangUp = "RCPT" }, nil, alerts.Temporary, true, "the connection broke"},
		{"wrong password", func(s *server) { s.password = "other-password" }, nil, alerts.Misconfigured, true, "refuses user or password (it answered 535)"},
		{"log in needed", func(s *server) { s.password = "other-password" }, func(c *email.Config) { c.User, c.Password = "", "" }, alerts.Misconfigured, true, "refuses (530) the sender"},
		{"no log in", nil, func(c *email.Config) { c.User, c.Password = "watch", "right-password" }, alerts.Misconfigured, true, "no way to log in"},
		{"encrypted, with log in", func(s *server) { s.implicit, s.password = true, "other-password" }, nil, alerts.Misconfigured, true, "answered 535"},
		{"no encryption", func(s *server) { s.startTLS = false }, nil, alerts.Misconfigured, true, "offers no encryption"},
		{"encrypted from the start", func(s *server) { s.implicit = true }, func(c *email.Config) { c.TLS = email.None }, alerts.Temporary, true, ""},
		{"busy", func(s *server) { s.reply["EHLO"] = "421 4.3.2 canary"; s.reply["HELO"] = "421 4.3.2 canary" }, nil, alerts.Temporary, true, "answered 421 before"},
		{"nobody there", nil, func(c *email.Config) { c.Server = "127.0.0.1:1" }, alerts.Temporary, true, "refused"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newServer(t, x.change)
			c := config(s)
			if x.conf != nil {
				x.conf(&c)
			}
			if x.name == "encrypted from the start" {
				// The server waits for a hello of TLS, the client for one of SMTP.
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				d := step(1, incident.Opened, incident.High)
				if _, err := open(t, s, c, email.Options{}).Notify(ctx, &d); err == nil {
					t.Error("no error")
				}
				return
			}
			d := step(1, incident.Opened, incident.High)
			_, err := open(t, s, c, email.Options{}).Notify(t.Context(), &d)
			e, ok := errors.AsType[*alerts.Error](err)
			if !ok || e.Kind != x.kind || e.Refused != x.refused || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%#v: %v", e, err)
			}
			for _, secret := range []string{"canary", "right-password", "oncall@"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%v tells %s", err, secret)
				}
			}
		})
	}
}

// TestOneRecipientIsWrong: the others are told all the same, and the operator is told.
func TestOneRecipientIsWrong(t *testing.T) {
	s := newServer(t, func(s *server) { s.unknown = "gone@" })
	c := config(s)
	c.To = []string{"oncall@example.com", "gone@example.com", "ada@example.com"}
	var log bytes.Buffer
	n := open(t, s, c, email.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	d := step(1, incident.Opened, incident.High)
	if _, err := n.Notify(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	var to []string
	for _, m := range s.messages() {
		to = append(to, m.to...)
	}
	if got := strings.Join(to, " "); !strings.Contains(got, "oncall@") || !strings.Contains(got, "ada@") || strings.Contains(got, "gone@") || len(to) != 2 {
		t.Errorf("told %s", got)
	}
	if !strings.Contains(log.String(), "refused=1 told=2") || strings.Contains(log.String(), "@") {
		t.Errorf("log %s", log.String())
	}
}

// TestHostileText: what logs hold stays text, in headers, text and HTML.
func TestHostileText(t *testing.T) {
	s := newServer(t, nil)
	n := open(t, s, config(s), email.Options{})
	for _, evil := range []string{
		"<script>alert(1)</script><img src=x onerror=y>", "a\r\nBcc: evil@example.com\r\n\r\n<b>", "x\n.\nMAIL FROM:<evil@example.com>", "\u202egnp.exe\u2066", strings.Repeat("ü", 1<<20), "=?utf-8?q?=0aBcc:?=",
		"\xff\xfe\x00\x1b[31m", "{{.Badge}} javascript:alert(1)",
	} {
		d := step(1, incident.Opened, incident.High)
		in := &d.Transition.Incident
		in.Scope = incident.Scope{Service: evil, Route: "/" + evil, Role: evil, Geo: evil, Plan: evil, Host: evil, Flag: evil}
		in.Team, in.Journey, in.Marker, in.Causes, in.Rules = evil, evil, evil, []string{evil}, []incident.RuleCount{{Name: evil, Denials: 3}}
		in.MarkerInfo = &incident.MarkerInfo{Kind: evil, Service: evil, Version: evil, Previous: evil, Time: start}
		if _, err := n.Notify(t.Context(), &d); err != nil {
			t.Fatal(err)
		}
		ms := s.messages()
		m := ms[len(ms)-1]
		if len(m.to) != 2 || len(m.raw) > 64<<10 {
			t.Errorf("%.40q: %d recipients, %d bytes", evil, len(m.to), len(m.raw))
		}
		for name := range m.header {
			if !slices.Contains([]string{"Date", "Mime-Version", "Message-Id", "Subject", "From", "To", "Content-Type", "Precedence", "X-Auto-Response-Suppress", "Auto-Submitted", "User-Agent", "X-Mailer"}, name) {
				t.Errorf("%.40q: header %s", evil, name)
			}
		}
		if sub := m.subject(); strings.ContainsAny(sub, "\r\n\x00\x1b\u202e") || utf8.RuneCountInString(sub) > 201 {
			t.Errorf("subject %.300q", sub)
		}
		for _, bad := range []string{"<script", "<img src=x", "<b>", "\u202e"} {
			if strings.Contains(m.html, bad) {
				t.Errorf("%.40q: the HTML holds %q", evil, bad)
			}
		}
		for line := range strings.Lines(m.text) {
			if strings.HasPrefix(line, "Bcc:") || strings.TrimSpace(line) == "." {
				t.Errorf("text line %q", line)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	good := email.Config{Server: "smtp.example.com:587", From: "a@example.com", To: []string{"b@example.com"}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		change func(*email.Config)
		want   string
	}{
		{func(c *email.Config) { c.Server = "" }, "server: is missing"},
		{func(c *email.Config) { c.Server = "smtp.example.com" }, "server: must be host:port"},
		{func(c *email.Config) { c.TLS = "ssl" }, "tls: must be starttls, implicit or none"},
		{func(c *email.Config) { c.User = "x" }, "password: user and password belong together"},
		{func(c *email.Config) { c.TLS, c.User, c.Password = email.None, "x", "y" }, "tls: none would send the password"},
		{func(c *email.Config) { c.From = "nobody" }, "from: must be an address"},
		{func(c *email.Config) { c.To = nil }, "to: is missing"},
		{func(c *email.Config) { c.To = []string{"a@example.com, b@example.com"} }, "to[0]: must be an address"},
		{func(c *email.Config) { c.To = []string{"a@example.com\r\nBcc: b@example.com"} }, "to[0]: must be an address"},
	} {
		c := good
		x.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
}
