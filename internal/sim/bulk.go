package sim

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// bulk makes the requests of WriteBulk.
type bulk struct {
	rng
	routes  []string // '#' a number, '%' a UUID, '*' hexadecimal, '~' a slug
	popular picker
	clients []string
	agents  []string
	agent   picker
	request bulkRequest
}

const (
	bulkClients = 200_000
	bulkIDs     = 2_000_000
)

var (
	bulkNouns = strings.Fields(`users accounts orders invoices projects teams files reports sessions
		tokens webhooks payments products carts comments messages subscriptions audit-logs roles
		permissions dashboards exports imports tickets devices workspaces`)
	bulkShapes = strings.Fields(`/N /N/# /N/%/history /N/#/items /N/#/items/# /N/%/members
		/N/#/settings /N/#/attachments/* /N/#/events/%`)
	bulkPages = strings.Fields(`/ /login /logout /signup /pricing /healthz /favicon.ico /robots.txt
		/graphql /metrics /account/settings/security /admin /admin/users /admin/exports /search
		/about/team /contact /static/app.*.js /static/main.*.css /img/p/#/thumb.webp /blog/~
		/docs/~/~ /u/~/posts/# /download/%/*`)
	bulkWords = strings.Fields(`how to fix your cloud bill guide secure fast release notes annual
		summary pricing update team growth data sales launch`)
	bulkMethods = strings.Fields(`GET GET GET GET GET GET GET GET POST POST PUT DELETE PATCH HEAD`)
	bulkReferer = strings.Fields(`- - - https://www.shop.example/ https://app.shop.example/dashboards/overview
		https://www.google.com/ https://app.shop.example/projects?tab=recent&sort=desc`)
)

// bulkStatus is the distribution of the status codes, in thousandths.
var bulkStatus = []struct{ code, weight int }{
	{200, 790}, {304, 70}, {302, 30}, {404, 35}, {403, 30}, {401, 12}, {201, 16}, {499, 5}, {500, 5}, {429, 7},
}

