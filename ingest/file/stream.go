package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/lines"
)

const (
	// caughtUpEvery is how often an idle stream says that it is caught up.
	caughtUpEvery = 900 * time.Millisecond
	// activeFor is how long after its last line a file is followed by tail.
	activeFor = 10 * time.Second
	// idleAfter is when a quiet file is looked at less often, by idleFactor.
	idleAfter  = 30 * time.Second
	idleFactor = 3
	// busyBytes is how much a file may bring between two looks and still be
	// followed line by line; the block reader is ten times cheaper.
	busyBytes = 1 << 20
	// absentKeep is how long a saved position that is found nowhere is kept: the
	// folder may be mounted late.
	absentKeep = 24 * time.Hour
	// settledAfter is the age at which a generation that is not the newest
	// rotated one is taken to be written by nobody.
	settledAfter = time.Minute
	// stillWritten is the age up to which a truncated compressed file may just
	// not be finished.
	stillWritten = time.Minute
	// troubleMax is the longest pause between two tries of a stream in trouble.
	troubleMax = 5 * time.Second
)

// stream reads one path and everything that was rotated away from it. All its
// methods but retire are called by one goroutine.
type stream struct {
	src     *Source
	path    string
	h       ingest.Handler
	log     *slog.Logger
	saved   ingest.Position
	fromEnd bool
	// backfill is how long ago a rotated generation may have been written to for the
	// stream to begin with it.
	backfill time.Duration
	cancel   context.CancelFunc
	retired  atomic.Bool

	cur  *generation   // being read
	next []*generation // found behind it, oldest first, held open
	// last is the newest generation that was read to its end, for finding what
	// came after it when cur is nil.
	last     identity
	lastInfo fs.FileInfo
	// unresolved is set while the saved position was found nowhere and there is
	// no file to start from.
	unresolved bool

	absentSince time.Time // zero while there is a file at the path
	lastData    time.Time // when cur last brought something
	lastLook    time.Time
	lastCaught  time.Time
	fresh       bool // something was delivered since lastCaught
	seenSize    int64
	seenTime    time.Time

	trouble  error // why the path cannot be read now
	stuck    bool  // trouble is not about opening the path: only a read ends it
	retryAt  time.Time
	pause    *backoff.ExponentialBackOff
	lastSaid string

	batch   ingest.Batch
	scratch [headMax]byte
}

func newStream(src *Source, path string, h ingest.Handler, pos ingest.Position) *stream {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = src.cfg.Check
	pause.MaxInterval = troubleMax
	return &stream{
		src: src, path: path, h: h, saved: pos, pause: pause,
		log: src.log.With("path", path),
	}
}

// errGone ends a stream whose file was deleted and read to its end.
var errGone = errors.New("file is gone for good")

// handlerError is an error of the handler: the stream has to stop.
type handlerError struct{ error }

func (e handlerError) Unwrap() error { return e.error }

// run reads until ctx ends, the handler stops it, or the file is gone for good,
// which it reports.
func (st *stream) run(ctx context.Context) (forget bool) {
	defer st.closeFiles()
	err := st.loop(ctx)
	switch {
	case errors.Is(err, errGone):
		st.log.Info("deleted log file was read to its end; its position is dropped")
		return true
	case ctx.Err() == nil:
		st.log.Error("stream stopped; it is opened again", "error", err)
	}
	return false
}

// end closes the handler. The context may be over; closing is still due.
func (st *stream) end(ctx context.Context, forget bool) {
	if err := st.h.Close(context.WithoutCancel(ctx), forget); err != nil {
		st.log.Error("cannot close the stream", "error", err)
	}
}

func (st *stream) closeFiles() {
	if st.cur != nil {
		st.cur.close()
	}
	closeAll(st.next)
	st.cur, st.next = nil, nil
}

