package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
)

// archive is a day's logs of the product for replay: one wall, or none.
func archive(t *testing.T, dir string, walls ...wall) (web, app string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f := newFeed(dir, newTraffic(21, walls...))
	f.past(t, epoch, epoch.Add(4*time.Hour), 4*3600*2)
	return f.web.path, f.app.path
}

// epoch is when the archives begin.
var epoch = time.Date(2026, 3, 3, 8, 0, 0, 0, time.UTC)

// TestReplayCLI is replay as a pipeline uses it.
func TestReplayCLI(t *testing.T) {
	t.Parallel()
	broken := wall{"/billing/upgrade", "viewer", epoch.Add(150 * time.Minute), epoch.Add(190 * time.Minute)}
	web, app := archive(t, t.TempDir(), broken)
	calmWeb, _ := archive(t, t.TempDir())
	both := []string{"replay", "web/combined:" + web, "app/json:" + app}

	objects := func(t *testing.T, res result) []map[string]any {
		t.Helper()
		var out []map[string]any
		d := json.NewDecoder(strings.NewReader(res.stdout))
		for d.More() {
			var v map[string]any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%v in %s", err, res.stdout)
			}
			out = append(out, v)
		}
		return out
	}
	code := func(t *testing.T, res result, want int) {
		t.Helper()
		if res.code != want {
			t.Errorf("exit code %d, want %d\n%s%s", res.code, want, res.stdout, res.stderr)
		}
		if strings.Contains(res.stdout+res.stderr, "\x1b") || strings.Contains(res.stderr, "\r") {
			t.Errorf("escapes or a progress bar are written, but this is no terminal:\n%q\n%q", res.stdout, res.stderr)
		}
	}

	t.Run("found", func(t *testing.T) {
		res := command(t, nil, both...)
		code(t, res, 3)
		for _, text := range []string{"/billing/upgrade", "viewer", "1 incident."} {
			if !strings.Contains(res.stdout, text) {
				t.Errorf("the time line has no %q:\n%s", text, res.stdout)
			}
		}
	})
	t.Run("jsonl", func(t *testing.T) {
		res := command(t, nil, append(both, "--output", "jsonl")...)
		code(t, res, 3)
		all := objects(t, res)
		if len(all) != 1 {
			t.Fatalf("%d incidents, want 1:\n%s", len(all), res.stdout)
		}
		in := all[0]
		for _, key := range strings.Fields("id state direction opened_at started_at resolved_at scope expected_rate observed_rate requests denials identities accounts layer causes severity team journey") {
			if _, ok := in[key]; !ok {
				t.Errorf("the object has no %q: %v", key, in)
			}
		}
		scope, _ := in["scope"].(map[string]any)
		if scope["route"] != "/billing/upgrade" || scope["role"] != "viewer" || scope["service"] != service || scope["prefix"] != nil || scope["geo"] != nil {
			t.Errorf("scope %v, want service, route and role alone", scope)
		}
		if in["state"] != "resolved" || in["direction"] != "up" || in["layer"] != "app" {
			t.Errorf("state %v, direction %v, layer %v; want resolved, up, app", in["state"], in["direction"], in["layer"])
		}
		for _, key := range []string{"opened_at", "started_at", "resolved_at"} {
			s, _ := in[key].(string)
			if _, err := time.Parse(time.RFC3339, s); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if again := command(t, nil, append(both, "--output", "jsonl")...); again.stdout != res.stdout {
			t.Errorf("the same replay says something else:\n%s\n%s", res.stdout, again.stdout)
		}
	})
	t.Run("none", func(t *testing.T) {
		res := command(t, nil, "replay", calmWeb)
		code(t, res, 0)
		if !strings.Contains(res.stdout, "Nothing wrong") {
			t.Errorf("it does not say that nothing is wrong:\n%s", res.stdout)
		}
		if res := command(t, nil, "replay", "--output", "jsonl", calmWeb); res.code != 0 || res.stdout != "" {
			t.Errorf("exit code %d, output %q; want 0 and nothing", res.code, res.stdout)
		}
	})
	t.Run("standard input", func(t *testing.T) {
		b, err := os.ReadFile(app)
		if err != nil {
			t.Fatal(err)
		}
		want := command(t, nil, "replay", "--output", "jsonl", "app/json:"+app)
		code(t, want, 3)
		for _, args := range [][]string{{"-"}, {"app/json:-"}, {"--format", "json", "-"}} {
			res := command(t, bytes.NewReader(b), append([]string{"replay", "--output", "jsonl"}, args...)...)
			code(t, res, 3)
			if res.stdout != want.stdout {
				t.Errorf("%v: found %s\nfrom the file %s", args, res.stdout, want.stdout)
			}
		}
	})
	t.Run("compressed", func(t *testing.T) {
		want := command(t, nil, "replay", "--output", "jsonl", web)
		code(t, want, 3)
		for _, tool := range [][]string{{"gzip", ".gz"}, {"zstd", ".zst"}} {
			packed := filepath.Join(t.TempDir(), "access.log"+tool[1])
			cmd := exec.CommandContext(t.Context(), servertest.Need(t, tool[0]), "-c", web)
			b, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			write(t, packed, string(b))
			res := command(t, nil, "replay", "--output", "jsonl", packed)
			code(t, res, 3)
			if res.stdout != want.stdout {
				t.Errorf("%s: found %s\nfrom the plain file %s", tool[1], res.stdout, want.stdout)
			}
		}
	})
	t.Run("rotated set", func(t *testing.T) {
		want := command(t, nil, "replay", "--output", "jsonl", web)
		b, err := os.ReadFile(web)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		half := bytes.IndexByte(b[len(b)/2:], '\n') + len(b)/2 + 1
		third := bytes.IndexByte(b[len(b)/3:], '\n') + len(b)/3 + 1
		write(t, filepath.Join(dir, "access.log.2"), string(b[:third]))
		write(t, filepath.Join(dir, "access.log.1"), string(b[third:half]))
		write(t, filepath.Join(dir, "access.log"), string(b[half:]))
		if err := squeeze(filepath.Join(dir, "access.log.2")); err != nil {
			t.Fatal(err)
		}
		res := command(t, nil, "replay", "--output", "jsonl", filepath.Join(dir, "access.log*"))
		code(t, res, 3)
		if res.stdout != want.stdout {
			t.Errorf("found %s\nfrom one file %s", res.stdout, want.stdout)
		}
	})
	t.Run("markers", func(t *testing.T) {
		at := broken.from.Add(-30 * time.Second).Format(time.RFC3339)
		file := write(t, filepath.Join(t.TempDir(), "markers.jsonl"),
			fmt.Sprintf(`{"id":"shop-v2","kind":"release","time":%q,"scope":{"service":%q}}`+"\n", at, service))
		res := command(t, nil, append(both, "--output", "jsonl", "--markers", file)...)
		code(t, res, 3)
		if all := objects(t, res); len(all) != 1 || all[0]["marker"] != "shop-v2" {
			t.Errorf("the marker is not named: %s", res.stdout)
		}
		announced := write(t, filepath.Join(t.TempDir(), "markers.jsonl"),
			fmt.Sprintf(`{"id":"m","kind":"entitlement","time":%q,"scope":{"route":"/billing/upgrade","role":["viewer"]},"expect":"up"}`+"\n", at))
		res = command(t, nil, append(both, "--output", "jsonl", "--markers", announced)...)
		for _, in := range objects(t, res) {
			if scope, _ := in["scope"].(map[string]any); scope["role"] == "viewer" && in["direction"] == "up" {
				t.Errorf("an announced change is told as an incident: %v", in)
			}
		}
		bad := write(t, filepath.Join(t.TempDir(), "markers.jsonl"), "\n{\"id\":\"x\",\"kind\":\"relaese\",\"time\":\"2026-03-03T08:00:00Z\"}\n")
		res = command(t, nil, append(both, "--markers", bad)...)
		code(t, res, 1)
		if !strings.Contains(res.stderr, bad+":2") || !strings.Contains(res.stderr, "relaese") {
			t.Errorf("the message does not name the line:\n%s", res.stderr)
		}
	})
	t.Run("errors", func(t *testing.T) {
		garbage := write(t, filepath.Join(t.TempDir(), "notes.txt"), "dear diary\ntoday nothing happened\n")
		for _, x := range []struct {
			args []string
			says string
		}{
			{[]string{"replay", "/no/such/file.log"}, "/no/such/file.log"},
			{[]string{"replay", filepath.Dir(web)}, "name the files"},
			{[]string{"replay", "/no/such/*.log"}, "no file matches"},
			{[]string{"replay", garbage}, "notes.txt"},
			{[]string{"replay", "--format", "ngnix", web}, "nginx"},
			{[]string{"replay", "web/combned:" + web}, "combined"},
			{[]string{"replay", "--markers", "/no/such/markers.jsonl", web}, "/no/such/markers.jsonl"},
			{[]string{"replay", "--config", "/no/such/denywatch.yaml", web}, "/no/such/denywatch.yaml"},
			{[]string{"replay", "-", "-"}, "twice"},
		} {
			res := command(t, strings.NewReader(""), x.args...)
			code(t, res, 1)
			if !strings.Contains(res.stderr, x.says) {
				t.Errorf("%v: the message has no %q:\n%s", x.args, x.says, res.stderr)
			}
			if res.stdout != "" {
				t.Errorf("%v: an error is told on standard output: %s", x.args, res.stdout)
			}
		}
	})
	t.Run("with a configuration", func(t *testing.T) {
		dir := t.TempDir()
		conf := write(t, filepath.Join(dir, "c.yaml"), fmt.Sprintf("state: %s\nsources: [{files: %s}]\nroutes: ['/billing/{step}']\n", dir, web))
		res := command(t, nil, "replay", "--config", conf, "--output", "jsonl", web)
		code(t, res, 3)
		if !strings.Contains(res.stdout, `"route":"/billing/{step}"`) {
			t.Errorf("the configured route is not used:\n%s", res.stdout)
		}
	})
	t.Run("reader goes away", func(t *testing.T) {
		// "denywatch replay ... | head -1" must not hang.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `"$0" parse -n 0 "$1" | head -n 1`, bin.normal, web)
		out, err := cmd.Output()
		if err != nil || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("%v: %q", err, out)
		}
	})
}

