// Package routing decides who is told of an incident, how urgent it is, and why.
//
// Router is a pure function of the configuration and an incident: journeys say what
// matters to the product, owners who looks after what, teams where they are told.
// The Desk applies it over the life of incidents, when people are to be left alone or
// nobody reacts: it is the single writer of who was told of what.
//
// # Severity
//
// It begins with how many people are affected (incident.ByNumbers) and moves in steps:
// down one if hardly any of them got in before, or if they are only challenged; up one
// for a critical journey, which makes it high at least; a journey of high importance
// makes it medium at least; down one for a journey of low importance. A door that
// stands open against a declared rule is high at least.
//
// # Owners
//
// As in a CODEOWNERS file the last rule that matches decides, and the first one is the
// catch-all. An incident of a whole part of the product belongs to a rule only if all
// of that part does. The owner of a journey is told too when something is in its way,
// and owns it where only the catch-all speaks.
package routing

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// Config says what matters, and who is told. The zero value knows no teams: every
// sink is told of everything.
type Config struct {
	// Journeys are ways through the product that are worth more than their routes.
	Journeys []Journey `yaml:"journeys"`
	// Owners say which team looks after what. The last one that matches decides.
	Owners []Owner `yaml:"owners"`
	// Teams are told in places of their own.
	Teams []Team `yaml:"teams,named"`
	// Digest is the summary of everything.
	Digest CommonDigest `yaml:"digest"`
	// Templates are texts instead of the default ones.
	Templates alerts.Templates `yaml:"templates"`
}

// Journey is a named way through the product.
type Journey struct {
	Name string `yaml:"name"`
	// Steps are routes, or patterns of routes, in the order people take them; a method
	// may stand in front.
	Steps []string `yaml:"steps"`
	// Importance is critical, high, normal or low.
	Importance string `yaml:"importance"`
	// Owner is the team whose journey it is, empty for nobody's.
	Owner string `yaml:"owner"`
}

// StepRoute is the route of step number i, without the method.
func (j *Journey) StepRoute(i int) string {
	_, route := cutMethod(j.Steps[i])
	return route
}

// DefaultImportance is Journey.Importance if the file does not say.
const DefaultImportance = "normal"

// Owner is a rule: what the conditions match belongs to Team.
type Owner struct {
	Condition `yaml:",inline"`
	Team      string `yaml:"team"`
}

// Condition is a part of the product, of the people or of what can happen. Every list
// that is given must hold one value that fits; an empty one fits everything.
type Condition struct {
	// Match are patterns of routes, as those of access rules; "**" is all.
	Match   []string `yaml:"match,one" json:"match,omitempty"`
	Service []string `yaml:"service,one" json:"service,omitempty"`
	Role    []string `yaml:"role,one" json:"role,omitempty"`
	Plan    []string `yaml:"plan,one" json:"plan,omitempty"`
	Geo     []string `yaml:"geo,one" json:"geo,omitempty"`
	Host    []string `yaml:"host,one" json:"host,omitempty"`
	Flag    []string `yaml:"flag,one" json:"flag,omitempty"`
	// Layer is who refused (edge, web, app), Direction how it changed (up, down, new).
	Layer     []string `yaml:"layer,one" json:"layer,omitempty"`
	Direction []string `yaml:"direction,one" json:"direction,omitempty"`
}

// Team is where a team is told. Where it names no place of a kind, the sinks of that
// kind tell it at their own place.
type Team struct {
	// Name is the team's key in the file.
	Name string `yaml:"-"`
	// Slack is a channel for the first Slack sink that has a token, Email are addresses
	// for the first e-mail sink, instead of its own.
	Slack string   `yaml:"slack"`
	Email []string `yaml:"email,one"`
	// PagerDuty is the integration key of the team's own service, instead of the
	// PagerDuty sinks.
	PagerDuty secret.String `yaml:"pagerduty"`
	// Webhook is a sink of the team's own, beside all others.
	Webhook webhook.Config `yaml:"webhook"`
	// Mention are those to be called by name at Slack.
	Mention BySeverity `yaml:"mention"`
	// Timezone is the zone of the team's hours, UTC if empty.
	Timezone string     `yaml:"timezone"`
	Quiet    Quiet      `yaml:"quiet_hours"`
	Escalate Escalation `yaml:"escalate"`
	// Digest is the summary of what concerns the team.
	Digest Digest `yaml:"digest"`
}

