package parsers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// Config says how the lines of a source are written.
//
// Which time a line carries depends on its writer: nginx stamps the end of a
// request (when it writes the line), so lines are almost in order; Apache stamps
// its start and writes at its end, so times go back by as much as the longest
// request takes; application loggers stamp the call of the logger, which is
// nearly always the end.
type Config struct {
	// Format is the family: "nginx", "apache", "json" or one of those that their
	// makers define ("cloudflare", "alb", "iis", "traefik", "logfmt", ...), or
	// "auto" (also when empty), which Resolve turns into one of them. The names of
	// well-known formats ("combined", "main", "common", "vhost_combined") stand
	// for their family and LogFormat.
	Format string `yaml:"format"`
	// LogFormat is, for nginx, the log_format string or the name of a known
	// format (combined, main, common, vhost_combined, upstreaminfo); the string
	// may have "escape=json" (or none, default) in front, as in nginx.conf. For
	// Apache it is the LogFormat string or a nickname (common, combined,
	// vhost_common, vhost_combined). Whole statements copied from the server's
	// configuration are understood too. "json" and "logfmt" mean that the server
	// writes JSON, or key=value pairs, with names that speak for themselves. For IIS and CloudFront it
	// is the log's "#Fields:" line, for logs that are read from their middle.
	//
	// An nginx log_format that writes JSON is cut by its fixed text like any
	// other, not parsed as JSON: so the numerous hand-made templates whose
	// output is not valid JSON (`"us":,`, `\x22`) work, at no extra cost. If
	// something between nginx and denywatch writes the objects anew, use format
	// json instead.
	LogFormat string `yaml:"log_format"`
	// Mapping says where event keys are found: a dotted path for json and logfmt
	// ("user.role", nested or with dots in the key), a variable or directive of
	// LogFormat for nginx ("$http_x_role") and Apache ("%{X-Role}i"), a field of
	// the maker's for Cloudflare ("RequestHeaders.x-user-role") and the like, a
	// column for IIS and CloudFront, a captured header for HAProxy
	// ("capture.res.hdr(0)"). A mapped key is taken from there only; for the
	// others, well-known names count.
	Mapping map[string]string `yaml:"mapping"`
	// Timezone is the zone of times that are logged without one: a name such as
	// "Europe/Berlin", or an offset such as "+02:00". UTC if empty.
	Timezone string `yaml:"timezone"`
	// Wrapper is what carries the lines: "cri" (Kubernetes), "docker" (json-file),
	// "syslog" (RFC 3164 and 5424, with or without priority and octet count),
	// "journald" (journalctl -o json), "shipper" (JSON with
	// the line as "message", "log" or "textPayload") or "none"; "auto" is recognised
	// by Resolve.
	// Empty is auto while the format is to be recognised, else none.
	Wrapper string `yaml:"wrapper"`
	// SkipUserAgent says that nobody reads Event.UserAgent, which often stands
	// last in a line: parsers may stop before it.
	SkipUserAgent bool `yaml:"-"`
}

// The families of formats.
const (
	familyAuto   = "auto"
	familyNginx  = "nginx"
	familyApache = "apache"
	familyJSON   = "json"
)

// fixedFamily is a family of formats that their makers define, so that nothing
// has to be configured to read them.
type fixedFamily struct {
	// text describes the format for people.
	text    string
	vantage event.Vantage
	// logFormat checks a LogFormat; nil if the family has none.
	logFormat func(logFormat string) error
	// mapping checks the value of a key of Mapping; nil if the family takes none.
	mapping func(key, value string) error
	// compile returns what makes the parser of a stream. The Config is valid.
	compile func(c Config, loc *time.Location) func() Parser
}

// fixedFamilies are the families of that kind by the name they have in
// Config.Format.
func fixedFamilies() map[string]fixedFamily {
	return map[string]fixedFamily{
		familyCloudflare: cloudflareFamily(),
		familyALB:        albFamily(),
		familyAWSWAF:     awsWAFFamily(),
		familyCloudFront: cloudFrontFamily(),
		familyGCP:        gcpFamily(),
		familyIIS:        iisFamily(),
		familyLogfmt:     logfmtFamily(),
		familyTraefik:    traefikFamily(),
		familyEnvoy:      envoyFamily("Envoy"),
		familyIstio:      envoyFamily("Istio"),
		familyCaddy:      caddyFamily(),
		familyAkamai:     akamaiFamily(),
		familyHAProxy:    haproxyFamily(),
		familyS3:         s3Family(),
	}
}

