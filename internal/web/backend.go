package web

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// Errors that a Backend's methods wrap.
var (
	// ErrConflict means that the marker's id is known with other content.
	ErrConflict = errors.New("the marker's id is known with other content")
	// ErrNotFound means that there is nothing of that id.
	ErrNotFound = errors.New("not found")
	// ErrOver means that the incident is over, so that nothing is left to be decided.
	ErrOver = errors.New("only open incidents can be changed")
	// ErrUnfit means that what was asked for cannot be done to this incident.
	ErrUnfit = errors.New("nothing was changed")
	// ErrStopping means that the daemon is being stopped and answers nothing any more.
	ErrStopping = errors.New("denywatch is stopping")
	// ErrNotSendable means that a dead letter cannot be sent again.
	ErrNotSendable = errors.New("it can only be dropped")
	// ErrBadSilence means that a silence can not be as it was asked for.
	ErrBadSilence = errors.New("give it a scope, and how long it lasts")
)

// Backend is what the API stands on; package app implements it. Its methods are
// called concurrently, must return soon after ctx ends, and return values that
// nobody changes afterwards.
type Backend interface {
	// Incidents returns all incidents that are known, the open ones first, each
	// part with the newest first.
	Incidents(ctx context.Context) ([]incident.Incident, error)
	// Timeline returns the transitions of one incident in order. The error is
	// ErrNotFound if there is no such incident.
	Timeline(ctx context.Context, id string) ([]incident.Transition, error)
	// Trace returns what an incident looked like over time. The error is ErrNotFound if
	// there is no such incident, or it ended too long ago.
	Trace(ctx context.Context, id string) (incident.Trace, error)
	// Chart returns a picture of Trace as a PNG, which nobody changes. The error is
	// ErrNotFound as for Trace, and if there is nothing to draw.
	Chart(ctx context.Context, id string) ([]byte, error)
	// Markers returns all markers that are known, in any order.
	Markers(ctx context.Context) ([]marker.Marker, error)
	// Mark takes a normalised marker. When it returns without error the marker is
	// durable. The error is ErrConflict if the id is known with other content.
	Mark(ctx context.Context, m marker.Marker) (Marked, error)
	// Verdict says what came of a marker. The error is ErrNotFound if no marker of
	// that id is known.
	Verdict(ctx context.Context, id string) (marker.Verdict, error)
	// Act does what a person decided about an incident; the act's time is set by the
	// backend. When it returns without error it is durable; doing it again changes
	// nothing. The error is ErrNotFound, ErrOver, ErrUnfit or, for a silence,
	// ErrBadSilence; its text is for that person.
	Act(ctx context.Context, id string, verb incident.Verb, act incident.Act) error
	// Silences returns the silences that hold, the one that ends first in front.
	Silences(ctx context.Context) ([]incident.Silencing, error)
	// Silence silences a scope until act.Until, durably. The error is ErrBadSilence.
	Silence(ctx context.Context, scope incident.Scope, act incident.Act) (incident.Silencing, error)
	// Unsilence takes a silence back, durably. The error is ErrNotFound or ErrOver.
	Unsilence(ctx context.Context, id string, act incident.Act) error
	// DeadLetters returns the notifications that were given up, the oldest first.
	DeadLetters(ctx context.Context) ([]DeadLetter, error)
	// Resend lets a dead letter be tried again, Drop forgets it, durably. The error is
	// ErrNotFound, or of Resend ErrNotSendable.
	Resend(ctx context.Context, id string) error
	Drop(ctx context.Context, id string) error
	// Who tells where the person or, with account, the account of that keyed hash was
	// refused.
	Who(ctx context.Context, hash uint64, account bool) (Refused, error)
	// Scans returns the suspected scans that are remembered, the oldest first.
	Scans(ctx context.Context) ([]incident.Scan, error)
	// Routes returns how many events were counted.
	Routes(ctx context.Context) ([]RouteCount, error)
	// Access returns the learned access matrix by vantage, service, route and role.
	Access(ctx context.Context) ([]Door, error)
	// Status says how the daemon is doing.
	Status(ctx context.Context) (Status, error)
	// WriteMetrics writes metrics in the Prometheus text format. It must not
	// block on anything but w.
	WriteMetrics(w io.Writer)
}

