package geo

import (
	"math/bits"
	"slices"
	"time"
)

// Codes below codeLink are places in table.names; 0 is the unknown country.
const (
	// codeLink marks networks that repeat the IPv4 networks, see link.
	codeLink = 0xfffe
	// codeSplit marks a /64 that holds several countries, see table6.
	codeSplit = 0xffff
)

// table is one database, flattened. It never changes once it is built.
type table struct {
	v4    index[uint32]
	v6    table6
	names []string

	kind  string // the database's type, cut to a bounded length
	built time.Time
}

// country returns the country of an address.
func (t *table) country(a address) string {
	if a.is4() {
		return t.names[t.v4.find(uint32(a.lo))]
	}
	code := t.v6.find(a)
	if code == codeLink {
		code = t.v4.find(t.v6.linked(a))
	}
	return t.names[code]
}

// size is the memory of a table in bytes.
func (t *table) size() int {
	return t.v4.size(4) + t.v6.high.size(8) + 18*cap(t.v6.deepHi) + 16*len(t.names)
}

// table6 holds the IPv6 networks. Almost no database divides a /64, so the high
// half of an address decides and the low half is kept for the exceptions only.
type table6 struct {
	high index[uint64]
	// The parts of those /64 that are codeSplit in high: sorted first addresses
	// (the first of each /64 among them) and the code from there on.
	deepHi, deepLo []uint64
	deepCodes      []uint16
	links          []link
}

// link is an IPv6 network in which the IPv4 networks are repeated: the database
// writes ::/96, ::ffff:0:0/96, 2001::/32 (Teredo) and 2002::/16 (6to4) as
// pointers to one tree. Expanding them would multiply the memory.
type link struct {
	first address
	bits  uint // length of the prefix; the IPv4 address follows it
}

func (t *table6) find(a address) uint16 {
	code := t.high.find(a.hi)
	if code != codeSplit {
		return code
	}
	lo, hi := 0, len(t.deepHi)-1
	for lo < hi {
		mid := int(uint(lo+hi+1) >> 1)
		if h := t.deepHi[mid]; h < a.hi || h == a.hi && t.deepLo[mid] <= a.lo {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return t.deepCodes[lo]
}

// linked returns the IPv4 address whose network is repeated at a, an address
// with codeLink.
func (t *table6) linked(a address) uint32 {
	for _, l := range t.links {
		if l.bits <= 64 && (a.hi^l.first.hi)>>(64-l.bits) == 0 ||
			l.bits > 64 && a.hi == l.first.hi && (a.lo^l.first.lo)>>(128-l.bits) == 0 {
			if l.bits >= 64 {
				return uint32(a.lo << (l.bits - 64) >> 32)
			}
			return uint32((a.hi<<l.bits | a.lo>>(64-l.bits)) >> 32)
		}
	}
	return 0 // codeLink is written together with its link
}

// index maps every K to a code. Neighbouring addresses with the same code are
// one run. A run is found by the 16 highest bits, then by as many of the next
// ones as that part of the address space has runs for, then by a binary search
// among the few that are left. That is three loads that wait for each other,
// which is what a look-up costs.
type index[K uint32 | uint64] struct {
	// dir holds, for each value of the 16 highest bits, the place of its first
	// cell in cells, shifted left by 5, and the number of further bits that
	// choose among its cells.
	dir []uint32
	// cells holds for each cell the first run that does not begin before it, and
	// at the end the number of runs.
	cells []uint32
	// runs holds the first address of each run without its 16 highest bits,
	// shifted left by 16, and in their stead the code. Every value of the highest
	// bits begins a run.
	runs []K
}

const (
	dirBits = 16
	// maxCellBits also keeps a cell from being less than one IPv4 address.
	maxCellBits = 16
	// cellRuns is about how many runs a cell gets at most: one or two comparisons
	// cost less than a larger table that is not in the cache.
	cellRuns = 2
)

// width is the number of bits of a K.
func width[K uint32 | uint64]() int { return bits.Len64(uint64(^K(0))) }

// newIndex takes the first addresses of the runs, sorted, the first one 0, and
// their codes.
func newIndex[K uint32 | uint64](starts []K, codes []uint16) index[K] {
	rest := width[K]() - dirBits
	x := index[K]{
		dir:   make([]uint32, 1<<dirBits),
		cells: make([]uint32, 0, 1<<dirBits+2*len(starts)/cellRuns+1),
		runs:  make([]K, 0, len(starts)+1<<dirBits),
	}
	next := 0 // the first run that begins behind the value d
	for d := range x.dir {
		begin := len(x.runs)
		if next == len(starts) || starts[next] != K(d)<<rest {
			x.runs = append(x.runs, K(codes[next-1]))
		}
		for ; next < len(starts) && starts[next]>>rest == K(d); next++ {
			x.runs = append(x.runs, starts[next]<<dirBits|K(codes[next]))
		}
		k := min(bits.Len(uint((len(x.runs)-begin)/cellRuns)), maxCellBits)
		x.dir[d] = uint32(len(x.cells))<<5 | uint32(k)
		run := begin
		for c := range 1 << k {
			for first := K(c) << (rest - k) << dirBits; run < len(x.runs) && x.runs[run] < first; {
				run++
			}
			x.cells = append(x.cells, uint32(run))
		}
	}
	x.cells = append(x.cells, uint32(len(x.runs)))
	// Leave the room behind that was kept for growing.
	x.cells, x.runs = slices.Clone(x.cells), slices.Clone(x.runs)
	return x
}

func (x *index[K]) find(key K) uint16 {
	w := width[K]()
	d := x.dir[uint16(key>>(w-dirBits))]
	key <<= dirBits
	cell := int(d>>5) + int(key>>(w-int(d&31)))
	key |= 1<<dirBits - 1
	lo, hi := x.cells[cell], x.cells[cell+1]
	for lo < hi {
		mid := (lo + hi) >> 1
		if x.runs[mid] <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return uint16(x.runs[lo-1])
}

// size is the memory of x in bytes, with keys of a number of bytes.
func (x *index[K]) size(key int) int {
	return 4*cap(x.dir) + 4*cap(x.cells) + key*cap(x.runs)
}
