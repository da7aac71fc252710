package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// fake is a backend in memory. Its hooks run first.
type fake struct {
	mu        sync.Mutex
	incidents []incident.Incident
	timelines map[string][]incident.Transition
	traces    map[string]incident.Trace
	markers   []marker.Marker
	routes    []RouteCount
	doors     []Door
	status    Status
	metrics   string
	verdicts  map[string]marker.Verdict
	scans     []incident.Scan
	clicks    Clicks
	marks     int
	asked     int // for verdicts

	acts     []string
	silences []incident.Silencing
	dead     []DeadLetter

	onMark   func(ctx context.Context) error
	onRead   func(ctx context.Context) error
	onStatus func(ctx context.Context) error
}

func run(ctx context.Context, hook func(context.Context) error) error {
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// Act takes down what was asked for; the incident "over" is over, "old" for long.
func (f *fake) Act(ctx context.Context, id string, verb incident.Verb, act incident.Act) error {
	if err := run(ctx, f.onMark); err != nil {
		return err
	}
	switch id {
	case "over":
		return ErrOver
	case "old":
		return fmt.Errorf("it ended too long ago; %w", ErrUnfit)
	}
	if _, ok := f.timelines[id]; !ok {
		return ErrNotFound
	}
	into := ""
	if act.Other != "" {
		into = " into " + act.Other
	}
	f.acts = append(f.acts, fmt.Sprintf("%s %s by %s (%s) via %s%s for %v", verb, id, act.By, act.ID, act.Via, into, rounded(act)))
	return nil
}

func (f *fake) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	return f.dead, run(ctx, f.onRead)
}

func (f *fake) Resend(ctx context.Context, id string) error {
	for _, l := range f.dead {
		if l.ID == id && !l.Sendable {
			return ErrNotSendable
		}
	}
	return f.Drop(ctx, id)
}

func (f *fake) Drop(_ context.Context, id string) error {
	n := len(f.dead)
	f.dead = slices.DeleteFunc(slices.Clone(f.dead), func(l DeadLetter) bool { return l.ID == id })
	if len(f.dead) == n {
		return ErrNotFound
	}
	return nil
}

func (f *fake) Who(ctx context.Context, hash uint64, account bool) (Refused, error) {
	return Refused{Refusals: []Refusal{{Route: fmt.Sprintf("/%x/%v", hash, account), Incidents: []string{}}}}, run(ctx, f.onRead)
}

// rounded is how long a silence lasts.
func rounded(act incident.Act) time.Duration {
	if act.Until.IsZero() {
		return 0
	}
	return time.Until(act.Until).Round(time.Minute)
}

func (f *fake) Silences(ctx context.Context) ([]incident.Silencing, error) {
	return f.silences, run(ctx, f.onRead)
}

func (f *fake) Silence(_ context.Context, scope incident.Scope, act incident.Act) (incident.Silencing, error) {
	if scope == (incident.Scope{}) {
		return incident.Silencing{}, fmt.Errorf("it has no scope: %w", ErrBadSilence)
	}
	s := incident.Silencing{ID: "s-1", Scope: &scope, Act: act}
	f.silences = append(f.silences, s)
	return s, nil
}

func (f *fake) Unsilence(_ context.Context, id string, act incident.Act) error {
	if id != "s-1" {
		return ErrNotFound
	}
	f.acts = append(f.acts, "unsilence "+id+" by "+act.By)
	return nil
}

func (f *fake) Incidents(ctx context.Context) ([]incident.Incident, error) {
	return f.incidents, run(ctx, f.onRead)
}

func (f *fake) Timeline(ctx context.Context, id string) ([]incident.Transition, error) {
	if err := run(ctx, f.onRead); err != nil {
		return nil, err
	}
	t, ok := f.timelines[id]
	if !ok {
		return nil, fmt.Errorf("incident %q: %w", id, ErrNotFound)
	}
	return t, nil
}

func (f *fake) Trace(ctx context.Context, id string) (incident.Trace, error) {
	t, ok := f.traces[id]
	if !ok {
		return t, fmt.Errorf("trace of incident %q: %w", id, ErrNotFound)
	}
	return t, run(ctx, f.onRead)
}

