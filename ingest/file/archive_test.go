//go:build unix

package file

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/denywatch/denywatch/ingest"
)

// archiveHandler takes the batches of a set.
type archiveHandler struct {
	t       testing.TB
	lines   []string
	bytes   int64
	skipped int
	pos     int64
	fail    error
	cost    func([]byte)
}

func (h *archiveHandler) Batch(_ context.Context, b *ingest.Batch) error {
	if h.fail != nil {
		return h.fail
	}
	if b.Start.Offset < h.pos || b.Start.Mark != nil || b.End.Mark != nil {
		h.t.Errorf("batch at %d after %d", b.Start.Offset, h.pos)
	}
	h.pos = b.End.Offset
	h.skipped += b.Skipped
	h.bytes += int64(len(b.Data))
	if h.cost != nil {
		h.cost(b.Data)
		return nil
	}
	if len(b.Data) > 0 {
		h.lines = append(h.lines, strings.Split(strings.TrimSuffix(string(b.Data), "\n"), "\n")...)
	}
	return nil
}

func (h *archiveHandler) CaughtUp(context.Context) error    { h.t.Error("CaughtUp"); return nil }
func (h *archiveHandler) Unknown(error)                     { h.t.Error("Unknown") }
func (h *archiveHandler) Close(context.Context, bool) error { h.t.Error("Close"); return nil }
func (h *archiveHandler) Leave(context.Context) error       { h.t.Error("Leave"); return nil }

func gzipped(t testing.TB, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	must(t, err)
	must(t, z.Close())
	return b.Bytes()
}

func zstded(t testing.TB, text string) []byte {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	_, err = z.Write([]byte(text))
	must(t, err)
	must(t, z.Close())
	return b.Bytes()
}

func TestReadSet(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(in("a.log.4"), gzipped(t, "named wrongly\n"), 0o644))
	must(t, os.WriteFile(in("a.log.3.zst"), zstded(t, "one\ntwo\n"), 0o644))
	// Two members, as appending to a gzip file makes them.
	must(t, os.WriteFile(in("a.log.2.gz"), append(gzipped(t, "three\n"), gzipped(t, "four\nfi")...), 0o644))
	write(t, in("a.log.1"), "six\r\n\nseven")
	write(t, in("empty"), "")
	write(t, in("a.log"), "eight\n")
	paths := []string{in("a.log.4"), in("a.log.3.zst"), in("a.log.2.gz"), in("a.log.1"), in("empty"), in("a.log")}
	h := &archiveHandler{t: t}
	var last, total int64
	must(t, ReadSet(t.Context(), paths, h, func(read, all int64) {
		if read < last {
			t.Errorf("progress goes back from %d to %d", last, read)
		}
		last, total = read, all
	}))
	same(t, h.lines, []string{"named wrongly", "one", "two", "three", "four", "fi", "six\r", "", "seven", "eight"})
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if h.pos != int64(len("named wrongly\none\ntwo\nthree\nfour\nfisix\r\n\nseveneight\n")) {
		t.Errorf("ended at %d", h.pos)
	}
	must(t, ReadSet(t.Context(), nil, h, nil))
}

func TestReadSetBzip2(t *testing.T) {
	// "one\ntwo\n", made with bzip2(1).
	b, err := os.ReadFile("testdata/two.bz2")
	must(t, err)
	if _, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(b))); err != nil {
		t.Fatal(err)
	}
	h := &archiveHandler{t: t}
	must(t, ReadSet(t.Context(), []string{"testdata/two.bz2"}, h, nil))
	same(t, h.lines, []string{"one", "two"})
}

func TestReadSetErrors(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	var text strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&text, "line %d %x\n", i, i*i*7919)
	}
	whole := gzipped(t, text.String())
	must(t, os.WriteFile(in("cut.gz"), whole[:len(whole)/2], 0o644))
	damaged := bytes.Clone(whole)
	copy(damaged[len(damaged)/2:], "damaged damaged damaged damaged")
	must(t, os.WriteFile(in("damaged.gz"), damaged, 0o644))
	z := zstded(t, text.String())
	must(t, os.WriteFile(in("cut.zst"), z[:len(z)/2], 0o644))
	must(t, os.WriteFile(in("head.gz"), whole[:5], 0o644))
	must(t, os.WriteFile(in("a.xz"), []byte("\xfd7zXZ\x00 whatever"), 0o644))
	write(t, in("fine"), "fine\n")

	for _, c := range []struct {
		name, want string
		least      int // lines before the damage
	}{
		{"cut.gz", "truncated", 100}, {"damaged.gz", "damaged", 100}, {"cut.zst", "truncated", 1},
		{"head.gz", "truncated", 0}, {"a.xz", "xz -dc", 0},
	} {
		h := &archiveHandler{t: t}
		err := ReadSet(t.Context(), []string{in(c.name), in("fine")}, h, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: error is %v", c.name, err)
		}
		n := len(h.lines) - 1
		if n < c.least || h.lines[n] != "fine" {
			t.Errorf("%s: %d lines, then %q", c.name, n, h.lines[n])
			continue
		}
		if c.want == "damaged" {
			continue // what is wrong shows in the checksum only, at the end
		}
		for i, l := range h.lines[:n] {
			if l != fmt.Sprintf("line %d %x", i, i*i*7919) {
				t.Fatalf("%s: line %d is %q: a part of a line was delivered", c.name, i, l)
			}
		}
	}

	h := &archiveHandler{t: t}
	if err := ReadSet(t.Context(), []string{in("fine"), in("absent")}, h, nil); !errors.Is(err, os.ErrNotExist) || h.lines != nil {
		t.Errorf("absent file: %v, %q", err, h.lines)
	}
	h.fail = errors.New("enough")
	if err := ReadSet(t.Context(), []string{in("cut.gz"), in("fine")}, h, nil); !errors.Is(err, h.fail) {
		t.Errorf("error of the handler came back as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ReadSet(ctx, []string{in("fine")}, h, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// slowly returns r's bytes a few at a time.
type slowly struct{ r io.Reader }

func (s slowly) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 7)]) }