// aliases are values of Config.Format that also say the LogFormat.
var aliases = map[string]Config{
	"combined":       {Format: familyNginx, LogFormat: "combined"},
	"main":           {Format: familyNginx, LogFormat: "main"},
	"upstreaminfo":   {Format: familyNginx, LogFormat: "upstreaminfo"},
	"ingress-nginx":  {Format: familyNginx, LogFormat: "upstreaminfo"},
	"common":         {Format: familyApache, LogFormat: "common"},
	"vhost_combined": {Format: familyApache, LogFormat: "vhost_combined"},
	"vhost_common":   {Format: familyApache, LogFormat: "vhost_common"},
}

// Problem is one thing that is wrong in a Config, with a hint how to mend it.
type Problem struct {
	// Path is the key, relative to the Config ("mapping.rolle").
	Path string
	// Msg says what is wrong and what would be right.
	Msg string
}

// Error makes a Problem an error.
func (p Problem) Error() string { return p.Path + ": " + p.Msg }

// Auto tells whether the format or its wrapper is still to be recognised.
func (c Config) Auto() bool {
	return c.normal().Format == familyAuto || c.wrapper() == wrapperAuto
}

// normal resolves aliases and guesses the family of a LogFormat that has none.
func (c Config) normal() Config {
	if a, ok := aliases[c.Format]; ok {
		c.Format = a.Format
		if c.LogFormat == "" {
			c.LogFormat = a.LogFormat
		}
	}
	if c.Format == "" || c.Format == familyAuto {
		c.Format = familyAuto
		s := strings.TrimSpace(c.LogFormat)
		switch {
		case strings.HasPrefix(s, "LogFormat "):
			c.Format = familyApache
		case strings.Contains(s, "$"), strings.HasPrefix(s, "escape="), strings.HasPrefix(s, "log_format "):
			c.Format = familyNginx
		case strings.Contains(s, "%"):
			c.Format = familyApache
		case s != "":
			if a, ok := aliases[s]; ok {
				c.Format, c.LogFormat = a.Format, a.LogFormat
			}
		}
	}
	return c
}

// Validate returns everything that is wrong in c at once. It does no I/O, so it
// cannot tell whether a zone name exists on this machine; Compile can.
func (c Config) Validate() []Problem {
	var ps []Problem
	add := func(path, format string, args ...any) {
		ps = append(ps, Problem{Path: path, Msg: fmt.Sprintf(format, args...)})
	}
	for _, key := range slices.Sorted(maps.Keys(c.Mapping)) {
		if mappable(key) == fieldNone {
			add("mapping."+key, "unknown key%s; known are %s", didYouMean(key, mappableKeys()), strings.Join(mappableKeys(), ", "))
		} else if strings.TrimSpace(c.Mapping[key]) == "" {
			add("mapping."+key, "is empty; give the field's name, or leave the key out")
		} else if len(c.Mapping[key]) > maxKey {
			add("mapping."+key, "is longer than %d bytes, which no field name is", maxKey)
		}
	}
	if !zoneLooksRight(c.Timezone) {
		add("timezone", "%q is no zone; use a name such as Europe/Berlin, UTC, or an offset such as +02:00", clip(c.Timezone))
	}
	if err := checkWrapper(c.Wrapper); err != nil {
		add("wrapper", "%s", err)
	}
	n := c.normal()
	switch n.Format {
	case familyAuto:
		if n.LogFormat != "" {
			add("log_format", "%q does not tell whose format it is; set format to nginx or apache", clip(n.LogFormat))
		}
	case familyNginx, familyApache:
		if n.named() != "" {
			break
		}
		elems, esc, _, err := n.elements()
		if err != nil {
			add("log_format", "%s", err)
			break
		}
		mapped, problems := n.mapElements(elems)
		ps = append(ps, problems...)
		p, err := assemble(mapped, esc, time.UTC, false)
		if err != nil {
			add("log_format", "%s", err)
			break
		}
		status, stamp := "$status", "$time_local, $time_iso8601 or $msec"
		if n.Format == familyApache {
			status, stamp = "%>s", "%t"
		}
		if !p.has[fieldStatus] {
			add("log_format", "has no status, so refusals cannot be seen; add %s to the server's format", status)
		}
		if !p.has[fieldTime] {
			add("log_format", "has no time with date and time of day; add %s to the server's format", stamp)
		}
	case familyJSON:
		if n.LogFormat != "" {
			add("log_format", "means nothing with format json; remove it, and use mapping to name fields")
		}
	default:
		fixed := fixedFamilies()
		if family, ok := fixed[n.Format]; ok {
			ps = append(ps, family.check(n)...)
			break
		}
		known := append([]string{familyAuto, familyNginx, familyApache, familyJSON}, names(fixed)...)
		known = append(known, names(aliases)...)
		add("format", "%q is unknown%s; known are %s", clip(c.Format), didYouMean(c.Format, known), strings.Join(known, ", "))
	}
	return ps
}

