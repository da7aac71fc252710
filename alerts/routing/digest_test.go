package routing_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/routing"
)

// TestDue: a digest is due at its local time, whatever the offset of that day.
func TestDue(t *testing.T) {
	c := shop()
	c.Digest = routing.CommonDigest{Digest: routing.Digest{Daily: "09:00", Weekly: "mon 09:00"}, Timezone: "Europe/Berlin"}
	c.Teams[1].Digest.Daily = "18:30"
	c.Teams[1].Timezone = "America/New_York"
	if ps := c.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	r := routing.New(c, sinks)
	for _, x := range []struct{ now, want string }{
		{"2026-11-24T07:59:59Z", "_all/daily 2026-11-23T08:00Z from 2026-11-22T08:00Z; _all/weekly 2026-11-23T08:00Z from 2026-11-16T08:00Z; growth/daily 2026-11-23T23:30Z from 2026-11-22T23:30Z"},
		{"2026-11-24T08:00:00Z", "_all/daily 2026-11-24T08:00Z from 2026-11-23T08:00Z; _all/weekly 2026-11-23T08:00Z from 2026-11-16T08:00Z; growth/daily 2026-11-23T23:30Z from 2026-11-22T23:30Z"},
		// Summer time ended in Berlin on 25 October.
		{"2026-10-25T20:00:00Z", "_all/daily 2026-10-25T08:00Z from 2026-10-24T07:00Z; _all/weekly 2026-10-19T07:00Z from 2026-10-12T07:00Z; growth/daily 2026-10-24T22:30Z from 2026-10-23T22:30Z"},
		{"2026-11-23T08:00:00Z", "_all/daily 2026-11-23T08:00Z from 2026-11-22T08:00Z; _all/weekly 2026-11-23T08:00Z from 2026-11-16T08:00Z; growth/daily 2026-11-22T23:30Z from 2026-11-21T23:30Z"},
		{"2026-11-23T07:59:00Z", "_all/daily 2026-11-22T08:00Z from 2026-11-21T08:00Z; _all/weekly 2026-11-16T08:00Z from 2026-11-09T08:00Z; growth/daily 2026-11-22T23:30Z from 2026-11-21T23:30Z"},
	} {
		now, err := time.Parse(time.RFC3339, x.now)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range r.Due(now) {
			got = append(got, fmt.Sprintf("%s %s from %s", p.Key(), p.At.UTC().Format("2006-01-02T15:04Z"), p.From.UTC().Format("2006-01-02T15:04Z")))
			if want := map[string]string{"": "console slack", "growth": "console slack#growth"}[p.Team]; want != places(&p) {
				t.Errorf("%s is told at %s, want %s", p.Key(), places(&p), want)
			}
		}
		if strings.Join(got, "; ") != x.want {
			t.Errorf("at %s\ngot  %s\nwant %s", x.now, strings.Join(got, "; "), x.want)
		}
	}
}

func places(p *routing.Period) string {
	var out []string
	for _, to := range p.To {
		out = append(out, to.Sink+to.Target)
	}
	return strings.Join(out, " ")
}
