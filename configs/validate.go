package configs

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/alerts/email"
	"github.com/denywatch/denywatch/alerts/routing"
	"github.com/denywatch/denywatch/alerts/slack"
	"github.com/denywatch/denywatch/ingest/kafka"
	"github.com/denywatch/denywatch/ingest/syslog"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/secret"
)

// Validate checks a configuration that was made by other means than Load, such
// as command-line flags. The error is *Problems without places. It does no I/O.
func (c *Config) Validate() error {
	d := newDecoder("configuration", nil)
	d.decoded = true
	(&checker{c: c, d: d}).config()
	for i := range d.problems {
		d.problems[i].Line, d.problems[i].Column = 0, 0
	}
	if p := d.result(); p != nil {
		return p
	}
	return nil
}

// checker finds what is wrong with the meaning of a configuration. It never
// stops at a problem, but is silent about what the decoder reported.
type checker struct {
	c *Config
	d *decoder
}

func (k *checker) bad(path, format string, args ...any) {
	for p := path; ; p = parent(p) {
		if k.d.bad[p] && p != "" {
			return
		}
		if p == "" {
			break
		}
	}
	k.d.problem(path, format, args...)
}

// broken reports whether something at or inside path has a problem already.
func (k *checker) broken(path string) bool {
	for p := range k.d.bad {
		if p == path || inside(p, path) {
			return true
		}
	}
	return false
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func (k *checker) config() {
	c := k.c
	k.text("service", c.Service, false)
	k.state()
	k.members()
	k.listen()
	k.publicURL()
	k.push()
	k.slot()
	k.sources()
	k.routes()
	k.roles()
	k.denials()
	k.detection()
	k.ignore()
	k.access()
	k.geo()
	k.markers()
	k.sinks()
	k.routing()
}

// maxText bounds names; they end up in every key, message and metric.
const maxText = 200

// text checks a name that is shown to people.
func (k *checker) text(path, s string, needed bool) {
	switch {
	case s == "" && needed:
		k.bad(path, "must not be empty")
	case len(s) > maxText:
		k.bad(path, "is longer than %d bytes", maxText)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		k.bad(path, "holds control characters")
	case s != strings.TrimSpace(s):
		k.bad(path, "has spaces at its start or end")
	}
}

// name checks an identifier that is used in metrics, state and URLs.
func (k *checker) name(path, s string) {
	ok := s != "" && len(s) <= 64
	for _, c := range []byte(s) {
		ok = ok && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		k.bad(path, "must be 1 to 64 letters, digits, dashes, dots or underscores%s", k.d.not(path, s))
	}
}

func (k *checker) state() {
	s := k.c.State
	switch {
	case strings.HasPrefix(s, "~"):
		k.bad("state", "~ is not expanded; write the whole path, or ${HOME}%s", strings.TrimPrefix(k.d.hideTail("state", s), "~"))
	case !filepath.IsAbs(s):
		k.bad("state", "must be an absolute path, such as %s", systemState)
	case strings.Contains(s, "\x00"):
		k.bad("state", "holds a NUL byte")
	}
}

// minIdentityKey is the least length of a key that nobody guesses.
const minIdentityKey = 32

// members checks what members of a cluster must have in common.
func (k *checker) members() {
	c := k.c
	if n := len(c.IdentityKey); n > 0 && n < minIdentityKey {
		k.bad("identity_key", "is shorter than %d characters; make one with: openssl rand -hex 32", minIdentityKey)
	}
	_, said := k.d.at["cluster"]
	if !said && !c.Cluster.Named() {
		return
	}
	k.cluster("cluster", c.Cluster.Kafka(), c.Cluster.Validate())
	if c.IdentityKey == "" {
		k.bad("identity_key", "is needed where there is a cluster: all members must count the same people; make one with: openssl rand -hex 32")
	}
	for i := range c.Sources {
		if s := &c.Sources[i]; !s.Kafka.Named() {
			k.bad(at("sources", i), "cannot be read by a cluster: its logs are on this host only, and another member could not go on with them; ship them to Kafka, or take out cluster")
		}
	}
}

// hideTail is s for a hint, or nothing if it must not be shown.
func (d *decoder) hideTail(path, s string) string {
	if d.isHidden(path) || len(s) > maxText || !strconv.CanBackquote(s) {
		return ""
	}
	return s
}

func (k *checker) listen() {
	if local, ok := k.address("listen", k.c.Listen, 8403); ok && !local {
		k.d.warn("listen", "reachable from other hosts: whoever gets there can read incidents; put a proxy with TLS and log-in in front")
	}
}

// publicURL checks where people are sent to.
func (k *checker) publicURL() {
	s := k.c.PublicURL
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	switch bad := alerts.ValidateURL(secret.String(s)); {
	case bad != nil:
		k.bad("public_url", "%v; give the address that people's browsers reach, such as https://denywatch.example.com", bad)
	case err != nil || u.User != nil || u.RawQuery != "" || u.ForceQuery:
		k.bad("public_url", "must hold no password and no query: it is in every message")
	case strings.Contains(u.Path+"/", "/v1/"):
		k.bad("public_url", "must end before /v1")
	default:
		if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
			k.d.warn("public_url", "is this host only: whoever is told elsewhere follows a dead link")
		}
	}
}

