package file

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/nxadm/tail"

	"github.com/denywatch/denywatch/ingest"
)

const (
	// gather is how long lines of a tail are collected before they are handed
	// over together.
	gather = 10 * time.Millisecond
	// tailBehind is how far a tail may fall behind before the block reader takes
	// over.
	tailBehind = 4 << 20
	// stillTicks is for how many looks a file may hold something that the tail
	// does not deliver: the start of a line, unless something is wrong. The
	// block reader finds out.
	stillTicks = 3
	// tailLinger is how long the file of a stopped tail stays open: the library's
	// watcher looks at its descriptor once more, and must not find another file
	// behind the number.
	tailLinger = 10 * tailPoll
)

// errNoTail means that nxadm/tail cannot follow a file; polling can.
var errNoTail = errors.New("file cannot be followed through its descriptor")

// tail follows g with nxadm/tail until anything out of the ordinary happens,
// which the block reader, going on at the last line delivered, sorts out: then
// it returns nil. Other errors are those of readOn, and errNoTail.
//
// The library is used for one thing only, telling lines of one inode as they are
// appended. It is given the descriptor's name in /proc, so that it sees neither
// renames nor deletion. Every line must begin where the one before ended; what
// it says beyond that is not believed.
func (st *stream) tail(ctx context.Context, g *generation) error {
	// Its own descriptor, because closing has to wait.
	f, name, err := followable(g.file)
	if err != nil {
		return errNoTail
	}
	t, err := tail.TailFile(name, tail.Config{
		Location:      &tail.SeekInfo{Offset: g.cut.Off, Whence: io.SeekStart},
		Follow:        true,
		MustExist:     true,
		CompleteLines: true,
		Poll:          true,
		Logger:        tail.DiscardingLogger,
	})
	if err != nil {
		f.Close()
		return errNoTail
	}
	tl := &tailing{st: st, g: g, pos: g.cut.Off}
	tl.start = tl.pos
	defer func() {
		tl.release()
		t.Kill(nil)
		for range t.Lines {
			// Lets go of a line that is being sent; it is read again.
		}
		_ = t.Wait() // why it ended does not matter: nothing is missing
		time.AfterFunc(tailLinger, func() { f.Close() })
		g.cut.Reset(g.off)
		g.read = max(g.read, g.off)
		st.seenSize = -1 // have it read
	}()

	tick := time.NewTicker(st.src.cfg.Check)
	defer tick.Stop()
	window := time.NewTimer(time.Hour)
	defer window.Stop()
	open := false // window is running
	still := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case l, ok := <-t.Lines:
			if !ok || l.Err != nil || l.SeekInfo.Offset != tl.pos+int64(len(l.Text))+1 {
				return tl.flush(ctx)
			}
			if err := tl.add(ctx, l.Text); err != nil {
				return err
			}
			if !open {
				open = true
				window.Reset(gather)
			}
			still = 0
		case <-window.C:
			open = false
			if err := tl.flush(ctx); err != nil {
				return err
			}
		case <-tick.C:
			if err := tl.flush(ctx); err != nil {
				return err
			}
			now := time.Now()
			fi := st.look()
			if fi == nil || !os.SameFile(fi, g.info) || !st.steady(g) || now.Sub(st.lastData) >= activeFor {
				return nil
			}
			switch behind := fi.Size() - tl.pos; {
			case behind < 0 || behind > tailBehind:
				return nil
			case behind == 0:
				still = 0
				if err := st.caughtUp(ctx, now); err != nil {
					return err
				}
			default:
				if still++; still > stillTicks {
					return nil
				}
			}
		}
	}
}

// tailing gathers the lines of a tail.
type tailing struct {
	st         *stream
	g          *generation
	buf        []byte
	loan       loan
	start, pos int64 // of buf, and behind it
	skipped    int
}

// add appends a line, handing over what is there when it does not fit.
func (tl *tailing) add(ctx context.Context, line string) error {
	n := len(line) + 1
	if len(line) > tl.g.cut.MaxLine {
		if err := tl.flush(ctx); err != nil {
			return err
		}
		tl.pos += int64(n)
		tl.start = tl.pos
		tl.skipped++
		return nil
	}
	if tl.buf != nil && len(tl.buf)+n > cap(tl.buf) {
		if err := tl.flush(ctx); err != nil {
			return err
		}
	}
	if tl.buf == nil {
		tl.loan = tl.st.src.blocks.get(bigBlock)
		tl.buf = (*tl.loan.buf)[:0]
	}
	tl.buf = append(tl.buf, line...) // a line above the block grows it, once
	tl.buf = append(tl.buf, '\n')
	tl.pos += int64(n)
	return nil
}

// flush hands over what was gathered.
func (tl *tailing) flush(ctx context.Context) error {
	if len(tl.buf) == 0 && tl.skipped == 0 {
		return nil
	}
	st := tl.st
	st.batch = ingest.Batch{Data: tl.buf, Skipped: tl.skipped}
	st.batch.Start.Offset, st.batch.End.Offset = tl.start, tl.pos
	err := st.deliver(ctx, tl.g)
	st.batch.Data = nil
	tl.release()
	tl.start, tl.skipped = tl.pos, 0
	st.lastData = time.Now()
	return err
}

// release gives the buffer back.
func (tl *tailing) release() {
	if tl.buf != nil {
		tl.st.src.blocks.put(tl.loan)
		tl.buf = nil
	}
}
