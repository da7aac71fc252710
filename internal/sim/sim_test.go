package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// monday is 00:00 UTC on a Monday.
var monday = time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)

func at(h, m int) time.Time {
	return monday.Add(time.Duration(h)*time.Hour + time.Duration(m)*time.Minute)
}

func newSim(t testing.TB, sc Scenario) *Sim {
	t.Helper()
	s, err := New(sc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// each calls f with every request of the scenario.
func each(t testing.TB, sc Scenario, f func(*Request)) {
	t.Helper()
	s := newSim(t, sc)
	for r := s.Next(); r != nil; r = s.Next() {
		f(r)
	}
}

// eventful is a day in which everything happens.
func eventful() Scenario {
	return Scenario{
		Seed: 7, Start: monday, End: at(24, 0), Rate: 0.4,
		Incidents: []Incident{
			{Kind: RoleMismatch, Scope: Scope{Route: "/projects/{id}/export", Role: "editor"}, From: at(2, 0), To: at(3, 0), Rate: 0.8},
			{Kind: GeoBlock, Scope: Scope{Geo: "BR"}, From: at(4, 0), To: at(5, 0), Rate: 1},
			{Kind: PrefixRule, Scope: Scope{Prefix: "/docs"}, From: at(6, 0), To: at(7, 0), Rate: 1},
			{Kind: NewRouteDenied, Scope: Scope{Route: "/projects/{id}/insights"}, From: at(8, 0), To: at(9, 0), Rate: 0.9},
			{Kind: Vanished, Scope: Scope{Prefix: "/admin", Role: "member"}, From: at(10, 0), To: at(11, 0), Rate: 1},
			{Kind: GlobalSpike, From: at(12, 0), To: at(12, 20), Rate: 0.3},
			{Kind: SlowRamp, Scope: Scope{Route: "/projects", Geo: "DE"}, From: at(13, 0), To: at(15, 0), Rate: 0.4},
			{Kind: Blip, Scope: Scope{Route: "/inbox"}, From: at(16, 0), To: at(16, 3), Rate: 0.9},
		},
		Benign: []Benign{
			{Kind: MixSurge, Scope: Scope{Role: Anonymous}, From: at(17, 0), To: at(18, 0), Size: 4},
			{Kind: Scanner, Scope: Scope{Geo: "JP"}, From: at(18, 0), To: at(18, 30), Size: 0.5},
			{Kind: OfficeCrowd, Scope: Scope{Prefix: "/projects"}, From: at(19, 0), To: at(19, 30), Size: 0.5},
			{Kind: Announced, Scope: Scope{Prefix: "/reports", Role: "member"}, From: at(20, 0), Size: 1, Expect: marker.ExpectUp},
			{Kind: ReleaseNoop, From: at(21, 0)},
			{Kind: NewRoute, Scope: Scope{Route: "/changelog"}, From: at(1, 0)},
			{Kind: DataGap, From: at(22, 0), To: at(22, 10)},
		},
		Releases: []marker.Marker{{ID: "shop-v2", Kind: marker.Release, Version: "v2", Service: Service, Time: at(9, 30)}},
	}
}

// digest is the hash of both logs of the scenario.
func digest(t testing.TB, sc Scenario) string {
	sum := sha256.New()
	var line []byte
	each(t, sc, func(r *Request) {
		line = AppendNginxUpstream(line[:0], r)
		line = AppendAppJSON(line, r)
		sum.Write(line)
	})
	return fmt.Sprintf("%x\n", sum.Sum(nil))
}

func TestSameScenarioSameBytes(t *testing.T) {
	first := digest(t, eventful())
	if digest(t, eventful()) != first {
		t.Fatal("the same scenario gave different logs")
	}
	other := eventful()
	other.Seed++
	if digest(t, other) == first {
		t.Fatal("another seed gave the same log")
	}
	if runtime.GOARCH != "amd64" {
		t.Log("the golden hash is of amd64: others may round differently")
		return
	}
	golden(t, "eventful.sha256", []byte(first))
}

// TestGoldenLines shows what lines look like.
func TestGoldenLines(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the golden lines are of amd64: others may round differently")
	}
	sc := Scenario{Seed: 3, Start: at(9, 0), Rate: 20}
	s := newSim(t, sc)
	var out []byte
	for range 12 {
		r := s.Next()
		out = AppendNginxCombined(out, r)
		out = AppendNginxUpstream(out, r)
		out = AppendAppJSON(out, r)
	}
	golden(t, "lines.log", out)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; if that is meant, run go test -update\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

func TestTimesNeverDecrease(t *testing.T) {
	sc := eventful()
	last := sc.Start.UnixNano()
	each(t, sc, func(r *Request) {
		if r.Time < last || r.Time >= sc.End.UnixNano() {
			t.Fatalf("time %d after %d, end %d", r.Time, last, sc.End.UnixNano())
		}
		last = r.Time
	})
}

func TestIncidentsChangeOutcomesOnly(t *testing.T) {
	quiet := Scenario{Seed: 5, Start: monday, End: at(6, 0), Rate: 3, Calm: true}
	broken := quiet
	broken.Incidents = []Incident{
		{Kind: GlobalSpike, From: at(2, 0), To: at(3, 0), Rate: 0.5},
		{Kind: Vanished, From: at(4, 0), To: at(5, 0), Rate: 1},
	}
	a, b := newSim(t, quiet), newSim(t, broken)
	turned := 0
	for {
		x, y := a.Next(), b.Next()
		if x == nil || y == nil {
			if x != nil || y != nil {
				t.Fatal("one scenario has more requests than the other")
			}
			break
		}
		if x.Time != y.Time || x.Client != y.Client || x.Method != y.Method || !bytes.Equal(x.Path, y.Path) || !bytes.Equal(x.RequestID, y.RequestID) {
			t.Fatalf("different requests:\n%+v\n%+v", x, y)
		}
		if (y.Incident >= 0) != (x.Denied != y.Denied) {
			t.Fatalf("the label %d does not tell whether the outcome turned: %v, %v", y.Incident, x.Denied, y.Denied)
		}
		if y.Incident < 0 && x.Status != y.Status {
			t.Fatalf("status %d became %d without an incident", x.Status, y.Status)
		}
		if y.Incident >= 0 {
			turned++
		}
	}
	if turned < 100 {
		t.Fatalf("only %d outcomes turned", turned)
	}
}

func TestMeanRateAndCycle(t *testing.T) {
	for _, calm := range []bool{true, false} {
		t.Run(fmt.Sprintf("calm=%v", calm), func(t *testing.T) {
			var hours [168]float64
			var total, scans float64
			sc := Scenario{Seed: 11, Start: monday, End: monday.Add(week * time.Minute), Rate: 0.5, Calm: calm}
			each(t, sc, func(r *Request) {
				hours[(r.Time-monday.UnixNano())/int64(time.Hour)]++
				total++
				if r.Scanner {
					scans++
				}
			})
			want := sc.Rate * week * 60
			low, high := 0.99, 1.01
			if !calm {
				low, high = 1.0, 1.07
			}
			if ratio := total / want; ratio < low || ratio > high {
				t.Errorf("%.0f requests, %.3f times those configured", total, ratio)
			}
			if share := scans / total; calm && scans > 0 || !calm && (share < 0.003 || share > 0.05) {
				t.Errorf("%.4f of the requests are scanners'", share)
			}
			mean := total / 168
			tuesdayNoon, tuesdayNight, sundayNoon := hours[24+14]/mean, hours[24+3]/mean, hours[6*24+14]/mean
			if tuesdayNoon < 1.5 || tuesdayNight > 0.95 || sundayNoon > 0.9 {
				t.Errorf("no daily and weekly cycle: Tuesday 14:00 %.2f, 03:00 %.2f, Sunday 14:00 %.2f of the mean", tuesdayNoon, tuesdayNight, sundayNoon)
			}
		})
	}
}

func TestOrdinaryDenials(t *testing.T) {
	type cell struct{ n, k float64 }
	var got [nAccess][nRoles]cell
	s := newSim(t, Scenario{Seed: 1, Start: at(8, 0), Rate: 500, Calm: true})
	kinds := map[string]access{}
	for _, r := range s.routes {
		kinds[r.method+r.template] = r.access
	}
	for range 400_000 {
		r := s.Next()
		c := &got[kinds[r.Method+r.Route]][roleIndex(r.Role)]
		c.n++
		if r.Denied {
			c.k++
		}
	}
	for a := range ordinary {
		for role, want := range ordinary[a] {
			c := got[a][role]
			// Every route has its own odds, up to half or double of these.
			odds := c.k / (c.n - c.k) / (want / (1 - want))
			if c.n < 50 || odds < 0.4 || odds > 2.5 {
				t.Errorf("access %d role %q: %.4f of %.0f refused, ordinary is %.4f", a, roleNames[role], c.k/c.n, c.n, want)
			}
		}
	}
}

func roleIndex(name string) int {
	for i, n := range roleNames {
		if n == name {
			return i
		}
	}
	return -1
}

// TestNoise proves that the odds of a refusal wander: by some ten percent, and
// slowly, so that denials are over-dispersed and correlated in time.
func TestNoise(t *testing.T) {
	for _, calm := range []bool{true, false} {
		s := newSim(t, Scenario{Seed: 2, Start: monday, Rate: 0.001, Calm: calm})
		const minutes = 20_000
		var sum, squares, lagged, last float64
		for m := range minutes {
			s.startMinute(monday.Add(time.Duration(m) * time.Minute).UnixNano())
			x := math.Log(s.allNoise.factor * s.routeNoise[5].factor * s.roleNoise[member].factor * s.geoNoise[2].factor)
			sum, squares, lagged, last = sum+x, squares+x*x, lagged+x*last, x
		}
		mean, sd := sum/minutes, math.Sqrt(squares/minutes)
		if calm {
			if sd != 0 {
				t.Errorf("calm: standard deviation %.3f", sd)
			}
			continue
		}
		if math.Abs(mean) > 0.03 || sd < 0.10 || sd > 0.16 || lagged/squares < 0.9 || lagged/squares > 0.98 {
			t.Errorf("log-odds have mean %.3f, standard deviation %.3f, correlation %.3f from minute to minute", mean, sd, lagged/squares)
		}
	}
}

func TestIncidents(t *testing.T) {
	from, to := at(14, 0), at(15, 0)
	tests := []struct {
		incident         Incident
		lowest, highest  float64 // share refused in the scope while it lasts
		layer            event.Layer
		direction        incident.Direction
		refusedOtherwise float64 // highest share in the scope before and after
	}{
		{Incident{Kind: RoleMismatch, Scope: Scope{Route: "/billing/upgrade", Role: "member"}, Rate: 0.6}, 0.55, 0.65, event.LayerApp, incident.Up, 0.05},
		{Incident{Kind: GeoBlock, Scope: Scope{Geo: "BR"}, Rate: 1}, 1, 1, event.LayerWeb, incident.Up, 0.2},
		{Incident{Kind: PrefixRule, Scope: Scope{Prefix: "/docs"}, Rate: 0.9}, 0.87, 0.93, event.LayerWeb, incident.Up, 0.02},
		{Incident{Kind: PrefixRule, Scope: Scope{Prefix: "/api/v1", Geo: "US"}, Rate: 1}, 1, 1, event.LayerWeb, incident.Up, 0.2},
		{Incident{Kind: NewRouteDenied, Scope: Scope{Route: "/projects/{id}/insights"}, Rate: 0.97}, 0.95, 0.99, event.LayerApp, incident.New, 0.05},
		{Incident{Kind: Vanished, Scope: Scope{Prefix: "/admin", Role: "editor"}, Rate: 1}, 0, 0, event.LayerUnknown, incident.Down, 1},
		{Incident{Kind: GlobalSpike, Rate: 0.3}, 0.29, 0.36, event.LayerApp, incident.Up, 0.2},
		{Incident{Kind: SlowRamp, Scope: Scope{Route: "/projects"}, Rate: 0.4}, 0.26, 0.34, event.LayerApp, incident.Up, 0.1},
		{Incident{Kind: Blip, Scope: Scope{Route: "/inbox", Role: "owner"}, Rate: 0.9}, 0.8, 0.97, event.LayerApp, incident.Up, 0.05},
		{Incident{Kind: RoleMismatch, Scope: Scope{Prefix: "/docs", Role: Anonymous}, Rate: 0.5}, 0.45, 0.55, event.LayerWeb, incident.Up, 0.02},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %+v", tt.incident.Kind, tt.incident.Scope), func(t *testing.T) {
			tt.incident.From, tt.incident.To = from, to
			sc := Scenario{Seed: 9, Start: at(13, 30), End: at(15, 30), Rate: 10, Calm: true, Incidents: []Incident{tt.incident}}
			label := sc.Labels()[0]
			if label.Direction != tt.direction || label.Benign || label.Kind != tt.incident.Kind || label.Scope.Service != Service {
				t.Errorf("label %+v", label)
			}
			var in, out, rest struct{ n, k, turned float64 }
			each(t, sc, func(r *Request) {
				c := &rest
				during := r.Time >= from.UnixNano() && r.Time < to.UnixNano()
				if inScope(tt.incident.Scope, r) {
					if c = &out; during {
						c = &in
					}
				}
				c.n++
				if r.Denied {
					c.k++
				}
				if r.Incident >= 0 {
					c.turned++
					if r.Denied != (tt.direction != incident.Down) {
						t.Fatalf("turned the wrong way: %+v", r)
					}
					if r.Layer != tt.layer && tt.incident.Kind != GlobalSpike {
						t.Fatalf("refused by the layer %v, want %v", r.Layer, tt.layer)
					}
					if (r.Layer == event.LayerWeb) == r.ReachedApp() && r.Denied {
						t.Fatalf("layer %v, reached the application: %v", r.Layer, r.ReachedApp())
					}
				}
				if during && inScope(tt.incident.Scope, r) && tt.layer == event.LayerWeb && tt.incident.Rate == 1 && r.ReachedApp() {
					t.Fatal("what the web server refuses reached the application")
				}
			})
			if share := in.k / in.n; in.n < 30 || share < tt.lowest || share > tt.highest {
				t.Errorf("during: %.3f of %.0f refused, want %.2f to %.2f", share, in.n, tt.lowest, tt.highest)
			}
			if share := out.k / max(out.n, 1); share > tt.refusedOtherwise {
				t.Errorf("before and after: %.3f of %.0f refused", share, out.n)
			}
			if out.turned+rest.turned > 0 {
				t.Errorf("%.0f outcomes turned outside of scope and time", out.turned+rest.turned)
			}
			if tt.direction == incident.Down && out.k/out.n < 0.3 {
				t.Errorf("the wall that vanishes refuses only %.2f before", out.k/out.n)
			}
		})
	}
}

