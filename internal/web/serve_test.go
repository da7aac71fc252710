package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/marker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipes is a listener in memory, so that time can be a test's own.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8403} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
	case <-p.done:
		t.Fatal("the listener is closed")
	}
	return ours
}

// serving runs s on a listener in memory in the current bubble; stop ends it and
// returns how long that took and what Serve returned.
func serving(t *testing.T, s *Server) (p *pipes, stop func() (time.Duration, error)) {
	t.Helper()
	p = newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, p) }()
	return p, func() (time.Duration, error) {
		start := time.Now()
		cancel()
		err := <-ended
		return time.Since(start), err
	}
}

// closedAfter reads c to its end and says what came and how long that took.
func closedAfter(c net.Conn) (string, time.Duration) {
	start := time.Now()
	b, _ := io.ReadAll(c)
	return string(b), time.Since(start)
}

const postHead = "POST /v1/markers HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + ciToken + "\r\nContent-Type: application/json\r\n"

// TestSlowClients: whoever is slow is cut off after a while that others decide.
func TestSlowClients(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		after      time.Duration
		answer     string
	}{
		{"silent", "", headerTimeout, ""},
		{"half a header", "GET / HTTP/1.1\r\nHost: 127.0", headerTimeout, ""},
		{"half a body", postHead + "Content-Length: 100\r\n\r\n{", readTimeout, "408 Request Timeout"},
		{"idle afterwards", "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", idleTimeout, "200 OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newServer(t, guarded, &fake{})
				p, stop := serving(t, s)
				conn := p.dial(t)
				defer func() { _ = conn.Close() }()
				if c.sent != "" {
					if _, err := io.WriteString(conn, c.sent); err != nil {
						t.Fatal(err)
					}
				}
				got, after := closedAfter(conn)
				if !strings.Contains(got, c.answer) || c.answer == "" && got != "" {
					t.Errorf("answer %q, want %q", got, c.answer)
				}
				// The server waits up to half a second for the client to go.
				if after < c.after || after > c.after+time.Second {
					t.Errorf("cut off after %v, want %v", after, c.after)
				}
				if _, err := stop(); err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
}

// TestSlowReader: a client that does not take its answer is cut off as well.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, guarded, &fake{metrics: strings.Repeat("m 1\n", 1<<20)})
		p, stop := serving(t, s)
		conn := p.dial(t)
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		if got, _ := closedAfter(conn); len(got) > 1<<20 {
			t.Errorf("%d bytes came after the time was over", len(got))
		}
		if _, err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestHeaderTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, guarded, &fake{})
		p, stop := serving(t, s)
		conn := p.dial(t)
		go func() {
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
		}()
		got, _ := closedAfter(conn)
		if !strings.Contains(got, "431") {
			t.Errorf("answer %q", got)
		}
		_ = conn.Close()
		if _, err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestGracefulStop: a marker that is being stored is still answered.
func TestGracefulStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{onMark: func(ctx context.Context) error {
			select {
			case <-time.After(3 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		s, _ := newServer(t, guarded, f)
		p, stop := serving(t, s)
		conn := p.dial(t)
		defer func() { _ = conn.Close() }()
		if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", postHead, len(release), release); err != nil {
			t.Fatal(err)
		}
		answer := make(chan string, 1)
		go func() {
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answer <- err.Error()
				return
			}
			_ = r.Body.Close()
			answer <- r.Status
		}()
		synctest.Wait()
		took, err := stop()
		if err != nil || took < 3*time.Second || took > drainTime {
			t.Errorf("Serve returned %v after %v", err, took)
		}
		if got := <-answer; got != "201 Created" {
			t.Errorf("the marker was answered with %s", got)
		}
	})
}

// TestStopIsBounded: requests that do not end are cut off, and a backend that
// ignores it is named.
func TestStopIsBounded(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			free := make(chan struct{})
			s, l := newServer(t, guarded, &fake{onRead: func(ctx context.Context) error {
				if heeds {
					<-ctx.Done()
					return ctx.Err()
				}
				<-free
				return nil
			}})
			p, stop := serving(t, s)
			conn := p.dial(t)
			if _, err := io.WriteString(conn, "GET /v1/incidents HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			took, err := stop()
			if took < drainTime || took > drainTime+cutTime || (err == nil) != heeds {
				t.Errorf("heeds %v: Serve returned %v after %v", heeds, err, took)
			}
			if !strings.Contains(l.String(), "cut off") {
				t.Errorf("the log does not say so: %s", l)
			}
			close(free)
			_ = conn.Close()
		})
	}
}

// TestStopWhileBodyArrives: not even a body that never ends holds the stop up.
func TestStopWhileBodyArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, guarded, &fake{})
		p, stop := serving(t, s)
		conn := p.dial(t)
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, postHead+"Content-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if took, err := stop(); err != nil || took > drainTime+cutTime {
			t.Errorf("Serve returned %v after %v", err, took)
		}
	})
}

// TestListenerFails: Serve says where it cannot accept.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, guarded, &fake{})
		p := newPipes()
		_ = p.Close()
		if err := s.Serve(t.Context(), p); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "127.0.0.1:8403") {
			t.Errorf("%v", err)
		}
	})
}

// TestOverTheNetwork has the client of `denywatch mark` talk through real sockets.
func TestOverTheNetwork(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newServer(t, Config{}, story())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()

	tr := &http.Transport{}
	c := &http.Client{Transport: tr}
	base := "http://" + ln.Addr().String()
	ask := func(r *http.Request, err error) *http.Response {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp
	}
	cl := &client.Client{BaseURL: base, HTTP: c, Patience: -1}
	m := marker.Marker{Service: "shop", Version: "v3", Time: at(11), Scope: marker.Scope{Prefix: marker.List{"/billing"}}}
	for _, known := range []bool{false, true} {
		r, err := cl.Mark(t.Context(), m)
		want := client.Result{ID: "shop-v3", ProbationUntil: at(13), Incidents: "/v1/incidents?marker=shop-v3", Verdict: "/v1/markers/shop-v3/verdict", Known: known}
		if err != nil || r != want {
			t.Errorf("marker: %+v, %v", r, err)
		}
	}
	if got, err := cl.WaitForIncident(t.Context(), "shop-v3", 0, 0); err != nil || len(got) != 1 || got[0].ID != "open-late" {
		t.Errorf("incidents after it: %+v, %v", got, err)
	}
	if _, err := cl.WaitForIncident(t.Context(), "shop-v4", time.Hour, time.Hour); err == nil || !strings.Contains(err.Error(), "no marker of this id") {
		t.Errorf("an unknown marker: %v", err)
	}
	s.Reload(guarded)
	if _, err := cl.Mark(t.Context(), m); err == nil || !strings.Contains(err.Error(), "DENYWATCH_TOKEN") {
		t.Errorf("without the token: %v", err)
	}
	cl.Token = ciToken
	if r, err := cl.Mark(t.Context(), m); err != nil || !r.Known {
		t.Errorf("with the token: %+v, %v", r, err)
	}

	r, err := http.NewRequest(http.MethodGet, base+"/v1/incidents", nil)
	if err == nil {
		r.Host = "evil.example"
	}
	if got := ask(r, err).StatusCode; got != 421 {
		t.Errorf("another host name: %d", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	tr.CloseIdleConnections()
}
