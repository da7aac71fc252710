package slots

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/wire"
)

// version is the version of the blocks below; it is the first byte of each.
const version = 6

// totalsBlock is how many totals one durable block holds.
const totalsBlock = 256

// Writer takes the changes of one cut.
type Writer interface {
	Put(key string, value []byte) error
	Delete(key string) error
}

// Save writes what changed since the last Save that was confirmed by Saved.
func (l *Ledger) Save(w Writer) error {
	var head wire.Writer
	head.Uint(version)
	head.Int(l.step)
	for v := range l.closed {
		head.Int(l.closed[v])
		l.before[v].encode(&head)
	}
	if err := w.Put("head", head.B); err != nil {
		return err
	}
	var buf wire.Writer
	for v := range l.dirtySlots {
		for start := range l.dirtySlots[v] {
			key := slotKey(v, start)
			slot := l.open[v][start]
			if slot == nil {
				if err := w.Delete(key); err != nil {
					return err
				}
				continue
			}
			buf.B = buf.B[:0]
			slot.encode(&buf)
			if err := w.Put(key, buf.B); err != nil {
				return err
			}
		}
	}
	for i := range l.dirtyTotals {
		buf.B = buf.B[:0]
		buf.Uint(version)
		part := l.byNumber[i*totalsBlock : min((i+1)*totalsBlock, len(l.byNumber))]
		buf.Uint(uint64(len(part)))
		for _, t := range part {
			buf.Uint(uint64(t.Vantage))
			buf.String(t.Service)
			buf.String(t.Route)
			for _, n := range t.Status {
				buf.Uint(n)
			}
			buf.Uint(t.Valid)
		}
		if err := w.Put(fmt.Sprintf("totals/%06d", i), buf.B); err != nil {
			return err
		}
	}
	if err := l.slugs.Save(slugWriter{w}); err != nil {
		return err
	}
	if !l.dirtySources {
		return nil
	}
	buf.B = buf.B[:0]
	buf.Uint(version)
	all := l.Sources()
	buf.Uint(uint64(len(all)))
	for i := range all {
		s := &all[i]
		buf.String(s.Name)
		for _, n := range s.counts() {
			buf.Uint(*n)
		}
		buf.Int(s.Suspended)
		buf.Uint(uint64(s.vantage))
		buf.Uint(uint64(len(s.Reasons)))
		for word, n := range s.Reasons {
			buf.String(word)
			buf.Uint(n)
		}
		buf.Uint(uint64(len(s.services)))
		for service := range s.services {
			buf.String(service)
		}
	}
	return w.Put("sources", buf.B)
}

// slugWriter keeps the learner's blocks under their own prefix.
type slugWriter struct{ Writer }

func (w slugWriter) Put(key string, value []byte) error { return w.Writer.Put("slug/"+key, value) }
func (w slugWriter) Delete(key string) error            { return w.Writer.Delete("slug/" + key) }

// Saved tells that the last Save is durable.
func (l *Ledger) Saved() {
	l.slugs.Saved()
	clear(l.dirtyTotals)
	l.dirtySources = false
	for v := range l.dirtySlots {
		clear(l.dirtySlots[v])
	}
}

func (s *Source) counts() []*uint64 {
	return []*uint64{&s.Lines, &s.Bytes, &s.Unparsed, &s.Skipped, &s.Oversize, &s.Ignored, &s.Untimed, &s.Future, &s.Folded, &s.Late,
		&s.Recent, &s.Blind, &s.Unjudged, &s.window.Lines, &s.window.Blind, &s.early.Lines, &s.early.Blind}
}

func slotKey(v int, start int64) string {
	return "slot/" + event.Vantage(v).String() + "/" + strconv.FormatInt(start, 10)
}

func putKey(w *wire.Writer, k *leafKey) {
	w.String(k.source.Name)
	for _, f := range []string{k.Service, k.Route, k.Role, k.Geo, k.Plan, k.Host} {
		w.String(f)
	}
}

func (l *Ledger) getKey(v event.Vantage, r *wire.Reader) *leafKey {
	src := r.String()
	return l.key(v, l.source(src), tally.Key{Service: r.String(), Route: r.String(), Role: r.String(), Geo: r.String(), Plan: r.String(), Host: r.String()})
}

func (rs reasons) encode(w *wire.Writer) {
	w.Uint(uint64(len(rs)))
	for k, x := range rs {
		w.Word(k)
		w.Uint(uint64(x.layer))
		w.String(x.cause)
		w.String(x.rule)
	}
}

