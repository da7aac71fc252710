package sim

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

func testSetting() Setting {
	return Setting{Seed: 5, Start: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), WarmUp: 1, Test: 7, Routes: 30, Roles: 4, Geos: 5, Rate: 200}
}

// TestTrial: what the labels say happens in the visits, and the same setting gives
// the same ones.
func TestTrial(t *testing.T) {
	for _, hard := range []bool{false, true} {
		set := testSetting()
		set.Hard = hard
		a, err := NewTrial(set)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewTrial(set)
		if err != nil {
			t.Fatal(err)
		}
		labels := a.Labels()
		if !reflect.DeepEqual(labels, b.Labels()) || !reflect.DeepEqual(a.Markers(), b.Markers()) {
			t.Fatal("the same setting has other happenings")
		}
		type count struct{ before, n, after, m float64 } // refusals and requests an hour before and since
		counts := make([]count, len(labels))
		for {
			start, visits, ok := a.Minute()
			_, same, _ := b.Minute()
			if !ok {
				break
			}
			if !reflect.DeepEqual(visits, same) {
				t.Fatalf("%d: the same setting has other visits", start)
			}
			now := time.Unix(start, 0)
			for i := range labels {
				l := &labels[i]
				before, within := now.Before(l.From) && !now.Before(l.From.Add(-3*time.Hour)), !now.Before(l.From) && now.Before(l.To)
				if l.Benign || !before && !within {
					continue
				}
				for k := range visits {
					v := &visits[k]
					role, geo := a.RoleNames[v.Role], a.GeoNames[v.Geo]
					if role == "" {
						role = incident.NoRole
					}
					s := &l.Scope
					if s.Route != "" && s.Route != a.RouteNames[v.Route] || s.Prefix != "" && !under(a.RouteNames[v.Route], s.Prefix) ||
						s.Role != "" && s.Role != role || s.Geo != "" && s.Geo != geo {
						continue
					}
					denied := 0.0
					if v.Denied {
						denied = 1
					}
					if before {
						counts[i].before += denied
						counts[i].n++
					} else {
						counts[i].after += denied
						counts[i].m++
					}
				}
			}
		}
		kinds := map[Kind]bool{}
		for i := range labels {
			l, c := &labels[i], &counts[i]
			kinds[l.Kind] = true
			if l.Benign {
				continue
			}
			was, is := c.before/max(c.n, 1), c.after/max(c.m, 1)
			if c.m == 0 || l.Direction == incident.Down && is > was/2 || l.Direction != incident.Down && is < was+0.01 || l.Bound < 1 {
				t.Errorf("%s %+v: %.3f before, %.3f since, bound %d", l.Kind, l.Scope, was, is, l.Bound)
			}
		}
		if len(kinds) < 15 {
			t.Errorf("only %d kinds happen: %v", len(kinds), kinds)
		}
	}
}

// TestTrialNewRoutes: routes come, are asked for by nobody before, and refuse the share
// that their kind says.
func TestTrialNewRoutes(t *testing.T) {
	set := testSetting()
	set.NewRoutes, set.Test, set.Rate = true, 3, 500
	a, err := NewTrial(set)
	if err != nil {
		t.Fatal(err)
	}
	labels := slices.DeleteFunc(a.Labels(), func(l Label) bool { return l.Benign })
	n, refused, early := make([]float64, len(labels)), make([]float64, len(labels)), 0
	for {
		start, visits, ok := a.Minute()
		if !ok {
			break
		}
		for i := range labels {
			l, now := &labels[i], time.Unix(start, 0)
			for k := range visits {
				switch {
				case a.RouteNames[visits[k].Route] != l.Scope.Route:
				case now.Before(l.From):
					early++
				case now.Before(l.To):
					n[i]++
					if visits[k].Denied {
						refused[i]++
					}
				}
			}
		}
	}
	if len(labels) < 3 || early > 0 {
		t.Errorf("%d new routes; %d visits before they were there", len(labels), early)
	}
	for i, l := range labels {
		share, known := newRouteShare[l.Kind]
		if got := refused[i] / max(n[i], 1); !known || l.Direction != incident.New || math.Abs(got-share) > 0.15 {
			t.Errorf("%s %s refuses %.2f of %.0f, want %.2f", l.Kind, l.Scope.Route, got, n[i], share)
		}
	}
}

// TestTrialJSON: a line says what the visit is.
func TestTrialJSON(t *testing.T) {
	tr, err := NewTrial(testSetting())
	if err != nil {
		t.Fatal(err)
	}
	_, visits, _ := tr.Minute()
	var buf []byte
	for i := range visits {
		v := &visits[i]
		buf = tr.AppendJSON(buf[:0], v)
		var line struct {
			Time                               time.Time
			Method, Path, Route, Role, Country string
			Status                             int
			ClientIP                           string `json:"client_ip"`
			UserID                             string `json:"user_id"`
			AccountID                          string `json:"account_id"`
		}
		d := json.NewDecoder(bytes.NewReader(buf))
		d.DisallowUnknownFields()
		if err := d.Decode(&line); err != nil {
			t.Fatalf("%s: %v", buf, err)
		}
		if line.Time.UnixMilli() != v.Time || line.Route != tr.RouteNames[v.Route] || line.Role != tr.RoleNames[v.Role] || line.Country != tr.GeoNames[v.Geo] ||
			(line.Status == 403) != v.Denied || (line.UserID != "") != v.Named || line.ClientIP == "" || line.Path == "" {
			t.Fatalf("%+v is written %s", v, buf)
		}
	}
}

func TestTrialMistakes(t *testing.T) {
	if _, err := NewTrial(Setting{}); err == nil {
		t.Error("no error for an empty setting")
	}
}
