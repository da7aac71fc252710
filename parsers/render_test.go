package parsers

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/internal/event"
)

// The property of this file: what a server writes about a request is what its
// parser reads, whatever bytes the client sent. Each rendering writes a request as
// the real server does, with its own way to escape.

// request is a request as the writer of a log knows it.
type request struct {
	at                                                time.Time
	method, path, host, client, user, agent, role, id string
	status, upstream                                  int // upstream 0: nobody was asked
}

// rendering is how one kind of server writes a request.
type rendering struct {
	name   string
	config Config
	// step is how fine its times are.
	step time.Duration
	// lossy are the bytes that it writes like others, or that break its lines,
	// beyond control characters for those who do not escape at all.
	lossy string
	// text says that it can hold only valid UTF-8.
	text bool
	// fields are those that it carries beside time, method, path and status.
	fields string
	render func(r *request) string
}

const clfLayout = "02/Jan/2006:15:04:05 -0700"

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// nginxEscape is nginx's escape=default: everything but printable ASCII, '"' and
// '\' as \xHH; nothing as "-".
func nginxEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\x%02X`, c)
			continue
		}
		b.WriteByte(c)
	}
	return orDash(b.String())
}

// nginxJSON is nginx's escape=json: bytes beyond ASCII stay as they are.
func nginxJSON(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\b':
			b.WriteString(`\b`)
		case c == '\f':
			b.WriteString(`\f`)
		case c < ' ':
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// apacheEscape is Apache's ap_escape_logitem.
func apacheEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch c {
		case '\b':
			b.WriteString(`\b`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\v':
			b.WriteString(`\v`)
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			if c < ' ' || c > '~' {
				fmt.Fprintf(&b, `\x%02x`, c)
				continue
			}
			b.WriteByte(c)
		}
	}
	return orDash(b.String())
}

// haproxyEscape is HAProxy's: '#' and two digits for what is not printable, and
// for '#', '"' and the '|' and braces of captures.
func haproxyEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || strings.IndexByte(`#"{|}`, c) >= 0 {
			fmt.Fprintf(&b, `#%02X`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// percentEncode is CloudFront's and Akamai's.
func percentEncode(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte("<>\"#%{}|\\^[]`'", c) >= 0 {
			fmt.Fprintf(&b, `%%%02X`, c)
			continue
		}
		b.WriteByte(c)
	}
	return orDash(b.String())
}

// object renders JSON members in order; empty strings are left out.
func object(pairs ...any) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		v, err := json.Marshal(pairs[i+1])
		if err != nil {
			panic(err)
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", pairs[i], v)
	}
	return "{" + b.String() + "}"
}

func upstreamDash(r *request) string {
	if r.upstream == 0 {
		return "-"
	}
	return strconv.Itoa(r.upstream)
}

func (r *request) line() string { return r.method + " " + r.path + " HTTP/1.1" }

const nginxFields = "client user agent"

