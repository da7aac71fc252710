package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/sim"
	"github.com/denywatch/denywatch/parsers"
)

// accessLog is the access log of a broken role, in the combined format.
func accessLog(t *testing.T, hours int) []byte {
	t.Helper()
	s, err := sim.New(brokenRole(hours))
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for r := s.Next(); r != nil; r = s.Next() {
		b = sim.AppendNginxCombined(b, r)
	}
	return b
}

// wide is text as UTF-16.
func wide(text []byte, big, mark bool) (b []byte) {
	put := func(u uint16) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	if mark {
		put(0xfeff)
	}
	for _, u := range utf16.Encode([]rune(string(text))) {
		put(u)
	}
	return b
}

// TestHostileLogs replays logs that are none beside one that is: they are counted
// and reported in little memory, and what the other one says stays exact.
func TestHostileLogs(t *testing.T) {
	access := accessLog(t, 1)
	head := access[:bytes.LastIndexByte(access[:200_000], '\n')+1]
	lines := uint64(bytes.Count(head, []byte("\n")))
	rnd := rand.NewChaCha8([32]byte{4, 0, 3})
	noise := make([]byte, 1<<20)
	_, _ = rnd.Read(noise)
	var cut bytes.Buffer // a compressed log whose end is missing
	z := gzip.NewWriter(&cut)
	if _, err := z.Write(access); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.log", access)
	replay := func(files ...string) (*core, string, error) {
		opt := ReplayOptions{Files: files, Format: "auto", Log: slog.New(slog.DiscardHandler)}
		c, inputs, incidents, err := opt.run(context.Background(), configs.Default())
		if c == nil {
			return nil, "", err
		}
		var b bytes.Buffer
		if terr := timeline(&b, false, inputs, c, incidents); terr != nil {
			t.Fatal(terr)
		}
		return c, b.String(), err
	}
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before := allocated()
	alone, _, err := replay(good)
	if err != nil {
		t.Fatal(err)
	}
	own := allocated() - before
	want := fmt.Sprint(alone.ledger.Totals())

	for _, x := range []struct {
		name    string
		content []byte
		format  string // auto if empty
		says    []string
		lines   uint64
		bad     uint64
		long    uint64
		err     string
	}{
		{name: "garbage.log", content: bytes.Repeat([]byte("it works on my machine\n"), 20_000), lines: 20_000, bad: 20_000,
			says: []string{"not recognised", "20,000 not understood"}},
		{name: "garbage2.log", format: "combined", content: bytes.Repeat([]byte("it works on my machine\n"), 20_000), lines: 20_000, bad: 20_000,
			says: []string{"20,000 not understood"}},
		{name: "binary.log", format: "combined", content: noise, lines: uint64(bytes.Count(noise, []byte("\n"))) + 1, bad: uint64(bytes.Count(noise, []byte("\n"))) + 1,
			says: []string{"this is binary data"}},
		{name: "utf16.log", content: wide(head, false, true), lines: lines + 1, bad: lines + 1,
			says: []string{"not recognised", "this file is UTF-16; convert it"}},
		{name: "utf16be.log", format: "combined", content: wide(head, true, false), lines: lines, bad: lines,
			says: []string{"this file is UTF-16; convert it"}},
		{name: "line.log", format: "combined", content: bytes.Repeat([]byte("x"), 100<<20), long: 1,
			says: []string{"1 too long"}},
		{name: "holes.log", format: "combined", content: bytes.Join([][]byte{head, make([]byte, 500_000), []byte("\n"), head}, nil), lines: 2*lines + 1, bad: 1,
			says: []string{"1 not understood (binary 1)"}},
		{name: "cut.log.gz", format: "combined", content: cut.Bytes()[:cut.Len()/2], err: "the compressed file is truncated"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bad := file(x.name, x.content)
			arg := bad
			if x.format != "" {
				arg = "edge/" + x.format + ":" + bad
			}
			before := allocated()
			c, text, err := replay(arg, good)
			more := int64(allocated() - before - own)
			switch {
			case x.err == "" && err != nil, x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err) || !strings.Contains(err.Error(), bad)):
				t.Fatalf("error %v, want %q", err, x.err)
			}
			for _, s := range x.says {
				if !strings.Contains(text, s) {
					t.Errorf("the summary does not say %q:\n%s", s, text)
				}
			}
			var src slots.Source
			for _, s := range c.ledger.Sources() {
				if s.Name == bad {
					src = s
				}
			}
			if x.err == "" && (src.Lines != x.lines || src.Unparsed != x.bad || src.Oversize != x.long) {
				t.Errorf("got %+v, want %d lines, %d not understood, %d too long", src, x.lines, x.bad, x.long)
			}
			var others []any
			for _, total := range c.ledger.Totals() {
				if total.Vantage == event.Web {
					others = append(others, total)
				}
			}
			if got := fmt.Sprint(others); got != want {
				t.Errorf("the other log counts differently:\n%s\nwant\n%s", got, want)
			}
			// Everything that was ever allocated, not only what is kept.
			limit := int64(64 << 20)
			if x.format == "" {
				limit = 256 << 20 // all formats are compiled at each try to recognise one
			}
			if more > limit {
				t.Errorf("%d MiB were allocated beside what the other log takes", more>>20)
			}
		})
	}

	if _, _, err := replay(filepath.Join(dir, "utf16.log")); err == nil || !strings.Contains(err.Error(), "UTF-16") {
		t.Errorf("a log that is UTF-16, alone: %v", err)
	}
}

