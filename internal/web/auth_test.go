package web

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/internal/secret"
)

const (
	ciToken   = "0123456789abcdef-ci"
	cdToken   = "0123456789abcdef-cd-and-longer"
	botSecret = "0123456789abcdef-bot"
)

var guarded = Config{
	Tokens: []secret.Token{{Name: "ci", Token: ciToken}, {Name: "cd", Token: cdToken}},
	HMAC:   []Key{{"old-bot", "fedcba9876543210-old"}, {"bot", botSecret}},
}

const release = `{"kind":"release","service":"shop","version":"v2.31.0","previous":"v2.30.4"}`

// signed is the header of a body that was signed by this key at that time.
func signed(key secret.String, at time.Time, body string) string {
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(sign(key, at.Unix(), []byte(body))))
}

// TestSignatureFormat holds the format against a value that openssl made:
// printf '1763460240.{"id":"a"}' | openssl dgst -sha256 -hmac 0123456789abcdef-bot.
func TestSignatureFormat(t *testing.T) {
	const want = "t=1763460240,v1=a0be4aec7a4d06724df7039caf51dfe33193c05549d975830c028d8ea9d34de6"
	if got := signed(botSecret, time.Unix(1763460240, 0), `{"id":"a"}`); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestWhoMayPost is the table of every way to be let in and to be kept out.
func TestWhoMayPost(t *testing.T) {
	h := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	bearer := func(token string, more ...string) map[string]string {
		return h(append([]string{"Authorization", "Bearer " + token}, more...)...)
	}
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the clock of a synctest bubble
	for _, c := range []struct {
		name   string
		cfg    Config
		req    request
		status int
		want   string // in the error or hint
	}{
		// A configured token.
		{"token", guarded, request{header: bearer(ciToken)}, 201, ""},
		{"second token", guarded, request{header: bearer(cdToken)}, 201, ""},
		{"scheme in other case", guarded, request{header: h("Authorization", "bearer "+ciToken)}, 201, ""},
		{"as curl -d says it", guarded, request{header: bearer(ciToken, "Content-Type", asForm)}, 201, ""},
		{"token from afar", guarded, request{header: bearer(ciToken), listen: openListener, peer: "192.0.2.7:1", host: "denywatch.example"}, 201, ""},
		{"token through a proxy", guarded, request{header: bearer(ciToken, "X-Forwarded-For", "192.0.2.7"), host: "denywatch.example"}, 201, ""},
		{"no token", guarded, request{}, 401, "a token is needed"},
		{"no token, though local", guarded, request{header: h("Content-Type", asJSON)}, 401, "a token is needed"},
		{"unknown token", guarded, request{header: bearer("0123456789abcdef-xx")}, 401, "the token is not known"},
		{"start of a token", guarded, request{header: bearer(ciToken[:18])}, 401, "the token is not known"},
		{"more than a token", guarded, request{header: bearer(ciToken + "x")}, 401, "the token is not known"},
		{"empty token", guarded, request{header: h("Authorization", "Bearer ")}, 401, "the token is not known"},
		{"a secret is no token", guarded, request{header: bearer(botSecret)}, 401, "the token is not known"},
		{"basic", guarded, request{header: h("Authorization", "Basic Y2k6eA==")}, 401, "a token is needed"},
		{"token in the address", guarded, request{target: "/v1/markers?token=" + ciToken}, 400, "unknown parameter"},
		{"token, other type", guarded, request{header: bearer(ciToken, "Content-Type", "multipart/form-data; boundary=x")}, 415, "application/json"},
		{"token, compressed", guarded, request{header: bearer(ciToken, "Content-Encoding", "gzip")}, 415, "uncompressed"},
		{"token from another site's page", guarded, request{header: bearer(ciToken, "Sec-Fetch-Site", "cross-site")}, 403, "another site"},

		// A signature.
		{"signed", guarded, request{header: h(SignatureHeader, signed(botSecret, now, release))}, 201, ""},
		{"signed with the older secret", guarded, request{header: h(SignatureHeader, signed("fedcba9876543210-old", now, release))}, 201, ""},
		{"signed 5 minutes ago", guarded, request{header: h(SignatureHeader, signed(botSecret, now.Add(-tolerance), release))}, 201, ""},
		{"signed too long ago", guarded, request{header: h(SignatureHeader, signed(botSecret, now.Add(-tolerance-time.Second), release))}, 401, "check the clocks"},
		{"signed in the future", guarded, request{header: h(SignatureHeader, signed(botSecret, now.Add(tolerance+time.Second), release))}, 401, "check the clocks"},
		{"signed another body", guarded, request{header: h(SignatureHeader, signed(botSecret, now, release+" "))}, 401, "not that of a configured secret"},
		{"signed with another secret", guarded, request{header: h(SignatureHeader, signed("0123456789abcdef-xxx", now, release))}, 401, "not that of a configured secret"},
		{"a token is no secret", guarded, request{header: h(SignatureHeader, signed(ciToken, now, release))}, 401, "not that of a configured secret"},
		{"other time than signed", guarded, request{header: h(SignatureHeader, strings.Replace(signed(botSecret, now.Add(-time.Hour), release), fmt.Sprint(now.Add(-time.Hour).Unix()), fmt.Sprint(now.Unix()), 1))}, 401, "not that"},
		{"no time", guarded, request{header: h(SignatureHeader, strings.Split(signed(botSecret, now, release), ",")[1])}, 401, "t=<unix>"},
		{"no sum", guarded, request{header: h(SignatureHeader, "t=946684800")}, 401, "t=<unix>"},
		{"short sum", guarded, request{header: h(SignatureHeader, "t=946684800,v1=00")}, 401, "t=<unix>"},
		{"no hex", guarded, request{header: h(SignatureHeader, "t=946684800,v1="+strings.Repeat("zz", 32))}, 401, "t=<unix>"},
		{"odd time", guarded, request{header: h(SignatureHeader, "t=+946684800,v1="+strings.Repeat("00", 32))}, 401, "t=<unix>"},
		{"bad signature beside a good token", guarded, request{header: bearer(ciToken, SignatureHeader, "t=1,v1=00")}, 401, "t=<unix>"},
		{"signed and too large", guarded, request{body: strings.Repeat(" ", maxBody+1), header: h(SignatureHeader, "t=1,v1=00")}, 413, "64 KiB"},

		// Nobody configured.
		{"local", Config{}, request{header: h("Content-Type", asJSON)}, 201, ""},
		{"local, with charset", Config{}, request{header: h("Content-Type", "application/json; charset=utf-8")}, 201, ""},
		{"local, no type", Config{}, request{}, 201, ""},
		{"local, useless token", Config{}, request{header: bearer(ciToken, "Content-Type", asJSON)}, 201, ""},
		{"local, as localhost", Config{}, request{host: "localhost:8403"}, 201, ""},
		{"local, as Localhost.", Config{}, request{host: "Localhost.:8403"}, 201, ""},
		{"local, without port", Config{}, request{host: "127.0.0.1"}, 201, ""},
		{"local, tunnelled port", Config{}, request{host: "localhost:9999"}, 201, ""},
		{"local, IPv6", Config{}, request{listen: "[::1]:8403", peer: "[::1]:5000", host: "[::1]:8403"}, 201, ""},
		{"local, mapped", Config{}, request{peer: "[::ffff:127.0.0.1]:5000"}, 201, ""},
		{"own page", Config{}, request{header: h("Content-Type", asJSON, "Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:8403")}, 201, ""},
		{"open listener", Config{}, request{listen: openListener}, 403, "add markers.tokens"},
		{"listener of the network", Config{}, request{listen: "192.0.2.1:8403", peer: "192.0.2.7:1"}, 403, "add markers.tokens"},
		{"peer from afar", Config{}, request{peer: "192.0.2.7:1"}, 403, "from this host only"},
		{"peer unknown", Config{}, request{peer: "pipe"}, 403, "from this host only"},
		{"a page's own name for 127.0.0.1", Config{}, request{host: "evil.example:8403", header: h("Content-Type", asJSON, "Origin", "http://evil.example:8403")}, 403, "loopback address or localhost"},
		{"name that only starts like localhost", Config{}, request{host: "localhost.evil.example"}, 403, "loopback address or localhost"},
		{"name that only starts like an address", Config{}, request{host: "127.0.0.1.evil.example"}, 403, "loopback address or localhost"},
		{"configured host is for reading", Config{Hosts: []string{"denywatch.internal"}}, request{host: "denywatch.internal"}, 403, "loopback address or localhost"},
		{"through a proxy", Config{}, request{header: h("X-Forwarded-For", "192.0.2.7")}, 403, "through a proxy"},
		{"through a proxy that says Forwarded", Config{}, request{header: h("Forwarded", "for=192.0.2.7")}, 403, "through a proxy"},
		{"another site's page", Config{}, request{header: h("Content-Type", asJSON, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")}, 403, "another site"},
		{"another port's page", Config{}, request{header: h("Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000")}, 403, "another site"},
		{"another site's page, old browser", Config{}, request{header: h("Origin", "https://evil.example")}, 403, "another site"},
		{"sandboxed page", Config{}, request{header: h("Origin", "null")}, 403, "another site"},
		{"form", Config{}, request{header: h("Content-Type", asForm)}, 415, "Content-Type: application/json"},
		{"form that looks like text", Config{}, request{header: h("Content-Type", "text/plain")}, 415, "Content-Type: application/json"},
		{"broken type", Config{}, request{header: h("Content-Type", "application/json; x")}, 415, "Content-Type: application/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, l := newServer(t, c.cfg, f)
				q := c.req
				q.method = http.MethodPost
				if q.target == "" {
					q.target = "/v1/markers"
				}
				if q.body == "" {
					q.body = release
				}
				w := q.do(t, s)
				if c.want == "" {
					if w.Code != c.status || len(f.markers) != 1 {
						t.Fatalf("status %d, body %s, %d markers", w.Code, w.Body, len(f.markers))
					}
				} else {
					told(t, w, c.status, c.want)
					if len(f.markers) != 0 || f.marks != 0 {
						t.Fatal("refused, but the backend got the marker")
					}
				}
				if got := w.Header().Get("WWW-Authenticate"); (got != "") != (c.status == 401) {
					t.Errorf("WWW-Authenticate: %q", got)
				}
				seen := l.String() + w.Body.String()
				for _, leak := range []string{ciToken, cdToken, botSecret, "fedcba9876543210-old", "0123456789abcdef-xx"} {
					if strings.Contains(seen, leak) {
						t.Errorf("%q is seen in log or answer: %s", leak, seen)
					}
				}
			})
		})
	}
}

func TestCallerIsLogged(t *testing.T) {
	s, l := newServer(t, guarded, &fake{})
	request{method: http.MethodPost, target: "/v1/markers", body: release, header: map[string]string{"Authorization": "Bearer " + cdToken}}.do(t, s)
	if got := l.String(); !strings.Contains(got, "caller=cd") || !strings.Contains(got, "id=shop-v2.31.0") || !strings.Contains(got, "component=web") {
		t.Errorf("log: %s", got)
	}
}

// TestRefusalsDoNotFloodTheLog: ten thousand guesses are a handful of lines that
// say how many there were.
func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newServer(t, guarded, &fake{})
		guess := func() {
			told(t, request{method: http.MethodPost, target: "/v1/markers"}.do(t, s), 401, "token")
		}
		for range 10_000 {
			guess()
		}
		time.Sleep(time.Minute) // of the bubble
		guess()
		if n := strings.Count(l.String(), "request refused"); n != 4 {
			t.Errorf("%d lines: %.500s", n, l)
		}
		if !strings.Contains(l.String(), "count=9998") {
			t.Errorf("the log does not say how many: %s", l)
		}
	})
}

