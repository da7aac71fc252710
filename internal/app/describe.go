package app

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/console"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/incident"
)

// DescribeNone says that no incident is known of a state and a team, each of any if it is
// empty. That nothing is wrong it says only where all open ones were asked for.
func DescribeNone(state incident.State, team string) string {
	words := "no incident "
	if team != "" {
		words += "of team " + alerts.Clean(team, maxShown) + " "
	}
	switch state {
	case incident.Open:
		words += "is open"
	case incident.Resolved:
		words += "that is over is known"
	default:
		words += "is known"
	}
	if team == "" && state != incident.Resolved {
		return "Nothing wrong: " + words + ".\n"
	}
	return "N" + words[1:] + ".\n"
}

// DescribeIncidents lists incidents for a terminal, a line or two each.
func DescribeIncidents(list []incident.Incident, colour bool) string {
	var b strings.Builder
	for i := range list {
		in := &list[i]
		kind, sign, code := incident.Opened, "●", "\x1b[31m"
		if in.State == incident.Resolved {
			kind, sign, code = incident.ResolvedKind, "○", "\x1b[32m"
		}
		if colour {
			sign = code + sign + "\x1b[0m"
		}
		t := incident.Transition{Kind: kind, At: in.OpenedAt, Incident: *in}
		if kind == incident.ResolvedKind {
			t.Act = &incident.Act{} // a list does not know who ended it, or whether anybody did
		}
		text := alerts.Render(t)
		tags := append([]string{alerts.Clean(in.ID, maxShown), text.Badge}, text.Where...)
		fmt.Fprintf(&b, "%s %s  %s  %s\n", sign, when(in), text.Headline, strings.Join(tags, " · "))
		if in.State == incident.Open {
			if s := sentences(text.Reason, text.People, standing(in)); s != "" {
				b.WriteString("  " + s + "\n")
			}
		}
	}
	return b.String()
}

// DescribeQuiet says that no incident came within a time.
func DescribeQuiet(d time.Duration) string {
	words := alerts.Span(d)
	if d%time.Minute != 0 {
		words = d.String()
	}
	return "no incident within " + words + "\n"
}

// maxShown bounds a name of another's making in output, in runes.
const maxShown = 60

// standing says who looks after an incident, and who silenced it.
func standing(in *incident.Incident) string {
	var parts []string
	if a := in.Acknowledged; a != nil {
		parts = append(parts, "Acknowledged"+actor(a)+".")
	}
	if a := in.Silenced; a != nil {
		parts = append(parts, "Silenced"+actor(a)+" until "+a.Until.UTC().Format("2 Jan 15:04")+".")
	}
	return strings.Join(parts, " ")
}

func actor(a *incident.Act) string {
	if a.By == "" {
		return ""
	}
	return " by " + alerts.Clean(a.By, maxShown)
}

// DescribeTimeline writes an incident and how it got there, for a terminal.
func DescribeTimeline(in *incident.Incident, line []incident.Transition, colour bool) string {
	now := incident.Transition{Kind: incident.Opened, At: in.OpenedAt, Incident: *in}
	if in.State == incident.Resolved {
		now.Kind = incident.ResolvedKind
	}
	// Who did it, and the team's own words, are with the step.
	for i := len(line) - 1; i >= 0; i-- {
		if t := &line[i]; t.Kind == now.Kind {
			now.At, now.Act, now.Words = t.At, t.Act, t.Words
			break
		}
	}
	var b strings.Builder
	b.WriteString(console.Format(now, console.Options{Color: colour}))
	if s := standing(in); s != "" && in.State == incident.Open {
		b.WriteString("  " + s + "\n")
	}
	b.WriteString("\n")
	for i := range line {
		t := &line[i]
		fmt.Fprintf(&b, "  %s  %s\n", t.At.UTC().Format("Mon 2 Jan 15:04"), alerts.Render(*t).Step)
	}
	return b.String()
}

// DescribeSilences lists silences for a terminal.
func DescribeSilences(list []incident.Silencing) string {
	if len(list) == 0 {
		return "Nothing is silenced.\n"
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tUNTIL\tBY\tSCOPE")
	for i := range list {
		s := &list[i]
		what := "incident " + s.Incident
		if s.Scope != nil {
			what = scopeWords(s.Scope)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(s.ID), s.Act.Until.UTC().Format(time.RFC3339), alerts.Clean(s.Act.By, maxShown), printable(what))
	}
	_ = t.Flush() // into memory
	return b.String()
}

// scopeWords writes what a scope binds, such as "route=/billing/** role=viewer".
func scopeWords(s *incident.Scope) string {
	var parts []string
	for _, x := range [...][2]string{{"service", s.Service}, {"prefix", s.Prefix}, {"route", s.Route}, {"role", s.Role}, {"geo", s.Geo},
		{"plan", s.Plan}, {"host", s.Host}, {"flag", s.Flag}, {"layer", s.Layer}} {
		if x[1] != "" {
			parts = append(parts, x[0]+"="+x[1])
		}
	}
	return strings.Join(parts, " ")
}

// DescribeDeadLetters lists dead letters for a terminal.
func DescribeDeadLetters(list []client.DeadLetter) string {
	if len(list) == 0 {
		return "No notification was given up.\n"
	}
	var b strings.Builder
	for i := range list {
		l := &list[i]
		where := l.Sink
		if l.Target != "" {
			where += " " + l.Target
		}
		fmt.Fprintf(&b, "%s  %s  %s  %s\n", printable(l.ID), l.At.UTC().Format("Mon 2 Jan 15:04"), alerts.Clean(where, maxShown), alerts.Clean(l.What, maxLine))
		reason := alerts.Clean(l.Reason, maxLine)
		if !l.Sendable {
			reason += " (it can only be dropped)"
		}
		fmt.Fprintf(&b, "  given up after %s: %s\n", count(l.Attempts, "try", "tries"), reason)
	}
	return b.String()
}

// maxLine bounds a text of another's making in output, in runes.
const maxLine = 300
