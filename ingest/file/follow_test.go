//go:build unix

package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/denywatch/denywatch/ingest"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []string // one part of each problem
	}{
		"fine":       {Config{Paths: []string{"/var/log/*.log", "rel.log"}}, nil},
		"nothing":    {Config{}, []string{"paths: no file named"}},
		"compressed": {Config{Paths: []string{"/a.log.gz"}}, []string{"replay"}},
		"all at once": {Config{Paths: []string{" ", "/a[", "/b\x00"}, MaxLine: 5, Check: -1, Grace: 1, Rescan: 1, Forget: 1},
			[]string{"paths[0]", "paths[1]", "paths[2]", "max_line", "check", "grace", "rescan", "forget"}},
	} {
		t.Run(name, func(t *testing.T) {
			errs := c.cfg.Validate()
			if len(errs) != len(c.want) {
				t.Fatalf("got %v", errs)
			}
			for i, e := range errs {
				if !strings.Contains(e.Error(), c.want[i]) {
					t.Errorf("problem %d is %q, want %q in it", i, e, c.want[i])
				}
			}
		})
	}
}

func TestOpensBeforeReady(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{
		"a.log", "a.log.1", "a.log-20260101", "a.log.2.gz", "a.log.old", "a-20260101.log", "b.log", "empty.log",
		"tomcat.2026-01-01.log", "notes.txt",
	} {
		write(t, in(name), name+"\n")
	}
	must(t, os.Truncate(in("empty.log"), 0))
	must(t, os.Mkdir(in("folder.log"), 0o755))
	must(t, os.Symlink(in("b.log"), in("current.log")))
	must(t, syscall.Mkfifo(in("pipe.log"), 0o644))
	h := newHost(t)
	h.positions[streamPrefix+in("saved.log")] = ingest.Position{Offset: 5, Mark: identify(1, 2, []byte("x")).encode()}
	h.positions[streamPrefix+in("unrelated.txt")] = ingest.Position{}
	log := &logged{}
	run(t, quick(in("*.log*"), in("absent.log"), in("b.log"), in("tomcat.*")), h, slog.New(slog.NewTextHandler(log, nil)))
	until(t, "ready", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.ready })
	var want []string
	for _, name := range []string{"a.log", "b.log", "empty.log", "saved.log", "tomcat.2026-01-01.log"} {
		want = append(want, streamPrefix+in(name))
	}
	if !slices.Equal(h.atReady, want) {
		t.Errorf("open when ready: %q\nwant %q", h.atReady, want)
	}
	for _, name := range []string{"a.log", "b.log", "tomcat.2026-01-01.log"} {
		seen(t, h, in(name), []string{name})
	}
	// Appearing files: by name and by glob.
	write(t, in("absent.log"), "1\n")
	write(t, in("new.log"), "2\n")
	write(t, in("saved.log"), "3\n")
	seen(t, h, in("absent.log"), []string{"1"})
	seen(t, h, in("new.log"), []string{"2"})
	seen(t, h, in("saved.log"), []string{"3"})
	until(t, "warning about the lost position", func() bool { return log.has("nowhere") })
	if len(h.get(in("a.log.1"))) > 0 {
		t.Error("a rotated generation is followed by itself")
	}
}

func TestRotatedNameWithoutBaseJoinsLater(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "a.log")
	write(t, base+".1", "old\n") // the gap of a nocreate rotation, at the very first start
	h := newHost(t)
	run(t, quick(filepath.Join(dir, "*")), h, quiet())
	seen(t, h, base+".1", []string{"old"})
	write(t, base, "new\n")
	seen(t, h, base, []string{"new"})
	until(t, "the rotated file's stream ends", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Contains(h.forgotten, streamPrefix+base+".1")
	})
}

func TestHalfLinesAndCRLF(t *testing.T) {
	for _, poll := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.log")
		write(t, path, "one\r\ntw")
		h := newHost(t)
		cfg := quick(path)
		cfg.Poll = poll
		run(t, cfg, h, quiet())
		caughtUp(t, h, path)
		same(t, h.get(path), []string{"one\r"})
		for _, s := range []string{"o", "\r", "\n", "th", "ree\nfour\nfi"} {
			write(t, path, s)
			caughtUp(t, h, path)
		}
		seen(t, h, path, []string{"one\r", "two\r", "three", "four"})
	}
}

