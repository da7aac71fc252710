package sim

import (
	"strconv"
	"time"
)

// AppendNginxCombined appends the request's line in nginx's predefined format
// "combined", newline included. Users are not known to the web server.
func AppendNginxCombined(dst []byte, r *Request) []byte {
	return append(appendCombined(dst, r), '\n')
}

// AppendNginxUpstream appends the line of a common extension of "combined":
//
//	log_format upstream '$remote_addr - $remote_user [$time_local] "$request" $status '
//	                    '$body_bytes_sent "$http_referer" "$http_user_agent" us="$upstream_status"';
//
// where nginx writes "-" for what it answered itself.
func AppendNginxUpstream(dst []byte, r *Request) []byte {
	dst = append(appendCombined(dst, r), ` us="`...)
	if r.ReachedApp() {
		dst = appendUint(dst, uint64(r.UpstreamStatus))
	} else {
		dst = append(dst, '-')
	}
	return append(dst, '"', '\n')
}

func appendCombined(b []byte, r *Request) []byte {
	b = append(b, r.Client...)
	b = append(b, " - - ["...)
	b = appendLocalTime(b, r.Time)
	b = append(b, `] "`...)
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Path...)
	if len(r.Query) > 0 {
		b = append(b, '?')
		b = append(b, r.Query...)
	}
	b = append(b, ` HTTP/1.1" `...)
	b = appendUint(b, uint64(r.Status))
	b = append(b, ' ')
	b = appendUint(b, uint64(r.Bytes))
	b = append(b, ` "`...)
	b = append(b, r.Referer...)
	b = append(b, `" "`...)
	b = appendNginxEscaped(b, r.UserAgent)
	return append(b, '"')
}

// AppendAppJSON appends the application's line for the request, one JSON object
// and a newline, or nothing if the application did not see it. Keys are dotted
// names of the Elastic Common Schema; http.route is OpenTelemetry's.
func AppendAppJSON(dst []byte, r *Request) []byte {
	if !r.ReachedApp() {
		return dst
	}
	b := append(dst, `{"@timestamp":"`...)
	b = appendISOTime(b, r.Time)
	b = append(b, `","log.level":"info","message":"request","service.name":"`+Service...)
	b = append(b, `","http.request.method":"`...)
	b = append(b, r.Method...)
	b = append(b, `","http.request.id":"`...)
	b = append(b, r.RequestID...)
	b = append(b, `","http.response.status_code":`...)
	b = appendUint(b, uint64(r.UpstreamStatus))
	b = append(b, `,"http.response.body.bytes":`...)
	b = appendUint(b, uint64(r.Bytes))
	b = append(b, `,"url.domain":"`...)
	b = append(b, r.Host...)
	b = append(b, `","url.path":"`...)
	b = append(b, r.Path...)
	if len(r.Query) > 0 {
		b = append(b, `","url.query":"`...)
		b = append(b, r.Query...)
	}
	if r.Route != "" {
		b = append(b, `","http.route":"`...)
		b = append(b, r.Route...)
	}
	b = append(b, `","client.ip":"`...)
	b = append(b, r.Client...)
	b = append(b, `","source.geo.country_iso_code":"`...)
	b = append(b, r.Country...)
	if r.User != "" {
		b = append(b, `","user.id":"`...)
		b = append(b, r.User...)
		b = append(b, `","organization.id":"`...)
		b = append(b, r.Account...)
		b = append(b, `","labels.plan":"`...)
		b = append(b, r.Plan...)
		b = append(b, `","user.roles":["`...)
		b = append(b, r.Role...)
		b = append(b, `"]`...)
	} else {
		b = append(b, `","user.roles":[]`...)
	}
	if r.Cause != "" {
		b = append(b, `,"event.reason":"`...)
		b = append(b, r.Cause...)
		b = append(b, '"')
	}
	b = append(b, `,"user_agent.original":"`...)
	b = appendJSONEscaped(b, r.UserAgent)
	return append(b, "\"}\n"...)
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// appendLocalTime writes nginx's $time_local in UTC. It is a pure function, so
// it splits the time itself: time.AppendFormat takes five times as long.
func appendLocalTime(b []byte, ns int64) []byte {
	y, m, d, s, _ := split(ns)
	b = append2(b, d)
	b = append(b, '/')
	b = append(b, months[3*m-3:3*m]...)
	b = append(b, '/')
	b = appendUint(b, uint64(y))
	b = append(b, ':')
	b = appendClock(b, s)
	return append(b, " +0000"...)
}

// appendISOTime writes RFC 3339 in UTC with milliseconds.
func appendISOTime(b []byte, ns int64) []byte {
	y, m, d, s, nano := split(ns)
	b = appendUint(b, uint64(y))
	b = append(b, '-')
	b = append2(b, m)
	b = append(b, '-')
	b = append2(b, d)
	b = append(b, 'T')
	b = appendClock(b, s)
	ms := nano / 1e6
	b = append(b, '.', byte('0'+ms/100))
	b = append2(b, ms%100)
	return append(b, 'Z')
}

// split cuts a time into date, second of the day and nanosecond. The calendar
// is Howard Hinnant's civil_from_days (chrono-Compatible Low-Level Date
// Algorithms), for years from 1970.
func split(ns int64) (year, month, day, second, nano int) {
	sec := ns / int64(time.Second)
	days := sec/86400 + 719468
	era := days / 146097
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	if month > 12 {
		month -= 12
	}
	year = int(yoe + era*400)
	if month <= 2 {
		year++
	}
	return year, month, day, int(sec % 86400), int(ns % int64(time.Second))
}

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func appendClock(b []byte, s int) []byte {
	b = append2(b, s/3600)
	b = append(b, ':')
	b = append2(b, s/60%60)
	b = append(b, ':')
	return append2(b, s%60)
}

func appendUint(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }

const hexDigits = "0123456789abcdef"

// putHex fills dst with the lowest hexadecimal digits of x.
func putHex(dst []byte, x uint64) {
	for i := range dst {
		dst[i] = hexDigits[x&15]
		x >>= 4
	}
}

// appendUUID writes a version 4 UUID that belongs to n.
func appendUUID(b []byte, n uint64) []byte {
	r := rng{n}
	x, y := r.next(), r.next()
	at := len(b)
	b = append(b, "00000000-0000-4000-a000-000000000000"...)
	u := b[at:]
	putHex(u[:8], x)
	putHex(u[9:13], x>>32)
	putHex(u[15:18], x>>48)
	putHex(u[20:23], y)
	putHex(u[24:36], y>>12)
	return b
}

// appendNginxEscaped escapes as nginx's escape=default does.
func appendNginxEscaped(b []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' || c < 0x20 || c > 0x7e {
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'x', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
			from = i + 1
		}
	}
	return append(b, s[from:]...)
}

// appendJSONEscaped escapes what JSON needs; s is UTF-8.
func appendJSONEscaped(b []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' || c < 0x20 {
			b = append(b, s[from:i]...)
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			from = i + 1
		}
	}
	return append(b, s[from:]...)
}
