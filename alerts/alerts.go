// Package alerts tells people: it renders incident transitions, decides which
// sinks get them and delivers them through a durable outbox. Children implement
// Notifier for one kind of sink each.
package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Delivery is one transition on its way to one sink.
type Delivery struct {
	// Key is unique for ever: sink, incident id and transition number. It is the
	// idempotency key towards sinks that know one.
	Key string `json:"key"`
	// Sink is the configured name of the sink.
	Sink       string              `json:"sink"`
	Transition incident.Transition `json:"transition"`
	// Attempts counts the tries so far. Uncertain is set while a try is under
	// way and stays set when the process dies in it: the sink may or may not
	// have got the delivery.
	Attempts  int    `json:"attempts"`
	Uncertain bool   `json:"uncertain,omitempty"`
	LastError string `json:"last_error,omitempty"`
	// Memory is what the sink remembered of this incident from earlier
	// deliveries (a message's address); nil at first.
	Memory json.RawMessage `json:"-"`
}

// Notifier delivers to one sink. It is safe for concurrent use, but the outbox
// calls it for one incident at a time, in the order of the transitions.
type Notifier interface {
	// Notify delivers d once. If d.Uncertain is set it finds out first whether
	// an earlier try got through, where the sink can tell. It returns what the
	// sink is to remember for the incident's next delivery (nil: keep the old).
	// Errors are *Error where the kind is known; any other error is temporary.
	Notify(ctx context.Context, d *Delivery) (memory json.RawMessage, err error)
}

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

// Error is a failed delivery with what to do about it.
type Error struct {
	Kind ErrorKind
	// RetryAfter is how long the sink asked to wait; 0 when it did not say.
	RetryAfter time.Duration
	Err        error
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
