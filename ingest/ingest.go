// Package ingest defines how log lines enter denywatch: a Source finds streams
// (a tailed file, a partition), reads them in whole lines and hands them to the
// Handler that its Host opens for each. Children implement sources; nothing here
// knows what a line means.
//
// Everything of one stream runs on the goroutine that reads it: the Handler
// parses and counts inside Batch and blocks there when the stream has to wait.
// So there is no channel per line, no copy, and back-pressure is a call that
// does not return yet.
package ingest

import (
	"bytes"
	"context"
	"iter"
	"slices"

	"github.com/denywatch/denywatch/internal/event"
)

// Position says where a stream goes on after a restart. The zero Position is a
// stream that was never read.
type Position struct {
	// Offset is the next byte of a file, or the next message of a partition.
	// For compressed files it counts uncompressed bytes.
	Offset int64 `json:"offset"`
	// Mark is the source's own knowledge of what Offset counts in (a file's
	// identity); only the source reads it.
	Mark []byte `json:"mark,omitempty"`
}

// Batch is a run of whole lines of one stream.
//
// It may be empty: then only the position moves, because lines were skipped that
// were too long, or because a stream begins whose position is worth keeping
// before there is any line.
type Batch struct {
	// Data holds lines that each end in '\n'. A last line that has no newline in
	// its file, and will get none, is given one: only then len(Data) is
	// End.Offset - Start.Offset + 1, else (where offsets count bytes) it is
	// End.Offset - Start.Offset. The reader owns the bytes again when Handler.Batch
	// returns.
	Data []byte
	// Lines are the lines instead, without newlines, where each is a message of its
	// own: then offsets count them, and Data is empty. The reader owns them again as
	// it does Data.
	Lines [][]byte
	// Start is the position of the first line; after n consumed bytes that end at a
	// line end, or n of Lines, the position is {Start.Offset + n, Start.Mark}.
	Start Position
	// End is the position after all of them. Who consumed all of it goes on there,
	// not at Start plus the bytes consumed.
	End Position
	// Skipped counts lines before the first that were too long to deliver; their
	// bytes lie before Start.
	Skipped int
	// Fields are what is known of every line besides its text; it counts more than
	// what the line says. The reader owns them again as it does Data.
	Fields []Field
}

// Each returns the lines of b, without the newlines at their ends.
func (b *Batch) Each() iter.Seq[[]byte] {
	if b.Lines != nil {
		return slices.Values(b.Lines)
	}
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(b.Data) {
			if !yield(bytes.TrimSuffix(line, []byte{'\n'})) {
				return
			}
		}
	}
}

// Field is one text of the events that lines become.
type Field struct {
	Key   event.Key
	Value []byte
}

// Handler takes one stream. Its methods are called from one goroutine.
type Handler interface {
	// Batch consumes all of b, or returns an error that is ctx's and means that
	// the stream must stop; what was consumed until then is accounted for.
	Batch(ctx context.Context, b *Batch) error
	// CaughtUp tells that everything written to the stream up to now has been
	// delivered. A live source calls it at each end of file and at least once a
	// second while idle; it moves event time on when nothing is logged.
	CaughtUp(ctx context.Context) error
	// Unknown tells that the source cannot know whether more was written
	// (permission denied, broker away). It may be called again; Batch or
	// CaughtUp end the state. err goes to the log and /readyz.
	Unknown(err error)
	// Close tells that the stream is over: no more lines will come and it must
	// not hold event time back. Its position is forgotten if forget is set
	// (a file that is gone for good), else kept for the next start.
	Close(ctx context.Context, forget bool) error
	// Leave tells that the stream is over here because another process reads it
	// from now on: it must not hold event time back, and its position is kept, for
	// it may come back. No other method is called afterwards.
	Leave(ctx context.Context) error
}

// Host opens streams for a Source. It is safe for concurrent use.
type Host interface {
	// Open starts the stream of that name (unique in the process, stable over
	// restarts, such as "file:/var/log/nginx/access.log") and returns its
	// handler and the position from which to go on.
	Open(ctx context.Context, stream string) (Handler, Position, error)
	// Saved lists the streams this source had in an earlier run, sorted.
	Saved() []string
	// Durable returns the position of a stream in the last durable cut: everything
	// before it survives a crash. It is false while no cut holds the stream.
	Durable(stream string) (Position, bool)
	// Ready tells that all streams that exist at start have been opened. Event
	// time stands still until every source is ready.
	Ready()
}

// Source finds and reads streams.
type Source interface {
	// Run reads until ctx ends and then returns nil, every handler closed with
	// forget unset. Another error means that the source cannot go on; its
	// supervisor runs it again after a pause. Run handles passing troubles of
	// single streams itself.
	Run(ctx context.Context, h Host) error
}
