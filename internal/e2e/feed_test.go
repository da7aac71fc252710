package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/internal/tally"
)

// service is the simulated product.
const service = "shop"

// person uses the product.
type person struct {
	name, account, role, address string
}

// people are the users: a quarter are editors, one in eight an admin.
var people = func() []person {
	roles := []string{"viewer", "editor", "viewer", "admin", "viewer", "editor", "viewer", "viewer"}
	ps := make([]person, 320)
	for i := range ps {
		ps[i] = person{
			name: fmt.Sprintf("u-%04d", i), account: fmt.Sprintf("acme-%d", i/8), role: roles[i%len(roles)],
			// Every address of 127.0.0.0/8 is the own host on Linux, so that real
			// servers see as many clients as there are people.
			address: fmt.Sprintf("127.3.%d.%d", i/100, i%100+1),
		}
	}
	return ps
}()

// page is a route of the product, its share of the traffic, and how often it
// refuses of old.
type page struct {
	route, path string // path holds %d where the route has a parameter
	weight      int
	refused     float64
}

var pages = []page{
	{"/", "/", 20, 0},
	{"/search", "/search", 20, 0},
	{"/projects/{id}", "/projects/%d", 25, 0.005},
	{"/projects/{id}/export", "/projects/%d/export", 20, 0.02},
	{"/billing/upgrade", "/billing/upgrade", 15, 0.01},
}

// wall refuses a role on a route for some time.
type wall struct {
	route, role string
	from, to    time.Time
}

// request is one request as both logs see it.
type request struct {
	at     time.Time
	who    *person
	route  string
	path   string
	status int
}

// traffic makes requests, always the same for a seed.
type traffic struct {
	rnd   *rand.Rand
	walls []wall
}

func newTraffic(seed uint64, walls ...wall) *traffic {
	return &traffic{rnd: rand.New(rand.NewPCG(seed, 403)), walls: walls}
}

// next is the request at a time. Where status is up to a real application, it is
// what the product did of old.
func (x *traffic) next(at time.Time) request {
	who := &people[x.rnd.IntN(len(people))]
	total := 0
	for i := range pages {
		total += pages[i].weight
	}
	n, p := x.rnd.IntN(total), &pages[0]
	for i := range pages {
		if p = &pages[i]; n < p.weight {
			break
		}
		n -= p.weight
	}
	r := request{at: at, who: who, route: p.route, path: p.path, status: 200}
	if strings.Contains(p.path, "%d") {
		r.path = fmt.Sprintf(p.path, 1000+x.rnd.IntN(9000))
	}
	refused := p.refused
	for _, w := range x.walls {
		if w.route == r.route && w.role == who.role && !at.Before(w.from) && at.Before(w.to) {
			refused = 0.95
		}
	}
	switch u := x.rnd.Float64(); {
	case u < refused:
		r.status = 403
	case u > 0.985:
		r.status = []int{201, 302, 404, 429, 500, 401}[x.rnd.IntN(6)]
	}
	return r
}

// combined is the request in the web server's log.
func (r *request) combined() string {
	return fmt.Sprintf("%s - - [%s] \"GET %s?q=1 HTTP/1.1\" %d 512 \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"\n",
		r.who.address, r.at.UTC().Format("02/Jan/2006:15:04:05 -0700"), r.path, r.status)
}

// upstream is the log_format of lines made by request.upstream.
const upstream = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" us="$upstream_status"`

// upstream is the request in the log of a web server that asks the application.
func (r *request) upstream() string {
	return strings.TrimSuffix(r.combined(), "\n") + fmt.Sprintf(" us=\"%d\"\n", r.status)
}

// json is the request in the application's log.
func (r *request) json() string {
	reason := ""
	if r.status == 403 {
		reason = `,"reason":"role_not_entitled"`
	}
	return fmt.Sprintf(`{"time":%q,"level":"info","service":%q,"method":"GET","path":%q,"route":%q,"status":%d,"client_ip":%q,"user_id":%q,"account_id":%q,"role":%q%s}`+"\n",
		r.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), service, r.path, r.route, r.status, r.who.address, r.who.name, r.who.account, r.who.role, reason)
}

// column is a place in which denywatch counts an event.
type column struct {
	vantage, service, route, status string
}

// written is what was written to the logs of a test.
type written struct {
	columns  map[column]uint64
	lines    map[string]uint64 // by source
	unparsed map[string]uint64 // by source
}

func newWritten() *written {
	return &written{map[column]uint64{}, map[string]uint64{}, map[string]uint64{}}
}

func (w *written) clone() *written {
	c := newWritten()
	for k, v := range w.columns {
		c.columns[k] = v
	}
	for k, v := range w.lines {
		c.lines[k] = v
	}
	for k, v := range w.unparsed {
		c.unparsed[k] = v
	}
	return c
}

// log is a log file that is written like a server does: by append, through a
// descriptor that survives renames.
type log struct {
	path string
	file *os.File
	held string // the second half of a line of which the first was written
}

func (l *log) append(s string) error {
	if l.file == nil {
		var err error
		if l.file, err = os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return err
		}
	}
	s = l.held + s
	l.held = ""
	_, err := io.WriteString(l.file, s)
	return err
}

