package app

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/parsers"
)

// ParseOptions say which lines to show and how.
type ParseOptions struct {
	// Files and Format are as in ReplayOptions.
	Files  []string
	Format string
	Config *configs.Config
	// Lines is how many events to show of each log; 0 shows all.
	Lines int
	// JSON writes one object per event with the keys of an event.
	JSON bool
	// Stats reads everything and shows counts instead of events.
	Stats          bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            *slog.Logger
}

// Parse shows how lines are understood. It returns how many lines were not.
func Parse(ctx context.Context, opt ParseOptions) (unparsed int, err error) {
	cfg := opt.Config
	if cfg == nil {
		cfg = configs.Default()
	}
	r := ReplayOptions{Files: opt.Files, Format: opt.Format, Stdin: opt.Stdin, Log: opt.Log}
	inputs, err := r.inputs(ctx, cfg)
	if err != nil {
		return 0, err
	}
	base, _, err := shared(cfg, collect.FixedIdentityKey(), int64(cfg.Slot/time.Second), opt.Log)
	if err != nil {
		return 0, err
	}
	for _, in := range inputs {
		if in.unknown != nil {
			return 0, in.unknown
		}
	}
	join, err := explanations(ctx, inputs, &base, opt.Lines > 0 && !opt.Stats)
	if err != nil {
		return 0, err
	}
	// Error logs explain the others' denials; alone they are shown themselves.
	alone := !slices.ContainsFunc(inputs, func(in *input) bool { return in.errors == nil })
	w := bufio.NewWriter(opt.Stdout)
	for _, in := range inputs {
		if in.errors != nil && !alone {
			continue
		}
		one := base
		cc := &one
		cc.Source, cc.Log = in.name, opt.Log
		if in.service != "" {
			cc.Service = in.service
		}
		if cc.Vantage, err = in.sees(); err != nil {
			return unparsed, err
		}
		p := &shower{cc: cc, in: in, parser: in.parser(), opt: opt, left: opt.Lines, reasons: map[string]int{}, join: join, alone: alone}
		if opt.Stats {
			p.left, p.stats = 0, newFieldStats()
		}
		if opt.JSON && !opt.Stats {
			p.json = json.NewEncoder(w)
			p.json.SetEscapeHTML(false)
		} else {
			fmt.Fprintf(w, "%s: %s, vantage %s", printable(in.name), in.text, cc.Vantage)
			if in.why != "" {
				fmt.Fprintf(w, " (recognised: %s)", in.why)
			}
			fmt.Fprintln(w)
			p.table = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			if p.stats == nil {
				fmt.Fprintln(p.table, "TIME\tSTATUS\tMETHOD\tROUTE\tROLE\tGEO\tWHO\tLAYER\tCAUSE")
			}
		}
		err := in.read(ctx, p, func(int64, int64) {})
		if err != nil && !errors.Is(err, errEnough) {
			return unparsed, err
		}
		unparsed += p.unparsed
		if p.table != nil {
			if err := p.table.Flush(); err != nil {
				return unparsed, err
			}
			fmt.Fprintf(w, "%s read, %s understood, %s no requests, %s not understood\n",
				count(p.lines, "line", "lines"), group3(uint64(p.shown)), group3(uint64(p.skipped)), group3(uint64(p.unparsed)))
			if p.ignored > 0 {
				fmt.Fprintf(w, "  ignored by your rules: %s\n", count(p.ignored, "request", "requests"))
			}
			for _, reason := range slices.SortedFunc(maps.Keys(p.reasons), func(a, b string) int {
				return cmp.Or(p.reasons[b]-p.reasons[a], strings.Compare(a, b))
			}) {
				fmt.Fprintf(w, "  %s: %s, first on line %d\n", reason, count(p.reasons[reason], "line", "lines"), p.first[reason])
			}
			for _, c := range p.changes {
				fmt.Fprintln(w, "  "+printable(c))
			}
			if statusless(uint64(p.reasons[parsers.ErrNoStatus.Error()]), uint64(p.lines)) {
				fmt.Fprintln(w, "  "+nameStatus)
			}
			if p.stats != nil {
				p.stats.write(w)
			}
		}
		if err := w.Flush(); err != nil {
			return unparsed, err
		}
	}
	return unparsed, nil
}

// shower is a handler that shows events.
type shower struct {
	cc     *collect.Config
	in     *input
	parser parsers.Parser
	opt    ParseOptions
	left   int
	json   *json.Encoder
	table  *tabwriter.Writer

	lines, shown, skipped, unparsed, ignored int
	reasons, first                           map[string]int
	// changes tell of other formats in the middle of the log.
	changes []string
	astray  collect.Astray
	e       event.Event
	join    *collect.Reasons
	alone   bool
	stats   *fieldStats
}

