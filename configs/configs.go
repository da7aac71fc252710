// Package configs reads denywatch's configuration: one strict YAML file. It
// promises that a configuration it returns is complete and valid, that one it
// refuses is refused with every mistake at once, each with its line, column and
// a hint, and that no message it makes shows a secret or a value that came from
// the environment.
//
// The types below are the schema; denywatch.example.yaml is its manual. What a
// setting means belongs to the package that obeys it: configs composes.
//
// # References
//
// In every value but log_format and mapping (which have variables of their own),
// ${NAME} stands for an environment variable and ${file:/run/secrets/name} for
// the text of a file of at most 64 KiB without its last newline; $${ stands for
// the characters ${ themselves. A reference may be a part of a value, and the
// value may be a number or a duration. References may stand unquoted in {flow}
// groups, where YAML itself would ask for quotes.
//
// # Paths
//
// A relative path (state, files, ${file:...}) starts in the folder of the
// configuration file, not where the process happens to be started.
package configs

import (
	"bytes"
	_ "embed" // the example
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/alerts/webhook"
	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/ingest/file"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/ingest/push"
	"github.com/denywatch/denywatch/ingest/syslog"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/replica"
	"github.com/denywatch/denywatch/internal/secret"
	"github.com/denywatch/denywatch/internal/web"
	"github.com/denywatch/denywatch/parsers"
)

// Example is the commented example: every option with its default.
//
//go:embed denywatch.example.yaml
var Example []byte

// Config is a whole configuration. It is not changed after Load, so any number
// of goroutines may read it.
type Config struct {
	// Service names events that carry no service of their own; empty: they stay
	// without.
	Service string `yaml:"service" effect:"recount"`
	// State is the folder that holds what must survive a restart.
	State string `yaml:"state" effect:"restart"`
	// IdentityKey is the secret under which users and addresses are hashed; empty: one
	// that is made once and kept beside the state.
	IdentityKey secret.String `yaml:"identity_key" effect:"restart"`
	// Cluster says where the members of a cluster meet, of which one is active; without
	// brokers this process is alone.
	Cluster replica.Config `yaml:"cluster" effect:"restart"`
	// Listen is the address of the HTTP API.
	Listen string `yaml:"listen" effect:"restart"`
	// PublicURL is the address under which people reach the HTTP API; empty: they do not.
	PublicURL string `yaml:"public_url" effect:"live"`
	// Push is where senders of logs are heard, if a source is pushed to.
	Push push.Listen `yaml:"push" effect:"restart"`
	// Slot is the step of event time in which counts are kept.
	Slot time.Duration `yaml:"slot" effect:"restart"`
	// Sources are the logs to read; never empty.
	Sources []Source `yaml:"sources" effect:"recount"`
	// Routes are path templates that win over recognised ones; package route says
	// how they are written.
	Routes []string `yaml:"routes" effect:"recount"`
	// Roles says how several roles of one request become one value.
	Roles Roles `yaml:"roles" effect:"recount"`
	// Denials says which answers are refusals.
	Denials Denials `yaml:"denials" effect:"recount"`
	// Ignore are the team's own doings: counted, and nothing else.
	Ignore []Ignore `yaml:"ignore" effect:"recount"`
	// Access are the declared rules of who gets in; the last that matches decides.
	Access []access.Rule `yaml:"access" effect:"recount"`
	// Geo says where countries come from.
	Geo Geo `yaml:"geo" effect:"recount"`
	// Detection holds the knobs of the judge.
	Detection Detection `yaml:"detection"`
	// Markers says who may announce changes, and how.
	Markers Markers `yaml:"markers"`
	// Routing says what matters and who is told: journeys, owners and teams.
	Routing routing.Config `yaml:",inline"`
	// Sinks are the places that incidents are told to; never empty.
	Sinks Sinks `yaml:"sinks"`

	warnings, notes []Warning
	lines           map[string]int // of the rules in the file, by path
}

