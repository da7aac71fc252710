package collect

import (
	"bytes"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/parsers"
)

const (
	// sampleLines is how many lines at most a format is recognised by, maxSample
	// and maxSampleLine how many bytes are kept of them all and of one.
	sampleLines   = 200
	maxSample     = 1 << 20
	maxSampleLine = 64 << 10
	// astrayAfter is how many lines in a row must not be understood before the
	// format is looked at anew; astrayEvery how many more at most before the next
	// look.
	astrayAfter = 20
	astrayEvery = 1 << 13
)

// choose makes the parser from the first lines of b.
func (s *Stream) choose(b *ingest.Batch) {
	var sample [][]byte
	for line := range b.Each() {
		if len(sample) == sampleLines {
			break
		}
		sample = append(sample, bytes.TrimRight(line, "\r"))
	}
	p, err := s.c.NewParser(s.name, sample)
	if err != nil {
		s.parser, s.unchosen = unknownFormat{}, true
		s.warned = true
		if odd := parsers.Encoding(sample[0]); odd != nil {
			err = odd
		}
		s.c.Log.Error("no line of the stream is understood", "source", s.c.Source, "stream", s.name, "error", err)
		return
	}
	s.parser = p
}

// unknownFormat parses nothing.
type unknownFormat struct{}

func (unknownFormat) Parse([]byte, *event.Event) error { return parsers.ErrUnknownFormat }

// Astray is a run of lines that are not understood, without any other between
// them. When to recognise their format again and by what depends on the lines
// alone, not on how they were cut into batches.
type Astray struct {
	run    uint64
	last   uint64   // number of its last line in the stream
	try    uint64   // the run at which the format is looked at
	sample [][]byte // its newest lines
	bytes  int
}

// Add notes that line number n of a stream is not understood. It returns the
// newest such lines when it is time to recognise their format again, else nil;
// unchosen says that none was ever recognised, so that every line is worth a try.
// Call Failed if that came to nothing; after a success start with a new Astray.
func (a *Astray) Add(n uint64, line []byte, unchosen bool) [][]byte {
	if a.run == 0 || n != a.last+1 {
		*a = Astray{sample: a.sample[:0], try: astrayAfter}
		if unchosen {
			a.try = 1
		}
	}
	a.last = n
	a.run++
	if a.run+sampleLines > a.try && len(line) <= maxSampleLine && a.bytes+len(line) <= maxSample {
		a.sample = append(a.sample, bytes.Clone(bytes.TrimSuffix(line, []byte{'\r'})))
		a.bytes += len(line)
	}
	if a.run < a.try || len(a.sample) == 0 {
		return nil
	}
	return a.sample
}

// Failed notes that no format was recognised in what Add returned.
func (a *Astray) Failed() {
	a.try += min(a.run, astrayEvery)
	clear(a.sample)
	a.sample, a.bytes = a.sample[:0], 0
}

// misread takes account of a line that is not understood. Where the format is
// recognised, not configured, and enough such lines came in a row, their format
// is recognised again: the writer may have changed it in the middle of a file.
func (s *Stream) misread(line []byte, offset int64) {
	if s.c.Recognise == nil {
		return
	}
	sample := s.astray.Add(s.before+s.stats.Lines, line, s.unchosen)
	if sample == nil {
		return
	}
	p, format, err := s.c.Recognise(s.name, sample)
	if err != nil {
		s.astray.Failed()
		return
	}
	s.c.Log.Warn("the lines are written in another format now; it is used from here on",
		"source", s.c.Source, "stream", s.name, "offset", offset, "format", format, "lines_not_understood", s.astray.run)
	s.parser, s.unchosen, s.astray = p, false, Astray{}
}
