package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// actBody is what a person, or a program for one, sends.
type actBody struct {
	// By names the person; the caller's name if it is empty.
	By string `json:"by"`
	// Via is where they did it, "cli" or "api"; empty for the latter.
	Via string `json:"via"`
	// For is how long a silence lasts, such as "2h".
	For string `json:"for"`
	// Into is the incident that this one is merged into.
	Into string `json:"into"`
	// Scope is what a silence is of, if it is not of an incident.
	Scope *incident.Scope `json:"scope"`
}

// maxActor bounds a person's name in bytes.
const maxActor = 100

// actor says who acts, and what they sent. span is how long a silence lasts, 0 unless
// it was said.
func (s *Server) actor(w http.ResponseWriter, r *http.Request) (b actBody, act incident.Act, span time.Duration, err error) {
	if _, err := query(r); err != nil {
		return b, act, 0, err
	}
	who, body, err := s.authenticate(w, r)
	if err != nil {
		return b, act, 0, err
	}
	if !who.operator {
		return b, act, 0, refuse(http.StatusForbidden, "this caller may not change incidents", "add the name of its token to markers.operators; signed requests may only announce changes")
	}
	const hint = `the body is empty or one JSON object such as {"by":"ada","for":"2h"}`
	if len(body) > 0 {
		dec := json.NewDecoder(strings.NewReader(string(body)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&b); err != nil || dec.More() {
			return b, act, 0, refuse(http.StatusBadRequest, "the body cannot be read", hint)
		}
	}
	if b.Via == "" {
		b.Via = "api"
	}
	if !slices.Contains([]string{"api", "cli"}, b.Via) {
		return b, act, 0, refuse(http.StatusBadRequest, "via is neither api nor cli", hint)
	}
	if len(b.By) > maxActor || clean(b.By) != b.By {
		return b, act, 0, refuse(http.StatusBadRequest, "by is too long, or holds control characters", hint)
	}
	if b.For != "" {
		if span, err = time.ParseDuration(b.For); err != nil || span <= 0 {
			return b, act, 0, refuse(http.StatusBadRequest, "for is no duration", "write it like 2h or 45m")
		}
	}
	act = incident.Act{By: b.By, ID: who.name, Via: b.Via}
	if act.By == "" {
		act.By, act.ID = who.name, ""
	}
	return b, act, span, nil
}

// postAct returns the endpoint of a verb. It answers with the incident as it is then.
func (s *Server) postAct(verb incident.Verb) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		b, act, span, err := s.actor(w, r)
		switch {
		case err != nil:
			return err
		case b.Scope != nil:
			return refuse(http.StatusBadRequest, "scope is of POST /v1/silences", "leave it out here")
		case (verb == incident.Silence) != (span > 0):
			return refuse(http.StatusBadRequest, "for is needed to silence, and for nothing else", `send {"for":"2h"} to silence for two hours`)
		}
		if span > 0 {
			act.Until = time.Now().UTC().Add(span)
		}
		if (verb == incident.Merge) != (b.Into != "") {
			return refuse(http.StatusBadRequest, "into is needed to merge, and for nothing else", `send {"into":"ID"} with the id of the incident that it becomes a part of`)
		}
		act.Other = b.Into
		id := r.PathValue("id")
		if err := s.changed(s.backend.Act(r.Context(), id, verb, act)); err != nil {
			return err
		}
		s.log.Info("incident changed", "incident", id, "verb", string(verb), "caller", act.ID, "via", act.Via)
		in, _, err := s.incident(r, id)
		if err != nil {
			return err
		}
		return reply(w, http.StatusOK, struct {
			Incident incident.Incident `json:"incident"`
		}{in})
	}
}

// changed turns an error of the backend into one for the caller.
func (s *Server) changed(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrStopping):
		return err
	case errors.Is(err, ErrNotFound):
		return refuse(http.StatusNotFound, "nothing of this id is known", "GET /v1/incidents, /v1/silences and /v1/dead-letters list what there is")
	case errors.Is(err, ErrOver):
		return refuse(http.StatusConflict, "the incident is over", "only open incidents can be changed; reopen opens it again, for a day after its end")
	case errors.Is(err, ErrUnfit):
		return refuse(http.StatusConflict, clean(err.Error()), "GET /v1/incidents/{id} shows the incident and what became of it")
	case errors.Is(err, ErrNotSendable):
		return refuse(http.StatusConflict, clean(err.Error()), "DELETE /v1/dead-letters/{id} drops it")
	case errors.Is(err, ErrBadSilence):
		return refuse(http.StatusBadRequest, clean(err.Error()), `send one such as {"scope":{"route":"/billing/**","role":"viewer"},"for":"2h"}`)
	}
	// Nothing is acknowledged that is not durable. Sending it again is safe.
	e := refuse(http.StatusServiceUnavailable, "it could not be stored", "send it again; the daemon's log and GET /readyz say what is wrong")
	e.retryAfter, e.cause = 5, err
	return e
}

// getSilences lists the silences that hold.
func (s *Server) getSilences(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := s.backend.Silences(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Silences []incident.Silencing `json:"silences"`
	}{append([]incident.Silencing{}, list...)})
}

// postSilence silences a scope.
func (s *Server) postSilence(w http.ResponseWriter, r *http.Request) error {
	b, act, span, err := s.actor(w, r)
	switch {
	case err != nil:
		return err
	case b.Scope == nil, span == 0:
		return s.changed(ErrBadSilence)
	}
	act.Until = time.Now().UTC().Add(span)
	x, err := s.backend.Silence(r.Context(), *b.Scope, act)
	if err := s.changed(err); err != nil {
		return err
	}
	s.log.Info("scope silenced", "silence", x.ID, "until", x.Act.Until, "caller", act.ID, "via", act.Via)
	return reply(w, http.StatusCreated, x)
}

// deleteSilence takes a silence back, of a scope or of an incident.
func (s *Server) deleteSilence(w http.ResponseWriter, r *http.Request) error {
	_, act, _, err := s.actor(w, r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if err := s.changed(s.backend.Unsilence(r.Context(), id, act)); err != nil {
		return err
	}
	s.log.Info("silence taken back", "silence", clean(id), "caller", act.ID, "via", act.Via)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
