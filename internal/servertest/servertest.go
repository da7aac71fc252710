// Package servertest starts real servers and other processes for tests, on free
// ports, and waits for what they do. Only tests import it.
package servertest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Need is the path of a program. A test is skipped without it, and fails where
// all programs must be there (see Lack).
func Need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
			if p, e := exec.LookPath(filepath.Join(dir, program)); e == nil {
				return p
			}
		}
		Lack(t, program+" is not installed")
	}
	return path
}

// Lack skips a test because of what the machine lacks, loudly, and fails it
// where everything must be there: with CI=true in the environment.
func Lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip("NOT TESTED HERE: " + what)
}

// FreePort is a port of 127.0.0.1 that nobody listens on now.
func FreePort(t *testing.T) int {
	t.Helper()
	l := Listen(t)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Listen listens on a port of 127.0.0.1 that nobody else has. The caller closes it, or
// hands it to somebody who does.
func Listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Unprivileged is a user, with its group, for the workers of a server that is
// started by root. ok is false if the test does not run as root, or if there is
// no such user: then the workers run as who runs the test.
func Unprivileged() (name, group string, ok bool) {
	if os.Geteuid() != 0 {
		return "", "", false
	}
	for _, name := range []string{"nobody", "www-data", "daemon"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if g, err := user.LookupGroupId(u.Gid); err == nil {
			return name, g.Name, true
		}
	}
	return "", "", false
}

// Bound is how long one condition may take at most: minutes, for the machine may
// be slow and shared, but less than the deadline of go test, so that a failure
// is told with its reason.
func Bound(t *testing.T) time.Duration {
	most := 3 * time.Minute
	if end, ok := t.Deadline(); ok {
		most = min(most, time.Until(end)-20*time.Second)
	}
	return most
}

// Await waits until cond is true. What cond says otherwise is the failure's
// explanation.
func Await(t *testing.T, what string, cond func() (done bool, why string)) {
	t.Helper()
	limit, began := Bound(t), time.Now()
	// The first looks come soon, for servers are quick; later ones leave the
	// processor to those waited for.
	for pause := time.Millisecond; ; pause = min(2*pause, 25*time.Millisecond) {
		done, why := cond()
		if done {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("waited %v for: %s\n%s", limit, what, why)
		}
		time.Sleep(pause)
	}
}

// Output collects what a process writes. It is safe for concurrent use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String is all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Tail is the end of what was written, for failures.
func (o *Output) Tail() string {
	s := o.String()
	if n := len(s) - 6000; n > 0 {
		s = "…" + s[n:]
	}
	return s
}

// Process is a process that runs until it is ended, at the latest when the test
// ends.
type Process struct {
	Cmd    *exec.Cmd
	Stdout *Output
	Stderr *Output
	done   chan struct{} // closed when it has ended
}

// Start starts cmd with env added to the test's own environment, and kills it
// when the test ends.
func Start(t *testing.T, cmd *exec.Cmd, env ...string) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Stdout: &Output{}, Stderr: &Output{}, done: make(chan struct{})}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit code says it
	}()
	t.Cleanup(p.Kill)
	return p
}

// Serve starts a server that stays in the foreground. When the test ends it is
// asked to end first, so that it takes its workers with it.
func Serve(t *testing.T, cmd *exec.Cmd, env ...string) *Process {
	t.Helper()
	p := Start(t, cmd, env...)
	t.Cleanup(func() { // before the kill that Start arranged
		_ = p.Cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(10 * time.Second): // its workers may hold on to connections
		}
	})
	return p
}

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Code is the exit code of a process that has ended, -1 if a signal killed it.
func (p *Process) Code() int { return p.Cmd.ProcessState.ExitCode() }

// Kill ends the process as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.done
}

// Wait waits for the end of the process.
func (p *Process) Wait(t *testing.T) {
	t.Helper()
	Await(t, "the process to end", func() (bool, string) { return p.Ended(), p.Stderr.Tail() })
}

// Await waits until cond is true, and fails the test at once if the process ends
// instead.
func (p *Process) Await(t *testing.T, what string, cond func() (done bool, why string)) {
	t.Helper()
	Await(t, what, func() (bool, string) {
		if p.Ended() {
			t.Fatalf("waited for %s, but the process ended with code %d:\n%s%s", what, p.Code(), p.Stdout.Tail(), p.Stderr.Tail())
		}
		return cond()
	})
}
