// Package push takes lines that are sent over HTTP: POST /v1/ingest/{source}. Its
// Server listens and answers; a Source is one name of a path, and reads what was
// sent to it as a stream.
//
// # What senders are promised
//
//   - 200 means that the whole batch is on the disk and is counted exactly once,
//     over kill -9 and power cuts. Any other answer means that nothing of it is
//     counted.
//   - A batch that is sent again is answered 200 and not counted again. It is
//     known by its content, decompressed, together with the header Idempotency-Key,
//     if it has one: batches of the same content under different keys count each.
//     Package spool says for how long. Content counts in any case, so that a key
//     that was set to a constant loses nothing. Senders that may log equal lines in
//     the same second, such as the hosts behind a load balancer, have a key each.
//   - 429 and 503 carry Retry-After: the same batch may succeed later. 400, 413 and
//     415 will not pass by themselves.
//
// A body is lines, JSON or any other text, and the last one needs no newline.
// Content-Encoding is gzip, zstd or nothing; what is compressed without saying so
// is recognised. An empty body says that the sender lives.
//
// Cloudflare Logpush sends whole batches again, so they are known like others; its
// lines are not looked into for their RayID: a request that several firewall rules
// match has several lines with one RayID, so that taking only the first would lose
// lines, and remembering every line would cost more than counting it. The file that it sends when a job is set
// up, {"content":"tests"}, is answered 200 and not counted. A challenge of ownership
// is asked for buckets only, not for HTTP.
//
// # Event time
//
// Nobody knows what a sender has not sent yet. While batches come, event time
// follows what they hold. When nothing came for five seconds it follows the clock,
// as for any source less its lateness, which must therefore cover how long senders
// gather. When nothing came for the lateness, the source says that it cannot know,
// and slots are held for up to ten minutes, so that what a sender kept while it
// could not reach us is counted and judged where it belongs.
//
// # Limits
//
// A request is bounded in bytes as sent and as decompressed, bodies in memory
// together to 64 MiB, connections to 2,048. A sender must bring 32 KiB or the end of
// its body every ten seconds, and the whole in two minutes.
package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/spool"
	"github.com/denywatch/denywatch/internal/secret"
)

// settle is how long nothing must have come for a sender to have sent what it had.
const settle = 5 * time.Second

// The defaults of a source's limits.
const (
	DefaultMaxBody  = 16 << 20
	DefaultMaxBatch = 256 << 20
	DefaultSpool    = 2 << 30
)

// The bounds that Validate sets.
const (
	minBody, maxBody   = 64 << 10, 64 << 20
	minBatch, maxBatch = 64 << 10, 4 << 30
	minRate            = 1 << 10
	minSpool, maxSpool = 256 << 20, 1 << 40
)

// Config says who may push to a source, and how much.
type Config struct {
	// Name is the source's name, the last part of the path.
	Name string
	// Dir is the folder of its spool.
	Dir string
	// Tokens are the senders; at least one.
	Tokens []secret.Token
	// MaxBody and MaxBatch bound one request, in bytes as sent and decompressed.
	MaxBody, MaxBatch int64
	// MaxRate bounds how many bytes, decompressed, are taken in a second; 0: no
	// bound.
	MaxRate int64
	// Spool bounds what waits to be counted, in bytes as sent.
	Spool int64
	// MaxLine is the longest line that is read; longer ones are skipped and counted.
	MaxLine int
	// Lateness is how long after its time a line may come.
	Lateness time.Duration
}

// Validate returns all problems of what c says of senders and limits, each naming
// its field as in YAML. It does no I/O.
func (c Config) Validate() []error {
	var errs []error
	bad := func(path, format string, args ...any) { errs = append(errs, fmt.Errorf(path+": "+format, args...)) }
	if len(c.Tokens) == 0 {
		bad("tokens", "no sender is named, so nobody could push; give one, such as {name: vector, token: ${PUSH_TOKEN}}")
	}
	(&secret.Checker{Bad: func(path, message string) { bad(path, "%s", message) }}).Tokens("tokens", c.Tokens)
	if c.MaxBody < minBody || c.MaxBody > maxBody {
		bad("max_body", "must be between 64KiB and 64MiB (16MiB is usual)")
	}
	if c.MaxBatch < minBatch || c.MaxBatch > maxBatch {
		bad("max_batch", "must be between 64KiB and 4GiB (256MiB is usual)")
	}
	if c.MaxRate != 0 && c.MaxRate < minRate {
		bad("max_rate", "must be at least 1KiB, or 0 for no limit")
	}
	if c.Spool < minSpool || c.Spool > maxSpool {
		bad("spool", "must be between 256MiB and 1TiB (2GiB is usual)")
	}
	return errs
}

