package configs

import (
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/internal/incident"
)

// named is how many sinks there are besides the console.
func (s *Sinks) named() int { return len(s.Webhook) + len(s.Slack) + len(s.Alertmanager) }

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
