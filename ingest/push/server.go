package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/denywatch/denywatch/ingest/spool"
)

const (
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	answerTimeout = 20 * time.Second // net/http may wait for a piece of the body first
	drainTime     = 5 * time.Second
	// maxKey is how much of an Idempotency-Key counts.
	maxKey = 256
)

// Server answers senders. All methods are safe for concurrent use.
type Server struct {
	log     *slog.Logger
	handler http.Handler
	sources atomic.Pointer[map[string]*Source]
	memory  *memory
	examine *examiner
	pace    pace

	unauthorized atomic.Uint64
	said         rate.Sometimes
}

// NewServer makes a server that has no source yet. It starts nothing.
func NewServer(log *slog.Logger) *Server {
	s := &Server{
		log: log.With("component", "ingest/push"), memory: newMemory(), examine: newExaminer(runtime.GOMAXPROCS(0)), pace: usualPace,
		said: rate.Sometimes{First: 3, Interval: time.Minute},
	}
	s.SetSources(nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/ingest/{source}", s.ingest)
	s.handler = mux
	return s
}

// SetSources replaces the sources that may be pushed to, by name.
func (s *Server) SetSources(sources map[string]*Source) { s.sources.Store(&sources) }

// Unauthorized counts the requests without a token that is known.
func (s *Server) Unauthorized() uint64 { return s.unauthorized.Load() }

// Serve answers requests that come through ln, which bounds its connections (see
// Listen.Open), until ctx ends, lets those under way end within five seconds, cuts the
// others off and closes ln. It returns nil after a stop through ctx.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Over HTTP/1 a connection is one request at a time, so that bounding them
	// bounds everything.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	srv := &http.Server{
		Handler: s.handler, Protocols: &protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan struct{})
	var accept error
	go func() {
		defer close(served)
		accept = srv.Serve(ln)
	}()
	select {
	case <-served:
		return fmt.Errorf("accept pushed logs on %s: %w", ln.Addr(), accept)
	case <-ctx.Done():
	}
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer done()
	if errors.Is(srv.Shutdown(drain), context.DeadlineExceeded) {
		s.log.Warn("senders were cut off at shutdown; they send again", "after", drainTime)
		_ = srv.Close() // its only error is that of closing ln once more
	}
	<-served
	return nil
}

// ingest answers POST /v1/ingest/{source}.
func (s *Server) ingest(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// What is refused before its body was read is read by net/http, without an end if
	// nobody sets one: senders without a token could hold all connections.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.pace.piece)) // only a test's writer has none
	src, err := s.authorize(r)
	switch {
	case err != nil:
		s.unauthorized.Add(1)
		s.said.Do(func() {
			s.log.Warn("a push was refused: its token is not known", "peer", r.RemoteAddr, "count", s.unauthorized.Load())
		})
		w.Header().Set("WWW-Authenticate", `Bearer realm="denywatch", Basic realm="denywatch"`)
		s.answer(w, http.StatusUnauthorized, problem{err.Error(), "send the header Authorization: Bearer TOKEN with one of push.tokens of the source, or the token as the password of HTTP basic authentication"})
		return
	case src == nil:
		s.answer(w, http.StatusNotFound, problem{"no source of this name takes pushes with this token", "the path is /v1/ingest/NAME, with the name of a source in denywatch.yaml"})
		return
	}
	took, err := src.take(s, w, r)
	if err == nil {
		s.answer(w, http.StatusOK, took)
		return
	}
	e, ok := errors.AsType[*refusal](err)
	if !ok {
		e = &refusal{reason: disk, cause: err}
	}
	src.rejected[e.reason].Add(1)
	if e.cause != nil {
		src.log.Debug("a pushed batch was refused", "reason", e.reason.String(), "error", e.cause)
	}
	if after := e.retryAfter(); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(after))
		s.drain(w, r, src.cfg.MaxBody)
	}
	_, status, _, hint := e.reason.texts()
	if e.reason == slow || e.reason == broken {
		w.Header().Set("Connection", "close")
	}
	s.answer(w, status, problem{e.Error(), hint})
}

