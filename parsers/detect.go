package parsers

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/denywatch/denywatch/internal/event"
)

// ErrUnknownFormat is returned by Detect and Resolve when no format fits.
var ErrUnknownFormat = errors.New("the format of the log was not recognised")

// candidate is a format that Detect tries.
type candidate struct {
	config Config
	why    string
	// sign tells how a line that the format understood speaks for it (err is nil
	// or an ErrSkip); nil: every such line does. It is for formats that share
	// their syntax with others, such as everything in JSON.
	sign sign
}

// sign tells how a line speaks for a format that has parsed it into e with err.
type sign func(line []byte, e *event.Event, err error) vote

// vote is how a line speaks for a format.
type vote uint8

const (
	// voteNo: the line does not count for the format.
	voteNo vote = iota
	// voteMaybe: it counts if another line says yes.
	voteMaybe
	// voteYes: only this format writes such lines.
	voteYes
)

// families lists the candidates of each family, the most telling format first:
// of formats under which equally many lines parse, the first is taken. A new
// family adds its own function, in its own file.
var families = []func() []candidate{
	apacheCandidates,
	nginxCandidates,
	cloudflareCandidates,
	albCandidates,
	s3Candidates,
	awsWAFCandidates,
	gcpCandidates,
	w3cCandidates,
	haproxyCandidates,
	envoyCandidates,
	traefikCandidates,
	caddyCandidates,
	akamaiCandidates,
	jsonCandidates,
	logfmtCandidates,
}

// onlyJSON are the families whose every line holds a JSON object.
var onlyJSON = map[string]bool{
	familyJSON: true, familyCloudflare: true, familyAWSWAF: true, familyGCP: true, familyCaddy: true, familyAkamai: true,
}

// maxSample bounds how many lines Detect looks at.
const maxSample = 200

// Detect recognises the format from the first lines of a log (without newlines)
// and its path, which breaks ties between servers that write alike. It returns
// the Config and one sentence that says why, or an error that wraps
// ErrUnknownFormat and says what to configure.
func Detect(sample [][]byte, path string) (Config, string, error) {
	return Config{}.Resolve(sample, path)
}

// Resolve returns c itself if it names its format, else what Detect finds, with
// the Mapping and Timezone of c.
func (c Config) Resolve(sample [][]byte, path string) (Config, string, error) {
	if !c.Auto() {
		return c, "as configured", nil
	}
	if len(sample) > maxSample {
		sample = sample[:maxSample]
	}
	lines := make([][]byte, 0, len(sample))
	odd := 0 // lines that are no text, of which some would look like pairs
	var binary error
	for _, l := range sample {
		l = bytes.TrimRight(l, "\r\n")
		if err := Encoding(l); err != nil {
			odd, binary = odd+1, err
		} else if len(bytes.TrimSpace(l)) > 0 {
			lines = append(lines, l)
		}
	}
	switch {
	case odd > len(lines):
		return c, "", fmt.Errorf("%w: %w", ErrUnknownFormat, binary)
	case len(lines) == 0:
		return c, "", fmt.Errorf("%w: there are no lines yet", ErrUnknownFormat)
	}
	w := c.wrapper()
	if w == wrapperAuto {
		w = recogniseWrapper(lines)
	}
	if w == wrapperShipper && c.wrapper() == wrapperAuto {
		// An application's own log has messages too, beside its requests.
		if found, why, err := c.resolveInner(lines, path); err == nil && requests(found, lines) > 0 {
			return found, why, nil
		}
	}
	if w == wrapperNone {
		return c.resolveInner(lines, path)
	}
	// A server may write its access log to one output and another log to the other.
	all, streams, _ := peel(w, lines)
	var found Config
	var why string
	err := fmt.Errorf("%w: there are no lines yet", ErrUnknownFormat)
	for _, inner := range [][][]byte{all, streams[streamOut], streams[streamErr]} {
		if len(inner) == 0 {
			continue
		}
		if found, why, err = c.resolveInner(inner, path); err != nil {
			continue
		}
		if w == wrapperShipper && requests(found, inner) == 0 {
			err = fmt.Errorf("%w: no message of the log is a request", ErrUnknownFormat)
			continue
		}
		found.Wrapper = w
		return found, why, nil
	}
	if c.wrapper() == wrapperAuto { // a log of its own that looks like a wrapper
		if found, why, inner := c.resolveInner(lines, path); inner == nil {
			return found, why, nil
		}
	}
	return c, "", err
}

