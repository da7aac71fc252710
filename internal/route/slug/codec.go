package slug

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/denywatch/denywatch/internal/wire"
)

// version is the version of the blocks below; it is the first value of each.
const version = 1

// nodesBlock is how many nodes one durable block holds.
const nodesBlock = 256

// Writer takes the changes of one cut.
type Writer interface {
	Put(key string, value []byte) error
	Delete(key string) error
}

// record is a node as it is kept; parent is 1 + its number, 0 for a service.
type record struct {
	present        bool
	parent         uint64
	seg            string
	rules          []string
	requests, seen uint32
	ok, known      bool
}

// Save writes what changed since the last Save that was confirmed by Saved. What
// was observed since EndSlot is not part of it.
func (l *Learner) Save(w Writer) error {
	var buf wire.Writer
	buf.Uint(version)
	buf.Uint(uint64(l.slot))
	if err := w.Put("head", buf.B); err != nil {
		return err
	}
	for i := range l.dirty {
		key := fmt.Sprintf("nodes/%06d", i)
		part := l.nodes[min(i*nodesBlock, len(l.nodes)):min((i+1)*nodesBlock, len(l.nodes))]
		if !slices.ContainsFunc(part, func(n *node) bool { return n != nil }) {
			if err := w.Delete(key); err != nil {
				return err
			}
			continue
		}
		buf.B = buf.B[:0]
		buf.Uint(version)
		buf.Uint(uint64(len(part)))
		for _, n := range part {
			encode(&buf, n)
		}
		if err := w.Put(key, buf.B); err != nil {
			return err
		}
	}
	return nil
}

// Saved tells that the last Save is durable.
func (l *Learner) Saved() { clear(l.dirty) }

func encode(w *wire.Writer, n *node) {
	w.Bool(n != nil)
	if n == nil {
		return
	}
	if n.parent == nil {
		w.Uint(0)
	} else {
		w.Uint(uint64(n.parent.n) + 1)
	}
	w.String(n.seg)
	w.Uint(uint64(n.requests))
	w.Uint(uint64(n.seen))
	w.Bool(n.ok)
	w.Bool(n.known)
	w.Uint(uint64(len(n.rules)))
	for _, r := range n.rules {
		w.String(r)
	}
}

// Load takes one block that Save wrote; call it for each, in any order, on a new
// Learner, and then Loaded. The error means that the state is damaged.
func (l *Learner) Load(key string, value []byte) error {
	kind, rest, _ := strings.Cut(key, "/")
	r := &wire.Reader{B: value}
	if r.Uint() != version {
		return wire.ErrCorrupt
	}
	switch kind {
	case "head":
		slot := r.Uint()
		if err := r.Done(); err != nil {
			return err
		}
		if slot > 1<<32-1 {
			return wire.ErrCorrupt
		}
		l.slot = uint32(slot)
		return nil
	case "nodes":
		i, err := strconv.Atoi(rest)
		if err != nil || i < 0 || i > 2*maxNodes/nodesBlock {
			return wire.ErrCorrupt
		}
		count := r.Len(1)
		if count > nodesBlock {
			return wire.ErrCorrupt
		}
		part := make([]record, 0, count)
		for range count {
			part = append(part, decode(r))
		}
		if err := r.Done(); err != nil {
			return err
		}
		l.loaded[i] = part
		return nil
	}
	return fmt.Errorf("%w: unknown block %q", wire.ErrCorrupt, kind)
}

func decode(r *wire.Reader) record {
	if !r.Bool() {
		return record{}
	}
	c := record{present: true, parent: r.Uint(), seg: r.String(), requests: uint32(r.Uint()), seen: uint32(r.Uint()), ok: r.Bool(), known: r.Bool()}
	for range r.Len(1) {
		c.rules = append(c.rules, r.String())
	}
	return c
}

// Loaded puts together what Load took. After an error, which means that the
// state is damaged, the Learner knows nothing.
func (l *Learner) Loaded() error {
	if err := l.join(); err != nil {
		l.reset()
		return err
	}
	clear(l.touched)
	clear(l.dirty)
	l.loaded = map[int][]record{}
	return nil
}

func (l *Learner) join() error {
	last := -1
	for i, part := range l.loaded {
		for j := range part {
			if part[j].present {
				last = max(last, i*nodesBlock+j)
			}
		}
	}
	l.nodes = make([]*node, last+1)
	record := func(n int) *record {
		part := l.loaded[n/nodesBlock]
		if n%nodesBlock >= len(part) || !part[n%nodesBlock].present {
			return nil
		}
		return &part[n%nodesBlock]
	}
	for n := range l.nodes {
		c := record(n)
		if c == nil {
			continue
		}
		if !slices.IsSorted(c.rules) || c.seen > l.slot || len(slices.Compact(slices.Clone(c.rules))) != len(c.rules) {
			return wire.ErrCorrupt
		}
		l.nodes[n] = &node{
			n: n, seg: c.seg, children: map[string]*node{}, rules: c.rules,
			requests: c.requests, seen: c.seen, ok: c.ok, known: c.known,
		}
		l.live++
	}
	for n := last; n >= 0; n-- {
		if l.nodes[n] == nil {
			l.free = append(l.free, n)
		}
	}
	for n, x := range l.nodes {
		if x == nil {
			continue
		}
		if p := record(n).parent; p > 0 {
			if p > uint64(len(l.nodes)) || l.nodes[p-1] == nil {
				return wire.ErrCorrupt
			}
			x.parent = l.nodes[p-1]
			if x.parent.children[x.seg] != nil || strings.IndexByte(x.seg, '/') >= 0 {
				return wire.ErrCorrupt
			}
			x.parent.children[x.seg] = x
			continue
		}
		if l.services[x.seg] != nil || len(x.seg) > maxText {
			return wire.ErrCorrupt
		}
		l.services[x.seg] = x
	}
	for _, x := range l.nodes {
		if x == nil {
			continue
		}
		depth := 0
		for p := x.parent; p != nil; p = p.parent {
			if depth++; depth > maxDepth {
				return wire.ErrCorrupt // too deep, or a circle
			}
		}
		x.depth = depth
	}
	return nil
}
