package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/schollz/progressbar/v3"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/ingest"
	"github.com/denywatch/denywatch/ingest/file"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/tally"
	"github.com/denywatch/denywatch/parsers"
)

// ReplayOptions say what to replay and how to tell.
type ReplayOptions struct {
	// Files are paths, globs, "-" for Stdin, or [vantage/]format:path.
	Files []string
	// Format is the format of all files that name none; "auto" recognises it.
	Format string
	// Config gives routes, denials, dimensions, knobs, and the formats of files
	// that a source of it names; defaults if nil.
	Config *configs.Config
	// Markers is a file of markers, one JSON object a line; none if empty.
	Markers string
	// JSON writes one object per incident instead of a time line.
	JSON bool
	// Progress shows a progress bar on Stderr.
	Progress bool
	// Colour uses colours on Stdout.
	Colour         bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            *slog.Logger
}

// input is a set of files that were one log, read as one stream.
type input struct {
	name    string
	paths   []string // empty for stdin
	stdin   io.Reader
	parse   parsers.Config
	vantage string
	service string
	late    time.Duration
	// sampled and maxBlind are as in collect.Config and slots.Config.
	sampled  uint32
	maxBlind float64
	format   *parsers.Format       // nil for error logs and if unknown is set
	errors   func() parsers.Parser // for error logs
	unknown  error                 // why the format was not recognised
	text     string                // the format for people
	why      string
	sample   [][]byte // the first lines
	// userAgent tells that Event.UserAgent is asked for.
	userAgent bool
}

// Replay reads past logs with the engine of the daemon, on event time, and tells
// the incidents. It returns how many there were.
func Replay(ctx context.Context, opt ReplayOptions) (int, error) {
	cfg := opt.Config
	if cfg == nil {
		cfg = configs.Default()
	}
	c, inputs, incidents, err := opt.run(ctx, cfg)
	if c == nil {
		return 0, err
	}
	if opt.JSON {
		w := bufio.NewWriter(opt.Stdout)
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		for i := range incidents {
			if err := e.Encode(replayed{incidents[i], c.opening(&incidents[i]).Words}); err != nil {
				return 0, err
			}
		}
		return len(incidents), errors.Join(w.Flush(), err)
	}
	return len(incidents), errors.Join(timeline(opt.Stdout, opt.Colour, inputs, c, incidents), err)
}

// replayed is a line of `replay --output jsonl`: an incident, and what the configured
// templates say of it; nothing where there are none.
type replayed struct {
	incident.Incident
	Words *incident.Words `json:"words,omitempty"`
}