// address checks where to listen, and tells whether it is on this host only.
func (k *checker) address(path, s string, usual int) (local, ok bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		hint := ""
		if _, numErr := strconv.Atoi(s); numErr == nil {
			hint = " (only a port was given)"
		}
		k.bad(path, "must be an address with a port such as 127.0.0.1:%d%s", usual, hint)
		return false, false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		k.bad(path, "the port must be a number from 1 to 65535 (0 takes any free one)%s", k.d.not(path, port))
	}
	ip, err := netip.ParseAddr(host)
	if err != nil && host != "localhost" && host != "" {
		k.bad(path, "the host must be an IP address or localhost%s", k.d.not(path, host))
		return false, false
	}
	return host == "localhost" || err == nil && ip.IsLoopback(), true
}

// push checks where senders are heard.
func (k *checker) push() {
	p := &k.c.Push
	for _, name := range []struct{ path, file string }{{"cert", p.TLS.Cert}, {"key", p.TLS.Key}} {
		k.home(join("push.tls", name.path), name.file)
	}
	for _, err := range p.Validate() {
		field, message := split(err)
		k.foreign(join("push", field), message)
	}
	local, ok := k.address("push.listen", p.Address, 8404)
	if !ok {
		return
	}
	if p.Address == k.c.Listen && !strings.HasSuffix(p.Address, ":0") {
		k.bad("push.listen", "is the address of listen already; give it another port")
	}
	if !local && !p.TLS.Named() {
		k.d.warn("push.listen", "reachable from other hosts without encryption: tokens and logs can be read on the way; give push.tls, or put a proxy with TLS in front")
	}
}

// home refuses file names that a shell would expand.
func (k *checker) home(path, name string) {
	if strings.HasPrefix(name, "~") {
		k.bad(path, "~ is not expanded; write the whole path, or ${HOME}/...")
	}
}

func (k *checker) slot() {
	s := k.c.Slot
	switch {
	case s < 10*time.Second || s > 10*time.Minute:
		k.bad("slot", "must be between 10s and 10m (60s is usual)")
	case s%time.Second != 0 || time.Hour%s != 0:
		k.bad("slot", "must be whole seconds and divide an hour, such as 10s, 30s, 60s or 5m")
	}
}

const (
	maxSources  = 1000
	maxLateness = 30 * time.Minute
	maxSample   = 1_000_000
	minLine     = 1 << 10
	maxLine     = 64 << 20
)