func newBulk(seed uint64) *bulk {
	b := &bulk{rng: rng{mix(seed)}}
	for _, version := range []string{"/api/v1", "/api/v2"} {
		for _, noun := range bulkNouns {
			for _, shape := range bulkShapes {
				b.routes = append(b.routes, version+strings.Replace(shape, "N", noun, 1))
			}
		}
	}
	b.routes = append(b.routes, bulkPages...)
	for i := len(b.routes) - 1; i > 0; i-- {
		j := b.below(i + 1)
		b.routes[i], b.routes[j] = b.routes[j], b.routes[i]
	}
	b.popular = newPicker(zipf(len(b.routes), 1))

	for range bulkClients {
		x := b.next()
		if b.chance(0.12) {
			b.clients = append(b.clients, fmt.Sprintf("2001:db8:%x:%x::%x", x&0xffff, x>>16&0xff, x>>32&0xffff))
		} else {
			b.clients = append(b.clients, fmt.Sprintf("%d.%d.%d.%d", 11+x%100, x>>8&255, x>>16&255, x>>24&255))
		}
	}
	for v := 100; v < 142; v++ {
		b.agents = append(b.agents,
			fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", v),
			fmt.Sprintf("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0", v, v),
			fmt.Sprintf("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Mobile Safari/537.36", v))
	}
	b.agents = append(b.agents, "curl/8.5.0", "python-requests/2.31.0", "Go-http-client/1.1", "okhttp/4.12.0",
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", `odd "agent" \ test`)
	b.agent = newPicker(zipf(len(b.agents), 0.9))
	return b
}

// Bulk is a format of WriteBulk.
type Bulk string

// The formats of WriteBulk: nginx's predefined "combined" (about 250 bytes a
// line), an application's JSON with nested objects (about 520) and Cloudflare's
// http_requests with all the fields a Logpush job is usually given (about 1,900).
const (
	BulkCombined   Bulk = "combined"
	BulkAppJSON    Bulk = "appjson"
	BulkCloudflare Bulk = "cloudflare"
)

// WriteBulk writes a big access log for benchmarks: whole lines until there are
// at least size bytes. It is far more varied than the traffic of a Sim (200,000
// clients, about 500 routes with numbers, UUIDs, digests and slugs in them, three
// percent of 403, scanners, lines that are no HTTP) and holds no incident. There
// are rate lines to each second from 2026-01-05 00:00 UTC on. The same arguments
// give the same bytes, and all formats tell of the same requests. It returns the
// number of lines.
func WriteBulk(w io.Writer, format Bulk, size int64, seed uint64, rate int) (lines int64, err error) {
	if rate < 1 {
		return 0, fmt.Errorf("rate %d: must be at least 1 line a second", rate)
	}
	appendLine := map[Bulk]func([]byte, *bulkRequest) []byte{
		BulkCombined: appendBulkCombined, BulkAppJSON: appendBulkAppJSON, BulkCloudflare: appendBulkCloudflare,
	}[format]
	if appendLine == nil {
		return 0, fmt.Errorf("unknown format %q: use %s, %s or %s", format, BulkCombined, BulkAppJSON, BulkCloudflare)
	}
	g := newBulk(seed)
	start := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixNano()
	out := bufio.NewWriterSize(w, 1<<18)
	line := make([]byte, 0, 4096)
	for written := int64(0); written < size; lines++ {
		line = appendLine(line[:0], g.draw(start+lines/int64(rate)*int64(time.Second)))
		n, err := out.Write(line)
		if err != nil {
			return lines, fmt.Errorf("write access log: %w", err)
		}
		written += int64(n)
	}
	if err := out.Flush(); err != nil {
		return lines, fmt.Errorf("write access log: %w", err)
	}
	return lines, nil
}

// bulkRequest is one request of a big log.
type bulkRequest struct {
	time           int64
	client         string
	person         int // number of the client
	user           int // 0 for none
	code           int
	method         string
	target         []byte // nil for what is no HTTP
	path           int    // the length of the target's path
	bytes, elapsed int
	referer, agent string
	id             uint64
}

// draw makes the next request; it is valid until the next call.
func (g *bulk) draw(ns int64) *bulkRequest {
	r := &g.request
	*r = bulkRequest{time: ns, person: g.power(bulkClients, 0.85), target: r.target[:0]}
	r.client = g.clients[r.person]
	if g.chance(0.05) {
		r.user = 1 + g.power(50_000, 0.9)
	}
	x := g.below(1000)
	for _, s := range bulkStatus {
		r.code = s.code
		if x -= s.weight; x < 0 {
			break
		}
	}
	r.method = "GET"
	switch x := g.unit(); {
	case x < 0.0003: // a TLS greeting on a plain port
		r.code, r.method = 400, ""
	case x < 0.015:
		r.target = append(r.target, probes[g.below(len(probes))]...)
		r.path = len(r.target)
	default:
		r.method = bulkMethods[g.below(len(bulkMethods))]
		r.target = g.appendPath(r.target, g.routes[g.popular.pick(&g.rng)])
		r.path = len(r.target)
		r.target = g.appendQuery(r.target)
	}
	r.bytes = g.below(200) * g.below(600)
	r.elapsed = 1 + g.below(40)*g.below(40)
	r.referer = bulkReferer[g.below(len(bulkReferer))]
	r.agent = g.agents[g.agent.pick(&g.rng)]
	r.id = g.next()
	return r
}

func appendBulkCombined(b []byte, r *bulkRequest) []byte {
	b = append(b, r.client...)
	b = append(b, " - "...)
	if r.user > 0 {
		b = append(b, "user"...)
		b = appendUint(b, uint64(r.user))
	} else {
		b = append(b, '-')
	}
	b = append(b, " ["...)
	b = appendLocalTime(b, r.time)
	b = append(b, `] "`...)
	if r.method == "" {
		b = append(b, `\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03`...)
	} else {
		b = append(b, r.method...)
		b = append(b, ' ')
		b = append(b, r.target...)
		b = append(b, " HTTP/1.1"...)
	}
	b = append(b, `" `...)
	b = appendUint(b, uint64(r.code))
	b = append(b, ' ')
	b = appendUint(b, uint64(r.bytes))
	b = append(b, ` "`...)
	b = append(b, r.referer...)
	b = append(b, `" "`...)
	b = appendNginxEscaped(b, r.agent)
	return append(b, '"', '\n')
}

// bulkRoles, bulkPlans and bulkCountries belong to a person.
var (
	bulkRoles     = strings.Fields(`anonymous viewer viewer editor admin`)
	bulkPlans     = strings.Fields(`free free pro team`)
	bulkCountries = strings.Fields(`US US US DE DE FR GB IN BR JP PL ES`)
)

func (r *bulkRequest) of(list []string) string { return list[mix(uint64(r.person))%uint64(len(list))] }

// query is the query string without its question mark.
func (r *bulkRequest) query() []byte { return r.target[min(r.path+1, len(r.target)):] }

func appendBulkAppJSON(b []byte, r *bulkRequest) []byte {
	b = append(b, `{"ts":"`...)
	b = appendISOTime(b, r.time)
	b = append(b, `","level":"info","msg":"request","service":"shop","pod":"shop-7c9f8d5b6-`...)
	b = appendHex(b, r.id%40, 5)
	b = append(b, `","trace_id":"`...)
	b = appendHex(b, r.id, 16)
	b = appendHex(b, ^r.id, 16)
	b = append(b, `","http":{"method":"`...)
	b = append(b, r.method...)
	b = append(b, `","path":"`...)
	b = append(b, r.target[:r.path]...)
	b = append(b, `","query":"`...)
	b = append(b, r.query()...)
	b = append(b, `","status":`...)
	b = appendUint(b, uint64(r.code))
	b = append(b, `,"bytes":`...)
	b = appendUint(b, uint64(r.bytes))
	b = append(b, `,"ua":"`...)
	b = appendJSONEscaped(b, r.agent)
	b = append(b, `"},"duration_ms":`...)
	b = appendUint(b, uint64(r.elapsed))
	b = append(b, `,"client":{"ip":"`...)
	b = append(b, r.client...)
	b = append(b, `","country":"`...)
	b = append(b, r.of(bulkCountries)...)
	b = append(b, `"},"user":{"id":"u_`...)
	b = appendUint(b, uint64(r.person))
	b = append(b, `","role":"`...)
	b = append(b, r.of(bulkRoles)...)
	b = append(b, `","account":"acct_`...)
	b = appendUint(b, uint64(r.person%30_000))
	b = append(b, `","plan":"`...)
	b = append(b, r.of(bulkPlans)...)
	return append(b, "\"}}\n"...)
}

// appendBulkCloudflare writes the fields in the order of their names, as Logpush
// does. Names and values are those of Cloudflare's documentation of http_requests.
func appendBulkCloudflare(b []byte, r *bulkRequest) []byte {
	text := func(before, value string) {
		b = append(b, before...)
		b = appendJSONEscaped(b, value)
	}
	number := func(before string, n uint64) {
		b = append(b, before...)
		b = appendUint(b, n)
	}
	moment := func(before string) {
		b = append(b, before...)
		b = appendISOTime(b, r.time)
	}
	number(`{"BotScore":`, 1+r.id%99)
	text(`,"BotScoreSrc":"Machine Learning","BotTags":[],"CacheCacheStatus":"`, [...]string{"dynamic", "hit", "miss", "unknown"}[r.id>>8&3])
	number(`","CacheResponseBytes":`, uint64(r.bytes))
	number(`,"CacheResponseStatus":`, uint64(r.code))
	number(`,"CacheTieredFill":false,"ClientASN":`, 1000+uint64(r.person)%60_000)
	text(`,"ClientCity":"","ClientCountry":"`, strings.ToLower(r.of(bulkCountries)))
	text(`","ClientDeviceType":"`, [...]string{"desktop", "mobile", "tablet", "desktop"}[r.id>>10&3])
	text(`","ClientIP":"`, r.client)
	number(`","ClientIPClass":"noRecord","ClientMTLSAuthCertFingerprint":"","ClientMTLSAuthStatus":"unknown","ClientRegionCode":"","ClientRequestBytes":`, 800+r.id>>12&4095)
	text(`,"ClientRequestHost":"www.shop.example","ClientRequestMethod":"`, r.method)
	text(`","ClientRequestPath":"`, string(r.target[:r.path]))
	text(`","ClientRequestProtocol":"HTTP/2","ClientRequestReferer":"`, strings.TrimPrefix(r.referer, "-"))
	text(`","ClientRequestScheme":"https","ClientRequestSource":"eyeball","ClientRequestURI":"`, string(r.target))
	text(`","ClientRequestUserAgent":"`, r.agent)
	number(`","ClientSSLCipher":"AEAD-AES128-GCM-SHA256","ClientSSLProtocol":"TLSv1.3","ClientSrcPort":`, 1024+r.id>>24%64_000)
	number(`,"ClientTCPRTTMs":`, r.id>>16%200)
	text(`,"ClientXRequestedWith":"","Cookies":{},"EdgeCFConnectingO2O":false,"EdgeColoCode":"`, [...]string{"FRA", "IAD", "LHR", "SJC"}[r.id>>30&3])
	number(`","EdgeColoID":`, r.id>>32%600)
	moment(`,"EdgeEndTimestamp":"`)
	text(`","EdgePathingOp":"`, map[bool]string{false: "wl", true: "ban"}[r.code == 403])
	number(`","EdgePathingSrc":"macro","EdgePathingStatus":"nr","EdgeRequestHost":"www.shop.example","EdgeResponseBodyBytes":`, uint64(r.bytes))
	number(`,"EdgeResponseBytes":`, uint64(r.bytes)+731)
	number(`,"EdgeResponseCompressionRatio":0,"EdgeResponseContentType":"application/json","EdgeResponseStatus":`, uint64(r.code))
	moment(`,"EdgeServerIP":"203.0.113.7","EdgeStartTimestamp":"`)
	number(`","EdgeTimeToFirstByteMs":`, uint64(r.elapsed))
	number(`,"OriginIP":"198.51.100.10","OriginResponseDurationMs":`, uint64(r.elapsed))
	number(`,"OriginResponseHTTPExpires":"","OriginResponseHTTPLastModified":"","OriginResponseStatus":`, uint64(r.code))
	b = append(b, `,"OriginSSLProtocol":"TLSv1.3","ParentRayID":"00","RayID":"`...)
	b = appendHex(b, r.id, 16)
	text(`","RequestHeaders":{"x-user-role":"`, r.of(bulkRoles))
	if r.code == 403 {
		b = append(b, `"},"ResponseHeaders":{},"SecurityAction":"block","SecurityActions":["block"],"SecurityRuleDescription":"Block \"bad\" paths","SecurityRuleID":"b4c8a7d2e1f04f6c9a3b5d7e8f901234","SecurityRuleIDs":["b4c8a7d2e1f04f6c9a3b5d7e8f901234"],"SecuritySources":["firewallCustom"]`...)
	} else {
		b = append(b, `"},"ResponseHeaders":{},"SecurityAction":"unknown","SecurityActions":[],"SecurityRuleDescription":"","SecurityRuleID":"","SecurityRuleIDs":[],"SecuritySources":[]`...)
	}
	number(`,"WAFAttackScore":`, r.id>>40%100)
	return append(b, `,"WorkerCPUTime":0,"WorkerStatus":"unknown","WorkerSubrequest":false,"ZoneName":"shop.example"}`+"\n"...)
}

func appendHex(b []byte, x uint64, digits int) []byte {
	at := len(b)
	b = append(b, "0000000000000000"[:digits]...)
	putHex(b[at:], x)
	return b
}

// appendPath fills the variable parts of a route. Ids are popular and rare as
// clients are; what belongs to an id is a function of it.
func (g *bulk) appendPath(b []byte, route string) []byte {
	for i := range len(route) {
		switch c := route[i]; c {
		case '#':
			b = appendUint(b, uint64(13+7*g.power(bulkIDs, 0.9)))
		case '%':
			b = appendUUID(b, uint64(g.power(bulkIDs, 0.9)))
		case '*':
			at := len(b)
			b = append(b, "0123456789abcdef"...)
			putHex(b[at:], mix(uint64(1+g.power(bulkIDs, 0.9)%50)))
		case '~':
			r := rng{uint64(g.power(5000, 0.9))}
			for n := 2 + r.below(4); n > 0; n-- {
				b = append(b, bulkWords[r.below(len(bulkWords))]...)
				if n > 1 {
					b = append(b, '-')
				}
			}
		default:
			b = append(b, c)
		}
	}
	return b
}

func (g *bulk) appendQuery(b []byte) []byte {
	if !g.chance(0.3) {
		return b
	}
	b = append(b, "?page="...)
	b = appendUint(b, uint64(g.below(40)))
	if g.chance(0.5) {
		b = append(b, "&sort=created_at&q=caf%C3%A9%20"...)
		b = append(b, bulkWords[g.below(len(bulkWords))]...)
	}
	if g.chance(0.1) {
		b = append(b, "&token="...)
		at := len(b)
		b = append(b, "00000000000000000000000000000000"...)
		putHex(b[at:at+16], g.next())
		putHex(b[at+16:], g.next())
	}
	return b
}