// drain takes the rest of a body that may be sent again, so that its sender sees the
// answer: most look for it when they have sent everything, and would find the
// connection closed. One that asked whether to send it need not.
func (s *Server) drain(w http.ResponseWriter, r *http.Request, most int64) {
	if r.Header.Get("Expect") != "" {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.pace.piece)) // only a test's writer has none
	_, _ = io.CopyN(io.Discard, r.Body, most)                                       // as far as it comes
}

// problem is the answer to what is refused.
type problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint"`
}

// taken is the answer to what is taken.
type taken struct {
	Lines int64 `json:"lines"`
	// Duplicate tells that the batch was taken before.
	Duplicate bool `json:"duplicate,omitempty"`
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout)) // only a test's writer has none
	b, _ := json.Marshal(v)                                                           //nolint:errchkjson // strings and numbers always encode
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // what goes wrong on the way is the sender's to notice
}

var errUnauthorized = errors.New("a known token is needed")

// authorize returns the source that r may push to. An unknown token is an error; a
// token of other sources gets no source, as if there were none of that name.
func (s *Server) authorize(r *http.Request) (*Source, error) {
	var token string
	if _, password, ok := r.BasicAuth(); ok {
		token = password
	} else if scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	sources := *s.sources.Load()
	known := false
	var own *Source
	for name, src := range sources {
		if _, ok := src.tokens.Caller(token); ok {
			known = true
			if name == r.PathValue("source") {
				own = src
			}
		}
	}
	if !known {
		return nil, errUnauthorized
	}
	return own, nil
}

// take reads a batch and makes it durable. The error is a *refusal, or that of the
// disk.
func (s *Source) take(srv *Server, w http.ResponseWriter, r *http.Request) (taken, error) {
	sp := s.spool.Load()
	if sp == nil {
		return taken{}, refuse(stopped, 0)
	}
	if wait := s.quota.wait(time.Now()); wait > 0 {
		return taken{}, tooSoon(wait)
	}
	b := &body{memory: srv.memory, pace: srv.pace}
	defer b.release()
	if err := b.read(w, r, s.cfg.MaxBody); err != nil {
		return taken{}, err
	}
	parts := b.parts()
	if len(parts) == 0 {
		s.hear()
		return taken{}, nil
	}
	enc, err := encodingOf(r.Header.Get("Content-Encoding"), parts)
	if err != nil {
		return taken{}, err
	}
	c, err := srv.examine.examine(enc, parts, key(r), s.cfg.MaxBatch)
	wait := s.quota.spend(c.bytes, time.Now()) // those that came at the same time may have spent it
	switch {
	case err != nil:
		return taken{}, err
	case c.isArray():
		return taken{}, refuse(array, 0)
	case wait > 0:
		return taken{}, tooSoon(wait)
	}
	s.hear() // before the reader can have seen the batch, and thought that it was the last
	if c.bytes == 0 || c.isCheck() {
		return taken{}, nil
	}
	// All of it is here: a sender that does not wait, or has closed its half of the
	// connection, changes nothing.
	known, err := sp.Append(context.WithoutCancel(r.Context()), &spool.Batch{ID: c.id(), Encoding: enc, Body: parts})
	switch {
	case err == nil:
	case errors.Is(err, spool.ErrFull):
		return taken{}, refuse(full, 0)
	case errors.Is(err, spool.ErrClosed):
		return taken{}, refuse(stopped, 0)
	default:
		return taken{}, err
	}
	if !known {
		s.batches.Add(1)
		s.lines.Add(uint64(c.lines))
		s.bytes.Add(uint64(c.bytes))
		s.sent.Add(uint64(b.size))
	}
	return taken{Lines: c.lines, Duplicate: known}, nil
}

func (s *Source) hear() { s.heard.Store(time.Now().UnixNano()) }

// key is what the sender names the batch. Headers that proxies set anew for each
// try, such as X-Request-Id, would make a batch that is sent again another one.
func key(r *http.Request) string {
	k := r.Header.Get("Idempotency-Key")
	return k[:min(len(k), maxKey)]
}
