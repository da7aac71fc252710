package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
)

// TestDiskFull lets the state's disk be full while an incident happens.
func TestDiskFull(t *testing.T) {
	t.Run("file size limit", func(t *testing.T) {
		long(t)
		prlimit := servertest.Need(t, "prlimit")
		h := newHost(t)
		// The first cut does not fit into 48 KiB, the empty store does.
		d := start(t, exec.Command(prlimit, fmt.Sprintf("--fsize=%d:", 48<<10), bin.normal, "run", "--config", h.config))
		diskFull(t, h, d, func() {
			out, err := exec.CommandContext(t.Context(), prlimit, "--pid", strconv.Itoa(d.Cmd.Process.Pid), "--fsize=unlimited:").CombinedOutput()
			if err != nil {
				t.Fatalf("prlimit: %v: %s", err, out)
			}
		})
	})
	t.Run("tmpfs", func(t *testing.T) {
		long(t)
		if os.Geteuid() != 0 {
			t.Skip("NOT TESTED HERE: only root can mount a small disk")
		}
		h := newHost(t)
		disk := filepath.Join(h.dir, "state")
		if err := os.MkdirAll(disk, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
			t.Skipf("NOT TESTED HERE: this machine lets nobody mount: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
		ballast := filepath.Join(disk, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 4<<20-48<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		diskFull(t, h, launch(t, bin.normal, h.config), func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func diskFull(t *testing.T, h *host, d *daemon, makeRoom func()) {
	d.ready(t)
	servertest.Await(t, "the daemon to say that it cannot write", func() (bool, string) {
		status, body, err := d.get("/readyz")
		return err == nil && status == http.StatusServiceUnavailable && strings.Contains(body, "state cannot be written") &&
			strings.Contains(body, "free space"), fmt.Sprint(status, body, err, d.Stderr.Tail())
	})
	servertest.Await(t, "the metric to say so", func() (bool, string) {
		return d.metric(t, "denywatch_cut_failing") == "1", d.Stderr.Tail()
	})
	if status, _, err := d.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d %v, want 200: nothing stops", status, err)
	}
	d.read(t, h.feed.count())
	h.resolved(t, d)
	h.feed.past(t, time.Now(), time.Now(), 500)
	d.read(t, h.feed.count())
	if n := h.receiver.number() + len(h.slack.Messages()); n != 0 {
		t.Errorf("%d notifications were sent though what they tell is not durable", n)
	}
	if n := strings.Count(d.Stderr.String(), "state cannot be written"); n != 1 {
		t.Errorf("the log says %d times that state cannot be written, want once", n)
	}

	makeRoom()
	d.said(t, "state is written again")
	servertest.Await(t, "the daemon to be ready", func() (bool, string) {
		status, body, err := d.get("/readyz")
		return status == http.StatusOK, fmt.Sprint(status, body, err)
	})
	servertest.Await(t, "the notifications", func() (bool, string) {
		if h.receiver.number() == 0 {
			return false, d.Stderr.Tail()
		}
		return d.quiet()
	})
	h.feed.past(t, time.Now(), time.Now(), 500)
	d.read(t, h.feed.count())
	d.stop(t)
	d = serve(t, bin.normal, h.config)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())
	d.told(t, h.resolved(t, d), h.receiver, h.slack)
	d.stop(t)
}

// TestFullDiskAtStop ends the daemon while its disk is full: it must say that
// the last cut is missing, and the next start must make up for it.
func TestFullDiskAtStop(t *testing.T) {
	long(t)
	prlimit := servertest.Need(t, "prlimit")
	h := newHost(t)
	d := start(t, exec.Command(prlimit, fmt.Sprintf("--fsize=%d:", 48<<10), bin.normal, "run", "--config", h.config))
	d.ready(t)
	d.said(t, "state cannot be written")
	if err := d.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.Wait(t)
	// It may have told what its last small cut held, and cannot note the answer.
	h.receiver.killed()
	if d.Code() != 1 || !strings.Contains(d.Stderr.String(), "denywatch: ") {
		t.Errorf("exit code %d, want 1 with a message:\n%s", d.Code(), d.Stderr.Tail())
	}
	d = serve(t, bin.normal, h.config)
	d.read(t, h.feed.count())
	h.resolved(t, d)
	servertest.Await(t, "the notifications", func() (bool, string) { return h.receiver.number() > 0, d.Stderr.Tail() })
	servertest.Await(t, "the notifications", d.quiet)
	d.exact(t, h.feed.count())
	d.told(t, h.resolved(t, d), h.receiver, h.slack)
	d.stop(t)
}

// fails expects that denywatch run ends with code 1 and a message with texts.
func fails(t *testing.T, cmd *exec.Cmd, texts ...string) {
	t.Helper()
	d := start(t, cmd)
	d.Wait(t)
	if d.Code() != 1 {
		t.Errorf("exit code %d, want 1", d.Code())
	}
	for _, text := range texts {
		if !strings.Contains(d.Stderr.String(), text) {
			t.Errorf("the message has no %q:\n%s", text, d.Stderr.Tail())
		}
	}
	if strings.Contains(d.Stderr.String(), "goroutine ") {
		t.Errorf("it panicked:\n%s", d.Stderr.Tail())
	}
}

// simple is a configuration of one log without sinks but the console.
func simple(t *testing.T, dir, state, listen string) string {
	t.Helper()
	return write(t, filepath.Join(dir, "simple.yaml"), fmt.Sprintf("state: %s\nlisten: %s\nsources: [{name: web, files: %s/access.log, format: combined}]\n", state, listen, dir))
}

func TestUnwritableState(t *testing.T) {
	t.Parallel()
	t.Run("not a folder", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "file"), "")
		fails(t, exec.Command(bin.normal, "run", "-c", simple(t, dir, dir+"/file/state", "127.0.0.1:0")),
			"denywatch: ", dir+"/file/state", "state:")
	})
	t.Run("folder of somebody else", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		state := filepath.Join(dir, "state")
		if err := os.Mkdir(state, 0o555); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(bin.normal, "run", "-c", simple(t, dir, state, "127.0.0.1:0"))
		if os.Geteuid() == 0 {
			// Root may write anywhere; nobody may not.
			for _, p := range []string{filepath.Dir(dir), dir, bin.dir, filepath.Join(dir, "simple.yaml")} {
				if err := os.Chmod(p, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		fails(t, cmd, "denywatch: ", state, "permission denied", "denywatch needs to read and write it")
	})
	t.Run("key cannot be made", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "state", "identity.key"), "short")
		fails(t, exec.Command(bin.normal, "run", "-c", simple(t, dir, dir+"/state", "127.0.0.1:0")), "identity.key", "16")
	})
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	d := serve(t, bin.normal, simple(t, dir, dir+"/state", "127.0.0.1:0"))
	t.Run("same state", func(t *testing.T) {
		fails(t, exec.Command(bin.normal, "run", "-c", simple(t, other, dir+"/state", "127.0.0.1:0")),
			"another denywatch uses this state folder", dir+"/state", "state:")
	})
	t.Run("same address", func(t *testing.T) {
		fails(t, exec.Command(bin.normal, "run", "-c", simple(t, other, other+"/state", strings.TrimPrefix(d.url, "http://"))),
			"is another denywatch running?", "listen:")
	})
	if status, _, err := d.get("/healthz"); status != http.StatusOK {
		t.Errorf("the first process suffered: %d %v", status, err)
	}
	d.stop(t)
}

// TestDamagedState damages the store in several ways while nobody uses it: it is
// set aside, and everything is counted from its beginning.
func TestDamagedState(t *testing.T) {
	long(t)
	for name, damage := range map[string]func([]byte) []byte{
		"bytes": func(b []byte) []byte {
			for i := 2 * 4096; i < len(b); i += 512 {
				b[i+100] ^= 0x55
			}
			return b
		},
		// Half of it may be no damage: what comes behind can all be free pages.
		"head":    func(b []byte) []byte { return b[:3*4096] },
		"empty":   func([]byte) []byte { return []byte("not a store") },
		"zeroes":  func(b []byte) []byte { clear(b); return b },
		"middle":  func(b []byte) []byte { clear(b[len(b)/4 : len(b)*3/4]); return b },
		"garbage": func(b []byte) []byte { copy(b[4096*2:], strings.Repeat("garbage ", (len(b)-4096*2)/8)); return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			d := serve(t, bin.normal, h.config)
			d.read(t, h.feed.count())
			h.resolved(t, d)
			servertest.Await(t, "the notifications", d.quiet)
			d.stop(t)
			path := filepath.Join(h.dir, "state", "denywatch.db")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b = damage(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			d = serve(t, bin.normal, h.config)
			d.said(t, "set aside")
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %v, %v; want one file", aside, err)
			}
			kept, err := os.ReadFile(aside[0])
			if err != nil {
				t.Fatal(err)
			}
			if string(kept) != string(b) {
				t.Errorf("what was set aside is not what was there: %d bytes, then %d", len(b), len(kept))
			}
			d.read(t, h.feed.count())
			d.exact(t, h.feed.count())
			h.resolved(t, d)
			d.stop(t)
		})
	}
}

