package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/lines"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// idleEvery is how often the handler hears that nothing more is there; see
	// ingest.Handler.CaughtUp.
	idleEvery = 500 * time.Millisecond
	// blockSize is that of the buffer that lines are cut in.
	blockSize = 256 << 10
	// keepBody is the largest buffer that is kept from one record to the next.
	keepBody = 4 << 20
)

// streamPrefix begins every stream name; the source's name follows.
const streamPrefix = "spool:"

// ErrMore is what Follow's quiet returns when a sender is likely to send more of the
// same time.
var ErrMore = errors.New("more may be on its way")

// Follow reads the spool as the stream of the source of that name until ctx ends, and then
// returns nil with the handler closed. A position's Mark is the record's place, its
// Offset counts the decoded bytes in it. Segments are deleted as the durable cut
// leaves them behind.
//
// The stream is opened when there is a record, or was in an earlier run; nothing
// is held back for a sender that never sent. quiet is called when all was
// delivered, at least once a second: nil says that this was all there is, ErrMore that
// it may not be, another error why nobody knows.
func (s *Spool) Follow(ctx context.Context, host ingest.Host, source string, quiet func() error) error {
	f := &follower{spool: s, host: host, stream: streamPrefix + source, quiet: quiet, cut: lines.Cutter{MaxLine: s.opt.MaxLine}}
	if slices.Contains(host.Saved(), f.stream) {
		if err := f.open(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
	host.Ready()
	err := f.run(ctx)
	f.closeFile()
	if f.handler != nil {
		// It fails only when its context ends.
		_ = f.handler.Close(context.WithoutCancel(ctx), false)
	}
	return stopped(ctx, err)
}

// stopped returns err unless ctx ended: an end that was asked for is none.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // see above
	}
	return err
}

// follower is one call of Follow.
type follower struct {
	spool   *Spool
	host    ingest.Host
	stream  string
	quiet   func() error
	handler ingest.Handler

	at    place    // of the next record
	skip  int64    // decoded bytes of it that were delivered before
	file  *os.File // the segment at
	body  []byte
	cut   lines.Cutter
	block []byte
	batch ingest.Batch
	mark  []byte
}

func (f *follower) open(ctx context.Context) error {
	h, pos, err := f.host.Open(ctx, f.stream)
	if err != nil {
		return fmt.Errorf("open the stream %s: %w", f.stream, err)
	}
	f.handler = h
	f.at, f.skip = place{}, max(pos.Offset, 0)
	if len(pos.Mark) > 0 {
		if f.at, err = decodePlace(pos.Mark); err != nil {
			f.spool.log.Warn("cannot tell to which batch the saved position belongs; the spool is read from its start", "error", err)
			f.skip = 0
		}
	}
	if first := f.spool.first(); first > f.at.segment {
		if f.at.offset > 0 || f.skip > 0 {
			f.spool.log.Warn("the segment of the saved position is gone; the spool is read from its start")
		}
		f.at, f.skip = place{segment: first}, 0
	}
	f.spool.reading(f.at)
	return nil
}