// caughtUp waits until the stream says so twice: the first call may have been
// under way before what the test did.
func caughtUp(t *testing.T, h *testHost, path string) {
	t.Helper()
	calls := func() int { h.mu.Lock(); defer h.mu.Unlock(); return h.caughtUp[streamPrefix+path] }
	before := calls()
	until(t, "caught up", func() bool { return calls() >= before+2 })
}

func TestLastLineOfRotatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\nlast")
	h := newHost(t)
	stop := run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"one"})
	must(t, os.Rename(path, path+".1"))
	write(t, path, "two\n")
	seen(t, h, path, []string{"one", "last", "two"})
	stop()
	// The position counts the bytes of the file, not the newline that was added.
	run(t, quick(path), h, quiet())
	write(t, path, "three\n")
	seen(t, h, path, []string{"one", "last", "two", "three"})
}

// TestHoldsCaughtUpWhileRotatedWaits: as long as a newer file has lines, event
// time must not move on.
func TestHoldsCaughtUpWhileRotatedWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\n")
	h := newHost(t)
	cfg := quick(path)
	cfg.Grace = 300 * time.Millisecond
	run(t, cfg, h, quiet())
	caughtUp(t, h, path)
	must(t, os.Rename(path, path+".1"))
	write(t, path, "") // empty: nothing is missing
	caughtUp(t, h, path)
	write(t, path+".1", "late\n")
	seen(t, h, path, []string{"one", "late"})
	write(t, path, "two\n")
	seen(t, h, path, []string{"one", "late", "two"})
	caughtUp(t, h, path)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.caughtAt[streamPrefix+path] != 3 {
		t.Error("caught up before the last line")
	}
}

func TestEndlessLine(t *testing.T) {
	for _, poll := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.log")
		write(t, path, "one\n")
		h := newHost(t)
		cfg := quick(path)
		cfg.MaxLine = minMaxLine
		cfg.Poll = poll
		stop := run(t, cfg, h, quiet())
		seen(t, h, path, []string{"one"})
		chunk := strings.Repeat("z", 300<<10)
		for range 40 {
			write(t, path, chunk)
		}
		caughtUp(t, h, path)
		write(t, path, "\ntwo\n")
		seen(t, h, path, []string{"one", "two"})
		for range 3 { // with newline at once, so that a tail sees them too
			write(t, path, chunk+"\nx\n")
			caughtUp(t, h, path)
		}
		write(t, path, strings.Repeat("k", minMaxLine)+"\n"+strings.Repeat("k", minMaxLine+1)+"\n")
		until(t, "skipped lines", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.skipped >= 5 })
		stop()
		same(t, h.get(path), []string{"one", "two", "x", "x", "x", strings.Repeat("k", minMaxLine)})
		if h.skipped != 5 {
			t.Errorf("%d lines skipped, want 5", h.skipped)
		}
		// The position is behind the skipped line: a restart does not count it again.
		stop = run(t, cfg, h, quiet())
		caughtUp(t, h, path)
		stop()
		if h.skipped != 5 {
			t.Errorf("after a restart %d lines skipped, want 5", h.skipped)
		}
	}
}

// TestGathersLines: under load a batch holds many lines, followed by tail or not.
func TestGathersLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "first\n")
	h := newHost(t)
	batches := 0
	h.park = func(context.Context, string) { batches++ }
	stop := run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"first"})
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	want := []string{"first"}
	for i := range 50_000 {
		l := fmt.Sprintf("line %d", i)
		want = append(want, l)
		_, err := f.WriteString(l + "\n")
		must(t, err)
	}
	seen(t, h, path, want)
	stop()
	if batches > len(want)/20 {
		t.Errorf("%d batches for %d lines", batches, len(want))
	}
}

func TestNotRegularThenRecovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	must(t, os.Mkdir(path, 0o755))
	h := newHost(t)
	run(t, quick(path), h, quiet())
	until(t, "unknown", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		err := h.unknown[streamPrefix+path]
		return err != nil && strings.Contains(err.Error(), "folder") && strings.Contains(err.Error(), path)
	})
	must(t, os.Remove(path))
	write(t, path, "fine\n")
	seen(t, h, path, []string{"fine"})
	caughtUp(t, h, path)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unknown[streamPrefix+path] != nil {
		t.Error("still unknown after recovery")
	}
}

