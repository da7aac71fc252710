package route_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/route"
)

// TestLiterals: what has digits in it and names a page, not a thing.
func TestLiterals(t *testing.T) {
	r := router(t)
	for _, s := range strings.Fields(`oauth2 s3 web3 utf8 page2 2fa 3d-models v2 v10 v1beta1 v2alpha1 iso8601 base64 mp3 h264 covid-19 top-100
		sha256 i18n a11y k8s b2b e2e p2p ipv6 x509 html5 win32 utf-8 iso-8859-1 iso-27001 rfc7231 http-2 windows-11 24-7 4k 3ds2 mp4
		log4j2 utf8mb4 office365 1password route53 md5 area51 robots.txt sitemap.xml favicon.ico index.html main.js jquery.min.js
		security.txt .well-known .env apple-app-site-association socket.io app.min.js style.css logo@2x.png photo-1.jpg step-3
		getUserProfile GetUserProfileByName UserService InternetExplorerSupport best-laptops-2024 sale2024 year-2024 wp-login.php xmlrpc.php
		accessibility internationalization zahlungsmethoden straight-through-processing users:batchGet web-push openid-configuration
		com.example.Service browserconfig.xml manifest.webmanifest terms_of_service privacy-policy-for-customers
		decade facade deadbeef feed cafe catch-22 iphone-15-pro log4j x86 x86_64 arm64 to-do is-it no-go`) {
		if got := template(r, "/x/"+s, ""); got != "/x/"+s {
			t.Errorf("%s: got %s", s, got)
		}
	}
	for _, s := range strings.Fields(`404 500 365 1 2 500.html 404.php 1.1 2.0 v1.41 is it no in my me us to-do hr cs id io go do so my-me is-it`) {
		if got := template(r, "/"+s, ""); got != "/"+s {
			t.Errorf("%s, first: got %s", s, got)
		}
	}
	for _, s := range strings.Fields(`/errors/404 /status/503 /error/500.html /api/2.0/users /1.1/statuses/update.json /.git/config`) {
		if got := template(r, s, ""); got != s {
			t.Errorf("%s: got %s", s, got)
		}
	}
}

