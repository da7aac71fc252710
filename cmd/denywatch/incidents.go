package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/secret"
)

// daemon is how to reach a running denywatch. Where it belongs to several verbs its flags
// may stand before and after the verb.
type daemon struct {
	URL   string        `default:"http://127.0.0.1:8403" env:"DENYWATCH_URL" help:"Where denywatch listens."`
	Token secret.String `env:"DENYWATCH_TOKEN" placeholder:"TOKEN" help:"Bearer token; better given by the environment variable DENYWATCH_TOKEN."`
}

func (d *daemon) client() *client.Client { return &client.Client{BaseURL: d.URL, Token: d.Token} }

// person is who acts.
type person struct {
	By string `placeholder:"NAME" help:"Who you are, for the time line. Default: your user name."`
}

func (p *person) name() string {
	if p.By != "" {
		return p.By
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

type incidentsCmd struct {
	daemon

	List    listCmd    `cmd:"" default:"withargs" help:"List incidents, the open ones first."`
	Show    showCmd    `cmd:"" help:"Show one incident with its time line."`
	Ack     ackCmd     `cmd:"" help:"Say that you look after an incident, so that it does not escalate."`
	Silence silenceCmd `cmd:"" help:"Tell nothing of an incident for a while but its end."`
	Accept  acceptCmd  `cmd:"" help:"Say that this is the new normal: it is over, and expected from now on."`
	Dismiss dismissCmd `cmd:"" help:"Say that it is not a problem and never was one: accepted, and counted as a false alarm."`
	Reopen  reopenCmd  `cmd:"" help:"Say that it is not over, or was a problem after all: takes accept, dismiss and merge back, for a day."`
	Merge   mergeCmd   `cmd:"" help:"Say that it is a part of another incident: one message for both, with the numbers of both."`
}

type listCmd struct {
	State  string `enum:"open,resolved,all" default:"all" help:"Which: ${enum}."`
	Team   string `help:"Only those of this team."`
	Output string `enum:"text,json" default:"text" help:"text: a line each; json: as the API has them."`
}

// Run implements the command.
func (c *listCmd) Run(e *env) error {
	state := incident.State(c.State)
	if c.State == "all" {
		state = ""
	}
	list, err := e.cli.Incidents.client().Incidents(e.ctx, state, c.Team)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return e.json(list)
	}
	text := app.DescribeIncidents(list, e.colour(e.stdout))
	if len(list) == 0 {
		text = app.DescribeNone(state, c.Team)
	}
	_, err = fmt.Fprint(e.stdout, text)
	return err
}

// json writes v for programs.
func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type showCmd struct {
	ID     string `arg:"" help:"Id of the incident, as list shows it."`
	Output string `enum:"text,json" default:"text" help:"text: for people; json: as the API has it."`
}

// Run implements the command.
func (c *showCmd) Run(e *env) error {
	in, line, err := e.cli.Incidents.client().Incident(e.ctx, c.ID)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return e.json(struct {
			Incident incident.Incident     `json:"incident"`
			Timeline []incident.Transition `json:"timeline"`
		}{in, line})
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeTimeline(&in, line, e.colour(e.stdout)))
	return err
}

// target is the incident that is changed, and by whom.
type target struct {
	person
	ID string `arg:"" help:"Id of the incident."`
}

func (t *target) do(e *env, verb incident.Verb, span time.Duration) error {
	in, err := e.cli.Incidents.client().Act(e.ctx, t.ID, verb, t.name(), span)
	return e.tell(in, err)
}

// tell writes an incident as it is after somebody changed it.
func (e *env) tell(in incident.Incident, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeIncidents([]incident.Incident{in}, e.colour(e.stdout)))
	return err
}

type ackCmd struct{ target }

// Run implements the command.
func (c *ackCmd) Run(e *env) error { return c.do(e, incident.Acknowledge, 0) }

type silenceCmd struct {
	target
	For time.Duration `default:"1h" help:"For how long, up to 720h."`
}

// Run implements the command.
func (c *silenceCmd) Run(e *env) error { return c.do(e, incident.Silence, c.For) }

type acceptCmd struct{ target }

// Run implements the command.
func (c *acceptCmd) Run(e *env) error { return c.do(e, incident.Accept, 0) }

type dismissCmd struct{ target }

// Run implements the command.
func (c *dismissCmd) Run(e *env) error { return c.do(e, incident.Dismiss, 0) }

