package syslog

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/ingest/ingesttest"
	"github.com/denywatch/denywatch/internal/servertest"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask waits until a server answers at port, makes requests, four in a connection, and
// returns how many. No more are under way than the socket's buffer holds messages of.
func ask(t *testing.T, p *servertest.Process, port int) (asked int) {
	t.Helper()
	at := fmt.Sprintf("127.0.0.1:%d", port)
	p.Await(t, "the server to answer", func() (bool, string) {
		c, err := net.DialTimeout("tcp", at, time.Second)
		if err != nil {
			return false, err.Error()
		}
		_ = c.Close()
		return true, ""
	})
	buf := make([]byte, 64<<10)
	for range 50 {
		c := dial(t, "tcp", at)
		for i := range 4 {
			fmt.Fprintf(c, "GET /a/%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
			n, err := c.Read(buf)
			if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 403")) {
				t.Fatalf("%.100q %v", buf[:n], err)
			}
			asked++
		}
		_ = c.Close()
	}
	return asked
}

// TestNginx: a real Nginx sends its access log over UDP, and every line comes.
func TestNginx(t *testing.T) {
	nginx := servertest.Need(t, "nginx")
	h := ingesttest.New(t)
	_, at, _ := run(t, h, t.TempDir(), "udp://127.0.0.1:0")
	dir, port := t.TempDir(), servertest.FreePort(t)
	user := ""
	if name, group, ok := servertest.Unprivileged(); ok {
		user = fmt.Sprintf("user %s %s;", name, group)
	}
	conf := filepath.Join(dir, "nginx.conf")
	write(t, conf, fmt.Sprintf(`
%s
daemon off;
pid %[2]s/pid;
error_log %[2]s/error.log;
events {}
http {
    access_log syslog:server=%[3]s,facility=local7,tag=nginx,severity=info,nohostname combined;
    access_log syslog:server=%[3]s combined;
    client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/fcgi; uwsgi_temp_path %[2]s/uwsgi; scgi_temp_path %[2]s/scgi;
    server { listen 127.0.0.1:%[4]d; location / { return 403; } }
}
`, user, dir, at[0], port))
	p := servertest.Serve(t, exec.CommandContext(context.WithoutCancel(t.Context()), nginx, "-c", conf, "-e", filepath.Join(dir, "error.log")))
	h.Await(2 * ask(t, p, port))
	for _, l := range h.Lines() {
		if !strings.HasPrefix(l, "<190>") || !strings.Contains(l, "nginx: 127.0.0.1 - - [") || !strings.Contains(l, `HTTP/1.1" 403 `) {
			t.Fatalf("%q", l)
		}
	}
}

// TestHAProxy: a real HAProxy sends its log over UDP in both formats of syslog, and
// every line comes.
func TestHAProxy(t *testing.T) {
	haproxy := servertest.Need(t, "haproxy")
	h := ingesttest.New(t)
	_, at, _ := run(t, h, t.TempDir(), "udp://127.0.0.1:0")
	dir, port := t.TempDir(), servertest.FreePort(t)
	conf := filepath.Join(dir, "haproxy.cfg")
	write(t, conf, fmt.Sprintf(`
global
    log %[1]s local0
    log %[1]s format rfc5424 local1
defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 10m
    timeout server 10m
frontend web
    bind 127.0.0.1:%[2]d
    http-request deny
`, at[0], port))
	p := servertest.Serve(t, exec.CommandContext(context.WithoutCancel(t.Context()), haproxy, "-db", "-f", conf))
	asked := ask(t, p, port)
	count := func(start string) (n int) {
		for _, l := range h.Lines() {
			if strings.HasPrefix(l, start) && strings.Contains(l, ` 403 `) && strings.Contains(l, `"GET /a/`) {
				n++
			}
		}
		return n
	}
	servertest.Await(t, "all requests", func() (bool, string) {
		old, recent := count("<134>"), count("<142>1 ")
		return old == asked && recent == asked, fmt.Sprintf("%d and %d of %d", old, recent, asked)
	})
}

// TestRsyslog: a real rsyslog forwards a file over TCP in both framings, and every line
// comes.
func TestRsyslog(t *testing.T) {
	rsyslog := servertest.Need(t, "rsyslogd")
	h := ingesttest.New(t)
	_, at, _ := run(t, h, t.TempDir(), "tcp://127.0.0.1:0")
	dir := t.TempDir()
	const lines = 5000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "line %d %s\n", i, strings.Repeat("x", i%300))
	}
	write(t, filepath.Join(dir, "access.log"), text.String())
	_, port, err := net.SplitHostPort(at[0])
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "rsyslog.conf")
	write(t, conf, fmt.Sprintf(`
global(workDirectory="%[1]s" maxMessageSize="64k")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" file="%[1]s/access.log" tag="nginx:" facility="local7" severity="info")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="tcp" template="RSYSLOG_ForwardFormat")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")
`, dir, port))
	p := servertest.Serve(t, exec.CommandContext(context.WithoutCancel(t.Context()), rsyslog, "-n", "-f", conf, "-i", filepath.Join(dir, "pid")))
	p.Await(t, "all lines", func() (bool, string) {
		n, _ := h.Count()
		return n >= 2*lines, fmt.Sprint(n)
	})
	old, recent := 0, 0
	for _, l := range h.Lines() {
		switch {
		case strings.HasPrefix(l, "<190>1 "):
			recent++
		case strings.HasPrefix(l, "<190>") && strings.Contains(l, "nginx: line "):
			old++
		default:
			t.Fatalf("%q", l)
		}
	}
	if old != lines || recent != lines {
		t.Errorf("%d and %d of %d", old, recent, lines)
	}
}
