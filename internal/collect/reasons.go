package collect

import (
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// maxReasons bounds the explanations that `denywatch parse` keeps.
const maxReasons = 1 << 20

// joinWithin is how far an error line and its access line may be apart: one is
// written when the server refuses, the other when the request ends.
const joinWithin = int64(time.Minute)

// Reasons joins error lines to the denials they explain, for `denywatch parse`,
// which has both logs whole. The daemon joins by slot.
type Reasons struct {
	c       *Config
	by      map[uint64][]reasonAt
	n       int
	scratch []byte
}

type reasonAt struct {
	time        int64
	layer       event.Layer
	cause, rule string
}

// NewReasons returns an empty set of reasons.
func NewReasons(c *Config) *Reasons { return &Reasons{c: c, by: map[uint64][]reasonAt{}} }

// Add notes what e, an event with CauseOnly set, explains.
func (r *Reasons) Add(e *event.Event) {
	if !e.CauseOnly || e.Denial == event.NotDenied || r.n >= maxReasons {
		return
	}
	for _, k := range r.c.joinKeys(e, &r.scratch) {
		if k != 0 {
			r.by[k] = append(r.by[k], reasonAt{e.Time, e.Layer, string(e.Cause), string(e.Rule)})
			r.n++
		}
	}
}

// Explain fills x's layer and cause from the reason that is nearest in time, if e
// is a denial that does not say why itself.
func (r *Reasons) Explain(e *event.Event, x *Explained) {
	if x.Denial == "" || x.Cause != "" || e.CauseOnly || len(r.by) == 0 {
		return
	}
	keys := r.c.joinKeys(e, &r.scratch)
	for i := range tally.Keys {
		var best *reasonAt
		for j := range r.by[keys[i]] {
			a := &r.by[keys[i]][j]
			far := a.time - e.Time
			if keys[i] == 0 || i > 0 && (far > joinWithin || far < -joinWithin) && a.time != event.NoTime {
				continue
			}
			if best == nil || abs(far) < abs(best.time-e.Time) {
				best = a
			}
		}
		if best != nil {
			x.Layer, x.Cause = best.layer.String(), best.cause
			return
		}
	}
}

func abs(x int64) int64 { return max(x, -x) }
