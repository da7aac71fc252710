package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/sim"
	"github.com/denywatch/denywatch/internal/state"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/web"
)

// listener is a sink that takes down what it is told.
type listener struct {
	mu  sync.Mutex
	got []alerts.Delivery
}

// Notify implements alerts.Notifier.
func (l *listener) Notify(_ context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, *d)
	return nil, nil
}

// Post implements alerts.Poster.
func (l *listener) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	return l.Notify(ctx, d)
}

// office is a core with a store, a sink and an API, whose incidents came from a
// simulation and whose clock stands still.
type office struct {
	t     *testing.T
	dir   string
	cfg   *configs.Config
	at    atomic.Int64 // by the clock, ns
	d     *Daemon
	sink  *listener
	stop  func()
	store *state.Store
}

// now is what the clock says, set sets it.
func (o *office) now() time.Time    { return time.Unix(0, o.at.Load()).UTC() }
func (o *office) set(now time.Time) { o.at.Store(now.UnixNano()) }

// open goes on with a core, or with what its state folder holds if that is nil.
func (o *office) open(c *core) {
	o.t.Helper()
	var err error
	log := slog.New(slog.DiscardHandler)
	load := func(s *state.Store) error {
		if c != nil {
			return nil
		}
		clock := collect.NewClock(nil)
		c = newCore(slots.Config{Step: o.cfg.Slot}, o.cfg.Detection.Judge, clock, log)
		return c.load(s)
	}
	if o.store, err = state.Open(o.dir, log, load); err != nil {
		o.t.Fatal(err)
	}
	c.clock.Now = func() int64 { return o.at.Load() }
	c.store, c.in = o.store, make(chan *tally.Block)
	for _, id := range c.order { // what the simulation found is not durable yet
		c.fresh = append(c.fresh, c.timelines[id]...)
	}
	c.born = o.now().Add(-30 * 24 * time.Hour)
	o.sink = new(listener)
	o.d = &Daemon{log: log, opt: Options{Log: log, Now: o.now}, store: o.store, core: c, meters: newMeters(), cfg: o.cfg}
	if err := o.d.newOutbox(map[string]alerts.Notifier{configs.ConsoleSink: o.sink}, ""); err != nil {
		o.t.Fatal(err)
	}
	c.route(o.cfg)
	ctx, cancel := context.WithCancel(o.t.Context())
	o.d.startOutbox(ctx)
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	o.stop = func() {
		cancel()
		close(c.in)
		if err := <-done; err != nil {
			o.t.Error(err)
		}
		o.d.notify.stop()
		if err := o.store.Close(); err != nil {
			o.t.Error(err)
		}
	}
}

// restart stops everything and begins anew from the state.
func (o *office) restart() {
	o.t.Helper()
	o.stop()
	o.open(nil)
}

// one is the only incident.
func (o *office) one() incident.Incident {
	o.t.Helper()
	list, err := backend{o.d}.Incidents(o.t.Context())
	if err != nil || len(list) != 1 {
		o.t.Fatalf("%d incidents, %v", len(list), err)
	}
	return list[0]
}

// steps are the kinds of the incident's time line, numbered.
func (o *office) steps() []incident.Kind {
	o.t.Helper()
	line, err := backend{o.d}.Timeline(o.t.Context(), o.one().ID)
	if err != nil {
		o.t.Fatal(err)
	}
	var kinds []incident.Kind
	for i, t := range line {
		if t.Seq != i+1 {
			o.t.Errorf("step %d has number %d", i+1, t.Seq)
		}
		kinds = append(kinds, t.Kind)
	}
	return kinds
}

// broken is an office whose role has been refused for half an hour, and the core to
// open it with.
func broken(t *testing.T) (*office, *core) {
	t.Helper()
	sc := brokenRole(5)
	sc.End, sc.Rate = sc.Incidents[0].From.Add(30*time.Minute), 2
	_, app := simulate(t, sc)
	_, c := pipeline(t, []feed{app}, nil, nil)
	o := &office{t: t, dir: t.TempDir(), cfg: configs.Default()}
	o.set(sc.End)
	return o, c
}

