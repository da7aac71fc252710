package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/incident"
)

// host is a folder with both logs of the last hour, in which two walls came up
// and vanished, and the configuration that watches them.
type host struct {
	dir, config string
	feed        *feed
	walls       []wall
	receiver    *receiver
	slack       *slackfake.Server
}

// lastHour is what all hosts have logged before the tests.
var lastHour struct {
	sync.Mutex
	made     bool
	web, app []byte
	count    *written
	walls    []wall
}

// hour makes lastHour once.
func hour(t *testing.T) {
	t.Helper()
	lastHour.Lock()
	defer lastHour.Unlock()
	if lastHour.made {
		return
	}
	now, dir := time.Now(), t.TempDir()
	lastHour.walls = []wall{
		{"/billing/upgrade", "viewer", now.Add(-34 * time.Minute), now.Add(-26 * time.Minute)},
		{"/projects/{id}/export", "editor", now.Add(-18 * time.Minute), now.Add(-10 * time.Minute)},
	}
	f := newFeed(dir, newTraffic(7, lastHour.walls...))
	f.past(t, now.Add(-50*time.Minute), now, 50*60*12)
	lastHour.count = f.count()
	var errs [2]error
	lastHour.web, errs[0] = os.ReadFile(f.web.path)
	lastHour.app, errs[1] = os.ReadFile(f.app.path)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	lastHour.made = true
}

func newHost(t *testing.T) *host {
	t.Helper()
	hour(t)
	h := &host{dir: t.TempDir(), walls: lastHour.walls, receiver: newReceiver(t, 1, 0), slack: slackfake.New(t)}
	h.config = config(t, h.dir, h.receiver, h.slack)
	h.feed = newFeed(filepath.Join(h.dir, "log"), newTraffic(8))
	h.feed.done = lastHour.count.clone()
	write(t, h.feed.web.path, string(lastHour.web))
	write(t, h.feed.app.path, string(lastHour.app))
	return h
}

// resolved waits until the host's incidents are over and returns all there are.
func (h *host) resolved(t *testing.T, d *daemon) []incident.Incident {
	t.Helper()
	var all []incident.Incident
	await(t, "the incidents to be found and over", func() (bool, string) {
		all = d.incidents(t)
		for i := range all {
			if all[i].State != incident.Resolved {
				return false, fmt.Sprintf("%+v", all)
			}
		}
		return len(all) >= len(h.walls), fmt.Sprintf("%+v\n%s", all, d.stderr.tail())
	})
	for _, w := range h.walls {
		found(t, all, w)
	}
	return all
}
