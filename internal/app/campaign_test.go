package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/alerts/shoutrrr"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
	"github.com/denywatch/denywatch/internal/state"
)

// campaign is a world of sinks that have bad days, and of processes that tell them of
// incidents and are killed.
type campaign struct {
	mu  sync.Mutex
	rnd *rand.Rand
	// trouble is the share of messages that go wrong.
	trouble float64
	// told are the steps that each sink took of each incident, as they came.
	told map[string][]string
}

// inSink is a crash point beside those of the outbox: the sink was told, and nobody knows.
const inSink = "in the sink"

var crashPoints = append(slices.Clone(alerts.CrashPoints), inSink)

// tryTimeout is how long an outbox waits for a sink.
const tryTimeout = 250 * time.Millisecond

var (
	wallNumber = regexp.MustCompile(`wall[0-9][0-9]`)
	eventVerb  = regexp.MustCompile(`"event_action":"(\w+)"`)
	headCount  = regexp.MustCompile(`([0-9]{3}) people|"identities":([0-9]{3})`)
)

// take notes that a sink took a message. The same one again, at once, changes nothing.
func (c *campaign) take(sink, body string) {
	key, step := sink+" "+wallNumber.FindString(body), ""
	if m := eventVerb.FindStringSubmatch(body); m != nil {
		step = m[1] + " "
	}
	if m := headCount.FindStringSubmatch(body); m != nil {
		step += m[1] + m[2]
	}
	if all := c.told[key]; len(all) == 0 || all[len(all)-1] != step {
		c.told[key] = append(all, step)
	}
}

// mailed takes a mail, and tells whether its sender hears of it.
func (c *campaign) mailed(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take("mail", text)
	return c.rnd.Float64() >= c.trouble
}

// ServeHTTP implements http.Handler for all sinks but mail.
func (c *campaign) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	sink, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	c.mu.Lock()
	happens := -1
	if c.rnd.Float64() < c.trouble {
		happens = []int{0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6}[c.rnd.IntN(13)] // who hangs takes its time
	}
	if happens < 0 || happens >= 5 {
		c.take(sink, string(body))
	}
	c.mu.Unlock()
	switch happens {
	case 0:
		w.WriteHeader(http.StatusTooManyRequests)
	case 1:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case 2:
		w.WriteHeader(http.StatusServiceUnavailable)
	case 3:
		w.WriteHeader(http.StatusUnauthorized)
	case 4: // longer than any try
		select {
		case <-r.Context().Done():
		case <-time.After(2 * tryTimeout):
		}
		panic(http.ErrAbortHandler)
	case 5: // it took what came, and nobody hears of it
		panic(http.ErrAbortHandler)
	case 6:
		w.WriteHeader(http.StatusBadGateway)
	default:
		if sink == "v2" { // PagerDuty
			w.WriteHeader(http.StatusAccepted)
		}
	}
}

// troubles are what happens to calls of Slack, each to one of the next in a process.
func (c *campaign) troubles() (out []slackfake.Fault) {
	if c.trouble == 0 {
		return nil
	}
	for range 3 {
		f := []slackfake.Fault{
			{Drop: true}, {Drop: true}, {Drop: true}, {Status: http.StatusBadGateway}, {Status: http.StatusTooManyRequests, RetryAfter: "1"}, {Status: http.StatusTooManyRequests},
			{Error: "invalid_auth"}, {Error: "channel_not_found"}, {Error: "fatal_error"}, {Body: `{"ok":tr`},
		}[c.rnd.IntN(10)]
		if f.Times, f.Skip = 1, c.rnd.IntN(30); f.Skip == 7 {
			f = slackfake.Fault{Hang: true, Times: 1, Skip: f.Skip}
		}
		out = append(out, f)
	}
	return out
}

// shown notes what people see in Slack: of each incident one message, and its thread.
func (c *campaign) shown(s *slackfake.Server) {
	for _, m := range s.Messages() {
		key := "slack " + wallNumber.FindString(m.Text)
		for _, step := range s.Thread(m.TS) {
			c.told[key] = append(c.told[key], step.Text)
		}
		c.told[key] = append(c.told[key], m.Text)
	}
}

