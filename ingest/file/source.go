// Package file follows log files and reads archived ones. It delivers every line
// that is written to a followed file exactly once and in order, over rotation
// and over restarts, whatever happens while nobody reads; the exceptions are
// named below.
//
// # Following
//
// A stream is a path. Behind it stand generations: the file that is there now
// and those that were rotated away. A generation is held open from the moment it
// is seen, and identified by device, inode and the hash of its first KiB, so
// renaming, compressing, deleting and the reuse of inode numbers do not confuse
// it. Generations are read one after the other to their ends. One that was
// rotated away is given up when a successor has lines and it was quiet for
// Config.Grace. Only then is a last line without newline delivered.
//
// Whatever lies between the position and the end of a file is read in large
// blocks. A file that is being written at a moderate pace is then followed by
// nxadm/tail, through /proc/self/fd, on file systems whose stat cannot fail (the
// library ends the process if it does); files that are quiet, very busy, rotated
// away or elsewhere are polled. What is delivered, and when, is the same.
//
// After a restart the saved position is looked for in the file at the path and
// in its rotated generations in the same folder, compressed (.gz, .zst, .bz2) or
// not; reading goes on there and through every newer generation. If it is
// nowhere, a warning is logged and the file at the path is read from its start.
// A position is dropped when its file was deleted and stayed away for
// Config.Forget, or was found nowhere for a day; a file that was only renamed
// keeps it.
//
// # Limits
//
// Lines are lost or read twice only here:
//   - copytruncate: what is written between the copy and the truncation is in no
//     file; no reader can have it unless it read it in between. What was copied
//     is read from the copy.
//   - A file that is rewritten in place with the same first KiB.
//   - Rotated files that are moved to another folder while nobody reads, or
//     deleted before they were read.
//   - What is written to a rotated file after Config.Grace of silence while its
//     successor is already written to, or to a deleted file after
//     Config.Forget.
//   - Equal heads: files of which less than 1 KiB was delivered and which start
//     alike are told apart by inode only.
package file

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/nxadm/tail/watch"

	"github.com/denywatch/denywatch/ingest"
)

// streamPrefix begins every stream name; an absolute path follows.
const streamPrefix = "file:"

const (
	// plainRescan bounds how long a file that is waited for by name can be there
	// unseen.
	plainRescan = time.Second
	// reopenAfter is the pause before a stream that its host ended is opened
	// again.
	reopenAfter = 5 * time.Second
	// maxSaid bounds what is remembered about names that were logged.
	maxSaid = 10_000
)

// tailPoll is how often nxadm/tail looks at a file.
const tailPoll = 100 * time.Millisecond

// setTailPoll guards the one write to the library's global.
var setTailPoll sync.Once

// Source follows the files of a Config. It implements ingest.Source.
type Source struct {
	cfg    Config
	log    *slog.Logger
	blocks *blocks
}

var _ ingest.Source = (*Source)(nil)

// New returns a Source for a valid cfg (see Config.Validate). It reads nothing
// yet. log gets the attributes component and, per stream, path.
func New(cfg Config, log *slog.Logger) *Source {
	// The poll interval of nxadm/tail is a variable of its package, read by
	// goroutines without a lock. So it is written once, before any of them
	// exists, and is the same for all sources of the process.
	setTailPoll.Do(func() { watch.POLL_DURATION = tailPoll })
	return &Source{
		cfg:    cfg.withDefaults(),
		log:    log.With("component", "ingest/file"),
		blocks: newBlocks(),
	}
}

// runner is one call of Run.
type runner struct {
	*Source
	ctx   context.Context
	host  ingest.Host
	plain map[string]bool // paths without glob characters
	globs []string
	first bool // nothing was saved: the very first run

	wg       sync.WaitGroup
	mu       sync.Mutex
	streams  map[string]*stream
	notUntil map[string]time.Time // when a path may be opened again
	said     map[string]string    // what was last logged about a path or glob
}

// Run implements ingest.Source. It returns an error only when a path cannot be
// made absolute or the host cannot open the first streams.
func (s *Source) Run(ctx context.Context, host ingest.Host) error {
	r := &runner{
		Source: s, ctx: ctx, host: host,
		plain: map[string]bool{}, streams: map[string]*stream{},
		notUntil: map[string]time.Time{}, said: map[string]string{},
	}
	for _, p := range s.cfg.Paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return fmt.Errorf("make path %q absolute: %w", p, err)
		}
		if isGlob(p) {
			r.globs = append(r.globs, abs)
		} else {
			r.plain[abs] = true
		}
	}
	saved := host.Saved()
	r.first = len(saved) == 0
	var streams []*stream
	for _, path := range r.discover(true, saved) {
		st, err := r.open(path, true)
		if err != nil {
			for _, st := range streams {
				st.end(ctx, false)
			}
			if ctx.Err() != nil {
				err = nil // asked to end, it does not matter what broke off
			}
			return err
		}
		streams = append(streams, st)
	}
	host.Ready()
	for _, st := range streams {
		r.start(st)
	}
	r.watch()
	r.wg.Wait()
	return nil
}

// watch opens files as they appear, until the context ends.
func (r *runner) watch() {
	every := min(plainRescan, r.cfg.Rescan)
	tick := time.NewTicker(every)
	defer tick.Stop()
	lastGlob := time.Now()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		globs := time.Since(lastGlob) >= r.cfg.Rescan
		if globs {
			lastGlob = time.Now()
		}
		for _, path := range r.discover(globs, nil) {
			r.mu.Lock()
			later := time.Now().Before(r.notUntil[path])
			r.mu.Unlock()
			if later {
				continue
			}
			st, err := r.open(path, false)
			if err != nil {
				if r.ctx.Err() != nil {
					return
				}
				r.postpone(path)
				r.say(slog.LevelError, path, "cannot open the stream of a log file; trying again", err.Error())
				continue
			}
			r.start(st)
		}
	}
}

