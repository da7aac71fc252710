package parsers_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/servertest"
	"github.com/denywatch/denywatch/parsers"
	"github.com/denywatch/denywatch/parsers/errorlog"
)

// The tests of the files roundtrip_*_test.go start real servers that write every
// request into many access logs, each in another format, and into error logs. A
// driver makes the requests one by one, so it knows which lines each left and
// what they must say.

// The servers' clocks show Indian time: zones that are lost, or taken twice, are
// seen. The string needs no zone database.
const zoneEnv = "TZ=IST-5:30"

var zone = time.FixedZone("IST", 5*3600+1800)

const (
	siteHost = "shop.test"
	browser  = "Mozilla/5.0 (X11; Linux x86_64) Roundtrip/1.0"
	noHeader = "\x00" // for step.agent
)

// step is one request of the driver and what the server must make of it.
type step struct {
	name string
	// The request line: method (GET if empty), target and protocol (HTTP/1.1 if
	// empty). line replaces all of it; then method and target are what can be read
	// in it.
	method, target, proto, line string
	// from is the client's address, 127.0.0.1 if empty.
	from string
	// host is the Host header, siteHost if empty; agent the User-Agent, browser if
	// empty; login is "user:password".
	host, agent, login, referer, role string
	header                            []string
	body                              string
	// keep leaves the connection open for the next step.
	keep bool
	// hold keeps the body back, so that nothing is answered or logged, until a
	// step with release and the same request sends it.
	hold, release bool

	// status is the answer, first the one before an error page replaced it (the
	// same if 0), upstream what the application answered, 0 if nobody asked it.
	status, first, upstream uint16
	// uri is the target as the server itself understood it, target if empty.
	uri string
	// taken is "method target" as the server understood a line that is no request.
	taken string
	// vhost is the host as the server understood it, host if empty.
	vhost string
	// user is who the server says the client claimed to be, login's if empty;
	// noUser is set if it does not look.
	noUser bool
	// cause and layer are the error line's; empty if there must be none. ruling is
	// the status that it settles, rule the rule that it names.
	cause, rule string
	layer       event.Layer
	ruling      uint16
	// told is the status that the client got, where the log says another.
	told uint16
	// twin is another cause that the log had for the same client and path at the same
	// time; only a number that both logs have tells the two apart.
	twin string
	// apart is set where the error line names a file that does not show the target,
	// so that only the log id joins it.
	apart bool
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// wire is the request as the client sends it.
func (s *step) wire() string {
	line := s.line
	if line == "" {
		line = or(s.method, "GET") + " " + s.target
		if s.proto == "HTTP/0.9" {
			return line + "\r\n"
		}
		line += " " + or(s.proto, "HTTP/1.1")
	}
	var b strings.Builder
	head := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	b.WriteString(line + "\r\n")
	head("Host", or(s.host, siteHost))
	if s.agent != noHeader {
		head("User-Agent", or(s.agent, browser))
	}
	if s.login != "" {
		head("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(s.login)))
	}
	if s.referer != "" {
		head("Referer", s.referer)
	}
	if s.role != "" {
		head("X-Role", s.role)
	}
	for _, h := range s.header {
		b.WriteString(h + "\r\n")
	}
	if s.body != "" {
		head("Content-Length", strconv.Itoa(len(s.body)))
	}
	if !s.keep {
		head("Connection", "close")
	}
	return b.String() + "\r\n" + s.body
}

// says is what a log line must say of the step if its format carries these
// things, in the words of show. Beside the plain ones, "request" is the whole
// request line, "uri" method and target as the server understood them, "answer"
// the role as the application said it.
func (s *step) says(carries string) string {
	has := func(word string) bool { return slices.Contains(strings.Fields(carries), word) }
	var b strings.Builder
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%q", key, value)
		}
	}
	method := s.method
	if s.line == "" {
		method = or(method, "GET")
	}
	switch {
	case has("request"):
		add("method", method)
		add("path", s.target)
	case has("uri") && s.line == "":
		add("method", method)
		add("path", or(s.uri, s.target))
	case has("uri"):
		method, target, _ := strings.Cut(s.taken, " ")
		add("method", method)
		add("path", target)
	}
	status := s.status
	if has("first") && s.first != 0 {
		status = s.first
	}
	add("status", strconv.Itoa(int(status)))
	switch {
	case !has("upstream"):
	case s.upstream == 0:
		add("upstream", "none")
	default:
		add("upstream", strconv.Itoa(int(s.upstream)))
	}
	if has("client") {
		add("client", or(s.from, "127.0.0.1"))
	}
	if has("server") {
		add("host", siteHost)
	}
	headers := s.proto != "HTTP/0.9" && s.line == "" // otherwise none were read
	if has("host") || has("host_header") && headers {
		add("host", or(s.vhost, or(s.host, siteHost)))
	}
	if user, _, _ := strings.Cut(s.login, ":"); has("user") && !s.noUser {
		add("user?", user)
	}
	if !headers {
		return b.String()
	}
	if (has("role") || has("answer") && s.upstream != 0) && s.role != "" {
		for _, r := range strings.FieldsFunc(s.role, func(r rune) bool { return r == ',' || r == ';' }) {
			add("role", strings.TrimSpace(r))
		}
	}
	if (has("agent") || has("agent_of_refused") && s.status >= 400) && s.agent != noHeader && s.agent != "-" {
		add("agent", or(s.agent, browser))
	}
	return b.String()
}