// process is one life of an outbox. It is killed at a crash point, or ends when a try
// failed, so that the next one tries at once.
type process struct {
	outboxStore
	mu    sync.Mutex
	at    string // the crash point at which it is killed
	left  int    // how often it comes there until then
	where string
	ended chan struct{}
	once  sync.Once
}

var errKilled = errors.New("the process was killed")

func (p *process) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.where != ""
}

// step is a moment at which the process may be killed.
func (p *process) step(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if point != p.at {
		return
	}
	if p.left--; p.left == 0 {
		p.where = point
		p.end()
	}
}

func (p *process) end() { p.once.Do(func() { close(p.ended) }) }

// Update implements alerts.Store: nothing is written after death.
func (p *process) Update(fn func(alerts.Tx) error) error {
	if p.dead() {
		return errKilled
	}
	return p.outboxStore.Update(fn)
}

// Delivered implements alerts.Meter.
func (p *process) Delivered(string, time.Duration) {}

// Failed implements alerts.Meter.
func (p *process) Failed(string, alerts.ErrorKind) { p.end() }

// Dead implements alerts.Meter.
func (p *process) Dead(string) {}

// Coalesced implements alerts.Meter.
func (p *process) Coalesced(string, int) {}

// mortal is a sink of a process.
type mortal struct {
	alerts.Notifier
	p *process
}

// Notify implements alerts.Notifier.
func (m mortal) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	if m.p.dead() {
		return nil, errKilled
	}
	mem, err := m.Notifier.Notify(ctx, d)
	m.p.step(inSink)
	return mem, err
}

// walls are the transitions of some incidents, each with a number of people of its own.
func walls() (all []incident.Transition) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	kinds := []incident.Kind{incident.Opened, incident.Grew, incident.ResolvedKind, incident.Reopened, incident.ResolvedKind}
	for seq, kind := range kinds {
		for i := range 4 {
			in := incident.Incident{ID: fmt.Sprintf("wall%02d", i), State: incident.Open, Direction: incident.Up, Severity: incident.High, StartedAt: at, OpenedAt: at, Layer: "app",
				Scope: incident.Scope{Service: "shop", Route: fmt.Sprintf("/wall%02d", i), Role: "member"}, ExpectedRate: 0.01, ObservedRate: 0.5, Requests: 2000, Denials: 1000,
				Identities: int64(100 + 10*i + seq)}
			t := incident.Transition{Seq: seq + 1, Kind: kind, At: at.Add(time.Duration(seq) * 5 * time.Minute)}
			if kind == incident.ResolvedKind {
				in.State, in.Resolution, in.ResolvedAt = incident.Resolved, incident.Recovered, &t.At
			}
			t.Incident = in
			all = append(all, t)
		}
	}
	return all
}

