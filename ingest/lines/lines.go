// Package lines cuts what a source reads in blocks into whole lines.
package lines

import (
	"bytes"

	"github.com/denywatch/denywatch/ingest"
)

// Cutter turns bytes that arrive in blocks into batches of whole lines. Its
// owner attaches a buffer, reads into Room, tells Filled, and takes Next until
// that is false. Only a line that a block boundary cuts is ever copied, and no
// work is done per line.
//
// Lines longer than MaxLine are skipped without being held. The buffer grows,
// to MaxLine at most, only for a line that does not fit it.
type Cutter struct {
	// MaxLine is the longest line, in bytes without its newline, that is handed out.
	MaxLine int
	// Off is the position of the first byte that was read and not yet handed out.
	// Unless Skipping it is the start of a line, and therefore where reading goes on
	// when the buffer is given back.
	Off int64
	// Skipping tells that Off is inside an over-long line.
	Skipping bool
	// Skipped counts over-long lines since the last batch.
	Skipped int

	buf  []byte
	r, w int // buf[r:w] was read and not yet handed out
	seen int // buf[r:seen] holds no newline
}

// Reset makes c go on at off, a line's start, with nothing held.
func (c *Cutter) Reset(off int64) {
	c.r, c.w, c.seen = 0, 0, 0
	c.Off, c.Skipping, c.Skipped = off, false, 0
}

// Attach lends c a buffer until Detach.
func (c *Cutter) Attach(buf []byte) { c.buf, c.r, c.w, c.seen = buf, 0, 0, 0 }

// Detach takes the buffer away. A line of which only a part was read is read
// again from off.
func (c *Cutter) Detach() { c.Attach(nil) }

// End is the position after the last byte read.
func (c *Cutter) End() int64 { return c.Off + int64(c.w-c.r) }

// Room returns where to read the next block: never empty.
func (c *Cutter) Room() []byte {
	if c.r > 0 {
		copy(c.buf, c.buf[c.r:c.w])
		c.w -= c.r
		c.seen -= c.r
		c.r = 0
	}
	if c.w == len(c.buf) {
		// One byte above MaxLine shows that a line is too long, one more is for
		// the newline that Last adds; so growth ends there.
		grown := make([]byte, max(c.w+1, min(2*len(c.buf), c.MaxLine+2)))
		copy(grown, c.buf[:c.w])
		c.buf = grown
	}
	return c.buf[c.w:]
}

// Filled tells that n bytes were read into room.
func (c *Cutter) Filled(n int) { c.w += n }

// Next fills b with the next run of whole lines and tells whether there is one.
// b.Data lies in the buffer: it is valid until Room or Detach. Marks are not
// touched.
func (c *Cutter) Next(b *ingest.Batch) bool {
	for {
		if c.Skipping {
			i := bytes.IndexByte(c.buf[c.r:c.w], '\n')
			if i < 0 {
				c.drop(c.w - c.r)
				return false
			}
			c.drop(i + 1)
			c.Skipping = false
			c.Skipped++
		}
		i := bytes.LastIndexByte(c.buf[c.seen:c.w], '\n')
		if i < 0 {
			c.seen = c.w
			if c.w-c.r > c.MaxLine {
				c.drop(c.w - c.r)
				c.Skipping = true
			}
			return false
		}
		last := c.seen + i + 1
		end := last
		if long := c.findLong(last); long == c.r {
			c.Skipping = true // its newline is before last
			continue
		} else if long > 0 {
			end = long
		}
		c.hand(b, c.buf[c.r:end], int64(end-c.r))
		c.r, c.seen = end, end
		if end == last {
			c.seen = c.w
		}
		return true
	}
}

// findLong returns where the first over-long line of buf[r:end] starts, or -1.
// End is behind a newline. It looks at about one line per MaxLine bytes.
func (c *Cutter) findLong(end int) int {
	p := c.r
	for end-p > c.MaxLine+1 {
		i := bytes.LastIndexByte(c.buf[p:p+c.MaxLine+1], '\n')
		if i < 0 {
			return p
		}
		p += i + 1
	}
	return -1
}

// Last ends the input: it fills b with an unterminated last line, giving it the
// newline that its file lacks, or with the count of an over-long one. It tells
// whether there is anything to deliver.
func (c *Cutter) Last(b *ingest.Batch) bool {
	if c.Skipping {
		c.drop(c.w - c.r)
		c.Skipping = false
		c.Skipped++
	}
	if c.r == c.w {
		return c.Rest(b)
	}
	c.Room()[0] = '\n'
	c.hand(b, c.buf[c.r:c.w+1], int64(c.w-c.r))
	c.r = c.w
	c.seen = c.w
	return true
}

// Rest fills b with the count of skipped lines behind which no line came yet,
// if there are any.
func (c *Cutter) Rest(b *ingest.Batch) bool {
	if c.Skipped == 0 {
		return false
	}
	c.hand(b, nil, 0)
	return true
}

func (c *Cutter) hand(b *ingest.Batch, data []byte, n int64) {
	b.Data = data
	b.Start.Offset = c.Off
	c.Off += n
	b.End.Offset = c.Off
	b.Skipped = c.Skipped
	c.Skipped = 0
}

func (c *Cutter) drop(n int) {
	c.r += n
	c.Off += int64(n)
	c.seen = max(c.seen, c.r)
}
