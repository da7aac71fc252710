package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// apiError is a refusal: what the caller is told. It implements error.
type apiError struct {
	status int
	Msg    string `json:"error"`
	Hint   string `json:"hint,omitempty"`
	// retryAfter, in seconds, is for errors that pass by themselves.
	retryAfter int
	// header is one further header of the answer.
	header [2]string
	cause  error // for the log only
}

func (e *apiError) Error() string { return e.Msg }

func (e *apiError) Unwrap() error { return e.cause }

func refuse(status int, msg, hint string) *apiError {
	return &apiError{status: status, Msg: msg, Hint: hint}
}

// endpoint answers one method of one path. An *apiError goes to the caller, any
// other error to the log.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// resource is a path with its methods.
type resource struct {
	get, post, del endpoint
	// guard decides who may read; every resource names its own, so that one that
	// must be protected needs no more than another guard.
	guard func(r *http.Request) error
	// free resources answer even when the server is at its limit.
	free bool
	// waits tells that requests may wait for something to happen, which has a limit
	// of its own.
	waits bool
	// everywhere resources are answered by standbys, too: they are about the member.
	everywhere bool
}

func (res *resource) allow() string {
	var methods []string
	if res.get != nil {
		methods = append(methods, http.MethodGet, http.MethodHead)
	}
	if res.post != nil {
		methods = append(methods, http.MethodPost)
	}
	if res.del != nil {
		methods = append(methods, http.MethodDelete)
	}
	return strings.Join(methods, ", ")
}

// routes is the table of everything that is served.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	resources := map[string]resource{
		"/{$}":                         {get: s.getIndex, guard: s.localName, everywhere: true},
		"/v1/markers":                  {get: s.getMarkers, post: s.postMarker, guard: s.localName},
		"/v1/markers/github":           {post: s.postGitHub},
		"/v1/markers/gitlab":           {post: s.postGitLab},
		"/v1/markers/argocd":           {post: s.postArgoCD},
		"/v1/markers/{id}/verdict":     {get: s.getVerdict, guard: s.localName, waits: true},
		"/v1/who":                      {get: s.getWho, guard: s.localName},
		"/v1/scans":                    {get: s.getScans, guard: s.localName},
		"/v1/incidents":                {get: s.getIncidents, guard: s.localName},
		"/v1/incidents/{id}":           {get: s.getIncident, guard: s.localName},
		"/v1/incidents/{id}/trace":     {get: s.getTrace, guard: s.localName},
		"/v1/incidents/{id}/chart.png": {get: s.getChart, guard: s.localName},
		"/v1/routes":                   {get: s.getRoutes, guard: s.localName},
		"/v1/access":                   {get: s.getAccess, guard: s.localName},
		"/v1/status":                   {get: s.getStatus, guard: s.localName, everywhere: true},
		"/metrics":                     {get: s.getMetrics, guard: s.localName, everywhere: true},
		"/readyz":                      {get: s.getReady, guard: s.localName, everywhere: true},
		"/healthz":                     {get: s.getHealth, guard: anyone, free: true, everywhere: true},
		"/v1/silences":                 {get: s.getSilences, post: s.postSilence, guard: s.localName},
		"/v1/silences/{id}":            {del: s.deleteSilence},
		"/v1/dead-letters":             {get: s.getDead, guard: s.localName},
		"/v1/dead-letters/resend":      {post: s.postResendAll},
		"/v1/dead-letters/{id}":        {del: s.deleteDead},
		"/v1/dead-letters/{id}/resend": {post: s.postResend},
		"/v1/slack/interactions":       {post: s.postClick},
	}
	for _, verb := range incident.Verbs {
		resources["/v1/incidents/{id}/"+string(verb)] = resource{post: s.postAct(verb)}
	}
	for path, res := range resources {
		mux.Handle(path, s.serve(&res))
	}
	mux.Handle("/", s.serve(nil))
	return mux
}

