package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

const index = `denywatch: who is refused that should get in, and what stands open that should not

  GET  /v1/incidents        incidents, the open ones first
                            state=open|resolved  marker=ID  team=NAME  since=TIME
                            limit=N
  GET  /v1/incidents/{id}   one incident with its time line
  GET  /v1/incidents/{id}/trace
                            what it looked like over time, and what is usual
  GET  /v1/incidents/{id}/chart.png
                            the same as a picture
  POST /v1/incidents/{id}/acknowledge|silence|unsilence|accept|dismiss|reopen|merge
                            what a person decided: {"by":"ada","for":"2h"};
                            to merge {"into":"ID"}
  GET  /v1/silences         what is not told for a while
  POST /v1/silences         silence a scope: {"scope":{"route":"/x"},"for":"2h"}
  DELETE /v1/silences/{id}  take a silence back, of a scope or an incident
  GET  /v1/dead-letters     notifications that were given up
  POST /v1/dead-letters/resend, /v1/dead-letters/{id}/resend
                            try all of them, or one, again
  DELETE /v1/dead-letters/{id}
                            forget one
  GET  /v1/markers          what changed: releases and other markers
  POST /v1/markers          tell of a change
  GET  /v1/markers/{id}/verdict
                            what came of it: pending, pass, fail or
                            not_enough_data, with the evidence
                            wait=20s waits as long while it is pending
  POST /v1/markers/github   GitHub's webhook tells of a deployment
  POST /v1/markers/gitlab   GitLab's webhook tells of a deployment
  POST /v1/markers/argocd   Argo CD's notification tells of a deployment
  POST /v1/slack/interactions
                            Slack tells of clicks on buttons
  GET  /v1/who              where somebody was refused, by a keyed hash
                            identity=HASH or account=HASH (denywatch who)
  GET  /v1/scans            suspected scans, of which nobody is told
  GET  /v1/routes           events counted by vantage, service, route and status
  GET  /v1/access           who gets in, by vantage, service, route and role
                            state=lets_in|keeps_out|mixed|unknown
  GET  /v1/status           sources, sinks and what is wrong with them
  GET  /metrics             metrics in the Prometheus text format
  GET  /healthz             200 while the process lives
  GET  /readyz              200 when logs are read and incidents can be told
`

func (s *Server) getIndex(w http.ResponseWriter, _ *http.Request) error {
	write(w, http.StatusOK, plain, []byte(index))
	return nil
}

// getHealth asks nobody: it says only that the process answers.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) error {
	write(w, http.StatusOK, plain, []byte("ok\n"))
	return nil
}

// getIncidents lists incidents in the backend's order.
func (s *Server) getIncidents(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "state", "marker", "team", "since", "limit")
	if err != nil {
		return err
	}
	n, err := limit(q)
	if err != nil {
		return err
	}
	since, err := instant(q, "since")
	if err != nil {
		return err
	}
	state := incident.State(q["state"])
	if _, given := q["state"]; given && state != incident.Open && state != incident.Resolved {
		return refuse(http.StatusBadRequest, "state is neither open nor resolved", "leave it out for both")
	}
	all, err := s.backend.Incidents(r.Context())
	if err != nil {
		return err
	}
	follows := func(*incident.Incident) bool { return true }
	if id, given := q["marker"]; given {
		if follows, err = s.follows(r, id, all); err != nil {
			return err
		}
	}
	team, ofTeam := q["team"]
	list, more := []incident.Incident{}, 0
	for i := range all {
		in := &all[i]
		switch {
		case ofTeam && in.Team != team, state != "" && in.State != state, in.OpenedAt.Before(since), !follows(in):
		case len(list) == n:
			more++
		default:
			list = append(list, *in)
		}
	}
	return reply(w, http.StatusOK, struct {
		Incidents []incident.Incident `json:"incidents"`
		// More counts those beyond the limit.
		More int `json:"more"`
	}{list, more})
}

// follows returns whether an incident belongs to the marker: the incident names
// it, or opened at or after its time in an overlapping scope.
func (s *Server) follows(r *http.Request, id string, all []incident.Incident) (func(*incident.Incident) bool, error) {
	markers, err := s.backend.Markers(r.Context())
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(markers, func(m marker.Marker) bool { return m.ID == id })
	if at >= 0 {
		m := markers[at]
		return func(in *incident.Incident) bool {
			return in.Marker == id || !in.OpenedAt.Before(m.Time) && Overlaps(m.Scope, in.Scope)
		}, nil
	}
	// The marker may have been forgotten before the incidents that name it.
	named := func(in *incident.Incident) bool { return in.Marker == id }
	if id == "" || !slices.ContainsFunc(all, func(in incident.Incident) bool { return named(&in) }) {
		return nil, refuse(http.StatusNotFound, "no marker of this id is known", "GET /v1/markers lists them; the answer to POST /v1/markers holds the id")
	}
	return named, nil
}

// getIncident shows one incident as it is now, with how it got there.
func (s *Server) getIncident(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	now, line, err := s.incident(r, r.PathValue("id"))
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Incident incident.Incident     `json:"incident"`
		Timeline []incident.Transition `json:"timeline"`
	}{now, line})
}

