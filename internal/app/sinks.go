package app

import (
	"errors"
	"fmt"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/configs"
)

// pagers adds to out the configured sinks that page or list incidents elsewhere.
func pagers(c *configs.Config, out map[string]alerts.Notifier) error {
	var errs []error
	add := func(name string, n alerts.Notifier, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("sink %s: %w", name, err))
			return
		}
		out[name] = n
	}
	for i := range c.Sinks.Alertmanager {
		s := &c.Sinks.Alertmanager[i]
		n, err := alertmanager.New(s.Post)
		add(s.Name, n, err)
	}
	for i := range c.Sinks.PagerDuty {
		s := &c.Sinks.PagerDuty[i]
		n, err := pagerduty.New(s.Post)
		add(s.Name, n, err)
	}
	return errors.Join(errs...)
}
