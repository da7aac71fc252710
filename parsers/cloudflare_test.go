package parsers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

// edgeLine renders an object of http_requests with the fields of most Logpush
// jobs; extra replaces and adds fields, and an empty value leaves one out.
func edgeLine(extra ...string) string {
	keys := []string{
		"BotScore", "77", "BotTags", "[]", "CacheCacheStatus", `"dynamic"`, "CacheResponseStatus", "0", "ClientASN", "64500", "ClientCountry", `"de"`,
		"ClientIP", `"203.0.113.5"`, "ClientIPClass", `"noRecord"`, "ClientMTLSAuthStatus", `"unknown"`, "ClientRequestHost", `"shop.example"`,
		"ClientRequestMethod", `"GET"`, "ClientRequestPath", `"/a"`, "ClientRequestReferer", `""`, "ClientRequestSource", `"eyeball"`,
		"ClientRequestURI", `"/a?b=c"`, "ClientRequestUserAgent", `"x/1"`, "Cookies", "{}", "EdgeColoCode", `"TXL"`,
		"EdgeEndTimestamp", `"2026-11-14T10:12:14Z"`, "EdgePathingOp", `"wl"`, "EdgePathingSrc", `"macro"`, "EdgePathingStatus", `"nr"`,
		"EdgeResponseBytes", "812", "EdgeResponseStatus", "200", "EdgeStartTimestamp", `"2026-11-14T10:12:13Z"`, "OriginIP", `"192.0.2.7"`,
		"OriginResponseStatus", "200", "ParentRayID", `"00"`, "RayID", `"8f00aa11bb22cc33"`, "RequestHeaders", "{}", "ResponseHeaders", "{}",
		"SecurityAction", `""`, "SecurityActions", "[]", "SecurityRuleDescription", `""`, "SecurityRuleID", `""`, "SecurityRuleIDs", "[]", "SecuritySources", "[]",
		"WorkerStatus", `"unknown"`, "WorkerSubrequest", "false", "ZoneName", `"example"`,
	}
	for i := 0; i < len(extra); i += 2 {
		found := false
		for k := 0; k < len(keys); k += 2 {
			if keys[k] == extra[i] {
				keys[k+1], found = extra[i+1], true
			}
		}
		if !found {
			keys = append(keys, extra[i], extra[i+1])
		}
	}
	var b strings.Builder
	for k := 0; k < len(keys); k += 2 {
		if keys[k+1] == "" {
			continue
		}
		fmt.Fprintf(&b, ",%q:%s", keys[k], keys[k+1])
	}
	return "{" + b.String()[1:] + "}"
}

// blocked is edgeLine for a request that a security feature refused.
func blocked(action, source, rule string, extra ...string) string {
	return edgeLine(append([]string{
		"EdgeResponseStatus", "403", "OriginResponseStatus", "0", "OriginIP", `""`, "SecurityActions", `["` + action + `"]`,
		"SecuritySources", `["` + source + `"]`, "SecurityRuleIDs", `["` + rule + `"]`,
	}, extra...)...)
}