// resolveInner is Resolve of lines that nothing is wrapped around.
func (c Config) resolveInner(lines [][]byte, path string) (Config, string, error) {
	if c.Wrapper == wrapperAuto {
		c.Wrapper = wrapperNone
	}
	if c.normal().Format != familyAuto {
		return c, "as configured", nil
	}
	best, bestScore := candidate{}, 0
	var refused error
	object := slices.ContainsFunc(lines, func(l []byte) bool { return bytes.IndexByte(l, '{') >= 0 })
	for way, how := range compilers {
		for _, try := range tries() {
			cand, compiled := try.candidate, try.compiled[way]
			if onlyJSON[cand.config.Format] && !object {
				continue // compiling one costs more than all else here
			}
			if len(c.Mapping) > 0 || c.Timezone != "" {
				cand.config.Mapping, cand.config.Timezone = c.Mapping, c.Timezone
				compiled = func() (*Format, error) { return how(cand.config) }
			}
			f, err := compiled()
			if err != nil {
				refused = err
				continue
			}
			if f == nil {
				continue
			}
			if n := score(f, cand.sign, lines); n > bestScore {
				best, bestScore = cand, n
			}
		}
		if 2*bestScore > len(lines) {
			break
		}
	}
	if 2*bestScore <= len(lines) {
		err := fmt.Errorf("%w: set format, and for nginx or apache log_format as in the server's configuration", ErrUnknownFormat)
		if refused != nil && len(c.Mapping) > 0 {
			err = fmt.Errorf("%w (not tried: %w)", err, refused)
		}
		if object && severalRecords(lines) {
			err = fmt.Errorf("%w: %w", ErrUnknownFormat, ErrRecords)
		}
		return c, "", err
	}
	found, why := settle(best, bestScore, lines, path)
	return found, fmt.Sprintf("%d of the first %d lines %s", bestScore, len(lines), why), nil
}

// severalRecords tells whether most lines hold several records of OpenTelemetry's.
func severalRecords(lines [][]byte) bool {
	f, err := compile(Config{Format: familyJSON}, false)
	if err != nil {
		return false
	}
	p, n := f.New(), 0
	var e event.Event
	for _, l := range lines {
		e.Reset()
		if errors.Is(p.Parse(l, &e), ErrRecords) {
			n++
		}
	}
	return 2*n > len(lines)
}

// compiler is a way to compile a candidate; nil is a format that it has nothing new
// to say about.
type compiler func(c Config) (*Format, error)

// compilers are the ways in the order they are tried.
var compilers = [...]compiler{strictly, loosely, withSiblings}

// try is a candidate and what it compiles to without a mapping and a zone, one per
// way, made when first asked for: a log that is not recognised is tried again and
// again, and a Format is immutable.
type try struct {
	candidate
	compiled [len(compilers)]func() (*Format, error)
}

// tries lists the candidates of all families.
var tries = sync.OnceValue(func() []try {
	var all []try
	for _, family := range families {
		for _, c := range family() {
			t := try{candidate: c}
			for way, how := range compilers {
				t.compiled[way] = sync.OnceValues(func() (*Format, error) { return how(c.config) })
			}
			all = append(all, t)
		}
	}
	return all
})

func strictly(c Config) (*Format, error) { return compile(c, true) }
func loosely(c Config) (*Format, error)  { return compile(c, false) }

