package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

// TestReasonsAreJoined: an error log's reason reaches the very request it is
// about where both logs name it, whatever else the same client asked for, and
// though the access line is written a minute later.
func TestReasonsAreJoined(t *testing.T) {
	nginx := parsers.Config{Format: "nginx", LogFormat: `$remote_addr - $remote_user [$time_local] "$request" $status us="$upstream_status" conn=$connection`}
	apache := parsers.Config{Format: "apache", LogFormat: `%h %l %u %t "%r" %>s %O id=%L`}
	for _, x := range []struct {
		name          string
		format        parsers.Config
		access, error []string
		want          []string // splits by route: layer, cause, rule, number
	}{
		{
			"nginx, by connection", nginx,
			[]string{
				`192.0.2.1 - - [24/Nov/2026:10:00:58 +0000] "GET /a?x=1 HTTP/1.1" 403 us="-" conn=501`,
				`192.0.2.1 - - [24/Nov/2026:10:01:02 +0000] "GET /a?x=2 HTTP/1.1" 403 us="-" conn=502`,
				// The client that the access log names is one behind a proxy.
				`203.0.113.9 - - [24/Nov/2026:10:01:02 +0000] "GET /b HTTP/1.1" 403 us="-" conn=503`,
			},
			[]string{
				`2026/11/24 10:00:57 [error] 7#7: *501 access forbidden by rule, client: 192.0.2.1, server: shop, request: "GET /a?x=1 HTTP/1.1", host: "shop"`,
				`2026/11/24 10:00:59 [error] 7#7: *502 limiting requests, excess: 5.520 by zone "login", client: 192.0.2.1, server: shop, request: "GET /a?x=2 HTTP/1.1", host: "shop"`,
				`2026/11/24 10:00:59 [error] 7#7: *503 open() "/srv/www/b" failed (13: Permission denied), client: 10.0.0.1, server: shop, request: "GET /b HTTP/1.1", host: "shop"`,
			},
			[]string{"/a web acl  1", "/a web rate_limit login 1", "/b web fs_permission  1"},
		},
		{
			"nginx, by client and path", parsers.Config{Format: "combined"},
			[]string{`192.0.2.1 - - [24/Nov/2026:10:01:02 +0000] "GET /a HTTP/1.1" 403 5 "-" "ua"`, `192.0.2.2 - - [24/Nov/2026:10:01:02 +0000] "GET /a HTTP/1.1" 403 5 "-" "ua"`},
			[]string{`2026/11/24 10:00:59 [error] 7#7: *501 access forbidden by rule, client: 192.0.2.1, server: shop, request: "GET /a HTTP/1.1", host: "shop"`},
			[]string{"/a unknown   1", "/a web acl  1"},
		},
		{
			"nginx, both logs of a container", parsers.Config{Format: "combined", Wrapper: "cri"},
			[]string{
				`2026-11-24T11:00:58.1+01:00 stdout F 192.0.2.1 - - [24/Nov/2026:11:00:58 +0100] "GET /a HTTP/1.1" 403 5 "-" "ua"`,
				`2026-11-24T11:00:58.1+01:00 stderr F 2026/11/24 11:00:58 [error] 7#7: *501 access forbidden by rule, client: 192.0.2.1, server: shop, request: "GET /a HTTP/1.1", host: "shop"`,
				`2026-11-24T11:00:58.1+01:00 stderr F 2026/11/24 11:00:58 [notice] 1#1: using the "epoll" event method`,
				`2026-11-24T11:00:58.1+01:00 stderr F some script says hello`,
			},
			nil,
			[]string{"/a web acl  1"},
		},
		{
			"apache, both logs in one file", parsers.Config{Format: "common"},
			[]string{
				`192.0.2.1 - - [24/Nov/2026:10:01:02 +0000] "GET /a HTTP/1.1" 403 5`,
				`[Tue Nov 24 10:00:58.123456 2026] [authz_core:error] [pid 7:tid 9] [client 192.0.2.1:5001] AH01630: client denied by server configuration: /srv/www/a`,
			},
			nil,
			[]string{"/a web acl  1"},
		},
		{
			"apache through syslog, without a year", parsers.Config{Format: "common"},
			[]string{`192.0.2.1 - - [24/Nov/2026:10:01:02 +0000] "GET /a HTTP/1.1" 403 5`},
			[]string{`Nov 24 10:00:59 web httpd[7]: [authz_core:error] [pid 7:tid 9] [client 192.0.2.1:5001] AH01630: client denied by server configuration: /srv/www/a`},
			[]string{"/a web acl  1"},
		},
		{
			"apache, by log id", apache,
			[]string{
				`192.0.2.1 - - [24/Nov/2026:10:00:58 +0000] "GET /a HTTP/1.1" 403 5 id=ZzAAAKwVAAEAAAbIAAAAAA1B`,
				`192.0.2.1 - - [24/Nov/2026:10:00:58 +0000] "GET /a HTTP/1.1" 403 5 id=ZzAAAKwVAAEAAAbIAAAAAA2B`,
				`192.0.2.1 - - [24/Nov/2026:10:00:58 +0000] "GET /a HTTP/1.1" 403 5 id=-`,
			},
			[]string{
				`[Tue Nov 24 10:00:58.123456 2026] [authz_core:error] [pid 7:tid 9] [ZzAAAKwVAAEAAAbIAAAAAA1B] [client 192.0.2.1:5001] AH01630: client denied by server configuration: /srv/www/other`,
				`[Tue Nov 24 10:00:58.223456 2026] [core:error] [pid 7:tid 9] [ZzAAAKwVAAEAAAbIAAAAAA2B] (13)Permission denied: [client 192.0.2.1:5002] AH00035: access to /a denied (filesystem path '/srv/www/a') because search permissions are missing on a component of the path`,
			},
			[]string{"/a web acl  1", "/a web fs_permission  2"},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			cfg := configs.Default()
			base, _, err := shared(cfg, collect.FixedIdentityKey(), 60, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			base.Source, base.Vantage, base.Explained, base.Log = "web", event.Web, true, slog.New(slog.DiscardHandler)
			base.NewParser = func(_ string, lines [][]byte) (parsers.Parser, error) {
				if _, p := errorLog(lines, x.format, utc, time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)); p != nil {
					return p(), nil
				}
				f, err := parsers.Compile(x.format)
				if err != nil {
					return nil, err
				}
				return newStream(f, x.format, lines, time.Time{}), nil
			}
			ledger := slots.New(slots.Config{Step: cfg.Slot})
			clock := collect.NewClock(nil)
			clock.Move(1 << 62)
			out, applied := make(chan *tally.Block), make(chan struct{})
			go func() {
				defer close(applied)
				for b := range out {
					ledger.Apply(b, event.NoTime)
					b.Release()
				}
			}()
			host := collect.NewHost(&base, nil, nil, clock, &collect.Names{}, out)
			var hs []ingest.Handler
			for _, name := range []string{"error.log", "access.log"} {
				h, _, err := host.Open(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				hs = append(hs, h)
			}
			for i, lines := range [][]string{x.error, x.access} {
				data := []byte(strings.Join(lines, "\n") + "\n")
				if err := hs[i].Batch(t.Context(), &ingest.Batch{Data: data, End: ingest.Position{Offset: int64(len(data))}}); err != nil {
					t.Fatal(err)
				}
				if err := hs[i].Close(context.Background(), true); err != nil {
					t.Fatal(err)
				}
			}
			close(out)
			<-applied
			var got []string
			for c := ledger.Next(event.NoTime); c != nil; c = ledger.Next(event.NoTime) {
				for _, l := range c.Leaves {
					for _, s := range l.Splits {
						got = append(got, fmt.Sprint(l.Key.Route, " ", s.Layer, " ", s.Cause, " ", s.Rule, " ", s.N))
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, x.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(x.want, "\n"))
			}
		})
	}
}
