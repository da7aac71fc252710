package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestHistory: once the past has been read the log says, once, what it would have
// told; before that, and where there was no past, it says nothing.
func TestHistory(t *testing.T) {
	now := time.Date(2026, 3, 9, 12, 0, 0, 0, time.UTC)
	for name, begin := range map[string]time.Time{"past": now.Add(-100 * time.Hour), "none": now.Add(-10 * time.Minute)} {
		var out bytes.Buffer
		clock := collect.NewClock(func() int64 { return now.UnixNano() })
		c := newCore(slots.Config{Step: time.Minute}, configs.Default().Detection.Judge, clock, slog.New(slog.NewTextHandler(&out, nil)))
		c.born = now
		in := incident.Incident{ID: "i1", Direction: incident.Up, OpenedAt: begin.Add(3 * time.Minute), StartedAt: begin, Scope: incident.Scope{Route: "/billing", Role: "member"}}
		c.timelines["i1"], c.order = []incident.Transition{{Seq: 1, Kind: incident.Opened, At: in.OpenedAt, Incident: in}}, []string{"i1"}
		block := func(at time.Time, state tally.StreamState) {
			b := &tally.Block{Free: make(chan *tally.Block, 1), Stream: "s", Source: "web", Vantage: event.Web, Newest: at.UnixNano(), State: state, Clock: now.UnixNano()}
			b.Stats.Lines = 7
			b.Slots = []tally.SlotDelta{{Slot: at.Unix() / 60 * 60}}
			c.apply(b)
			c.advance()
		}
		block(begin, tally.Reading)
		block(begin.Add(time.Minute), tally.Reading)
		if name == "past" && out.Len() > 0 {
			t.Errorf("before the past was read it said %s", out.String())
		}
		block(now, tally.CaughtUp)
		block(now, tally.CaughtUp)
		said := strings.Count(out.String(), "/billing refuses role member")
		if name == "past" && (said != 1 || !strings.Contains(out.String(), "incidents=1") || !strings.Contains(out.String(), "lines=21")) || name == "none" && said != 0 {
			t.Errorf("%s: it said\n%s", name, out.String())
		}
	}
}