// TestReload changes the configuration of a running daemon.
func TestReload(t *testing.T) {
	long(t)
	h := newHost(t)
	old, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	text := string(old) + "markers: {tokens: [{name: ci, token: a-token-of-sixteen}]}\n"
	write(t, h.config, text)
	d := serve(t, bin.raced, h.config)
	hup := func() {
		t.Helper()
		if err := d.Cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	d.read(t, h.feed.count())
	before := h.resolved(t, d)
	if res := command(t, nil, "mark", "--url", d.url, "--token", "a-token-of-sixteen", "--release", "v1"); res.code != 0 {
		t.Fatalf("mark: %d %s", res.code, res.stderr)
	}

	// A broken file changes nothing.
	write(t, h.config, strings.Replace(text, "slot: 10s", "slott: 10s", 1))
	hup()
	d.said(t, "not reloaded")
	if want := h.config + ":4:1"; !strings.Contains(d.Stderr.String(), want) || !strings.Contains(d.Stderr.String(), "slot") {
		t.Errorf("the message does not name the place %s:\n%s", want, d.Stderr.Tail())
	}
	if strings.Contains(d.Stderr.String(), "nothing was started") {
		t.Errorf("a daemon that runs says that nothing was started:\n%s", d.Stderr.Tail())
	}
	if err := os.Remove(h.config); err != nil {
		t.Fatal(err)
	}
	hup()
	servertest.Await(t, "a second refusal", func() (bool, string) {
		return strings.Count(d.Stderr.String(), "not reloaded") == 2, d.Stderr.Tail()
	})
	h.feed.past(t, time.Now(), time.Now(), 200)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())

	// An equal file changes nothing either, a good one what it says; both while
	// lines are written.
	write(t, h.config, text)
	hup()
	d.said(t, "nothing changed")
	good := strings.Replace(text, "lateness: 2s, check: 20ms", "lateness: 3s, check: 30ms", 1)
	for i, s := range []string{good, text, good} {
		write(t, h.config, s)
		hup()
		servertest.Await(t, "the reload", func() (bool, string) {
			if err := h.feed.write(time.Now()); err != nil {
				t.Fatal(err)
			}
			return strings.Count(d.Stderr.String(), `msg="configuration reloaded" `) == i+1, d.Stderr.Tail()
		})
	}
	h.feed.past(t, time.Now(), time.Now(), 200)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())
	if ms := d.markers(t); len(ms) != 1 || ms[0].ID != "v1" {
		t.Errorf("markers are %+v, want v1 alone", ms)
	}

	// What counts differently is a marker.
	write(t, h.config, good+"denials: {statuses: [403, 451, 401]}\n")
	hup()
	servertest.Await(t, "a config marker", func() (bool, string) {
		ms := d.markers(t)
		for _, m := range ms {
			if m.Kind == "config" {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v\n%s", ms, d.Stderr.Tail())
	})
	h.feed.past(t, time.Now(), time.Now(), 200)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())
	after := h.resolved(t, d)
	if len(after) != len(before) || after[0].ID != before[0].ID {
		t.Errorf("incidents before the reloads: %+v\nafter: %+v", before, after)
	}
	servertest.Await(t, "the notifications", d.quiet)
	d.told(t, after, h.receiver, h.slack)
	d.stop(t)

	// And all of that outlives the process, without another marker.
	d = serve(t, bin.raced, h.config)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())
	if ms := d.markers(t); len(ms) != 2 {
		t.Errorf("markers after a restart are %+v, want two", ms)
	}
	d.stop(t)
}