var renderings = []rendering{
	{name: "nginx combined", config: Config{Format: "combined"}, step: time.Second, fields: nginxFields, render: func(r *request) string {
		return fmt.Sprintf(`%s - %s [%s] "%s" %d 12 "-" "%s"`, r.client, nginxEscape(r.user), r.at.Format(clfLayout), nginxEscape(r.line()), r.status, nginxEscape(r.agent))
	}},
	{name: "nginx with upstream", config: Config{LogFormat: `$msec $host "$request_method" "$request_uri" $status us="$upstream_status" role="$upstream_http_x_role" id=$request_id "$http_user_agent" $remote_addr`}, step: time.Millisecond,
		fields: "client host upstream role id agent", render: func(r *request) string {
			return fmt.Sprintf(`%d.%03d %s "%s" "%s" %d us="%s" role="%s" id=%s "%s" %s`, r.at.Unix(), r.at.Nanosecond()/1e6, r.host, r.method, nginxEscape(r.path), r.status,
				upstreamDash(r), nginxEscape(r.role), orDash(r.id), nginxEscape(r.agent), r.client)
		}},
	{name: "nginx upstreaminfo", config: Config{Format: "upstreaminfo"}, step: time.Second, fields: "client user agent upstream id", render: func(r *request) string {
		return fmt.Sprintf(`%s - %s [%s] "%s" %d 12 "-" "%s" 99 0.010 [a-b-80] [] 10.0.0.1:80, 10.0.0.2:80 0, 12 0.001, 0.009 502, %s %s`, r.client, nginxEscape(r.user),
			r.at.Format(clfLayout), nginxEscape(r.line()), r.status, nginxEscape(r.agent), upstreamDash(r), orDash(r.id))
	}},
	{name: "nginx escape=json", config: Config{LogFormat: `escape=json {"t":"$time_iso8601","c":"$remote_addr","u":"$remote_user","m":"$request_method","p":"$request_uri","s":$status,"us":"$upstream_status","role":"$upstream_http_x_role","ua":"$http_user_agent"}`},
		step: time.Second, fields: "client user upstream role agent", render: func(r *request) string {
			up := ""
			if r.upstream != 0 {
				up = strconv.Itoa(r.upstream)
			}
			return fmt.Sprintf(`{"t":"%s","c":"%s","u":"%s","m":"%s","p":"%s","s":%d,"us":"%s","role":"%s","ua":"%s"}`, r.at.Format("2006-01-02T15:04:05-07:00"), r.client,
				nginxJSON(r.user), r.method, nginxJSON(r.path), r.status, up, nginxJSON(r.role), nginxJSON(r.agent))
		}},
	{name: "nginx escape=json read as JSON", config: Config{Format: "json"}, text: true, step: time.Second, fields: "client upstream role agent", render: func(r *request) string {
		return fmt.Sprintf(`{"time_iso8601":"%s","remote_addr":"%s","request_method":"%s","request_uri":"%s","status":"%d","upstream_status":"%s","role":"%s","http_user_agent":"%s"}`, r.at.Format("2006-01-02T15:04:05-07:00"),
			r.client, r.method, nginxJSON(r.path), r.status, upstreamDash(r), nginxJSON(r.role), nginxJSON(r.agent))
	}},
	{name: "nginx escape=none", config: Config{LogFormat: "escape=none $time_iso8601\t$remote_addr\t$remote_user\t$request\t$status\t$http_user_agent"}, step: time.Second, lossy: "\t\n\r", fields: nginxFields, render: func(r *request) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", r.at.Format("2006-01-02T15:04:05-07:00"), r.client, r.user, r.line(), r.status, r.agent)
	}},
	{name: "Apache combined", config: Config{Format: "apache"}, step: time.Second, fields: nginxFields, render: func(r *request) string {
		user := apacheEscape(r.user)
		return fmt.Sprintf(`%s - %s [%s] "%s" %d 12 "-" "%s"`, r.client, user, r.at.Format(clfLayout), apacheEscape(r.line()), r.status, apacheEscape(r.agent))
	}},
	{name: "Apache own", config: Config{LogFormat: `%{usec}t|%v|%m|%U%q|%>s|%{X-Role}o|"%{User-Agent}i"|%a|%L`}, step: time.Microsecond, lossy: "|", fields: "host role agent client id", render: func(r *request) string {
		return fmt.Sprintf(`%d|%s|%s|%s|%d|%s|"%s"|%s|%s`, r.at.UnixMicro(), r.host, r.method, apacheEscape(r.path), r.status, apacheEscape(r.role), apacheEscape(r.agent), r.client, orDash(r.id))
	}},
	{name: "JSON nested", config: Config{Format: "json"}, text: true, step: 1, fields: "client user role host agent id", render: func(r *request) string {
		return object("time", r.at.Format(time.RFC3339Nano), "req", map[string]any{"method": r.method, "url": r.path, "headers": map[string]string{"host": r.host, "user-agent": r.agent}, "remoteAddress": r.client},
			"res", map[string]int{"statusCode": r.status}, "user", map[string]any{"id": r.user, "roles": []string{r.role}}, "req_id", r.id)
	}},
	{name: "JSON with dotted names", config: Config{Format: "json"}, text: true, step: time.Millisecond, fields: "client user role host agent id", render: func(r *request) string {
		return object("@timestamp", r.at.UnixMilli(), "http.request.method", r.method, "url.path", r.path, "url.domain", r.host, "http.response.status_code", r.status,
			"client.ip", r.client, "user.id", r.user, "user.roles", []string{r.role}, "user_agent.original", r.agent, "http.request.id", r.id)
	}},
	{name: "logfmt", config: Config{Format: "logfmt"}, text: true, step: 1, lossy: ",", fields: "client user role host agent id", render: func(r *request) string {
		pair := func(k, v string) string {
			if v == "" {
				return ""
			}
			if b, _ := json.Marshal(v); strings.ContainsAny(v, " =") || len(b) != len(v)+2 || nothing([]byte(v)) {
				return " " + k + "=" + string(b)
			}
			return " " + k + "=" + v
		}
		return "time=" + r.at.Format(time.RFC3339Nano) + pair("method", r.method) + pair("path", r.path) + pair("host", r.host) + fmt.Sprintf(" status=%d", r.status) +
			pair("remote_ip", r.client) + pair("user_id", r.user) + pair("role", r.role) + pair("user_agent", r.agent) + pair("request_id", r.id)
	}},
	{name: "Cloudflare", config: Config{Format: "cloudflare"}, text: true, step: 1, fields: "client host agent upstream id", render: func(r *request) string {
		return object("ClientIP", r.client, "ClientRequestHost", r.host, "ClientRequestMethod", r.method, "ClientRequestURI", r.path, "ClientRequestUserAgent", r.agent,
			"EdgeResponseStatus", r.status, "EdgeStartTimestamp", r.at.UnixNano(), "OriginResponseStatus", r.upstream, "RayID", r.id)
	}},
	{name: "AWS load balancer", config: Config{Format: "alb"}, step: time.Microsecond, fields: "client host agent upstream id", render: func(r *request) string {
		return fmt.Sprintf(`https %s app/web/1 %s:4000 10.0.0.1:80 0.1 0.1 0.1 %d %s 1 2 "%s" "%s" - - arn "%s" "%s" "arn" 0 %s "forward" "-" "-"`, r.at.UTC().Format("2006-01-02T15:04:05.000000Z"), r.client, r.status, upstreamDash(r),
			nginxEscape(r.method+" https://"+r.host+":443"+r.path+" HTTP/1.1"), nginxEscape(r.agent), orDash(r.id), r.host, r.at.UTC().Format("2006-01-02T15:04:05.000000Z"))
	}},
	{name: "CloudFront", config: Config{Format: "cloudfront"}, step: time.Second, lossy: "%", fields: "client host agent id", render: func(r *request) string {
		v := []string{r.at.UTC().Format("2006-01-02\t15:04:05"), "FRA1", "1", r.client, r.method, "d.example", percentEncode(r.path), strconv.Itoa(r.status), "-", percentEncode(r.agent), "-", "-", "Error", orDash(r.id), r.host}
		for len(v) < len(strings.Fields(cloudFrontColumns))-1 {
			v = append(v, "-")
		}
		return strings.Join(v, "\t")
	}},
	{name: "IIS", config: Config{Format: "iis"}, step: time.Second, lossy: "\t\n\r +\"", fields: "client user agent", render: func(r *request) string {
		return fmt.Sprintf("%s 10.0.0.1 %s %s - 443 %s %s %s - %d 0 0 1", r.at.UTC().Format("2006-01-02 15:04:05"), r.method, r.path, orDash(r.user), r.client, orDash(r.agent), r.status)
	}},
	{name: "S3", config: Config{Format: "s3"}, step: time.Second, fields: "client agent id host", render: func(r *request) string {
		return fmt.Sprintf(`c0ffee %s [%s] %s - %s REST.GET.OBJECT key "%s" %d - 1 2 3 4 "-" "%s" - - - - -`, r.host, r.at.Format(clfLayout), r.client, orDash(r.id), nginxEscape(r.line()), r.status, nginxEscape(r.agent))
	}},
	{name: "Traefik JSON", config: Config{Format: "traefik"}, text: true, step: 1, fields: "client host upstream agent", render: func(r *request) string {
		return object("ClientAddr", r.client, "RequestMethod", r.method, "RequestPath", r.path, "RequestHost", r.host, "DownstreamStatus", r.status, "OriginStatus", r.upstream,
			"StartUTC", r.at.UTC().Format(time.RFC3339Nano), "request_User-Agent", r.agent)
	}},
	{name: "Traefik", config: Config{Format: "traefik"}, step: time.Second, lossy: "\"\\\n\r", fields: nginxFields, render: func(r *request) string {
		return fmt.Sprintf(`%s - %s [%s] "%s" %d 12 "-" "%s" 7 "app@docker" "http://10.0.0.1:80" 3ms`, r.client, orDash(r.user), r.at.Format(clfLayout), r.line(), r.status, orDash(r.agent))
	}},
	{name: "Envoy", config: Config{Format: "envoy"}, step: time.Millisecond, lossy: "\"\n\r", fields: "host agent id", render: func(r *request) string {
		return fmt.Sprintf(`[%s] "%s" %d - 0 19 1 1 "-" "%s" "%s" "%s" "10.0.0.1:80"`, r.at.UTC().Format("2006-01-02T15:04:05.000Z"), r.line(), r.status, orDash(r.agent), orDash(r.id), r.host)
	}},
	{name: "Istio JSON", config: Config{Format: "istio"}, text: true, step: time.Millisecond, fields: "host agent id client", render: func(r *request) string {
		return object("start_time", r.at.UTC().Format("2006-01-02T15:04:05.000Z"), "method", r.method, "path", r.path, "authority", r.host, "response_code", r.status, "response_flags", "-",
			"response_code_details", "via_upstream", "user_agent", r.agent, "request_id", r.id, "downstream_remote_address", r.client)
	}},
	{name: "Caddy", config: Config{Format: "caddy"}, text: true, step: time.Microsecond, fields: "client host agent", render: func(r *request) string {
		return object("level", "info", "ts", json.Number(fmt.Sprintf("%d.%06d", r.at.Unix(), r.at.Nanosecond()/1e3)), "logger", "http.log.access", "request", map[string]any{
			"remote_ip": r.client, "method": r.method, "host": r.host, "uri": r.path, "headers": map[string][]string{"User-Agent": {r.agent}}}, "status", r.status)
	}},
	{name: "HAProxy", config: Config{Format: "haproxy", Mapping: map[string]string{"role": "capture.res.hdr(0)"}}, step: time.Millisecond, fields: "client role", render: func(r *request) string {
		return fmt.Sprintf(`%s:4000 [%s] www app/s1 0/0/0/1/1 %d 12 - - ---- 1/1/0/0/0 0/0 {%s} {%s} "%s"`, r.client, r.at.UTC().Format("02/Jan/2006:15:04:05.000"), r.status,
			haproxyEscape(r.host), haproxyEscape(r.role), haproxyEscape(r.line()))
	}},
	{name: "Google Cloud", config: Config{Format: "gcp"}, text: true, step: 1, fields: "client host agent id", render: func(r *request) string {
		return object("insertId", "a", "httpRequest", map[string]any{"requestMethod": r.method, "requestUrl": "https://" + r.host + r.path, "status": r.status, "remoteIp": r.client, "userAgent": r.agent},
			"jsonPayload", map[string]string{"statusDetails": "response_sent_by_backend"}, "timestamp", r.at.Format(time.RFC3339Nano), "trace", "projects/p/traces/"+r.id)
	}},
	{name: "Akamai", config: Config{Format: "akamai"}, step: time.Second, lossy: "", fields: "client host agent id", render: func(r *request) string {
		return object("reqTimeSec", fmt.Sprintf("%d.000", r.at.Unix()), "cliIP", r.client, "reqHost", r.host, "reqMethod", r.method, "reqPath", percentEncode(r.path), "statusCode", strconv.Itoa(r.status),
			"UA", percentEncode(r.agent), "reqId", r.id)
	}},
}