func (k *checker) sources() {
	if len(k.c.Sources) == 0 {
		k.bad("sources", "at least one source is needed, such as: sources: [{files: /var/log/nginx/access.log}]")
	}
	if len(k.c.Sources) > maxSources {
		k.bad("sources", "more than %d sources; a glob such as /var/log/apps/*.log is one source of many files", maxSources)
		return
	}
	names, globs := map[string]int{}, map[string]string{}
	for i := range k.c.Sources {
		k.source(at("sources", i), i, &k.c.Sources[i], names, globs)
	}
}

func (k *checker) source(p string, i int, s *Source, names map[string]int, globs map[string]string) {
	if s.Name != "" || len(s.Files) > 0 || len(s.Kafka.Topics) > 0 {
		k.name(p+".name", s.Name)
		if j, taken := names[s.Name]; taken {
			k.bad(p+".name", "%s is the name of sources[%d] already; names are unique", k.d.show(p+".name", s.Name), j)
		} else {
			names[s.Name] = i
		}
	}
	if s.Vantage != "" {
		k.oneOf(p+".vantage", s.Vantage, vantages)
	}
	k.text(p+".service", s.Service, false)
	switch {
	case k.said(p+".kafka") || s.Kafka.Named():
		k.kafka(p, s, globs)
	case k.said(p+".push") || s.Push.Named():
		k.pushed(p, s)
	case k.said(p+".syslog") || s.Syslog.Named():
		k.syslog(p, s, globs)
	default:
		k.files(p, s, globs)
	}
	half := k.d.bad[p+".format"] || k.d.bad[p+".log_format"]
	for _, x := range s.Parse.Validate() {
		sub := x.Path
		if half && sub != "timezone" { // they are judged together
			continue
		}
		if key, ok := strings.CutPrefix(sub, "mapping."); ok {
			sub = join("mapping", word(key))
		}
		k.foreign(join(p, sub), x.Msg)
	}
	if s.Lateness < 0 || s.Lateness > maxLateness {
		k.bad(p+".lateness", "must be between 0s and 30m (1m is usual)")
	}
	if s.SampleRate < 1 || s.SampleRate > maxSample {
		k.bad(p+".sample_rate", "must be n, from 1 to %d, where one of n requests is logged (1 logs all)", maxSample)
	}
	if s.MaxUnparsed <= 0 || s.MaxUnparsed > 1 {
		k.bad(p+".max_unparsed", "must be a share above 0 and at most 1, such as 0.5 (1 never suspends)")
	}
}

// said reports whether the file says anything at path.
func (k *checker) said(path string) bool {
	_, said := k.d.at[path]
	return said
}

// ways are the settings of a source of which one says where its lines come from.
var ways = []string{"files", "kafka", "push", "syslog"}

// only refuses what a source that reads in one way has of the others.
func (k *checker) only(p, way string) {
	for _, other := range ways {
		if other != way && k.said(join(p, other)) {
			k.bad(join(p, other), "a source reads one of %s; make two sources of it", strings.Join(ways, ", "))
		}
	}
	for _, name := range fileOptions {
		if k.said(join(p, name)) {
			k.bad(join(p, name), "is about files; take it out of a source with %s", way)
		}
	}
}

// unseen checks what a source without files needs.
func (k *checker) unseen(p string, s *Source) {
	if s.MaxLine < minLine || s.MaxLine > maxLine {
		k.bad(p+".max_line", "must be between 1KiB and 64MiB (1MiB is usual)")
	}
	if s.Vantage == "" && s.Parse.Auto() {
		k.bad(p+".vantage", "is needed where the format is recognised: no line is there to tell it by; give vantage (edge, web or app), or format")
	}
}

// pushed checks what ingest/push obeys.
func (k *checker) pushed(p string, s *Source) {
	k.only(p, "push")
	k.unseen(p, s)
	if strings.Trim(s.Name, ".") == "" {
		k.bad(p+".name", "is needed: it is the last part of the path that senders post to, /v1/ingest/NAME")
	}
	single := s.Push.Token != ""
	if single && len(s.Push.Tokens) > 0 {
		k.bad(p+".push.token", "give either token or tokens; token is short for tokens with one sender")
	}
	for _, err := range s.Take().Validate() {
		field, message := split(err)
		if single && strings.HasPrefix(field, "tokens") {
			field = "token"
		}
		k.foreign(join(p+".push", field), message)
	}
}