// run reads the logs and returns the incidents in order of opening. An error with
// a core tells that not all could be read.
func (opt *ReplayOptions) run(ctx context.Context, cfg *configs.Config) (*core, []*input, []incident.Incident, error) {
	inputs, err := opt.inputs(ctx, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	base, _, err := shared(cfg, collect.FixedIdentityKey(), int64(cfg.Slot/time.Second), opt.Log)
	if err != nil {
		return nil, nil, nil, err
	}
	clock := collect.NewClock(nil)
	sc := slots.Config{Step: cfg.Slot, Routes: cfg.Routes, MaxBlind: map[string]float64{}}
	var shares []*collect.Config
	// Nothing waits for an explanation where no log gives any.
	explained := slices.ContainsFunc(inputs, func(in *input) bool { return in.explains() })
	for _, in := range inputs {
		one := base
		cc := &one
		cc.Source, cc.Log = in.name, opt.Log
		if in.service != "" {
			cc.Service = in.service
		}
		if cc.Vantage, err = in.sees(); err != nil {
			return nil, nil, nil, err
		}
		cc.Explained = explained && cc.Vantage != event.App
		cc.SampleRate = in.sampled
		cc.NewParser = func(string, [][]byte) (parsers.Parser, error) {
			if in.unknown != nil {
				return nil, in.unknown
			}
			return in.parser(), nil
		}
		if in.errors == nil && in.parse.Auto() {
			cc.Recognise = in.again
		}
		sc.Lateness[cc.Vantage] = max(sc.Lateness[cc.Vantage], in.late)
		sc.MaxBlind[in.name] = in.maxBlind
		shares = append(shares, cc)
	}
	c := newCore(sc, cfg.Detection.Judge, clock, opt.Log)
	c.route(cfg)
	last := map[string]incident.Incident{}
	c.told = func(t incident.Transition) { last[t.Incident.ID] = t.Incident }
	if err := opt.mark(c); err != nil {
		return nil, nil, nil, err
	}
	readErr := opt.read(ctx, c, inputs, shares)
	if ctx.Err() != nil {
		return nil, nil, nil, ctx.Err()
	}
	// What is still open has gone on counting since its last transition.
	for _, in := range c.incidents() {
		if _, ok := last[in.ID]; ok {
			last[in.ID] = in
		}
	}
	incidents := slices.SortedFunc(maps.Values(last), func(a, b incident.Incident) int {
		if x := a.OpenedAt.Compare(b.OpenedAt); x != 0 {
			return x
		}
		return strings.Compare(a.ID, b.ID)
	})
	return c, inputs, incidents, readErr
}

// read runs all streams through the core. A file that cannot be read to its end
// does not stop the others.
func (opt *ReplayOptions) read(ctx context.Context, c *core, inputs []*input, shares []*collect.Config) error {
	bar := opt.bar(inputs)
	// All streams are open before any is read.
	handlers := make([]ingest.Handler, len(inputs))
	opened := make(chan error, 1)
	go func() {
		var err error
		for i, in := range inputs {
			h := collect.NewHost(shares[i], nil, nil, c.clock, &collect.Names{}, c.in)
			if handlers[i], _, err = h.Open(ctx, in.name); err != nil {
				break
			}
		}
		opened <- err
	}()
	for open := true; open; {
		select {
		case b := <-c.in:
			c.apply(b)
		case err := <-opened:
			if err != nil {
				return err
			}
			open = false
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(inputs))
	for i, in := range inputs {
		h := handlers[i]
		wg.Go(func() {
			errs[i] = errors.Join(in.read(ctx, h, bar.report(i)), h.Close(context.WithoutCancel(ctx), true))
		})
	}
	go func() {
		wg.Wait()
		close(c.in)
	}()
	for b := range c.in {
		c.apply(b)
		if ctx.Err() == nil {
			c.advance()
		}
	}
	bar.finish()
	return errors.Join(errs...)
}

func (in *input) read(ctx context.Context, h ingest.Handler, progress func(read, total int64)) error {
	if in.stdin != nil {
		return file.ReadFrom(ctx, in.stdin, h)
	}
	return file.ReadSet(ctx, in.paths, h, progress)
}

// sees is the input's vantage: the one that was given, else the format's.
func (in *input) sees() (event.Vantage, error) {
	switch {
	case in.vantage != "":
		return event.ParseVantage(in.vantage)
	case in.format == nil:
		return event.Web, nil
	}
	return in.format.Vantage(), nil
}

func (in *input) parser() parsers.Parser {
	if in.errors != nil {
		return in.errors()
	}
	return newStream(in.format, in.parse, in.sample, in.written())
}

// explains reports whether lines of the input say why requests were refused that
// others count.
func (in *input) explains() bool {
	return in.errors != nil || in.format != nil && (in.format.Explains() || explains(in.format, in.sample))
}

// again recognises the format of the newest lines.
func (in *input) again(stream string, lines [][]byte) (parsers.Parser, string, error) {
	f, text, err := recogniseLines(in.parse, lines, stream, in.userAgent)
	if err != nil {
		return nil, "", err
	}
	return newStream(f, in.parse, lines, in.written()), text, nil
}

// bar shows how far all streams together are.
type bar struct {
	*progressbar.ProgressBar
	read []int64
	ch   chan [2]int64
	done chan struct{}
}

func (opt *ReplayOptions) bar(inputs []*input) *bar {
	b := &bar{read: make([]int64, len(inputs))}
	if !opt.Progress {
		return b
	}
	var total int64
	files := 0
	for _, in := range inputs {
		for _, p := range in.paths {
			if fi, err := os.Stat(p); err == nil {
				total += fi.Size()
				files++
			}
		}
	}
	b.ProgressBar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(opt.Stderr), progressbar.OptionSetDescription(fmt.Sprintf("reading %d files", files)),
		progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(24))
	b.ch, b.done = make(chan [2]int64, 16), make(chan struct{})
	go func() {
		defer close(b.done)
		for x := range b.ch {
			b.read[x[0]] = x[1]
			var sum int64
			for _, n := range b.read {
				sum += n
			}
			_ = b.Set64(min(sum, total))
		}
	}()
	return b
}

// report returns the progress function of stream i.
func (b *bar) report(i int) func(read, total int64) {
	if b.ProgressBar == nil {
		return func(int64, int64) {}
	}
	return func(read, _ int64) { b.ch <- [2]int64{int64(i), read} }
}

func (b *bar) finish() {
	if b.ProgressBar == nil {
		return
	}
	close(b.ch)
	<-b.done
	_ = b.Finish()
}

// mark hands the markers of the file to the core.
func (opt *ReplayOptions) mark(c *core) error {
	if opt.Markers == "" {
		return nil
	}
	b, err := os.ReadFile(opt.Markers)
	if err != nil {
		return fmt.Errorf("markers: %w", err)
	}
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var m marker.Marker
		if err := json.Unmarshal(line, &m); err != nil {
			return fmt.Errorf("markers: %s:%d: %w; each line is one JSON object", opt.Markers, n, err)
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(new(marker.Marker)); err != nil {
			// Pipelines keep more of a release than we know.
			opt.Log.Warn("a field of a marker is left out", "file", opt.Markers, "line", n, "reason", err)
		}
		if m.Time.IsZero() {
			return fmt.Errorf("markers: %s:%d: time is missing; a marker of the past needs one", opt.Markers, n)
		}
		if err := m.Normalise(m.Time); err != nil {
			return fmt.Errorf("markers: %s:%d: %w", opt.Markers, n, err)
		}
		c.mark(m)
	}
	return nil
}

// inputs resolves the arguments: formats, globs, rotated sets.
func (opt *ReplayOptions) inputs(ctx context.Context, cfg *configs.Config) ([]*input, error) {
	type kind struct{ vantage, format string }
	by := map[kind][]string{}
	var order []kind
	stdin := false
	var stdinKind kind
	for _, arg := range opt.Files {
		k := kind{format: opt.Format}
		path := arg
		if v, f, p, ok := cutFormat(arg); ok {
			k, path = kind{v, f}, p
		}
		if path == "-" {
			if stdin {
				return nil, errors.New("standard input (-) is named twice")
			}
			stdin, stdinKind = true, k
			continue
		}
		paths, err := expand(path)
		if err != nil {
			return nil, err
		}
		if _, ok := by[k]; !ok {
			order = append(order, k)
		}
		by[k] = append(by[k], paths...)
	}
	var out []*input
	for _, k := range order {
		paths := by[k]
		slices.Sort(paths)
		for _, set := range file.GroupRotated(slices.Compact(paths)) {
			in := &input{name: set[len(set)-1], paths: set, vantage: k.vantage, late: defaultLateness, maxBlind: configs.DefaultMaxUnparsed, userAgent: readsUserAgent(cfg)}
			in.parse.Format = k.format
			in.configured(cfg)
			if err := in.recognise(ctx); err != nil {
				return nil, err
			}
			out = append(out, in)
		}
	}
	if stdin {
		in := &input{name: "-", stdin: opt.Stdin, vantage: stdinKind.vantage, late: defaultLateness, maxBlind: configs.DefaultMaxUnparsed, userAgent: readsUserAgent(cfg)}
		in.parse.Format = stdinKind.format
		if err := in.recognise(ctx); err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	if len(out) == 0 {
		return nil, errors.New("no file to replay")
	}
	// One log that is none does not keep the others from being read.
	if !slices.ContainsFunc(out, func(in *input) bool { return in.unknown == nil }) {
		return nil, out[0].unknown
	}
	// Error logs have no zone of their own: they are written in their server's,
	// and in syslog they have no year either.
	for _, in := range out {
		if in.errors == nil {
			continue
		}
		for _, other := range out {
			if other.format == nil {
				continue
			}
			loc, near := offsetOf(other.sample), in.written()
			if first := firstTime(other.format, other.sample); first != event.NoTime {
				near = time.Unix(0, first)
			}
			if loc != nil {
				_, in.errors = errorLog(in.sample, in.parse, func() *time.Location { return loc }, near)
				break
			}
		}
	}
	return out, nil
}

// defaultLateness is that of files which no configured source names.
const defaultLateness = time.Minute

// cutFormat splits [vantage/]format:path. An argument that names a file as it
// stands is one.
func cutFormat(arg string) (vantage, format, path string, ok bool) {
	head, path, ok := strings.Cut(arg, ":")
	if !ok || path == "" {
		return "", "", "", false
	}
	if _, err := os.Stat(arg); err == nil {
		return "", "", "", false
	}
	v, f, slash := strings.Cut(head, "/")
	if !slash {
		v, f = "", head
	}
	if v != "" {
		if _, err := event.ParseVantage(v); err != nil {
			return "", "", "", false
		}
	}
	if strings.ContainsAny(f, "/\\. ") || f == "" {
		return "", "", "", false
	}
	return v, f, path, true
}

func expand(path string) ([]string, error) {
	fi, err := os.Stat(path)
	switch {
	case err == nil && fi.IsDir():
		return nil, fmt.Errorf("%s is a folder; name the files, such as %s", path, filepath.Join(path, "*.log*"))
	case err == nil:
		return []string{path}, nil
	case !strings.ContainsAny(path, "*?[{"):
		return nil, err
	}
	paths, gerr := doublestar.FilepathGlob(path, doublestar.WithFilesOnly())
	if gerr != nil {
		return nil, fmt.Errorf("%s: %w", path, gerr)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no file matches %s", path)
	}
	return paths, nil
}

// configured takes over what a source of the configuration says about the files.
func (in *input) configured(cfg *configs.Config) {
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		for _, p := range in.paths {
			abs, err := filepath.Abs(p)
			if err != nil {
				continue
			}
			for _, g := range s.Files {
				if ok, err := doublestar.PathMatch(g, abs); err != nil || !ok {
					continue
				}
				if in.parse.Format == "" || in.parse.Format == "auto" {
					in.parse = s.Parse
				}
				if in.vantage == "" {
					in.vantage = s.Vantage
				}
				in.service, in.late = s.Service, s.Lateness
				in.sampled, in.maxBlind = uint32(s.SampleRate), s.MaxUnparsed
				return
			}
		}
	}
}

// recognise settles the format and puts the files in the order of their first
// events.
func (in *input) recognise(ctx context.Context) error {
	first := map[string][][]byte{}
	var lines [][]byte
	if in.stdin != nil {
		r := bufio.NewReaderSize(in.stdin, sampleBytes)
		if _, err := r.Peek(1); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("standard input: %w", err)
		}
		b, err := r.Peek(r.Buffered())
		for err == nil && bytes.IndexByte(b, '\n') < 0 && len(b) < sampleBytes {
			if _, err = r.Peek(len(b) + 1); err == nil {
				b, err = r.Peek(r.Buffered())
			}
		}
		in.stdin = r
		lines = sampleOf(bytes.NewReader(b))
	} else {
		for _, p := range in.paths {
			l, err := archiveSample(ctx, p)
			if err != nil {
				return err
			}
			first[p] = l
			if len(lines) == 0 {
				lines = l
			}
		}
	}
	if server, p := errorLog(lines, in.parse, utc, in.written()); p != nil {
		in.errors, in.text = p, server+" error log"
		in.sample = lines
		return nil
	}
	in.sample = lines
	c, why, err := in.parse.Resolve(withoutErrors(lines), strings.TrimSuffix(in.name, "-"))
	switch {
	case err != nil && len(lines) == 0:
		c = parsers.Config{Format: "combined"} // nothing to read is nothing to refuse
	case err != nil:
		if odd := parsers.Encoding(lines[0]); odd != nil {
			err = odd
		}
		in.unknown = fmt.Errorf("%s: %w", in.name, err)
		in.text = "not recognised"
		return nil
	}
	c.SkipUserAgent = !in.userAgent
	if in.format, err = parsers.Compile(c); err != nil {
		return fmt.Errorf("%s: %w", in.name, err)
	}
	in.why, in.text = why, in.format.String()
	times := map[string]int64{}
	for p, l := range first {
		times[p] = firstTime(in.format, l)
	}
	slices.SortStableFunc(in.paths, func(a, b string) int {
		x, y := times[a], times[b]
		if x == event.NoTime || y == event.NoTime {
			return 0
		}
		return int(max(min(x-y, 1), -1))
	})
	return nil
}

