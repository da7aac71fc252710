package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/console"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/geo"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/parsers"
)

// lines is how many lines at the head of a file its format is recognised by, and
// sampleBytes how much of it is read for them.
const (
	sampleLines = 200
	sampleBytes = 256 << 10
)

// sample reads the first whole lines of a file, nil if there are none.
func sample(path string) [][]byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return sampleOf(f)
}

func sampleOf(r io.Reader) [][]byte {
	b, err := io.ReadAll(io.LimitReader(r, sampleBytes))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && len(b) == 0 {
		return nil
	}
	var out [][]byte
	for line := range bytes.Lines(b) {
		if line[len(line)-1] != '\n' && len(b) == sampleBytes || len(out) == sampleLines {
			break
		}
		out = append(out, bytes.TrimRight(line, "\r\n"))
	}
	return out
}

func utc() *time.Location { return time.UTC }

// understood is how a source's lines are understood.
type understood struct {
	format  *parsers.Format // nil while auto has seen no line
	vantage event.Vantage
	why     string
	unknown error // why auto did not recognise the lines there are
}

// understand compiles a source's format, or recognises it by the first files
// that match. The vantage is the configured one, else the format's, else web.
func understand(s *configs.Source, userAgent bool) (understood, error) {
	u := understood{vantage: event.Web}
	c := s.Parse
	c.SkipUserAgent = !userAgent
	if c.Auto() {
		c, u.why, u.unknown = recognise(c, s.Files)
	}
	if !c.Auto() {
		f, err := parsers.Compile(c)
		if err != nil {
			return u, err
		}
		u.format, u.vantage = f, f.Vantage()
	}
	if s.Vantage != "" {
		v, err := event.ParseVantage(s.Vantage)
		if err != nil {
			return u, err
		}
		u.vantage = v
	}
	return u, nil
}

// recognise looks at the files there are; c comes back as it was when there is
// no line yet, or, with an error, when no file's lines are understood. Error logs, which only explain what the others count, say nothing
// of the format.
func recognise(c parsers.Config, globs []string) (parsers.Config, string, error) {
	var unknown error
	for lines := range samples(globs) {
		if _, isError := errorLog(lines, c, utc, time.Time{}); isError != nil {
			continue
		}
		if got, why, err := c.Resolve(withoutErrors(lines), globs[0]); err == nil {
			return got, why, nil
		} else if unknown == nil {
			unknown = err
		}
	}
	return c, "", unknown
}