// syslog checks what ingest/syslog obeys, and that no address is listened on twice.
func (k *checker) syslog(p string, s *Source, taken map[string]string) {
	k.only(p, "syslog")
	k.unseen(p, s)
	if strings.Trim(s.Name, ".") == "" && s.Name != "" {
		k.bad(p+".name", "must hold more than dots: it is the name of a folder")
	}
	for i, l := range s.Syslog.Listen {
		lp := at(p+".syslog.listen", i)
		if other, twice := taken[l]; twice && parent(other) != parent(lp) {
			k.bad(lp, "is listened on by %s already", k.d.display(other))
		}
		taken[l] = lp
		if syslog.Exposed(l) {
			k.d.warn(lp, "reachable from other hosts: whoever gets there can write log lines, for syslog asks nobody who they are; let a firewall pass your servers only")
		}
	}
	for _, err := range s.Hear().Validate() {
		field, message := split(err)
		k.foreign(join(p+".syslog", field), message)
	}
}

// fileOptions are the settings of a source that only files obey.
var fileOptions = []string{"check", "grace", "from_end", "backfill", "poll"}

// kafka checks what ingest/kafka obeys, and that no topic is read twice: streams
// have the names of their topics.
func (k *checker) kafka(p string, s *Source, taken map[string]string) {
	k.only(p, "kafka")
	k.unseen(p, s)
	for i, t := range s.Kafka.Topics {
		tp := at(p+".kafka.topics", i)
		if other, twice := taken["kafka:"+t]; twice && parent(other) != parent(tp) {
			k.bad(tp, "is read by %s already; its lines would count twice", k.d.display(other))
		}
		taken["kafka:"+t] = tp
	}
	k.cluster(p+".kafka", s.Kafka, s.Kafka.Validate())
}

// cluster checks how topics are reached, at path p; errs is what else is wrong there.
func (k *checker) cluster(p string, c kafka.Config, errs []error) {
	for _, name := range []struct{ path, file string }{{"ca", c.TLS.CA}, {"cert", c.TLS.Cert}, {"key", c.TLS.Key}} {
		k.home(join(p+".tls", name.path), name.file)
	}
	for _, err := range errs {
		field, message := split(err)
		k.foreign(join(p, field), message)
	}
	if c.Plaintext() {
		k.d.warn(p+".sasl.mechanism", "sends the password unencrypted; turn tls on, or use scram-sha-512")
	}
}

// files checks what ingest/file obeys, and that no file is read twice.
func (k *checker) files(p string, s *Source, globs map[string]string) {
	said := map[string]bool{}
	for j, g := range s.Files {
		fp := at(p+".files", j)
		said[fp] = true
		clean := filepath.Clean(g)
		switch other, taken := globs[clean]; {
		case strings.HasPrefix(g, "~"):
			k.bad(fp, "~ is not expanded; write the whole path, or ${HOME}%s", strings.TrimPrefix(k.d.hideTail(fp, g), "~"))
		case strings.ContainsFunc(g, unicode.IsControl):
			k.bad(fp, "holds control characters")
		case taken:
			k.bad(fp, "is read by %s already; its lines would count twice", k.d.display(other))
		default:
			said[fp] = false
			if g != "" {
				globs[clean] = fp
			}
		}
	}
	c := s.Follow()
	// A zero means "the default" there; here the default was filled in before.
	if s.MaxLine < minLine || s.MaxLine > maxLine {
		k.bad(p+".max_line", "must be between 1KiB and 64MiB (1MiB is usual)")
		c.MaxLine = 0
	}
	if s.Check <= 0 {
		k.bad(p+".check", "must be longer than 0s (100ms is usual)")
		c.Check = 0
	}
	if s.Grace <= 0 {
		k.bad(p+".grace", "must be longer than 0s (2s is usual)")
		c.Grace = 0
	}
	for _, err := range c.Validate() {
		field, message := split(err)
		if rest, isPath := strings.CutPrefix(field, "paths"); isPath {
			field = "files" + rest
		}
		if path := join(p, field); !said[path] {
			k.foreign(path, message)
		}
	}
}