// text draws text of hostile bytes, without those that the rendering cannot tell
// apart.
func (w *rendering) draw(t *rapid.T, name, prefix string) string {
	raw := prefix + rapid.OneOf(
		rapid.SampledFrom([]string{
			"", "-", "Mozilla/5.0 (X11; Linux)", `a"b\c`, `\x22 \u0041 %41 #41`, "é\u2028 日本", ` [14/Nov/2026:10:12:13 +0000] `, `" 200 5 "-" "-"`, ` - - `,
			`a=b c="d"`, "x} {y|z", `{"a":[1]}`, "[x, y]", "a, b", "::1", "null", "\x00\xff\x1b[0m",
		}),
		rapid.StringN(0, 12, 40),
		rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "bytes")) }),
	).Draw(t, name)
	var b strings.Builder
	for i := range len(raw) {
		if strings.IndexByte(w.lossy, raw[i]) < 0 {
			b.WriteByte(raw[i])
		}
	}
	if w.text {
		return strings.ToValidUTF8(b.String(), "?")
	}
	return b.String()
}

// request draws a request that w can write.
func (w *rendering) request(t *rapid.T) *request {
	zone := time.FixedZone("", rapid.IntRange(-56, 56).Draw(t, "zone")*900)
	statuses := rapid.SampledFrom([]int{200, 204, 301, 401, 403, 404, 451, 500, 503})
	r := &request{
		at:     time.Unix(0, rapid.Int64Range(1e18, 4e18).Draw(t, "time")).Truncate(w.step).In(zone),
		method: rapid.SampledFrom([]string{"GET", "POST", "PATCH", "PROPFIND"}).Draw(t, "method"),
		path:   w.draw(t, "path", "/"),
		host:   rapid.SampledFrom([]string{"shop.example", "a-b.c0.example"}).Draw(t, "host"),
		client: rapid.SampledFrom([]string{"203.0.113.5", "2001:db8::17", "::ffff:198.51.100.9", "10.0.0.9"}).Draw(t, "client"),
		user:   w.draw(t, "user", ""),
		agent:  w.draw(t, "agent", ""),
		role:   rapid.StringMatching(`[a-z][a-z0-9_.:@-]{0,9}`).Draw(t, "role"),
		id:     rapid.StringMatching(`[0-9a-f]{16}`).Draw(t, "id"),
		status: statuses.Draw(t, "status"),
	}
	if rapid.Bool().Draw(t, "asked") {
		r.upstream = statuses.Draw(t, "upstream")
	}
	return r
}

