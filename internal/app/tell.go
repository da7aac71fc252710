package app

import (
	"time"

	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/incident"
)

// attendEvery is how often it is looked for what is due to be told by the clock alone.
const attendEvery = time.Second

// wall is the wall clock; it means nothing in replay.
func (c *core) wall() time.Time { return time.Unix(0, c.now()).UTC() }

// route makes the core tell by a configuration's rules. Incidents from before there
// was a desk were told to every sink.
func (c *core) route(cfg *configs.Config) {
	c.desk.Configure(routing.New(&cfg.Routing, cfg.Recipients()))
	for _, id := range c.order {
		if t := c.last(id); t != nil && !c.untold[id] {
			c.desk.Adopt(t)
		}
	}
}

// last returns an incident's last transition, nil if it is not known.
func (c *core) last(id string) *incident.Transition {
	ts := c.timelines[id]
	if len(ts) == 0 {
		return nil
	}
	return &ts[len(ts)-1]
}

// opening says an incident, with all that is known of it now, as it is told at its
// opening: for lists of what was.
func (c *core) opening(in *incident.Incident) incident.Transition {
	t := incident.Transition{Kind: incident.Opened, At: in.OpenedAt, Incident: *in}
	t.Incident.State, t.Incident.Resolution, t.Incident.ResolvedAt = incident.Open, "", nil
	t.Words = c.desk.Words(&t)
	return t
}

// incidents are the open and the recent incidents as they are now.
func (c *core) incidents() []incident.Incident {
	list := c.det.Incidents()
	for i := range list {
		c.desk.Decorate(&list[i])
	}
	return list
}

// transition takes down what happened to an incident, and who is told. Nobody is told
// of what was over before anybody asked.
func (c *core) transition(t incident.Transition) {
	id := t.Incident.ID
	quietly := c.store == nil || c.untold[id] || t.At.Before(c.born.Add(-historyBefore))
	if quietly && c.store != nil {
		c.untold[id] = t.Kind != incident.ResolvedKind
	}
	if _, ok := c.timelines[id]; !ok {
		c.order = append(c.order, id)
	}
	steps, deliveries := c.desk.Take(t, c.wall(), quietly)
	c.timelines[id] = append(c.timelines[id], steps...)
	c.pending = append(c.pending, deliveries...)
	if c.store != nil {
		c.fresh = append(c.fresh, steps...)
	}
	if c.told != nil {
		for _, s := range steps {
			c.told(s)
		}
	}
	c.dirty = true
}

// attend tells what is due by the clock: what waited for quiet hours to end, many
// incidents in one message, what nobody acknowledged.
func (c *core) attend() {
	if time.Since(c.attended) < attendEvery {
		return
	}
	c.attended = time.Now()
	due, deliveries := c.desk.Tick(c.wall(), c.last)
	c.pending = append(c.pending, deliveries...)
	c.digests(c.wall())
	c.dirty = c.dirty || c.desk.Dirty()
	for _, x := range due {
		if in := c.incident(x.ID); in != nil {
			c.transition(incident.Transition{Kind: x.Kind, At: c.wall(), Incident: *in})
		}
	}
}

// incident is an incident as it is now, nil if there is none of that id.
func (c *core) incident(id string) *incident.Incident {
	for _, in := range c.det.Incidents() {
		if in.ID == id {
			return &in
		}
	}
	if t := c.last(id); t != nil {
		in := t.Incident
		return &in
	}
	return nil
}
