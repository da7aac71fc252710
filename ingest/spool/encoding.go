package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Encoding is how a batch is compressed. The numbers stand in spools on disk.
type Encoding byte

// The encodings there are.
const (
	Identity Encoding = iota
	Gzip              // members may follow each other
	Zstd              // frames may follow each other
)

// maxWindow bounds what a zstd decoder keeps of what it has decoded: what every
// level of the standard tool up to 19 asks for, and what RFC 9659 lets a
// Content-Encoding ask for.
const maxWindow = 8 << 20

// ErrEncoding wraps every error of decoding: the batch is not what it says.
var ErrEncoding = errors.New("the batch cannot be decompressed")

// Decoders lends decoders, which are expensive to make. The zero value is ready; it
// is safe for concurrent use.
type Decoders struct{ gzip, zstd sync.Pool }

// Open returns what r holds in that encoding. The reader must be closed, and
// closing it does not close r. Its errors wrap ErrEncoding.
func (d *Decoders) Open(e Encoding, r io.Reader) (io.ReadCloser, error) {
	switch e {
	case Identity:
		return io.NopCloser(r), nil
	case Gzip:
		z, _ := d.gzip.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		if err := z.Reset(r); err != nil {
			d.gzip.Put(z)
			return nil, undecodable(err)
		}
		return &decoder{Reader: z, done: func() { d.gzip.Put(z) }}, nil
	case Zstd:
		z, _ := d.zstd.Get().(*zstd.Decoder)
		if z == nil {
			var err error
			// It must not decode small inputs at once, whatever they grow to. Without
			// goroutines of its own it needs no Close.
			z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeBuffersBelow(0))
			if err != nil {
				return nil, fmt.Errorf("make a zstd decoder: %w", err)
			}
		}
		if err := z.Reset(r); err != nil {
			d.zstd.Put(z)
			return nil, undecodable(err)
		}
		return &decoder{Reader: z, done: func() { _ = z.Reset(nil); d.zstd.Put(z) }}, nil
	}
	return nil, fmt.Errorf("%w: its encoding is unknown", ErrEncoding)
}

func undecodable(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrEncoding, err)
}

// decoder is one that is lent.
type decoder struct {
	io.Reader
	done func()
}

// Read implements io.Reader.
func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = undecodable(err)
	}
	return n, err
}

// Close implements io.Closer. It never fails.
func (d *decoder) Close() error {
	d.done()
	return nil
}