// DeadLetter is a notification that was given up.
type DeadLetter struct {
	ID   string `json:"id"`
	Sink string `json:"sink"`
	// Target is the place within the sink, empty for its own.
	Target string `json:"target,omitempty"`
	// Incident is the id of the incident it is about, empty for a digest; What is its
	// headline.
	Incident string `json:"incident,omitempty"`
	What     string `json:"what"`
	// QueuedAt is when it was to be told, At when it was given up after so many
	// Attempts, and for what Reason.
	QueuedAt time.Time `json:"queued_at,omitzero"`
	At       time.Time `json:"at"`
	Attempts int       `json:"attempts"`
	Reason   string    `json:"reason"`
	// Sendable tells that it can be sent again.
	Sendable bool `json:"sendable"`
}

// Refused is where somebody was refused, as far as is remembered.
type Refused struct {
	// Since is how far back memory reaches; zero if nobody is remembered at all.
	Since time.Time `json:"since,omitzero"`
	// RulesSince is the same for refusals that the declared access rules ask for.
	RulesSince time.Time `json:"rules_since,omitzero"`
	// Incomplete tells that in some minute more were refused than could be remembered.
	Incomplete bool `json:"incomplete,omitempty"`
	// Refusals are by place and reason, the latest first.
	Refusals []Refusal `json:"refusals"`
}

// Refusal is how often somebody was refused in one place for one reason.
type Refusal struct {
	Vantage string `json:"vantage"`
	Service string `json:"service"`
	Route   string `json:"route"`
	Role    string `json:"role"`
	Geo     string `json:"geo"`
	// Class is the class of the refusals, Layer who refused, Cause its own word.
	// It is valid if Rule, a declared access rule, asks for them.
	Class string `json:"class"`
	Layer string `json:"layer"`
	Cause string `json:"cause"`
	Rule  string `json:"rule,omitempty"`
	// From and To are the first and the last, to a slot's length.
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Denials uint64    `json:"denials"`
	// Incidents are the ids of those that the refusals were a part of.
	Incidents []string `json:"incidents"`
}

// Marked is what became of a marker.
type Marked struct {
	// Known tells that the same marker was taken before.
	Known bool
	// ProbationUntil is when the probation after the marker ends, in event time;
	// zero if the marker opens none.
	ProbationUntil time.Time
}

