// Package web is the daemon's HTTP API: it takes markers and shows incidents,
// counts and health.
//
// What it promises:
//
//   - A marker is answered with success only after the Backend has made it
//     durable. Sending the same marker again changes nothing.
//   - What people decide about incidents, silences and dead letters is answered with
//     success only after it is durable, and needs what markers need. Clicks in Slack
//     need Slack's signature instead, from wherever they come.
//   - Every other request only reads. Whoever reaches the listener may read,
//     which is why it listens on loopback by default; a proxy with TLS and log-in
//     belongs in front of any other address. On a loopback listener requests must
//     name a host that is an address or localhost (or one of Config.Hosts), so
//     that a web page whose own name was pointed at 127.0.0.1 reads nothing.
//   - Markers need a bearer token or a signature as soon as one is configured.
//     With none configured they are taken on a loopback listener only, from
//     programs on the same host, never from a browser's other pages and never
//     through a proxy that says it is one.
//   - Every request is bounded in size, time and number. A request that is
//     malformed, too slow or that makes a handler panic hurts nobody else.
//   - Errors are JSON, {"error": "...", "hint": "..."}, and say how to mend what
//     they refuse. Neither they nor the log hold a token.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The bounds of a request. The write timeout leaves room for a body that came as
// slowly as it may and a backend that took as long as it may.
const (
	maxBody       = 64 << 10
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	answerTimeout = 20 * time.Second
	writeTimeout  = 45 * time.Second
	idleTimeout   = time.Minute
	// maxReads and maxPosts bound the requests in flight. They are apart, so that
	// slowly sent bodies never keep anyone from reading.
	maxReads = 64
	maxPosts = 16
	// maxWaits bounds the requests that may wait for something to happen, for maxWait
	// at most; pollEvery is how often it is looked for.
	maxWaits  = 64
	maxWait   = 20 * time.Second
	pollEvery = time.Second
)

// How long Serve lets requests end by themselves once it is told to stop, and
// then after it cut them off.
const (
	drainTime = 5 * time.Second
	cutTime   = time.Second
)

// Server answers the HTTP API. All methods are safe for concurrent use.
type Server struct {
	backend Backend
	log     *slog.Logger
	mux     *http.ServeMux
	creds   atomic.Pointer[credentials]
	clicks  Clicks

	reads, posts, waits chan struct{}
	crossOrigin         *http.CrossOriginProtection

	// refusals keeps a caller that tries tokens from filling the log.
	refusals   rate.Sometimes
	suppressed atomic.Int64

	// standby names the active member; nil unless this server stands by.
	standby func() string
	// instead answers requests in place of this server; nil: it does itself.
	instead atomic.Pointer[Server]
}

// New makes a server of a valid Config (see Config.Validate). It starts nothing. Clicks may
// be nil: then there are none.
func New(cfg Config, b Backend, clicks Clicks, log *slog.Logger) *Server {
	s := &Server{
		backend:     b,
		clicks:      clicks,
		log:         log.With("component", "web"),
		reads:       make(chan struct{}, maxReads),
		posts:       make(chan struct{}, maxPosts),
		waits:       make(chan struct{}, maxWaits),
		crossOrigin: http.NewCrossOriginProtection(),
		refusals:    rate.Sometimes{First: 3, Interval: 10 * time.Second},
	}
	s.Reload(cfg)
	s.mux = s.routes()
	return s
}

// Reload replaces the configuration for requests that come from now on. cfg must
// be valid.
func (s *Server) Reload(cfg Config) { s.creds.Store(newCredentials(cfg)) }

// Handler returns the API without its time limits and its listener. Since it
// cannot know who reaches it, it takes no markers as long as no token or key is
// configured, and does not look at host names; Serve does both.
func (s *Server) Handler() http.Handler { return s.mux }

// Serve answers requests that come through ln until ctx ends, lets those under
// way end within 5 s and then cuts them off. It closes ln and returns nil after a
// stop through ctx; when it returns no request uses the Backend any more, unless
// the Backend ignored its context, which the error says.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cut := context.WithCancel(context.WithValue(context.WithValue(context.WithoutCancel(ctx), listenerKey{}, ln.Addr()), stopKey{}, ctx.Done()))
	defer cut()
	g := newGate()
	srv := &http.Server{
		Handler:           g.guard(s),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan struct{})
	var accept error
	go func() {
		defer close(served)
		accept = srv.Serve(ln)
	}()

	var failure error
	select {
	case <-served:
		failure = fmt.Errorf("accept HTTP connections on %s: %w", ln.Addr(), accept)
	case <-ctx.Done():
		drain, done := context.WithTimeout(base, drainTime)
		err := srv.Shutdown(drain)
		done()
		<-served
		if !errors.Is(err, context.DeadlineExceeded) {
			return nil // all have ended; another error is that of closing ln
		}
		s.log.Warn("requests were cut off at shutdown", "after", drainTime)
	}
	cut()
	_ = srv.Close() // its only error is that of closing ln once more
	select {
	case <-g.close():
	case <-time.After(cutTime):
		failure = errors.Join(failure, errors.New("HTTP requests are still running: the backend did not heed their end"))
	}
	return failure
}

// listenerKey is the context key of the address that Serve listens on.
type listenerKey struct{}

// stopKey is the context key of the channel that is closed when Serve is told to
// stop: who only waits need not go on.
type stopKey struct{}

// stopping is that channel; nil, which is never closed, outside of Serve.
func stopping(r *http.Request) <-chan struct{} {
	c, _ := r.Context().Value(stopKey{}).(<-chan struct{})
	return c
}

// onLoopback reports whether r came through Serve on a loopback address.
func onLoopback(r *http.Request) bool {
	a, _ := r.Context().Value(listenerKey{}).(*net.TCPAddr)
	return a != nil && a.IP.IsLoopback()
}

// fromLoopback reports whether the other end of r's connection is this host.
func fromLoopback(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// gate counts the requests that are under way and, once closed, lets no more in.
// A WaitGroup would not do: a connection that is being cut may still start one.
type gate struct {
	mu      sync.Mutex
	running int
	closed  bool
	empty   chan struct{}
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

func (g *gate) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.enter() {
			panic(http.ErrAbortHandler) // the connection is closed already
		}
		defer g.leave()
		next.ServeHTTP(w, r)
	})
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.running++
	}
	return !g.closed
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.closed && g.running == 0 {
		close(g.empty)
	}
}

// close shuts the gate and returns a channel that is closed when no request is
// under way. It is called once.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.running == 0 {
		close(g.empty)
	}
	return g.empty
}