// TestParseCLI shows how lines are understood.
func TestParseCLI(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	web, app := h.feed.web.path, h.feed.app.path
	res := command(t, nil, "parse", "-n", "3", "--output", "jsonl", "app/json:"+app)
	if lines := strings.Count(res.stdout, "\n"); res.code != 0 || lines != 3 {
		t.Errorf("exit code %d, %d lines, want 0 and 3\n%s%s", res.code, lines, res.stdout, res.stderr)
	}
	res = command(t, nil, "parse", web)
	if res.code != 0 || !strings.Contains(res.stdout, "/projects/{id}") {
		t.Errorf("exit code %d\n%s%s", res.code, res.stdout, res.stderr)
	}
	if strings.Contains(res.stdout, "q=1") {
		t.Errorf("a query string is shown:\n%s", res.stdout)
	}
}

// TestCheckCLI shows what is wrong with a configuration, or what it will do.
func TestCheckCLI(t *testing.T) {
	t.Parallel()
	web := newHost(t).feed.web.path
	dir := t.TempDir()
	good := write(t, filepath.Join(dir, "good.yaml"), fmt.Sprintf("state: %s\nsources: [{files: %s}]\n", dir, web))
	res := command(t, nil, "check", "--config", good)
	if res.code != 0 || !strings.Contains(res.stdout, "The configuration is valid.") || !strings.Contains(res.stdout, "combined") {
		t.Errorf("exit code %d\n%s%s", res.code, res.stdout, res.stderr)
	}
	bad := write(t, filepath.Join(dir, "bad.yaml"), "state: /tmp/x\nslott: 10s\nsources:\n  - files: /var/log/nginx/access.log\n    formatt: nginx\n  - file: x\ndenials: {statuses: [200]}\n")
	res = command(t, nil, "check", "--config", bad)
	if res.code != 1 {
		t.Errorf("exit code %d, want 1", res.code)
	}
	for _, text := range []string{bad + ":2:1", bad + ":5:5", bad + ":6:5", bad + ":7:", "slot", "format", "files", "problems"} {
		if !strings.Contains(res.stderr, text) {
			t.Errorf("the problems do not say %q:\n%s", text, res.stderr)
		}
	}
	example := command(t, nil, "check", "--example")
	if example.code != 0 || !strings.Contains(example.stdout, "sources:") {
		t.Errorf("exit code %d\n%s", example.code, example.stdout)
	}
	// Without any configuration the message says where it was looked for.
	if _, err := os.Stat("/etc/denywatch/denywatch.yaml"); err != nil {
		for _, cmd := range []string{"run", "check"} {
			if res := command(t, nil, cmd); res.code != 1 || !strings.Contains(res.stderr, "--config") {
				t.Errorf("%s: exit code %d\n%s", cmd, res.code, res.stderr)
			}
		}
	}
}

