// Package incident holds what denywatch tells people: the incident, its scope
// and its transitions. The JSON form is the one of `replay --output jsonl`, the
// HTTP API and the generic webhook.
package incident

import (
	"encoding/json"
	"time"
)

// Direction is how a series left its baseline.
type Direction string

// The directions.
const (
	// Up: a broken wall, people are refused who used to get in.
	Up Direction = "up"
	// Down: a vanished wall, a door that should be locked stands open.
	Down Direction = "down"
	// New: a route nobody knew refuses from its first requests on.
	New Direction = "new"
)

// State is where an incident is in its life.
type State string

// The states.
const (
	Open     State = "open"
	Resolved State = "resolved"
)

// Resolution is how a resolved incident ended.
type Resolution string

// The resolutions.
const (
	// Recovered: what was expected before explains the traffic again.
	Recovered Resolution = "recovered"
	// Accepted: it lasted a day, or somebody said so, and what was an incident is the
	// new normal.
	Accepted Resolution = "accepted"
	// Dismissed: somebody said that it is not a problem and never was one.
	Dismissed Resolution = "dismissed"
	// Merged: somebody said that it is a part of another incident.
	Merged Resolution = "merged"
)

// ClassRefused is Incident.Class of plain refusals, 403 and 451 by default.
const ClassRefused = "refused"

// Severity is how urgent an incident is.
type Severity string

// The severities, from the mildest.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// NoRole is what a scope says of requests that do not name a dimension where
// others do, such as the anonymous ones beside those with a role. It may stand
// for a missing role, country, plan or host, in incidents and in the scopes of
// markers. Product roles must not be called so.
const NoRole = "_none"

