package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/lines"
)

// archiveBlock is how much is read at once from an archive: the size at which
// reading from the page cache is fastest.
const archiveBlock = 1 << 20

// ReadSet delivers the lines of the files at paths to h, in the order given, as
// one stream: for logs that nobody writes any more (see GroupRotated). Plain,
// gzip, zstd and bzip2 files are told apart by their content. A last line
// without newline gets one; lines above DefaultMaxLine are skipped and counted.
// Positions count the uncompressed bytes of the whole set and carry no mark.
//
// It only calls h.Batch: closing h is up to the caller. If progress is not nil
// it is called after every block with the bytes read from disk and their total.
//
// When a file cannot be opened nothing is delivered at all. When one is damaged
// or truncated, what can be read of it and all files behind it are delivered,
// and the error returned at the end says so. An error of h.Batch or of ctx ends
// the reading at once.
func ReadSet(ctx context.Context, paths []string, h ingest.Handler, progress func(bytesRead, total int64)) error {
	var total int64
	for _, path := range paths {
		g, err := openGeneration(path, DefaultMaxLine)
		if err != nil {
			return fmt.Errorf("read log set: %w", err)
		}
		total += g.info.Size()
		g.close()
	}
	a := newArchive(h)
	var read int64
	var errs []error
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read log set: %w", err)
		}
		counted := &countingReader{r: f}
		err = a.readAll(ctx, counted, func() {
			if progress != nil {
				progress(read+counted.n.Load(), total)
			}
		})
		f.Close()
		read += counted.n.Load()
		var stop handlerError
		switch {
		case err == nil:
		case errors.As(err, &stop):
			return stop.error
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			errs = append(errs, fmt.Errorf("read %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// ReadFrom delivers the lines of r, which may be compressed, to h as ReadSet
// does. A read of r that blocks is not interrupted when ctx ends.
func ReadFrom(ctx context.Context, r io.Reader, h ingest.Handler) error {
	err := newArchive(h).readAll(ctx, r, func() {})
	var stop handlerError
	switch {
	case errors.As(err, &stop):
		return stop.error
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// archive is the reading of one set.
type archive struct {
	h     ingest.Handler
	cut   lines.Cutter
	buf   []byte
	batch ingest.Batch
}

func newArchive(h ingest.Handler) *archive {
	return &archive{h: h, cut: lines.Cutter{MaxLine: DefaultMaxLine}, buf: make([]byte, archiveBlock)}
}

// readAll delivers all of r. Errors of the handler are handlerErrors.
func (a *archive) readAll(ctx context.Context, r io.Reader, blockDone func()) error {
	in, err := inflate(ctxReader{ctx, r})
	if err != nil {
		return err
	}
	defer in.Close()
	var src io.Reader = in
	if in.compressed {
		// Decompressing costs about as much as parsing; side by side they take
		// half the time. For plain files it would only cost.
		ahead := newReadAhead(in)
		defer ahead.Close()
		src = ahead
	}
	c := &a.cut
	c.Attach(a.buf)
	defer c.Detach()
	for {
		n, err := src.Read(c.Room())
		c.Filled(n)
		for c.Next(&a.batch) {
			if err := a.deliver(ctx); err != nil {
				return err
			}
		}
		blockDone()
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			if c.Last(&a.batch) {
				return a.deliver(ctx)
			}
			return nil
		}
		// The start of a line whose rest is missing could be mistaken for a line.
		c.Reset(c.End())
		if in.compressed {
			return explain(err)
		}
		return err
	}
}

func (a *archive) deliver(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := a.h.Batch(ctx, &a.batch); err != nil {
		return handlerError{err}
	}
	return nil
}
