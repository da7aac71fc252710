package detector

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/internal/wire"
)

const (
	// sessionSeconds is how long sessions are gathered: each lasts for one to two of it.
	sessionSeconds = int64(sessionHalf / time.Second)
	// maxSessions bounds the sessions that begin at one service and vantage in one
	// sessionSeconds, sessionsAll those of all; as many older ones are held beside. Who
	// finds no room is remembered when he comes again.
	maxSessions = 1 << 16
	sessionsAll = 1 << 19
)

// session is how often somebody was let in and how often he was refused since he came,
// by route and slot: retries within a slot say nothing new.
type session struct{ in, refused uint16 }

// sessions tells, when they are over, of people who are not remembered yet whether they
// are let in where they go. The zero value is empty.
type sessions struct {
	young, old map[uint64]session
	// period is the number of the sessionSeconds in which the young ones began.
	period int64
}

// note counts for somebody, if there is room for him.
func (s *sessions) note(id uint64, in, refused uint16, room int) {
	m := s.old
	x, ok := m[id]
	if !ok {
		if s.young == nil {
			s.young = map[uint64]session{}
		}
		m = s.young
		if x, ok = m[id]; !ok && len(m) >= room {
			return
		}
	}
	x.in += min(in, math.MaxUint16-x.in)
	x.refused += min(refused, math.MaxUint16-x.refused)
	m[id] = x
}

// turn lets time pass and calls over, in order of identity, with the sessions that ended
// and when they did.
func (s *sessions) turn(now int64, over func(id uint64, x session, at int64)) {
	period := now / sessionSeconds
	for range min(period-s.period, 2) {
		s.period++
		for _, id := range slices.Sorted(maps.Keys(s.old)) {
			over(id, s.old[id], s.period*sessionSeconds)
		}
		clear(s.old)
		s.young, s.old = s.old, s.young
	}
	s.period = period
}

func (s *sessions) put(w *wire.Writer) error {
	w.Int(s.period)
	for _, m := range [...]map[uint64]session{s.young, s.old} {
		w.Uint(uint64(len(m)))
		for _, id := range slices.Sorted(maps.Keys(m)) {
			x := m[id]
			w.Word(id)
			w.Uint(uint64(x.in))
			w.Uint(uint64(x.refused))
		}
	}
	return nil
}

func (s *sessions) get(r *wire.Reader) {
	s.period = bounded(r, r.Int(), 0, 1<<32)
	for _, m := range [...]*map[uint64]session{&s.young, &s.old} {
		n := r.Len(10)
		*m = make(map[uint64]session, n)
		for range n {
			id := r.Word()
			(*m)[id] = session{uint16(bounded(r, r.Uint(), 0, math.MaxUint16)), uint16(bounded(r, r.Uint(), 0, math.MaxUint16))}
		}
	}
}

// attend counts a slot for the sessions of people who are not remembered, or were not for
// a week. Of who is let in, or refused, a slot may tell a part: then only who is in both counts.
func (v *visitors) attend(c *slots.Closed, leaves []slots.Leaf, room int) {
	note := func(id uint64, in, refused uint16) {
		if tally.Kept(id, c.Sampled) && !v.filter.Fresh(anywhere(id)) {
			v.sessions.note(id, in, refused, room)
		}
	}
	for i := range leaves {
		l := &leaves[i]
		for _, id := range l.Entered {
			note(id, 1, 0)
		}
		var last *slots.Hit
		for k := range l.Hits {
			h := &l.Hits[k]
			if h.Class == event.NotDenied || last != nil && last.Identity == h.Identity {
				continue
			}
			last = h
			if tally.KeptIn(h.Identity, c.Start, c.EnteredSampled) {
				note(h.Identity, 0, 1)
			}
		}
	}
}

// part takes leave of somebody whose session is over. Who was let in more often than
// refused is one who gets in here from now on. A stranger who was mostly refused prowls:
// being let in now and then does not make him one who ought to get in.
func (v *visitors) part(id uint64, x session, at int64) {
	switch {
	case x.in > x.refused && !v.prowls(id):
		v.filter.Add(anywhere(id), at)
	case x.in < x.refused && !v.filter.Has(anywhere(id)):
		v.prowlers.Add(id, at)
	}
}
