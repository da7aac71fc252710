package parsers

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

// labelled is a line of the synthetic corpus with what it should tell.
type labelled struct {
	Format, Case, Line string
	Expect             struct {
		Status    uint16
		Upstream  *uint16 `json:"upstream_status"`
		Layer     string
		Cause     string
		Rule      string
		Method    string
		Path      string
		Host      string
		Client    string `json:"client_ip"`
		RequestID string `json:"request_id"`
		Route     string
		Reason    string
	}
}

// Every line of the other formats of the corpus: the facts it states are found,
// with the format named, and with the format recognised.
func TestCorpusOtherFormats(t *testing.T) {
	path := corpus(t, "captures", "synthetic", "other_formats.labelled.jsonl")
	formats := map[string]string{
		"traefik_json": "traefik", "traefik_clf": "traefik", "istio": "istio", "envoy_default": "envoy",
		"rails_lograge": "logfmt", "go_slog_logfmt": "logfmt", "logrus_text": "logfmt", "heroku_router": "logfmt",
		"pino_http": "json", "bunyan": "json", "zap": "json", "logrus_json": "json", "structlog": "json",
		"spring_ecs": "json", "otel_log": "json", "ecs_flat": "json",
		"akamai_datastream2": "akamai",
	}
	// The rest is of other families, with tests of their own.
	elsewhere := map[string]bool{"aws_alb": true, "aws_cloudfront": true, "gcp_lb": true, "iis_w3c": true, "aws_waf": true}
	// Where the event says something else than the label, and why that is right.
	causes := map[string]string{
		"traefik_json/middleware_403":       "middleware",                 // the label lists what it can be; the line does not tell
		"rails_lograge/single_quoted_error": "Pundit::NotAuthorizedError", // the class; the text behind it can be personal
	}
	seen := 0
	for _, l := range readLines(t, path) {
		var x labelled
		if err := json.Unmarshal(l, &x); err != nil {
			t.Fatal(err)
		}
		format, ours := formats[x.Format]
		if !ours {
			if !elsewhere[x.Format] {
				t.Errorf("nobody reads %s", x.Format)
			}
			continue
		}
		seen++
		name := x.Format + "/" + x.Case
		t.Run(name, func(t *testing.T) {
			detected, why, err := Detect([][]byte{[]byte(x.Line)}, "a.log")
			if err != nil {
				t.Fatal(err)
			}
			if f := detected.Format; f != format && format != familyIstio || format == familyIstio && f != familyEnvoy {
				t.Errorf("recognised as %s (%s), want %s", f, why, format)
			}
			for _, c := range []Config{{Format: format}, detected} {
				p, err := New(c)
				if err != nil {
					t.Fatal(err)
				}
				var e event.Event
				e.Reset()
				if err := p.Parse([]byte(x.Line), &e); err != nil {
					t.Fatal(err)
				}
				w := x.Expect
				if e.Status != w.Status || e.Time == event.NoTime && format != familyLogfmt {
					t.Errorf("status %d time %d, want %d", e.Status, e.Time, w.Status)
				}
				// Some labels explain themselves in brackets.
				layer, _, _ := strings.Cut(w.Layer, "(")
				if layer == "mesh" {
					layer = "web" // a sidecar is a web server to us
				}
				if layer != "" && layer != e.Layer.String() && (layer != "app" || format == "traefik" || format == "envoy" || format == "istio") {
					t.Errorf("layer %v, want %s", e.Layer, layer)
				}
				cause := w.Cause
				if cause == "" {
					cause = w.Reason
				}
				if c, ok := causes[name]; ok {
					cause = c
				}
				if cause != "" && string(e.Cause) != cause {
					t.Errorf("cause %q, want %q", e.Cause, cause)
				}
				for _, f := range []struct {
					key, want string
					got       []byte
				}{
					{"rule", w.Rule, e.Rule}, {"method", w.Method, e.Method}, {"host", w.Host, e.Host},
					{"path", w.Path, e.Path}, {"request id", w.RequestID, e.RequestID}, {"route", w.Route, e.Route},
				} {
					got := string(f.got)
					if f.key == "path" && !strings.Contains(f.want, "?") {
						got, _, _ = strings.Cut(got, "?")
					}
					if f.want != "" && got != f.want {
						t.Errorf("%s %q, want %q", f.key, f.got, f.want)
					}
				}
				client, _, _ := strings.Cut(w.Client, " ")
				if client != "" && string(e.Client) != client {
					t.Errorf("client %q, want %q", e.Client, client)
				}
				if w.Upstream != nil && e.UpstreamStatus != *w.Upstream {
					t.Errorf("upstream status %d, want %d", e.UpstreamStatus, *w.Upstream)
				}
			}
		})
	}
	if seen != 24 {
		t.Errorf("%d lines of our formats, want 24: the corpus has changed", seen)
	}
}