// show writes all of e that lines of web servers can say, but for time and
// request id.
func show(e *event.Event) string {
	var b strings.Builder
	add := func(key string, value []byte) {
		if len(value) > 0 {
			fmt.Fprintf(&b, " %s=%q", key, value)
		}
	}
	add("method", e.Method)
	add("path", e.Path)
	fmt.Fprintf(&b, " status=%q", strconv.Itoa(int(e.Status)))
	switch e.Upstream {
	case event.UpstreamNone:
		add("upstream", []byte("none"))
	case event.UpstreamAnswered:
		add("upstream", []byte(strconv.Itoa(int(e.UpstreamStatus))))
	}
	add("client", e.Client)
	add("host", e.Host)
	if e.UserClaimed {
		add("user?", e.User)
	} else {
		add("user", e.User)
	}
	for _, r := range e.Roles {
		add("role", r)
	}
	add("agent", e.UserAgent)
	for key, value := range map[string][]byte{
		"service": e.Service, "route": e.Route, "account": e.Account, "plan": e.Plan, "geo": e.Geo, "cause": e.Cause, "rule": e.Rule,
		"flags": bytes.Join(e.Flags, []byte(",")),
	} {
		add("UNEXPECTED "+key, value)
	}
	if e.Denial != event.NotDenied || e.Layer != event.LayerUnknown || e.Weight > 1 || e.CauseOnly {
		fmt.Fprintf(&b, " UNEXPECTED denial=%v layer=%v weight=%d", e.Denial, e.Layer, e.Weight)
	}
	return b.String()
}

// reading is one way to read one of the access logs.
type reading struct {
	name    string
	log     string // which, the name if empty
	config  parsers.Config
	carries string
	// fine is set if the time has a fraction.
	fine bool
}

// logFile is a log that a server writes.
type logFile struct {
	path string
	read int64
}

