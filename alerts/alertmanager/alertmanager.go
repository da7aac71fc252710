// Package alertmanager tells Prometheus Alertmanagers of incidents, as alerts of its
// API v2 (https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml).
//
// An incident is one alert: its labels say what and where, and group, route and
// silence it there; its annotations say it in words. The alert is sent at every step
// of the incident and ends when it does. Labels name an alert, so when one of them
// changes (severity, team) the alert under the old labels ends in the same request
// that begins the new one. Sending an alert twice is no harm: it is exactly once
// there.
//
// An incident that is silenced is silenced there too, until the same time or until
// that is taken back.
//
// Alertmanager keeps alerts in memory and forgets them when it is restarted, so open
// ones are sent again every minute. Should nobody send them any more, they are over
// after HoldOpen.
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// HoldOpen is how long after a step an open incident's alert ends by itself. An
// incident that lasts a day is the new normal and over, so it is longer than any step
// can be away.
const HoldOpen = 48 * time.Hour

// AlertName is the label alertname of every alert.
const AlertName = "AccessWall"

// Config is one Alertmanager, or a cluster of them.
type Config struct {
	// URLs are the addresses of all members of a cluster, with the path prefix if
	// there is one.
	URLs []string `yaml:"url,one"`
	// Headers are added to every request; passwords belong here.
	Headers map[string]secret.String `yaml:"headers"`
	// Labels are added to every alert.
	Labels map[string]string `yaml:"labels"`
}

const (
	maxURLs   = 20
	maxLabels = 20
	// maxValue bounds a label's value, maxText an annotation, both in runes.
	maxValue = 120
	maxText  = 1000
)