// TestVariables: what names one thing, wherever it comes after the first segment.
func TestVariables(t *testing.T) {
	r := router(t)
	for _, line := range strings.Split(strings.TrimSpace(`
{id}: 1 42 404 2024 99999 0042 9007199254740993
{id}: 550e8400-e29b-41d4-a716-446655440000 550E8400-E29B-41D4-A716-446655440000 550e8400e29b41d4a716446655440000
{id}: {550e8400-e29b-41d4-a716-446655440000} %7B550e8400-e29b-41d4-a716-446655440000%7d urn:uuid:550e8400-e29b-41d4-a716-446655440000
{id}: 01ARZ3NDEKTSV4RRFFQ69G5FAV 01arz3ndektsv4rrffq69g5fav 0ujtsYcgvSTl8PAuAdqWYSMnLOv V1StGXR8_Z5jdHi6B-myT
{id}: cus_9s6XKzkNRiz8i3 pi_3MtwBwLkdIwHu7ix28a3tqPa sub_1MowQVLkdIwHu7ixeRlqHVzs acct_1032D82eZvKYlo2C ord-2026-000123 INV-2026-0012 PROJ-1234 PROJ-7
{id}: 3f2a91b 3f2a91bc 9b74c9897bac770ffc029102a200c5de c4ca4238a0b923820dcc509a6f75849b507f1f77
{id}: gid%3A%2F%2Fshopify%2FProduct%2F10079785100 https%3A%2F%2Fexample.com%2Fa ann@example.org ann%40example.org
{id}: +4915112345678 +49-151-1234567 10.0.0.1 192.168.1.254 2001:db8::1 52.5200,13.4050 -33.8688 52.520008 100px 10.5kg
{id}: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP dQw4w9WgXcQ a1b2c3 9s6XKzkN aGVsbG8gd29ybGQ= web-7d9c6b8f5d-x2x4z
{id}: order-12345 user_10042 12345-my-post-title blue-cotton-shirt-123456 1,2,3 XkqJzvBwPmdf
{date}: 2026-11-24 20261124 2026_11_24 24-11-2026 2026-11 2026-W47 2026-11-24T10:00:00Z 20261124T100000Z
{version}: 1.2.3 v1.2.3 10.15.7 1.0.0-beta.1
{host}: www.example.com api.shop.example mail.example.co.uk
@{user}: @ann @octo-cat
{id}.json: 42.json 550e8400-e29b-41d4-a716-446655440000.json
{id}.pdf: INV-2026-0012.pdf 9b74c9897bac770ffc029102a200c5de.pdf
{id}:cancel: 42:cancel
Products({id}): Products(42) Products('abc')
year={id}: year=2026 year=1
app.{hash}.js: app.3f2a91bc.js
main-{hash}.css: main-4f3c2a1b.css
index-{hash}.js: index-BxK3a9Zq.js index-B_x-9aZq.js
vendors~main.{hash}.chunk.js: vendors~main.3f2a91bc.chunk.js
runtime.{hash}.js.map: runtime.3f2a91bcde.js.map
{file}.chunk.js: 2.3f2a91bc.chunk.js
{file}.js: 255-1a2b3c4d5e6f7a8b.js
jquery-{version}.min.js: jquery-3.6.0.min.js jquery-3.7.1.min.js
{id}.jpg: IMG_20240115_123456.jpg 3f2a91bc9d.jpg 1234567.jpg
{slug}: how-to-build-a-very-long-title-that-goes-on-and-on-for-search-engines-only
`), "\n") {
		want, list, _ := strings.Cut(line, ": ")
		for _, s := range strings.Fields(list) {
			if got := template(r, "/x/"+s, ""); got != "/x/"+want {
				t.Errorf("%s: got %s, want /x/%s", s, got, want)
			}
		}
	}
}

func TestPaths(t *testing.T) {
	r := router(t)
	for _, c := range []struct{ target, want string }{
		{"/en/products", "/{locale}/products"},
		{"/de-DE/produkte/42", "/{locale}/produkte/{id}"},
		{"/pt-br", "/{locale}"},
		{"/zh-Hans-CN/a", "/{locale}/a"},
		{"/es-419/a", "/{locale}/a"},
		{"/api/v1/fr/a", "/api/v1/{locale}/a"},
		{"/api/en/a", "/api/{locale}/a"},
		{"/docs/en-US/a", "/docs/{locale}/a"},
		{"/it/prodotti", "/it/prodotti"},
		{"/users/de", "/users/de"},
		{"/to-do/1", "/to-do/{id}"},
		{"/is-IS/a", "/{locale}/a"},
		{"/2026/11/24/hello-world", "/{year}/{month}/{day}/hello-world"},
		{"/blog/2026/11/hello-world", "/blog/{year}/{month}/hello-world"},
		{"/users/2026/settings", "/users/{id}/settings"},
		{"/users/2026/113", "/users/{id}/{id}"},
		{"/a//b", "/a/b"},
		{"/a/./b", "/a/b"},
		{"/a/x/../b", "/a/b"},
		{"/../../etc/passwd", "/etc/passwd"},
		{"/a/%2e%2e/b", "/b"},
		{"/a%2Db/%7euser/%41", "/a-b/~user/A"},
		{"/caf%c3%a9", "/caf%C3%A9"},
		{"/caf\xc3\xa9", "/caf%C3%A9"},
		{"/a%2fb", "/a%2Fb"},
		{"/a%zz%", "/a%zz%"},
		{"/app;jsessionid=A1B2/users;x=1/42;y", "/app/users/{id}"},
		{"/app%3bjsessionid=A1B2/users", "/app/users"},
		{"/users/42%3Fpage=2", "/users/{id}"},
		{"/reset%3ftoken=s3cr3t/x", "/reset"},
		{"/search&q=secret", "/search"},
		{"/r&d/x", "/r&d/x"},
		{"/;a/b", "/b"},
		{"http://shop.example?u=/a/b", "/"},
		{"HTTPS://shop.example:8443/users/1", "/users/{id}"},
		{"example.org:443", ""},
		{"/fetch/https://example.org/a/b", "/fetch/**"},
		{"/~ann/public", "/~{user}/public"},
		{"/_next/static/chunks/framework-2c79e2a64abdb08b.js", "/_next/static/chunks/framework-{hash}.js"},
		{"/_next/static/Xk2fP9qLm3RsTvWz0AbCd/_buildManifest.js", "/_next/static/{id}/_buildManifest.js"},
		{"/wiki/%E6%97%A5%E6%9C%AC", "/wiki/%E6%97%A5%E6%9C%AC"},
		{"/a/%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E%E6%97%A5%E6%9C%AC%E8%AA%9E", "/a/{slug}"},
	} {
		if got := template(r, c.target, ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.target, got, c.want)
		}
	}
}

