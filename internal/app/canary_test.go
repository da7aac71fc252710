package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/web"
)

// canary is in everything that must not come out again. Parts of it are as good.
const canary = "cnry"

// nets are those of the addresses that requests come from.
var nets = []string{"198.51.100.", "2001:db8:403:"}

// canaryLogs are three hours of an application's log, the web server's access log and
// its error log, in which viewers are refused at one route since twenty minutes ago.
// All that belongs to a person, and all that is no route, is a canary.
func canaryLogs(now time.Time) (app, web, errs []byte) {
	r := rand.New(rand.NewPCG(4, 6))
	for at := now.Add(-3 * time.Hour); at.Before(now); at = at.Add(800 * time.Millisecond) {
		user := r.IntN(200)
		role := []string{"owner", "viewer", "editor"}[user%3]
		kind := []string{"reports", "invoices", "projects"}[r.IntN(3)]
		id := []string{
			fmt.Sprintf("cnry%08x%08x", r.Uint32(), r.Uint32()), fmt.Sprintf("cnry.%d%%40example.com", user), fmt.Sprintf("eyJhbGciOi.cnry%dx%x.cnry%x_%x", user, r.Uint64(), r.Uint64(), r.Uint64()),
		}[r.IntN(3)]
		path := fmt.Sprintf("/%s/%s/files?token=cnrytoken&mail=cnry@example.com", kind, id)
		addr := fmt.Sprintf("198.51.100.%d", user)
		if user%5 == 0 {
			addr = fmt.Sprintf("2001:db8:403::%x", user)
		}
		status, reason := 200, ""
		if r.Float64() < 0.01 || role == "viewer" && kind == "invoices" && now.Sub(at) < 20*time.Minute {
			status, reason = 403, fmt.Sprintf("cnry.%d@example.com may not read /srv/cnry/%s for key=cnrykey", user, id)
			errs = fmt.Appendf(errs, "%s [error] 7#7: *%d open() \"/srv/www/cnry/%s\" failed (13: Permission denied), client: %s, server: shop, request: \"GET %s HTTP/1.1\", host: \"shop\", referrer: \"https://shop/?cnryref\"\n",
				at.UTC().Format("2006/01/02 15:04:05"), user, id, addr, path)
		}
		line, _ := json.Marshal(map[string]any{
			"time": at.UTC().Format(time.RFC3339Nano), "method": "GET", "path": path, "status": status, "user": fmt.Sprintf("cnry.%d@example.com", user),
			"account": fmt.Sprintf("cnry-acct-%d", user/4), "client_ip": addr, "role": role, "reason": reason, "message": "cnry " + reason, "error": "cnry: " + reason,
			"user_agent": "Mozilla/5.0 (cnry)", "referer": "https://cnry.example.com/?cnryref", "session": "cnrysession", "authorization": "Bearer cnrybearer", "request_id": fmt.Sprintf("cnry%x", r.Uint64()),
		})
		app = append(append(app, line...), '\n')
		web = fmt.Appendf(web, "%s - cnry.%d [%s] \"GET %s HTTP/1.1\" %d 12 \"https://shop/?cnryref\" \"Mozilla/5.0 (cnry)\"\n", addr, user, at.UTC().Format("02/Jan/2006:15:04:05 -0700"), path, status)
		if user == 7 { // what no parser understands
			app = append(app, "cnry panic: cnry.7@example.com 198.51.100.7\n"...)
			web = append(web, "cnry 198.51.100.7 GET /cnry?cnry\n"...)
			errs = append(errs, "cnry 198.51.100.7 /srv/cnry\n"...)
		}
	}
	return app, web, errs
}

// bin keeps what is sent to sinks. It answers with what it was asked, as proxies do.
type bin struct {
	mu     sync.Mutex
	bodies map[string]string
	// mailed is called for every mail that was taken, if not nil; false breaks the
	// connection before the sender knows.
	mailed func(text string) bool
}

func (b *bin) add(name, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies[name] += body + "\n"
}

func (b *bin) got(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bodies[name]
}

// ServeHTTP implements http.Handler. Whatever is below /bad is refused.
func (b *bin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.add(name, string(body))
	switch name {
	case "bad":
		w.Header().Set("Location", "/cnry?cnrytoken")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "cnry %v %s %s", r.Header, r.URL, body)
	case "v2": // PagerDuty
		w.WriteHeader(http.StatusAccepted)
	}
}