// TestThousandFiles follows a thousand files of one glob at once.
func TestThousandFiles(t *testing.T) {
	long(t)
	const files = 1000
	dir := t.TempDir()
	x := newTraffic(1)
	count := newWritten()
	logs := make([]*log, files)
	put := func(i int) {
		r := x.next(time.Now())
		if err := logs[i].append(r.combined()); err != nil {
			t.Fatal(err)
		}
		count.lines["web"]++
		p := &product{count: newWritten()}
		p.add(&r)
		for k, n := range p.count.columns {
			if k.vantage == "web" {
				count.columns[k] += n
			}
		}
	}
	for i := range logs {
		logs[i] = &log{path: filepath.Join(dir, "log", fmt.Sprintf("app-%04d.log", i))}
		write(t, logs[i].path, "")
		put(i)
	}
	conf := write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(
		"service: %s\nstate: %s/state\nlisten: 127.0.0.1:0\nsources: [{name: web, files: '%[2]s/log/*.log', format: combined}]\n", service, dir))
	d := serve(t, bin.normal, conf)
	d.read(t, count)
	for range 20_000 {
		put(x.rnd.IntN(files))
	}
	d.read(t, count)
	began := time.Now()
	put(17)
	d.read(t, count)
	lag := time.Since(began)
	d.exact(t, count)
	s, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Sources[0].Streams != files {
		t.Errorf("%d streams, want %d", s.Sources[0].Streams, files)
	}
	goroutines, err := strconv.Atoi(d.metric(t, "go_goroutines"))
	if err != nil {
		t.Fatal(err)
	}
	rss := d.rss(t)
	t.Logf("%d goroutines, %d MB, a line is read after %v", goroutines, rss/1024, lag.Round(time.Millisecond))
	if goroutines > 5*files {
		t.Errorf("%d goroutines for %d files", goroutines, files)
	}
	if rss > 250<<10 {
		t.Errorf("%d KB of memory for %d files, want at most 250 MB", rss, files)
	}
	d.stop(t)
}