// labelName is what Prometheus takes for a label's name.
var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,99}$`)

// own are the labels that alerts have by themselves.
var own = []string{
	"alertname", "incident", "severity", "team", "journey", "direction", "service", "route", "role", "plan", "country", "host", "flag",
}

// Validate reports all problems, each with the field it is in. It does no I/O.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case len(c.URLs) == 0:
		bad("url: is missing; give the address of Alertmanager, such as http://alertmanager:9093")
	case len(c.URLs) > maxURLs:
		bad("url: more than %d", maxURLs)
	}
	for i, u := range c.URLs {
		p, err := url.Parse(u)
		switch invalid := alerts.ValidateURL(secret.String(u)); {
		case invalid != nil:
			bad("url[%d]: %w", i, invalid)
		case err != nil || p.RawQuery != "" || strings.Contains(p.Path, "/api/"):
			bad("url[%d]: must end before /api/, such as http://alertmanager:9093", i)
		case p.User != nil:
			bad("url[%d]: must hold no password; give headers: { Authorization: ... } instead", i)
		}
	}
	for _, err := range alerts.ValidateHeaders(c.Headers) {
		bad("headers: %w", err)
	}
	if len(c.Labels) > maxLabels {
		bad("labels: more than %d", maxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		switch {
		case !labelName.MatchString(name):
			bad("labels: %q is not a label's name: letters, digits and underscores", alerts.Clean(name, 40))
		case slices.Contains(own, name):
			bad("labels: %s is set by denywatch itself", name)
		case alerts.Clean(c.Labels[name], maxValue) != c.Labels[name] || c.Labels[name] == "":
			bad("labels: the value of %s is empty, longer than %d characters or holds control characters", name, maxValue)
		}
	}
	return errors.Join(errs...)
}

// Notifier sends alerts. It is safe for concurrent use.
type Notifier struct {
	labels    map[string]string
	endpoints []alerts.Endpoint
	// silences take new silences, expired end them; both in the order of endpoints.
	silences, expired []alerts.Endpoint
	client            *http.Client
	// telling is held for reading by those who tell of a step, for writing by those
	// who tell again.
	telling sync.RWMutex
	said    sync.Map // what was told last, by incident, until it is remembered: *memory
}

var _ alerts.Refresher = (*Notifier)(nil)

// New returns a notifier for a valid configuration. It sends nothing.
func New(conf Config) (*Notifier, error) {
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("alertmanager: %w", err)
	}
	n := &Notifier{labels: conf.Labels, client: alerts.NewHTTPClient()}
	for _, u := range conf.URLs {
		for what, to := range map[string]*[]alerts.Endpoint{"alerts": &n.endpoints, "silences": &n.silences, "silence": &n.expired} {
			address, err := url.JoinPath(u, "api", "v2", what)
			if err != nil {
				return nil, fmt.Errorf("alertmanager: url: %w", err)
			}
			*to = append(*to, alerts.Endpoint{Name: "alertmanager", URL: secret.String(address), Headers: conf.Headers, Client: n.client})
		}
	}
	return n, nil
}

// Close gives back idle connections. The notifier must not be used after it.
func (n *Notifier) Close() { n.client.CloseIdleConnections() }

// alert is a postableAlert of the API.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	// GeneratorURL is where the incident is to be seen.
	GeneratorURL string `json:"generatorURL,omitempty"`
}

// memory is what is remembered of an incident: its alert as it was last told.
type memory struct {
	Incident string `json:"incident"`
	Open     bool   `json:"open"`
	Alert    alert  `json:"alert"`
	// Silences are the ids of those that keep it quiet, of each member of the cluster;
	// empty where there is none.
	Silences []string `json:"silences,omitempty"`
}

// equal reports whether m and o are about the same alert in the same state.
func (m *memory) equal(o *memory) bool {
	return m.Open == o.Open && maps.Equal(m.Alert.Labels, o.Alert.Labels)
}

// Notify implements alerts.Notifier: it is delivered when one member of the cluster
// has taken it, and every member was asked.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	var err error
	now := time.Now()
	list := []alert{n.alert(&d.Transition, now)}
	list[0].GeneratorURL = d.URL
	var was memory
	if len(d.Memory) > 0 && json.Unmarshal(d.Memory, &was) == nil && len(was.Alert.Labels) > 0 && !maps.Equal(was.Alert.Labels, list[0].Labels) {
		list = append(list, alert{Labels: was.Alert.Labels, Annotations: list[0].Annotations, StartsAt: list[0].StartsAt, EndsAt: later(list[0].StartsAt, now)})
	}
	told := memory{Incident: d.Transition.Incident.ID, Open: d.Transition.Incident.State != incident.Resolved, Alert: list[0]}
	n.telling.RLock()
	defer n.telling.RUnlock()
	n.said.Store(told.Incident, &told)
	if taken, errs := n.post(ctx, list); !taken {
		return nil, errs[len(errs)-1]
	}
	if told.Silences, err = n.silence(ctx, &d.Transition, was.Silences, now); err != nil {
		return nil, err
	}
	remember, err := json.Marshal(told)
	if err != nil {
		return nil, nil // it is delivered, and strings can be encoded
	}
	return remember, nil
}

// silence is a postableSilence of the API, and the answer to one.
type silence struct {
	Matchers  []matcher `json:"matchers"`
	StartsAt  time.Time `json:"startsAt"`
	EndsAt    time.Time `json:"endsAt"`
	CreatedBy string    `json:"createdBy"`
	Comment   string    `json:"comment"`
}

type matcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual bool   `json:"isEqual"`
}

// silence makes the silences of an incident what the transition says, from those there
// are, and returns those there are then. One that cannot be ended ends by itself.
func (n *Notifier) silence(ctx context.Context, t *incident.Transition, ids []string, now time.Time) ([]string, error) {
	if t.Kind != incident.Silenced && t.Kind != incident.Unsilenced {
		return ids, nil
	}
	for i := range min(len(ids), len(n.silences)) {
		if ids[i] != "" {
			_ = n.expired[i].Delete(ctx, ids[i]) // it may have ended by itself
		}
	}
	if t.Kind == incident.Unsilenced || t.Act == nil || !t.Act.Until.After(now) {
		return nil, nil
	}
	body, err := json.Marshal(silence{
		Matchers: []matcher{{Name: "incident", Value: angles.Replace(alerts.Clean(t.Incident.ID, maxValue)), IsEqual: true}},
		StartsAt: now.UTC(), EndsAt: t.Act.Until.UTC(), CreatedBy: "denywatch", Comment: style.Render(*t).StepSentence(),
	})
	if err != nil {
		return nil, &alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("alertmanager: encode: %w", err)}
	}
	ids = make([]string, len(n.silences))
	taken := false
	var failed error
	for i := range n.silences {
		answer, err := n.silences[i].Post(ctx, body)
		var made struct {
			ID string `json:"silenceID"`
		}
		if err == nil && json.Unmarshal(answer, &made) == nil {
			ids[i], taken = made.ID, true
		} else if err != nil {
			failed = err
		}
	}
	if !taken {
		return nil, failed
	}
	return ids, nil
}

// Refresh implements alerts.Refresher: open alerts are sent again to every member of
// the cluster, for each keeps its own.
func (n *Notifier) Refresh(ctx context.Context, memories func() []json.RawMessage) error {
	// No alert may be sent as open behind its end, nor under labels it had before.
	n.telling.Lock()
	defer n.telling.Unlock()
	now := time.Now()
	var list []alert
	seen := map[any]bool{}
	for _, raw := range memories() {
		var m memory
		if json.Unmarshal(raw, &m) != nil || m.Incident == "" {
			continue
		}
		seen[m.Incident] = true
		if x, ok := n.said.Load(m.Incident); ok {
			if newer := x.(*memory); newer.equal(&m) {
				n.said.Delete(m.Incident)
			} else {
				m = *newer // what was sent last is not remembered yet
			}
		}
		if m.Open {
			m.Alert.EndsAt = now.Add(HoldOpen)
			list = append(list, m.Alert)
		}
	}
	n.said.Range(func(id, _ any) bool {
		if !seen[id] { // it will be remembered yet, or is forgotten
			n.said.Delete(id)
		}
		return true
	})
	if len(list) == 0 {
		return nil
	}
	_, errs := n.post(ctx, list)
	return errors.Join(errs...)
}

// post sends alerts to every member of the cluster, and tells whether one has taken
// them.
func (n *Notifier) post(ctx context.Context, list []alert) (taken bool, errs []error) {
	body, err := json.Marshal(list)
	if err != nil {
		return false, []error{&alerts.Error{Kind: alerts.Permanent, Refused: true, Err: fmt.Errorf("alertmanager: encode: %w", err)}}
	}
	for i := range n.endpoints {
		if _, err := n.endpoints[i].Post(ctx, body); err != nil {
			errs = append(errs, fmt.Errorf("url[%d]: %w", i, err))
		} else {
			taken = true
		}
	}
	return taken, errs
}

// testFor is how long the alert of a test lasts.
const testFor = 5 * time.Minute

// Test implements alerts.Tester: every member of the cluster is asked to take an alert
// of low severity, which ends by itself after five minutes.
func (n *Notifier) Test(ctx context.Context, _ string) (string, error) {
	now := time.Now()
	a := n.alert(&incident.Transition{At: now, Incident: incident.Incident{ID: "test", StartedAt: now, Severity: incident.Low}}, now)
	a.Annotations, a.EndsAt = map[string]string{"summary": alerts.TestText}, now.Add(testFor)
	_, errs := n.post(ctx, []alert{a})
	if len(errs) == len(n.endpoints) {
		return "", errors.Join(errs...)
	}
	return fmt.Sprintf("%d of %d took an alert with the labels incident=test and severity=low; it ends by itself in five minutes", len(n.endpoints)-len(errs), len(n.endpoints)), errors.Join(errs...)
}

// later is t, or a moment after start if that is not before t: Alertmanager refuses
// alerts that end before they start.
func later(start, t time.Time) time.Time {
	if !t.After(start) {
		return start.Add(time.Millisecond)
	}
	return t
}

// angles takes out of labels what could be a mention or markup anywhere; the rest
// stays as it is, for people match by it.
var angles = strings.NewReplacer("<", "‹", ">", "›")

// style writes texts that are safe in the templates of Alertmanager's receivers,
// which put them into Slack's markup and others without escaping.
var style = alerts.Style{Escape: alerts.Inert}

// alert says a transition as an alert.
func (n *Notifier) alert(t *incident.Transition, now time.Time) alert {
	in := &t.Incident
	a := alert{Labels: map[string]string{}, Annotations: map[string]string{}, StartsAt: in.StartedAt.UTC()}
	if a.StartsAt.After(now) {
		a.StartsAt = now.UTC()
	}
	a.EndsAt = now.Add(HoldOpen)
	if in.State == incident.Resolved {
		a.EndsAt = t.At.UTC()
		if in.ResolvedAt != nil {
			a.EndsAt = in.ResolvedAt.UTC()
		}
		if a.EndsAt.After(now) {
			a.EndsAt = now
		}
		a.EndsAt = later(a.StartsAt, a.EndsAt)
	}
	label := func(name, value string) {
		if v := angles.Replace(alerts.Clean(value, maxValue)); v != "" {
			a.Labels[name] = v
		}
	}
	for name, value := range n.labels {
		a.Labels[name] = value
	}
	sc := &in.Scope
	place := sc.Route
	if place == "" && sc.Prefix != "" {
		place = strings.TrimSuffix(sc.Prefix, "/") + "/**"
	}
	for i, value := range []string{
		AlertName, in.ID, string(in.Severity), in.Team, in.Journey, string(in.Direction), sc.Service, place, sc.Role, sc.Plan, sc.Geo, sc.Host, sc.Flag,
	} {
		label(own[i], value)
	}
	x := style.Render(*t)
	note := func(name string, parts ...string) {
		if v := alerts.Clean(strings.Join(strings.Fields(strings.Join(parts, " ")), " "), maxText); v != "" {
			a.Annotations[name] = v
		}
	}
	note("summary", x.Headline)
	note("description", x.Reason, x.People, x.Contrast, x.Since, x.Layer, x.Note, x.Back)
	note("evidence", x.Evidence, x.Sure)
	note("likely", x.Likely)
	note("next", x.Next)
	note("latest", x.StepSentence())
	note("marker", alerts.Inert(alerts.Clean(in.Marker, maxValue)))
	return a
}
