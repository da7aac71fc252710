package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/denywatch/denywatch/internal/marker"
)

// getVerdict says what came of a marker. With wait it answers as soon as the
// verdict is no longer pending, or when that time is over.
func (s *Server) getVerdict(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "wait")
	if err != nil {
		return err
	}
	var wait time.Duration
	if text, given := q["wait"]; given {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxWait {
			return refuse(http.StatusBadRequest, "wait is not a duration from 0s to "+maxWait.String(), "write it like 20s, and ask again while the verdict is pending")
		}
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		v, err := s.backend.Verdict(r.Context(), r.PathValue("id"))
		switch {
		case errors.Is(err, ErrNotFound):
			return refuse(http.StatusNotFound, "no marker of this id is known", "GET /v1/markers lists them; the answer to POST /v1/markers holds the id")
		case err != nil:
			return err
		case v.Verdict != marker.Pending || wait == 0:
			return reply(w, http.StatusOK, v)
		}
		select {
		case <-tick.C:
		case <-end.C:
			wait = 0
		case <-stopping(r):
			wait = 0
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}
