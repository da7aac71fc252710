package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestLogrotate lets the real logrotate rotate the buffered log of a real nginx,
// while denywatch follows it, is killed, and is stopped for some rotations.
func TestLogrotate(t *testing.T) {
	// compress goes with delaycompress: without it nginx may write its buffers to
	// a file that is gone.
	for name, how := range map[string]string{
		"create":                 "create",
		"nocreate delaycompress": "nocreate\ncompress\ndelaycompress",
		"dateext":                "create\ncompress\ndelaycompress\ndateext\ndateformat -%Y%m%d-%s",
	} {
		t.Run(name, func(t *testing.T) {
			long(t)
			rotates(t, how)
		})
	}
}

func rotates(t *testing.T, how string) {
	nginx, logrotate := servertest.Need(t, "nginx"), servertest.Need(t, "logrotate")
	dir := t.TempDir()
	access := filepath.Join(dir, "log", "access.log")
	write(t, access, "")
	port := servertest.FreePort(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`%[1]s
daemon off;
worker_processes 2;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log warn;
events { worker_connections 512; }
http {
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  access_log %[2]s/log/access.log combined buffer=4k flush=1s;
  server {
    listen 127.0.0.1:%[3]d;
    location = /probe { access_log off; return 204; }
    location = /billing/upgrade { return 403; }
    location / { return 200 "ok"; }
  }
}
`, user, dir, port))
	server := servertest.Serve(t, exec.Command(nginx, "-e", filepath.Join(dir, "start.log"), "-c", conf, "-p", dir))
	site := fmt.Sprintf("http://127.0.0.1:%d", port)
	up(t, server, site+"/probe")
	rotation := write(t, filepath.Join(dir, "logrotate.conf"), fmt.Sprintf(`%s {
size 1
rotate 100
%s
postrotate
  kill -USR1 %d
endscript
}
`, access, how, server.Cmd.Process.Pid))
	rotate := func() {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), logrotate, "-s", filepath.Join(dir, "logrotate.state"), "-f", rotation).CombinedOutput()
		if err != nil {
			t.Fatalf("logrotate: %v: %s", err, out)
		}
	}
	config := write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(
		"service: %s\nstate: %s/state\nlisten: 127.0.0.1:0\nsources: [{name: web, files: %[2]s/log/access.log, format: combined}]\n", service, dir))
	d := serve(t, bin.normal, config)
	servertest.Await(t, "the first cut", func() (bool, string) {
		s, err := d.status()
		return err == nil && !s.LastCut.IsZero(), fmt.Sprint(s, err)
	})

	var mu sync.Mutex
	count := newWritten()
	x := newTraffic(5)
	leave := crowd(t, 150, func() (*person, string) {
		r := x.next(time.Now())
		status := http.StatusOK
		if r.route == "/billing/upgrade" {
			status = http.StatusForbidden
		}
		mu.Lock()
		defer mu.Unlock()
		count.lines["web"]++
		count.columns[column{"web", service, r.route, tally.StatusOf(uint16(status)).String()}]++
		return r.who, site + r.path
	})
	t.Cleanup(leave)
	more := func(n uint64) { // waits until n more requests were made
		t.Helper()
		mu.Lock()
		want := count.lines["web"] + n
		mu.Unlock()
		servertest.Await(t, "traffic", func() (bool, string) {
			mu.Lock()
			defer mu.Unlock()
			return count.lines["web"] >= want, ""
		})
	}
	rnd := rand.New(rand.NewPCG(6, 6))
	const second = 160 // requests; rotated names may have the second in them
	for i := range 8 {
		more(second + rnd.Uint64N(200))
		switch i % 4 {
		case 0:
			rotate()
		case 1: // killed, and several rotations happen before it is there again
			d.Kill()
			rotate()
			more(second)
			rotate()
			more(second)
			rotate()
			more(uint64(rnd.IntN(50)))
			d = serve(t, bin.normal, config)
		case 2: // killed right after a rotation
			rotate()
			d.Kill()
			d = serve(t, bin.normal, config)
		case 3:
			d.stop(t)
			rotate()
			d = serve(t, bin.normal, config)
		}
	}
	leave()
	if err := server.Cmd.Process.Signal(syscall.SIGQUIT); err != nil { // writes its buffers
		t.Fatal(err)
	}
	server.Wait(t)
	d.read(t, count)
	d.exact(t, count)
	d.stop(t)
	files, err := filepath.Glob(access + "*")
	if err != nil || len(files) < 10 {
		t.Errorf("%d files, %v; want one for each of the rotations", len(files), err)
	}
	t.Logf("%d lines in %d files", count.lines["web"], len(files))
}
