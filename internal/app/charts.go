package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/denywatch/denywatch/alerts/chart"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/web"
)

// maxCharts bounds the pictures that are kept, each of some 20 KB.
const maxCharts = 64

// charts draws incidents, one at a time, and keeps what it drew last of each: several
// sinks show the same picture, and whoever has its address may ask again and again.
type charts struct {
	mu   sync.Mutex
	kept map[string]drawn // by incident
}

// drawn is a picture, and the trace that it is of.
type drawn struct {
	of  [sha256.Size]byte
	png []byte
}

// draw returns the picture of a trace, which nobody may change.
func (c *charts) draw(t *incident.Trace) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode a trace: %w", err)
	}
	of := sha256.Sum256(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.kept[t.Incident.ID]; ok && p.of == of {
		return p.png, nil
	}
	png, err := chart.Draw(t, nil)
	if err != nil {
		return nil, err
	}
	if c.kept == nil {
		c.kept = map[string]drawn{}
	}
	for id := range c.kept {
		if len(c.kept) < maxCharts {
			break
		}
		delete(c.kept, id) // any: it can be drawn again
	}
	c.kept[t.Incident.ID] = drawn{of, png}
	return png, nil
}

// chart draws an incident as it is now.
func (d *Daemon) chart(ctx context.Context, incident string) ([]byte, error) {
	t, err := backend{d}.Trace(ctx, incident)
	if err != nil {
		return nil, err
	}
	return d.charts.draw(&t)
}

// Chart implements web.Backend.
func (b backend) Chart(ctx context.Context, id string) ([]byte, error) {
	png, err := b.d.chart(ctx, id)
	if errors.Is(err, chart.ErrEmpty) {
		err = web.ErrNotFound
	}
	return png, err
}
