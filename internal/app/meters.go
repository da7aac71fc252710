package app

import (
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// meters holds the daemon's metrics in a set of its own. Counters of what lives
// in the core are set when they are read; only sinks count as they go. It
// implements alerts.Meter.
type meters struct{ set *metrics.Set }

func newMeters() *meters { return &meters{set: metrics.NewSet()} }

// escapes are what the Prometheus text format asks for in a label's value:
// backslash, quote and newline only.
var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func label(v string) string { return escapes.Replace(v) }

func name(metric string, labels ...string) string {
	var b strings.Builder
	b.WriteString("denywatch_" + metric)
	for i := 0; i < len(labels); i += 2 {
		if i == 0 {
			b.WriteByte('{')
		} else {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + `="` + label(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	return b.String()
}

func (m *meters) count(n uint64, metric string, labels ...string) {
	m.set.GetOrCreateCounter(name(metric, labels...)).Set(n)
}

func (m *meters) gauge(x float64, metric string, labels ...string) {
	m.set.GetOrCreateGauge(name(metric, labels...), nil).Set(x)
}

// Delivered implements alerts.Meter.
func (m *meters) Delivered(sink string, wait time.Duration) {
	m.set.GetOrCreateCounter(name("deliveries_total", "sink", sink)).Inc()
	m.set.GetOrCreatePrometheusHistogram(name("delivery_wait_seconds", "sink", sink)).Update(wait.Seconds())
}

// Failed implements alerts.Meter.
func (m *meters) Failed(sink string, kind alerts.ErrorKind) {
	m.set.GetOrCreateCounter(name("delivery_errors_total", "sink", sink, "kind", kind.String())).Inc()
}

// Dead implements alerts.Meter.
func (m *meters) Dead(sink string) {
	m.set.GetOrCreateCounter(name("deliveries_dead_total", "sink", sink)).Inc()
}

// Coalesced implements alerts.Meter.
func (m *meters) Coalesced(sink string, n int) {
	m.set.GetOrCreateCounter(name("deliveries_coalesced_total", "sink", sink)).Add(n)
}

// marker counts what came of a message in a topic of markers.
func (m *meters) marker(result string) {
	m.set.GetOrCreateCounter(name("markers_kafka_total", "result", result)).Inc()
}

// acted counts what people did to incidents.
func (m *meters) acted(verb incident.Verb, via string) {
	m.set.GetOrCreateCounter(name("acts_total", "verb", string(verb), "via", via)).Inc()
}

// partitions brings up to date what is known of the partitions that Kafka sources
// read.
func (m *meters) partitions(topics map[string]*kafka.Source) {
	for source, k := range topics {
		m.gauge(float64(len(k.Missing())), "kafka_topics_missing", "source", source)
		for _, p := range k.Partitions() {
			labels := []string{"source", source, "topic", p.Topic, "partition", strconv.Itoa(p.ID)}
			reading := 0.0
			if p.Reading {
				reading = 1
			}
			m.gauge(reading, "kafka_partition_assigned", labels...)
			m.gauge(float64(p.Lag()), "kafka_lag_messages", labels...)
			m.count(p.Messages, "kafka_messages_total", labels...)
			m.count(p.Bytes, "kafka_bytes_total", labels...)
			m.count(p.Gaps, "kafka_gaps_total", labels...)
			m.count(p.Missed, "kafka_missed_messages_total", labels...)
			for reason, n := range p.Poison {
				m.count(n, "kafka_poison_messages_total", append(slices.Clone(labels), "reason", reason)...)
			}
		}
	}
}

// write brings the set up to date and writes it.
func (m *meters) write(w io.Writer, s *snapshot, sources []string, health []alerts.Health, size int64) {
	if s != nil {
		for i := range s.sources {
			src := &s.sources[i]
			m.count(src.Lines, "lines_total", "source", src.Name)
			m.count(src.Bytes, "bytes_total", "source", src.Name)
			for _, x := range []struct {
				why string
				n   uint64
			}{
				{"unparsed", src.Unparsed},
				{"no_request", src.Skipped},
				{"oversize", src.Oversize},
				{"ignored", src.Ignored},
				{"untimed", src.Untimed},
				{"future", src.Future},
			} {
				m.count(x.n, "lines_uncounted_total", "source", src.Name, "reason", x.why)
			}
			for _, word := range slices.Sorted(maps.Keys(src.Reasons)) {
				m.count(src.Reasons[word], "lines_skipped_or_unparsed_total", "source", src.Name, "reason", word)
			}
			suspended := 0.0
			if src.Suspended != 0 {
				suspended = 1
			}
			m.gauge(suspended, "source_suspended", "source", src.Name)
			m.count(src.Unjudged, "slots_unjudged_total", "source", src.Name)
			m.count(src.Late, "events_late_total", "source", src.Name)
			m.count(src.Folded, "keys_folded_total", "source", src.Name)
		}
		for _, n := range sources {
			m.gauge(s.lag(n).Seconds(), "source_lag_seconds", "source", n)
			m.gauge(float64(len(s.streams[n])), "source_streams", "source", n)
			trouble := 0.0
			if s.trouble(n) != "" {
				trouble = 1
			}
			m.gauge(trouble, "source_trouble", "source", n)
		}
		for v := range event.Vantages {
			if t, ok := s.watermark[v]; ok {
				m.gauge(s.now.Sub(t).Seconds(), "watermark_age_seconds", "vantage", v.String())
			}
		}
		m.gauge(float64(s.detector.Series), "series")
		m.gauge(float64(s.detector.Cells), "cells")
		m.gauge(float64(s.detector.Learning), "judges_learning")
		m.count(s.detector.Folded, "cells_folded_total")
		m.gauge(float64(s.detector.Open), "incidents_open")
		m.gauge(float64(s.openSlots), "slots_open")
		m.count(s.cuts, "cuts_total")
		m.gauge(s.cutTook.Seconds(), "cut_seconds")
		broken := 0.0
		if s.cutErr != nil {
			broken = 1
		}
		m.gauge(broken, "cut_failing")
	}
	m.gauge(float64(size), "state_bytes")
	for _, h := range health {
		m.gauge(float64(h.Depth), "outbox_depth", "sink", h.Sink)
		m.gauge(h.Oldest.Seconds(), "outbox_oldest_seconds", "sink", h.Sink)
		ok := 0.0
		if h.State == alerts.SinkOK {
			ok = 1
		}
		m.gauge(ok, "sink_ok", "sink", h.Sink)
	}
	m.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}