// provoked is a request of a capture with what it was meant to provoke.
type provoked struct {
	ID    string
	Cause string `json:"cause_class"`
	Layer string
	Logs  map[string][]string
}

func readProvoked(t *testing.T, path string) []provoked {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cs []provoked
	if err := json.Unmarshal(b, &cs); err != nil {
		t.Fatal(err)
	}
	return cs
}

func TestCorpusHAProxy(t *testing.T) {
	dir := corpus(t, "captures", "haproxy")
	// The JSON of the capture is a log-format of its user's own: its keys are not
	// HAProxy's, so the termination state ("term") cannot be known to be one.
	own := map[string]bool{"json_deny": true, "json_app403": true}
	causes := map[string]string{
		"silent": "reject", // silent-drop and reject write the same line
	}
	mapping := map[string]string{"host": "capture.req.hdr(0)", "client": "capture.req.hdr(2)", "user": "capture.res.hdr(0)"}
	cases := readProvoked(t, filepath.Join(dir, "cases.json"))
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			var first string
			for _, log := range []string{"raw", "rfc3164", "rfc5424"} {
				if len(c.Logs[log]) != 1 {
					t.Fatalf("%d lines in %s", len(c.Logs[log]), log)
				}
				cfg := Config{Format: familyHAProxy, Mapping: mapping, Wrapper: wrapperSyslog}
				if own[c.ID] {
					cfg.Format, cfg.Mapping = familyJSON, nil
				}
				if log == "raw" {
					cfg.Wrapper = ""
				}
				p, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				line := []byte(c.Logs[log][0])
				var e event.Event
				e.Reset()
				if err := p.Parse(line, &e); err != nil {
					t.Fatalf("%s: %v", log, err)
				}
				if s := show(&e); first == "" {
					first = s
				} else if s != first {
					t.Errorf("%s differs:\n%s\n%s", log, s, first)
				}
				if detected, why, err := Detect([][]byte{line}, "a.log"); err != nil || detected.Format != cfg.Format || detected.Wrapper != cfg.Wrapper {
					t.Errorf("recognised as %+v (%s, %v)", detected, why, err)
				}
				if e.Time == event.NoTime {
					t.Error("no time")
				}
				if own[c.ID] {
					if e.Status != 403 || len(e.Path) == 0 {
						t.Errorf("%s", show(&e))
					}
					continue
				}
				want := c.Cause
				if w, ok := causes[c.ID]; ok {
					want = w
				}
				if status, ok := strings.CutPrefix(want, "none("); ok {
					code, err := strconv.Atoi(strings.TrimSuffix(status, ")"))
					if err != nil || int(e.Status) != code || len(e.Cause) > 0 {
						t.Errorf("%s: %s, want no cause of %d", log, show(&e), code)
					}
					continue
				}
				layer := event.LayerApp
				if c.Layer == "edge/web" {
					layer = event.LayerWeb
				}
				if e.Layer != layer || string(e.Cause) != want {
					t.Errorf("%s: layer %v cause %q, want %v %q", log, e.Layer, e.Cause, layer, want)
				}
			}
		})
	}
	if len(cases) != 22 {
		t.Errorf("%d cases, want 22", len(cases))
	}
	// The wrapped files as they are: everything is read.
	for name, wrapper := range map[string]string{"raw.log": "", "rfc3164.log": wrapperSyslog, "rfc5424.log": wrapperSyslog} {
		lines := readLines(t, filepath.Join(dir, name))
		c, why, err := Detect(lines, name)
		if err != nil || c.Format != familyHAProxy || c.Wrapper != wrapper {
			t.Errorf("%s: %+v %s %v", name, c, why, err)
		}
	}
}