// TestUsage is the command line itself.
func TestUsage(t *testing.T) {
	t.Parallel()
	commands := []string{"run", "replay", "parse", "check", "mark", "demo", "version"}
	for _, args := range [][]string{{}, {"--help"}} {
		res := command(t, nil, args...)
		if res.code != 0 {
			t.Errorf("%v: exit code %d\n%s", args, res.code, res.stderr)
		}
		for _, c := range commands {
			if !strings.Contains(res.stdout, c) {
				t.Errorf("%v: the help has no %s:\n%s", args, c, res.stdout)
			}
		}
	}
	for _, c := range commands {
		res := command(t, nil, c, "--help")
		if res.code != 0 || !strings.Contains(res.stdout, "Usage: denywatch "+c) || res.stderr != "" {
			t.Errorf("%s --help: exit code %d\n%s%s", c, res.code, res.stdout, res.stderr)
		}
	}
	for _, x := range []struct {
		args []string
		says string
	}{
		{[]string{"replya", "x.log"}, "replay"},
		{[]string{"replay", "--outptu", "jsonl", "x.log"}, "--output"},
		{[]string{"replay", "--output", "yaml", "x.log"}, "text"},
		{[]string{"replay"}, "file"},
		{[]string{"run", "extra"}, "extra"},
		{[]string{"mark", "--kind", "relaese"}, "release"},
		{[]string{"mark", "--wait", "soon"}, "wait"},
	} {
		res := command(t, nil, x.args...)
		if res.code != 80 {
			t.Errorf("%v: exit code %d, want 80\n%s", x.args, res.code, res.stderr)
		}
		if !strings.Contains(res.stderr, x.says) {
			t.Errorf("%v: the message has no %q:\n%s", x.args, x.says, res.stderr)
		}
	}
	if res := command(t, nil, "version"); res.code != 0 || !strings.HasPrefix(res.stdout, "denywatch ") {
		t.Errorf("version: exit code %d, %q", res.code, res.stdout)
	}
}