// split takes an error of the form "field: message" apart.
func split(err error) (field, message string) {
	field, message, found := strings.Cut(err.Error(), ": ")
	if !found || strings.ContainsAny(field, " \"") {
		return "", err.Error()
	}
	return field, message
}

// joined reports the problems that another package joined into one error, each
// of the form "field: message" with a field of the group at path.
func (k *checker) joined(path string, err error) {
	list := []error{err}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		list = many.Unwrap()
	}
	for _, err := range list {
		if err == nil {
			continue
		}
		field, message := split(err)
		k.foreign(join(path, field), message)
	}
}

func (k *checker) oneOf(path, s string, words []string) {
	if slices.Contains(words, s) {
		return
	}
	if near := suggest(s, words); near != "" && !k.d.isHidden(path) {
		k.bad(path, "%s is unknown, did you mean %q?", clip(s), near)
		return
	}
	k.bad(path, "must be one of %s%s", strings.Join(words, ", "), k.d.not(path, s))
}

func (k *checker) routes() {
	_, bad := route.New(k.c.Routes)
	for _, p := range bad {
		k.foreign(at("routes", p.Index), p.Msg)
	}
}

// foreign reports what another package's validation says.
func (k *checker) foreign(path, message string) { k.bad(path, "%s", k.d.foreign(path, message)) }

const maxRoles = 1000

func (k *checker) roles() {
	if len(k.c.Roles.Priority) > maxRoles {
		k.bad("roles.priority", "more than %d roles", maxRoles)
	}
	k.names("roles.priority", k.c.Roles.Priority)
}

// names checks a list of unique texts.
func (k *checker) names(path string, list []string) {
	seen := map[string]int{}
	for i, s := range list {
		p := at(path, i)
		k.text(p, s, true)
		if j, twice := seen[s]; twice {
			k.bad(p, "is the same as %s[%d]", path, j)
		} else {
			seen[s] = i
		}
	}
}

func (k *checker) denials() {
	const path = "denials.statuses"
	if len(k.c.Denials.Statuses) == 0 {
		k.bad(path, "must hold at least one status code (403 and 451 are usual)")
	}
	seen := map[int]int{}
	for i, code := range k.c.Denials.Statuses {
		p := at(path, i)
		if k.d.bad[p] {
			continue
		}
		if code < 400 || code > 599 {
			k.bad(p, "must be a status code from 400 to 599")
		} else if j, twice := seen[code]; twice {
			k.bad(p, "is the same as %s[%d]", path, j)
		} else {
			seen[code] = i
		}
	}
}

// maxIgnore bounds the rules that every request is compared with.
const maxIgnore = 100

func (k *checker) ignore() {
	if len(k.c.Ignore) > maxIgnore {
		k.bad("ignore", "has more than %d rules; every request is compared with each", maxIgnore)
	}
	for i := range k.c.Ignore {
		r, p := &k.c.Ignore[i], at("ignore", i)
		if *r == (Ignore{}) {
			k.bad(p, "matches nothing; give user_agent, client, user, account, role, host or path")
		}
		if r.Client != "" && !r.Prefix().IsValid() {
			k.bad(p+".client", "must be an address or a range such as 10.0.0.0/8")
		}
		for _, f := range []struct{ name, v string }{
			{"user_agent", r.UserAgent}, {"user", r.User}, {"account", r.Account}, {"role", r.Role}, {"host", r.Host}, {"path", r.Path},
		} {
			k.text(p+"."+f.name, f.v, false)
			if f.v != "" && strings.Trim(f.v, "*") == "" {
				k.bad(p+"."+f.name, "would ignore everything; leave it out")
			}
		}
	}
}

