package parsers

import (
	"fmt"
	"testing"

	"github.com/valyala/fastjson"

	"github.com/denywatch/denywatch/internal/event"
)

// stream is a log of many lines: clients, paths and times change as in life.
func stream(format string) [][]byte {
	var lines [][]byte
	for i := range 512 {
		ip := fmt.Sprintf("198.51.%d.%d", i%7, i%251)
		path := fmt.Sprintf("/api/v1/projects/%d/exports/%d?page=%d&sort=name", i*7919, i, i%9)
		status := 200
		if i%31 == 0 {
			status = 403
		}
		ua := "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
		ref := "https://shop.example.com/projects/overview"
		sec := i / 40
		var l string
		switch format {
		case "combined":
			l = fmt.Sprintf(`%s - - [14/Nov/2026:10:12:%02d +0000] "GET %s HTTP/1.1" %d %d "%s" "%s"`, ip, sec, path, status, 300+i, ref, ua)
		case "custom":
			l = fmt.Sprintf(`%s - u%d [14/Nov/2026:10:12:%02d +0000] "GET %s HTTP/1.1" %d %d "%s" "%s" rt=0.0%d us="%d" role="editor"`, ip, i, sec, path, status, 300+i, ref, ua, i%10, status)
		case "nginxjson":
			l = fmt.Sprintf(`{"time":"2026-11-14T10:12:%02d+00:00","host":"shop.example.com","method":"GET","uri":"%s","status":%d,"bytes":%d,"ip":"%s","user":"","us":"%d","ua":"%s","ref":"%s","rid":"%032x"}`, sec, path, status, 300+i, ip, status, ua, ref, i)
		case "ecs":
			l = fmt.Sprintf(`{"@timestamp": "2026-11-14T10:12:%02d.%03dZ", "log.level": "info", "message": "request", "service.name": "web-app", "http.request.method": "GET", "http.request.id": "%032x", "http.response.status_code": %d, "http.response.body.bytes": %d, "url.path": "%s", "url.domain": "shop.example.com", "client.ip": "%s", "source.geo.country_iso_code": "DE", "user.id": "u%d", "organization.id": "acct-%d", "user.roles": ["editor"], "labels.plan": "pro", "feature_flags": ["new_checkout"], "user_agent.original": "%s"}`, sec, i, i, status, 300+i, path, ip, i, i%50, ua)
		case "app":
			query := ""
			if i%2 == 0 {
				query = fmt.Sprintf("page=%d&sort=name", i%9)
			}
			l = fmt.Sprintf(`{"ts":"2026-11-14T10:12:%02d.000Z","level":"info","msg":"request","service":"shop","pod":"shop-5f6b-%d","trace_id":"%032x","http":{"method":"%s","path":"%s","query":"%s","status":%d,"bytes":%d,"ua":"%s"},"duration_ms":%d,"client":{"ip":"%s","country":"%s"},"user":{"id":"u_%d","role":"%s","account":"acct_%d","plan":"%s"}}`, sec, i%5, i*7919, []string{"GET", "POST", "GET", "HEAD"}[i%4], path, query, status, 300+i*i, ua[:len(ua)-i%60], i*i%997, ip, []string{"DE", "US", "JP"}[i%3], i*31, []string{"viewer", "admin", "owner"}[i%3], i%50, []string{"free", "pro", "team"}[i%7%3])
		case "nested":
			l = fmt.Sprintf(`{"ts":1795454351.%03d,"level":"info","msg":"request","service":"api","http":{"request":{"method":"GET","id":"%032x"},"response":{"status_code":%d}},"url":{"path":"%s"},"client":{"ip":"%s","geo":{"country_iso_code":"DE"}},"user":{"id":"u%d","roles":["editor","viewer"]},"plan":"pro"}`, i, i, status, path, ip, i)
		}
		lines = append(lines, []byte(l))
	}
	return lines
}

var streams = []struct {
	name   string
	config Config
}{
	{"combined", Config{Format: "combined"}},
	{"custom", Config{Format: "nginx", LogFormat: nginxCombined + ` rt=$request_time us="$upstream_status" role="$upstream_http_x_role"`}},
	{"nginxjson", Config{Format: "nginx", LogFormat: `escape=json {"time":"$time_iso8601","host":"$host","method":"$request_method","uri":"$request_uri","status":$status,"bytes":$body_bytes_sent,"ip":"$remote_addr","user":"$remote_user","us":"$upstream_status","ua":"$http_user_agent","ref":"$http_referer","rid":"$request_id"}`}},
	{"nginxjson", Config{Format: "nginx", LogFormat: "json"}},
	{"ecs", Config{Format: "json"}},
	{"nested", Config{Format: "json"}},
	{"app", Config{Format: "json"}},
}

func BenchmarkParse(b *testing.B) {
	for _, s := range streams {
		f, err := Compile(s.config)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name+"/"+f.String(), func(b *testing.B) {
			lines := stream(s.name)
			p := f.New()
			var e event.Event
			size := 0
			for _, l := range lines {
				size += len(l)
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

func TestNoAllocations(t *testing.T) {
	for _, s := range streams {
		p, err := New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		lines := stream(s.name)
		var e event.Event
		parse := func() {
			for i, l := range lines {
				e.Reset()
				if err := p.Parse(l, &e); err != nil {
					t.Fatalf("%s: line %d: %v", s.name, i, err)
				}
				if e.Time == event.NoTime || e.Status == 0 || len(e.Path) == 0 || len(e.Client) == 0 {
					t.Fatalf("%s: line %d: %+v", s.name, i, e)
				}
			}
		}
		parse() // memos and lists find their size
		if n := testing.AllocsPerRun(10, parse); n != 0 {
			t.Errorf("%s: %v allocations in %d lines", s.name, n, len(lines))
		}
	}
}

// BenchmarkGeneralDecoder is what the json format would cost with the fastest
// general decoder that does not allocate, before anything is converted.
func BenchmarkGeneralDecoder(b *testing.B) {
	wanted := []string{
		"@timestamp", "service.name", "http.request.method", "http.request.id", "http.response.status_code", "url.path", "url.domain",
		"client.ip", "source.geo.country_iso_code", "user.id", "organization.id", "user.roles", "labels.plan", "feature_flags", "user_agent.original",
	}
	lines := stream("ecs")
	var p fastjson.Parser
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		v, err := p.ParseBytes(lines[i%len(lines)])
		if err != nil {
			b.Fatal(err)
		}
		for _, w := range wanted {
			if v.Get(w) == nil {
				b.Fatal(w)
			}
		}
		i++
	}
}
