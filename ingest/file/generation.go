package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/ingest/lines"
)

// generation is one file of a stream, held open, so that its inode stays the
// same file whatever happens to its names.
type generation struct {
	path       string // where it was found; only for messages
	file       *os.File
	openErr    error // why file is nil
	info       fs.FileInfo
	compressed bool
	live       bool // was found at the stream's own path
	// settled files are written by nobody: a copy, or rotated long ago. They are
	// given up without Grace.
	settled bool
	noTail  bool // tail cannot follow it
	// announce has its position handed over before any line.
	announce bool

	size      int64     // when last observed
	grewAt    time.Time // when it was last observed to have changed its size
	dataSince time.Time // when it was first observed not to be empty

	head []byte // first bytes, up to headMax, of what was delivered
	mark []byte // the encoded identity that goes with head; never modified
	off  int64  // delivered up to here
	read int64  // looked at up to here
	cut  lines.Cutter
}

// openGeneration opens the regular file at path.
func openGeneration(path string, maxLine int) (*generation, error) {
	// Looked at first, because opening a named pipe would block.
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, notRegular(path, fi.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	fi, err = f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular(path, fi.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &generation{path: path, file: f, info: fi, cut: lines.Cutter{MaxLine: maxLine}}, nil
}

func (g *generation) close() {
	if g.file != nil {
		g.file.Close()
	}
}

// knowHead takes the whole lines that g starts with now for its head, before
// any was delivered: what is rotated, copied or truncated before the first read
// is recognised too. It does nothing if that cannot be told.
func (g *generation) knowHead() {
	head, err := g.readHead(headMax)
	if err != nil || len(g.head) > 0 {
		return
	}
	g.head = head[:bytes.LastIndexByte(head, '\n')+1]
	g.mark = g.identity().encode()
}

// start makes g be delivered from off on.
func (g *generation) start(off int64) {
	g.off, g.read = off, off
	g.cut.Reset(off)
}

// observe keeps count of when g grew. Only changes seen by this process count,
// because clocks of file servers differ.
func (g *generation) observe(fi fs.FileInfo, now time.Time) {
	if fi.Size() != g.size {
		g.size = fi.Size()
		g.grewAt = now
	}
	if g.size > 0 && g.dataSince.IsZero() {
		g.dataSince = now
	}
}

func (g *generation) identity() identity {
	dev, ino := inode(g.info)
	return identify(dev, ino, g.head)
}

// errChanged means that the file no longer starts with what was delivered from
// it: it was truncated and maybe written again.
var errChanged = errors.New("file was truncated")

// verify makes sure that g still is the file from which its bytes were read, and
// extends what is known of its head to the first end bytes. It must be called
// after reading and before delivering: a truncation destroys the head before new
// bytes can be read, so what was read before a good verify is of one piece.
func (g *generation) verify(end int64, scratch *[headMax]byte) error {
	want := max(len(g.head), int(min(end, headMax)))
	if want > 0 {
		n, err := g.file.ReadAt(scratch[:want], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n < want || !bytes.Equal(scratch[:len(g.head)], g.head) {
			return errChanged
		}
	}
	if want > len(g.head) || g.mark == nil {
		g.head = append(g.head[:0], scratch[:want]...)
		g.mark = g.identity().encode()
	}
	return nil
}

// readHead returns the first n bytes of g's content, fewer if it has fewer.
func (g *generation) readHead(n int) ([]byte, error) {
	b := make([]byte, n)
	var src io.Reader = io.NewSectionReader(g.file, 0, 1<<62)
	if g.compressed {
		in, err := inflate(src)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		src = in
	}
	k, err := io.ReadFull(src, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // shorter, or a compressed file that is still being written
	}
	return b[:k], err
}

// holds tells whether an offset in the file that id describes counts in g too.
// If so, g knows its head.
func (g *generation) holds(id identity, off int64) bool {
	if g.file == nil || !g.compressed && g.info.Size() < max(off, int64(id.n)) {
		return false
	}
	head, err := g.readHead(id.n)
	if err != nil || !id.matchesHead(head) {
		return false
	}
	g.head = head
	g.mark = g.identity().encode()
	return true
}

func (id identity) sameInode(fi fs.FileInfo) bool {
	dev, ino := inode(fi)
	return ino != 0 && id.dev == dev && id.ino == ino
}

// siblings opens every generation of the log at path that lies in its folder,
// the oldest first; the live file, if there is one, is last. Those that cannot
// be opened are there with their openErr. The caller closes them.
//
// Rotation may be under way, so the folder is read until it stays the same
// while everything is opened.
func siblings(path string, maxLine int) ([]*generation, error) {
	for try := 0; ; try++ {
		before, err := listSiblings(path)
		if err != nil {
			return nil, err
		}
		gens := make([]*generation, 0, len(before))
		for _, e := range before {
			g, err := openGeneration(e.path, maxLine)
			switch {
			case err != nil:
				g = &generation{path: e.path, openErr: err, info: e.info}
			case !os.SameFile(g.info, e.info):
				g.openErr = fs.ErrNotExist // renamed between the two looks
			}
			g.live = e.path == path
			g.compressed = isCompressedName(e.path)
			gens = append(gens, g)
		}
		after, err := listSiblings(path)
		if err == nil && sameEntries(before, after) {
			return sortGenerations(gens, path), nil
		}
		closeAll(gens)
		if err != nil {
			return nil, err
		}
		if try == 20 {
			return nil, fmt.Errorf("%s: the files beside it are renamed all the time; rotation cannot be followed", path)
		}
	}
}

type sibling struct {
	path string
	info fs.FileInfo
}

func listSiblings(path string) ([]sibling, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, unreadable(err)
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names)
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	var out []sibling
	for _, name := range names {
		if !strings.HasPrefix(name, stem) {
			continue // cheap, before the patterns
		}
		if _, ok := readingAs(name, base); !ok && trimCompressed(name) != base {
			continue
		}
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || !fi.Mode().IsRegular() {
			continue // gone, or nothing that holds lines
		}
		out = append(out, sibling{filepath.Join(dir, name), fi})
	}
	return out, nil
}

func sameEntries(a, b []sibling) bool {
	return slices.EqualFunc(a, b, func(x, y sibling) bool {
		return x.path == y.path && os.SameFile(x.info, y.info)
	})
}

// sortGenerations sorts gens, the oldest first. It closes and leaves out
// compressed files whose plain file is still there (a compressor is at work, or
// died in it), and further names of the live file.
func sortGenerations(gens []*generation, path string) []*generation {
	plain := map[string]bool{}
	var live *generation
	for _, g := range gens {
		if !g.compressed {
			plain[g.path] = true
		}
		if g.live {
			live = g
		}
	}
	gens = slices.DeleteFunc(gens, func(g *generation) bool {
		twin := g.compressed && plain[trimCompressed(g.path)] && trimCompressed(g.path) != path ||
			live != nil && g != live && os.SameFile(g.info, live.info)
		if twin {
			g.close()
		}
		return twin
	})
	ages := map[*generation]aged{}
	all := make([]aged, 0, len(gens))
	base := filepath.Base(path)
	for _, g := range gens {
		a := aged{live: g.live, mtime: g.info.ModTime()}
		if r, ok := readingAs(filepath.Base(g.path), base); ok {
			a.rotated = r
		}
		ages[g] = a
		all = append(all, a)
	}
	older := olderFirst(all)
	slices.SortStableFunc(gens, func(a, b *generation) int { return older(ages[a], ages[b]) })
	return gens
}

func closeAll(gens []*generation) {
	for _, g := range gens {
		g.close()
	}
}

// locate returns where in gens the saved position lies and the offset there: the
// same inode with the same head, else the newest file with the same head (a
// copy, compressed, or moved to another file system), else one that ends before
// the position: a copy made before its last lines were written, or a file cut by
// a crash, of which all was delivered. The inode of not is left out. It returns
// -1 if the position is nowhere, and an error if the right inode is there but
// cannot be read.
func locate(gens []*generation, id identity, off int64, not fs.FileInfo) (at int, from int64, err error) {
	excluded := func(g *generation) bool { return not != nil && os.SameFile(not, g.info) }
	for i, g := range gens {
		if !id.sameInode(g.info) || excluded(g) {
			continue
		}
		if g.openErr != nil {
			return -1, 0, fmt.Errorf("the rest of a rotated log cannot be read: %w", g.openErr)
		}
		if id.n == 0 && off == 0 || g.holds(id, off) {
			return i, off, nil
		}
	}
	for i, g := range slices.Backward(gens) {
		if !excluded(g) && g.holds(id, off) {
			return i, off, nil
		}
	}
	for i, g := range slices.Backward(gens) {
		// The live file may only start alike, unless that is a whole KiB.
		if !excluded(g) && (!g.live || id.n == headMax) && g.holds(id, 0) {
			return i, g.info.Size(), nil
		}
	}
	return -1, 0, nil
}

// newerThan returns those of gens that were made after the newest generation
// known so far: info is its file and id its identity. Of earlier ones only the
// identities are needed, the newest first.
func newerThan(gens []*generation, info fs.FileInfo, id identity, earlier []identity) []*generation {
	if at := slices.IndexFunc(gens, func(g *generation) bool { return os.SameFile(g.info, info) }); at >= 0 {
		return gens[at+1:]
	}
	if at := holder(gens, id); at >= 0 {
		return gens[at+1:]
	}
	// It was deleted, moved to another folder, or compressed while it was empty.
	// What was written since is newer; and the live file is in any case.
	for _, e := range earlier {
		if at := holder(gens, e); at >= 0 {
			gens = gens[at+1:]
			break
		}
	}
	return slices.DeleteFunc(slices.Clone(gens), func(g *generation) bool {
		return !g.live && g.info.ModTime().Before(info.ModTime())
	})
}

// holder returns the newest of gens, except the live one, that has the head of
// id; -1 if none has.
func holder(gens []*generation, id identity) int {
	for i, g := range slices.Backward(gens) {
		if !g.live && g.holds(id, 0) {
			return i
		}
	}
	return -1
}

// withoutCopies closes and leaves out those of gens that are copies of one of
// the others behind them, or of original if it is not nil: copytruncate between
// its two steps, or someone who made a copy. Their lines come from the original.
func withoutCopies(gens []*generation, original *generation) []*generation {
	out := gens[:0:0]
	for i, g := range gens {
		copied := original != nil && g.copyOf(original)
		for _, of := range gens[i+1:] {
			copied = copied || g.copyOf(of)
		}
		if copied {
			g.close()
			continue
		}
		out = append(out, g)
	}
	return out
}

// copyOf tells whether all of g is what of starts with.
func (g *generation) copyOf(of *generation) bool {
	if g.file == nil || of.file == nil || g.compressed || of.compressed || os.SameFile(g.info, of.info) {
		return false
	}
	size := g.info.Size()
	if size == 0 || size > of.info.Size() {
		return false
	}
	a, b := make([]byte, headMax), make([]byte, headMax)
	for off := int64(0); off < size; {
		if off == headMax {
			// The heads are the same: it will be a copy, so go on in larger steps.
			a, b = make([]byte, bigBlock), make([]byte, bigBlock)
		}
		n := min(size-off, int64(len(a)))
		if k, _ := g.file.ReadAt(a[:n], off); int64(k) < n {
			return false
		}
		if k, _ := of.file.ReadAt(b[:n], off); int64(k) < n || !bytes.Equal(a[:n], b[:n]) {
			return false
		}
		off += n
	}
	return true
}

// unreadable says what to do about a file that may not be opened.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let the user that denywatch runs as read it and search its folders "+
			"(add it to the file's group, often adm, or: setfacl -m u:USER:r FILE)", err)
	}
	return err
}

func notRegular(path string, mode fs.FileMode) error {
	kind := "is not a regular file"
	switch {
	case mode.IsDir():
		kind = "is a folder: name its files with a glob, such as " + filepath.Join(path, "*.log")
	case mode&fs.ModeNamedPipe != 0:
		kind = "is a named pipe, which cannot be read again after a crash: let the server write to a file"
	case mode&fs.ModeDevice != 0:
		kind = "is a device (in a container often a link to /dev/stdout): let the server write to a file"
	}
	return fmt.Errorf("%s %s", path, kind)
}

// olderThan tells whether g was last written before age ago, by this machine's
// clock.
func (g *generation) olderThan(age time.Duration, now time.Time) bool {
	return now.Sub(g.info.ModTime()) > age
}
