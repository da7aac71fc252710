package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/chart"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/secret"
)

// slackSinks adds the configured Slack sinks to out. Sinks of one app share its pace.
func (d *Daemon) slackSinks(c *configs.Config, out map[string]alerts.Notifier) error {
	var errs []error
	paces := map[secret.String]*slack.Pace{}
	for _, s := range c.Sinks.Slack {
		if paces[s.Post.Token] == nil {
			paces[s.Post.Token] = slack.NewPace(0)
		}
		n, err := slack.New(s.Post, slack.Options{Log: d.opt.Log.With("sink", s.Name), Pace: paces[s.Post.Token], Chart: d.chart})
		if err != nil {
			errs = append(errs, fmt.Errorf("sink %s: %w", s.Name, err))
			continue
		}
		out[s.Name] = n
	}
	return errors.Join(errs...)
}

// chart draws an incident as it is now.
func (d *Daemon) chart(ctx context.Context, incident string) ([]byte, error) {
	t, err := backend{d}.Trace(ctx, incident)
	if err != nil {
		return nil, err
	}
	return chart.Draw(&t, nil)
}
