package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testParser reads "SECONDS STATUS PATH [USER]".
type testParser struct{}

func (testParser) Parse(line []byte, e *event.Event) error {
	f := bytes.Fields(line)
	if len(f) < 3 {
		return parsers.ErrShort
	}
	sec, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return parsers.ErrTime
	}
	st, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return parsers.ErrStatus
	}
	e.Time, e.Status, e.Path, e.Client = sec*int64(time.Second), uint16(st), f[2], []byte("192.0.2.1")
	if len(f) > 3 {
		e.User = f[3]
	}
	return nil
}

// rig is a stream with somebody who takes its blocks.
type rig struct {
	clock *Clock
	out   chan *tally.Block
	seen  chan int64 // Newest of each block
	acks  chan tally.Block
	host  *Host
	h     ingest.Handler
	at    int64
	lines map[string]uint32 // by "slot route status"
	keys  []tally.Key
	stats tally.Stats

	reasons map[string]uint64
	health  map[int64][2]uint64 // lines and blind ones by slot
	// what was counted, of all blocks
	leaves []tally.LeafCount
	splits []tally.Split
	hits   []tally.Hit
	flags  map[string][2]uint32    // requests and denials by "route flag"
	unseen map[string]tally.Unseen // by route
}

func newRig(t *testing.T, now func() int64, change func(*Config)) *rig {
	t.Helper()
	r, _ := route.New(nil)
	c := &Config{
		Source: "s", Service: "shop", Vantage: event.App, Step: 60, Routes: r, Identity: FixedIdentityKey(), Role: true, Geo: true,
		NewParser: func(string, [][]byte) (parsers.Parser, error) { return testParser{}, nil },
		Log:       slog.New(slog.DiscardHandler),
	}
	c.Denied[403], c.Denied[401] = true, true
	if change != nil {
		change(c)
	}
	g := &rig{clock: NewClock(now), out: make(chan *tally.Block), lines: map[string]uint32{}, reasons: map[string]uint64{}, health: map[int64][2]uint64{}, flags: map[string][2]uint32{}, unseen: map[string]tally.Unseen{}}
	g.seen, g.acks = make(chan int64, 1000), make(chan tally.Block)
	go g.pump()
	t.Cleanup(func() { close(g.out) })
	g.host = NewHost(c, nil, nil, g.clock, &Names{}, g.out)
	var err error
	if g.h, _, err = g.host.Open(context.Background(), "f"); err != nil {
		t.Fatal(err)
	}
	return g
}

// batch delivers lines; the position goes on where the last batch ended.
func (g *rig) batch(ctx context.Context, lines ...string) error {
	data := []byte(strings.Join(lines, "\n") + "\n")
	b := &ingest.Batch{Data: data, Start: ingest.Position{Offset: g.at}, End: ingest.Position{Offset: g.at + int64(len(data))}}
	err := g.h.Batch(ctx, b)
	if err == nil {
		g.at = b.End.Offset
	}
	return err
}

// pump takes blocks as the detector does.
func (g *rig) pump() {
	var last tally.Block
	for b := range g.out {
		if b.Ready {
			g.acks <- last
			continue
		}
		g.take(b)
		last = *b
		b.Release()
		g.seen <- last.Newest
	}
}

// drain waits until all blocks are taken and returns the last.
func (g *rig) drain() tally.Block {
	g.out <- &tally.Block{Ready: true}
	return <-g.acks
}

