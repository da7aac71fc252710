package alerts_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestRegressionCheck runs the check: it fails while the user is refused, passes
// when he gets in, and does nothing else, whatever the log put into the scope.
func TestRegressionCheck(t *testing.T) {
	for _, bin := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Skipf("NOT TESTED: %s is not installed", bin)
		}
	}
	var status atomic.Int32
	var asked atomic.Value
	status.Store(403)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path + " " + r.Header.Get("Authorization"))
		w.WriteHeader(int(status.Load()))
	}))
	defer srv.Close()
	dir := t.TempDir()
	run := func(in incident.Incident) bool {
		t.Helper()
		cmd := exec.Command("sh", "-c", alerts.RegressionCheck(&in))
		cmd.Env = []string{"BASE_URL=" + srv.URL, "TOKEN=t", "ID=7", "PATH=/usr/local/bin:/usr/bin:/bin"}
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if len(out) > 0 {
			t.Errorf("it says %s", out)
		}
		return err == nil
	}
	over := incident.Incident{
		ID: "3f2a", State: incident.Resolved, Resolution: incident.Recovered, Direction: incident.Up, Class: "refused",
		StartedAt: time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC), UsedToGetIn: 3,
		Scope: incident.Scope{Route: "/projects/{id}/export", Role: "member", Geo: "BR"},
	}
	if run(over) {
		t.Error("it passes although the user is refused")
	}
	if asked.Load() != "/projects/7/export Bearer t" {
		t.Errorf("it asked for %s", asked.Load())
	}
	text := alerts.RegressionCheck(&over)
	if !strings.Contains(text, "# incident 3f2a of 2026-11-18: a user with role member, country BR who got in before was refused here\n") {
		t.Errorf("it says:\n%s", text)
	}
	status.Store(200)
	if !run(over) {
		t.Error("it fails although the user gets in")
	}
	status.Store(451)
	over.Statuses = []int{403, 418, 451}
	if run(over) {
		t.Error("it passes although the user is refused with another status")
	}
	status.Store(404)
	if !run(over) {
		t.Error("it fails although nobody refuses")
	}
	status.Store(200)
	nasty := over
	nasty.Scope = incident.Scope{Route: "/[a-z]$(>ran)`>ran`\";>ran;\"\\", Role: "x\n>ran"}
	if !run(nasty) {
		t.Errorf("it fails although the user gets in:\n%s", alerts.RegressionCheck(&nasty))
	}
	if ls, err := os.ReadDir(dir); err != nil || len(ls) > 0 {
		t.Errorf("something of the log was run (%v):\n%s", err, alerts.RegressionCheck(&nasty))
	}
	open := over
	open.Direction = incident.Down
	if run(open) {
		t.Error("it passes although the door stands open")
	}
	status.Store(451)
	if !run(open) {
		t.Error("it fails although the door is locked again")
	}
	masked := over
	masked.Class = "masked"
	if text := alerts.RegressionCheck(&masked); text != "" {
		t.Errorf("no status shows the refusal, and it asks for one:\n%s", text)
	}
	srv.Close()
	if run(over) {
		t.Error("it passes although nobody answers")
	}
	over.State = incident.Open
	if alerts.RegressionCheck(&over) != "" {
		t.Error("there is a check before it is over")
	}
}
