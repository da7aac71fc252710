package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/incident"
)

// CheckRouting tells who would be told of an incident on a route, how urgent it would
// be, and which rules of a valid configuration say so.
func CheckRouting(cfg *configs.Config, q AccessQuestion, out io.Writer) error {
	template, err := q.template(cfg)
	if err != nil {
		return err
	}
	in := incident.Incident{
		Direction: incident.Direction(q.Direction), Class: incident.ClassRefused, Layer: q.Layer,
		Identities: int64(q.People), UsedToGetIn: int64(q.People),
		Scope: incident.Scope{Service: q.Service, Route: template, Plan: q.Plan, Geo: q.Geo, Role: only(q.Roles), Flag: only(q.Flags)},
	}
	if in.Scope.Service == "" {
		in.Scope.Service = cfg.Service
	}
	r := routing.New(&cfg.Routing, cfg.Recipients())
	d := r.Route(&in, strings.ToUpper(q.Method))
	fmt.Fprintf(out, "  an incident there: %s\n", strings.Join(d.Why, ", then "))
	if d.Journey != "" {
		fmt.Fprintf(out, "  journey: %s%s\n", printable(d.Journey), stepOf(d))
	}
	switch {
	case d.Rule >= 0:
		fmt.Fprintf(out, "  owner: team %s, by %s: %s\n", d.Team, cfg.OwnerPlace(d.Rule), printable(cfg.Routing.Owners[d.Rule].Text()))
	case d.Team != "":
		fmt.Fprintf(out, "  owner: team %s, whose journey it is\n", d.Team)
	default:
		fmt.Fprintln(out, "  owner: nobody; no owner rule is configured")
	}
	if d.Watcher != "" {
		fmt.Fprintf(out, "  told too: team %s, whose journey it is\n", d.Watcher)
	}
	places := r.Places(d)
	for _, p := range places {
		line := p.Sink.Name
		if p.Target != "" {
			line += " " + p.Target
		}
		if len(p.Mention) > 0 {
			line += ", calling " + strings.Join(p.Mention, " ")
		}
		if p.Team != "" && p.Team != d.Team {
			line += " (team " + p.Team + ")"
		}
		fmt.Fprintln(out, "  told at: "+printable(line))
	}
	if len(places) == 0 {
		fmt.Fprintln(out, "  told nowhere: no sink takes this severity")
	}
	if t := r.Team(d.Team); t != nil && t.Escalate.To != "" {
		if after := t.Escalate.After(d.Severity); after > 0 {
			fmt.Fprintf(out, "  unless it is acknowledged within %s: team %s\n", alerts.Span(after), t.Escalate.To)
		}
	}
	return nil
}

// stepOf names the step of the journey.
func stepOf(d routing.Decision) string {
	if d.Step == 0 {
		return ""
	}
	return fmt.Sprintf(", step %d of %d", d.Step, d.Steps)
}

// only is the value of a list of one: an incident is about one or about all.
func only(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return ""
}