func (g *rig) take(b *tally.Block) {
	if b.Reset {
		g.keys = nil
	}
	g.keys = append(g.keys, b.Keys...)
	g.stats.Add(&b.Stats)
	for _, u := range b.Uncounted {
		g.reasons[u.Reason] += u.N
	}
	for _, h := range b.Health {
		x := g.health[h.Slot]
		g.health[h.Slot] = [2]uint64{x[0] + h.Lines, x[1] + h.Blind}
	}
	for _, d := range b.Slots {
		g.leaves = append(g.leaves, d.Leaves...)
		g.splits = append(g.splits, d.Splits...)
		g.hits = append(g.hits, d.Hits...)
		for _, f := range d.Flags {
			k := g.keys[f.Leaf].Route + " " + f.Flag
			g.flags[k] = [2]uint32{g.flags[k][0] + f.Requests, g.flags[k][1] + f.Denied}
		}
		for _, l := range d.Unseen {
			u := g.unseen[g.keys[l.Leaf].Route]
			u.Add(&l.Unseen)
			g.unseen[g.keys[l.Leaf].Route] = u
		}
		for _, l := range d.Leaves {
			for st, n := range l.Status {
				if n > 0 {
					g.lines[fmt.Sprint(d.Slot, " ", g.keys[l.Leaf].Route, " ", tally.Status(st))] += n
				}
			}
		}
	}
}

func TestCountsAndPositions(t *testing.T) {
	ctx := context.Background()
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	if err := g.batch(ctx, "600 200 /a/1", "601 403 /a/2", "junk", "661 200 /b"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	last := g.drain()
	if last.State != tally.CaughtUp || last.Position.Offset != g.at {
		t.Fatalf("last block %+v", last)
	}
	want := map[string]uint32{"600 /a/{id} 2xx": 1, "600 /a/{id} 403": 1, "660 /b 2xx": 1}
	if fmt.Sprint(g.lines) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", g.lines, want)
	}
	if g.stats.Lines != 4 || g.stats.Unparsed != 1 || g.stats.Bytes != uint64(g.at) {
		t.Fatalf("stats %+v", g.stats)
	}
}

// TestFlagsAndVersions: flags and versions are counted beside the leaves, and no
// flag can pass for a version.
func TestFlagsAndVersions(t *testing.T) {
	ctx := context.Background()
	g := newRig(t, nil, func(c *Config) {
		f, err := parsers.Compile(parsers.Config{Format: "json"})
		if err != nil {
			t.Fatal(err)
		}
		c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return f.New(), nil }
	})
	g.clock.Move(1 << 62)
	for i := range 2 {
		at := fmt.Sprintf("2026-03-02T10:00:0%dZ", i)
		if err := g.batch(ctx,
			fmt.Sprintf(`{"time":"%s","method":"GET","path":"/a","status":200,"service.version":"v1","flags":["new"]}`, at),
			fmt.Sprintf(`{"time":"%s","method":"GET","path":"/a","status":403,"service.version":"v2","flags":["new","\u0000version v3"]}`, at),
			fmt.Sprintf(`{"time":"%s","method":"GET","path":"/b","status":200,"service":{"version":"v2"}}`, at),
		); err != nil {
			t.Fatal(err)
		}
		if err := g.h.CaughtUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	g.drain()
	want := map[string][2]uint32{
		"/a new": {4, 2}, "/a \x00version v1": {2, 0}, "/a \x00version v2": {2, 2}, "/b \x00version v2": {2, 0},
	}
	for k, n := range g.flags {
		if w, ok := want[k]; ok && w != n || !ok && strings.Contains(k, "\x00") {
			t.Errorf("%q: %v, want %v", k, n, w)
		}
		delete(want, k)
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v of %v", want, g.flags)
	}
}

