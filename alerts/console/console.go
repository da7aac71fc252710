// Package console writes incident transitions to a terminal or a pipe, each as
// one short readable block.
//
// A stream cannot be asked what it holds, so a delivery that was cut short by a
// crash is written again: at least once, in order.
package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/incident"
)

// Options say how blocks look.
type Options struct {
	// Color uses ANSI colours; set it only for a terminal.
	Color bool
	// Location is the time zone of all times; nil means UTC.
	Location *time.Location
}

// Notifier writes transitions to a stream. It is safe for concurrent use.
type Notifier struct {
	mu  sync.Mutex
	w   io.Writer
	opt Options
}

// New returns a notifier that writes to w, one Write a transition.
func New(w io.Writer, opt Options) *Notifier { return &Notifier{w: w, opt: opt} }

// Notify implements alerts.Notifier. A failed write is temporary.
func (n *Notifier) Notify(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: err}
	}
	return nil, n.write(Format(d.Transition, n.opt))
}

// Post implements alerts.Poster. A failed write is temporary.
func (n *Notifier) Post(ctx context.Context, d *alerts.Delivery) (json.RawMessage, error) {
	if err := ctx.Err(); err != nil {
		return nil, &alerts.Error{Kind: alerts.Temporary, Refused: true, Err: err}
	}
	return nil, n.write(FormatPost(d.Post, n.opt))
}

// Test implements alerts.Tester.
func (n *Notifier) Test(context.Context, string) (string, error) {
	return "printed", n.write(alerts.TestText + "\n")
}

func (n *Notifier) write(block string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := io.WriteString(n.w, block); err != nil {
		return fmt.Errorf("console: write: %w", err)
	}
	return nil
}

// ANSI sequences.
const (
	bold, dim          = "\x1b[1m", "\x1b[2m"
	red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
	reset              = "\x1b[0m"
)

// FormatPost returns the block for a post. It ends with a line break.
func FormatPost(p *alerts.Post, opt Options) string {
	if opt.Location == nil {
		opt.Location = time.UTC
	}
	headline := p.Headline
	if opt.Color {
		headline = bold + headline + reset
	}
	var b strings.Builder
	fmt.Fprintf(&b, "■ %s  %s\n", p.At.In(opt.Location).Format("Mon 2 Jan 15:04"), headline)
	for _, part := range p.Parts {
		indent := "  "
		if part.Title != "" {
			b.WriteString("  " + part.Title + "\n")
			indent = "    "
		}
		for _, l := range part.Lines {
			b.WriteString(indent + l + "\n")
		}
	}
	return b.String()
}

// Format returns the block for one transition: a line with what happened, and
// below it, indented, the reason. It ends with a line break.
func Format(t incident.Transition, opt Options) string {
	if opt.Location == nil {
		opt.Location = time.UTC
	}
	x := alerts.Style{Location: opt.Location}.Render(t)
	paint := func(color, s string) string {
		if !opt.Color || s == "" {
			return s
		}
		return color + s + reset
	}
	sign, color := "●", red
	switch {
	case t.Kind == incident.ResolvedKind:
		sign, color = "○", green
	case t.Incident.Severity == incident.Low, t.Incident.Severity == incident.Medium:
		color = yellow
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s  %s", paint(color, sign), t.At.In(opt.Location).Format("Mon 2 Jan 15:04"), paint(bold, x.Headline))
	tags := x.Where
	if x.Badge != "" && t.Kind != incident.ResolvedKind {
		tags = append([]string{x.Badge}, tags...)
	}
	if len(tags) > 0 {
		b.WriteString("  " + paint(dim, strings.Join(tags, " · ")))
	}
	b.WriteByte('\n')
	line := func(parts ...string) {
		s := strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
		if s != "" {
			b.WriteString("  " + s + "\n")
		}
	}
	switch t.Kind {
	case incident.Opened, incident.Reopened:
	case incident.MergedKind, incident.Split:
		line(x.StepSentence(), x.Reason, x.People, x.Note)
		return b.String()
	case incident.Grew, incident.ResolvedKind:
		// What was said when it opened is not said again.
		line(x.StepSentence(), x.Reason, x.Back)
		for l := range strings.Lines(x.Check) {
			b.WriteString("    " + l)
		}
		return b.String()
	case incident.Unsilenced, incident.Escalated:
		// Perhaps nothing was said before.
		line(x.StepSentence(), x.Reason, x.People)
		return b.String()
	default:
		line(x.StepSentence())
		return b.String()
	}
	line(x.Reason, x.People, x.Contrast, x.Note)
	line(x.Since, x.Layer, x.Sure)
	switch {
	case x.Likely != "":
		line("Likely: " + x.Likely + ". Next: " + x.Next + ".")
	case x.Next != "":
		line("Next: " + x.Next + ".")
	}
	return b.String()
}
