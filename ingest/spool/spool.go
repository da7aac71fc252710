// Package spool keeps on disk what was pushed and cannot be read again, until
// what was counted of it is durable. Sources that are told lines (package push,
// package syslog) append to a spool and acknowledge; its Follow reads it as a
// stream with positions, like any file.
//
// What it promises:
//
//   - Append returns without error only after the whole batch is on the disk
//     (fsync). Appends that wait at the same time share one fsync.
//   - A batch is read whole and once, in the order of the appends, over kill -9
//     and power cuts, or, if Append did not return success, maybe not at all.
//   - A batch whose ID was appended before is known and not appended again. IDs
//     are remembered for Remember (24 h) after them, measured by what is appended
//     and not by the clock, so that an outage forgets nothing, and at most
//     MaxIDs (262,144) of them, over restarts.
//   - The spool never grows beyond its bound: Append answers ErrFull then.
//   - Batches hold what senders sent, secrets and people's names and all. So a spool
//     is readable for its owner alone (0700, files 0600), and what was read, and is
//     durable as what was counted of it, is deleted within about a minute; what came
//     in the last minute before a stop, when the next process has begun.
//   - A spool lies on one host: no other member of a cluster reads it.
//   - A batch that was damaged on the disk is left out, counted and said; what
//     lies around it is read.
//
// # On the disk
//
// A spool is a folder of segments, NUMBER.seg, of which only the newest is
// written to. A segment is a run of records, each
//
//	4 bytes  length of what follows the checksum
//	4 bytes  CRC-32C of that
//	16 bytes ID, all zero if the batch has none
//	8 bytes  seconds since 1970
//	1 byte   encoding
//	rest     the batch, as it was sent
//
// with numbers in little-endian order. A segment that is not written to any more
// has its IDs in NUMBER.ids as well, which stays behind when the segment is
// deleted: the bytes of the segment that count, a run of (ID, seconds), and the
// CRC-32C of all of it. Numbers grow and
// begin at the time of their making (Unix milliseconds), so that a spool that was
// deleted by hand is not mistaken for the one that a position belongs to.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denywatch/denywatch/internal/crash"
)

// The bounds of what a spool remembers and how it writes.
const (
	// Remember is how long IDs are remembered.
	Remember = 24 * time.Hour
	// MaxIDs is how many of them are.
	MaxIDs = 1 << 18
	// segmentSize is when a segment is full, segmentAge when it ends though it is not,
	// so that what was read is not kept for long.
	segmentSize = 64 << 20
	segmentAge  = time.Minute
	// groupSize bounds the bytes that share one fsync, and groupMax the batches.
	groupSize = 32 << 20
	groupMax  = 4096
)

// Errors of Append.
var (
	// ErrFull means that the spool has reached its bound; it passes when lines are
	// counted and durable.
	ErrFull = errors.New("the spool is full")
	// ErrClosed means that nobody takes batches now.
	ErrClosed = errors.New("the spool is closed")
)

// ID names a batch, so that it is taken once however often it is sent. The zero
// ID names none.
type ID [16]byte

// Batch is what is appended at once: lines, maybe compressed.
type Batch struct {
	// ID makes a second append of the batch known; zero: every append counts.
	ID ID
	// Encoding is how Body is compressed. Whoever appends made sure that it can be
	// decoded.
	Encoding Encoding
	// Body is the batch in pieces. The spool reads them until Append returns.
	Body [][]byte
}

func (b *Batch) size() int64 {
	n := int64(recordHead)
	for _, p := range b.Body {
		n += int64(len(p))
	}
	return n
}

// Options bound a spool.
type Options struct {
	// MaxBytes bounds the segments together.
	MaxBytes int64
	// MaxLine is the longest line that is read, in bytes; longer ones are skipped
	// and counted.
	MaxLine int
}

// Stats is what is known of a spool.
type Stats struct {
	// Bytes is the size of all segments, Unread how much of it lies behind the
	// reader, Most the bound.
	Bytes, Unread, Most int64
	// Known counts batches that were appended before, Damaged those that could not
	// be read back, Syncs the writes that made one or more batches durable, since the
	// spool was opened.
	Known, Damaged, Syncs uint64
	// Trouble says why the last batch could not be written; empty if it was.
	Trouble string
}

// Spool is an open spool. Its methods are safe for concurrent use, but Follow,
// which one goroutine calls.
type Spool struct {
	dir      string
	opt      Options
	log      *slog.Logger
	decoders Decoders
	most     int64 // bytes after which a segment is full

	in      chan *appending
	closing chan struct{}
	closed  chan struct{} // when the writer has ended
	grown   chan struct{} // tells the reader of more; holds one

	// Of the writer alone.
	cur    *os.File
	begun  time.Time // cur was
	buf    []byte
	recent recent

	mu       sync.Mutex
	segments []*segment // in order, those whose .seg is there or whose .ids is
	bytes    int64
	fresh    []entry // IDs of the segment that is written to
	read     place   // of the reader
	failed   string  // why nothing can be written; empty if it can

	known, damaged, syncs atomic.Uint64
}

