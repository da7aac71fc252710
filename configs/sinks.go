package configs

import (
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/alerts/shoutrrr"
	"github.com/denywatch/denywatch/internal/incident"
)

// named is how many sinks there are besides the console.
func (s *Sinks) named() int {
	return len(s.Webhook) + len(s.Slack) + len(s.Alertmanager) + len(s.PagerDuty) + len(s.Email) + len(s.Shoutrrr)
}

// Alertmanager is a Prometheus Alertmanager, or a cluster of them.
type Alertmanager struct {
	// Name tells sinks apart; "alertmanager" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: url, headers and labels.
	Post alertmanager.Config `yaml:",inline"`
}

func (a *Alertmanager) setDefaults() { a.Name, a.MinSeverity = "alertmanager", incident.Low }

// PagerDuty is a service of PagerDuty that is paged.
type PagerDuty struct {
	// Name tells sinks apart; "pagerduty" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: routing_key and url.
	Post pagerduty.Config `yaml:",inline"`
}

func (p *PagerDuty) setDefaults() { p.Name, p.MinSeverity = "pagerduty", incident.Low }

// Email is a mail server and who is told through it.
type Email struct {
	// Name tells sinks apart; "email" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: server, tls, user, password, from and to.
	Post email.Config `yaml:",inline"`
}

func (e *Email) setDefaults() {
	e.Name, e.MinSeverity, e.Post.TLS = "email", incident.Low, email.DefaultTLS
}

// TeamPager is the service of PagerDuty of a team that names one: at the address of the
// first PagerDuty sink, or the usual one.
func (c *Config) TeamPager(t *routing.Team) pagerduty.Config {
	p := pagerduty.Config{RoutingKey: t.PagerDuty}
	if len(c.Sinks.PagerDuty) > 0 {
		p.URL = c.Sinks.PagerDuty[0].Post.URL
	}
	return p
}

// Shoutrrr is a place that shoutrrr reaches.
type Shoutrrr struct {
	// Name tells sinks apart; "shoutrrr" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: url.
	Post shoutrrr.Config `yaml:",inline"`
}

func (s *Shoutrrr) setDefaults() { s.Name, s.MinSeverity = "shoutrrr", incident.Low }
