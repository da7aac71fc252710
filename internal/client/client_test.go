package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef-ci"

// answer is one scripted reply of the daemon; err is a try that reaches none.
type answer struct {
	status int
	body   string
	header http.Header
	err    error
}

// daemon answers from a script, in memory, so that time can be a test's own. The
// last answer is repeated.
type daemon struct {
	mu     sync.Mutex
	script []answer
	bodies []string
	at     []time.Time
	reqs   []*http.Request
}

func (d *daemon) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d.bodies, d.at, d.reqs = append(d.bodies, string(b)), append(d.at, time.Now()), append(d.reqs, r)
	a := d.script[0]
	if len(d.script) > 1 {
		d.script = d.script[1:]
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func (d *daemon) client() *Client {
	return &Client{Token: token, HTTP: &http.Client{Transport: d}}
}

var (
	refused = answer{err: &net.OpError{Op: "dial", Net: "tcp", Err: &osError{syscall.ECONNREFUSED}}}
	ok      = answer{status: 201, body: `{"id":"shop-v2","probation_until":"2026-11-18T12:00:00Z","incidents":"/v1/incidents?marker=shop-v2"}`}
	known   = answer{status: 200, body: ok.body}
	none    = answer{status: 200, body: `{"incidents":[],"more":0}`}
	found   = answer{status: 200, body: `{"incidents":[{"id":"abc","state":"open","direction":"up"}],"more":0}`}
)

// osError is as the net package wraps errno.
type osError struct{ errno syscall.Errno }

func (e *osError) Error() string { return "connect: " + e.errno.Error() }
func (e *osError) Unwrap() error { return e.errno }

func says(status int, text, hint string) answer {
	b, _ := json.Marshal(map[string]string{"error": text, "hint": hint})
	return answer{status: status, body: string(b)}
}

func wait(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }

// TestVerdict: it is asked until there is one, or the time is over.
func TestVerdict(t *testing.T) {
	pending := answer{status: 200, body: `{"verdict":"pending","ok":true}`}
	pass := answer{status: 200, body: `{"verdict":"pass","ok":true,"marker":{"id":"a/b"}}`}
	for _, c := range []struct {
		name   string
		wait   time.Duration
		script []answer
		want   marker.Outcome
		say    string
		tries  int
	}{
		{"at once", 0, []answer{pass}, marker.Pass, "", 1},
		{"still pending", 0, []answer{pending}, marker.Pending, "", 1},
		{"in the end", time.Minute, []answer{pending, refused, pending, pass}, marker.Pass, "", 4},
		{"never", 2500 * time.Millisecond, []answer{pending, pending, pending, pending, pass}, marker.Pending, "", 4},
		{"unknown marker", time.Hour, []answer{says(404, "no marker of this id is known", "x")}, "", "no marker", 1},
		{"away", 1500 * time.Millisecond, []answer{pending, refused, refused, pass}, "", "nothing listens", 3},
		{"something else", 0, []answer{{status: 200, body: "{}"}}, "", "no verdict", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{script: c.script}
				v, err := d.client().Verdict(t.Context(), "a/b", c.wait)
				if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) || v.Verdict != c.want || len(d.reqs) != c.tries {
					t.Errorf("%+v, %v after %d tries", v, err, len(d.reqs))
				}
				path, query := "/v1/markers/a%2Fb/verdict", ""
				if c.wait >= longPoll {
					query = "wait=20s"
				}
				if q := d.reqs[0].URL; q.EscapedPath() != path || query != "" && q.RawQuery != query {
					t.Errorf("asked %s", q)
				}
			})
		})
	}
}

func TestMark(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []answer
		tries  int
		known  bool
		least  time.Duration // that it must have waited
	}{
		{"at once", []answer{ok}, 1, false, 0},
		{"known", []answer{known}, 1, true, 0},
		{"daemon starts", []answer{refused, refused, refused, ok}, 4, false, 0},
		{"daemon is busy", []answer{{status: 503, header: wait("5")}, ok}, 2, false, 5 * time.Second},
		{"too many", []answer{{status: 429, header: wait("2")}, ok}, 2, false, 2 * time.Second},
		{"proxy before a daemon that starts", []answer{{status: 502, body: "<html>"}, ok}, 2, false, 0},
		{"answer lost", []answer{{err: io.ErrUnexpectedEOF}, known}, 2, true, 0},
		{"reset", []answer{{err: &osError{syscall.ECONNRESET}}, ok}, 2, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{script: c.script}
				start := time.Now()
				r, err := d.client().Mark(t.Context(), marker.Marker{Service: "shop", Version: "v2"})
				if err != nil {
					t.Fatal(err)
				}
				want := Result{ID: "shop-v2", ProbationUntil: time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC), Incidents: "/v1/incidents?marker=shop-v2", Known: c.known}
				if r != want || len(d.bodies) != c.tries {
					t.Errorf("%+v after %d tries", r, len(d.bodies))
				}
				if took := time.Since(start); took < c.least || took > DefaultPatience {
					t.Errorf("it took %v", took)
				}
				for i, b := range d.bodies {
					if b != d.bodies[0] || !strings.Contains(b, start.UTC().Format(time.RFC3339)) {
						t.Errorf("try %d sent %s: each must send the same, with the time of the call", i, b)
					}
				}
				q := d.reqs[0]
				if q.Method != "POST" || q.URL.String() != DefaultURL+"/v1/markers" || q.Header.Get("Authorization") != "Bearer "+token || q.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
				}
			})
		})
	}
}

func TestMarkFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		c     Client
		last  answer
		tries int // -1: more than one
		want  string
	}{
		{"wrong token", Client{}, says(401, "the token is not known", "compare it"), 1, "the token is not known (compare it); check --token / DENYWATCH_TOKEN"},
		{"unknown field", Client{}, says(400, "scope: bad", ""), 1, "answered 400: scope: bad"},
		{"conflict", Client{}, says(409, "known with other content", "another id"), 1, "another id"},
		{"forbidden", Client{}, says(403, "markers need a token here", "add markers.tokens"), 1, "add markers.tokens"},
		{"not running", Client{}, refused, -1, "is the daemon running there? (denywatch run; --url for another address)"},
		{"not running, one try", Client{Patience: -1}, refused, 1, "is the daemon running there?"},
		{"busy for ever", Client{}, says(503, "the marker could not be stored", "see the log"), -1, "could not be stored (see the log)"},
		{"busy for longer than we wait", Client{}, answer{status: 503, header: wait("3600")}, 1, "answered 503"},
		{"another service", Client{}, answer{status: 404, body: "<html>404"}, 1, "is http://127.0.0.1:8403 a denywatch daemon? (--url)"},
		{"another service that likes it", Client{}, answer{status: 200, body: "<html>hello"}, 1, "a denywatch daemon? (--url)"},
		{"another service that speaks JSON", Client{}, answer{status: 200, body: "{}"}, 1, "names no marker"},
		{"redirect", Client{BaseURL: "http://denywatch.example"}, answer{status: 301, header: http.Header{"Location": {"https://denywatch.example/"}}}, 1, "redirects to another address"},
		{"hostile text", Client{}, says(400, "a\x1b[31m\nb\u202e", ""), 1, "a [31m b "},
		{"long text", Client{}, says(400, strings.Repeat("x", 5000), ""), 1, "xxx…"},
		{"no name", Client{BaseURL: "http://nowhere.invalid"}, answer{err: &net.DNSError{Err: "no such host", IsNotFound: true}}, 1, "http://nowhere.invalid cannot be resolved; check --url"},
		{"slow", Client{}, answer{err: context.DeadlineExceeded}, -1, "did not answer in time"},
		{"password in the address", Client{BaseURL: "https://ci:hunter2hunter2@denywatch.example"}, ok, 0, "give the token with --token"},
		{"address without scheme", Client{BaseURL: "denywatch.example:8403"}, ok, 0, "must look like"},
		{"broken address", Client{BaseURL: "http://hunter2hunter2:%zz@a"}, ok, 0, "cannot be read"},
		{"address with a query", Client{BaseURL: "http://a?token=hunter2hunter2"}, ok, 0, "must look like"},
		{"line end in the token", Client{Token: token + "\n"}, ok, 0, "check --token / DENYWATCH_TOKEN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{script: []answer{c.last}}
				cl := c.c
				cl.HTTP = &http.Client{Transport: d}
				if cl.Token == "" {
					cl.Token = token
				}
				start := time.Now()
				r, err := cl.Mark(t.Context(), marker.Marker{Service: "shop"})
				if err == nil || r != (Result{}) {
					t.Fatalf("%+v, %v", r, err)
				}
				text := err.Error()
				if !strings.Contains(text, c.want) {
					t.Errorf("%q: want %q in it", text, c.want)
				}
				for _, leak := range []string{token, "hunter2"} {
					if strings.Contains(text, leak) {
						t.Errorf("%q shows a secret", text)
					}
				}
				if strings.ContainsAny(text, "\n\x1b") || len(text) > 1000 {
					t.Errorf("the error is not one clean line: %q", text)
				}
				if n := len(d.bodies); n != c.tries && (c.tries >= 0 || n < 2) {
					t.Errorf("%d tries", n)
				}
				if took := time.Since(start); took > DefaultPatience {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestMarkStops: an interrupt ends the waiting at once and still tells why there
// was any.
func TestMarkStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupt := errors.New("interrupted by the user")
		ended := make(chan error, 1)
		d := &daemon{script: []answer{refused}}
		go func() {
			_, err := d.client().Mark(ctx, marker.Marker{})
			ended <- err
		}()
		time.Sleep(100 * time.Millisecond) // of the bubble: the first pause
		cancel(interrupt)
		err := <-ended
		if !errors.Is(err, interrupt) || !strings.Contains(err.Error(), "is the daemon running") {
			t.Errorf("%v", err)
		}
	})
}