func (f *fake) Chart(ctx context.Context, id string) ([]byte, error) {
	t, err := f.Trace(ctx, id)
	return fmt.Appendf(nil, "a picture of %d points", len(t.Points)), err
}

func (f *fake) Markers(ctx context.Context) ([]marker.Marker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]marker.Marker(nil), f.markers...), run(ctx, f.onRead)
}

func (f *fake) Mark(ctx context.Context, m marker.Marker) (Marked, error) {
	if err := run(ctx, f.onMark); err != nil {
		return Marked{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks++
	until := m.Time.Add(2 * time.Hour)
	for _, k := range f.markers {
		if k.ID != m.ID {
			continue
		}
		// As a store would: the encoded forms are compared.
		a, _ := json.Marshal(k)
		b, _ := json.Marshal(m)
		if !reflect.DeepEqual(a, b) {
			return Marked{}, fmt.Errorf("marker %q: %w", m.ID, ErrConflict)
		}
		return Marked{Known: true, ProbationUntil: until}, nil
	}
	f.markers = append(f.markers, m)
	return Marked{ProbationUntil: until}, nil
}

func (f *fake) Verdict(ctx context.Context, id string) (marker.Verdict, error) {
	if err := run(ctx, f.onRead); err != nil {
		return marker.Verdict{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	v, ok := f.verdicts[id]
	if !ok {
		return marker.Verdict{}, fmt.Errorf("marker %q: %w", id, ErrNotFound)
	}
	return v, nil
}

func (f *fake) Scans(ctx context.Context) ([]incident.Scan, error) {
	return f.scans, run(ctx, f.onRead)
}

func (f *fake) Routes(ctx context.Context) ([]RouteCount, error) {
	return f.routes, run(ctx, f.onRead)
}

func (f *fake) Access(ctx context.Context) ([]Door, error) {
	return f.doors, run(ctx, f.onRead)
}

func (f *fake) Status(ctx context.Context) (Status, error) {
	return f.status, run(ctx, f.onStatus)
}

func (f *fake) WriteMetrics(w io.Writer) { _, _ = io.WriteString(w, f.metrics) }

// logbook keeps what is logged.
type logbook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newServer(t testing.TB, cfg Config, f *fake) (*Server, *logbook) {
	t.Helper()
	if ps := cfg.Validate(); len(ps) > 0 {
		t.Fatalf("the test's configuration is wrong: %v", ps)
	}
	l := &logbook{}
	return New(cfg, f, f.clicks, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))), l
}

const (
	loopbackListener = "127.0.0.1:8403"
	openListener     = "0.0.0.0:8403"
)

// request is one in-process request as it comes through Serve on listen.
type request struct {
	method, target, body string
	listen               string // "" stands for loopbackListener
	peer                 string // "" stands for a local one
	host                 string // "" stands for the listener's
	header               map[string]string
}

func (q request) do(t testing.TB, s *Server) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(q.method, q.target, strings.NewReader(q.body))
	if q.listen == "" {
		q.listen = loopbackListener
	}
	addr, err := net.ResolveTCPAddr("tcp", q.listen)
	if err != nil {
		t.Fatal(err)
	}
	r = r.WithContext(context.WithValue(r.Context(), listenerKey{}, net.Addr(addr)))
	r.RemoteAddr, r.Host = "127.0.0.1:50000", loopbackListener
	if q.peer != "" {
		r.RemoteAddr = q.peer
	}
	if q.host != "" {
		r.Host = q.host
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// get is a plain GET on a loopback listener.
func get(t testing.TB, s *Server, target string) *httptest.ResponseRecorder {
	t.Helper()
	return request{method: http.MethodGet, target: target}.do(t, s)
}

// told checks that w is a JSON error of that status, whose texts hold want.
func told(t testing.TB, w *httptest.ResponseRecorder, status int, want string) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d; body %s", w.Code, status, w.Body)
	}
	var e map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e["error"] == "" || e["hint"] == "" {
		t.Fatalf("body %s is not an error with a hint", w.Body)
	}
	if !strings.Contains(e["error"]+" | "+e["hint"], want) {
		t.Fatalf("error %q, hint %q: want %q in it", e["error"], e["hint"], want)
	}
}
