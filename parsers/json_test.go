package parsers

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/event"
)

func TestJSONLines(t *testing.T) {
	const when = "time=2026-11-14T10:12:13Z "
	for _, c := range []struct {
		name, line string
		mapping    map[string]string
		web        bool
		want       string
		err        error
	}{
		{
			name: "ECS, dotted",
			line: `{"@timestamp":"2026-11-14T10:12:13Z","service.name":"shop","http.request.method":"GET","http.request.id":"r1","http.response.status_code":403,"url.path":"/a","url.domain":"shop.example","client.ip":"203.0.113.5","client.geo.country_iso_code":"DE","user.id":"u1","organization.id":"o1","user.roles":["owner","editor"],"labels.plan":"pro","event.reason":"no_seat","user_agent.original":"x"}`,
			want: when + "service=shop host=shop.example method=GET path=/a status=403 client=203.0.113.5 user=u1 account=o1 role=owner role=editor plan=pro geo=DE id=r1 cause=no_seat agent=x",
		}, {
			name: "ECS, nested and dotted together",
			line: ` { "@timestamp" : "2026-11-14 10:12:13.000" , "service" : { "name" : "shop" } , "http" : { "request" : { "method" : "GET" , "id" : "r1" } , "response.status_code" : 403 } , "url" : { "path" : "/a" } , "client" : { "ip" : "203.0.113.5" , "geo" : { "country_iso_code" : "DE" } } , "user" : { "id" : 17 , "roles" : [ "owner" ] } } `,
			want: when + "service=shop method=GET path=/a status=403 client=203.0.113.5 user=17 role=owner geo=DE id=r1",
		}, {
			name: "OpenTelemetry in attributes",
			line: `{"timeUnixNano":"1795454351055000000","traceId":"t1","resource":{"service.name":"api"},"attributes":{"http.request.method":"POST","http.response.status_code":403,"http.route":"/a/{id}","url.path":"/a/1","client.address":"203.0.113.5","user.id":"u1","user.roles":["viewer"],"feature_flag.key":"beta","error.type":"forbidden"}}`,
			want: "time=2026-11-23T17:19:11.055Z service=api method=POST path=/a/1 route=/a/{id} status=403 client=203.0.113.5 user=u1 role=viewer flag=beta id=t1 cause=forbidden",
		}, {
			name: "OpenTelemetry, old names",
			line: `{"ts":"2026-11-14T10:12:13Z","http.method":"GET","http.status_code":"403","http.target":"/a?b=c","http.client_ip":"203.0.113.5","enduser.id":"u1","enduser.role":"admin","enduser.scope":"read write"}`,
			want: when + "method=GET path=/a?b=c status=403 client=203.0.113.5 user=u1 role=admin",
		}, {
			name: "pino",
			line: `{"level":30,"time":1795454351055,"pid":7,"hostname":"pod-1","req":{"id":"r1","method":"GET","url":"/a","remoteAddress":"::ffff:203.0.113.5","headers":{"host":"shop.example","user-agent":"x"}},"res":{"statusCode":403},"msg":"request completed"}`,
			want: "time=2026-11-23T17:19:11.055Z host=shop.example method=GET path=/a status=403 client=::ffff:203.0.113.5 id=r1 agent=x",
		}, {
			name: "Caddy",
			line: `{"level":"error","ts":1795454351.055,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"10.0.0.1","client_ip":"203.0.113.5","method":"GET","host":"shop.example","uri":"/a?b=c","headers":{"User-Agent":["x","y"]}},"status":403}`,
			want: "time=2026-11-23T17:19:11.055Z host=shop.example method=GET path=/a?b=c status=403 client=203.0.113.5 agent=x",
		}, {
			name: "Traefik",
			line: `{"ClientHost":"203.0.113.5","ClientUsername":"eve","DownstreamStatus":403,"OriginStatus":0,"RequestHost":"shop.example","RequestMethod":"GET","RequestPath":"/a","StartUTC":"2026-11-14T10:12:13.5Z","request_User-Agent":"x"}`,
			want: "time=2026-11-14T10:12:13.5Z host=shop.example method=GET path=/a status=403 upstream=none client=203.0.113.5 user?=eve agent=x",
		}, {
			name: "Serilog",
			line: `{"@t":"2026-11-14T10:12:13.0000000Z","@m":"HTTP GET /a responded 403","RequestMethod":"GET","RequestPath":"/a","StatusCode":403,"UserId":"u1","TenantId":"o1","CorrelationId":"c1"}`,
			want: when + "method=GET path=/a status=403 user=u1 account=o1 id=c1",
		}, {
			name: "nginx with its own names", web: true,
			line: `{"time":"2026-11-14T10:12:13+00:00","msec":"1795454351.055","remote_addr":"203.0.113.5","remote_user":"eve","request":"GET /a?b HTTP/1.1","status":"403","upstream_status":"502, 403","http_user_agent":"x","host":"shop.example","rid":"r1","country":"DE","role":"viewer"}`,
			want: "time=2026-11-23T17:19:11.055Z host=shop.example method=GET path=/a?b status=403 upstream=403 client=203.0.113.5 user?=eve role=viewer geo=DE id=r1 agent=x",
		}, {
			name: "an application's user is not only claimed", web: true,
			line: `{"time":"2026-11-14T10:12:13+00:00","status":403,"user_id":"u1","remote_user":"eve","uri":"/a","path":"/index.html","upstream_status":"-"}`,
			want: when + "path=/index.html status=403 upstream=none user=u1",
		}, {
			name: "a server's user of another name is only claimed", web: true,
			line: `{"time":"2026-11-14T10:12:13+00:00","status":403,"user":"eve","uri":"/a"}`,
			want: when + "path=/a status=403 user?=eve",
		}, {
			name: "an application's is not",
			line: `{"time":"2026-11-14T10:12:13+00:00","status":403,"user":"eve","uri":"/a"}`,
			want: when + "path=/a status=403 user=eve",
		}, {
			name: "Django",
			line: `{"code":403,"request":"GET /a","event":"request_finished","timestamp":"2026-11-14T10:12:13Z","user_id":5,"ip":"203.0.113.5"}`,
			want: when + "method=GET path=/a status=403 client=203.0.113.5 user=5",
		},
		{name: "a code that is no status", line: `{"code":404,"msg":"no such coupon"}`, err: ErrSkip},
		{name: "a status with its phrase", line: `{"status":"403 Forbidden","path":"/"}`, want: "path=/ status=403"},
		{name: "a status as a float", line: `{"status":403.0,"path":"/"}`, want: "path=/ status=403"},
		{name: "an ordinary log line", line: `{"level":"info","msg":"started","status":"ok","time":12}`, err: ErrSkip},
		{name: "an empty object", line: `{}`, err: ErrSkip},
		{
			name: "roles in words", line: `{"status":403,"role":"owner, billing admin","flags":"a b","path":"/"}`,
			want: `path=/ status=403 role=owner role="billing admin" flag=a flag=b`,
		}, {
			name: "flags as an object", line: `{"status":403,"flags":{"a":true,"b":false,"c":"on","d":{"x":true},"e":1,"f":true},"path":"/"}`,
			want: "path=/ status=403 flag=a flag=c flag=f",
		}, {
			name: "odd lists", line: `{"status":403,"roles":["a",7,null,["x"],{"y":1},"","-","b\"c"],"flags":[],"path":"/"}`,
			want: `path=/ status=403 role=a role=7 role="b\"c"`,
		}, {
			name: "a reason counts for refusals only", line: `{"status":200,"reason":"cache_hit","path":"/"}`,
			want: "path=/ status=200",
		}, {
			name: "a long reason is a message", line: `{"status":403,"reason":"` + strings.Repeat("x", 200) + `","policy":"p","path":"/"}`,
			want: "path=/ status=403 cause=p",
		}, {
			name: "escapes", line: `{"status":403,"path":"/\u00e9\u20ac\ud83d\ude00\n\/","user":"a\\\"","ro\u006ce":"x"}`,
			want: `path="/é€😀\n/" status=403 user="a\\\"" role=x`,
		}, {
			name: "the last of equal keys", line: `{"status":200,"status":403,"path":"/a","path":"/b"}`,
			want: "path=/b status=403",
		}, {
			name: "the better of two names", line: `{"http.response.status_code":403,"status":200,"client_ip":"203.0.113.5","x_forwarded_for":"192.0.2.1, 10.0.0.1","path":"/"}`,
			want: "path=/ status=403 client=203.0.113.5",
		}, {
			name: "the first of a list of proxies", line: `{"status":403,"x_forwarded_for":"192.0.2.1, 10.0.0.1","path":"/"}`,
			want: "path=/ status=403 client=192.0.2.1",
		}, {
			name: "nothing in place of something", line: `{"status":403,"user_id":null,"user":"","username":"-","role":[],"plan":false,"path":"/"}`,
			want: "path=/ status=403",
		}, {
			name: "templates that are not JSON", line: `{"status":403,"user":"""","us":,"urt":-,"path":"/\x22q","bytes":}`,
			want: `path="/\"q" status=403`,
		}, {
			name: "mapped", line: `{"when":1795454351,"st":403,"u":{"who":"u1","is":{"role":"owner"}},"role":"wrong","p.q":"pro","tenant":"o1","path":"/","result":"denied"}`,
			mapping: map[string]string{"time": "when", "status": "st", "user": "u.who", "role": "u.is.role", "plan": "p.q", "cause": "result"},
			want:    "time=2026-11-23T17:19:11Z path=/ status=403 user=u1 account=o1 role=owner plan=pro cause=denied",
		}, {
			name: "a mapped key that is absent", line: `{"status":403,"scope":"read","path":"/"}`,
			mapping: map[string]string{"role": "user.role"},
			want:    "path=/ status=403",
		}, {
			name: "mapping is exact", line: `{"status":403,"userRole":"a","user_role":"b","path":"/"}`,
			mapping: map[string]string{"role": "userRole"},
			want:    "path=/ status=403 role=a",
		}, {
			name: "one key for two events keys", line: `{"status":403,"user":{"id":"u1","plan":"pro","role":"x"},"path":"/"}`,
			mapping: map[string]string{"role": "user.role"},
			want:    "path=/ status=403 user=u1 role=x plan=pro",
		},
		{name: "no object", line: `[1,2]`, err: ErrNotObject},
		{name: "text", line: `Listening on :8080`, err: ErrNotObject},
		{name: "nothing", line: ``, err: ErrNotObject},
		{name: "cut off in a value", line: `{"status":403,"path":"/a`, err: ErrSyntax},
		{name: "cut off in an object", line: `{"status":403,"user":{"id":"x"`, err: ErrSyntax},
		{name: "cut off in an unknown object", line: `{"status":403,"zzz":{"id":"x"`, err: ErrSyntax},
		{name: "cut off after a key", line: `{"status"`, err: ErrSyntax},
		{name: "two objects", line: `{"status":403} {"status":200}`, err: ErrSyntax},
		{name: "a bad time", line: `{"status":403,"time":"2026-31-31T10:12:13Z"}`, err: ErrTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Format: "json", Mapping: c.mapping}
			if c.web {
				cfg = Config{Format: "nginx", LogFormat: "json", Mapping: c.mapping}
			}
			got, err := parseOnce(cfg, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// A parser that has seen other lines reads a line as a new one does: what it
// remembers of keys never decides.
func TestJSONKeysInAnyOrder(t *testing.T) {
	lines := []string{
		`{"status":403,"path":"/a","user":{"id":"u1","roles":["x"]},"plan":"pro"}`,
		`{"user":{"roles":["y"],"id":"u2"},"plan":"free","path":"/b","status":200}`,
		`{"path":"/c","status":"404","user":"u3","plan":{"name":"team"}}`,
		`{"st":1,"pa":"/no","id":"u9","roles":["z"],"status":403,"path":"/d"}`,
		`{"user":{"status":500,"path":"/no","plan":"basic"},"status":403,"path":"/e"}`,
		`{"attributes":{"status":403,"path":"/f","id":"x"},"id":"y"}`,
	}
	for i := range 200 { // other keys push the remembered ones out
		lines = append(lines, `{"key`+string(rune('a'+i%26))+strings.Repeat("k", i)+`":1,"status":403,"path":"/g"}`)
	}
	used, err := New(Config{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	var e event.Event
	for round := range 5 {
		for i := range lines {
			l := lines[(i*(2*round+1))%len(lines)]
			want, err := parseOnce(Config{Format: "json"}, l)
			if err != nil {
				t.Fatal(err)
			}
			e.Reset()
			if err := used.Parse([]byte(l), &e); err != nil || show(&e) != want {
				t.Fatalf("%s:\n got %s %v\nwant %s", l, show(&e), err, want)
			}
		}
	}
}

// A parser follows the lines before as far as they go: whatever byte of a line
// differs from them, it reads the line as a new one does.
func TestJSONOffTheTrack(t *testing.T) {
	format, err := Compile(Config{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	used := format.New()
	lines := stream("app")
	read := func(p Parser, line []byte) string {
		var e event.Event
		e.Reset()
		err := p.Parse(line, &e)
		if err != nil {
			return err.Error()
		}
		return show(&e)
	}
	for range 3 {
		for _, l := range lines {
			read(used, l)
		}
	}
	line := lines[len(lines)-1]
	for i := range line {
		if i%3 != 0 && line[i] > '9' && line[i] < '{' { // a letter, as others
			continue
		}
		for _, with := range []string{"", `"`, `\`, " ", "{", "}", "[", ",", ":", "0", `":`, `,"status":403,`, `{"status":500},`, `""`} {
			for _, cut := range []int{0, 1} {
				changed := append(append(append([]byte{}, line[:i]...), with...), line[i+cut:]...)
				if got, want := read(used, changed), read(format.New(), changed); got != want {
					t.Fatalf("%s\n got %s\nwant %s", changed, got, want)
				}
			}
		}
		if got, want := read(used, lines[i]), read(format.New(), lines[i]); got != want {
			t.Fatalf("%s\n got %s\nwant %s", lines[i], got, want)
		}
	}
}

func TestVantage(t *testing.T) {
	for _, c := range []struct {
		c    Config
		want event.Vantage
		text string
	}{
		{Config{Format: "combined"}, event.Web, "nginx (combined)"},
		{Config{Format: "common"}, event.Web, "apache (common)"},
		{Config{Format: "nginx", LogFormat: "json"}, event.Web, "nginx (JSON)"},
		{Config{Format: "json"}, event.App, "JSON"},
		{Config{Format: "json", Mapping: map[string]string{"upstream_status": "us"}}, event.Web, "JSON"},
		{Config{LogFormat: nginxCombined + ` us="$upstream_status"`}, event.Web, "nginx (combined + upstream status)"},
		{Config{LogFormat: apacheCommon + apacheHeaders + ` %D`}, event.Web, "apache (combined + more)"},
		{Config{LogFormat: `%t %>s`}, event.Web, "apache (own format)"},
		{Config{LogFormat: nginxCombined}, event.Web, "nginx (combined)"},
	} {
		f, err := Compile(c.c)
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Vantage() != c.want || f.String() != c.text {
			t.Errorf("%+v: %v %q, want %v %q", c.c, f.Vantage(), f, c.want, c.text)
		}
	}
}

// FuzzJSON compares with encoding/json: what it takes for an object we take too,
// and plain fields have the same values.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"status":403,"path":"/a","user":{"id":"u1","roles":["x"]},"plan":"pro"}`,
		`{"a":[{"b":"]"},"}"],"status":"403","path":"/\u00e9\ud83d\ude00\\\"","plan":"a\tb"}`,
		`{"status":403,"flags":{"a":true,"b":{"c":[1]},"d":"on"},"roles":[1,null,"x"]}`,
		` { "time" : 1.795454351e+09 , "status" : 403 , "path" : "" } `,
		`{"status":403,"user":"""","us":,"path":"/\x22q"}`,
	} {
		f.Add([]byte(s))
	}
	p, err := New(Config{Format: "json"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		checkParse(t, p, line)
		var ref struct {
			Status any
			Path   any
			Plan   any
		}
		var all map[string]json.RawMessage
		if json.Unmarshal(line, &all) != nil {
			return
		}
		var e event.Event
		e.Reset()
		err := p.Parse(line, &e)
		if errors.Is(err, ErrNotObject) || errors.Is(err, ErrSyntax) {
			if all != nil { // null is no object
				t.Fatalf("%q is JSON: %v", line, err)
			}
			return
		}
		// Other spellings of the names, and names inside other objects, would
		// need the whole table here: only lines without them are compared.
		for k := range all {
			switch fold(k) {
			case "status", "path", "plan":
				if k != fold(k) {
					return
				}
			case "roles", "flags", "role":
			default:
				return
			}
		}
		if json.Unmarshal(line, &ref) != nil {
			return
		}
		if err != nil {
			return
		}
		// With a key twice, an unusable last value leaves the one before.
		if s, ok := ref.Status.(float64); ok && s >= 100 && s < 1000 && s == float64(int(s)) && uint16(s) != e.Status {
			t.Fatalf("%q: status %d", line, e.Status)
		}
		if s, ok := ref.Plan.(string); ok && s != "" && s != "-" && valid(line) && s != string(e.Plan) {
			t.Fatalf("%q: plan %q, want %q", line, e.Plan, s)
		}
		if s, ok := ref.Path.(string); ok && s != "" && s != "-" && valid(line) && s != string(e.Path) {
			t.Fatalf("%q: path %q, want %q", line, e.Path, s)
		}
	})
}

// valid tells whether encoding/json decodes the strings of line as they are: it
// replaces broken UTF-8 and lone surrogates, which we leave.
func valid(line []byte) bool {
	return !strings.ContainsRune(strings.ToValidUTF8(string(line), "\ufffd"), '\ufffd') && !strings.Contains(strings.ToLower(string(line)), `\ud`)
}
