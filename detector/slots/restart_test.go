package slots_test

import (
	"testing"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestEnteredIsOneSample: how few of many identities that were let in are kept depends
// on who they are alone, not on how often or around which restart
// they were told of.
func TestEnteredIsOneSample(t *testing.T) {
	for name, people := range map[string]uint64{"few": 6000, "as many as are kept": 1 << 13, "many": 20_000} {
		t.Run(name, func(t *testing.T) {
			var lines []line
			for range 2 {
				for id := range people {
					lines = append(lines, line{1_700_000_000, 0, 2 * (id + 10) * 7919})
				}
			}
			run := func(chunk int, restart bool) string {
				l, m := newLedger(), memory{}
				f := newFeeder("s", event.Web, lines)
				l.Open(f.name, f.vantage)
				for !f.ended {
					l.Apply(f.block(chunk), event.NoTime)
					if restart && len(f.lines) == len(lines)/2 {
						l = reload(t, l, m, []*feeder{f})
					}
				}
				c := l.Next(event.NoTime)
				if sampled := people > 1<<13; (c.EnteredSampled > 0) != sampled {
					t.Errorf("one in 2^%d is told to be let in", c.EnteredSampled)
				}
				for i := range c.Leaves {
					for _, id := range c.Leaves[i].Entered {
						if !tally.KeptIn(id, c.Start, c.EnteredSampled) {
							t.Fatal("somebody is kept who should not be by the sampling that is told")
						}
					}
				}
				return render(c)
			}
			want := run(len(lines), false)
			if run(100, false) != want {
				t.Error("told bit by bit others are kept than told at once")
			}
			if run(int(people)/4, true) != want {
				t.Error("after a restart others are kept than without")
			}
		})
	}
}
