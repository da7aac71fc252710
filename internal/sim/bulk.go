package sim

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// bulk makes the lines of WriteCombined.
type bulk struct {
	rng
	routes  []string // '#' a number, '%' a UUID, '*' hexadecimal, '~' a slug
	popular picker
	clients []string
	agents  []string
	agent   picker
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

// WriteCombined writes a big access log in nginx's format "combined" for
// benchmarks: whole lines until there are at least size bytes. It is far more
// varied than the traffic of a Sim (200,000 clients, about 500 routes with
// numbers, UUIDs, digests and slugs in them, three percent of 403, scanners,
// lines that are no HTTP) and holds no incident. There are rate lines to each
// second from 2026-01-05 00:00 UTC on. The same arguments give the same bytes. It
// returns the number of lines.
func WriteCombined(w io.Writer, size int64, seed uint64, rate int) (lines int64, err error) {
	if rate < 1 {
		return 0, fmt.Errorf("rate %d: must be at least 1 line a second", rate)
	}
	g := newBulk(seed)
	start := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC).UnixNano()
	out := bufio.NewWriterSize(w, 1<<18)
	line := make([]byte, 0, 1024)
	for written := int64(0); written < size; lines++ {
		line = g.appendLine(line[:0], start+lines/int64(rate)*int64(time.Second))
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

func (g *bulk) appendLine(b []byte, ns int64) []byte {
	b = append(b, g.clients[g.power(bulkClients, 0.85)]...)
	if g.chance(0.05) {
		b = append(b, " - user"...)
		b = appendUint(b, uint64(g.power(50_000, 0.9)))
	} else {
		b = append(b, " - -"...)
	}
	b = append(b, " ["...)
	b = appendLocalTime(b, ns)
	b = append(b, `] "`...)
	code, x := 0, g.below(1000)
	for _, s := range bulkStatus {
		code = s.code
		if x -= s.weight; x < 0 {
			break
		}
	}
	switch x := g.unit(); {
	case x < 0.0003: // a TLS greeting on a plain port
		code = 400
		b = append(b, `\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03`...)
	case x < 0.015:
		b = append(b, "GET "...)
		b = append(b, probes[g.below(len(probes))]...)
		b = append(b, " HTTP/1.1"...)
	default:
		b = append(b, bulkMethods[g.below(len(bulkMethods))]...)
		b = append(b, ' ')
		b = g.appendPath(b, g.routes[g.popular.pick(&g.rng)])
		b = g.appendQuery(b)
		b = append(b, " HTTP/1.1"...)
	}
	b = append(b, `" `...)
	b = appendUint(b, uint64(code))
	b = append(b, ' ')
	b = appendUint(b, uint64(g.below(200)*g.below(600)))
	b = append(b, ` "`...)
	b = append(b, bulkReferer[g.below(len(bulkReferer))]...)
	b = append(b, `" "`...)
	b = appendNginxEscaped(b, g.agents[g.agent.pick(&g.rng)])
	return append(b, '"', '\n')
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