// TestPermissionDenied needs a user whom permissions bind, so as root it runs
// itself again as nobody.
func TestPermissionDenied(t *testing.T) {
	if os.Geteuid() == 0 {
		if runtime.GOOS != "linux" {
			t.Skip("SKIPPED: root may read everything, and there is no other user to be")
		}
		dir, err := os.MkdirTemp("", "denywatch-nobody") //nolint:usetesting // the folder around t.TempDir is closed to nobody
		must(t, err)
		defer func() { must(t, os.RemoveAll(dir)) }()
		must(t, os.Chmod(dir, 0o777))
		exe, err := os.Executable()
		must(t, err)
		bin, err := os.ReadFile(exe)
		must(t, err)
		own := filepath.Join(dir, "file.test")
		must(t, os.WriteFile(own, bin, 0o755))
		cmd := exec.Command(own, "-test.run=^TestPermissionDenied$", "-test.count=1")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("as nobody: %v\n%s", err, out)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\n")
	must(t, os.Chmod(path, 0))
	h := newHost(t)
	log := &logged{}
	cfg := quick(path)
	run(t, cfg, h, slog.New(slog.NewTextHandler(log, nil)))
	denied := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		err := h.unknown[streamPrefix+path]
		return err != nil && strings.Contains(err.Error(), path) && strings.Contains(err.Error(), "setfacl")
	}
	until(t, "unknown at start", denied)
	if h.count(path) != 0 || h.caughtUp[streamPrefix+path] != 0 {
		t.Error("delivered or caught up while unreadable")
	}
	must(t, os.Chmod(path, 0o644))
	seen(t, h, path, []string{"one"})
	// The next generation is made unreadable: what is in the old one still comes.
	must(t, os.Rename(path, path+".1"))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("three\n")
	must(t, err)
	until(t, "unknown after rotation", denied)
	write(t, path+".1", "two\n")
	seen(t, h, path, []string{"one", "two"})
	must(t, os.Chmod(path, 0o644))
	seen(t, h, path, []string{"one", "two", "three"})
	if n := strings.Count(log.String(), "cannot be read"); n > 4 {
		t.Errorf("the trouble was logged %d times", n)
	}
}

func TestDeletedFileIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\ntw")
	h := newHost(t)
	run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"one"})
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	must(t, os.Remove(path))
	_, err = f.WriteString("o\nhalf") // the server goes on for a while
	must(t, err)
	must(t, f.Close())
	seen(t, h, path, []string{"one", "two", "half"})
	until(t, "closed for good", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.forgotten) == 1 && len(h.positions) == 0
	})
	write(t, path, "again\n")
	seen(t, h, path, []string{"one", "two", "half", "again"})
}

func TestRenamedFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\n")
	h := newHost(t)
	cfg := quick(path)
	stop := run(t, cfg, h, quiet())
	seen(t, h, path, []string{"one"})
	must(t, os.Rename(path, path+".1"))
	write(t, path+".1", "two\n")
	seen(t, h, path, []string{"one", "two"})
	caughtUp(t, h, path)
	caughtUp(t, h, path)
	stop()
	write(t, path+".1", "three\n")
	stop = run(t, cfg, h, quiet())
	seen(t, h, path, []string{"one", "two", "three"})
	stop()
	if len(h.forgotten) > 0 {
		t.Error("position was dropped")
	}
	run(t, cfg, h, quiet())
	write(t, path, "four\n")
	seen(t, h, path, []string{"one", "two", "three", "four"})
}

