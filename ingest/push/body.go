package push

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denywatch/denywatch/ingest/spool"
)

const (
	// pieceSize is that of the pieces that bodies are kept in.
	pieceSize = 32 << 10
	// maxBodies bounds the bodies in memory together, in bytes.
	maxBodies = 64 << 20
)

// pace is how long a piece of a body may take to come, and the whole.
type pace struct{ piece, body time.Duration }

// usualPace is what senders get.
var usualPace = pace{piece: 10 * time.Second, body: 2 * time.Minute}

// memory lends the pieces that bodies are kept in.
type memory struct {
	free   atomic.Int64 // pieces
	pieces sync.Pool
}

func newMemory() *memory {
	m := &memory{pieces: sync.Pool{New: func() any { return new([pieceSize]byte) }}}
	m.free.Store(maxBodies / pieceSize)
	return m
}

// body is what a request holds, as it was sent.
type body struct {
	memory *memory
	pace   pace
	pieces []*[pieceSize]byte
	size   int64
}

// grow adds a piece; false if there is no memory for it.
func (b *body) grow() bool {
	if b.memory.free.Add(-1) < 0 {
		b.memory.free.Add(1)
		return false
	}
	b.pieces = append(b.pieces, b.memory.pieces.Get().(*[pieceSize]byte))
	return true
}

// release gives the memory back.
func (b *body) release() {
	for _, p := range b.pieces {
		b.memory.pieces.Put(p)
	}
	b.memory.free.Add(int64(len(b.pieces)))
	b.pieces = nil
}

// parts returns the body in pieces.
func (b *body) parts() [][]byte {
	var out [][]byte
	for left := b.size; left > 0; left -= pieceSize {
		out = append(out, b.pieces[len(out)][:min(left, pieceSize)])
	}
	return out
}

// read reads the body of r within most bytes and the time it may take.
func (b *body) read(w http.ResponseWriter, r *http.Request, most int64) error {
	if r.ContentLength > most {
		return refuse(tooLarge, most)
	}
	rc := http.NewResponseController(w)
	end := time.Now().Add(b.pace.body)
	for {
		i := int(b.size / pieceSize)
		if i == len(b.pieces) && !b.grow() {
			return refuse(noMemory, 0)
		}
		at := b.size % pieceSize
		if at == 0 {
			next := time.Now().Add(b.pace.piece)
			if end.Before(next) {
				next = end
			}
			_ = rc.SetReadDeadline(next) // only a test's writer has none
		}
		n, err := r.Body.Read(b.pieces[i][at:])
		b.size += int64(n)
		if b.size > most {
			return refuse(tooLarge, most)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			// The answer may wait for the disk for longer than that.
			_ = rc.SetReadDeadline(time.Time{})
			return nil
		default:
			if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
				return refuse(slow, 0)
			}
			return refuse(broken, 0)
		}
	}
}

// encodingOf tells how a body is compressed: as the request says, else by its first
// bytes, which no text begins with.
func encodingOf(header string, parts [][]byte) (spool.Encoding, error) {
	magic := spool.Identity
	if len(parts) > 0 {
		switch {
		case bytes.HasPrefix(parts[0], []byte{0x1f, 0x8b}):
			magic = spool.Gzip
		case bytes.HasPrefix(parts[0], []byte{0x28, 0xb5, 0x2f, 0xfd}):
			magic = spool.Zstd
		}
	}
	switch strings.ToLower(strings.TrimSpace(header)) {
	case "", "identity":
		return magic, nil
	case "gzip", "x-gzip":
		return spool.Gzip, nil
	case "zstd":
		return spool.Zstd, nil
	}
	return 0, refuse(unknownEncoding, 0)
}

// content is what a body holds, decompressed.
type content struct {
	lines, bytes   int64
	start          []byte // its first bytes
	last           byte   // of what is no space
	sum            hash.Hash
	endsWithNoLine bool
}

// maxStart is how many of the first bytes are looked at.
const maxStart = 64

// examiner decompresses bodies to see what they hold, in bounded memory. Not more
// than there are processors work at a time.
type examiner struct {
	decoders spool.Decoders
	free     chan []byte // buffers
}

func newExaminer(n int) *examiner {
	e := &examiner{free: make(chan []byte, n)}
	for range n {
		e.free <- make([]byte, 64<<10)
	}
	return e
}

// examine returns what parts hold, of at most most bytes. key is added to the sum.
func (e *examiner) examine(enc spool.Encoding, parts [][]byte, key string, most int64) (content, error) {
	buf := <-e.free
	defer func() { e.free <- buf }()
	c := content{sum: sha256.New()}
	_, _ = c.sum.Write([]byte(key)) // a hash takes everything
	_, _ = c.sum.Write([]byte{0})
	src := net.Buffers(slices.Clone(parts))
	in, err := e.decoders.Open(enc, &src)
	if err != nil {
		return c, refuseDamaged(err)
	}
	defer func() { _ = in.Close() }() // it never fails
	for {
		n, err := in.Read(buf)
		c.add(buf[:n])
		if c.bytes > most {
			return c, refuse(bomb, most)
		}
		if errors.Is(err, io.EOF) {
			if c.endsWithNoLine {
				c.lines++
			}
			return c, nil
		}
		if err != nil {
			return c, refuseDamaged(err)
		}
	}
}

func (c *content) add(p []byte) {
	if len(p) == 0 {
		return
	}
	_, _ = c.sum.Write(p)
	c.bytes += int64(len(p))
	c.lines += int64(bytes.Count(p, []byte{'\n'}))
	c.endsWithNoLine = p[len(p)-1] != '\n'
	if len(c.start) < maxStart {
		c.start = append(c.start, p[:min(len(p), maxStart-len(c.start))]...)
	}
	if t := bytes.TrimRight(p, " \t\r\n"); len(t) > 0 {
		c.last = t[len(t)-1]
	}
}

// id is the batch's.
func (c *content) id() (id spool.ID) {
	copy(id[:], c.sum.Sum(nil))
	return id
}

// isArray tells that the body is a JSON array of objects, which shippers send unless
// they are told not to: it would be one line, or as many as it has, and none of them
// understood.
func (c *content) isArray() bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(c.start, " \t\r\n"), []byte{'['})
	return ok && c.last == ']' && bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte{'{'})
}

// isCheck tells that the body is what Cloudflare Logpush sends when a job is set up.
func (c *content) isCheck() bool {
	if c.bytes > maxStart {
		return false
	}
	var check struct{ Content *string }
	d := json.NewDecoder(bytes.NewReader(c.start))
	d.DisallowUnknownFields()
	return d.Decode(&check) == nil && check.Content != nil && strings.HasPrefix(*check.Content, "test")
}
