package routing_test

import (
	"strings"
	"testing"

	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/internal/incident"
)

// shop is a configuration with everything.
func shop() *routing.Config {
	c := &routing.Config{
		Journeys: []routing.Journey{
			{Name: "Docs", Steps: []string{"/docs/**"}, Importance: "low"},
			{Name: "Upgrade", Steps: []string{"/pricing", "/billing/plans", "POST /billing/upgrade"}, Importance: "critical", Owner: "growth"},
			{Name: "Invoices", Steps: []string{"/billing/invoices/{id}"}, Importance: "high", Owner: "finance"},
		},
		Owners: []routing.Owner{
			{Team: "platform", Condition: routing.Condition{Match: []string{"**"}}},
			{Team: "growth", Condition: routing.Condition{Match: []string{"/billing/**"}}},
			{Team: "support", Condition: routing.Condition{Match: []string{"/billing/**"}, Role: []string{"agent"}, Direction: []string{"up"}}},
			{Team: "security", Condition: routing.Condition{Layer: []string{"edge"}}},
		},
		Teams: []routing.Team{
			{Name: "platform"},
			{Name: "growth", Slack: "#growth", Mention: routing.BySeverity{Critical: []string{"S0123456789"}}},
			{Name: "security", Slack: "#sec"}, {Name: "support", Email: []string{"a@example.com", "b@example.com"}, PagerDuty: "key"}, {Name: "finance", Slack: "#finance"},
		},
	}
	c.SetDefaults()
	return c
}

var sinks = []routing.Sink{
	{Name: "console", Kind: routing.KindConsole, Posts: true},
	{Name: "bus", Kind: routing.KindWebhook},
	{Name: "slack", Kind: routing.KindSlack, People: true, Posts: true, Channels: true},
	{Name: "pager", Kind: "pager", People: true, MinSeverity: incident.High},
	{Name: "webhook-finance", Kind: routing.KindWebhook, Team: "finance"},
}

// pagers are more sinks of kinds of which teams have their own.
var pagers = append(sinks[:len(sinks):len(sinks)],
	routing.Sink{Name: "email", Kind: routing.KindEmail, People: true, Posts: true, Channels: true},
	routing.Sink{Name: "email-2", Kind: routing.KindEmail, People: true, Posts: true, Channels: true},
	routing.Sink{Name: "pagerduty", Kind: routing.KindPagerDuty, People: true},
	routing.Sink{Name: "pagerduty-support", Kind: routing.KindPagerDuty, People: true, Team: "support"},
)

func at(route string) incident.Incident {
	return incident.Incident{ID: "a1", State: incident.Open, Direction: incident.Up, Class: incident.ClassRefused, Layer: "app",
		Identities: 20, UsedToGetIn: 20, Scope: incident.Scope{Service: "shop", Route: route}}
}

func TestRoute(t *testing.T) {
	r := routing.New(shop(), sinks)
	for _, c := range []struct {
		name   string
		change func(in *incident.Incident)
		method string
		want   string // team, watcher, journey, step/steps, severity
	}{
		{"the catch-all", func(in *incident.Incident) { in.Scope.Route = "/search" }, "", "platform, , , 0/0, medium"},
		{"an owner and a journey", func(*incident.Incident) {}, "", "growth, , Upgrade, 3/3, high"},
		{"a method that is no step", func(*incident.Incident) {}, "GET", "growth, , , 0/0, medium"},
		{"the last match wins", func(in *incident.Incident) { in.Scope.Role = "agent" }, "", "support, growth, Upgrade, 3/3, high"},
		{"another direction", func(in *incident.Incident) { in.Scope.Role, in.Direction = "agent", incident.New }, "", "growth, , Upgrade, 3/3, high"},
		{"another layer; the journey's owner watches", func(in *incident.Incident) { in.Layer = "edge" }, "", "security, growth, Upgrade, 3/3, high"},
		{"only the catch-all: the journey's owner owns", func(in *incident.Incident) { in.Scope.Route = "/pricing" }, "", "growth, , Upgrade, 1/3, high"},
		{"a placeholder", func(in *incident.Incident) { in.Scope.Route = "/billing/invoices/{number}" }, "", "growth, finance, Invoices, 1/1, medium"},
		{"a part of the product", func(in *incident.Incident) { in.Scope.Route, in.Scope.Prefix = "", "/billing" }, "", "growth, , Upgrade, 0/3, high"},
		{"a part that only partly is growth's", func(in *incident.Incident) { in.Scope.Route, in.Scope.Prefix = "", "/bill" }, "", "platform, , , 0/0, medium"},
		{"the whole site", func(in *incident.Incident) { in.Scope.Route, in.Scope.Prefix = "", "/" }, "", "growth, , Upgrade, 0/3, high"},
		{"names that are no routes", func(in *incident.Incident) { in.Scope.Route = "_other" }, "", "platform, , , 0/0, medium"},
		{"hostile names", func(in *incident.Incident) { in.Scope.Route, in.Scope.Prefix = "", "//**/{{" }, "", "platform, , , 0/0, medium"},
		{"many people", func(in *incident.Incident) { in.Identities, in.UsedToGetIn = 600, 500 }, "", "growth, , Upgrade, 3/3, critical"},
		{"few people", func(in *incident.Incident) { in.Identities, in.UsedToGetIn = 3, 3 }, "", "growth, , Upgrade, 3/3, high"},
		{"strangers", func(in *incident.Incident) { in.UsedToGetIn, in.Scope.Route = 0, "/search" }, "", "platform, , , 0/0, low"},
		{"strangers to a new route", func(in *incident.Incident) {
			in.UsedToGetIn, in.Scope.Route, in.Direction = 0, "/search", incident.New
		}, "", "platform, , , 0/0, medium"},
		{"challenged", func(in *incident.Incident) { in.Class, in.Scope.Route = "soft", "/search" }, "", "platform, , , 0/0, low"},
		{"a low journey", func(in *incident.Incident) { in.Scope.Route = "/docs/a" }, "", "platform, , Docs, 1/1, low"},
		{"an open door", func(in *incident.Incident) { in.Direction, in.Scope.Route = incident.Down, "/search" }, "", "platform, , , 0/0, medium"},
		{"an open door against a rule", func(in *incident.Incident) {
			in.Direction, in.Scope.Route, in.AccessRule = incident.Down, "/search", &incident.AccessRule{}
		}, "", "platform, , , 0/0, high"},
	} {
		in := at("/billing/upgrade")
		c.change(&in)
		d := r.Route(&in, c.method)
		got := strings.Join([]string{d.Team, d.Watcher, d.Journey, string(rune('0'+d.Step)) + "/" + string(rune('0'+d.Steps)), string(d.Severity)}, ", ")
		if got != c.want {
			t.Errorf("%s: got %s, want %s (%v)", c.name, got, c.want, d.Why)
		}
		if len(d.Why) == 0 || !strings.HasPrefix(d.Why[len(d.Why)-1], string(d.Severity)+" ") {
			t.Errorf("%s: %s is not explained by %q", c.name, d.Severity, d.Why)
		}
	}
}