// open makes the stream of path; start runs it.
func (r *runner) open(path string, atStart bool) (*stream, error) {
	h, pos, err := r.host.Open(r.ctx, streamPrefix+path)
	if err != nil {
		return nil, fmt.Errorf("open stream of %s: %w", path, err)
	}
	st := newStream(r.Source, path, h, pos)
	if r.first && atStart {
		st.fromEnd, st.backfill = r.cfg.FromEnd, r.cfg.Backfill
	}
	r.mu.Lock()
	r.streams[path] = st
	delete(r.notUntil, path)
	r.mu.Unlock()
	return st, nil
}

func (r *runner) start(st *stream) {
	ctx, cancel := context.WithCancel(r.ctx)
	st.cancel = cancel
	r.wg.Go(func() {
		defer cancel()
		forget := st.run(ctx)
		// Closed before the path is free again, so that a stream is never open
		// twice.
		st.end(ctx, forget || st.retired.Load())
		if r.ctx.Err() != nil {
			return
		}
		if !forget && !st.retired.Load() {
			r.postpone(st.path) // its host ended it
		}
		r.mu.Lock()
		delete(r.streams, st.path)
		r.mu.Unlock()
	})
}

func (r *runner) postpone(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notUntil[path] = time.Now().Add(reopenAfter)
}

// say logs a condition once until it changes.
func (r *runner) say(level slog.Level, subject, msg, detail string) {
	if r.said[subject] == msg+detail {
		return
	}
	if len(r.said) >= maxSaid {
		clear(r.said) // says a few things again, but stays small
	}
	r.said[subject] = msg + detail
	r.log.Log(r.ctx, level, msg, "path", subject, "detail", detail) //nolint:sloglint // every caller's msg is a constant
}

// discover returns the paths to open that are not open yet: files that are
// there (or cannot be looked at, which their streams will tell), and those among
// saved that the configuration still names.
func (r *runner) discover(globs bool, saved []string) []string {
	r.mu.Lock()
	open := make(map[string]*stream, len(r.streams))
	for p, st := range r.streams {
		open[p] = st
	}
	r.mu.Unlock()

	found := map[string]bool{}
	var order []string
	add := func(path string) {
		if !found[path] {
			found[path] = true
			order = append(order, path)
		}
	}
	for _, p := range r.cfg.Paths {
		if abs, err := filepath.Abs(p); err == nil && r.plain[abs] {
			if _, err := os.Stat(abs); !os.IsNotExist(err) {
				add(abs)
			}
		}
	}
	if globs {
		for _, g := range r.globs {
			for _, p := range r.expand(g) {
				add(p)
			}
		}
	}
	for _, name := range saved {
		if path, ok := strings.CutPrefix(name, streamPrefix); ok && r.configured(path) {
			add(path)
		}
	}

	known := func(path string) bool { return found[path] || r.plain[path] || open[path] != nil }
	var out []string
	for _, p := range order {
		if !r.plain[p] {
			if base, is := generationOf(p, known); is {
				r.say(slog.LevelInfo, p, "not followed by itself: it is taken for a rotated generation", base)
				if st := open[p]; st != nil {
					// Its base appeared only now.
					st.retire()
				}
				continue
			}
			if target, ok := r.linkTarget(p); ok && known(target) {
				if _, is := generationOf(target, known); !is {
					r.say(slog.LevelInfo, p, "not followed: it is a link to a file that is followed", target)
					continue
				}
			}
		}
		if open[p] == nil {
			out = append(out, p)
		}
	}
	return out
}

// generationOf tells whether path is named like a rotated generation of another
// path that known knows.
func generationOf(path string, known func(string) bool) (base string, is bool) {
	for _, rd := range readings(path) {
		if known(rd.base) {
			return rd.base, true
		}
	}
	return "", false
}

// expand returns the files that a glob matches now, sorted.
func (r *runner) expand(glob string) []string {
	matches, err := doublestar.FilepathGlob(glob, doublestar.WithFailOnIOErrors())
	if err != nil {
		r.say(slog.LevelWarn, glob, "not all folders of a glob can be searched", unreadable(err).Error())
		matches, _ = doublestar.FilepathGlob(glob) // what can be read
	} else {
		delete(r.said, glob)
	}
	out := matches[:0]
	for _, m := range matches {
		if isCompressedName(m) {
			continue
		}
		fi, err := os.Stat(m)
		if os.IsNotExist(err) || err == nil && !fi.Mode().IsRegular() {
			continue
		}
		out = append(out, m)
	}
	return out
}

// configured tells whether the configuration names path.
func (r *runner) configured(path string) bool {
	if r.plain[path] {
		return true
	}
	for _, g := range r.globs {
		if ok, err := doublestar.PathMatch(g, path); err == nil && ok {
			return true
		}
	}
	return false
}

// linkTarget returns what path leads to if it is a symbolic link.
func (r *runner) linkTarget(path string) (string, bool) {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return "", false
	}
	target, err := filepath.EvalSymlinks(path)
	return target, err == nil && target != path
}

// retire ends a stream whose file turned out to belong to another one.
func (st *stream) retire() {
	st.retired.Store(true)
	st.cancel()
}