func TestReloadChangesTokens(t *testing.T) {
	s, _ := newServer(t, guarded, &fake{})
	post := func(token string) int {
		return request{method: http.MethodPost, target: "/v1/markers", body: release, header: map[string]string{"Authorization": "Bearer " + token}}.do(t, s).Code
	}
	if post(ciToken) != 201 {
		t.Fatal("the first token is not taken")
	}
	s.Reload(Config{Tokens: []secret.Token{{Name: "ci", Token: "another-token-0123456789"}}})
	if post(ciToken) != 401 || post("another-token-0123456789") != 200 {
		t.Error("the reload did not change the tokens")
	}
}

// TestWhoMayRead: on a loopback listener a page's own name reads nothing.
func TestWhoMayRead(t *testing.T) {
	for _, c := range []struct {
		name, listen, host string
		status             int
	}{
		{"address", "", "127.0.0.1:8403", 200},
		{"localhost", "", "localhost:8403", 200},
		{"below localhost", "", "denywatch.localhost", 200},
		{"IPv6", "[::1]:8403", "[::1]:8403", 200},
		{"address without port", "[::1]:8403", "[::1]", 200},
		{"the address of a proxy", "", "10.0.0.5", 200},
		{"configured name", "", "Denywatch.Internal:443", 200},
		{"other name", "", "evil.example", 421},
		{"name with a bracket", "", "[evil.example]", 421},
		{"name on an open listener", openListener, "denywatch.example", 200},
	} {
		s, _ := newServer(t, Config{Hosts: []string{"denywatch.internal"}}, &fake{status: Status{Ready: true}})
		for _, path := range []string{"/", "/v1/incidents", "/v1/markers", "/v1/routes", "/v1/access", "/v1/status", "/metrics", "/readyz"} {
			w := request{method: http.MethodGet, target: path, listen: c.listen, host: c.host}.do(t, s)
			if w.Code != c.status {
				t.Errorf("%s, %s: status %d, want %d", c.name, path, w.Code, c.status)
			}
		}
		if w := (request{method: http.MethodGet, target: "/healthz", listen: c.listen, host: c.host}).do(t, s); w.Code != 200 {
			t.Errorf("%s: /healthz says %d", c.name, w.Code)
		}
	}
}
