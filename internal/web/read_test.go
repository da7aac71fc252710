package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

func at(hour int) time.Time { return time.Date(2026, 11, 18, hour, 0, 0, 0, time.UTC) }

// story has incidents before, after and beside a marker.
func story() *fake {
	in := func(id string, hour int, state incident.State, sc incident.Scope, follows string) incident.Incident {
		return incident.Incident{ID: id, State: state, Direction: incident.Up, OpenedAt: at(hour), StartedAt: at(hour - 1), Scope: sc, Marker: follows}
	}
	upgrade := incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"}
	f := &fake{
		incidents: []incident.Incident{
			in("open-late", 14, incident.Open, upgrade, ""),
			in("open-named", 12, incident.Open, incident.Scope{Service: "blog"}, "shop-v2"),
			in("resolved-at", 10, incident.Resolved, incident.Scope{Prefix: "/billing"}, ""),
			in("resolved-before", 9, incident.Resolved, upgrade, ""),
			in("resolved-beside", 13, incident.Resolved, incident.Scope{Service: "shop", Prefix: "/docs"}, "gone"),
		},
		markers: []marker.Marker{{ID: "shop-v2", Kind: marker.Release, Time: at(10), Service: "shop", Scope: marker.Scope{Service: marker.List{"shop"}, Prefix: marker.List{"/billing"}}}},
	}
	first := in("open-late", 14, incident.Open, upgrade, "")
	f.timelines = map[string][]incident.Transition{"open-late": {{Seq: 1, Kind: incident.Opened, At: at(14), Incident: first}}}
	f.incidents[2].Team = "growth"
	f.incidents[0].Denials = 480 // counted after the last transition
	return f
}

func TestGetIncidents(t *testing.T) {
	s, _ := newServer(t, Config{}, story())
	for _, c := range []struct {
		query string
		want  string
		more  int
	}{
		{"", "open-late open-named resolved-at resolved-before resolved-beside", 0},
		{"?state=open", "open-late open-named", 0},
		{"?state=resolved", "resolved-at resolved-before resolved-beside", 0},
		{"?limit=2", "open-late open-named", 3},
		{"?limit=2&state=resolved", "resolved-at resolved-before", 1},
		{"?since=2026-11-18T12:00:00Z", "open-late open-named resolved-beside", 0},
		{"?since=2026-11-18T13:00:00%2B01:00&state=open", "open-late open-named", 0},
		{"?since=2026-11-18T13:00:00+01:00&state=open", "open-late open-named", 0},
		{"?marker=shop-v2", "open-late open-named resolved-at", 0},
		{"?marker=shop-v2&state=open&limit=1", "open-late", 1},
		{"?marker=gone", "resolved-beside", 0},
		{"?team=growth", "resolved-at", 0},
		{"?team=&limit=1", "open-late", 3},
		{"?since=2027-01-01T00:00:00Z", "", 0},
	} {
		w := get(t, s, "/v1/incidents"+c.query)
		var got struct {
			Incidents []incident.Incident `json:"incidents"`
			More      int                 `json:"more"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Errorf("%s: %d %s", c.query, w.Code, w.Body)
			continue
		}
		ids := []string{}
		for _, in := range got.Incidents {
			ids = append(ids, in.ID)
		}
		if strings.Join(ids, " ") != c.want || got.More != c.more {
			t.Errorf("%s: %v and %d more, want %s and %d", c.query, ids, got.More, c.want, c.more)
		}
	}
	s, _ = newServer(t, Config{}, &fake{})
	if w := get(t, s, "/v1/incidents"); w.Body.String() != `{"incidents":[],"more":0}`+"\n" {
		t.Errorf("none: %s", w.Body)
	}
}

func TestGetIncident(t *testing.T) {
	s, _ := newServer(t, Config{}, story())
	w := get(t, s, "/v1/incidents/open-late")
	var got struct {
		Incident incident.Incident     `json:"incident"`
		Timeline []incident.Transition `json:"timeline"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got.Incident.Denials != 480 || len(got.Timeline) != 1 || got.Timeline[0].Incident.Denials != 0 {
		t.Errorf("%s", w.Body)
	}
	told(t, get(t, s, "/v1/incidents/nothing"), 404, "GET /v1/incidents lists them")
	told(t, get(t, s, "/v1/incidents/%2e%2e%2fetc"), 404, "no incident of this id")
}

func TestGetTrace(t *testing.T) {
	f := story()
	at := time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)
	f.traces = map[string]incident.Trace{"open-late": {Points: []incident.Point{{Time: at, Seconds: 60, Counted: true, Requests: 9, Denials: 3, Expected: 0.01, High: 0.1}},
		Markers: []incident.TraceMarker{{ID: "m1", MarkerInfo: incident.MarkerInfo{Kind: "release", Time: at}}}}}
	s, _ := newServer(t, Config{}, f)
	w := get(t, s, "/v1/incidents/open-late/trace")
	for _, want := range []string{`"points":[{"time":"2026-11-18T10:04:00Z","seconds":60,"counted":true,"requests":9,"denials":3,"expected":0.01,"low":0,"high":0.1}]`,
		`"markers":[{"id":"m1","kind":"release","time":"2026-11-18T10:04:00Z"}]`} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d %s lacks %s", w.Code, w.Body, want)
		}
	}
	w = get(t, s, "/v1/incidents/open-late/chart.png")
	if w.Code != 200 || w.Header().Get("Content-Type") != "image/png" || w.Body.String() != "a picture of 1 points" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for _, what := range []string{"trace", "chart.png"} {
		told(t, get(t, s, "/v1/incidents/nothing/"+what), 404, "ended too long ago")
		told(t, get(t, s, "/v1/incidents/open-late/"+what+"?x=1"), 400, "takes no parameters")
	}
}