func (st *stream) loop(ctx context.Context) error {
	for {
		err := st.resume()
		st.fromEnd, st.backfill = false, 0 // what is found later was written since
		if err == nil {
			st.recovered()
			break
		}
		if err := st.stumble(ctx, err); err != nil {
			return err
		}
	}
	for {
		var err error
		switch {
		case st.cur == nil && len(st.next) > 0:
			st.take()
		case st.cur == nil:
			err = st.await(ctx)
		case st.cur.compressed:
			err = st.readCompressed(ctx)
		default:
			err = st.follow(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// take makes the oldest waiting generation the current one.
func (st *stream) take() {
	st.cur, st.next = st.next[0], st.next[1:]
	st.seenSize, st.seenTime = -1, time.Time{}
	st.log.Debug("reading log file", "file", st.cur.path, "offset", st.cur.off)
}

// done ends the current generation.
func (st *stream) done() {
	g := st.cur
	st.last = g.identity()
	if fi, err := g.file.Stat(); err == nil {
		g.info = fi
	}
	st.lastInfo = g.info
	g.close()
	st.cur = nil
}

// resume finds what to read first: the rest of the saved generation, then every
// newer one.
func (st *stream) resume() error {
	st.unresolved = false
	live, err := openGeneration(st.path, st.src.cfg.MaxLine)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		live.live = true
	}
	if st.saved.Offset == 0 && len(st.saved.Mark) == 0 {
		if live == nil {
			return nil
		}
		if err := st.begin(live); err != nil {
			live.close()
			return err
		}
		return nil
	}
	id, err := decodeIdentity(st.saved.Mark)
	if err != nil {
		st.log.Warn("cannot tell which file the saved position belongs to; the file at the path is read from its start",
			"error", err, "offset", st.saved.Offset)
		if live != nil {
			return st.queue([]*generation{live}, 0)
		}
		return nil
	}
	off := st.saved.Offset
	if live != nil && id.sameInode(live.info) && (id.n == 0 && off == 0 || live.holds(id, off)) {
		return st.queue([]*generation{live}, off)
	}
	if live != nil {
		live.close()
	}
	gens, err := siblings(st.path, st.src.cfg.MaxLine)
	if err != nil {
		return err
	}
	at, off, err := locate(gens, id, off, nil)
	if err != nil {
		closeAll(gens)
		return err
	}
	if at < 0 {
		// Nothing tells which of the others were read before: only the newest
		// is certainly not older than the saved one.
		n := len(gens)
		if n == 0 || !gens[n-1].live {
			closeAll(gens)
			st.unresolved = true
			return nil
		}
		st.log.Warn("the file of the saved position is nowhere in its folder; the file at the path is read from its start",
			"offset", st.saved.Offset)
		closeAll(gens[:n-1])
		return st.queue(gens[n-1:], 0)
	}
	closeAll(gens[:at])
	gens = append(gens[at:at+1], withoutCopies(gens[at+1:], nil)...)
	return st.queue(gens, off)
}

// begin queues the first file that the stream ever had. The position is handed
// over in an empty batch, before any line: if the file is rotated away while
// nobody runs, the next run knows which generations are unread.
func (st *stream) begin(g *generation) error {
	g.start(0)
	if st.fromEnd {
		off, inLine, err := lastLineStart(g.file, g.info.Size(), int64(g.cut.MaxLine))
		if err != nil {
			return fmt.Errorf("find the end of the log: %w", err)
		}
		g.start(off)
		g.cut.Skipping = inLine
	}
	gens := []*generation{g}
	if st.backfill > 0 && !st.fromEnd {
		gens = st.history(g)
	}
	gens[0].knowHead()
	gens[0].announce = true
	return st.queue(gens, gens[0].off)
}

// history returns live and, before it, the rotated generations that were written
// to within the backfill.
func (st *stream) history(live *generation) []*generation {
	old, err := siblings(st.path, st.src.cfg.MaxLine)
	if err != nil {
		st.log.Warn("the rotated files beside the log cannot be looked at; they are not read", "error", err)
		return []*generation{live}
	}
	now := time.Now()
	var gens []*generation
	for _, g := range old {
		switch {
		case g.live || g.openErr == nil && os.SameFile(g.info, live.info) || g.olderThan(st.backfill, now):
			g.close()
		case g.openErr != nil:
			st.log.Warn("a rotated file cannot be read; it is left out", "file", g.path, "error", g.openErr)
		default:
			g.settled = true
			gens = append(gens, g)
		}
	}
	return withoutCopies(append(gens, live), nil)
}

// queue appends gens, of which the first starts at off. If one of them cannot be
// read it closes all: lines would be missing.
func (st *stream) queue(gens []*generation, off int64) error {
	for _, g := range gens {
		if g.openErr != nil {
			closeAll(gens)
			return g.openErr
		}
	}
	now := time.Now()
	for i, g := range gens {
		if g.off != off {
			g.start(off)
		}
		if off == 0 && !g.compressed {
			g.knowHead()
		}
		off = 0
		g.grewAt = now
		g.observe(g.info, now)
		// The one before the live file may have been rotated this moment.
		g.settled = g.settled || i < len(gens)-2 && g.olderThan(settledAfter, now)
	}
	st.next = append(st.next, gens...)
	return nil
}

// lastLineStart returns where the last, unfinished line of the first size bytes
// starts; or, if it is longer than maxLine, an offset in it and true.
func lastLineStart(r io.ReaderAt, size, maxLine int64) (off int64, inLine bool, err error) {
	buf := make([]byte, smallBlock)
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if k, err := r.ReadAt(buf[:n], end-n); int64(k) < n {
			return 0, false, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return end - n + i + 1, false, nil
			}
		}
		end -= n
		if size-end > maxLine {
			return size, true, nil
		}
	}
	return 0, false, nil
}

// await waits, with nothing to read, until there is a file at the path.
func (st *stream) await(ctx context.Context) error {
	st.look()
	if len(st.next) > 0 {
		return nil
	}
	now := time.Now()
	if st.unresolved && !st.absentSince.IsZero() && now.Sub(st.absentSince) >= absentKeep {
		return errGone
	}
	if st.last.ino != 0 && !st.absentSince.IsZero() && now.Sub(st.absentSince) >= absentKeep {
		return errGone // the rest was read from a compressed generation, a day ago
	}
	if err := st.caughtUp(ctx, now); err != nil {
		return err
	}
	return st.wait(ctx, st.interval(now))
}

// follow reads a plain generation to its end and stays there until something
// replaces it.
func (st *stream) follow(ctx context.Context) error {
	g := st.cur
	if g.announce {
		g.announce = false
		st.batch = ingest.Batch{}
		st.batch.Start.Offset, st.batch.End.Offset = g.off, g.off
		if err := st.deliver(ctx, g); err != nil {
			return st.afterRead(ctx, g, err)
		}
	}
	for {
		fi, err := st.lookAt(g)
		if err != nil {
			if err := st.stumble(ctx, err); err != nil {
				return err
			}
			continue
		}
		g.observe(fi, time.Now())
		brought := int64(0)
		if fi.Size() != st.seenSize || !fi.ModTime().Equal(st.seenTime) {
			brought, err = st.readOn(ctx, g, false)
			if err == nil {
				st.seenSize, st.seenTime = fi.Size(), fi.ModTime()
				st.recovered()
			} else if err = st.afterRead(ctx, g, err); err != nil || st.cur != g {
				return err
			} else {
				continue
			}
		}
		now := time.Now()
		if brought > 0 {
			st.lastData = now
		}
		switch {
		case brought > 0: // whoever writes is still at it
		case st.superseded(g, now):
			return st.finish(ctx, g)
		case st.gone(g, fi, now):
			if err := st.finish(ctx, g); err != nil || st.cur == g {
				return err
			}
			return errGone
		}
		if err := st.caughtUp(ctx, now); err != nil {
			return err
		}
		if brought < busyBytes && st.steady(g) && now.Sub(st.lastData) < activeFor {
			before := g.off
			if err := st.tail(ctx, g); err == nil {
				if g.off == before {
					// A tail that brings nothing must not be a busy loop.
					if err := st.wait(ctx, st.src.cfg.Check); err != nil {
						return err
					}
				}
				continue
			} else if !errors.Is(err, errNoTail) {
				if err := st.afterRead(ctx, g, err); err != nil || st.cur != g {
					return err
				}
				continue
			}
			g.noTail = true
		}
		if err := st.wait(ctx, st.interval(now)); err != nil {
			return err
		}
	}
}

// lookAt looks at the path and returns g's own size and time.
func (st *stream) lookAt(g *generation) (fs.FileInfo, error) {
	if fi := st.look(); fi != nil && os.SameFile(fi, g.info) {
		return fi, nil
	}
	return g.file.Stat()
}

// afterRead deals with what stopped the reading of g. It returns an error if the
// stream has to stop.
func (st *stream) afterRead(ctx context.Context, g *generation, err error) error {
	var stop handlerError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &stop):
		return err
	case errors.Is(err, errChanged):
		return st.truncated(ctx, g)
	default:
		g.cut.Reset(g.off)
		return st.stumble(ctx, fmt.Errorf("read log file: %w", err))
	}
}

