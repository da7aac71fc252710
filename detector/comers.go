package detector

import (
	"maps"
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/wire"
)

// maxComers bounds the people of one slot, and of one long step of the past, who are
// remembered as let in where many are refused: 24 KiB each.
const maxComers = 1 << 10

// comer is one identity that was let in on one cell in one slot where many are refused, n
// times.
type comer struct {
	cell int32
	n    float32
	id   uint64
}

// greet remembers who is let in where many are refused, by in of the leaf's requests that
// count: that a few people who may come in do so is no door that stands open.
func (j *judge) greet(l *slots.Leaf, cell int32, in float32, p *pastSlot) {
	if in <= 0 || j.normal(&j.cells[cell]).Share() <= oftenRefused {
		return
	}
	for _, who := range l.Entered[:min(len(l.Entered), askAtMost, maxComers-len(p.comers))] {
		p.comers = append(p.comers, comer{cell, in / float32(len(l.Entered)), who})
	}
}

// several reports whether a fall lets enough people in, where many used to be refused: half
// of the least evidence must remain without those who came most often, one of eight and three
// at most. Of fewer than eight each counts once, and all of it must remain without two, who
// may be people who may come in. Requests of which nobody tells who made them count as of so
// many people.
func (j *judge) several(l *located) bool {
	change := l.Change()
	type person struct {
		all, once float64 // what speaks for the fall
		w         float64 // how far the window still sees him
	}
	who := map[uint64]*person{}
	within := j.unmasked(l.scope)
	var evidence float64
	var in, told float64 // let in where many used to be refused
	count := func(w float64, cell int32, n, x float32) {
		if w == 0 || !within(cell) {
			return
		}
		r := j.normal(&j.cells[cell])
		evidence += w * baseline.Ratio(n, x, r, l.dir, change)
		if r.Share() > oftenRefused {
			in += w * float64(n-x)
		}
	}
	greeted := func(w float64, comers []comer) {
		for i := range comers {
			c := &comers[i]
			r := j.normal(&j.cells[c.cell])
			if w == 0 || r.Share() <= oftenRefused || !within(c.cell) {
				continue
			}
			p := who[c.id]
			if p == nil {
				p = new(person)
				who[c.id] = p
			}
			n, worth := w*float64(c.n), baseline.Ratio(1, 0, r, l.dir, change)
			told += n
			p.all += n * worth
			p.once = max(p.once, min(n, 1)*worth)
			p.w = max(p.w, w)
		}
	}
	for i := range j.hours.list {
		h := &j.hours.list[i]
		w := l.win.weight(h.start, j.start)
		for k := range h.counts {
			count(w, h.counts[k].cell, h.counts[k].nc, h.counts[k].xc)
		}
		greeted(w, h.comers)
	}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		w := l.win.weight(p.start, j.start)
		for k := range p.counts {
			if t := &p.counts[k]; !t.explained {
				count(w, t.cell, t.nc, t.xc)
			}
		}
		greeted(w, p.comers)
	}
	people, ids := max(in-told, 0), slices.Sorted(maps.Keys(who))
	for _, id := range ids {
		people += who[id].w
	}
	few := people < minStrangers-0.5
	least, cut := minEvidence/2.0, 0.0
	if few {
		least = minEvidence
	}
	var worth []float64
	for _, id := range ids {
		p := who[id]
		if few {
			cut += p.all - p.once
			p.all = p.once
		}
		worth = append(worth, p.all)
	}
	n := (len(worth) + 7) / 8
	if few {
		n = minPeople - 1
	}
	for _, x := range busiest(worth, n) {
		cut += x
	}
	return evidence-cut >= least*l.phi
}

func putComers(w *wire.Writer, list []comer) {
	w.Uint(uint64(len(list)))
	for i := range list {
		c := &list[i]
		w.Uint(uint64(c.cell))
		baseline.PutFloat(w, c.n)
		w.Word(c.id)
	}
}

func (j *judge) getComers(r *wire.Reader) (list []comer) {
	for range r.Len(13) {
		c := comer{int32(bounded(r, r.Uint(), 0, uint64(len(j.cells)))), baseline.GetFloat(r), r.Word()}
		if int(c.cell) >= len(j.cells) || len(list) == maxComers {
			corrupt(r)
			return nil
		}
		list = append(list, c)
	}
	return list
}
