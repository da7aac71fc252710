package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// post sends a marker from a local program.
func post(t testing.TB, s *Server, body string) *httptest.ResponseRecorder {
	t.Helper()
	return request{method: http.MethodPost, target: "/v1/markers", body: body}.do(t, s)
}

// took checks that the marker was taken with that status and returns its id.
func took(t testing.TB, w *httptest.ResponseRecorder, status int) string {
	t.Helper()
	var r markedBody
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != status || r.ID == "" {
		t.Fatalf("status %d, want %d; body %s", w.Code, status, w.Body)
	}
	return r.ID
}

func TestPostMarkerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newServer(t, Config{}, &fake{})
		w := post(t, s, release)
		const want = `{"id":"shop-v2.31.0","probation_until":"2000-01-01T02:00:00Z","incidents":"/v1/incidents?marker=shop-v2.31.0","verdict":"/v1/markers/shop-v2.31.0/verdict"}` + "\n"
		if w.Code != http.StatusCreated || w.Body.String() != want {
			t.Errorf("%d %s, want %s", w.Code, w.Body, want)
		}
		w = post(t, s, `{"id":"a b&c/ü","service":"x"}`)
		if !strings.Contains(w.Body.String(), `"/v1/incidents?marker=a+b%26c%2F%C3%BC"`) {
			t.Errorf("the link is not escaped: %s", w.Body)
		}
		var r markedBody
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if w := get(t, s, r.Incidents); w.Code != http.StatusOK {
			t.Errorf("the link does not work: %d %s", w.Code, w.Body)
		}
	})
}

func TestPostMarkerRefuses(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"empty", "", 400, "the body is empty"},
		{"unknown field", `{"vresion":"v1"}`, 400, "vresion"},
		{"unknown kind and bad time", `{"kind":"relase","time":"1500-01-01T00:00:00Z"}`, 400, "use one of"},
		{"all of it on one line", `{"kind":"relase","time":"1500-01-01T00:00:00Z"}`, 400, "; time: the year 1500"},
		{"control characters", `{"id":"a\u001b[31m"}`, 400, "id: contains control"},
		{"lone surrogate", `{"id":"\ud800"}`, 400, "id: contains control"},
		{"long id", `{"id":"` + strings.Repeat("x", 201) + `"}`, 400, "id: longer than 200"},
		{"as large as may be", `{"id":"a"}` + strings.Repeat(" ", maxBody-10), 201, ""},
		{"larger", `{"id":"a"}` + strings.Repeat(" ", maxBody-9), 413, "64 KiB"},
		{"deep", strings.Repeat(`{"scope":`, 6000) + "1" + strings.Repeat("}", 6000), 400, "unknown field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			s, l := newServer(t, Config{}, f)
			w := post(t, s, c.body)
			if c.want == "" {
				took(t, w, c.status)
				return
			}
			told(t, w, c.status, c.want)
			if f.marks != 0 {
				t.Error("refused, but the backend was asked")
			}
			if l.String() != "" {
				t.Errorf("a caller's mistake is logged: %s", l)
			}
		})
	}
}

// TestSameMarkerAgain is what a pipeline lives on: to repeat is harmless, and to
// roll back is seen.
func TestSameMarkerAgain(t *testing.T) {
	const (
		v1       = `{"service":"shop","version":"v1"}`
		v2       = `{"service":"shop","version":"v2"}`
		named    = `{"id":"a","service":"shop","version":"v1"}`
		changed  = `{"id":"a","service":"shop","version":"v2"}`
		timed    = `{"service":"shop","version":"v1","time":"1999-12-31T10:00:00Z"}`
		later    = `{"service":"shop","version":"v1","time":"1999-12-31T11:00:00Z"}`
		namedAt  = `{"id":"a","service":"shop","version":"v1","time":"1999-12-31T10:00:00Z"}`
		namedAt2 = `{"id":"a","service":"shop","version":"v1","time":"1999-12-31T11:00:00Z"}`
	)
	type step struct {
		after  time.Duration
		body   string
		status int
		id     string
	}
	for _, c := range []struct {
		name  string
		steps []step
		kept  int
	}{
		{"curl --retry", []step{{0, v1, 201, "shop-v1"}, {3 * time.Second, v1, 200, "shop-v1"}, {9 * time.Minute, v1, 200, "shop-v1"}}, 1},
		{"rolled back at once", []step{
			{0, v1, 201, "shop-v1"},
			{time.Minute, v2, 201, "shop-v2"},
			{time.Minute, v1, 201, "shop-v1-20000101T000200Z"},
			{time.Second, v1, 200, "shop-v1-20000101T000200Z"},
			{time.Minute, v2, 201, "shop-v2-20000101T000301Z"},
		}, 4},
		{"released again a day later", []step{{0, v1, 201, "shop-v1"}, {24 * time.Hour, v1, 201, "shop-v1-20000102T000000Z"}, {time.Second, v1, 200, "shop-v1-20000102T000000Z"}}, 2},
		{"other services do not matter", []step{{0, v1, 201, "shop-v1"}, {time.Second, `{"service":"blog","version":"v7"}`, 201, "blog-v7"}, {time.Second, v1, 200, "shop-v1"}}, 2},
		{"other scope is another change", []step{{0, v1, 201, "shop-v1"}, {time.Second, `{"service":"shop","version":"v1","scope":{"prefix":"/a"}}`, 201, "shop-v1-20000101T000001Z"}}, 2},
		{"its own id, no time", []step{{0, named, 201, "a"}, {48 * time.Hour, named, 200, "a"}, {0, changed, 409, ""}}, 1},
		{"its own time, no id", []step{{0, timed, 201, "shop-v1"}, {time.Hour, timed, 200, "shop-v1"}, {0, later, 201, "shop-v1-19991231T110000Z"}, {0, later, 200, "shop-v1-19991231T110000Z"}}, 2},
		{"its own id and time", []step{{0, namedAt, 201, "a"}, {time.Hour, namedAt, 200, "a"}, {0, namedAt2, 409, ""}}, 1},
		{"no version: each is one", []step{{0, `{"kind":"pricing"}`, 201, "pricing-20000101T000000Z"}, {time.Second, `{"kind":"pricing"}`, 201, "pricing-20000101T000001Z"}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				s, _ := newServer(t, Config{}, f)
				for i, step := range c.steps {
					time.Sleep(step.after) // of the bubble
					w := post(t, s, step.body)
					if step.status == 409 {
						told(t, w, 409, "give the changed marker another id")
					} else if id := took(t, w, step.status); id != step.id {
						t.Errorf("step %d: id %s, want %s", i, id, step.id)
					}
				}
				if len(f.markers) != c.kept {
					t.Errorf("%d markers kept, want %d: %+v", len(f.markers), c.kept, f.markers)
				}
			})
		})
	}
}