// facts are what the rendering carries of an event, for people.
func (w *rendering) facts(e *event.Event) string {
	only := event.Event{Time: e.Time, Method: e.Method, Path: e.Path, Status: e.Status}
	for f := range strings.FieldsSeq(w.fields) {
		switch f {
		case "client":
			only.Client = e.Client
		case "user":
			only.User = e.User
		case "agent":
			only.UserAgent = e.UserAgent
		case "role":
			only.Roles = e.Roles
		case "host":
			only.Host = e.Host
		case "id":
			only.RequestID = e.RequestID
		case "upstream":
			only.UpstreamStatus = e.UpstreamStatus
		}
	}
	return fmt.Sprintf("%s upstream=%d", show(&only), only.UpstreamStatus)
}

// event is what a parser should make of r. No format tells "-" from nothing.
func (r *request) event() *event.Event {
	some := func(s string) []byte {
		if s == "-" {
			return nil
		}
		return []byte(s)
	}
	return &event.Event{
		Time: r.at.UnixNano(), Method: []byte(r.method), Path: []byte(r.path), Status: uint16(r.status), UpstreamStatus: uint16(r.upstream),
		Host: []byte(r.host), Client: []byte(r.client), User: some(r.user), UserAgent: some(r.agent), Roles: [][]byte{[]byte(r.role)}, RequestID: []byte(r.id),
	}
}

