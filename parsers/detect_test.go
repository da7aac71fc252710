package parsers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
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
		{"logfmt", "app.log", repeat(3, `time=2026-11-14T10:12:13Z status=403 path=/a`), "logfmt/", "key=value pairs"},
		{"logfmt of nginx", "a.log", repeat(3, `time=1794651133.001 status=403 request="GET /a HTTP/1.1" upstream_status="-"`), "nginx/logfmt", "field names of nginx"},
		{"logfmt of nginx by its path", "/var/log/nginx/access.log", repeat(3, `time=1794651133.001 status=403 request="GET /a HTTP/1.1"`), "nginx/logfmt", "its path names nginx"},
		{"logfmt that looks like combined", "a.log", repeat(3, `status=403 path=/a msg="`+"x"+`" ref="GET /a HTTP/1.1"`), "logfmt/", ""},
		{"Caddy beside its other loggers", "a.log", append(repeat(2, `{"level":"info","logger":"tls","msg":"x"}`), `{"level":"error","ts":1795454351.3,"logger":"http.log.access.log0","request":{"method":"GET","uri":"/a"},"status":403}`), "caddy/", "Caddy"},
		{"an app whose JSON is not Caddy's", "a.log", append(repeat(3, `{"status":403,"path":"/a"}`), `{"logger":"http.log.access","status":403,"path":"/a"}`), "json/", "JSON objects"},
		{"Traefik", "a.log", repeat(3, combined+` 12 "app@docker" "http://10.4.0.7:80" 3ms`), "traefik/", "Traefik"},
		{"Envoy", "a.log", repeat(3, `[2026-11-14T10:12:13.000Z] "GET /a HTTP/1.1" 403 - 0 19 0 - "203.0.113.5" "x" "id" "shop.example" "-"`), "envoy/", "Envoy"},
		{"HAProxy", "a.log", repeat(3, `203.0.113.5:4 [14/Nov/2026:10:12:13.000] www app/s1 0/0/0/1/1 403 1 - - ---- 1/1/0/0/0 0/0 "GET /a HTTP/1.1"`), "haproxy/", "HAProxy"},
		{"mostly", "a.log", append(repeat(7, combined), "starting", "", "\r", "stopping"), "nginx/combined", "7 of the first 9 lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sample [][]byte
			for _, l := range c.lines {
				sample = append(sample, []byte(l))
			}
			got, why, err := Detect(sample, c.path)
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
