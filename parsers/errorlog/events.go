package errorlog

import (
	"bytes"
	"errors"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/parsers"
)

// Events returns p as a parser of events: each line that explains a denial is an
// event with CauseOnly set, every other line of an error log parsers.ErrNoRefusal. p
// must not be used by itself any more.
//
// RequestID is Apache's log id, Conn nginx's number of the connection. Path is the
// request target where the line has it, or its beginning if that is long; else
// Route is the file that the server complains of: its end is that of the target.
// Both are without the escapes of Apache's log.
func (p *Parser) Events() parsers.Parser { return &events{p: p} }

// Among is Events for a log that holds other lines too: a line without the header
// of the server's error log is parsers.ErrMismatch.
func (p *Parser) Among() parsers.Parser { return &events{p: p, among: true} }

type events struct {
	p     *Parser
	among bool
	l     Line
	cause []byte
	plain []byte
}

// longPath is the length from which a path that a line's end cut names its
// request well enough.
const longPath = 1024

// Parse implements parsers.Parser.
func (x *events) Parse(line []byte, e *event.Event) error {
	err := x.p.Parse(line, &x.l)
	switch {
	case x.among && errors.Is(err, ErrFreeText):
		return parsers.ErrMismatch
	case errors.Is(err, ErrSkip):
		return parsers.ErrNoRefusal
	case err != nil:
		return parsers.ErrMismatch
	}
	l := &x.l
	e.Time, e.CauseOnly, e.Denial = l.Time, true, event.Refused
	e.Layer, e.Rule, e.Client, e.Host, e.RequestID, e.Conn, e.Status = l.Layer, l.Rule, l.Client, l.Host, l.LogID, l.Conn, l.Status
	x.cause = append(x.cause[:0], l.Cause...)
	e.Cause = x.cause
	switch {
	case len(l.Path) > 0 && (!l.PathCut || len(l.Path) >= longPath || bytes.IndexByte(l.Path, '?') >= 0):
		e.Method, e.Path = l.Method, x.unescaped(l.Path)
	case len(l.File) > 0:
		e.Route = x.unescaped(l.File)
	}
	return nil
}

// unescaped is v without the escapes of Apache's log; nginx writes none.
func (x *events) unescaped(v []byte) []byte {
	if !x.l.Escaped || bytes.IndexByte(v, '\\') < 0 {
		return v
	}
	x.plain = parsers.Unescape(x.plain[:0], v)
	return x.plain
}
