package parsers

import (
	"errors"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

func TestNginxLines(t *testing.T) {
	const at = "[14/Nov/2026:10:12:13 +0000]"
	const when = "time=2026-11-14T10:12:13Z "
	for _, c := range []struct {
		name, format, line string
		mapping            map[string]string
		want               string
		err                error
	}{
		{
			name: "combined", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET /a/b?c=d HTTP/1.1" 403 153 "-" "curl/8"`,
			want: when + "method=GET path=/a/b?c=d status=403 client=203.0.113.5 agent=curl/8",
		}, {
			name: "a status that a client would like to have", format: `$remote_addr [$time_local] $http_user_agent $status $request_uri`,
			line: `203.0.113.5 ` + at + ` Mozilla 200 /in 403 /a?b`,
			want: when + `path=/a?b status=403 client=203.0.113.5 agent="Mozilla 200 /in"`,
		}, {
			name: "the client in front is a list", format: `$http_x_forwarded_for - $remote_user [$time_local] "$request" $status`,
			line: `10.1.2.3, 198.51.100.7, 192.0.2.8 - ann ` + at + ` "GET / HTTP/1.1" 403`,
			want: when + "method=GET path=/ status=403 client=198.51.100.7 user?=ann",
		}, {
			name: "the client in front is one", format: `$http_x_forwarded_for - $remote_user [$time_local] "$request" $status`,
			line: `10.1.2.3 - - ` + at + ` "GET / HTTP/1.1" 403`,
			want: when + "method=GET path=/ status=403 client=10.1.2.3",
		}, {
			name: "the client is only in a header", format: `[$time_local] "$request" $status "$http_x_forwarded_for"`,
			line: at + ` "GET / HTTP/1.1" 403 "unknown, 198.51.100.7"`,
			want: when + "method=GET path=/ status=403 client=198.51.100.7",
		}, {
			name: "a client beside the header", format: "main",
			line: `10.1.2.3 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-" "198.51.100.7"`,
			want: when + "method=GET path=/ status=403 client=10.1.2.3",
		}, {
			name: "a virtual host that writes its name in front", format: "combined",
			line: `shop.example 203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "x"`,
			want: when + "host=shop.example method=GET path=/ status=403 client=203.0.113.5 agent=x",
		}, {
			name: "a virtual host that writes its name and port in front", format: "main",
			line: `shop.example:8443 203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "x" "-"`,
			want: when + "host=shop.example method=GET path=/ status=403 client=203.0.113.5 agent=x",
		}, {
			name: "a virtual host that writes the clients in front", format: "combined",
			line: `10.1.2.3, 203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "x"`,
			want: when + "method=GET path=/ status=403 client=203.0.113.5 agent=x",
		}, {
			name: "carriage return", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 200 1 "-" "x"` + "\r",
			want: when + "method=GET path=/ status=200 client=203.0.113.5 agent=x",
		}, {
			name: "user with a space and a bracket", format: "combined",
			line: `203.0.113.5 - ann [x] bee ` + at + ` "GET / HTTP/1.1" 200 1 "-" "-"`,
			want: when + `method=GET path=/ status=200 client=203.0.113.5 user?="ann [x] bee"`,
		}, {
			name: "escapes", format: "combined",
			line: `203.0.113.5 - a\x22b\x0A ` + at + ` "GET /\xC3\xA9?\x5Cx HTTP/2.0" 200 1 "-" "q \x22 q"`,
			want: when + `method=GET path="/é?\\x" status=200 client=203.0.113.5 user?="a\"b\n" agent="q \" q"`,
		}, {
			name: "forged fields in the user agent", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "x\x22 200 5 \x22-\x22 \x22y"`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5 agent="x\" 200 5 \"-\" \"y"`,
		}, {
			name: "more fields than combined has", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 200 1 "-" "x" "198.51.100.1" rt=0.1`,
			want: when + "method=GET path=/ status=200 client=203.0.113.5 agent=x",
		}, {
			name: "cut off in the user agent", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "Mozil`,
			want: when + "method=GET path=/ status=403 client=203.0.113.5",
		}, {
			name: "cut off after the status", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 `,
			want: when + "method=GET path=/ status=403 client=203.0.113.5",
		},
		{name: "cut off in the status", format: "combined", line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 40`, err: ErrMismatch},
		{name: "cut off before the status", format: "combined", line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" `, err: ErrShort},
		{name: "empty", format: "combined", line: ``, err: ErrShort},
		{name: "a day that is none", format: "combined", line: `203.0.113.5 - - [31/Feb/2026:10:12:13 +0000] "GET / HTTP/1.1" 200 1 "-" "x"`, err: ErrTime},
		{name: "an error log", format: "combined", line: `2026/11/14 10:12:13 [error] 7#7: *1 access forbidden by rule, client: 203.0.113.5, server: , request: "GET / HTTP/1.1"`, err: ErrMismatch},
		{
			name: "HTTP/0.9", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET /deny" 403 1 "-" "-"`,
			want: when + "method=GET path=/deny status=403 client=203.0.113.5",
		}, {
			name: "absolute form", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET http://other.example/x HTTP/1.1" 403 1 "-" "-"`,
			want: when + "method=GET path=http://other.example/x status=403 client=203.0.113.5",
		}, {
			name: "connect", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "CONNECT example.com:443 HTTP/1.1" 400 1 "-" "-"`,
			want: when + "method=CONNECT path=example.com:443 status=400 client=203.0.113.5",
		}, {
			name: "options", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "OPTIONS * HTTP/1.1" 200 1 "-" "-"`,
			want: when + "method=OPTIONS path=* status=200 client=203.0.113.5",
		}, {
			name: "empty request", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "" 400 0 "-" "-"`,
			want: when + "status=400 client=203.0.113.5",
		}, {
			name: "TLS to the plain port", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "\x16\x03\x01\x00\xEE /x" 400 1 "-" "-"`,
			want: when + "status=400 client=203.0.113.5",
		}, {
			name: "another protocol", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "t3 12.1.2" 400 1 "-" "-"`,
			want: when + "status=400 client=203.0.113.5",
		}, {
			name: "unix socket", format: "combined",
			line: `unix: - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-"`,
			want: when + "method=GET path=/ status=403 client=unix:",
		}, {
			name: "IPv6 in a vhost format", format: "vhost_combined",
			line: `[2001:db8::1]:8080 2001:db8::9 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-"`,
			want: when + "host=[2001:db8::1] method=GET path=/ status=403 client=2001:db8::9",
		}, {
			name: "ingress-nginx, one try", format: "upstreaminfo",
			line: `203.0.113.5 - - ` + at + ` "GET /x HTTP/2.0" 403 9 "-" "-" 12 0.050 [shop-web-80] [] 10.0.0.1:80 9 0.049 403 0f0e0d0c0b0a09080706050403020100`,
			want: when + "method=GET path=/x status=403 upstream=403 client=203.0.113.5 id=0f0e0d0c0b0a09080706050403020100",
		}, {
			name: "ingress-nginx, two tries", format: "upstreaminfo",
			line: `203.0.113.5 - - ` + at + ` "GET /x HTTP/2.0" 200 9 "-" "-" 12 0.050 [shop-web-80] [] 10.0.0.1:80, unix:/run/a.sock 0, 9 0.001, 0.049 502, 200 abc`,
			want: when + "method=GET path=/x status=200 upstream=200 client=203.0.113.5 id=abc",
		}, {
			name: "ingress-nginx, nobody asked", format: "upstreaminfo",
			line: `203.0.113.5 - - ` + at + ` "GET /x HTTP/2.0" 403 9 "-" "-" 12 0.050 [shop-web-80] [] - - - - abc`,
			want: when + "method=GET path=/x status=403 upstream=none client=203.0.113.5 id=abc",
		}, {
			name: "internal redirects", format: `$msec $remote_addr $request_method $request_uri $status us="$upstream_status"`,
			line: `1795454351.055 203.0.113.5 GET /x?a=b 200 us="502, 403 : 201, 403 : 200"`,
			want: "time=2026-11-23T17:19:11.055Z method=GET path=/x?a=b status=200 upstream=200 client=203.0.113.5",
		}, {
			name: "upstream that did not answer", format: `$time_iso8601 $status $upstream_status`,
			line: `2026-11-14T11:12:13+01:00 499 -`,
			want: when + "status=499 upstream=none",
		}, {
			name: "tabs", format: `$time_iso8601\t$remote_addr\t$host\t$request_method\t$request_uri\t$status\t$http_user_agent`,
			line: "2026-11-14T11:12:13+01:00\t203.0.113.5\tshop.example\tGET\t/a b\t403\tan agent",
			want: when + `host=shop.example method=GET path="/a b" status=403 client=203.0.113.5 agent="an agent"`,
		}, {
			name: "key=value with labels", format: `time=$msec ip=$remote_addr req="$request" status=$status role=$http_x_role plan="$cookie_plan" flags="$http_x_flags" country=$geoip2_data_country_code`,
			line: `time=1795454351.055 ip=203.0.113.5 req="GET / HTTP/1.1" status=403 role=admin plan="pro" flags="a,b" country=NL`,
			want: "time=2026-11-23T17:19:11.055Z method=GET path=/ status=403 client=203.0.113.5 role=admin plan=pro geo=NL flag=a flag=b",
		}, {
			name: "the application's own headers", format: nginxCombined + ` "$upstream_http_x_user" "$upstream_http_x_role" "$sent_http_x_plan"`,
			line: `203.0.113.5 - eve ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-" "u17" "owner, editor" "pro plus"`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5 user=u17 role=owner role=editor plan="pro plus"`,
		}, {
			name: "variables of the configuration", format: nginxCombined + ` $jwt_claim_sub $user_role $account_id "$upstream_http_x_deny_reason"`,
			line: `203.0.113.5 - eve ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-" u17 owner o1 "no seat"`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5 user?=eve account=o1 role=owner cause="no seat"`,
		}, {
			name: "a reason counts for refusals only", format: nginxCombined + ` "$upstream_http_x_deny_reason"`,
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 200 1 "-" "-" "none"`,
			want: when + `method=GET path=/ status=200 client=203.0.113.5`,
		}, {
			name: "headers of the client are not believed", format: nginxCombined + ` "$http_x_user" "$http_x_role"`,
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-" "u17" "owner"`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5`,
		}, {
			name: "unless mapped", format: nginxCombined + ` "$http_x_user" "$http_x_role" "$http_x_forwarded_for"`,
			mapping: map[string]string{"role": "$http_x_role", "user": "http_x_user", "client": "${http_x_forwarded_for}"},
			line:    `203.0.113.5 - eve ` + at + ` "GET / HTTP/1.1" 403 1 "-" "-" "u17" "owner" "192.0.2.1"`,
			want:    when + `method=GET path=/ status=403 client=192.0.2.1 user=u17 role=owner`,
		}, {
			name: "args apart", format: `$time_iso8601 $status $uri$is_args$args "$host"`,
			line: `2026-11-14T10:12:13+00:00 200 /a/b?c=d "h"`,
			want: when + "host=h path=/a/b?c=d status=200",
		}, {
			name: "no args", format: `$time_iso8601 $status $uri$is_args$args "$host"`,
			line: `2026-11-14T10:12:13+00:00 200 /a/b- "h"`,
			want: when + "host=h path=/a/b status=200",
		}, {
			name: "host and path side by side", format: `$time_iso8601 $status $scheme://$host$request_uri`,
			line: `2026-11-14T10:12:13+00:00 200 https://shop.example/a/b`,
			want: when + "host=shop.example path=/a/b status=200",
		}, {
			name: "best source of each", format: `[$time_local] $msec $server_name $http_host $host "$request" $request_uri $status`,
			line: at + ` 1794651133.250 s.example h.example:80 h.example "GET /b HTTP/1.1" /a 200`,
			want: "time=2026-11-14T10:12:13.25Z host=h.example method=GET path=/a status=200",
		}, {
			name: "escape=none", format: `escape=none $remote_addr - $remote_user [$time_local] "$request" $status "$http_user_agent"`,
			line: `203.0.113.5 -  ` + at + ` "GET /?q="z" HTTP/1.1" 403 "an "agent" \x41"`,
			want: when + `method=GET path="/?q=\"z\"" status=403 client=203.0.113.5 agent="an \"agent\" \\x41"`,
		}, {
			name: "escape=json", format: `escape=json {"t":"$time_iso8601","r":"$request","s":$status,"us":"$upstream_status","ua":"$http_user_agent","role":"$http_x_role"}`,
			line: `{"t":"2026-11-14T10:12:13+00:00","r":"GET /\"q\" HTTP/1.1","s":403,"us":"","ua":"a \\ b\u0001\",\"s\":200","role":"x"}`,
			want: when + `method=GET path="/\"q\"" status=403 upstream=none role=x agent="a \\ b\x01\",\"s\":200"`,
		}, {
			name: "JSON that is none", format: `{"t":"$time_iso8601","r":"$request","us":$upstream_status,"urt":$upstream_response_time,"s":$status}`,
			line: `{"t":"2026-11-14T10:12:13+00:00","r":"GET /\x22q HTTP/1.1","us":-,"urt":-,"s":403}`,
			want: when + `method=GET path="/\"q" status=403 upstream=none`,
		}, {
			name: "empty number in JSON", format: `escape=json {"t":"$time_iso8601","us":$upstream_status,"urt":$upstream_response_time,"s":$status}`,
			line: `{"t":"2026-11-14T10:12:13+00:00","us":,"urt":,"s":403}`,
			want: when + `status=403 upstream=none`,
		}, {
			name: "a statement of nginx.conf", format: `log_format shop escape=default '$remote_addr [$time_local] '` + "\n" + `  '"$request" $status\t' "$host" ;`,
			line: `203.0.113.5 ` + at + ` "GET / HTTP/1.1" 403` + "\t" + `shop.example`,
			want: when + "host=shop.example method=GET path=/ status=403 client=203.0.113.5",
		}, {
			name: "connection", format: `[$time_local] $connection:$connection_requests "$request" $status`,
			line: at + ` 4711:2 "GET / HTTP/1.1" 403`,
			want: when + "method=GET path=/ status=403 conn=4711",
		}, {
			name: "never answered", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 000 0 "-" "-"`,
			want: when + "method=GET path=/ client=203.0.113.5",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOnce(Config{Format: "nginx", LogFormat: c.format, Mapping: c.mapping}, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNginxFormatsRefused(t *testing.T) {
	for format, want := range map[string]string{
		`$time_local $status $request_uri$http_referer`:                             "cannot be told apart",
		`$time_local $status $host$server_name`:                                     "cannot be told apart",
		`$remote_addr $remote_user $http_user_agent [$time_local] $request $status`: `put each in quotes, as in "$http_user_agent"`,
		`$time_local $http_referer $status $http_user_agent`:                        "may hold spaces",
		`escape=xml $time_local $status`:                                            "escape=xml is unknown",
		`combinde`:                                                                  "neither a format that has a name",
		`$time_local ${status`:                                                      "no closing",
		`$time_local $ $status`:                                                     "without the name",
		`$remote_addr $status`:                                                      "no time",
		`$remote_addr [$time_local]`:                                                "no status",
		`log_format x '$status`:                                                     "no end",
		`log_format x $status;`:                                                     "quoted string",
	} {
		ps := Config{Format: "nginx", LogFormat: format}.Validate()
		var all strings.Builder
		for _, p := range ps {
			if p.Path != "log_format" {
				t.Errorf("%s: path %q", format, p.Path)
			}
			all.WriteString(p.Error() + "\n")
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s: %q does not say %q", format, all.String(), want)
		}
	}
}

// Neighbours whose border is certain are accepted.
func TestNginxNeighbours(t *testing.T) {
	for _, c := range []struct{ format, line, want string }{
		{
			`$time_iso8601$status$request_method $host$request_uri`,
			`2026-11-14T10:12:13+00:00403GET h.example/x`, "host=h.example method=GET path=/x status=403",
		},
		// A request that nginx could not read has no path.
		{`$time_iso8601$status $host$request_uri`, `2026-11-14T10:12:13+00:00400 h.example-`, "host=h.example status=400"},
		{
			`$time_iso8601$status $host$request_uri "$http_referer"`,
			`2026-11-14T10:12:13+00:00400 h.example- "https://r.example/"`, "host=h.example status=400",
		}, {
			`$time_iso8601$status $host$request_uri "$http_referer"`,
			`2026-11-14T10:12:13+00:00403 h.example/- "https://r.example/"`, "host=h.example path=/- status=403",
		},
	} {
		got, err := parseOnce(Config{Format: "nginx", LogFormat: c.format}, c.line)
		if want := "time=2026-11-14T10:12:13Z " + c.want; err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", c.line, got, err, want)
		}
	}
}

func FuzzNginx(f *testing.F) {
	formats := []string{
		"combined", "upstreaminfo", "vhost_combined",
		`escape=json {"t":"$time_iso8601","r":"$request","s":$status,"us":"$upstream_status","ua":"$http_user_agent","role":"$http_x_role"}`,
		`escape=none $remote_addr - $remote_user [$time_local] "$request" $status "$http_user_agent"`,
		`$time_iso8601\t$remote_addr\t$host\t$request_method\t$uri$is_args$args\t$status\t$upstream_status $http_user_agent $http_referer $cookie_x`,
	}
	for i, l := range []string{
		`203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET /a HTTP/1.1" 403 153 "-" "curl/8"`,
		`203.0.113.5 - a b [14/Nov/2026:10:12:13 +0000] "GET /x HTTP/2.0" 200 9 "-" "-" 12 0.050 [a] [] 10.0.0.1:80, - 0, 9 0.001, 0.049 502, 200 abc`,
		`h:80 203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "\x16\x03" 400 153 "-" "curl/8"`,
		`{"t":"2026-11-14T10:12:13+00:00","r":"GET /\"q\" HTTP/1.1","s":403,"us":"","ua":"a \\ b","role":"x"}`,
		`203.0.113.5 -  [14/Nov/2026:10:12:13 +0000] "GET /?q="z" HTTP/1.1" 403 "an agent"`,
		"2026-11-14T10:12:13+00:00\t203.0.113.5\th\tGET\t/x-\t403\t403 : 200 an agent - -",
	} {
		f.Add(uint8(i), []byte(l))
	}
	var ps []Parser
	for _, s := range formats {
		p, err := New(Config{Format: "nginx", LogFormat: s})
		if err != nil {
			f.Fatal(err)
		}
		ps = append(ps, p)
	}
	f.Fuzz(func(t *testing.T, i uint8, line []byte) {
		checkParse(t, ps[int(i)%len(ps)], line)
	})
}

// checkParse tests what holds for any line: no panic, the line unchanged, the
// same answer twice, and fields within bounds.
func checkParse(t *testing.T, p Parser, line []byte) {
	var e event.Event
	e.Reset()
	before := string(line)
	err := p.Parse(line, &e)
	first := show(&e)
	if string(line) != before {
		t.Fatal("the line was changed")
	}
	e.Reset()
	again := p.Parse(line, &e)
	if !errors.Is(again, err) || show(&e) != first {
		t.Fatalf("a second time: %v %s, at first %v %s", again, show(&e), err, first)
	}
	if err == nil && (e.Status > 999 || e.UpstreamStatus > 999 || e.UpstreamStatus != 0 && e.Upstream != event.UpstreamAnswered) {
		t.Fatalf("status %d, upstream %d", e.Status, e.UpstreamStatus)
	}
	if n := len(e.Path) + len(e.Method) + len(e.Client) + len(e.User); n > len(line) {
		t.Fatalf("%d bytes out of a line of %d", n, len(line))
	}
}
