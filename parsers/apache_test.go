package parsers

import (
	"errors"
	"strings"
	"testing"
)

func TestApacheLines(t *testing.T) {
	const at = "[14/Nov/2026:10:12:13 +0000]"
	const when = "time=2026-11-14T10:12:13Z "
	for _, c := range []struct {
		name, format, line string
		mapping            map[string]string
		zone               string
		want               string
		err                error
	}{
		{
			name: "common", format: "common",
			line: `203.0.113.5 - - ` + at + ` "GET /a HTTP/1.1" 403 199`,
			want: when + "method=GET path=/a status=403 client=203.0.113.5",
		}, {
			name: "combined, no bytes", format: "combined",
			line: `host.example - - ` + at + ` "HEAD /a HTTP/1.1" 304 - "-" "x"`,
			want: when + "method=HEAD path=/a status=304 client=host.example agent=x",
		}, {
			name: "a virtual host that writes its name in front", format: "combined",
			line: `shop.example:443 203.0.113.5 - - ` + at + ` "GET /a HTTP/1.1" 403 199 "-" "x"`,
			want: when + "host=shop.example method=GET path=/a status=403 client=203.0.113.5 agent=x",
		}, {
			name: "a user who looks like a dash is not taken for a host's", format: "combined",
			line: `203.0.113.5 - - - ` + at + ` "GET /a HTTP/1.1" 403 199 "-" "x"`,
			want: when + `method=GET path=/a status=403 client=203.0.113.5 user?="- -" agent=x`,
		}, {
			name: "vhost_combined", format: "vhost_combined",
			line: `shop.example:80 203.0.113.5 - bob smith ` + at + ` "GET /a HTTP/1.1" 403 199 "-" "x"`,
			want: when + `host=shop.example method=GET path=/a status=403 client=203.0.113.5 user?="bob smith" agent=x`,
		}, {
			name: "vhost_common", format: "vhost_common",
			line: `shop.example 203.0.113.5 - - ` + at + ` "GET /a HTTP/1.1" 403 199`,
			want: when + `host=shop.example method=GET path=/a status=403 client=203.0.113.5`,
		}, {
			name: "empty user", format: "combined",
			line: `203.0.113.5 - "" ` + at + ` "GET /a HTTP/1.1" 401 199 "-" "-"`,
			want: when + "method=GET path=/a status=401 client=203.0.113.5",
		}, {
			name: "escapes", format: "combined",
			line: `203.0.113.5 - m\"l\n ` + at + ` "GET /\xc3\xa9?a=\"q\" HTTP/1.1" 403 199 "-" "e \" a \\ b\tc"`,
			want: when + `method=GET path="/é?a=\"q\"" status=403 client=203.0.113.5 user?="m\"l\n" agent="e \" a \\ b\tc"`,
		}, {
			name: "forged fields in the user agent", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 1 "-" "x\" 200 5 \"-\" \"y"`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5 agent="x\" 200 5 \"-\" \"y"`,
		}, {
			name: "a backslash before the closing quote", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "GET /\\" 403 1 "-" "y\\"`,
			want: when + `method=GET path=/\ status=403 client=203.0.113.5 agent=y\`,
		}, {
			name: "timeout", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "-" 408 - "-" "-"`,
			want: when + "status=408 client=203.0.113.5",
		}, {
			name: "lower case method", format: "combined",
			line: `203.0.113.5 - - ` + at + ` "get /x HTTP/1.1" 403 1 "-" "-"`,
			want: when + "method=get path=/x status=403 client=203.0.113.5",
		}, {
			name: "final status", format: `%t %s %>s %<s "%r"`,
			line: at + ` 403 404 403 "GET / HTTP/1.1"`,
			want: when + "method=GET path=/ status=404 original=403",
		}, {
			name: "first status only", format: `%t %s "%r"`,
			line: at + ` 403 "GET / HTTP/1.1"`,
			want: when + "method=GET path=/ status=403",
		}, {
			name: "peer and client", format: `%{c}a %h %a %t %>s %{c}h`,
			line: `10.0.0.1 h.example 203.0.113.5 ` + at + ` 403 10.0.0.1`,
			want: when + "status=403 client=203.0.113.5",
		}, {
			name: "method, path and query", format: `%t "%m" "%U%q" "%H" %>s %V`,
			line: at + ` "GET" "/a b?c=d" "HTTP/1.1" 403 shop.example`,
			want: when + `host=shop.example method=GET path="/a b?c=d" status=403`,
		}, {
			name: "path without its query", format: `%t %m %U %q %>s`,
			line: at + ` GET /a ?x=y 403`,
			want: when + `method=GET path=/a status=403`,
		}, {
			name: "durations, bytes and the rest", format: `%t %>s %B %D %T %{ms}T %{us}T %I %O %S %k %X %P %{tid}P %A %p %{remote}p "%f" "%R" %L %% %{UNIQUE_ID}e`,
			line: at + ` 403 0 816 0 0 816 190 434 624 0 + 5062 140 127.0.0.1 80 5555 "/srv/x y" "proxy-server" - % Abc-D`,
			want: when + `status=403 id=Abc-D`,
		}, {
			name: "for some statuses only", format: `%t %>s "%!200,304{User-Agent}i" "%400,403{Referer}i" %403u`,
			line: at + ` 200 "-" "-" -`,
			want: when + `status=200`,
		}, {
			name: "headers without quotes", format: `%a %l %u %t "%r" %>s %b %400,403{User-Agent}i %!200{Referer}i %{X-User}o %{X-Role}o %{session}C`,
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403 239 An agent (with spaces) http://r.example/ u7 owner -`,
			want: when + `method=GET path=/ status=403 client=203.0.113.5 user=u7 role=owner agent="An agent (with spaces)"`,
		}, {
			name: "labelled and mapped", format: `{"t":"%{%Y-%m-%dT%H:%M:%S%z}t","s":%>s,"user":"%u","role":"%{X-Role}i","p":"%{X-P}i"}`,
			mapping: map[string]string{"plan": "%{x-p}i"},
			line:    `{"t":"2026-11-14T10:12:13+0000","s":403,"user":"""","role":"a\"b","p":"pro"}`,
			want:    when + `status=403 role="a\"b" plan=pro`,
		}, {
			name: "country", format: `%t %>s "%{GEOIP_COUNTRY_NAME}e" %{GEOIP_COUNTRY_CODE}e`,
			line: at + ` 403 "Costa Rica" CR`,
			want: when + `status=403 geo=CR`,
		}, {
			name: "milliseconds", format: `[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t] %>s`,
			line: `[14/Nov/2026:10:12:13.042 +0100] 403`,
			want: "time=2026-11-14T09:12:13.042Z status=403",
		}, {
			name: "an error page's answer", format: `%t %s %>s`,
			line: at + ` 403 404`,
			want: when + "status=404 original=403",
		}, {
			name: "milliseconds right behind seconds", format: `%{sec}t%{msec_frac}t %>s`,
			line: `1795454351055 403`,
			want: "time=2026-11-23T17:19:11.055Z status=403",
		}, {
			name: "begin before end", format: `%{end:%s}t [%{begin:%F %T}t] %>s`,
			line: `1795454351 [2026-11-14 10:12:13] 403`,
			want: when + "status=403",
		}, {
			name: "only the end", format: `%{end}t %>s`,
			line: at + ` 403`,
			want: when + "status=403",
		}, {
			name: "microseconds win", format: `%t %{sec}t %{msec}t %{usec}t %>s`,
			line: at + ` 1795454351 1795454351055 1795454351055123 403`,
			want: "time=2026-11-23T17:19:11.055123Z status=403",
		}, {
			name: "date and time apart", format: `%{%Y-%m-%d}t %a %{%H:%M:%S}t %>s`, zone: "Europe/Berlin",
			line: `2026-11-14 203.0.113.5 10:12:13 403`,
			want: "time=2026-11-14T09:12:13Z status=403 client=203.0.113.5",
		}, {
			name: "zone as an offset", format: `%{%F %T}t %>s`, zone: "-05:30",
			line: `2026-11-14 10:12:13 403`,
			want: "time=2026-11-14T15:42:13Z status=403",
		}, {
			name: "afternoon", format: `%{%a %e %B %y %I:%M:%S %p %Z}t %>s`,
			line: `Sat  7 November 26 12:05:06 PM GMT 403`,
			want: "time=2026-11-07T12:05:06Z status=403",
		}, {
			name: "day of the year", format: `%{%Y/%j %H:%M}t %>s`,
			line: `2024/060 10:12 403`,
			want: "time=2024-02-29T10:12:00Z status=403",
		},
		{name: "day 366", format: `%{%Y/%j %H:%M}t %>s`, line: `2023/366 10:12 403`, err: ErrTime},
		{name: "13 PM", format: `%{%F %I:%M %p}t %>s`, line: `2023-01-01 13:12 PM 403`, err: ErrTime},
		{name: "a month that is none", format: `%{%F %T}t %>s`, line: `2023-13-01 13:12:00 403`, err: ErrTime},
		{name: "not a log line", format: `common`, line: `not a common log line`, err: ErrMismatch},
		{
			name: "no time for this status", format: `%200{%F %T}t %>s`,
			line: `- 403`,
			want: "status=403",
		}, {
			name: "a statement of httpd.conf", format: `LogFormat "%h %l %u %t \"%r\" %>s\t%b" short`,
			line: `203.0.113.5 - - ` + at + ` "GET / HTTP/1.1" 403` + "\t9",
			want: when + "method=GET path=/ status=403 client=203.0.113.5",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOnce(Config{Format: "apache", LogFormat: c.format, Mapping: c.mapping, Timezone: c.zone}, c.line)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestApacheFormatsRefused(t *testing.T) {
	for format, want := range map[string]string{
		`%t %>s %`:                         "ends before its letter",
		`%t %>s %y`:                        "no directive",
		`%t %>s %{x}b`:                     "{x} is not known here",
		`%t %>s %i`:                        "needs a name",
		`%t %>s %{User-Agent`:              "no closing }",
		`%t %>s %^f`:                       "cut off",
		`%{%F %T %Q}t %>s`:                 "is not supported",
		`%{%F}t %>s`:                       "no time with date and time of day",
		`%t %U`:                            "no status",
		`%t %>s %{sec}t%{msec}t`:           "side by side",
		`%t %>s "%u%{Referer}i"`:           "cannot be told apart",
		`%h %u %{User-Agent}i %t "%r" %>s`: `put each in quotes, as in "%{User-Agent}i"`,
		`%h %{sec}t%D "%r" %>s`:            "cannot be told apart",
		`combind`:                          "neither a nickname",
		`LogFormat %t`:                     "quoted string",
		`LogFormat "%t %>s`:                "no end",
		`%t %>s %{%H:%M:%S`:                "no closing }",
	} {
		var all strings.Builder
		for _, p := range (Config{Format: "apache", LogFormat: format}).Validate() {
			all.WriteString(p.Error() + "\n")
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s: %q does not say %q", format, all.String(), want)
		}
	}
}

func FuzzApache(f *testing.F) {
	formats := []string{
		"combined", "vhost_common",
		`%a %l %u %t "%r" %>s %b %400,403{User-Agent}i %!200{Referer}i %{X-User}o %{X-Role}o %{session}C`,
		`{"t":"%{%Y-%m-%dT%H:%M:%S%z}t","s":%>s,"user":"%u","role":"%{X-Role}i"}`,
		`[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t] %{end:%s}t %{%j %p %Z %B %y}t %>s %U%q`,
		`%{usec}t %>s %u`,
	}
	for i, l := range []string{
		`203.0.113.5 - "" [14/Nov/2026:10:12:13 +0000] "GET /\xc3?a=\"q\" HTTP/1.1" 403 199 "-" "e \" a \\"`,
		`h 203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "-" 408 -`,
		`203.0.113.5 - - [14/Nov/2026:10:12:13 +0000] "GET / HTTP/1.1" 403 239 An agent (x) - u7 owner -`,
		`{"t":"2026-11-14T10:12:13+0000","s":403,"user":"""","role":"a\"b"}`,
		`[14/Nov/2026:10:12:13.042 +0100] 1795454351 060 PM UTC November 26 403 /x?y`,
		`1795454351055123 403 bob`,
	} {
		f.Add(uint8(i), []byte(l))
	}
	var ps []Parser
	for _, s := range formats {
		c := Config{Format: "apache", LogFormat: s}.normal()
		elems, esc, _, err := c.elements()
		if err != nil {
			f.Fatal(err)
		}
		p, err := assemble(elems, esc, nil, false)
		if err != nil {
			f.Fatal(err)
		}
		ps = append(ps, newTemplateParser(p))
	}
	f.Fuzz(func(t *testing.T, i uint8, line []byte) {
		checkParse(t, ps[int(i)%len(ps)], line)
	})
}