// TestMarkCLI is what a pipeline sees when nobody takes its marker.
func TestMarkCLI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "access.log"), "")
	conf := write(t, filepath.Join(dir, "c.yaml"), fmt.Sprintf(
		"state: %[1]s/state\nlisten: 127.0.0.1:0\nsources: [{files: %[1]s/access.log}]\nmarkers: {tokens: [{name: ci, token: a-token-of-sixteen}]}\n", dir))
	d := serve(t, bin.normal, conf)
	if strings.Contains(d.Stderr.String(), "level=ERROR") || strings.Contains(d.Stderr.String(), "level=WARN") {
		t.Errorf("an empty log is no trouble, but the daemon says\n%s", d.Stderr.Tail())
	}
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--release", "v1"}, 1, "DENYWATCH_TOKEN"},
		{[]string{"--token", "not-the-right-one-at-all", "--release", "v1"}, 1, "token"},
		{[]string{"--token", "a-token-of-sixteen", "--release", "v1"}, 0, ""},
		{[]string{"--token", "a-token-of-sixteen", "--release", "v2", "--wait", "1s"}, 0, "no incident within 1s"},
	} {
		res := command(t, nil, append([]string{"mark", "--url", d.url}, x.args...)...)
		if res.code != x.code || !strings.Contains(res.stderr, x.says) {
			t.Errorf("mark %v: exit code %d, want %d and %q\n%s%s", x.args, res.code, x.code, x.says, res.stdout, res.stderr)
		}
		if strings.Contains(res.stderr+res.stdout, "not-the-right-one") {
			t.Errorf("a token is shown:\n%s", res.stderr)
		}
	}
	if ms := d.markers(t); len(ms) != 2 {
		t.Errorf("markers %+v, want v1 and v2", ms)
	}
	// A marker that was acknowledged survives a kill.
	d.Kill()
	d = serve(t, bin.normal, conf)
	if ms := d.markers(t); len(ms) != 2 {
		t.Errorf("markers after kill -9: %+v, want v1 and v2", ms)
	}
	d.stop(t)
}

