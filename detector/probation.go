package detector

import (
	"slices"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/internal/marker"
)

const (
	// probation is how long after a marker the old epoch judges.
	probation int64 = 2 * 3600
	// blind is how long after an announced change its scope is not judged while
	// its new level is learned.
	blind int64 = 3600
)

// announcement is a marker that expects denials to move one way: its scope is
// masked while mask is not 0, and that direction is mute in it until the end of
// the probation.
type announcement struct {
	scope       marker.Scope
	dir         int8
	mask        uint16
	sight, ends int64 // when the mask and the whole end
}

// apply makes a marker take effect. Unannounced, it freezes the baselines in its
// scope as judge of the new epoch from now on; announced, it makes room for a new
// level.
func (j *judge) apply(m *marker.Marker, now int64) {
	scope := m.Scope
	if len(scope.Service) == 0 && m.Service != "" {
		scope.Service = marker.List{m.Service}
	}
	if j.service != "" && !scope.Service.Has(j.service) {
		return
	}
	at := m.Time.Unix()
	if at+probation <= now {
		return // too late for anything but naming it
	}
	c := j.choose(&scope)
	if m.Expect == marker.ExpectNone {
		if now < j.born+j.learn {
			return // hardly anything is known that could be a judge
		}
		for i := range j.cells {
			if x := &j.cells[i]; c.has(x) {
				x.Freeze(now, at+probation)
				j.markCell(int32(i))
			}
		}
		return
	}
	dir := baseline.Up
	if m.Expect == marker.ExpectDown {
		dir = baseline.Down
	}
	j.announce(scope, dir, at, now)
}

// announce makes room for a new level of a scope since a time: it is not judged for
// an hour, whose level is the baseline then.
func (j *judge) announce(scope marker.Scope, dir int8, at, now int64) {
	c := j.choose(&scope)
	a := announcement{scope: scope, dir: dir, sight: at + blind, ends: at + probation}
	if a.sight > now {
		a.mask = j.freeMask()
	}
	if a.mask != 0 {
		for i := range j.cells {
			if x := &j.cells[i]; x.mask == 0 && c.has(x) {
				x.mask = a.mask
				x.Forget()
				x.Thaw()
				x.x5, x.n5, x.m5, x.x40, x.n40, x.m40 = 0, 0, 0, 0, 0, 0
				j.markCell(int32(i))
				for _, s := range x.parents {
					if s >= 0 {
						j.series[s].Reset()
						j.series[s].Drop()
						j.chill(&j.series[s])
						j.markSeries(s)
					}
				}
			}
		}
	}
	j.announced = append(j.announced, a)
}

// endAnnounced ends what announcements are over: after the blind hour its level
// is the baseline, after the probation both directions are judged again.
func (j *judge) endAnnounced() {
	for k := range j.announced {
		a := &j.announced[k]
		if a.mask == 0 || j.start < a.sight {
			continue
		}
		j.accustom(a.mask)
		j.show(a.mask, true)
		j.relearn()
		a.mask = 0
	}
	j.announced = slices.DeleteFunc(j.announced, func(a announcement) bool { return j.start >= a.ends })
}

// mutes reports whether most of a located change was announced.
func (j *judge) mutes(l *located) bool {
	for k := range j.announced {
		a := &j.announced[k]
		if a.dir != l.dir {
			continue
		}
		c := j.choose(&a.scope)
		var in, total float64
		for i := range j.cells {
			x := &j.cells[i]
			if x.mask != 0 || x.n40 == 0 || !l.scope.has(&j.book, x) {
				continue
			}
			j.decay(int32(i))
			e := float64(x.x5-x.m5) * float64(l.dir)
			if l.win.tau != shortTau {
				e = float64(x.x40-x.m40) * float64(l.dir)
			}
			total += e
			if c.has(x) {
				in += e
			}
		}
		if in > total/2 {
			return true
		}
	}
	return false
}

// accustomed is as how many requests, at least, the new level of a role on a route
// counts over all its cells.
const accustomed = 5 * baseline.Prior

// accustom makes the level of about the last 40 minutes the baseline of the cells of
// a mask.
func (j *judge) accustom(mask uint16) {
	j.relevel(func(c *cell) bool { return c.mask == mask }, func(i int) (x, n float32) {
		c := &j.cells[i]
		j.decay(int32(i))
		return c.x40, c.n40
	}, accustomed)
}

// mend makes what a scope shows since it fell its baseline, for no more than it is: what
// was expected was a guess, or learned in a trouble.
func (j *judge) mend(l *located) {
	sums := j.sums(window{since: j.onset(l, nil).at}, l.dir)
	in := func(c *cell) bool { return c.mask == 0 && l.scope.has(&j.book, c) }
	j.relevel(in, func(i int) (x, n float32) { return sums[i].x, sums[i].n }, 0)
	for i := range j.cells {
		if c := &j.cells[i]; in(c) {
			c.x5, c.n5, c.m5, c.x40, c.n40, c.m40 = 0, 0, 0, 0, 0, 0
		}
	}
	j.relearn()
	j.reset(l.scope)
}

// relevel makes x of n, as seen says, the baseline of the chosen cells, as if those of
// one role on a route had been asked least times. Countries that were hardly seen take it
// over from the others then: what happened, happened to them too.
func (j *judge) relevel(in func(c *cell) bool, seen func(i int) (x, n float32), least float32) {
	type level struct{ x, n, cells float32 }
	levels := map[int32]*level{}
	for i := range j.cells {
		c := &j.cells[i]
		if !in(c) {
			continue
		}
		x, n := seen(i)
		l := levels[c.group()]
		if l == nil {
			l = new(level)
			levels[c.group()] = l
		}
		l.x += x
		l.n += n
		l.cells++
	}
	for i := range j.cells {
		c := &j.cells[i]
		if !in(c) {
			continue
		}
		if l := levels[c.group()]; l.n > 0.5 {
			x, n := seen(i)
			more := max(least-l.n, 0) / l.cells
			c.Replace(x+more*l.x/l.n, n+more)
		}
	}
}