// TestActsAreDurable: what people decide is in the time line and in the state, is told
// to those who know of the incident, and an accepted one is over.
func TestActsAreDurable(t *testing.T) {
	o, c := broken(t)
	o.open(c)
	id := o.one().ID
	before := o.steps()
	act := func(verb incident.Verb, a incident.Act) error {
		t.Helper()
		return backend{o.d}.Act(t.Context(), id, verb, a)
	}
	ada := incident.Act{By: "ada", ID: "U1", Via: "slack"}
	for range 2 { // a second click changes nothing
		if err := act(incident.Acknowledge, ada); err != nil {
			t.Fatal(err)
		}
	}
	o.restart()
	if in := o.one(); in.Acknowledged == nil || in.Acknowledged.By != "ada" || !in.Acknowledged.At.Equal(o.now()) {
		t.Errorf("acknowledged %+v", in.Acknowledged)
	}
	until := o.now().Add(time.Hour)
	if err := act(incident.Silence, incident.Act{By: "bob", Via: "api", Until: until}); err != nil {
		t.Fatal(err)
	}
	if err := act(incident.Silence, incident.Act{Until: o.now().Add(-time.Hour)}); !errors.Is(err, web.ErrBadSilence) {
		t.Errorf("a silence that ended: %v", err)
	}
	o.restart()
	if in := o.one(); in.Silenced == nil || !in.Silenced.Until.Equal(until) {
		t.Errorf("silenced %+v", in.Silenced)
	}
	if list, err := (backend{o.d}).Silences(t.Context()); err != nil || len(list) != 1 || list[0].Incident != id {
		t.Errorf("silences %+v, %v", list, err)
	}
	if err := (backend{o.d}).Unsilence(t.Context(), id, ada); err != nil {
		t.Fatal(err)
	}
	if err := act("explode", ada); err == nil {
		t.Error("there is no such verb")
	}
	if err := (backend{o.d}).Act(t.Context(), "nobody", incident.Accept, ada); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("an unknown incident: %v", err)
	}
	if err := act(incident.Dismiss, ada); err != nil {
		t.Fatal(err)
	}
	o.restart()
	in := o.one()
	if in.State != incident.Resolved || in.Resolution != incident.Dismissed || in.Silenced != nil {
		t.Errorf("after it was dismissed: %+v", in)
	}
	if err := act(incident.Acknowledge, ada); !errors.Is(err, web.ErrOver) {
		t.Errorf("acknowledged after the end: %v", err)
	}
	want := append(before, incident.Acknowledged, incident.Silenced, incident.Unsilenced, incident.ResolvedKind)
	if got := o.steps(); !slices.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	// It was a problem after all.
	grace := incident.Act{By: "grace", Via: "api"}
	for range 2 {
		if err := act(incident.Reopen, grace); err != nil {
			t.Fatal(err)
		}
	}
	o.restart()
	in = o.one()
	if in.State != incident.Open || in.Resolution != "" || in.ResolvedAt != nil || in.Acknowledged != nil {
		t.Errorf("after it was opened again: %+v", in)
	}
	line, err := backend{o.d}.Timeline(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if last := line[len(line)-1]; last.Kind != incident.Reopened || last.Act == nil || last.Act.By != "grace" || !last.At.Equal(o.now()) || len(line) != len(want)+1 {
		t.Errorf("the last of %d steps is %+v", len(line), last)
	}
	o.stop()
}

