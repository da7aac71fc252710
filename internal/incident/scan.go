package incident

import "time"

// Scan is a rise of refusals that was not worth an incident, because only a few
// identities, or ones that were never let in anywhere, are behind it. It is there
// to be read and is told to nobody.
type Scan struct {
	// Vantage is from where it was seen, Class the class of the refusals.
	Vantage string `json:"vantage"`
	Class   string `json:"class"`
	// Scope is the slice that explained the rise best.
	Scope Scope `json:"scope"`
	// From is the estimated onset, To the end of the last slot that showed it.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Requests and Denials are counted in the scope between them, over everybody.
	Requests int64 `json:"requests"`
	Denials  int64 `json:"denials"`
	// Identities are the distinct refused ones, Strangers those of them that were
	// never let in anywhere before, as far as is known.
	Identities int64 `json:"identities"`
	Strangers  int64 `json:"strangers"`
	// Routes is how many routes refused (64 and more are 64), TopRoute the one that
	// refused most, TopDenials how often.
	Routes     int    `json:"routes"`
	TopRoute   string `json:"top_route"`
	TopDenials int64  `json:"top_denials"`
}