// serve wraps a resource in what every request gets. A nil resource is a path
// that does not exist.
func (s *Server) serve(res *resource) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		defer s.recover(w)
		timeout := answerTimeout
		if res != nil && res.waits {
			timeout += maxWait
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if err := s.dispatch(res, w, r.WithContext(ctx)); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *Server) dispatch(res *resource, w http.ResponseWriter, r *http.Request) error {
	if res == nil {
		return refuse(http.StatusNotFound, "there is nothing at this path", "GET / says what is here")
	}
	do, limit := res.get, s.reads
	if res.waits {
		limit = s.waits
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		do, limit = res.post, s.posts
	case http.MethodDelete:
		do, limit = res.del, s.posts
	default:
		do = nil
	}
	if do == nil {
		e := refuse(http.StatusMethodNotAllowed, "this path does not take that method", "use one of "+res.allow())
		e.header = [2]string{"Allow", res.allow()}
		return e
	}
	if !res.free {
		select {
		case limit <- struct{}{}:
			defer func() { <-limit }()
		default:
			e := refuse(http.StatusServiceUnavailable, "too many requests at a time", "try again in a second")
			e.retryAfter = 1
			return e
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead { // changing has rules of its own
		if err := res.guard(r); err != nil {
			return err
		}
	}
	if s.standby != nil && !res.everywhere {
		return s.elsewhere(r)
	}
	return do(w, r)
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		e = &apiError{cause: err}
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			e.status, e.Msg, e.Hint, e.retryAfter = http.StatusServiceUnavailable, "the daemon did not answer in time", "try again; GET /readyz says what is wrong", 5
		case errors.Is(err, ErrStopping):
			e.status, e.Msg, e.Hint, e.retryAfter, e.cause = http.StatusServiceUnavailable, "the daemon is stopping", "try again when it was started again", 5, nil
		default:
			e.status, e.Msg, e.Hint = http.StatusInternalServerError, "the daemon failed to answer", "its log says why"
		}
	}
	if e.cause != nil && r.Context().Err() == nil {
		s.log.Error("request failed", "method", r.Method, "path", r.Pattern, "status", e.status, "error", e.cause)
	}
	if e.header[0] != "" {
		w.Header().Set(e.header[0], e.header[1])
	}
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	_ = reply(w, e.status, e) // strings always encode
}

// recover turns a panic into an error of this one request. Endpoints write only
// whole answers, as their last act, so none has been begun yet.
func (s *Server) recover(w http.ResponseWriter) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.log.Error("request handler panicked", "panic", clean(fmt.Sprint(p)), "stack", string(debug.Stack()))
	_ = reply(w, http.StatusInternalServerError, refuse(0, "the daemon failed to answer", "this is a bug; its log says where"))
}

// reply writes v as the whole JSON answer. The error is that of encoding it:
// nothing was written then.
func reply(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	write(w, status, "application/json", append(b, '\n'))
	return nil
}

// write sends a whole answer. What goes wrong on the way to the caller is the
// caller's to notice.
func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

const plain = "text/plain; charset=utf-8"

// maxClean bounds a text in bytes.
const maxClean = 500

// clean makes a text fit for one line: no control characters, bounded.
func clean(s string) string {
	if len(s) > maxClean {
		s = strings.ToValidUTF8(s[:maxClean], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// query returns the parameters of r, of which only the named may be given, each
// once: a misspelled filter must not silently let everything through.
func query(r *http.Request, names ...string) (map[string]string, error) {
	hint := "this path takes no parameters"
	if len(names) > 0 {
		hint = "this path takes " + strings.Join(names, ", ")
	}
	all, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query string cannot be read", "percent-encode special characters; "+hint)
	}
	got := make(map[string]string, len(names))
	var unknown []string
	for name, values := range all {
		switch {
		case !slices.Contains(names, name):
			unknown = append(unknown, name)
		case len(values) > 1:
			return nil, refuse(http.StatusBadRequest, "the parameter "+name+" is given more than once", hint)
		default:
			got[name] = values[0]
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("unknown parameter %q", clip(unknown[0])), hint)
	}
	return got, nil
}

// clip bounds what is repeated from a request.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// limit reads a parameter that bounds a list.
func limit(q map[string]string) (int, error) {
	const usual, most = 100, 1000
	text, given := q["limit"]
	if !given {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, refuse(http.StatusBadRequest, "limit is not a number from 1 to "+strconv.Itoa(most), "leave it out for "+strconv.Itoa(usual))
	}
	return n, nil
}

// instant reads a parameter that is a time.
func instant(q map[string]string, name string) (time.Time, error) {
	text, given := q[name]
	if !given {
		return time.Time{}, nil
	}
	// An unescaped + of a zone arrives as a space; no time has one there.
	t, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1))
	if err != nil {
		return time.Time{}, refuse(http.StatusBadRequest, name+" is not a time as in RFC 3339", "write it like 2026-11-18T10:04:00Z")
	}
	return t, nil
}

// buffered collects what f writes, so that a panic half-way leaves no half answer.
func buffered(f func(b *bytes.Buffer)) []byte {
	var b bytes.Buffer
	f(&b)
	return b.Bytes()
}

// flat writes the parts of a joined error on one line.
func flat(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
