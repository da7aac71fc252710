package routing_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/internal/incident"
)

// monday is at noon in UTC.
var monday = time.Date(2026, 11, 16, 12, 0, 0, 0, time.UTC)

// office is a desk with a clock, a time line, and a store that it is loaded from anew
// before every step, so that every test is one of restarts too.
type office struct {
	t      *testing.T
	router *routing.Router
	desk   *routing.Desk
	store  map[string][]byte
	now    time.Time
	last   map[string]incident.Transition
	// told are the deliveries since the last look.
	told []alerts.Delivery
}

func open(t *testing.T, c *routing.Config) *office {
	t.Helper()
	if ps := c.Validate(); len(ps) > 0 {
		t.Fatal(ps)
	}
	o := &office{t: t, router: routing.New(c, sinks), store: map[string][]byte{}, now: monday, last: map[string]incident.Transition{}}
	o.restart()
	return o
}

// Put and Delete implement routing.Bucket.
func (o *office) Put(k string, v []byte) error { o.store[k] = bytes.Clone(v); return nil }
func (o *office) Delete(k string) error        { delete(o.store, k); return nil }

func (o *office) restart() {
	o.t.Helper()
	if o.desk != nil {
		if err := o.desk.Save(o); err != nil {
			o.t.Fatal(err)
		}
		o.desk.Saved()
	}
	o.desk = routing.NewDesk(o.router)
	for _, k := range slices.Sorted(maps.Keys(o.store)) {
		if err := o.desk.Load(k, o.store[k]); err != nil {
			o.t.Fatal(err)
		}
	}
}

// step lets something happen to an incident.
func (o *office) step(kind incident.Kind, in incident.Incident) { o.by(kind, in, nil) }

// pass lets time pass, in steps.
func (o *office) pass(d, by time.Duration) {
	o.t.Helper()
	for end := o.now.Add(d); o.now.Before(end); {
		o.now = o.now.Add(by)
		due, ds := o.desk.Tick(o.now, func(id string) *incident.Transition {
			if t, ok := o.last[id]; ok {
				return &t
			}
			return nil
		})
		o.told = append(o.told, ds...)
		for _, x := range due {
			o.step(x.Kind, o.last[x.ID].Incident)
		}
	}
}