// Source is one log, or a group of logs of one server.
type Source struct {
	// Name is unique. Its default is made of the first file's folder and name, or
	// of the first topic: /var/log/nginx/access.log is "nginx-access", the topic
	// shop.app is "kafka-shop_app"; or syslog.
	Name string `yaml:"name"`
	// Vantage is edge, web or app; empty: what is usual for the format.
	Vantage string `yaml:"vantage"`
	// Service overrides Config.Service; empty: that one.
	Service string `yaml:"service"`
	// Files are absolute paths or globs ("**" crosses folders).
	Files []string `yaml:"files,one" effect:"live"`
	// Kafka names topics, instead of Files.
	Kafka kafka.Config `yaml:"kafka" effect:"live"`
	// Push says who may push lines over HTTP, instead of Files.
	Push Push `yaml:"push" effect:"live"`
	// Syslog names addresses that servers send syslog messages to, instead of Files.
	Syslog Syslog `yaml:"syslog" effect:"live"`
	// Parse says how the lines are written: format, log_format, mapping and
	// timezone.
	Parse parsers.Config `yaml:",inline" raw:"log_format mapping"`
	// Lateness is how long after its time a line may be written.
	Lateness time.Duration `yaml:"lateness" effect:"live"`
	// TrustUser makes a user that the client merely claims count as one.
	TrustUser bool `yaml:"trust_user"`
	// SampleRate is n where the log holds only one of n requests and its lines do
	// not say so themselves: each counts as n.
	SampleRate int `yaml:"sample_rate"`
	// MaxUnparsed is the share of recent lines that are not understood above which
	// the source is not judged.
	MaxUnparsed float64 `yaml:"max_unparsed" effect:"live"`
	// MaxLine is the longest line that is read; longer ones are counted and
	// skipped.
	MaxLine Size `yaml:"max_line" effect:"live"`
	// Check, Grace, FromEnd, Backfill and Poll say how files are followed; file.Config
	// says more about each.
	Check   time.Duration `yaml:"check" effect:"live"`
	Grace   time.Duration `yaml:"grace" effect:"live"`
	FromEnd bool          `yaml:"from_end" effect:"live"`
	// Backfill is read in the very first run only.
	Backfill time.Duration `yaml:"backfill" effect:"live"`
	Poll     bool          `yaml:"poll" effect:"live"`
}

// DefaultBackfill is Source.Backfill if the file does not say: a week has all hours
// of all days.
const DefaultBackfill = 7 * 24 * time.Hour

// DefaultMaxUnparsed is Source.MaxUnparsed if the file does not say: when most of
// a log is not understood, the rest of it is no picture of the traffic.
const DefaultMaxUnparsed = 0.5

func (s *Source) setDefaults() {
	*s = Source{
		Parse: parsers.Config{Format: "auto"}, Lateness: time.Minute, SampleRate: 1, MaxUnparsed: DefaultMaxUnparsed,
		Kafka:   kafka.Config{Group: kafka.DefaultGroup, Start: kafka.DefaultStart},
		Push:    Push{MaxBody: push.DefaultMaxBody, MaxBatch: push.DefaultMaxBatch, Spool: push.DefaultSpool},
		Syslog:  Syslog{Spool: syslog.DefaultSpool},
		MaxLine: file.DefaultMaxLine, Check: file.DefaultCheck, Grace: file.DefaultGrace, Backfill: DefaultBackfill,
	}
}

// Follow is the part of the source that ingest/file obeys.
func (s *Source) Follow() file.Config {
	return file.Config{
		Paths: s.Files, MaxLine: int(s.MaxLine), Check: s.Check, Grace: s.Grace,
		FromEnd: s.FromEnd, Backfill: s.Backfill, Poll: s.Poll,
	}
}

// Consume is the part of the source that ingest/kafka obeys, if it names topics.
func (s *Source) Consume() kafka.Config {
	c := s.Kafka
	c.MaxLine = int(s.MaxLine)
	return c
}

// Push says who may push lines to a source, and how much.
type Push struct {
	// Tokens are the senders; Token is the only one, without a name.
	Tokens []secret.Token `yaml:"tokens"`
	Token  secret.String  `yaml:"token"`
	// MaxBody and MaxBatch bound one request, as sent and decompressed.
	MaxBody  Size `yaml:"max_body"`
	MaxBatch Size `yaml:"max_batch"`
	// MaxRate bounds what is taken in a second, decompressed; 0: no bound.
	MaxRate Size `yaml:"max_rate"`
	// Spool bounds what waits on the disk to be counted, as sent.
	Spool Size `yaml:"spool"`
}

// Named reports whether anybody may push: a source is a pushed one then.
func (p *Push) Named() bool { return len(p.Tokens) > 0 || p.Token != "" }

