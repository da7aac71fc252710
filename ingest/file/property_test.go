//go:build unix

package file

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// scribe writes numbered lines to one log as servers and rotation tools do.
type scribe struct {
	t    *testing.T
	rnd  *rand.Rand
	path string
	f    *os.File
	n    int    // lines finished or begun
	half string // rest of a line that was begun
	gens int    // highest generation number
}

func (w *scribe) open() {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(w.t, err)
	w.f = f
}

func (w *scribe) line() string {
	s := fmt.Sprintf("line %d %s\r\n", w.n, strings.Repeat("x", w.rnd.IntN(200)))
	w.n++
	return s
}

// want returns what must have been delivered when all is said.
func (w *scribe) check(got []string) {
	w.t.Helper()
	for i, l := range got {
		if !strings.HasPrefix(l, fmt.Sprintf("line %d ", i)) || !strings.HasSuffix(l, "\r") {
			w.t.Fatalf("line %d is %.60q", i, l)
		}
	}
	if len(got) != w.n {
		w.t.Fatalf("%d lines delivered, %d written", len(got), w.n)
	}
}

func (w *scribe) put(s string) {
	_, err := w.f.WriteString(s)
	must(w.t, err)
}

func (w *scribe) finish() {
	w.put(w.half)
	w.half = ""
}

func (w *scribe) write(lines int) {
	for range lines {
		w.finish()
		s := w.line()
		k := len(s)
		if w.rnd.IntN(4) == 0 {
			k = 1 + w.rnd.IntN(len(s)-1)
		}
		w.put(s[:k])
		w.half = s[k:]
	}
	if w.rnd.IntN(3) > 0 {
		w.finish()
	}
}

// shift renames path to its first generation, as logrotate does.
func (w *scribe) shift() {
	for i := w.gens; i > 0; i-- {
		for _, ext := range []string{"", ".gz", ".zst"} {
			old := fmt.Sprintf("%s.%d%s", w.path, i, ext)
			if _, err := os.Stat(old); err == nil {
				must(w.t, os.Rename(old, fmt.Sprintf("%s.%d%s", w.path, i+1, ext)))
			}
		}
	}
	w.gens++
}

func (w *scribe) rotate(create bool) {
	w.shift()
	must(w.t, os.Rename(w.path, w.path+".1"))
	if create {
		f, err := os.OpenFile(w.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		must(w.t, err)
		must(w.t, f.Close())
	}
	if w.rnd.IntN(2) == 0 {
		w.nap()
		w.write(w.rnd.IntN(20)) // the server does not know yet
	}
	w.finish() // or it would be two lines
	old := w.f
	if !create {
		w.nap()
	}
	w.open()
	must(w.t, old.Close())
}

// compress does what logrotate does with delaycompress.
func (w *scribe) compress() {
	for i := 2; i <= w.gens; i++ {
		name := fmt.Sprintf("%s.%d", w.path, i)
		in, err := os.Open(name)
		if err != nil {
			continue
		}
		ext := []string{".gz", ".zst"}[w.rnd.IntN(2)]
		out, err := os.Create(name + ext)
		must(w.t, err)
		var z io.WriteCloser = gzip.NewWriter(out)
		if ext == ".zst" {
			z, err = zstd.NewWriter(out)
			must(w.t, err)
		}
		_, err = io.Copy(z, in)
		must(w.t, err)
		must(w.t, z.Close())
		must(w.t, out.Close())
		fi, err := in.Stat()
		must(w.t, err)
		must(w.t, os.Chtimes(name+ext, time.Time{}, fi.ModTime()))
		in.Close()
		must(w.t, os.Remove(name))
	}
}

// copytruncate needs a writer that rests, or lines are lost by design.
func (w *scribe) copytruncate() {
	w.finish()
	w.shift()
	b, err := os.ReadFile(w.path)
	must(w.t, err)
	must(w.t, os.WriteFile(w.path+".1", b, 0o644))
	must(w.t, os.Truncate(w.path, 0))
}

// nap passes some time, for interleaving only: nothing depends on how long.
func (w *scribe) nap() { time.Sleep(time.Duration(w.rnd.IntN(15)) * time.Millisecond) }

// TestEveryLineOnce runs random schedules of writing, rotation, compression and
// restarts, also in the middle of a batch, against a source.
func TestEveryLineOnce(t *testing.T) {
	seeds := uint64(16)
	if n, err := strconv.ParseUint(os.Getenv("DENYWATCH_SEEDS"), 10, 64); err == nil {
		seeds = n
	}
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			everyLineOnce(t, seed)
		})
	}
}