func (k *checker) access() {
	m, bad := access.New(k.c.Access)
	for _, x := range bad {
		k.foreign("access"+x.Path, x.Msg)
	}
	if len(bad) > 0 || k.broken("access") {
		return
	}
	for _, c := range m.Conflicts() {
		p, later := at("access", c.Earlier), k.c.AccessPlace(c.Later)
		switch c.Kind {
		case access.Duplicate:
			k.d.warn(p, "says the same as %s; keep one", later)
		case access.Contradiction:
			k.d.warn(p, "says something else than %s of the same requests, and the later one wins; keep one", later)
		case access.Shadowed:
			k.d.warn(p, "never decides: %s comes later and matches all of it; the last match wins, so put exceptions after the rule they are of", later)
		case access.Crossing:
			k.d.note(p, "and %s say different things of some requests; the later one wins", later)
		}
	}
	for i := range k.c.Access {
		for j, r := range k.c.Access[i].Route {
			k.matches(at(at("access", i)+".route", j), r)
		}
	}
}

// matches warns of a valid pattern that no route is ever written as.
func (k *checker) matches(path, pattern string) {
	router, unusable := route.New(k.c.Routes)
	if len(unusable) > 0 {
		return
	}
	if t := string(router.Template(nil, []byte(access.Example(pattern)), nil)); !access.Matches(pattern, t) {
		k.d.warn(path, "matches no request: such paths are counted as %s; write that", clip(t))
	}
}

func (k *checker) geo() {
	k.home("geo.database", k.c.Geo.Database)
}

// dimensions are what requests can be told apart by.
var dimensions = []string{"role", "geo", "plan", "host"}

func (k *checker) detection() {
	for _, x := range k.c.Detection.Judge.Validate() {
		k.foreign(join("detection", x.Path), x.Msg)
	}
	for i, x := range k.c.Detection.Dimensions {
		k.oneOf(at("detection.dimensions", i), x, dimensions)
	}
	k.names("detection.dimensions", k.c.Detection.Dimensions)
}

func (k *checker) markers() {
	for _, x := range k.c.Markers.HTTP.Validate() {
		k.foreign(join("markers", x.Path), x.Msg)
	}
	const p = "markers.kafka"
	t := &k.c.Markers.Kafka
	if _, said := k.d.at[p]; !said && !t.Named() {
		return
	}
	k.cluster(p, t.Config(), t.Config().Validate())
	for i := range k.c.Sources {
		for j, topic := range k.c.Sources[i].Kafka.Topics {
			if same := slices.Index(t.Topics, topic); same >= 0 && topic != "" {
				k.bad(at(p+".topics", same), "is read as a log by %s already", k.d.display(at(at("sources", i)+".kafka.topics", j)))
			}
		}
	}
}

func (k *checker) sinks() {
	s := &k.c.Sinks
	if !s.Console && s.named() == 0 && !k.broken("sinks") {
		k.bad("sinks.console", "no sink is left, so nobody would be told; take out \"console: false\" or add one")
	}
	names := map[string]string{"console": "the console"}
	name := func(p, n string) {
		k.name(p+".name", n)
		if other, taken := names[n]; taken {
			k.bad(p+".name", "%s is the name of %s already; give each sink its own", k.d.show(p+".name", n), k.d.display(other))
			return
		}
		names[n] = p
	}
	for i := range s.Webhook {
		p := at("sinks.webhook", i)
		name(p, s.Webhook[i].Name)
		k.oneOf(p+".min_severity", string(s.Webhook[i].MinSeverity), severities)
		k.joined(p, s.Webhook[i].Post.Validate())
	}
	for i := range s.Slack {
		p := at("sinks.slack", i)
		name(p, s.Slack[i].Name)
		k.oneOf(p+".min_severity", string(s.Slack[i].MinSeverity), severities)
		if !k.d.bad[p+".webhook"] { // it stands for the others
			k.joined(p, s.Slack[i].Post.Validate())
		}
	}
	for i := range s.Alertmanager {
		p, a := at("sinks.alertmanager", i), &s.Alertmanager[i]
		name(p, a.Name)
		k.oneOf(p+".min_severity", string(a.MinSeverity), severities)
		k.joined(p, a.Post.Validate())
	}
	for i := range s.PagerDuty {
		p, d := at("sinks.pagerduty", i), &s.PagerDuty[i]
		name(p, d.Name)
		k.oneOf(p+".min_severity", string(d.MinSeverity), severities)
		k.joined(p, d.Post.Validate())
	}
	for i := range s.Email {
		p, e := at("sinks.email", i), &s.Email[i]
		name(p, e.Name)
		k.oneOf(p+".min_severity", string(e.MinSeverity), severities)
		k.joined(p, e.Post.Validate())
	}
	for i := range s.Shoutrrr {
		p, x := at("sinks.shoutrrr", i), &s.Shoutrrr[i]
		name(p, x.Name)
		k.oneOf(p+".min_severity", string(x.MinSeverity), severities)
		k.joined(p, x.Post.Validate())
	}
}