// onlySender is the name of a sender that was given none.
const onlySender = "sender"

// Take is the part of the source that ingest/push obeys, but for its folder.
func (s *Source) Take() push.Config {
	tokens := s.Push.Tokens
	if s.Push.Token != "" {
		tokens = []secret.Token{{Name: onlySender, Token: s.Push.Token}}
	}
	return push.Config{
		Name: s.Name, Tokens: tokens, MaxBody: int64(s.Push.MaxBody), MaxBatch: int64(s.Push.MaxBatch),
		MaxRate: int64(s.Push.MaxRate), Spool: int64(s.Push.Spool), MaxLine: int(s.MaxLine), Lateness: s.Lateness,
	}
}

// Syslog says where a source listens for syslog messages.
type Syslog struct {
	// Listen are addresses such as udp://127.0.0.1:5514.
	Listen []string `yaml:"listen,one"`
	// Spool bounds what waits on the disk to be counted.
	Spool Size `yaml:"spool"`
}

// Named reports whether an address is named: a source listens for syslog then.
func (s *Syslog) Named() bool { return len(s.Listen) > 0 }

// Hear is the part of the source that ingest/syslog obeys, but for its folder.
func (s *Source) Hear() syslog.Config {
	return syslog.Config{Name: s.Name, Listen: s.Syslog.Listen, Spool: int64(s.Syslog.Spool), MaxLine: int(s.MaxLine)}
}

// Roles says how several roles of one request become one value.
type Roles struct {
	// Priority lists roles, the most telling first: a request counts as the
	// first of them that it has. Roles that are in no place of the list are
	// sorted and joined.
	Priority []string `yaml:"priority"`
}

// Denials says which answers are refusals.
type Denials struct {
	// Statuses are the status codes that refuse.
	Statuses []int `yaml:"statuses"`
	// Concealed404 counts a 404 on a route that is known to exist, by a pattern
	// of Routes or the application's own template, as a concealed denial.
	Concealed404 bool `yaml:"concealed_404"`
}

// Ignore is a rule for requests of the team's own making. All fields that are set
// must match.
type Ignore struct {
	// UserAgent, User, Account, Role, Host and Path are patterns; * stands for any
	// text.
	UserAgent string `yaml:"user_agent"`
	User      string `yaml:"user"`
	Account   string `yaml:"account"`
	Role      string `yaml:"role"`
	Host      string `yaml:"host"`
	Path      string `yaml:"path"`
	// Client is an address or a range such as 10.0.0.0/8.
	Client string `yaml:"client"`
}

// Prefix is Client as a range; invalid if there is none. The rule must be valid.
func (r *Ignore) Prefix() netip.Prefix {
	if p, err := netip.ParsePrefix(r.Client); err == nil {
		return p.Masked()
	}
	if a, err := netip.ParseAddr(r.Client); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return netip.Prefix{}
}

// Geo says where countries come from that a log does not name.
type Geo struct {
	// Database is an MMDB file with countries; empty: none.
	Database string `yaml:"database"`
}

// Detection holds the knobs of the judge.
type Detection struct {
	// Judge is the detector's own part: alerts_per_week, learn and so on. It holds
	// the rules of Config.Access made ready.
	Judge detector.Config `yaml:",inline"`
	// Dimensions are what requests are told apart by, besides vantage, service
	// and route: role, geo, plan, host.
	Dimensions []string `yaml:"dimensions" effect:"recount"`
}

// Markers says who may announce changes, and how.
type Markers struct {
	// HTTP are the callers of the API and the webhooks.
	HTTP web.Config `yaml:",inline"`
	// Kafka names topics of markers; none by default.
	Kafka kafka.Topics `yaml:"kafka"`
}

// MarkersGroup and MarkersStart are the defaults of Markers.Kafka: a group apart
// from that of the sources, which has no members, and what happened lately.
const (
	MarkersGroup = "denywatch-markers"
	MarkersStart = "24h"
)

