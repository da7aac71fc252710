package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/web"
)

// long skips a test that takes longer than some seconds.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long; run without -short")
	}
	t.Parallel()
}

// bound is how long one condition may take at most: minutes, for the machine may
// be slow and shared, but less than the deadline of go test, so that a failure
// is told with its reason.
func bound(t *testing.T) time.Duration {
	most := 3 * time.Minute
	if end, ok := t.Deadline(); ok {
		most = min(most, time.Until(end)-20*time.Second)
	}
	return most
}

// await waits until cond is true. What cond says otherwise is the failure's
// explanation.
func await(t *testing.T, what string, cond func() (done bool, why string)) {
	t.Helper()
	limit, began := bound(t), time.Now()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		done, why := cond()
		if done {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("waited %v for: %s\n%s", limit, what, why)
		}
	}
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// tail is the end of what was written, for failures.
func (o *output) tail() string {
	s := o.String()
	if n := len(s) - 6000; n > 0 {
		s = "…" + s[n:]
	}
	return s
}

// daemon is one process of denywatch run.
type daemon struct {
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	done   chan struct{} // closed when it has ended
	url    string        // of its API, once it runs
}

// launch starts denywatch run and returns at once.
func launch(t *testing.T, binary, config string, env ...string) *daemon {
	t.Helper()
	return start(t, exec.Command(binary, "run", "--config", config), env...)
}

func start(t *testing.T, cmd *exec.Cmd, env ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd, stdout: &output{}, stderr: &output{}, done: make(chan struct{})}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		_ = cmd.Wait() // the exit code says it
	}()
	t.Cleanup(func() {
		d.kill()
		if strings.Contains(d.stderr.String(), "WARNING: DATA RACE") {
			t.Errorf("the race detector found something:\n%s", d.stderr.tail())
		}
	})
	return d
}

// serve starts denywatch and waits until its API answers.
func serve(t *testing.T, binary, config string, env ...string) *daemon {
	t.Helper()
	d := launch(t, binary, config, env...)
	d.ready(t)
	return d
}

var runs = regexp.MustCompile(`msg="denywatch runs".* listen=(http://[0-9.:]+)`)

// ready waits until the daemon says where it listens.
func (d *daemon) ready(t *testing.T) {
	t.Helper()
	await(t, "denywatch to run", func() (bool, string) {
		if m := runs.FindStringSubmatch(d.stderr.String()); m != nil {
			d.url = m[1]
			return true, ""
		}
		if d.ended() {
			t.Fatalf("denywatch ended with code %d instead of running:\n%s", d.code(), d.stderr.tail())
		}
		return false, d.stderr.tail()
	})
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// code is the exit code of a process that has ended, -1 if a signal killed it.
func (d *daemon) code() int { return d.cmd.ProcessState.ExitCode() }

// kill ends the process as kill -9 does, and waits for its end.
func (d *daemon) kill() {
	_ = d.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-d.done
}

// wait waits for the end of the process.
func (d *daemon) wait(t *testing.T) {
	t.Helper()
	await(t, "the process to end", func() (bool, string) { return d.ended(), d.stderr.tail() })
}

// stop asks the process to end, and expects that it does so in order.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.wait(t)
	if c := d.code(); c != 0 {
		t.Fatalf("exit code %d after SIGTERM, want 0:\n%s", c, d.stderr.tail())
	}
}

// said waits until the daemon has logged text.
func (d *daemon) said(t *testing.T, text string) {
	t.Helper()
	await(t, fmt.Sprintf("a message with %q", text), func() (bool, string) {
		return strings.Contains(d.stderr.String(), text), d.stderr.tail()
	})
}

// api is a client without keep-alive, for daemons come and go.
var api = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks the API; body is what it answers with any status.
func (d *daemon) get(path string, header ...string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, d.url+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := api.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// ask decodes the answer of the API into v.
func (d *daemon) ask(path string, v any) error {
	status, body, err := d.get(path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: %d: %s", path, status, body)
	}
	return json.Unmarshal([]byte(body), v)
}

// status is GET /v1/status.
func (d *daemon) status() (s web.Status, err error) {
	err = d.ask("/v1/status", &s)
	return s, err
}

// incidents is GET /v1/incidents.
func (d *daemon) incidents(t *testing.T) []incident.Incident {
	t.Helper()
	var v struct {
		Incidents []incident.Incident `json:"incidents"`
	}
	if err := d.ask("/v1/incidents?limit=1000", &v); err != nil {
		t.Fatalf("%v\n%s", err, d.stderr.tail())
	}
	return v.Incidents
}

// timeline is what the daemon says happened to an incident.
func (d *daemon) timeline(t *testing.T, id string) []incident.Transition {
	t.Helper()
	var v struct {
		Timeline []incident.Transition `json:"timeline"`
	}
	if err := d.ask("/v1/incidents/"+id, &v); err != nil {
		t.Fatal(err)
	}
	return v.Timeline
}

// markers is GET /v1/markers.
func (d *daemon) markers(t *testing.T) []marker.Marker {
	t.Helper()
	var v struct {
		Markers []marker.Marker `json:"markers"`
	}
	if err := d.ask("/v1/markers", &v); err != nil {
		t.Fatal(err)
	}
	return v.Markers
}

// metric is the value of a metric with exactly these labels.
func (d *daemon) metric(t *testing.T, name string) string {
	t.Helper()
	_, body, err := d.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return v
		}
	}
	return ""
}

// result is what a command that ends by itself did.
type result struct {
	code           int
	stdout, stderr string
}

// command runs denywatch with args and input; nothing in it is a terminal.
func command(t *testing.T, input io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound(t))
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.normal, args...)
	cmd.Dir = t.TempDir() // where no configuration lies
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("denywatch %v: %v", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// write makes a file of a test.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// need skips a test without a program, and fails it where all must be there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
			if p, e := exec.LookPath(filepath.Join(dir, program)); e == nil {
				return p
			}
		}
		lack(t, fmt.Sprintf("%s is not installed", program))
	}
	return path
}

// lack skips a test because of what the machine lacks, loudly, and fails it
// where everything must be there.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip("NOT TESTED HERE: " + what)
}