func TestBadQueries(t *testing.T) {
	s, _ := newServer(t, Config{}, story())
	for target, want := range map[string]string{
		"/v1/incidents?stat=open":         `unknown parameter "stat"`,
		"/v1/incidents?state=closed":      "neither open nor resolved",
		"/v1/incidents?state=":            "neither open nor resolved",
		"/v1/incidents?state=open&state=": "more than once",
		"/v1/incidents?since=yesterday":   "RFC 3339",
		"/v1/incidents?limit=1001":        "limit is not a number from 1 to 1000",
		"/v1/incidents?limit=x":           "limit is not a number",
		"/v1/incidents?a=%zz":             "cannot be read",
		"/v1/incidents?a;b":               "cannot be read",
		"/v1/incidents/open-late?x=1":     "takes no parameters",
		"/v1/routes?x=1":                  "takes no parameters",
		"/v1/access?x=1":                  "takes state",
		"/v1/access?state=open":           "none of lets_in",
		"/v1/status?x=1":                  "takes no parameters",
	} {
		told(t, get(t, s, target), 400, want)
	}
	told(t, get(t, s, "/v1/incidents?marker=nothing"), 404, "no marker of this id")
	told(t, get(t, s, "/v1/incidents?marker="), 404, "no marker of this id")
	long := get(t, s, "/v1/incidents?"+strings.Repeat("x", 5000)+"=1")
	if told(t, long, 400, "unknown parameter"); long.Body.Len() > 300 {
		t.Errorf("a long name is repeated: %d bytes", long.Body.Len())
	}
}

func TestRoutesAndStatus(t *testing.T) {
	s, _ := newServer(t, Config{}, &fake{
		routes: []RouteCount{{"web", "shop", "/billing/upgrade", "403", 38}},
		status: Status{
			Ready: true, Since: at(1), Version: "v0.1.0", LastCut: at(2),
			Sources: []SourceStatus{{Name: "web", Vantage: "web", Format: "nginx", Streams: 1, Lines: 10, Unparsed: 1, Late: 2, LagSeconds: 0.5}},
			Sinks:   []SinkStatus{{Name: "slack", State: "retrying", Waiting: 3, Trouble: "429"}},
		},
	})
	for target, want := range map[string]string{
		"/v1/routes": `{"routes":[{"vantage":"web","service":"shop","route":"/billing/upgrade","status":"403","count":38}]}`,
		"/v1/status": `{"ready":true,"problems":[],"sources":[{"name":"web","vantage":"web","format":"nginx","streams":1,"lines":10,"unparsed":1,"late":2,"skipped":0,"lag_seconds":0.5}],` +
			`"sinks":[{"name":"slack","state":"retrying","waiting":3,"dead":0,"trouble":"429"}],"since":"2026-11-18T01:00:00Z","version":"v0.1.0","last_cut":"2026-11-18T02:00:00Z"}`,
	} {
		if w := get(t, s, target); strings.TrimSpace(w.Body.String()) != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s\nwant %s", target, w.Body, want)
		}
	}
	s, _ = newServer(t, Config{}, &fake{})
	if w := get(t, s, "/v1/routes"); w.Body.String() != `{"routes":[]}`+"\n" {
		t.Errorf("none: %s", w.Body)
	}
}