// readOn delivers g from where it stands to its end; with final also its
// unterminated last line. It returns how much the file grew since the last time.
func (st *stream) readOn(ctx context.Context, g *generation, final bool) (int64, error) {
	c := &g.cut
	fi, err := g.file.Stat()
	if err != nil {
		return 0, err
	}
	if fi.Size() < c.Off {
		return 0, errChanged
	}
	l := st.src.blocks.get(fi.Size() - c.Off)
	c.Attach(*l.buf)
	defer func() {
		c.Detach()
		st.src.blocks.put(l)
	}()
	before := g.read
	for {
		room := c.Room()
		n, err := g.file.ReadAt(room, c.End())
		c.Filled(n)
		for c.Next(&st.batch) {
			if err := st.deliver(ctx, g); err != nil {
				return 0, err
			}
		}
		if err == nil {
			if time.Since(st.lastLook) >= st.src.cfg.Check {
				// A long backlog must not keep rotations from being seen.
				st.look()
			}
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		if final && c.Last(&st.batch) || !final && c.Rest(&st.batch) {
			if err := st.deliver(ctx, g); err != nil {
				return 0, err
			}
		} else if err := g.verify(g.off, &st.scratch); err != nil {
			return 0, err // shorter than what was delivered, or other content
		}
		g.read = c.End()
		return max(0, g.read-before), nil
	}
}

// deliver hands st.batch over after making sure that it was read from one piece.
func (st *stream) deliver(ctx context.Context, g *generation) error {
	b := &st.batch
	if !g.compressed {
		if err := g.verify(b.End.Offset, &st.scratch); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.Start.Mark, b.End.Mark = g.mark, g.mark
	if err := st.h.Batch(ctx, b); err != nil {
		return handlerError{err}
	}
	g.off = b.End.Offset
	st.fresh = true
	st.recovered()
	return nil
}

// superseded tells whether g was rotated away and can be given up: a file behind
// it has data, so whoever writes has moved on, and g was quiet for Grace since.
// As long as those files are empty there is no hurry.
func (st *stream) superseded(g *generation, now time.Time) bool {
	var moved time.Time
	for _, n := range st.next {
		if fi, err := n.file.Stat(); err == nil {
			n.observe(fi, now)
		}
		if !n.dataSince.IsZero() && (moved.IsZero() || n.dataSince.Before(moved)) {
			moved = n.dataSince
		}
	}
	if moved.IsZero() {
		return false
	}
	return g.settled || now.Sub(later(moved, g.grewAt)) >= st.src.cfg.Grace
}

// gone tells whether g was deleted, its path stays away and nobody writes to it.
func (st *stream) gone(g *generation, own fs.FileInfo, now time.Time) bool {
	return !st.absentSince.IsZero() && len(st.next) == 0 && unlinked(own) &&
		now.Sub(later(st.absentSince, g.grewAt)) >= st.src.cfg.Forget
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finish reads the very last of g and ends it.
func (st *stream) finish(ctx context.Context, g *generation) error {
	if _, err := st.readOn(ctx, g, true); err != nil {
		if err := st.afterRead(ctx, g, err); err != nil || st.cur != g {
			return err
		}
		return nil // tried again
	}
	st.done()
	return nil
}

// truncated deals with a file that no longer is what was read from it. What was
// not read yet may be in a copy, with which reading goes on; then comes what is
// in the file now.
func (st *stream) truncated(ctx context.Context, g *generation) error {
	fi, err := g.file.Stat()
	if err != nil {
		return st.stumble(ctx, err)
	}
	gens, err := siblings(st.path, st.src.cfg.MaxLine)
	if err != nil {
		return st.stumble(ctx, err)
	}
	at, off, err := locate(gens, g.identity(), g.off, fi)
	if err != nil {
		closeAll(gens)
		return st.stumble(ctx, err)
	}
	var front []*generation
	if at >= 0 {
		// More than one copy if it happened more than once since the last look.
		end := at + 1
		for i, s := range gens {
			if i > at && os.SameFile(s.info, fi) {
				end = i
			}
		}
		front = gens[at:end]
		closeAll(gens[end:])
		closeAll(gens[:at])
		for _, c := range front {
			c.settled = true
			if c.openErr != nil {
				closeAll(front)
				return st.stumble(ctx, fmt.Errorf("the copy of a truncated log cannot be read: %w", c.openErr))
			}
		}
		st.log.Info("log file was truncated; the rest of what it held is read from its copy", "copy", front[0].path)
	} else {
		closeAll(gens)
		st.log.Info("log file was truncated and there is no copy of it; it is read from its start", "offset", g.off)
	}
	again := &generation{
		path: g.path, file: g.file, info: fi, live: g.live, noTail: g.noTail, cut: lines.Cutter{MaxLine: g.cut.MaxLine},
	}
	if len(front) > 0 {
		front = append(front[:1], withoutCopies(front[1:], again)...)
	}
	behind := st.next
	st.next = nil
	if err := st.queue(append(front, again), off); err != nil {
		return err // cannot be: all of them are open
	}
	st.next = append(st.next, behind...)
	st.cur = nil
	return nil
}

// readCompressed delivers the rest of a compressed generation.
func (st *stream) readCompressed(ctx context.Context) error {
	g := st.cur
	err := st.inflateOn(ctx, g)
	var stop handlerError
	switch {
	case err == nil:
		st.recovered()
		st.done()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &stop):
		return err
	}
	if fi, serr := g.file.Stat(); serr == nil && time.Since(fi.ModTime()) < stillWritten {
		return st.stumble(ctx, fmt.Errorf("read rotated log %s: %w", g.path, err))
	}
	st.log.Error("a compressed rotated log is damaged; what follows in it is lost",
		"file", g.path, "offset", g.off, "error", err)
	st.done()
	return nil
}

func (st *stream) inflateOn(ctx context.Context, g *generation) error {
	in, err := inflate(ctxReader{ctx, io.NewSectionReader(g.file, 0, 1<<62)})
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.CopyN(io.Discard, in, g.off); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // a copy that ends before the position
		}
		return explain(err)
	}
	if len(g.head) < headMax {
		// A compressed file is complete: all of its head is known.
		if g.head, err = g.readHead(headMax); err != nil {
			return err
		}
	}
	g.mark = g.identity().encode()
	c := &g.cut
	c.Reset(g.off)
	l := st.src.blocks.get(bigBlock)
	c.Attach(*l.buf)
	defer func() {
		c.Detach()
		st.src.blocks.put(l)
	}()
	for {
		n, err := in.Read(c.Room())
		c.Filled(n)
		for c.Next(&st.batch) {
			if err := st.deliver(ctx, g); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if c.Last(&st.batch) {
				return st.deliver(ctx, g)
			}
			return nil
		}
		if err != nil {
			return explain(err)
		}
		if time.Since(st.lastLook) >= st.src.cfg.Check {
			st.look()
		}
	}
}