func inScope(s Scope, r *Request) bool {
	role := r.Role
	if role == "" {
		role = Anonymous
	}
	return (s.Route == "" || s.Route == r.Route) && (s.Prefix == "" || under(r.Route, s.Prefix)) &&
		(s.Role == "" || s.Role == role) && (s.Geo == "" || s.Geo == r.Country)
}

func TestRampRises(t *testing.T) {
	sc := Scenario{
		Seed: 4, Start: at(13, 0), End: at(15, 0), Rate: 15, Calm: true,
		Incidents: []Incident{{Kind: SlowRamp, From: at(13, 0), To: at(15, 0), Rate: 0.8}},
	}
	var n, k [4]float64
	each(t, sc, func(r *Request) {
		quarter := (r.Time - sc.Start.UnixNano()) / int64(30*time.Minute)
		n[quarter]++
		if r.Incident >= 0 {
			k[quarter]++
		}
	})
	for i, want := range []float64{0.2, 0.6, 0.8, 0.8} {
		// Some are refused anyhow and cannot turn.
		if share := k[i] / n[i]; share < 0.85*want || share > 1.05*want {
			t.Errorf("quarter %d: %.3f turned, want about %.1f", i, share, want)
		}
	}
}

func TestBenign(t *testing.T) {
	sc := Scenario{
		Seed: 6, Start: at(12, 0), End: at(20, 0), Rate: 12, Calm: true,
		Benign: []Benign{
			{Kind: MixSurge, Scope: Scope{Role: "editor", Prefix: "/projects"}, From: at(13, 0), To: at(14, 0), Size: 3},
			{Kind: Scanner, Scope: Scope{Geo: "FR"}, From: at(14, 0), To: at(15, 0), Size: 0.4},
			{Kind: OfficeCrowd, Scope: Scope{Prefix: "/projects", Geo: "GB"}, From: at(15, 0), To: at(16, 0), Size: 0.5},
			{Kind: DataGap, From: at(16, 20), To: at(16, 40)},
			{Kind: Announced, Scope: Scope{Route: "/reports"}, From: at(17, 0), Size: 1, Expect: marker.ExpectUp},
			{Kind: NewRoute, Scope: Scope{Route: "/changelog/{id}"}, From: at(18, 0)},
			{Kind: Announced, Scope: Scope{Prefix: "/admin", Role: "member"}, From: at(19, 0), To: at(19, 30), Size: 1, Expect: marker.ExpectDown},
		},
	}
	var surge, noSurge, gap, reports, reportsRefused, fresh, freshRefused, opened float64
	clients, crowd := map[string]int{}, map[string]int{}
	each(t, sc, func(r *Request) {
		if r.Incident >= 0 {
			t.Fatal("a benign event is labelled as an incident")
		}
		hour := r.Time - sc.Start.UnixNano()
		minute := int(hour / int64(time.Minute))
		hour /= int64(time.Hour)
		if r.Scanner {
			clients[r.Client]++
			if hour != 2 || r.Country != "FR" {
				t.Fatalf("scanner in hour %d from %s", hour, r.Country)
			}
		}
		switch {
		case hour <= 1 && r.Role == "editor" && under(r.Route, "/projects"):
			if hour == 1 {
				surge++
			} else {
				noSurge++
			}
		case hour == 3 && under(r.Route, "/projects"):
			crowd[r.Client]++
		case minute >= 260 && minute < 280:
			gap++
		case hour >= 5 && r.Route == "/reports":
			reports++
			if r.Denied {
				reportsRefused++
			}
		case r.Route == "/changelog/{id}":
			if hour < 6 {
				t.Fatal("the new route is too early")
			}
			fresh++
			if r.Denied {
				freshRefused++
			}
		case hour == 7 && minute < 450 && under(r.Route, "/admin") && r.Role == "member" && r.Denied:
			opened++
		}
	})
	if ratio := surge / noSurge; ratio < 2.6 || ratio > 3.6 {
		t.Errorf("surge by %.2f, want about 3", ratio)
	}
	scans := 0
	for _, n := range clients {
		scans += n
	}
	if len(clients) != 3 || scans < 12*3600*4/10*9/10 {
		t.Errorf("%d scanners made %d requests", len(clients), scans)
	}
	most := 0
	for _, n := range crowd {
		most = max(most, n)
	}
	if most < 12*3600/2*9/10 {
		t.Errorf("the crowd's address made %d requests", most)
	}
	if gap > 0 {
		t.Errorf("%.0f requests in the gap", gap)
	}
	if reports < 50 || reportsRefused != reports {
		t.Errorf("%.0f of %.0f reports refused after the announced change", reportsRefused, reports)
	}
	if fresh < 500 || freshRefused/fresh > 0.02 {
		t.Errorf("%.0f of %.0f requests to the new route refused", freshRefused, fresh)
	}
	if opened > 0 {
		t.Errorf("%.0f members refused after the announced opening", opened)
	}
	for _, l := range sc.Labels() {
		if !l.Benign || l.Direction != "" {
			t.Errorf("label %+v", l)
		}
	}
}

