package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
)

// Standby is what the API of a member of a cluster stands on while another member is
// active. Its methods keep to the same rules as those of Backend.
type Standby interface {
	// Status says how the member is doing.
	Status(ctx context.Context) (Status, error)
	// WriteMetrics writes metrics in the Prometheus text format.
	WriteMetrics(w io.Writer)
	// Active names the member that is active; empty if none is known.
	Active() string
}

// NewStandby makes the server of a member that stands by: it says how the member is
// doing, and who is active to everybody who asks for more (503 with Retry-After; a
// marker is taken by nobody else in its place, so its sender sends it again).
func NewStandby(cfg Config, b Standby, log *slog.Logger) *Server {
	s := New(cfg, member{Standby: b}, nil, log)
	s.standby = b.Active
	return s
}

// member is a Backend of which a standby asks only what a Standby knows.
type member struct {
	Backend // nil: dispatch refuses everything that would need it
	Standby Standby
}

// Status implements Backend.
func (m member) Status(ctx context.Context) (Status, error) { return m.Standby.Status(ctx) }

// WriteMetrics implements Backend.
func (m member) WriteMetrics(w io.Writer) { m.Standby.WriteMetrics(w) }

// Instead makes other answer the requests that come to s from now on; nil makes s
// answer them itself again.
func (s *Server) Instead(other *Server) { s.instead.Store(other) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if other := s.instead.Load(); other != nil {
		other.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// elsewhere is the refusal of a standby. Who may read is told who is active.
func (s *Server) elsewhere(r *http.Request) *apiError {
	msg, hint := "this member of the cluster stands by, and no other is active at the moment", "try again in a few seconds"
	if active := s.standby(); r.Method != http.MethodGet && r.Method != http.MethodHead {
		msg = "this member of the cluster stands by and takes nothing"
	} else if active != "" {
		msg, hint = "this member of the cluster stands by; "+clean(active)+" is active", "ask that one; GET /readyz?role=active answers 200 on the active member only"
	}
	e := refuse(http.StatusServiceUnavailable, msg, hint)
	e.retryAfter = 5
	return e
}