// OwnSink is the name of the team's own sink of a kind: of Webhook or PagerDuty.
func (t *Team) OwnSink(kind string) string { return kind + "-" + t.Name }

// target is the team's place at a sink of a kind that has many, empty if it names none.
func (t *Team) target(kind string) string {
	switch kind {
	case KindSlack:
		return t.Slack
	case KindEmail:
		return strings.Join(t.Email, ",")
	}
	return ""
}

// BySeverity are Slack ids by the severity they are mentioned for.
type BySeverity struct {
	Critical []string `yaml:"critical,one"`
	High     []string `yaml:"high,one"`
	Medium   []string `yaml:"medium,one"`
	Low      []string `yaml:"low,one"`
}

func (b *BySeverity) of(s incident.Severity) []string {
	switch s {
	case incident.Critical:
		return b.Critical
	case incident.High:
		return b.High
	case incident.Medium:
		return b.Medium
	case incident.Low:
		return b.Low
	}
	return nil
}

// Sink is a sink as routing knows it.
type Sink struct {
	Name string
	// Kind is the sort of sink: "slack", "webhook", ...
	Kind string
	// MinSeverity is what an incident must have reached for the sink to be told; empty
	// for all.
	MinSeverity incident.Severity
	// People tells that people read it at once, so that their quiet hours hold and many
	// incidents become one message; else programs do.
	People bool
	// Posts tells that it takes posts (alerts.Poster), Channels that it has many
	// places, of which a team can name its own.
	Posts, Channels bool
	// Team is whose own it is; empty for a sink of all.
	Team string
}

// Router knows who is told. It is not changed after New and safe for concurrent use.
type Router struct {
	journeys []journey
	owners   []owner
	teams    map[string]*team
	order    []*team // as configured
	sinks    []Sink
	digest   CommonDigest
	zone     *time.Location // of digest
	wording  *alerts.Wording
}

type team struct {
	*Team
	zone *time.Location
}

type journey struct {
	*Journey
	steps []step
}

type step struct {
	method  string
	pattern access.Pattern
}

type owner struct {
	*Owner
	condition
}

// SetDefaults fills in what the file does not say.
func (c *Config) SetDefaults() {
	for i := range c.Journeys {
		c.Journeys[i].Importance = cmp.Or(c.Journeys[i].Importance, DefaultImportance)
	}
	for i := range c.Teams {
		c.Teams[i].Quiet.Below = cmp.Or(c.Teams[i].Quiet.Below, DefaultQuietBelow)
	}
}

// New makes a router of a valid configuration (see Config.Validate) and the sinks
// there are, in the order of the file.
func New(c *Config, sinks []Sink) *Router {
	r := &Router{teams: map[string]*team{}, sinks: sinks, digest: c.Digest, zone: zone(c.Digest.Timezone), wording: alerts.NewWording(c.Templates)}
	for i := range c.Teams {
		t := &team{Team: &c.Teams[i], zone: zone(c.Teams[i].Timezone)}
		r.teams[t.Name] = t
		r.order = append(r.order, t)
	}
	for i := range c.Journeys {
		j := journey{Journey: &c.Journeys[i]}
		for _, s := range j.Steps {
			method, route := cutMethod(s)
			p, _ := access.Compile(route)
			j.steps = append(j.steps, step{method, p})
		}
		r.journeys = append(r.journeys, j)
	}
	for i := range c.Owners {
		r.owners = append(r.owners, owner{&c.Owners[i], compile(&c.Owners[i].Condition)})
	}
	return r
}