// segment is what is known of one.
type segment struct {
	n      int64
	end    int64 // durable bytes
	sealed bool  // not written to any more
	gone   bool  // only its IDs are left
	ids    int
	last   int64 // newest second of its IDs
}

// place is a record's place: the position's Mark.
type place struct{ segment, offset int64 }

// appending is a batch on its way.
type appending struct {
	batch *Batch
	known bool
	done  chan error
}

// Open opens the spool in the folder dir, which it makes if it is not there. Only
// one process may have it open. What a crash left half written is cut off.
func Open(dir string, opt Options, log *slog.Logger) (*Spool, error) {
	s := &Spool{
		dir: dir, opt: opt, most: segmentSize, log: log.With("component", "ingest/spool"),
		in: make(chan *appending), closing: make(chan struct{}), closed: make(chan struct{}), grown: make(chan struct{}, 1),
		recent: recent{have: map[ID]struct{}{}},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w (it lies in state:, which must be writable)", err)
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open the spool %s: %w", dir, err)
	}
	go s.write()
	return s, nil
}

// Close ends what is being appended and closes the spool. Nobody may call Follow
// at the same time.
func (s *Spool) Close() error {
	close(s.closing)
	<-s.closed
	if s.cur != nil {
		return s.cur.Close()
	}
	return nil
}

// Append makes the batch durable. known tells that its ID was appended before, and
// that nothing was done. The error is ErrFull, ErrClosed, ctx's if the batch was
// not taken before ctx ended, or that of the disk.
func (s *Spool) Append(ctx context.Context, b *Batch) (known bool, err error) {
	a := &appending{batch: b, done: make(chan error, 1)}
	select {
	case s.in <- a:
	case <-s.closing:
		return false, ErrClosed
	case <-ctx.Done():
		return false, ctx.Err()
	}
	err = <-a.done
	return a.known, err
}

// Stats returns what is known of the spool.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Bytes: s.bytes, Most: s.opt.MaxBytes, Known: s.known.Load(), Damaged: s.damaged.Load(), Syncs: s.syncs.Load(), Trouble: s.failed}
	for _, g := range s.segments {
		switch {
		case g.gone || g.n < s.read.segment:
		case g.n == s.read.segment:
			st.Unread += max(g.end-s.read.offset, 0)
		default:
			st.Unread += g.end
		}
	}
	return st
}

// write takes what is appended, in groups, until the spool is closed.
func (s *Spool) write() {
	defer close(s.closed)
	tick := time.NewTicker(segmentAge / 60)
	defer tick.Stop()
	var group []*appending
	for {
		group = group[:0]
		select {
		case a := <-s.in:
			group = append(group, a)
		case <-tick.C:
			if s.cur != nil && time.Since(s.begun) >= segmentAge {
				s.finish()
			}
			continue
		case <-s.closing:
			return
		}
		for n := group[0].batch.size(); n < groupSize && len(group) < groupMax; {
			select {
			case a := <-s.in:
				group = append(group, a)
				n += a.batch.size()
				continue
			default:
			}
			break
		}
		s.commit(group)
	}
}

// commit writes the batches of a group and syncs them together.
func (s *Spool) commit(group []*appending) {
	at := time.Now().Unix()
	fresh := map[ID]bool{}
	var write []*appending
	var entries []entry
	var size int64
	s.mu.Lock()
	room := s.opt.MaxBytes - s.bytes
	s.mu.Unlock()
	waiting := group[:0] // for the sync
	for _, a := range group {
		id := a.batch.ID
		n := a.batch.size()
		switch {
		case id != ID{} && (s.recent.has(id) || fresh[id]):
			a.known = true
			waiting = append(waiting, a) // the first may be of this very group
		case size+n > room:
			a.done <- ErrFull
		default:
			size += n
			if id != (ID{}) {
				fresh[id] = true
				entries = append(entries, entry{id, at})
			}
			write = append(write, a)
			waiting = append(waiting, a)
		}
	}
	err := s.store(write, at)
	if err != nil {
		s.trouble(err)
	} else if len(write) > 0 {
		s.syncs.Add(1)
		for _, e := range entries {
			s.recent.add(e)
		}
		s.advance(entries, size)
	}
	for _, a := range waiting {
		switch {
		case a.known && (err == nil || !fresh[a.batch.ID]): // else it fails with the one that it is another of
			s.known.Add(1)
			a.done <- nil
		default:
			a.done <- err
		}
	}
}

