package parsers

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

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
	sign func(line []byte, e *event.Event, err error) vote
}

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
	for _, l := range sample {
		if l = bytes.TrimRight(l, "\r\n"); len(bytes.TrimSpace(l)) > 0 {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return c, "", fmt.Errorf("%w: there are no lines yet", ErrUnknownFormat)
	}
	w := c.wrapper()
	if w == wrapperAuto {
		w = recogniseWrapper(lines)
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
		if found, why, err = c.resolveInner(inner, path); err == nil {
			found.Wrapper = w
			return found, why, nil
		}
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
	for _, strict := range []bool{true, false} {
		for _, family := range families {
			for _, cand := range family() {
				cand.config.Mapping, cand.config.Timezone = c.Mapping, c.Timezone
				f, err := compile(cand.config, strict)
				if err != nil {
					refused = err
					continue
				}
				if n := score(f, cand.sign, lines); n > bestScore {
					best, bestScore = cand, n
				}
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
		return c, "", err
	}
	found, why := settle(best, lines, path)
	return found, fmt.Sprintf("%d of the first %d lines %s", bestScore, len(lines), why), nil
}

// score counts the lines that f understands and that speak for it.
func score(f *Format, sign func([]byte, *event.Event, error) vote, lines [][]byte) int {
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
		if sign != nil {
			v = sign(l, &e, err)
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

// settle decides between servers that write the same format.
func settle(c candidate, lines [][]byte, path string) (Config, string) {
	server, hint := serverOf(lines, path)
	switch {
	case c.config.Format == familyJSON:
		if server == familyNginx || server == familyApache {
			c.config.Format, c.config.LogFormat = server, nginxJSONFormat
			c.why += ", " + hint
		}
	case c.config.Format == familyLogfmt:
		if server == familyNginx || server == familyApache {
			c.config.Format, c.config.LogFormat = server, familyLogfmt
		}
	case c.config.Format == familyApache && c.config.LogFormat == "vhost_combined" && server == familyNginx,
		c.config.Format == familyApache && c.config.LogFormat == "combined" && server != familyApache:
		c.config.Format = familyNginx
	}
	if hint != "" && c.config.Format == server && c.config.LogFormat != nginxJSONFormat {
		c.why += ", " + hint
	}
	return c.config, c.why
}

// serverOf guesses the server from the path and from what only one of them
// writes; empty if nothing tells.
func serverOf(lines [][]byte, path string) (server, hint string) {
	p := strings.ToLower(path)
	switch {
	case strings.Contains(p, "nginx"):
		return familyNginx, "and its path names nginx"
	case strings.Contains(p, "apache") || strings.Contains(p, "httpd"):
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