// Sinks are the places that incidents are told to. Their names are unique.
type Sinks struct {
	// Console prints to standard output. It is on when there is no other sink.
	Console bool `yaml:"console,switch"`
	// Webhook are the signed generic webhooks, Slack the Slack channels. Each
	// may be written as one group or as a list.
	Webhook []Webhook `yaml:"webhook,one"`
	Slack   []Slack   `yaml:"slack,one"`
	// Alertmanager are Prometheus Alertmanagers.
	Alertmanager []Alertmanager `yaml:"alertmanager,one"`
	// PagerDuty are services of PagerDuty.
	PagerDuty []PagerDuty `yaml:"pagerduty,one"`
	// Email are mail servers with those who are told.
	Email []Email `yaml:"email,one"`
	// Shoutrrr are places that no sink of our own reaches.
	Shoutrrr []Shoutrrr `yaml:"shoutrrr,one"`
}

// Webhook is a URL that gets every transition as signed JSON.
type Webhook struct {
	// Name tells sinks apart; "webhook" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: url, secret and headers.
	Post webhook.Config `yaml:",inline"`
}

func (w *Webhook) setDefaults() { w.Name, w.MinSeverity = "webhook", incident.Low }

// Slack is an app, and the channel that gets one message per incident where no team's
// does.
type Slack struct {
	// Name tells sinks apart; "slack" by default.
	Name string `yaml:"name"`
	// MinSeverity is what an incident must have reached to be told here.
	MinSeverity incident.Severity `yaml:"min_severity"`
	// Post is the sink's own part: token, channel, app_token and so on.
	Post slack.Config `yaml:",inline"`
}

func (s *Slack) setDefaults() { s.Name, s.MinSeverity = "slack", incident.Low }

// Default is the configuration before the file is read: all defaults but State,
// and no source, so that it is not valid by itself.
func Default() *Config {
	return &Config{
		Cluster:   replica.Config{Topic: replica.DefaultTopic, Session: replica.DefaultSession},
		Listen:    "127.0.0.1:8403",
		Push:      push.Listen{Address: push.DefaultListen},
		Slot:      time.Minute,
		Markers:   Markers{Kafka: kafka.Topics{Group: MarkersGroup, Start: MarkersStart}},
		Denials:   Denials{Statuses: []int{403, 451}},
		Detection: Detection{Judge: detector.Defaults(), Dimensions: []string{"role", "geo"}},
		Sinks:     Sinks{Console: true},
	}
}

// API is what the HTTP API obeys: Markers.HTTP, with the name in PublicURL among its hosts.
func (c *Config) API() web.Config {
	api := c.Markers.HTTP
	if u, err := url.Parse(c.PublicURL); err == nil && u.Hostname() != "" {
		api.Hosts = append(slices.Clone(api.Hosts), u.Hostname())
	}
	return api
}

// Warnings lists what works but should be mended, in the order of the file.
func (c *Config) Warnings() []Warning { return c.warnings }

// Notes lists what is worth a look and may well be meant, in the order of the file:
// access rules whose order decides. `denywatch check` shows them.
func (c *Config) Notes() []Warning { return c.notes }

// AccessPlace names rule number i of Access, with its line if it came from a file:
// "access[1] (line 63)".
func (c *Config) AccessPlace(i int) string { return c.place(at("access", i)) }

// OwnerPlace names rule number i of the owners in the same way.
func (c *Config) OwnerPlace(i int) string { return c.place(at("owners", i)) }

func (c *Config) place(path string) string {
	if line := c.lines[path]; line > 0 {
		return path + " (line " + strconv.Itoa(line) + ")"
	}
	return path
}

// searchPath is where Find looks, the first file wins.
var searchPath = [...]string{"denywatch.yaml", "/etc/denywatch/denywatch.yaml"}

// Find returns the configuration to use when none was named: ./denywatch.yaml,
// else /etc/denywatch/denywatch.yaml. A file that is there but cannot be read is
// found, so that Load tells about it.
func Find() (string, error) {
	for _, name := range searchPath {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return name, nil
		}
	}
	return "", fmt.Errorf("no configuration: neither ./%s nor %s exists; name one with --config", searchPath[0], searchPath[1])
}

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// Load reads the file at path and checks it. env looks up environment
// variables, as os.LookupEnv does; with nil none is set. The error is *Problems, and wraps the
// operating system's if the file cannot be read.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	unreadable := func(err error) error {
		return &Problems{File: path, cause: err, List: []Problem{{
			File: path, Message: fmt.Sprintf("cannot be read: %v", plainIO(err)),
		}}}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(err)
	}
	if info.IsDir() {
		return nil, unreadable(errors.New("it is a folder; name the file in it"))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(err)
	}
	c, d, err := parse(data, path, env)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		for _, p := range d.plainSecrets {
			d.warn(p, "everyone on this host can read this secret; chmod 640 the file, or write ${NAME} or ${file:/path} instead")
		}
		c.warnings = d.sorted(d.warnings)
	}
	return c, nil
}

