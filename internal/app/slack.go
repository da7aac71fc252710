package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/denywatch/denywatch/alerts"
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

// clicking is what clicks in Slack come in through.
type clicking struct {
	// signed takes those that Slack sends, sockets those that come through connections of
	// ours.
	signed  *slack.Clicks
	sockets *group

	mu    sync.Mutex
	conns []*slack.Socket
}

// startClicks takes clicks for the apps of cfg.
func (d *Daemon) startClicks(ctx context.Context, cfg *configs.Config) {
	g, ctx := newGroup(ctx)
	var secrets []secret.String
	var conns []*slack.Socket
	for i := range cfg.Sinks.Slack {
		s := &cfg.Sinks.Slack[i]
		if key := s.Post.SigningSecret; key != "" && !slices.Contains(secrets, key) {
			secrets = append(secrets, key)
		}
		if app := s.Post.AppToken; app != "" && !slices.ContainsFunc(conns, func(c *slack.Socket) bool { return c.App() == app }) {
			conns = append(conns, slack.NewSocket(s.Post, backend{d}, d.opt.Log.With("sink", s.Name)))
		}
	}
	d.clicks.signed.SetSecrets(secrets)
	for _, c := range conns {
		g.start(func() { c.Run(ctx) })
	}
	d.clicks.sockets = g
	d.clicks.mu.Lock()
	defer d.clicks.mu.Unlock()
	d.clicks.conns = conns
}

// stop ends the connections; signed clicks are still taken.
func (c *clicking) stop() {
	c.sockets.stop()
	c.signed.Close()
}

// troubles says why clicks do not come in.
func (c *clicking) troubles() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, s := range c.conns {
		if t := s.Trouble(); t != "" {
			out = append(out, "Slack: "+t)
		}
	}
	return out
}
