package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files of a spool.
const (
	segmentExt = ".seg"
	idsExt     = ".ids"
	tempExt    = ".tmp"
)

const (
	// metaSize is what stands before a batch in what is checksummed.
	metaSize = 16 + 8 + 1
	// recordHead is all that stands before a batch.
	recordHead = 8 + metaSize
	// maxRecord bounds a record, for whoever reads one that no Spool wrote.
	maxRecord = 1 << 30
	// entrySize is that of an ID in a file of them.
	entrySize = 16 + 8
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once by crc32

// appendHead appends a record's head.
func appendHead(dst []byte, b *Batch, at int64) []byte {
	var meta [metaSize]byte
	copy(meta[:], b.ID[:])
	binary.LittleEndian.PutUint64(meta[16:], uint64(at))
	meta[24] = byte(b.Encoding)
	sum, n := crc32.Update(0, castagnoli(), meta[:]), metaSize
	for _, p := range b.Body {
		sum = crc32.Update(sum, castagnoli(), p)
		n += len(p)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(dst, meta[:]...)
}

// record is one that was read. Its body is valid until the next is read.
type record struct {
	entry
	encoding Encoding
	body     []byte
	size     int64 // with its head
}

// errDamaged marks a record whose checksum or length is wrong. Its size is set if
// there may be another behind it.
var errDamaged = errors.New("a batch in the spool is damaged")

// readRecord reads the record that r begins with, of which most bytes are there.
// io.EOF means that there is none. buf is used if it is large enough.
func readRecord(r io.Reader, most int64, buf []byte) (record, []byte, error) {
	var head [8]byte
	if most < int64(len(head)) {
		return record{}, buf, io.EOF
	}
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return record{}, buf, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n < metaSize || n > maxRecord || n > most-int64(len(head)) {
		return record{}, buf, errDamaged
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return record{}, buf, err
	}
	rec := record{size: n + int64(len(head))}
	if crc32.Checksum(buf, castagnoli()) != binary.LittleEndian.Uint32(head[4:]) {
		return rec, buf, errDamaged
	}
	copy(rec.id[:], buf)
	rec.at = int64(binary.LittleEndian.Uint64(buf[16:]))
	rec.encoding, rec.body = Encoding(buf[24]), buf[metaSize:]
	return rec, buf, nil
}

// scan returns where the last whole record of a segment ends, and the IDs of all.
func scan(r io.Reader, size int64) (end int64, ids []entry, err error) {
	br := bufio.NewReaderSize(r, 256<<10)
	var buf []byte
	for off := int64(0); ; {
		var rec record
		rec, buf, err = readRecord(br, size-off, buf)
		off += rec.size
		switch {
		case err == nil:
			end = off
			if rec.id != (ID{}) {
				ids = append(ids, rec.entry)
			}
		case errors.Is(err, errDamaged) && rec.size > 0:
			// What lies behind it decides whether it is the torn end.
		case errors.Is(err, errDamaged), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return end, ids, nil
		default:
			return end, ids, err
		}
	}
}

// load finds the segments and the IDs that are remembered, and cuts off what a
// crash left half written.
func (s *Spool) load() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	byNumber := map[int64]*segment{}
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		n, err := strconv.ParseInt(strings.TrimSuffix(f.Name(), ext), 10, 64)
		switch {
		case ext == tempExt:
			if err := os.Remove(filepath.Join(s.dir, f.Name())); err != nil {
				return err
			}
			continue
		case err != nil || n < 0 || ext != segmentExt && ext != idsExt:
			continue // not ours
		}
		g := byNumber[n]
		if g == nil {
			g = &segment{n: n, gone: true, sealed: true}
			byNumber[n] = g
			s.segments = append(s.segments, g)
		}
		g.gone = g.gone && ext != segmentExt
	}
	slices.SortFunc(s.segments, func(a, b *segment) int { return int(max(min(a.n-b.n, 1), -1)) })
	kept := s.segments[:0]
	for _, g := range s.segments {
		end, ids, err := readIDs(s.path(g.n, idsExt))
		switch {
		case err == nil && g.gone:
		case err == nil:
			info, err := os.Stat(s.path(g.n, segmentExt))
			if err != nil {
				return err
			}
			g.end = min(end, info.Size())
		case g.gone:
			s.log.Warn("the names of batches that were pushed before cannot be read; such a batch would count again if it is sent again", "file", s.path(g.n, idsExt), "error", err)
			continue
		default:
			if ids, err = s.recover(g); err != nil {
				return err
			}
			if g.end == 0 {
				continue
			}
		}
		g.ids = len(ids)
		for _, e := range ids {
			g.last = max(g.last, e.at)
			s.recent.add(e)
		}
		s.bytes += g.end
		kept = append(kept, g)
	}
	s.segments = kept
	return nil
}

