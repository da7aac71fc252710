package alerts

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Templates are Go templates (text/template) for texts that replace the default ones;
// an empty one leaves the default. They are given Facts. What they write is plain text
// on one line: whatever comes out is cleaned, cut and escaped as every value from a log
// is, so a template can neither mention nor link nor format.
type Templates struct {
	// Headline says what broke and for whom, or that it is over.
	Headline string `yaml:"headline"`
	// Reason is the sentence below it.
	Reason string `yaml:"reason"`
	// Next says what to do.
	Next string `yaml:"next"`
}

// Facts is what templates are given of a transition. Texts are the default ones, in
// plain text; all values are cleaned. What does not apply is empty or 0.
type Facts struct {
	// Kind is what happened: opened, grew, resolved, reopened, acknowledged, ... Over
	// tells that the incident is resolved.
	Kind string
	Over bool
	// Headline to Next are the default texts.
	Headline, Reason, People, Contrast, Since, RefusedBy, Likely, Next string
	// ID is the incident's, Direction up, down or new, Class the class of the refusals.
	ID, Direction, Class, Severity, Team, Journey string
	// Step of Steps is the journey's.
	Step, Steps int
	// Service to Layer are the scope, and who refused.
	Service, Prefix, Route, Role, Plan, Country, Host, Flag, Layer string
	// Identities are the people, UsedToGetIn those of them who got in before.
	Identities, Accounts, UsedToGetIn, Requests, Denials int64
	// Rate and Usual are shares of requests refused, such as "61 %".
	Rate, Usual string
	// Change is the kind of the change it followed, Version and Previous its versions.
	Change, Version, Previous string
}

// maxTemplate bounds the source of a template in bytes, maxWords what it writes in
// runes.
const (
	maxTemplate = 4 << 10
	maxWords    = 300
)

// Wording is templates made ready. A nil Wording leaves every text as it is.
type Wording struct{ headline, reason, next *template.Template }

// texts are the templates in the order of Wording.
func (t *Templates) texts() [3]struct{ name, text string } {
	return [...]struct{ name, text string }{{"headline", t.Headline}, {"reason", t.Reason}, {"next", t.Next}}
}

// NewWording makes valid templates ready, nil if there are none.
func NewWording(t Templates) *Wording {
	if t == (Templates{}) {
		return nil
	}
	w := new(Wording)
	for i, x := range t.texts() {
		parsed, err := compile(x.name, x.text)
		if err == nil {
			*[...]**template.Template{&w.headline, &w.reason, &w.next}[i] = parsed
		}
	}
	return w
}

// Validate reports all problems, each with the field it is in: it tries every template
// with an incident of each sort. It does no I/O.
func (t *Templates) Validate() error {
	var errs []error
	for _, x := range t.texts() {
		if _, err := compile(x.name, x.text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.name, err))
		}
	}
	return errors.Join(errs...)
}

// compile makes one template ready, nil if it is empty.
func compile(name, text string) (*template.Template, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("is longer than %d bytes", maxTemplate)
	}
	parsed, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, wrong(err)
	}
	for _, t := range samples() {
		f := facts(&t)
		out, err := write(parsed, &f)
		switch {
		case err != nil:
			return nil, wrong(err)
		case strings.TrimSpace(out) == "" && (name != "next" || f.Next != ""):
			return nil, fmt.Errorf("writes nothing for an incident that %s; write {{.%s}} there for the default", t.Kind, upper(name))
		}
	}
	return parsed, nil
}

// wrong takes the library's prefix off an error, which names nothing that the reader
// knows.
func wrong(err error) error {
	text := strings.TrimSuffix(strings.TrimPrefix(err.Error(), "template: "), " in type *alerts.Facts")
	return fmt.Errorf("cannot be used: %s; the facts are listed in the example configuration", text)
}

