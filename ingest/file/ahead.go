package file

import (
	"io"
	"sync/atomic"
)

// countingReader counts what is read through it, for a goroutine that looks on.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// readAhead reads from a reader on a goroutine of its own, two blocks ahead.
type readAhead struct {
	full chan block
	free chan []byte
	stop chan struct{}
	cur  block
	rest []byte
}

type block struct {
	data []byte
	err  error // after data
}

func newReadAhead(r io.Reader) *readAhead {
	ra := &readAhead{
		full: make(chan block),
		free: make(chan []byte, 2),
		stop: make(chan struct{}),
	}
	for range cap(ra.free) {
		ra.free <- make([]byte, bigBlock)
	}
	go ra.run(r)
	return ra
}

func (ra *readAhead) run(r io.Reader) {
	defer close(ra.full)
	for {
		var buf []byte
		select {
		case buf = <-ra.free:
		case <-ra.stop:
			return
		}
		buf = buf[:cap(buf)]
		n, err := 0, error(nil)
		for n < len(buf) && err == nil { // decoders return little at a time
			var k int
			k, err = r.Read(buf[n:])
			n += k
		}
		select {
		case ra.full <- block{buf[:n], err}:
		case <-ra.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (ra *readAhead) Read(p []byte) (int, error) {
	for len(ra.rest) == 0 {
		if ra.cur.err != nil {
			return 0, ra.cur.err
		}
		if ra.cur.data != nil {
			ra.free <- ra.cur.data
		}
		ra.cur = <-ra.full
		ra.rest = ra.cur.data
	}
	n := copy(p, ra.rest)
	ra.rest = ra.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits until it no longer reads.
func (ra *readAhead) Close() {
	close(ra.stop)
	for range ra.full {
		// Until the goroutine closes it.
	}
}
