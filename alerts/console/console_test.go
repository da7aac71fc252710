package console_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/console"
	"github.com/denywatch/denywatch/internal/incident"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func life() []incident.Transition {
	start := time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)
	in := incident.Incident{
		ID: "a1b2", State: incident.Open, Direction: incident.Up, StartedAt: start, OpenedAt: start.Add(3 * time.Minute),
		Scope:        incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "member"},
		ExpectedRate: 0.004, ObservedRate: 0.61, Requests: 700, Denials: 427, Identities: 212, Accounts: 38, Layer: "app",
		Marker:     "shop-v2.31.0",
		MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: start.Add(-4 * time.Minute), Service: "shop", Version: "v2.31.0", Previous: "v2.30.4"},
		Severity:   incident.Critical, Team: "growth", Journey: "Upgrade",
		Contrast: []incident.Contrast{{Scope: incident.Scope{Service: "shop", Route: "/billing/upgrade", Role: "owner"}}},
	}
	grown := in
	grown.Identities, grown.Accounts = 480, 71
	done := in
	end := start.Add(40 * time.Minute)
	back := int64(980)
	done.State, done.Resolution, done.ResolvedAt, done.Identities, done.Accounts = incident.Resolved, incident.Recovered, &end, 1104, 122
	done.GotInAgain = &back
	small := incident.Incident{ID: "c3", State: incident.Open, Direction: incident.Up, StartedAt: start, Scope: incident.Scope{Route: "/x\x1b[2J\nfake"},
		ObservedRate: 0.2, Severity: incident.Low}
	return []incident.Transition{
		{Seq: 1, Kind: incident.Opened, At: start.Add(3 * time.Minute), Incident: in},
		{Seq: 2, Kind: incident.Grew, At: start.Add(11 * time.Minute), Incident: grown},
		{Seq: 3, Kind: incident.ResolvedKind, At: end, Incident: done},
		{Seq: 4, Kind: incident.Reopened, At: start.Add(50 * time.Minute), Incident: in},
		{Seq: 1, Kind: incident.Opened, At: start.Add(time.Minute), Incident: small},
	}
}

func TestBlocks(t *testing.T) {
	for name, opt := range map[string]console.Options{"plain": {}, "color": {Color: true, Location: time.FixedZone("CET", 3600)}} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			n := console.New(&buf, opt)
			for _, tr := range life() {
				if _, err := n.Notify(context.Background(), &alerts.Delivery{Transition: tr}); err != nil {
					t.Fatal(err)
				}
			}
			path := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if buf.String() != string(want) {
				t.Errorf("%s differs (run with -update and look at the diff); got:\n%s", path, buf.String())
			}
			if name == "plain" && strings.ContainsRune(buf.String(), 0x1b) {
				t.Error("escape sequences without colour")
			}
		})
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteErrorIsTemporary(t *testing.T) {
	_, err := console.New(broken{}, console.Options{}).Notify(context.Background(), &alerts.Delivery{Transition: life()[0]})
	if err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Fatalf("err = %v", err)
	}
	if e, ok := errors.AsType[*alerts.Error](err); ok && e.Kind != alerts.Temporary {
		t.Errorf("kind = %v", e.Kind)
	}
}

func TestPost(t *testing.T) {
	var buf bytes.Buffer
	var n alerts.Poster = console.New(&buf, console.Options{})
	p := &alerts.Post{ID: "d", At: time.Date(2026, 11, 19, 8, 0, 0, 0, time.UTC), Headline: "Nothing wrong yesterday", Parts: []alerts.Part{
		{Lines: []string{"3 sources, 1,204 series"}}, {Title: "Valid refusals", Lines: []string{"/admin: 12", "/exports: 3"}},
	}}
	if _, err := n.Post(t.Context(), &alerts.Delivery{Post: p}); err != nil {
		t.Fatal(err)
	}
	const want = `■ Thu 19 Nov 08:00  Nothing wrong yesterday
  3 sources, 1,204 series
  Valid refusals
    /admin: 12
    /exports: 3
`
	if buf.String() != want {
		t.Errorf("got\n%s", buf.String())
	}
}

// TestActs: what people decide is a line; what may be the first word of an incident says
// why.
func TestActs(t *testing.T) {
	tr := life()[0]
	tr.Act = &incident.Act{By: "ada", Via: "cli"}
	for kind, want := range map[incident.Kind]string{
		incident.Acknowledged: "  Acknowledged by ada.\n",
		incident.Assigned:     "  Now with team growth.\n",
		incident.Unsilenced:   "  Silence ended by ada. 61 % of their requests are refused (usually 0.4 %). 212 people on 38 accounts.\n",
		incident.Escalated:    "  Not acknowledged yet: more people are told. 61 % of their requests are refused (usually 0.4 %). 212 people on 38 accounts.\n",
	} {
		tr.Kind = kind
		const head = "● Wed 18 Nov 10:07  /billing/upgrade refuses role member  critical · Upgrade journey · team growth · service shop\n"
		if got := console.Format(tr, console.Options{}); got != head+want {
			t.Errorf("%s: got\n%s", kind, got)
		}
	}
}
