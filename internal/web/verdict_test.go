package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/servertest"
)

func verdictOf(t *testing.T, w *httptest.ResponseRecorder) marker.Outcome {
	t.Helper()
	var v marker.Verdict
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return v.Verdict
}

func TestVerdict(t *testing.T) {
	f := &fake{verdicts: map[string]marker.Verdict{
		"shop-v2": {Verdict: marker.Pass, OK: true},
		"a b&c/ü": {Verdict: marker.Fail, Incidents: []marker.Broken{{ID: "x", Identities: 212}}},
	}}
	s, _ := newServer(t, Config{}, f)
	w := get(t, s, "/v1/markers/shop-v2/verdict")
	if v := verdictOf(t, w); v != marker.Pass || !strings.Contains(w.Body.String(), `"verdict":"pass","ok":true`) {
		t.Errorf("%s", w.Body)
	}
	if v := verdictOf(t, get(t, s, "/v1/markers/"+url.PathEscape("a b&c/ü")+"/verdict?wait=20s")); v != marker.Fail {
		t.Errorf("an id that needs escaping: %s", v)
	}
	told(t, get(t, s, "/v1/markers/gone/verdict"), 404, "no marker of this id")
	for _, wait := range []string{"21s", "-1s", "long", "5"} {
		told(t, get(t, s, "/v1/markers/shop-v2/verdict?wait="+wait), 400, "20s")
	}
	told(t, get(t, s, "/v1/markers/shop-v2/verdict?wiat=1s"), 400, "wiat")
	f.onRead = func(context.Context) error { return errors.New("oops") }
	told(t, get(t, s, "/v1/markers/shop-v2/verdict"), 500, "failed")
}

// TestVerdictWaits: the answer comes as soon as there is a verdict, or pending when
// the time is over.
func TestVerdictWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{verdicts: map[string]marker.Verdict{"m": {Verdict: marker.Pending}}}
		s, _ := newServer(t, Config{}, f)
		began := time.Now()
		if v := verdictOf(t, get(t, s, "/v1/markers/m/verdict?wait=20s")); v != marker.Pending || time.Since(began) != 20*time.Second {
			t.Errorf("%s after %v", v, time.Since(began))
		}
		began = time.Now()
		go func() {
			time.Sleep(7500 * time.Millisecond)
			f.mu.Lock()
			f.verdicts["m"] = marker.Verdict{Verdict: marker.Fail}
			f.mu.Unlock()
		}()
		if v := verdictOf(t, get(t, s, "/v1/markers/m/verdict?wait=20s")); v != marker.Fail || time.Since(began) != 8*time.Second {
			t.Errorf("%s after %v", v, time.Since(began))
		}
		// The last second of the first may be seen as its end or as one more.
		if f.asked < 20+9 || f.asked > 22+9 {
			t.Errorf("the backend was asked %d times", f.asked)
		}
	})
}

// TestVerdictStops: who waits holds up neither other readers nor the shutdown.
func TestVerdictStops(t *testing.T) {
	f := &fake{verdicts: map[string]marker.Verdict{"m": {Verdict: marker.Pending}}}
	asked := make(chan struct{}, 1)
	f.onRead = func(context.Context) error {
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil
	}
	s, l := newServer(t, Config{}, f)
	ln := servertest.Listen(t)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	answered := make(chan error, 1)
	go func() {
		resp, err := (&http.Client{}).Get("http://" + ln.Addr().String() + "/v1/markers/m/verdict?wait=20s")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-asked
	stop()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if strings.Contains(l.String(), "cut off") {
		t.Errorf("a request that only waited was cut off: %s", l)
	}
}

func TestScans(t *testing.T) {
	f := &fake{scans: []incident.Scan{{TopRoute: "/old"}, {TopRoute: "/new"}}}
	s, _ := newServer(t, Config{}, f)
	for query, want := range map[string]string{"": "/new /old 0", "?limit=1": "/new 1"} {
		var body struct {
			Scans []incident.Scan
			More  int
		}
		w := get(t, s, "/v1/scans"+query)
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, x := range body.Scans {
			got += x.TopRoute + " "
		}
		if got += string(rune('0' + body.More)); got != want {
			t.Errorf("%q: %s", query, got)
		}
	}
	bare, _ := newServer(t, Config{}, &fake{})
	if w := get(t, bare, "/v1/scans"); !strings.Contains(w.Body.String(), `"scans":[]`) {
		t.Errorf("%s", w.Body)
	}
	told(t, get(t, s, "/v1/scans?limit=x"), 400, "limit")
}