// Scope is the smallest slice of traffic that explains an incident. An empty
// field means all, NoRole those that do not say. A prefix is written "/billing",
// a route as its template, a role and a country as logged.
type Scope struct {
	Service string `json:"service,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	Route   string `json:"route,omitempty"`
	Role    string `json:"role,omitempty"`
	Geo     string `json:"geo,omitempty"`
	Plan    string `json:"plan,omitempty"`
	Host    string `json:"host,omitempty"`
	Flag    string `json:"flag,omitempty"`
	Layer   string `json:"layer,omitempty"`
}

// Incident is findings with one cause, one scope and one life.
type Incident struct {
	// ID is a hash of service, scope, direction, onset and, unless it is refused,
	// class: the same input gives the same id.
	ID        string    `json:"id"`
	State     State     `json:"state"`
	Direction Direction `json:"direction"`
	// Class is the class of the refusals, which are judged apart: refused, soft,
	// unauthorized, payment, concealed or masked (event.Denial). It is refused too
	// for an incident whose refusals another vantage sees masked.
	Class string `json:"class"`
	// Statuses are the status codes that a refusal of the class may show to the client, in
	// ascending order; empty if that is not known, or if no status shows it.
	Statuses []int `json:"statuses,omitempty"`
	// Resolution is how it ended, empty while it is open.
	Resolution Resolution `json:"resolution,omitempty"`
	// OpenedAt is the end of the slot in which the evidence sufficed, StartedAt
	// the estimated onset, ResolvedAt the end of the slot in which recovery was
	// certain; all in event time.
	OpenedAt   time.Time  `json:"opened_at"`
	StartedAt  time.Time  `json:"started_at"`
	ResolvedAt *time.Time `json:"resolved_at"`
	Scope      Scope      `json:"scope"`
	// ExpectedRate and ObservedRate are shares of requests refused, 0..1, over
	// the incident's life so far and its scope.
	ExpectedRate float64 `json:"expected_rate"`
	ObservedRate float64 `json:"observed_rate"`
	// Requests and Denials are counted in the scope since StartedAt, Identities
	// and Accounts are distinct refused ones (exact while small, then +-1 %). They
	// are the ones that were let in if a door stands open that AccessRule keeps closed.
	Requests   int64 `json:"requests"`
	Denials    int64 `json:"denials"`
	Identities int64 `json:"identities"`
	Accounts   int64 `json:"accounts"`
	// AccessRule is the declared access rule that the incident breaks: people are refused
	// whom it lets in, or, with direction down, let in whom it keeps out. nil if it
	// breaks none.
	AccessRule *AccessRule `json:"access_rule,omitempty"`
	// UsedToGetIn is how many of Identities were let in on the route that refused
	// them, in slots before: up to two weeks ago, as far as memory reached. A few
	// in a thousand strangers are taken for known.
	UsedToGetIn int64 `json:"used_to_get_in"`
	// GotInAgain is how many of Identities were let in again in the scope, after
	// they were last refused, by the time recovery was certain; the others gave up
	// or have not come back yet. nil while the incident is open, for a vanished wall,
	// and where too many people were refused to tell. It may be too low where more
	// people are let in than can be told one by one.
	GotInAgain *int64 `json:"got_in_again,omitempty"`
	// Version is the only version of the application that refuses, while other
	// versions answer requests in the scope too; empty if that is not so or not known.
	Version string `json:"version,omitempty"`
	// Layer is who refused, by the innermost vantage that saw it.
	Layer string `json:"layer"`
	// Causes are the layers' own words, the most frequent first.
	Causes []string `json:"causes"`
	// Rules are the rules that refused, as the layers call them, the most frequent
	// first.
	Rules []RuleCount `json:"rules,omitempty"`
	// Marker is the id of the change the incident followed; MarkerInfo says
	// more about it for texts.
	Marker     string      `json:"marker"`
	MarkerInfo *MarkerInfo `json:"marker_info,omitempty"`
	// Fix is the id of the change that the recovery followed, FixInfo says more about it;
	// empty and nil while it is open, and if there was none.
	Fix      string      `json:"fix,omitempty"`
	FixInfo  *MarkerInfo `json:"fix_info,omitempty"`
	Severity Severity    `json:"severity"`
	// Team owns it by the configured rules, empty if none says so. Journey is the
	// configured one that it is in the way of, at step JourneyStep of JourneySteps
	// (from 1; 0 if no single step is meant).
	Team         string `json:"team"`
	Journey      string `json:"journey"`
	JourneyStep  int    `json:"journey_step,omitempty"`
	JourneySteps int    `json:"journey_steps,omitempty"`
	// Acknowledged is who looks after it, nil if nobody said so since it opened.
	// Silenced is who keeps it quiet until when, nil while it is told.
	Acknowledged *Act `json:"acknowledged,omitempty"`
	Silenced     *Act `json:"silenced,omitempty"`
	// Merged are the incidents that somebody made a part of this one, in that order: the
	// numbers are of all. MergedInto is the id of the one that this is a part of.
	Merged     []Part `json:"merged,omitempty"`
	MergedInto string `json:"merged_into,omitempty"`
	// Flapping is how often it opened within an hour, set while nothing is told of it
	// until it has been steady for a while; else 0.
	Flapping int `json:"flapping,omitempty"`
	// Vantages are those that saw it, the one that numbers it first.
	Vantages []string `json:"vantages"`
	// Contrast names slices beside the scope that are fine, with their rates.
	Contrast []Contrast `json:"contrast,omitempty"`
	// Degraded tells that a bound bit (folded keys, sampled hits, partial slots).
	Degraded bool `json:"degraded,omitempty"`
	// Estimated tells that a line of the log may stand for several requests: Requests,
	// Denials and those of Rules say what happened as far as the sample shows, while
	// people are only those who were seen.
	Estimated bool `json:"estimated,omitempty"`
}

// Part is an incident that is a part of another.
type Part struct {
	ID    string `json:"id"`
	Scope Scope  `json:"scope"`
}

// AccessRule is a declared rule of the access model. Empty lists mean all.
type AccessRule struct {
	// Text is the rule in one line, such as "allow /billing/** role=owner,admin".
	Text string `json:"text"`
	// Allow tells that the rule lets people in; else it keeps them out.
	Allow   bool     `json:"allow"`
	Routes  []string `json:"routes"`
	Methods []string `json:"methods,omitempty"`
	Roles   []string `json:"roles,omitempty"`
	Plans   []string `json:"plans,omitempty"`
	Geos    []string `json:"geos,omitempty"`
	Flags   []string `json:"flags,omitempty"`
	// Hint says what to do next, in the team's own words; may be empty.
	Hint string `json:"hint,omitempty"`
}

// MarkerInfo describes the change an incident followed.
type MarkerInfo struct {
	Kind     string    `json:"kind"`
	Time     time.Time `json:"time"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Previous string    `json:"previous,omitempty"`
}