// TestVerdictCLI is what a pipeline learns of a change: of one that broke a role, of
// one that broke nothing so far, and of one whose service nobody asked for.
func TestVerdictCLI(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	broke := now.Add(-4 * time.Minute)
	f := newFeed(dir, newTraffic(5, wall{"/billing/upgrade", "viewer", broke, now}))
	f.past(t, now.Add(-3*time.Hour), now, 3*3600*4)
	conf := write(t, filepath.Join(dir, "c.yaml"), fmt.Sprintf(
		"service: %s\nstate: %s/state\nlisten: 127.0.0.1:0\nslot: 10s\nsources: [{name: app, files: %s, format: json, lateness: 1s}]\n", service, dir, f.app.path))
	d := serve(t, bin.normal, conf)
	mark := func(args ...string) {
		t.Helper()
		if res := command(t, nil, append([]string{"mark", "--url", d.url, "--time", broke.UTC().Format(time.RFC3339)}, args...)...); res.code != 0 {
			t.Fatalf("mark %v: %s", args, res.stderr)
		}
	}
	mark("--id", "bad", "--service", service)
	mark("--id", "good", "--service", service, "--route", "/search")
	mark("--id", "other", "--service", "blog")
	for _, x := range []struct {
		id   string
		code int
		says []string
	}{
		{"bad", 3, []string{"bad: fail", "/billing/upgrade, role viewer", "used to get in", "of the usual traffic is covered"}},
		{"good", 0, []string{"good: pending", "on probation until", "0 people refused"}},
		{"other", 4, []string{"other: pending", "No requests"}},
	} {
		var res result
		// A marker takes effect when the next slot closes.
		servertest.Await(t, "the verdict on "+x.id, func() (bool, string) {
			res = command(t, nil, "verdict", x.id, "--url", d.url)
			return res.code == x.code && strings.Contains(res.stdout, x.says[0]) && !strings.Contains(res.stdout, "not taken effect"), res.stdout + res.stderr
		})
		for _, text := range x.says {
			if !strings.Contains(res.stdout, text) {
				t.Errorf("%s: no %q in\n%s", x.id, text, res.stdout)
			}
		}
	}
	var v struct{ Verdict, Reason string }
	if res := command(t, nil, "verdict", "bad", "--url", d.url, "--output", "json", "--wait", "1m"); res.code != 3 || json.Unmarshal([]byte(res.stdout), &v) != nil || v.Verdict != "fail" || v.Reason == "" {
		t.Errorf("json: %d %s%s", res.code, res.stdout, res.stderr)
	}
	whoCLI(t, d, conf, f.app.path)
	incidentsCLI(t, d)
	if res := command(t, nil, "verdict", "never-told", "--url", d.url); res.code != 1 || !strings.Contains(res.stderr, "no marker of this id") {
		t.Errorf("an unknown marker: %d %s", res.code, res.stderr)
	}
	d.stop(t)
}

