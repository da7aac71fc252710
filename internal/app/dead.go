package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/web"
)

func (d *Daemon) outbox() *alerts.Outbox {
	d.shown.mu.Lock()
	defer d.shown.mu.Unlock()
	return d.shown.outbox
}

// DeadLetters implements web.Backend.
func (b backend) DeadLetters(context.Context) ([]web.DeadLetter, error) {
	o := b.d.outbox()
	letters, err := o.DeadLetters()
	if err != nil {
		return nil, err
	}
	out := make([]web.DeadLetter, 0, len(letters))
	for i := range letters {
		l := &letters[i]
		d := &l.Delivery
		x := web.DeadLetter{ID: l.ID, Sink: d.Sink, Target: d.Target, At: l.At, QueuedAt: d.QueuedAt, Attempts: d.Attempts, Reason: l.Reason,
			Sendable: l.Raw == nil && o.Knows(d.Sink)}
		switch {
		case l.Raw != nil:
			x.What = "a record that could not be read"
		case d.Post != nil:
			x.What = d.Post.Headline
		default:
			x.Incident, x.What = d.Transition.Incident.ID, alerts.Render(d.Transition).Headline
		}
		out = append(out, x)
	}
	return out, nil
}

// Resend implements web.Backend.
func (b backend) Resend(_ context.Context, id string) error {
	return letterError(b.d.outbox().Resend(id))
}

// Drop implements web.Backend.
func (b backend) Drop(_ context.Context, id string) error { return letterError(b.d.outbox().Drop(id)) }

func letterError(err error) error {
	switch {
	case errors.Is(err, alerts.ErrNoLetter):
		return fmt.Errorf("%w: %w", web.ErrNotFound, err)
	case errors.Is(err, alerts.ErrNotSendable):
		return fmt.Errorf("%w: %w", web.ErrNotSendable, err)
	}
	return err
}
