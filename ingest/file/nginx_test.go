//go:build unix

package file

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tool returns the path of a program that a test needs. Without it the test is
// skipped, but not where everything has to run.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
			if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return p
			}
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("SKIPPED: %s is not installed (apt-get install nginx logrotate)", name)
	}
	return path
}

// TestRealNginxLogrotate follows the log of a real nginx that a real logrotate
// rotates, with restarts of the source in between.
func TestRealNginxLogrotate(t *testing.T) {
	nginx, logrotate := tool(t, "nginx"), tool(t, "logrotate")
	for _, c := range []struct {
		name, log, rotate string
		lossy             bool
	}{
		{"create", "", "create 0644", false},
		{"nocreate delaycompress", "", "nocreate\ncompress\ndelaycompress", false},
		// Without delaycompress the compressor may be done before nginx writes
		// its buffer to the old file, which then is in no file at all.
		{"nocreate delaycompress buffered", "buffer=32k flush=1s", "nocreate\ncompress\ndelaycompress", false},
		{"create dateext buffered", "buffer=32k flush=1s", "create 0644\ndateext\ndateformat -%s", false},
		{"copytruncate", "", "copytruncate", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			realNginx(t, nginx, logrotate, c.log, c.rotate, c.lossy)
		})
	}
}

func realNginx(t *testing.T, nginx, logrotate, logOptions, rotate string, lossy bool) {
	dir := t.TempDir()
	logs := filepath.Join(dir, "log")
	must(t, os.Mkdir(logs, 0o755))
	path := filepath.Join(logs, "access.log")
	pid := filepath.Join(dir, "nginx.pid")
	port := freePort(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the workers must get into the test's folder
	}
	conf := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, `
%s daemon off; worker_processes 2; pid %s; error_log %s/error.log;
events { worker_connections 256; }
http {
  client_body_temp_path %[3]s/b; proxy_temp_path %[3]s/p; fastcgi_temp_path %[3]s/f;
  uwsgi_temp_path %[3]s/u; scgi_temp_path %[3]s/s;
  log_format short '$request_uri $status';
  access_log %s short %s;
  keepalive_requests 100000;
  server { listen 127.0.0.1:%d; location / { return 204; } }
}
`, user, pid, dir, path, logOptions, port), 0o644))
	server := exec.Command(nginx, "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	server.Stderr = os.Stderr
	must(t, server.Start())
	stopServer := sync.OnceFunc(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	})
	defer stopServer()
	base := fmt.Sprintf("http://127.0.0.1:%d/", port)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	var sent atomic.Int64
	request := func() error {
		resp, err := client.Get(base + strconv.FormatInt(sent.Load(), 10))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	until(t, "nginx answers", func() bool { return request() == nil })

	rconf := filepath.Join(dir, "logrotate.conf")
	must(t, os.WriteFile(rconf, fmt.Appendf(nil, `%s {
rotate 100
missingok
%s
postrotate
  kill -USR1 $(cat %s)
endscript
}
`, path, rotate, pid), 0o644))
	turn := func() {
		for {
			out, err := exec.Command(logrotate, "-f", "-s", filepath.Join(dir, "state"), rconf).CombinedOutput()
			if bytes.Contains(out, []byte("already exists")) {
				time.Sleep(100 * time.Millisecond) // the last name has the same second
				continue
			}
			if err != nil {
				t.Errorf("logrotate: %v\n%s", err, out)
			}
			return
		}
	}

	said := &logged{}
	h := newHost(t)
	h.trace = true
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s\nbatches:\n%s", said, strings.Join(h.events, "\n"))
			ls, _ := exec.Command("ls", "-lai", "--full-time", logs).CombinedOutput()
			t.Logf("%s", ls)
		}
	})
	cfg := Config{Paths: []string{filepath.Join(logs, "*.log*")}}
	text := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	stop := run(t, cfg, h, text)
	// What is rotated before the very first start is not the source's business.
	until(t, "the first position", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.positions[streamPrefix+path].Mark != nil
	})

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := sent.Add(1)
				resp, err := client.Get(base + "n/" + strconv.FormatInt(n, 10))
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				time.Sleep(500 * time.Microsecond)
			}
		})
	}
	step := func(n int64) { // lets about n requests pass
		for goal := sent.Load() + n; sent.Load() < goal && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	if lossy {
		// A file of which nothing was read yet has nothing that its copy could be
		// known by: that is part of the documented limit too.
		until(t, "the first line", func() bool { return len(h.get(path)) > 0 })
	}
	for i := range 6 {
		step(800)
		switch i {
		case 1: // stopped before, started in the middle
			stop()
			step(200)
			turn()
			step(200)
			stop = run(t, cfg, h, text)
		case 2: // stopped in the middle of a rotation
			done := make(chan struct{})
			go func() { turn(); close(done) }()
			step(20)
			stop()
			<-done
			stop = run(t, cfg, h, text)
		case 3: // rotated twice while down
			stop()
			turn()
			step(300)
			turn()
			step(300)
			stop = run(t, cfg, h, text)
		default:
			turn()
		}
	}
	step(800)
	cancel()
	wg.Wait()
	stopServer() // writes what it buffers
	total := sent.Load()

	// tally returns how often each request is in lines.
	tally := func(lines []string) (times []int, bad int) {
		times = make([]int, total+1)
		for _, l := range lines {
			rest, ok := strings.CutPrefix(l, "/n/")
			num, status, ok2 := strings.Cut(rest, " ")
			n, err := strconv.Atoi(num)
			switch {
			case !ok && strings.HasPrefix(l, "/0 "): // to see whether nginx is there
			case !ok || !ok2 || err != nil || status != "204" || n < 1 || int64(n) > total:
				bad++
			default:
				times[n]++
			}
		}
		return times, bad
	}
	inFiles := make([]int, total+1)
	if lossy {
		// What was written between copy and truncation is in no file. All else
		// has to be there.
		names, err := filepath.Glob(filepath.Join(logs, "*"))
		must(t, err)
		for _, name := range names {
			b, err := os.ReadFile(name)
			must(t, err)
			times, _ := tally(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"))
			for n, k := range times {
				inFiles[n] += k
			}
		}
	} else {
		for n := range inFiles {
			inFiles[n] = 1
		}
	}
	inFiles[0] = 0
	counts := func() (lost, gone, doubled, bad int) {
		times, bad := tally(h.get(path))
		for n, k := range times {
			switch {
			case k == 0 && inFiles[n] > 0:
				lost++
			case k == 0 && n > 0:
				gone++
			}
			doubled += max(0, k-1)
		}
		return lost, gone, doubled, bad
	}
	until(t, "every request", func() bool { lost, _, _, _ := counts(); return lost == 0 })
	caughtUp(t, h, path)
	stop()
	lost, gone, doubled, bad := counts()
	t.Logf("%d requests: %d lost, %d in no file and not delivered, %d doubled, %d not understood", total, lost, gone, doubled, bad)
	if doubled > 0 || bad > 0 && !lossy {
		t.Errorf("lines were doubled or cut; the log says:\n%s", said)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lines) > 1 {
		t.Errorf("rotated files were followed by themselves: %d streams", len(h.lines))
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
