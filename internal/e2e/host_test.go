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
	"github.com/denywatch/denywatch/internal/servertest"
)

// host is a folder with both logs of three hours, in the last of which two walls
// came up and vanished, and the configuration that watches them.
type host struct {
	dir, config string
	feed        *feed
	walls       []wall
	receiver    *receiver
	slack       *slackfake.Server
}

// history is what all hosts have logged before the tests.
var history struct {
	sync.Mutex
	made     bool
	web, app []byte
	count    *written
	walls    []wall
}

// remember makes history once.
func remember(t *testing.T) {
	t.Helper()
	history.Lock()
	defer history.Unlock()
	if history.made {
		return
	}
	now, dir := time.Now(), t.TempDir()
	history.walls = []wall{
		{"/billing/upgrade", "viewer", now.Add(-34 * time.Minute), now.Add(-26 * time.Minute)},
		{"/projects/{id}/export", "editor", now.Add(-18 * time.Minute), now.Add(-10 * time.Minute)},
	}
	f := newFeed(dir, newTraffic(7, history.walls...))
	f.past(t, now.Add(-3*time.Hour), now, 3*3600*8)
	history.count = f.count()
	var errs [2]error
	history.web, errs[0] = os.ReadFile(f.web.path)
	history.app, errs[1] = os.ReadFile(f.app.path)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	history.made = true
}

func newHost(t *testing.T) *host {
	t.Helper()
	remember(t)
	h := &host{dir: t.TempDir(), walls: history.walls, receiver: newReceiver(t, 1, 0), slack: slackfake.New(t)}
	h.config = config(t, h.dir, h.receiver, h.slack)
	h.feed = newFeed(filepath.Join(h.dir, "log"), newTraffic(8))
	h.feed.done = history.count.clone()
	write(t, h.feed.web.path, string(history.web))
	write(t, h.feed.app.path, string(history.app))
	return h
}

// resolved waits until the host's incidents are over and returns all there are.
func (h *host) resolved(t *testing.T, d *daemon) []incident.Incident {
	t.Helper()
	var all []incident.Incident
	servertest.Await(t, "the incidents to be found and over", func() (bool, string) {
		all = d.incidents(t)
		for i := range all {
			if all[i].State != incident.Resolved {
				return false, fmt.Sprintf("%+v", all)
			}
		}
		return len(all) >= len(h.walls), fmt.Sprintf("%+v\n%s", all, d.Stderr.Tail())
	})
	for _, w := range h.walls {
		found(t, all, w)
	}
	return all
}
