package detector

import "github.com/denywatch/denywatch/baseline"

// admitted is who was let in on a masked cell in the current slot; the list is the
// slot's own.
type admitted struct {
	cell int32
	ids  []uint64
}

// welcomeBack counts who of the people a finding refused was let in again in its
// scope. Whoever is refused once more is not back. It is a lower bound where the
// let-in are told by sample, and not known of more people than are counted exactly.
func (j *judge) welcomeBack(f *finding, p *pastSlot) {
	if f.dir == baseline.Down || f.who.exact == nil {
		f.back = people{}
		return
	}
	refused := map[uint64]bool{}
	for i := range p.hits {
		if h := &p.hits[i]; j.cells[h.cell].mask == f.mask {
			refused[h.id] = true
			delete(f.back.exact, h.id)
		}
	}
	for _, a := range j.within {
		if j.cells[a.cell].mask != f.mask {
			continue
		}
		for _, id := range a.ids {
			if _, was := f.who.exact[id]; was && !refused[id] {
				f.back.add(id)
			}
		}
	}
}
