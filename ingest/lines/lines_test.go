package lines

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/ingest"
)

// cutAll feeds data to a Cutter in pieces of the given sizes, in turn, and
// returns the lines, the skipped count and any broken promise.
func cutAll(data []byte, sizes []int, bufSize, maxLine int) (lines []string, skipped int, err error) {
	c := Cutter{MaxLine: maxLine}
	c.Reset(0)
	buf := make([]byte, bufSize)
	c.Attach(buf)
	var b ingest.Batch
	pos := int64(0)
	take := func(end bool) error {
		skipped += b.Skipped
		if b.Start.Offset < pos || b.Skipped == 0 && b.Start.Offset != pos {
			return fmt.Errorf("batch starts at %d, the one before ended at %d", b.Start.Offset, pos)
		}
		pos = b.End.Offset
		if len(b.Data) == 0 {
			if b.Skipped == 0 || b.Start.Offset != b.End.Offset {
				return fmt.Errorf("empty batch %+v", b)
			}
			return nil
		}
		n := int(b.End.Offset - b.Start.Offset)
		if !(len(b.Data) == n || end && len(b.Data) == n+1) {
			return fmt.Errorf("%d bytes between positions %d apart", len(b.Data), n)
		}
		if !bytes.Equal(b.Data[:n], data[b.Start.Offset:b.End.Offset]) {
			return fmt.Errorf("bytes are not those of the file at %d", b.Start.Offset)
		}
		if b.Data[len(b.Data)-1] != '\n' {
			return fmt.Errorf("no newline at the end of %q", b.Data)
		}
		lines = append(lines, strings.Split(string(b.Data[:len(b.Data)-1]), "\n")...)
		return nil
	}
	rest := data
	rewound := int64(-1)
	for i := 0; len(rest) > 0; i++ {
		room := c.Room()
		if len(room) == 0 {
			return nil, 0, fmt.Errorf("no room")
		}
		if len(c.buf) > max(bufSize, maxLine+2) {
			return nil, 0, fmt.Errorf("buffer grew to %d for lines of %d", len(c.buf), maxLine)
		}
		n := copy(room, rest[:min(len(rest), max(1, sizes[i%len(sizes)]))])
		rest = rest[n:]
		c.Filled(n)
		for c.Next(&b) {
			if err := take(false); err != nil {
				return nil, 0, err
			}
		}
		// Give the buffer back now and then, as a stream does at the end of a
		// file, but not for ever at the same line.
		if i%5 == 4 && c.Off > rewound {
			rewound = c.Off
			if c.Rest(&b) {
				if err := take(false); err != nil {
					return nil, 0, err
				}
			}
			c.Detach()
			rest = data[c.Off:]
			c.Attach(buf)
		}
	}
	if c.Last(&b) {
		if err := take(true); err != nil {
			return nil, 0, err
		}
	}
	if c.Last(&b) {
		return nil, 0, fmt.Errorf("last delivers twice")
	}
	if c.Off != int64(len(data)) {
		return nil, 0, fmt.Errorf("ends at %d of %d", c.Off, len(data))
	}
	return lines, skipped, nil
}

// plainCut is the obvious way.
func plainCut(data []byte, maxLine int) (lines []string, skipped int) {
	text := string(data)
	for len(text) > 0 {
		l, rest, _ := strings.Cut(text, "\n")
		text = rest
		if len(l) > maxLine {
			skipped++
			continue
		}
		lines = append(lines, l)
	}
	return lines, skipped
}

func TestCutter(t *testing.T) {
	long := strings.Repeat("y", 300)
	for _, data := range []string{
		"", "\n", "\n\n\n", "a", "a\n", "a\nb", "a\r\nb\r\n",
		long, long + "\n", long + "\nshort\n", "short\n" + long + "\nshort", long + "\n" + long,
		"a\n" + long + "\n\n" + long + "\nb\n" + long,
		strings.Repeat("x", 64) + "\n" + strings.Repeat("x", 65) + "\n" + strings.Repeat("x", 63) + "\n",
		strings.Repeat("abc\n", 100), strings.Repeat(strings.Repeat("z", 64)+"\n", 20),
	} {
		for _, size := range []int{1, 3, 16, 63, 64, 65, 66, 1000} {
			for _, buf := range []int{1, 8, 64, 66, 512} {
				want, wantSkipped := plainCut([]byte(data), 64)
				got, skipped, err := cutAll([]byte(data), []int{size}, buf, 64)
				if err != nil {
					t.Fatalf("%.40q in pieces of %d, buffer %d: %v", data, size, buf, err)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || skipped != wantSkipped {
					t.Fatalf("%.40q in pieces of %d, buffer %d:\n got %q %d skipped\nwant %q %d", data, size, buf, got, skipped, want, wantSkipped)
				}
			}
		}
	}
}

func FuzzCutter(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc"), []byte{3, 1, 200}, byte(4), byte(5))
	f.Add([]byte(strings.Repeat("x", 100)+"\nshort\n"+strings.Repeat("y", 50)), []byte{16}, byte(16), byte(32))
	f.Fuzz(func(t *testing.T, data, pieces []byte, buf, maxLine byte) {
		sizes := []int{1}
		for _, p := range pieces {
			sizes = append(sizes, int(p))
		}
		want, wantSkipped := plainCut(data, int(maxLine)+1)
		got, skipped, err := cutAll(data, sizes, int(buf)+1, int(maxLine)+1)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) || skipped != wantSkipped {
			t.Fatalf("got %q, %d skipped; want %q, %d", got, skipped, want, wantSkipped)
		}
	})
}

// TestCutterAllocations guards the hot path: no allocation, however many lines.
func TestCutterAllocations(t *testing.T) {
	data := bytes.Repeat([]byte("192.0.2.1 - - [x] \"GET / HTTP/1.1\" 200 5\n"), 3000)
	c := Cutter{MaxLine: 1 << 20}
	buf := make([]byte, 16<<10)
	var b ingest.Batch
	if n := testing.AllocsPerRun(20, func() {
		c.Reset(0)
		c.Attach(buf)
		for rest := data; len(rest) > 0; {
			n := copy(c.Room(), rest)
			c.Filled(n)
			rest = rest[n:]
			for c.Next(&b) {
			}
		}
		c.Detach()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