// explanations reads what explains denials among the inputs.
// Where only some events are asked for, it reads the beginning of the logs that hold
// both requests and what explains them.
func explanations(ctx context.Context, inputs []*input, c *collect.Config, some bool) (*collect.Reasons, error) {
	rs := collect.NewReasons(c)
	for _, in := range inputs {
		if !in.explains() || in.stdin != nil && in.errors == nil { // standard input is read once
			continue
		}
		r := &reasoner{parser: in.parser(), to: rs}
		if some && in.errors == nil {
			r.left = explainedBytes
		}
		if err := in.read(ctx, r, func(int64, int64) {}); err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
	}
	return rs, nil
}

// reasoner is a handler that notes what error lines explain.
type reasoner struct {
	parser parsers.Parser
	to     *collect.Reasons
	left   int // how many bytes to read; 0 is all
	e      event.Event
}

// explainedBytes is how much of a log is read for the reasons of its first events.
const explainedBytes = 16 << 20

// Batch implements ingest.Handler.
func (r *reasoner) Batch(_ context.Context, b *ingest.Batch) error {
	for line := range bytes.Lines(b.Data) {
		r.e.Reset()
		if r.parser.Parse(bytes.TrimSuffix(line, []byte{'\n'}), &r.e) == nil {
			r.to.Add(&r.e)
		}
	}
	if r.left > 0 {
		if r.left -= len(b.Data); r.left <= 0 {
			return errEnough
		}
	}
	return nil
}

// CaughtUp implements ingest.Handler.
func (r *reasoner) CaughtUp(context.Context) error { return nil }

// Unknown implements ingest.Handler.
func (r *reasoner) Unknown(error) {}

// Close implements ingest.Handler.
func (r *reasoner) Close(context.Context, bool) error { return nil }

// Leave implements ingest.Handler.
func (r *reasoner) Leave(context.Context) error { return nil }

// Batch implements ingest.Handler.
func (p *shower) Batch(ctx context.Context, b *ingest.Batch) error {
	for line := range bytes.Lines(b.Data) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line = bytes.TrimSuffix(line, []byte{'\n'})
		p.lines++
		p.e.Reset()
		err := p.parser.Parse(line, &p.e)
		switch {
		case errors.Is(err, parsers.ErrSkip):
			p.skipped++
			p.because(err.Error())
			continue
		case err == nil && p.e.CauseOnly && !p.alone:
			p.skipped++
			p.because("it explains a request that another line counts")
			continue
		case err != nil:
			p.unparsed++
			if odd := parsers.Encoding(line); odd != nil {
				err = odd
			}
			p.because(err.Error())
			p.misread(line)
			continue
		}
		p.shown++
		if p.cc.Ignores(&p.e) {
			p.ignored++
		}
		x := p.cc.Explain(&p.e)
		p.join.Explain(&p.e, &x)
		if p.stats != nil {
			p.stats.add(&x)
		} else if p.json != nil {
			if err := p.json.Encode(x); err != nil {
				return err
			}
		} else {
			row := x.Row()
			for i := range row {
				if row[i] = printable(row[i]); row[i] == "" {
					row[i] = "-"
				}
			}
			fmt.Fprintln(p.table, strings.Join(row, "\t"))
		}
		if p.left--; p.left == 0 {
			return errEnough
		}
	}
	return nil
}

// misread recognises the format of lines that are not understood again, as the
// daemon does.
func (p *shower) misread(line []byte) {
	if p.in.errors != nil || !p.in.parse.Auto() {
		return
	}
	sample := p.astray.Add(uint64(p.lines), line, false)
	if sample == nil {
		return
	}
	parser, format, err := p.in.again(p.in.name, sample)
	if err != nil {
		p.astray.Failed()
		return
	}
	p.changes = append(p.changes, fmt.Sprintf("another format from line %d on: %s", p.lines+1, format))
	p.parser, p.astray = parser, collect.Astray{}
}

// because counts why a line is no event.
func (p *shower) because(reason string) {
	if p.first == nil {
		p.first = map[string]int{}
	}
	if p.reasons[reason]++; p.reasons[reason] == 1 {
		p.first[reason] = p.lines
	}
}

// CaughtUp implements ingest.Handler.
func (p *shower) CaughtUp(context.Context) error { return nil }

// Unknown implements ingest.Handler.
func (p *shower) Unknown(error) {}

// Close implements ingest.Handler.
func (p *shower) Close(context.Context, bool) error { return nil }

// Leave implements ingest.Handler.
func (p *shower) Leave(context.Context) error { return nil }

// printable keeps a hostile value from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '\ufffd'
		}
		return r
	}, s)
}
