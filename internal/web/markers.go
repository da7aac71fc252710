package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// retryWindow is how long the same change without a time of its own counts as
// one that was sent again, not as one that happened again.
const retryWindow = 10 * time.Minute

// markedBody answers a marker.
type markedBody struct {
	ID             string    `json:"id"`
	ProbationUntil time.Time `json:"probation_until,omitzero"`
	// Incidents is where to ask whether it broke something.
	Incidents string `json:"incidents"`
	// Verdict is where to ask what came of it.
	Verdict string `json:"verdict"`
}

// postMarker takes one marker: 201 if it is new, 200 if it was known.
func (s *Server) postMarker(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	who, body, err := s.authenticate(w, r)
	if err != nil {
		return err
	}
	m, err := marker.Decode(body)
	if err != nil {
		return refuse(http.StatusBadRequest, clean(err.Error()),
			`a marker is one JSON object such as {"kind":"release","service":"shop","version":"v2.31.0"}`)
	}
	return s.take(w, r, m, who)
}

// take hands a marker to the backend and answers what became of it.
func (s *Server) take(w http.ResponseWriter, r *http.Request, m marker.Marker, who caller) error {
	m, marked, err := s.mark(r.Context(), m, who.at)
	if err != nil {
		return err
	}
	return s.taken(w, m, marked, who)
}

// taken answers with a marker: 201 if it is new, 200 if it was known.
func (s *Server) taken(w http.ResponseWriter, m marker.Marker, marked Marked, who caller) error {
	s.log.Info("marker taken", "id", m.ID, "kind", string(m.Kind), "time", m.Time, "known", marked.Known, "caller", who.name)
	status := http.StatusCreated
	if marked.Known {
		status = http.StatusOK
	}
	return reply(w, status, markedBody{
		ID:             m.ID,
		ProbationUntil: marked.ProbationUntil,
		Incidents:      "/v1/incidents?marker=" + url.QueryEscape(m.ID),
		Verdict:        "/v1/markers/" + url.PathEscape(m.ID) + "/verdict",
	})
}

// mark hands m, made at the time at, to the backend. What the caller left out
// decides what a known id means:
//
//   - Without a time, the same content is the same marker sent again, and keeps
//     its first time.
//   - Without an id, a change that happened once more (a release that is rolled
//     back to) is a new marker, whose id gets its time. It counts as sent again
//     only if it has no time of its own, is the last change of its kind and
//     service, and came within the retryWindow.
func (s *Server) mark(ctx context.Context, m marker.Marker, at time.Time) (marker.Marker, Marked, error) {
	unnamed, untimed := m.ID == "", m.Time.IsZero()
	if err := normalise(&m, at); err != nil {
		return m, Marked{}, err
	}
	marked, err := s.tryMark(ctx, m)
	if !errors.Is(err, ErrConflict) || !unnamed && !untimed {
		return m, marked, err
	}
	known, lookup := s.backend.Markers(ctx)
	if lookup != nil {
		return m, Marked{}, lookup
	}
	if untimed {
		for i := range known {
			k := &known[i]
			again := !unnamed && k.ID == m.ID || unnamed && isLast(k, known) && at.Sub(k.Time).Abs() <= retryWindow
			if again && marker.SameChange(*k, m) {
				m.ID, m.Time = k.ID, k.Time
				marked, err = s.tryMark(ctx, m)
				return m, marked, err
			}
		}
	}
	if unnamed {
		m.Repeated()
		if bad := normalise(&m, at); bad != nil {
			return m, Marked{}, bad
		}
		marked, err = s.tryMark(ctx, m)
	}
	return m, marked, err
}

func normalise(m *marker.Marker, at time.Time) error {
	if err := m.Normalise(at); err != nil {
		return refuse(http.StatusBadRequest, clean(flat(err)), "mend the named fields and send the marker again")
	}
	return nil
}

// tryMark asks the backend; its refusals are ready for the caller.
func (s *Server) tryMark(ctx context.Context, m marker.Marker) (Marked, error) {
	marked, err := s.backend.Mark(ctx, m)
	switch {
	case errors.Is(err, ErrConflict):
		return marked, &conflict{refuse(http.StatusConflict, "a marker of this id is known with other content",
			"give the changed marker another id, or send the first content again")}
	case err != nil:
		// Nothing is acknowledged that is not durable. Sending it again is safe.
		e := refuse(http.StatusServiceUnavailable, "the marker could not be stored", "send it again; the daemon's log and GET /readyz say what is wrong")
		e.retryAfter, e.cause = 5, err
		return marked, e
	}
	return marked, nil
}

// conflict is the refusal that mark may still get around.
type conflict struct{ *apiError }

func (c *conflict) Unwrap() []error { return []error{c.apiError, ErrConflict} }

// isLast reports whether no marker of k's kind and service is later than k.
func isLast(k *marker.Marker, all []marker.Marker) bool {
	return !slices.ContainsFunc(all, func(o marker.Marker) bool {
		return o.Kind == k.Kind && o.Service == k.Service && o.Time.After(k.Time)
	})
}

// getMarkers lists the markers, the newest first.
func (s *Server) getMarkers(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "limit")
	if err != nil {
		return err
	}
	n, err := limit(q)
	if err != nil {
		return err
	}
	all, err := s.backend.Markers(r.Context())
	if err != nil {
		return err
	}
	list := append([]marker.Marker{}, all...)
	slices.SortFunc(list, func(a, b marker.Marker) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID))
	})
	more := max(0, len(list)-n)
	return reply(w, http.StatusOK, struct {
		Markers []marker.Marker `json:"markers"`
		More    int             `json:"more"`
	}{list[:len(list)-more], more})
}