// TestReplayedSignature: within the tolerance a replayed request changes nothing,
// even if its marker has neither id nor time nor version.
func TestReplayedSignature(t *testing.T) {
	for _, body := range []string{`{"kind":"pricing"}`, release, `{"id":"a"}`} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			s, _ := newServer(t, guarded, f)
			q := request{method: http.MethodPost, target: "/v1/markers", body: body, header: map[string]string{
				SignatureHeader: signed(botSecret, time.Now(), body),
			}}
			id := took(t, q.do(t, s), 201)
			time.Sleep(tolerance)
			if again := took(t, q.do(t, s), 200); again != id || len(f.markers) != 1 {
				t.Errorf("%s: replayed, it became %s beside %s", body, again, id)
			}
			time.Sleep(time.Second)
			told(t, q.do(t, s), 401, "clocks")
		})
	}
}

// TestDerivedIDTooLong: the time that is added to an id must still fit.
func TestDerivedIDTooLong(t *testing.T) {
	version := strings.Repeat("v", 195)
	f := &fake{markers: []marker.Marker{{ID: "x-" + version, Kind: marker.Release}}}
	s, _ := newServer(t, Config{}, f)
	told(t, post(t, s, `{"service":"x","version":"`+version+`"}`), 400, "id: longer than 200")
}

// TestNotStored: nothing is acknowledged that is not durable.
func TestNotStored(t *testing.T) {
	f := &fake{onMark: func(context.Context) error {
		return errors.New("write /var/lib/denywatch/state: no space left on device")
	}}
	s, l := newServer(t, Config{}, f)
	w := post(t, s, release)
	told(t, w, 503, "send it again")
	if w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "/var/lib") {
		t.Errorf("headers %v, body %s", w.Header(), w.Body)
	}
	if !strings.Contains(l.String(), "no space left") {
		t.Errorf("the log does not say why: %s", l)
	}
}

func TestGetMarkers(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	f := &fake{markers: []marker.Marker{{ID: "a", Kind: "release", Time: day(1)}, {ID: "c", Kind: "flag", Time: day(3)}, {ID: "b", Kind: "release", Time: day(2), Scope: marker.Scope{Role: marker.List{"x"}}}}}
	s, _ := newServer(t, Config{}, f)
	for target, want := range map[string]string{
		"/v1/markers": `{"markers":[{"id":"c","kind":"flag","time":"2026-11-03T00:00:00Z"},` +
			`{"id":"b","kind":"release","time":"2026-11-02T00:00:00Z","scope":{"role":"x"}},` +
			`{"id":"a","kind":"release","time":"2026-11-01T00:00:00Z"}],"more":0}`,
		"/v1/markers?limit=1": `{"markers":[{"id":"c","kind":"flag","time":"2026-11-03T00:00:00Z"}],"more":2}`,
	} {
		if w := get(t, s, target); strings.TrimSpace(w.Body.String()) != want || w.Code != 200 {
			t.Errorf("%s: %d %s\nwant %s", target, w.Code, w.Body, want)
		}
	}
	told(t, get(t, s, "/v1/markers?limit=0"), 400, "limit is not a number from 1 to 1000")
	if f.markers[0].ID != "a" {
		t.Error("the backend's list was sorted in place")
	}
	s, _ = newServer(t, Config{}, &fake{})
	if w := get(t, s, "/v1/markers"); w.Body.String() != `{"markers":[],"more":0}`+"\n" {
		t.Errorf("none: %s", w.Body)
	}
}