// mailbox takes mail, and adds what people would see of it to the bin.
func (b *bin) mailbox(t *testing.T) string {
	t.Helper()
	ln := servertest.Listen(t)
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		say := func(line string) { _, _ = io.WriteString(c, line+"\r\n") }
		say("220 mail.example.com ESMTP")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			switch strings.ToUpper(strings.TrimSpace(line)) {
			case "DATA":
				say("354 go ahead")
				var raw strings.Builder
				for line, err = in.ReadString('\n'); err == nil && line != ".\r\n"; line, err = in.ReadString('\n') {
					raw.WriteString(strings.TrimPrefix(line, "."))
				}
				if err != nil { // the sender died: what is not whole is not taken
					return
				}
				m, err := mail.ReadMessage(strings.NewReader(raw.String()))
				if err != nil {
					t.Error(err)
					return
				}
				subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
				if err != nil {
					t.Error(err)
				}
				text := fmt.Sprint(m.Header) + subject + b.part(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body)
				b.add("mail", text)
				if b.mailed != nil && !b.mailed(text) {
					return
				}
				say("250 taken")
			case "QUIT":
				say("221 bye")
				return
			default:
				say("250 ok")
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// part is the text of one part of a message, and of those in it.
func (b *bin) part(t *testing.T, kind, encoding string, body io.Reader) (text string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Error(err)
	}
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		return string(raw) + "\n"
	}
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		p, err := parts.NextRawPart()
		if err != nil {
			return text
		}
		text += fmt.Sprint(p.Header) + b.part(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p)
	}
}

// wasRead tells whether a source's lines were read, and all but those that are none
// were understood.
func wasRead(t *testing.T, status, name string) bool {
	t.Helper()
	var st web.Status
	if json.Unmarshal([]byte(status), &st) != nil {
		return false
	}
	i := slices.IndexFunc(st.Sources, func(x web.SourceStatus) bool { return x.Name == name })
	if i < 0 || st.Sources[i].Lines < 91 {
		return false
	}
	if n := st.Sources[i].Unparsed; n > 2 {
		t.Fatalf("%d of %d lines of %s are not understood: %+v", n, st.Sources[i].Lines, name, st.Sources[i])
	}
	return true
}