// check returns what is wrong in a Config of the family f.
func (f fixedFamily) check(c Config) []Problem {
	var ps []Problem
	if c.LogFormat != "" {
		if f.logFormat == nil {
			ps = append(ps, Problem{Path: "log_format", Msg: fmt.Sprintf("means nothing with format %s; remove it", c.Format)})
		} else if err := f.logFormat(c.LogFormat); err != nil {
			ps = append(ps, Problem{Path: "log_format", Msg: err.Error()})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Mapping)) {
		if f.mapping == nil {
			ps = append(ps, Problem{Path: "mapping." + key, Msg: fmt.Sprintf("format %s has no fields that could be mapped; remove it", c.Format)})
		} else if err := f.mapping(key, c.Mapping[key]); err != nil {
			ps = append(ps, Problem{Path: "mapping." + key, Msg: err.Error()})
		}
	}
	return ps
}

// named is the syntax of a server's log whose LogFormat is only its name, as the
// fields have names that speak for themselves: json, logfmt, or empty.
func (c Config) named() string {
	if c.Format != familyNginx && c.Format != familyApache {
		return ""
	}
	switch s := strings.TrimSpace(c.LogFormat); s {
	case nginxJSONFormat, familyLogfmt:
		return s
	}
	return ""
}

// elements cuts the LogFormat of a normal Config; name is the format's, if it
// has one.
func (c Config) elements() (elems []element, esc escaping, name string, err error) {
	if c.Format == familyNginx {
		spec, err := readNginxSpec(c.LogFormat)
		if err != nil {
			return nil, 0, "", err
		}
		elems, err = nginxElements(spec)
		return elems, nginxEscaping(spec.escape), spec.name, err
	}
	spec, err := readApacheSpec(c.LogFormat)
	if err != nil {
		return nil, 0, "", err
	}
	elems, err = apacheElements(spec)
	return elems, escapeBackslash, spec.name, err
}

// mapElements gives the elements the meaning that Mapping says.
func (c Config) mapElements(elems []element) ([]element, []Problem) {
	if len(c.Mapping) == 0 {
		return elems, nil
	}
	elems = slices.Clone(elems)
	taken := make(map[int]string)
	var ps []Problem
	for _, key := range slices.Sorted(maps.Keys(c.Mapping)) {
		f := mappable(key)
		want := variableName(c.Format, c.Mapping[key])
		if f == fieldNone || want == "" {
			continue
		}
		at := -1
		var have []string
		for i := range elems {
			if elems[i].name == "" {
				continue
			}
			have = append(have, elems[i].name)
			if variableName(c.Format, elems[i].name) == want {
				at = i
			}
		}
		switch {
		case at < 0:
			ps = append(ps, Problem{Path: "mapping." + key, Msg: fmt.Sprintf("%q is not in log_format%s; add it to the server's log format first",
				clip(c.Mapping[key]), didYouMean(c.Mapping[key], have))})
			continue
		case taken[at] != "":
			ps = append(ps, Problem{Path: "mapping." + key, Msg: fmt.Sprintf("%q is already taken for %s", clip(c.Mapping[key]), taken[at])})
			continue
		}
		taken[at] = key
		e := &elems[at]
		if e.field == fieldRequest && (f == fieldPath || f == fieldMethod) {
			continue // it is taken from there anyway
		}
		for i := range elems {
			if elems[i].field == f {
				elems[i].field = fieldNone
			}
		}
		e.claimed = e.claimed && f == fieldUser
		e.field, e.rank = f, 0
	}
	return elems, ps
}