// incidentsCLI is what somebody on call does about the one incident of a daemon.
func incidentsCLI(t *testing.T, d *daemon) {
	t.Helper()
	id := d.incidents(t)[0].ID
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"incidents"}, 0, id},
		{[]string{"incidents", "list", "--state", "resolved"}, 0, "No incident that is over is known."},
		{[]string{"incidents", "--team", "nobody"}, 0, "No incident of team nobody is known."},
		{[]string{"incidents", "ack", id, "--by", "ada"}, 0, "Acknowledged by ada."},
		{[]string{"incidents", "silence", id, "--for", "2h", "--by", "ada"}, 0, "Silenced by ada until"},
		{[]string{"silences"}, 0, "incident " + id},
		{[]string{"silences", "remove", id}, 0, ""},
		{[]string{"silences", "add", "--route", "/search/**", "--for", "1h"}, 0, "route=/search/**"},
		{[]string{"silences", "add", "--for", "1h"}, 1, "it has no scope"},
		{[]string{"incidents", "show", id}, 0, "acknowledged by ada"},
		{[]string{"incidents", "--url", d.url, "show", id}, 0, "acknowledged by ada"},
		{[]string{"incidents", "show", id, "--output", "json"}, 0, `"kind": "unsilenced"`},
		{[]string{"incidents", "accept", id, "--by", "ada"}, 0, "new normal"},
		{[]string{"incidents", "dismiss", id}, 1, "the incident is over"},
		{[]string{"incidents", "reopen", id, "--by", "ada"}, 0, "refuses"},
		{[]string{"incidents", "show", id}, 0, "opened again by ada"},
		{[]string{"incidents", "merge", id, id}, 1, "that is the same one"},
		{[]string{"incidents", "merge", id, "nobody"}, 1, "nothing of this id"},
		{[]string{"incidents", "reopen", "nobody"}, 1, "nothing of this id"},
		{[]string{"incidents", "ack", "nobody"}, 1, "nothing of this id"},
		{[]string{"dead-letters"}, 0, "No notification was given up"},
		{[]string{"dead-letters", "resend"}, 1, "either an id or --all"},
		{[]string{"dead-letters", "resend", "--all"}, 0, "0 tried again"},
		{[]string{"dead-letters", "drop", "7"}, 1, "nothing of this id"},
	} {
		res := command(t, nil, append(x.args, "--url", d.url)...)
		if res.code != x.code || !strings.Contains(res.stdout+res.stderr, x.says) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s%s", x.args, res.code, x.code, x.says, res.stdout, res.stderr)
		}
	}
}

// whoCLI answers a support ticket: somebody whom the application's log refused is
// found by name, by account and by nobody else's name, on the daemon's host only.
func whoCLI(t *testing.T, d *daemon, conf, log string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var refused struct {
		Status  int
		Route   string
		User    string `json:"user_id"`
		Account string `json:"account_id"`
	}
	for line := range bytes.Lines(b) {
		if json.Unmarshal(line, &refused) == nil && refused.Status == 403 && refused.Route == "/billing/upgrade" {
			break
		}
	}
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--user", refused.User}, 0, "/billing/upgrade"},
		{[]string{"--account", refused.Account}, 0, "/billing/upgrade"},
		{[]string{"--user", refused.User, "--output", "json"}, 0, `"layer": "app"`},
		{[]string{"--user", "nobody-of-that-name"}, 0, "Not refused, as far as is known"},
		{[]string{"--user", "a", "--account", "b"}, 1, "a user is enough"},
		{nil, 1, "say who"},
	} {
		res := command(t, nil, append([]string{"who", "--config", conf, "--url", d.url}, x.args...)...)
		if res.code != x.code || !strings.Contains(res.stdout+res.stderr, x.says) {
			t.Errorf("who %v: exit code %d, want %d and %q\n%s%s", x.args, res.code, x.code, x.says, res.stdout, res.stderr)
		}
		if name := "nobody-of-that-name"; strings.Contains(res.stdout+res.stderr, name) {
			t.Errorf("the name is repeated:\n%s", res.stdout)
		}
	}
	elsewhere := write(t, filepath.Join(t.TempDir(), "c.yaml"), "state: ./none\nsources: [{files: ./a.log}]\n")
	if res := command(t, nil, "who", "--config", elsewhere, "--url", d.url, "--user", "x"); res.code != 1 || !strings.Contains(res.stderr, "ask on the daemon's host") {
		t.Errorf("without the key: %d %s", res.code, res.stderr)
	}
}
