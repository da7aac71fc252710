package app

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/web"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// maxRefusals bounds what is remembered of who was refused, in bytes, maxRefusalAge
	// how long; the oldest goes first.
	maxRefusals   = 16 << 20
	maxRefusalAge = 31 * 24 * time.Hour
	// maxSlotRefusals bounds the records of a slot. Bare addresses, of which scanners
	// have many, are left out first.
	maxSlotRefusals = 5000
	// maxValidRefusals and maxSlotValid bound the same of refusals that the access rules
	// ask for, so that they never take the place of others.
	maxValidRefusals = 4 << 20
	maxSlotValid     = 500
	// refusalsVersion is the version of a block's form.
	refusalsVersion = 1
)

// refusals remembers who was refused where, by keyed hashes: a block for each closed
// slot that refused somebody. It is asked rarely, so that a question reads all of it.
type refusals struct {
	// rule names an access rule; nil where refusals that rules ask for are left out, else
	// only these are remembered.
	rule   func(id uint64) string
	blocks []refusalBlock // oldest first
	size   int
	next   uint64
	fresh  int      // blocks at the end that are not durable yet
	gone   []uint64 // numbers of durable blocks that were dropped
}

// refusalBlock is one slot of one vantage, encoded:
//
//	version, vantage, start, sampled
//	places: service, route, role, geo, class, layer, cause
//	records: identity, account (8 bytes each), place, denials
type refusalBlock struct {
	seq   uint64
	start int64
	b     []byte
}

// refusalPlace is where somebody was refused, and by whom.
type refusalPlace struct {
	service, route, role, geo string
	class                     event.Denial
	layer                     event.Layer
	cause                     string
}

// note takes down who was refused in a closed slot.
func (r *refusals) note(c *slots.Closed) {
	type record struct {
		place int
		hit   *slots.Hit
	}
	var places []refusalPlace
	var records []record
	for i := range c.Leaves {
		l := &c.Leaves[i]
		type kind struct {
			class event.Denial
			rule  uint64
		}
		var at map[kind]int // the place, plus one
		for k := range l.Hits {
			h := &l.Hits[k]
			if h.Class == event.NotDenied || h.Denials == 0 || (h.Class == event.Valid) != (r.rule != nil) {
				continue
			}
			of := kind{class: h.Class}
			if r.rule != nil {
				of.rule = h.Rule
			}
			if at == nil {
				at = map[kind]int{}
			}
			if at[of] == 0 {
				p := placeOf(l, h.Class)
				if r.rule != nil {
					p.cause = r.rule(h.Rule)
				}
				places = append(places, p)
				at[of] = len(places)
			}
			records = append(records, record{at[of] - 1, h})
		}
	}
	if len(records) == 0 {
		return
	}
	sampled := c.Sampled > 0
	mostBytes, mostRecords := maxRefusals, maxSlotRefusals
	if r.rule != nil {
		mostBytes, mostRecords = maxValidRefusals, maxSlotValid
	}
	if len(records) > mostRecords {
		slices.SortStableFunc(records, func(a, b record) int {
			switch {
			case a.hit.Named == b.hit.Named:
				return 0
			case a.hit.Named:
				return -1
			}
			return 1
		})
		records, sampled = records[:mostRecords], true
	}
	w := &wire.Writer{B: make([]byte, 0, 64+20*len(records))}
	w.Uint(refusalsVersion)
	w.Uint(uint64(c.Vantage))
	w.Int(c.Start)
	w.Bool(sampled)
	w.Uint(uint64(len(places)))
	for i := range places {
		p := &places[i]
		for _, s := range []string{p.service, p.route, p.role, p.geo, p.cause} {
			w.String(s)
		}
		w.Uint(uint64(p.class))
		w.Uint(uint64(p.layer))
	}
	w.Uint(uint64(len(records)))
	for _, x := range records {
		w.Word(x.hit.Identity)
		w.Word(x.hit.Account)
		w.Uint(uint64(x.place))
		w.Uint(uint64(x.hit.Denials))
	}
	r.add(refusalBlock{seq: r.next, start: c.Start, b: w.B})
	r.fresh++
	for len(r.blocks) > 1 && (r.size > mostBytes || r.blocks[0].start < c.Start-int64(maxRefusalAge/time.Second)) {
		r.size -= len(r.blocks[0].b)
		r.gone = append(r.gone, r.blocks[0].seq)
		r.blocks = r.blocks[1:]
	}
	r.fresh = min(r.fresh, len(r.blocks))
}

