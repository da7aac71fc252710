package alerts

import (
	"cmp"
	"slices"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Summary is what happened in a period, for a digest. Its lists may be in any order.
type Summary struct {
	// ID is the post's; the same id always means the same digest.
	ID string
	// Team is whose digest it is, empty for everybody's.
	Team     string
	From, To time.Time
	// First tells that From is when denywatch began, and nothing was seen before.
	First bool
	// Location is the zone of all times; nil means UTC.
	Location *time.Location
	// Sources are what was read, Routes and Series how much is watched.
	Sources        []SourceSummary
	Routes, Series int
	// Incidents are the last transitions of those that were open at some time of the
	// period.
	Incidents []*incident.Transition
	// Valid are the refusals that the declared access rules ask for, Scans the suspected
	// scans.
	Valid []ValidSummary
	Scans []incident.Scan
	// Waiting is how many notifications wait, Dead how many were given up and are kept.
	Waiting, Dead int
}

// SourceSummary is what was read of one source.
type SourceSummary struct {
	Name string
	// Lines were read in the period, Unparsed of them not understood.
	Lines, Unparsed uint64
	// Suspended tells that it is not judged now.
	Suspended bool
}

// ValidSummary is how often a route refused a role as the rules ask for.
type ValidSummary struct {
	Route, Role string
	N           uint64
}

// The most that a digest names of each.
const (
	mostIncidents = 10
	mostValid     = 5
	mostScans     = 3
	mostSilent    = 5
)

// Digest writes the summary as a post. It is a pure function.
func Digest(s *Summary) *Post {
	loc := s.Location
	if loc == nil {
		loc = time.UTC
	}
	from, to := s.From.In(loc), s.To.In(loc)
	p := &Post{ID: s.ID, At: s.To}
	open, dismissed := 0, 0
	for _, t := range s.Incidents {
		switch in := &t.Incident; {
		case in.State == incident.Open:
			open++
		case in.Resolution == incident.Dismissed:
			dismissed++
		}
	}
	whose := ""
	if s.Team != "" {
		whose = " for team " + Clean(s.Team, maxValue)
	}
	lines, blind := uint64(0), false
	for _, x := range s.Sources {
		lines, blind = lines+x.Lines, blind || x.Suspended
	}
	switch n := len(s.Incidents); {
	case n == 0 && lines == 0:
		p.Headline = "Nothing was read, so nothing is known"
	case n == 0 && blind:
		p.Headline = "Nothing wrong" + whose + " as far as could be seen"
	case n == 0:
		p.Headline = "Nothing wrong" + whose
	case open == 0:
		p.Headline = Count(n, "incident", "incidents") + whose + ", none open now"
	default:
		p.Headline = Count(n, "incident", "incidents") + whose + ", " + number(int64(open)) + " open now"
	}
	p.Headline += ", " + from.Format("Mon 2 Jan 15:04") + " to " + to.Format("Mon 2 Jan 15:04")

	p.Parts = append(p.Parts, Part{Lines: s.watched()})
	if len(s.Incidents) > 0 {
		ts := slices.Clone(s.Incidents)
		sortWorst(ts)
		var lines []string
		for _, t := range ts[:min(len(ts), mostIncidents)] {
			lines = append(lines, t.Incident.StartedAt.In(loc).Format("Mon 15:04")+" "+Line(t))
		}
		lines = more(lines, len(ts), "other", "others")
		if dismissed > 0 {
			lines = append(lines, Count(dismissed, "was", "were")+" called not a problem")
		}
		p.Parts = append(p.Parts, Part{Title: "What happened", Lines: lines})
	}
	if len(s.Valid) > 0 {
		vs := slices.Clone(s.Valid)
		slices.SortFunc(vs, func(a, b ValidSummary) int {
			return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Role, b.Role))
		})
		var lines []string
		for _, v := range vs[:min(len(vs), mostValid)] {
			whom := ""
			switch v.Role {
			case "":
			case incident.NoRole:
				whom = ", visitors without a role"
			default:
				whom = ", role " + Clean(v.Role, maxValue)
			}
			lines = append(lines, Clean(v.Route, maxRoute)+whom+": "+number(int64(v.N)))
		}
		p.Parts = append(p.Parts, Part{Title: "Refused as your access rules ask for", Lines: more(lines, len(vs), "other", "others")})
	}
	if len(s.Scans) > 0 {
		xs := slices.Clone(s.Scans)
		slices.SortStableFunc(xs, func(a, b incident.Scan) int { return cmp.Compare(b.Denials, a.Denials) })
		var lines []string
		for i := range xs[:min(len(xs), mostScans)] {
			x := &xs[i]
			what := Clean(x.TopRoute, maxRoute)
			if x.Routes > 1 {
				what += " and " + Count(x.Routes-1, "other route", "other routes")
			}
			lines = append(lines, x.From.In(loc).Format("Mon 15:04")+" "+what+": "+count(x.Denials, "refusal", "refusals")+" of "+count(x.Identities, "address or user", "addresses or users"))
		}
		p.Parts = append(p.Parts, Part{Title: "Suspected scans, told to nobody", Lines: more(lines, len(xs), "other", "others")})
	}
	return p
}

