package file

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// headMax is how many bytes of a file's start tell it from other files. Access
// log lines differ in their first hundred bytes; 1 KiB is one page read.
const headMax = 1 << 10

// markVersion is the first byte of every encoded identity. It changes with the
// layout, so that an old mark is recognised and never misread.
const markVersion = 1

// identity tells which file an offset counts in, over renames, copies and
// compression: the inode where it is still the same, else the hash of the first
// n bytes (n <= headMax) of its content.
type identity struct {
	dev, ino uint64
	n        int
	sum      uint64
}

// errMark is the cause of every failed decoding.
var errMark = errors.New("saved file identity is not readable")

// identify returns the identity of a file whose content starts with head.
func identify(dev, ino uint64, head []byte) identity {
	return identity{dev: dev, ino: ino, n: len(head), sum: xxhash.Sum64(head)}
}

// encode returns the bytes kept in ingest.Position.Mark: version, dev, ino and n
// as uvarints, the hash as 8 bytes little endian.
func (id identity) encode() []byte {
	b := make([]byte, 0, 1+3*binary.MaxVarintLen64+8)
	b = append(b, markVersion)
	b = binary.AppendUvarint(b, id.dev)
	b = binary.AppendUvarint(b, id.ino)
	b = binary.AppendUvarint(b, uint64(id.n))
	return binary.LittleEndian.AppendUint64(b, id.sum)
}

// decodeIdentity reads what encode wrote. Its errors wrap errMark.
func decodeIdentity(b []byte) (identity, error) {
	if len(b) == 0 {
		return identity{}, fmt.Errorf("%w: it is empty", errMark)
	}
	if b[0] != markVersion {
		return identity{}, fmt.Errorf("%w: version %d, this program knows %d", errMark, b[0], markVersion)
	}
	rest := b[1:]
	var v [3]uint64
	for i := range v {
		x, n := binary.Uvarint(rest)
		if n <= 0 {
			return identity{}, fmt.Errorf("%w: truncated", errMark)
		}
		v[i], rest = x, rest[n:]
	}
	if len(rest) != 8 {
		return identity{}, fmt.Errorf("%w: %d bytes where the hash should be", errMark, len(rest))
	}
	if v[2] > headMax {
		return identity{}, fmt.Errorf("%w: hash over %d bytes", errMark, v[2])
	}
	return identity{dev: v[0], ino: v[1], n: int(v[2]), sum: binary.LittleEndian.Uint64(rest)}, nil
}

// matchesHead tells whether a file that starts with head can be the one that id
// describes. An id without a head matches nothing: it knows no content.
func (id identity) matchesHead(head []byte) bool {
	return id.n > 0 && len(head) >= id.n && xxhash.Sum64(head[:id.n]) == id.sum
}