// expect compares what was told since it was last asked, but for the console and the
// bus, which get everything.
func (o *office) expect(want ...string) {
	o.t.Helper()
	var got []string
	for _, d := range o.told {
		if d.Sink == "console" || d.Sink == "bus" {
			continue
		}
		s := d.Sink + d.Target + " "
		if d.Post != nil {
			s += d.Post.Headline
		} else {
			s += d.Transition.Incident.ID + " " + fmt.Sprint(d.Transition.Seq) + " " + string(d.Transition.Kind)
		}
		if len(d.Mention) > 0 {
			s += " calling " + strings.Join(d.Mention, " ")
		}
		got = append(got, s)
	}
	o.told = nil
	if !slices.Equal(got, want) {
		o.t.Errorf("told\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	o.restart()
}

// TestWhoeverWasToldIsTold: growth and the end reach everyone who knows of an
// incident, also when another team owns it by then; that team is told too.
func TestWhoeverWasToldIsTold(t *testing.T) {
	o := open(t, shop())
	in := at("/billing/upgrade")
	o.step(incident.Opened, in)
	o.expect("slack#growth a1 1 opened", "pager a1 1 opened")
	in.Identities = 700
	o.step(incident.Grew, in)
	o.expect("slack#growth a1 2 grew calling S0123456789", "pager a1 2 grew")
	in.Layer = "edge"
	o.step(incident.Grew, in)
	o.expect("slack#sec a1 3 grew", "pager a1 3 grew", "slack#growth a1 3 grew",
		"slack#sec a1 4 assigned", "pager a1 4 assigned", "slack#growth a1 4 assigned")
	in.Identities = 5 // an estimate may fall; whoever was told is told
	o.step(incident.ResolvedKind, in)
	o.expect("slack#growth a1 5 resolved", "pager a1 5 resolved", "slack#sec a1 5 resolved")
	o.step(incident.Reopened, in)
	o.expect("slack#sec a1 6 reopened", "pager a1 6 reopened", "slack#growth a1 6 reopened")
}

// TestMerged: whoever knows of an incident hears of the one that it became a part of.
func TestMerged(t *testing.T) {
	o := open(t, shop())
	host, guest := at("/search"), at("/billing/upgrade")
	guest.ID = "b2"
	o.step(incident.Opened, host)
	o.step(incident.Opened, guest)
	o.expect("slack a1 1 opened", "slack#growth b2 1 opened", "pager b2 1 opened")
	o.by(incident.ResolvedKind, guest, &incident.Act{By: "ada", Other: "a1"})
	o.by(incident.MergedKind, host, &incident.Act{By: "ada", Other: "b2"})
	o.expect("slack#growth b2 2 resolved", "pager b2 2 resolved", "slack a1 2 merged", "slack#growth a1 2 merged", "pager a1 2 merged")
	o.step(incident.Grew, host)
	o.expect("slack a1 3 grew", "slack#growth a1 3 grew", "pager a1 3 grew")
}

// TestCalledAgain: who is called for what is urgent only is called, once, when it becomes
// so, also by a message of its own if it was one of many, and after quiet hours.
func TestCalledAgain(t *testing.T) {
	c := shop()
	c.Teams[1].Mention.High = []string{"S1111111111"}
	c.Teams[1].Quiet = routing.Quiet{From: "22:00", To: "06:00", Below: incident.Critical}
	o := open(t, c)
	for i := range 12 {
		in := at("/billing/upgrade")
		in.ID, in.Identities = fmt.Sprintf("b%02d", i), 5
		o.step(incident.Opened, in)
	}
	last := at("/billing/upgrade")
	last.ID, last.Identities = "b11", 5
	o.pass(2*time.Minute, time.Second)
	o.told = nil
	last.Identities, last.UsedToGetIn = 900, 900
	o.step(incident.Grew, last)
	o.step(incident.Grew, last)
	o.expect("slack#growth b11 2 grew calling S0123456789", "slack#growth b11 3 grew")

	other := at("/billing/refunds")
	other.ID, other.Identities = "c1", 5
	o.step(incident.Opened, other)
	o.told = nil
	o.now = time.Date(2026, 11, 16, 23, 0, 0, 0, time.UTC)
	other.Identities, other.UsedToGetIn = 60, 60
	o.step(incident.Grew, other)
	o.now = time.Date(2026, 11, 17, 7, 0, 0, 0, time.UTC)
	o.step(incident.Grew, other)
	o.step(incident.Grew, other)
	o.expect("slack#growth c1 2 grew", "slack#growth c1 3 grew calling S1111111111", "pager c1 3 grew", "slack#growth c1 4 grew", "pager c1 4 grew")
}

// TestMinSeverity: a sink is told late, but then of the end as well.
func TestMinSeverity(t *testing.T) {
	o := open(t, shop())
	in := at("/search")
	o.step(incident.Opened, in)
	o.expect("slack a1 1 opened")
	in.Identities, in.UsedToGetIn = 80, 80
	o.step(incident.Grew, in)
	o.expect("slack a1 2 grew", "pager a1 2 grew")
	o.step(incident.ResolvedKind, in)
	o.expect("slack a1 3 resolved", "pager a1 3 resolved")
}

// TestQuietHours: what can wait waits; what is open in the morning is told then, what
// came and went is one summary.
func TestQuietHours(t *testing.T) {
	c := shop()
	c.Teams[1].Timezone = "Europe/Berlin"
	c.Teams[1].Quiet = routing.Quiet{From: "19:00", To: "08:00", Days: []string{"sat", "sun"}, Below: incident.Critical}
	o := open(t, c)
	o.now = time.Date(2026, 11, 20, 18, 30, 0, 0, time.UTC) // Friday, 19:30 in Berlin
	gone, stays, urgent := at("/billing/upgrade"), at("/billing/plans"), at("/billing/refunds")
	gone.ID, stays.ID, urgent.ID = "gone", "stays", "urgent"
	o.step(incident.Opened, gone)
	o.step(incident.Opened, stays)
	// The pager of nobody in particular is told for growth as well, and waits too.
	o.expect()
	urgent.Identities, urgent.UsedToGetIn = 900, 900
	o.step(incident.Opened, urgent)
	o.expect("slack#growth urgent 1 opened calling S0123456789", "pager urgent 1 opened")
	o.pass(time.Hour, time.Minute)
	o.step(incident.ResolvedKind, gone)
	o.pass(36*time.Hour, 10*time.Minute)
	o.expect()
	o.now = time.Date(2026, 11, 23, 6, 59, 0, 0, time.UTC) // Monday, 07:59 in Berlin
	o.pass(30*time.Second, time.Second)
	o.expect()
	o.pass(time.Minute, time.Second)
	o.expect("slack#growth stays 1 opened", "pager stays 1 opened", "slack#growth 1 incident came and went for team growth while it was quiet")
	o.step(incident.ResolvedKind, stays)
	o.expect("slack#growth stays 2 resolved", "pager stays 2 resolved")
}

// TestQuietNoMore: an incident that gets urgent enough wakes people up.
func TestQuietNoMore(t *testing.T) {
	c := shop()
	c.Teams[1].Quiet = routing.Quiet{From: "00:00", To: "23:59", Below: incident.Critical}
	o := open(t, c)
	in := at("/billing/upgrade")
	o.step(incident.Opened, in)
	o.expect()
	in.Identities, in.UsedToGetIn = 900, 900
	o.step(incident.Grew, in)
	o.expect("slack#growth a1 2 grew calling S0123456789", "pager a1 2 grew")
	o.pass(24*time.Hour, time.Hour)
	o.expect()
}

// TestStorm: a thousand incidents in a minute are a handful of messages, and so are
// their recoveries.
func TestStorm(t *testing.T) {
	o := open(t, shop())
	ins := map[string]incident.Incident{}
	for i := range 1000 {
		in := at(fmt.Sprintf("/search/x%d", i))
		in.ID = fmt.Sprintf("i%04d", i)
		in.Identities, in.UsedToGetIn = int64(10+i%30), 10
		if i%2 == 0 {
			in.Identities, in.UsedToGetIn = 60, 60 // the pager takes these
		}
		ins[in.ID] = in
		o.step(incident.Opened, in)
	}
	var posts []alerts.Delivery
	pages := 0
	count := func() (alone int) {
		for _, d := range o.told {
			switch {
			case d.Sink == "pager":
				pages++
			case d.Sink != "slack":
			case d.Post != nil:
				posts = append(posts, d)
			default:
				alone++
			}
		}
		o.told = nil
		o.restart()
		return alone
	}
	if n := count(); n != 10 {
		t.Errorf("%d told one by one, want 10", n)
	}
	o.pass(2*time.Minute, time.Second)
	if n := count(); n != 0 || len(posts) != 1 {
		t.Fatalf("%d told one by one and %d posts, want one post", n, len(posts))
	}
	p := posts[0].Post
	if p.Headline != "990 more incidents for team platform within a minute" || len(p.Parts) != 1 || len(p.Parts[0].Lines) != 11 {
		t.Errorf("the post is %+v", p)
	}
	if l := p.Parts[0].Lines; !strings.HasPrefix(l[0], "/search/x10 refuses more people than usual (high, 60 people, i0010)") || l[10] != "and 980 others" {
		t.Errorf("named are %q", l)
	}
	for _, id := range slices.Sorted(maps.Keys(ins)) {
		o.step(incident.Grew, ins[id])
		o.step(incident.ResolvedKind, ins[id])
	}
	if n := count(); n != 20 {
		t.Errorf("%d told one by one, want the growth and end of the 10", n)
	}
	o.pass(2*time.Minute, time.Second)
	if n := count(); n != 0 || len(posts) != 2 || posts[1].Post.Headline != "990 incidents for team platform are over" {
		t.Errorf("%d told one by one, posts %+v", n, posts[1:])
	}
	if posts[0].Key == posts[1].Key {
		t.Errorf("both posts have the key %s", posts[0].Key)
	}
	if pages != 30 {
		t.Errorf("%d pages, want opening, growth and end of 10 incidents", pages)
	}
	o.pass(time.Hour, time.Minute)
	if n := count(); n != 0 || len(posts) != 2 {
		t.Errorf("afterwards %d and %d posts", n, len(posts))
	}
}

// TestStormEscalates: what nobody acknowledges of a storm escalates as a handful of
// messages too.
func TestStormEscalates(t *testing.T) {
	c := shop()
	c.Teams[0].Escalate = routing.Escalation{Medium: 15 * time.Minute, To: "security"}
	o := open(t, c)
	for i := range 500 {
		in := at(fmt.Sprintf("/search/x%d", i))
		in.ID = fmt.Sprintf("i%04d", i)
		o.step(incident.Opened, in)
	}
	o.told = nil
	o.pass(24*time.Hour, 30*time.Second)
	alone, posts := map[string]int{}, map[string]int{}
	for _, d := range o.told {
		if at := d.Sink + d.Target; d.Post != nil {
			posts[at]++
		} else {
			alone[at]++
		}
	}
	// The storm itself, and three escalations, of which each leaves ten to be told one
	// by one, beside those that were before.
	if alone["slack"] > 3*30 || posts["slack"] > 1+3 || alone["slack#sec"] > 3*30 || posts["slack#sec"] > 3 || posts["slack"] == 0 || posts["slack#sec"] == 0 {
		t.Errorf("told one by one %v, in posts %v", alone, posts)
	}
}

// TestFlapping: an incident that comes back again and again is told no more until it
// is steady.
func TestFlapping(t *testing.T) {
	o := open(t, shop())
	in := at("/search")
	o.step(incident.Opened, in)
	for range 10 {
		o.pass(3*time.Minute, time.Minute)
		o.step(incident.ResolvedKind, in)
		o.pass(2*time.Minute, time.Minute)
		o.step(incident.Reopened, in)
	}
	if n := o.last["a1"].Incident.Flapping; n != 11 {
		t.Errorf("flapping %d, want 11", n)
	}
	o.expect("slack a1 1 opened", "slack a1 2 resolved", "slack a1 3 reopened", "slack a1 4 resolved", "slack a1 5 reopened", "slack a1 6 resolved", "slack a1 7 reopened")
	o.step(incident.ResolvedKind, in)
	o.pass(29*time.Minute, time.Minute)
	o.expect()
	o.pass(time.Minute, time.Minute)
	o.expect("slack a1 22 resolved")
	o.step(incident.Reopened, in)
	o.expect("slack a1 23 reopened")
}

// TestPeopleAreShownWhileQuiet: what people do to an incident that flaps or is silenced is
// shown where it is known.
func TestPeopleAreShownWhileQuiet(t *testing.T) {
	o := open(t, shop())
	in := at("/search")
	ada := &incident.Act{By: "ada"}
	o.step(incident.Opened, in)
	for range 4 {
		o.pass(time.Minute, time.Minute)
		o.step(incident.ResolvedKind, in)
		o.step(incident.Reopened, in)
	}
	o.told = nil
	o.by(incident.ResolvedKind, in, ada)
	o.expect("slack a1 10 resolved")
	o.pass(2*time.Hour, time.Minute)
	o.expect() // nothing is new since
	o.by(incident.Reopened, in, ada)
	o.do(incident.Silenced, in, o.now.Add(time.Hour))
	o.by(incident.ResolvedKind, in, ada)
	o.by(incident.Reopened, in, ada)
	o.expect("slack a1 11 reopened", "slack a1 12 silenced", "slack a1 13 resolved", "slack a1 14 reopened")
	in.Identities, in.UsedToGetIn = 90, 90
	o.step(incident.Grew, in)
	o.expect()
}

// TestEscalation: what nobody acknowledges is told to another team, a bounded number of
// times.
func TestEscalation(t *testing.T) {
	c := shop()
	c.Teams[1].Escalate = routing.Escalation{High: 10 * time.Minute, Critical: 5 * time.Minute, To: "security"}
	o := open(t, c)
	in := at("/billing/upgrade")
	o.step(incident.Opened, in)
	o.expect("slack#growth a1 1 opened", "pager a1 1 opened")
	o.pass(9*time.Minute, time.Minute)
	o.expect()
	o.pass(time.Minute, time.Minute)
	o.expect("slack#growth a1 2 escalated", "pager a1 2 escalated", "slack#sec a1 2 escalated")
	o.pass(20*time.Minute, time.Minute)
	o.expect("slack#growth a1 3 escalated", "pager a1 3 escalated", "slack#sec a1 3 escalated")
	o.pass(40*time.Minute, time.Minute)
	o.expect("slack#growth a1 4 escalated", "pager a1 4 escalated", "slack#sec a1 4 escalated")
	o.pass(48*time.Hour, time.Hour)
	o.expect()
	o.step(incident.ResolvedKind, in)
	o.expect("slack#growth a1 5 resolved", "pager a1 5 resolved", "slack#sec a1 5 resolved")
	o.pass(48*time.Hour, time.Hour)
	o.expect()
}

// TestQuietly: the past is taken down and told to nobody, until it is asked for.
func TestQuietly(t *testing.T) {
	o := open(t, shop())
	in := at("/search")
	steps, ds := o.desk.Take(incident.Transition{Kind: incident.Opened, At: o.now, Incident: in}, o.now, true)
	if len(steps) != 1 || len(ds) != 0 {
		t.Fatalf("%d steps, %d deliveries", len(steps), len(ds))
	}
	o.told = o.desk.Tell(steps[0], o.now)
	o.expect("slack a1 1 opened")
	o.step(incident.ResolvedKind, in)
	o.expect("slack a1 2 resolved")
}

// TestAdopt: incidents of a state without a desk go on where they were told.
func TestAdopt(t *testing.T) {
	o := open(t, shop())
	in := at("/billing/upgrade")
	o.desk.Adopt(&incident.Transition{Seq: 7, Kind: incident.Grew, Incident: in})
	o.step(incident.ResolvedKind, in)
	o.expect("slack a1 8 resolved", "pager a1 8 resolved")
	o.desk.Forget("a1")
	o.restart()
	if len(o.store) != 0 {
		t.Errorf("left behind: %v", slices.Collect(maps.Keys(o.store)))
	}
}

// do lets a person do something.
func (o *office) do(kind incident.Kind, in incident.Incident, until time.Time) {
	o.by(kind, in, &incident.Act{By: "ada", Until: until})
}

// by lets somebody, or nobody, do something to an incident.
func (o *office) by(kind incident.Kind, in incident.Incident, act *incident.Act) {
	in.State = incident.Open
	if kind == incident.ResolvedKind {
		in.State, in.Resolution = incident.Resolved, incident.Recovered
	}
	steps, ds := o.desk.Take(incident.Transition{Kind: kind, At: o.now, Incident: in, Act: act}, o.now, false)
	for _, s := range steps {
		o.last[in.ID] = s
	}
	o.told = append(o.told, ds...)
}

// TestAcknowledged: what somebody looks after does not escalate, until it comes back.
func TestAcknowledged(t *testing.T) {
	c := shop()
	c.Teams[1].Escalate = routing.Escalation{High: 10 * time.Minute, To: "security"}
	o := open(t, c)
	in := at("/billing/upgrade")
	o.step(incident.Opened, in)
	o.do(incident.Acknowledged, in, time.Time{})
	o.expect("slack#growth a1 1 opened", "pager a1 1 opened", "slack#growth a1 2 acknowledged", "pager a1 2 acknowledged")
	if by := o.last["a1"].Incident.Acknowledged; by == nil || by.By != "ada" {
		t.Errorf("acknowledged %+v", by)
	}
	o.pass(5*time.Hour, time.Minute)
	o.expect()
	o.step(incident.ResolvedKind, in)
	o.step(incident.Reopened, in)
	o.expect("slack#growth a1 3 resolved", "pager a1 3 resolved", "slack#growth a1 4 reopened", "pager a1 4 reopened")
	if by := o.last["a1"].Incident.Acknowledged; by != nil {
		t.Errorf("acknowledged though it came back: %+v", by)
	}
	o.pass(10*time.Minute, time.Minute)
	o.expect("slack#growth a1 5 escalated", "pager a1 5 escalated", "slack#sec a1 5 escalated")
}

// TestSilenced: a silenced incident is told only to be over, to those who know of it;
// when the silence ends it is told to everyone who should know.
func TestSilenced(t *testing.T) {
	o := open(t, shop())
	in := at("/search")
	o.step(incident.Opened, in)
	o.do(incident.Silenced, in, o.now.Add(time.Hour))
	o.expect("slack a1 1 opened", "slack a1 2 silenced")
	in.Identities, in.UsedToGetIn = 90, 90
	o.step(incident.Grew, in)
	o.expect()
	o.pass(59*time.Minute, time.Minute)
	o.expect()
	o.pass(time.Minute, time.Minute)
	o.expect("slack a1 4 unsilenced", "pager a1 4 unsilenced")
	o.do(incident.Silenced, in, o.now.Add(time.Hour))
	o.expect("slack a1 5 silenced", "pager a1 5 silenced")
	o.step(incident.ResolvedKind, in)
	o.expect("slack a1 6 resolved", "pager a1 6 resolved")
	o.pass(2*time.Hour, time.Minute)
	o.expect()
	if len(o.desk.Silences(o.now)) != 0 {
		t.Errorf("still silenced: %+v", o.desk.Silences(o.now))
	}
}

// TestSilencedScope: an incident that opens in a silenced scope is told when that is
// over, if it is open still; one that narrows out of it stays silenced.
func TestSilencedScope(t *testing.T) {
	o := open(t, shop())
	s := incident.Silencing{ID: "s1", Scope: &incident.Scope{Route: "/search/**"}, Act: incident.Act{By: "ada", Until: o.now.Add(time.Hour)}}
	if in, err := o.desk.Hush(s, nil); err != nil || len(in) != 0 {
		t.Fatal(in, err)
	}
	o.restart()
	gone, stays, other := at("/search/a"), at("/search/b"), at("/find")
	gone.ID, stays.ID, other.ID = "gone", "stays", "other"
	o.step(incident.Opened, gone)
	o.step(incident.Opened, stays)
	o.step(incident.Opened, other)
	o.step(incident.ResolvedKind, gone)
	o.expect("slack other 1 opened")
	if got := o.desk.Silences(o.now); len(got) != 1 || got[0].ID != "s1" {
		t.Errorf("silences %+v", got)
	}
	o.pass(time.Hour, time.Minute)
	o.expect("slack stays 2 unsilenced")
	if got := o.desk.Silences(o.now); len(got) != 0 {
		t.Errorf("silences %+v", got)
	}
	if in, err := o.desk.Hush(s, nil); err != nil || len(in) != 0 {
		t.Fatal(in, err)
	}
	if _, ok := o.desk.Unhush("s1"); !ok {
		t.Error("it cannot be taken back")
	}
	if _, ok := o.desk.Unhush("s1"); ok {
		t.Error("it can be taken back twice")
	}
}

// TestSilencesOfBothSorts: a silence of an incident for itself outlives that of its
// scope, and one that was taken back does not come back with the next step.
func TestSilencesOfBothSorts(t *testing.T) {
	o := open(t, shop())
	in := at("/search/a")
	s := incident.Silencing{ID: "s1", Scope: &incident.Scope{Route: "/search/**"}, Act: incident.Act{By: "bob", Until: o.now.Add(time.Hour)}}
	if _, err := o.desk.Hush(s, nil); err != nil {
		t.Fatal(err)
	}
	o.step(incident.Opened, in)
	o.do(incident.Silenced, in, o.now.Add(3*time.Hour))
	o.expect()
	o.pass(2*time.Hour, time.Minute)
	o.expect()
	o.pass(time.Hour, time.Minute)
	o.expect("slack a1 3 unsilenced")

	s.Act.Until = o.now.Add(time.Hour)
	if _, err := o.desk.Hush(s, nil); err != nil {
		t.Fatal(err)
	}
	o.step(incident.Grew, in)
	o.expect()
	o.do(incident.Unsilenced, in, time.Time{})
	o.step(incident.Grew, in)
	o.expect("slack a1 5 unsilenced", "slack a1 6 grew")
	o.step(incident.ResolvedKind, in)
	o.step(incident.Reopened, in)
	o.expect("slack a1 7 resolved")
}
