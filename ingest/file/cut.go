package file

import (
	"bytes"

	"github.com/denywatch/denywatch/ingest"
)

// cutter turns bytes that arrive in blocks into batches of whole lines. Its
// owner attaches a buffer, reads into room, tells filled, and takes next until
// that is false. Only a line that a block boundary cuts is ever copied, and no
// work is done per line.
//
// Lines longer than maxLine are skipped without being held. The buffer grows,
// to maxLine at most, only for a line that does not fit it.
type cutter struct {
	maxLine int
	buf     []byte
	r, w    int // buf[r:w] was read and not yet handed out
	seen    int // buf[r:seen] holds no newline
	// off is the position of buf[r]. Unless skipping it is the start of a line,
	// and therefore where reading goes on when the buffer is given back.
	off      int64
	skipping bool // off is inside an over-long line
	skipped  int  // over-long lines since the last batch
}

// reset makes c go on at off, a line's start, with nothing held.
func (c *cutter) reset(off int64) {
	c.r, c.w, c.seen = 0, 0, 0
	c.off, c.skipping, c.skipped = off, false, 0
}

// attach lends c a buffer until detach.
func (c *cutter) attach(buf []byte) { c.buf, c.r, c.w, c.seen = buf, 0, 0, 0 }

// detach takes the buffer away. A line of which only a part was read is read
// again from off.
func (c *cutter) detach() { c.attach(nil) }

// end is the position after the last byte read.
func (c *cutter) end() int64 { return c.off + int64(c.w-c.r) }

// room returns where to read the next block: never empty.
func (c *cutter) room() []byte {
	if c.r > 0 {
		copy(c.buf, c.buf[c.r:c.w])
		c.w -= c.r
		c.seen -= c.r
		c.r = 0
	}
	if c.w == len(c.buf) {
		// One byte above maxLine shows that a line is too long, one more is for
		// the newline that last adds; so growth ends there.
		grown := make([]byte, max(c.w+1, min(2*len(c.buf), c.maxLine+2)))
		copy(grown, c.buf[:c.w])
		c.buf = grown
	}
	return c.buf[c.w:]
}

// filled tells that n bytes were read into room.
func (c *cutter) filled(n int) { c.w += n }

// next fills b with the next run of whole lines and tells whether there is one.
// b.Data lies in the buffer: it is valid until room or detach. Marks are not
// touched.
func (c *cutter) next(b *ingest.Batch) bool {
	for {
		if c.skipping {
			i := bytes.IndexByte(c.buf[c.r:c.w], '\n')
			if i < 0 {
				c.drop(c.w - c.r)
				return false
			}
			c.drop(i + 1)
			c.skipping = false
			c.skipped++
		}
		i := bytes.LastIndexByte(c.buf[c.seen:c.w], '\n')
		if i < 0 {
			c.seen = c.w
			if c.w-c.r > c.maxLine {
				c.drop(c.w - c.r)
				c.skipping = true
			}
			return false
		}
		last := c.seen + i + 1
		end := last
		if long := c.findLong(last); long == c.r {
			c.skipping = true // its newline is before last
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
// end is behind a newline. It looks at about one line per maxLine bytes.
func (c *cutter) findLong(end int) int {
	p := c.r
	for end-p > c.maxLine+1 {
		i := bytes.LastIndexByte(c.buf[p:p+c.maxLine+1], '\n')
		if i < 0 {
			return p
		}
		p += i + 1
	}
	return -1
}

// last ends the input: it fills b with an unterminated last line, giving it the
// newline that its file lacks, or with the count of an over-long one. It tells
// whether there is anything to deliver.
func (c *cutter) last(b *ingest.Batch) bool {
	if c.skipping {
		c.drop(c.w - c.r)
		c.skipping = false
		c.skipped++
	}
	if c.r == c.w {
		return c.rest(b)
	}
	c.room()[0] = '\n'
	c.hand(b, c.buf[c.r:c.w+1], int64(c.w-c.r))
	c.r = c.w
	c.seen = c.w
	return true
}

// rest fills b with the count of skipped lines behind which no line came yet,
// if there are any.
func (c *cutter) rest(b *ingest.Batch) bool {
	if c.skipped == 0 {
		return false
	}
	c.hand(b, nil, 0)
	return true
}

func (c *cutter) hand(b *ingest.Batch, data []byte, n int64) {
	b.Data = data
	b.Start.Offset = c.off
	c.off += n
	b.End.Offset = c.off
	b.Skipped = c.skipped
	c.skipped = 0
}

func (c *cutter) drop(n int) {
	c.r += n
	c.off += int64(n)
	c.seen = max(c.seen, c.r)
}