// TestVersionsFade: after more versions than have names the newest one has its own, and
// so have a flag and a version that were there all the time; it does not matter how the
// lines were cut into batches.
func TestVersionsFade(t *testing.T) {
	ctx := context.Background()
	count := func(batch int) map[string][2]uint32 {
		g := newRig(t, nil, func(c *Config) {
			f, err := parsers.Compile(parsers.Config{Format: "json"})
			if err != nil {
				t.Fatal(err)
			}
			c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return f.New(), nil }
		})
		g.clock.Move(1 << 62)
		start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
		var lines []string
		for i := range 3 * maxFlags {
			at := start.Add(time.Duration(i) * 20 * time.Second).Format(time.RFC3339)
			lines = append(lines,
				fmt.Sprintf(`{"time":"%s","method":"GET","path":"/a","status":200,"service.version":"build-%d","flags":["new"]}`, at, i),
				fmt.Sprintf(`{"time":"%s","method":"GET","path":"/a","status":403,"service.version":"v1"}`, at))
		}
		for c := range slices.Chunk(lines, batch) {
			if err := g.batch(ctx, c...); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.h.CaughtUp(ctx); err != nil {
			t.Fatal(err)
		}
		g.drain()
		return g.flags
	}
	got := count(500)
	newest := fmt.Sprintf("/a \x00version build-%d", 3*maxFlags-1)
	if got[newest] != [2]uint32{1, 0} || got["/a new"] != [2]uint32{3 * maxFlags, 0} || got["/a \x00version v1"][1] < 3*maxFlags-10 {
		t.Errorf("the newest %v, flag %v, v1 %v, others %v", got[newest], got["/a new"], got["/a \x00version v1"], got["/a "+tally.Other])
	}
	if same := count(7); !maps.Equal(got, same) {
		t.Error("other batches count otherwise")
	}
}