func decodeReasons(r *wire.Reader) reasons {
	n := r.Len(11)
	if n == 0 {
		return nil
	}
	rs := make(reasons, n)
	for range n {
		rs[r.Word()] = reason{event.Layer(r.Uint()), r.String(), r.String()}
	}
	return rs
}

func (s *openSlot) encode(w *wire.Writer) {
	w.Uint(version)
	w.Uint(uint64(s.sampled))
	w.Uint(uint64(len(s.health)))
	for name, h := range s.health {
		w.String(name)
		w.Uint(h.Lines)
		w.Uint(h.Blind)
	}
	s.reasons.encode(w)
	w.Uint(uint64(len(s.open)))
	for i := range s.open {
		u := &s.open[i]
		putKey(w, u.key)
		w.Uint(uint64(u.Class))
		w.Uint(uint64(u.Layer))
		w.String(u.Cause)
		w.String(u.Rule)
		for _, k := range u.Keys {
			w.Word(k)
		}
		w.Uint(uint64(u.N))
	}
	w.Uint(uint64(s.enteredAt))
	byLeaf := map[*leafKey][]uint64{}
	for _, e := range s.entered {
		byLeaf[e.key] = append(byLeaf[e.key], e.identity)
	}
	w.Uint(uint64(len(byLeaf)))
	for k, ids := range byLeaf {
		putKey(w, k)
		slices.Sort(ids)
		ids = slices.Compact(ids)
		w.Uint(uint64(len(ids)))
		for _, id := range ids {
			w.Word(id)
		}
	}
	w.Uint(uint64(len(s.leaves)))
	for _, a := range s.leaves {
		n := len(a.Hits)
		a.mergeHits()
		a.hits = len(a.Hits)
		s.hits -= n - a.hits
		putKey(w, a.key)
		for _, n := range a.Status {
			w.Uint(uint64(n))
		}
		for _, n := range a.Denied {
			w.Uint(uint64(n))
		}
		w.Uint(uint64(a.Leaked))
		w.Bool(a.Unseen != nil)
		if u := a.Unseen; u != nil {
			w.Uint(uint64(u.Requests))
			w.Uint(uint64(u.Leaked))
			for _, n := range u.Denied {
				w.Uint(uint64(n))
			}
		}
		w.Uint(uint64(len(a.Splits)))
		for _, x := range a.Splits {
			w.Uint(uint64(x.Class))
			w.Uint(uint64(x.Layer))
			w.String(x.Cause)
			w.String(x.Rule)
			w.Uint(uint64(x.N))
		}
		w.Uint(uint64(len(a.Hits)))
		for i := range a.Hits {
			x := &a.Hits[i]
			w.Uint(uint64(x.Class))
			w.Bool(x.Named)
			w.Bool(x.Rule != 0)
			if x.Rule != 0 {
				w.Word(x.Rule)
				w.Bool(x.Presumed)
			}
			w.Word(x.Identity)
			w.Word(x.Account)
			w.Uint(uint64(x.Requests))
			w.Uint(uint64(x.Denials))
		}
		w.Uint(uint64(len(a.Flags)))
		for _, x := range a.Flags {
			w.String(x.Name)
			w.Uint(uint64(x.Requests))
			w.Uint(uint64(x.Denied))
		}
	}
}