// Door is one route for one role: who gets in, as one vantage sees it. Counts fade with
// a half-life of two days and lag by half an hour or more.
type Door struct {
	Vantage string `json:"vantage"`
	Service string `json:"service"`
	Route   string `json:"route"`
	// Role is "_none" for requests without one.
	Role string `json:"role"`
	// State is lets_in, keeps_out, mixed or unknown.
	State string `json:"state"`
	// Requests and how many of them were Refused; with 95 % certainty the share lies
	// between Low and High.
	Requests float64 `json:"requests"`
	Refused  float64 `json:"refused"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	// Of the refused, Valid ones are asked for by the declared access rules and Broken
	// ones are against them; Leaked requests were let in against them.
	Valid  float64 `json:"valid"`
	Broken float64 `json:"broken"`
	Leaked float64 `json:"leaked"`
}

// RouteCount is how many events with one status column one route had, since
// Status.Since.
type RouteCount struct {
	Vantage string `json:"vantage"`
	Service string `json:"service"`
	Route   string `json:"route"`
	// Status is the column's name: 2xx, 403, ... as package tally has them.
	Status string `json:"status"`
	Count  uint64 `json:"count"`
}

// Status is how the daemon is doing.
type Status struct {
	// Ready tells that logs are read and incidents can be told.
	Ready bool `json:"ready"`
	// Problems says what is wrong and how to mend it, one sentence each. There
	// may be some although the daemon is ready.
	Problems []string       `json:"problems"`
	Sources  []SourceStatus `json:"sources"`
	Sinks    []SinkStatus   `json:"sinks"`
	// Since is when counting began: the birth of the state, not of the process.
	Since   time.Time `json:"since,omitzero"`
	Version string    `json:"version"`
	// LastCut is when the state was last made durable; zero if never yet.
	LastCut time.Time `json:"last_cut,omitzero"`
	// Cluster is how this member of a cluster is doing; nil where there is none.
	Cluster *ClusterStatus `json:"cluster,omitempty"`
}

// ClusterStatus is how one member of a cluster is doing.
type ClusterStatus struct {
	// Member is its name, Role is starting, standby or active.
	Member string `json:"member"`
	Role   string `json:"role"`
	// Active is the member that is active, as far as this one knows; empty if none.
	Active string `json:"active,omitempty"`
	// Epoch counts the takeovers, Cut the updates since the last one that this
	// member's copy of the state holds; Behind is how many records are missing to it.
	Epoch  uint64 `json:"epoch"`
	Cut    uint64 `json:"cut"`
	Behind int64  `json:"behind"`
	// SilentSeconds is how long nothing was heard of the active member.
	SilentSeconds float64 `json:"silent_seconds"`
}

// SourceStatus is how one source is doing. Counts are since Status.Since.
type SourceStatus struct {
	Name    string `json:"name"`
	Vantage string `json:"vantage"`
	// Format is the log's format, "auto" until it is recognised.
	Format string `json:"format"`
	// Streams is how many files or partitions are followed now.
	Streams int    `json:"streams"`
	Lines   uint64 `json:"lines"`
	// Unparsed lines could not be understood; Late ones came after their slot was
	// closed and are counted, but neither judged nor learned.
	Unparsed uint64 `json:"unparsed"`
	Late     uint64 `json:"late"`
	// Skipped lines are well-formed but no requests. Reasons counts them and the
	// unparsed ones by a short word each.
	Skipped uint64            `json:"skipped"`
	Reasons map[string]uint64 `json:"reasons,omitempty"`
	// SuspendedSince is the event time since which the source is not judged because
	// too few of its lines are understood; missing while it is judged.
	SuspendedSince time.Time `json:"suspended_since,omitzero"`
	// LagSeconds is how far the newest line that was read lies behind now.
	LagSeconds float64 `json:"lag_seconds"`
	// Push is set for a source that is pushed to, Syslog for one that listens for
	// syslog messages, Spool for both.
	Push   *PushStatus   `json:"push,omitempty"`
	Syslog *SyslogStatus `json:"syslog,omitempty"`
	Spool  *SpoolStatus  `json:"spool,omitempty"`
	// Trouble says why the source cannot be read, and how to mend it.
	Trouble string `json:"trouble,omitempty"`
}

// PushStatus is how a source is doing that is pushed to. Counts are since its start.
type PushStatus struct {
	// Batches were taken, Duplicates were sent again and known.
	Batches    uint64 `json:"batches"`
	Duplicates uint64 `json:"duplicates"`
	// Rejected counts what was not taken, by a short word each.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
	// LastBatch is when the last batch came; missing if none did.
	LastBatch time.Time `json:"last_batch,omitzero"`
}

// SyslogStatus is how a source is doing that listens for syslog messages. Counts are
// since its start.
type SyslogStatus struct {
	// Messages were taken, Dropped ones were not, by a short word each.
	Messages uint64            `json:"messages"`
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
	// Connections is how many are open.
	Connections int64 `json:"connections"`
}

// SpoolStatus is what is kept on the disk of a source that cannot be read again.
type SpoolStatus struct {
	// Bytes is its size, UnreadBytes how much of it waits to be counted.
	Bytes       int64 `json:"bytes"`
	UnreadBytes int64 `json:"unread_bytes"`
	// MaxBytes is the bound at which senders are told to try again.
	MaxBytes int64 `json:"max_bytes"`
	// Damaged batches could not be read back.
	Damaged uint64 `json:"damaged,omitempty"`
}

// SinkStatus is how one sink is doing.
type SinkStatus struct {
	Name string `json:"name"`
	// State is ok, retrying, misconfigured or unrecorded, as package alerts has
	// them.
	State string `json:"state"`
	// Waiting is how many deliveries wait, Dead how many were given up.
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
	// Trouble is the last failure since the last success.
	Trouble string `json:"trouble,omitempty"`
}