type reopenCmd struct{ target }

// Run implements the command.
func (c *reopenCmd) Run(e *env) error { return c.do(e, incident.Reopen, 0) }

type mergeCmd struct {
	target
	Into string `arg:"" help:"Id of the incident that it becomes a part of."`
}

// Run implements the command.
func (c *mergeCmd) Run(e *env) error {
	in, err := e.cli.Incidents.client().Merge(e.ctx, c.ID, c.Into, c.name())
	return e.tell(in, err)
}

type silencesCmd struct {
	daemon

	List   silencesListCmd   `cmd:"" default:"withargs" help:"List what is silenced, and until when."`
	Add    silencesAddCmd    `cmd:"" help:"Silence all incidents of a scope for a while."`
	Remove silencesRemoveCmd `cmd:"" help:"Take a silence back before its time."`
}

type silencesListCmd struct{}

// Run implements the command.
func (silencesListCmd) Run(e *env) error {
	list, err := e.cli.Silences.client().Silences(e.ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeSilences(list))
	return err
}

type silencesAddCmd struct {
	person
	For     time.Duration `required:"" help:"For how long, up to 720h."`
	Route   string        `help:"Only this route, or pattern of routes such as /billing/**."`
	Service string        `help:"Only this service."`
	Role    string        `help:"Only this role."`
	Plan    string        `help:"Only this price plan."`
	Geo     string        `help:"Only this country."`
	Host    string        `help:"Only this host."`
	Flag    string        `help:"Only this feature flag."`
	Layer   string        `enum:",edge,web,app,unknown" default:"" help:"Only what this layer refuses."`
}

// Run implements the command.
func (c *silencesAddCmd) Run(e *env) error {
	s, err := e.cli.Silences.client().Silence(e.ctx, incident.Scope{
		Service: c.Service, Route: c.Route, Role: c.Role, Plan: c.Plan, Geo: c.Geo, Host: c.Host, Flag: c.Flag, Layer: c.Layer,
	}, c.name(), c.For)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeSilences([]incident.Silencing{s}))
	return err
}

type silencesRemoveCmd struct {
	person
	ID string `arg:"" help:"Id of the silence, or of the silenced incident."`
}

// Run implements the command.
func (c *silencesRemoveCmd) Run(e *env) error {
	return e.cli.Silences.client().Unsilence(e.ctx, c.ID, c.name())
}

type deadLettersCmd struct {
	daemon

	List   deadListCmd   `cmd:"" default:"withargs" help:"List the notifications that were given up."`
	Resend deadResendCmd `cmd:"" help:"Try one, or all of them, again."`
	Drop   deadDropCmd   `cmd:"" help:"Forget one."`
}

type deadListCmd struct{}

// Run implements the command.
func (deadListCmd) Run(e *env) error {
	list, err := e.cli.DeadLetters.client().DeadLetters(e.ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeDeadLetters(list))
	return err
}

type deadResendCmd struct {
	ID  string `arg:"" optional:"" help:"Id of the dead letter."`
	All bool   `help:"All of them."`
}

// Run implements the command.
func (c *deadResendCmd) Run(e *env) error {
	if (c.ID == "") != c.All {
		return errors.New("give either an id or --all")
	}
	n, err := e.cli.DeadLetters.client().Resend(e.ctx, c.ID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, n, "tried again")
	return err
}

type deadDropCmd struct {
	ID string `arg:"" help:"Id of the dead letter."`
}

// Run implements the command.
func (c *deadDropCmd) Run(e *env) error { return e.cli.DeadLetters.client().Drop(e.ctx, c.ID) }

type whoCmd struct {
	daemon
	User    string `help:"The user, as the logs have it."`
	Account string `help:"The account, as the logs have it."`
	Client  string `help:"The client's address; with --account, somebody of that account there."`
	Output  string `enum:"text,json" default:"text" help:"text: for people; json: as the API has it."`
}

// Run implements the command.
func (c *whoCmd) Run(e *env) error {
	cfg, err := e.config()
	if err != nil {
		return err
	}
	found, err := app.Who(e.ctx, cfg, c.client(), app.Person{User: c.User, Account: c.Account, Client: c.Client})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return e.json(found)
	}
	_, err = fmt.Fprint(e.stdout, app.DescribeRefused(&found))
	return err
}
