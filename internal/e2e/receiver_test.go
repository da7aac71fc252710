package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/denywatch/denywatch/alerts/slack/slackfake"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/incident"
)

// signing is the secret of webhooks.
const signing = "0123456789abcdef0123456789abcdef"

// receiver is somebody's endpoint for webhooks: it remembers keys, and it has
// bad days.
type receiver struct {
	url string

	mu  sync.Mutex
	rnd *rand.Rand
	// trouble is the share of requests that it answers badly: half of them after
	// it took what they brought.
	trouble  float64
	taken    map[string]taken
	order    []incident.Transition // as they were first taken
	requests int
	problems []string
	kills    []time.Time
}

// taken is a transition that the receiver has.
type taken struct {
	transition incident.Transition
	answered   time.Time // with 200; zero while it was not
}

func newReceiver(t *testing.T, seed uint64, trouble float64) *receiver {
	t.Helper()
	r := &receiver{rnd: rand.New(rand.NewPCG(seed, 1)), trouble: trouble, taken: map[string]taken{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL + "/hook"
	return r
}

// set changes the share of requests that the receiver answers badly.
func (r *receiver) set(trouble float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = trouble
}

// killed notes that the daemon was killed: what it knew of a try is lost.
func (r *receiver) killed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kills = append(r.kills, time.Now())
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender died
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	bad := func(format string, a ...any) { r.problems = append(r.problems, fmt.Sprintf(format, a...)) }
	if err := webhook.Verify(signing, req.Header.Get(webhook.HeaderSignature), body, time.Now(), 5*time.Minute); err != nil {
		bad("signature: %v", err)
	}
	var b webhook.Body
	if err := json.Unmarshal(body, &b); err != nil {
		bad("body: %v", err)
		return
	}
	key := req.Header.Get(webhook.HeaderKey)
	if key == "" || key != b.ID {
		bad("the key is %q in the header and %q in the body", key, b.ID)
	}
	dice := r.rnd.Float64()
	if dice < r.trouble/2 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	had, known := r.taken[key]
	switch {
	case !known:
		had.transition = b.Transition
		r.order = append(r.order, b.Transition)
	case !reflect.DeepEqual(had.transition, b.Transition):
		bad("key %s came with two contents:\n%+v\n%+v", key, had.transition, b.Transition)
	}
	// A delivery that was answered may come again only if the process died before
	// it could note the answer.
	if !had.answered.IsZero() && !slices.ContainsFunc(r.kills, func(k time.Time) bool { return k.After(had.answered.Add(-time.Second)) }) {
		bad("key %s was answered with 200 and came again without a crash in between", key)
	}
	switch {
	case dice > 1-r.trouble/4:
		w.WriteHeader(http.StatusBadGateway)
	case dice > 1-r.trouble/2:
		r.taken[key] = had
		panic(http.ErrAbortHandler)
	default:
		had.answered = time.Now()
	}
	r.taken[key] = had
}

// stories are the transitions by incident, each in the order of their arrival.
func (r *receiver) stories() map[string][]incident.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := map[string][]incident.Transition{}
	for _, t := range r.order {
		m[t.Incident.ID] = append(m[t.Incident.ID], t)
	}
	return m
}

// number is how many requests came so far.
func (r *receiver) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// quiet tells whether no notification waits at the daemon.
func (d *daemon) quiet() (bool, string) {
	s, err := d.status()
	if err != nil {
		return false, err.Error()
	}
	for _, k := range s.Sinks {
		if k.Waiting > 0 {
			return false, fmt.Sprintf("sink %s: %d deliveries wait, %s", k.Name, k.Waiting, k.Trouble)
		}
		if k.Dead > 0 {
			return false, fmt.Sprintf("sink %s: %d deliveries were given up: %s", k.Name, k.Dead, k.Trouble)
		}
	}
	return true, ""
}

