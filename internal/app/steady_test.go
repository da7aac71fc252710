package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/parsers"
)

// syncBuffer is a buffer that many may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestClockSetAheadAndBack: lines are not late after the clock was set ahead by
// an hour and back some minutes later, though the source was caught up meanwhile;
// a leap that lasts is followed, and after a clock was set back for good the log
// says so.
func TestClockSetAheadAndBack(t *testing.T) {
	for _, x := range []struct {
		name string
		// set is by how many minutes the clock is set, at which minute.
		set  map[int]int
		late bool
		says string
	}{
		{"never", nil, false, ""},
		{"ahead and back", map[int]int{20: 60, 25: -60}, false, "set back after it had been set ahead"},
		{"ahead for good", map[int]int{20: 60}, false, "is believed now"},
		{"ahead for long, and back", map[int]int{20: 60, 40: -60}, true, "until it has caught up with event time"},
		{"back for good", map[int]int{20: -20}, true, "until it has caught up with event time"},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var text syncBuffer
				log := slog.New(slog.NewTextHandler(&text, nil))
				began := time.Now()
				var offset atomic.Int64
				wall := func() int64 { return time.Now().UnixNano() + offset.Load() }
				s := &steady{log: log, read: func() (int64, time.Duration) { return wall(), time.Since(began) }}
				clock := collect.NewClock(s.now)
				clock.Wall = wall
				cfg := configs.Default()
				base, _, err := shared(cfg, collect.FixedIdentityKey(), 60, log)
				if err != nil {
					t.Fatal(err)
				}
				base.Source, base.Vantage, base.Log = "web", event.Web, log
				base.NewParser = func(string, [][]byte) (parsers.Parser, error) { return parsers.New(parsers.Config{Format: "combined"}) }
				sc := slots.Config{Step: time.Minute}
				sc.Lateness[event.Web] = time.Minute
				c := newCore(sc, cfg.Detection.Judge, clock, log)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ran := make(chan error)
				go func() { ran <- c.run(ctx) }()
				h, _, err := collect.NewHost(&base, nil, nil, clock, &collect.Names{}, c.in).Open(ctx, "access.log")
				if err != nil {
					t.Fatal(err)
				}
				var at int64
				for minute := range 60 {
					offset.Add(int64(x.set[minute]) * int64(time.Minute))
					// The log is written by a host whose clock is right, but for leaps that
					// are.
					stamp := time.Now().UTC()
					if x.name == "ahead for good" || x.name == "back for good" {
						stamp = time.Unix(0, wall()).UTC()
					}
					data := fmt.Appendf(nil, "192.0.2.1 - - [%s] \"GET /a HTTP/1.1\" 200 5 \"-\" \"ua\"\n", stamp.Format("02/Jan/2006:15:04:05 -0700"))
					if err := h.Batch(ctx, &ingest.Batch{Data: data, Start: ingest.Position{Offset: at}, End: ingest.Position{Offset: at + int64(len(data))}}); err != nil {
						t.Fatal(err)
					}
					at += int64(len(data))
					for range 60 {
						if err := h.CaughtUp(ctx); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
					}
				}
				if err := h.Close(ctx, true); err != nil {
					t.Fatal(err)
				}
				close(c.in)
				if err := <-ran; err != nil {
					t.Fatal(err)
				}
				src := c.ledger.Sources()[0]
				if src.Lines != 60 || src.Future != 0 || (src.Late > 0) != x.late {
					t.Errorf("got %+v, want late: %v", src, x.late)
				}
				if !strings.Contains(text.String(), x.says) {
					t.Errorf("the log does not say %q:\n%s", x.says, text.String())
				}
			})
		})
	}
}