// recover reads a segment that was not sealed and seals it. One that holds nothing
// is deleted.
func (s *Spool) recover(g *segment) ([]entry, error) {
	path := s.path(g.n, segmentExt)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // what matters was synced
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end, ids, err := scan(f, info.Size())
	if err != nil {
		return nil, err
	}
	if g.end = end; end == 0 {
		return nil, os.Remove(path)
	}
	if end < info.Size() {
		s.log.Info("the end of what was pushed last was not acknowledged yet and is cut off; its sender sends it again", "file", path, "bytes", info.Size()-end)
		if err := f.Truncate(end); err != nil {
			return nil, err
		}
	}
	// What was written before a crash may not have been synced.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return ids, writeIDs(s.dir, s.path(g.n, idsExt), g.end, ids)
}

// drop deletes the segments before the one of that number, and the IDs of those
// that are out of memory.
func (s *Spool) drop(before int64) {
	s.mu.Lock()
	var dead []*segment
	for _, g := range s.segments {
		if g.n < before && g.sealed && !g.gone {
			dead = append(dead, g)
		}
	}
	s.mu.Unlock()
	for _, g := range dead {
		if err := os.Remove(s.path(g.n, segmentExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("a segment of the spool that was read cannot be deleted", "error", err)
			return
		}
		s.mu.Lock()
		g.gone = true
		s.bytes -= g.end
		s.mu.Unlock()
	}
	if len(dead) > 0 {
		s.forget()
	}
}

// forget deletes the IDs that are not remembered any more of segments that are
// gone. The newest stay in any case: their number is where numbers go on.
func (s *Spool) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	newer, newest := 0, int64(0)
	for _, g := range s.segments {
		newest = max(newest, g.last)
	}
	kept := slices.Clone(s.segments)
	for i := len(kept) - 1; i >= 0; i-- {
		g := kept[i]
		if g.gone && i < len(kept)-1 && (g.ids == 0 || newer >= MaxIDs || g.last < newest-int64(Remember.Seconds())) {
			if err := os.Remove(s.path(g.n, idsExt)); err == nil || errors.Is(err, fs.ErrNotExist) {
				kept = slices.Delete(kept, i, i+1)
			}
			continue
		}
		newer += g.ids
	}
	s.segments = kept
}

// writeIDs writes a file of IDs as a whole; end is how much of the segment counts.
func writeIDs(dir, path string, end int64, ids []entry) error {
	b := make([]byte, 0, 8+len(ids)*entrySize+4)
	b = binary.LittleEndian.AppendUint64(b, uint64(end))
	for _, e := range ids {
		b = append(b, e.id[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.at))
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	tmp := strings.TrimSuffix(path, idsExt) + tempExt
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the next start does it too
		return err
	}
	return syncDir(dir)
}

func readIDs(path string) (end int64, ids []entry, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, nil, err
	}
	return decodeIDs(b)
}

func decodeIDs(b []byte) (end int64, ids []entry, err error) {
	n := len(b) - 4
	if n < 8 || n%entrySize != 8 || crc32.Checksum(b[:n], castagnoli()) != binary.LittleEndian.Uint32(b[n:]) {
		return 0, nil, fmt.Errorf("%d bytes: the checksum is wrong", len(b))
	}
	end = int64(binary.LittleEndian.Uint64(b))
	ids = make([]entry, 0, n/entrySize)
	for b = b[8:n]; len(b) > 0; b = b[entrySize:] {
		e := entry{at: int64(binary.LittleEndian.Uint64(b[16:]))}
		copy(e.id[:], b)
		ids = append(ids, e)
	}
	return end, ids, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// entry is an ID and when its batch was appended, in seconds since 1970.
type entry struct {
	id ID
	at int64
}

// recent are the IDs that are remembered.
type recent struct {
	have   map[ID]struct{}
	order  []entry // the oldest first, from head on
	head   int
	newest int64
}

func (r *recent) has(id ID) bool {
	_, ok := r.have[id]
	return ok
}

// add remembers an ID and forgets those that are too old or too many.
func (r *recent) add(e entry) {
	if r.has(e.id) {
		return
	}
	r.have[e.id] = struct{}{}
	r.order = append(r.order, e)
	r.newest = max(r.newest, e.at)
	for len(r.order)-r.head > MaxIDs || r.order[r.head].at < r.newest-int64(Remember.Seconds()) {
		delete(r.have, r.order[r.head].id)
		r.head++
	}
	if r.head > len(r.order)/2 {
		r.order = slices.Delete(r.order, 0, r.head)
		r.head = 0
	}
}

// Unread returns the names of the folders in dir that hold segments, sorted: spools
// in which something may not have been read. dir need not be there.
func Unread(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"+segmentExt))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range found {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return slices.Compact(names), nil
}
