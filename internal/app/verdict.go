package app

import (
	"fmt"
	"strings"

	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// DescribeVerdict writes a verdict for people. Nothing in it steers a terminal.
func DescribeVerdict(v *marker.Verdict, colour bool) string {
	var b strings.Builder
	word := strings.ReplaceAll(printable(string(v.Verdict)), "_", " ")
	code := map[marker.Outcome]string{marker.Pass: "32", marker.Fail: "31"}[v.Verdict]
	if colour && code != "" {
		word = "\x1b[" + code + "m" + word + "\x1b[0m"
	}
	fmt.Fprintf(&b, "%s: %s  %s\n", printable(v.Marker.ID), word, printable(v.Reason))
	if v.Verdict == marker.Pending {
		fmt.Fprintf(&b, "  on probation until %s\n", v.Until.UTC().Format("Mon 2 Jan 15:04 UTC"))
	}
	for i := range v.Incidents {
		x := &v.Incidents[i]
		fmt.Fprintf(&b, "  incident %s since %s: %s, %s, %d of them used to get in; %s\n", printable(x.ID), x.StartedAt.UTC().Format("15:04 UTC"),
			where(&x.Scope), count(int(x.Identities), "person", "people"), x.UsedToGetIn, printable(string(x.State)))
	}
	for i := range v.Evidence {
		e := &v.Evidence[i]
		fmt.Fprintf(&b, "  %s: %s of %s refused (%s), usually %s", printable(strings.TrimSpace(e.Service+" "+e.Vantage)), group3(uint64(e.Since.Denials)),
			group3(uint64(e.Since.Requests)), printable(e.Class), group3(uint64(e.ExpectedDenials+0.5)))
		if e.Before.Requests > 0 {
			fmt.Fprintf(&b, "; before %s of %s", group3(uint64(e.Before.Denials)), group3(uint64(e.Before.Requests)))
		}
		fmt.Fprintf(&b, "; %s refused", count(int(e.Identities), "person", "people"))
		if e.Class == incident.ClassRefused {
			fmt.Fprintf(&b, "; a wall would have been seen with %.0f %%, %.0f %% of the usual traffic is covered", 100*e.Power, 100*e.Covered)
		}
		fmt.Fprintln(&b)
		for k := range e.Uncovered {
			u := &e.Uncovered[k]
			fmt.Fprintf(&b, "    seen too little: %s, %s (%.0f %% of the usual traffic)\n", where(&u.Scope), count(int(u.Requests), "request", "requests"), 100*u.Share)
		}
	}
	if len(v.Suspended) > 0 {
		fmt.Fprintf(&b, "  not judged now: %s\n", printable(strings.Join(v.Suspended, ", ")))
	}
	for i := range v.Earlier {
		e := &v.Earlier[i]
		fmt.Fprintf(&b, "  earlier %s: %s, %s of %s refused, usually %s\n", printable(e.ID), strings.ReplaceAll(printable(string(e.Verdict)), "_", " "),
			group3(uint64(e.Denials)), group3(uint64(e.Requests)), group3(uint64(e.ExpectedDenials+0.5)))
	}
	return b.String()
}

// where names a scope in few words.
func where(s *incident.Scope) string {
	path := s.Route
	if path == "" {
		path = s.Prefix
	}
	if path == "" {
		path = "everywhere"
	}
	for _, x := range []struct{ name, value string }{{"role", s.Role}, {"country", s.Geo}} {
		if x.value != "" {
			path += ", " + x.name + " " + x.value
		}
	}
	return printable(path)
}