// look compares the path with the newest generation known and queues what is
// new. It returns what is at the path, nil if that is nothing or cannot be told.
func (st *stream) look() fs.FileInfo {
	now := time.Now()
	st.lastLook = now
	fi, err := os.Stat(st.path)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case !absent:
		st.absentSince = time.Time{}
	case st.absentSince.IsZero():
		st.absentSince = now
	}
	known := st.newest()
	switch {
	case absent, err == nil && known != nil && os.SameFile(fi, known):
		// Nothing new.
	case st.trouble != nil && now.Before(st.retryAt):
		return nil
	case err == nil && !fi.Mode().IsRegular():
		err = notRegular(st.path, fi.Mode())
	case err == nil:
		err = st.notice()
		fi = nil
	}
	if err != nil && !absent {
		st.unknown(unreadable(err), now)
		return nil
	}
	if !st.stuck {
		st.recovered()
	}
	return fi
}

// newest returns the newest generation that is known.
func (st *stream) newest() fs.FileInfo {
	if n := len(st.next); n > 0 {
		return st.next[n-1].info
	}
	if st.cur != nil {
		return st.cur.info
	}
	return nil
}

// notice queues the generations that appeared since the newest one known.
func (st *stream) notice() error {
	if st.unresolved {
		return st.resume()
	}
	var newest *generation
	if n := len(st.next); n > 0 {
		newest = st.next[n-1]
	} else {
		newest = st.cur
	}
	if newest == nil && st.lastInfo == nil {
		g, err := openGeneration(st.path, st.src.cfg.MaxLine)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone again
			}
			return err
		}
		g.live = true
		if err := st.begin(g); err != nil {
			g.close()
			return err
		}
		return nil
	}
	info, id := st.lastInfo, st.last
	if newest != nil {
		if !newest.compressed {
			if err := newest.verify(newest.off, &st.scratch); errors.Is(err, errChanged) {
				// Truncated as well as rotated: which files came after it can only
				// be told when its rest was found.
				return nil
			}
		}
		fi, err := newest.file.Stat()
		if err != nil {
			return err
		}
		info = fi
		dev, ino := inode(fi)
		head, err := newest.readHead(headMax)
		if err != nil {
			return err
		}
		id = identify(dev, ino, head)
	}
	gens, err := siblings(st.path, st.src.cfg.MaxLine)
	if err != nil {
		return err
	}
	found := newerThan(gens, info, id, st.earlier())
	keep := make(map[*generation]bool, len(found))
	for _, g := range found {
		keep[g] = true
	}
	for _, g := range gens {
		if !keep[g] {
			g.close()
		}
	}
	if len(found) == 0 || !found[len(found)-1].live {
		// Between two renames: without the live file the list may end too soon,
		// and the next look finds the same again.
		closeAll(found)
		return nil
	}
	return st.queue(withoutCopies(found, newest), 0)
}

