// Package parsers turns log lines into events. One file or folder holds one
// family of formats; New compiles a format once, and the Parser it returns is
// called for every line.
package parsers

import (
	"errors"

	"github.com/denywatch/denywatch/internal/event"
)

// Parser understands the lines of one stream. It may keep scratch space and
// memos, so each stream has its own and calls it from one goroutine.
type Parser interface {
	// Parse fills e from line (without its newline; a trailing '\r' is
	// ignored). e must have been Reset. The slices in e are views of line or of
	// the parser's scratch space and are valid until the next Parse or until
	// line dies. Parse does not allocate in steady state.
	//
	// ErrSkip means that the line is well-formed but no request (a comment, a
	// header); any other error that the line cannot be understood.
	Parse(line []byte, e *event.Event) error
}

// ErrSkip is returned for lines that are no requests and no mistakes.
var ErrSkip = errors.New("not a request")