// collectors makes what the streams of each source share, and opens the country
// database they ask; nil if none is configured.
func collectors(c *configs.Config, key collect.IdentityKey, step int64, log *slog.Logger) ([]*collect.Config, *geo.DB, error) {
	base, db, err := shared(c, key, step, log)
	if err != nil {
		return nil, nil, err
	}
	out := make([]*collect.Config, len(c.Sources))
	for i := range c.Sources {
		s := &c.Sources[i]
		u, err := understand(s, readsUserAgent(c))
		if err != nil {
			return nil, nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		one := base
		cc := &one
		cc.Source, cc.Vantage, cc.TrustUser = s.Name, u.vantage, s.TrustUser
		cc.Explained = u.vantage != event.App
		if s.Service != "" {
			cc.Service = s.Service
		}
		cc.Log = log.With("component", "collect")
		cc.SampleRate = uint32(s.SampleRate)
		cc.NewParser, cc.Recognise = newParser(s, u, readsUserAgent(c), cc.Log)
		out[i] = cc
		if u.format != nil {
			log.Info("source", "name", s.Name, "vantage", u.vantage, "format", u.format, "recognised", u.why)
		}
	}
	return out, db, nil
}

// shared is the part of a collector's configuration that all sources have in
// common.
func shared(c *configs.Config, key collect.IdentityKey, step int64, log *slog.Logger) (collect.Config, *geo.DB, error) {
	router, bad := route.New(c.Routes)
	if len(bad) > 0 {
		return collect.Config{}, nil, fmt.Errorf("routes[%d]: %w", bad[0].Index, bad[0])
	}
	cc := collect.Config{
		Service: c.Service, Step: step, RolePriority: c.Roles.Priority, Routes: router, Identity: key,
		Role: slices.Contains(c.Detection.Dimensions, "role"), Geo: slices.Contains(c.Detection.Dimensions, "geo"),
		Plan: slices.Contains(c.Detection.Dimensions, "plan"), Host: slices.Contains(c.Detection.Dimensions, "host"),
	}
	for _, st := range c.Denials.Statuses {
		cc.Denied[st] = true
	}
	cc.Concealed = c.Denials.Concealed404
	cc.Access = c.Detection.Judge.Access
	cc.Patterns = map[string]bool{}
	for _, p := range c.Routes {
		cc.Patterns[p] = true
	}
	for i := range c.Ignore {
		r := &c.Ignore[i]
		cc.Ignore = append(cc.Ignore, collect.Ignore{
			UserAgent: r.UserAgent, User: r.User, Account: r.Account, Role: r.Role, Host: r.Host, Path: r.Path, Client: r.Prefix(),
		})
	}
	if c.Geo.Database == "" {
		return cc, nil, nil
	}
	db, err := geo.Open(c.Geo.Database, log.With("component", "geo"))
	if err != nil {
		return cc, nil, fmt.Errorf("geo.database: %w", err)
	}
	cc.Country = db.Country
	return cc, db, nil
}

// readsUserAgent reports whether a rule asks for it.
func readsUserAgent(c *configs.Config) bool {
	return slices.ContainsFunc(c.Ignore, func(r configs.Ignore) bool { return r.UserAgent != "" })
}

// newParser returns the factory of a source's parsers, and what recognises the
// format of a stream anew; nil where the format is configured. With format auto
// each file is recognised by itself, so files of one glob may differ in format,
// but not in vantage.
func newParser(s *configs.Source, u understood, userAgent bool, log *slog.Logger) (first func(string, [][]byte) (parsers.Parser, error), again func(string, [][]byte) (parsers.Parser, string, error)) {
	if s.Parse.Auto() {
		again = func(stream string, lines [][]byte) (parsers.Parser, string, error) {
			f, format, err := recogniseLines(s.Parse, lines, stream, userAgent)
			if err != nil {
				return nil, "", err
			}
			if f.Vantage() != u.vantage && s.Vantage == "" {
				log.Warn("this file looks like another vantage than its source; give it a source of its own, or set vantage",
					"source", s.Name, "stream", stream, "vantage", u.vantage, "looks", f.Vantage(), "format", f)
			}
			return newStream(f, s.Parse, lines, time.Now()), format, nil
		}
	}
	first = func(stream string, lines [][]byte) (parsers.Parser, error) {
		if server, p := errorLog(lines, s.Parse, func() *time.Location { return siblingZone(s) }, time.Now()); p != nil {
			log.Info("an error log: its lines explain denials and are not counted", "source", s.Name, "stream", stream, "server", server)
			return p(), nil
		}
		if again == nil {
			return newStream(u.format, s.Parse, lines, time.Now()), nil
		}
		p, format, err := again(stream, lines)
		if err == nil {
			log.Debug("format recognised", "source", s.Name, "stream", stream, "format", format)
		}
		return p, err
	}
	return first, again
}

// recogniseLines compiles the format that lines of a stream are written in, and
// says for people what it is and why.
func recogniseLines(c parsers.Config, lines [][]byte, stream string, userAgent bool) (*parsers.Format, string, error) {
	c, why, err := c.Resolve(withoutErrors(lines), stream)
	if err != nil {
		return nil, "", err
	}
	c.SkipUserAgent = !userAgent
	f, err := parsers.Compile(c)
	if err != nil {
		return nil, "", err
	}
	return f, f.String() + ": " + why, nil
}

// lateness is per vantage the largest of its sources'.
func lateness(c *configs.Config, cs []*collect.Config) (l [event.Vantages]time.Duration) {
	for i, cc := range cs {
		l[cc.Vantage] = max(l[cc.Vantage], c.Sources[i].Lateness)
	}
	return l
}

// notifiers builds the configured sinks by name.
func (d *Daemon) notifiers(c *configs.Config) (map[string]alerts.Notifier, error) {
	out := map[string]alerts.Notifier{}
	var errs []error
	if c.Sinks.Console {
		out[configs.ConsoleSink] = console.New(d.opt.Stdout, console.Options{Color: d.opt.Colour})
	}
	hook := func(name string, post webhook.Config) {
		n, err := webhook.New(post)
		if err != nil {
			errs = append(errs, fmt.Errorf("sink %s: %w", name, err))
			return
		}
		out[name] = n
	}
	for _, w := range c.Sinks.Webhook {
		hook(w.Name, w.Post)
	}
	for i := range c.Routing.Teams {
		if t := &c.Routing.Teams[i]; t.Webhook.URL != "" {
			hook(t.OwnSink(routing.KindWebhook), t.Webhook)
		}
	}
	errs = append(errs, d.slackSinks(c, out), d.otherSinks(c, out))
	return out, errors.Join(errs...)
}

// countingHash names everything in c that decides what is counted and judged. A
// change of it begins a new epoch.
func countingHash(c *configs.Config) string {
	type source struct {
		Name, Vantage, Service, Format, LogFormat, Timezone string
		Mapping                                             map[string]string
		TrustUser                                           bool
		SampleRate                                          int
		Fields, Services                                    map[string]string `json:",omitempty"` // of Kafka
	}
	v := struct {
		Service    string
		Routes     []string
		Priority   []string
		Statuses   []int
		Dimensions []string
		Concealed  bool
		Ignore     []configs.Ignore
		Geo        bool
		Sources    []source
		Access     []access.Rule `json:",omitempty"`
	}{c.Service, c.Routes, c.Roles.Priority, slices.Sorted(slices.Values(c.Denials.Statuses)), slices.Sorted(slices.Values(c.Detection.Dimensions)), c.Denials.Concealed404, c.Ignore, c.Geo.Database != "", nil, c.Access}
	for i := range c.Sources {
		s := &c.Sources[i]
		v.Sources = append(v.Sources, source{s.Name, s.Vantage, s.Service, s.Parse.Format, s.Parse.LogFormat, s.Parse.Timezone, s.Parse.Mapping, s.TrustUser, s.SampleRate, s.Kafka.Fields, s.Kafka.Services})
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:8])
}

// slotsConfig is the ledger's part of the configuration.
func slotsConfig(c *configs.Config, cs []*collect.Config) slots.Config {
	sc := slots.Config{Step: c.Slot, Lateness: lateness(c, cs), Routes: c.Routes, MaxBlind: map[string]float64{}}
	for i := range c.Sources {
		sc.MaxBlind[c.Sources[i].Name] = c.Sources[i].MaxUnparsed
	}
	return sc
}
