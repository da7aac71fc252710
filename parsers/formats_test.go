package parsers

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

// ownLogs are the formats of this file's tests and the logs in testdata that are
// written in them.
var ownLogs = map[string]string{
	familyLogfmt: "loggers_logfmt", familyJSON: "loggers_json", familyTraefik: "traefik", familyEnvoy: "envoy",
	familyIstio: "envoy", familyCaddy: "caddy", familyHAProxy: "haproxy", familyAkamai: "akamai",
}

func ownLines(t testing.TB, format string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + ownLogs[format] + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// No format allocates in steady state, bare or in a wrapper.
func TestFormatsDoNotAllocate(t *testing.T) {
	for format := range ownLogs {
		for _, wrapper := range append([]string{wrapperNone}, innerWrappers...) {
			p, err := New(Config{Format: format, Wrapper: wrapper})
			if err != nil {
				t.Fatal(err)
			}
			lines := ownLines(t, format)
			if wrapper != wrapperNone {
				var out [][]byte
				for i, l := range lines {
					for _, w := range wrapLine(wrapper, string(l), i%2*len(l)/2) {
						out = append(out, []byte(w))
					}
				}
				lines = out
			}
			var e event.Event
			parse := func() {
				events := 0
				for _, l := range lines {
					e.Reset()
					if p.Parse(l, &e) == nil {
						events++
					}
				}
				if events < 3 {
					t.Fatalf("%s in %s: %d events", format, wrapper, events)
				}
			}
			parse()
			parse() // memos, lists and scratch space find their size
			if n := testing.AllocsPerRun(5, parse); n != 0 {
				t.Errorf("%s in %s: %v allocations in %d lines", format, wrapper, n, len(lines))
			}
		}
	}
}

func BenchmarkFormats(b *testing.B) {
	for _, format := range names(ownLogs) {
		for _, wrapper := range append([]string{wrapperNone}, innerWrappers...) {
			if wrapper != wrapperNone && format != familyLogfmt {
				continue
			}
			b.Run(format+"/"+wrapper, func(b *testing.B) {
				p, err := New(Config{Format: format, Wrapper: wrapper})
				if err != nil {
					b.Fatal(err)
				}
				var lines [][]byte
				var e event.Event
				size := 0
				for _, l := range ownLines(b, format) {
					if wrapper != wrapperNone {
						l = []byte(wrapLine(wrapper, string(l), 0)[0])
					}
					e.Reset()
					if p.Parse(l, &e) == nil {
						lines = append(lines, l)
						size += len(l)
					}
				}
				b.SetBytes(int64(size / len(lines)))
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					e.Reset()
					if err := p.Parse(lines[i%len(lines)], &e); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}

func TestLogfmtLines(t *testing.T) {
	for _, c := range []struct {
		name, line string
		mapping    map[string]string
		want       string
		err        error
	}{
		{name: "bare keys and empty values", line: `flag status=403 path= user="" done`, want: "status=403"},
		{name: "quoted as by Go", line: `status=403 path="/a\tb\"c\\d\u00e9\x41"`, want: `path="/a\tb\"c\\déA" status=403`},
		{name: "quotes inside of quotes", line: `status=403 msg="a "b" c" path=/a`, want: "path=/a status=403"},
		{name: "single quotes", line: `status=403 error='X::Y: it's 'so'' path='/a b'`, want: `path="/a b" status=403 cause=X::Y`},
		{name: "an apostrophe", line: `status=403 name='tis path=/a`, want: "path=/a status=403"},
		{name: "dots", line: `http.response.status_code=403 url.path=/a user.id=u1 user.roles=x,y`, want: "path=/a status=403 user=u1 role=x role=y"},
		{name: "containers", line: `attributes.status=403 ctx.path=/a`, want: "path=/a status=403"},
		{name: "the last of equal keys", line: `status=200 status=403 path=/a path=/b`, want: "path=/b status=403"},
		{name: "nothing in place of something", line: `status=403 path=/a user=null plan=<nil> role=None account=- geo=nil country=`, want: "path=/a status=403"},
		{name: "commas", line: `status=403, path=/a, user=u1`, want: "path=/a status=403 user=u1"},
		{name: "tabs", line: "status=403\tpath=/a", want: "path=/a status=403"},
		{name: "a quoted key", line: `"status"=403 "path"="/a"`, want: "path=/a status=403"},
		{name: "lists made text", line: `status=403 path=/a roles=["a","b c"] flags="[x y]"`, want: `path=/a status=403 role=a role="b c" flag=x flag=y`},
		{name: "a latency is no service", line: `status=403 path=/a service=148ms`, want: "path=/a status=403"},
		{name: "a service", line: `status=403 path=/a service=shop`, want: "service=shop path=/a status=403"},
		{name: "a client behind a neighbour", line: `status=403 path=/a remote_addr=10.0.0.1 x_forwarded_for="198.51.100.7, 10.2.2.2"`, want: "path=/a status=403 client=198.51.100.7"},
		{name: "a client in the open", line: `status=403 path=/a remote_addr=203.0.113.9 x_forwarded_for=198.51.100.7`, want: "path=/a status=403 client=203.0.113.9"},
		{name: "a time in front", line: `2026-03-03 08:15:01,402 WARN [main] status=403 path=/a`, want: "time=2026-03-03T08:15:01.402Z path=/a status=403"},
		{name: "a time in brackets", line: `[2026-03-03T08:15:01+01:00] status=403 path=/a`, want: "time=2026-03-03T07:15:01Z path=/a status=403"},
		{name: "the pair's time before the one in front", line: `2026-03-03T08:15:01Z status=403 path=/a ts=2026-03-03T08:15:00Z`, want: "time=2026-03-03T08:15:00Z path=/a status=403"},
		{name: "mapped", line: `code=1 http.st=403 where=/a why=no_seat`, mapping: map[string]string{"status": "http.st", "path": "where", "cause": "why"}, want: "path=/a status=403 cause=no_seat"},
		{name: "a code that is no status", line: `code=404 msg="no such coupon"`, err: ErrSkip},
		{name: "an ordinary line", line: `level=info msg=started`, err: ErrSkip},
		{name: "text", line: `Listening on :8080`, err: ErrMismatch},
		{name: "nothing", line: ``, err: ErrMismatch},
		{name: "no key", line: `=x ==`, err: ErrMismatch},
		{name: "cut off", line: `status=403 path="/a`, err: ErrSyntax},
		{name: "a bad time", line: `status=403 time=2026-31-31T10:12:13Z`, err: ErrTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOnce(Config{Format: familyLogfmt, Mapping: c.mapping}, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// Broken lines of the proxies are errors of the right kind, never events.
func TestProxiesBroken(t *testing.T) {
	const haproxyHead = "198.51.100.23:41016 [03/Mar/2026:07:15:01.509] www "
	for _, c := range []struct {
		format, line string
		want         error
	}{
		{"traefik", `198.51.100.23 - - [03/Mar/2026:08:15:01 +0100] "GET / HTTP/2.0" 200 5 "-" "x" 41 "app" "http://10.4.0.7"`, ErrMismatch},
		{"traefik", `198.51.100.23 - - [03/Mar/2026:08:15:01 +0100] "GET / HTTP/2.0" 200 5 "-" "x" 41 "app" 31ms`, ErrMismatch},
		{"traefik", `198.51.100.23 - - [03/Mar/2026:08:15:01 +0100] "GET / HTTP/2.0" 200 5 "-" "x" "app" "-" 31ms`, ErrMismatch},
		{"traefik", `198.51.100.23 - - [33/Mar/2026:08:15:01 +0100] "GET / HTTP/2.0" 200 5 "-" "x" 41 "app" "-" 31ms`, ErrTime},
		{"traefik", ``, ErrMismatch},
		{"traefik", `{"DownstreamStatus":403`, ErrSyntax},
		{"envoy", ``, ErrMismatch},
		{"envoy", `[`, ErrMismatch},
		{"envoy", `[2026-03-03T07:15:01.720Z]`, ErrMismatch},
		{"envoy", `[yesterday] "GET / HTTP/1.1" 403 - 0 0 0 - "-" "-" "-" "-" "-"`, ErrTime},
		{"envoy", `[2026-03-03T07:15:01.720Z] "GET / HTTP/1.1`, ErrShort},
		{"envoy", `[2026-03-03T07:15:01.720Z] "GET / HTTP/1.1" 40 - 0 0 0 - "-" "-" "-" "-" "-"`, ErrStatus},
		{"envoy", `[2026-03-03T07:15:01.720Z] "GET / HTTP/1.1" 403 - 0 0 0 - "-" "-" "-"`, ErrShort},
		{"envoy", `[2026-03-03T07:15:01.720Z] "GET / HTTP/1.1" 403 - x "y`, ErrShort},
		{"caddy", `{"logger":"http.log.access"`, ErrSyntax},
		{"caddy", `text`, ErrNotObject},
		{"haproxy", ``, ErrMismatch},
		{"haproxy", `x`, ErrMismatch},
		{"haproxy", `198.51.100.23 [03/Mar/2026:07:15:01.509] www app/s1 0/0/0/3/3 403 1 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, ErrMismatch},
		{"haproxy", `198.51.100.23:1 [33/Mar/2026:07:15:01.509] www app/s1 0/0/0/3/3 403 1 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, ErrTime},
		{"haproxy", haproxyHead + `app 0/0/0/3/3 403 1 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, ErrMismatch},
		{"haproxy", haproxyHead + `app/s1 0/0/0/3 403 1 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, ErrMismatch},
		{"haproxy", haproxyHead + `app/s1 0/0/0/3/3 403`, ErrShort},
		{"haproxy", haproxyHead + `app/s1 0/0/0/3/3 4x3 1 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, ErrStatus},
		{"haproxy", haproxyHead + `app/s1 0/0/0/3/3 403 1 - - ---- 1/1/0/0/0 0/0 {a`, ErrShort},
		{"haproxy", `198.51.100.28 - - [03/Mar/2026:08:15:05 +0100] "GET / HTTP/1.1" 403 192 "" "" 5 7 "w`, ErrShort},
		{"haproxy", `198.51.100.28 - - [03/Mar/2026:08:15:05 +0100] "GET / HTTP/1.1" 403 192 "-" "curl"`, ErrMismatch},
	} {
		p, err := New(Config{Format: c.format})
		if err != nil {
			t.Fatal(err)
		}
		var e event.Event
		e.Reset()
		if err := p.Parse([]byte(c.line), &e); !errors.Is(err, c.want) {
			t.Errorf("%s: %s\n got %v, want %v", c.format, c.line, err, c.want)
		}
	}
}

func TestHAProxyCaptures(t *testing.T) {
	const head = "198.51.100.23:41016 [03/Mar/2026:07:15:01.509] www app/s1 0/0/0/3/3 403 194 - - ---- 1/1/0/0/0 0/0 "
	const when = "time=2026-03-03T07:15:01.509Z "
	const end = " cause=app_policy layer=app"
	for _, c := range []struct {
		name, line, zone string
		mapping          map[string]string
		want             string
	}{
		{
			name: "both sides", line: head + `{app.example.org|198.51.100.9, 10.0.0.1} {u-7|viewer,a#7Cb} "GET /a HTTP/1.1"`,
			mapping: map[string]string{"host": "capture.req.hdr(0)", "client": "capture.req.hdr(1)", "user": "capture.res.hdr(0)", "role": "capture.res.hdr(1)"},
			want:    when + `host=app.example.org method=GET path=/a status=403 upstream=403 client=198.51.100.9 user=u-7 role=viewer role=a|b` + end,
		}, {
			name: "answers only", line: head + `{u-7|} "GET /a HTTP/1.1"`,
			mapping: map[string]string{"user": "capture.res.hdr(0)", "plan": "capture.res.hdr(1)"},
			want:    when + `method=GET path=/a status=403 upstream=403 client=198.51.100.23 user=u-7` + end,
		}, {
			name: "requests only; what a client sends is claimed", line: head + `{u-7} "GET /a HTTP/1.1"`,
			mapping: map[string]string{"user": "capture.req.hdr(0)"},
			want:    when + `method=GET path=/a status=403 upstream=403 client=198.51.100.23 user?=u-7` + end,
		}, {
			name: "a reason of the application", line: head + `{} {no_seat} "GET /a HTTP/1.1"`,
			mapping: map[string]string{"cause": "capture.res.hdr(0)"},
			want:    when + `method=GET path=/a status=403 upstream=403 client=198.51.100.23 cause=no_seat layer=app`,
		}, {
			name: "local time", line: head + `"GET /a HTTP/1.1"`, zone: "+01:00",
			want: `time=2026-03-03T06:15:01.509Z method=GET path=/a status=403 upstream=403 client=198.51.100.23` + end,
		}, {
			name: "cut off by syslog", line: head + `"GET /a/very/long`,
			want: when + `method=GET path=/a/very/long status=403 upstream=403 client=198.51.100.23` + end,
		},
	} {
		got, err := parseOnce(Config{Format: familyHAProxy, Mapping: c.mapping, Timezone: c.zone}, c.line)
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, got, c.want)
		}
	}
	for key, value := range map[string]string{
		"user": "X-User", "role": "capture.req.hdr(x)", "plan": "capture.res.hdr(1", "status": "capture.res.hdr(0)",
	} {
		if ps := (Config{Format: familyHAProxy, Mapping: map[string]string{key: value}}).Validate(); len(ps) != 1 {
			t.Errorf("%s: %s: %v", key, value, ps)
		}
	}
}

func TestPrivate(t *testing.T) {
	for a, want := range map[string]bool{
		"": true, "10.1.2.3": true, "10.1.2.3:80": true, "172.16.0.1": true, "172.31.9.9": true, "172.32.0.1": false, "172.15.0.1": false,
		"192.168.1.1": true, "192.169.1.1": false, "127.0.0.1": true, "169.254.1.1": true, "100.64.0.1": true, "100.128.0.1": false,
		"198.51.100.7": false, "::1": true, "[::1]:80": true, "::1:2": false, "fd00::1": true, "fe80::1": true, "2001:db8::1": false,
		"::ffff:10.0.0.4": true, "::ffff:198.51.100.7": false, "unix:": true, "fd.example": false, "web-1": false,
	} {
		if got := private([]byte(a)); got != want {
			t.Errorf("%q: %v", a, got)
		}
	}
}

// FuzzLogfmt: strings quoted as by Go come out as they were.
func FuzzLogfmt(f *testing.F) {
	f.Add([]byte(`status=403 path="/a" user.id=u1`), "u1", "/a b")
	f.Add([]byte(`W, [2026-03-03T07:15:03.204511 #18]  WARN -- : [x] status=403`), "a\"b", "/\x00")
	f.Add([]byte(`], [2026-03-03T07:15:03.204511 #18`), "", "")
	f.Add([]byte(`roles=['a', 'b'] error='it's' a="b`), "'", "\\")
	p, err := New(Config{Format: familyLogfmt})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line []byte, plan, path string) {
		checkParse(t, p, line)
		if plan == "" || plan == "-" || path == "" || path == "-" || strings.ContainsAny(plan+path, "\x07") {
			return // \a is Go's alone
		}
		var e event.Event
		e.Reset()
		if err := p.Parse([]byte("status=403 plan="+strconv.Quote(plan)+" path="+strconv.Quote(path)), &e); err != nil {
			t.Fatal(err)
		}
		if !validText(plan) || !validText(path) {
			return
		}
		if string(e.Plan) != plan || string(e.Path) != path {
			t.Fatalf("plan %q path %q, want %q %q", e.Plan, e.Path, plan, path)
		}
	})
}

// validText tells whether strconv.Quote writes s with escapes that all loggers
// share: it has \U for what does not print beyond the first plane.
func validText(s string) bool {
	q := strconv.Quote(s)
	return !strings.Contains(q, `\U`) && !strings.Contains(q, `\x`)
}

func FuzzProxies(f *testing.F) {
	formats := []string{familyTraefik, familyEnvoy, familyCaddy, familyHAProxy, familyJSON, familyAkamai}
	ps := make([]Parser, len(formats))
	for i, format := range formats {
		c := Config{Format: format}
		if format == familyHAProxy {
			c.Mapping = map[string]string{"user": "capture.res.hdr(0)", "role": "capture.req.hdr(1)"}
		}
		var err error
		if ps[i], err = New(c); err != nil {
			f.Fatal(err)
		}
		for _, l := range ownLines(f, format) {
			f.Add(l, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, line []byte, which uint8) {
		checkParse(t, ps[int(which)%len(ps)], line)
	})
}