func (r *refusals) add(b refusalBlock) {
	r.blocks = append(r.blocks, b)
	r.size += len(b.b)
	r.next = max(r.next, b.seq+1)
}

// placeOf says who refused most of a class on a leaf, and for what cause.
func placeOf(l *slots.Leaf, class event.Denial) refusalPlace {
	p := refusalPlace{service: l.Key.Service, route: l.Key.Route, role: l.Key.Role, geo: l.Key.Geo, class: class}
	most := uint32(0)
	for i := range l.Splits {
		if s := &l.Splits[i]; s.Class == class && s.N > most {
			most, p.layer, p.cause = s.N, s.Layer, s.Cause
		}
	}
	return p
}

// save writes what changed; saved is called once that is durable.
func (r *refusals) save(b bucket) error {
	for _, seq := range r.gone {
		if err := b.Delete(refusalKey(seq)); err != nil {
			return err
		}
	}
	for _, x := range r.blocks[len(r.blocks)-r.fresh:] {
		if err := b.Put(refusalKey(x.seq), x.b); err != nil {
			return err
		}
	}
	return nil
}

func (r *refusals) saved() { r.gone, r.fresh = r.gone[:0], 0 }

func refusalKey(seq uint64) string { return string(binary.BigEndian.AppendUint64(nil, seq)) }

// load takes over one block; they come in order.
func (r *refusals) load(key string, value []byte) error {
	if len(key) != 8 {
		return fmt.Errorf("refusals: %w", wire.ErrCorrupt)
	}
	b := refusalBlock{seq: binary.BigEndian.Uint64([]byte(key)), b: bytes.Clone(value)}
	if err := b.read(func(start int64, _ event.Vantage, _ bool, _ *refusalPlace, _, _ uint64, _ uint64) { b.start = start }); err != nil {
		return fmt.Errorf("refusals: %w", err)
	}
	r.add(b)
	return nil
}

// read calls f for every record of a block.
func (b *refusalBlock) read(f func(start int64, v event.Vantage, sampled bool, p *refusalPlace, identity, account, denials uint64)) error {
	r := &wire.Reader{B: b.b}
	if r.Uint() != refusalsVersion {
		return wire.ErrCorrupt
	}
	v, start, sampled := r.Uint(), r.Int(), r.Bool()
	places := make([]refusalPlace, r.Len(7))
	for i := range places {
		p := &places[i]
		p.service, p.route, p.role, p.geo, p.cause = r.String(), r.String(), r.String(), r.String(), r.String()
		class, layer := r.Uint(), r.Uint()
		if class >= uint64(event.Denials) || layer >= uint64(event.Layers) {
			return wire.ErrCorrupt
		}
		p.class, p.layer = event.Denial(class), event.Layer(layer)
	}
	if v >= uint64(event.Vantages) {
		return wire.ErrCorrupt
	}
	for range r.Len(18) {
		identity, account, place, denials := r.Word(), r.Word(), r.Uint(), r.Uint()
		if r.Err != nil || place >= uint64(len(places)) {
			return wire.ErrCorrupt
		}
		f(start, event.Vantage(v), sampled, &places[place], identity, account, denials)
	}
	return r.Done()
}