// half writes a line but for its end, which comes with what is written next.
func (l *log) half(s string) error {
	n := len(s) / 2
	if err := l.append(s[:n]); err != nil {
		return err
	}
	l.held = s[n:]
	return nil
}

// keep is the number of rotated files; none that could be unread is ever deleted.
const keep = 200

// rotate does what logrotate does: older generations move up, all but the newest
// are compressed, and the server is told to reopen its log. With create the new
// file is there before the next line.
func (l *log) rotate(create, compress bool) error {
	if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if l.held != "" {
		if err := l.append(""); err != nil {
			return err
		}
	}
	name := func(i int, gz string) string { return fmt.Sprintf("%s.%d%s", l.path, i, gz) }
	for i := keep; i >= 1; i-- {
		for _, gz := range []string{"", ".gz"} {
			if err := os.Rename(name(i, gz), name(i+1, gz)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := os.Rename(l.path, name(1, "")); err != nil {
		return err
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	if create {
		if err := l.append(""); err != nil {
			return err
		}
	}
	if !compress {
		return nil
	}
	if _, err := os.Stat(name(2, "")); err == nil {
		return squeeze(name(2, ""))
	}
	return nil
}

// squeeze replaces a file by a gzip of it, as gzip does: under another name
// until it is whole.
func squeeze(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(path+".gz", z.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Remove(path)
}

// feed writes the product's two logs and keeps count.
type feed struct {
	*traffic
	web, app *log
	mu       sync.Mutex
	done     *written
}

func newFeed(dir string, x *traffic) *feed {
	return &feed{traffic: x, web: &log{path: filepath.Join(dir, "access.log")}, app: &log{path: filepath.Join(dir, "app.jsonl")}, done: newWritten()}
}

// count is a copy of what was written so far.
func (f *feed) count() *written {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done.clone()
}

// write writes the next request to both logs, now and then with garbage.
func (f *feed) write(at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.next(at)
	for _, l := range []struct {
		log          *log
		source, line string
	}{{f.web, "web", r.combined()}, {f.app, "app", r.json()}} {
		f.done.lines[l.source]++
		f.done.columns[column{l.source, service, r.route, tally.StatusOf(uint16(r.status)).String()}]++
		put := l.log.append
		if f.rnd.IntN(20) == 0 {
			put = l.log.half
		}
		if err := put(l.line); err != nil {
			return err
		}
		if f.rnd.IntN(50) == 0 {
			f.done.lines[l.source]++
			f.done.unparsed[l.source]++
			if err := l.log.append(l.line[:len(l.line)/3] + "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish completes lines that were begun.
func (f *feed) finish() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.web.append(""), f.app.append(""))
}

// past writes n requests that are spread evenly over a time.
func (f *feed) past(t *testing.T, from, to time.Time, n int) {
	t.Helper()
	for i := range n {
		if err := f.write(from.Add(time.Duration(i) * to.Sub(from) / time.Duration(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.finish(); err != nil {
		t.Fatal(err)
	}
}

// read waits until the daemon has read as many lines as were written.
func (d *daemon) read(t *testing.T, w *written) {
	t.Helper()
	servertest.Await(t, "all lines to be read", func() (bool, string) {
		s, err := d.status()
		if err != nil {
			return false, err.Error() + "\n" + d.Stderr.Tail()
		}
		got := map[string]uint64{}
		for _, src := range s.Sources {
			got[src.Name] = src.Lines
		}
		for name, n := range w.lines {
			if got[name] < n {
				return false, fmt.Sprintf("source %s: %d of %d lines\n%s", name, got[name], n, d.Stderr.Tail())
			}
		}
		return true, ""
	})
}

// exact fails unless the daemon has counted precisely what was written.
func (d *daemon) exact(t *testing.T, w *written) {
	t.Helper()
	s, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range s.Sources {
		if src.Lines != w.lines[src.Name] {
			t.Errorf("source %s: %d lines counted, %d written", src.Name, src.Lines, w.lines[src.Name])
		}
		if src.Unparsed != w.unparsed[src.Name] {
			t.Errorf("source %s: %d lines not understood, %d garbled", src.Name, src.Unparsed, w.unparsed[src.Name])
		}
		if src.Late > 0 {
			t.Logf("source %s: %d events came late", src.Name, src.Late)
		}
	}
	var v struct {
		Routes []struct {
			Vantage, Service, Route, Status string
			Count                           uint64
		} `json:"routes"`
	}
	if err := d.ask("/v1/routes", &v); err != nil {
		t.Fatal(err)
	}
	got := map[column]uint64{}
	for _, r := range v.Routes {
		got[column{r.Vantage, r.Service, r.Route, r.Status}] += r.Count
	}
	var wrong []string
	for k, n := range w.columns {
		if got[k] != n {
			wrong = append(wrong, fmt.Sprintf("%v: %d counted, %d written", k, got[k], n))
		}
	}
	for k, n := range got {
		if _, ok := w.columns[k]; !ok {
			wrong = append(wrong, fmt.Sprintf("%v: %d counted, none written", k, n))
		}
	}
	slices.Sort(wrong)
	if wrong != nil {
		t.Errorf("counts differ from what was written:\n%s", strings.Join(wrong, "\n"))
	}
}