var cloudflareCases = []struct {
	name, line string
	mapping    map[string]string
	want       string // behind the common part
	err        error
	whole      bool // want is all of it
}{
	{name: "let in", line: edgeLine(), want: "status=200 upstream=200 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 agent=x/1"},
	{name: "refused by a managed rule", line: blocked("block", "firewallManaged", "r1"), want: "status=403 upstream=none client=203.0.113.5 geo=de id=8f00aa11bb22cc33 cause=waf rule=r1 layer=edge denial=refused agent=x/1"},
	{name: "refused by a custom rule", line: blocked("block", "firewallCustom", "r2"), want: "… cause=acl rule=r2 layer=edge denial=refused …"},
	{name: "a custom rule about certificates", line: blocked("block", "firewallCustom", "r3", "ClientMTLSAuthStatus", `"expired"`), want: "… cause=client_cert …"},
	{name: "a custom rule about Tor", line: blocked("block", "firewallCustom", "r3", "ClientIPClass", `"tor"`, "ClientCountry", `"t1"`), want: "… geo=t1 id=8f00aa11bb22cc33 cause=geo …"},
	{name: "a country rule", line: blocked("block", "country", "kp"), want: "… cause=geo …"},
	{name: "a challenge", line: blocked("managedChallenge", "firewallCustom", "r4"), want: "… cause=challenge rule=r4 layer=edge denial=soft …"},
	{name: "a challenge under another status", line: blocked("jschallenge", "botFight", "r4", "EdgeResponseStatus", "429"), want: "status=429 … cause=challenge … denial=soft …"},
	{name: "a failed challenge", line: blocked("challengeFailed", "firewallRules", "r4"), want: "… denial=soft …"},
	{name: "lists of one without their actions", line: edgeLine("EdgeResponseStatus", "429", "OriginResponseStatus", "0", "SecurityAction", `"block"`, "SecurityActions", "", "SecuritySources", `["rateLimit"]`, "SecurityRuleIDs", `["r5"]`), want: "… cause=rate_limit rule=r5 layer=edge denial=refused …"},
	{name: "only the single action", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "SecurityAction", `"managed_challenge"`, "SecurityRuleID", `"r5"`), want: "… cause=challenge rule=r5 layer=edge denial=soft …"},
	{name: "a block beside a log", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "SecurityActions", `["log","block","skip"]`, "SecuritySources", `["firewallCustom","rateLimit","firewallManaged"]`, "SecurityRuleIDs", `["l","rl","s"]`), want: "… cause=rate_limit rule=rl layer=edge denial=refused …"},
	{name: "the connection was closed", line: blocked("connectionClose", "l7ddos", "d", "EdgeResponseStatus", "0"), want: "upstream=none … cause=l7ddos rule=d layer=edge denial=refused …"},
	{name: "a challenge that was solved", line: edgeLine("SecurityActions", `["managedChallengeNonInteractiveSolved"]`, "SecuritySources", `["firewallCustom"]`, "SecurityRuleIDs", `["r"]`), want: "status=200 upstream=200 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 agent=x/1"},
	{name: "old names", line: `{"ClientIP":"203.0.113.5","ClientRequestURI":"/a?b=c","ClientRequestHost":"shop.example","ClientRequestMethod":"GET","EdgeResponseStatus":403,"OriginResponseStatus":0,"EdgeStartTimestamp":1794651133000000000,"WAFAction":"drop","WAFRuleID":"100","FirewallMatchesActions":[],"FirewallMatchesSources":[],"FirewallMatchesRuleIDs":[]}`, want: "status=403 upstream=none client=203.0.113.5 cause=edge_block rule=100 layer=edge denial=refused"},
	{name: "old lists", line: `{"ClientIP":"203.0.113.5","ClientRequestURI":"/a?b=c","ClientRequestHost":"shop.example","ClientRequestMethod":"GET","EdgeResponseStatus":403,"OriginResponseStatus":0,"EdgeStartTimestamp":"1794651133","FirewallMatchesActions":["simulate","block"],"FirewallMatchesSources":["firewallRules","zoneLockdown"],"FirewallMatchesRuleIDs":["a","b"]}`, want: "status=403 upstream=none client=203.0.113.5 cause=acl rule=b layer=edge denial=refused"},
	{name: "the origin refused", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "403", "CacheResponseStatus", "403"), want: "status=403 upstream=403 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 agent=x/1"},
	{name: "the cache repeats a refusal", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "CacheCacheStatus", `"hit"`), want: "status=403 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 cause=cached_denial agent=x/1"},
	{name: "a worker answered", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "WorkerStatus", `"ok"`), want: "… upstream=none … cause=worker layer=edge …"},
	{name: "the zone's own configuration", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "EdgePathingSrc", `"err"`, "EdgePathingOp", `"errHost"`), want: "… cause=edge_config layer=edge …"},
	{name: "a ban of before the security fields", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0", "EdgePathingSrc", `"user"`, "EdgePathingOp", `"ban"`, "EdgePathingStatus", `"ctry"`), want: "… cause=geo layer=edge denial=refused …"},
	{name: "masked by the edge", line: edgeLine("OriginResponseStatus", "403"), want: "status=200 upstream=403 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 cause=masked layer=edge denial=masked agent=x/1"},
	{name: "masked as not found", line: edgeLine("EdgeResponseStatus", "404", "OriginResponseStatus", "403"), want: "status=404 upstream=403 … denial=masked …"},
	{name: "nothing to tell by", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "null", "CacheCacheStatus", ""), want: "status=403 client=203.0.113.5 geo=de id=8f00aa11bb22cc33 agent=x/1"},
	{name: "no other explanation", line: edgeLine("EdgeResponseStatus", "403", "OriginResponseStatus", "0"), want: "status=403 upstream=none client=203.0.113.5 geo=de id=8f00aa11bb22cc33 layer=edge agent=x/1"},
	{name: "a worker's own request", line: edgeLine("ClientRequestSource", `"edgeWorkerFetch"`), err: ErrSubrequest},
	{name: "a request with a parent", line: edgeLine("ParentRayID", `"8f00aa11bb22cc00"`), err: ErrSubrequest},
	{name: "a worker's sub-request", line: edgeLine("WorkerSubrequest", "true"), err: ErrSubrequest},
	{name: "through a customer's zone", line: edgeLine("ClientRequestSource", `"orangeToOrange"`), want: "status=200 …"},
	{name: "no parent", line: edgeLine("ParentRayID", "null", "ClientRequestSource", "null"), want: "status=200 …"},
	{name: "sampled", line: edgeLine("SampleInterval", "10"), want: "… weight=10 …"},
	{name: "the application says who it was", line: edgeLine("ResponseHeaders", `{"x-user-role":"editor","x-plan":"pro"}`, "RequestHeaders", `{"x-user-role":"owner","x-account-id":"o1","x-user-id":"u1"}`, "Cookies", `{"plan":"free"}`), want: "status=200 upstream=200 client=203.0.113.5 user?=u1 account=o1 role=editor plan=pro geo=de id=8f00aa11bb22cc33 agent=x/1"},
	{name: "mapped", line: edgeLine("RequestHeaders", `{"x-rank":"owner"}`, "Cookies", `{"who":"u\"1"}`), mapping: map[string]string{"role": "RequestHeaders.x-rank", "user": "Cookies.who", "service": "ZoneName"}, want: `status=200 upstream=200 client=203.0.113.5 user="u\"1" role=owner geo=de id=8f00aa11bb22cc33 agent=x/1`},
	{name: "no time", line: edgeLine("EdgeStartTimestamp", "null", "EdgeEndTimestamp", ""), err: ErrTime},
	{name: "cut off", line: edgeLine()[:200], err: ErrSyntax},
	{name: "another object", line: `{"status":403,"path":"/a"}`, err: ErrMismatch},
	{name: "text", line: "hello", err: ErrNotObject},
	{name: "the test of a Logpush job", line: `{"content":"tests"}`, err: ErrSetup},
	{
		name: "an event of a firewall", whole: true,
		line: `{"Action":"block","Source":"ratelimit","RuleID":"rl","EdgeResponseStatus":429,"OriginResponseStatus":0,"ClientIP":"203.0.113.5","ClientCountry":"xx","ClientRequestHost":"shop.example","ClientRequestMethod":"POST","ClientRequestPath":"/a","ClientRequestQuery":"?b=c","ClientRequestUserAgent":"x","Datetime":"2026-11-14T10:12:13Z","RayID":"8f","MatchIndex":0,"Kind":"firewall","Metadata":{"a":"b"}}`,
		want: `time=2026-11-14T10:12:13Z host=shop.example method=POST path=/a?b=c status=429 upstream=none client=203.0.113.5 geo=xx id=8f cause=rate_limit rule=rl layer=edge denial=refused cause_only agent=x`,
	}, {
		name: "an event of a firewall that ended nothing", whole: true,
		line: `{ "Datetime" : 1794651133 , "Action" : "managedchallengebypassed" , "Source" : "firewallcustom" , "RayID" : "8f" , "EdgeResponseStatus" : 200 , "MatchIndex" : 0 }`,
		want: `time=2026-11-14T10:12:13Z status=200 id=8f cause_only`,
	}, {
		name: "an event of a firewall before the last", whole: true,
		line: `{"Datetime":"2026-11-14T10:12:13Z","Action":"block","Source":"waf","RayID":"8f","EdgeResponseStatus":403,"MatchIndex":1}`,
		want: `time=2026-11-14T10:12:13Z status=403 id=8f cause_only`,
	},
}