func TestWaitForIncident(t *testing.T) {
	const minute = time.Minute
	for _, c := range []struct {
		name       string
		script     []answer
		wait, poll time.Duration
		found      bool
		took       time.Duration
		tries      int
		err        string
	}{
		{"there already", []answer{found}, 15 * minute, minute, true, 0, 1, ""},
		{"later", []answer{none, none, none, found}, 15 * minute, minute, true, 3 * minute, 4, ""},
		{"none", []answer{none}, 15 * minute, minute, false, 15 * minute, 16, ""},
		{"asked once more at the end", []answer{none, none, found}, 90 * time.Second, minute, true, 90 * time.Second, 3, ""},
		{"no wait asks once", []answer{none}, 0, minute, false, 0, 1, ""},
		{"usual poll", []answer{none}, minute, 0, false, minute, 7, ""},
		{"daemon restarts", []answer{none, refused, {status: 503}, none, found}, 15 * minute, minute, true, 4 * minute, 5, ""},
		{"daemon dies", []answer{none, refused}, 5 * minute, minute, false, 5 * minute, 6, "is the daemon running there?"},
		{"unknown marker", []answer{says(404, "no marker of this id is known", "list them")}, 5 * minute, minute, false, 0, 1, "no marker of this id is known (list them)"},
		{"wrong token", []answer{says(401, "no", "")}, 5 * minute, minute, false, 0, 1, "check --token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &daemon{script: c.script}
				start := time.Now()
				got, err := d.client().WaitForIncident(t.Context(), "a b&c", c.wait, c.poll)
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if (len(got) == 1 && got[0].ID == "abc" && got[0].State == incident.Open) != c.found {
					t.Errorf("found %+v", got)
				}
				if took := time.Since(start); took != c.took || len(d.reqs) != c.tries {
					t.Errorf("it took %v and %d tries, want %v and %d", took, len(d.reqs), c.took, c.tries)
				}
				if q := d.reqs[0]; q.Method != "GET" || q.URL.String() != DefaultURL+"/v1/incidents?marker=a+b%26c" || q.Header.Get("Content-Type") != "" {
					t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
				}
			})
		})
	}
}

func TestWaitStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		start := time.Now()
		_, err := (&daemon{script: []answer{none}}).client().WaitForIncident(ctx, "a", time.Hour, time.Minute)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 90*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestRealSockets has the errors that only the network makes.
func TestRealSockets(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/denywatch/v1/markers" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, ok.body)
	}))
	defer plain.Close()
	unknownCA := httptest.NewTLSServer(http.NotFoundHandler())
	defer unknownCA.Close()
	hangUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer hangUp.Close()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + ln.Addr().String()
	_ = ln.Close()

	for _, c := range []struct{ name, url, want string }{
		{"path of a proxy", plain.URL + "/denywatch/", ""},
		{"wrong path", plain.URL, "a denywatch daemon?"},
		{"nobody listens", closed, "nothing listens at " + closed},
		{"TLS to a plain port", strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		{"certificate", unknownCA.URL, "is not trusted"},
		{"hang up", hangUp.URL, "broke: EOF"},
	} {
		tr := &http.Transport{}
		cl := &Client{BaseURL: c.url, Token: secret.String(token), HTTP: &http.Client{Transport: tr}, Patience: -1}
		_, err := cl.Mark(t.Context(), marker.Marker{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%+v", err), token) {
			t.Errorf("%s: the error shows the token", c.name)
		}
		tr.CloseIdleConnections()
	}
}

// TestPrintedClient: a client in a log shows no token.
func TestPrintedClient(t *testing.T) {
	if s := fmt.Sprintf("%+v", Client{Token: token}); strings.Contains(s, token) {
		t.Error(s)
	}
}
