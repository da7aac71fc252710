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
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/servertest"
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

// daemon is one process of denywatch run.
type daemon struct {
	*servertest.Process
	url string // of its API, once it runs
}

// launch starts denywatch run and returns at once.
func launch(t *testing.T, binary, config string, env ...string) *daemon {
	t.Helper()
	return start(t, exec.Command(binary, "run", "--config", config), env...)
}

func start(t *testing.T, cmd *exec.Cmd, env ...string) *daemon {
	t.Helper()
	d := &daemon{Process: servertest.Start(t, cmd, env...)}
	t.Cleanup(func() {
		d.Kill()
		if strings.Contains(d.Stderr.String(), "WARNING: DATA RACE") {
			t.Errorf("the race detector found something:\n%s", d.Stderr.Tail())
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
	servertest.Await(t, "denywatch to run", func() (bool, string) {
		if m := runs.FindStringSubmatch(d.Stderr.String()); m != nil {
			d.url = m[1]
			return true, ""
		}
		if d.Ended() {
			t.Fatalf("denywatch ended with code %d instead of running:\n%s", d.Code(), d.Stderr.Tail())
		}
		return false, d.Stderr.Tail()
	})
}

// stop asks the process to end, and expects that it does so in order.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.Wait(t)
	if c := d.Code(); c != 0 {
		t.Fatalf("exit code %d after SIGTERM, want 0:\n%s", c, d.Stderr.Tail())
	}
}

// said waits until the daemon has logged text.
func (d *daemon) said(t *testing.T, text string) {
	t.Helper()
	servertest.Await(t, fmt.Sprintf("a message with %q", text), func() (bool, string) {
		return strings.Contains(d.Stderr.String(), text), d.Stderr.Tail()
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
		t.Fatalf("%v\n%s", err, d.Stderr.Tail())
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
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Bound(t))
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

// rss is the process's memory in KB.
func (d *daemon) rss(t *testing.T) (kb int) {
	t.Helper()
	proc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(proc)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(v, &kb)
		}
	}
	if kb == 0 {
		t.Fatal("the system does not say how much memory the process has")
	}
	return kb
}