// TestRandomIDs: of ids that no rule knows by form, how many are seen for what
// they are, by length and alphabet. What is missed the learner meets as a slug.
func TestRandomIDs(t *testing.T) {
	const digits, lower, upper = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	r := router(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name, alphabet string
		n              int
		least          float64
	}{
		{"short commit", digits + "abcdef", 7, 0.93},
		{"hex", digits + "abcdef", 8, 0.99},
		{"hex", digits + "abcdef", 40, 1},
		{"base62", digits + lower + upper, 8, 0.55},
		{"base62", digits + lower + upper, 12, 0.92},
		{"base62", digits + lower + upper, 16, 0.98},
		{"base62", digits + lower + upper, 22, 0.99},
		{"ULID", digits + "ABCDEFGHJKMNPQRSTVWXYZ", 26, 0.999},
		{"cuid", digits + lower, 25, 0.999},
		{"nanoid", digits + lower + upper + "-_", 21, 0.985},
		{"base64url", digits + lower + upper + "-_", 32, 0.995},
		{"letters", lower + upper, 20, 0.98},
		{"small letters", lower, 20, 0.96},
	} {
		const all = 2000
		for _, pre := range []string{"", "cus_"} {
			if pre != "" && c.alphabet == lower {
				continue // words in small letters are literals
			}
			found := 0
			for range all {
				b := []byte(pre)
				for range c.n {
					b = append(b, c.alphabet[rnd.IntN(len(c.alphabet))])
				}
				if template(r, "/x/"+string(b), "") == "/x/{id}" {
					found++
				}
			}
			if share := float64(found) / all; share < c.least {
				t.Errorf("%s%s of %d: %.3f found", pre, c.name, c.n, share)
			}
		}
	}
}