// run tells all sinks of all walls, in as many processes as it takes, and returns what
// the sinks took, and where processes were killed.
func (c *campaign) run(t *testing.T) (told map[string][]string, killed map[string]int) {
	t.Helper()
	c.told = map[string][]string{}
	chat := slackfake.New(t)
	post := (&bin{bodies: map[string]string{}, mailed: c.mailed}).mailbox(t)
	all, dir := walls(), t.TempDir()
	killed = map[string]int{}
	for life := 0; ; life++ {
		if life == 500 {
			t.Fatalf("not done after %d processes; killed at %v", life, killed)
		}
		store, err := state.Open(dir, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		web := httptest.NewServer(c)
		p := &process{outboxStore: outboxStore{store}, ended: make(chan struct{})}
		c.mu.Lock()
		if c.trouble > 0 {
			p.at, p.left = crashPoints[c.rnd.IntN(len(crashPoints))], 1+c.rnd.IntN(8)
		}
		chat.Clear()
		chat.Fail(c.troubles()...)
		c.mu.Unlock()
		sinks := map[string]alerts.Notifier{}
		add := func(name string, n alerts.Notifier, err error) {
			if err != nil {
				t.Fatal(err)
			}
			sinks[name] = mortal{n, p}
		}
		hook, err := webhook.New(webhook.Config{URL: secret.String(web.URL + "/hook")})
		add("hook", hook, err)
		am, err := alertmanager.New(alertmanager.Config{URLs: []string{web.URL + "/am"}})
		add("am", am, err)
		pager, err := pagerduty.New(pagerduty.Config{URL: web.URL, RoutingKey: "0123456789abcdef0123456789abcdef"})
		add("pager", pager, err)
		mail, err := email.New(email.Config{Server: post, TLS: email.None, From: "d@example.com", To: []string{"o@example.com"}}, email.Options{})
		add("mail", mail, err)
		shout, err := shoutrrr.New(shoutrrr.Config{URL: secret.String(strings.Replace(web.URL, "http://", "generic+http://", 1) + "/shout")})
		add("shout", shout, err)
		talk, err := slack.New(slack.Config{Token: slackfake.Token, Channel: "#access-walls", APIURL: chat.URL()}, slack.Options{Pace: slack.NewPace(time.Microsecond)})
		add("slack", talk, err)
		o, err := alerts.New(p, sinks, alerts.Options{Meter: p, Crash: p.step, May: func() bool { return !p.dead() }, TryTimeout: tryTimeout, StopTimeout: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- o.Run(ctx) }()
		next := 0
		if err := store.View("campaign", func(_ string, v []byte) error { return json.Unmarshal(v, &next) }); err != nil {
			t.Fatal(err)
		}
		for ; next < len(all) && !p.dead(); next++ { // as the detector does, one cut each
			var ds []alerts.Delivery
			for _, sink := range slices.Sorted(maps.Keys(sinks)) {
				ds = append(ds, alerts.NewDelivery(all[next], alerts.Dest{Sink: sink}))
			}
			if err := p.Update(func(tx alerts.Tx) error {
				if err := o.Enqueue(tx, ds); err != nil {
					return err
				}
				return tx.Put("campaign", "next", fmt.Append(nil, next+1))
			}); err != nil {
				break
			}
			o.Add(ds)
		}
		waits := func() (n int) {
			for _, h := range o.Health() {
				n += h.Depth
			}
			return n
		}
		done := false
		for over := false; !over; {
			select {
			case <-p.ended:
				over = true
			case <-time.After(time.Millisecond):
				done = next == len(all) && waits() == 0
				over = done
			}
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("the outbox ended with %v", err)
		}
		killed[p.where]++
		talk.Close()
		web.Close() // what the process sent is taken before the next one sends
		chat.Settle()
		hook.Close()
		am.Close()
		pager.Close()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			for _, h := range o.Health() {
				if h.Dead > 0 {
					t.Errorf("sink %s: %d were given up", h.Sink, h.Dead)
				}
			}
			c.shown(chat)
			return c.told, killed
		}
	}
}

// TestFaultCampaign: whatever sinks do, and wherever the process is killed, each takes
// what it takes in a quiet world, all of it, in order, and nothing comes again after
// something later.
func TestFaultCampaign(t *testing.T) {
	want, _ := (&campaign{rnd: rand.New(rand.NewPCG(0, 0))}).run(t)
	if len(want) != 6*4 {
		t.Fatalf("in a quiet world the sinks are told\n%v", want)
	}
	for key, steps := range want {
		if len(steps) < 3 { // the short texts leave out growth
			t.Errorf("in a quiet world %s is told only %q", key, steps)
		}
	}
	c := &campaign{rnd: rand.New(rand.NewPCG(4, 3)), trouble: 0.15}
	got, killed := c.run(t)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	for _, point := range crashPoints {
		if killed[point] == 0 {
			t.Errorf("never killed at %s, only %v", point, killed)
		}
	}
	t.Logf("killed at %v", killed)
}
