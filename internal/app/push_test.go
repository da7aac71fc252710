package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/servertest"
)

// TestReadsPushed: the daemon counts pushed batches once each over a restart and a
// reload, shows them, and tells of senders that are silent without failing.
func TestReadsPushed(t *testing.T) {
	const token = "0123456789abcdef-push"
	state := t.TempDir()
	parse := func(extra string) *configs.Config {
		cfg, _, err := configs.Parse(fmt.Appendf(nil, `
state: %s
sources:
  - name: web
    format: combined
    push: { tokens: [{ name: vector, token: %s }]%s }
`, state, token, extra), "denywatch.yaml", nil)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	at := time.Now().Add(-time.Hour)
	batch := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			at = at.Add(100 * time.Millisecond)
			fmt.Fprintf(&b, "192.0.2.%d - - [%s] \"GET /a HTTP/1.1\" 200 1 \"-\" \"-\"\n", i%200, at.UTC().Format("02/Jan/2006:15:04:05 -0700"))
		}
		return b.Bytes()
	}
	client := &http.Client{Timeout: time.Minute}
	// day runs the daemon and sends the batches, each until it is taken; then lines
	// must be counted.
	day := func(lines int, bodies ...[]byte) {
		t.Helper()
		var lns [2]net.Listener
		for i := range lns {
			lns[i] = servertest.Listen(t)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		reload := make(chan struct{}, 1)
		go func() {
			done <- Run(ctx, parse(""), Options{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Listener: lns[0], PushListener: lns[1]},
				reload, func() (*configs.Config, error) { return parse(", max_body: 1MiB"), nil })
		}()
		for i, body := range bodies {
			if i == 1 {
				reload <- struct{}{}
			}
			for sent := false; !sent; {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+lns[1].Addr().String()+"/v1/ingest/web", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth("vector", token)
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				switch sent = res.StatusCode == http.StatusOK; {
				case sent:
				case res.StatusCode == http.StatusServiceUnavailable: // during the reload
					time.Sleep(5 * time.Millisecond)
				default:
					t.Fatalf("status %d", res.StatusCode)
				}
			}
		}
		url := "http://" + lns[0].Addr().String()
		for {
			page := get(t, url+"/metrics")
			if strings.Contains(page, fmt.Sprintf("denywatch_lines_total{source=\"web\"} %d\n", lines)) &&
				strings.Contains(page, "denywatch_spool_unread_bytes{source=\"web\"} 0\n") {
				break
			}
			select {
			case err := <-done:
				t.Fatalf("the daemon ended: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		if s := get(t, url+"/v1/status"); !strings.Contains(s, `"push":{"batches":`) || !strings.Contains(s, `"unread_bytes":0`) {
			t.Errorf("status %s", s)
		}
		cancel()
		client.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := batch(500), batch(300), batch(200)
	day(800, first, second, first)
	day(1000, second, third, first)
}

// TestReadsSyslog: lines inside syslog messages are understood, and shown.
func TestReadsSyslog(t *testing.T) {
	port := servertest.FreePort(t)
	cfg, _, err := configs.Parse(fmt.Appendf(nil, `
state: %s
sources:
  - format: combined
    syslog: { listen: "tcp://127.0.0.1:%d" }
`, t.TempDir(), port), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	ln := servertest.Listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Listener: ln}, nil, nil)
	}()
	var conn net.Conn
	for conn == nil {
		select {
		case err := <-done:
			t.Fatalf("the daemon ended: %v", err)
		default:
			conn, _ = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) // until it listens
		}
	}
	for i := range 100 {
		at := time.Now().Add(time.Duration(i-200) * time.Second).UTC()
		fmt.Fprintf(conn, "<190>%s shop nginx: 192.0.2.%d - - [%s] \"GET /a HTTP/1.1\" 403 1 \"-\" \"-\"\n", at.Format(time.Stamp), i, at.Format("02/Jan/2006:15:04:05 -0700"))
	}
	url := "http://" + ln.Addr().String()
	for _, want := range []string{`"lines":100,`, `"unparsed":0`, `"syslog":{"messages":100,`, `"connections":1`, `"unread_bytes":0`} {
		for !strings.Contains(get(t, url+"/v1/status"), want) {
			time.Sleep(20 * time.Millisecond)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// TestShippers: what the senders in configs/deploy/push send, in the form that their
// manuals describe, is understood with the source that stands there.
func TestShippers(t *testing.T) {
	const token = "0123456789abcdef-push"
	gz := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	at := time.Now().Add(-time.Minute).UTC()
	line := `192.0.2.7 - - [` + at.Format("02/Jan/2006:15:04:05 -0700") + `] \"GET /a HTTP/1.1\" 403 12 \"-\" \"Mozilla/5.0\"` // in JSON
	plain := strings.ReplaceAll(line, `\"`, `"`) + "\n"
	iso := at.Format("2006-01-02T15:04:05.000000Z")
	shippers := []struct {
		name, source string
		body         []byte
		headers      []string
		lines        int
	}{
		{"vector", "format: combined", gz(plain + plain), []string{"Content-Encoding", "gzip", "Content-Type", "text/plain", "Authorization", "Bearer " + token}, 2},
		{
			"fluent-bit", "format: combined, wrapper: shipper",
			gz(`{"@timestamp":"` + iso + `","log":"` + line + `"}` + "\n" + `{"@timestamp":"` + iso + `","log":"` + line + `"}` + "\n"),
			[]string{"Content-Encoding", "gzip", "Content-Type", "application/x-ndjson", "User-Agent", "Fluent-Bit", "Authorization", "Bearer " + token}, 2,
		},
		{
			"logstash", "format: combined, wrapper: shipper",
			gz(`{"@timestamp":"` + iso + `","@version":"1","log":{"offset":4711,"file":{"path":"/var/log/nginx/access.log"}},"message":"` + line + `","event":{"original":"` + line + `"},"tags":["beats_input_codec_plain_applied"],"agent":{"type":"filebeat","version":"9.1.0"}}`),
			[]string{"Content-Encoding", "gzip", "Content-Type", "application/json", "Authorization", "Bearer " + token}, 1,
		},
		{
			"logpush", "format: cloudflare",
			gz(`{"EdgeStartTimestamp":"` + at.Format(time.RFC3339) + `","RayID":"8f1","ClientIP":"192.0.2.7","ClientCountry":"de","ClientRequestHost":"shop.example.com","ClientRequestMethod":"GET","ClientRequestURI":"/a?b=c","ClientRequestSource":"eyeball","EdgeResponseStatus":403,"OriginResponseStatus":0,"SecurityAction":"block","SecurityActions":["block"],"SecurityRuleIDs":["r1"],"SecuritySources":["firewallCustom"]}` + "\n"),
			[]string{"Content-Encoding", "gzip", "User-Agent", "Go-http-client/2.0", "Authorization", "Bearer " + token}, 1,
		},
	}
	yaml := "state: " + t.TempDir() + "\nsources:\n"
	for _, s := range shippers {
		yaml += fmt.Sprintf("  - { name: %s, %s, push: { tokens: [{ name: x, token: %s }] } }\n", s.name, s.source, token)
	}
	cfg, _, err := configs.Parse([]byte(yaml), "denywatch.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	var lns [2]net.Listener
	for i := range lns {
		if lns[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, cfg, Options{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler), Listener: lns[0], PushListener: lns[1]}, nil, nil)
	}()
	client := &http.Client{Timeout: time.Minute}
	for _, s := range shippers {
		for sent := false; !sent; {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+lns[1].Addr().String()+"/v1/ingest/"+s.name, bytes.NewReader(s.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(s.headers); i += 2 {
				req.Header.Set(s.headers[i], s.headers[i+1])
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if sent = res.StatusCode == http.StatusOK; !sent && res.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%s: status %d", s.name, res.StatusCode)
			}
		}
	}
	for _, s := range shippers {
		for !strings.Contains(get(t, "http://"+lns[0].Addr().String()+"/metrics"), fmt.Sprintf("denywatch_lines_total{source=%q} %d\n", s.name, s.lines)) {
			time.Sleep(20 * time.Millisecond)
		}
	}
	page := get(t, "http://"+lns[0].Addr().String()+"/metrics")
	for _, s := range shippers {
		for _, reason := range []string{"unparsed", "no_request", "untimed"} {
			if want := fmt.Sprintf("denywatch_lines_uncounted_total{source=%q,reason=%q} 0\n", s.name, reason); !strings.Contains(page, want) {
				t.Errorf("%s: lines are not counted: %s", s.name, reason)
			}
		}
	}
	cancel()
	client.CloseIdleConnections()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
