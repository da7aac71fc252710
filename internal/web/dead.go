package web

import (
	"errors"
	"net/http"
)

// getDead lists the dead letters, the oldest first.
func (s *Server) getDead(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := s.backend.DeadLetters(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
	}{append([]DeadLetter{}, list...)})
}

// postResend lets one dead letter be tried again.
func (s *Server) postResend(w http.ResponseWriter, r *http.Request) error {
	_, act, _, err := s.actor(w, r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if err := s.changed(s.backend.Resend(r.Context(), id)); err != nil {
		return err
	}
	s.log.Info("dead letter sent again", "id", id, "caller", act.ID, "via", act.Via)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// postResendAll lets all dead letters be tried again that can be.
func (s *Server) postResendAll(w http.ResponseWriter, r *http.Request) error {
	_, act, _, err := s.actor(w, r)
	if err != nil {
		return err
	}
	list, err := s.backend.DeadLetters(r.Context())
	if err != nil {
		return err
	}
	n := 0
	for _, l := range list {
		if !l.Sendable {
			continue
		}
		switch err := s.backend.Resend(r.Context(), l.ID); {
		case err == nil:
			n++
		case !errors.Is(err, ErrNotFound): // else somebody else was faster
			return s.changed(err)
		}
	}
	s.log.Info("dead letters sent again", "count", n, "caller", act.ID, "via", act.Via)
	return reply(w, http.StatusOK, struct {
		Resent int `json:"resent"`
	}{n})
}

// deleteDead forgets a dead letter.
func (s *Server) deleteDead(w http.ResponseWriter, r *http.Request) error {
	_, act, _, err := s.actor(w, r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if err := s.changed(s.backend.Drop(r.Context(), id)); err != nil {
		return err
	}
	s.log.Info("dead letter dropped", "id", id, "caller", act.ID, "via", act.Via)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