func everyLineOnce(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 403))
	dir := t.TempDir()
	w := &scribe{t: t, rnd: rnd, path: filepath.Join(dir, "access.log")}
	w.open()
	defer func() { w.f.Close() }()
	h := newHost(t)
	h.trace = true
	crashRnd := rand.New(rand.NewPCG(seed, 404))
	cfg := quick(filepath.Join(dir, "*.log*"))
	cfg.Poll = seed%3 == 2
	text := &logged{}
	log := slog.New(slog.NewTextHandler(text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	stop := run(t, cfg, h, log)
	up := true
	drained := func() {
		w.finish()
		until(t, fmt.Sprintf("%d lines, seed %d", w.n, seed), func() bool { return h.count(w.path) >= w.n })
	}
	start := func() {
		if !up {
			stop = run(t, cfg, h, log)
			up = true
		}
	}
	down := func() {
		stop()
		h.mu.Lock()
		h.crash = nil
		h.mu.Unlock()
		up = false
	}
	// A file of which nothing was ever delivered is known by its inode only, and
	// lost when it is compressed.
	w.write(1)
	drained()
	var did []string
	note := func(format string, args ...any) { did = append(did, fmt.Sprintf(format, args...)) }
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d did: %s", seed, strings.Join(did, ", "))
			t.Log(text.String())
			h.mu.Lock()
			defer h.mu.Unlock()
			t.Log(h.positions)
			for _, e := range h.events {
				t.Log(e)
			}
			ls, _ := exec.Command("ls", "-lai", dir).CombinedOutput()
			t.Logf("%s", ls)
		}
	})
	for range 60 {
		switch rnd.IntN(12) {
		case 0, 1, 2:
			k := rnd.IntN(40)
			note("write %d", k)
			w.write(k)
		case 3:
			k := 1000 + rnd.IntN(3000)
			note("write %d", k)
			w.write(k)
		case 4:
			note("rotate create")
			w.rotate(true)
		case 5:
			note("rotate nocreate")
			w.rotate(false)
		case 6:
			k := 2 + rnd.IntN(3)
			note("rotate %d times", k)
			for range k {
				w.write(rnd.IntN(5))
				w.rotate(rnd.IntN(2) == 0)
			}
		case 7:
			note("compress")
			w.compress()
		case 8:
			if up {
				note("copytruncate")
				w.write(1)
				drained()
				w.copytruncate()
			}
		case 9:
			if up {
				note("stop")
				down()
			} else {
				note("start")
				start()
			}
		case 10:
			if up {
				note("crash")
				h.mu.Lock()
				h.crash = func() bool { return crashRnd.IntN(20) == 0 }
				h.mu.Unlock()
				w.write(100)
				w.finish()
				until(t, "crash", func() bool {
					h.mu.Lock()
					defer h.mu.Unlock()
					return len(h.open) == 0 || len(h.lines[streamPrefix+w.path]) == w.n
				})
				down()
			} else if rnd.IntN(2) == 0 && h.count(w.path) > 0 {
				note("start after truncation")
				start()
				w.write(1)
				drained()
				down()
				w.write(rnd.IntN(50))
				w.copytruncate()
				w.write(rnd.IntN(300))
				start()
			}
		case 11:
			note("nap")
			w.nap()
		}
	}
	start()
	drained()
	stop()
	w.check(h.get(w.path))
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lines) != 1 {
		t.Errorf("%d streams delivered lines, want 1", len(h.lines))
	}
}
