// Package pagerduty pages people through PagerDuty's Events API v2
// (https://developer.pagerduty.com/docs/events-api-v2-overview).
//
// An incident is one alert there, known by its id as dedup_key: it is triggered when
// it opens and as it grows, acknowledged when somebody looks after it or silences it,
// resolved when it is over. PagerDuty takes the same event twice for one, so each
// transition counts exactly once. The change that an incident followed is told as a
// change event, once for each incident and as well as that works: an integration that
// takes no change events is no trouble.
//
// What people do in PagerDuty stays there: denywatch does not hear of it.
package pagerduty

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// DefaultURL is where events go unless Config.URL says otherwise; accounts in Europe
// have https://events.eu.pagerduty.com.
const DefaultURL = "https://events.pagerduty.com"

// Config is one integration of one service.
type Config struct {
	// RoutingKey is the integration key of an Events API v2 integration.
	RoutingKey secret.String `yaml:"routing_key"`
	// URL is the address of the API, without a path; empty stands for DefaultURL.
	URL string `yaml:"url"`
}

// keyLength is how long integration keys are.
const keyLength = 32

// ValidateKey says what is wrong with the routing key.
func (c *Config) ValidateKey() error {
	switch key := c.RoutingKey.Reveal(); {
	case key == "":
		return errors.New("is missing; add an Events API v2 integration to the service and copy its key")
	case len(key) != keyLength || strings.ContainsFunc(key, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }):
		return fmt.Errorf("must be %d letters and digits, the integration key of an Events API v2 integration", keyLength)
	}
	return nil
}

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	var errs []error
	if err := c.ValidateKey(); err != nil {
		errs = append(errs, fmt.Errorf("routing_key: %w", err))
	}
	if c.URL != "" {
		if err := alerts.ValidateURL(secret.String(c.URL)); err != nil {
			errs = append(errs, fmt.Errorf("url: %w", err))
		} else if u, err := url.Parse(c.URL); err == nil && (u.RawQuery != "" || strings.Trim(u.Path, "/") != "") {
			errs = append(errs, errors.New("url: must have no path, as in "+DefaultURL))
		}
	}
	return errors.Join(errs...)
}

// Notifier sends events. It is safe for concurrent use.
type Notifier struct {
	key             secret.String
	client          *http.Client
	events, changes alerts.Endpoint
}

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("pagerduty: %w", err)
	}
	n := &Notifier{key: conf.RoutingKey, client: alerts.NewHTTPClient()}
	to := func(what string) alerts.Endpoint {
		base := strings.TrimSuffix(cmp.Or(conf.URL, DefaultURL), "/")
		return alerts.Endpoint{Name: "pagerduty", URL: secret.String(base + "/v2/" + what), Client: n.client}
	}
	n.events, n.changes = to("enqueue"), to("change/enqueue")
	return n, nil
}

// Close gives back idle connections. The notifier must not be used after it.
func (n *Notifier) Close() { n.client.CloseIdleConnections() }

// The actions of events.
const (
	trigger     = "trigger"
	acknowledge = "acknowledge"
	resolve     = "resolve"
)

// event is an event of the API; acknowledge and resolve need no payload.
type event struct {
	RoutingKey string   `json:"routing_key"`
	Action     string   `json:"event_action,omitempty"`
	DedupKey   string   `json:"dedup_key,omitempty"`
	Client     string   `json:"client,omitempty"`
	ClientURL  string   `json:"client_url,omitempty"`
	Links      []link   `json:"links,omitempty"`
	Payload    *payload `json:"payload,omitempty"`
}

// link is shown beside an alert or a change.
type link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

