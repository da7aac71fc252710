package detector_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/incident"
)

// checkTrace holds a trace against its incident: what is counted in it is what the
// incident states.
func checkTrace(tr *incident.Trace) error {
	var n, x int64
	var m float64
	for i, p := range tr.Points {
		if p.Counted {
			n, x, m = n+p.Requests, x+p.Denials, m+p.Expected*float64(p.Requests)
		}
		if p.Seconds <= 0 || p.Denials > p.Requests || p.Low > p.Expected+1e-9 || p.High < p.Expected-1e-9 || p.High > 1 || p.Low < 0 {
			return fmt.Errorf("point %d: %+v", i, p)
		}
		if i > 0 && p.Time.Before(tr.Points[i-1].Time) {
			return fmt.Errorf("point %d is before the one before", i)
		}
	}
	in := &tr.Incident
	if n != in.Requests || x != in.Denials || n > 0 && math.Abs(m/float64(n)-in.ExpectedRate) > 1e-9 {
		return fmt.Errorf("incident %s states %d of %d, %g expected; its trace counts %d of %d, %g", in.ID, in.Denials, in.Requests, in.ExpectedRate, x, n, m/float64(n))
	}
	if len(tr.Points) > incident.MaxPoints {
		return fmt.Errorf("%d points", len(tr.Points))
	}
	return nil
}

// TestTraceIsWhatTheIncidentStates plays busy days with grown, narrowed and reopened
// incidents of all kinds, and restarts.
func TestTraceIsWhatTheIncidentStates(t *testing.T) {
	traces, calm := 0, 0
	for _, seed := range []uint64{1, 5} {
		n, before := playTraces(t, busyFeed(seed, 16))
		traces, calm = traces+n, calm+before
	}
	if traces < 20 || calm < 20*traces {
		t.Errorf("%d traces with %d points before the onset: the feeds show too little", traces, calm)
	}
}

// playTraces checks all traces of a feed time and again, each against that after a
// restart, and returns their number and that of the points before the onsets.
func playTraces(t *testing.T, feed feed) (traces, calm int) {
	t.Helper()
	cfg := detector.Defaults()
	cfg.Access = busyRules()
	d := detector.New(cfg)
	for i, c := range feed.slots {
		for _, m := range feed.marks[i] {
			d.Mark(m)
		}
		d.Close(c)
		if i%37 != 0 {
			continue
		}
		again, err := reload(d, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range d.Incidents() {
			tr, ok := d.Trace(in.ID)
			if !ok {
				t.Fatalf("incident %s has no trace", in.ID)
			}
			if err := checkTrace(&tr); err != nil {
				t.Fatal(err)
			}
			traces++
			for _, p := range tr.Points {
				if p.Time.Before(in.StartedAt) && !p.Counted {
					calm++
				}
			}
			other, _ := again.Trace(in.ID)
			a, errA := json.Marshal(tr)
			b, errB := json.Marshal(other)
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Fatalf("after a restart the trace is another: %s %s", a, b)
			}
		}
		d = again
	}
	return traces, calm
}
