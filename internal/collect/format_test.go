package collect

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

// colonParser reads testParser's lines with colons for spaces.
type colonParser struct{}

func (colonParser) Parse(line []byte, e *event.Event) error {
	if bytes.IndexByte(line, ' ') >= 0 {
		return parsers.ErrMismatch
	}
	if string(line) == "comment" {
		return parsers.ErrHeader
	}
	return testParser{}.Parse(bytes.ReplaceAll(line, []byte(":"), []byte(" ")), e)
}

// recognise knows both, as parsers do: by more than half of the lines.
func recognise(_ string, sample [][]byte) (parsers.Parser, string, error) {
	for _, c := range []struct {
		p    parsers.Parser
		name string
	}{{testParser{}, "spaces"}, {colonParser{}, "colons"}} {
		n := 0
		for _, l := range sample {
			var e event.Event
			if c.p.Parse(l, &e) == nil {
				n++
			}
		}
		if 2*n > len(sample) {
			return c.p, c.name, nil
		}
	}
	return nil, "", parsers.ErrUnknownFormat
}

// changing is a log that changes its format twice, with junk in it.
func changing() (lines []string, good int) {
	at := 6000
	add := func(n int, f string) {
		for range n {
			at++
			lines = append(lines, fmt.Sprintf(f, at))
		}
	}
	junk := func(n int) { lines = append(lines, strings.Split(strings.Repeat("junk\n", n), "\n")[:n]...) }
	add(50, "%d 200 /a")
	junk(astrayAfter - 1) // too few to look
	add(1, "%d 200 /a")
	junk(300) // nothing fits
	add(50, "%d 200 /a")
	add(200, "%d:403:/b")
	lines = append(lines, "comment")
	add(100, "%d:403:/b")
	junk(30)
	add(500, "%d 200 /a")
	// The second change is seen at the third look: the first is at 20 lines of
	// junk, the second at 10 of junk and 10 that fit.
	return lines, 50 + 1 + 50 + (300 - astrayAfter) + (500 - 50)
}

// TestFormatChangesInTheMiddle: where lines stop being understood the format is
// recognised anew, at the same line however the lines are cut into batches, and
// the lines between are counted as not understood.
func TestFormatChangesInTheMiddle(t *testing.T) {
	lines, good := changing()
	var want string
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var log bytes.Buffer
		g := newRig(t, nil, func(c *Config) {
			c.Recognise = recognise
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		g.clock.Move(1 << 62)
		for rest := lines; len(rest) > 0; {
			n := min(1+r.IntN(100), len(rest))
			if seed == 0 {
				n = len(rest)
			}
			if err := g.batch(context.Background(), rest[:n]...); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := g.h.CaughtUp(context.Background()); err != nil {
			t.Fatal(err)
		}
		g.drain()
		got := fmt.Sprint(g.stats, g.lines, g.reasons, g.health)
		if want == "" {
			want = got
			if n := int(g.stats.Lines - g.stats.Unparsed - g.stats.Skipped); n != good {
				t.Fatalf("%d lines were understood, want %d", n, good)
			}
			if g.reasons["header"] != 1 || g.reasons["short"] == 0 {
				t.Fatalf("reasons %v", g.reasons)
			}
		}
		if got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
		if n := strings.Count(log.String(), "written in another format"); n != 2 || !strings.Contains(log.String(), "format=colons lines_not_understood=20") {
			t.Fatalf("the log says %d times that the format changed:\n%s", n, log.String())
		}
	}
}

// TestLateRecognition: a stream whose first lines are of no known format is
// understood soon after lines of one come.
func TestLateRecognition(t *testing.T) {
	g := newRig(t, nil, func(c *Config) {
		c.NewParser = func(stream string, sample [][]byte) (parsers.Parser, error) {
			p, _, err := recognise(stream, sample)
			return p, err
		}
		c.Recognise = recognise
	})
	g.clock.Move(1 << 62)
	for i := range 20 {
		line := fmt.Sprint(6000+i, ":200:/a")
		if i < 2 {
			line = "the server starts"
		}
		if err := g.batch(context.Background(), line); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	if g.drain(); g.stats.Unparsed > 4 {
		t.Fatalf("%d of %d lines were not understood", g.stats.Unparsed, g.stats.Lines)
	}
}

// TestGarbageIsBounded: however much garbage comes, and however long its lines,
// little of it is kept, and the format is not looked for at every line.
func TestGarbageIsBounded(t *testing.T) {
	tries, largest := 0, 0
	g := newRig(t, nil, func(c *Config) {
		c.Recognise = func(_ string, sample [][]byte) (parsers.Parser, string, error) {
			tries++
			size := 0
			for _, l := range sample {
				size += len(l)
			}
			largest = max(largest, size)
			return nil, "", parsers.ErrUnknownFormat
		}
	})
	g.clock.Move(1 << 62)
	data := bytes.Repeat(append(bytes.Repeat([]byte("x"), maxSampleLine), '\n'), 100)
	data = append(data, bytes.Repeat([]byte{0, 0, '\n'}, 100_000)...)
	if err := g.h.Batch(context.Background(), &ingest.Batch{Data: data, End: ingest.Position{Offset: int64(len(data))}}); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.drain()
	if g.stats.Lines != 100_100 || g.stats.Unparsed != 100_100 || g.reasons["binary"] != 100_000 {
		t.Fatalf("stats %+v, reasons %v", g.stats, g.reasons)
	}
	if tries > 30 || largest > maxSample {
		t.Fatalf("%d tries, with %d bytes at most", tries, largest)
	}
}

// TestHealth: lines that are not understood belong to the slot in which the
// stream's time stands.
func TestHealth(t *testing.T) {
	g := newRig(t, nil, nil)
	g.clock.Move(1 << 62)
	if err := g.batch(context.Background(), "junk", "600 200 /a", "601 200 /a", "junk", "junk", "601 0 /a", "661 200 /b", "602 200 /a", "junk"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.drain()
	// The first line waits for the second one to be believed.
	want := map[int64][2]uint64{event.NoTime: {2, 1}, 600: {4, 3}, 660: {3, 1}}
	if !maps.Equal(g.health, want) {
		t.Fatalf("got %v, want %v", g.health, want)
	}
}

// TestSampleRate: a line counts as often as the source's rate says, unless it
// says so itself, and it is told that but one of them was seen.
func TestSampleRate(t *testing.T) {
	g := newRig(t, nil, func(c *Config) {
		c.SampleRate = 10
		c.NewParser = func(string, [][]byte) (parsers.Parser, error) { return weighing{}, nil }
	})
	g.clock.Move(1 << 62)
	if err := g.batch(context.Background(), "600 200 /a", "600 403 /b", "601 200 /a weight"); err != nil {
		t.Fatal(err)
	}
	if err := g.h.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	g.drain()
	want := map[string]uint32{"600 /a 2xx": 13, "600 /b 403": 10}
	refused := tally.Unseen{Requests: 9}
	refused.Denied[event.Refused] = 9
	unseen := map[string]tally.Unseen{"/a": {Requests: 11}, "/b": refused}
	if !maps.Equal(g.lines, want) || !maps.Equal(g.unseen, unseen) {
		t.Fatalf("got %v and not seen %v, want %v and %v", g.lines, g.unseen, want, unseen)
	}
}

// weighing is testParser for lines of which some tell their weight.
type weighing struct{}

func (weighing) Parse(line []byte, e *event.Event) error {
	if bytes.HasSuffix(line, []byte("weight")) {
		e.Weight = 3
	}
	return testParser{}.Parse(line, e)
}