// samples are transitions on which templates are tried: one with everything, and one
// with nothing, at their opening and their end.
func samples() []incident.Transition {
	at := time.Date(2026, 11, 18, 10, 4, 0, 0, time.UTC)
	end := at.Add(time.Hour)
	full := incident.Incident{ID: "ab12", State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, StartedAt: at, OpenedAt: at,
		Scope:        incident.Scope{Service: "shop", Prefix: "/billing", Route: "/billing/upgrade", Role: "member", Plan: "pro", Geo: "DE", Host: "shop.example.com", Flag: "beta"},
		ExpectedRate: 0.004, ObservedRate: 0.61, Requests: 700, Denials: 427, Identities: 212, Accounts: 38, UsedToGetIn: 197, Layer: "app", Causes: []string{"app_policy"},
		MarkerInfo: &incident.MarkerInfo{Kind: "release", Time: at, Version: "v2", Previous: "v1"}, Severity: incident.High, Team: "growth", Journey: "Upgrade", JourneyStep: 3, JourneySteps: 3}
	bare := incident.Incident{ID: "cd34", State: incident.Open, Direction: incident.Down, StartedAt: at, OpenedAt: at, Severity: incident.Low}
	var out []incident.Transition
	for _, in := range []incident.Incident{full, bare} {
		out = append(out, incident.Transition{Seq: 1, Kind: incident.Opened, At: at, Incident: in})
		in.State, in.Resolution, in.ResolvedAt = incident.Resolved, incident.Recovered, &end
		out = append(out, incident.Transition{Seq: 2, Kind: incident.ResolvedKind, At: end, Incident: in})
	}
	return out
}

// Words writes the texts of a transition; nil if every text is the default one. A
// template that fails leaves its default.
func (w *Wording) Words(t *incident.Transition) *incident.Words {
	if w == nil {
		return nil
	}
	plain := *t
	plain.Words = nil
	f := facts(&plain)
	out := func(parsed *template.Template) string {
		if parsed == nil {
			return ""
		}
		s, err := write(parsed, &f)
		if err != nil {
			return ""
		}
		return Clean(s, maxWords)
	}
	words := incident.Words{Headline: out(w.headline), Reason: out(w.reason), Next: out(w.next)}
	if f.Next == "" {
		words.Next = "" // nothing is to be done any more
	}
	if words == (incident.Words{}) {
		return nil
	}
	return &words
}

// write runs a template within a bound.
func write(parsed *template.Template, f *Facts) (string, error) {
	b := &bounded{left: 16 << 10}
	if err := parsed.Execute(b, f); err != nil {
		return "", err
	}
	return b.String(), nil
}

// bounded is a text that must not grow beyond a bound.
type bounded struct {
	strings.Builder
	left int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("it writes too much")
	}
	return b.Builder.Write(p)
}

// facts are what templates are given of a transition.
func facts(t *incident.Transition) Facts {
	in, s := &t.Incident, &t.Incident.Scope
	x := Render(*t)
	val := func(v string) string { return Clean(v, maxRoute) }
	f := Facts{
		Kind: string(t.Kind), Over: in.State == incident.Resolved,
		Headline: x.Headline, Reason: x.Reason, People: x.People, Contrast: x.Contrast, Since: x.Since, RefusedBy: x.Layer, Likely: x.Likely, Next: x.Next,
		ID: val(in.ID), Direction: string(in.Direction), Class: val(in.Class), Severity: string(in.Severity), Team: val(in.Team), Journey: val(in.Journey),
		Step: in.JourneyStep, Steps: in.JourneySteps,
		Service: val(s.Service), Prefix: val(s.Prefix), Route: val(s.Route), Role: val(s.Role), Plan: val(s.Plan), Country: val(s.Geo), Host: val(s.Host), Flag: val(s.Flag), Layer: val(in.Layer),
		Identities: in.Identities, Accounts: in.Accounts, UsedToGetIn: in.UsedToGetIn, Requests: in.Requests, Denials: in.Denials,
		Rate: percent(in.ObservedRate), Usual: percent(in.ExpectedRate),
	}
	if m := in.MarkerInfo; m != nil {
		f.Change, f.Version, f.Previous = val(m.Kind), val(m.Version), val(m.Previous)
	}
	return f
}
