package app

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/web"
)

// refusing is a closed slot in which identities were refused on a route.
func refusing(start int64, route string, class event.Denial, who ...uint64) *slots.Closed {
	l := slots.Leaf{Key: tally.Key{Service: "shop", Route: route, Role: "member"},
		Splits: []slots.Split{{Class: class, Layer: event.LayerWeb, Cause: "acl", N: 1}, {Class: class, Layer: event.LayerApp, Cause: "app_policy", N: 9}}}
	for _, id := range who {
		l.Hits = append(l.Hits, slots.Hit{Class: class, Named: id%2 == 0, Identity: id, Account: 7, Requests: 3, Denials: 2})
	}
	l.Hits = append(l.Hits, slots.Hit{Class: event.NotDenied, Identity: 99, Denials: 1})
	return &slots.Closed{Vantage: event.App, Start: start, Step: 60, Leaves: []slots.Leaf{{Key: tally.Key{Route: "/fine"}}, l}}
}

// TestRefusals: where somebody was refused is found by their hash, also after a
// restart, and told with who refused.
func TestRefusals(t *testing.T) {
	start := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	r := &refusals{}
	r.note(refusing(start.Unix(), "/billing/upgrade", event.Refused, 2, 4))
	r.note(refusing(start.Unix()+60, "/billing/upgrade", event.Refused, 2))
	r.note(refusing(start.Unix()+120, "/reports", event.Unauthorized, 4))
	r.note(&slots.Closed{Start: start.Unix() + 180})
	store := map[string][]byte{}
	for _, b := range r.blocks {
		store[refusalKey(b.seq)] = b.b
	}
	if len(store) != 3 || r.fresh != 3 {
		t.Fatalf("%d blocks, %d to be written", len(store), r.fresh)
	}
	again := &refusals{}
	for _, k := range slices.Sorted(maps.Keys(store)) {
		if err := again.load(k, store[k]); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		hash    uint64
		account bool
		want    string
	}{
		{2, false, "/billing/upgrade 4 refused app app_policy 10:00-10:02"},
		{4, false, "/reports 2 unauthorized app app_policy 10:02-10:03; /billing/upgrade 2 refused app app_policy 10:00-10:01"},
		{7, true, "/reports 2 unauthorized app app_policy 10:02-10:03; /billing/upgrade 6 refused app app_policy 10:00-10:02"},
		{7, false, ""}, {2, true, ""}, {99, false, ""},
	} {
		found := again.find(c.hash, c.account, 60)
		var got []string
		for _, x := range found.Refusals {
			got = append(got, fmt.Sprintf("%s %d %s %s %s %s-%s", x.Route, x.Denials, x.Class, x.Layer, x.Cause, x.From.Format("15:04"), x.To.Format("15:04")))
		}
		if strings.Join(got, "; ") != c.want || !found.Since.Equal(start) || found.Incomplete {
			t.Errorf("%d: got %q since %v, want %q", c.hash, strings.Join(got, "; "), found.Since, c.want)
		}
	}
}

// TestValidRefusals: whom the access rules keep out is remembered apart, with the rule.
func TestValidRefusals(t *testing.T) {
	denied, valid := &refusals{}, &refusals{rule: func(id uint64) string { return fmt.Sprintf("deny rule %d", id) }}
	slot := refusing(600, "/billing/upgrade", event.Refused, 2)
	keeps := refusing(600, "/exports/{id}", event.Valid, 2, 4)
	for i := range keeps.Leaves[1].Hits {
		keeps.Leaves[1].Hits[i].Rule = 5 + uint64(i)
	}
	slot.Leaves = append(slot.Leaves, keeps.Leaves...)
	for _, r := range []*refusals{denied, valid} {
		r.note(slot)
	}
	if got := denied.find(2, false, 60); len(got.Refusals) != 1 || got.Refusals[0].Route != "/billing/upgrade" {
		t.Errorf("refused %+v", got)
	}
	for id, rule := range map[uint64]string{2: "deny rule 5", 4: "deny rule 6"} {
		got := valid.find(id, false, 60)
		if len(got.Refusals) != 1 || got.Refusals[0].Route != "/exports/{id}" || got.Refusals[0].Class != "valid" || got.Refusals[0].Cause != rule || got.Refusals[0].Layer != "app" {
			t.Errorf("validly refused %+v", got)
		}
	}
	var many []uint64
	for i := range uint64(2 * maxSlotValid) {
		many = append(many, 1000+i)
	}
	for i := range int64(1000) {
		valid.note(refusing(60*i, "/x", event.Valid, many...))
	}
	if valid.size > maxValidRefusals || len(valid.blocks) < 100 {
		t.Errorf("%d bytes in %d blocks", valid.size, len(valid.blocks))
	}
}

