package app

import (
	"errors"
	"fmt"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/alertmanager"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/pagerduty"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/alerts/shoutrrr"
	"github.com/denywatch/denywatch/configs"
)

// otherSinks adds to out the configured Alertmanagers, pagers and mail servers.
func (d *Daemon) otherSinks(c *configs.Config, out map[string]alerts.Notifier) error {
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
	for i := range c.Routing.Teams {
		if t := &c.Routing.Teams[i]; t.PagerDuty != "" {
			n, err := pagerduty.New(c.TeamPager(t))
			add(t.OwnSink(routing.KindPagerDuty), n, err)
		}
	}
	for i := range c.Sinks.Email {
		s := &c.Sinks.Email[i]
		n, err := email.New(s.Post, email.Options{Log: d.opt.Log.With("sink", s.Name), Chart: d.chart})
		add(s.Name, n, err)
	}
	for i := range c.Sinks.Shoutrrr {
		s := &c.Sinks.Shoutrrr[i]
		n, err := shoutrrr.New(s.Post)
		add(s.Name, n, err)
	}
	return errors.Join(errs...)
}