// more returns the whole lines that are new.
func (l *logFile) more(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, l.read, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	l.read += int64(len(b))
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// site is a server under test.
type site struct {
	t      *testing.T
	server *servertest.Process
	port   int
	access map[string]*logFile
	errors *logFile
	ids    bool     // whether error lines have the id that is in access lines
	conn   net.Conn // kept open by the step before
	held   net.Conn // of a step with hold
	done   []record
}

// record is what a step left in the logs.
type record struct {
	step     *step
	from, to time.Time
	lines    map[string]string // by access log
	errors   []string
	// id and conn are what access lines call the request and its connection, empty
	// and 0 before one was read; logID and logConn are the error line's.
	id, logID     string
	conn, logConn uint64
}

// newSite is a server on port whose access logs are dir/NAME.log. It waits until
// the server accepts connections.
func newSite(t *testing.T, server *servertest.Process, port int, dir, errorLog string, readings []reading) *site {
	t.Helper()
	x := &site{t: t, server: server, port: port, access: map[string]*logFile{}, errors: &logFile{path: filepath.Join(dir, errorLog)}}
	for i := range readings {
		r := &readings[i]
		r.log = or(r.log, r.name)
		x.access[r.log] = &logFile{path: filepath.Join(dir, r.log+".log")}
	}
	server.Await(t, "the server to listen", func() (bool, string) {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = c.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	x.errors.more(t) // of the start
	return x
}

// dial connects to the server from an address.
func (x *site) dial(from string) net.Conn {
	x.t.Helper()
	to := "127.0.0.1"
	d := net.Dialer{Timeout: servertest.Bound(x.t), LocalAddr: &net.TCPAddr{IP: net.ParseIP(or(from, to))}}
	if strings.Contains(from, ":") {
		to = from
	}
	c, err := d.Dial("tcp", net.JoinHostPort(to, strconv.Itoa(x.port)))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(servertest.Bound(x.t))); err != nil {
		x.t.Fatal(err)
	}
	return c
}

// do makes the step's request and waits until every access log has its line.
func (x *site) do(s *step) {
	x.t.Helper()
	r := record{step: s, lines: map[string]string{}}
	c, wire := x.conn, s.wire()
	switch x.conn = nil; {
	case s.release:
		c, wire = x.held, s.body
	case c == nil:
		c = x.dial(s.from)
	}
	if s.hold {
		x.held, wire = c, strings.TrimSuffix(wire, s.body)
	}
	r.from = time.Now()
	if _, err := io.WriteString(c, wire); err != nil {
		x.t.Fatalf("%s: %v", s.name, err)
	}
	if s.hold {
		return
	}
	status, err := answer(c, s)
	if err != nil {
		x.t.Fatalf("%s: %v", s.name, err)
	}
	want := s.status
	if s.told != 0 {
		want = s.told
	}
	if status != want && (status != 0 || s.proto != "HTTP/0.9") {
		x.t.Errorf("%s: the server answered %d, the test expects %d", s.name, status, want)
	}
	if s.keep {
		x.conn = c
	} else {
		_ = c.Close()
	}
	for name, l := range x.access {
		x.server.Await(x.t, "the line of "+s.name+" in "+name, func() (bool, string) {
			lines := l.more(x.t)
			if len(lines) > 1 {
				x.t.Fatalf("%s: %d new lines in %s, want one:\n%s", s.name, len(lines), name, strings.Join(lines, "\n"))
			}
			if len(lines) == 1 {
				r.lines[name] = lines[0]
			}
			return len(lines) == 1, ""
		})
	}
	r.errors = x.errors.more(x.t) // was written before
	r.to = time.Now()
	x.done = append(x.done, r)
}

// answer reads a response and returns its status, 0 if it has none.
func answer(c net.Conn, s *step) (uint16, error) {
	b := bufio.NewReader(c)
	if start, err := b.Peek(5); err != nil || string(start) != "HTTP/" {
		_, err := io.Copy(io.Discard, b)
		return 0, err
	}
	resp, err := http.ReadResponse(b, &http.Request{Method: or(s.method, "GET")})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return uint16(resp.StatusCode), err
}

// check compares what the readings say with what was done.
func (x *site) check(readings []reading, errorLog errorlog.Config) {
	reasons, config := x.checkErrors(errorLog)
	for _, r := range readings {
		x.t.Run(r.name, func(t *testing.T) {
			f, err := parsers.Compile(r.config)
			if err != nil {
				t.Fatal(err)
			}
			p := f.New()
			var e event.Event
			for i := range x.done {
				d := &x.done[i]
				line := d.lines[r.log]
				e.Reset()
				if err := p.Parse([]byte(line), &e); err != nil {
					t.Errorf("%s: %v\n%s", d.step.name, err, line)
					continue
				}
				if got, want := show(&e), d.step.says(r.carries); got != want {
					t.Errorf("%s:\n got%s\nwant%s\n%s", d.step.name, got, want, line)
				}
				d.checkTime(t, &r, e.Time)
				d.checkNumbers(t, &e, r.carries)
				x.checkJoin(t, d, &e, reasons, config, r.carries)
			}
		})
	}
}

// checkNumbers expects that all logs call a request and its connection the same.
func (d *record) checkNumbers(t *testing.T, e *event.Event, carries string) {
	t.Helper()
	has := strings.Fields(carries)
	if slices.Contains(has, "id") {
		d.id = or(d.id, string(e.RequestID))
		if string(e.RequestID) != d.id || d.logID != "" && d.logID != d.id {
			t.Errorf("%s: id %q, in another access log %q, in the error log %q", d.step.name, e.RequestID, d.id, d.logID)
		}
	}
	if slices.Contains(has, "conn") {
		if d.conn == 0 {
			d.conn = e.Conn
		}
		if e.Conn != d.conn || e.Conn == 0 || d.logConn != 0 && d.logConn != d.conn {
			t.Errorf("%s: connection %d, in another access log %d, in the error log %d", d.step.name, e.Conn, d.conn, d.logConn)
		}
	}
}

// checkTime expects a time between the request's first byte and the moment when
// the line was found.
func (d *record) checkTime(t *testing.T, r *reading, at int64) {
	t.Helper()
	from, to := d.from.Truncate(time.Second), d.to
	if r.fine {
		// nginx looks at the clock once for all events that it found together.
		from = d.from.Add(-200 * time.Millisecond)
	}
	got := time.Unix(0, at)
	if got.Before(from) || got.After(to) || at%1e9 != 0 && !r.fine {
		t.Errorf("%s: time %v, but the request was made between %v and %v", d.step.name, got.UTC(), from.UTC(), to.UTC())
	}
}

// checkErrors compares the error lines of every step with its cause. It returns
// them for joining.
func (x *site) checkErrors(c errorlog.Config) (*collect.Reasons, *collect.Config) {
	router, _ := route.New(nil)
	config := &collect.Config{Vantage: event.Web, Routes: router, Identity: collect.FixedIdentityKey()}
	config.Denied[403] = true
	reasons := collect.NewReasons(config)
	p, err := errorlog.New(c)
	if err != nil {
		x.t.Fatal(err)
	}
	again, err := errorlog.New(c)
	if err != nil {
		x.t.Fatal(err)
	}
	events := again.Events()
	var l errorlog.Line
	var e event.Event
	for i := range x.done {
		d := &x.done[i]
		s := d.step
		var causes []string
		for _, line := range d.errors {
			err := p.Parse([]byte(line), &l)
			e.Reset()
			if eventErr := events.Parse([]byte(line), &e); (err == nil) != (eventErr == nil) {
				x.t.Errorf("%s: as a line %v, as an event %v\n%s", s.name, err, eventErr, line)
			}
			switch {
			case errors.Is(err, errorlog.ErrFreeText) && strings.Contains(s.login, "\n"):
			case errors.Is(err, errorlog.ErrFreeText), errors.Is(err, errorlog.ErrNoErrorLine):
				x.t.Errorf("%s: %v\n%s", s.name, err, line)
			case err == nil:
				causes = append(causes, l.Cause)
				d.checkCause(x.t, &l, line)
				reasons.Add(&e)
			}
		}
		if got := strings.Join(causes, " "); got != s.cause {
			x.t.Errorf("%s: the error log says %q, want %q\n%s", s.name, got, s.cause, strings.Join(d.errors, "\n"))
		}
	}
	return reasons, config
}

// checkCause compares one line that explains a refusal.
func (d *record) checkCause(t *testing.T, l *errorlog.Line, line string) {
	t.Helper()
	s := d.step
	d.logID, d.logConn = string(l.LogID), l.Conn
	if l.Layer != s.layer || l.Status != s.ruling {
		t.Errorf("%s: layer %v and status %d, want %v and %d\n%s", s.name, l.Layer, l.Status, s.layer, s.ruling, line)
	}
	if s.rule != "" && string(l.Rule) != s.rule {
		t.Errorf("%s: rule %q, want %q\n%s", s.name, l.Rule, s.rule, line)
	}
	if want := or(s.from, "127.0.0.1"); string(l.Client) != want {
		t.Errorf("%s: client %q, want %q\n%s", s.name, l.Client, want, line)
	}
	if at := time.Unix(0, l.Time); at.Before(d.from.Truncate(time.Second)) || at.After(d.to) {
		t.Errorf("%s: time %v, but the request was made between %v and %v\n%s", s.name, at.UTC(), d.from.UTC(), d.to.UTC(), line)
	}
}

// checkJoin expects that a denial finds its own cause among those of all steps.
func (x *site) checkJoin(t *testing.T, d *record, e *event.Event, reasons *collect.Reasons, config *collect.Config, carries string) {
	t.Helper()
	got := config.Explain(e)
	if got.Denial == "" {
		return
	}
	reasons.Explain(e, &got)
	cause, layer := d.step.cause, d.step.layer
	if d.step.apart && !(strings.Contains(carries, "id") && x.ids) {
		cause, layer = "", event.LayerUnknown
	}
	if got.Cause == d.step.twin && !strings.Contains(carries, "conn") {
		cause = d.step.twin
	}
	if cause == "" && strings.Contains(carries, "upstream") {
		layer = event.LayerWeb
		if d.step.upstream != 0 {
			layer = event.LayerApp
		}
	}
	if got.Cause != cause || got.Layer != layer.String() {
		t.Errorf("%s: refused by %s for %q, want %s and %q\n%s", d.step.name, got.Layer, got.Cause, layer, cause, strings.Join(d.errors, "\n"))
	}
}

// application is the server behind: it answers with the status that X-Want asks
// for, and says who asked in X-Role.
func application(t *testing.T) (address string) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Role", req.Header.Get("X-Role"))
		status, err := strconv.Atoi(req.Header.Get("X-Want"))
		if err != nil {
			status = http.StatusOK
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(app.Close)
	return app.Listener.Addr().String()
}

// hangUp is the address of a server that closes every connection.
func hangUp(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// firewallRules are ModSecurity's, in the notation that both servers read.
func firewallRules(quote string) string {
	return strings.NewReplacer("'", quote).Replace(`SecRuleEngine On
SecRule ARGS:q "@contains union select" "id:900100,phase:2,deny,status:403,log,msg:'An injection, with [brackets]',tag:'sqli'"
SecRule REQUEST_HEADERS:User-Agent "@contains probe" "id:900200,phase:2,deny,status:403,log,msg:'A scanner'"
SecRule ARGS:q "@streq warn" "id:900300,phase:2,pass,log,msg:'Only a warning'"
SecRule ARGS:q "@streq move" "id:900400,phase:2,redirect:http://shop.test/sorry,log,msg:'Moved'"
`)
}

// firewallSteps meet the firewallRules at /waf/page.html.
func firewallSteps() []step {
	waf := step{status: 403, cause: errorlog.CauseWAF, layer: event.LayerWeb, ruling: 403}
	with := func(name, target, agent, rule string) step {
		s := waf
		s.name, s.target, s.agent, s.rule = name, target, agent, rule
		return s
	}
	return []step{
		with("injection", "/waf/page.html?q=1%20union%20select%202", "", "900100"),
		with("injection with quotes and tags", `/waf/page.html?q=%22]%20[id%20%221%22]%20union%20select"`, "", "900100"),
		with("scanner", "/waf/page.html?q=agent", `probe/1 "quoted" [id "7"]`, "900200"),
		{name: "warning", target: "/waf/page.html?q=warn", status: 200},
		{name: "moved", target: "/waf/page.html?q=move", status: 302},
		{name: "let in by the firewall", target: "/waf/page.html?q=x", status: 200},
	}
}

// place makes a file below dir that the servers' workers may read, and the
// folders to it.
func place(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// folder is a folder that the servers' workers may enter.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// go test makes the outer one for its owner only.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chmod sets a mode until the test ends.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(path, 0o755) }) // so that it can be removed
}

// loopback6 tells whether the machine has ::1.
func loopback6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
