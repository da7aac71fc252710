package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/tally"
)

type fromKey struct{}

// visitor is a client whose requests come from the address in their context.
var visitor = &http.Client{
	Timeout: 20 * time.Second,
	Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{}
			if from, ok := ctx.Value(fromKey{}).(string); ok {
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
			}
			return d.DialContext(ctx, network, addr)
		},
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// visit makes a request as a person.
func visit(ctx context.Context, who *person, url string) (int, error) {
	req, err := http.NewRequestWithContext(context.WithValue(ctx, fromKey{}, who.address), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-User", who.name)
	req.Header.Set("X-Session-Role", who.role)
	req.Header.Set("User-Agent", "Mozilla/5.0")
	resp, err := visitor.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// up waits until a server answers.
func up(t *testing.T, p *servertest.Process, url string) {
	t.Helper()
	p.Await(t, url+" to answer", func() (bool, string) {
		status, err := visit(t.Context(), &people[0], url)
		return err == nil && status < 300, fmt.Sprint(status, err)
	})
}

// crowd visits at a steady rate, each second rate times, what next says, until
// the function it returns is called.
func crowd(t *testing.T, rate int, next func() (*person, string)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	work := make(chan func())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for f := range work {
				f()
			}
		})
	}
	wg.Go(func() {
		defer close(work)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			who, url := next()
			work <- func() {
				// A request that was begun is finished: the server has logged it.
				if _, err := visit(context.WithoutCancel(ctx), who, url); err != nil {
					t.Errorf("visit: %v", err)
				}
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// product is the application behind nginx: it logs as JSON and can be broken.
type product struct {
	mu      sync.Mutex
	x       *traffic
	log     *log
	count   *written
	broken  *wall
	refused []refusal
}

type refusal struct {
	at   time.Time
	user string
}

// ServeHTTP implements http.Handler.
func (p *product) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := slices.IndexFunc(people, func(x person) bool { return x.name == req.Header.Get("X-User") })
	if who < 0 {
		w.WriteHeader(http.StatusNoContent) // a probe of the test
		return
	}
	r := request{at: time.Now(), who: &people[who], path: req.URL.Path, route: route(req.URL.Path), status: http.StatusOK}
	for i := range pages {
		if pages[i].route == r.route && p.x.rnd.Float64() < pages[i].refused {
			r.status = http.StatusForbidden
		}
	}
	if b := p.broken; b != nil && b.route == r.route && b.role == r.who.role {
		r.status = http.StatusForbidden
	}
	if r.status == http.StatusForbidden && r.who.role == "editor" && r.route == "/projects/{id}/export" {
		p.refused = append(p.refused, refusal{r.at, r.who.name})
	}
	if err := p.log.append(r.json()); err != nil {
		panic(err)
	}
	p.add(&r)
	w.WriteHeader(r.status)
}

// add counts a request that both logs hold.
func (p *product) add(r *request) {
	for _, source := range []string{"web", "app"} {
		p.count.lines[source]++
		p.count.columns[column{source, service, r.route, tally.StatusOf(uint16(r.status)).String()}]++
	}
}

// route is the route of a path of the product.
func route(path string) string {
	parts := strings.Split(path, "/")
	if len(parts) > 2 && parts[1] == "projects" {
		parts[2] = "{id}"
	}
	return strings.Join(parts, "/")
}

// set breaks the product; nil mends it.
func (p *product) set(w *wall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = w
}

// TestNginxToSlack is the product's main job on real input: nginx and an
// application log what they do, a release breaks one role on one route, and the
// team reads what broke, for whom and since when.
func TestNginxToSlack(t *testing.T) {
	long(t)
	nginx := servertest.Need(t, "nginx")
	dir := t.TempDir()
	began := time.Now()
	access := filepath.Join(dir, "log", "access.log")
	write(t, access, "")
	app := &product{x: newTraffic(1), log: &log{path: filepath.Join(dir, "log", "app.jsonl")}, count: newWritten()}
	backend := httptest.NewServer(app)
	t.Cleanup(backend.Close)

	// The logs hold three hours already: denywatch is installed on a host that
	// works. A baseline takes more than an hour to be believed.
	const before = 3 * 3600 * 8
	past := &log{path: access}
	x := newTraffic(2)
	for i := range before {
		r := x.next(began.Add(-3*time.Hour + time.Duration(i)*time.Second/8))
		if err := errors.Join(past.append(r.upstream()), app.log.append(r.json())); err != nil {
			t.Fatal(err)
		}
		app.add(&r)
	}

	port := servertest.FreePort(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // what workers write lies in the test's folder
	}
	conf := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`%[1]s
daemon off;
worker_processes 1;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log warn;
events { worker_connections 512; }
http {
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  log_format up '%[3]s';
  access_log %[2]s/log/access.log up;
  server {
    listen 127.0.0.1:%[4]d;
    location = /probe { access_log off; return 204; }
    location / { proxy_pass %[5]s; }
  }
}
`, user, dir, upstream, port, backend.URL))
	server := servertest.Serve(t, exec.Command(nginx, "-e", filepath.Join(dir, "start.log"), "-c", conf, "-p", dir))
	site := fmt.Sprintf("http://127.0.0.1:%d", port)
	up(t, server, site+"/probe")

	slack := slackfake.New(t)
	const token = "a-token-of-sixteen"
	d := serve(t, bin.raced, write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(`service: %[1]s
state: %[2]s/state
listen: 127.0.0.1:0
slot: 10s
sources:
  - {name: web, files: %[2]s/log/access.log, format: nginx, log_format: '%[3]s', lateness: 2s}
  - {name: app, files: %[2]s/log/app.jsonl, format: json, lateness: 2s}
detection: {learn: 1h}
markers: {tokens: [{name: ci, token: %[4]s}]}
sinks:
  console: true
  slack: {token: %[5]q, channel: "#access-walls", api_url: %[6]q}
`, service, dir, upstream, token, slackfake.Token, slack.URL())))

	visits := newTraffic(3)
	leave := crowd(t, 60, func() (*person, string) {
		r := visits.next(time.Now())
		return r.who, site + r.path
	})
	t.Cleanup(leave)
	mark := func(args ...string) result {
		return command(t, nil, append([]string{"mark", "--url", d.url, "--token", token, "--service", service}, args...)...)
	}
	// Everything works, also over a rotation: logrotate renames, nginx reopens.
	servertest.Await(t, "a slot of live traffic", func() (bool, string) {
		s, err := d.status()
		return err == nil && len(s.Sources) == 2 && s.Sources[1].Lines > before+600, fmt.Sprint(s, err)
	})
	if err := os.Rename(access, access+".1"); err != nil {
		t.Fatal(err)
	}
	if err := server.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if all := d.incidents(t); len(all) > 0 {
		t.Errorf("there are incidents before anything broke: %+v", all)
	}

	// The pipeline releases and waits for the verdict.
	verdict := make(chan result, 1)
	go func() { verdict <- mark("--release", "v2.31.0", "--previous", "v2.30.4", "--wait", "2m") }()
	servertest.Await(t, "the marker", func() (bool, string) { return len(d.markers(t)) == 1, d.Stderr.Tail() })
	// The roll-out reaches people two slots later: onsets are estimates, and one
	// that comes out before the release does not blame it.
	app.mu.Lock()
	released := app.count.lines["app"]
	app.mu.Unlock()
	servertest.Await(t, "the roll-out", func() (bool, string) {
		app.mu.Lock()
		defer app.mu.Unlock()
		return app.count.lines["app"] > released+60*20, ""
	})
	app.set(&wall{route: "/projects/{id}/export", role: "editor"})
	broke := time.Now()
	var in incident.Incident
	servertest.Await(t, "an incident", func() (bool, string) {
		all := d.incidents(t)
		if len(all) > 0 {
			in = all[0]
		}
		return len(all) > 0, d.Stderr.Tail()
	})
	t.Logf("told %v after the release", time.Since(broke).Round(time.Second))
	// The web server's log knows no roles and takes longer to be sure.
	servertest.Await(t, "both logs to show it", func() (bool, string) {
		all := d.incidents(t)
		s, err := d.status()
		return len(all) > 0 && len(all[0].Vantages) == 2, fmt.Sprintf("%+v\n%+v %v\nthe web server's log is complete but for the last %s s\n%s",
			all, s, err, d.metric(t, `denywatch_watermark_age_seconds{vantage="web"}`), d.Stderr.Tail())
	})
	res := <-verdict
	if id := strings.TrimSpace(strings.SplitN(res.stdout, "\n", 2)[0]); res.code != 3 || id != "shop-v2.31.0" {
		t.Errorf("mark --wait: exit code %d, id %q, want 3 and shop-v2.31.0\n%s%s", res.code, id, res.stdout, res.stderr)
	}
	for _, text := range []string{"/projects/{id}/export", "editor", "v2.31.0"} {
		if !strings.Contains(res.stdout, text) {
			t.Errorf("mark --wait does not say %q:\n%s", text, res.stdout)
		}
	}

	// Rolled back, everything works again.
	app.set(nil)
	if res := mark("--release", "v2.30.4", "--previous", "v2.31.0"); res.code != 0 {
		t.Errorf("mark: exit code %d: %s", res.code, res.stderr)
	}
	servertest.Await(t, "the recovery", func() (bool, string) {
		all := d.incidents(t)
		return len(all) > 0 && all[len(all)-1].State == incident.Resolved, fmt.Sprintf("%+v\n%s", all, d.Stderr.Tail())
	})
	servertest.Await(t, "everything to be told", d.quiet)
	leave()
	app.mu.Lock()
	count, refused := app.count.clone(), slices.Clone(app.refused)
	app.mu.Unlock()
	d.read(t, count)

	all := d.incidents(t)
	if len(all) != 1 {
		t.Errorf("one release broke one thing, but there are %d incidents:\n%+v", len(all), all)
	}
	in = all[len(all)-1]
	if s := in.Scope; s.Service != service || s.Route != "/projects/{id}/export" || s.Role != "editor" || s.Prefix != "" || s.Geo != "" {
		t.Errorf("scope %+v, want service %s, route /projects/{id}/export, role editor", s, service)
	}
	if in.Direction != incident.Up || in.Layer != "app" || in.Marker != "shop-v2.31.0" {
		t.Errorf("direction %s, layer %s, marker %s; want up, app, shop-v2.31.0", in.Direction, in.Layer, in.Marker)
	}
	if !slices.Equal(in.Vantages, []string{"app", "web"}) {
		t.Errorf("vantages %v, want app (which numbers it) and web", in.Vantages)
	}
	if !slices.Equal(in.Causes, []string{"role_not_entitled"}) {
		t.Errorf("causes %v, want role_not_entitled", in.Causes)
	}
	who := map[string]bool{}
	for _, r := range refused {
		if !r.at.Before(in.StartedAt) && r.at.Before(*in.ResolvedAt) {
			who[r.user] = true
		}
	}
	if in.Identities != int64(len(who)) {
		t.Errorf("%d people counted, %d were refused between %v and %v", in.Identities, len(who), in.StartedAt, in.ResolvedAt)
	}
	if d := broke.Sub(in.StartedAt); d < -10*time.Second || d > 30*time.Second {
		t.Errorf("it broke at %v, the incident says %v", broke.UTC(), in.StartedAt)
	}
	d.toldSlack(t, all, slack)
	for _, m := range slack.Messages() {
		if !strings.Contains(m.Text, "/projects/{id}/export") || !strings.Contains(m.Text, "editor") {
			t.Errorf("Slack says %q, which does not name the route and the role", m.Text)
		}
		if m.Edits == 0 {
			t.Error("Slack's message was never edited, though the incident is over")
		}
	}
	for _, text := range []string{"/projects/{id}/export", "editor", "v2.31.0"} {
		if !strings.Contains(d.Stdout.String(), text) {
			t.Errorf("the console does not say %q:\n%s", text, d.Stdout.Tail())
		}
	}
	d.exact(t, count)
	d.stop(t)
	t.Logf("%v; %s\n%s", time.Since(began).Round(time.Second), slack.Messages()[0].Text, d.Stdout.Tail())
}