// variableName is the plain name of a variable or directive, to compare.
func variableName(family, s string) string {
	s = strings.TrimSpace(s)
	if family == familyNginx {
		return strings.Trim(strings.TrimPrefix(s, "$"), "{}")
	}
	if rest, ok := strings.CutPrefix(s, "%"); ok {
		if d, tail, err := readDirective(rest); err == nil && tail == "" {
			return strings.ToLower(d.param) + "/" + d.letter
		}
	}
	return s
}

// Format is a compiled Config. It is immutable; parsers of many streams share it.
type Format struct {
	config  Config
	program *program
	named   string // the name of program's format, if it has one
	// others are formats that lines may have beside program.
	others  []sibling
	json    *jsonProgram
	fixed   func() Parser
	wrapper string
	text    string
	vantage event.Vantage
}

// Compile compiles c, reading the zone database if Timezone names a zone. The
// error tells everything that is wrong. A Config whose format is "auto" cannot be
// compiled: Resolve it first.
func Compile(c Config) (*Format, error) {
	f, err := compile(c, false)
	if err == nil && f.program != nil && len(c.Mapping) == 0 {
		if f.others, err = siblings(f.config, f.named, f.program.loc); err != nil {
			return nil, fmt.Errorf("log_format: %w", err)
		}
	}
	return f, err
}

func compile(c Config, strict bool) (*Format, error) {
	if ps := c.Validate(); len(ps) > 0 {
		errs := make([]error, len(ps))
		for i, p := range ps {
			errs[i] = p
		}
		return nil, errors.Join(errs...)
	}
	loc, err := loadZone(c.Timezone)
	if err != nil {
		return nil, Problem{Path: "timezone", Msg: fmt.Sprintf("%q is not in this machine's zone database; use an offset such as +02:00", c.Timezone)}
	}
	n := c.normal()
	f := &Format{config: n, wrapper: n.wrapper(), vantage: event.Web}
	switch {
	case n.Format == familyAuto:
		return nil, Problem{Path: "format", Msg: "auto is not yet resolved: the first lines of the log must be seen"}
	case f.wrapper == wrapperAuto:
		return nil, Problem{Path: "wrapper", Msg: "auto is not yet resolved: the first lines of the log must be seen"}
	case n.Format == familyJSON:
		f.json = compileJSON(n, loc)
		f.text = "JSON"
		if f.vantage = event.App; n.Mapping["upstream_status"] != "" {
			f.vantage = event.Web
		}
	case n.named() == nginxJSONFormat:
		f.json = compileJSON(n, loc)
		f.text = n.Format + " (JSON)"
	case n.named() == familyLogfmt:
		f.fixed = logfmtFamily().compile(n, loc)
		f.text = n.Format + " (logfmt)"
	default:
		if family, ok := fixedFamilies()[n.Format]; ok {
			f.fixed, f.text, f.vantage = family.compile(n, loc), family.text, family.vantage
			break
		}
		elems, esc, name, err := n.elements()
		if err != nil {
			return nil, fmt.Errorf("log_format: %w", err)
		}
		elems, _ = n.mapElements(elems)
		for i := range elems {
			if c.SkipUserAgent && elems[i].field == fieldUserAgent {
				elems[i].field = fieldNone
			}
		}
		if f.program, err = assemble(elems, esc, loc, strict); err != nil {
			return nil, fmt.Errorf("log_format: %w", err)
		}
		f.named = name
		f.text = n.Format + " (" + describe(n, name, f.program) + ")"
	}
	return f, nil
}

// describe names a format for people: its name, or what it is based on.
func describe(c Config, name string, p *program) string {
	if name != "" {
		return name
	}
	formats := nginxFormats
	if c.Format == familyApache {
		formats = apacheFormats
	}
	base := ""
	text := strings.TrimSpace(c.LogFormat)
	for _, n := range names(formats) {
		if f := formats[n]; f != "" && strings.HasPrefix(text, f) && len(f) > len(formats[base]) {
			base = n
		}
	}
	if base == "" {
		return "own format"
	}
	if text == formats[base] {
		return base
	}
	if p.has[fieldUpstream] && base != "upstreaminfo" {
		return base + " + upstream status"
	}
	return base + " + more"
}

