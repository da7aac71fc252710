package detector

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// reopenable is for how long after its end, in seconds of event time, somebody can
	// say that an incident is not over.
	reopenable int64 = 24 * 3600
	// maxOver bounds the findings of a judge that are remembered for that: they are written
	// with every slot.
	maxOver = 20
	// maxFormer bounds the cells of a judge whose baseline from before an acceptance is
	// remembered.
	maxFormer = 1 << 15
)

// Errors of what people ask for.
var (
	// ErrGone means that too little is remembered of an incident: it ended more than a
	// day ago, or too many others did since.
	ErrGone = errors.New("it ended too long ago")
	// ErrTaken means that all of an incident's scope belongs to something newer.
	ErrTaken = errors.New("its part of the product is taken")
)

// former is what a cell knew before what happened there was accepted.
type former struct {
	cell       int32
	k, n, u, m float32
	rule       *ruling // nil if no rule was known there
}

// Reopen opens an incident again that is over, because somebody says that it is not, in
// all vantages that saw it. An acceptance is undone: the baseline is what it was before,
// as far as that is remembered, a cell that came since knows nothing. What was refused
// since its end counts, as far as is remembered in detail. From then on it is an open
// incident like any other: if nobody is refused any more it recovers by evidence, five
// slots later at the earliest, and after another day it is accepted. One that was merged
// is by itself again, without what it had taken in before; it need not be over there.
//
// It returns what happened, to the incident first. The error is ErrGone or ErrTaken, with
// words for that person. Like Close it has a single caller; what it changes is durable
// with the next Save.
func (d *Detector) Reopen(id string) ([]incident.Transition, error) {
	g := d.group(id)
	if g == nil || g.inc.State != incident.Resolved {
		return nil, ErrGone
	}
	members, host := g.members, d.group(g.inc.MergedInto)
	if host != nil {
		members = host.brought(id)
	}
	if err := d.wake(members); err != nil {
		return nil, err
	}
	g.members = members
	g.inc.State, g.inc.ResolvedAt, g.inc.Resolution, g.inc.MergedInto = incident.Open, nil, "", ""
	now := d.latest(g)
	d.refresh(g, now)
	out := []incident.Transition{d.decided(g, incident.Reopened, now)}
	if host == nil {
		return out, nil
	}
	host.leave(id)
	if host.inc.State == incident.Open {
		kind := incident.Split
		if !d.refresh(host, now) {
			kind = incident.ResolvedKind // the rest was over
		}
		out = append(out, d.decided(host, kind, now))
	}
	return out, nil
}

// wake opens those of the members again that are over, unless one is open.
func (d *Detector) wake(members []member) error {
	var err error
	known, open := false, false
	for i := range members {
		_, f := d.finding(&members[i])
		open = open || f != nil && f.resolved == 0
	}
	if open {
		return nil
	}
	for i := range members {
		j, f := d.finding(&members[i])
		if f == nil || j.end()-f.resolved > reopenable || f.accepted && f.former == nil {
			continue
		}
		known = true
		if holder, ok := j.vacant(f.scope); !ok {
			err = d.takenBy(j, holder)
		} else if j.reopen(f) {
			open = true
		}
	}
	switch {
	case open:
		return nil
	case err != nil:
		return err
	case known:
		return fmt.Errorf("%w by too many other incidents", ErrTaken)
	}
	return fmt.Errorf("%w: people can say up to a day later that it is not over; if it comes back it opens by itself", ErrGone)
}

// decided is tell for what somebody decided.
func (d *Detector) decided(g *group, kind incident.Kind, now int64) incident.Transition {
	d.dirty = true
	t := d.tell(g, kind, now)
	for k := range d.marks {
		if x := d.marks[k].trial; x != nil {
			x.note(&t.Incident, g.judge.step)
		}
	}
	return t
}

// vacant reports whether a scope has cells that nothing explains; else holder is a mask
// that is there instead.
func (j *judge) vacant(s scope) (holder uint16, ok bool) {
	for i := range j.cells {
		c := &j.cells[i]
		if !s.has(&j.book, c) {
			continue
		}
		if c.mask == 0 {
			return 0, true
		}
		holder = c.mask
	}
	return holder, holder == 0
}