// zone is a validated time zone.
func zone(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return l
}

// cutMethod splits "POST /billing/upgrade".
func cutMethod(s string) (method, route string) {
	if m, rest, ok := strings.Cut(s, " "); ok && !strings.HasPrefix(m, "/") {
		return m, strings.TrimSpace(rest)
	}
	return "", s
}

// Decision is what a router says of an incident.
type Decision struct {
	Severity incident.Severity
	// Why says how the severity came about, a clause each.
	Why []string
	// Journey is the name of the most important journey that the incident is in the way
	// of, empty if none; Step of Steps is the step, 0 if it is more than one.
	Journey     string
	Step, Steps int
	// Team owns it, empty if nobody does. Rule is the number of the owner rule that says
	// so, -1 if the journey does or nobody.
	Team string
	Rule int
	// Watcher is the team whose journey it is, if that is another.
	Watcher string
}

// Route decides about an incident as it is now. method is that of the requests; it is
// empty if it is not known, as that of an incident never is.
func (r *Router) Route(in *incident.Incident, method string) Decision {
	d := Decision{Rule: -1}
	var hit *journey
	for i := range r.journeys {
		j := &r.journeys[i]
		step, steps := j.hit(in, method)
		if steps == 0 || hit != nil && rank(j.Importance) <= rank(hit.Importance) {
			continue
		}
		hit = j
		d.Journey, d.Step, d.Steps = j.Name, 0, len(j.steps)
		if steps == 1 {
			d.Step = step
		}
	}
	for i := len(r.owners) - 1; i >= 0; i-- {
		if r.owners[i].fits(in) {
			d.Team, d.Rule = r.owners[i].Team, i
			break
		}
	}
	if hit != nil && hit.Owner != "" && hit.Owner != d.Team {
		if d.Rule <= 0 {
			d.Team, d.Rule = hit.Owner, -1
		} else {
			d.Watcher = hit.Owner
		}
	}
	d.Severity, d.Why = r.severity(in, hit)
	return d
}

// hit returns the first step that the incident is in the way of, from 1, and how many
// there are.
func (j *journey) hit(in *incident.Incident, method string) (step, steps int) {
	w := whereOf(&in.Scope)
	for i := range j.steps {
		s := &j.steps[i]
		if method != "" && s.method != "" && s.method != method || !w.meets(&s.pattern) {
			continue
		}
		if steps++; steps == 1 {
			step = i + 1
		}
	}
	return step, steps
}

// importances are the words of Journey.Importance from the least.
var importances = []string{"low", "normal", "high", "critical"}

func rank(importance string) int { return slices.Index(importances, importance) }

// AtLeast reports whether s is as urgent as least, which may be empty.
func AtLeast(s, least incident.Severity) bool {
	return slices.Index(incident.Severities, s) >= slices.Index(incident.Severities, least)
}

// strangersBelow is the share of people who got in before below which they count as
// strangers, and fewPeople the number below which that says nothing.
const (
	strangersBelow = 0.1
	fewPeople      = 10
)

