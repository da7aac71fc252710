// Package replica keeps one state on several hosts: of the members that share a
// topic one is active and writes, the others follow and take over.
//
// # The log decides
//
// The topic has one partition, so all members read the same records in the same
// order, and what holds is a function of that order alone. There is no other
// arbiter: no consumer group, whose coordinator can be of another opinion than the
// log and whose clients do not tell when their last heartbeat was confirmed.
//
//   - A claim opens a term. Its epoch is higher than that of every term before; of
//     two claims with the same epoch the first in the log holds.
//   - A transaction is one state.Store.Update: its puts and deletes, split into
//     parts that brokers take. It holds if and only if its last part stands in the
//     log before any claim of a higher epoch, all its parts are there in order, and
//     no part of a later transaction stands between them.
//   - The first transaction of a term is whole: everything the state holds. So a
//     term needs nothing of the terms before it, and whoever wakes up in a term
//     that is over writes into a place where nobody looks.
//
// Every member, the active one too, changes its store only by what it reads back.
// An active member that was frozen and wakes up reads the claim of its successor
// before its own parts, if those come at all: it cannot commit anything. The file
// is a cache that says which transaction it holds, and where in the log to go on.
//
// Each transaction names the one before it, so that a hole is found, whatever made
// it. A member that finds one reads on to the next whole transaction, and does not
// take over before.
//
// # An update whose outcome is not known
//
// When brokers are away an Update fails after a few seconds, but its parts may
// arrive later. The next Update therefore undoes what an unconfirmed one changed
// unless it writes it anew: afterwards it does not matter which of the two it was.
// If somebody else takes over in between, the unconfirmed one may hold; to its
// caller that is the same as a crash behind the commit.
//
// # When a member takes over
//
// At once if nobody ever was active, if the active one resigned (a clean stop), or
// if it was this very member in an earlier life: whoever has opened its store, and has
// its name, so that the store is no copy, knows that the earlier process is dead. Else
// when the log was silent for a session while it could be read to its end: the active
// member writes a beat every fifth of a session. The time counts anew whenever brokers
// could not be reached, so an outage of the brokers alone replaces nobody; and it counts
// until the log was asked, so neither does a standby that was frozen itself.
//
// A member with another identity key never takes over: the same people would have
// other hashes. One whose configuration counts differently does, but later than
// others, so that a changed configuration can be rolled out member by member and
// still nobody stands in the way of the last one that is left.
//
// # The lease
//
// The successor waits for a session since it read the last sign of life, which is
// later than it was sent. So for three quarters of a session after it sent what it
// has read back, the active member knows that nobody has replaced it; Holds says
// so. It is asked directly before something is done that cannot be undone: a
// notification. What is frozen between that question and the deed is in flight.
//
// # Room
//
// Every try to write a record has a key of its own, so compaction removes nothing by
// itself: neither the records of a transaction that holds because of those of one
// that does not, nor the copy that came in time because of one that came late. A whole transaction
// makes what lies before it superfluous, and tombstones follow it. The active
// member writes a whole one again when the transactions since the last are several
// times as large.
//
// # Cost
//
// With three brokers on one host of two cores an update of 1 to 100 KB takes 11 ms,
// one of 1 MB 38 ms; the whole state of 100 MB is written and read back in 2.4 s, and
// a member that restarts with one is active after 3.5 s. The whole state passes
// through memory about three times while it is written.
//
// # Limits
//
//   - Clocks of members need not agree, but must run at the same speed within a
//     quarter. The clock of a host that sleeps stands still on Linux.
//   - A topic that was deleted is filled again by the first member that takes
//     over, from its own file. A member that never had a copy may be active for a
//     moment before, with nothing.
package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/denywatch/denywatch/ingest/kafka"
)

// Errors of Update.
var (
	// ErrStandby: this member is not active.
	ErrStandby = errors.New("this member stands by; another one is active")
	// ErrSuperseded: another member has taken over; nothing can be written any more.
	ErrSuperseded = errors.New("another member of the cluster has taken over")
)

// Log is the topic; *kafka.Log implements it and says what the methods promise.
type Log interface {
	Ensure(ctx context.Context) error
	Bounds(ctx context.Context) (first, end int64, err error)
	Read(ctx context.Context, from int64, wait time.Duration) (kafka.Page, error)
	Append(ctx context.Context, records ...kafka.Record) error
}

// The defaults of Config's fields.
const (
	DefaultTopic   = "denywatch-state"
	DefaultSession = 10 * time.Second
)

// The bounds of Config.Session.
const (
	minSession = 2 * time.Second
	maxSession = 5 * time.Minute
)

// Config says where the members of a cluster meet. All of them have the same one
// but for Name.
type Config struct {
	// Brokers are host:port of some brokers of the Kafka cluster.
	Brokers []string `yaml:"brokers,one"`
	// TLS says how connections are encrypted, SASL who we are.
	TLS  kafka.TLS  `yaml:"tls"`
	SASL kafka.SASL `yaml:"sasl"`
	// Topic holds the state. It is created if it does not exist.
	Topic string `yaml:"topic"`
	// Session is how long the active member may be silent before another one takes
	// over.
	Session time.Duration `yaml:"session"`
	// Name is how people tell this member from the others; empty: the host's name.
	Name string `yaml:"name"`
}

// Named reports whether this is a cluster at all.
func (c Config) Named() bool { return len(c.Brokers) > 0 }

// Kafka is the part of c that package kafka obeys.
func (c Config) Kafka() kafka.Config {
	return kafka.Config{Brokers: c.Brokers, Topics: []string{c.Topic}, TLS: c.TLS, SASL: c.SASL}
}

// Member is c.Name or its default.
func (c Config) Member() string {
	if c.Name != "" {
		return c.Name
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "unnamed"
	}
	return host
}

// maxName bounds a member's name, which is shown to people.
const maxName = 200

// Validate returns all problems of c at once, each naming its field as in YAML. It
// does no I/O.
func (c Config) Validate() []error {
	var errs []error
	for _, err := range c.Kafka().Validate() {
		text := err.Error()
		switch {
		case strings.HasPrefix(text, "topics"):
			err = errors.New("topic: must be up to 249 letters, digits, dots, dashes or underscores")
		case strings.HasPrefix(text, "group"), strings.HasPrefix(text, "start"):
			continue
		}
		errs = append(errs, err)
	}
	if strings.ContainsAny(c.Topic, `*?[\`) {
		errs = append(errs, errors.New("topic: must be the name of one topic, not a pattern"))
	}
	if c.Session < minSession || c.Session > maxSession {
		errs = append(errs, fmt.Errorf("session: must be between %v and %v (%v is usual)", minSession, maxSession, DefaultSession))
	}
	if len(c.Name) > maxName || slices.ContainsFunc([]rune(c.Name), func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		errs = append(errs, fmt.Errorf("name: must be up to %d bytes without control characters", maxName))
	}
	return errs
}
