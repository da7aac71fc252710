package marker

import (
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Outcome is what is said of a change in one word, for tools that roll out.
type Outcome string

// The outcomes.
const (
	// Pending: the probation runs and nothing was found yet.
	Pending Outcome = "pending"
	// Pass: the probation is over, nothing was found, and what matters would have
	// been.
	Pass Outcome = "pass"
	// Fail: an incident began in the marker's scope during its probation, or names
	// the marker. It is said as soon as there is one and stays, whatever becomes of
	// the incident.
	Fail Outcome = "fail"
	// NotEnoughData: the probation is over and nothing was found, but too little was
	// seen to be sure.
	NotEnoughData Outcome = "not_enough_data"
)

// Verdict is what came of a change, with the evidence. Its JSON form is that of
// GET /v1/markers/{id}/verdict. All times are in event time, in UTC.
type Verdict struct {
	Verdict Outcome `json:"verdict"`
	// OK tells that nothing was found and what was seen suffices: true with Pass, and
	// while Pending as soon as it would be a Pass. It may become false again.
	OK bool `json:"ok"`
	// Reason is the verdict in one sentence.
	Reason string `json:"reason"`
	Marker Marker `json:"marker"`
	// Until is when the probation ends or ended. It is prolonged, by at most four
	// hours, while something may be rising.
	Until time.Time `json:"until"`
	// Incidents are those that make it fail, the earliest first; at most 20.
	Incidents []Broken `json:"incidents"`
	// Evidence is what was counted in the marker's scope, by vantage, service and
	// class of refusals.
	Evidence []Evidence `json:"evidence"`
	// Earlier are the last markers before this one of the same service and kind whose
	// probation is over, the latest first; at most 5.
	Earlier []Earlier `json:"earlier"`
	// Suspended names sources that are not judged now because their lines are not
	// understood; what they would have told is missing.
	Suspended []string `json:"suspended,omitempty"`
	// Degraded tells that there was more to count than is kept.
	Degraded bool `json:"degraded,omitempty"`
}

// Broken is an incident in a verdict, in short.
type Broken struct {
	ID        string             `json:"id"`
	State     incident.State     `json:"state"`
	Direction incident.Direction `json:"direction"`
	Class     string             `json:"class"`
	Scope     incident.Scope     `json:"scope"`
	StartedAt time.Time          `json:"started_at"`
	// Identities are the people refused, UsedToGetIn those of them who got in before.
	Identities  int64 `json:"identities"`
	UsedToGetIn int64 `json:"used_to_get_in"`
	// Marker is the change that the incident names: the latest one before it.
	Marker string `json:"marker"`
}

// Evidence is what one vantage saw of one class of refusals at one service, in the
// marker's scope.
type Evidence struct {
	Vantage string `json:"vantage"`
	Service string `json:"service,omitempty"`
	Class   string `json:"class"`
	// Since are the counts from the marker on.
	Since Counts `json:"since"`
	// ExpectedDenials is how many of the same requests would usually have been
	// refused, at these hours and by the mix of routes, roles and countries.
	ExpectedDenials float64 `json:"expected_denials"`
	// Before are the counts of the hour before the marker, as far as it is remembered.
	Before Counts `json:"before"`
	// Identities are the distinct people refused since the marker.
	Identities int64 `json:"identities"`
	// Valid are the refusals since that declared access rules ask for; they are not
	// in Denials, and their requests are not in Requests.
	Valid int64 `json:"valid,omitempty"`
	// Slots is how many slots had data since, PartialSlots how many of them were not
	// complete or came without a source that is suspended.
	Slots        int `json:"slots"`
	PartialSlots int `json:"partial_slots,omitempty"`
	// Power is the probability, 0..1, that a wall of the smallest size that matters
	// would have been seen by now had it come with the marker: one that refuses a
	// tenth of the scope's requests that used to pass, or that makes refusals three
	// times as likely, whichever is more. Of plain refusals only.
	Power float64 `json:"power"`
	// Covered is the share, 0..1, of the scope's usual traffic on routes, role by
	// role, that were asked for enough to have shown a wall that refuses half. Of
	// plain refusals only.
	Covered float64 `json:"covered"`
	// Uncovered are the busiest of the others; at most 5.
	Uncovered []Uncovered `json:"uncovered,omitempty"`
}

// Counts are requests and refusals in a time.
type Counts struct {
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`
	Requests int64     `json:"requests"`
	Denials  int64     `json:"denials"`
}

// Uncovered is a slice of which too little was seen since a marker.
type Uncovered struct {
	Scope incident.Scope `json:"scope"`
	// Share is its part of the usual traffic in the marker's scope, 0..1.
	Share float64 `json:"share"`
	// Requests are those since the marker, without repeated refusals of the same
	// people.
	Requests int64 `json:"requests"`
}

// Earlier is an earlier change of the same service, to compare with: what the
// innermost vantage saw of plain refusals in its probation.
type Earlier struct {
	ID              string    `json:"id"`
	Version         string    `json:"version,omitempty"`
	Time            time.Time `json:"time"`
	Verdict         Outcome   `json:"verdict"`
	Requests        int64     `json:"requests"`
	Denials         int64     `json:"denials"`
	ExpectedDenials float64   `json:"expected_denials"`
	Identities      int64     `json:"identities"`
}
