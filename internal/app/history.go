package app

import (
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// summarise says, once in the life of a state, what denywatch would have told of
// the past that it has read, had it been there.
func (c *core) summarise() {
	if c.meta[metaHistory] != "" {
		return
	}
	c.meta[metaHistory] = "told"
	c.dirty = true
	st, _ := counted(c)
	first, err := time.Parse(time.RFC3339, c.meta[metaFirst])
	if err != nil || !first.Before(c.born.Add(-historyBefore)) {
		return // there was no past
	}
	var past []incident.Incident
	for _, id := range c.order {
		if ts := c.timelines[id]; ts[0].At.Before(c.born) {
			past = append(past, ts[len(ts)-1].Incident)
		}
	}
	c.log.Info("the past has been read; this is what it would have told you",
		"from", c.meta[metaFirst], "to", c.born.Format(time.RFC3339), "lines", st.Lines, "incidents", len(past))
	for i := range past[:min(len(past), maxHistory)] {
		in := &past[i]
		text := alerts.Render(c.opening(in))
		c.log.Info("the past would have told you", "what", text.Headline, "incident", in.ID, "when", when(in), "severity", string(in.Severity), "people", in.Identities)
	}
	if more := len(past) - maxHistory; more > 0 {
		c.log.Info("the past would have told you more; denywatch replay shows all", "incidents", more)
	}
}
