package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/app"
	"github.com/denywatch/denywatch/internal/client"
	"github.com/denywatch/denywatch/internal/marker"
)

type runCmd struct{}

// Run implements the command.
func (runCmd) Run(e *env) error {
	cfg, err := e.config()
	if err != nil {
		return err
	}
	// A daemon shares its host with what it watches: it collects its garbage twice
	// as often as usual, which costs little, and keeps half of the spare memory.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	for _, w := range cfg.Warnings() {
		e.log.Warn("configuration", "warning", w.String())
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{})
	go func() {
		for range hup {
			select {
			case reload <- struct{}{}:
			case <-e.ctx.Done():
				return
			}
		}
	}()
	return app.Run(e.ctx, cfg, app.Options{
		Stdout: e.stdout, Colour: e.colour(e.stdout), Log: e.log, Version: buildVersion(),
	}, reload, func() (*configs.Config, error) { return e.config() })
}

type replayCmd struct {
	Files   []string `arg:"" name:"file" help:"Logs, also .gz and .zst, - for standard input, or [vantage/]format:FILE such as web/nginx:access.log."`
	Format  string   `default:"auto" help:"Format of the files that name none; auto recognises it."`
	Markers string   `type:"path" placeholder:"FILE" help:"Markers of the past, one JSON object a line."`
	Against string   `type:"path" placeholder:"FILE" help:"Replay under this configuration too and show what it adds, drops and delays. Exit code 3 if anything."`
	Output  string   `enum:"text,jsonl" default:"text" help:"text: a time line; jsonl: one object per incident."`
}

// Run implements the command.
func (c replayCmd) Run(e *env) error {
	letHeapGrow()
	cfg, err := e.optionalConfig()
	if err != nil {
		return err
	}
	replay := app.Replay
	if c.Against != "" {
		other, err := configs.Load(c.Against, os.LookupEnv)
		if err != nil {
			return err
		}
		replay = func(ctx context.Context, opt app.ReplayOptions) (int, error) {
			return app.ReplayAgainst(ctx, opt, other)
		}
	}
	n, err := replay(e.ctx, app.ReplayOptions{
		Files: c.Files, Format: c.Format, Config: cfg, Markers: c.Markers, JSON: c.Output == "jsonl",
		Progress: terminal(e.stderr), Colour: e.colour(e.stdout),
		Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Log: e.log,
	})
	if err == nil && n > 0 {
		return exitCode(exitFound)
	}
	return err
}

type parseCmd struct {
	Files  []string `arg:"" name:"file" help:"Logs, as for replay."`
	Format string   `default:"auto" help:"Format of the files that name none; auto recognises it."`
	Lines  int      `short:"n" default:"20" help:"How many events to show of each log; 0 shows all."`
	Output string   `enum:"text,jsonl" default:"text" help:"text: a table; jsonl: one object per event."`
	Stats  bool     `help:"Read everything and count: shares understood, fields filled, statuses, routes, layers, causes."`
}

// Run implements the command.
func (c parseCmd) Run(e *env) error {
	cfg, err := e.optionalConfig()
	if err != nil {
		return err
	}
	_, err = app.Parse(e.ctx, app.ParseOptions{
		Files: c.Files, Format: c.Format, Config: cfg, Lines: c.Lines, JSON: c.Output == "jsonl", Stats: c.Stats,
		Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Log: e.log,
	})
	return err
}

type checkCmd struct {
	Example   bool     `help:"Print a fully commented configuration and stop."`
	SendTest  bool     `help:"Send a test message to every place where incidents are told, and say what is missing."`
	Route     string   `placeholder:"PATH" help:"Tell what the access rules expect of requests for this path or route, who would be told of an incident there, and which rules say so."`
	Method    string   `help:"With --route: the request's method."`
	Service   string   `help:"With --route: the service. Default: the configured one."`
	Role      []string `help:"With --route: the roles; _none for nobody in particular."`
	Plan      string   `help:"With --route: the price plan."`
	Geo       string   `help:"With --route: the country."`
	Flag      []string `help:"With --route: the feature flags that are on."`
	Layer     string   `enum:"edge,web,app,unknown" default:"app" help:"With --route: who refuses: ${enum}."`
	Direction string   `enum:"up,down,new" default:"up" help:"With --route: a broken wall (up), a vanished one (down) or a new route (new)."`
	People    int      `default:"50" help:"With --route: how many people the incident affects."`
}