// run delivers what there is and waits for more.
func (f *follower) run(ctx context.Context) error {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for {
		if f.handler == nil && f.spool.first() > 0 {
			if err := f.open(ctx); err != nil {
				return err
			}
		}
		if f.handler != nil {
			if err := f.drain(ctx); err != nil {
				return err
			}
			if err := f.silence(ctx); err != nil {
				return err
			}
			f.drop()
		}
		select {
		case <-f.spool.grown:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// silence tells the handler what it means that nothing more is there.
func (f *follower) silence(ctx context.Context) error {
	switch why := f.quiet(); {
	case why == nil:
		return f.handler.CaughtUp(ctx)
	case errors.Is(why, ErrMore):
		return f.tell(ctx)
	default:
		f.handler.Unknown(why)
		return nil
	}
}

// tell hands over the position without lines, which has the handler account for what
// it was given before.
func (f *follower) tell(ctx context.Context) error {
	f.mark = f.at.encode()
	f.batch = ingest.Batch{}
	return f.hand(ctx)
}

// drop deletes what the durable cut has left behind.
func (f *follower) drop() {
	pos, ok := f.host.Durable(f.stream)
	if !ok || len(pos.Mark) == 0 {
		return
	}
	if at, err := decodePlace(pos.Mark); err == nil {
		f.spool.drop(at.segment)
	}
}

// drain delivers all records that are durable.
func (f *follower) drain(ctx context.Context) error {
	for {
		g, next := f.spool.look(f.at.segment)
		switch {
		case f.at.offset < g.end:
			if err := f.record(ctx, g.end); err != nil {
				return err
			}
		case next > 0:
			f.move(next)
		case g.sealed:
			// Nothing is behind it yet, and what comes may have no room until it is
			// deleted. So the position moves out of it.
			f.move(g.n + 1)
			if err := f.tell(ctx); err != nil {
				return err
			}
		default:
			return nil
		}
		f.spool.reading(f.at)
	}
}

// move goes on with a segment, or with what will be the first behind its number.
func (f *follower) move(segment int64) {
	f.closeFile()
	f.at, f.skip = place{segment: segment}, 0
	f.drop()
}

func (f *follower) closeFile() {
	if f.file != nil {
		_ = f.file.Close() // only read
		f.file = nil
	}
}

// record delivers the record at f.at and moves behind it.
func (f *follower) record(ctx context.Context, end int64) error {
	if f.file == nil {
		var err error
		if f.file, err = os.Open(f.spool.path(f.at.segment, segmentExt)); err != nil {
			return fmt.Errorf("read the spool: %w", err)
		}
	}
	most := end - f.at.offset
	rec, buf, err := readRecord(io.NewSectionReader(f.file, f.at.offset, most), most, f.body)
	if f.body = buf; cap(buf) > keepBody {
		f.body = nil
	}
	switch {
	case err == nil:
		err = f.deliver(ctx, rec)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errDamaged // the file is shorter than what was synced
	}
	switch {
	case err == nil:
	case errors.Is(err, errDamaged), errors.Is(err, ErrEncoding):
		f.spool.damaged.Add(1)
		f.spool.log.Error("a batch in the spool is damaged and left out; the disk or what else writes to it is not to be trusted",
			"file", f.file.Name(), "offset", f.at.offset, "error", err)
		if rec.size == 0 {
			rec.size = most // nobody knows where the next one begins
		}
	default:
		return err
	}
	f.at.offset += rec.size
	f.skip = 0
	return nil
}

// deliver hands over the lines of a record that were not delivered before.
func (f *follower) deliver(ctx context.Context, rec record) error {
	in, err := f.spool.decoders.Open(rec.encoding, bytes.NewReader(rec.body))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it never fails
	if _, err := io.CopyN(io.Discard, in, f.skip); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // all of it was: its last line has no newline
		}
		return err
	}
	if f.block == nil {
		f.block = make([]byte, blockSize)
	}
	f.mark = f.at.encode()
	c := &f.cut
	c.Reset(f.skip)
	c.Attach(f.block)
	defer c.Detach()
	for {
		n, err := in.Read(c.Room())
		c.Filled(n)
		for c.Next(&f.batch) {
			if err := f.hand(ctx); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if c.Last(&f.batch) {
				return f.hand(ctx)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

func (f *follower) hand(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.batch.Start.Mark, f.batch.End.Mark = f.mark, f.mark
	return f.handler.Batch(ctx, &f.batch)
}

// first is the number of the first segment that can be read, 0 if there is none.
func (s *Spool) first() int64 {
	_, next := s.look(0)
	return next
}

// look returns what is known of segment n, zero if it cannot be read, and the number
// of the first behind it that can be, 0 if there is none yet.
func (s *Spool) look(n int64) (at segment, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		switch {
		case g.gone || g.end == 0:
		case g.n == n:
			at = *g
		case g.n > n && next == 0:
			next = g.n
		}
	}
	return at, next
}

// reading notes where the reader is, for Stats.
func (s *Spool) reading(at place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = at
}

func (p place) encode() []byte {
	var w wire.Writer
	w.Int(p.segment)
	w.Int(p.offset)
	return w.B
}

func decodePlace(mark []byte) (place, error) {
	r := wire.Reader{B: mark}
	p := place{r.Int(), r.Int()}
	if r.Done() == nil && (p.segment < 0 || p.offset < 0) {
		return place{}, wire.ErrCorrupt
	}
	return p, r.Done()
}