func TestReadFrom(t *testing.T) {
	for name, b := range map[string][]byte{
		"plain": []byte("one\ntwo\nthree"), "gzip": gzipped(t, "one\ntwo\nthree"), "zstd": zstded(t, "one\ntwo\nthree\n"),
	} {
		h := &archiveHandler{t: t}
		if err := ReadFrom(t.Context(), slowly{bytes.NewReader(b)}, h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, h.lines, []string{"one", "two", "three"})
	}
	h := &archiveHandler{t: t}
	must(t, ReadFrom(t.Context(), strings.NewReader(""), h))
	if h.lines != nil {
		t.Errorf("lines from nothing: %q", h.lines)
	}
}

// zeros is an endless line.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	for i := range p[:n] {
		p[i] = 'z'
	}
	z.n -= n
	return int(n), nil
}

func TestReadFromEndlessLine(t *testing.T) {
	h := &archiveHandler{t: t}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, ReadFrom(t.Context(), io.MultiReader(strings.NewReader("one\n"), &zeros{n: 512 << 20}, strings.NewReader("\ntwo\n"), &zeros{n: 3 << 20}), h))
	runtime.ReadMemStats(&after)
	same(t, h.lines, []string{"one", "two"})
	if h.skipped != 2 {
		t.Errorf("%d lines skipped, want 2", h.skipped)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d MiB allocated", used>>20)
	}
}

// TestReadAllocations guards the steady state: what is allocated does not grow
// with the input.
func TestReadAllocations(t *testing.T) {
	line := "203.0.113.9 - - [24/Nov/2026:06:00:00 +0000] \"GET /a/b/c HTTP/1.1\" 200 612 \"-\" \"agent\"\n"
	text := strings.Repeat(line, 100_000)
	h := &archiveHandler{t: t, cost: func([]byte) {}}
	for name, b := range map[string][]byte{"plain": []byte(text), "gzip": gzipped(t, text), "zstd": zstded(t, text)} {
		n := testing.AllocsPerRun(3, func() {
			h.pos = 0
			if err := ReadFrom(t.Context(), bytes.NewReader(b), h); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.0f allocations for 100,000 lines", name, n)
		if n > 200 {
			t.Errorf("%s: %.0f allocations for 100,000 lines", name, n)
		}
	}
}

// benchmarkText is 64 MiB of lines of 254 bytes.
func benchmarkText(i int) string {
	s := fmt.Sprintf("198.51.100.%d - - [24/Nov/2026:06:%02d:%02d +0000] \"GET /items/%d/edit?x=%x HTTP/1.1\" 200 %d ",
		i%250, i/60%60, i%60, i, i*7919, i%5000)
	return s + strings.Repeat("u", 253-len(s)) + "\n"
}

func BenchmarkReadSet(b *testing.B) {
	var text bytes.Buffer
	for i := 0; text.Len() < 64<<20; i++ {
		text.WriteString(benchmarkText(i))
	}
	dir := b.TempDir()
	sum := byte(0)
	parse := func(p []byte) { // about what a parser costs
		local := byte(0)
		for _, c := range p {
			local += c
		}
		sum += local
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"plain", text.Bytes()}, {"gzip", gzipped(b, text.String())}, {"zstd", zstded(b, text.String())}} {
		path := filepath.Join(dir, f.name)
		must(b, os.WriteFile(path, f.data, 0o644))
		for _, w := range []struct {
			name string
			cost func([]byte)
		}{{"read", func([]byte) {}}, {"parse", parse}} {
			b.Run(f.name+"/"+w.name, func(b *testing.B) {
				b.SetBytes(int64(text.Len()))
				b.ReportAllocs()
				h := &archiveHandler{t: b, cost: w.cost}
				start := cpu()
				for b.Loop() {
					h.pos = 0
					if err := ReadSet(b.Context(), []string{path}, h, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((cpu()-start).Nanoseconds())/float64(b.N)/float64(text.Len()/254), "cpu-ns/line")
			})
		}
	}
	_ = sum
}
