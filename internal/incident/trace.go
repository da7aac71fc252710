package incident

import "time"

// MaxPoints bounds the points of a trace.
const MaxPoints = 240

// Trace is what an incident's scope looked like over time, from some hours before the
// onset until now, or until it ended. Times without requests have no point: nothing is
// known of them.
type Trace struct {
	// Incident is the incident as it is now.
	Incident Incident `json:"incident"`
	// Points are at most MaxPoints, the oldest first. They need not be of one length.
	Points []Point `json:"points"`
	// Markers are changes that concern the scope, by time; the last 20.
	Markers []TraceMarker `json:"markers,omitempty"`
}

// Point is what was counted in one step of time.
type Point struct {
	// Time is the beginning of the step, Seconds its length.
	Time    time.Time `json:"time"`
	Seconds int64     `json:"seconds"`
	// Counted tells that these requests are among the incident's: the sums over all
	// such points are Incident.Requests and Incident.Denials.
	Counted  bool  `json:"counted"`
	Requests int64 `json:"requests"`
	Denials  int64 `json:"denials"`
	// Expected is the share of requests that is normally refused, 0..1; while nothing
	// is wrong it lies between Low and High 95 times in 100.
	Expected float64 `json:"expected"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
}

// TraceMarker is a change within the time of a trace.
type TraceMarker struct {
	ID string `json:"id"`
	MarkerInfo
}