// earlier returns the identities of all generations known but the newest, the
// newest first.
func (st *stream) earlier() []identity {
	var ids []identity
	for _, g := range slices.Backward(st.next) {
		ids = append(ids, g.identity())
	}
	if st.cur != nil {
		ids = append(ids, st.cur.identity())
	}
	ids = append(ids, st.last)
	return ids[min(1, len(ids)-1):]
}

// steady tells whether g is the file at the path and nothing is going on, so
// that a tail can follow it.
func (st *stream) steady(g *generation) bool {
	return !st.src.cfg.Poll && !g.noTail && len(st.next) == 0 && st.absentSince.IsZero() && st.trouble == nil &&
		!g.cut.Skipping && g.cut.Skipped == 0
}

// caughtUpDue tells whether the handler should hear that all was delivered: not
// too often, and not while a newer generation waits or the path cannot be read.
func (st *stream) caughtUpDue(now time.Time) bool {
	if st.trouble != nil || !st.fresh && now.Sub(st.lastCaught) < caughtUpEvery {
		return false
	}
	for _, g := range st.next {
		if fi, err := g.file.Stat(); err != nil || fi.Size() > 0 {
			return false
		}
	}
	return true
}

// caughtUp tells the handler, if it is due, that all was delivered.
func (st *stream) caughtUp(ctx context.Context, now time.Time) error {
	if !st.caughtUpDue(now) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	st.lastCaught, st.fresh = now, false
	if err := st.h.CaughtUp(ctx); err != nil {
		return handlerError{err}
	}
	return nil
}