// TestLogsAgree proves that the web server's and the application's log tell one
// story.
func TestLogsAgree(t *testing.T) {
	combined := regexp.MustCompile(`^(\S+) - - \[([^\]]+)\] "(\S+) (\S+) HTTP/1\.1" (\d{3}) (\d+) "([^"]*)" "([^"]*)" us="(\d{3}|-)"\n$`)
	var web, app, n int
	each(t, eventful(), func(r *Request) {
		if n++; n%5 != 0 && !r.Denied {
			return // taking lines apart is slow
		}
		line := AppendNginxUpstream(nil, r)
		m := combined.FindSubmatch(line)
		if m == nil {
			t.Fatalf("not a combined line: %q", line)
		}
		web++
		if plain := AppendNginxCombined(nil, r); !bytes.HasPrefix(line, bytes.TrimSuffix(plain, []byte("\n"))) {
			t.Fatalf("the two formats differ:\n%s%s", plain, line)
		}
		if r.Denied != (r.Status == 403) || (r.Layer == event.LayerUnknown) == r.Denied {
			t.Fatalf("denied %v with status %d by %v", r.Denied, r.Status, r.Layer)
		}
		line = AppendAppJSON(nil, r)
		if string(m[9]) == "-" {
			if len(line) > 0 || r.ReachedApp() {
				t.Fatalf("the web server asked nobody, but the application logged %q", line)
			}
			return
		}
		app++
		var f struct {
			Time    time.Time `json:"@timestamp"`
			Method  string    `json:"http.request.method"`
			ID      string    `json:"http.request.id"`
			Status  int       `json:"http.response.status_code"`
			Path    string    `json:"url.path"`
			Query   string    `json:"url.query"`
			Route   string    `json:"http.route"`
			Client  string    `json:"client.ip"`
			Country string    `json:"source.geo.country_iso_code"`
			User    string    `json:"user.id"`
			Account string    `json:"organization.id"`
			Plan    string    `json:"labels.plan"`
			Roles   []string  `json:"user.roles"`
			Agent   string    `json:"user_agent.original"`
			Reason  string    `json:"event.reason"`
		}
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		target := f.Path
		if f.Query != "" {
			target += "?" + f.Query
		}
		if f.Client != string(m[1]) || f.Time.Format("02/Jan/2006:15:04:05 -0700") != string(m[2]) ||
			f.Method != string(m[3]) || target != string(m[4]) || fmt.Sprint(f.Status) != string(m[9]) || string(m[5]) != string(m[9]) {
			t.Fatalf("the logs disagree:\n%s%s", m[0], line)
		}
		if !f.Time.Equal(time.Unix(0, r.Time).Truncate(time.Millisecond)) || len(f.ID) != 32 || f.Agent != r.UserAgent ||
			f.Route != r.Route || f.Country != r.Country || f.Reason != r.Cause || strings.Join(f.Roles, "+") != r.Role {
			t.Fatalf("the application's line is not the request:\n%s%+v", line, r)
		}
		if (f.User == "") != (r.Role == "") || (f.Account == "") != (r.Role == "") || (f.Plan == "") != (r.Role == "") {
			t.Fatalf("who is signed in has user, account and plan: %s", line)
		}
	})
	if app == 0 || app == web {
		t.Errorf("%d lines of the web server, %d of the application", web, app)
	}
}

