// Package seen remembers which keys occurred lately, in bounded memory: who was
// let in, on which route. A Filter forgets by event time, never says that a known
// key is unknown while it remembers it, and takes a stranger for known at most
// once in 1/FalseRate questions.
//
// It is a set of blocked Bloom filters (Putze, Sanders, Singler: Cache-, Hash-
// and Space-Efficient Bloom Filters, 2007, in the split form that Apache Parquet
// specifies) in two generations. A key lives for one to two half-lives: keys are
// added to the young generation, both are asked, and at the end of a half-life
// the old one is dropped. A generation that is full ends early, so that the error
// stays bounded and memory shortens instead.
//
// A Filter belongs to one goroutine and knows no clock. The same calls give the
// same answers, before and after Save and Load.
package seen

import (
	"math/bits"
	"time"
)

const (
	// FalseRate bounds the share of strangers that are taken for known ones.
	FalseRate = 0.005
	// bitsPerKey is the room of a key, so that FalseRate holds when both
	// generations are full (TestFalseRate).
	bitsPerKey = 20
	// blockWords is the words of 32 bits that all bits of a key lie in, one each.
	blockWords = 8
	// page is the bytes that are saved as one block, and a generation's first part;
	// each following part is segmentGrows times as large, while there is room.
	page         = 16 << 10
	segmentGrows = 8
	// maxBytes bounds a generation, whatever is asked for.
	maxBytes = 16 << 20
	// maxFresh is how many keys are saved one by one before pages are.
	maxFresh = 1 << 16
)

// Options bounds a Filter.
type Options struct {
	// Bytes is the most memory of one generation, of which there are two: 16 KiB to
	// 16 MiB, in pages of 16 KiB. A key takes 20 bits.
	Bytes int
	// Half is how long a generation gathers keys, in event time.
	Half time.Duration
	// Grant is asked before more memory is taken, with the bytes; nil grants
	// everything. It is not asked for a generation's first page. It must depend on
	// nothing but what else is remembered, so that a replay forgets the same.
	Grant func(bytes int) bool
}

// block is the bits of some keys.
type block [blockWords]uint32

// segment is a part of a generation.
type segment struct {
	blocks []block
	// keys is how many were added, fresh how many of the last ones are in no page
	// that was saved.
	keys, fresh int
	// kept marks the pages that were saved, dirty those changed since.
	kept, dirty []bool
}

func newSegment(bytes int) *segment {
	n := (bytes + page - 1) / page
	return &segment{blocks: make([]block, bytes/(4*blockWords)), kept: make([]bool, n), dirty: make([]bool, n)}
}

func (s *segment) bytes() int { return len(s.blocks) * 4 * blockWords }
func (s *segment) full() bool { return s.keys >= s.bytes()*8/bitsPerKey }

// salts are Parquet's, odd numbers that choose one bit of each word.
var salts = [blockWords]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

func (s *segment) at(key uint64) int {
	hi, _ := bits.Mul64(key, uint64(len(s.blocks)))
	return int(hi)
}

func (s *segment) has(key uint64) bool {
	b := &s.blocks[s.at(key)]
	for i, salt := range salts {
		if b[i]>>(uint32(key)*salt>>27)&1 == 0 {
			return false
		}
	}
	return true
}

func (s *segment) add(key uint64) {
	at := s.at(key)
	b := &s.blocks[at]
	for i, salt := range salts {
		b[i] |= 1 << (uint32(key) * salt >> 27)
	}
	s.dirty[at*4*blockWords/page] = true
}

// generation is the keys of one half-life.
type generation struct {
	number   uint64
	began    int64
	segments []*segment
}

func (g *generation) has(key uint64) bool {
	for i := len(g.segments) - 1; i >= 0; i-- { // the last is the largest
		if g.segments[i].has(key) {
			return true
		}
	}
	return false
}

func (g *generation) bytes() (n int) {
	for _, s := range g.segments {
		n += s.bytes()
	}
	return n
}

// Filter remembers keys. Create it with New.
type Filter struct {
	opt        Options
	young, old generation
	// since is the event time of the first key, -1 before.
	since int64
	// fresh are the keys added to the young generation since its pages were last
	// saved, in order; saved is how many of them are.
	fresh []uint64
	saved int
	// flush tells that the next Save must write pages, dirty that there is
	// something to save.
	flush, dirty bool
}

// New returns an empty filter.
func New(o Options) *Filter {
	o.Bytes = min(max(o.Bytes/page*page, page), maxBytes)
	return &Filter{opt: o, since: -1, dirty: true}
}

// mix spreads a key over all bits (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Pair makes one key of two.
func Pair(a, b uint64) uint64 { return mix(a) ^ bits.RotateLeft64(mix(b^0x9e3779b97f4a7c15), 29) }

// Has reports whether the key was added lately.
func (f *Filter) Has(key uint64) bool {
	key = mix(key)
	return f.young.has(key) || f.old.has(key)
}

// Fresh reports whether the key was added since the last generation began, within one
// half-life: adding it now changes nothing.
func (f *Filter) Fresh(key uint64) bool { return f.young.has(mix(key)) }

// Add remembers the key from now, in seconds of event time. Times must not go
// back.
func (f *Filter) Add(key uint64, now int64) {
	f.Turn(now)
	if f.since < 0 {
		f.since, f.young.began = now, now
	}
	key = mix(key)
	if f.young.has(key) {
		return
	}
	f.dirty = true
	seg := f.room(now)
	seg.keys++
	seg.add(key)
	if len(f.fresh) == maxFresh {
		f.flush = true
	}
	if f.flush {
		return
	}
	seg.fresh++
	f.fresh = append(f.fresh, key)
}

// room is the segment that the next key goes to.
func (f *Filter) room(now int64) *segment {
	n := len(f.young.segments)
	if n == 0 || f.young.segments[n-1].full() {
		if !f.grow() {
			f.rotate(now)
			f.grow()
		}
		n = len(f.young.segments)
	}
	return f.young.segments[n-1]
}

// grow adds a segment and reports whether there is room for one.
func (f *Filter) grow() bool {
	size, n := page, len(f.young.segments)
	if n > 0 {
		size = segmentGrows * f.young.segments[n-1].bytes()
	}
	size = min(size, f.opt.Bytes-f.young.bytes())
	if size < page || n > 0 && f.opt.Grant != nil && !f.opt.Grant(size) {
		return false
	}
	f.young.segments = append(f.young.segments, newSegment(size))
	return true
}

// rotate makes the young generation the old one.
func (f *Filter) rotate(now int64) {
	f.old = f.young
	f.young = generation{number: f.old.number + 1, began: now}
	f.flush, f.dirty = true, true
}

// Turn lets event time pass: what is older than its life is forgotten.
func (f *Filter) Turn(now int64) {
	half := int64(f.opt.Half / time.Second)
	if f.since < 0 || now-f.young.began < half {
		return
	}
	f.rotate(now)
	if now-f.old.began >= 2*half {
		// Nothing was added for so long that all of it is over.
		f.old.segments = nil
	}
}

// Since is the event time of the first key in seconds, -1 when there was none.
func (f *Filter) Since() int64 { return f.since }

// Bytes is the memory of both generations.
func (f *Filter) Bytes() int { return f.young.bytes() + f.old.bytes() }

// Keys is about how many distinct keys are remembered; a key of both generations
// counts twice.
func (f *Filter) Keys() (n int) {
	for _, g := range [...]*generation{&f.young, &f.old} {
		for _, s := range g.segments {
			n += s.keys
		}
	}
	return n
}