// store writes records behind the durable end of the newest segment and syncs. On
// an error that segment is given up: after a failed fsync nobody knows what of it
// is on the disk.
func (s *Spool) store(group []*appending, at int64) error {
	if len(group) == 0 {
		return nil
	}
	if s.cur == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	// Large groups are written in pieces, which need no room of their own.
	s.buf = s.buf[:0]
	var err error
	flush := func() {
		if err == nil && len(s.buf) > 0 {
			_, err = s.cur.Write(s.buf)
		}
		s.buf = s.buf[:0]
	}
	for _, a := range group {
		s.buf = appendHead(s.buf, a.batch, at)
		for _, p := range a.batch.Body {
			if len(s.buf)+len(p) > writeSize {
				flush()
			}
			if len(p) > writeSize {
				if err == nil {
					_, err = s.cur.Write(p)
				}
				continue
			}
			s.buf = append(s.buf, p...)
		}
	}
	flush()
	crash.Point("spool.written")
	if err == nil {
		err = s.cur.Sync()
	}
	crash.Point("spool.synced")
	if err != nil {
		s.abandon()
		return fmt.Errorf("write the spool: %w", err)
	}
	return nil
}

// writeSize is how much is gathered for one write.
const writeSize = 256 << 10

// trouble keeps in mind why nothing can be written, and logs it once until that
// changes. Names of files, which do with every try, are no change.
func (s *Spool) trouble(err error) {
	text := err.Error()
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		text = e.Err.Error()
	}
	s.mu.Lock()
	known := text == s.failed
	s.failed = text
	s.mu.Unlock()
	if !known {
		s.log.Error("what is sent cannot be kept, so senders are told to try again; free space or mend the folder's permissions", "folder", s.dir, "error", err)
	}
}

// begin makes a new segment and makes its name durable.
func (s *Spool) begin() error {
	n := time.Now().UnixMilli()
	s.mu.Lock()
	// Never before what was read, though the clock was set back.
	n = max(n, s.read.segment)
	if k := len(s.segments); k > 0 {
		n = max(n, s.segments[k-1].n+1)
	}
	s.mu.Unlock()
	f, err := os.OpenFile(s.path(n, segmentExt), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin a segment of the spool: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name()) // empty
		return fmt.Errorf("begin a segment of the spool: %w", err)
	}
	s.cur, s.begun = f, time.Now()
	s.mu.Lock()
	s.segments = append(s.segments, &segment{n: n})
	s.mu.Unlock()
	return nil
}

// advance tells the reader of what is durable now, and seals a segment that is
// full.
func (s *Spool) advance(entries []entry, size int64) {
	if s.cur == nil || size == 0 {
		return
	}
	s.mu.Lock()
	s.failed = ""
	g := s.segments[len(s.segments)-1]
	g.end += size
	s.bytes += size
	s.fresh = append(s.fresh, entries...)
	full := g.end >= s.most
	s.mu.Unlock()
	select {
	case s.grown <- struct{}{}:
	default:
	}
	if full {
		s.finish()
	}
}

// finish ends the newest segment.
func (s *Spool) finish() {
	_ = s.cur.Close() // it was synced
	s.cur = nil
	s.mu.Lock()
	g := s.segments[len(s.segments)-1]
	s.mu.Unlock()
	s.seal(g)
}

// abandon cuts the newest segment back to what is durable and writes to it no
// more. If that fails, its IDs still say what counts of it.
func (s *Spool) abandon() {
	s.mu.Lock()
	last := len(s.segments) - 1
	g := s.segments[last]
	if g.end == 0 {
		s.segments = s.segments[:last]
	}
	s.mu.Unlock()
	_ = s.cur.Truncate(g.end)
	_ = s.cur.Close()
	if g.end > 0 {
		s.seal(g)
	} else {
		_ = os.Remove(s.cur.Name())
	}
	s.cur = nil
}

// seal makes a segment one that is not written to any more. If its IDs cannot be
// written, the next start reads them from the segment.
func (s *Spool) seal(g *segment) {
	s.mu.Lock()
	ids := s.fresh
	s.fresh = nil
	g.sealed, g.ids = true, len(ids)
	if len(ids) > 0 {
		g.last = ids[len(ids)-1].at
	}
	s.mu.Unlock()
	if err := writeIDs(s.dir, s.path(g.n, idsExt), g.end, ids); err != nil {
		s.log.Warn("the names of pushed batches cannot be kept apart from them", "folder", s.dir, "error", err)
	}
}

func (s *Spool) path(n int64, ext string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016d%s", n, ext))
}