func TestCorpusCaddy(t *testing.T) {
	dir := corpus(t, "captures", "caddy")
	// Caddy writes no causes: a respond, an error and a matcher of addresses look
	// alike, and so does what forward_auth passed on to an answer of the app.
	p, err := New(Config{Format: familyCaddy})
	if err != nil {
		t.Fatal(err)
	}
	cases := readProvoked(t, filepath.Join(dir, "cases.json"))
	for _, c := range cases {
		lines := c.Logs["access"]
		if len(lines) != 1 {
			t.Fatalf("%s: %d access lines", c.ID, len(lines))
		}
		var e event.Event
		e.Reset()
		if err := p.Parse([]byte(lines[0]), &e); err != nil {
			t.Fatalf("%s: %v", c.ID, err)
		}
		if e.Time == event.NoTime || e.Status == 0 || len(e.Path) == 0 || len(e.Client) == 0 {
			t.Errorf("%s: %s", c.ID, show(&e))
		}
		if e.Status == 403 && e.Layer.String() != c.Layer {
			t.Errorf("%s: layer %v, want %s", c.ID, e.Layer, c.Layer)
		}
		if e.Layer == event.LayerWeb && len(e.Cause) > 0 {
			t.Errorf("%s: cause %q cannot be known", c.ID, e.Cause)
		}
		if c.ID == "app403weird" && string(bytes.Join(e.Roles, []byte("|"))) != "admin|editor" {
			t.Errorf("%s: %s", c.ID, show(&e))
		}
		for _, l := range c.Logs["server"] {
			e.Reset()
			if err := p.Parse([]byte(l), &e); !errors.Is(err, ErrSkip) {
				t.Errorf("%s: a server line: %v %s", c.ID, err, show(&e))
			}
		}
	}
	if len(cases) != 14 {
		t.Errorf("%d cases, want 14", len(cases))
	}
	for _, name := range []string{"access.log"} {
		lines := readLines(t, filepath.Join(dir, name))
		if c, why, err := Detect(lines, name); err != nil || c.Format != familyCaddy {
			t.Errorf("%s: %+v %s %v", name, c, why, err)
		}
	}
}

