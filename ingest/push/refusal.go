package push

import (
	"fmt"
	"net/http"
	"time"
)

// reason is why a batch was not taken.
type reason int

const (
	tooLarge reason = iota
	bomb
	damaged
	array
	unknownEncoding
	slow
	broken
	tooFast
	noMemory
	full
	disk
	stopped
	reasons // how many there are
)

// texts says of each reason its word in metrics, and the answer.
func (r reason) texts() (word string, status int, msg, hint string) {
	switch r {
	case tooLarge:
		return "too_large", http.StatusRequestEntityTooLarge, "the body is larger than the source takes", "send smaller batches, or raise push.max_body of the source"
	case bomb:
		return "too_large_decompressed", http.StatusRequestEntityTooLarge, "the batch, decompressed, is larger than the source takes", "send smaller batches, or raise push.max_batch of the source"
	case damaged:
		return "damaged", http.StatusBadRequest, "the body cannot be decompressed", "Content-Encoding must say how it is compressed: gzip, zstd (windows up to 8 MiB), or nothing"
	case array:
		return "array", http.StatusBadRequest, "the body is a JSON array, not lines", "send one JSON object a line: framing.method newline_delimited in Vector, Format json_lines in Fluent Bit"
	case unknownEncoding:
		return "encoding", http.StatusUnsupportedMediaType, "this Content-Encoding is unknown", "use gzip, zstd or none"
	case slow:
		return "slow", http.StatusRequestTimeout, "the body did not come in time", "send it again"
	case broken:
		return "broken", http.StatusBadRequest, "the body ended early", "send it again"
	case tooFast:
		return "rate", http.StatusTooManyRequests, "the source has taken as much as it may", "send it again after Retry-After, or raise push.max_rate of the source"
	case noMemory:
		return "busy", http.StatusServiceUnavailable, "too much is sent at a time", "send it again after Retry-After"
	case full:
		return "full", http.StatusServiceUnavailable, "what was pushed and not counted yet fills the spool", "send it again after Retry-After; GET /readyz says why counting does not follow"
	case disk:
		return "disk", http.StatusServiceUnavailable, "the batch cannot be written to the disk", "send it again after Retry-After; the daemon's log says why"
	case stopped:
		return "stopped", http.StatusServiceUnavailable, "the source is being started or stopped", "send it again after Retry-After"
	}
	return "other", http.StatusInternalServerError, "the batch cannot be taken", "the daemon's log says why"
}

// String returns the reason's word in metrics.
func (r reason) String() string {
	word, _, _, _ := r.texts()
	return word
}

// refusal is the error of a batch that is not taken.
type refusal struct {
	reason reason
	limit  int64 // that it was above, in bytes; 0 for the others
	after  int   // seconds after which it may be sent again; 0: what is usual
	cause  error
}

func (e *refusal) Error() string {
	_, _, msg, _ := e.reason.texts()
	if e.limit > 0 {
		msg = fmt.Sprintf("%s (%d bytes)", msg, e.limit)
	}
	return msg
}

func (e *refusal) Unwrap() error { return e.cause }

func refuse(r reason, limit int64) error { return &refusal{reason: r, limit: limit} }

func tooSoon(wait time.Duration) error {
	return &refusal{reason: tooFast, after: 1 + int(wait/time.Second)}
}

func refuseDamaged(err error) error { return &refusal{reason: damaged, cause: err} }

// retryAfter is how many seconds the sender should wait, 0 where it need not.
func (e *refusal) retryAfter() int {
	switch {
	case e.after > 0:
		return e.after
	case e.reason == full, e.reason == disk:
		return 10
	case e.reason == noMemory, e.reason == stopped, e.reason == tooFast:
		return 1
	}
	return 0
}
