package kafka

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/event"
)

// The words by which Config.Fields names parts of a message.
const (
	// FromTopic is the name of the topic.
	FromTopic = "topic"
	// FromKey is the message's key.
	FromKey = "key"
	// FromTimestamp is the message's time: when it was written, or when the broker
	// took it, as the topic is set up. It is the only one for the field time.
	FromTimestamp = "timestamp"
	// FromHeader begins the name of a header: "header:service".
	FromHeader = "header:"
)

const (
	maxServices = 1000
	maxName     = 200
)

// validateFields checks Fields and Services.
func (c Config) validateFields(bad func(format string, args ...any)) {
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		if _, err := event.ParseKey(name); err != nil {
			bad("fields: %.40q: %v", name, err)
			continue
		}
		from := c.Fields[name]
		header, isHeader := strings.CutPrefix(from, FromHeader)
		switch {
		case name == event.KeyTime.String():
			if from != FromTimestamp {
				bad("fields.%s: must be timestamp, the message's own", name)
			}
		case from == FromTopic, from == FromKey:
		case isHeader && header != "" && visible(header):
		default:
			bad("fields.%s: must be topic, key or header:NAME", name)
		}
	}
	if len(c.Services) > maxServices {
		bad("services: more than %d", maxServices)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		service := c.Services[name]
		_, err := path.Match(name, "")
		switch {
		case name == "" || !visible(name):
			bad("services: a name is empty, longer than %d bytes or not printable", maxName)
		case err != nil:
			bad("services: %.40q is not a valid pattern: check its brackets", name)
		case service == "" || !visible(service):
			bad("services: %.40q names no service; give the one that incidents are to show, as in %.40s: shop", name, name)
		}
	}
}

// visible reports whether s is short enough and has no control characters.
func visible(s string) bool {
	return len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// fields is what the messages of a partition say besides their lines. A run of
// messages that say the same is one ingest.Batch.
type fields struct {
	rules    []fieldRule
	services map[string]string
	patterns []string // of services, the longest first
	said     []ingest.Field
}

// fieldRule tells where one field comes from.
type fieldRule struct {
	key    event.Key
	topic  bool
	header string // empty: the message's key, or its time
	now    []byte // what the current run says
	text   []byte // of the time
}

// newFields returns the fields of a topic's messages under a valid Config.
func newFields(c *Config, topic string) (f fields) {
	from := c.Fields
	if _, said := from[event.KeyService.String()]; !said && len(c.Services) > 0 {
		from = maps.Clone(from)
		if from == nil {
			from = map[string]string{}
		}
		from[event.KeyService.String()] = FromTopic
	}
	f.services = c.Services
	for name := range c.Services {
		if isPattern(name) {
			f.patterns = append(f.patterns, name)
		}
	}
	slices.SortFunc(f.patterns, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, name := range slices.Sorted(maps.Keys(from)) {
		key, err := event.ParseKey(name)
		if err != nil {
			continue // Validate tells of it
		}
		r := fieldRule{key: key, topic: from[name] == FromTopic}
		if r.topic {
			r.now = []byte(topic)
		}
		if name, is := strings.CutPrefix(from[name], FromHeader); is {
			r.header = name
		}
		f.rules = append(f.rules, r)
	}
	f.say()
	return f
}

// of returns what a message says under the rule, empty if nothing.
func (r *fieldRule) of(m *record) []byte {
	switch {
	case r.topic:
		return r.now
	case r.key == event.KeyTime && m.time < 0: // it has none
		return nil
	case r.key == event.KeyTime:
		r.text = strconv.AppendInt(r.text[:0], m.time, 10)
		return r.text
	case r.header == "":
		return m.key
	}
	return header(m.headers, r.header)
}

// differ reports whether a message says something else than the current run.
func (f *fields) differ(m *record) bool {
	for i := range f.rules {
		if r := &f.rules[i]; !r.topic && !bytes.Equal(r.of(m), r.now) {
			return true
		}
	}
	return false
}

// take begins a run of what a message says.
func (f *fields) take(m *record) {
	for i := range f.rules {
		if r := &f.rules[i]; !r.topic {
			r.now = append(r.now[:0], r.of(m)...)
		}
	}
	f.say()
}

// say makes the fields of the current run.
func (f *fields) say() {
	f.said = f.said[:0]
	for i := range f.rules {
		r := &f.rules[i]
		v := r.now
		if r.key == event.KeyService && len(f.services) > 0 {
			v = f.service(v)
		}
		if len(v) > 0 {
			f.said = append(f.said, ingest.Field{Key: r.key, Value: v})
		}
	}
}

// service is what a value stands for in Config.Services, empty if it is not there.
func (f *fields) service(v []byte) []byte {
	if s, known := f.services[string(v)]; known {
		return []byte(s)
	}
	for _, p := range f.patterns {
		if ok, err := path.Match(p, string(v)); ok && err == nil {
			return []byte(f.services[p])
		}
	}
	return nil
}