// New returns a parser for one stream.
func (f *Format) New() Parser {
	if f.wrapper != wrapperNone {
		return newWrapped(f.wrapper, f.parser())
	}
	return f.parser()
}

// Server is whose access log the format is, as errorlog names servers: "nginx" or
// "apache"; empty for other logs.
func (f *Format) Server() string {
	if f.config.Format == familyNginx || f.config.Format == familyApache {
		return f.config.Format
	}
	return ""
}

// Wrapped tells whether something carries the lines.
func (f *Format) Wrapped() bool { return f.wrapper != wrapperNone }

// NewBeside is New for a stream with another log among its lines, such as what a
// container writes to its two outputs: lines that are not of the format are given
// to other, without what carries them. What other does not understand either is
// judged as if it were not there.
func (f *Format) NewBeside(other Parser) Parser {
	p := &beside{own: f.parser(), other: other}
	if f.wrapper != wrapperNone {
		return newWrapped(f.wrapper, p)
	}
	return p
}

// beside is the parser of two logs in one stream.
type beside struct{ own, other Parser }

// Parse implements Parser.
func (b *beside) Parse(line []byte, e *event.Event) error {
	err := b.own.Parse(line, e)
	if err == nil || errors.Is(err, ErrSkip) {
		return err
	}
	e.Reset()
	if other := b.other.Parse(line, e); other == nil || errors.Is(other, ErrSkip) {
		return other
	}
	e.Reset()
	return err
}

func (f *Format) parser() Parser {
	if f.fixed != nil {
		return f.fixed()
	}
	if f.json != nil {
		return newJSONParser(f.json)
	}
	first := newTemplateParser(f.program)
	if len(f.others) == 0 {
		return first
	}
	p := &siblingParser{first: first}
	for _, s := range f.others {
		p.others = append(p.others, newTemplateParser(s.program))
		p.signs = append(p.signs, s.sign)
	}
	return p
}

// String describes the format for people, such as "nginx (combined)".
func (f *Format) String() string {
	if f.wrapper != wrapperNone {
		return f.text + " in " + wrapperText(f.wrapper)
	}
	return f.text
}

// Vantage is from where such a log sees requests: edge for CDNs, firewalls and
// load balancers, web for server logs and for JSON with an upstream status, else
// app.
func (f *Format) Vantage() event.Vantage { return f.vantage }

// New compiles c and returns a parser for one stream. Who has several streams of
// one format compiles once and calls Format.New.
func New(c Config) (Parser, error) {
	f, err := Compile(c)
	if err != nil {
		return nil, err
	}
	return f.New(), nil
}

// mappable is the field of a key of Mapping.
func mappable(key string) field {
	for f := fieldTime; f < fieldRequest; f++ {
		if keys[f] == key {
			return f
		}
	}
	return fieldNone
}

func mappableKeys() []string { return keys[fieldTime:fieldRequest] }

// zoneLooksRight checks a zone without reading the zone database.
func zoneLooksRight(s string) bool {
	if s == "" {
		return true
	}
	if _, n := offset([]byte(s)); n == len(s) {
		return true
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c-'0' <= 9 || c == '/' || c == '_' || c == '-' || c == '+') {
			return false
		}
	}
	return s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z'
}

// Explains tells whether lines of the format may explain denials that other lines
// count (event.CauseOnly).
func (f *Format) Explains() bool { return f.config.Format == familyCloudflare }

// Location is the zone that Timezone names, UTC if it names none.
func (c Config) Location() (*time.Location, error) { return loadZone(c.Timezone) }

func loadZone(s string) (*time.Location, error) {
	if s == "" || s == "UTC" {
		return time.UTC, nil
	}
	if off, n := offset([]byte(s)); n == len(s) {
		return time.FixedZone(s, off), nil
	}
	return time.LoadLocation(s)
}

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// clip shortens text of a configuration for a message.
func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return s
}

// didYouMean is a hint at the known word closest to s, empty if none is close.
func didYouMean(s string, known []string) string {
	best, least := "", len(s)/2+1
	if least > 4 {
		least = 4
	}
	for _, k := range known {
		if d := distance(fold(s), fold(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost++
			}
			corner, row[j] = row[j], min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
