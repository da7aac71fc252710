package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/denywatch/denywatch/ingest/ingesttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quietLog = slog.New(slog.DiscardHandler)

func open(t testing.TB, dir string, opt Options) *Spool {
	t.Helper()
	if opt.MaxBytes == 0 {
		opt.MaxBytes = 1 << 30
	}
	if opt.MaxLine == 0 {
		opt.MaxLine = 1000
	}
	s, err := Open(dir, opt, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// idOf makes an ID of a number.
func idOf(n int) (id ID) {
	copy(id[:], fmt.Sprintf("batch %09d", n))
	return id
}

func caughtUp() error { return nil }

// follow reads the spool until n lines were consumed and all was delivered.
func follow(t testing.TB, s *Spool, h *ingesttest.Host, n int) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := s.Follow(ctx, h, "x", func() error {
		if got, _ := h.Count(); got < n {
			return nil
		}
		stop()
		return errors.New("that was enough")
	}); err != nil {
		t.Fatal(err)
	}
}

func compress(t testing.TB, e Encoding, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	switch e {
	case Gzip: // in two members
		for _, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
			z := gzip.NewWriter(&b)
			if _, err := z.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
	case Zstd:
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll([]byte(text), nil)
	default:
		return []byte(text)
	}
	return b.Bytes()
}

func appendTo(t testing.TB, s *Spool, id ID, e Encoding, text string) (known bool) {
	t.Helper()
	b := compress(t, e, text)
	known, err := s.Append(t.Context(), &Batch{ID: id, Encoding: e, Body: [][]byte{b[:len(b)/3], b[len(b)/3:]}})
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// TestLines: what is appended comes back line by line in every encoding, over-long
// lines are counted, and a last line without newline is one.
func TestLines(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	long := strings.Repeat("x", 1001)
	appendTo(t, s, idOf(1), Identity, "a\nb\n"+long+"\nc")
	appendTo(t, s, idOf(2), Gzip, "d\ne\nf\n"+long)
	appendTo(t, s, idOf(3), Zstd, "g\nh")
	appendTo(t, s, ID{}, Identity, "i\n")
	appendTo(t, s, ID{}, Identity, "i\n") // without an ID every append counts
	h := ingesttest.New(t)
	follow(t, s, h, 10)
	if got := strings.Join(h.Lines(), ""); got != "abcdefghii" {
		t.Errorf("lines %q", got)
	}
	if _, skipped := h.Count(); skipped != 2 {
		t.Errorf("%d lines were skipped, want 2", skipped)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKnown: an ID is known over restarts and after its segment was deleted, in the
// same group of appends too.
func TestKnown(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := map[int]int{}
	for i := range 400 {
		wg.Go(func() {
			known := appendTo(t, s, idOf(i%100), Identity, fmt.Sprintf("line %d\n", i%100))
			mu.Lock()
			defer mu.Unlock()
			if !known {
				fresh[i%100]++
			}
		})
	}
	wg.Wait()
	for i := range 100 {
		if fresh[i] != 1 {
			t.Errorf("batch %d was new %d times", i, fresh[i])
		}
	}
	h := ingesttest.New(t)
	for life := range 4 {
		if n := s.Stats().Known; n != 300 && life == 0 || life > 0 && n != 0 {
			t.Errorf("life %d: %d known", life, n)
		}
		follow(t, s, h, 100+life)
		if !appendTo(t, s, idOf(7), Identity, "line 7\n") {
			t.Errorf("life %d: an ID is not known", life)
		}
		appendTo(t, s, idOf(1000+life), Identity, "another\n")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{})
	}
	follow(t, s, h, 104)
	if n, _ := h.Count(); n != 104 {
		t.Errorf("%d lines, want 104", n)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(segments) > 2 {
		t.Errorf("segments that were read are still there: %v %v", segments, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRemember: IDs are forgotten by what came after them, in time and in number.
func TestRemember(t *testing.T) {
	r := recent{have: map[ID]struct{}{}}
	const day = 24 * 3600
	r.add(entry{idOf(1), 0})
	r.add(entry{idOf(2), day - 1})
	r.add(entry{idOf(3), day})
	if !r.has(idOf(1)) {
		t.Error("forgotten within a day")
	}
	r.add(entry{idOf(4), day + 1})
	if r.has(idOf(1)) || !r.has(idOf(2)) {
		t.Error("a day after it the first must be forgotten, and no other")
	}
	r.add(entry{idOf(5), 10}) // the clock was set back: it goes with those around it
	for i := range MaxIDs {
		r.add(entry{idOf(100 + i), day + 2})
	}
	if r.has(idOf(4)) || !r.has(idOf(100)) || len(r.have) != MaxIDs {
		t.Errorf("%d are remembered, want %d", len(r.have), MaxIDs)
	}
	if len(r.order) > 3*MaxIDs {
		t.Errorf("the list grew to %d", len(r.order))
	}
}

// TestResume: wherever a reader ends, in the middle of a record too, the next goes on
// with the next line.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	var want []string
	s := open(t, dir, Options{})
	for i := range 30 {
		var text strings.Builder
		for j := range 20 {
			line := fmt.Sprintf("%d/%d", i, j)
			want = append(want, line)
			text.WriteString(line + "\n")
		}
		appendTo(t, s, idOf(i), Encoding(i%3), text.String())
	}
	h := ingesttest.New(t)
	for n := 0; ; n++ {
		h.CrashAt(n % 37)
		ctx, stop := context.WithCancel(t.Context())
		err := s.Follow(ctx, h, "x", func() error { stop(); return errors.New("all was read") })
		stop()
		if err == nil {
			break
		}
		if !errors.Is(err, ingesttest.ErrCrash) {
			t.Fatal(err)
		}
	}
	if got := h.Lines(); !slices.Equal(got, want) {
		t.Errorf("got %d lines, want %d: %.200q", len(got), len(want), got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTorn: whatever a crash leaves behind the last whole record is cut off, and its
// ID is not known.
func TestTorn(t *testing.T) {
	for cut := range 60 {
		dir := t.TempDir()
		s := open(t, dir, Options{})
		appendTo(t, s, idOf(1), Identity, "one\n")
		appendTo(t, s, idOf(2), Identity, "two: long enough to be cut in it\n")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		seg := only(t, dir, "*.seg")
		b, err := os.ReadFile(seg)
		if err != nil {
			t.Fatal(err)
		}
		second := recordHead + 4
		keep := min(second+cut, len(b)-1)
		torn := b[:keep:keep]
		if cut%2 == 1 { // or pages of zeros instead
			torn = append(torn, make([]byte, 4096)...)
		}
		if err := os.WriteFile(seg, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{})
		if appendTo(t, s, idOf(2), Identity, "two\n") || !appendTo(t, s, idOf(1), Identity, "one\n") {
			t.Errorf("cut after %d bytes: the wrong batches are known", cut)
		}
		h := ingesttest.New(t)
		follow(t, s, h, 2)
		if got := h.Lines(); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("cut after %d bytes: %q", cut, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

// TestDamaged: a record whose bits rotted is left out and counted, its neighbours are
// read; so is a segment cut short; and damaged IDs are no reason not to start.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	for i := range 3 {
		appendTo(t, s, idOf(i), Identity, fmt.Sprintf("line %d\n", i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{}) // seals the segment
	seg, ids := only(t, dir, "*.seg"), only(t, dir, "*.ids")
	b, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(seg, b, 0o600); err != nil {
		t.Fatal(err)
	}
	h := ingesttest.New(t)
	h.Forgetful() // so that the segment stays
	follow(t, s, h, 2)
	if got := h.Lines(); !slices.Equal(got, []string{"line 0", "line 2"}) || s.Stats().Damaged != 1 {
		t.Errorf("%q, %d damaged", got, s.Stats().Damaged)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(ids, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if !appendTo(t, s, idOf(0), Identity, "line 0\n") {
		t.Error("the IDs are read from the segment when their own file is damaged")
	}
	if err := os.Truncate(seg, int64(len(b)-1)); err != nil {
		t.Fatal(err)
	}
	h = ingesttest.New(t)
	follow(t, s, h, 1)
	appendTo(t, s, idOf(9), Identity, "line 9\n")
	follow(t, s, h, 2)
	if got := h.Lines(); !slices.Equal(got, []string{"line 0", "line 9"}) {
		t.Errorf("%q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFull: the spool stops at its bound and goes on when segments are deleted; that
// is when the durable cut is past them.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	const most = 150 << 10
	s := open(t, dir, Options{MaxBytes: most, MaxLine: 1 << 20})
	s.most = 64 << 10
	block := strings.Repeat(strings.Repeat("x", 1<<10-1)+"\n", 16) // 16 KiB
	n := 0
	fill := func() {
		for ; ; n++ {
			_, err := s.Append(t.Context(), &Batch{ID: idOf(n), Body: [][]byte{[]byte(block)}})
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if st := s.Stats(); n != 9 || st.Bytes > most || st.Unread != st.Bytes {
		t.Errorf("%d batches of 16 KiB, %+v", n, st)
	}
	h := ingesttest.New(t)
	h.Drop = true
	h.Forgetful()
	follow(t, s, h, n*16)
	if st := s.Stats(); st.Unread != 0 || st.Bytes < 9*16<<10 {
		t.Errorf("read but not durable: %+v", st)
	}
	if _, err := s.Append(t.Context(), &Batch{ID: idOf(n), Body: [][]byte{[]byte(block)}}); !errors.Is(err, ErrFull) {
		t.Errorf("nothing is durable, so nothing may be deleted: %v", err)
	}
	before := n
	h2 := ingesttest.New(t)
	h2.Drop = true
	follow(t, s, h2, n*16)
	fill()
	follow(t, s, h2, n*16)
	if n-before != 8 {
		t.Errorf("%d batches found room after two of three segments were read and durable, want 8", n-before)
	}
	if !appendTo(t, s, idOf(0), Identity, "x\n") {
		t.Error("the ID of a deleted segment is not known")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDisk: when the disk fails, nothing is acknowledged and nothing is left behind;
// when it is mended, the same batch is taken.
func TestDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var log strings.Builder
	s, err := Open(dir, Options{MaxBytes: 1 << 30, MaxLine: 1 << 20}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Append(t.Context(), &Batch{ID: idOf(1), Body: [][]byte{[]byte("a\n")}}); err == nil {
			t.Fatal("a batch was acknowledged that is nowhere")
		}
		if s.Stats().Trouble == "" {
			t.Error("the spool has no trouble")
		}
	}
	if n := strings.Count(log.String(), "cannot be kept"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if appendTo(t, s, idOf(1), Identity, "a\n") {
		t.Error("a batch that failed is known")
	}
	if text := s.Stats().Trouble; text != "" {
		t.Errorf("there still is trouble: %s", text)
	}
	h := ingesttest.New(t)
	follow(t, s, h, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), &Batch{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestDeletedByHand: a spool that was deleted under a saved position is another one.
func TestDeletedByHand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	h := ingesttest.New(t)
	s := open(t, dir, Options{})
	appendTo(t, s, idOf(1), Identity, "one\ntwo\n")
	follow(t, s, h, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	appendTo(t, s, idOf(2), Identity, "three\n")
	follow(t, s, h, 3)
	if got := h.Lines(); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("%q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsKept: lines that were counted do not stay on the disk, though few come.
func TestNothingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, Options{})
		h := ingesttest.New(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Follow(ctx, h, "x", func() error { return nil }) }()
		for i := range 3 {
			appendTo(t, s, idOf(i), Identity, "line\n")
			time.Sleep(segmentAge + segmentAge/30)
			if left, err := filepath.Glob(filepath.Join(dir, "*"+segmentExt)); err != nil || len(left) != 0 {
				t.Errorf("after a minute there still is %q %v", left, err)
			}
			if n, _ := h.Count(); n != i+1 {
				t.Errorf("%d lines of %d", n, i+1)
			}
		}
		if !appendTo(t, s, idOf(0), Identity, "line\n") {
			t.Error("what was deleted is not known any more")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNothingSent: a spool that holds nothing opens no stream, but is ready.
func TestNothingSent(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	h := ingesttest.New(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, h, "x", caughtUp) }()
	for !h.IsReady() {
		h.Await(0)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if state, _ := h.State(); state != "" {
		t.Errorf("the stream is %s", state)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzSegment: whatever stands in a segment, reading it does not fail, and what was
// appended before it was spoilt is read up to there.
func FuzzSegment(f *testing.F) {
	whole := appendHead(nil, &Batch{ID: idOf(1), Body: [][]byte{[]byte("one\n")}}, 5)
	whole = append(whole, "one\n"...)
	f.Add([]byte{}, uint16(0), byte(0))
	f.Add(whole, uint16(9), byte(1))
	f.Add(append(slices.Clone(whole), 0, 0, 0, 0, 0, 0, 0, 0, 0), uint16(1), byte(255))
	f.Fuzz(func(t *testing.T, tail []byte, at uint16, flip byte) {
		data := append(slices.Clone(whole), tail...)
		data = append(data, whole...)
		i := len(whole) + int(at)%(len(data)-len(whole))
		data[i] ^= flip
		end, ids, err := scan(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if end < int64(len(whole)) || end > int64(len(data)) || len(ids) == 0 || ids[0] != (entry{idOf(1), 5}) {
			t.Fatalf("ends at %d of %d, %d IDs", end, len(data), len(ids))
		}
		// What scan keeps can be read record by record.
		var buf []byte
		for off := int64(0); off < end; {
			var rec record
			rec, buf, err = readRecord(bytes.NewReader(data[off:]), end-off, buf)
			if rec.size == 0 {
				t.Fatalf("at %d of %d: %v", off, end, err)
			}
			off += rec.size
		}
		if _, _, err := decodeIDs(tail); err == nil && len(tail)%entrySize != 12 {
			t.Fatal("IDs of a wrong length")
		}
		if p, err := decodePlace(tail); err == nil && (p.segment < 0 || p.offset < 0) {
			t.Fatal("a place before everything")
		}
	})
}

// TestOneSegmentFull: a spool that one segment fills is not stuck: the segment is
// deleted when all of it is durable, though nothing is behind it.
func TestOneSegmentFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxBytes: 70 << 10})
	s.most = 64 << 10
	block := []byte(strings.Repeat(strings.Repeat("x", 999)+"\n", 17))
	h := ingesttest.New(t)
	h.Drop = true
	for life := range 3 {
		for i := range 4 {
			if _, err := s.Append(t.Context(), &Batch{ID: idOf(10*life + i), Body: [][]byte{block}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Append(t.Context(), &Batch{ID: idOf(10*life + 9), Body: [][]byte{block}}); !errors.Is(err, ErrFull) {
			t.Fatalf("life %d: %v", life, err)
		}
		if life == 1 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, Options{MaxBytes: 70 << 10})
			s.most = 64 << 10
		}
		follow(t, s, h, (life+1)*4*17)
		if st := s.Stats(); st.Bytes != 0 || st.Unread != 0 {
			t.Errorf("life %d: %+v", life, st)
		}
	}
	if n, _ := h.Count(); n != 3*4*17 {
		t.Errorf("%d lines", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestUnsynced: what lies in a segment behind its end, because cutting it off failed
// after a failed sync, does not count: it was not acknowledged, and its sender has sent
// it again.
func TestUnsynced(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	appendTo(t, s, idOf(1), Identity, "one\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{}) // seals the segment
	appendTo(t, s, idOf(2), Identity, "two\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(found) != 2 {
		t.Fatalf("%v %v", found, err)
	}
	first, err := os.OpenFile(found[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Write(append(appendHead(nil, &Batch{ID: idOf(2), Body: [][]byte{[]byte("two\n")}}, 5), "two\n"...)); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	s = open(t, dir, Options{})
	h := ingesttest.New(t)
	follow(t, s, h, 2)
	if got := h.Lines(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestClockSetBack: segments are read in the order in which they were written,
// whatever the clock says, over restarts, when all before were read and deleted.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		h := ingesttest.New(t)
		time.Sleep(1000 * time.Hour) // the clock's start is where it is set back to
		s := open(t, dir, Options{})
		s.most = 1
		appendTo(t, s, ID{}, Identity, "one\n")
		follow(t, s, h, 1)
		if st := s.Stats(); st.Bytes != 0 {
			t.Errorf("%+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		ids := only(t, dir, "*.ids")
		ahead := filepath.Join(dir, fmt.Sprintf("%016d.ids", time.Now().Add(1000*time.Hour).UnixMilli()))
		if err := os.Rename(ids, ahead); err != nil { // as if the clock had been ahead
			t.Fatal(err)
		}
		s = open(t, dir, Options{})
		s.most = 1
		for _, line := range []string{"two", "three"} {
			appendTo(t, s, ID{}, Identity, line+"\n")
		}
		follow(t, s, h, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != 1 || left[0] <= ahead {
			t.Errorf("left are %v", left)
		}
		if got := h.Lines(); !slices.Equal(got, []string{"one", "two", "three"}) {
			t.Errorf("%q", got)
		}
	})
}
