package parsers

import (
	"fmt"
	"strings"
)

// apacheFormats are the nicknames of Apache's own and Debian's configuration
// (https://httpd.apache.org/docs/2.4/mod/mod_log_config.html).
var apacheFormats = map[string]string{
	"common":         apacheCommon,
	"combined":       apacheCommon + apacheHeaders,
	"vhost_common":   `%v ` + apacheCommon,
	"vhost_combined": `%v:%p ` + apacheCommon + apacheHeaders,
	apacheJSONFormat: "",
}

// apacheJSONFormat is what nginxJSONFormat is, for Apache.
const apacheJSONFormat = "json"

const (
	apacheCommon  = `%h %l %u %t "%r" %>s %b`
	apacheHeaders = ` "%{Referer}i" "%{User-Agent}i"`
	// apacheHostCombined has no name in any configuration, but is common.
	apacheHostCombined = `%v ` + apacheCommon + apacheHeaders
)

// apacheSpec is a LogFormat as the user gave it, taken apart.
type apacheSpec struct {
	name   string
	format string
}

// readApacheSpec accepts a nickname, a LogFormat string, or a whole LogFormat
// statement as in httpd.conf.
func readApacheSpec(s string) (apacheSpec, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		s = "combined"
	}
	if f, ok := apacheFormats[s]; ok {
		return apacheSpec{name: s, format: f}, nil
	}
	if rest, ok := strings.CutPrefix(s, "LogFormat "); ok {
		rest = strings.TrimSpace(rest)
		if len(rest) < 2 || rest[0] != '"' {
			return apacheSpec{}, fmt.Errorf("%q: expected a quoted string after LogFormat", clip(rest))
		}
		end := quoteEnd([]byte(rest[1:]))
		if end < 0 {
			return apacheSpec{}, fmt.Errorf("the quoted string of LogFormat has no end")
		}
		s = rest[1 : 1+end]
	}
	if !strings.Contains(s, "%") {
		return apacheSpec{}, fmt.Errorf("%q is neither a nickname (%s) nor a LogFormat string with %%directives; copy it from the Apache configuration",
			clip(s), strings.Join(names(apacheFormats), ", "))
	}
	return apacheSpec{format: apacheUnquote.Replace(s)}, nil
}