// find tells where somebody was refused: one whose identity, or with account whose
// account, has that hash. step is a slot's length in seconds.
func (r *refusals) find(hash uint64, account bool, step int64) web.Refused {
	out := web.Refused{Refusals: []web.Refusal{}}
	if len(r.blocks) > 0 {
		out.Since = time.Unix(r.blocks[0].start, 0).UTC()
	}
	type key struct {
		v event.Vantage
		p refusalPlace
	}
	at := map[key]int{}
	for i := range r.blocks {
		_ = r.blocks[i].read(func(start int64, v event.Vantage, sampled bool, p *refusalPlace, who, acct, denials uint64) { // it was read before
			out.Incomplete = out.Incomplete || sampled
			if account && acct != hash || !account && who != hash {
				return
			}
			k := key{v, *p}
			n, ok := at[k]
			if !ok {
				n = len(out.Refusals)
				at[k] = n
				out.Refusals = append(out.Refusals, web.Refusal{Vantage: v.String(), Service: p.service, Route: p.route, Role: p.role, Geo: p.geo,
					Class: p.class.String(), Layer: p.layer.String(), Cause: p.cause, From: time.Unix(start, 0).UTC()})
			}
			x := &out.Refusals[n]
			x.Denials += denials
			x.From, x.To = earlier(x.From, time.Unix(start, 0).UTC()), later(x.To, time.Unix(start+step, 0).UTC())
		})
	}
	sortRefusals(out.Refusals)
	return out
}

func sortRefusals(list []web.Refusal) {
	slices.SortStableFunc(list, func(a, b web.Refusal) int { return cmp.Or(b.To.Compare(a.To), cmp.Compare(b.Denials, a.Denials)) })
}

// who tells where somebody was refused, as find does, also as the access rules ask for.
func (c *core) who(hash uint64, account bool) web.Refused {
	out := c.denied.find(hash, account, c.ledger.Step())
	for i := range out.Refusals {
		out.Refusals[i].Incidents = c.involved(&out.Refusals[i])
	}
	valid := c.valid.find(hash, account, c.ledger.Step())
	for _, x := range valid.Refusals {
		x.Rule, x.Cause, x.Incidents = x.Cause, "", []string{}
		out.Refusals = append(out.Refusals, x)
	}
	out.RulesSince, out.Incomplete = valid.Since, out.Incomplete || valid.Incomplete
	sortRefusals(out.Refusals)
	return out
}

// ruleText is a declared access rule in one line, empty if it is not declared any more.
func (c *core) ruleText(id uint64) string {
	if r := c.det.Rule(id); r != nil {
		return alerts.Clean(r.Text, maxLine)
	}
	return ""
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// involved returns the ids of the known incidents that a refusal was a part of.
func (c *core) involved(x *web.Refusal) []string {
	ids := []string{}
	for _, id := range c.order {
		t := c.last(id)
		if t == nil || t.Incident.Direction == incident.Down {
			continue
		}
		in := &t.Incident
		end := c.wall()
		if in.ResolvedAt != nil {
			end = *in.ResolvedAt
		}
		within := func(s *incident.Scope) bool {
			same := func(scope, v string) bool { return scope == "" || scope == v }
			return same(s.Service, x.Service) && inScope(s, x.Route) && same(s.Role, cmp.Or(x.Role, incident.NoRole)) && same(s.Geo, cmp.Or(x.Geo, incident.NoRole))
		}
		if x.Class == in.Class && x.To.After(in.StartedAt) && x.From.Before(end) &&
			(within(&in.Scope) || slices.ContainsFunc(in.Merged, func(p incident.Part) bool { return within(&p.Scope) })) {
			ids = append(ids, id)
		}
	}
	return ids
}

// inScope reports whether a route, as collectors name it, lies in a scope, whose route
// may have learned placeholders.
func inScope(s *incident.Scope, route string) bool {
	pattern := cmp.Or(s.Route, strings.TrimSuffix(s.Prefix, "/")+"/**")
	p, wrong := access.Compile(pattern)
	return pattern == route || wrong == "" && p.Match(route)
}
