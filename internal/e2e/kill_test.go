package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/internal/crash"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/servertest"
)

// config is the configuration of the tests that kill: both logs in dir/log, a
// webhook and Slack.
func config(t *testing.T, dir string, r *receiver, slack *slackfake.Server) string {
	t.Helper()
	return write(t, filepath.Join(dir, "denywatch.yaml"), fmt.Sprintf(`service: %s
state: %s/state
listen: 127.0.0.1:0
slot: 10s
sources:
  - {name: web, files: %[2]s/log/access.log, format: combined, lateness: 2s, check: 20ms}
  - {name: app, files: %[2]s/log/app.jsonl, format: json, lateness: 2s, check: 20ms}
detection: {learn: 1h}
sinks:
  webhook: {url: %q, secret: %q}
  slack: {token: %q, channel: "#access-walls", api_url: %q}
`, service, dir, r.url, signing, slackfake.Token, slack.URL()))
}

// TestKillAnywhere kills the daemon with SIGKILL at 50 random moments while logs
// grow and rotate and receivers misbehave, and starts it again each time.
func TestKillAnywhere(t *testing.T) {
	long(t)
	const kills = 50
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	logs := filepath.Join(dir, "log")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, seed, 0.3)
	slack := slackfake.New(t)
	conf := config(t, dir, r, slack)
	crashing, err := bin.crash()
	if err != nil {
		t.Fatal(err)
	}

	// One wall stood in the last hour before anybody watched, and is told for it
	// was news within the hour. The other comes up while denywatch is being
	// killed.
	began := time.Now()
	old := wall{"/billing/upgrade", "viewer", began.Add(-25 * time.Minute), began.Add(-15 * time.Minute)}
	f := newFeed(logs, newTraffic(seed, old))
	f.past(t, began.Add(-3*time.Hour), began, 3*3600*12)
	written := time.Now() // on a slow machine that took a minute
	live := wall{"/projects/{id}/export", "editor", written.Add(20 * time.Second), written.Add(80 * time.Second)}
	f.walls = append(f.walls, live)

	// The writer goes on for as long as somebody listens. Nothing rotates before
	// denywatch has durably seen both files: what was rotated away before is
	// history.
	var writing sync.WaitGroup
	var born atomic.Bool
	stop := make(chan struct{})
	failed := make(chan error, 1)
	writing.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		rot := rand.New(rand.NewPCG(seed, 3))
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			err := f.write(time.Now())
			if err == nil && rot.IntN(200) == 0 && born.Load() {
				err = f.turn(rot)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	})
	trouble := []slackfake.Fault{
		{Times: 1, Drop: true}, {Method: "chat.postMessage", Times: 1, Drop: true}, {Method: "chat.update", Times: 1, Drop: true},
		{Times: 1, Status: 500}, {Times: 1, Status: 429, RetryAfter: "1"}, {Times: 1, Error: "internal_error"},
	}
	ready := 0
	for i := range kills {
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		d := launch(t, crashing, conf)
		// Some die while they start and catch up, most while they follow.
		life := time.Duration(rnd.IntN(3500)) * time.Millisecond
		if i%4 == 3 {
			life = time.Duration(rnd.IntN(150)) * time.Millisecond
		}
		slack.Fail(trouble[rnd.IntN(len(trouble))])
		end := time.After(life)
		var seen time.Time // the last cut when both files were open
		for alive := true; alive; {
			look := make(<-chan time.Time)
			if !born.Load() {
				look = time.After(20 * time.Millisecond)
			}
			select {
			case <-look:
				if m := runs.FindStringSubmatch(d.Stderr.String()); m != nil {
					d.url = m[1]
					if s, err := d.status(); err == nil {
						switch {
						case len(s.Sources) != 2 || s.Sources[0].Streams == 0 || s.Sources[1].Streams == 0:
						case seen.IsZero():
							seen = s.LastCut
						default:
							born.Store(s.LastCut.After(seen))
						}
					}
				}
			case <-end:
				alive = false
			case <-d.Done():
				t.Fatalf("life %d: denywatch ended by itself with code %d:\n%s", i, d.Code(), d.Stderr.Tail())
			}
		}
		d.Kill()
		r.killed()
		if runs.MatchString(d.Stderr.String()) {
			ready++
		}
		if i%6 == 5 && born.Load() { // the host was busy without denywatch
			for range 1 + rnd.IntN(4) {
				f.mu.Lock()
				n := f.done.lines["web"]
				f.mu.Unlock()
				servertest.Await(t, "the writer to go on", func() (bool, string) {
					return f.count().lines["web"] > n+5, ""
				})
				if err := f.turn(rnd); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d of %d processes were killed after they had said that they run; %v passed", ready, kills, time.Since(began).Round(time.Second))
	slack.Clear()
	if !born.Load() {
		t.Fatal("no process lived long enough to write its state: this machine is too slow for the test")
	}

	d := serve(t, crashing, conf)
	servertest.Await(t, "both incidents to end", func() (bool, string) {
		n := 0
		all := d.incidents(t)
		for i := range all {
			if all[i].State == incident.Resolved {
				n++
			}
		}
		s, err := d.status()
		return n >= 2 && n == len(all), fmt.Sprintf("%+v\n%+v %v; written: %v\n%s", all, s, err, f.count().lines, d.Stderr.Tail())
	})
	close(stop)
	writing.Wait()
	if err := f.finish(); err != nil {
		t.Fatal(err)
	}
	d.read(t, f.count())
	servertest.Await(t, "all notifications to be sent", d.quiet)
	d.stop(t)

	requests, calls := r.number(), len(slack.Calls())
	d = serve(t, crashing, conf)
	d.read(t, f.count())
	d.exact(t, f.count())
	all := d.incidents(t)
	d.told(t, all, r, slack)
	for _, w := range []wall{old, live} {
		found(t, all, w)
	}
	d.stop(t)
	if r.number() != requests || len(slack.Calls()) != calls {
		t.Errorf("after everything was told and an orderly restart, %d more webhooks and %d more calls of Slack were made", r.number()-requests, len(slack.Calls())-calls)
	}
	t.Logf("%d lines, %d incidents, %d webhook requests, %d calls of Slack, %v", f.count().lines["web"]+f.count().lines["app"], len(all), requests, calls, time.Since(began).Round(time.Second))
}

// turn rotates one of the logs, in one of the ways that hosts have.
func (f *feed) turn(rnd *rand.Rand) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.web
	if rnd.IntN(2) == 0 {
		l = f.app
	}
	return l.rotate(rnd.IntN(3) > 0, true)
}

// TestKillAtEveryPoint kills the daemon at every place where a file is written,
// renamed or synced and before and after every commit.
func TestKillAtEveryPoint(t *testing.T) {
	long(t)
	crashing, err := bin.crash()
	if err != nil {
		t.Fatal(err)
	}
	points := append(append([]string(nil), crash.Names...), alerts.CrashPoints...)
	for _, point := range points {
		for _, visit := range []int{1, 2, 5} {
			// The key of identities is written once in the life of a state.
			if once[point] && visit > 1 {
				continue
			}
			t.Run(fmt.Sprintf("%s:%d", point, visit), func(t *testing.T) {
				t.Parallel()
				dieAt(t, crashing, fmt.Sprintf("%s:%d", point, visit))
			})
		}
	}
}

// once are the points that a state passes only once: there is no second visit to
// die at.
var once = map[string]bool{"identity.written": true, "identity.synced": true, "identity.renamed": true}

func dieAt(t *testing.T, binary, at string) {
	h := newHost(t)
	d := launch(t, binary, h.config, "DENYWATCH_CRASH_AT="+at)
	// Lines keep coming, so that there is always something to commit.
	servertest.Await(t, "the process to die at "+at, func() (bool, string) {
		if err := h.feed.write(time.Now()); err != nil {
			t.Fatal(err)
		}
		return d.Ended(), "the point was never visited\n" + d.Stderr.Tail()
	})
	if d.Code() != -1 {
		t.Fatalf("denywatch ended with code %d instead of being killed at %s:\n%s", d.Code(), at, d.Stderr.Tail())
	}
	h.receiver.killed()

	d = serve(t, binary, h.config)
	h.feed.past(t, time.Now(), time.Now(), 50)
	d.read(t, h.feed.count())
	h.resolved(t, d)
	servertest.Await(t, "the incidents to be told", d.quiet)
	d.stop(t)
	d = serve(t, binary, h.config)
	d.read(t, h.feed.count())
	d.exact(t, h.feed.count())
	d.told(t, h.resolved(t, d), h.receiver, h.slack)
	d.stop(t)
}
