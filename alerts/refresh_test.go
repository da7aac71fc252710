package alerts_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// forgetful is a receiver whose sink has to be told again.
type forgetful struct {
	receiver
	again []string
	away  atomic.Bool
}

func (f *forgetful) Refresh(_ context.Context, memories func() []json.RawMessage) error {
	var all []string
	for _, m := range memories() {
		all = append(all, string(m))
	}
	f.again = append(f.again, strings.Join(all, " "))
	if f.away.Load() {
		return errors.New("away")
	}
	return nil
}

// TestRefresh: a sink that forgets is told again every minute what it remembers, also
// by a process that only finds that in the store, and not while another one is active.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		remember := func(_ int, d *alerts.Delivery) (bool, json.RawMessage, error) {
			return true, json.RawMessage(`"` + d.Transition.Incident.ID + `"`), nil
		}
		f, other := &forgetful{}, &receiver{answer: remember}
		f.answer = remember
		sinks := map[string]alerts.Notifier{"s": f, "s2": other}
		var may atomic.Bool
		may.Store(true)
		o := build(t, d, sinks, alerts.Options{May: may.Load})
		stop := start(t, o)
		send(t, o, d, append(life("i1", incident.Opened), life("i2", incident.Opened)...), "s", "s2")
		time.Sleep(alerts.RefreshEvery + time.Second)
		f.away.Store(true)
		time.Sleep(2 * alerts.RefreshEvery)
		may.Store(false)
		time.Sleep(3 * alerts.RefreshEvery)
		stop()
		o = build(t, d, sinks, alerts.Options{})
		stop = start(t, o)
		time.Sleep(alerts.RefreshEvery + time.Second)
		stop()
		if want := slices.Repeat([]string{`"i1" "i2"`}, 4); !slices.Equal(f.again, want) {
			t.Errorf("told again %q, want %q", f.again, want)
		}
	})
}