// TestCanaries: secrets, identities, addresses, query strings and raw paths that are in
// logs of every format, from files, Kafka, HTTP and syslog, in markers, clicks, questions
// and the configuration are in no message or digest to a sink, no line of the log, no
// answer of the API or output of a command, and no file of the state. Two places hold
// what was logged because that is their purpose: the spool of pushed lines, until they
// are counted durably, and the output of denywatch parse, which shows how a line is
// understood.
func TestCanaries(t *testing.T) {
	const (
		secret = "cnrysecret-cnrysecret-cnrysecret"
		pager  = "cnry0000cnry0000cnry0000cnry0000"
		sign   = "c4a7000000000000c4a7000000000000"
	)
	s := slackfake.New(t)
	s.AddChannel("signed")
	b := &bin{bodies: map[string]string{}}
	world := httptest.NewServer(b)
	t.Cleanup(world.Close)
	shout := strings.Replace(world.URL, "http://", "generic+http://", 1)
	dir, temp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	now := time.Now()
	appLog, webLog, errLog := canaryLogs(now)
	for name, text := range map[string][]byte{"app.log": appLog, "access.log": webLog, "error.log": errLog} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state, more := filepath.Join(dir, "state"), ""
	formats := canaryFormats(now)
	for name, x := range formats {
		if err := os.WriteFile(filepath.Join(dir, name+".log"), []byte(x.text), 0o600); err != nil {
			t.Fatal(err)
		}
		files := filepath.Join(dir, name+".log")
		if name == "apache-own" {
			files += ", " + filepath.Join(dir, "modsecurity.log")
		}
		more += fmt.Sprintf("  - { name: %s, service: %s, %s, files: [%s] }\n", name, name, x.config, files)
	}
	if err := os.WriteFile(filepath.Join(dir, "modsecurity.log"), []byte(canaryModSecurity(now)), 0o600); err != nil {
		t.Fatal(err)
	}
	broker, syslogPort := canaryTopics(t, now), servertest.FreePort(t)
	var lns [2]net.Listener
	for i := range lns {
		lns[i] = servertest.Listen(t)
	}
	base, pushed := "http://"+lns[0].Addr().String(), "http://"+lns[1].Addr().String()
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
service: shop
state: %[1]s/state
identity_key: %[2]s
public_url: %[11]s/
digest: { daily: "09:00" }
templates: { next: "Ask {{.Team}} about {{.Route}}" }
sources:
%[12]s  - { name: pushed, service: pushed, vantage: edge, format: logfmt, push: { token: %[2]s-push } }
  - { name: told, service: told, vantage: edge, format: logfmt, syslog: { listen: "tcp://127.0.0.1:%[13]d" } }
  - { name: topic, service: topic, vantage: edge, format: logfmt, kafka: { brokers: [%[14]q], topics: [logs], fields: { user: "header:user", account: key } } }
  - { name: app, vantage: app, format: json, files: %[1]s/app.log }
  - { name: web, format: combined, files: [%[1]s/access.log, %[1]s/error.log] }
markers:
  tokens: [{ name: ops, token: "%[2]s-ops" }]
  operators: [ops]
  hmac: [{ name: deploy, secret: "%[2]s-hmac" }]
  deployments: { services: { acme/shop: shop }, github: [{ name: github, secret: "%[2]s-github" }] }
  kafka: { brokers: [%[14]q], topics: [releases] }
owners: [{ match: "**", team: all }]
teams:
  all: { webhook: { url: "%[3]s/team/cnry?key=cnry", secret: "%[2]s-team" } }
sinks:
  console: true
  slack:
    - { name: socket, token: %[6]s, app_token: %[7]s, channel: "#access-walls", api_url: %[8]s }
    - { name: signed, token: %[6]s, signing_secret: %[9]s, channel: "#signed", api_url: %[8]s }
    - { name: wrong, token: xoxb-cnry-cnry-cnrytoken, channel: "#signed", api_url: %[8]s }
    - { name: slack-refused, webhook: "%[3]s/bad/services/T/B/cnry" }
  webhook:
    - { name: hook, url: "%[3]s/hook/cnry?key=cnry", secret: "%[2]s-hook", headers: { Authorization: Bearer cnrybearer } }
    - { name: hook-refused, url: "%[3]s/bad/cnry?key=cnry", secret: "%[2]s-hook", headers: { Authorization: Bearer cnrybearer } }
    - { name: hook-away, url: "http://cnryuser:cnrypass@127.0.0.1:1/cnry?key=cnry" }
  alertmanager:
    - { url: "%[3]s/am", headers: { Authorization: Bearer cnrybearer } }
    - { name: am-refused, url: "%[3]s/bad/am", headers: { Authorization: Bearer cnrybearer } }
  pagerduty: { routing_key: %[4]s, url: "%[3]s" }
  email:
    - { server: "%[5]s", tls: none, from: denywatch@example.com, to: oncall@example.com }
    - { name: mail-refused, server: "%[5]s", user: cnryuser, password: cnrypassword, from: denywatch@example.com, to: oncall@example.com }
  shoutrrr:
    - { url: "%[10]s/shout/cnry" }
    - { name: shout-refused, url: "%[10]s/bad/cnry" }
`, dir, secret, world.URL, pager, b.mailbox(t), slackfake.Token, slackfake.AppToken, s.URL(), sign, shout, base, more, syslogPort, broker), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	log, console := &safeBuffer{}, &safeBuffer{}
	d, err := start(ctx, cfg, Options{Stdout: console, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Listener: lns[0], PushListener: lns[1]})
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- d.serve(ctx, nil, nil) }()
	until := func(what string, cond func() bool) {
		t.Helper()
		for !cond() {
			select {
			case err := <-done:
				t.Fatalf("the daemon ended before %s: %v\n%s", what, err, log.String())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	var answers strings.Builder
	ask := func(method, path, body string, header ...string) {
		t.Helper()
		if !strings.HasPrefix(path, "http") {
			path = base + path
		}
		req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest { // which tells people their own words
			fmt.Fprintf(&answers, "%d %v %s\n", resp.StatusCode, resp.Header, text)
		}
	}
	ops := []string{"Authorization", "Bearer " + secret + "-ops", "Content-Type", "application/json"}
	until("it answers", func() bool { return get(t, base+"/healthz") != "" })
	ask("POST", "/v1/markers", fmt.Sprintf(`{"kind":"release","service":"shop","version":"v2","time":%q}`, now.Add(-21*time.Minute).Format(time.RFC3339)), ops...)
	at := now.Add(-3 * time.Hour).Format(time.RFC3339)
	deployment := fmt.Sprintf(canaryDeployment, at)
	hook := hmac.New(sha256.New, []byte(secret+"-github"))
	_, _ = io.WriteString(hook, deployment)
	ask("POST", "/v1/markers/github", deployment, "X-GitHub-Event", "deployment_status", "X-Hub-Signature-256", "sha256="+hex.EncodeToString(hook.Sum(nil)), "Content-Type", "application/json")
	// Lines are pushed and told, rightly and wrongly.
	lines := formats["logfmt"].text
	ask("POST", pushed+"/v1/ingest/pushed?cnry=cnry", lines, "Authorization", "Bearer "+secret+"-push", "User-Agent", "cnry")
	ask("POST", pushed+"/v1/ingest/pushed", lines, "Authorization", "Bearer cnrywrong")
	ask("POST", pushed+"/v1/ingest/cnry", lines, "Authorization", "Bearer "+secret+"-push")
	ask("POST", pushed+"/v1/ingest/pushed", lines, "Authorization", "Bearer "+secret+"-push", "Content-Encoding", "gzip")
	var told net.Conn
	until("syslog is heard", func() bool {
		told, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", syslogPort))
		return err == nil
	})
	defer told.Close()
	for line := range strings.Lines(lines) {
		fmt.Fprintf(told, "<190>%s cnryhost cnryapp: %s", now.UTC().Format(time.Stamp), line)
	}
	// Everybody is told, and what cannot be told is known to be so.
	var list []incident.Incident
	until("all are told", func() bool {
		list, _ = (&client.Client{BaseURL: base}).Incidents(ctx, "", "")
		h := get(t, base+"/v1/dead-letters")
		for _, name := range []string{"team", "hook", "am", "v2", "shout", "mail"} {
			if b.got(name) == "" {
				return false
			}
		}
		return len(s.Messages()) >= 2 && len(s.Files()) > 0 && strings.Contains(h, "hook-refused") && strings.Contains(console.String(), "/invoices")
	})
	for name := range formats {
		until("all formats are read", func() bool { return wasRead(t, get(t, base+"/v1/status"), name) })
	}
	for _, name := range []string{"pushed", "told", "topic"} {
		until(name+" is read", func() bool { return wasRead(t, get(t, base+"/v1/status"), name) })
	}
	if len(list) != 1 || list[0].Scope.Role != "viewer" || !strings.HasPrefix(list[0].Scope.Route, "/invoices") {
		t.Errorf("incidents %+v", list)
	}

	// People and programs ask and click, rightly and wrongly.
	id := list[0].ID
	payload := fmt.Sprintf(`{"type":"block_actions","token":"cnrylegacy","trigger_id":"1.cnry","response_url":"%s/reply/cnry","user":{"id":"U024BE7LH","name":"ada","username":"ada","email":"cnry@example.com"},
		"channel":{"id":"C1","name":"cnry"},"message":{"ts":"1.2","text":"cnry"},"state":{"cnry":"cnry"},"actions":[{"type":"button","block_id":"b","action_id":"denywatch_acknowledge","value":%q}]}`, world.URL, id)
	until("the socket is there", func() bool { return s.Push("e1", json.RawMessage(payload)) })
	click := url.Values{"payload": {payload}}.Encode()
	ts := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(sign))
	_, _ = io.WriteString(mac, "v0:"+ts+":"+click)
	ask("POST", "/v1/slack/interactions", click, "X-Slack-Request-Timestamp", ts, "X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	ask("POST", "/v1/slack/interactions", click, "X-Slack-Request-Timestamp", ts, "X-Slack-Signature", "v0=cnry")
	ask("POST", "/v1/incidents/"+id+"/silence", `{"for":"1h","by":"bob"}`, ops...)
	for _, path := range []string{"/v1/markers", "/v1/silences", "/v1/incidents/" + id + "/acknowledge", "/v1/incidents/" + id + "/merge", "/v1/incidents/cnry/reopen", "/v1/markers/github", "/v1/dead-letters/resend"} {
		ask("POST", path, `{"cnry":"cnry`, ops...)
		ask("POST", path, `{"cnry":"cnry"}`, ops...)
		ask("POST", path, `{"into":"cnry"}`, ops...)
		ask("POST", path, `{}`, "Authorization", "Bearer cnrywrong", "X-Hub-Signature-256", "sha256=cnry", "Content-Type", "cnry")
	}
	for _, path := range []string{"/cnry?token=cnry", "/v1/incidents/cnry?token=cnry", "/v1/markers/cnry/verdict", "/v1/incidents?state=cnry&cnry=cnry", "/v1/who?hash=cnry"} {
		ask("GET", path, "")
	}
	cl := &client.Client{BaseURL: base}
	for _, p := range []Person{{User: "cnry.1@example.com"}, {Account: "cnry-acct-0"}, {Account: "cnry-acct-1", Client: "198.51.100.4"}} {
		found, err := Who(ctx, cfg, cl, p)
		if err != nil {
			t.Error(err)
		}
		answers.WriteString(DescribeRefused(&found))
	}
	until("the click shows", func() bool {
		m, _ := json.Marshal(s.Messages())
		return strings.Contains(string(m), "by ada") && strings.Contains(b.got("hook"), "bob")
	})
	for _, path := range []string{"/", "/v1/markers", "/v1/incidents", "/v1/incidents/" + id, "/v1/incidents/" + id + "/trace", "/v1/incidents/" + id + "/chart.png", "/v1/scans", "/v1/routes", "/v1/access", "/v1/status", "/v1/silences", "/v1/dead-letters", "/metrics", "/readyz"} {
		ask("GET", path, "")
	}
	dead, err := cl.DeadLetters(ctx)
	if err != nil {
		t.Error(err)
	}
	answers.WriteString(DescribeDeadLetters(dead))
	shows, steps, err := cl.Incident(ctx, id)
	if err != nil || len(steps) < 3 {
		t.Errorf("%d steps, %v", len(steps), err)
	}
	answers.WriteString(DescribeTimeline(&shows, steps, false) + DescribeIncidents(list, true))
	// The daily digests of two days to come: the first only begins.
	if err := d.core.post(ctx, func() {
		for day := range 2 {
			d.core.digests(now.AddDate(0, 0, day+1))
		}
	}); err != nil {
		t.Fatal(err)
	}
	until("the digest is told", func() bool { return strings.Contains(b.got("mail"), " incident, 1 open now") })
	// What sinks link to is there.
	links := map[string]bool{}
	for _, name := range []string{"team", "hook", "am", "v2", "mail"} {
		for _, link := range regexp.MustCompile(regexp.QuoteMeta(base)+"/[a-z0-9/.]+").FindAllString(b.got(name), -1) {
			links[strings.TrimSuffix(link, ".")] = true
		}
	}
	for link := range links {
		if get(t, link) == "" || !strings.Contains(link, id) {
			t.Errorf("%s leads nowhere", link)
		}
	}
	if len(links) != 2 {
		t.Errorf("sinks link to %v", links)
	}
	var checked bytes.Buffer
	if err := Check(cfg, &checked); err != nil {
		t.Error(err)
	}

	var shown, replayed bytes.Buffer
	replay := ReplayOptions{Files: []string{filepath.Join(dir, "app.log"), filepath.Join(dir, "access.log"), filepath.Join(dir, "error.log")}, Format: "auto", Stdout: &replayed, Stderr: &replayed, Log: slog.New(slog.NewTextHandler(log, nil))}
	if n, err := Replay(ctx, replay); err != nil || n == 0 {
		t.Errorf("%d incidents in a replay, %v", n, err)
	}
	for _, m := range s.Messages() {
		for _, m := range append(s.Thread(m.TS), m) {
			if err := json.NewEncoder(&shown).Encode(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The files are searched while it runs, and when it has ended.
	outputs := map[string]string{"the log": "", "the console": "", "Slack": shown.String(), "a replay": replayed.String(), "a check": checked.String(), "the API": answers.String()}
	files := func(when string) {
		t.Helper()
		err := filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
			}
			// What was sent stays in the spool until what was counted of it is durable.
			if spooled, err := filepath.Match(filepath.Join(state, spoolFolder, "*", "*.seg"), path); spooled || err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			outputs[e.Name()+" "+when] = string(text)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	files("while it runs")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	files("at the end")
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	outputs["the log"], outputs["the console"] = log.String(), console.String()
	for name, body := range b.bodies {
		if name == "v2" {
			body = strings.ReplaceAll(body, pager, "") // the key is how PagerDuty knows who it is
		}
		outputs["sink "+name] = body
	}
	// A search that finds nothing in nothing proves nothing.
	for _, name := range []string{"the log", "the console", "Slack", "the API", "a check", "denywatch.db while it runs", "denywatch.db at the end"} {
		if len(outputs[name]) < 200 {
			t.Errorf("%s holds only %q", name, outputs[name])
		}
	}
	for _, name := range []string{"the console", "a replay", "Slack", "the API", "denywatch.db at the end", "sink team", "sink hook", "sink am", "sink v2", "sink shout", "sink mail"} {
		if !strings.Contains(outputs[name], "/invoices") {
			t.Errorf("%s does not tell of the incident", name)
		}
	}
	searchCanaries(t, outputs, sign, "fakefakefake")
}

// searchCanaries searches outputs, by their names, for canaries and more words.
func searchCanaries(t *testing.T, outputs map[string]string, words ...string) {
	t.Helper()
	for name, text := range outputs {
		text = strings.ToLower(text)
		for _, word := range append(append(words, canary, "mozilla"), nets...) {
			if i := strings.Index(text, word); i >= 0 {
				t.Errorf("%s shows %q, %d times: ...%q...", name, word, strings.Count(text, word), text[max(0, i-120):min(len(text), i+120)])
			}
		}
	}
}
