package file

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// errCompression marks a compression that cannot be read here.
var errCompression = errors.New("compression is not supported")

var (
	magicGzip  = []byte{0x1f, 0x8b}
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicBzip2 = []byte("BZh")
	magicXz    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	magicLz4   = []byte{0x04, 0x22, 0x4d, 0x18}
)

// zstdMemory bounds the window of a zstd file; the standard tool's --long=27
// still fits.
const zstdMemory = 128 << 20

// inflated is the content of a file that may be compressed.
type inflated struct {
	io.Reader
	compressed bool
	close      func()
}

// Close frees the decoder, not the file under it.
func (in *inflated) Close() {
	if in.close != nil {
		in.close()
	}
}

// inflate returns the content of r, recognising compression by its first bytes,
// because names lie more often than magic numbers.
func inflate(r io.Reader) (*inflated, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(len(magicXz))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, magicGzip):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, explain(err)
		}
		return &inflated{Reader: z, compressed: true, close: func() { z.Close() }}, nil
	case bytes.HasPrefix(head, magicZstd):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMemory))
		if err != nil {
			return nil, explain(err)
		}
		return &inflated{Reader: z, compressed: true, close: z.Close}, nil
	case bytes.HasPrefix(head, magicBzip2):
		return &inflated{Reader: bzip2.NewReader(br), compressed: true}, nil
	case bytes.HasPrefix(head, magicXz), bytes.HasPrefix(head, magicLz4):
		return nil, fmt.Errorf("%w: decompress it first and pipe it in (xz -dc, lz4 -dc), or use gzip or zstd", errCompression)
	}
	return &inflated{Reader: br}, nil
}

// ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// explain says what an error of a decoder means for the file.
func explain(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return err // of the file under it
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the compressed file is truncated; what could be read was delivered: %w", err)
	}
	return fmt.Errorf("the compressed file is damaged; what could be read was delivered: %w", err)
}
