// Package alerts tells people: it renders incident transitions in plain words
// and delivers them to sinks through a durable outbox. Children implement
// Notifier for one kind of sink each.
//
// What it promises: a transition that was committed together with the cut that
// made it reaches every sink, in the order of the incident's life, over
// restarts, crashes and outages; exactly once where the sink can tell that it
// has a delivery already, at least once elsewhere. One sink's trouble never
// holds up another. No text holds anything that was logged but templates, codes
// and counts, and those are cleaned and cut.
//
// # What a sink is asked
//
// A delivery names its place: Delivery.Target, or the sink's own if that is empty.
// Order, retries and what a sink remembers of an incident (Delivery.Memory) are per
// place, so one sink can serve many channels. A sink shows every incident.Kind: it
// brings its message to Delivery.Transition.Incident as a whole, and may add
// Text.Step as a line of the time line. The first delivery to a place need not be an
// opening, for people are told late, too: a new owner, someone it escalates to.
package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Dest is a place that is told: a target at a sink.
type Dest struct {
	// Sink is the configured name of the sink.
	Sink string `json:"sink"`
	// Target is where within the sink, in the sink's own words and no secret: a Slack
	// channel ("#name" or id), e-mail addresses separated by commas. Empty stands for
	// the sink's own place. Sinks with a secret for each place (a routing key) are one
	// sink for each instead.
	Target string `json:"target,omitempty"`
}

// Delivery is one transition, or one post, on its way to one place.
type Delivery struct {
	// Key is unique for ever: sink, incident id and transition number (or a post's
	// id), and the target if there is one. It is the idempotency key towards sinks
	// that know one.
	Key string `json:"key"`
	Dest
	// Mention are those to be called by name beside the place itself, in the sink's own
	// words: at Slack ids of user groups (S...) and users (U..., W...). It is set on
	// few deliveries of an incident: its opening, and when it gets worse.
	Mention    []string            `json:"mention,omitempty"`
	Transition incident.Transition `json:"transition"`
	// Post is a text to be delivered instead of a transition, which is zero then; only
	// sinks that are a Poster get one.
	Post *Post `json:"post,omitempty"`
	// Seq orders the deliveries of one outbox; Outbox.Enqueue sets it.
	Seq uint64 `json:"seq"`
	// QueuedAt is when, by the wall clock, the delivery was queued. No try can
	// have happened before it.
	QueuedAt time.Time `json:"queued_at"`
	// ResentAt is when somebody took it out of the dead letters to be tried again; zero
	// if nobody did.
	ResentAt time.Time `json:"resent_at,omitzero"`
	// Attempts counts the tries so far. Uncertain is set while a try is under
	// way and stays set when it ended without an answer or the process died in
	// it: the sink may or may not have got the delivery.
	Attempts  int    `json:"attempts"`
	Uncertain bool   `json:"uncertain,omitempty"`
	LastError string `json:"last_error,omitempty"`
	// Memory is what the sink remembered of this incident from earlier
	// deliveries (a message's address); nil at first.
	Memory json.RawMessage `json:"-"`
	// URL is where the incident is to be seen, Chart where its picture is; empty where
	// Options.Site is. The outbox sets them for each try.
	URL   string `json:"-"`
	Chart string `json:"-"`
}

// Post is a text that is no step of an incident: a digest, many incidents in one
// message. All its texts are cleaned plain text in whole lines, without markup; a sink
// escapes all of them.
type Post struct {
	// ID is unique for ever. The same id always means the same post.
	ID       string    `json:"id"`
	At       time.Time `json:"at"`
	Headline string    `json:"headline"`
	Parts    []Part    `json:"parts,omitempty"`
}

// Part is lines of a post under a title; without a title they follow the headline.
type Part struct {
	Title string   `json:"title,omitempty"`
	Lines []string `json:"lines"`
}

// storeKey is the delivery's key in the outbox bucket: it sorts like Seq.
func (d *Delivery) storeKey() string { return fmt.Sprintf("%020d", d.Seq) }

// lane is the queue that d waits in: of its incident, or its post, at its target.
func (d *Delivery) lane() string {
	id := d.Transition.Incident.ID
	if d.Post != nil {
		id = d.Post.ID
	}
	if d.Target != "" {
		id += "/" + d.Target
	}
	return id
}

// NewDelivery returns t on its way to a place. It is a pure function;
// Outbox.Enqueue makes it durable.
func NewDelivery(t incident.Transition, to Dest, mention ...string) Delivery {
	return Delivery{Key: to.key(t.Incident.ID + "/" + strconv.Itoa(t.Seq)), Dest: to, Transition: t, Mention: mention}
}