// withSiblings is for the logs of several virtual hosts.
func withSiblings(c Config) (*Format, error) {
	if c.Format != familyNginx && c.Format != familyApache {
		return nil, nil
	}
	f, err := Compile(c)
	if err != nil || len(f.others) == 0 {
		return nil, err
	}
	return f, nil
}

// requests counts the lines that are requests under c.
func requests(c Config, lines [][]byte) int {
	f, err := compile(c, false)
	if err != nil {
		return 0
	}
	p := f.New()
	var e event.Event
	n := 0
	for _, l := range lines {
		e.Reset()
		if p.Parse(l, &e) == nil {
			n++
		}
	}
	return n
}

// asksUpstream tells whether lines tell of a server further in, as those of a web
// server or proxy do.
func asksUpstream(c Config, lines [][]byte) bool {
	f, err := compile(c, false)
	if err != nil {
		return false
	}
	p := f.New()
	var e event.Event
	for _, l := range lines {
		e.Reset()
		if p.Parse(l, &e) == nil && e.Upstream != event.UpstreamUnknown {
			return true
		}
	}
	return false
}

// hostInFront is the sign of formats that start with a host and then the client:
// a user of two words in a format without a host looks the same.
func hostInFront(line []byte, e *event.Event, err error) vote {
	if userInPlace(line, e, err) == voteYes && !bytes.HasSuffix(e.Host, comma) && (bytes.IndexByte(e.Client, '.') > 0 || bytes.IndexByte(e.Client, ':') >= 0) {
		return voteYes
	}
	return voteNo
}

// userInPlace is the sign of Apache's formats, whose user may hold spaces and so
// takes in what more stands in front of the time in other formats.
func userInPlace(_ []byte, e *event.Event, err error) vote {
	switch u := e.User; {
	case err != nil, e.Time == event.NoTime, bytes.HasSuffix(e.Client, comma),
		bytes.HasPrefix(u, dashSpace), bytes.HasSuffix(u, spaceDash), bytes.Contains(u, spaceDashSpace):
		return voteNo
	}
	return voteYes
}

var (
	comma          = []byte{','}
	dashSpace      = []byte("- ")
	spaceDash      = []byte(" -")
	spaceDashSpace = []byte(" - ")
)

// requestIDFound is the sign of formats that are told by an id where others have
// something else.
func requestIDFound(_ []byte, e *event.Event, err error) vote {
	if err == nil && identifier(e.RequestID) {
		return voteYes
	}
	return voteNo
}

// score counts the lines that f understands and that speak for it.
func score(f *Format, sign sign, lines [][]byte) int {
	p := f.New()
	var e event.Event
	n, sure := 0, sign == nil
	for _, l := range lines {
		e.Reset()
		err := p.Parse(l, &e)
		if err != nil && !errors.Is(err, ErrSkip) {
			continue
		}
		v := voteYes
		switch {
		case sign != nil:
			v = sign(l, &e, err)
		case f.program != nil && e.Time == event.NoTime: // a dash that stands elsewhere
			v = voteNo
		}
		if v != voteNo {
			n++
		}
		sure = sure || v == voteYes
	}
	if !sure {
		return 0
	}
	return n
}