type payload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity,omitempty"`
	Timestamp time.Time         `json:"timestamp"`
	Component string            `json:"component,omitempty"`
	Group     string            `json:"group,omitempty"`
	Class     string            `json:"class,omitempty"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

// severities are PagerDuty's words for ours.
var severities = map[incident.Severity]string{
	incident.Critical: "critical", incident.High: "error", incident.Medium: "warning", incident.Low: "info",
}

const (
	// maxSummary is what PagerDuty shows of a summary, in runes.
	maxSummary = 1024
	maxValue   = 120
	maxText    = 1000
)

// memory is how far an incident has been told.
type memory struct {
	Triggered bool   `json:"triggered"`
	Change    string `json:"change,omitempty"` // the marker that was told
}

// Notify implements alerts.Notifier.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	t := &d.Transition
	in := &t.Incident
	var told memory
	if len(d.Memory) > 0 {
		_ = json.Unmarshal(d.Memory, &told) // what cannot be read was not told: telling it twice is no harm
	}
	action := trigger
	switch {
	case in.State == incident.Resolved:
		action = resolve
	case t.Kind == incident.Acknowledged, t.Kind == incident.Silenced:
		action = acknowledge
	}
	if action == acknowledge && !told.Triggered {
		// Nobody was told of it here yet, and nothing can be acknowledged.
		if err := n.send(ctx, &n.events, n.event(trigger, d)); err != nil {
			return told.encode(), err
		}
		told.Triggered = true
	}
	if err := n.send(ctx, &n.events, n.event(action, d)); err != nil {
		return told.encode(), err
	}
	told.Triggered = true
	if m := in.MarkerInfo; m != nil && action != resolve && told.Change != in.Marker {
		if n.send(ctx, &n.changes, n.change(in)) == nil {
			told.Change = in.Marker
		}
	}
	return told.encode(), nil
}

func (m memory) encode() json.RawMessage {
	b, err := json.Marshal(m)
	if err != nil {
		return nil
	}
	return b
}

// Test implements alerts.Tester: it triggers an alert of the lowest severity and
// resolves it.
func (n *Notifier) Test(ctx context.Context, _ string) (string, error) {
	now := time.Now().UTC()
	e := event{RoutingKey: n.key.Reveal(), Action: trigger, DedupKey: "denywatch/test-" + now.Format("20060102T150405.000Z"), Client: "denywatch",
		Payload: &payload{Summary: alerts.TestText, Source: "denywatch", Severity: "info", Timestamp: now}}
	if err := n.send(ctx, &n.events, e); err != nil {
		return "", err
	}
	e.Action, e.Payload = resolve, nil
	if err := n.send(ctx, &n.events, e); err != nil {
		return "an alert was triggered", fmt.Errorf("it could not be resolved again: %w", err)
	}
	return "an alert of severity info was triggered and resolved", nil
}

// send posts an event.
func (n *Notifier) send(ctx context.Context, to *alerts.Endpoint, e event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("pagerduty: encode: %w", err)}
	}
	answer, err := to.Post(ctx, body)
	// A wrong key is answered as any other mistake of an event (400).
	if e, ok := errors.AsType[*alerts.Error](err); ok && e.Kind == alerts.Permanent && bytes.Contains(bytes.ToLower(answer), []byte("routing")) {
		e.Kind, e.Err = alerts.Misconfigured, fmt.Errorf("%w: it does not know routing_key", e.Err)
	}
	return err
}

// event says a transition as an event.
func (n *Notifier) event(action string, d *alerts.Delivery) event {
	t, in := &d.Transition, &d.Transition.Incident
	e := event{RoutingKey: n.key.Reveal(), Action: action, DedupKey: "denywatch/" + alerts.Clean(in.ID, maxValue), Client: "denywatch"}
	if action != trigger {
		return e
	}
	e.ClientURL = d.URL
	if d.Chart != "" {
		e.Links = []link{{Href: d.Chart, Text: "Chart"}}
	}
	x := alerts.Render(*t)
	sc := &in.Scope
	p := &payload{
		Summary: alerts.Clean(x.Headline+". "+x.People, maxSummary), Source: source(sc.Service), Severity: cmp.Or(severities[in.Severity], "warning"),
		Timestamp: in.StartedAt.UTC(), Component: alerts.Clean(cmp.Or(sc.Route, sc.Prefix), maxValue), Group: alerts.Clean(in.Team, maxValue),
		Class: string(in.Direction), Details: map[string]string{},
	}
	for _, f := range []struct{ name, text string }{
		{"reason", x.Reason}, {"people", x.People}, {"contrast", x.Contrast}, {"since", x.Since}, {"layer", x.Layer}, {"evidence", x.Evidence},
		{"sure", x.Sure}, {"likely", x.Likely}, {"next", x.Next}, {"note", x.Note}, {"where", strings.Join(x.Where, ", ")}, {"latest", x.StepSentence()},
	} {
		if v := alerts.Clean(f.text, maxText); v != "" {
			p.Details[f.name] = v
		}
	}
	e.Payload = p
	return e
}

// source is the system that is affected.
func source(service string) string { return cmp.Or(alerts.Clean(service, maxValue), "denywatch") }

// change says the change that an incident followed.
func (n *Notifier) change(in *incident.Incident) event {
	m := in.MarkerInfo
	what := alerts.Clean(strings.ReplaceAll(m.Kind, "_", " "), maxValue)
	for _, s := range []string{m.Service, m.Version} {
		if s = alerts.Clean(s, maxValue); s != "" {
			what += " " + s
		}
	}
	details := map[string]string{"marker": alerts.Clean(in.Marker, maxValue)}
	if m.Previous != "" {
		details["previous"] = alerts.Clean(m.Previous, maxValue)
	}
	return event{RoutingKey: n.key.Reveal(), Payload: &payload{Summary: alerts.Clean(what, maxSummary), Source: source(m.Service), Timestamp: m.Time.UTC(), Details: details}}
}