// TestMergedIncidentsAreOne: of two incidents that somebody calls one, the one is over and
// the other has the numbers of both, over restarts, until they are parted again.
func TestMergedIncidentsAreOne(t *testing.T) {
	sc := brokenRole(5)
	first := sc.Incidents[0]
	sc.Incidents = append(sc.Incidents, first)
	sc.Incidents[1].Scope = sim.Scope{Route: "/search", Role: "editor"}
	sc.Incidents[1].From = first.From.Add(10 * time.Minute)
	sc.End, sc.Rate = first.From.Add(40*time.Minute), 4
	_, app := simulate(t, sc)
	_, c := pipeline(t, []feed{app}, nil, nil)
	o := &office{t: t, dir: t.TempDir(), cfg: configs.Default()}
	o.set(sc.End)
	o.open(c)
	open := func() (list []incident.Incident) {
		t.Helper()
		all, err := backend{o.d}.Incidents(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(in incident.Incident) bool { return in.State != incident.Open })
	}
	two := open()
	if len(two) != 2 {
		t.Fatalf("%d are open: %+v", len(two), two)
	}
	guest, host := two[0], two[1]
	if list, err := (backend{o.d}).Mergeable(t.Context(), guest.ID); err != nil || len(list) != 1 || list[0].ID != host.ID {
		t.Errorf("it can be merged into %+v, %v", list, err)
	}
	act := func(id string, verb incident.Verb, other string) error {
		return backend{o.d}.Act(t.Context(), id, verb, incident.Act{By: "ada", Via: "cli", Other: other})
	}
	for other, want := range map[string]error{"nobody": web.ErrNotFound, guest.ID: web.ErrUnfit} {
		if err := act(guest.ID, incident.Merge, other); !errors.Is(err, want) {
			t.Errorf("merged into %s: %v", other, err)
		}
	}
	for range 2 { // a second click changes nothing
		if err := act(guest.ID, incident.Merge, host.ID); err != nil {
			t.Fatal(err)
		}
	}
	o.restart()
	one := open()
	if len(one) != 1 || one[0].ID != host.ID || len(one[0].Merged) != 1 || one[0].Merged[0].ID != guest.ID || one[0].Merged[0].Scope != guest.Scope ||
		one[0].Requests != guest.Requests+host.Requests || one[0].Denials != guest.Denials+host.Denials || one[0].Identities <= host.Identities {
		t.Errorf("after the merge %+v", one)
	}
	if err := act(guest.ID, incident.Acknowledge, ""); !errors.Is(err, web.ErrOver) {
		t.Errorf("acknowledged though it is merged: %v", err)
	}
	steps := func(id string) string {
		t.Helper()
		line, err := backend{o.d}.Timeline(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, x := range line {
			if x.Act != nil {
				words = append(words, string(x.Kind)+" "+x.Act.By+" "+x.Act.Other)
			}
		}
		return strings.Join(words, ", ")
	}
	if err := act(guest.ID, incident.Reopen, ""); err != nil {
		t.Fatal(err)
	}
	o.restart()
	if two := open(); len(two) != 2 || two[0].Requests != guest.Requests || two[1].Requests != host.Requests || two[0].MergedInto != "" || two[1].Merged != nil {
		t.Errorf("parted again: %+v", two)
	}
	if got, want := steps(guest.ID), "resolved ada "+host.ID+", reopened ada "+host.ID; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if got, want := steps(host.ID), "merged ada "+guest.ID+", split ada "+guest.ID; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	o.stop()
}

// TestSilencedScope: what is in a silenced scope is not told, and is when that is over.
func TestSilencedScope(t *testing.T) {
	o, c := broken(t)
	o.open(c)
	b := backend{o.d}
	for _, scope := range []incident.Scope{{}, {Route: "billing"}, {Layer: "moon"}, {Route: "/a", Prefix: "/a"}} {
		if _, err := b.Silence(t.Context(), scope, incident.Act{Until: o.now().Add(time.Hour)}); !errors.Is(err, web.ErrBadSilence) {
			t.Errorf("%+v: %v", scope, err)
		}
	}
	s, err := b.Silence(t.Context(), incident.Scope{Prefix: "/projects/"}, incident.Act{By: "ada", Via: "api", Until: o.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if in := o.one(); in.Silenced == nil || in.Silenced.By != "ada" {
		t.Errorf("the open incident is not silenced: %+v", in)
	}
	o.restart()
	b = backend{o.d}
	if list, err := b.Silences(t.Context()); err != nil || len(list) != 1 || list[0].ID != s.ID || list[0].Scope.Prefix != "/projects/" {
		t.Errorf("silences %+v, %v", list, err)
	}
	if err := b.Unsilence(t.Context(), s.ID, incident.Act{By: "bob", Via: "api"}); err != nil {
		t.Fatal(err)
	}
	if in := o.one(); in.Silenced != nil {
		t.Errorf("still silenced: %+v", in.Silenced)
	}
	if kinds := o.steps(); kinds[len(kinds)-1] != incident.Unsilenced {
		t.Errorf("steps %v", kinds)
	}
	if err := b.Unsilence(t.Context(), s.ID, incident.Act{}); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("taken back twice: %v", err)
	}
	o.stop()
}

// TestDescribeTimeline: an incident is shown as it is, with who decided what.
func TestDescribeTimeline(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 4, 0, 0, time.UTC)
	end := at.Add(20 * time.Minute)
	ada := &incident.Act{By: "ada\x1b[2J", Via: "cli", At: end, Until: end}
	in := incident.Incident{ID: "ab12", State: incident.Open, Direction: incident.Up, Severity: incident.High, StartedAt: at, OpenedAt: at,
		Scope: incident.Scope{Route: "/billing/upgrade", Role: "member"}, ObservedRate: 0.6, ExpectedRate: 0.004, Identities: 12, Acknowledged: ada, Silenced: ada}
	line := []incident.Transition{{Seq: 1, Kind: incident.Opened, At: at, Incident: in}, {Seq: 2, Kind: incident.Acknowledged, At: at.Add(time.Minute), Act: ada, Incident: in}}
	const open = `● Tue 24 Nov 10:04  /billing/upgrade refuses role member  high
  60 % of their requests are refused (usually 0.4 %). 12 people.
  Started 10:04 UTC.
  Likely: role or entitlement mismatch. Next: compare the permission check of this route before and after 10:04.
  Acknowledged by ada [2J. Silenced by ada [2J until 24 Nov 10:24.

  Tue 24 Nov 10:04  opened: 12 people
  Tue 24 Nov 10:05  acknowledged by ada [2J
`
	if got := DescribeTimeline(&in, line, false); got != open {
		t.Errorf("got\n%s", got)
	}
	in.State, in.Resolution, in.ResolvedAt = incident.Resolved, incident.Dismissed, &end
	line = append(line, incident.Transition{Seq: 3, Kind: incident.ResolvedKind, At: end, Act: ada, Incident: in})
	const over = `○ Tue 24 Nov 10:24  Not a problem: how /billing/upgrade treats role member
  Called not a problem by ada [2J after 20 min. 60 % of their requests were refused (usually 0.4 %).

  Tue 24 Nov 10:04  opened: 12 people
  Tue 24 Nov 10:05  acknowledged by ada [2J
  Tue 24 Nov 10:24  called not a problem by ada [2J after 20 min
`
	if got := DescribeTimeline(&in, line, false); got != over {
		t.Errorf("got\n%s", got)
	}
	if got := DescribeIncidents([]incident.Incident{in}, false); got != "○ Tue 24 Nov 10:04 – 10:24  Not a problem: how /billing/upgrade treats role member  ab12 · not a problem\n" {
		t.Errorf("got %s", got)
	}
	// Somebody accepted it, so nothing is said of a day.
	in.Resolution = incident.Accepted
	if got := DescribeIncidents([]incident.Incident{in}, false); got != "○ Tue 24 Nov 10:04 – 10:24  The new normal: how /billing/upgrade treats role member  ab12 · new normal\n" {
		t.Errorf("got %s", got)
	}
}

// posts are the posts that the sink was told.
func (l *listener) posts() (out []*alerts.Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.got {
		if d.Post != nil {
			out = append(out, d.Post)
		}
	}
	return out
}

// TestDigestIsToldOnce: a digest tells what happened since the last one, once, also
// when nobody ran at its time; the very first only begins.
func TestDigestIsToldOnce(t *testing.T) {
	o, c := broken(t)
	o.cfg.Routing.Digest.Daily = o.now().Add(30 * time.Minute).Format("15:04")
	o.open(c)
	look := func() { // as the core does every second
		t.Helper()
		if err := o.d.core.post(t.Context(), func() {
			o.d.core.digests(o.now())
			if err := o.d.core.cut(); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	look()
	o.set(o.now().Add(29 * time.Minute))
	look()
	if n := len(o.sink.posts()); n != 0 {
		t.Fatalf("%d digests before the first is due", n)
	}
	o.restart()
	o.set(o.now().Add(3 * time.Hour))
	for range 3 {
		look()
	}
	await(t, "the digest", func() bool { return len(o.sink.posts()) == 1 })
	p := o.sink.posts()[0]
	if p.Headline != "1 incident, 1 open now, Mon 16 Nov 10:00 to Tue 17 Nov 10:00" || len(p.Parts) < 2 || !strings.Contains(p.Parts[1].Lines[0], "/projects/{id} refuses role member") {
		t.Errorf("the digest is %+v", p)
	}
	o.restart()
	look()
	if n := len(o.sink.posts()); n != 0 {
		t.Errorf("%d more after a restart", n)
	}
	// Four days without anybody: one digest, of all of them.
	o.set(o.now().AddDate(0, 0, 4))
	o.restart()
	look()
	await(t, "the late digest", func() bool { return len(o.sink.posts()) == 1 })
	// Whether four days without a line were judged before it was written is chance.
	if got := o.sink.posts()[0].Headline; !strings.HasPrefix(got, "1 incident, ") || !strings.HasSuffix(got, " open now, Tue 17 Nov 10:00 to Sat 21 Nov 10:00") {
		t.Errorf("the late digest is %s", got)
	}
	o.stop()
}

// TestFirstDigest: the first digest is of the time since denywatch was born, and says so.
func TestFirstDigest(t *testing.T) {
	o, c := broken(t)
	o.cfg.Routing.Digest.Daily = o.now().Add(30 * time.Minute).Format("15:04")
	o.open(c)
	o.d.core.do(t, func(c *core) { c.born = o.now().Add(-10 * time.Minute); c.digests(o.now()) })
	o.set(o.now().Add(31 * time.Minute))
	o.d.core.do(t, func(c *core) {
		c.digests(o.now())
		if err := c.cut(); err != nil {
			t.Error(err)
		}
	})
	await(t, "the digest", func() bool { return len(o.sink.posts()) == 1 })
	p := o.sink.posts()[0]
	if p.Headline != "1 incident, 1 open now, Tue 17 Nov 09:20 to Tue 17 Nov 10:00" || !slices.Contains(p.Parts[0].Lines, "This is the first one: it begins when denywatch did") {
		t.Errorf("the digest is %+v", p)
	}
	o.stop()
}

// do runs f on the core's goroutine.
func (c *core) do(t *testing.T, f func(*core)) {
	t.Helper()
	if err := c.post(t.Context(), func() { f(c) }); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsAnsweredAfterTheStop: whoever asks then is told to come again.
func TestNothingIsAnsweredAfterTheStop(t *testing.T) {
	o, c := broken(t)
	o.open(c)
	o.stop()
	if _, err := (backend{o.d}).Incidents(t.Context()); !errors.Is(err, web.ErrStopping) {
		t.Errorf("%v", err)
	}
	if err := (backend{o.d}).Act(t.Context(), "a1", incident.Accept, incident.Act{}); !errors.Is(err, web.ErrStopping) {
		t.Errorf("%v", err)
	}
}

// await waits for what happens soon on another goroutine.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}