// Parse checks the text of a configuration. filename is used in messages and as
// the start of relative paths. Validation reads no file but those named by
// ${file:...}. The error is *Problems.
func Parse(data []byte, filename string, env func(string) (string, bool)) (*Config, []Warning, error) {
	c, _, err := parse(data, filename, env)
	if err != nil {
		return nil, nil, err
	}
	return c, c.warnings, nil
}

// parse also returns the decoder, which knows the places of everything.
func parse(data []byte, filename string, env func(string) (string, bool)) (*Config, *decoder, error) {
	d := newDecoder(filename, env)
	c := Default()
	if root := d.tree(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))); root != nil && d.root(root, c) {
		d.settle(c)
		d.decoded = true
		(&checker{c: c, d: d}).config()
	}
	if p := d.result(); p != nil {
		return nil, nil, p
	}
	c.warnings, c.notes = d.sorted(d.warnings), d.sorted(d.notes)
	return c, d, nil
}

// Recipients are the sinks as routing knows them, in the order of the schema.
func (c *Config) Recipients() []routing.Sink {
	var out []routing.Sink
	if c.Sinks.Console {
		out = append(out, routing.Sink{Name: ConsoleSink, Kind: routing.KindConsole, Posts: true})
	}
	for i := range c.Sinks.Webhook {
		w := &c.Sinks.Webhook[i]
		out = append(out, routing.Sink{Name: w.Name, Kind: routing.KindWebhook, MinSeverity: w.MinSeverity})
	}
	for i := range c.Sinks.Slack {
		s := &c.Sinks.Slack[i]
		out = append(out, routing.Sink{Name: s.Name, Kind: routing.KindSlack, MinSeverity: s.MinSeverity,
			People: true, Posts: true, Channels: s.Post.Token != ""})
	}
	for i := range c.Sinks.Alertmanager {
		a := &c.Sinks.Alertmanager[i]
		out = append(out, routing.Sink{Name: a.Name, Kind: routing.KindAlertmanager, MinSeverity: a.MinSeverity})
	}
	for i := range c.Sinks.PagerDuty {
		p := &c.Sinks.PagerDuty[i]
		out = append(out, routing.Sink{Name: p.Name, Kind: routing.KindPagerDuty, MinSeverity: p.MinSeverity, People: true})
	}
	for i := range c.Sinks.Email {
		e := &c.Sinks.Email[i]
		out = append(out, routing.Sink{Name: e.Name, Kind: routing.KindEmail, MinSeverity: e.MinSeverity, People: true, Posts: true, Channels: true})
	}
	for i := range c.Sinks.Shoutrrr {
		s := &c.Sinks.Shoutrrr[i]
		out = append(out, routing.Sink{Name: s.Name, Kind: routing.KindShoutrrr, MinSeverity: s.MinSeverity, People: true, Posts: true})
	}
	for i := range c.Routing.Teams {
		t := &c.Routing.Teams[i]
		if t.Webhook.URL != "" {
			out = append(out, routing.Sink{Name: t.OwnSink(routing.KindWebhook), Kind: routing.KindWebhook, Team: t.Name})
		}
		if t.PagerDuty != "" {
			pager := routing.Sink{Name: t.OwnSink(routing.KindPagerDuty), Kind: routing.KindPagerDuty, Team: t.Name, People: true}
			if len(c.Sinks.PagerDuty) > 0 {
				pager.MinSeverity = c.Sinks.PagerDuty[0].MinSeverity
			}
			out = append(out, pager)
		}
	}
	return out
}

// ConsoleSink is the name of the sink that prints.
const ConsoleSink = "console"