// TestWhileDown: what happened to a file between two runs.
func TestWhileDown(t *testing.T) {
	gz := func(t *testing.T, path, text string) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write([]byte(text))
		must(t, err)
		must(t, z.Close())
		must(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
	for name, c := range map[string]struct {
		happens func(t *testing.T, p string)
		want    []string
		log     string
	}{
		"nothing":  {func(*testing.T, string) {}, []string{"end"}, ""},
		"appended": {func(t *testing.T, p string) { write(t, p, "b\n") }, []string{"b", "end"}, ""},
		"rotated three times": {func(t *testing.T, p string) {
			write(t, p, "b\n")
			must(t, os.Rename(p, p+".3"))
			write(t, p+".2", "c\n")
			write(t, p+".1", "d\nhalf")
			write(t, p, "e\n")
			write(t, p+".4", "old\n")
		}, []string{"b", "c", "d", "half", "e", "end"}, ""},
		"dateext, the newest compressed": {func(t *testing.T, p string) {
			must(t, os.Rename(p, p+"-20260103"))
			write(t, p+"-20260102", "old\n")
			gz(t, p+"-20260104.gz", "b\n")
			write(t, p, "c\n")
		}, []string{"b", "c", "end"}, ""},
		"extension kept": {func(t *testing.T, p string) {
			s := strings.TrimSuffix(p, ".log")
			write(t, p, "b\n")
			must(t, os.Rename(p, s+"-20260103.log"))
			write(t, s+"-20260104.log", "c\n")
			write(t, p, "d\n")
		}, []string{"b", "c", "d", "end"}, ""},
		"compressed": {func(t *testing.T, p string) {
			gz(t, p+".2.gz", "first a\nsecond a\nb\nhalf")
			must(t, os.Remove(p))
			gz(t, p+".1.gz", "c\n")
			write(t, p, "d\n")
		}, []string{"b", "half", "c", "d", "end"}, ""},
		"compressor died": {func(t *testing.T, p string) {
			write(t, p, "b\n")
			must(t, os.Rename(p, p+".1"))
			gz(t, p+".1.gz", "first a\n")
			write(t, p, "c\n")
		}, []string{"b", "c", "end"}, ""},
		"copied and truncated": {func(t *testing.T, p string) {
			write(t, p+".1", "first a\nsecond a\nb\n")
			must(t, os.Truncate(p, 0))
			write(t, p, "c which is longer than all that was in it before\n")
		}, []string{"b", "c which is longer than all that was in it before", "end"}, ""},
		"inode reused": {func(t *testing.T, p string) {
			// The same inode with other content, as after deleting and creating.
			must(t, os.Truncate(p, 0))
			write(t, p, "another file with more in it than before\nb\n")
		}, []string{"another file with more in it than before", "b", "end"}, "nowhere"},
		"moved to another file system": {func(t *testing.T, p string) {
			b, err := os.ReadFile(p)
			must(t, err)
			must(t, os.WriteFile(p+".tmp", append(b, "b\n"...), 0o644))
			must(t, os.Rename(p+".tmp", p))
		}, []string{"b", "end"}, ""},
		"replaced": {func(t *testing.T, p string) {
			must(t, os.Remove(p))
			write(t, p, "b\n")
		}, []string{"b", "end"}, "nowhere"},
		"a copy beside it": {func(t *testing.T, p string) {
			b, err := os.ReadFile(p)
			must(t, err)
			must(t, os.WriteFile(p+".old", b, 0o644))
			write(t, p, "b\n")
		}, []string{"b", "end"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.log")
			write(t, path, "first a\nsecond a\n")
			h := newHost(t)
			stop := run(t, quick(path), h, quiet())
			seen(t, h, path, []string{"first a", "second a"})
			stop()
			c.happens(t, path)
			log := &logged{}
			run(t, quick(path), h, slog.New(slog.NewTextHandler(log, nil)))
			until(t, "the file is there", func() bool { _, err := os.Stat(path); return err == nil })
			write(t, path, "end\n")
			seen(t, h, path, append([]string{"first a", "second a"}, c.want...))
			if c.log == "" && log.has("WARN") || !log.has(c.log) {
				t.Errorf("log is %s", log)
			}
		})
	}
}

// TestCopyThatEndsTooEarly: lines that were read after the copy was made and
// before the file was truncated are not in the copy; what was copied later is
// still found.
func TestCopyThatEndsTooEarly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	want := []string{"first"}
	for i := range 100 {
		want = append(want, fmt.Sprintf("line %d of the first file", i))
	}
	text := strings.Join(want, "\n") + "\n"
	write(t, path, text+"read before the truncation\n")
	want = append(want, "read before the truncation")
	h := newHost(t)
	stop := run(t, quick(path), h, quiet())
	seen(t, h, path, want)
	stop()
	write(t, path+".2", text)
	write(t, path+".1", "b\n")
	must(t, os.Truncate(path, 0))
	write(t, path, "c\n")
	run(t, quick(path), h, quiet())
	seen(t, h, path, append(want, "b", "c"))
}

func TestUnreadableMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\n")
	h := newHost(t)
	h.positions[streamPrefix+path] = ingest.Position{Offset: 4, Mark: []byte{99, 1, 2}}
	log := &logged{}
	run(t, quick(path), h, slog.New(slog.NewTextHandler(log, nil)))
	seen(t, h, path, []string{"one"})
	if !log.has("version 99") {
		t.Errorf("log says nothing of it: %s", log)
	}
}

