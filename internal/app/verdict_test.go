package app

import (
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

func TestDescribeVerdict(t *testing.T) {
	at := time.Date(2026, 11, 18, 10, 0, 0, 0, time.UTC)
	v := &marker.Verdict{
		Verdict: marker.NotEnoughData, Reason: "Nothing was found. Too few.", Marker: marker.Marker{ID: "shop-v2"}, Until: at,
		Incidents: []marker.Broken{{ID: "ab12", State: incident.Open, StartedAt: at, Identities: 1, UsedToGetIn: 1, Scope: incident.Scope{Route: "/x\x1b[2J", Role: "member", Geo: "BR"}}},
		Evidence: []marker.Evidence{
			{Vantage: "app", Service: "shop", Class: "refused", Since: marker.Counts{Requests: 12345, Denials: 67}, ExpectedDenials: 60.6, Before: marker.Counts{Requests: 6000, Denials: 30},
				Identities: 40, Power: 0.914, Covered: 0.5, Uncovered: []marker.Uncovered{{Share: 0.2, Requests: 3}}},
			{Vantage: "web", Class: "soft", Since: marker.Counts{Requests: 10}},
		},
		Suspended: []string{"web"},
		Earlier:   []marker.Earlier{{ID: "shop-v1", Verdict: marker.Pass, Requests: 1000, Denials: 5, ExpectedDenials: 4.2}},
	}
	const want = `shop-v2: not enough data  Nothing was found. Too few.
  incident ab12 since 10:00 UTC: /x�[2J, role member, country BR, 1 person, 1 of them used to get in; open
  shop app: 67 of 12,345 refused (refused), usually 61; before 30 of 6,000; 40 people refused; a wall would have been seen with 91 %, 50 % of the usual traffic is covered
    seen too little: everywhere, 3 requests (20 % of the usual traffic)
  web: 0 of 10 refused (soft), usually 0; 0 people refused
  not judged now: web
  earlier shop-v1: pass, 5 of 1,000 refused, usually 4
`
	if got := DescribeVerdict(v, true); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	v.Verdict = marker.Pending
	if got := DescribeVerdict(v, false); !strings.Contains(got, "on probation until Wed 18 Nov 10:00 UTC") {
		t.Errorf("got\n%s", got)
	}
	v.Verdict = marker.Fail
	if got := DescribeVerdict(v, true); !strings.HasPrefix(got, "shop-v2: \x1b[31mfail\x1b[0m") {
		t.Errorf("got %q", got)
	}
}

func TestScansLine(t *testing.T) {
	at := time.Date(2026, 11, 18, 10, 0, 0, 0, time.UTC)
	scan := func(route string, routes int, denials, who int64) incident.Scan {
		return incident.Scan{TopRoute: route, Routes: routes, Denials: denials, Identities: who, From: at, To: at.Add(20 * time.Minute)}
	}
	for want, scans := range map[string][]incident.Scan{
		"": nil,
		"1 suspected scan, not told: /login (12 refusals by 1 address or user, Wed 18 Nov 10:00 – 10:20)": {scan("/login", 1, 12, 1)},
		"5 suspected scans, not told: /c and 63 more (3,000 refusals by 2 addresses or users, Wed 18 Nov 10:00 – 10:20); " +
			"/b (30 refusals by 2 addresses or users, Wed 18 Nov 10:00 – 10:20); /a (20 refusals by 2 addresses or users, Wed 18 Nov 10:00 – 10:20); 2 more": {
			scan("/a", 1, 20, 2), scan("/b", 1, 30, 2), scan("/c", 64, 3000, 2), scan("/d", 1, 12, 2), scan("/e", 1, 11, 2)},
	} {
		if got := scansLine(scans); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