// unknown tells the handler, with back-off, that the path cannot be read.
func (st *stream) unknown(err error, now time.Time) {
	if st.trouble != nil && now.Before(st.retryAt) {
		return
	}
	if st.lastSaid != err.Error() {
		st.lastSaid = err.Error()
		st.log.Error("log file cannot be read; trying again", "error", err)
	}
	st.trouble = err
	st.retryAt = now.Add(st.pause.NextBackOff())
	st.h.Unknown(err)
}

// stumble reports err and waits for the next try.
func (st *stream) stumble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st.trouble = nil // this one is new: it is not to be held back
	st.stuck = true
	st.unknown(unreadable(err), time.Now())
	return st.wait(ctx, time.Until(st.retryAt))
}

// recovered ends the state of trouble.
func (st *stream) recovered() {
	st.stuck = false
	if st.trouble == nil {
		return
	}
	st.trouble = nil
	st.lastSaid = ""
	st.fresh = true // say so soon
	st.pause.Reset()
	st.log.Info("log file can be read again")
}

// interval is the time until the next look.
func (st *stream) interval(now time.Time) time.Duration {
	if len(st.next) == 0 && now.Sub(st.lastData) > idleAfter {
		return idleFactor * st.src.cfg.Check
	}
	return st.src.cfg.Check
}

func (st *stream) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