func TestTruncatedCompressedGeneration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "first\n")
	h := newHost(t)
	stop := run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"first"})
	stop()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	want := []string{"first"}
	for i := range 20_000 {
		l := fmt.Sprintf("line %d %x", i, i*i*7919)
		want = append(want, l)
	}
	_, err := z.Write([]byte(strings.Join(want, "\n") + "\n"))
	must(t, err)
	must(t, z.Close())
	must(t, os.Remove(path))
	must(t, os.WriteFile(path+".1.gz", b.Bytes()[:b.Len()/2], 0o644))
	write(t, path, "live\n")
	run(t, quick(path), h, quiet())
	// A compressor may still be at it, so the stream waits ...
	until(t, "unknown", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.unknown[streamPrefix+path] != nil })
	f, err := os.OpenFile(path+".1.gz", os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(b.Bytes()[b.Len()/2:])
	must(t, err)
	must(t, f.Close())
	// ... and nothing is lost.
	seen(t, h, path, append(want, "live"))
}

func TestDamagedOldCompressedGeneration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "first\n")
	h := newHost(t)
	stop := run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"first"})
	stop()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte("first\nsecond\n"))
	must(t, err)
	must(t, z.Flush())
	must(t, os.Remove(path))
	must(t, os.WriteFile(path+".1.gz", b.Bytes(), 0o644)) // without its end
	old := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(path+".1.gz", old, old))
	write(t, path, "live\n")
	log := &logged{}
	run(t, quick(path), h, slog.New(slog.NewTextHandler(log, nil)))
	seen(t, h, path, []string{"first", "second", "live"})
	if !log.has("truncated") {
		t.Errorf("log: %s", log)
	}
}

// TestParkedStreamsStopNobody: more streams than there are big buffers block in
// Batch, each waiting for a stream that has not been read yet.
func TestParkedStreamsStopNobody(t *testing.T) {
	dir := t.TempDir()
	n := bigHolders + 20
	block := strings.Repeat("0123456789abcdef0123456789abcdef\n", 2*bigBlock/33)
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), block)
	}
	h := newHost(t)
	h.keep = false
	var mu sync.Mutex
	arrived := map[string]bool{}
	all := make(chan struct{})
	h.park = func(ctx context.Context, stream string) {
		mu.Lock()
		arrived[stream] = true
		if len(arrived) == n {
			select {
			case <-all:
			default:
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all:
		case <-ctx.Done():
		}
	}
	run(t, quick(filepath.Join(dir, "*.log")), h, quiet())
	until(t, "every stream in Batch at once", func() bool { mu.Lock(); defer mu.Unlock(); return len(arrived) == n })
}

func TestStopsWhileParked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\n")
	h := newHost(t)
	in := make(chan struct{})
	var once sync.Once
	h.park = func(ctx context.Context, _ string) {
		h.mu.Lock()
		n := len(h.positions[streamPrefix+path].Mark)
		h.mu.Unlock()
		if n == 0 {
			return // the announcement
		}
		once.Do(func() { close(in) })
		<-ctx.Done()
	}
	stop := run(t, quick(path), h, quiet())
	<-in
	stop()
	h.park = nil
	if h.count(path) != 0 {
		t.Error("consumed a line after the end")
	}
	run(t, quick(path), h, quiet())
	seen(t, h, path, []string{"one"})
}

func TestFromEnd(t *testing.T) {
	dir := t.TempDir()
	path, later, long := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log"), filepath.Join(dir, "c.log")
	write(t, path, strings.Repeat("old line\n", 10_000)+"half")
	write(t, long, "old\n"+strings.Repeat("z", 3*minMaxLine))
	h := newHost(t)
	cfg := quick(filepath.Join(dir, "*.log"))
	cfg.FromEnd = true
	cfg.MaxLine = minMaxLine
	stop := run(t, cfg, h, quiet())
	caughtUp(t, h, path)
	caughtUp(t, h, long)
	write(t, path, " done\nnew\n")
	write(t, long, "zz\nnew\n")
	write(t, later, "from its start\n")
	seen(t, h, path, []string{"half done", "new"})
	seen(t, h, long, []string{"new"})
	seen(t, h, later, []string{"from its start"})
	stop()
	// A position is known from the beginning, so nothing is skipped later.
	write(t, path, "while down\n")
	write(t, filepath.Join(dir, "d.log"), "too\n")
	run(t, cfg, h, quiet())
	seen(t, h, path, []string{"half done", "new", "while down"})
	seen(t, h, filepath.Join(dir, "d.log"), []string{"too"})
}