// roundTrip draws a request, writes it in w, bare or wrapped, and reads it.
func roundTrip(t *rapid.T, w *rendering) {
	r := w.request(t)
	line := w.render(r)
	wrapper := rapid.SampledFrom(append([]string{wrapperNone}, innerWrappers...)).Draw(t, "wrapper")
	lines := []string{line}
	c := w.config
	if wrapper != wrapperNone && utf8.ValidString(line) { // wrappers of JSON hold nothing else
		c.Wrapper = wrapper
		cut := rapid.IntRange(0, len(line)-1).Draw(t, "cut")
		for cut > 0 && !utf8.RuneStart(line[cut]) {
			cut--
		}
		lines = wrapLine(wrapper, line, cut)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var e event.Event
	for _, l := range lines {
		e.Reset()
		err = p.Parse([]byte(l), &e)
	}
	if err != nil {
		t.Fatalf("%v\n%q", err, lines)
	}
	if got, want := w.facts(&e), w.facts(r.event()); got != want {
		t.Fatalf("\n got %s\nwant %s\nfrom %q", got, want, lines)
	}
}

func TestRoundTrip(t *testing.T) {
	for i := range renderings {
		w := &renderings[i]
		t.Run(w.name, rapid.MakeCheck(func(t *rapid.T) { roundTrip(t, w) }))
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		roundTrip(t, &renderings[rapid.IntRange(0, len(renderings)-1).Draw(t, "rendering")])
	}))
}