// TestRefusalsAreBounded: the oldest goes first, and of a busy slot the bare addresses.
func TestRefusalsAreBounded(t *testing.T) {
	r := &refusals{}
	var many []uint64
	for i := range uint64(2*maxSlotRefusals - 1000) {
		many = append(many, 1000+i)
	}
	for i := range int64(300) {
		r.note(refusing(60*i, "/x", event.Refused, many...))
	}
	if r.size > maxRefusals || len(r.blocks) < 100 || r.blocks[0].seq == 0 || len(r.gone) != int(r.blocks[0].seq) {
		t.Errorf("%d bytes in %d blocks from number %d on, %d dropped", r.size, len(r.blocks), r.blocks[0].seq, len(r.gone))
	}
	if r.fresh != len(r.blocks) {
		t.Errorf("%d of %d blocks are to be written", r.fresh, len(r.blocks))
	}
	if named := r.find(1000, false, 60); len(named.Refusals) != 1 || !named.Incomplete {
		t.Errorf("somebody with a name was left out: %+v", named)
	}
	if last := r.find(many[len(many)-1], false, 60); len(last.Refusals) != 0 {
		t.Errorf("the last of the bare addresses was kept: %+v", last)
	}
	r.note(refusing(int64(maxRefusalAge/time.Second)+60*400, "/x", event.Refused, 2))
	if len(r.blocks) != 1 {
		t.Errorf("%d blocks are left after a month", len(r.blocks))
	}
}

func FuzzRefusals(f *testing.F) {
	r := &refusals{}
	r.note(refusing(60, "/x", event.Refused, 1, 2, 3))
	f.Add(r.blocks[0].b)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &refusals{}
		if r.load(refusalKey(7), b) == nil {
			r.find(1, false, 60)
		} else if len(r.blocks) > 0 {
			t.Error("a damaged block was kept")
		}
	})
}

// TestInvolved: a refusal belongs to the incidents of its scope, class and time.
func TestInvolved(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	end := at.Add(time.Hour)
	clock := collect.NewClock(nil)
	clock.Now = func() int64 { return at.Add(3 * time.Hour).UnixNano() }
	c := &core{clock: clock, timelines: map[string][]incident.Transition{}}
	add := func(id string, in incident.Incident) {
		in.ID, in.StartedAt, in.Class = id, at, incident.ClassRefused
		c.order = append(c.order, id)
		c.timelines[id] = []incident.Transition{{Incident: in}}
	}
	add("route", incident.Incident{Scope: incident.Scope{Service: "shop", Route: "/docs/{page}", Role: "member"}, ResolvedAt: &end})
	add("prefix", incident.Incident{Scope: incident.Scope{Prefix: "/docs", Role: "member"}})
	add("other", incident.Incident{Scope: incident.Scope{Prefix: "/doc", Role: "member"}})
	add("role", incident.Incident{Scope: incident.Scope{Role: incident.NoRole}})
	add("open door", incident.Incident{Direction: incident.Down, Scope: incident.Scope{}})
	for _, x := range []struct {
		r    web.Refusal
		want string
	}{
		{web.Refusal{Service: "shop", Route: "/docs/intro", Role: "member", From: at, To: at.Add(time.Minute)}, "route prefix"},
		{web.Refusal{Service: "blog", Route: "/docs/intro", Role: "member", From: at, To: at.Add(time.Minute)}, "prefix"},
		{web.Refusal{Service: "shop", Route: "/docs/intro", Role: "member", From: end.Add(time.Hour), To: end.Add(2 * time.Hour)}, "prefix"},
		{web.Refusal{Service: "shop", Route: "/docs/intro", Role: "member", From: at.Add(-time.Hour), To: at}, ""},
		{web.Refusal{Service: "shop", Route: "/x", From: at, To: end}, "role"},
	} {
		x.r.Class = incident.ClassRefused
		if got := strings.Join(c.involved(&x.r), " "); got != x.want {
			t.Errorf("%+v: %s, want %s", x.r, got, x.want)
		}
	}
}

func TestDescribeRefused(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 4, 0, 0, time.UTC)
	none := DescribeRefused(&client.Refused{})
	if !strings.HasPrefix(none, "Not refused, as far as is known (nobody is remembered yet).\n") {
		t.Errorf("got %s", none)
	}
	got := DescribeRefused(&client.Refused{Since: at.AddDate(0, 0, -7), Incomplete: true, Refusals: []client.Refusal{
		{Route: "/billing/upgrade", Role: "member", Geo: "DE", Layer: "app", Cause: "app_policy", Vantage: "app", From: at, To: at.Add(40 * time.Minute), Denials: 8, Incidents: []string{"ab12"}},
		{Route: "/x\x1b[2J", Vantage: "web", Layer: "unknown", From: at, To: at.Add(time.Minute), Denials: 1},
		{Route: "/exports/{id}", Role: "viewer", Class: "valid", Layer: "app", Vantage: "app", From: at, To: at.Add(time.Minute), Denials: 3, Rule: "deny /exports/** role=viewer"},
	}, RulesSince: at.AddDate(0, 0, -1)})
	const want = `Refused (remembered since Tue 17 Nov 10:04):
  Tue 24 Nov 10:04 – 10:44  /billing/upgrade, role member, country DE: 8 refusals by the app (app_policy), seen from the app, incident ab12
  Tue 24 Nov 10:04 – 10:05  /x [2J: 1 refusal, seen from the web, part of no incident
  Tue 24 Nov 10:04 – 10:05  /exports/{id}, role viewer: 3 refusals by the app, seen from the app, as your access rule says: deny /exports/** role=viewer
In busy minutes not everybody could be remembered.
Of refusals that the access rules ask for not all are remembered, and since Mon 23 Nov 10:04; denywatch check --route says what they ask for.
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if bytes.ContainsRune([]byte(got), 0x1b) {
		t.Error("an escape is shown")
	}
}
