package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/segmentio/kafka-go/compress"
)

// The layouts below are those of https://kafka.apache.org/protocol (Fetch, v4 to
// v11) and https://kafka.apache.org/documentation/#recordbatch (record batches
// of format 2, since Kafka 0.11).

// maxInflated bounds a batch after decompression.
const maxInflated = 128 << 20

// errShort tells that bytes end where something should follow.
var errShort = errors.New("it ends too early")

// cursor reads big-endian values and stays at its first error.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint(n int) (v uint64) {
	for _, x := range c.take(n) {
		v = v<<8 | uint64(x)
	}
	return v
}

func (c *cursor) int16() int16 { return int16(c.uint(2)) }
func (c *cursor) int32() int32 { return int32(c.uint(4)) }
func (c *cursor) int64() int64 { return int64(c.uint(8)) }

// varint reads a zig-zag number of at most 64 bits.
func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// fetched is the answer to a fetch of one partition.
type fetched struct {
	code int16 // of Kafka's errors; 0
	// high is the offset behind the last message that all replicas have; stable
	// that behind the last one no open transaction lies before.
	high, stable int64
	aborted      []abortedTx
	set          []byte // record batches, the last perhaps cut short
}

// abortedTx is a transaction whose messages, from an offset to its marker, do not
// count.
type abortedTx struct{ producer, first int64 }

// decodeFetch decodes an answer that holds one partition. The set lies in b.
func decodeFetch(b []byte, version int16) (f fetched, number int32, err error) {
	c := cursor{b: b}
	number = c.int32()
	c.int32() // throttle
	if version >= 7 {
		f.code = c.int16()
		c.int32() // session
	}
	if topics := c.int32(); c.bad || topics < 1 {
		if f.code != 0 && !c.bad {
			return f, number, nil
		}
		return f, number, errShort
	}
	c.take(int(c.int16())) // topic
	if partitions := c.int32(); c.bad || partitions < 1 {
		return f, number, errShort
	}
	c.int32() // partition
	if code := c.int16(); code != 0 {
		f.code = code
	}
	f.high, f.stable = c.int64(), c.int64()
	if version >= 5 {
		c.int64() // log start
	}
	for range max(c.int32(), 0) {
		if c.bad {
			break
		}
		f.aborted = append(f.aborted, abortedTx{c.int64(), c.int64()})
	}
	if version >= 11 {
		c.int32() // preferred replica
	}
	if n := c.int32(); n > 0 {
		f.set = c.take(int(n))
	}
	if c.bad {
		return f, number, errShort
	}
	return f, number, nil
}

// The parts of a batch's head.
const (
	batchHead    = 61
	batchMeta    = 12 // base offset and length, which the length leaves out
	batchCRCFrom = 21
	magicV2      = 2
)

// Bits of a batch's attributes.
const (
	attrCompression   = 7
	attrAppendTime    = 1 << 3 // the times are the broker's
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is one record batch.
type batch struct {
	base, last int64 // offsets
	epoch      int32 // of the leader that took it
	attributes int16
	producer   int64
	oldest     int64 // of the times, in milliseconds; records count from it
	newest     int64
	records    int32
	body       []byte
	fault      string // why it cannot be read; empty
}

// The reasons why messages are poison, as the metrics name them.
const (
	poisonEmpty    = "empty"
	poisonTooLarge = "too_large"
	poisonDamaged  = "damaged"
	poisonOld      = "old_format"
)

// nextBatch takes the first batch off set. It is false when what is left is no
// whole batch.
func nextBatch(set []byte) (b batch, rest []byte, ok bool) {
	if len(set) < batchMeta+5 {
		return b, set, false
	}
	b.base = int64(binary.BigEndian.Uint64(set))
	n := int64(int32(binary.BigEndian.Uint32(set[8:]))) + batchMeta
	if n < batchMeta+5 || n > int64(len(set)) {
		return b, set, false
	}
	raw, rest := set[:n], set[n:]
	b.last = b.base
	if raw[16] != magicV2 {
		b.fault = poisonOld
		return b, rest, true
	}
	if n < batchHead {
		b.fault = poisonDamaged
		return b, rest, true
	}
	c := cursor{b: raw[12:]}
	b.epoch = c.int32()
	c.take(1) // magic
	sum := uint32(c.int32())
	b.attributes = c.int16()
	b.last = b.base + int64(max(c.int32(), 0))
	if crc32.Checksum(raw[batchCRCFrom:], castagnoli) != sum {
		b.fault = poisonDamaged
		return b, rest, true
	}
	b.oldest, b.newest = c.int64(), c.int64()
	b.producer = c.int64()
	c.take(6) // producer epoch, sequence
	b.records = c.int32()
	b.body = c.b
	return b, rest, true
}

// inflate returns the records of the batch, behind what buf holds if they were
// compressed.
func (b *batch) inflate(buf *bytes.Buffer) ([]byte, error) {
	code := compress.Compression(b.attributes & attrCompression)
	if code == compress.None {
		return b.body, nil
	}
	codec := code.Codec()
	if codec == nil {
		return nil, fmt.Errorf("compression %d is unknown", code)
	}
	r := codec.NewReader(bytes.NewReader(b.body))
	defer func() { _ = r.Close() }() // only read
	from := buf.Len()
	n, err := buf.ReadFrom(io.LimitReader(r, maxInflated+1))
	if err != nil {
		return nil, err
	}
	if n > maxInflated {
		return nil, fmt.Errorf("it is larger than %d bytes when decompressed", maxInflated)
	}
	return buf.Bytes()[from:], nil
}

// record is one message of a batch.
type record struct {
	delta   int64  // of its offset to the batch's base
	time    int64  // in milliseconds, counted from the batch's oldest
	key     []byte // nil if it has none
	value   []byte // nil for a tombstone
	headers []byte // as encoded; see header
}

// nextRecord takes the first record off b. It is false when that cannot be read.
func nextRecord(b []byte) (m record, rest []byte, ok bool) {
	c := cursor{b: b}
	n := c.varint()
	if c.bad || n < 0 || n > int64(len(c.b)) {
		return m, nil, false
	}
	r := cursor{b: c.take(int(n))}
	r.take(1) // attributes
	m.time, m.delta = r.varint(), r.varint()
	m.key, m.value = r.text(), r.text()
	m.headers = r.b
	return m, c.b, !r.bad
}

// text reads bytes with their length before them; nil where that is -1.
func (c *cursor) text() []byte {
	if n := c.varint(); n >= 0 {
		return c.take(int(min(n, int64(len(c.b)+1))))
	}
	return nil
}

// header returns the last value under a name in the headers of a record, nil if
// there is none.
func header(headers []byte, name string) (value []byte) {
	c := cursor{b: headers}
	for n := c.varint(); n > 0 && !c.bad; n-- {
		k, v := c.text(), c.text()
		if !c.bad && string(k) == name {
			value = v
		}
	}
	return value
}

// aborts tells of a control batch whether it is the mark that ends an aborted
// transaction. Its only record has a key of two numbers: version and type, 0 for
// abort.
func (b *batch) aborts() bool {
	m, _, ok := nextRecord(b.body)
	return ok && len(m.key) >= 4 && m.key[2] == 0 && m.key[3] == 0
}