func TestAccess(t *testing.T) {
	s, _ := newServer(t, Config{}, &fake{doors: []Door{
		{Vantage: "app", Service: "shop", Route: "/admin", Role: "viewer", State: "keeps_out", Requests: 80, Refused: 79, Low: 0.93, High: 0.998, Valid: 78, Leaked: 1},
		{Vantage: "app", Service: "shop", Route: "/home", Role: "_none", State: "lets_in", Requests: 900, High: 0.004},
	}})
	const door = `{"vantage":"app","service":"shop","route":"/admin","role":"viewer","state":"keeps_out","requests":80,"refused":79,"low":0.93,"high":0.998,"valid":78,"broken":0,"leaked":1}`
	for target, want := range map[string]string{
		"/v1/access":                 `{"access":[` + door + `,{"vantage":"app","service":"shop","route":"/home","role":"_none","state":"lets_in","requests":900,"refused":0,"low":0,"high":0.004,"valid":0,"broken":0,"leaked":0}]}`,
		"/v1/access?state=keeps_out": `{"access":[` + door + `]}`,
		"/v1/access?state=mixed":     `{"access":[]}`,
	} {
		if w := get(t, s, target); strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("%s: %s\nwant %s", target, w.Body, want)
		}
	}
}

func TestHealth(t *testing.T) {
	stuck := &fake{
		status: Status{Problems: []string{"source web: permission denied; add the user denywatch to the group adm", "sink\nslack\x1b: channel_not_found"}},
	}
	s, _ := newServer(t, Config{}, stuck)
	w := get(t, s, "/readyz")
	const want = "not ready\nsource web: permission denied; add the user denywatch to the group adm\nsink slack : channel_not_found\n"
	if w.Code != 503 || w.Body.String() != want || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	w = request{method: http.MethodGet, target: "/readyz", header: map[string]string{"Accept": "application/json"}}.do(t, s)
	if w.Code != 503 || !strings.HasPrefix(w.Body.String(), `{"ready":false,"problems":["source web`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, s, "/healthz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("not ready is not dead: %d %s", w.Code, w.Body)
	}
	stuck.status = Status{Ready: true, Problems: []string{"3 lines a minute cannot be read"}}
	if w := get(t, s, "/readyz"); w.Code != 200 || w.Body.String() != "ready\n3 lines a minute cannot be read\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestMetricsAndIndex(t *testing.T) {
	s, _ := newServer(t, Config{}, &fake{metrics: "denywatch_lines_total{source=\"web\"} 7\n"})
	w := get(t, s, "/metrics")
	if w.Code != 200 || w.Body.String() != "denywatch_lines_total{source=\"web\"} 7\n" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
	w = get(t, s, "/")
	for _, path := range []string{"/v1/incidents", "/v1/markers", "/v1/routes", "/v1/access", "/v1/status", "/metrics", "/healthz", "/readyz"} {
		if !strings.Contains(w.Body.String(), path) {
			t.Errorf("the index lacks %s", path)
		}
	}
}

// TestMethodsAndPaths: what is not there says so, and how to find what is.
func TestMethodsAndPaths(t *testing.T) {
	s, _ := newServer(t, Config{}, story())
	for _, c := range []struct{ method, target, allow string }{
		{"PUT", "/v1/markers", "GET, HEAD, POST"},
		{"OPTIONS", "/v1/markers", "GET, HEAD, POST"},
		{"POST", "/v1/incidents", "GET, HEAD"},
		{"DELETE", "/v1/incidents/open-late", "GET, HEAD"},
		{"POST", "/metrics", "GET, HEAD"},
		{"POST", "/", "GET, HEAD"},
		{"TRACE", "/healthz", "GET, HEAD"},
	} {
		w := request{method: c.method, target: c.target}.do(t, s)
		told(t, w, 405, "use one of "+c.allow)
		if got := w.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q", c.method, c.target, got)
		}
	}
	for _, target := range []string{"/v1", "/v1/", "/v1/nothing", "/v1/incidents/a/b", "/debug/pprof/", "/.git/config"} {
		told(t, get(t, s, target), 404, "GET / says what is here")
	}
	if w := (request{method: http.MethodHead, target: "/v1/incidents"}).do(t, s); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	s, _ := newServer(t, guarded, &fake{onRead: func(context.Context) error { panic("boo") }})
	for _, q := range []request{
		{method: "GET", target: "/"},
		{method: "GET", target: "/nothing"},
		{method: "GET", target: "/v1/incidents"}, // panics
		{method: "PUT", target: "/v1/markers"},
		{method: "POST", target: "/v1/markers"},
		{method: "GET", target: "/metrics"},
		{method: "GET", target: "/metrics", host: "evil.example"},
	} {
		h := q.do(t, s).Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Access-Control-Allow-Origin": "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s %s: %s is %q", q.method, q.target, name, got)
			}
		}
	}
}

