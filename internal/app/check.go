package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/collect"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/parsers"
)

// Check tells what a valid configuration will do on this host: which files each
// source has now and how they are understood. Problems that only this host has
// are returned as an error.
func Check(cfg *configs.Config, out io.Writer) error {
	for _, w := range append(cfg.Warnings(), cfg.Notes()...) {
		fmt.Fprintln(out, w)
	}
	if _, _, err := shared(cfg, collect.FixedIdentityKey(), int64(cfg.Slot/time.Second), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if isPushed(cfg) {
		if err := cfg.Push.Check(); err != nil {
			return err
		}
	}
	var roleless, unclear []string
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SOURCE\tVANTAGE\tFILES\tFORMAT")
	problems := 0
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		files := 0
		where := func() string {
			if s.Kafka.Named() {
				return strings.Join(s.Kafka.Topics, " ") + " (Kafka)"
			}
			if s.Push.Named() {
				return "POST /v1/ingest/" + s.Name
			}
			if s.Syslog.Named() {
				return strings.Join(s.Syslog.Listen, " ")
			}
			return strconv.Itoa(files)
		}
		for _, g := range s.Files {
			paths, err := doublestar.FilepathGlob(g, doublestar.WithFilesOnly())
			if err != nil {
				return fmt.Errorf("source %s: files: %s: %w", s.Name, g, err)
			}
			files += len(paths)
		}
		u, err := understand(s, readsUserAgent(cfg))
		format := "recognised when the first lines are there"
		switch {
		case err != nil:
			format = err.Error()
			problems++
		case u.unknown != nil:
			format = u.unknown.Error()
			problems++
		case u.format != nil && u.why != "":
			format = u.format.String() + ": " + u.why
		case u.format != nil:
			format = u.format.String()
		}
		if cfg.Detection.Judge.Access.Names(access.Role) && u.vantage == event.App && u.format != nil && !showsRoles(s, u.format) {
			roleless = append(roleless, s.Name)
		}
		if u.format != nil && showsNoStatus(s, u.format) {
			unclear = append(unclear, s.Name)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(s.Name), u.vantage, printable(where()), printable(format))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range unclear {
		fmt.Fprintf(out, "Source %s: %s\n", printable(name), nameStatus)
	}
	for _, name := range roleless {
		fmt.Fprintf(out, "Source %s: access rules name roles, and its first lines show none: map the role (mapping: {role: ...}), or requests that name nobody are taken for anonymous\n", printable(name))
	}
	advise(out, cfg)
	if problems > 0 {
		return fmt.Errorf("%s", count(problems, "source has a problem", "sources have problems"))
	}
	fmt.Fprintln(out, "The configuration is valid.")
	return nil
}

// showsRoles reports whether the first lines of a source name a role, or there are
// none yet.
func showsRoles(s *configs.Source, f *parsers.Format) bool {
	p, events := f.New(), 0
	var e event.Event
	for lines := range samples(s.Files) {
		for _, l := range lines {
			e.Reset()
			if p.Parse(l, &e) != nil {
				continue
			}
			if events++; len(e.Roles) > 0 {
				return true
			}
		}
	}
	return events == 0
}

// showsNoStatus reports whether nearly all of a source's first lines have no status.
func showsNoStatus(s *configs.Source, f *parsers.Format) bool {
	p := f.New()
	var e event.Event
	var n, all uint64
	for lines := range samples(s.Files) {
		for _, l := range lines {
			e.Reset()
			all++
			if errors.Is(p.Parse(l, &e), parsers.ErrNoStatus) {
				n++
			}
		}
	}
	return statusless(n, all)
}

// AccessQuestion is a request that CheckAccess is asked about. Path is a path or a
// route template; what is empty is not known.
type AccessQuestion struct {
	Path, Method, Service, Plan, Geo string
	Roles, Flags                     []string
	// Layer, Direction and People are of an incident there: who refuses, how it changed
	// (up, down or new), and how many people it affects. CheckRouting asks for them.
	Layer, Direction string
	People           int
}

// template is the route that the path is counted as.
func (q *AccessQuestion) template(cfg *configs.Config) (string, error) {
	router, bad := route.New(cfg.Routes)
	if len(bad) > 0 {
		return "", fmt.Errorf("routes[%d]: %w", bad[0].Index, bad[0])
	}
	template := q.Path
	if !strings.ContainsAny(q.Path, "{}") {
		template = string(router.Template(nil, route.Path([]byte(q.Path)), nil))
	}
	if template == "" {
		return "", fmt.Errorf("%q is no path; write one such as /billing/upgrade", q.Path)
	}
	return template, nil
}

// CheckAccess tells what the declared access rules of a valid configuration expect of
// a request, and which of them says so.
func CheckAccess(cfg *configs.Config, q AccessQuestion, out io.Writer) error {
	template, err := q.template(cfg)
	if err != nil {
		return err
	}
	ask := access.Query{Service: q.Service, Method: []byte(strings.ToUpper(q.Method)), Plan: []byte(q.Plan), Geo: []byte(q.Geo)}
	if ask.Service == "" {
		ask.Service = cfg.Service
	}
	said := "route " + template
	for _, d := range []struct {
		name   string
		values []string
	}{{"service", []string{ask.Service}}, {"method", []string{q.Method}}, {"role", q.Roles}, {"plan", []string{q.Plan}}, {"geo", []string{q.Geo}}, {"flag", q.Flags}} {
		if v := strings.Join(d.values, ", "); v != "" {
			said += ", " + d.name + " " + v
		}
	}
	for _, r := range q.Roles {
		ask.Roles = append(ask.Roles, []byte(r))
	}
	for _, f := range q.Flags {
		ask.Flags = append(ask.Flags, []byte(f))
	}
	fmt.Fprintln(out, printable(said))
	m := cfg.Detection.Judge.Access
	rules := m.On(template)
	if rules == nil {
		fmt.Fprintln(out, "  undeclared: no rule speaks of this route; what is usual decides")
		return nil
	}
	d := rules.Decide(&ask)
	rule := m.Describe(d.Rule)
	if rule == nil {
		fmt.Fprintln(out, "  undeclared: no rule matches, or it hangs on what was not said; what is usual decides")
		if missing := unsaid(rules.Needs(), &ask); missing != "" {
			fmt.Fprintln(out, "  rules of this route ask for: "+missing)
		}
		return nil
	}
	i, _ := m.Find(d.Rule)
	fmt.Fprintf(out, "  %s, by %s: %s\n", d.Verdict, cfg.AccessPlace(i), printable(rule.Text))
	if rule.Hint != "" {
		fmt.Fprintln(out, "  hint: "+printable(rule.Hint))
	}
	return nil
}

// unsaid lists the dimensions in needs that q says nothing of.
func unsaid(needs access.Dims, q *access.Query) string {
	var names []string
	for _, d := range []struct {
		dim  access.Dims
		name string
		said bool
	}{
		{access.Method, "method", len(q.Method) > 0}, {access.Role, "role", len(q.Roles) > 0}, {access.Plan, "plan", len(q.Plan) > 0},
		{access.Geo, "geo", len(q.Geo) > 0}, {access.Flag, "flag", len(q.Flags) > 0},
	} {
		if needs&d.dim != 0 && !d.said {
			names = append(names, d.name)
		}
	}
	return strings.Join(names, ", ")
}

// advise shows, for each source whose server could log more, a format to paste.
func advise(out io.Writer, cfg *configs.Config) {
	seen := map[string]bool{}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		u, err := understand(s, readsUserAgent(cfg))
		if err != nil || u.format == nil {
			continue
		}
		format, gains := u.format.Advice()
		if format == "" || seen[format] {
			continue
		}
		seen[format] = true
		fmt.Fprintf(out, "\nSource %s could tell %s, with this in the server's configuration (and the same as log_format here):\n\n%s\n\n",
			printable(s.Name), strings.Join(gains, "; "), format)
	}
}