// severities are the words of incident.Severities.
var severities = []string{string(incident.Low), string(incident.Medium), string(incident.High), string(incident.Critical)}

// routing checks journeys, owners and teams, and that there is a sink for every place
// that a team names.
func (k *checker) routing() {
	c := &k.c.Routing
	for _, x := range c.Validate() {
		k.foreign(x.Path, x.Msg)
	}
	k.joined("templates", c.Templates.Validate())
	sinks := k.c.Recipients()
	taken := map[string]string{}
	for _, s := range sinks {
		if s.Team == "" {
			taken[s.Name] = s.Name
		}
	}
	for i := range c.Teams {
		t := &c.Teams[i]
		p := "teams[" + word(t.Name) + "]"
		if t.Slack != "" {
			if err := slack.ValidateChannel(t.Slack); err != nil {
				k.bad(p+".slack", "%v", err)
			}
			if !slices.ContainsFunc(sinks, func(s routing.Sink) bool { return s.Channels }) {
				k.bad(p+".slack", "there is no Slack sink with a token to post there; add one to sinks:")
			}
		}
		for j, to := range t.Email {
			if email.ValidateTarget(to) != nil || strings.Contains(to, ",") {
				k.bad(at(p+".email", j), "must be an address, such as oncall@example.com")
			}
		}
		if len(t.Email) > 0 {
			if email.ValidateTarget(strings.Join(t.Email, ",")) != nil {
				k.bad(p+".email", "is too many addresses; make a list on your mail server")
			}
			if len(k.c.Sinks.Email) == 0 {
				k.bad(p+".email", "there is no e-mail sink to send it; add one to sinks:")
			}
		}
		own := func(kind string) {
			if name := t.OwnSink(kind); taken[name] != "" {
				k.bad(p+"."+kind, "is told as sink %s, and there is one of that name; give that another name", name)
			}
		}
		if _, said := k.d.at[p+".webhook"]; said || t.Webhook.URL != "" {
			k.joined(p+".webhook", t.Webhook.Validate())
			own(routing.KindWebhook)
		}
		if _, said := k.d.at[p+".pagerduty"]; said || t.PagerDuty != "" {
			pager := k.c.TeamPager(t)
			if err := pager.ValidateKey(); err != nil {
				k.foreign(p+".pagerduty", err.Error())
			}
			own(routing.KindPagerDuty)
		}
	}
	if len(k.d.problems) > 0 {
		return
	}
	for i := range c.Owners {
		for j, m := range c.Owners[i].Match {
			if strings.HasPrefix(m, "/") {
				k.matches(at(at("owners", i)+".match", j), m)
			}
		}
	}
	for i := range c.Journeys {
		for j := range c.Journeys[i].Steps {
			k.matches(at(at("journeys", i)+".steps", j), c.Journeys[i].StepRoute(j))
		}
	}
}

var vantages = []string{event.Edge.String(), event.Web.String(), event.App.String()}