// written is roughly when the log was written.
func (in *input) written() time.Time {
	for _, p := range in.paths {
		if fi, err := os.Stat(p); err == nil {
			return fi.ModTime()
		}
	}
	return time.Now()
}

func firstTime(f *parsers.Format, lines [][]byte) int64 {
	p := f.New()
	var e event.Event
	for _, l := range lines {
		e.Reset()
		if p.Parse(l, &e) == nil && e.Time != event.NoTime {
			return e.Time
		}
	}
	return event.NoTime
}

// archiveSample reads the first lines of a file that may be compressed.
func archiveSample(ctx context.Context, path string) ([][]byte, error) {
	s := &sampler{}
	err := file.ReadSet(ctx, []string{path}, s, nil)
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return s.lines, nil
}

var errEnough = errors.New("enough")

// sampler is a handler that takes the first lines and then wants no more.
type sampler struct{ lines [][]byte }

func (s *sampler) Batch(_ context.Context, b *ingest.Batch) error {
	for line := range bytes.Lines(b.Data) {
		if len(s.lines) == sampleLines {
			break
		}
		s.lines = append(s.lines, bytes.Clone(bytes.TrimRight(line, "\r\n")))
	}
	return errEnough
}

func (s *sampler) CaughtUp(context.Context) error    { return nil }
func (s *sampler) Unknown(error)                     {}
func (s *sampler) Close(context.Context, bool) error { return nil }
func (s *sampler) Leave(context.Context) error       { return nil }

// counted sums what happened to the lines.
func counted(c *core) (s tally.Stats, late uint64) {
	for _, src := range c.ledger.Sources() {
		s.Add(&src.Stats)
		late += src.Late
	}
	return s, late
}