// told fails unless the receiver has every transition of every incident exactly
// once and in order, and Slack shows each incident as one message whose thread
// has one line a transition, in order.
func (d *daemon) told(t *testing.T, all []incident.Incident, r *receiver, slack *slackfake.Server) {
	t.Helper()
	d.toldWebhook(t, all, r)
	d.toldSlack(t, all, slack)
}

func (d *daemon) toldWebhook(t *testing.T, all []incident.Incident, r *receiver) {
	t.Helper()
	stories := r.stories()
	r.mu.Lock()
	for _, p := range r.problems {
		t.Errorf("webhook: %s", p)
	}
	r.mu.Unlock()
	for _, in := range all {
		line := d.timeline(t, in.ID)
		for i := range line {
			if line[i].Seq != i+1 {
				t.Errorf("incident %s: transition %d of its time line has number %d", in.ID, i+1, line[i].Seq)
			}
		}
		if got := stories[in.ID]; !reflect.DeepEqual(got, line) {
			t.Errorf("incident %s: the webhook was told\n%s\nwhat happened was\n%s", in.ID, show(got), show(line))
		}
		delete(stories, in.ID)
	}
	for id, s := range stories {
		t.Errorf("the webhook was told of an incident that there is not: %s\n%s", id, show(s))
	}
}

func (d *daemon) toldSlack(t *testing.T, all []incident.Incident, slack *slackfake.Server) {
	t.Helper()
	messages := map[string][]slackfake.Message{}
	for _, m := range slack.Messages() {
		id, _ := m.Payload["incident"].(string)
		messages[id] = append(messages[id], m)
	}
	for _, in := range all {
		line := d.timeline(t, in.ID)
		ms := messages[in.ID]
		delete(messages, in.ID)
		if len(ms) != 1 {
			t.Errorf("incident %s: Slack shows %d messages, want 1\n%s", in.ID, len(ms), show(line))
			continue
		}
		if n, _ := ms[0].Payload["seq"].(float64); int(n) != len(line) {
			t.Errorf("incident %s: Slack's message shows transition %v of %d", in.ID, ms[0].Payload["seq"], len(line))
		}
		var thread []int
		for _, m := range slack.Thread(ms[0].TS) {
			n, _ := m.Payload["seq"].(float64)
			thread = append(thread, int(n))
		}
		want := make([]int, len(line))
		for i := range want {
			want[i] = i + 1
		}
		if !slices.Equal(thread, want) {
			t.Errorf("incident %s: the lines of Slack's thread are of the transitions %v, want %v", in.ID, thread, want)
		}
	}
	for id := range messages {
		t.Errorf("Slack shows an incident that there is not: %q", id)
	}
}

func show(ts []incident.Transition) string {
	var b strings.Builder
	for _, t := range ts {
		s := t.Incident.Scope
		fmt.Fprintf(&b, "  %d %-8s %s  %s %s %s%s role=%s: %d of %d, %d people, marker %q, layer %s, %v\n", t.Seq, t.Kind, t.At.Format(time.TimeOnly), t.Incident.ID,
			t.Incident.Direction, s.Prefix, s.Route, s.Role, t.Incident.Denials, t.Incident.Requests, t.Incident.Identities, t.Incident.Marker, t.Incident.Layer, t.Incident.Vantages)
	}
	return b.String()
}

// found fails unless an incident explains the wall: its route and role, and
// nothing wider.
func found(t *testing.T, all []incident.Incident, w wall) *incident.Incident {
	t.Helper()
	for i := range all {
		in := &all[i]
		if in.Scope.Route == w.route && in.Scope.Role == w.role {
			return in
		}
	}
	var b strings.Builder
	for i := range all {
		fmt.Fprintf(&b, "  %s %s %+v\n", all[i].ID, all[i].State, all[i].Scope)
	}
	t.Errorf("no incident has the scope %s role=%s; there are\n%s", w.route, w.role, b.String())
	return nil
}