// TestPlaces: a team's own place replaces that of the sink, and nothing is told twice.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		sinks []routing.Sink
		d     routing.Decision
		want  string
	}{
		{pagers, routing.Decision{Severity: incident.Low, Team: "support"}, "console bus slack email=a@example.com,b@example.com email-2 pagerduty-support"},
		{pagers, routing.Decision{Severity: incident.Low, Team: "growth"}, "console bus slack=#growth email email-2 pagerduty"},
		{sinks, routing.Decision{Severity: incident.Low}, "console bus slack"},
		{sinks, routing.Decision{Severity: incident.High}, "console bus slack pager"},
		{sinks, routing.Decision{Severity: incident.Medium, Team: "platform"}, "console bus slack"},
		{sinks, routing.Decision{Severity: incident.Critical, Team: "growth"}, "console bus slack=#growth(S0123456789) pager"},
		{sinks, routing.Decision{Severity: incident.Medium, Team: "growth"}, "console bus slack=#growth"},
		{sinks, routing.Decision{Severity: incident.Medium, Team: "security", Watcher: "finance"}, "console bus slack=#sec slack=#finance webhook-finance"},
		{sinks, routing.Decision{Severity: incident.Medium, Team: "gone"}, "console bus slack"},
	} {
		var got []string
		for _, p := range routing.New(shop(), c.sinks).Places(c.d) {
			s := p.Dest.Sink
			if p.Target != "" {
				s += "=" + p.Target
			}
			if len(p.Mention) > 0 {
				s += "(" + strings.Join(p.Mention, " ") + ")"
			}
			got = append(got, s)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: told at %v, want %s", c.d, got, c.want)
		}
	}
}

// TestEverywhere: all places are there once, also those of teams.
func TestEverywhere(t *testing.T) {
	var got []string
	for _, to := range routing.New(shop(), pagers).Everywhere() {
		got = append(got, strings.Trim(to.Sink+"="+to.Target, "="))
	}
	const want = "console bus slack pager email email-2 pagerduty slack=#growth slack=#sec email=a@example.com,b@example.com pagerduty-support slack=#finance webhook-finance"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("/billing/**", "/billing/upgrade", "/billing", "member")
	f.Add("**", "", "", "")
	f.Add("/{a}x/*", "/{bx/", "//", "\x00")
	f.Fuzz(func(t *testing.T, match, route, prefix, role string) {
		c := &routing.Config{
			Owners:   []routing.Owner{{Team: "a"}, {Team: "b", Condition: routing.Condition{Match: []string{match}, Role: []string{role}}}},
			Journeys: []routing.Journey{{Name: "j", Steps: []string{match}, Importance: "high"}},
			Teams:    []routing.Team{{Name: "a"}, {Name: "b"}},
		}
		c.SetDefaults()
		if len(c.Validate()) > 0 {
			t.Skip()
		}
		in := at(route)
		in.Scope.Prefix, in.Scope.Role = prefix, role
		if d := routing.New(c, sinks).Route(&in, ""); d.Team == "" {
			t.Errorf("nobody owns %+v", in.Scope)
		}
	})
}