// NewPost returns p on its way to a place, whose sink must be a Poster.
func NewPost(p *Post, to Dest, mention ...string) Delivery {
	return Delivery{Key: to.key(p.ID), Dest: to, Post: p, Mention: mention}
}

func (to Dest) key(what string) string {
	if to.Target != "" {
		what += "/" + to.Target
	}
	return to.Sink + "/" + what
}

// maxSinkName bounds a sink's name: it becomes part of keys and metric labels.
const maxSinkName = 64

// ValidateSinkName checks a sink's configured name: 1 to 64 of a-z, 0-9, '-' and
// '_'. The name becomes part of delivery keys, HTTP headers and metric labels.
func ValidateSinkName(name string) error {
	if name == "" || len(name) > maxSinkName {
		return fmt.Errorf("a sink's name must have 1 to %d characters", maxSinkName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return errors.New("a sink's name may hold only a-z, 0-9, '-' and '_'")
		}
	}
	return nil
}

// Notifier delivers to one sink. It is safe for concurrent use, but the outbox
// calls it for one incident at a time, in the order of the transitions.
type Notifier interface {
	// Notify delivers d once and does not change it. If d.Uncertain is set it
	// finds out first whether an earlier try got through, where the sink can
	// tell.
	//
	// It returns what the sink is to remember for the incident's next try or
	// delivery (nil: keep the old). A memory beside an error is kept as well: it
	// tells how far the delivery came. Errors are *Error where the kind is
	// known; any other error is temporary and leaves the delivery uncertain.
	// Errors hold no secrets and nothing that was logged; they are stored and
	// shown.
	Notify(ctx context.Context, d *Delivery) (memory json.RawMessage, err error)
}

// Worse reports whether a severity is more urgent than another.
func Worse(s, than incident.Severity) bool {
	return slices.Index(incident.Severities, s) > slices.Index(incident.Severities, than)
}

// Poster is a Notifier whose sink shows texts to people, so that it takes posts too.
type Poster interface {
	Notifier
	// Post delivers d.Post, which is not nil, on the terms of Notify. What it returns
	// to be remembered is for further tries of the same post only.
	Post(ctx context.Context, d *Delivery) (memory json.RawMessage, err error)
}

// Refresher is a Notifier whose sink forgets what it is not told again.
type Refresher interface {
	Notifier
	// Refresh tells the sink again what it was told of each incident. The outbox calls
	// it every RefreshEvery, beside Notify; memories returns what Notify returned to be
	// remembered, as of the call. A failure is logged and tried again the next time.
	Refresh(ctx context.Context, memories func() []json.RawMessage) error
}

// RefreshEvery is how often a Refresher tells its sink again.
const RefreshEvery = time.Minute

// Tester is a Notifier that can show that it works before there is anything to tell.
type Tester interface {
	Notifier
	// Test sends a message that says that it is a test to a place (Dest.Target), and takes
	// it back where the sink can. It returns what worked, in words; the error says all
	// that did not, and how to mend each.
	Test(ctx context.Context, target string) (did string, err error)
}

// TestText is what the message of a test says.
const TestText = "This is a test of denywatch: incidents are told here. There is nothing to do."

// ErrorKind says what to do about a failed delivery.
type ErrorKind uint8

// The kinds of failure.
const (
	// Temporary failures are tried again with back-off.
	Temporary ErrorKind = iota
	// Permanent failures of this one delivery (malformed, too large): it goes to
	// the dead letters.
	Permanent
	// Misconfigured means that the sink refuses everything until someone mends
	// its configuration (token revoked, channel not found). Deliveries wait,
	// with long back-off, and /readyz says so.
	Misconfigured
)

// String returns the name used in logs and metrics.
func (k ErrorKind) String() string {
	switch k {
	case Temporary:
		return "temporary"
	case Permanent:
		return "permanent"
	case Misconfigured:
		return "misconfigured"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is a failed delivery with what to do about it.
type Error struct {
	Kind ErrorKind
	// RetryAfter is how long the sink asked to wait; 0 when it did not say. The
	// outbox holds back everything for the sink for that long.
	RetryAfter time.Duration
	// Refused means that it is certain that this try left nothing at the sink
	// beyond what the returned memory tells: the sink said no, or was never
	// reached. After any other failure the next try has Uncertain set.
	Refused bool
	Err     error
}

// Error implements error.
func (e *Error) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("%v (retry after %v)", e.Err, e.RetryAfter)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
