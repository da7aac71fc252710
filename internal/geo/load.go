package geo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/oschwald/maxminddb-golang/v2"
	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"
)

// Bounds for files that are broken or made to harm. The largest databases we
// know of (City and Enterprise, some 10 million networks) stay far below: their
// networks melt into some 500,000 runs of one country.
const (
	maxFile = 1 << 30
	// maxRuns bounds a table: see the package comment for what it means in bytes.
	maxRuns = 4 << 20
	// maxLinks is how often the IPv4 networks may be repeated; the usual writer
	// does it four times.
	maxLinks = 16
	// maxMemo is how many records are remembered at a time.
	maxMemo = 4 << 20
	// maxText is the length of the longest country name or code that is read.
	maxText = 256
	// maxKind is how much of the database's type is kept.
	maxKind = 64
)

// separator is the number of zero bytes between search tree and data.
const separator = 16

var (
	errTree     = errors.New("the search tree is corrupt")
	errWork     = errors.New("its networks or records repeat each other without end: it is broken, or made to harm")
	errTooMany  = fmt.Errorf("more than %d changes of country in the address space", maxRuns)
	errChanging = errors.New("the file changed while it was read")
)

// read returns the whole file and what it was when it was read. The caller's
// descriptor is gone afterwards: a database that is replaced or truncated later
// cannot harm us, as it would if it were mapped.
func read(path string) ([]byte, fs.FileInfo, error) {
	// Opening a named pipe would wait for its writer.
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, info, errors.New("not a regular file: name the .mmdb file itself")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxFile {
		return nil, info, fmt.Errorf("larger than %d MiB: use a Country or City database", maxFile>>20)
	}
	raw := make([]byte, info.Size())
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, info, fmt.Errorf("%w: %w", errChanging, err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, info, err
	}
	if !same(info, after) {
		return nil, info, errChanging
	}
	return raw, info, nil
}

// same says whether two looks at a path found the same file, unchanged.
func same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// loader flattens one database. The format is that of
// https://maxmind.github.io/MaxMind-DB/ (version 2.0). The reader library does
// not show its search tree, and its iterator cannot be bounded: subtrees may be
// shared, so a small file can spell out 2^128 networks.
type loader struct {
	ctx context.Context // a loader lives for one call of load

	tree    []byte
	data    []byte
	nodes   uint32
	recBits uint
	root4   uint32 // the record that stands for ::/96
	visits  int    // nodes that may still be visited
	work    int    // bytes of records that may still be skipped
	err     error

	starts4 []uint32
	codes4  []uint16
	starts6 []uint64
	codes6  []uint16
	last6   uint16 // the code at the end of what is known
	t6      table6

	names   []string
	byName  map[string]uint16
	records map[uint32]uint16 // code by the record's place in data
	maps    map[uint32]uint16 // code by the country's place in data
}

// load builds the table of the database in raw and keeps nothing of it.
func load(ctx context.Context, raw []byte) (*table, error) {
	r, err := maxminddb.OpenBytes(raw, maxminddb.DisableStringCache())
	if err != nil {
		return nil, fmt.Errorf("not a MaxMind DB, or cut short: %w", err)
	}
	m := &r.Metadata
	if m.BinaryFormatMajorVersion != 2 || m.IPVersion != 4 && m.IPVersion != 6 ||
		m.RecordSize != 24 && m.RecordSize != 28 && m.RecordSize != 32 {
		return nil, fmt.Errorf("unknown format: version %d, IP version %d, records of %d bits",
			m.BinaryFormatMajorVersion, m.IPVersion, m.RecordSize)
	}
	nodeBytes := m.RecordSize / 4
	if m.NodeCount > (uint(len(raw))-separator)/nodeBytes {
		return nil, errTree
	}
	treeBytes := m.NodeCount * nodeBytes
	l := &loader{
		ctx:     ctx,
		tree:    raw[:treeBytes],
		data:    raw[treeBytes+separator:],
		nodes:   uint32(m.NodeCount),
		recBits: m.RecordSize,
		visits:  4*int(m.NodeCount) + 1<<20,
		work:    8*len(raw) + 1<<20,
		names:   []string{""},
		byName:  map[string]uint16{"": 0},
		records: map[uint32]uint16{},
		maps:    map[uint32]uint16{},
	}
	if m.IPVersion == 6 {
		for depth := 0; depth < 96 && l.root4 < l.nodes; depth++ {
			l.root4 = l.record(l.root4, 0)
		}
		l.walk4(l.root4, 0, 0)
		l.walk6(0, address{}, 0)
	} else {
		l.walk4(0, 0, 0)
		l.add6(address{}, 0)
	}
	if l.err != nil {
		return nil, l.err
	}
	kind := m.DatabaseType
	kind = kind[:min(len(kind), maxKind)]
	if len(l.names) == 1 {
		return nil, fmt.Errorf("a database of type %q says no country: use a Country, City or Enterprise database", kind)
	}
	l.end6()
	l.t6.high = newIndex(l.starts6, l.codes6)
	// Leave the room behind that was kept for growing.
	l.t6.deepHi, l.t6.deepLo, l.t6.deepCodes = slices.Clone(l.t6.deepHi), slices.Clone(l.t6.deepLo), slices.Clone(l.t6.deepCodes)
	return &table{
		v4:    newIndex(l.starts4, l.codes4),
		v6:    l.t6,
		names: l.names,
		kind:  kind,
		built: m.BuildTime(),
	}, nil
}