func (l *Ledger) decodeSlot(v event.Vantage, b []byte) (*openSlot, error) {
	r := &wire.Reader{B: b}
	if r.Uint() != version {
		return nil, wire.ErrCorrupt
	}
	s := &openSlot{sampled: uint8(r.Uint())}
	for range r.Len(3) {
		if s.health == nil {
			s.health = map[string]tally.Health{}
		}
		s.health[r.String()] = tally.Health{Lines: r.Uint(), Blind: r.Uint()}
	}
	if rs := decodeReasons(r); len(rs) > 0 {
		s.reasons = rs
	}
	for range r.Len(11 + 8*tally.Keys) {
		u := unexplained{key: l.getKey(v, r)}
		u.Class, u.Layer, u.Cause, u.Rule = event.Denial(r.Uint()), event.Layer(r.Uint()), r.String(), r.String()
		for i := range u.Keys {
			u.Keys[i] = r.Word()
		}
		u.N = uint32(r.Uint())
		if r.Err != nil {
			return nil, r.Err
		}
		s.open = append(s.open, u)
	}
	s.enteredAt = uint8(r.Uint())
	for range r.Len(7) {
		k := l.getKey(v, r)
		for range r.Len(8) {
			s.entered = append(s.entered, entered{k, r.Word()})
		}
		if r.Err != nil {
			return nil, r.Err
		}
	}
	for range r.Len(6) {
		a := l.acc(s, l.getKey(v, r))
		for i := range a.Status {
			a.Status[i] = uint32(r.Uint())
		}
		for i := range a.Denied {
			a.Denied[i] = uint32(r.Uint())
		}
		a.Leaked = uint32(r.Uint())
		if r.Bool() {
			u := tally.Unseen{Requests: uint32(r.Uint()), Leaked: uint32(r.Uint())}
			for i := range u.Denied {
				u.Denied[i] = uint32(r.Uint())
			}
			a.miss(&u)
		}
		for range r.Len(5) {
			a.Splits = append(a.Splits, Split{Class: event.Denial(r.Uint()), Layer: event.Layer(r.Uint()), Cause: r.String(), Rule: r.String(), N: uint32(r.Uint())})
		}
		for range r.Len(20) {
			h := Hit{Class: event.Denial(r.Uint()), Named: r.Bool()}
			if r.Bool() {
				h.Rule, h.Presumed = r.Word(), r.Bool()
			}
			h.Identity, h.Account = r.Word(), r.Word()
			h.Requests, h.Denials = uint32(r.Uint()), uint32(r.Uint())
			a.Hits = append(a.Hits, h)
		}
		for range r.Len(3) {
			a.Flags = append(a.Flags, Flag{Name: r.String(), Requests: uint32(r.Uint()), Denied: uint32(r.Uint())})
		}
		if r.Err != nil {
			return nil, r.Err
		}
		a.hits = len(a.Hits)
		s.hits += a.hits
	}
	return s, r.Done()
}

// Load takes one block that Save wrote; call it for each, in any order, on a new
// ledger. The error means that the state is damaged.
func (l *Ledger) Load(key string, value []byte) error {
	// Totals are numbered as they are loaded, which need not be as they were:
	// the next Save writes all of them.
	defer func() {
		for i := 0; i < len(l.byNumber); i += totalsBlock {
			l.dirtyTotals[i/totalsBlock] = true
		}
	}()
	return l.load(key, value)
}

// Loaded ends the loading; call it once after the last Load. The error means that
// the state is damaged.
func (l *Ledger) Loaded() error { return l.slugs.Loaded() }

func (l *Ledger) load(key string, value []byte) error {
	kind, rest, _ := strings.Cut(key, "/")
	r := &wire.Reader{B: value}
	switch kind {
	case "head":
		if r.Uint() != version {
			return wire.ErrCorrupt
		}
		step := r.Int()
		for v := range l.closed {
			l.closed[v] = r.Int()
			l.before[v] = decodeReasons(r)
		}
		if err := r.Done(); err != nil {
			return err
		}
		if step < 1 || step > 3600 {
			return wire.ErrCorrupt
		}
		l.step = step
		return nil
	case "slot":
		name, num, _ := strings.Cut(rest, "/")
		v, err := event.ParseVantage(name)
		if err != nil {
			return wire.ErrCorrupt
		}
		start, err := strconv.ParseInt(num, 10, 64)
		if err != nil {
			return wire.ErrCorrupt
		}
		s, err := l.decodeSlot(v, value)
		if err != nil {
			return err
		}
		l.open[v][start] = s
		return nil
	case "slug":
		return l.slugs.Load(rest, value)
	case "totals":
		if r.Uint() != version {
			return wire.ErrCorrupt
		}
		for range r.Len(4 + int(tally.Statuses)) {
			v := event.Vantage(r.Uint())
			service, route := r.String(), r.String()
			if r.Err != nil || v >= event.Vantages {
				return wire.ErrCorrupt
			}
			// The bound held when they were made; what was made since while loading
			// must not push any of them out.
			k := totalKey{v, service, route}
			t := l.totals[k]
			if t == nil {
				t = l.newTotal(k)
			}
			for i := range t.Status {
				t.Status[i] += r.Uint()
			}
			t.Valid += r.Uint()
		}
		return r.Done()
	case "sources":
		if r.Uint() != version {
			return wire.ErrCorrupt
		}
		for range r.Len(21) {
			s := l.source(r.String())
			for _, n := range s.counts() {
				*n = r.Uint()
			}
			s.Suspended, s.vantage = r.Int(), event.Vantage(r.Uint())
			for range r.Len(2) {
				s.Reasons[r.String()] = r.Uint()
			}
			for range r.Len(1) {
				s.services[r.String()] = true
			}
			if r.Err != nil {
				return r.Err
			}
		}
		return r.Done()
	}
	return fmt.Errorf("%w: unknown block %q", wire.ErrCorrupt, kind)
}