// FuzzKeyAgrees: Key takes short cuts that Template does not; paths made of the
// same few segments must not meet in a key.
func FuzzKeyAgrees(f *testing.F) {
	segs := strings.Split("a|v1|en|to-do|2026|11|24|20261124|42|007|404|errors|api|x.js|app.3f2a91bc.js|1.1|1.2.3|;j=1|b;j=1|%41|a%2Fb|%3Fq|42%3fq=1|k=1|P(1)|https:||.|..|%2e%2e|"+
		"550e8400-e29b-41d4-a716-446655440000|cus_9s6XKzkNRiz8i3|report-7.pdf|report-12345.pdf|~ann|@ann|{x}|café|caf%c3%a9|q&x=1|r&d|deadbeef|00000000|aaaaaaaaaaaaaaaaaaaaaaaa|"+strings.Repeat("x", 65), "|")
	routers := []*route.Router{router(f), router(f, "/a/{id}/x.js", "/42/**", "/api/report-{n}.pdf", "/{x}/2026", "/v1/{y}.js")}
	f.Add([]byte{1, 2, 3}, []byte{1, 2, 4})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		build := func(in []byte) []byte {
			var p []byte
			for _, x := range in[:min(len(in), 16)] {
				p = append(append(p, '/'), segs[int(x)%len(segs)]...)
			}
			return p
		}
		pa, pb := route.Path(build(a)), route.Path(build(b))
		for _, r := range routers {
			ka, ea := r.Key(pa, nil)
			kb, eb := r.Key(pb, nil)
			ta, tb := string(r.Template(nil, pa[:ea], nil)), string(r.Template(nil, pb[:eb], nil))
			if ka == kb && ta != tb {
				t.Fatalf("%q and %q have one key, templates %q and %q", pa, pb, ta, tb)
			}
			if whole := string(r.Template(nil, pa, nil)); whole != ta {
				t.Fatalf("%q: template %q of the whole target, %q of the path", pa, whole, ta)
			}
			if len(ta) > route.MaxBytes {
				t.Fatalf("%d bytes of template", len(ta))
			}
		}
	})
}

// TestAppRouteKeys: an application's route that is refused must not hide the path.
func TestAppRouteKeys(t *testing.T) {
	for _, r := range []*route.Router{router(t), router(t, "/a/**")} {
		app := []byte("UsersController#show")
		k1, _ := r.Key([]byte("/x"), app)
		k2, _ := r.Key([]byte("/y"), app)
		if k1 == k2 {
			t.Error("one key for two paths")
		}
	}
}

// TestAffixes: segments of one shape that only some patterns fit.
func TestAffixes(t *testing.T) {
	r := router(t, "/f/report-{n}.pdf", "/f/2026/x")
	for _, c := range []struct{ target, want string }{
		{"/f/report-12345.pdf", "/f/report-{n}.pdf"},
		{"/f/letter-12345.pdf", "/f/{id}.pdf"},
		{"/f/2026/x", "/f/2026/x"},
		{"/f/2027/x", "/f/{id}/x"},
		{"/f//2026;a=b/x/", "/f/2026/x"},
	} {
		if got := template(r, c.target, ""); got != c.want {
			t.Errorf("%q: got %q, want %q", c.target, got, c.want)
		}
	}
	a, _ := r.Key([]byte("/f/report-12345.pdf"), nil)
	b, _ := r.Key([]byte("/f/letter-12345.pdf"), nil)
	if a == b {
		t.Error("one key for two templates")
	}
}

var targets = []string{
	"/api/v1/projects/81413/members/550e8400-e29b-41d4-a716-446655440000?page=2",
	"/blog/how-to-build-a-better-mouse-trap-in-ten-easy-steps/comments/",
	"/_next/static/chunks/pages/index-5d1c4b7a9e2f3806.js",
	"/de-DE/p/giesskanne-aus-kupfer;jsessionid=7C2F19A0B3?x=1",
	"/v1/customers/cus_NffrFeUfNV2Hib/sources/card_1MvoiELkdIwHu7ixOeFGbN9D",
	"/caf%c3%a9/2026/11/24/%7Euser/a%2Db%3Fq=1",
	"/.well-known/../a//b/./c/10.0.0.1/ann@example.org",
}

func TestKeyDoesNotAllocate(t *testing.T) {
	for _, r := range []*route.Router{router(t), router(t, "/a/report-{n}.pdf", "/x/{id}")} {
		for _, s := range targets {
			p := []byte(s)
			if n := testing.AllocsPerRun(100, func() { r.Key(p, nil) }); n != 0 {
				t.Errorf("%s: %v allocations", s, n)
			}
		}
	}
}

func BenchmarkKeyKinds(b *testing.B) {
	r := router(b)
	for _, s := range targets {
		b.Run(s[1:12], func(b *testing.B) {
			p := []byte(s)
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				r.Key(p, nil)
			}
		})
	}
}