// severity says how urgent an incident is, and why.
func (r *Router) severity(in *incident.Incident, j *journey) (incident.Severity, []string) {
	at := max(slices.Index(incident.Severities, incident.ByNumbers(in)), 0)
	var why []string
	say := func(n int, what string) {
		n = min(max(n, 0), len(incident.Severities)-1)
		if n == at {
			return
		}
		at = n
		why = append(why, string(incident.Severities[n])+" "+what)
	}
	if in.Direction == incident.Down {
		why = append(why, string(incident.Severities[at])+" by the share that was refused before")
	} else {
		why = append(why, string(incident.Severities[at])+" for "+alerts.Count(int(in.Identities), "person", "people"))
	}
	known := float64(in.UsedToGetIn) >= strangersBelow*float64(in.Identities)
	if in.Direction == incident.Up && in.AccessRule == nil && in.Identities >= fewPeople && !known {
		say(at-1, "because hardly any of them got in before")
	}
	if in.Class == event.Soft.String() {
		say(at-1, "because they are challenged, not refused")
	}
	if in.Direction == incident.Down && in.AccessRule != nil {
		say(max(at, slices.Index(incident.Severities, incident.High)), "because a door stands open against the access rules")
	}
	if j != nil {
		because := "because the journey " + j.Name + " is " + j.Importance
		switch j.Importance {
		case "critical":
			say(max(at+1, slices.Index(incident.Severities, incident.High)), because)
		case "high":
			say(max(at, slices.Index(incident.Severities, incident.Medium)), because)
		case "low":
			say(at-1, because)
		}
	}
	return incident.Severities[at], why
}

// Team returns a team, nil if there is none of that name. It must not be changed.
func (r *Router) Team(name string) *Team {
	if t := r.teams[name]; t != nil {
		return t.Team
	}
	return nil
}

// Place is somewhere an incident is told, and for which team.
type Place struct {
	alerts.Dest
	// Team is the team that is told there; empty for nobody in particular.
	Team string
	// Mention are those to be called by name for an incident of the asked severity.
	Mention []string
	// Sink is the sink it is at.
	Sink *Sink
}

// Places returns where the teams are told, and what belongs to no team, for the
// decision's severity. Sinks whose MinSeverity is not reached are left out. A place is
// there once, for the first team that is told there.
func (r *Router) Places(d Decision) []Place {
	out := r.placesOf(d.Team, d.Severity)
	if d.Watcher != "" {
		for _, p := range r.placesOf(d.Watcher, d.Severity) {
			if !slices.ContainsFunc(out, func(o Place) bool { return o.Dest == p.Dest }) {
				out = append(out, p)
			}
		}
	}
	return out
}

// mostUrgent is the severity that no sink leaves out.
const mostUrgent = incident.Critical

// placesOf returns where one team is told, or nobody in particular.
func (r *Router) placesOf(team string, s incident.Severity) []Place {
	var out []Place
	t := r.teams[team]
	if t == nil {
		t = nobody
	}
	named := map[string]bool{} // kinds at which the team's place was used
	for i := range r.sinks {
		sink := &r.sinks[i]
		if sink.Team != "" && sink.Team != team || sink.Kind == KindPagerDuty && sink.Team == "" && t.PagerDuty != "" {
			continue
		}
		p := Place{Dest: alerts.Dest{Sink: sink.Name}, Team: team, Sink: sink}
		if sink.Channels && !named[sink.Kind] {
			p.Target, named[sink.Kind] = t.target(sink.Kind), true
		}
		if sink.Kind == KindSlack {
			p.Mention = t.Mention.of(s)
		}
		if AtLeast(s, sink.MinSeverity) {
			out = append(out, p)
		}
	}
	return out
}

// nobody is a team that names no place.
var nobody = &team{Team: &Team{}, zone: time.UTC}

// Everywhere returns all places that can be told, each once.
func (r *Router) Everywhere() []alerts.Dest {
	var out []alerts.Dest
	add := func(team string) {
		for _, p := range r.placesOf(team, mostUrgent) {
			if !slices.Contains(out, p.Dest) {
				out = append(out, p.Dest)
			}
		}
	}
	add("")
	for _, t := range r.order {
		add(t.Name)
	}
	return out
}

// The kinds of sinks.
const (
	KindConsole      = "console"
	KindWebhook      = "webhook"
	KindSlack        = "slack"
	KindAlertmanager = "alertmanager"
	KindPagerDuty    = "pagerduty"
	KindEmail        = "email"
	KindShoutrrr     = "shoutrrr"
)
