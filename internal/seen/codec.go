package seen

import (
	"encoding/binary"
	"fmt"

	"github.com/denywatch/denywatch/internal/wire"
)

// version is the first byte of the head block.
const version = 1

// chunk is how many fresh keys are saved as one block.
const chunk = 1 << 12

// Save hands what changed since the last Save to put, as blocks by key: a head,
// new keys in chunks, and now and then the pages of 16 KiB that they changed. With
// all it hands over everything. put may not keep the slice. After an error the
// next Save must be told all.
func (f *Filter) Save(all bool, put func(key string, value []byte) error) error {
	if !all && !f.dirty {
		return nil
	}
	var w wire.Writer
	if all || f.flush {
		for _, g := range [...]*generation{&f.young, &f.old} {
			for i, s := range g.segments {
				if err := s.save(&w, all, func(n int) error { return put(g.key(i, n), w.B) }); err != nil {
					return err
				}
			}
		}
		f.fresh, f.saved, f.flush = f.fresh[:0], 0, false
	}
	for i := f.saved / chunk; i*chunk < len(f.fresh); i++ {
		w.B = w.B[:0]
		for _, k := range f.fresh[i*chunk : min((i+1)*chunk, len(f.fresh))] {
			w.Word(k)
		}
		if err := put(fmt.Sprintf("fresh/%d", i), w.B); err != nil {
			return err
		}
	}
	f.saved = len(f.fresh)
	w.B = append(w.B[:0], version)
	w.Int(f.since)
	for _, g := range [...]*generation{&f.young, &f.old} {
		w.Uint(g.number)
		w.Int(g.began)
		w.Uint(uint64(len(g.segments)))
		for _, s := range g.segments {
			w.Uint(uint64(s.bytes()))
			w.Uint(uint64(s.keys))
			w.Uint(uint64(s.fresh))
			for _, k := range s.kept {
				w.Bool(k)
			}
		}
	}
	w.Uint(uint64(len(f.fresh)))
	if err := put("head", w.B); err != nil {
		return err
	}
	f.dirty = false
	return nil
}

// key names a page. Only two generations are ever kept.
func (g *generation) key(segment, page int) string {
	return fmt.Sprintf("page/%d/%d/%d", g.number%2, segment, page)
}

// save writes the pages that changed, or all.
func (s *segment) save(w *wire.Writer, all bool, put func(page int) error) error {
	s.fresh = 0
	const blocks = page / (4 * blockWords)
	for p := range s.dirty {
		if !s.dirty[p] && !(all && s.kept[p]) {
			continue
		}
		w.B = w.B[:0]
		for _, b := range s.blocks[p*blocks : min((p+1)*blocks, len(s.blocks))] {
			for _, x := range b {
				w.B = binary.LittleEndian.AppendUint32(w.B, x)
			}
		}
		if err := put(p); err != nil {
			return err
		}
		s.dirty[p], s.kept[p] = false, true
	}
	return nil
}

// Load makes the filter that Save wrote. get returns the block of a key, nil if
// there is none; the error wraps wire.ErrCorrupt when the blocks are not what Save
// wrote.
func Load(o Options, get func(key string) []byte) (*Filter, error) {
	head := get("head")
	if len(head) == 0 || head[0] != version {
		return nil, fmt.Errorf("head of a filter: %w", wire.ErrCorrupt)
	}
	f := New(o)
	r := wire.Reader{B: head[1:]}
	f.since = r.Int()
	for _, g := range [...]*generation{&f.young, &f.old} {
		if err := g.load(&r, get); err != nil {
			return nil, err
		}
	}
	fresh := r.Uint()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("head of a filter: %w", err)
	}
	for i := uint64(0); i*chunk < fresh && fresh <= maxFresh; i++ {
		r := wire.Reader{B: get(fmt.Sprintf("fresh/%d", i))}
		for range min(chunk, fresh-i*chunk) {
			f.fresh = append(f.fresh, r.Word())
		}
		if err := r.Done(); err != nil {
			return nil, fmt.Errorf("keys of a filter: %w", err)
		}
	}
	f.saved = len(f.fresh)
	// The fresh keys went to the segments one after the other.
	rest := f.fresh
	for _, s := range f.young.segments {
		if s.fresh > len(rest) {
			return nil, fmt.Errorf("keys of a filter: %w", wire.ErrCorrupt)
		}
		for _, k := range rest[:s.fresh] {
			s.add(k)
		}
		rest = rest[s.fresh:]
	}
	if uint64(len(f.fresh)) != fresh || len(rest) != 0 || f.since < -1 || f.young.began < 0 || f.old.began < 0 || f.since < 0 && len(f.young.segments)+len(f.old.segments) > 0 {
		return nil, fmt.Errorf("keys of a filter: %w", wire.ErrCorrupt)
	}
	return f, nil
}

func (g *generation) load(r *wire.Reader, get func(key string) []byte) error {
	g.number = r.Uint()
	g.began = r.Int()
	total := uint64(0)
	for i := range r.Len(4) {
		size := r.Uint()
		keys, fresh := r.Uint(), r.Uint()
		total += size
		if r.Err != nil || size == 0 || size%page != 0 || size > maxBytes || total > maxBytes || size/page > uint64(len(r.B)) || keys > size*8 || fresh > keys {
			return fmt.Errorf("head of a filter: %w", wire.ErrCorrupt)
		}
		s := newSegment(int(size))
		s.keys, s.fresh = int(keys), int(fresh)
		for p := range s.kept {
			s.kept[p] = r.Bool()
		}
		for p, kept := range s.kept {
			if !kept {
				continue
			}
			b := get(g.key(i, p))
			if len(b) != page {
				return fmt.Errorf("page of a filter: %w", wire.ErrCorrupt)
			}
			for k := range len(b) / 4 {
				at := p*page/4 + k
				s.blocks[at/blockWords][at%blockWords] = binary.LittleEndian.Uint32(b[4*k:])
			}
		}
		g.segments = append(g.segments, s)
	}
	return nil
}
