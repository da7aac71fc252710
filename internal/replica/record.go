package replica

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/state"
)

// A record's key is "EPOCH.NONCE.N", both numbers in 16 hexadecimal digits; N counts
// the records of the term, 0 being its claim, and is "b" for its beats, of which
// only the last is worth keeping. Its value is: a byte for the version, one for the
// kind, the body, and a CRC-32C of key and value in four bytes, little-endian.

// version is that of the records' form. Records of another one are not understood.
const version = 1

// kind is what a record is.
type kind byte

const (
	kindClaim kind = iota + 1
	kindPart
	kindBeat
	kindResign
)

// termID names a term. The nonce is drawn for each claim.
type termID struct {
	Epoch uint64 `json:"epoch"`
	Nonce uint64 `json:"nonce"`
}

func (t termID) prefix() string { return fmt.Sprintf("%016x.%016x.", t.Epoch, t.Nonce) }

func (t termID) key(n uint64) string { return t.prefix() + strconv.FormatUint(n, 10) }

func (t termID) beat() string { return t.prefix() + "b" }

// parseKey returns the term of a record and its number; beats have none.
func parseKey(key string) (t termID, n uint64, beat, ok bool) {
	epoch, rest, ok1 := strings.Cut(key, ".")
	nonce, number, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || len(epoch) != 16 || len(nonce) != 16 {
		return t, 0, false, false
	}
	var err1, err2, err3 error
	t.Epoch, err1 = strconv.ParseUint(epoch, 16, 64)
	t.Nonce, err2 = strconv.ParseUint(nonce, 16, 64)
	if number == "b" {
		return t, 0, true, err1 == nil && err2 == nil
	}
	n, err3 = strconv.ParseUint(number, 10, 64)
	return t, n, false, err1 == nil && err2 == nil && err3 == nil && t.key(n) == key
}

// claim is what the claim of a term says.
type claim struct {
	// Owner is drawn once in the life of a store.
	Owner uint64 `json:"owner"`
	Name  string `json:"name"`
	// Key is a fingerprint of the identity key.
	Key string `json:"key"`
}

// part is a piece of a transaction.
type part struct {
	tx    uint64 // number of the transaction in its term, from 1
	prev  uint64 // that of the last one that its writer knows to hold
	index uint64 // of the part in its transaction, from 0
	last  bool
	whole bool
	sent  time.Duration // by the writer's clock, since its term began
	body  []byte
}

const (
	flagLast  = 1
	flagWhole = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal makes a value of a record's body.
func seal(key string, k kind, body []byte) []byte {
	out := append(make([]byte, 0, len(body)+6), version, byte(k))
	out = append(out, body...)
	return binary.LittleEndian.AppendUint32(out, sum(key, out))
}

func sum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
}

// errForm tells that a record is not of the form it should have.
var errForm = errors.New("a record of the state topic is damaged")

// unseal returns the kind and the body of a value.
func unseal(key string, value []byte) (kind, []byte, error) {
	n := len(value) - 4
	if n < 2 || value[0] != version || binary.LittleEndian.Uint32(value[n:]) != sum(key, value[:n]) {
		return 0, nil, errForm
	}
	return kind(value[1]), value[2:n], nil
}

func (c *claim) seal(key string) []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers and texts
	}
	return seal(key, kindClaim, b)
}

func parseClaim(b []byte) (c claim, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, errForm
	}
	return c, nil
}

func (p *part) seal(key string) []byte {
	flags := uint64(0)
	if p.last {
		flags |= flagLast
	}
	if p.whole {
		flags |= flagWhole
	}
	b := make([]byte, 0, len(p.body)+5*binary.MaxVarintLen64)
	for _, v := range []uint64{p.tx, p.prev, p.index, flags, uint64(p.sent)} {
		b = binary.AppendUvarint(b, v)
	}
	return seal(key, kindPart, append(b, p.body...))
}

// sealBeat makes the value of a beat, or of a resignation.
func sealBeat(key string, k kind, sent time.Duration) []byte {
	return seal(key, k, binary.AppendUvarint(nil, uint64(sent)))
}

// numbers reads n numbers off b.
func numbers(b []byte, into ...*uint64) ([]byte, error) {
	for _, v := range into {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errForm
		}
		*v, b = x, b[n:]
	}
	return b, nil
}

func parsePart(b []byte) (p part, err error) {
	var flags, sent uint64
	p.body, err = numbers(b, &p.tx, &p.prev, &p.index, &flags, &sent)
	p.last, p.whole, p.sent = flags&flagLast != 0, flags&flagWhole != 0, time.Duration(sent)
	if p.tx == 0 {
		err = errForm
	}
	return p, err
}

// A transaction's body is its changes behind each other: bucket, key and value, each
// with its length before it. A length of value 0 is a deletion, others are one more
// than the value's.

// encode appends the body of a transaction.
func encode(b []byte, changes []state.Change) []byte {
	for i := range changes {
		c := &changes[i]
		b = binary.AppendUvarint(b, uint64(len(c.Bucket)))
		b = append(b, c.Bucket...)
		b = binary.AppendUvarint(b, uint64(len(c.Key)))
		b = append(b, c.Key...)
		if c.Value == nil {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(c.Value))+1)
		b = append(b, c.Value...)
	}
	return b
}

// decode is the inverse of encode. Values lie in b.
func decode(b []byte) (changes []state.Change, err error) {
	take := func() []byte {
		var n uint64
		if b, err = numbers(b, &n); err != nil {
			return nil
		}
		if n > uint64(len(b)) {
			err = errForm
			return nil
		}
		out := b[:n:n]
		b = b[n:]
		return out
	}
	for len(b) > 0 {
		bucket := take()
		if err != nil {
			return nil, err
		}
		key := take()
		if err != nil {
			return nil, err
		}
		var n uint64
		if b, err = numbers(b, &n); err != nil {
			return nil, err
		}
		c := state.Change{Bucket: string(bucket), Key: string(key)}
		if n > 0 {
			if n--; n > uint64(len(b)) {
				return nil, errForm
			}
			c.Value, b = b[:n:n], b[n:]
		}
		if c.Bucket == "" || c.Key == "" { // the store takes neither
			return nil, errForm
		}
		changes = append(changes, c)
	}
	return changes, nil
}
