package app

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/servertest"
)

// wallNow is an application's log of three hours in which one role is refused on one
// route since twenty minutes ago.
func wallNow(now time.Time) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for at := now.Add(-3 * time.Hour); at.Before(now); at = at.Add(400 * time.Millisecond) {
		user := r.IntN(200)
		role := []string{"owner", "viewer", "editor"}[user%3]
		path := []string{"/reports", "/billing/upgrade", "/projects"}[r.IntN(3)]
		status := 200
		if r.Float64() < 0.01 || role == "viewer" && path == "/billing/upgrade" && now.Sub(at) < 20*time.Minute {
			status = 403
		}
		fmt.Fprintf(&b, `{"time":%q,"method":"GET","path":%q,"status":%d,"user":"u%d","role":%q}`+"\n", at.UTC().Format(time.RFC3339Nano), path, status, user, role)
	}
	return b.Bytes()
}

// TestSlackFromEndToEnd: an incident is told with a picture, its numbers are those of its
// trace, and what is clicked, signed or through a connection, shows in the message.
func TestSlackFromEndToEnd(t *testing.T) {
	const key = "0123456789abcdef0123456789abcdef"
	s := slackfake.New(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.log"), wallNow(time.Now()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.AddChannel("signed")
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
service: shop
state: %s
sources: [{ name: app, vantage: app, format: json, files: %s }]
sinks:
  slack:
    - { name: socket, token: %s, app_token: %s, channel: "#access-walls", api_url: %s }
    - { name: signed, token: %s, signing_secret: %s, channel: "#signed", api_url: %s }
`, dir, filepath.Join(dir, "app.log"), slackfake.Token, slackfake.AppToken, s.URL(), slackfake.Token, key, s.URL()), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln := servertest.Listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	out := &safeBuffer{}
	go func() {
		done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.NewTextHandler(out, nil)), Listener: ln}, nil, nil)
	}()
	base := "http://" + ln.Addr().String()
	// shown waits until each message shows all of want.
	shown := func(want ...string) (id string) {
		t.Helper()
		for {
			good := 0
			for _, m := range s.Messages() {
				all := string(m.Blocks) + string(m.Attachments)
				has := true
				for _, w := range want {
					has = has && strings.Contains(all, w)
				}
				if has {
					good++
					id, _ = m.Payload["incident"].(string)
				}
			}
			if good == 2 {
				return id
			}
			select {
			case err := <-done:
				t.Fatalf("the daemon ended: %v\n%s", err, out.String())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	id := shown("/billing/upgrade refuses role viewer", "slack_file", "denywatch_acknowledge")
	for _, f := range s.Files() {
		if !f.Done {
			continue // the next picture is on its way
		}
		if _, err := png.Decode(bytes.NewReader(f.Content)); err != nil {
			t.Errorf("picture %s: %v", f.ID, err)
		}
	}
	var tr incident.Trace
	if err := json.Unmarshal([]byte(get(t, base+"/v1/incidents/"+id+"/trace")), &tr); err != nil {
		t.Fatal(err)
	}
	var n, x int64
	for _, p := range tr.Points {
		if p.Counted {
			n, x = n+p.Requests, x+p.Denials
		}
	}
	if n == 0 || n != tr.Incident.Requests || x != tr.Incident.Denials || tr.Incident.ObservedRate != float64(x)/float64(n) {
		t.Errorf("the trace counts %d of %d, the incident %d of %d", x, n, tr.Incident.Denials, tr.Incident.Requests)
	}

	click := func(action string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"type":"block_actions","user":{"id":"U024BE7LH","name":"ada"},"actions":[{"type":"button","block_id":"b","action_id":%q,"value":%q}]}`, action, id))
	}
	for !s.Push("e1", click("denywatch_acknowledge")) {
		<-s.Changed()
	}
	shown("*Acknowledged* by ada")

	body := url.Values{"payload": {string(click("denywatch_dismiss"))}}.Encode()
	ts := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(mac, "v0:"+ts+":"+body)
	for _, want := range []int{http.StatusOK, http.StatusConflict} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/slack/interactions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Slack-Request-Timestamp", ts)
		req.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("answered %d, want %d", resp.StatusCode, want)
		}
	}
	shown("Called not a problem by ada", "#12b76a")
	for _, m := range s.Messages() {
		// The time line follows the message.
		for all := ""; !strings.Contains(all, "acknowledged by ada") || !strings.Contains(all, "called not a problem by ada"); {
			all = ""
			for _, l := range s.Thread(m.TS) {
				all += l.Text + "\n"
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if log := out.String(); strings.Contains(log, "fakefakefake") || strings.Contains(log, key) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}
