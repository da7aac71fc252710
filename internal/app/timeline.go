package app

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/console"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/parsers"
)

// timeline writes what a replay found for people.
func timeline(out io.Writer, colour bool, inputs []*input, c *core, incidents []incident.Incident) error {
	w := bufio.NewWriter(out)
	paint := func(code, s string) string {
		if !colour {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	dim := func(s string) string { return paint("2", s) }

	for _, in := range inputs {
		name := in.name
		if n := len(in.paths); n > 1 {
			name += fmt.Sprintf(" (%d files)", n)
		}
		line := " " + name + ": " + in.text
		if in.why != "" {
			line += ", recognised"
		}
		fmt.Fprintln(w, dim(line))
	}
	st, late := counted(c)
	head := " " + group3(st.Lines) + plural(st.Lines, " line", " lines")
	if st.Unparsed > 0 {
		head += fmt.Sprintf(", %s unreadable", share(st.Unparsed, st.Lines))
	}
	if late > 0 {
		head += ", " + group3(late) + " late"
	}
	routes := map[string]bool{}
	var valid [event.Vantages]uint64 // the same requests, never added up
	for _, t := range c.ledger.Totals() {
		routes[t.Service+"\x00"+t.Route] = true
		valid[t.Vantage] += t.Valid
	}
	ds := c.det.Stats()
	head += fmt.Sprintf("; %s, %s watched", count(len(routes), "route", "routes"), count(ds.Series, "series", "series"))
	fmt.Fprintln(w, dim(head))
	if st.Folded > 0 {
		fmt.Fprintf(w, " routes, roles, countries or others were too many to keep apart: %s counted as _other\n", count(int(st.Folded), "name", "names"))
	}
	for _, src := range c.ledger.Sources() {
		for _, l := range health(&src, c.unjudged[src.Name]) {
			fmt.Fprintln(w, " "+src.Name+": "+l)
		}
	}
	fmt.Fprintln(w)

	var delays []time.Duration
	for i := range incidents {
		in := &incidents[i]
		delays = append(delays, in.OpenedAt.Sub(in.StartedAt))
		text := alerts.Render(c.opening(in))
		sign, code := "●", "31"
		if in.State == incident.Resolved {
			sign, code = "○", "32"
		}
		tags := append([]string{text.Badge}, text.Where...)
		fmt.Fprintf(w, " %s %s  %s  %s\n", paint(code, sign), when(in), paint("1", text.Headline), dim(strings.Join(tags, " · ")))
		for _, l := range []string{
			sentences(text.Reason, text.People),
			sentences(text.Contrast, text.Since, text.Layer, text.Sure),
		} {
			if l != "" {
				fmt.Fprintf(w, "   %s\n", l)
			}
		}
	}
	switch n := len(incidents); n {
	case 0:
		fmt.Fprintln(w, " Nothing wrong: no wall broke and none vanished.")
	default:
		slices.Sort(delays)
		fmt.Fprintf(w, "\n %s. Would have told you after %s (median).\n", count(n, "incident", "incidents"), alerts.Span(delays[n/2]))
	}
	if l := scansLine(c.det.Scans()); l != "" {
		fmt.Fprintln(w, dim(" "+l))
	}
	if n := slices.Max(valid[:]); n > 0 {
		fmt.Fprintln(w, dim(fmt.Sprintf(" %s %s what your access rules ask for.", group3(n), plural(n, "refusal is", "refusals are"))))
	}
	return w.Flush()
}

// maxScansShown bounds the scans of a summary.
const maxScansShown = 3

// scansLine tells of suspected scans, those with the most refusals first; empty if
// there are none.
func scansLine(scans []incident.Scan) string {
	if len(scans) == 0 {
		return ""
	}
	slices.SortStableFunc(scans, func(a, b incident.Scan) int { return -cmp.Compare(a.Denials, b.Denials) })
	var parts []string
	for i := range scans[:min(len(scans), maxScansShown)] {
		s := &scans[i]
		what := s.TopRoute
		if s.Routes > 1 {
			what += fmt.Sprintf(" and %d more", s.Routes-1)
		}
		parts = append(parts, fmt.Sprintf("%s (%s by %s, %s)", what, count(int(s.Denials), "refusal", "refusals"),
			count(int(s.Identities), "address or user", "addresses or users"), fromTo(s.From.UTC(), s.To.UTC())))
	}
	if n := len(scans) - len(parts); n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	return count(len(scans), "suspected scan", "suspected scans") + ", not told: " + strings.Join(parts, "; ")
}

// health tells what of a source was skipped or not understood, and when it was not
// judged; nothing of a source that is in order.
func health(src *slots.Source, unjudged []span) (lines []string) {
	if n := src.Skipped + src.Unparsed + src.Oversize + src.Untimed + src.Ignored; n > 0 {
		words := slices.SortedFunc(maps.Keys(src.Reasons), func(a, b string) int {
			return cmp.Or(cmp.Compare(src.Reasons[b], src.Reasons[a]), strings.Compare(a, b))
		})
		parts := []string{}
		for _, x := range []struct {
			n    uint64
			what string
		}{{src.Skipped, "no requests"}, {src.Unparsed, "not understood"}, {src.Oversize, "too long"}, {src.Untimed, "without a time"}, {src.Ignored, "ignored by your rules"}} {
			if x.n > 0 {
				parts = append(parts, group3(x.n)+" "+x.what)
			}
		}
		s := strings.Join(parts, ", ")
		for i, w := range words {
			words[i] = w + " " + group3(src.Reasons[w])
		}
		if len(words) > 0 {
			s += " (" + strings.Join(words, ", ") + ")"
		}
		lines = append(lines, s)
	}
	switch {
	case src.Reasons[parsers.ErrUTF16.Reason] > 0:
		lines = append(lines, parsers.ErrUTF16.Error())
	case src.Reasons[parsers.ErrBinary.Reason]*2 > src.Lines:
		lines = append(lines, parsers.ErrBinary.Error())
	}
	if statusless(src.Reasons[parsers.ErrNoStatus.Reason], src.Lines) {
		lines = append(lines, nameStatus)
	}
	for _, x := range unjudged {
		to := "the end"
		if !x.to.IsZero() {
			to = x.to.Format("Mon 2 Jan 15:04")
		}
		lines = append(lines, "not judged from "+x.from.Format("Mon 2 Jan 15:04")+" to "+to+": too few of its lines were understood")
	}
	return lines
}

// nameStatus is the advice for a log of which no line has a status.
const nameStatus = "hardly a line has a status that is known by its name; if they are requests, say where it is: mapping: {status: FIELD}"

// minStatusless is how many lines must have no status before that is told.
const minStatusless = 10

// statusless reports whether nearly all lines of a log have no status, n of them.
// An application's log has other lines beside its requests, but some requests too.
func statusless(n, lines uint64) bool { return n >= minStatusless && 100*n >= 99*lines }

// when is when an incident was, in UTC.
func when(in *incident.Incident) string {
	if in.ResolvedAt == nil {
		return in.StartedAt.UTC().Format("Mon 2 Jan 15:04") + " – now  "
	}
	return fromTo(in.StartedAt.UTC(), in.ResolvedAt.UTC())
}

func fromTo(from, to time.Time) string {
	s := from.Format("Mon 2 Jan 15:04")
	if to.YearDay() == from.YearDay() && to.Year() == from.Year() {
		return s + " – " + to.Format("15:04")
	}
	return s + " – " + to.Format("Mon 2 Jan 15:04")
}

func sentences(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func count(n int, one, many string) string {
	return group3(uint64(n)) + " " + plural(uint64(n), one, many)
}

// group3 writes n with a comma every three digits.
func group3(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// share writes n of m as a percentage with two digits that matter.
func share(n, m uint64) string {
	if m == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.2g %%", 100*float64(n)/float64(m))
}

// Describe writes an open incident as the console sink does.
func Describe(in *incident.Incident, colour bool) string {
	return console.Format(incident.Transition{Kind: incident.Opened, At: in.OpenedAt, Incident: *in}, console.Options{Color: colour})
}