// takenBy says what has a mask.
func (d *Detector) takenBy(j *judge, mask uint16) error {
	f := j.masking(mask)
	if f == nil {
		return fmt.Errorf("%w by an announced change, whose level is being learned; try again in an hour", ErrTaken)
	}
	for _, g := range d.groups {
		if slices.ContainsFunc(g.members, func(m member) bool { return m.judge == j.index && m.uid == f.uid }) {
			return fmt.Errorf("%w by incident %s, which is open: end that first", ErrTaken, g.inc.ID)
		}
	}
	return ErrTaken
}

// reopen makes a finding that is over an open one, unless there are too many.
func (j *judge) reopen(f *finding) bool {
	mask := j.freeMask()
	if mask == 0 {
		return false
	}
	end := f.resolved
	f.mask, f.from = mask, end
	if len(j.past.slots) > 0 {
		f.from = max(f.from, j.past.slots[0].start)
	}
	f.resolved, f.awake, f.calm, f.refused = 0, j.end(), 0, end
	j.hide(f)
	if f.accepted {
		j.restore(f, end)
	}
	j.recount(f, f.from)
	j.reset(f.scope)
	j.dirty = true
	return true
}

// formerly is what the cells of a mask know, at most of maxFormer: of those that know
// most.
func (j *judge) formerly(mask uint16) []former {
	var list []former
	for i := range j.cells {
		c := &j.cells[i]
		if c.mask != mask {
			continue
		}
		x := former{cell: int32(i), k: c.K, n: c.N, u: c.U, m: c.M}
		if r := j.ruled[int32(i)]; r != nil {
			was := *r
			x.rule = &was
		}
		list = append(list, x)
	}
	if len(list) > maxFormer {
		slices.SortFunc(list, func(a, b former) int { return cmp.Or(-cmp.Compare(a.n, b.n), cmp.Compare(a.cell, b.cell)) })
		list = list[:maxFormer:maxFormer]
	}
	room := maxFormer - len(list)
	for _, f := range slices.Backward(j.findings) {
		if room -= len(f.former); room < 0 {
			f.former = nil
		}
	}
	return list
}

// restore undoes the acceptance of a finding, at a time, on its cells. What they learned
// since was a trouble.
func (j *judge) restore(f *finding, at int64) {
	for i := range j.cells {
		if c := &j.cells[i]; c.mask == f.mask {
			c.Replace(0, 0)
			delete(j.ruled, int32(i))
			j.dirtyRuled[i/blockSize] = true
			j.markCell(int32(i))
		}
	}
	fade := baseline.Discount(max(j.end()-at, 0))
	for i := range f.former {
		x := &f.former[i]
		c := &j.cells[x.cell]
		if c.mask != f.mask {
			continue
		}
		c.K, c.N, c.U, c.M = x.k*fade, x.n*fade, x.u*fade, x.m*fade
		if x.rule != nil {
			*j.ruledBy(x.cell) = *x.rule
		}
	}
	f.former, f.accepted = nil, false
	j.relearn()
}

// forgetFindings drops those that are over and that nobody will ask for any more.
func (j *judge) forgetFindings(now int64) {
	over := func(f *finding, since int64) bool { return f.resolved != 0 && !f.kept && now-f.resolved > since }
	extra := -maxOver
	for _, f := range j.findings {
		if over(f, reopenWithin) {
			extra++
		}
	}
	j.findings = slices.DeleteFunc(j.findings, func(f *finding) bool {
		if !over(f, reopenWithin) {
			return false
		}
		extra--
		return extra >= 0 || over(f, reopenable)
	})
}

func (x *former) put(w *wire.Writer) {
	w.Uint(uint64(x.cell))
	for _, v := range [...]float32{x.k, x.n, x.u, x.m} {
		baseline.PutFloat(w, v)
	}
	w.Bool(x.rule != nil)
	if x.rule != nil {
		x.rule.put(w)
	}
}

// get reads what put wrote of a judge that has that many cells.
func (x *former) get(r *wire.Reader, cells int) {
	x.cell = int32(bounded(r, r.Uint(), 0, uint64(max(cells-1, 0))))
	for _, v := range [...]*float32{&x.k, &x.n, &x.u, &x.m} {
		*v = baseline.GetFloat(r)
	}
	if r.Bool() {
		x.rule = new(ruling)
		x.rule.get(r)
	}
}