// Run implements the command.
func (c checkCmd) Run(e *env) error {
	if c.Example {
		_, err := e.stdout.Write(configs.Example)
		return err
	}
	cfg, err := e.config()
	if err != nil {
		return err
	}
	if c.Route != "" {
		q := app.AccessQuestion{
			Path: c.Route, Method: c.Method, Service: c.Service, Plan: c.Plan, Geo: c.Geo, Roles: c.Role, Flags: c.Flag,
			Layer: c.Layer, Direction: c.Direction, People: c.People,
		}
		if err := app.CheckAccess(cfg, q, e.stdout); err != nil {
			return err
		}
		return app.CheckRouting(cfg, q, e.stdout)
	}
	if c.SendTest {
		return app.SendTest(e.ctx, cfg, e.stdout)
	}
	return app.Check(cfg, e.stdout)
}

type markCmd struct {
	daemon
	ID       string        `help:"Id of the marker. Default: made of service, kind and version."`
	Kind     marker.Kind   `enum:"release,pricing,entitlement,security_rule,flag,config" default:"release" help:"What changed: ${enum}."`
	Service  string        `help:"Service that changed. Default: all."`
	Release  string        `name:"release" placeholder:"VERSION" help:"The new version."`
	Previous string        `placeholder:"VERSION" help:"The version before."`
	Time     time.Time     `format:"2006-01-02T15:04:05Z07:00" placeholder:"RFC3339" help:"When it changed. Default: now."`
	Prefix   []string      `help:"Only these path prefixes, such as /billing."`
	Route    []string      `help:"Only these routes, such as /users/{id}."`
	Role     []string      `help:"Only these roles."`
	Geo      []string      `help:"Only these countries."`
	Expect   marker.Expect `enum:",up,down" default:"" help:"Announce that denials go up or down."`
	Wait     time.Duration `help:"Wait this long and exit with code 3 as soon as an incident opens in the marker's scope, such as 15m."`
}

// Run implements the command.
func (c markCmd) Run(e *env) error {
	cl := c.client()
	m := marker.Marker{
		ID: c.ID, Kind: c.Kind, Service: c.Service, Version: c.Release, Previous: c.Previous, Time: c.Time, Expect: c.Expect,
		Scope: marker.Scope{Prefix: c.Prefix, Route: c.Route, Role: c.Role, Geo: c.Geo},
	}
	res, err := cl.Mark(e.ctx, m)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, res.ID)
	if c.Wait <= 0 {
		return nil
	}
	incidents, err := cl.WaitForIncident(e.ctx, res.ID, c.Wait, 0)
	if err != nil {
		return err
	}
	if len(incidents) == 0 {
		fmt.Fprint(e.stderr, app.DescribeQuiet(c.Wait))
		return nil
	}
	for i := range incidents {
		fmt.Fprint(e.stdout, app.Describe(&incidents[i], e.colour(e.stdout)))
	}
	return exitCode(exitFound)
}

type verdictCmd struct {
	ID     string        `arg:"" help:"Id of the marker, as mark prints it."`
	URL    string        `default:"http://127.0.0.1:8403" env:"DENYWATCH_URL" help:"Where denywatch listens."`
	Wait   time.Duration `help:"Wait this long while the verdict is pending, such as 30m. If it is pending still, it counts what was seen so far."`
	Output string        `enum:"text,json" default:"text" help:"text: for people; json: as the API answers."`
}

// Run implements the command.
func (c verdictCmd) Run(e *env) error {
	v, err := (&client.Client{BaseURL: c.URL}).Verdict(e.ctx, c.ID, c.Wait)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = e.json(v)
	} else {
		_, err = fmt.Fprint(e.stdout, app.DescribeVerdict(&v, e.colour(e.stdout)))
	}
	switch {
	case err != nil:
		return err
	case v.Verdict == marker.Fail:
		return exitCode(exitFound)
	case !v.OK:
		return exitCode(exitUnsure)
	}
	return nil
}

type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintf(e.stdout, "denywatch %s (%s, %s/%s)\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

type demoCmd struct {
	Dir string `type:"path" help:"Keep the demo's logs and state in this folder. Default: a temporary one."`
}

// Run implements the command.
func (c demoCmd) Run(e *env) error {
	log := e.log
	if e.cli.Log == "info" { // the demo tells its own story
		log = slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	return app.Demo(e.ctx, app.DemoOptions{Dir: c.Dir, Stdout: e.stdout, Colour: e.colour(e.stdout), Log: log})
}