// TestParksInTheMiddleOfABlock: a stream waits in front of the line that lies
// beyond the horizon; what it had read is handed over with a position before it.
func TestParksInTheMiddleOfABlock(t *testing.T) {
	g := newRig(t, nil, nil)
	g.clock.Move(10_000 * int64(time.Second))
	first := "9990 200 /a\n9991 200 /a\n"
	done := make(chan error, 1)
	go func() {
		done <- g.batch(context.Background(), "9990 200 /a", "9991 200 /a", "10001 200 /b", "10002 200 /b")
	}()
	for newest := int64(0); newest != 10_001*int64(time.Second); {
		newest = <-g.seen
	}
	if last := g.drain(); last.Position.Offset != int64(len(first)) {
		t.Fatalf("parked at offset %d, want %d", last.Position.Offset, len(first))
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	g.clock.Move(11_000 * int64(time.Second))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := g.h.Close(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	g.drain()
	if g.stats.Lines != 4 {
		t.Fatalf("%d lines", g.stats.Lines)
	}
}

func TestParkedStreamStops(t *testing.T) {
	g := newRig(t, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.batch(ctx, "600 200 /a", "601 200 /a", "602 200 /a") }()
	<-g.seen // opened
	<-g.seen // parked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := g.h.Close(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	last := g.drain()
	// One line waits to be believed, so the second one parked.
	if last.Position.Offset != int64(len("600 200 /a\n")) || g.stats.Lines != 1 {
		t.Fatalf("stopped at %d with %d lines", last.Position.Offset, g.stats.Lines)
	}
	if _, pos, err := g.host.Open(context.Background(), "f"); err != nil || pos.Offset != last.Position.Offset {
		t.Fatalf("opened again at %d, %v", pos.Offset, err)
	}
}

// TestPositionsThatCountLines: a parked stream of numbered lines stops at the number
// of the line that it did not count.
func TestPositionsThatCountLines(t *testing.T) {
	g := newRig(t, nil, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- g.h.Batch(ctx, &ingest.Batch{
			Lines: [][]byte{[]byte("600 200 /a"), []byte("601 200 /a"), []byte("602 200 /a")},
			Start: ingest.Position{Offset: 40}, End: ingest.Position{Offset: 43},
		})
	}()
	<-g.seen // opened
	<-g.seen // parked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := g.h.Close(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if last := g.drain(); last.Position.Offset != 41 || g.stats.Lines != 1 {
		t.Fatalf("stopped at %d with %d lines", last.Position.Offset, g.stats.Lines)
	}
}

// TestOneWildTime: a single damaged time stamp does not move event time on.
func TestOneWildTime(t *testing.T) {
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	if err := g.batch(context.Background(), "600 200 /a", "601 200 /a", "99999999 200 /a", "602 200 /a"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last := g.drain(); last.Newest != 602*int64(time.Second) || g.stats.Lines != 4 {
		t.Fatalf("newest %d, %d lines", last.Newest/int64(time.Second), g.stats.Lines)
	}
	// A gap in the log is no damage: the second line confirms it.
	if err := g.batch(context.Background(), "90000 200 /a", "90001 200 /a"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last := g.drain(); last.Newest < 90_000*int64(time.Second) {
		t.Fatalf("newest %d", last.Newest/int64(time.Second))
	}
}

func TestFutureLines(t *testing.T) {
	g := newRig(t, func() int64 { return 6000 * int64(time.Second) }, nil)
	g.clock.Move(1 << 62)
	if err := g.batch(context.Background(), "5990 200 /a", "5991 200 /a", "7000 200 /a", "99999 200 /a"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	last := g.drain()
	if last.Newest != 5990*int64(time.Second) || g.stats.Future != 1 || g.lines["6960 /a 2xx"] != 1 {
		t.Fatalf("newest %d, stats %+v, %v", last.Newest/int64(time.Second), g.stats, g.lines)
	}
}

func TestClosing(t *testing.T) {
	for _, forget := range []bool{true, false} {
		g := newRig(t, nil, nil)
		if err := g.h.Close(context.Background(), forget); err != nil {
			t.Fatal(err)
		}
		last := g.drain()
		want := tally.Unknown // it may have more to say
		if forget {
			want = tally.Ended
		}
		if last.State != want || last.Forget != forget {
			t.Fatalf("forget %v: state %v, forget %v", forget, last.State, last.Forget)
		}
	}
}

// TestLeave: a stream that another process reads from now on holds nothing back, and
// goes on where it was when it comes back.
func TestLeave(t *testing.T) {
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	if err := g.batch(context.Background(), "600 200 /a"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	if last := g.drain(); last.State != tally.Ended || last.Forget || last.Position.Offset != g.at {
		t.Fatalf("%v at %d", last.State, last.Position.Offset)
	}
	if _, pos, err := g.host.Open(context.Background(), "f"); err != nil || pos.Offset != g.at {
		t.Fatalf("opened again at %d, %v", pos.Offset, err)
	}
}

// TestStreamsAreUnique: a file that two sources match is counted once.
func TestStreamsAreUnique(t *testing.T) {
	ctx := context.Background()
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	second, _, err := NewHost(g.host.config, nil, nil, g.clock, g.host.names, g.out).Open(ctx, "f")
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("600 200 /a\n")
	if err := second.Batch(ctx, &ingest.Batch{Data: data}); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := g.batch(ctx, "600 200 /a"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	if g.drain(); g.stats.Lines != 1 {
		t.Fatalf("%d lines", g.stats.Lines)
	}
}

func TestIgnore(t *testing.T) {
	e := event.Event{
		UserAgent: []byte("denywatch-probe/1.2"), User: []byte("ann"), Path: []byte("/healthz?x"), Client: []byte("10.1.2.3:555"),
		Roles: [][]byte{[]byte("member"), []byte("tester")},
	}
	for _, c := range []struct {
		r    Ignore
		want bool
	}{
		{Ignore{}, false},
		{Ignore{UserAgent: "denywatch-probe/*"}, true},
		{Ignore{UserAgent: "*probe*"}, true},
		{Ignore{UserAgent: "*probe"}, false},
		{Ignore{UserAgent: "*probe/1*2"}, true},
		{Ignore{User: "ann"}, true},
		{Ignore{User: "anna"}, false},
		{Ignore{User: "ann", Role: "owner"}, false},
		{Ignore{User: "ann", Role: "test*"}, true},
		{Ignore{Path: "/healthz"}, true},
		{Ignore{Client: netip.MustParsePrefix("10.0.0.0/8")}, true},
		{Ignore{Client: netip.MustParsePrefix("10.2.0.0/16")}, false},
		{Ignore{Account: "a"}, false},
	} {
		if got := c.r.matches(&e); got != c.want {
			t.Errorf("%+v: got %v", c.r, got)
		}
	}
}

func TestClassify(t *testing.T) {
	c := &Config{Concealed: true, Patterns: map[string]bool{"/p/{id}": true}}
	c.Routes, _ = route.New([]string{"/p/{id}"})
	c.Denied[401], c.Denied[402], c.Denied[403] = true, true, true
	answered := func(st, up uint16) event.Event {
		return event.Event{Status: st, Upstream: event.UpstreamAnswered, UpstreamStatus: up}
	}
	for _, x := range []struct {
		name    string
		vantage event.Vantage
		e       event.Event
		class   event.Denial
		layer   event.Layer
	}{
		{"passed on by nginx", event.Web, answered(403, 403), event.Refused, event.LayerApp},
		{"nginx itself", event.Web, event.Event{Status: 403, Upstream: event.UpstreamNone}, event.Refused, event.LayerWeb},
		{"nginx over a good answer", event.Web, answered(403, 200), event.Refused, event.LayerWeb},
		{"nobody knows", event.Web, event.Event{Status: 403}, event.Refused, event.LayerUnknown},
		{"the edge itself", event.Edge, event.Event{Status: 403, Upstream: event.UpstreamNone}, event.Refused, event.LayerEdge},
		{"behind the edge", event.Edge, answered(403, 403), event.Refused, event.LayerUnknown},
		{"application", event.App, event.Event{Status: 403}, event.Refused, event.LayerApp},
		{"401 apart", event.App, event.Event{Status: 401}, event.Unauthorized, event.LayerApp},
		{"402 apart", event.App, event.Event{Status: 402}, event.Payment, event.LayerApp},
		{"masked", event.Web, answered(200, 403), event.Masked, event.LayerApp},
		{"masked by an error page", event.Web, event.Event{Status: 404, OriginalStatus: 403}, event.Masked, event.LayerUnknown},
		{"not masked", event.Web, event.Event{Status: 403, OriginalStatus: 200}, event.Refused, event.LayerUnknown},
		{"masked behind the edge", event.Edge, answered(302, 403), event.Masked, event.LayerUnknown},
		{"let in", event.Web, answered(200, 200), event.NotDenied, event.LayerUnknown},
		{"404", event.App, event.Event{Status: 404, Path: []byte("/x")}, event.NotDenied, event.LayerUnknown},
		{"404 on a pattern", event.App, event.Event{Status: 404, Path: []byte("/p/1")}, event.Concealed, event.LayerApp},
		{"404 on the application's route", event.App, event.Event{Status: 404, Path: []byte("/q"), Route: []byte("/q")}, event.Concealed, event.LayerApp},
		{"the line says so", event.Edge, event.Event{Status: 200, Denial: event.Soft, Layer: event.LayerEdge}, event.Soft, event.LayerEdge},
		{"an explanation of nothing", event.Web, event.Event{Status: 403, CauseOnly: true}, event.NotDenied, event.LayerUnknown},
	} {
		c.Vantage = x.vantage
		if class, by := c.classify(&x.e); class != x.class || by != x.layer {
			t.Errorf("%s: got %v by %v, want %v by %v", x.name, class, by, x.class, x.layer)
		}
	}
}

func TestIdentities(t *testing.T) {
	k := FixedIdentityKey()
	var scratch []byte
	id := func(e event.Event, trust bool) (uint64, bool) {
		h, _, named := k.identity(&e, trust, &scratch)
		return h, named
	}
	addr := func(s string) uint64 { h, _ := id(event.Event{Client: []byte(s)}, false); return h }
	for _, same := range [][2]string{
		{"192.0.2.1", "192.0.2.1:4711"},
		{"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "[2001:db8::1]:443"},
	} {
		if addr(same[0]) != addr(same[1]) {
			t.Errorf("%q and %q are two identities", same[0], same[1])
		}
	}
	if addr("192.0.2.1") == addr("192.0.2.2") || addr("2001:db8::1") == addr("2001:db8::2") {
		t.Error("two clients are one identity")
	}
	claimed := event.Event{User: []byte("bob"), UserClaimed: true, Client: []byte("192.0.2.1")}
	if h, named := id(claimed, false); named || h != addr("192.0.2.1") {
		t.Error("a claimed user counts")
	}
	if h, named := id(claimed, true); !named || h == addr("192.0.2.1") {
		t.Error("a trusted user does not count")
	}
	acct := func(a, c string) uint64 {
		h, _ := id(event.Event{Account: []byte(a), Client: []byte(c)}, false)
		return h
	}
	if acct("a", "192.0.2.1") == acct("a", "192.0.2.2") || acct("a", "192.0.2.1") == acct("b", "192.0.2.1") {
		t.Error("account and client together are the identity")
	}
}

func TestRoles(t *testing.T) {
	roles := func(rs ...string) (out [][]byte) {
		for _, r := range rs {
			out = append(out, []byte(r))
		}
		return out
	}
	for _, c := range []struct {
		roles    [][]byte
		priority []string
		want     string
	}{
		{roles(), nil, ""},
		{roles("b"), []string{"a"}, "b"},
		{roles("b", "a"), nil, "a+b"},
		{roles("a", "b", "a"), nil, "a+b"},
		{roles("member", "owner"), []string{"owner", "member"}, "owner"},
	} {
		if got := string(joinRoles(nil, c.roles, c.priority)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.roles, got, c.want)
		}
	}
}

func TestDictionariesAreBounded(t *testing.T) {
	n := newNames(4)
	for i := range 100 {
		n.id([]byte(fmt.Sprint("value", i)))
	}
	if id, folded := n.id([]byte("another")); id != 1 || !folded || len(n.list) != 4 {
		t.Fatalf("id %d, folded %v, %d names", id, folded, len(n.list))
	}
	if got := clean([]byte("a\x00b\u202e" + strings.Repeat("é", 100))); len(got) > maxName || strings.ContainsAny(got, "\x00\u202e") {
		t.Fatalf("%q", got)
	}
}

func TestIdentityKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	a, err := LoadIdentityKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadIdentityKey(dir)
	if err != nil || a != b {
		t.Fatalf("another key after a restart: %v", err)
	}
	path := filepath.Join(dir, keyFile)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentityKey(dir); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Fatalf("got %v", err)
	}
}

func TestBatchDoesNotAllocate(t *testing.T) {
	g := newRig(t, nil, func(c *Config) {
		f, err := parsers.Compile(parsers.Config{Format: "combined"})
		if err != nil {
			t.Fatal(err)
		}
		c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return f.New(), nil }
	})
	g.clock.Move(1 << 62)
	var data []byte
	for i := range 500 {
		data = fmt.Appendf(data, "192.0.2.%d - - [24/Nov/2026:10:00:00 +0000] \"GET /users/%d/export HTTP/1.1\" %d 5 \"-\" \"ua\"\n", i%200, i, 200+203*(i%10/9))
	}
	b := &ingest.Batch{Data: data, End: ingest.Position{Offset: int64(len(data))}}
	g.steady(t, b)
}

// steady checks that a batch of 500 lines allocates nothing once it has been seen.
func (g *rig) steady(t *testing.T, b *ingest.Batch) {
	t.Helper()
	run := func() {
		if err := g.h.Batch(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		for len(g.seen) > 0 {
			<-g.seen
		}
	}
	for range 20 {
		run()
	}
	if a := testing.AllocsPerRun(50, run); a > 1 {
		t.Fatalf("%v allocations for 500 lines", a)
	}
}
