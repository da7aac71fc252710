package web

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// TestDeadLetters: what was given up can be seen, sent again and dropped, by those who
// may change incidents.
func TestDeadLetters(t *testing.T) {
	b := &fake{dead: []DeadLetter{{ID: "1", Sink: "slack", Sendable: true}, {ID: "2", Sink: "gone"}, {ID: "3", Sendable: true}, {ID: "4", Sendable: true}}}
	s := New(Config{}, b, nil, slog.New(slog.DiscardHandler))
	var list struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
	}
	get := func() int {
		t.Helper()
		w := request{method: http.MethodGet, target: "/v1/dead-letters"}.do(t, s)
		if err := json.Unmarshal(w.Body.Bytes(), &list); w.Code != 200 || err != nil {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		return len(list.DeadLetters)
	}
	if n := get(); n != 4 || list.DeadLetters[0].Sink != "slack" {
		t.Fatalf("%d: %+v", n, list)
	}
	told(t, request{method: http.MethodPost, target: "/v1/dead-letters/9/resend"}.do(t, s), 404, "nothing of this id")
	told(t, request{method: http.MethodPost, target: "/v1/dead-letters/2/resend"}.do(t, s), 409, "only be dropped")
	told(t, request{method: http.MethodDelete, target: "/v1/dead-letters/9"}.do(t, s), 404, "nothing of this id")
	told(t, request{method: http.MethodPost, target: "/v1/dead-letters/resend"}.do(t, New(wards, b, nil, slog.New(slog.DiscardHandler))), 401, "a token is needed")
	if w := (request{method: http.MethodPost, target: "/v1/dead-letters/3/resend"}).do(t, s); w.Code != 204 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if w := (request{method: http.MethodPost, target: "/v1/dead-letters/resend"}).do(t, s); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"resent":2}` {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if n := get(); n != 1 {
		t.Errorf("%d are left", n)
	}
	if w := (request{method: http.MethodDelete, target: "/v1/dead-letters/2"}).do(t, s); w.Code != 204 || get() != 0 {
		t.Errorf("status %d, %d left", w.Code, get())
	}
}
