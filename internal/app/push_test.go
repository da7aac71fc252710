package app

import (
	"bytes"
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
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lns[i] = ln
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