// apacheUnquote resolves what httpd.conf and mod_log_config resolve.
var apacheUnquote = strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\r`, "\r", `\"`, `"`, `\\`, `\`)

// apacheDirective is one %-directive, taken apart.
type apacheDirective struct {
	text     string
	letter   string // one letter, or ^ti or ^to
	param    string
	hasParam bool
	original bool // %<
	final    bool // %>
	partly   bool // %!200 or %404,403: only for some statuses, else "-"
}

// readDirective takes the directive that follows a '%' at the start of s.
func readDirective(s string) (d apacheDirective, rest string, err error) {
	i := 0
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '<':
			d.original = true
		case c == '>':
			d.final = true
		case c == '!' || c == ',' || c-'0' <= 9:
			d.partly = true
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return d, "", fmt.Errorf("%%%s: { has no closing }", clip(s))
			}
			d.param, d.hasParam = s[i+1:i+end], true
			i += end
		case c == '^':
			if len(s) < i+3 {
				return d, "", fmt.Errorf("%%%s is cut off", clip(s))
			}
			d.letter = s[i : i+3]
			d.text = "%" + s[:i+3]
			return d, s[i+3:], nil
		default:
			d.letter = s[i : i+1]
			d.text = "%" + s[:i+1]
			return d, s[i+1:], nil
		}
	}
	return d, "", fmt.Errorf("%%%s ends before its letter", clip(s))
}

// apacheElements cuts a LogFormat string into its elements.
func apacheElements(spec apacheSpec) ([]element, error) {
	var elems []element
	s := spec.format
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			elems = append(elems, element{lit: s})
			break
		}
		if i > 0 {
			elems = append(elems, element{lit: s[:i]})
		}
		s = s[i+1:]
		if strings.HasPrefix(s, "%") {
			elems = append(elems, element{lit: "%"})
			s = s[1:]
			continue
		}
		d, rest, err := readDirective(s)
		if err != nil {
			return nil, err
		}
		s = rest
		e, err := apacheElement(d, elems)
		if err != nil {
			return nil, err
		}
		elems = append(elems, e)
	}
	return joinPath(mergeText(elems)), nil
}

// apacheElement describes a directive; what stands in front of it may name it.
func apacheElement(d apacheDirective, before []element) (element, error) {
	e := element{name: d.text, shape: shapeToken}
	param := strings.ToLower(d.param)
	only := func(allowed ...string) error {
		if !d.hasParam {
			return nil
		}
		for _, a := range allowed {
			if param == a {
				return nil
			}
		}
		return fmt.Errorf("%s: {%s} is not known here", d.text, clip(d.param))
	}
	var err error
	switch d.letter {
	case "a", "h":
		err = only("c")
		e.field = fieldClient
		if d.letter == "h" {
			e.rank = 1
		}
		if d.hasParam {
			e.rank += 3 // the peer: a proxy, where mod_remoteip is used
		}
	case "L":
		// The error log's id of the request, which joins the two logs. It is "-"
		// when nothing was logged, unlike UNIQUE_ID, which has the same value.
		err = only()
		e.field, e.rank = fieldRequestID, 1
	case "A", "l", "X", "H":
		err = only()
	case "f", "R":
		err = only()
		e.shape = shapeText
	case "B", "b", "D", "I", "O", "S", "k":
		err = only()
		e.shape = shapeNumber
	case "p":
		err = only("canonical", "local", "remote")
		e.shape = shapeNumber
	case "P":
		err = only("pid", "tid", "hextid")
	case "T":
		err = only("s", "ms", "us")
		e.shape = shapeNumber
	case "m":
		err = only()
		e.field = fieldMethod
	case "r":
		err = only()
		e.shape, e.field, e.rank, e.wild = shapeText, fieldRequest, 1, true
	case "s":
		err = only()
		e.shape, e.field = shapeStatus, fieldStatus
		if !d.final {
			e.rank, e.original = 1, true // %s is the original status, before internal redirects
		}
	case "U":
		err = only()
		e.shape, e.field, e.rank = shapePath, fieldPath, 2
	case "q":
		err = only()
		e.shape = shapeText
	case "u":
		err = only()
		e.shape, e.field, e.claimed, e.wild, e.quotedEmpty = shapeText, fieldUser, true, true, true
		e.rank = 2
	case "v":
		err = only()
		e.field, e.rank = fieldHost, 2
	case "V":
		err = only()
		e.field, e.rank = fieldHost, 1
	case "i", "o", "C", "e", "n", "x", "^ti", "^to":
		if !d.hasParam || d.param == "" {
			return e, fmt.Errorf("%s needs a name: %%{Name}%s", d.text, d.letter)
		}
		e.shape, e.wild = shapeText, true
		apacheNamed(&e, d, before)
	case "t":
		return apacheTime(d)
	default:
		err = fmt.Errorf("%s is no directive of Apache's log_config or logio module", d.text)
	}
	if d.partly {
		e.rank += 8
	}
	return e, err
}

// apacheNamed finds the meaning of a header, cookie, note or variable.
func apacheNamed(e *element, d apacheDirective, before []element) {
	name := fold(d.param)
	fromClient := d.letter == "i" || d.letter == "C" || d.letter == "^ti"
	switch {
	case d.letter == "i" && name == "useragent":
		e.field = fieldUserAgent
	case d.letter == "i" && name == "host":
		e.field = fieldHost
	case d.letter == "i" && name == "xforwardedfor":
		if e.field, e.rank = fieldClient, 8; !behindQuote(before) {
			e.shape, e.wild = shapeList, false // "client, proxy, proxy"
		}
	case d.letter == "i" && (name == "trueclientip" || name == "cfconnectingip" || name == "xclientip" || name == "xrealip"):
		e.field, e.rank, e.shape, e.wild = fieldClient, 7, shapeToken, false
	case d.letter == "i" && name == "xrequestid":
		e.field, e.rank = fieldRequestID, 2
	case d.letter == "i" && name == "cfipcountry":
		e.field, e.rank = fieldGeo, 2
	case d.letter == "e" && name == "uniqueid":
		e.field = fieldRequestID
		e.wild = false
	case d.letter == "e" && strings.Contains(name, "country") && !strings.Contains(name, "name"):
		e.field, e.wild = fieldGeo, false
	case !fromClient:
		e.field, e.rank = identityField(d.param), 1
	}
	if n := len(before); e.field == fieldNone && n > 0 && before[n-1].name == "" {
		e.field, e.rank = identityField(label(before[n-1].lit)), 1
		e.claimed = e.field == fieldUser && fromClient
	}
}

// apacheTime describes %t and %{...}t.
func apacheTime(d apacheDirective) (element, error) {
	format, end := d.param, false
	if rest, ok := strings.CutPrefix(format, "begin"); ok && (rest == "" || rest[0] == ':') {
		format = strings.TrimPrefix(rest, ":")
	} else if rest, ok := strings.CutPrefix(format, "end"); ok && (rest == "" || rest[0] == ':') {
		format, end = strings.TrimPrefix(rest, ":"), true
	}
	if format == "" {
		rank := uint8(1)
		if end {
			rank += 3
		}
		return element{name: d.text, shape: shapeBracketed, field: fieldTime, rank: rank, end: end}, nil
	}
	e := element{name: d.text, shape: shapeStamp, field: fieldTime, end: end}
	switch format {
	case "sec":
		e.parts = []stampPart{{kind: 's'}}
	case "msec":
		e.parts = []stampPart{{kind: partEpochMilli}}
	case "usec":
		e.parts = []stampPart{{kind: partEpochMicro}}
	case "msec_frac":
		e.parts = []stampPart{{kind: partMilli}}
	case "usec_frac":
		e.parts = []stampPart{{kind: partMicro}}
	default:
		var err error
		if e.parts, err = compileStrftime(format); err != nil {
			return e, fmt.Errorf("%s: %w", d.text, err)
		}
	}
	return e, nil
}

// joinPath makes one path of %U%q.
func joinPath(elems []element) []element {
	var out []element
	for i := 0; i < len(elems); i++ {
		e := elems[i]
		if e.shape == shapePath && e.name != "" && i+1 < len(elems) && strings.HasSuffix(elems[i+1].name, "q") && elems[i+1].field == fieldNone {
			e.name += elems[i+1].name
			e.rank = 0
			i++
		}
		out = append(out, e)
	}
	return out
}

// apacheCandidates are the Apache formats that Detect tries.
func apacheCandidates() []candidate {
	return []candidate{
		{config: Config{Format: familyApache, LogFormat: "vhost_combined"}, why: "start with host:port and have the fields of the combined format", sign: userInPlace},
		{config: Config{Format: familyApache, LogFormat: apacheHostCombined}, why: "start with a host and have the fields of the combined format", sign: hostInFront},
		{config: Config{Format: familyApache, LogFormat: "combined"}, why: "have the fields of the combined format", sign: userInPlace},
		{config: Config{Format: familyApache, LogFormat: "vhost_common"}, why: "start with a host and have the fields of the common format", sign: hostInFront},
		{config: Config{Format: familyApache, LogFormat: "common"}, why: "have the fields of the common format", sign: userInPlace},
	}
}
