package parsers

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

func TestDetect(t *testing.T) {
	const at = "[14/Nov/2026:10:12:13 +0000]"
	repeat := func(n int, l string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = l
		}
		return out
	}
	combined := `203.0.113.5 - - ` + at + ` "GET /a HTTP/1.1" 403 153 "-" "x"`
	for _, c := range []struct {
		name, path string
		lines      []string
		want       string // format/log_format
		why        string
	}{
		{"combined", "/var/log/access.log", repeat(3, combined), "nginx/combined", "3 of the first 3 lines have the fields of the combined format"},
		{"combined of Apache by its path", "/var/log/apache2/access.log", repeat(3, combined), "apache/combined", "its path names Apache"},
		{"combined of nginx by its path", "/var/log/nginx/access.log", repeat(3, combined), "nginx/combined", "its path names nginx"},
		{"combined of Apache by its quotes", "a.log", append(repeat(3, combined), `203.0.113.5 - - `+at+` "GET /\"a HTTP/1.1" 403 153 "-" "x"`), "apache/combined", "escaped as by Apache"},
		{"combined of Apache by its bytes", "a.log", append(repeat(3, combined), `203.0.113.5 - - `+at+` "GET /\xc3\xa9 HTTP/1.1" 403 153 "-" "x"`), "apache/combined", "escaped as by Apache"},
		{"combined of nginx by its bytes", "a.log", append(repeat(3, combined), `203.0.113.5 - - `+at+` "GET /\xC3\xA9 HTTP/1.1" 403 153 "-" "x"`), "nginx/combined", "escaped as by nginx"},
		{"main", "a.log", repeat(3, combined+` "192.0.2.1"`), "nginx/main", "main format"},
		{"combined and more", "a.log", repeat(3, combined+` 0.003 abc`), "nginx/combined", ""},
		{"ingress", "a.log", repeat(3, combined+` 127 0.050 [a-b-80] [] 10.0.0.1:80 9 0.049 403 abc`), "nginx/upstreaminfo", "ingress-nginx"},
		{"common", "a.log", repeat(3, `203.0.113.5 - - `+at+` "GET /a HTTP/1.1" 403 153`), "apache/common", "common format"},
		{"vhost_combined", "a.log", repeat(3, "shop.example:443 "+combined), "apache/vhost_combined", "host:port"},
		{"vhost_combined of nginx", "/var/log/nginx/a.log", repeat(3, "shop.example:443 "+combined), "nginx/vhost_combined", "host:port"},
		{"vhost_common", "a.log", repeat(3, `shop.example 203.0.113.5 - - `+at+` "GET /a HTTP/1.1" 403 153`), "apache/vhost_common", ""},
		{"app JSON", "app.jsonl", repeat(3, `{"status":403,"path":"/a","time":"2026-11-14T10:12:13Z"}`), "json/", "JSON objects"},
		{"app JSON that starts with other lines", "app.jsonl", repeat(3, `{"level":"info","msg":"listening"}`), "json/", "JSON objects"},
		{"nginx JSON", "a.log", repeat(3, `{"status":403,"uri":"/a","upstream_status":"403"}`), "nginx/json", "field names of nginx"},
		{"nginx JSON by its path", "/var/log/nginx/access.json", repeat(3, `{"status":403,"uri":"/a","us":"403"}`), "nginx/json", "its path names nginx"},
		{"JSON that tells of an upstream", "a.log", repeat(3, `{"status":403,"path":"/a","upstreamStatus":"403"}`), "nginx/json", "a server behind"},
		{"logfmt", "app.log", repeat(3, `time=2026-11-14T10:12:13Z status=403 path=/a`), "logfmt/", "key=value pairs"},
		{"logfmt of nginx", "a.log", repeat(3, `time=1794651133.001 status=403 request="GET /a HTTP/1.1" upstream_status="-"`), "nginx/logfmt", "field names of nginx"},
		{"logfmt of nginx by its path", "/var/log/nginx/access.log", repeat(3, `time=1794651133.001 status=403 request="GET /a HTTP/1.1"`), "nginx/logfmt", "its path names nginx"},
		{"logfmt that looks like combined", "a.log", repeat(3, `status=403 path=/a msg="`+"x"+`" ref="GET /a HTTP/1.1"`), "logfmt/", ""},
		{"Caddy beside its other loggers", "a.log", append(repeat(2, `{"level":"info","logger":"tls","msg":"x"}`), `{"level":"error","ts":1795454351.3,"logger":"http.log.access.log0","request":{"method":"GET","uri":"/a"},"status":403}`), "caddy/", "Caddy"},
		{"an app whose JSON is not Caddy's", "a.log", append(repeat(3, `{"status":403,"path":"/a"}`), `{"logger":"http.log.access","status":403,"path":"/a"}`), "json/", "JSON objects"},
		{"Traefik", "a.log", repeat(3, combined+` 12 "app@docker" "http://10.4.0.7:80" 3ms`), "traefik/", "Traefik"},
		{"Envoy", "a.log", repeat(3, `[2026-11-14T10:12:13.000Z] "GET /a HTTP/1.1" 403 - 0 19 0 - "203.0.113.5" "x" "id" "shop.example" "-"`), "envoy/", "Envoy"},
		{"HAProxy", "a.log", repeat(3, `203.0.113.5:4 [14/Nov/2026:10:12:13.000] www app/s1 0/0/0/1/1 403 1 - - ---- 1/1/0/0/0 0/0 "GET /a HTTP/1.1"`), "haproxy/", "HAProxy"},
		{"a host and combined", "a.log", repeat(3, "shop.example "+combined), "apache/" + apacheHostCombined, "start with a host"},
		{"a host and combined of nginx", "/var/log/nginx/a.log", repeat(3, "shop.example "+combined), "nginx/" + nginxHostCombined, "start with a host"},
		{"combined with a user of two words", "a.log", repeat(3, `203.0.113.5 - Ann Lee `+at+` "GET /a HTTP/1.1" 403 153 "-" "x"`), "nginx/combined", "combined format"},
		{"combined with a user that ends in a dash", "a.log", repeat(3, `203.0.113.5 - ann - `+at+` "GET /a HTTP/1.1" 403 153 "-" "x"`), "nginx/combined", "combined format"},
		{"combined with an identity is none of nginx", "a.log", repeat(3, `203.0.113.5 shop.example ann `+at+` "GET /a HTTP/1.1" 403 153 "-" "x"`), "apache/combined", "combined format"},
		{"common of nginx", "/var/log/nginx/a.log", repeat(3, `203.0.113.5 - - `+at+` "GET /a HTTP/1.1" 403 153`), "nginx/common", "common format"},
		{"a list of clients", "a.log", append(repeat(2, `10.1.2.3, 198.51.100.7, 192.0.2.8`+combined[len("203.0.113.5"):]), combined), "nginx/" + nginxClientsCombined, "list of clients"},
		{"some clients in lists and other fields behind", "a.log", append(repeat(2, combined+" 0.003"), `10.1.2.3, 198.51.100.7`+combined[len("203.0.113.5"):]+" 0.003"), "nginx/" + nginxClientsCombined, "list of clients"},
		{"a host and a list of clients", "a.log", repeat(3, `shop.example 198.51.100.7, 192.0.2.8`+combined[len("203.0.113.5"):]), "nginx/" + nginxHostClients, "list of clients"},
		{"BunkerWeb", "a.log", repeat(3, `shop.example 203.0.113.5 - 5f3a9c0e7b1d2486aa90c3e51f7b2d68 - `+at+` "GET /a HTTP/1.1" 403 153 "-" "x"`), "nginx/" + nginxBunkerWeb, "BunkerWeb"},
		{"Nginx Proxy Manager", "a.log", repeat(3, at+` - 403 403 - GET https shop.example "/a" [Client 203.0.113.5] [Length 153] [Gzip -] [Sent-to 10.4.0.7] "x" "-"`), "nginx/" + nginxManagerProxy, "Nginx Proxy Manager"},
		{"Nginx Proxy Manager without a proxy", "a.log", repeat(3, at+` 403 - GET https shop.example "/a" [Client 203.0.113.5] [Length 153] [Gzip 2.1] "x" "-"`), "nginx/" + nginxManagerStandard, "Nginx Proxy Manager"},
		{"Nginx Proxy Manager with and without a proxy", "a.log", []string{
			at + ` 403 - GET https shop.example "/a" [Client 203.0.113.5] [Length 153] [Gzip 2.1] "x" "-"`,
			at + ` - 403 403 - GET https shop.example "/a" [Client 203.0.113.5] [Length 153] [Gzip -] [Sent-to 10.4.0.7] "x" "-"`,
		}, "nginx/" + nginxManagerProxy, "2 of the first 2"},
		{"virtual hosts that differ", "a.log", []string{combined, combined, "shop.example " + combined, "shop.example:80 " + combined}, "nginx/combined", "4 of the first 4"},
		{"S3", "a.log", repeat(3, `c0ffee shop-assets `+at+` 203.0.113.5 - 5D3A0F REST.GET.OBJECT logo.png "GET /logo.png HTTP/1.1" 403 AccessDenied 243 - 7 - "-" "x" - b2== - TLS - shop-assets.s3.example TLSv1.3`), "s3/", "Amazon S3"},
		{"IIS without a header", "a.log", repeat(3, `2026-11-14 10:12:13 10.0.0.4 GET /a - 443 - 203.0.113.5 x 403 14 0 5`), "iis/", "IIS"},
		{"CloudFront of years ago without a header", "a.log", repeat(3, strings.ReplaceAll("2026-11-14 10:12:13 FRA1-C1 900 203.0.113.5 GET d0.cloudfront.example /a 403 - Mozilla/5.0%2520(X11) - - Error rid1== shop.example https 40 0.1 - TLSv1.2 X", " ", "\t")), "cloudfront/", "CloudFront"},
		{"text before JSON", "a.log", repeat(3, `[2026-11-14T10:12:13.5+00:00] shop.INFO: request {"method":"GET","path":"/a","status":403} []`), "json/", "JSON objects"},
		{"text before JSON that is no request", "a.log", repeat(3, `10:12:13 worker {"job":7}`), "", ""},
		{"what only looks like columns", "a.log", repeat(3, `2026-11-14 10:12:13 [NOTICE] [12] [198.51.100.2:400] [web] [login] failed for - name:ann ip:198.51.100.2 url: /a b`), "", ""},
		{"old Traefik", "a.log", repeat(3, `203.0.113.5 - - `+at+` "GET /a HTTP/1.1" 403 153 - "x" 12 "app" "http://10.4.0.7:80" 3ms`), "traefik/", "Traefik"},
		{"Ambassador", "a.log", repeat(3, `ACCESS [2026-11-14T10:12:13.000Z] "GET /a HTTP/1.1" 403 - 0 19 0 - "203.0.113.5" "x" "id" "shop.example" "-"`), "envoy/", "Envoy"},
		{"Envoy Gateway", "a.log", repeat(3, `{"start_time":"2026-11-14T10:12:13.000Z","method":"GET","x-envoy-origin-path":"/a","response_code":403,":authority":"shop.example"}`), "envoy/", "Envoy"},
		{"mostly", "a.log", append(repeat(7, combined), "starting", "", "\r", "stopping"), "nginx/combined", "7 of the first 9 lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sample [][]byte
			for _, l := range c.lines {
				sample = append(sample, []byte(l))
			}
			got, why, err := Detect(sample, c.path)
			if c.want == "" {
				if !errors.Is(err, ErrUnknownFormat) {
					t.Errorf("%+v (%s) %v, want ErrUnknownFormat", got, why, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := got.Format + "/" + got.LogFormat; s != c.want || !strings.Contains(why, c.why) {
				t.Errorf("%s (%s), want %s (%s)", s, why, c.want, c.why)
			}
			if _, err := Compile(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDetectNothing(t *testing.T) {
	for _, lines := range [][]string{
		{}, {"", "\n"}, {"hello", "world"},
		{"2026/11/14 10:12:13 [error] 7#7: *1 access forbidden by rule, client: 203.0.113.5"},
		{`203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET /a HTTP/1.1" 403 153`, "a", "b"},
		{"a=\x01", "b=\x02", "c=\x03"},
	} {
		var sample [][]byte
		for _, l := range lines {
			sample = append(sample, []byte(l))
		}
		if c, _, err := Detect(sample, "x.log"); !errors.Is(err, ErrUnknownFormat) {
			t.Errorf("%q: %+v %v", lines, c, err)
		}
	}
}

// What keeps a log from being recognised is said where it is known.
func TestDetectSaysWhyNot(t *testing.T) {
	record := `{"timeUnixNano":"1795454351000000000","attributes":[{"key":"http.response.status_code","value":{"intValue":"403"}},{"key":"url.path","value":{"stringValue":"/x"}}]}`
	for _, c := range []struct {
		line string
		want error
	}{
		{`{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + record + `,` + record + `]}]}]}`, ErrRecords},
		{"a=\x01", ErrBinary},
		{"\xff\xfea\x00", ErrUTF16},
	} {
		if _, _, err := Detect([][]byte{[]byte(c.line)}, "x.log"); !errors.Is(err, c.want) || !errors.Is(err, ErrUnknownFormat) {
			t.Errorf("%q: %v, want %v", c.line, err, c.want)
		}
	}
}

// A shipper's message is taken for the line only where it is one, and the object
// around it no request of its own.
func TestDetectShipper(t *testing.T) {
	line := `203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET /a HTTP/1.1" 403 153 "-" "x"`
	for _, c := range []struct{ name, line, want, wrapper string }{
		{"Filebeat", `{"@timestamp":"2026-11-14T10:12:14Z","agent":{"type":"filebeat"},"message":` + quoteJSON(line) + `}`, "nginx", "shipper"},
		{"Fluent Bit", `{"date":1794651134.5,"log":` + quoteJSON(line+"\n") + `,"kubernetes":{"pod_name":"web"}}`, "nginx", "shipper"},
		{"Docker", `{"log":` + quoteJSON(line+"\n") + `,"stream":"stdout","time":"2026-11-14T10:12:14Z"}`, "nginx", "docker"},
		{"Cloud Logging", `{"insertId":"a","textPayload":` + quoteJSON(line) + `,"timestamp":"2026-11-14T10:12:14Z"}`, "nginx", "shipper"},
		{"JSON in JSON", `{"message":"{\"status\":403,\"path\":\"/a\"}","timestamp":"2026-11-14T10:12:14Z"}`, "json", "shipper"},
		{"syslog in JSON", `{"message":"Nov 14 10:12:13 lb haproxy[7]: 203.0.113.5:4 [14/Nov/2026:10:12:13.000] www app/s1 0/0/0/1/1 403 1 - - ---- 1/1/0/0/0 0/0 \"GET /a HTTP/1.1\""}`, "haproxy", "shipper"},
		{"an application's requests have messages", `{"status":403,"path":"/a","message":` + quoteJSON(line) + `}`, "json", "none"},
		{"an application's messages have pairs", `{"level":"info","message":"cache size=3 hits=9"}`, "json", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := [][]byte{[]byte(c.line), []byte(c.line)}
			got, why, err := Detect(lines, "a.log")
			if err != nil || got.Format != c.want || got.wrapper() != c.wrapper {
				t.Fatalf("%+v (%s) %v", got, why, err)
			}
			if c.wrapper == "none" {
				return
			}
			p, err := New(got)
			if err != nil {
				t.Fatal(err)
			}
			var e event.Event
			e.Reset()
			if err := p.Parse(lines[0], &e); err != nil || e.Status != 403 || string(e.Path) != "/a" || e.Time == event.NoTime {
				t.Errorf("%s %v", show(&e), err)
			}
		})
	}
}

// TestPathNames: a path is a hint at a server only where it names it.
func TestPathNames(t *testing.T) {
	for path, want := range map[string]bool{
		"/var/log/nginx/access.json":   true,
		"/logs/nginx-1.26/access.json": true,
		"nginx/access.json":            true,
		"/logs/shop.nginx.json":        true,
		"C:\\logs\\nginx\\access.json": true,
		"/logs/behind-nginx/app.jsonl": false,
		"/logs/app.jsonl":              false,
	} {
		if got := pathNames(path, "nginx"); got != want {
			t.Errorf("%s names nginx: %v, want %v", path, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	line := [][]byte{[]byte(`{"status":403,"path":"/a","who":{"role":"x"}}`)}
	c, why, err := Config{Mapping: map[string]string{"role": "who.role"}, Timezone: "+01:00"}.Resolve(line, "app.log")
	if err != nil || c.Format != "json" || c.Mapping["role"] != "who.role" || c.Timezone != "+01:00" {
		t.Errorf("%+v %s %v", c, why, err)
	}
	// A format that is set is not questioned.
	if c, _, err := (Config{Format: "nginx"}).Resolve(line, "app.log"); err != nil || c.Format != "nginx" {
		t.Errorf("%+v %v", c, err)
	}
	if c, _, err := (Config{LogFormat: "$time_local $status"}).Resolve(line, "app.log"); err != nil || c.Auto() {
		t.Errorf("%+v %v", c, err)
	}
	// A mapping that the format cannot serve says why nothing was found.
	lines := [][]byte{[]byte(`203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET /a HTTP/1.1" 403 153 "-" "x"`)}
	_, _, err = Config{Mapping: map[string]string{"role": "who.role"}}.Resolve(lines, "a.log")
	if !errors.Is(err, ErrUnknownFormat) || !strings.Contains(fmt.Sprint(err), "mapping.role") {
		t.Errorf("%v", err)
	}
}

// BenchmarkDetectGarbage is a try at a log of no known format.
func BenchmarkDetectGarbage(b *testing.B) {
	var sample [][]byte
	for range maxSample {
		sample = append(sample, []byte("{ nothing that a server writes } 12 [x] \"y\""))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Detect(sample, ""); err == nil {
			b.Fatal("recognised")
		}
	}
}