// TestBackfill: the first run reads the rotated files of the last days first, in
// order, and later runs do not read them again.
func TestBackfill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	now := time.Now()
	put := func(name, text string, age time.Duration) {
		t.Helper()
		f := filepath.Join(dir, name)
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write([]byte(text))
			_ = z.Close()
			text = b.String()
		}
		write(t, f, text)
		if err := os.Chtimes(f, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	put("a.log.4.gz", "too old\n", 100*time.Hour)
	put("a.log.3.gz", "three\n", 70*time.Hour)
	put("a.log.2", "two\n", 48*time.Hour)
	put("a.log.1", "one\n", 24*time.Hour)
	put("b.log.1", "of another log\n", time.Hour)
	put("a.log", "now\n", 0)
	h := newHost(t)
	cfg := quick(path)
	cfg.Backfill = 72 * time.Hour
	stop := run(t, cfg, h, quiet())
	want := []string{"three", "two", "one", "now"}
	seen(t, h, path, want)
	write(t, path, "more\n")
	want = append(want, "more")
	seen(t, h, path, want)
	stop()
	write(t, path, "while down\n")
	run(t, cfg, h, quiet())
	seen(t, h, path, append(want, "while down"))
}

// TestBackfillInterrupted: a first run that is stopped in the middle of the past
// goes on there.
func TestBackfillInterrupted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	write(t, path+".1", "one\ntwo\nthree\n")
	write(t, path, "now\n")
	h := newHost(t)
	cfg := quick(path)
	cfg.Backfill = time.Hour
	lines := 0
	h.crash = func() bool { lines++; return lines == 2 }
	run(t, cfg, h, quiet())
	seen(t, h, path, []string{"one"})
	run(t, cfg, h, quiet())
	seen(t, h, path, []string{"one", "two", "three", "now"})
}

// TestStoppedByHost: a stream that its handler ended, while the source goes on,
// is opened again from its position.
func TestStoppedByHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "one\ntwo\nthree\n")
	h := newHost(t)
	lines := 0
	h.crash = func() bool { lines++; return lines == 2 }
	run(t, quick(path), h, quiet())
	h.mu.Lock()
	h.stop = func() {} // only the stream ends
	h.mu.Unlock()
	seen(t, h, path, []string{"one", "two", "three"})
	if len(h.opened) != 2 {
		t.Errorf("opened %d times", len(h.opened))
	}
}

// TestThousandFiles measures what idle files cost.
func TestThousandFiles(t *testing.T) {
	dir := t.TempDir()
	const n = 1000
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), "one\n")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	h := newHost(t)
	h.keep = false
	cfg := Config{Paths: []string{filepath.Join(dir, "*.log")}}
	stop := run(t, cfg, h, quiet())
	until(t, "all read", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.caughtUp) == n
	})
	// All of them get a line: followed by tail, at most three goroutines each.
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), "two\n")
	}
	caught := func() (k int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, p := range h.positions {
			if p.Offset == 8 {
				k++
			}
		}
		return k
	}
	until(t, "all read again", func() bool { return caught() == n })
	if g := runtime.NumGoroutine() - goroutines; g > 3*n+20 {
		t.Errorf("%d goroutines", g)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
	t.Logf("active: %d goroutines, %.1f KiB a file", runtime.NumGoroutine()-goroutines, used/n/1024)
	if used/n > 64<<10 && !raceOn || used/n > 128<<10 {
		t.Errorf("%.0f bytes a file", used/n)
	}
	if os.Getenv("DENYWATCH_MEASURE") != "" {
		measure := func(what string) {
			c := cpu()
			time.Sleep(5 * time.Second)
			runtime.ReadMemStats(&after)
			used := float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
			t.Logf("%s: %.0f ms CPU a second, %d goroutines, %.1f KiB a file", what,
				float64((cpu()-c).Milliseconds())/5, runtime.NumGoroutine()-goroutines, used/n/1024)
		}
		measure("just written")
		time.Sleep(activeFor)
		measure("quiet")
		time.Sleep(idleAfter - activeFor)
		measure("idle")
	}
	stop()
}

func cpu() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
