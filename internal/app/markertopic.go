package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/web"
)

// markerSource stands in positions and metrics for the topics of markers. No
// source can have this name, and no stream of a source begins with it.
const markerSource = "markers:kafka"

// The ends that a message of such a topic comes to, as the metrics name them.
const (
	markerNew      = "new"
	markerKnown    = "known"
	markerBad      = "bad"      // no marker
	markerConflict = "conflict" // its id is that of another one
)

// markerTopics takes the markers in the topics of one configuration. A message is
// one marker as POST /v1/markers takes it; its time is the message's if it names
// none itself, so that reading it again gives the same marker. A marker and the
// position behind it are parts of one durable cut. It implements ingest.Host and
// is safe for concurrent use.
type markerTopics struct {
	core   *core
	meters *meters
	log    *slog.Logger
	saved  []string // streams of earlier runs

	mu       sync.Mutex
	troubles map[string]string // by stream
}

var _ ingest.Host = (*markerTopics)(nil)

// startMarkers follows the topics of markers, if any are configured.
func (d *Daemon) startMarkers(ctx context.Context, g *group, cfg *configs.Config, own map[string][]string) {
	if !cfg.Markers.Kafka.Named() {
		return
	}
	log := d.opt.Log.With("component", "markers")
	c := cfg.Markers.Kafka.Config()
	c.Alone = true // markers are for every denywatch, not one for each
	c.Fields = map[string]string{event.KeyTime.String(): kafka.FromTimestamp}
	src := kafka.New(c, log)
	m := &markerTopics{core: d.core, meters: d.meters, log: log, troubles: map[string]string{}}
	for _, stream := range own[markerSource] {
		m.saved = append(m.saved, strings.TrimPrefix(stream, markerSource+":"))
	}
	d.shown.mu.Lock()
	d.shown.topics[markerSource], d.shown.markers = src, m
	d.shown.mu.Unlock()
	g.start(func() { supervise(ctx, markerSource, src, m, log) })
}

// Open implements ingest.Host.
func (m *markerTopics) Open(ctx context.Context, stream string) (ingest.Handler, ingest.Position, error) {
	var at ingest.Position
	h := &markerHandler{markerTopics: m, stream: stream, key: markerSource + ":" + stream}
	err := m.core.post(ctx, func() { at = m.core.positions[h.key].At })
	return h, at, err
}

// Saved implements ingest.Host.
func (m *markerTopics) Saved() []string { return m.saved }

// Durable implements ingest.Host.
func (m *markerTopics) Durable(stream string) (ingest.Position, bool) {
	return m.core.durable.position(markerSource + ":" + stream)
}

// Ready implements ingest.Host. Event time does not wait for markers: they may
// come late.
func (*markerTopics) Ready() {}

// trouble says what is wrong with the topics, empty if nothing.
func (m *markerTopics) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(slices.Compact(slices.Sorted(maps.Values(m.troubles))), "; ")
}

func (m *markerTopics) setTrouble(stream, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if what == "" {
		delete(m.troubles, stream)
	} else {
		m.troubles[stream] = what
	}
}

// markerHandler takes the markers of one partition.
type markerHandler struct {
	*markerTopics
	stream string
	key    string // of its position
	warned bool   // of a message since the last one that was good
}

// message is one that was decoded.
type message struct {
	offset int64
	marker marker.Marker
	bad    error
	end    string // what came of it
}

// Batch implements ingest.Handler.
func (h *markerHandler) Batch(ctx context.Context, b *ingest.Batch) error {
	h.setTrouble(h.stream, "")
	at := time.Now()
	for _, f := range b.Fields {
		if ms, err := strconv.ParseInt(string(f.Value), 10, 64); err == nil && f.Key == event.KeyTime {
			at = time.UnixMilli(ms)
		}
	}
	var list []message
	for line := range b.Each() {
		x := message{offset: b.Start.Offset + int64(len(list))}
		x.marker, x.bad = marker.Decode(line)
		list = append(list, x)
	}
	end := position{markerSource, b.End}
	if err := h.core.post(ctx, func() {
		for i := range list {
			x := &list[i]
			x.end = markerBad
			if x.bad == nil {
				x.end = h.core.markOnce(&x.marker, at)
			}
		}
		h.core.moveTo(h.key, end)
	}); err != nil {
		return err
	}
	for i := range list {
		h.tell(&list[i])
	}
	return nil
}

// tell counts and logs what came of a message; never what it holds, unless that
// is a marker.
func (h *markerHandler) tell(x *message) {
	h.meters.marker(x.end)
	switch x.end {
	case markerNew, markerKnown:
		h.warned = false
		h.log.Info("marker taken", "id", x.marker.ID, "kind", string(x.marker.Kind), "time", x.marker.Time, "known", x.end == markerKnown, "stream", h.stream)
	case markerConflict:
		h.log.Warn("a marker of this id is known with other content; the new one is left out: give the changed marker another id", "id", x.marker.ID, "stream", h.stream, "offset", x.offset)
	default:
		if !h.warned {
			h.log.Warn("a message is no marker and is left out, as the next ones of this partition are without a word; POST /v1/markers tells of the same text what is wrong", "stream", h.stream, "offset", x.offset)
			h.warned = true
		}
	}
}

// CaughtUp implements ingest.Handler.
func (h *markerHandler) CaughtUp(ctx context.Context) error {
	h.setTrouble(h.stream, "")
	return ctx.Err()
}

// Unknown implements ingest.Handler.
func (h *markerHandler) Unknown(err error) { h.setTrouble(h.stream, err.Error()) }

// Close implements ingest.Handler.
func (h *markerHandler) Close(ctx context.Context, forget bool) error {
	h.setTrouble(h.stream, "")
	if !forget {
		return nil
	}
	if err := h.core.post(ctx, func() { h.core.forget(h.key) }); !errors.Is(err, web.ErrStopping) {
		return err
	}
	return nil
}

// Leave implements ingest.Handler.
func (h *markerHandler) Leave(ctx context.Context) error { return h.Close(ctx, false) }

// markOnce takes a marker that may have been sent before, and tells what came of
// it. at is its time if it names none.
func (c *core) markOnce(m *marker.Marker, at time.Time) string {
	unnamed, untimed := m.ID == "", m.Time.IsZero()
	if m.Normalise(at) != nil {
		return markerBad
	}
	for {
		k, known := c.marker(m.ID)
		switch {
		case !known:
			c.mark(*m)
			return markerNew
		case marker.Same(k, *m), !unnamed && untimed && marker.SameChange(k, *m):
			return markerKnown
		case !unnamed:
			return markerConflict
		}
		unnamed = false
		if m.Repeated(); m.Normalise(at) != nil {
			return markerBad
		}
	}
}

// marker returns the marker of an id.
func (c *core) marker(id string) (marker.Marker, bool) {
	for _, k := range c.det.Markers() {
		if k.ID == id {
			return k, true
		}
	}
	return marker.Marker{}, false
}

// markerTrouble lists what is wrong with the topics of markers. It is called with
// shown.mu held.
func (d *Daemon) markerTrouble() (list []string) {
	m, src := d.shown.markers, d.shown.topics[markerSource]
	if m == nil || src == nil {
		return nil
	}
	if t := m.trouble(); t != "" {
		list = append(list, t)
	}
	return append(list, src.Missing()...)
}
