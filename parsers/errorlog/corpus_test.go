package errorlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// The tests of this file read a corpus of real lines that is not part of the
// project. DENYWATCH_CORPUS names its folder.

func corpus(t *testing.T, path ...string) string {
	t.Helper()
	root := os.Getenv("DENYWATCH_CORPUS")
	if root == "" {
		t.Skip("SKIPPED: DENYWATCH_CORPUS is not set; the corpus of captured logs was not checked")
	}
	return filepath.Join(append([]string{root}, path...)...)
}

// provoked is one request of a capture with the lines that each log gained.
type provoked struct {
	ID    string
	Class string `json:"cause_class"`
	Layer string
	Logs  map[string][]string
}

func readCases(t *testing.T, path string) []provoked {
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

// renamed says how an error line words the intended cause of a case, where that
// is not the cause's own name.
var renamed = map[string]string{
	"method_acl":           CauseACL, // limit_except and <Limit> are access rules
	"acl_masked_200":       CauseACL,
	"acl_masked_302":       CauseACL,
	"waf_nolog":            CauseWAF, // version 3 logs it anyway
	"waf_drop":             CauseWAF,
	"htaccess_unreadable":  CauseFSPermission,
	"acl_or_name_too_long": CauseNameTooLong,
	"proxy_forbidden":      CauseForwardProxyBlocked,
}

// relabelled are cases whose intended cause is not what the server did.
var relabelled = map[string]string{
	// Require valid-user with Require ip: the address decided.
	"satisfy_ip_user": CauseACL,
	// An absolute URI to a server that is no proxy, and a lower-case method, met
	// an access rule like any other request.
	"fwdproxy_off": CauseACL,
	"bad_method":   CauseACL,
}

func (c *provoked) want() string {
	if w, ok := relabelled[c.ID]; ok {
		return w
	}
	if w, ok := renamed[c.Class]; ok {
		return w
	}
	return c.Class
}

var (
	quotedRequest = regexp.MustCompile(`\[([^]]+)\] "((?:[^"\\]|\\.)*)" (\d{3}) `)
	hexEscape     = regexp.MustCompile(`\\x[0-9A-Fa-f]{2}`)
)

// access is what an access line in the combined format says.
type access struct {
	client, request, status string
	time                    time.Time
}

func readAccess(t *testing.T, lines []string) []access {
	t.Helper()
	var as []access
	for _, l := range lines {
		m := quotedRequest.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[1])
		if err != nil {
			t.Fatal(err)
		}
		client, _, _ := strings.Cut(l, " ")
		request := hexEscape.ReplaceAllStringFunc(m[2], func(s string) string {
			n, _ := strconv.ParseUint(s[2:], 16, 8)
			return string([]byte{byte(n)})
		})
		as = append(as, access{client, request, m[3], at})
	}
	return as
}

func newParser(t testing.TB, c Config) *Parser {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCaptures parses every error line that a provoked request left.
func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		server, file, access string
		right, silent        int
	}{
		{Nginx, "nginx/cases.json", "combined", 53, 14},
		{Apache, "apache/cases.json", "access_combined", 59, 9},
		{Apache, "apache/cases_evasive.json", "access_combined", 1, 0},
		{Apache, "apache/debug/cases_dbg.json", "access_combined", 14, 4},
	} {
		t.Run(c.file, func(t *testing.T) {
			right, differs, silent := 0, 0, 0
			for _, cs := range readCases(t, corpus(t, "captures", c.file)) {
				as := readAccess(t, cs.Logs[c.access])
				refused := 0
				for _, a := range as {
					if a.status == "403" {
						refused++
					}
				}
				p := newParser(t, Config{Server: c.server})
				explained := 0
				for _, text := range cs.Logs["error"] {
					var l Line
					line := []byte(text)
					err := p.Parse(line, &l)
					if errors.Is(err, ErrNoErrorLine) {
						t.Errorf("%s: no error line: %q", cs.ID, line)
					}
					if l.Denies != (err == nil) || l.Denies != (l.Cause != "") {
						t.Errorf("%s: denies=%v, cause=%q, error %v", cs.ID, l.Denies, l.Cause, err)
					}
					if !l.Denies {
						continue
					}
					explained++
					// A class that other answers than 403 go with has no status.
					if strings.HasPrefix(cs.Class, "none(") && l.Status != 0 {
						t.Errorf("%s: no refusal, but cause %s, status %d", cs.ID, l.Cause, l.Status)
					}
					if refused == 0 {
						continue
					}
					if l.Cause != cs.want() || l.Layer.String() != cs.Layer {
						t.Errorf("%s: %s by %s, want %s by %s: %q", cs.ID, l.Cause, l.Layer, cs.want(), cs.Layer, line)
					}
					checkJoin(t, &cs, as, &l, c.server)
				}
				if refused > 0 {
					switch {
					case explained == 0:
						silent++
					case cs.ID == "satisfy_ip_user":
						differs++
					default:
						right++
					}
				}
			}
			t.Logf("%d refused requests explained as labelled, %d rightly otherwise, %d left no line of a cause", right, differs, silent)
			if right != c.right || silent != c.silent {
				t.Errorf("want %d explained and %d silent", c.right, c.silent)
			}
		})
	}
}