// more adds how many of all are not in lines.
func more(lines []string, all int, one, many string) []string {
	if n := all - len(lines); n > 0 {
		lines = append(lines, "and "+Count(n, one, many))
	}
	return lines
}

// watched says what was read, and what was not.
func (s *Summary) watched() []string {
	var lines, unparsed uint64
	var silent, blind []string
	for _, x := range s.Sources {
		lines, unparsed = lines+x.Lines, unparsed+x.Unparsed
		if x.Lines == 0 {
			silent = append(silent, Clean(x.Name, maxValue))
		}
		if x.Suspended {
			blind = append(blind, Clean(x.Name, maxValue))
		}
	}
	slices.Sort(silent)
	slices.Sort(blind)
	understood := "all of them understood"
	switch {
	case lines == 0:
		understood = "nothing was read"
	case unparsed > 0:
		understood = percent(1-float64(unparsed)/float64(lines)) + " of them understood"
	}
	out := []string{"Watched: " + Count(len(s.Sources), "source", "sources") + ", " + count(int64(lines), "line", "lines") + ", " + understood + "; " +
		Count(s.Routes, "route", "routes") + ", " + Count(s.Series, "series", "series")}
	if s.First {
		out = append(out, "This is the first one: it begins when denywatch did")
	}
	if len(silent) > 0 && lines > 0 {
		out = append(out, "Not a line came from "+list(silent, mostSilent))
	}
	if len(blind) > 0 {
		out = append(out, "Not judged now, too little is understood: "+list(blind, mostSilent))
	}
	if s.Waiting > 0 {
		out = append(out, Count(s.Waiting, "notification waits", "notifications wait")+" for a sink that does not answer")
	}
	if s.Dead > 0 {
		out = append(out, Count(s.Dead, "notification was given up", "notifications were given up")+"; denywatch dead-letters shows them")
	}
	return out
}

// sortWorst puts the worst incidents first.
func sortWorst(ts []*incident.Transition) {
	slices.SortStableFunc(ts, func(a, b *incident.Transition) int {
		x, y := &a.Incident, &b.Incident
		return cmp.Or(cmp.Compare(slices.Index(incident.Severities, y.Severity), slices.Index(incident.Severities, x.Severity)),
			cmp.Compare(y.Identities, x.Identities), cmp.Compare(x.ID, y.ID))
	})
}

// Lines names the worst of incidents, a line each, and how many others there are of
// all.
func Lines(ts []*incident.Transition, all int) []string {
	sortWorst(ts)
	var lines []string
	for _, t := range ts[:min(len(ts), mostIncidents)] {
		lines = append(lines, Line(t))
	}
	return more(lines, all, "other", "others")
}
