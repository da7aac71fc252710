package kafka

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/secret"
)

// The defaults of Config's fields; each stands for the zero value.
const (
	DefaultGroup   = "denywatch"
	DefaultStart   = StartFirst
	DefaultMaxLine = 1 << 20
)

// The words that Config.Start takes besides a time and a duration.
const (
	// StartFirst begins with the oldest message there is.
	StartFirst = "first"
	// StartLast begins with what is written from now on.
	StartLast = "last"
)

// The mechanisms that SASL.Mechanism takes.
const (
	Plain       = "plain"
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
)

// mechanisms are all of them.
var mechanisms = []string{Plain, ScramSHA256, ScramSHA512}

// Config says which topics a Source reads and how it gets there. The zero value
// of every field but Brokers and Topics is its default.
type Config struct {
	// Brokers are host:port of some brokers of the cluster, tried in turn; the
	// others are learned from them.
	Brokers []string `yaml:"brokers,one"`
	// Topics are names or patterns ("shop.*"; path.Match). Patterns never match
	// internal topics, whose names begin with two underscores.
	Topics []string `yaml:"topics,one"`
	// Group is the consumer group. Members of one group share the partitions.
	Group string `yaml:"group"`
	// Start is where a partition begins that has neither a position of ours nor a
	// committed offset: first, last, a time (RFC 3339) or how long back
	// (24h). It holds in the very
	// first run; a partition that appears later is read from its first message,
	// because nothing else could be exact.
	Start string `yaml:"start"`
	// Fields are the parts of a message that say something of its line: from a field
	// of the event (see event.ParseKey) to FromTopic, FromKey, FromTimestamp or
	// FromHeader and a name. What they say counts more than what the line does.
	Fields map[string]string `yaml:"fields" effect:"recount"`
	// Services says which service the value of Fields' service stands for, that of
	// the topic if Fields names none; keys may be patterns (path.Match). Values that
	// are not listed say nothing. Empty: the value is the service.
	Services map[string]string `yaml:"services" effect:"recount"`
	// TLS says how connections are encrypted, SASL who we are.
	TLS  TLS  `yaml:"tls"`
	SASL SASL `yaml:"sasl"`
	// Alone reads all partitions without joining the group; see the package.
	Alone bool `yaml:"-"`
	// MaxLine is the longest value, in bytes, that is delivered; longer ones are
	// skipped and counted. It belongs to the source around this group.
	MaxLine int `yaml:"-"`
}

// Topics are topics whose messages are something else than the lines of a source.
// Its fields mean what those of Config do.
type Topics struct {
	Brokers []string `yaml:"brokers,one"`
	Topics  []string `yaml:"topics,one"`
	Group   string   `yaml:"group"`
	Start   string   `yaml:"start"`
	TLS     TLS      `yaml:"tls"`
	SASL    SASL     `yaml:"sasl"`
}

// Named reports whether anything is said of where to read.
func (t Topics) Named() bool { return t.Config().Named() }

// Config returns how to read them.
func (t Topics) Config() Config {
	return Config{Brokers: t.Brokers, Topics: t.Topics, Group: t.Group, Start: t.Start, TLS: t.TLS, SASL: t.SASL}
}

// TLS says how connections to brokers are encrypted. The files are read anew for
// every connection, so a renewed certificate needs no restart.
type TLS struct {
	// Enabled turns TLS on.
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file with the authorities that sign the brokers' certificates;
	// empty: the system's.
	CA string `yaml:"ca"`
	// Cert and Key are PEM files with a client's certificate; empty: none.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// SASL says who we are.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512; empty: nobody asks.
	Mechanism string `yaml:"mechanism"`
	// User and Password are sent, or proven with SCRAM.
	User     string        `yaml:"user"`
	Password secret.String `yaml:"password"`
}

// Named reports whether anything is said of where to read: a source is a Kafka
// source then.
func (c Config) Named() bool { return len(c.Brokers)+len(c.Topics) > 0 }

// maxTopic bounds a topic's name, as Kafka does.
const maxTopic = 249

// Validate returns all problems of c at once, each naming its field as in YAML.
// It does no I/O.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: no broker named; give at least one host:port, such as kafka-1:9092")
	}
	for i, b := range c.Brokers {
		if !isAddress(b) {
			bad("brokers[%d]: must be host:port, such as kafka-1:9092", i)
		}
	}
	if len(c.Topics) == 0 {
		bad("topics: no topic named; give at least one name, or a pattern such as shop.*")
	}
	for i, t := range c.Topics {
		_, err := path.Match(t, "")
		switch {
		case t == "":
			bad("topics[%d]: is empty", i)
		case err != nil:
			bad("topics[%d]: is not a valid pattern: check its brackets", i)
		case !isPattern(t) && !isTopic(t):
			bad("topics[%d]: must be up to %d letters, digits, dots, dashes or underscores (* stands for any)", i, maxTopic)
		case slices.Index(c.Topics, t) < i:
			bad("topics[%d]: is the same as topics[%d]", i, slices.Index(c.Topics, t))
		}
	}
	if len(c.Group) > maxTopic || strings.ContainsFunc(c.Group, func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("group: must be up to %d plain characters without spaces", maxTopic)
	}
	if _, err := startTime(c.Start, time.Time{}); err != nil {
		bad("start: must be first, last, a time such as 2026-01-31T00:00:00Z, or how long back, such as 24h")
	}
	c.validateFields(bad)
	t := c.TLS
	switch {
	case !t.Enabled && (t.CA != "" || t.Cert != "" || t.Key != ""):
		bad("tls.enabled: files are named but TLS is off; set it to true")
	case (t.Cert == "") != (t.Key == ""):
		bad("tls.cert: a client's certificate needs both cert and key")
	}
	s := c.SASL
	switch {
	case s.Mechanism == "" && (s.User != "" || s.Password != ""):
		bad("sasl.mechanism: is missing; %s are known", strings.Join(mechanisms, ", "))
	case s.Mechanism == "":
	case !slices.Contains(mechanisms, s.Mechanism):
		bad("sasl.mechanism: must be one of %s", strings.Join(mechanisms, ", "))
	case s.User == "":
		bad("sasl.user: is missing")
	case s.Password == "":
		bad("sasl.password: is missing")
	}
	return errs
}

// Plaintext reports whether the password would cross the network in the clear.
func (c Config) Plaintext() bool { return c.SASL.Mechanism == Plain && !c.TLS.Enabled }

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, numErr := strconv.ParseUint(port, 10, 16)
	return err == nil && numErr == nil && n > 0 && host != "" && !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' })
}

func isPattern(topic string) bool { return strings.ContainsAny(topic, `*?[\`) }

// isTopic tells whether Kafka takes s for a topic's name.
func isTopic(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return s != "" && s != "." && s != ".." && len(s) <= maxTopic
}

// startTime returns the time that s names at now; zero for the words.
func startTime(s string, now time.Time) (time.Time, error) {
	if s == "" || s == StartFirst || s == StartLast {
		return time.Time{}, nil
	}
	if back, err := time.ParseDuration(s); err == nil && back > 0 {
		return now.Add(-back), nil
	}
	return time.Parse(time.RFC3339, s)
}

// withDefaults returns c with its zero fields filled in.
func (c Config) withDefaults() Config {
	if c.Group == "" {
		c.Group = DefaultGroup
	}
	if c.Start == "" {
		c.Start = DefaultStart
	}
	if c.MaxLine == 0 {
		c.MaxLine = DefaultMaxLine
	}
	return c
}