// settle decides between servers that write the same format; n lines of it were
// found.
func settle(c candidate, n int, lines [][]byte, path string) (Config, string) {
	server, hint := serverOf(lines, path)
	twin := c
	twin.config.Format = familyNginx
	switch {
	case c.config.Format == familyJSON:
		switch {
		case server == familyNginx || server == familyApache:
			c.config.Format, c.config.LogFormat = server, nginxJSONFormat
			c.why += ", " + hint
		case asksUpstream(c.config, lines):
			c.config.Format, c.config.LogFormat = familyNginx, nginxJSONFormat
			c.why += ", and they tell what a server behind answered"
		}
	case c.config.Format == familyLogfmt:
		if server == familyNginx || server == familyApache {
			c.config.Format, c.config.LogFormat = server, familyLogfmt
		}
	case c.config.Format != familyApache:
	case c.config.LogFormat == "combined" && server != familyApache,
		(c.config.LogFormat == "vhost_combined" || c.config.LogFormat == "common") && server == familyNginx:
		c = twin.ifAsGood(c, n, lines)
	case c.config.LogFormat == apacheHostCombined && server == familyNginx:
		twin.config.LogFormat = nginxHostCombined
		c = twin.ifAsGood(c, n, lines)
	}
	if hint != "" && c.config.Format == server && c.config.LogFormat != nginxJSONFormat {
		c.why += ", " + hint
	}
	return c.config, c.why
}

// ifAsGood is c if it understands at least n lines, else other: what nginx writes
// between client and user is fixed, while Apache writes an identity there.
func (c candidate) ifAsGood(other candidate, n int, lines [][]byte) candidate {
	if f, err := Compile(c.config); err == nil && score(f, c.sign, lines) >= n {
		return c
	}
	return other
}

// serverOf guesses the server from the path and from what only one of them
// writes; empty if nothing tells.
func serverOf(lines [][]byte, path string) (server, hint string) {
	switch p := strings.ToLower(path); {
	case pathNames(p, "nginx"):
		return familyNginx, "and its path names nginx"
	case pathNames(p, "apache") || pathNames(p, "httpd"):
		return familyApache, "and its path names Apache"
	}
	json, pairs := lines[0][0] == '{', leadingPair(lines[0])
	for _, l := range lines {
		for _, k := range nginxKeys {
			key := k[1 : len(k)-1]
			if json && bytes.Contains(l, k) || pairs && hasPair(l, key) {
				return familyNginx, "and it has the field names of nginx"
			}
		}
		if json || pairs {
			continue
		}
		for i := bytes.IndexByte(l, '\\'); i >= 0 && i+1 < len(l); i++ {
			if l[i] != '\\' {
				continue
			}
			switch next := l[i+1]; {
			case next != 'x':
				return familyApache, `and quotes are escaped as by Apache`
			case i+3 < len(l) && (letter(l[i+2], 'a') || letter(l[i+3], 'a')):
				return familyApache, `and bytes are escaped as by Apache`
			case i+3 < len(l) && (letter(l[i+2], 'A') || letter(l[i+3], 'A') || l[i+2] == '2' && l[i+3] == '2'):
				return familyNginx, `and bytes are escaped as by nginx`
			}
		}
	}
	return "", ""
}

// pathNames tells whether a path names a server: its file does somewhere, or one of
// its folders begins with the name. A folder that only has it in its name, such as
// "behind-nginx", may well hold an application's log.
func pathNames(path, server string) bool {
	at := strings.LastIndexAny(path, `/\`) + 1
	return strings.Contains(path[at:], server) || strings.HasPrefix(path, server) ||
		strings.Contains(path[:at], "/"+server) || strings.Contains(path[:at], `\`+server)
}

// hasPair tells whether one of the key=value pairs of l has that key.
func hasPair(l, key []byte) bool {
	for {
		i := bytes.Index(l, key)
		if i < 0 {
			return false
		}
		end := i + len(key)
		if (i == 0 || blank(l[i-1])) && end < len(l) && l[end] == '=' {
			return true
		}
		l = l[end:]
	}
}

// letter tells whether c is a hex digit above 9 in the case of a.
func letter(c, a byte) bool { return c >= a && c < a+6 }

// nginxKeys are field names that come from nginx's variables.
var nginxKeys = [][]byte{
	[]byte(`"upstream_status"`), []byte(`"upstream_addr"`), []byte(`"upstream_response_time"`),
	[]byte(`"body_bytes_sent"`), []byte(`"http_user_agent"`), []byte(`"remote_user"`), []byte(`"time_iso8601"`),
}
