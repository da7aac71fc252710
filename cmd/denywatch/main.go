// Command denywatch tells a product team, within minutes and with a reason, when
// people who should get in are being refused, and when a door that should be
// locked stands open.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/denywatch/denywatch/configs"
)

// version is set by the linker for releases.
var version = ""

// Exit codes. Kong's own for a wrong command line is 80.
const (
	exitOK       = 0
	exitError    = 1
	exitFound    = 3 // replay, mark --wait and verdict: incidents were found
	exitUnsure   = 4 // verdict: too little was seen to be sure
	exitCanceled = 130
)

// exitCode is an error that is only an exit code.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

type cli struct {
	Config string `short:"c" type:"path" placeholder:"FILE" help:"Configuration. Default: ./denywatch.yaml, else /etc/denywatch/denywatch.yaml."`
	Log    string `enum:"debug,info,warn,error" default:"info" help:"How much to log on standard error: ${enum}."`
	Colour string `name:"color" enum:"auto,always,never" default:"auto" help:"Use colours: ${enum}. auto: only on a terminal."`

	Run         runCmd         `cmd:"" help:"Follow the configured logs and tell of incidents. SIGHUP reloads the configuration."`
	Replay      replayCmd      `cmd:"" help:"Run past logs through the same engine and show the incidents. Exit code 3 if there are any."`
	Parse       parseCmd       `cmd:"" help:"Show how log lines are understood, with the values they hold: users, addresses, paths."`
	Check       checkCmd       `cmd:"" help:"Check the configuration: all problems at once, with line numbers."`
	Mark        markCmd        `cmd:"" help:"Tell a running denywatch that something changed, such as a release."`
	Verdict     verdictCmd     `cmd:"" help:"Ask a running denywatch what came of a change. Exit codes: 0 passed, 3 failed, 4 not enough data."`
	Incidents   incidentsCmd   `cmd:"" help:"List a running denywatch's incidents; acknowledge, silence, accept, dismiss, reopen, merge them."`
	Silences    silencesCmd    `cmd:"" help:"List, add and remove silences."`
	DeadLetters deadLettersCmd `cmd:"" name:"dead-letters" help:"List the notifications that were given up, and send them again."`
	Who         whoCmd         `cmd:"" help:"Answer a support ticket: was this customer refused, where, by whom, in which incident. They are hashed here."`
	Demo        demoCmd        `cmd:"" help:"Watch a simulated product whose release breaks one role on one route."`
	Version     versionCmd     `cmd:"" help:"Show the version."`
}

// env is what commands get besides their flags.
type env struct {
	ctx            context.Context
	cli            *cli
	stdin          io.Reader
	stdout, stderr *os.File
	log            *slog.Logger
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	var c cli
	code := -1
	parser, err := kong.New(&c,
		kong.Name("denywatch"),
		kong.Description("Tells a product team when people who should get in are being refused (HTTP 403), and when a door that should be locked stands open."),
		kong.UsageOnError(), kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(n int) { code = n }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "denywatch:", err)
		return exitError
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if code >= 0 { // help was asked for and shown
		return code
	}
	if err != nil {
		parser.FatalIfErrorf(err)
		return code
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log)); err != nil {
		fmt.Fprintln(stderr, "denywatch:", err)
		return exitError
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from then on a second Ctrl-C kills
	e := &env{
		ctx: ctx, cli: &c, stdin: stdin, stdout: stdout, stderr: stderr,
		log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	err = kctx.Run(e)
	var only exitCode
	var problems *configs.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &only):
		return int(only)
	case errors.As(err, &problems):
		outcome := "nothing was started"
		if kctx.Command() == "check" {
			outcome = ""
		}
		fmt.Fprintln(stderr, problems.Text(e.colour(stderr), outcome))
		return exitError
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitCanceled
	}
	fmt.Fprintln(stderr, "denywatch:", err)
	return exitError
}

// colour reports whether to use colours on f.
func (e *env) colour(f *os.File) bool {
	switch e.cli.Colour {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && terminal(f)
}

func terminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// config loads the named configuration, or the one that is found.
func (e *env) config() (*configs.Config, error) {
	path := e.cli.Config
	if path == "" {
		var err error
		if path, err = configs.Find(); err != nil {
			return nil, err
		}
	}
	return configs.Load(path, os.LookupEnv)
}

// optionalConfig is nil when no configuration was named.
func (e *env) optionalConfig() (*configs.Config, error) {
	if e.cli.Config == "" {
		return nil, nil
	}
	return e.config()
}

// buildVersion is the linker's version, else what the Go tool recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v = "dev-" + s.Value[:12]
		}
	}
	if v == "" || v == "(devel)" {
		return "dev"
	}
	return v
}