// TestFormatChangeDuringIncident replays a log whose format changes while a wall
// is broken, first to one that is recognised, then to one that is none until the
// wall is mended.
func TestFormatChangeDuringIncident(t *testing.T) {
	access := accessLog(t, 6)
	at := func(hour, minute int) int {
		i := bytes.Index(access, fmt.Appendf(nil, "[17/Nov/2026:%02d:%02d:", hour, minute))
		if i < 0 {
			t.Fatalf("nothing was logged at %02d:%02d", hour, minute)
		}
		return bytes.LastIndexByte(access[:i], '\n') + 1
	}
	change := func(from, to int, f func(line []byte) []byte) []byte {
		var b []byte
		for line := range bytes.Lines(access[from:to]) {
			b = append(b, f(line)...)
		}
		return slices.Concat(access[:from], b, access[to:])
	}
	run := func(name string, log []byte) (*core, string) {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		opt := ReplayOptions{Files: []string{path}, Format: "auto", Log: slog.New(slog.DiscardHandler)}
		c, inputs, incidents, err := opt.run(context.Background(), configs.Default())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := timeline(&b, false, inputs, c, incidents); err != nil {
			t.Fatal(err)
		}
		if len(incidents) != 1 {
			t.Fatalf("%d incidents:\n%s", len(incidents), b.String())
		}
		return c, b.String()
	}
	c, _ := run("plain.log", access)
	want := c.det.Incidents()[0]

	// Docker wraps the same lines from 9:30 on.
	c, text := run("wrapped.log", change(at(9, 30), len(access), func(line []byte) []byte {
		return fmt.Appendf(nil, `{"log":%q,"stream":"stdout","time":"2026-11-17T09:30:00.000000000Z"}`+"\n", line)
	}))
	got := c.det.Incidents()[0]
	if src := c.ledger.Sources()[0]; src.Unparsed == 0 || src.Unparsed > 40 || src.Unjudged != 0 {
		t.Errorf("got %+v", src)
	}
	if got.ID != want.ID || got.ResolvedAt == nil || !got.ResolvedAt.Equal(*want.ResolvedAt) || want.Denials-got.Denials > 40 {
		t.Errorf("got %+v\nwant %+v\n%s", got, want, text)
	}

	// From 9:30 to 10:30 every line is in a format that nobody knows. The wall is
	// mended at 10:00, and nobody can know before 10:30.
	c, text = run("secret.log", change(at(9, 30), at(10, 30), func(line []byte) []byte {
		return append(bytes.ReplaceAll(line[:len(line)-1], []byte(" "), []byte("|")), '\n')
	}))
	got = c.det.Incidents()[0]
	if got.ID != want.ID || got.ResolvedAt == nil || got.ResolvedAt.Before(simStart.Add(4*60*60e9+30*60e9)) {
		t.Errorf("got %+v\n%s", got, text)
	}
	if s := "not judged from Tue 17 Nov 09:"; !strings.Contains(text, s) || !strings.Contains(text, "to Tue 17 Nov 10:3") {
		t.Errorf("the summary does not say %q:\n%s", s, text)
	}
	if src := c.ledger.Sources()[0]; src.Unjudged < 58 || src.Unjudged > 62 || src.Reasons[parsers.ErrShort.Reason]+src.Reasons[parsers.ErrMismatch.Reason] != src.Unparsed {
		t.Errorf("got %+v", src)
	}
}