// The lines of nginx inside every wrapper give the events that they give bare.
func TestCorpusWrapped(t *testing.T) {
	dir := corpus(t, "captures")
	// The bare events, of the combined log and of the JSON log that some of the
	// wrapped files go on with.
	var e event.Event
	bare := func(c Config, name string) map[string]int {
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]int{}
		for _, l := range readLines(t, filepath.Join(dir, "nginx", name)) {
			e.Reset()
			if err := p.Parse(l, &e); err != nil {
				t.Fatal(err)
			}
			m[show(&e)]++
		}
		return m
	}
	inJSON := Config{Format: familyNginx, LogFormat: nginxJSONFormat}
	want, wantJSON := bare(Config{Format: "combined"}, "combined.log"), bare(inJSON, "json_good.log")
	octets, err := os.ReadFile(filepath.Join(dir, "wrapped", "syslog_octet_counted.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte // one a line, as the receiver of a stream of frames writes them
	for len(octets) > 0 {
		n, end := number(octets, 0)
		frames = append(frames, octets[:end+1+n])
		octets = octets[end+1+n:]
	}
	files := map[string][][]byte{"syslog_octet_counted.bin": frames}
	for _, name := range []string{"cri.log", "docker_json_file.log", "syslog_rfc3164_relay.log", "syslog_rfc5424.log", "journald_export.json"} {
		files[name] = readLines(t, filepath.Join(dir, "wrapped", name))
	}
	files["syslog.log"] = readLines(t, filepath.Join(dir, "nginx", "syslog.log"))
	wrapper := map[string]string{"cri.log": wrapperCRI, "docker_json_file.log": wrapperDocker, "journald_export.json": wrapperJournald}
	for name, lines := range files {
		t.Run(name, func(t *testing.T) {
			c, why, err := Detect(lines, name)
			if err != nil {
				t.Fatal(err)
			}
			w := wrapper[name]
			if w == "" {
				w = wrapperSyslog
			}
			if c.Wrapper != w || c.Format != "nginx" || c.LogFormat != "combined" {
				t.Errorf("recognised as %+v: %s", c, why)
			}
			f, err := Compile(c)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(f, why)
			inJSON.Wrapper = w
			second, err := New(inJSON)
			if err != nil {
				t.Fatal(err)
			}
			first := f.New()
			n, nJSON, other := 0, 0, 0
			for i, l := range lines {
				e.Reset()
				err := first.Parse(l, &e)
				switch {
				case errors.Is(err, ErrPiece):
					continue
				case err == nil:
					n++
					if s := show(&e); want[s] == 0 && !strings.Contains(s, "LLLLL") { // that one is in the container's log only
						t.Errorf("line %d: not among the bare events: %s", i+1, s)
					}
					continue
				}
				e.Reset()
				if second.Parse(l, &e) == nil {
					if nJSON++; wantJSON[show(&e)] == 0 {
						t.Errorf("line %d: not among the bare events: %s", i+1, show(&e))
					}
				} else if errors.Is(err, ErrOtherStream) {
					other++
				} else {
					t.Errorf("line %d: %v", i+1, err)
				}
			}
			t.Logf("%d lines: %d events, %d of the JSON log, %d of the other output", len(lines), n, nJSON, other)
			expect, expectJSON, expectOther := 119, 0, 0
			switch name {
			case "journald_export.json":
				expect = len(lines) // a part of them
			case "cri.log", "docker_json_file.log":
				expect, expectJSON, expectOther = 120, 20, 16
			}
			if n != expect || nJSON != expectJSON || other != expectOther {
				t.Errorf("want %d, %d, %d", expect, expectJSON, expectOther)
			}
		})
	}
}

// The key=value cases of the vrl suite: each pair that a case wants is mapped and
// read. A status is put at the end of the line, as a line without is no request.
func TestCorpusKeyValue(t *testing.T) {
	skipped := map[string]string{
		"spaces": "separators are the case's own: logfmt has '=' and white space", "delimited": "the same", "delimited_with_spaces": "the same",
		"multiple_chars": "the same", "error": "the same", "missing_separator": "the same", "missing_separator_delimited": "the same",
		"multi_line_with_quotes": "the same", "multi_line_with_quotes_spaces": "the same", "duplicate_keys": "the same", "duplicate_keys_no_value": "the same",
	}
	different := map[string]string{
		"escaped_tab_escapes_in_quoted_value": "quoted strings are read as Go writes them: \\t is a tab",
		"invalid_quotes_in_quoted_value":      "refused there; here a quote that nobody escaped does not cost a request",
		"backslash_key":                       "the key is one backslash; no event key can be mapped to it",
	}
	run := 0
	for _, l := range readLines(t, corpus(t, "suites", "vrl", "parse_key_value.cases.jsonl")) {
		var c struct {
			Case   string
			Args   map[string]string
			Result string
			Want   map[string]any
		}
		if err := json.Unmarshal(l, &c); err != nil {
			t.Fatal(err)
		}
		if skipped[c.Case] != "" {
			if k, f := c.Args["key_value_delimiter"], c.Args["field_delimiter"]; (k == "" || k == "=") && (f == "" || f == " ") {
				t.Errorf("%s is skipped and has the separators of logfmt", c.Case)
			}
			continue
		}
		run++
		line := c.Args["value"] + " status=403"
		if _, err := parseOnce(Config{Format: familyLogfmt}, line); err != nil {
			t.Errorf("%s: %v", c.Case, err)
		}
		if different[c.Case] != "" {
			continue
		}
		if c.Result != "ok" {
			t.Errorf("%s: is to be refused", c.Case)
		}
		for key, w := range c.Want {
			want, ok := w.(string)
			if !ok || want == "" {
				continue // what Rust printed, or nothing
			}
			p, err := New(Config{Format: familyLogfmt, Mapping: map[string]string{"plan": key}})
			if err != nil {
				t.Fatal(err)
			}
			var e event.Event
			e.Reset()
			if err := p.Parse([]byte(line), &e); err != nil || string(e.Plan) != want {
				t.Errorf("%s: %s is %q (%v), want %q", c.Case, key, e.Plan, err, want)
			}
		}
	}
	if run != 12 {
		t.Errorf("%d cases were run, want 12", run)
	}
	for _, line := range []string{
		`app=my-app ip=1.2.3.4 user= msg=hello-world`, `zork=zook plonk zonk=nork`,
		`@timestamp="Sun Jan 10 16:47:39 EST 2021" level=info msg="Stopping all fetchers" tag#production=stopping_fetchers id=ConsumerFetcherManager-1382721708341`,
	} {
		if _, err := parseOnce(Config{Format: familyLogfmt}, line); !errors.Is(err, ErrSkip) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// The lines of the fail2ban suite that a proxy wrote: all are read, and the
// labelled ones tell of the host that was refused.
func TestCorpusFail2banProxies(t *testing.T) {
	for name, c := range map[string]Config{
		"traefik-auth": {Format: familyTraefik}, "haproxy-http-auth": {Format: familyHAProxy, Wrapper: wrapperSyslog},
	} {
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		var label struct {
			Match bool
			Host  string
		}
		n := 0
		for _, l := range readLines(t, corpus(t, "suites", "fail2ban", name)) {
			if rest, ok := bytes.CutPrefix(l, []byte("# failJSON:")); ok {
				label.Match, label.Host = false, ""
				if err := json.Unmarshal(rest, &label); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if l = bytes.TrimSpace(l); len(l) == 0 || l[0] == '#' {
				continue
			}
			n++
			var e event.Event
			e.Reset()
			if err := p.Parse(l, &e); err != nil {
				t.Errorf("%s: %s: %v", name, l, err)
				continue
			}
			if label.Match && (e.Status != 401 || e.Layer != event.LayerWeb || !strings.HasSuffix(string(e.Client), label.Host)) {
				t.Errorf("%s: %s: %s, want %s", name, l, show(&e), label.Host)
			}
			if e.Time == event.NoTime || len(e.Path) == 0 {
				t.Errorf("%s: %s: %s", name, l, show(&e))
			}
		}
		if n < 4 {
			t.Errorf("%s: %d lines", name, n)
		}
	}
}

// The application's log of the replay in logfmt tells what the one in JSON does.
func TestCorpusReplayLogfmt(t *testing.T) {
	dir := corpus(t, "logs", "replay-nginx")
	want := readLines(t, filepath.Join(dir, "app.jsonl"))
	got := readLines(t, filepath.Join(dir, "app.logfmt"))
	c, why, err := Detect(got, "app.logfmt")
	if err != nil || c.Format != familyLogfmt {
		t.Fatalf("%+v %s %v", c, why, err)
	}
	if len(want) != len(got) {
		t.Fatalf("%d and %d lines", len(got), len(want))
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := New(Config{Format: familyJSON})
	if err != nil {
		t.Fatal(err)
	}
	var a, b event.Event
	for i := range got {
		a.Reset()
		b.Reset()
		errA, errB := p.Parse(got[i], &a), ref.Parse(want[i], &b)
		b.Host, b.Service = nil, nil                  // only the JSON has them
		a.Path, _, _ = bytes.Cut(a.Path, []byte("?")) // only logfmt has it
		if !errors.Is(errA, errB) || show(&a) != show(&b) {
			t.Fatalf("line %d:\n%v %s\n%v %s", i+1, errA, show(&a), errB, show(&b))
		}
	}
}