// record returns one side of a node of the tree: another node, or l.nodes for
// nothing, or l.nodes+separator plus a place in data.
func (l *loader) record(node uint32, side uint) uint32 {
	switch l.recBits {
	case 24:
		b := l.tree[uint(node)*6+side*3:][:3]
		return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	case 28:
		b := l.tree[uint(node)*7:][:7]
		if side == 0 {
			return uint32(b[3]>>4)<<24 | uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
		}
		return uint32(b[3]&15)<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
	default:
		b := l.tree[uint(node)*8+side*4:][:4]
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
}

// visit counts a visit to a node and says whether to go on.
func (l *loader) visit() bool {
	if l.err != nil {
		return false
	}
	l.visits--
	if l.visits < 0 {
		l.err = errWork
	} else if l.visits&0x3fff == 0 {
		l.err = l.ctx.Err()
	}
	return l.err == nil
}

// walk4 adds, in the order of addresses, the networks below a record that
// stands for the depth highest bits of first.
func (l *loader) walk4(rec uint32, first uint32, depth uint) {
	if rec >= l.nodes {
		code := l.leaf(rec)
		if n := len(l.codes4); n > 0 && l.codes4[n-1] == code {
			return
		} else if n == maxRuns {
			l.fail(errTooMany)
			return
		}
		l.starts4, l.codes4 = append(l.starts4, first), append(l.codes4, code)
		return
	}
	if depth == 32 {
		l.fail(errTree)
	}
	if !l.visit() {
		return
	}
	l.walk4(l.record(rec, 0), first, depth+1)
	l.walk4(l.record(rec, 1), first|1<<(31-depth), depth+1)
}

// walk6 does the same for the whole tree.
func (l *loader) walk6(rec uint32, first address, depth uint) {
	if rec >= l.nodes {
		l.add6(first, l.leaf(rec))
		return
	}
	if rec == l.root4 && depth > 0 && depth <= 96 && len(l.t6.links) < maxLinks {
		l.t6.links = append(l.t6.links, link{first: first, bits: depth})
		l.add6(first, codeLink)
		return
	}
	if depth == 128 {
		l.fail(errTree)
	}
	if !l.visit() {
		return
	}
	l.walk6(l.record(rec, 0), first, depth+1)
	if depth < 64 {
		first.hi |= 1 << (63 - depth)
	} else {
		first.lo |= 1 << (127 - depth)
	}
	l.walk6(l.record(rec, 1), first, depth+1)
}

func (l *loader) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// add6 says that code holds from first on. Calls come in the order of
// addresses, the first one for the lowest of all.
func (l *loader) add6(first address, code uint16) {
	n := len(l.starts6)
	if n > 0 && code == l.last6 {
		return
	}
	if n >= maxRuns || len(l.t6.deepHi) >= maxRuns {
		l.fail(errTooMany)
		return
	}
	if n > 0 && l.codes6[n-1] == codeSplit && first.hi > l.starts6[n-1]+1 {
		l.high(l.starts6[n-1]+1, l.last6) // the end of a divided /64
	}
	if first.lo == 0 {
		l.high(first.hi, code)
	} else {
		if n = len(l.starts6); l.starts6[n-1] < first.hi {
			l.high(first.hi, codeSplit)
			l.deep(address{hi: first.hi}, l.last6)
		} else if l.codes6[n-1] != codeSplit {
			l.codes6[n-1] = codeSplit
			l.deep(address{hi: first.hi}, l.last6)
		}
		l.deep(first, code)
	}
	l.last6 = code
}

// end6 closes what add6 left open.
func (l *loader) end6() {
	if n := len(l.starts6); l.codes6[n-1] == codeSplit && l.starts6[n-1] != ^uint64(0) {
		l.high(l.starts6[n-1]+1, l.last6)
	}
}

func (l *loader) high(first uint64, code uint16) {
	l.starts6, l.codes6 = append(l.starts6, first), append(l.codes6, code)
}

func (l *loader) deep(first address, code uint16) {
	t := &l.t6
	t.deepHi, t.deepLo, t.deepCodes = append(t.deepHi, first.hi), append(t.deepLo, first.lo), append(t.deepCodes, code)
}

// leaf returns the code of a record that is no node.
func (l *loader) leaf(rec uint32) uint16 {
	if rec == l.nodes || l.err != nil {
		return 0
	}
	at := rec - l.nodes - separator
	if rec-l.nodes < separator || int(at) >= len(l.data) {
		l.fail(errTree)
		return 0
	}
	code, ok := l.records[at]
	if !ok {
		var err error
		if code, err = l.decode(at); err != nil {
			l.fail(fmt.Errorf("a record of the data section: %w", err))
			return 0
		}
		remember(l.records, at, code)
	}
	return code
}

func remember(memo map[uint32]uint16, at uint32, code uint16) {
	if len(memo) >= maxMemo {
		clear(memo)
	}
	memo[at] = code
}

// decode finds the country in the record at a place in the data:
//
//   - country.iso_code: MaxMind's layout (Country, City, Enterprise), that of
//     DB-IP and IP2Location too;
//   - country_code: IPinfo Lite, IPLocate;
//   - country, if it is a code itself: IPinfo's Country.
//
// registered_country and represented_country say where a network's papers are,
// not where its users are, so they are no substitute: unknown is better than
// wrong.
func (l *loader) decode(at uint32) (uint16, error) {
	d := mmdbdata.NewDecoder(l.data, uint(at))
	if kind, err := d.PeekKind(); err != nil || kind != mmdbdata.KindMap {
		return 0, err
	}
	entries, _, err := d.ReadMap()
	if err != nil {
		return 0, err
	}
	var flat, loose uint16
	for key, err := range entries {
		if err != nil {
			return 0, err
		}
		switch string(key) {
		case "country":
			kind, err := d.PeekKind()
			if err != nil {
				return 0, err
			}
			if kind == mmdbdata.KindMap {
				return l.isoCode(d)
			}
			loose, err = l.code(d)
			if err != nil {
				return 0, err
			}
		case "country_code":
			if flat, err = l.code(d); err != nil {
				return 0, err
			}
		default:
			if err := l.skip(d); err != nil {
				return 0, err
			}
		}
	}
	if flat != 0 {
		return flat, nil
	}
	return loose, nil
}

// isoCode returns the iso_code in the map at which d stands, and leaves d there.
// Records of many cities share the map of their country.
func (l *loader) isoCode(d *mmdbdata.Decoder) (uint16, error) {
	at, err := d.Cursor().Offset()
	if err != nil {
		return 0, err
	}
	if code, ok := l.maps[uint32(at)]; ok {
		return code, nil
	}
	d = mmdbdata.NewDecoder(l.data, at)
	entries, _, err := d.ReadMap()
	if err != nil {
		return 0, err
	}
	var code uint16
	for key, err := range entries {
		if err != nil {
			return 0, err
		}
		if string(key) != "iso_code" {
			if err := l.skip(d); err != nil {
				return 0, err
			}
			continue
		}
		if code, err = l.code(d); err != nil {
			return 0, err
		}
		break
	}
	remember(l.maps, uint32(at), code)
	return code, nil
}

// skip passes over the value at which d stands.
func (l *loader) skip(d *mmdbdata.Decoder) error {
	before := d.Offset()
	if err := d.SkipValue(); err != nil {
		return err
	}
	return l.charge(int(d.Offset() - before))
}

// charge counts n bytes of work on records.
func (l *loader) charge(n int) error {
	if l.work -= n + 1; l.work < 0 {
		return errWork
	}
	return nil
}

// code passes over the value at which d stands and returns its code; 0 if it is
// not a country code of two letters or digits.
func (l *loader) code(d *mmdbdata.Decoder) (uint16, error) {
	if kind, err := d.PeekKind(); err != nil {
		return 0, err
	} else if kind != mmdbdata.KindString {
		return 0, l.skip(d)
	}
	s, next, err := d.Cursor().ReadStringMaxSize(maxText)
	if err != nil {
		return 0, err
	}
	if err := d.Advance(next); err != nil {
		return 0, err
	}
	if err := l.charge(len(s)); err != nil {
		return 0, err
	}
	if len(s) != 2 {
		return 0, nil
	}
	b := [2]byte{s[0], s[1]}
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			return 0, nil
		}
	}
	// Two such characters give 1296 names at most, so codes stay far from
	// codeLink.
	code, ok := l.byName[string(b[:])]
	if !ok {
		code = uint16(len(l.names))
		l.names = append(l.names, string(b[:]))
		l.byName[l.names[code]] = code
	}
	return code, nil
}