// Source reads what was pushed to one name. It implements ingest.Source.
type Source struct {
	cfg    Config
	log    *slog.Logger
	tokens secret.Tokens
	quota  quota

	spool   atomic.Pointer[spool.Spool] // nil while Run does not run
	started time.Time
	heard   atomic.Int64 // Unix nanoseconds of the last batch; 0: none

	batches, lines, bytes, sent atomic.Uint64
	rejected                    [reasons]atomic.Uint64
}

var _ ingest.Source = (*Source)(nil)

// New returns the source of a valid Config (see Config.Validate). It opens nothing
// yet.
func New(cfg Config, log *slog.Logger) *Source {
	s := &Source{cfg: cfg, log: log.With("component", "ingest/push"), tokens: secret.Hash(cfg.Tokens), started: time.Now()}
	s.quota.perSecond = cfg.MaxRate
	return s
}

// Run implements ingest.Source. It returns an error only when the spool cannot be
// read or the host cannot open the stream; batches are refused meanwhile.
func (s *Source) Run(ctx context.Context, host ingest.Host) error {
	sp, err := spool.Open(s.cfg.Dir, spool.Options{MaxBytes: s.cfg.Spool, MaxLine: s.cfg.MaxLine}, s.log)
	if err != nil {
		return err
	}
	s.spool.Store(sp)
	err = sp.Follow(ctx, host, s.cfg.Name, s.quiet)
	s.spool.Store(nil)
	return errors.Join(err, sp.Close())
}

// quiet says what it means that nothing more is there, as spool.Follow asks.
func (s *Source) quiet() error {
	at := s.heard.Load()
	if at == 0 {
		return fmt.Errorf("nothing was pushed since the start at %s", s.started.UTC().Format(time.RFC3339))
	}
	last := time.Unix(0, at)
	switch silence := time.Since(last); {
	case silence < settle:
		return spool.ErrMore
	case silence > max(s.cfg.Lateness, settle+time.Second):
		return fmt.Errorf("nothing was pushed since %s", last.UTC().Format(time.RFC3339))
	}
	return nil
}

// Stats is what is known of a source.
type Stats struct {
	// Batches, Lines and Bytes count what was taken, decompressed; Sent its bytes as
	// they were sent.
	Batches, Lines, Bytes, Sent uint64
	// Rejected counts what was not, by reason.
	Rejected map[string]uint64
	// Spool is what waits, and counts the batches that were sent again.
	Spool spool.Stats
	// Heard is when the last batch came; zero: none since the start.
	Heard time.Time
}

// Stats returns what is known of the source since it was made. It may be called at
// any time by any goroutine.
func (s *Source) Stats() Stats {
	st := Stats{Batches: s.batches.Load(), Lines: s.lines.Load(), Bytes: s.bytes.Load(), Sent: s.sent.Load(), Rejected: map[string]uint64{}}
	for r := range s.rejected {
		st.Rejected[reason(r).String()] = s.rejected[r].Load()
	}
	if sp := s.spool.Load(); sp != nil {
		st.Spool = sp.Stats()
	}
	if at := s.heard.Load(); at != 0 {
		st.Heard = time.Unix(0, at)
	}
	return st
}

// quota bounds what is taken in a second. A batch may be larger than that: it is
// taken, and those behind it wait until it is paid for.
type quota struct {
	perSecond int64 // bytes; 0: no bound

	mu   sync.Mutex
	paid time.Time // when all that was taken is paid for
}

// wait is how long it is until the next batch may come.
func (q *quota) wait(now time.Time) time.Duration { return q.spend(0, now) }

// spend notes that n bytes are taken, or returns how long it is until they may be.
func (q *quota) spend(n int64, now time.Time) time.Duration {
	if q.perSecond == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait := q.paid.Add(-time.Second).Sub(now); wait > 0 {
		return wait
	}
	if q.paid.Before(now) {
		q.paid = now
	}
	q.paid = q.paid.Add(time.Duration(float64(n) / float64(q.perSecond) * float64(time.Second)))
	return 0
}
