package errorlog

import (
	"errors"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/parsers"
)

// Events returns p as a parser of events: each line that explains a denial is an
// event with CauseOnly set, every other line of an error log parsers.ErrSkip. p
// must not be used by itself any more.
//
// RequestID is Apache's log id. Path is the request target where the line has
// it, else, in Route, the file that the server complains of; its end is that of
// the target.
func (p *Parser) Events() parsers.Parser { return &events{p: p} }

type events struct {
	p     *Parser
	l     Line
	cause []byte
}

// Parse implements parsers.Parser.
func (x *events) Parse(line []byte, e *event.Event) error {
	err := x.p.Parse(line, &x.l)
	switch {
	case errors.Is(err, ErrSkip):
		return parsers.ErrSkip
	case err != nil:
		return parsers.ErrMismatch
	}
	l := &x.l
	e.Time, e.CauseOnly, e.Denial = l.Time, true, event.Refused
	e.Layer, e.Rule, e.Client, e.Host, e.RequestID, e.Status = l.Layer, l.Rule, l.Client, l.Host, l.LogID, l.Status
	x.cause = append(x.cause[:0], l.Cause...)
	e.Cause = x.cause
	switch {
	case len(l.Path) > 0 && !l.PathCut:
		e.Method, e.Path = l.Method, l.Path
	case len(l.File) > 0:
		e.Route = l.File
	}
	return nil
}