func TestPathsFitTheirRoutes(t *testing.T) {
	s := newSim(t, eventful())
	shapes := map[string]*regexp.Regexp{}
	for _, r := range s.routes {
		shapes[r.template] = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(r.template), `\{id\}`, `([0-9]+|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12})`) + "$")
	}
	if n := len(Routes()); n < 50 {
		t.Errorf("only %d routes", n)
	}
	for r := s.Next(); r != nil; r = s.Next() {
		if r.Route == "" {
			if !r.Scanner {
				t.Fatalf("no route for %s", r.Path)
			}
			continue
		}
		if !shapes[r.Route].Match(r.Path) {
			t.Fatalf("path %s of route %s", r.Path, r.Route)
		}
	}
}

func TestPeople(t *testing.T) {
	p := newPeople(1)
	owners, users, addresses := map[string]int{}, map[string]bool{}, map[string]int{}
	for _, x := range p.all {
		addresses[x.client]++
		if x.user == "" {
			continue
		}
		if users[x.user] {
			t.Fatalf("two people are %s", x.user)
		}
		users[x.user] = true
		if x.role == owner {
			owners[x.account]++
		}
	}
	if len(owners) != nAccounts {
		t.Errorf("%d of %d accounts have an owner", len(owners), nAccounts)
	}
	if n := len(users); n < 10_000 || n > 14_000 {
		t.Errorf("%d users", n)
	}
	for role := range p.who {
		for g := range p.who[role] {
			if n := len(p.who[role][g]); n < 20 {
				t.Errorf("only %d people of role %q in %s", n, roleNames[role], geos[g].code)
			}
			for _, i := range p.who[role][g] {
				if c := p.all[i].client; strings.HasPrefix(c, "198.") {
					var o [4]int
					if _, err := fmt.Sscanf(c, "%d.%d.%d.%d", &o[0], &o[1], &o[2], &o[3]); err != nil {
						t.Fatal(err)
					}
					if o[1] != 18+g/4 || o[2]/64 != g%4 {
						t.Fatalf("%s is no address of %s", c, geos[g].code)
					}
				}
			}
		}
	}
	for g := range p.scanners {
		for _, a := range p.scanners[g] {
			if addresses[a] > 0 {
				t.Fatalf("the scanner's address %s is somebody's", a)
			}
		}
	}
}

