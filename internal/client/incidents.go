package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Incidents lists the incidents that the daemon knows, the open ones first; only those
// in a state, and of a team, if these are not empty.
func (c *Client) Incidents(ctx context.Context, state incident.State, team string) ([]incident.Incident, error) {
	q := url.Values{"limit": {"1000"}}
	if state != "" {
		q.Set("state", string(state))
	}
	if team != "" {
		q.Set("team", team)
	}
	path := "/v1/incidents?" + q.Encode()
	var list struct {
		Incidents []incident.Incident `json:"incidents"`
	}
	if _, err := c.call(ctx, http.MethodGet, path, nil, &list); err != nil {
		return nil, fmt.Errorf("ask for incidents: %w", err)
	}
	return list.Incidents, nil
}

// Incident returns one incident and its time line.
func (c *Client) Incident(ctx context.Context, id string) (incident.Incident, []incident.Transition, error) {
	var one struct {
		Incident incident.Incident     `json:"incident"`
		Timeline []incident.Transition `json:"timeline"`
	}
	if _, err := c.call(ctx, http.MethodGet, "/v1/incidents/"+url.PathEscape(id), nil, &one); err != nil {
		return one.Incident, nil, fmt.Errorf("ask for the incident: %w", err)
	}
	return one.Incident, one.Timeline, nil
}

// act is what a person at a terminal sends.
type act struct {
	By    string          `json:"by,omitempty"`
	Via   string          `json:"via"`
	For   string          `json:"for,omitempty"`
	Into  string          `json:"into,omitempty"`
	Scope *incident.Scope `json:"scope,omitempty"`
}

func (c *Client) send(ctx context.Context, method, path string, a act, out any) error {
	a.Via = "cli"
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, method, path, body, out)
	return err
}

// Act does a verb to an incident for the person named by, and returns the incident as
// it is then. span is how long a silence lasts, 0 for every other verb.
func (c *Client) Act(ctx context.Context, id string, verb incident.Verb, by string, span time.Duration) (incident.Incident, error) {
	a := act{By: by}
	if span > 0 {
		a.For = span.String()
	}
	return c.act(ctx, id, verb, a)
}

// Merge makes an incident a part of another for the person named by, and returns it as it
// is then.
func (c *Client) Merge(ctx context.Context, id, into, by string) (incident.Incident, error) {
	return c.act(ctx, id, incident.Merge, act{By: by, Into: into})
}

func (c *Client) act(ctx context.Context, id string, verb incident.Verb, a act) (incident.Incident, error) {
	var one struct {
		Incident incident.Incident `json:"incident"`
	}
	if err := c.send(ctx, http.MethodPost, "/v1/incidents/"+url.PathEscape(id)+"/"+string(verb), a, &one); err != nil {
		return one.Incident, fmt.Errorf("%s incident %s: %w", verb, clean(id), err)
	}
	return one.Incident, nil
}

// Silences lists the silences that hold, the one that ends first in front.
func (c *Client) Silences(ctx context.Context) ([]incident.Silencing, error) {
	var list struct {
		Silences []incident.Silencing `json:"silences"`
	}
	if _, err := c.call(ctx, http.MethodGet, "/v1/silences", nil, &list); err != nil {
		return nil, fmt.Errorf("ask for silences: %w", err)
	}
	return list.Silences, nil
}

// Silence silences a scope for a while.
func (c *Client) Silence(ctx context.Context, scope incident.Scope, by string, span time.Duration) (incident.Silencing, error) {
	var s incident.Silencing
	if err := c.send(ctx, http.MethodPost, "/v1/silences", act{By: by, For: span.String(), Scope: &scope}, &s); err != nil {
		return s, fmt.Errorf("silence: %w", err)
	}
	return s, nil
}

// Unsilence takes a silence back, of a scope or of the incident of that id.
func (c *Client) Unsilence(ctx context.Context, id, by string) error {
	if err := c.send(ctx, http.MethodDelete, "/v1/silences/"+url.PathEscape(id), act{By: by}, nil); err != nil {
		return fmt.Errorf("take the silence back: %w", err)
	}
	return nil
}

// DeadLetter is a notification that was given up.
type DeadLetter struct {
	ID       string    `json:"id"`
	Sink     string    `json:"sink"`
	Target   string    `json:"target"`
	Incident string    `json:"incident"`
	What     string    `json:"what"`
	At       time.Time `json:"at"`
	Attempts int       `json:"attempts"`
	Reason   string    `json:"reason"`
	Sendable bool      `json:"sendable"`
}

// DeadLetters lists the notifications that were given up, the oldest first.
func (c *Client) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	var list struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
	}
	if _, err := c.call(ctx, http.MethodGet, "/v1/dead-letters", nil, &list); err != nil {
		return nil, fmt.Errorf("ask for dead letters: %w", err)
	}
	return list.DeadLetters, nil
}

// Resend lets a dead letter be tried again, all of them if id is empty, and returns how
// many there were.
func (c *Client) Resend(ctx context.Context, id string) (int, error) {
	path, answer := "/v1/dead-letters/resend", struct {
		Resent int `json:"resent"`
	}{}
	if id != "" {
		path, answer.Resent = "/v1/dead-letters/"+url.PathEscape(id)+"/resend", 1
	}
	if err := c.send(ctx, http.MethodPost, path, act{}, &answer); err != nil {
		return 0, fmt.Errorf("send again: %w", err)
	}
	return answer.Resent, nil
}

// Drop forgets a dead letter.
func (c *Client) Drop(ctx context.Context, id string) error {
	if err := c.send(ctx, http.MethodDelete, "/v1/dead-letters/"+url.PathEscape(id), act{}, nil); err != nil {
		return fmt.Errorf("drop the dead letter: %w", err)
	}
	return nil
}

// Refused is where somebody was refused, as far as the daemon remembers.
type Refused struct {
	// Since is how far back it remembers; zero if nobody.
	Since time.Time `json:"since"`
	// RulesSince is the same for refusals that the declared access rules ask for.
	RulesSince time.Time `json:"rules_since"`
	// Incomplete tells that in some minute more were refused than it could remember.
	Incomplete bool      `json:"incomplete"`
	Refusals   []Refusal `json:"refusals"`
}

// Refusal is how often somebody was refused in one place for one reason.
type Refusal struct {
	Vantage   string    `json:"vantage"`
	Service   string    `json:"service"`
	Route     string    `json:"route"`
	Role      string    `json:"role"`
	Geo       string    `json:"geo"`
	Class     string    `json:"class"`
	Layer     string    `json:"layer"`
	Cause     string    `json:"cause"`
	Rule      string    `json:"rule"` // that asks for them, if they are of class valid
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Denials   uint64    `json:"denials"`
	Incidents []string  `json:"incidents"`
}

// Who asks where the person or, with account, the account of a keyed hash was refused.
func (c *Client) Who(ctx context.Context, hash uint64, account bool) (Refused, error) {
	of := "identity"
	if account {
		of = "account"
	}
	var r Refused
	if _, err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/who?%s=%016x", of, hash), nil, &r); err != nil {
		return r, fmt.Errorf("ask who was refused: %w", err)
	}
	return r, nil
}
