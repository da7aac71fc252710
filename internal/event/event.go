// Package event holds the one normalised request that every log line becomes,
// and the small vocabularies (vantage, layer, denial class) that the whole
// program shares. It imports nothing of the project.
package event

import (
	"fmt"
	"math"
)

// Event is one request as a log line tells it. Parsers fill it, the collector
// normalises and counts it.
//
// All byte slices are views of the line (or of the parser's scratch space): they
// die with the next Parse or with the batch, whichever comes first. Who keeps
// one must copy it. An empty slice means that the line does not say.
type Event struct {
	// Time is when the log says the request happened, nanoseconds since the
	// Unix epoch, UTC. NoTime when the line has none.
	Time int64
	// Service names the product the request belongs to; empty: the source's.
	Service []byte
	// Host is the virtual host the client asked for.
	Host []byte
	// Method is the request method as written.
	Method []byte
	// Path is the request target as logged: undecoded, query string and
	// absolute-form prefix included. internal/route cuts it.
	Path []byte
	// Route is the application's own template for the path, where it logs one.
	Route []byte
	// Status is the answer the client got; 0 when the line does not say.
	Status uint16
	// UpstreamStatus is the last status the next server in (application,
	// origin) gave. It is 0 when Upstream is not UpstreamAnswered.
	UpstreamStatus uint16
	// Upstream says whether the line knows of a server further in.
	Upstream Upstream
	// OriginalStatus is the server's own first answer, where an error page or an
	// internal redirect replaced it by Status (Apache's %<s); 0 when the line does
	// not say.
	OriginalStatus uint16
	// Client is the client address as written (may hold a port, or "unix:").
	Client []byte
	// User is the user's name or id.
	User []byte
	// UserClaimed is set when User is only what the client claimed
	// (nginx $remote_user, Apache %u); see trust_user in the configuration.
	UserClaimed bool
	// Account is the customer, tenant or organisation.
	Account []byte
	// Roles are the user's roles, one element each, in the line's order.
	Roles [][]byte
	// Plan is the price plan.
	Plan []byte
	// Geo is the country as logged.
	Geo []byte
	// Flags are the feature flags that were on.
	Flags [][]byte
	// Version is the version of the application that answered.
	Version []byte
	// RequestID is the id that other logs of the same request share.
	RequestID []byte
	// Conn is the server's own number of the client's connection, by which its
	// access and its error log name the same request; 0 when the line has none.
	Conn uint64
	// Cause is the layer's own word for why it refused.
	Cause []byte
	// Rule names the rule that refused, as the layer itself calls it: an id or a
	// policy's name. It refines Cause, which holds the class.
	Rule []byte
	// UserAgent is the User-Agent header.
	UserAgent []byte
	// Layer is who refused, where the line itself says so. LayerUnknown leaves it
	// to the vantage and to what Upstream tells. It means nothing for an event
	// that is no denial.
	Layer Layer
	// Denial is the class of the refusal, where the line itself says more than its
	// status does: a firewall that names its action (Refused or Soft, under any
	// status), an inner refusal under an outer status that is none (Masked).
	// NotDenied leaves it to Status and the configuration.
	Denial Denial
	// Weight is how many requests the line stands for, where the log is sampled
	// and says at which rate; 0 is 1.
	Weight uint32
	// CauseOnly is set for a line that explains a request which other lines
	// count: it gives a denial its layer, cause and rule and is never counted. Its
	// Path may lack the end, where the log cuts long lines.
	// Such a line tells of a denial only where Denial says so, whatever its
	// Status.
	CauseOnly bool
}

// NoTime is the Time of an event whose line has none.
const NoTime = math.MinInt64

// Reset empties e for the next line and keeps the capacity of its lists.
func (e *Event) Reset() {
	roles, flags := e.Roles[:0], e.Flags[:0]
	*e = Event{} // a literal with values would be built first and then copied
	e.Time, e.Roles, e.Flags = NoTime, roles, flags
}

// Upstream says what a line knows about a server further in.
type Upstream uint8

// The states of Upstream.
const (
	// UpstreamUnknown: the format has no field for it.
	UpstreamUnknown Upstream = iota
	// UpstreamNone: the format has the field and says that nobody was asked.
	UpstreamNone
	// UpstreamAnswered: UpstreamStatus holds the answer.
	UpstreamAnswered
)

// Vantage is from where a source sees requests. The same request seen from two
// vantages is two events and is never added up.
type Vantage uint8

// The vantages, from the outermost to the innermost.
const (
	Edge Vantage = iota
	Web
	App
	// Vantages is how many there are.
	Vantages
)

var vantageNames = [Vantages]string{"edge", "web", "app"}

// String returns the name used in configuration, state and output.
func (v Vantage) String() string {
	if v < Vantages {
		return vantageNames[v]
	}
	return fmt.Sprintf("vantage(%d)", uint8(v))
}

// ParseVantage is the inverse of String.
func ParseVantage(s string) (Vantage, error) {
	for i, n := range vantageNames {
		if s == n {
			return Vantage(i), nil
		}
	}
	return 0, fmt.Errorf("unknown vantage %q: use edge, web or app", s)
}

// Layer is who refused a request.
type Layer uint8

// The layers.
const (
	LayerUnknown Layer = iota
	LayerEdge
	LayerWeb
	LayerApp
	// Layers is how many there are.
	Layers
)

var layerNames = [Layers]string{"unknown", "edge", "web", "app"}

// String returns the name used in configuration, state and output.
func (l Layer) String() string {
	if l < Layers {
		return layerNames[l]
	}
	return fmt.Sprintf("layer(%d)", uint8(l))
}

// Denial is the class of a refusal. Classes are judged apart.
type Denial uint8

// The classes of denial.
const (
	// NotDenied: the request was let in (or failed for another reason).
	NotDenied Denial = iota
	// Refused: a configured denial status, 403 and 451 by default.
	Refused
	// Soft: a challenge that a person can pass.
	Soft
	// Unauthorized: 401, where the configuration counts it.
	Unauthorized
	// Payment: 402, where the configuration counts it.
	Payment
	// Concealed: 404 on a route known to exist, where the configuration counts it.
	Concealed
	// Masked: an inner refusal under an outer status that is none.
	Masked
	// Valid: a refusal of any kind that the declared access model asks for. It is
	// counted and shown, and not judged.
	Valid
	// Denials is how many values there are, NotDenied included.
	Denials
)

var denialNames = [Denials]string{"none", "refused", "soft", "unauthorized", "payment", "concealed", "masked", "valid"}

// String returns the name used in configuration, state and output.
func (d Denial) String() string {
	if d < Denials {
		return denialNames[d]
	}
	return fmt.Sprintf("denial(%d)", uint8(d))
}