// RuleCount is a rule that refused: of a firewall, a limit, an access policy.
type RuleCount struct {
	// Cause is the class of the refusals, one of those in Incident.Causes or empty.
	Cause string `json:"cause,omitempty"`
	// Name is the layer's own word, bounded and printable, but not trustworthy.
	Name string `json:"name"`
	// Denials are those since Incident.StartedAt in its scope.
	Denials int64 `json:"denials"`
}

// Contrast is a neighbouring slice that shows what is not affected.
type Contrast struct {
	Scope        Scope   `json:"scope"`
	ExpectedRate float64 `json:"expected_rate"`
	ObservedRate float64 `json:"observed_rate"`
	Requests     int64   `json:"requests"`
}

// Kind is what happened to an incident.
type Kind string

// The kinds of transition.
const (
	Opened       Kind = "opened"
	Grew         Kind = "grew"
	ResolvedKind Kind = "resolved"
	Reopened     Kind = "reopened"
	// Acknowledged: somebody looks after it.
	Acknowledged Kind = "acknowledged"
	// Silenced: nothing of it is told for a while but its end. Unsilenced: that is
	// over.
	Silenced   Kind = "silenced"
	Unsilenced Kind = "unsilenced"
	// Assigned: another team owns it now.
	Assigned Kind = "assigned"
	// MergedKind: another incident became a part of it. Split: it no longer is.
	MergedKind Kind = "merged"
	Split      Kind = "split"
	// Escalated: nobody acknowledged it in time, and more people are told.
	Escalated Kind = "escalated"
)

// Verb is what a person can do to an incident.
type Verb string

// The verbs.
const (
	// Acknowledge: I look after it.
	Acknowledge Verb = "acknowledge"
	// Silence: tell nothing of it for a while but its end. Unsilence takes it back.
	Silence   Verb = "silence"
	Unsilence Verb = "unsilence"
	// Accept: this is the new normal.
	Accept Verb = "accept"
	// Dismiss: this is not a problem and never was one.
	Dismiss Verb = "dismiss"
	// Reopen: it is not over, or was a problem after all. It takes back Accept and
	// Dismiss, for a day, and Merge.
	Reopen Verb = "reopen"
	// Merge: it is a part of another incident.
	Merge Verb = "merge"
)

// Verbs lists all verbs.
var Verbs = []Verb{Acknowledge, Silence, Unsilence, Accept, Dismiss, Reopen, Merge}

// Silencing keeps an incident, or all in a scope, from being told for a while.
type Silencing struct {
	// ID is unique; of the silence of one incident it is the incident's id.
	ID string `json:"id"`
	// Incident is the id of the incident it is for; empty for one of Scope. A prefix of
	// the scope holds all below it, its route may be a pattern such as /billing/**.
	Incident string `json:"incident,omitempty"`
	Scope    *Scope `json:"scope,omitempty"`
	// Act is who silenced it, and until when.
	Act Act `json:"act"`
}

// Act is what a person decided about an incident.
type Act struct {
	// By names the person as the place knows them where they did it: a Slack user's
	// name, the name of a configured token; empty for a program on the daemon's host.
	// ID is their id there, if they have one. Both are to be cleaned before they are
	// shown.
	By string `json:"by,omitempty"`
	ID string `json:"id,omitempty"`
	// Via is where: "slack", "api", ...
	Via string `json:"via"`
	// At is when, by the wall clock; whoever takes the act sets it.
	At time.Time `json:"at"`
	// Other is the other incident's id, where one is merged into another or split off it.
	Other string `json:"other,omitempty"`
	// Until is when a silence ends by itself; zero for every other act.
	Until time.Time `json:"until,omitzero"`
}

// Transition is one step in an incident's life, with the incident as it was
// right after it. (Incident.ID, Seq) is unique and ordered from 1.
type Transition struct {
	Seq      int       `json:"seq"`
	Kind     Kind      `json:"kind"`
	At       time.Time `json:"at"`
	Incident Incident  `json:"incident"`
	// Act is what a person did; nil if it happened by itself.
	Act *Act `json:"act,omitempty"`
	// Words are texts of the team's own making; nil if all are the default ones.
	Words *Words `json:"words,omitempty"`
}

// Words are texts that configured templates wrote, cleaned plain text on one line. An
// empty one stands for the default.
type Words struct {
	Headline string `json:"headline,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Next     string `json:"next,omitempty"`
}

// Encode returns the transition's canonical JSON.
func (t *Transition) Encode() ([]byte, error) { return json.Marshal(t) }
