package parsers

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// The tests of this file are of load balancers, CloudFront, AWS WAF and IIS; what
// they make of whole lines is in testdata.

var edgeFormats = []string{familyALB, familyAWSWAF, familyCloudFront, familyGCP, familyIIS, familyS3}

func goldenLines(t testing.TB, format string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + format + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

func TestEdgeNoAllocations(t *testing.T) {
	for _, format := range edgeFormats {
		p, err := New(Config{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		var requests [][]byte
		var e event.Event
		for _, l := range goldenLines(t, format) {
			e.Reset()
			if p.Parse(l, &e) == nil {
				requests = append(requests, l)
			}
		}
		if format == familyIIS { // a log has one header
			requests = requests[:4]
			if p, err = New(Config{Format: format}); err != nil {
				t.Fatal(err)
			}
		}
		if len(requests) < 4 {
			t.Errorf("%s: %d requests", format, len(requests))
		}
		n := testing.AllocsPerRun(50, func() {
			for _, l := range requests {
				e.Reset()
				if err := p.Parse(l, &e); err != nil {
					t.Fatalf("%s: %v", format, err)
				}
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations in %d lines", format, n, len(requests))
		}
	}
}

func TestW3C(t *testing.T) {
	const iis = "2026-11-14 10:12:13 192.0.2.7 GET /a b=c 443 - 203.0.113.5 x - 403 6 5 15"
	for _, c := range []struct {
		name   string
		config Config
		lines  string
		want   string // of the last line
		err    error
	}{
		{name: "default columns without a header", config: Config{Format: "iis"}, lines: iis, want: "time=2026-11-14T10:12:13Z method=GET path=/a?b=c status=403 client=203.0.113.5 cause=acl layer=web agent=x"},
		{name: "a zone", config: Config{Format: "iis", Timezone: "+01:00"}, lines: iis, want: "time=2026-11-14T09:12:13Z …"},
		{name: "columns of the configuration", config: Config{Format: "iis", LogFormat: "#Fields: date time sc-status cs-uri-stem"}, lines: "2026-11-14 10:12:13 200 /a", want: "time=2026-11-14T10:12:13Z path=/a status=200"},
		{name: "a column more than expected", config: Config{Format: "iis"}, lines: iis + " more", want: "time=2026-11-14T10:12:13Z …"},
		{name: "a column more than expected, and one is mapped", config: Config{Format: "iis", Mapping: map[string]string{"plan": "X-Tier"}}, lines: iis + " more", err: ErrMismatch},
		{name: "other columns than expected", config: Config{Format: "iis"}, lines: "2026-11-14 10:12:13 a b c d e f g h i j k l m n o p", err: ErrMismatch},
		{name: "mapped", config: Config{Format: "iis", Mapping: map[string]string{"client": "X-Forwarded-For", "plan": "X-Tier", "cause": "X-Why"}}, lines: "#Fields: date time c-ip sc-status sc-substatus X-Forwarded-For X-Tier X-Why\n2026-11-14 10:12:13 192.0.2.7 403 0 203.0.113.5 pro no_seat", want: "time=2026-11-14T10:12:13Z status=403 client=203.0.113.5 plan=pro cause=no_seat layer=app"},
		{name: "a header of another server", config: Config{Format: "iis"}, lines: "#Fields: date time x-edge-location", err: ErrMismatch},
		{name: "a header", config: Config{Format: "cloudfront"}, lines: "#Version: 1.0", err: ErrHeader},
		{name: "a bad time", config: Config{Format: "iis"}, lines: "2026-11-14 10:12:73 192.0.2.7 GET /a b=c 443 - 203.0.113.5 x - 403 6 5 15", err: ErrTime},
		{name: "a long time", config: Config{Format: "iis"}, lines: "2026-11-14 10:12:13.000000000000000 192.0.2.7 GET /a b=c 443 - 203.0.113.5 x - 403 6 5 15", err: ErrTime},
		{name: "a bad status", config: Config{Format: "iis"}, lines: "2026-11-14 10:12:13 192.0.2.7 GET /a b=c 443 - 203.0.113.5 x - 4o3 6 5 15", err: ErrStatus},
		{name: "no date", config: Config{Format: "iis", LogFormat: "time sc-status"}, lines: "10:12:13 200", err: ErrTime},
		{name: "the day of a header", config: Config{Format: "iis", LogFormat: "time sc-status"}, lines: "#Date: 2026-11-14 00:00:00\n10:12:13.5 200\r", want: "time=2026-11-14T10:12:13.5Z status=200"},
		{name: "a number for the time", config: Config{Format: "cloudfront", LogFormat: "timestamp(ms) sc-status cs-method"}, lines: "1794651133500\t000\tGET", want: "time=2026-11-14T10:12:13.5Z method=GET"},
		{name: "a function's answer", config: Config{Format: "cloudfront", LogFormat: "date time sc-status x-edge-result-type"}, lines: "2026-11-14\t10:12:13\t403\tFunctionGeneratedResponse", want: "time=2026-11-14T10:12:13Z status=403 cause=edge_function layer=edge"},
		{name: "nothing", config: Config{Format: "cloudfront"}, err: ErrShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := New(c.config)
			if err != nil {
				t.Fatal(err)
			}
			var e event.Event
			for l := range strings.SplitSeq(c.lines, "\n") {
				e.Reset()
				err = p.Parse([]byte(l), &e)
			}
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && !matches(show(&e), c.want) {
				t.Errorf("\n got %s\nwant %s", show(&e), c.want)
			}
		})
	}
}

func TestEdgeLines(t *testing.T) {
	const alb = `http 2026-11-14T10:12:13.186641Z app/a/b 203.0.113.5:2817 192.0.2.7:80 0 0 0 403 - 34 366 `
	for _, c := range []struct {
		name   string
		config Config
		line   string
		want   string
		err    error
	}{
		{name: "ALB, cut off before the request", config: Config{Format: "alb"}, line: alb, err: ErrShort},
		{name: "ALB, cut off in the request", config: Config{Format: "alb"}, line: alb + `"GET http://shop.example:80/a HT`, want: "… status=403 …"},
		{name: "ALB, no request", config: Config{Format: "alb"}, line: alb + `GET`, err: ErrMismatch},
		{name: "ALB, bad time", config: Config{Format: "alb"}, line: `http 2026-11-34T10:12:13.186641Z app/a/b`, err: ErrTime},
		{name: "ALB, bad status", config: Config{Format: "alb"}, line: strings.Replace(alb, "403", "4x3", 1) + `"GET http://shop.example:80/a HTTP/1.1" "x"`, err: ErrStatus},
		{name: "ALB, another log", config: Config{Format: "alb"}, line: `203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET / HTTP/1.1" 403 1`, err: ErrMismatch},
		{name: "ALB, nothing", config: Config{Format: "alb"}, err: ErrMismatch},
		{name: "ALB, IPv6 host", config: Config{Format: "alb"}, line: alb + `"GET http://[2001:db8::1]:80/a?b HTTP/1.1" "x"`, want: "… host=[2001:db8::1] method=GET path=/a?b …"},
		{name: "WAF, mapped headers", config: Config{Format: "awswaf", Mapping: map[string]string{"role": "httpRequest.headers.X-User-Role", "user": "httpRequest.headers.x-user", "account": "httpSourceId"}},
			line: `{"timestamp":1794651133123,"webaclId":"a","action":"ALLOW","httpSourceId":"acct","httpRequest":{"clientIp":"203.0.113.5","headers":[{"value":"no name"},{"name":"x-user-role","value":"owner,editor"},{"name":"X-USER","value":"u1"},{"name":"HOST","value":"shop.example"}],"uri":"/a","httpMethod":"GET"}}`,
			want: "time=2026-11-14T10:12:13.123Z host=shop.example method=GET path=/a client=203.0.113.5 user?=u1 account=acct role=owner role=editor"},
		{name: "WAF, another object", config: Config{Format: "awswaf"}, line: `{"timestamp":1794651133123,"action":"BLOCK"}`, err: ErrSkip},
		{name: "GCP, mapped", config: Config{Format: "gcp", Mapping: map[string]string{"service": "resource.labels.backend_service_name"}}, line: string(goldenLines(t, "gcp")[0]), want: "… service=web …"},
		{name: "GCP, broken", config: Config{Format: "gcp"}, line: `{"httpRequest":{"status":403}`, err: ErrSyntax},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOnce(c.config, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && !matches(got, c.want) {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestFixedFamiliesValidate(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Format: "cloudflare", LogFormat: "x"}, "log_format: means nothing with format cloudflare"},
		{Config{Format: "cloudflare", Mapping: map[string]string{"role": "RequestHeaders."}}, "mapping.role: "},
		{Config{Format: "cloudflare", Mapping: map[string]string{"rolle": "RequestHeaders.x-role"}}, `did you mean "role"?`},
		{Config{Format: "alb", Mapping: map[string]string{"role": "x"}}, "mapping.role: format alb has no fields that could be mapped"},
		{Config{Format: "iis", LogFormat: "date time"}, "log_format: "},
	} {
		ps := c.config.Validate()
		if len(ps) != 1 || !strings.Contains(ps[0].Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.config, ps, c.want)
		}
	}
	for _, format := range append(edgeFormats, familyCloudflare) {
		f, err := Compile(Config{Format: format})
		if err != nil {
			t.Error(err)
			continue
		}
		want := event.Edge
		if format == familyIIS {
			want = event.Web
		}
		if f.Vantage() != want {
			t.Errorf("%s: vantage %v", format, f.Vantage())
		}
	}
}

// A log of many JSON objects that are no edge's is not taken for one.
func TestEdgeNotDetected(t *testing.T) {
	for _, l := range []string{
		`{"timestamp":"2026-11-14T10:12:13Z","status":403,"path":"/a","action":"deny"}`,
		`{"time":"2026-11-14T10:12:13Z","httpRequest":{"status":403,"requestUrl":"/a"}}`,
		`{"Action":"login","RayID":"1","status":403,"path":"/a"}`,
	} {
		c, why, err := Detect([][]byte{[]byte(l), []byte(l)}, "app.log")
		if err != nil || c.Format != familyJSON {
			t.Errorf("%s: %+v %s %v", l, c, why, err)
		}
	}
}

func TestCorpusOtherEdges(t *testing.T) {
	families := map[string]string{"aws_alb": familyALB, "aws_cloudfront": familyCloudFront, "iis_w3c": familyIIS, "aws_waf": familyAWSWAF, "gcp_lb": familyGCP}
	parsers := map[string]Parser{}
	for _, f := range families {
		p, err := New(Config{Format: f})
		if err != nil {
			t.Fatal(err)
		}
		parsers[f] = p
	}
	checked := 0
	for _, l := range readLines(t, corpus(t, "captures", "synthetic", "other_formats.labelled.jsonl")) {
		var x struct {
			Format, Case, Line string
			Expect             struct {
				Status   uint16
				Upstream *uint16 `json:"upstream_status"`
				Layer    string
				Cause    string
				Rule     string
				Path     string
				Host     string
				Client   string `json:"client_ip"`
			}
		}
		if err := json.Unmarshal(l, &x); err != nil {
			t.Fatal(err)
		}
		p, ok := parsers[families[x.Format]]
		if !ok {
			continue
		}
		checked++
		var e event.Event
		for line := range strings.SplitSeq(x.Line, "\n") {
			e.Reset()
			if err := p.Parse([]byte(line), &e); (x.Case == "header") != errors.Is(err, ErrSkip) || err != nil && x.Case != "header" {
				t.Errorf("%s %s: %v", x.Format, x.Case, err)
			}
		}
		if x.Case == "header" {
			continue
		}
		path, _, _ := strings.Cut(string(e.Path), "?")
		w := x.Expect
		layer := e.Layer.String()
		switch {
		case w.Layer == "cache", strings.HasPrefix(w.Layer, "unknown"):
			w.Layer = "unknown"
		case w.Layer == "": // IIS: the substatus tells
			w.Layer = layer
		}
		switch {
		case w.Cause == "none", w.Cause == "unknown", w.Cause == "" && len(e.Cause) == 0:
			w.Cause = ""
		case w.Cause == "":
			w.Cause = map[string]string{"backend_403": "app_policy", "cache_403": "cached_denial"}[x.Case]
		}
		got := []any{e.Status, layer, string(e.Cause)}
		want := []any{w.Status, w.Layer, w.Cause}
		if x.Case == "malformed" {
			want[1] = "edge"
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s %s: %v, want %v", x.Format, x.Case, got, want)
				break
			}
		}
		if w.Upstream != nil && (e.Upstream != event.UpstreamAnswered || e.UpstreamStatus != *w.Upstream) ||
			w.Path != "" && path != w.Path || w.Host != "" && string(e.Host) != w.Host ||
			w.Client != "" && string(e.Client) != w.Client || w.Rule != "" && string(e.Rule) != w.Rule {
			t.Errorf("%s %s: %s", x.Format, x.Case, show(&e))
		}
		if at := time.Unix(0, e.Time).UTC(); at.Year() != 2026 || at.Month() != 11 || at.Day() != 23 {
			t.Errorf("%s %s: %v", x.Format, x.Case, at)
		}
		if x.Case == "malformed" && (len(e.Method) > 0 || len(e.Path) > 0) {
			t.Errorf("%s: %q %q", x.Case, e.Method, e.Path)
		}
	}
	if checked != 21 {
		t.Errorf("%d lines checked, want 21", checked)
	}
}

func TestCorpusALB(t *testing.T) {
	p, err := New(Config{Format: "alb"})
	if err != nil {
		t.Fatal(err)
	}
	lines := readLines(t, corpus(t, "suites", "vrl", "parse_aws_alb_log.cases.jsonl"))
	for _, l := range lines {
		var x struct {
			Case, Result string
			Args         struct{ Value string }
		}
		if err := json.Unmarshal(l, &x); err != nil {
			t.Fatal(err)
		}
		var e event.Event
		e.Reset()
		if err := p.Parse([]byte(x.Args.Value), &e); err != nil || x.Result != "ok" {
			t.Errorf("%s: %v, want %s", x.Case, err, x.Result)
			continue
		}
		// The suite has no values: they are compared with the columns.
		cols := strings.Fields(x.Args.Value)
		at, err := time.Parse(time.RFC3339, cols[1])
		if err != nil {
			t.Fatal(err)
		}
		client := cols[3][:strings.LastIndexByte(cols[3], ':')]
		if e.Time != at.UnixNano() || string(e.Client) != client || itoa(e.Status) != cols[8] ||
			(cols[9] == "-") != (e.Upstream == event.UpstreamNone) || cols[9] != "-" && itoa(e.UpstreamStatus) != cols[9] {
			t.Errorf("%s: %s", x.Case, show(&e))
		}
		if x.Case != "nine" && (len(e.Path) == 0 || e.Path[0] != '/' || len(e.Method) == 0 || len(e.Host) == 0) {
			t.Errorf("%s: %s", x.Case, show(&e))
		}
	}
	if len(lines) != 11 {
		t.Errorf("%d cases, want 11", len(lines))
	}
}

func fuzzFormat(f *testing.F, format string) {
	for _, l := range goldenLines(f, format) {
		f.Add(l)
	}
	p, err := New(Config{Format: format})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line []byte) { checkParse(t, p, line) })
}

func FuzzALB(f *testing.F)        { fuzzFormat(f, familyALB) }
func FuzzAWSWAF(f *testing.F)     { fuzzFormat(f, familyAWSWAF) }
func FuzzCloudFront(f *testing.F) { fuzzFormat(f, familyCloudFront) }
func FuzzGCP(f *testing.F)        { fuzzFormat(f, familyGCP) }
func FuzzS3(f *testing.F)         { fuzzFormat(f, familyS3) }
func FuzzIIS(f *testing.F)        { fuzzFormat(f, familyIIS) }