// TestApacheForbidden lets a configuration change of Apache lock everybody out
// of one folder.
func TestApacheForbidden(t *testing.T) {
	long(t)
	apache := servertest.Need(t, "apache2")
	modules := "/usr/lib/apache2/modules"
	if _, err := os.Stat(modules); err != nil {
		servertest.Lack(t, "Apache's modules are not in "+modules)
	}
	dir := t.TempDir()
	for _, page := range []string{"index.html", "docs/start.html", "reports/q1.html", "reports/q2.html"} {
		write(t, filepath.Join(dir, "www", page), "hello")
	}
	// Apache's workers are not root, and the test's folder is for its owner only.
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Chmod(path, 0o755))
	})); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/index.html", "/docs/start.html", "/reports/q1.html", "/reports/q2.html"}
	const logFormat = `%v:%p %h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" \"%{X-Role}o\"`
	access := filepath.Join(dir, "log", "access.log")
	port := servertest.FreePort(t)
	began := time.Now()
	rnd := rand.New(rand.NewPCG(5, 5))
	pick := func() (*person, string) { return &people[rnd.IntN(len(people))], paths[rnd.IntN(len(paths))] }
	var past strings.Builder
	for i := range 50 * 60 * 20 {
		who, path := pick()
		status := 200
		if rnd.IntN(200) == 0 {
			status = 403
		}
		fmt.Fprintf(&past, "shop.test:%d %s - - [%s] \"GET %s HTTP/1.1\" %d 5 \"-\" \"Mozilla/5.0\" \"%s\"\n", port, who.address,
			began.Add(-50*time.Minute+time.Duration(i)*time.Second/20).UTC().Format("02/Jan/2006:15:04:05 -0700"), path, status, who.role)
	}
	write(t, access, past.String())
	deny := write(t, filepath.Join(dir, "deny.conf"), "")
	user := ""
	if os.Geteuid() == 0 {
		user = "User www-data\nGroup www-data\n"
	}
	var load strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "headers", "setenvif", "dir", "mime"} {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	conf := write(t, filepath.Join(dir, "apache.conf"), fmt.Sprintf(`%[1]s
%[2]s
ServerRoot %[3]s
ServerName shop.test
DefaultRuntimeDir %[3]s
PidFile %[3]s/apache.pid
ErrorLog %[3]s/error.log
TypesConfig /dev/null
Listen 127.0.0.1:%[4]d
DocumentRoot %[3]s/www
SetEnvIf X-Session-Role (.+) ROLE=$1
Header always set X-Role "%%{ROLE}e" env=ROLE
LogFormat "%[5]s" watched
CustomLog %[3]s/log/access.log watched
<Directory />
  Require all granted
</Directory>
Include %[6]s
`, load.String(), user, dir, port, logFormat, deny))
	server := servertest.Serve(t, exec.Command(apache, "-f", conf, "-DFOREGROUND"))
	site := fmt.Sprintf("http://127.0.0.1:%d", port)
	up(t, server, site+"/index.html")

	r := newReceiver(t, 1, 0)
	d := serve(t, bin.raced, write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(`service: %[1]s
state: %[2]s/state
listen: 127.0.0.1:0
slot: 10s
sources:
  - {name: web, files: %[2]s/log/access.log, format: apache, log_format: '%[3]s', lateness: 2s}
detection: {learn: 10m}
sinks: {webhook: {url: %[4]q, secret: %[5]q}}
`, service, dir, logFormat, r.url, signing)))
	leave := crowd(t, 50, func() (*person, string) {
		who, path := pick()
		return who, site + path
	})
	t.Cleanup(leave)
	servertest.Await(t, "a slot of live traffic", func() (bool, string) {
		s, err := d.status()
		return err == nil && len(s.Sources) == 1 && s.Sources[0].Lines > 50*60*20+500, fmt.Sprint(s, err)
	})
	if all := d.incidents(t); len(all) > 0 {
		t.Errorf("there are incidents before anything broke: %+v", all)
	}
	write(t, deny, "<Location \"/reports\">\n  Require all denied\n</Location>\n")
	if err := server.Cmd.Process.Signal(syscall.SIGUSR1); err != nil { // graceful
		t.Fatal(err)
	}
	broke := time.Now()
	// The incident first names what was refused first, and may be told in the second in which
	// it began; a slot later it is whole.
	var in incident.Incident
	servertest.Await(t, "an incident of the whole folder and many people", func() (bool, string) {
		all := d.incidents(t)
		if len(all) > 0 {
			in = all[0]
		}
		return len(all) == 1 && in.Scope.Prefix == "/reports" && in.Identities >= 20, fmt.Sprintf("%+v\n%s", all, d.Stderr.Tail())
	})
	t.Logf("told %v after the change: %+v", time.Since(broke).Round(time.Second), in)
	if in.Scope.Route != "" || in.Scope.Role != "" || in.Scope.Geo != "" || in.Direction != incident.Up {
		t.Errorf("scope %+v %s, want all of /reports, up", in.Scope, in.Direction)
	}
	if in.Layer != "web" && in.Layer != "unknown" {
		t.Errorf("layer %s, want web, or unknown, for one log cannot tell", in.Layer)
	}
	servertest.Await(t, "it to be told", func() (bool, string) { return r.number() > 0, d.Stderr.Tail() })
	leave()
	d.stop(t)
}