func TestMarkers(t *testing.T) {
	sc := eventful()
	ms := sc.Markers()
	var ids []string
	for i := range ms {
		m := ms[i]
		if err := m.Normalise(time.Time{}); err != nil {
			t.Errorf("%s: %v", m.ID, err)
		}
		ids = append(ids, fmt.Sprintf("%s %s %s %s", m.Time.Format("15:04"), m.ID, m.Kind, m.Expect))
	}
	want := "09:30 shop-v2 release |20:00 shop-announced-4 entitlement up|21:00 shop-noop-5 release "
	if got := strings.Join(ids, "|"); got != want {
		t.Errorf("markers %q, want %q", got, want)
	}
	if s := ms[1].Scope; !s.Prefix.Has("/reports") || !s.Role.Has("member") || s.Role.Has("owner") {
		t.Errorf("scope %+v", s)
	}
}

func TestCheckNamesEveryMistake(t *testing.T) {
	_, err := New(Scenario{
		End: monday.Add(-1000000 * time.Hour), Rate: math.NaN(),
		Incidents: []Incident{
			{Kind: "flood"},
			{Kind: RoleMismatch, Scope: Scope{Route: "/nowhere", Role: "king", Geo: "ZZ", Prefix: "/void"}, From: monday, To: monday, Rate: 2},
			{Kind: NewRouteDenied, Scope: Scope{Route: "/projects"}, From: monday, To: at(1, 0), Rate: 1},
			{Kind: PrefixRule, Scope: Scope{Route: "/inbox", Prefix: "/docs"}, From: monday, To: at(1, 0), Rate: 1},
		},
		Benign: []Benign{
			{Kind: "party"},
			{Kind: MixSurge, From: monday, To: at(1, 0), Size: 0.5},
			{Kind: Announced, From: monday, To: monday, Size: 1.5},
			{Kind: DataGap, From: monday},
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"start:", "rate: must", "incidents[0] (flood): unknown kind",
		"incidents[1] (role_mismatch): rate:", "incidents[1] (role_mismatch): to:", `no "/nowhere"`, `"king"`, `"ZZ"`, `"/void"`,
		"incidents[2] (new_route_denied): scope.route:", "incidents[3] (prefix_rule): scope: /inbox does not lie under /docs",
		"benign[0] (party): unknown kind", "benign[1] (mix_surge): size", "benign[2] (announced): size", "benign[2] (announced): expect",
		"benign[2] (announced): to", "benign[3] (data_gap): to",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	s := newSim(t, Scenario{Seed: 1, Start: at(9, 0), Rate: 1000})
	buf := make([]byte, 0, 4096)
	one := func() {
		r := s.Next()
		buf = AppendNginxUpstream(buf[:0], r)
		buf = AppendAppJSON(buf, r)
	}
	for range 200_000 {
		one()
	}
	// A batch a run: retries may grow their heap once in a while.
	if n := testing.AllocsPerRun(20, func() {
		for range 5000 {
			one()
		}
	}); n > 1 {
		t.Errorf("%.0f allocations in 5000 requests", n)
	}
}

func TestTimesAreWrittenAsTheStandardLibraryDoes(t *testing.T) {
	r := rng{1}
	times := []time.Time{
		time.Unix(0, 0), time.Date(2000, 2, 29, 23, 59, 59, 999999999, time.UTC), time.Date(2100, 3, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 12, 31, 23, 59, 59, 1e6, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for range 10_000 {
		times = append(times, time.Unix(int64(r.below(1<<31))*3, int64(r.below(1e9))))
	}
	for _, x := range times {
		x = x.UTC()
		if got, want := string(appendLocalTime(nil, x.UnixNano())), x.Format("02/Jan/2006:15:04:05 -0700"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		if got, want := string(appendISOTime(nil, x.UnixNano())), x.Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func TestEscapes(t *testing.T) {
	s := "a\"b\\c\x01é"
	if got := string(appendNginxEscaped(nil, s)); got != `a\x22b\x5Cc\x01\xC3\xA9` {
		t.Errorf("nginx: %s", got)
	}
	var back string
	if err := json.Unmarshal(append(appendJSONEscaped([]byte{'"'}, s), '"'), &back); err != nil || back != s {
		t.Errorf("JSON: %q, %v", back, err)
	}
}

func TestPickerKeepsWeights(t *testing.T) {
	weights := []float64{0, 5, 1, 0, 3, 1}
	p, r := newPicker(weights), rng{3}
	n := make([]float64, len(weights))
	for range 200_000 {
		n[p.pick(&r)]++
	}
	for i, w := range weights {
		if got := n[i] / 20_000; math.Abs(got-w) > 0.05*w {
			t.Errorf("index %d drawn %.3f times, want %.0f", i, got, w)
		}
	}
}

func TestRetriesComeInOrder(t *testing.T) {
	var h retryHeap
	r := rng{8}
	for range 1000 {
		h.push(visit{at: int64(r.below(300)), seed: r.next()})
	}
	last := visit{at: -1}
	for len(h) > 0 {
		v := h.pop()
		if v.at < last.at || v.at == last.at && v.seed < last.seed {
			t.Fatalf("%d after %d", v.at, last.at)
		}
		last = v
	}
}

func TestWriteBulk(t *testing.T) {
	var out, again bytes.Buffer
	lines, err := WriteBulk(&out, BulkCombined, 2<<20, 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WriteBulk(&again, BulkCombined, 2<<20, 1, 1000); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Fatalf("the same arguments gave different bytes (%v)", err)
	}
	if n := out.Len(); n < 2<<20 || n > 2<<20+2048 {
		t.Errorf("%d bytes", n)
	}
	line := regexp.MustCompile(`^(\S+) - (\S+) \[(05/Jan/2026:00:\d\d:\d\d \+0000)\] "([^"]*)" (\d{3}) \d+ "[^"]*" "[^"]*"$`)
	request := regexp.MustCompile(`^[A-Z]+ (/\S*) HTTP/1\.1$`)
	var refused, queries, junk, n float64
	clients, paths := map[string]bool{}, map[string]bool{}
	for l := range bytes.Lines(out.Bytes()) {
		m := line.FindSubmatch(bytes.TrimSuffix(l, []byte("\n")))
		if m == nil {
			t.Fatalf("not a combined line: %q", l)
		}
		if want := time.Date(2026, 1, 5, 0, 0, int(n)/1000, 0, time.UTC).Format("02/Jan/2006:15:04:05 -0700"); string(m[3]) != want {
			t.Fatalf("line %.0f has the time %s, want %s", n, m[3], want)
		}
		n++
		clients[string(m[1])] = true
		if string(m[5]) == "403" {
			refused++
		}
		r := request.FindSubmatch(m[4])
		if r == nil {
			junk++
			continue
		}
		path, _, query := strings.Cut(string(r[1]), "?")
		paths[path] = true
		if query {
			queries++
		}
	}
	if int64(n) != lines {
		t.Errorf("%d lines reported, %.0f written", lines, n)
	}
	if s := refused / n; s < 0.025 || s > 0.035 {
		t.Errorf("%.4f of the lines are 403", s)
	}
	if s := queries / n; s < 0.27 || s > 0.32 {
		t.Errorf("%.4f of the lines have a query", s)
	}
	if junk == 0 || junk/n > 0.01 || len(clients) < 5_000 || len(paths) < 3_000 || int64(out.Len())/lines < 180 {
		t.Errorf("%.0f junk lines, %d clients, %d paths, %d bytes a line", junk, len(clients), len(paths), int64(out.Len())/lines)
	}
	if runtime.GOARCH == "amd64" {
		golden(t, "combined.sha256", fmt.Appendf(nil, "%x\n", sha256.Sum256(out.Bytes())))
	}
}

type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteBulkReportsErrors(t *testing.T) {
	for _, size := range []int64{1, 1 << 22} {
		if _, err := WriteBulk(fullDisk{}, BulkAppJSON, size, 1, 1000); !errors.Is(err, errFull) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := WriteBulk(io.Discard, BulkCombined, 1, 1, 0); err == nil {
		t.Error("a rate of 0 was accepted")
	}
	if _, err := WriteBulk(io.Discard, "xml", 1, 1, 1000); err == nil {
		t.Error("an unknown format was accepted")
	}
}

// TestWriteBulkJSON: the JSON formats are JSON, as long as real ones, and tell of
// the requests that combined tells of.
func TestWriteBulkJSON(t *testing.T) {
	for _, c := range []struct {
		format Bulk
		status []string
		length int
	}{
		{BulkAppJSON, []string{"http", "status"}, 520},
		{BulkCloudflare, []string{"EdgeResponseStatus"}, 1900},
	} {
		var out, plain bytes.Buffer
		lines, err := WriteBulk(&out, c.format, 1<<20, 1, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(out.Len()) / lines; n < int64(c.length)*8/10 || n > int64(c.length)*12/10 {
			t.Errorf("%s: %d bytes a line", c.format, n)
		}
		if _, err := WriteBulk(&plain, BulkCombined, 1<<20, 1, 1000); err != nil {
			t.Fatal(err)
		}
		combined := strings.Split(plain.String(), "\n")
		i := 0
		for l := range bytes.Lines(out.Bytes()) {
			var v any
			if err := json.Unmarshal(l, &v); err != nil {
				t.Fatalf("%s: %v in %q", c.format, err, l)
			}
			for _, k := range c.status {
				v = v.(map[string]any)[k]
			}
			if i < len(combined)-1 && !strings.Contains(combined[i], fmt.Sprintf(`" %v `, v)) {
				t.Fatalf("%s has status %v for %s", c.format, v, combined[i])
			}
			i++
		}
	}
}

func BenchmarkNext(b *testing.B) {
	s := newSim(b, Scenario{Seed: 1, Start: at(9, 0), Rate: 1000})
	b.ReportAllocs()
	for b.Loop() {
		s.Next()
	}
}

func BenchmarkNextAndWrite(b *testing.B) {
	s := newSim(b, Scenario{Seed: 1, Start: at(9, 0), Rate: 1000})
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r := s.Next()
		buf = AppendNginxUpstream(buf[:0], r)
		buf = AppendAppJSON(buf, r)
	}
}

// BenchmarkNextSlowly has little traffic, so the work of each minute counts.
func BenchmarkNextSlowly(b *testing.B) {
	s := newSim(b, Scenario{Seed: 1, Start: at(9, 0), Rate: 3})
	b.ReportAllocs()
	for b.Loop() {
		s.Next()
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newSim(b, Scenario{Seed: 1, Start: at(9, 0), Rate: 1000})
	}
}

func BenchmarkWriteBulk(b *testing.B) {
	g := newBulk(1)
	line := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		line = appendBulkCombined(line[:0], g.draw(monday.UnixNano()))
		b.SetBytes(int64(len(line)))
	}
}