// settle fills what depends on other settings or on the host.
func (d *decoder) settle(c *Config) {
	if _, said := d.at["sinks.console"]; !said && c.Sinks.named() > 0 {
		c.Sinks.Console = false
	}
	if c.State == "" {
		if c.State = defaultState(d.env); c.State == "" {
			d.problem("state", "there is no home folder to put it in; give a folder such as /var/lib/denywatch")
		}
	} else if !strings.HasPrefix(c.State, "~") {
		c.State = d.resolve(c.State)
	}
	d.resolveAll(&c.Geo.Database, &c.Push.TLS.Cert, &c.Push.TLS.Key)
	c.Detection.Judge.Statuses = c.Denials.Statuses
	d.resolveAll(&c.Cluster.TLS.CA, &c.Cluster.TLS.Cert, &c.Cluster.TLS.Key)
	c.Detection.Judge.Access, _ = access.New(c.Access) // the checker tells what is wrong
	c.lines = map[string]int{}
	for i := range c.Access {
		c.lines[at("access", i)] = d.find(at("access", i)).line
	}
	d.resolveAll(&c.Markers.Kafka.TLS.CA, &c.Markers.Kafka.TLS.Cert, &c.Markers.Kafka.TLS.Key)
	for i := range c.Routing.Owners {
		c.lines[at("owners", i)] = d.find(at("owners", i)).line
	}
	c.Routing.SetDefaults()
	taken := map[string]bool{}
	for i := range c.Sources {
		taken[c.Sources[i].Name] = true
	}
	for i := range c.Sources[:min(len(c.Sources), maxSources)] {
		s := &c.Sources[i]
		for j, g := range s.Files {
			if g != "" && !strings.HasPrefix(g, "~") {
				s.Files[j] = d.resolve(g)
			}
		}
		if s.Syslog.Named() && s.Parse.Wrapper == "" {
			s.Parse.Wrapper = "syslog"
		}
		d.resolveAll(&s.Kafka.TLS.CA, &s.Kafka.TLS.Cert, &s.Kafka.TLS.Key)
		switch {
		case s.Name != "":
		case len(s.Files) > 0:
			s.Name = unique(nameOf(s.Files[0]), taken)
		case len(s.Kafka.Topics) > 0:
			s.Name = unique(nameOf("kafka/"+strings.ReplaceAll(s.Kafka.Topics[0], ".", "_")), taken)
		case s.Syslog.Named():
			s.Name = unique("syslog", taken)
		}
		taken[s.Name] = true
	}
}

// resolveAll makes the names of files absolute.
func (d *decoder) resolveAll(names ...*string) {
	for _, name := range names {
		if *name != "" && !strings.HasPrefix(*name, "~") {
			*name = d.resolve(*name)
		}
	}
}

// systemState is where services keep their state.
const systemState = "/var/lib/denywatch"

// defaultState is $STATE_DIRECTORY if systemd gave one; /var/lib/denywatch for
// root, or if that folder exists; else $XDG_STATE_HOME/denywatch or
// ~/.local/state/denywatch.
func defaultState(env func(string) (string, bool)) string {
	if dir, _ := env("STATE_DIRECTORY"); filepath.IsAbs(dir) {
		first, _, _ := strings.Cut(dir, ":")
		return first
	}
	if os.Geteuid() == 0 {
		return systemState
	}
	if info, err := os.Stat(systemState); err == nil && info.IsDir() {
		return systemState
	}
	if dir, _ := env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "denywatch")
	}
	if home, _ := env("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/state/denywatch")
	}
	return ""
}

// nameOf makes a source's name of a glob: folder and file name, without
// extension and wildcards.
func nameOf(glob string) string {
	plain := func(s string) string {
		var b strings.Builder
		for _, r := range strings.ToLower(s) {
			switch {
			case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_', r == '.':
				b.WriteRune(r)
			default:
				if n := b.Len(); n > 0 && b.String()[n-1] != '-' {
					b.WriteByte('-')
				}
			}
		}
		return strings.Trim(b.String(), "-._")
	}
	base := filepath.Base(glob)
	if i := strings.Index(base, "."); i > 0 {
		base = base[:i]
	}
	name := plain(filepath.Base(filepath.Dir(glob)) + "-" + base)
	if len(name) > 40 {
		name = name[:40]
	}
	if name == "" {
		return "source"
	}
	return name
}

func unique(name string, taken map[string]bool) string {
	if !taken[name] {
		return name
	}
	for i := 2; ; i++ {
		if n := fmt.Sprintf("%s-%d", name, i); !taken[n] {
			return n
		}
	}
}