// getTrace shows what an incident looked like over time.
func (s *Server) getTrace(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	t, err := s.backend.Trace(r.Context(), r.PathValue("id"))
	if err != nil {
		return noTrace(err)
	}
	return reply(w, http.StatusOK, t)
}

// getChart shows the same as a picture.
func (s *Server) getChart(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	png, err := s.backend.Chart(r.Context(), r.PathValue("id"))
	if err != nil {
		return noTrace(err)
	}
	write(w, http.StatusOK, "image/png", png)
	return nil
}

// noTrace is the error of an incident whose trace there is not, else err.
func noTrace(err error) error {
	if errors.Is(err, ErrNotFound) {
		return refuse(http.StatusNotFound, "no incident of this id is known, or it ended too long ago", "GET /v1/incidents lists them; traces are kept of open incidents and of the last 200 that ended")
	}
	return err
}

// incident returns an incident as it is now, with its time line.
func (s *Server) incident(r *http.Request, id string) (now incident.Incident, line []incident.Transition, err error) {
	line, err = s.backend.Timeline(r.Context(), id)
	if errors.Is(err, ErrNotFound) || err == nil && len(line) == 0 {
		return now, nil, refuse(http.StatusNotFound, "no incident of this id is known", "GET /v1/incidents lists them")
	}
	if err != nil {
		return now, nil, err
	}
	all, err := s.backend.Incidents(r.Context())
	if err != nil {
		return now, nil, err
	}
	// Counts go on after the last transition, so the list knows better.
	now = line[len(line)-1].Incident
	if i := slices.IndexFunc(all, func(in incident.Incident) bool { return in.ID == id }); i >= 0 {
		now = all[i]
	}
	return now, line, nil
}

func (s *Server) getRoutes(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	counts, err := s.backend.Routes(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Routes []RouteCount `json:"routes"`
	}{append([]RouteCount{}, counts...)})
}

// getAccess shows the learned access matrix.
func (s *Server) getAccess(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "state")
	if err != nil {
		return err
	}
	state, given := q["state"]
	if given && !slices.Contains(doorStates, state) {
		return refuse(http.StatusBadRequest, "state is none of "+strings.Join(doorStates, ", "), "leave it out for all")
	}
	doors, err := s.backend.Access(r.Context())
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, struct {
		Access []Door `json:"access"`
	}{slices.DeleteFunc(append([]Door{}, doors...), func(d Door) bool { return given && d.State != state })})
}

// doorStates are the values of Door.State.
var doorStates = []string{"lets_in", "keeps_out", "mixed", "unknown"}

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return err
	}
	// Lists are lists in JSON, also when they are empty.
	st.Problems = append([]string{}, st.Problems...)
	st.Sources = append([]SourceStatus{}, st.Sources...)
	st.Sinks = append([]SinkStatus{}, st.Sinks...)
	return reply(w, http.StatusOK, st)
}

// roleActive is the role of the member of a cluster that reads logs and tells.
const roleActive = "active"

// getReady answers 200 or 503, and says each problem in a line of its own. A standby
// that could take over is ready; with role=active only the active member is, for load
// balancers.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	st, err := s.backend.Status(r.Context())
	if err != nil {
		return err
	}
	status, word := http.StatusOK, "ready"
	role := ""
	if st.Cluster != nil {
		role = st.Cluster.Role
	}
	if !st.Ready || r.URL.Query().Get("role") == roleActive && st.Cluster != nil && role != roleActive {
		status, word = http.StatusServiceUnavailable, "not ready"
		w.Header().Set("Retry-After", "5")
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		return reply(w, status, struct {
			Ready    bool     `json:"ready"`
			Role     string   `json:"role,omitempty"`
			Problems []string `json:"problems"`
		}{status == http.StatusOK, role, append([]string{}, st.Problems...)})
	}
	write(w, status, plain, buffered(func(b *bytes.Buffer) {
		fmt.Fprintln(b, word)
		if c := st.Cluster; c != nil {
			fmt.Fprintf(b, "role: %s, active: %s\n", c.Role, clean(c.Active))
		}
		for _, p := range st.Problems {
			fmt.Fprintln(b, clean(p))
		}
	}))
	return nil
}

func (s *Server) getMetrics(w http.ResponseWriter, _ *http.Request) error {
	write(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", buffered(func(b *bytes.Buffer) { s.backend.WriteMetrics(b) }))
	return nil
}

// getScans lists the suspected scans, the newest first.
func (s *Server) getScans(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "limit")
	if err != nil {
		return err
	}
	n, err := limit(q)
	if err != nil {
		return err
	}
	all, err := s.backend.Scans(r.Context())
	if err != nil {
		return err
	}
	list := make([]incident.Scan, 0, min(len(all), n))
	for i := len(all) - 1; i >= 0 && len(list) < n; i-- {
		list = append(list, all[i])
	}
	return reply(w, http.StatusOK, struct {
		Scans []incident.Scan `json:"scans"`
		More  int             `json:"more"`
	}{list, len(all) - len(list)})
}
