package routing_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/internal/incident"
)

// TestNobodyIsLeftBehind: whatever happens to incidents, in whatever hours, everybody
// who was told that one is open is told, once, that it is over; numbers rise at every
// place, no key is used twice, and restarts change nothing of what is told.
func TestNobodyIsLeftBehind(t *testing.T) {
	c := shop()
	c.Teams[1].Quiet = routing.Quiet{From: "20:00", To: "06:00", Days: []string{"sun"}, Below: incident.Critical}
	c.Teams[1].Escalate = routing.Escalation{High: 20 * time.Minute, Critical: 5 * time.Minute, To: "security"}
	rapid.Check(t, func(r *rapid.T) {
		plain, restarted := open(t, c), open(t, c)
		both := []*office{plain, restarted}
		ins := map[string]incident.Incident{}
		silences := 0
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			id := fmt.Sprintf("i%02d", rapid.IntRange(0, 14).Draw(r, "incident"))
			in, known := ins[id]
			open := known && in.State == incident.Open
			in.ID = id
			in.Scope = incident.Scope{Service: "shop", Route: rapid.SampledFrom([]string{"/billing/upgrade", "/billing/plans", "/search", "/search/a"}).Draw(r, "route")}
			in.Layer = rapid.SampledFrom([]string{"app", "edge"}).Draw(r, "layer")
			in.Direction, in.Class = incident.Up, incident.ClassRefused
			in.Identities = rapid.SampledFrom([]int64{3, 20, 90, 900}).Draw(r, "people")
			in.UsedToGetIn = in.Identities
			what := rapid.IntRange(0, 9).Draw(r, "what")
			span := time.Duration(rapid.IntRange(1, 600).Draw(r, "minutes")) * time.Minute
			for _, o := range both {
				switch {
				case what == 0:
					o.pass(span, 7*time.Minute)
				case what == 1 && open:
					o.do(incident.Acknowledged, in, time.Time{})
				case what == 2 && open:
					o.do(incident.Silenced, in, o.now.Add(span))
				case what == 3 && open:
					o.do(incident.Unsilenced, in, time.Time{})
				case what == 4:
					s := incident.Silencing{ID: fmt.Sprint("s", silences), Scope: &incident.Scope{Route: "/search/**"}, Act: incident.Act{By: "bob", Until: o.now.Add(span)}}
					if _, err := o.desk.Hush(s, nil); err != nil {
						r.Fatal(err)
					}
				case what == 5 && open:
					in.State = incident.Resolved
					o.step(incident.ResolvedKind, in)
				case !known:
					in.State = incident.Open
					o.step(incident.Opened, in)
				case open:
					o.step(incident.Grew, in)
				default:
					in.State = incident.Open
					o.step(incident.Reopened, in)
				}
			}
			silences++
			if acts := what >= 1 && what <= 3 && open; what != 0 && what != 4 && !acts {
				ins[id] = in
			}
			restarted.restart()
		}
		for _, id := range slices.Sorted(maps.Keys(ins)) {
			if in := ins[id]; in.State == incident.Open {
				for _, o := range both {
					o.step(incident.ResolvedKind, in)
				}
			}
		}
		for _, o := range both {
			o.pass(72*time.Hour, 31*time.Minute)
		}
		if a, b := story(plain.told), story(restarted.told); a != b {
			r.Fatalf("without restarts\n%s\nwith\n%s", a, b)
		}
		if bad := leftBehind(plain.told); bad != "" {
			r.Fatalf("%s\n%s", bad, story(plain.told))
		}
	})
}

func story(ds []alerts.Delivery) string {
	var b strings.Builder
	for _, d := range ds {
		what := string(d.Transition.Kind)
		if d.Post != nil {
			what = d.Post.Headline
		}
		fmt.Fprintln(&b, d.Key, what, d.Mention)
	}
	return b.String()
}

// leftBehind says what is wrong with all that was told of incidents that are over.
func leftBehind(ds []alerts.Delivery) string {
	keys := map[string]bool{}
	last := map[string]incident.Transition{}
	bulk := map[string]bool{} // places that were told of many at once
	for _, d := range ds {
		if keys[d.Key] {
			return d.Key + " was told twice"
		}
		keys[d.Key] = true
		at := d.Sink + d.Target
		if d.Post != nil {
			bulk[at] = true
			continue
		}
		lane := at + " " + d.Transition.Incident.ID
		before, told := last[lane]
		if told && d.Transition.Seq <= before.Seq {
			return fmt.Sprintf("%s came after number %d", d.Key, before.Seq)
		}
		last[lane] = d.Transition
	}
	for lane, t := range last {
		if at, _, _ := strings.Cut(lane, " "); t.Incident.State != incident.Resolved && !bulk[at] {
			return lane + " was not told that it is over, but " + string(t.Kind)
		}
	}
	return ""
}