// matches compares with a text in which "…" stands for anything.
func matches(got, want string) bool {
	parts := strings.Split(want, "…")
	for i, part := range parts {
		k := strings.Index(got, part)
		if k < 0 || i == 0 && k > 0 {
			return false
		}
		got = got[k+len(part):]
	}
	return parts[len(parts)-1] == "" || got == ""
}

func TestCloudflare(t *testing.T) {
	const common = "time=2026-11-14T10:12:13Z host=shop.example method=GET path=/a?b=c "
	for _, c := range cloudflareCases {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOnce(Config{Format: "cloudflare", Mapping: c.mapping}, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			if !c.whole {
				var ok bool
				if c.mapping["service"] != "" {
					got = strings.TrimPrefix(strings.Replace(got, " service=example", "", 1), " ")
				}
				if got, ok = strings.CutPrefix(got, common); !ok {
					t.Fatalf("%s", got)
				}
			}
			if !matches(got, c.want) {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// What is remembered of earlier lines never decides: in any order, lines
// of many shapes give what they give alone.
func TestCloudflareInAnyOrder(t *testing.T) {
	var lines, want []string
	add := func(l string) {
		got, err := parseOnce(Config{Format: "cloudflare"}, l)
		lines, want = append(lines, l), append(want, fmt.Sprint(got, err))
	}
	for _, c := range cloudflareCases {
		if c.mapping == nil {
			add(c.line)
		}
	}
	for i := range 40 {
		long := strings.Repeat("x", i*7)
		add(edgeLine("ClientRequestReferer", `"`+long+`"`, "ClientRequestUserAgent", `"\"`+long+`\\"`))
		add(edgeLine("EdgeResponseBytes", strings.Repeat("9", 1+i%9), "ClientRequestURI", `"/`+long+`"`, "RequestHeaders", `{"x-user-role":"r`+long+`"}`))
		add(edgeLine("ClientRequestURI", `""`, "EdgeStartTimestamp", `"2026-11-14T10:12:13.5Z"`))
		add(edgeLine("ClientRequestURI", "", "EdgeStartTimestamp", "", "BotTags", `["a","b"]`))
		add(edgeLine("ClientRequestReferer", `",\"ParentRayID\":\"x\","`, "ParentRayID", ""))
		add(strings.ReplaceAll(edgeLine("Cookies", `{"role":"a"}`), `,"`, ` , "`))
		add(edgeLine("ParentRayID", "", "WorkerSubrequest", "", "ClientRequestSource", ""))
	}
	p, err := New(Config{Format: "cloudflare"})
	if err != nil {
		t.Fatal(err)
	}
	followed := false
	var e event.Event
	for _, step := range []int{1, 3, 7, 11, 1, 1} {
		for i := range lines {
			k := i * step % len(lines)
			for range 1 + k%5 { // so that shapes are learned and used
				e.Reset()
				err := p.Parse([]byte(lines[k]), &e)
				got := ""
				if err == nil {
					got = show(&e)
				}
				if got = fmt.Sprint(got, err); got != want[k] {
					t.Fatalf("%s:\n got %s\nwant %s", lines[k], got, want[k])
				}
				for _, l := range p.(*cloudflareParser).path.track {
					followed = followed || l.served > 1
				}
			}
		}
	}
	if !followed {
		t.Error("no line was read by the shape of those before")
	}
}

func TestCorpusCloudflare(t *testing.T) {
	lines := readLines(t, corpus(t, "captures", "synthetic", "cloudflare_http_requests.labelled.jsonl"))
	p, err := New(Config{Format: "cloudflare"})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for _, l := range lines {
			var x struct {
				Case, Layer, Cause string
				Event              json.RawMessage
			}
			if err := json.Unmarshal(l, &x); err != nil {
				t.Fatal(err)
			}
			line := []byte(x.Event)
			if round > 0 {
				var b bytes.Buffer
				if err := json.Compact(&b, x.Event); err != nil {
					t.Fatal(err)
				}
				line = b.Bytes()
			}
			var e event.Event
			e.Reset()
			err := p.Parse(line, &e)
			if x.Case == "worker_subrequest_origin_403" {
				if !errors.Is(err, ErrSubrequest) {
					t.Errorf("%s: %v", x.Case, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", x.Case, err)
				continue
			}
			got := [2]string{e.Layer.String(), string(e.Cause)}
			want := [2]string{x.Layer, x.Cause}
			switch x.Layer {
			case "origin": // the vantage cannot tell its web server from the application
				want[0] = "unknown"
				if e.Upstream != event.UpstreamAnswered || e.UpstreamStatus != e.Status {
					t.Errorf("%s: upstream %d %d", x.Case, e.Upstream, e.UpstreamStatus)
				}
			case "cache(origin earlier)":
				want[0] = "unknown"
			case "edge_worker":
				want[0] = "edge"
			}
			if x.Cause == "none" || x.Cause == "app_or_web" {
				want[1] = ""
			}
			if got != want {
				t.Errorf("%s: %q, want %q", x.Case, got, want)
			}
			if soft := x.Cause == "challenge"; soft != (e.Denial == event.Soft) {
				t.Errorf("%s: class %v", x.Case, e.Denial)
			}
			if e.Time/1e9 < 1795454400 || e.Time/1e9 > 1795454425 || string(e.Path) != "/a?x=1" || len(e.RequestID) != 16 {
				t.Errorf("%s: %s", x.Case, show(&e))
			}
		}
	}
	if len(lines) != 25 {
		t.Errorf("%d lines, want 25", len(lines))
	}
	want := []string{
		"waf refused", "challenge soft", "challenge soft", "challenge soft", " none", " none", " none", " none", " none",
		"rate_limit refused", "l7ddos refused",
	}
	for i, l := range readLines(t, corpus(t, "captures", "synthetic", "cloudflare_firewall_events.ndjson")) {
		var e event.Event
		e.Reset()
		if err := p.Parse(l, &e); err != nil {
			t.Errorf("event %d: %v", i+1, err)
			continue
		}
		if got := string(e.Cause) + " " + e.Denial.String(); i >= len(want) || got != want[i] || !e.CauseOnly {
			t.Errorf("event %d: %s: %s", i+1, got, show(&e))
		}
	}
}

// FuzzCloudflare compares a parser with a past with one without.
func FuzzCloudflare(f *testing.F) {
	for _, c := range cloudflareCases {
		f.Add([]byte(c.line))
	}
	format, err := Compile(Config{Format: "cloudflare"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		fresh, used := format.New(), format.New()
		checkParse(t, fresh, line)
		var e, again event.Event
		for _, l := range []string{edgeLine(), edgeLine(), string(line)} {
			e.Reset()
			_ = used.Parse([]byte(l), &e)
		}
		e.Reset()
		again.Reset()
		err1, err2 := fresh.Parse(line, &e), used.Parse(line, &again)
		if !json.Valid(line) || repeats(line) {
			return
		}
		if !errors.Is(err1, err2) || err1 == nil && show(&e) != show(&again) {
			t.Fatalf("%q:\n%s %v\n%s %v", line, show(&e), err1, show(&again), err2)
		}
	})
}

// repeats tells whether a key stands twice in line, at any depth: which of them
// counts is not promised.
func repeats(line []byte) bool {
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(line))
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		if s, ok := tok.(string); ok {
			if s = fold(s); seen[s] && len(s) > 1 {
				return true
			}
			seen[s] = true
		}
	}
}

// edgeStream is a log in which clients, paths, lengths and times change as in
// life; of 100 requests, four are refused by the edge and six fail at the origin.
func edgeStream() [][]byte {
	var lines [][]byte
	for i := range 512 {
		path := fmt.Sprintf("/api/v1/projects/%d/exports/%d", i*7919, i)
		fields := []string{
			"ClientASN", fmt.Sprint(64500 + i*i), "ClientIP", fmt.Sprintf(`"198.51.%d.%d"`, i%7, i%251), "ClientRequestPath", fmt.Sprintf("%q", path),
			"ClientRequestURI", fmt.Sprintf("%q", fmt.Sprintf("%s?page=%d&sort=name", path, i%9)), "ClientRequestReferer", []string{`"-"`, `"https://shop.example.com/projects/overview"`}[i%2],
			"ClientRequestUserAgent", fmt.Sprintf(`"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36"`, 99+i%40),
			"EdgeResponseBytes", fmt.Sprint(300 + i*i), "RayID", fmt.Sprintf(`"%016x"`, i*7919), "EdgeStartTimestamp", fmt.Sprintf(`"2026-11-14T10:12:%02dZ"`, i/40),
			"ClientSSLCipher", `"AEAD-AES128-GCM-SHA256"`, "ClientSSLProtocol", `"TLSv1.3"`, "ClientSrcPort", fmt.Sprint(1024 + i*97), "EdgeServerIP", `"192.0.2.8"`,
			"EdgeResponseContentType", `"application/json"`, "OriginResponseDurationMs", fmt.Sprint(i % 300), "EdgeTimeToFirstByteMs", fmt.Sprint(i % 311), "WAFAttackScore", fmt.Sprint(i % 100),
			"ClientMTLSAuthCertFingerprint", `""`, "EdgeResponseCompressionRatio", "0", "EdgeCFConnectingO2O", "false", "EdgeRequestHost", `"shop.example"`,
		}
		if i%3 == 0 {
			fields = append(fields, "ResponseHeaders", `{"x-user-role":"editor"}`)
		}
		switch i % 25 {
		case 3:
			lines = append(lines, []byte(blocked("block", "firewallCustom", "b4c8a7d2e1f04f6c9a3b5d7e8f901234", fields...)))
			continue
		case 7:
			fields = append(fields, "EdgeResponseStatus", "404", "OriginResponseStatus", "404")
		}
		lines = append(lines, []byte(edgeLine(fields...)))
	}
	return lines
}

func TestCloudflareNoAllocations(t *testing.T) {
	p, err := New(Config{Format: "cloudflare"})
	if err != nil {
		t.Fatal(err)
	}
	lines := edgeStream()
	var e event.Event
	parse := func() {
		for i, l := range lines {
			e.Reset()
			if err := p.Parse(l, &e); err != nil || e.Time == event.NoTime || e.Status == 0 || len(e.Path) == 0 || len(e.Client) == 0 {
				t.Fatalf("line %d: %v %+v", i, err, e)
			}
		}
	}
	parse()
	if n := testing.AllocsPerRun(10, parse); n != 0 {
		t.Errorf("%v allocations in %d lines", n, len(lines))
	}
}

func BenchmarkCloudflare(b *testing.B) {
	p, err := New(Config{Format: "cloudflare"})
	if err != nil {
		b.Fatal(err)
	}
	lines := edgeStream()
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	var e event.Event
	i := 0
	for b.Loop() {
		e.Reset()
		if err := p.Parse(lines[i%len(lines)], &e); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