// checkJoin proves that the fields of l lead to one of the case's access lines.
func checkJoin(t *testing.T, cs *provoked, as []access, l *Line, server string) {
	t.Helper()
	for _, a := range as {
		if a.client != string(l.Client) || a.time.Unix() > l.Time/1e9+1 || a.time.Unix() < l.Time/1e9-1 {
			continue
		}
		if server == Apache {
			return
		}
		want := a.request
		got := string(l.Method) + " " + string(l.Path)
		if want == got || l.PathCut && strings.HasPrefix(want, got) || strings.HasPrefix(want, got+" HTTP/") {
			if l.Conn == 0 {
				t.Errorf("%s: no connection", cs.ID)
			}
			return
		}
	}
	t.Errorf("%s: no access line fits %s", cs.ID, show(l))
}

// TestCaptureLogIDs joins Apache's two logs by their id.
func TestCaptureLogIDs(t *testing.T) {
	joined := 0
	for _, cs := range readCases(t, corpus(t, "captures", "apache/debug/cases_dbg.json")) {
		p := newParser(t, Config{Server: Apache})
		for _, text := range cs.Logs["error"] {
			var l Line
			if p.Parse([]byte(text), &l) != nil {
				continue
			}
			id := string(l.LogID)
			if id == "" {
				t.Errorf("%s: no id: %q", cs.ID, text)
			}
			for _, a := range cs.Logs["access_json"] {
				if !strings.Contains(a, `"errid":"`+id+`"`) {
					t.Errorf("%s: the access line has another id than %s", cs.ID, id)
				}
				joined++
			}
		}
	}
	// ModSecurity's unique_id serves where ErrorLogFormat has no id.
	for _, cs := range readCases(t, corpus(t, "captures", "apache/cases.json")) {
		p := newParser(t, Config{Server: Apache})
		for _, text := range cs.Logs["error"] {
			var l Line
			if p.Parse([]byte(text), &l) != nil || l.Cause != CauseWAF {
				continue
			}
			for _, a := range cs.Logs["access_json"] {
				if len(l.LogID) == 0 || !strings.Contains(a, `"errid":"`+string(l.LogID)+`"`) {
					t.Errorf("%s: the access line has another id than %q", cs.ID, l.LogID)
				}
				joined++
			}
		}
	}
	t.Logf("%d pairs of lines joined", joined)
	if joined < 14 {
		t.Error("too few to prove anything")
	}
}

// TestCaptureConnections joins nginx's two logs by connection and request.
func TestCaptureConnections(t *testing.T) {
	conn := regexp.MustCompile(` connection=(\d+) `)
	joined := 0
	for _, cs := range readCases(t, corpus(t, "captures", "nginx/cases.json")) {
		known := map[string]bool{}
		for _, a := range cs.Logs["kv"] {
			if m := conn.FindStringSubmatch(a); m != nil {
				known[m[1]] = true
			}
		}
		p := newParser(t, Config{Server: Nginx})
		for _, text := range cs.Logs["error"] {
			var l Line
			if p.Parse([]byte(text), &l) != nil {
				continue
			}
			if !known[strconv.FormatUint(l.Conn, 10)] {
				t.Errorf("%s: no access line of connection %d", cs.ID, l.Conn)
			}
			joined++
		}
	}
	t.Logf("%d lines joined", joined)
}

