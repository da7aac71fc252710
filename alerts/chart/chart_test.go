package chart_test

import (
	"bytes"
	"errors"
	"flag"
	"image"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/chart"
	"github.com/denywatch/denywatch/internal/incident"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var began = time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)

// story is a trace of minutes before and after the onset, the last calm of them calm
// again.
func story(dir incident.Direction, minutesBefore, minutes, calm int, perMinute float64, usual, now float64) *incident.Trace {
	r := rand.New(rand.NewPCG(1, 2))
	t := &incident.Trace{Incident: incident.Incident{ID: "i1", Direction: dir, StartedAt: began, Marker: "shop-v2.31.0"}}
	for m := -minutesBefore; m < minutes; m++ {
		p := incident.Point{Time: began.Add(time.Duration(m) * time.Minute), Seconds: 60, Counted: m >= 0, Expected: usual, Low: max(usual-0.1, 0), High: min(usual+0.1, 1)}
		q := usual
		if m >= 0 && m < minutes-calm {
			q = now
		}
		for range int(perMinute * (0.5 + r.Float64())) {
			p.Requests++
			if r.Float64() < q {
				p.Denials++
			}
		}
		t.Points = append(t.Points, p)
	}
	if calm > 0 {
		end := began.Add(time.Duration(minutes) * time.Minute)
		t.Incident.ResolvedAt = &end
	}
	release := func(minute int, version string) incident.TraceMarker {
		return incident.TraceMarker{ID: "shop-" + version, MarkerInfo: incident.MarkerInfo{Kind: "release", Version: version, Time: began.Add(time.Duration(minute) * time.Minute)}}
	}
	t.Markers = []incident.TraceMarker{release(-4, "v2.31.0")}
	if calm > 0 {
		t.Markers = append(t.Markers, release(minutes-calm-4, "v2.31.1"))
	}
	return t
}

func stories() map[string]*incident.Trace {
	hostile := story(incident.Up, 60, 9, 0, 20, 0.004, 0.6)
	for i, v := range []string{"<!channel>\x00\n" + string(bytes.Repeat([]byte("x"), 1<<20)), "\u202eשלום\u2066", "日本語👩", ""} {
		hostile.Markers = append(hostile.Markers, incident.TraceMarker{ID: v, MarkerInfo: incident.MarkerInfo{Kind: "security_rule", Version: v, Time: began.Add(time.Duration(-30+9*i) * time.Minute)}})
	}
	gap := story(incident.Up, 120, 40, 0, 6, 0.05, 0.3)
	gap.Points = append(gap.Points[:60:60], gap.Points[85:]...)
	return map[string]*incident.Trace{
		"opened":   story(incident.Up, 240, 3, 0, 30, 0.004, 0.61),
		"resolved": story(incident.Up, 240, 40, 8, 30, 0.004, 0.61),
		"day":      story(incident.Up, 240, 1200, 0, 3, 0.02, 0.16),
		"down":     story(incident.Down, 120, 25, 0, 10, 0.97, 0.02),
		"gap":      gap,
		"hostile":  hostile,
	}
}

func TestLook(t *testing.T) {
	for name, tr := range stories() {
		got, err := chart.Draw(tr, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := chart.Draw(tr, nil)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%s: another picture of the same trace (%v)", name, err)
		}
		if c, err := png.DecodeConfig(bytes.NewReader(got)); err != nil || c.Width != chart.Width || c.Height != chart.Height || len(got) > 64<<10 {
			t.Errorf("%s: %+v, %v, %d bytes", name, c, err, len(got))
		}
		path := "testdata/" + name + ".png"
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := differing(t, got, want); n > tolerated {
			t.Errorf("%s differs in %d pixels (run with -update and look at the picture)", path, n)
		}
	}
}

// tolerated is how many pixels may differ: other processors round otherwise, and another
// release of Go packs the same picture otherwise.
const tolerated = 200

// differing counts the pixels that are clearly of another colour.
func differing(t *testing.T, a, b []byte) (n int) {
	t.Helper()
	pix := func(b []byte) []byte {
		m, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		out := image.NewRGBA(m.Bounds())
		draw.Draw(out, out.Bounds(), m, m.Bounds().Min, draw.Src)
		return out.Pix
	}
	x, y := pix(a), pix(b)
	if len(x) != len(y) {
		return len(x)
	}
	if bytes.Equal(x, y) {
		return 0
	}
	for i := 0; i < len(x); i += 4 {
		for k := i; k < i+3; k++ {
			if max(x[k], y[k])-min(x[k], y[k]) > 0x20 {
				n++
				break
			}
		}
	}
	return n
}

func TestEmpty(t *testing.T) {
	for _, tr := range []*incident.Trace{{}, {Points: []incident.Point{{Time: began}}}} {
		if _, err := chart.Draw(tr, nil); !errors.Is(err, chart.ErrEmpty) {
			t.Errorf("err = %v", err)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	tr := stories()["resolved"]
	for b.Loop() {
		if _, err := chart.Draw(tr, nil); err != nil {
			b.Fatal(err)
		}
	}
}
