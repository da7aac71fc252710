package errorlog

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every testdata/*.log is an error log; its .golden holds what was understood.
func TestGolden(t *testing.T) {
	logs, err := filepath.Glob("testdata/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatal("no logs in testdata", err)
	}
	for _, path := range logs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			p := newParser(t, Config{})
			var out strings.Builder
			var l Line
			for _, line := range readLines(t, path) {
				switch err := p.Parse(line, &l); {
				case err == nil:
					out.WriteString("denies: " + show(&l))
				case errors.Is(err, ErrFreeText):
					out.WriteString("free text" + show(&l))
				case errors.Is(err, ErrSkip):
					out.WriteString("skip: " + show(&l))
				default:
					out.WriteString("bad: " + err.Error())
				}
				out.WriteByte('\n')
			}
			golden := strings.TrimSuffix(path, ".log") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("differs from %s (go test -update writes it):\n%s", golden, out.String())
			}
		})
	}
}

func TestNewRefusesUnknownServers(t *testing.T) {
	if _, err := New(Config{Server: "iis"}); err == nil || !strings.Contains(err.Error(), "nginx, apache or auto") {
		t.Errorf("got %v", err)
	}
}

// TestServer proves that a parser for one server leaves the other's lines alone.
func TestServer(t *testing.T) {
	nginx := []byte(`2025/02/11 08:15:02 [error] 8#8: *1 access forbidden by rule, client: 192.0.2.1, server: a, request: "GET / HTTP/1.1", host: "a"`)
	apache := []byte(`[Tue Feb 11 09:30:01 2025] [error] [client 192.0.2.1] client denied by server configuration: /x`)
	for _, c := range []struct {
		server     string
		line       []byte
		understood bool
	}{
		{Nginx, nginx, true}, {Nginx, apache, false},
		{Apache, nginx, false}, {Apache, apache, true},
		{Auto, nginx, true}, {Auto, apache, true}, {"", apache, true},
	} {
		var l Line
		if err := newParser(t, Config{Server: c.server}).Parse(c.line, &l); (err == nil) != c.understood {
			t.Errorf("%q: %v for %s", c.server, err, c.line)
		}
	}
}

// TestLocation reads zone-less times where the configuration says they were
// written, summer and winter, and leaves times with a zone alone.
func TestLocation(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("SKIPPED: no time zone database:", err)
	}
	p := newParser(t, Config{Location: berlin})
	for _, c := range []struct{ line, want string }{
		{`2025/02/11 08:15:02 [error] 8#8: x`, "2025-02-11T07:15:02Z"},
		{`2025/02/11 08:15:02 [error] 8#8: x`, "2025-02-11T07:15:02Z"},
		{`2025/07/11 08:15:02 [error] 8#8: x`, "2025-07-11T06:15:02Z"},
		{`[Fri Jul 11 08:15:02.5 2025] [a:error] x`, "2025-07-11T06:15:02.5Z"},
		{`[Fri Jul 11 08:15:02 2025 +0000] [a:error] x`, "2025-07-11T08:15:02Z"},
		{`[11/Jul/2025:08:15:02 -0330] [a:error] x`, "2025-07-11T11:45:02Z"},
	} {
		var l Line
		if err := p.Parse([]byte(c.line), &l); !errors.Is(err, ErrSkip) {
			t.Errorf("%v: %s", err, c.line)
		}
		if got := time.Unix(0, l.Time).UTC().Format(time.RFC3339Nano); got != c.want {
			t.Errorf("%s, want %s: %s", got, c.want, c.line)
		}
	}
	p.SetLocation(nil)
	var l Line
	_ = p.Parse([]byte(`2025/07/11 08:15:02 [error] 8#8: x`), &l)
	if got := time.Unix(0, l.Time).UTC().Format(time.RFC3339); got != "2025-07-11T08:15:02Z" {
		t.Errorf("%s after SetLocation", got)
	}
}

// TestHostile proves that what a client writes does not move the fields.
func TestHostile(t *testing.T) {
	const fake = `, client: 198.51.100.66, server: evil, request: "GET /other HTTP/1.1", host: "evil`
	const tail = `, client: 192.0.2.1, server: a, request: "GET /mine HTTP/1.1", host: "a", referrer: "x"` + fake + `"`
	const head = `2025/02/11 08:15:02 [error] 8#8: *7 `
	for _, message := range []string{
		`access forbidden by rule`,
		`directory index of "/w/" is forbidden`,
		`open() "/w/a" failed (13: Permission denied)`,
		`open() "/w/a" failed (13: Permission denied) while sending to client`,
		`"/w/index.html" is forbidden (13: Permission denied)`,
		`limiting requests, excess: 1.000 by zone "z"`,
		`limiting connections by zone "z"`,
		`FastCGI sent in stderr: "Access to the script '/x' has been denied (see security.limit_extensions)" while reading response header from upstream`,
		`[client 192.0.2.1] ModSecurity: Access denied with code 403 (phase 1). Matched x (Value: ` + "`" + fake + `' ) [file "f"] [line "1"] [id "5"] [data "` + fake + `"] [uri "/"] [unique_id "1"] [ref ""]`,
		// A name below a directory that may not be searched is the client's choice.
		`open() "/w/` + fake + `" failed (13: Permission denied)`,
	} {
		var l Line
		if err := newParser(t, Config{}).Parse([]byte(head+message+tail), &l); err != nil {
			t.Errorf("%v: %s", err, message)
		}
		if string(l.Client) != "192.0.2.1" || string(l.Path) != "/mine" || string(l.Host) != "a" || string(l.Server) != "a" || l.Conn != 7 {
			t.Errorf("%s: %s", message, show(&l))
		}
	}

	// The client of an Apache line stands before what it can write.
	const denied = `client denied by server configuration: /w`
	for _, c := range []struct{ line, client, cause string }{
		{`[Tue Feb 11 09:30:01 2025] [error] [client 192.0.2.1] File does not exist: /w/[client 198.51.100.66] ` + denied, "192.0.2.1", ""},
		{`[Tue Feb 11 09:30:01 2025] [a:error] [pid 1] [client 192.0.2.1:5] AH01618: user ` + denied + ` not found: /`, "192.0.2.1", ""},
		{`[Tue Feb 11 09:30:01 2025] [a:error] [pid 1] [client 192.0.2.1:5] AH00128: File does not exist: /w, referer: AH01630: ` + denied, "192.0.2.1", ""},
		{`[Tue Feb 11 09:30:01 2025] [a:error] [pid 1] [client 192.0.2.1:5] AH01630: ` + denied + `, referer: [client 198.51.100.66]`, "192.0.2.1", CauseACL},
	} {
		var l Line
		err := newParser(t, Config{}).Parse([]byte(c.line), &l)
		if string(l.Client) != c.client || l.Cause != c.cause || (err == nil) != (c.cause != "") {
			t.Errorf("%v, %s: %s", err, show(&l), c.line)
		}
	}
}

// TestYearOfSyslog proves that a stamp without a year gets the one that brings it
// nearest, over the turn of a year too, and only where the message has no time.
func TestYearOfSyslog(t *testing.T) {
	p := newParser(t, Config{Near: time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC), Location: time.FixedZone("", 3600)})
	const denied = ` web httpd[7]: [authz_core:error] [client 192.0.2.1:5001] AH01630: client denied by server configuration: /srv/www/a`
	for _, x := range []struct{ line, want string }{
		{`Dec 31 23:59:59` + denied, "2026-12-31T22:59:59Z"},
		{`<187>Jan  1 00:00:01` + denied, "2026-12-31T23:00:01Z"},
		{`Jan  2 00:00:01 web nginx: 2026/11/24 10:00:00 [error] 7#7: *1 access forbidden by rule, client: 192.0.2.1, server: s, request: "GET /a HTTP/1.1", host: "s"`, "2026-11-24T09:00:00Z"},
		{`Jul  2 12:00:00` + denied, "2027-07-02T11:00:00Z"},
		{`Feb 30 12:00:00` + denied, ""},
	} {
		var l Line
		if err := p.Parse([]byte(x.line), &l); err != nil {
			t.Errorf("%s: %v", x.line, err)
			continue
		}
		got := ""
		if l.Time != event.NoTime {
			got = time.Unix(0, l.Time).UTC().Format(time.RFC3339)
		}
		if got != x.want {
			t.Errorf("%s: got %q, want %q", x.line, got, x.want)
		}
	}
}

// TestNoTime proves that an impossible time is not taken for one that is known.
func TestNoTime(t *testing.T) {
	for _, line := range []string{
		`0000/00/00 00:00:00 [error] 8#8: x`,
		`2025/02/29 08:15:02 [error] 8#8: x`,
		`2025/13/01 08:15:02 [error] 8#8: x`,
		`[Tue Feb 31 09:30:01 2025] [error] x`,
	} {
		var l Line
		if err := newParser(t, Config{}).Parse([]byte(line), &l); !errors.Is(err, ErrFreeText) || l.Time != event.NoTime {
			t.Errorf("%v, %s: %s", err, show(&l), line)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		in     string
		modern bool
		want   string
	}{
		{"192.0.2.1", false, "192.0.2.1"},
		{"192.0.2.1:0", true, "192.0.2.1"},
		{"web.example:4711", true, "web.example"},
		{"::1:36576", true, "::1"},
		{"2001:db8::1", false, "2001:db8::1"},
		{"2001:db8::17", false, "2001:db8::17"},
		{"2001:db8::ab", true, "2001:db8::ab"},
		{"2001:db8::9:0", true, "2001:db8::9"},
		{"1:2:3:4:5:6:7:8", false, "1:2:3:4:5:6:7:8"},
		{"1:2:3:4:5:6:7:8", true, "1:2:3:4:5:6:7:8"},
		{"1:2:3:4:5:6:7:8:4711", true, "1:2:3:4:5:6:7:8"},
		{"[2001:db8::9]:80", true, "2001:db8::9"},
		{"[2001:db8::9]", false, "2001:db8::9"},
		{"::ffff:192.0.2.1:80", true, "::ffff:192.0.2.1"},
		{"fe80::1%eth0:80", true, "fe80::1%eth0"},
		{"[", true, "["},
		{"", true, ""},
	} {
		if got := string(address([]byte(c.in), c.modern)); got != c.want {
			t.Errorf("%q (2.4 %v): %q, want %q", c.in, c.modern, got, c.want)
		}
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		file, server string
		least, most  float64
	}{
		{"testdata/nginx.log", Nginx, 0.85, 0.95},
		{"testdata/apache.log", Apache, 0.9, 0.97},
	} {
		server, share := Detect(readLines(t, c.file))
		if server != c.server || share < c.least || share > c.most {
			t.Errorf("%s: %q %.2f", c.file, server, share)
		}
	}
	if server, share := Detect([][]byte{nil, []byte("\r"), []byte(`192.0.2.1 - - [11/Feb/2025:08:15:22 +0000] "GET / HTTP/1.1" 200 1 "-" "-"`)}); server != "" || share != 0 {
		t.Errorf("an access log is taken for one of %q (%.2f)", server, share)
	}
}

// TestTables proves that the numbers can be searched, and that every class that a
// table or the code names is one that the package promises.
func TestTables(t *testing.T) {
	for i := 1; i < len(numbered); i++ {
		if numbered[i-1].num >= numbered[i].num {
			t.Errorf("AH%05d stands before AH%05d", numbered[i-1].num, numbered[i].num)
		}
	}
	for _, r := range append(numbered[:len(numbered):len(numbered)], unnumbered[:]...) {
		line := r.text + "/x" + r.tail
		if r.num == 0 && strings.HasPrefix(r.text, "AH") || r.cause == "" {
			t.Errorf("%+v", r)
		}
		var l Line
		if !r.apply([]byte(line), &l) || l.Cause != r.cause {
			t.Errorf("%+v does not know its own message", r)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	lines := append(readLines(t, "testdata/nginx.log"), readLines(t, "testdata/apache.log")...)
	p := newParser(t, Config{Location: time.FixedZone("there", 3600)})
	var l Line
	for _, line := range lines {
		if n := testing.AllocsPerRun(20, func() { _ = p.Parse(line, &l) }); n != 0 {
			t.Errorf("%v allocations: %s", n, line)
		}
	}
}

// FuzzParse proves that no line breaks the parser, that all it returns are views
// of the line, and that it says the same twice.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/nginx.log", "testdata/apache.log"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range bytes.Split(b, []byte("\n")) {
			f.Add(line)
		}
	}
	p := newParser(f, Config{})
	f.Fuzz(func(t *testing.T, line []byte) {
		var l, again Line
		err := p.Parse(line, &l)
		if err2 := p.Parse(line, &again); !errors.Is(err, err2) || !reflect.DeepEqual(l, again) {
			t.Fatalf("%v, then %v; %s, then %s", err, err2, show(&l), show(&again))
		}
		if l.Denies != (err == nil) || l.Denies != (l.Cause != "") || l.Denies != (l.Layer != event.LayerUnknown) {
			t.Fatalf("%v: %s", err, show(&l))
		}
		if err != nil && !errors.Is(err, ErrSkip) && !errors.Is(err, ErrNoErrorLine) {
			t.Fatal(err)
		}
		v := reflect.ValueOf(l)
		for i := range v.NumField() {
			if b, ok := v.Field(i).Interface().([]byte); ok && !bytes.Contains(line, b) {
				t.Fatalf("%s is not in the line: %q", v.Type().Field(i).Name, b)
			}
		}
		Detect([][]byte{line})
	})
}

func BenchmarkParse(b *testing.B) {
	for _, bench := range []struct{ name, line string }{
		{"NginxDenies", `2025/02/11 08:15:02 [error] 812#812: *17 access forbidden by rule, client: 192.0.2.14, server: docs.example.net, request: "GET /internal/report?q=1 HTTP/1.1", host: "docs.example.net", referrer: "https://docs.example.net/a"`},
		{"NginxSkips", `2025/02/11 08:15:11 [error] 812#812: *35 open() "/data/www/nope" failed (2: No such file or directory), client: 192.0.2.14, server: docs.example.net, request: "GET /nope HTTP/1.1", host: "docs.example.net"`},
		{"ApacheDenies", `[Tue Feb 11 09:30:01.250000 2025] [authz_core:error] [pid 71:tid 90] [client 192.0.2.30:0] AH01630: client denied by server configuration: /site/htdocs/vault/a.txt`},
		{"ApacheSkips", `[Tue Feb 11 09:30:05.000001 2025] [auth_basic:error] [pid 71:tid 90] [client 192.0.2.30:51000] AH01617: user eve: authentication failure for "/team/": Password Mismatch`},
		{"FreeText", `tenant 4 has no more quota`},
		// The beginning of a long text that is searched for, over and over.
		{"Hostile64K", `[Tue Feb 11 09:30:07 2025] [proxy_fcgi:error] [pid 71] [client 192.0.2.30:51000] AH01071: Got error '` + fpmScript + strings.Repeat(fpmExtensions[:40], 1600)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			p, line := newParser(b, Config{}), []byte(bench.line)
			var l Line
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				_ = p.Parse(line, &l)
			}
		})
	}
}