func readLines(t *testing.T, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// TestCaptureDetect tells error logs from all others.
func TestCaptureDetect(t *testing.T) {
	isError := map[string]string{
		"nginx/error.log": Nginx, "nginx_extra/error.log": Nginx, "nginx_extra/err_syslog.log": Nginx,
		"apache/error.log": Apache, "apache/debug/error.log": Apache,
	}
	for _, glob := range []string{"nginx/*.log", "nginx_extra/*.log", "apache/*.log", "apache/debug/*.log", "haproxy/*.log", "caddy/*.log", "wrapped/*.log"} {
		paths, err := filepath.Glob(corpus(t, "captures", glob))
		if err != nil || len(paths) == 0 {
			t.Fatal(glob, err)
		}
		for _, path := range paths {
			name, err := filepath.Rel(corpus(t, "captures"), path)
			if err != nil {
				t.Fatal(err)
			}
			lines := readLines(t, path)
			server, share := Detect(lines)
			if want := isError[name]; server != want || want != "" && share < 0.93 {
				t.Errorf("%s: %q %.2f, want %q", name, server, share, want)
			}
			p := newParser(t, Config{})
			var l Line
			bad := 0
			for _, line := range lines {
				if errors.Is(p.Parse(line, &l), ErrNoErrorLine) {
					bad++
				}
			}
			if isError[name] != "" && bad > 0 {
				t.Errorf("%s: %d of %d lines are no error lines", name, bad, len(lines))
			}
		}
	}
}

// unread are labelled lines of the suites that cannot give all that the label
// has, with the reason.
var unread = map[string]string{
	"Feb 15 16:23:00": "a syslog stamp has no year: the line has no time",
	"Feb 15 16:23:40": "a syslog stamp has no year: the line has no time",
	"Feb 15 16:54:53": "a syslog stamp has no year: the line has no time",
	"Feb 16 22:32:48": "a syslog stamp has no year: the line has no time",
}

// TestSuites parses the labelled error lines of another project.
func TestSuites(t *testing.T) {
	paths, err := filepath.Glob(corpus(t, "suites", "fail2ban", "[an]*-*"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err)
	}
	lines, foreigners, listed := 0, 0, 0
	denials := map[string]int{}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var label struct {
			Time, Host string
			Match      bool
		}
		labelled := false
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			text := sc.Text()
			if rest, ok := strings.CutPrefix(text, "# failJSON: "); ok {
				label.Time, label.Host, label.Match = "", "", false
				if err := json.Unmarshal([]byte(rest), &label); err != nil {
					t.Fatal(err)
				}
				labelled = true
				continue
			}
			if !labelled || text == "" || text[0] == '#' {
				continue
			}
			labelled = false
			var l Line
			err := newParser(t, Config{}).Parse([]byte(text), &l)
			if errors.Is(err, ErrNoErrorLine) {
				if !quotedRequest.MatchString(text) && !strings.Contains(text, ` ] example.com "GET`) {
					t.Errorf("no error line: %s", text)
				}
				foreigners++
				continue
			}
			lines++
			if l.Cause != "" {
				denials[l.Cause]++
			}
			if label.Host != "" && string(l.Client) != label.Host {
				t.Errorf("client %q, want %q: %s", l.Client, label.Host, text)
			}
			if _, ok := unread[text[:min(len(text), 15)]]; ok {
				listed++
				if l.Time != event.NoTime {
					t.Errorf("has a time after all: %s", text)
				}
				continue
			}
			if label.Time == "" {
				continue
			}
			want, err := time.ParseInLocation("2006-01-02T15:04:05", label.Time, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Unix(0, l.Time).UTC().Truncate(time.Second); !got.Equal(want) && label.Match {
				t.Errorf("time %v, want %v: %s", got, want, text)
			}
		}
		if err := sc.Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d error lines, %d without a time for a reason; %d access lines refused; causes %v", lines, listed, foreigners, denials)
	if lines < 90 {
		t.Error("too few lines to prove anything")
	}
}

// unlike are lines of the suites of other parsers that say less here.
var unlike = map[string]string{
	"main_line_invalid":            "the suite wants an error because it expects an access line; it is an error line",
	"log_line_valid_with_timezone": "a time and nothing else: no error line, and no denial",
}

// TestForeignSuites compares with what other parsers read from the same lines.
func TestForeignSuites(t *testing.T) {
	read := 0
	for _, file := range []string{"parse_nginx_log.cases.jsonl", "parse_apache_log.cases.jsonl"} {
		for _, line := range readLines(t, corpus(t, "suites", "vrl", file)) {
			var c struct {
				Case string
				Args struct{ Value, Format string }
				Want map[string]any
			}
			if err := json.Unmarshal(line, &c); err != nil {
				t.Fatal(err)
			}
			if c.Args.Format != "error" || unlike[c.Case] != "" {
				continue
			}
			read++
			var l Line
			if err := newParser(t, Config{}).Parse([]byte(c.Args.Value), &l); err != nil && !errors.Is(err, ErrSkip) {
				t.Errorf("%s: %v", c.Case, err)
			}
			request := string(l.Method) + " " + string(l.Path)
			for name, got := range map[string]string{"client": string(l.Client), "server": string(l.Server), "host": string(l.Host), "request": request} {
				want, _ := c.Want[name].(string)
				if name == "request" {
					got, _ = strings.CutSuffix(got, " ")
					want, _, _ = strings.Cut(want, " HTTP/")
				}
				if strings.TrimSpace(got) != want {
					t.Errorf("%s: %s is %q, want %q", c.Case, name, got, want)
				}
			}
			want, err := time.Parse(time.RFC3339, c.Want["timestamp"].(string))
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Unix(0, l.Time).UTC().Truncate(time.Second); !got.Equal(want.Truncate(time.Second)) {
				t.Errorf("%s: %v, want %v", c.Case, got, want)
			}
		}
	}
	t.Logf("%d lines", read)
}

// TestReplayed reads a log of four days of a real server's traffic.
func TestReplayed(t *testing.T) {
	causes := map[string]int{}
	p := newParser(t, Config{Server: Nginx})
	for _, line := range readLines(t, corpus(t, "logs", "replay-nginx", "error.log")) {
		var l Line
		if err := p.Parse(line, &l); err != nil && !errors.Is(err, ErrSkip) {
			t.Errorf("%v: %s", err, line)
		}
		if l.Denies && (len(l.Client) == 0 || len(l.Path) == 0 || l.Conn == 0) {
			t.Errorf("%s: %s", show(&l), line)
		}
		causes[l.Cause]++
	}
	t.Log(causes)
}