// TestBackendFails: the log gets the reason, the caller what to do.
func TestBackendFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"error", errors.New("bolt: /var/lib/denywatch is gone"), 500, "its log says why"},
		{"too slow", context.DeadlineExceeded, 503, "did not answer in time"},
	} {
		fail := func(context.Context) error { return c.err }
		f := story()
		f.onRead, f.onStatus = fail, fail
		s, l := newServer(t, Config{}, f)
		for _, path := range []string{"/v1/incidents", "/v1/incidents/open-late", "/v1/markers", "/v1/routes", "/v1/status", "/readyz"} {
			w := get(t, s, path)
			told(t, w, c.status, c.want)
			if strings.Contains(w.Body.String(), "/var/lib") {
				t.Errorf("%s, %s: the caller sees %s", c.name, path, w.Body)
			}
		}
		if n := strings.Count(l.String(), "request failed"); n != 6 || !strings.Contains(l.String(), "path=/v1/incidents/{id}") {
			t.Errorf("%s: %d lines logged: %s", c.name, n, l)
		}
	}
}

// TestBackendIsGivenUp: a backend that hangs gets its context ended.
func TestBackendIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		s, _ := newServer(t, Config{}, &fake{onRead: hang, onMark: hang})
		start := time.Now()
		told(t, get(t, s, "/v1/incidents"), 503, "in time")
		told(t, post(t, s, release), 503, "send it again")
		if d := time.Since(start); d != 2*answerTimeout {
			t.Errorf("it took %v", d)
		}
	})
}

// TestPanic: one request fails, the next is answered.
func TestPanic(t *testing.T) {
	f := story()
	f.onRead = func(context.Context) error { panic("kept\nin its place") }
	s, l := newServer(t, Config{}, f)
	told(t, get(t, s, "/v1/incidents"), 500, "this is a bug")
	if !strings.Contains(l.String(), "kept in its place") || !strings.Contains(l.String(), "stack=") {
		t.Errorf("log: %.300s", l)
	}
	f.onRead = nil
	if w := get(t, s, "/v1/incidents"); w.Code != 200 {
		t.Errorf("after a panic: %d", w.Code)
	}
	if len(s.reads) != 0 {
		t.Error("the panic kept its place among the requests in flight")
	}
}

// TestTooManyAtATime: reads and posts have bounds of their own, and whether the
// process lives is always answered.
func TestTooManyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		wait := func(context.Context) error { <-release; return nil }
		f := story()
		f.onRead, f.onMark = wait, wait
		s, _ := newServer(t, Config{}, f)
		var codes []chan int
		start := func(q request) {
			c := make(chan int, 1)
			codes = append(codes, c)
			go func() { c <- q.do(t, s).Code }()
			synctest.Wait()
		}
		for range maxPosts {
			start(request{method: "POST", target: "/v1/markers", body: `{"id":"a"}`})
		}
		over := post(t, s, `{"id":"a"}`)
		told(t, over, 503, "too many requests")
		if over.Header().Get("Retry-After") != "1" {
			t.Errorf("headers %v", over.Header())
		}
		for range maxReads {
			start(request{method: "GET", target: "/v1/incidents"})
		}
		told(t, get(t, s, "/readyz"), 503, "too many requests")
		if w := get(t, s, "/healthz"); w.Code != 200 {
			t.Errorf("/healthz: %d", w.Code)
		}
		close(release)
		got := []int{}
		for _, c := range codes {
			got = append(got, <-c)
		}
		if slices.ContainsFunc(got, func(code int) bool { return code != 200 && code != 201 }) {
			t.Errorf("those inside the bound got %v", got)
		}
		if w := get(t, s, "/readyz"); w.Code != 503 || !strings.HasPrefix(w.Body.String(), "not ready") {
			t.Errorf("afterwards: %d %s", w.Code, w.Body)
		}
	})
}

func TestWho(t *testing.T) {
	s := New(Config{}, &fake{}, nil, slog.New(slog.DiscardHandler))
	for target, want := range map[string]string{
		"/v1/who?identity=800000000000002a": "/800000000000002a/false",
		"/v1/who?account=800000000000002a":  "/800000000000002a/true",
	} {
		if w := (request{method: "GET", target: target}).do(t, s); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for _, target := range []string{"/v1/who", "/v1/who?identity=ada", "/v1/who?identity=2a", "/v1/who?identity=800000000000002a&account=800000000000002a"} {
		told(t, request{method: "GET", target: target}.do(t, s), 400, "a hash of 16 hexadecimal digits")
	}
}
