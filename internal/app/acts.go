package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/web"
)

// act does what a person decided about an incident, as transitions of its time line.
// The error is web.ErrNotFound, or an error that says what is wrong. Doing the same
// again changes nothing.
func (c *core) act(id string, verb incident.Verb, act incident.Act) error {
	act.At = c.wall()
	in := c.incident(id)
	if in == nil {
		return fmt.Errorf("incident %s: %w", printable(id), web.ErrNotFound)
	}
	c.desk.Decorate(in)
	switch open := in.State == incident.Open; {
	case open && verb == incident.Reopen, verb == incident.Merge && in.MergedInto != "" && in.MergedInto == act.Other:
		return nil
	case !open && verb != incident.Reopen:
		return fmt.Errorf("incident %s is over already: %w", id, web.ErrOver)
	}
	if verb != incident.Silence {
		act.Until = time.Time{}
	}
	if verb != incident.Merge {
		act.Other = ""
	}
	t := incident.Transition{At: act.At, Incident: *in, Act: &act}
	var others []incident.Transition // of the other incident
	switch verb {
	case incident.Acknowledge:
		if old := in.Acknowledged; old != nil && old.By == act.By && old.ID == act.ID {
			return nil
		}
		t.Kind = incident.Acknowledged
	case incident.Silence:
		if err := checkUntil(act); err != nil {
			return err
		}
		t.Kind = incident.Silenced
	case incident.Unsilence:
		if in.Silenced == nil {
			return nil
		}
		t.Kind = incident.Unsilenced
	case incident.Accept, incident.Dismiss:
		over, ok := c.det.Accept(id)
		if !ok {
			return fmt.Errorf("incident %s is not judged any more: %w", id, web.ErrOver)
		}
		over.Incident.Resolution = incident.Accepted
		if verb == incident.Dismiss {
			over.Incident.Resolution = incident.Dismissed
		}
		t = over
	case incident.Reopen:
		again, err := c.det.Reopen(id)
		if err != nil {
			return fmt.Errorf("incident %s is not opened again: %w; %w", id, err, web.ErrUnfit)
		}
		act.Other = in.MergedInto
		t, others = again[0], again[1:]
	case incident.Merge:
		if c.incident(act.Other) == nil {
			return fmt.Errorf("incident %s: %w", printable(act.Other), web.ErrNotFound)
		}
		over, grown, err := c.det.Merge(id, act.Other)
		if err != nil {
			return fmt.Errorf("incident %s is not merged into %s: %w; %w", id, act.Other, err, web.ErrUnfit)
		}
		t, others = over, []incident.Transition{grown}
	default:
		return fmt.Errorf("%q is nothing that can be done to an incident", printable(string(verb)))
	}
	t.At, t.Act = act.At, &act
	c.transition(t)
	for _, o := range others {
		if o.Kind != incident.ResolvedKind { // that it ends without the first is nobody's act
			same := act
			same.Other = id
			o.At, o.Act = act.At, &same
		}
		c.transition(o)
	}
	return nil
}

// mergeable lists the open incidents that one can be merged into: of the same service and
// direction.
func (c *core) mergeable(id string) (list []incident.Incident) {
	in := c.incident(id)
	if in == nil {
		return nil
	}
	for _, o := range c.incidents() {
		if o.ID != id && o.State == incident.Open && o.Scope.Service == in.Scope.Service && (o.Direction == incident.Down) == (in.Direction == incident.Down) {
			list = append(list, o)
		}
	}
	return list
}

// Mergeable is what clicks in Slack choose from, the latest first.
func (b backend) Mergeable(ctx context.Context, id string) (list []incident.Incident, err error) {
	err = b.d.core.post(ctx, func() { list = openFirst(b.d.core.mergeable(id)) })
	return list, err
}

// maxSilence bounds a silence: what nobody wants to hear of is accepted, not silenced
// for ever.
const maxSilence = 30 * 24 * time.Hour

// checkUntil checks when a silence ends.
func checkUntil(act incident.Act) error {
	if d := act.Until.Sub(act.At); d <= 0 || d > maxSilence {
		return fmt.Errorf("a silence lasts up to %d days: %w", maxSilence/(24*time.Hour), web.ErrBadSilence)
	}
	return nil
}

// Act implements web.Backend, and what clicks in Slack do. When it returns without
// error the act is durable.
func (b backend) Act(ctx context.Context, id string, verb incident.Verb, act incident.Act) error {
	return b.change(ctx, func(c *core) error {
		err := c.act(id, verb, act)
		if err == nil {
			b.d.meters.acted(verb, act.Via)
		}
		return err
	})
}

// change runs f on the core's goroutine and makes what it changed durable.
func (b backend) change(ctx context.Context, f func(c *core) error) error {
	var failed error
	if err := b.d.core.post(ctx, func() {
		c := b.d.core
		if failed = f(c); failed == nil && (c.dirty || c.desk.Dirty()) {
			failed = c.cut()
		}
	}); err != nil {
		return err
	}
	return failed
}

// Silences implements web.Backend.
func (b backend) Silences(ctx context.Context) (out []incident.Silencing, err error) {
	err = b.d.core.post(ctx, func() { out = b.d.core.desk.Silences(b.d.core.wall()) })
	return out, err
}

// Silence implements web.Backend.
func (b backend) Silence(ctx context.Context, scope incident.Scope, act incident.Act) (s incident.Silencing, err error) {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	s = incident.Silencing{ID: "s-" + hex.EncodeToString(id[:]), Scope: &scope}
	err = b.change(ctx, func(c *core) error {
		act.At = c.wall()
		if err := checkUntil(act); err != nil {
			return err
		}
		s.Act = act
		ids, err := c.desk.Hush(s, c.incidents())
		if err != nil {
			return fmt.Errorf("the silence cannot be used, %w: %w", err, web.ErrBadSilence)
		}
		for _, id := range ids {
			if err := c.act(id, incident.Silence, act); err != nil {
				return err
			}
		}
		b.d.meters.acted(incident.Silence, act.Via)
		return nil
	})
	return s, err
}

// Unsilence implements web.Backend.
func (b backend) Unsilence(ctx context.Context, id string, act incident.Act) error {
	return b.change(ctx, func(c *core) error {
		ids, ok := c.desk.Unhush(id)
		if !ok {
			ids = []string{id} // that of one incident
		}
		for _, id := range ids {
			if err := c.act(id, incident.Unsilence, act); err != nil {
				return err
			}
		}
		b.d.meters.acted(incident.Unsilence, act.Via)
		return nil
	})
}
