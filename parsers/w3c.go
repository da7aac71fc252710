package parsers

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// The families of W3C extended logs (https://www.w3.org/TR/WD-logfile): lines of
// columns that a "#Fields:" header names. The header may come again with other
// columns, as IIS writes it anew at each start. A log that is read from its middle
// has no header before the first line: then LogFormat names the columns, or else
// they are those the server writes by default.
const (
	// familyCloudFront reads the standard logs of Amazon CloudFront
	// (https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/standard-logs-reference.html).
	familyCloudFront = "cloudfront"
	// familyIIS reads the logs of Microsoft's IIS; times are UTC unless Timezone
	// says otherwise
	// (https://learn.microsoft.com/en-us/windows/win32/http/w3c-logging).
	familyIIS = "iis"
)

// The columns that only these families know.
const (
	w3cDate = fields + iota
	w3cTimeOfDay
	w3cStem
	w3cQuery
	w3cSNI
	w3cSubstatus
	w3cResult
	w3cDetail
	w3cFields
)

// w3cDialect is what differs between the families.
type w3cDialect struct {
	separator byte
	// columns are the default ones.
	columns string
	// infer appends to columns what words mean, those of a line that has no header
	// or does not fit it; nothing if that cannot be told. standard are the default
	// columns.
	infer func(columns, standard []field, words [][]byte) []field
	// telling is in the name of a column that the family always has, foreign in
	// one that it never has.
	telling, foreign string
	names            map[string]field
	// decode appends a value as it was before it was logged.
	decode func(dst, v []byte) []byte
	// encoded is the byte that values hold where decode is needed.
	encoded byte
	finish  func(p *w3cParser, e *event.Event)
}

// cloudFrontLeast is how many columns the first version of CloudFront's logs had.
const cloudFrontLeast = 12

const (
	cloudFrontColumns = "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end"
	iisColumns        = "date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status time-taken"
)

var cloudFrontDialect = &w3cDialect{
	separator: '\t', columns: cloudFrontColumns, telling: "x-edge-", foreign: "sc-substatus",
	names: map[string]field{
		"date": w3cDate, "time": w3cTimeOfDay, "timestamp": fieldTime, "timestamp(ms)": fieldTime,
		"c-ip": fieldClient, "cs-method": fieldMethod, "cs(host)": w3cSNI, "x-host-header": fieldHost,
		"cs-uri-stem": w3cStem, "cs-uri-query": w3cQuery, "sc-status": fieldStatus,
		"cs(user-agent)": fieldUserAgent, "x-edge-request-id": fieldRequestID, "c-country": fieldGeo,
		"x-edge-result-type": w3cResult, "x-edge-detailed-result-type": w3cDetail,
	},
	decode: appendUnpercent, encoded: '%', finish: finishCloudFront,
	infer: inferCloudFront,
}

var iisDialect = &w3cDialect{
	separator: ' ', columns: iisColumns, telling: "", foreign: "x-edge-",
	infer: inferIIS,
	names: map[string]field{
		"date": w3cDate, "time": w3cTimeOfDay, "c-ip": fieldClient, "cs-method": fieldMethod,
		"date-local": w3cDate, "time-local": w3cTimeOfDay, "cs-uri": fieldPath, // of others who write W3C logs
		"cs-host": fieldHost, "cs(host)": fieldHost, "cs-uri-stem": w3cStem, "cs-uri-query": w3cQuery,
		"sc-status": fieldStatus, "sc-substatus": w3cSubstatus, "cs(user-agent)": fieldUserAgent,
		"cs-username": fieldUser,
	},
	decode: appendUnplus, encoded: '+', finish: finishIIS,
}

func cloudFrontFamily() fixedFamily {
	return w3cFamily("Amazon CloudFront", event.Edge, cloudFrontDialect)
}
func iisFamily() fixedFamily { return w3cFamily("IIS", event.Web, iisDialect) }

func w3cFamily(text string, v event.Vantage, d *w3cDialect) fixedFamily {
	return fixedFamily{
		text: text, vantage: v,
		mapping: anyName,
		logFormat: func(s string) error {
			if !bytes.Contains([]byte(s), []byte("sc-status")) {
				return fmt.Errorf("%q has no sc-status; give the line of the log that begins with \"#Fields:\"", clip(s))
			}
			return nil
		},
		compile: func(c Config, loc *time.Location) func() Parser {
			columns := d.columns
			if c.LogFormat != "" {
				columns = strings.TrimPrefix(strings.TrimSpace(c.LogFormat), string(w3cHeader))
			}
			mapping := make(map[string]field, len(c.Mapping))
			for key, column := range c.Mapping {
				mapping[strings.ToLower(column)] = mappable(key)
			}
			return func() Parser {
				p := &w3cParser{d: d, mapping: mapping, clock: clock{loc: loc}}
				p.columns = p.header(nil, []byte(columns))
				p.standard = p.header(nil, []byte(d.columns))
				return p
			}
		},
	}
}

func w3cCandidates() []candidate {
	sign := func(_ []byte, e *event.Event, err error) vote {
		switch {
		case err != nil, e.Status == 0: // a header; a client that left
			return voteMaybe
		case len(e.Client) == 0:
			return voteNo
		}
		return voteYes
	}
	return []candidate{
		{config: Config{Format: familyCloudFront}, why: "have the fields of Amazon CloudFront", sign: sign},
		{config: Config{Format: familyIIS}, why: "have the fields of IIS", sign: sign},
	}
}

// w3cParser reads the lines of one stream. What a line means depends on the
// header before it.
type w3cParser struct {
	d       *w3cDialect
	mapping map[string]field
	columns []field
	// Of lines that are read loosely:
	words             [][]byte
	standard, guessed []field
	clock             clock
	day               [10]byte // of the last #Date, for logs without a date column
	hasDay            bool
	scratch           []byte
	vals              [w3cFields][]byte
}

var w3cHeader = []byte("#Fields:")

// Parse implements Parser. Lines that begin with '#' are ErrHeader.
func (p *w3cParser) Parse(line []byte, e *event.Event) error {
	line = bytes.TrimSuffix(line, carriageReturn)
	if len(line) > 0 && line[0] == '#' {
		return p.directive(line)
	}
	p.scratch = p.scratch[:0]
	p.vals = [w3cFields][]byte{}
	rest, n := line, 0
	for n < len(p.columns) {
		var v []byte
		i := bytes.IndexByte(rest, p.d.separator)
		if i < 0 {
			v = rest
		} else {
			v = rest[:i]
		}
		if f := p.columns[n]; f != fieldNone {
			if v = given(v); len(v) > 0 {
				p.vals[f] = v
			}
		}
		n++
		if i < 0 {
			rest = nil
			break
		}
		rest = rest[i+1:]
	}
	var err error
	switch {
	case n < len(p.columns):
		err = ErrShort
	case len(rest) > 0:
		err = ErrMismatch
	default:
		if err = p.fill(e); err == nil {
			return nil
		}
	}
	if p.loose(line, e) {
		return nil
	}
	e.Reset()
	return err
}

// loose reads a line as those write it who stray from IIS and CloudFront: values
// with spaces in quotes, several blanks between values; and lines whose columns
// are not those of the header, as after a change of the configuration or in a log
// that is read from its middle.
func (p *w3cParser) loose(line []byte, e *event.Event) bool {
	if p.words = splitQuoted(p.words[:0], line); len(p.words) == 0 {
		return false
	}
	if len(p.words) == len(p.columns) && p.accept(p.columns, e) {
		return true
	}
	if len(p.mapping) > 0 { // the columns that it names cannot be guessed
		return false
	}
	p.guessed = p.d.infer(p.guessed[:0], p.standard, p.words)
	return len(p.guessed) > 0 && p.accept(p.guessed, e) && len(e.Method) > 0 &&
		(bytes.IndexByte(e.Client, '.') > 0 || bytes.IndexByte(e.Client, ':') >= 0)
}

// inferCloudFront takes the default columns, to which new ones were added at the
// end over the years.
func inferCloudFront(columns, standard []field, words [][]byte) []field {
	if len(words) < cloudFrontLeast || len(words) > len(standard) {
		return columns
	}
	return append(columns, standard[:len(words)]...)
}

// inferIIS relies on the order in which IIS writes the fields that are selected:
// date time s-sitename s-computername s-ip cs-method cs-uri-stem cs-uri-query
// s-port cs-username c-ip cs-version cs(User-Agent) cs(Cookie) cs(Referer) cs-host
// sc-status sc-substatus sc-win32-status, and more. What begins with the method and
// with the status is found by its look.
func inferIIS(columns, _ []field, words [][]byte) []field {
	method, status := 0, 0
	for i := 2; i <= 5 && i+9 < len(words); i++ {
		if stem := words[i+1]; capitals(words[i]) && len(stem) > 0 && (stem[0] == '/' || stem[0] == '*') {
			method = i
			break
		}
	}
	if method == 0 {
		return columns
	}
	for i := method + 6; i+2 < len(words); i++ {
		if n, ok := statusNumber(words[i]); ok && n >= 100 && digits(words[i+1]) && digits(words[i+2]) {
			status = i
			break
		}
	}
	if status == 0 {
		return columns
	}
	for range words {
		columns = append(columns, fieldNone)
	}
	columns[0], columns[1] = w3cDate, w3cTimeOfDay
	for i, f := range []field{fieldMethod, w3cStem, w3cQuery, fieldNone, fieldUser, fieldClient} {
		columns[method+i] = f
	}
	columns[status], columns[status+1] = fieldStatus, w3cSubstatus
	at := method + 6
	if hasPrefix(words[at], "HTTP/") {
		at++
	}
	if at < status {
		columns[at] = fieldUserAgent
	}
	if status-at == 4 {
		columns[status-1] = fieldHost
	}
	return columns
}

func capitals(v []byte) bool {
	for _, c := range v {
		if c-'A' >= 26 && c != '_' && c != '-' {
			return false
		}
	}
	return len(v) > 1
}

func digits(v []byte) bool {
	for _, c := range v {
		if c-'0' > 9 {
			return false
		}
	}
	return len(v) > 0
}

// accept tells whether p.words make a request under these columns.
func (p *w3cParser) accept(columns []field, e *event.Event) bool {
	p.scratch = p.scratch[:0]
	p.vals = [w3cFields][]byte{}
	for i, f := range columns {
		if v := given(p.words[i]); f != fieldNone && len(v) > 0 {
			p.vals[f] = v
		}
	}
	e.Reset()
	return p.fill(e) == nil
}

// splitQuoted appends the words of b, which blanks separate, without the quotes
// that may be around them. It gives up, with none, at more than maxColumns.
func splitQuoted(words [][]byte, b []byte) [][]byte {
	for {
		for len(b) > 0 && blank(b[0]) {
			b = b[1:]
		}
		if len(b) == 0 {
			return words
		}
		if len(words) == maxColumns {
			return words[:0]
		}
		if b[0] == '"' {
			if end := quotedEnd(b); end > 0 {
				words, b = append(words, b[1:end]), b[end+1:]
				continue
			}
		}
		end := 0
		for end < len(b) && !blank(b[end]) {
			end++
		}
		words, b = append(words, b[:end]), b[end:]
	}
}

// quotedEnd is the index of the quote that ends the value at the start of b, 0 if
// there is none: what follows is a blank or nothing. Quotes in the value are
// doubled, or not escaped at all.
func quotedEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] != '"':
		case i+1 == len(b) || blank(b[i+1]):
			return i
		case b[i+1] == '"':
			i++
		}
	}
	return 0
}

// directive reads a header.
func (p *w3cParser) directive(line []byte) error {
	switch {
	case bytes.HasPrefix(line, w3cHeader):
		names := line[len(w3cHeader):]
		if bytes.Contains(names, []byte(p.d.foreign)) || !bytes.Contains(names, []byte(p.d.telling)) {
			return ErrMismatch
		}
		p.columns = p.header(p.columns[:0], names)
	case hasPrefix(line, "#Date: ") && len(line) >= len("#Date: 2006-01-02"):
		copy(p.day[:], line[len("#Date: "):])
		p.hasDay = true
	}
	return ErrHeader
}

// maxColumns bounds a header.
const maxColumns = 256

// header appends the columns of a #Fields line.
func (p *w3cParser) header(columns []field, names []byte) []field {
	for name := range bytes.FieldsSeq(names) {
		if len(columns) == maxColumns {
			break
		}
		column := strings.ToLower(string(name))
		f, ok := p.mapping[column]
		if !ok {
			if f, ok = p.d.names[column]; !ok {
				f = w3cIdentity(column)
			}
			for _, taken := range p.mapping { // a mapped key is taken from there only
				if f == taken {
					f = fieldNone
				}
			}
		}
		columns = append(columns, f)
	}
	return columns
}

// w3cIdentity finds what is meant by a column of the user's own, which IIS names
// after the header it holds: "X-User-Role". It may be the client's or the
// application's header, so it is not trusted with the user.
func w3cIdentity(column string) field {
	switch f := identityField(column); f {
	case fieldAccount, fieldRole, fieldPlan, fieldFlags, fieldRequestID:
		return f
	}
	return fieldNone
}

// text is a value as it was before it was logged.
func (p *w3cParser) text(v []byte) []byte {
	if bytes.IndexByte(v, p.d.encoded) < 0 {
		return v
	}
	from := len(p.scratch)
	p.scratch = p.d.decode(p.scratch, v)
	return p.scratch[from:len(p.scratch):len(p.scratch)]
}

// fill turns the values into an event.
func (p *w3cParser) fill(e *event.Event) error {
	v := &p.vals
	var ok bool
	if e.Status, ok = statusNumber(v[fieldStatus]); !ok {
		if v[fieldStatus] != nil || v[fieldMethod] == nil {
			return ErrStatus
		}
	}
	switch {
	case v[w3cTimeOfDay] != nil && (v[w3cDate] != nil || p.hasDay):
		var at [len("2006-01-02 15:04:05.000000000")]byte
		day := v[w3cDate]
		if day == nil {
			day = p.day[:]
		}
		if len(day) != len("2006-01-02") || len(v[w3cTimeOfDay]) > len("15:04:05.000000000") {
			return ErrTime
		}
		n := copy(at[:], day)
		at[n] = ' '
		n += 1 + copy(at[n+1:], v[w3cTimeOfDay])
		if e.Time, ok = p.clock.iso(at[:n]); !ok {
			e.Time = event.NoTime
			return ErrTime
		}
	case v[fieldTime] != nil:
		if e.Time, ok = p.clock.any(v[fieldTime]); !ok {
			e.Time = event.NoTime
			return ErrTime
		}
	default:
		return ErrTime
	}
	if e.Path = v[fieldPath]; e.Path != nil {
		if e.Path[0] != '/' { // "shop.example/a?b", without a scheme
			if i := bytes.IndexByte(e.Path, '/'); i > 0 && e.Path[i-1] != ':' {
				e.Host, e.Path = e.Path[:i], e.Path[i:]
			}
		}
	} else {
		e.Path = v[w3cStem]
		if p.d.encoded == '%' {
			e.Path = p.text(e.Path)
		}
		if q := v[w3cQuery]; q != nil && e.Path != nil {
			from := len(p.scratch)
			p.scratch = append(append(append(p.scratch, e.Path...), '?'), q...)
			e.Path = p.scratch[from:len(p.scratch):len(p.scratch)]
		}
	}
	for f := fieldService; f < fields; f++ {
		if v[f] == nil {
			continue
		}
		switch f {
		case fieldPath, fieldStatus, fieldRequest:
		case fieldUpstream:
			upstreamStatus(v[f], e)
		case fieldUser:
			e.User = v[f]
		case fieldCause:
			e.Cause = bounded(v[f])
		case fieldUserAgent:
			if e.UserAgent = p.text(v[f]); p.d.encoded == '%' {
				e.UserAgent = p.text(e.UserAgent) // older logs have it encoded twice
			}
		default:
			setText(f, p.text(v[f]), e)
		}
	}
	if len(e.Host) == 0 {
		e.Host = v[w3cSNI]
	}
	p.d.finish(p, e)
	return nil
}

// finishCloudFront reads who answered. The log has no status of the origin, and
// "Error" stands for a refusal of the origin as well as of the firewall: most
// refusals have no layer here.
func finishCloudFront(p *w3cParser, e *event.Event) {
	kind := p.vals[w3cDetail]
	if kind == nil {
		kind = p.vals[w3cResult]
	}
	switch string(kind) {
	case "ClientGeoBlocked":
		e.Layer, e.Denial, e.Cause = event.LayerEdge, event.Refused, causeGeo
	case "InvalidRequestBlocked":
		e.Layer, e.Denial, e.Cause = event.LayerEdge, event.Refused, causeEdgeBlock
	case "FunctionGeneratedResponse":
		if e.Status/100 == 4 {
			e.Layer, e.Cause = event.LayerEdge, causeEdgeFunction
		}
	}
}

// finishIIS reads the cause of a 403 from its substatus
// (https://learn.microsoft.com/en-us/troubleshoot/developer/webapps/iis/www-administration-management/http-status-code);
// 0 is the application's own.
func finishIIS(p *w3cParser, e *event.Event) {
	if e.Status != 403 || p.vals[w3cSubstatus] == nil {
		return
	}
	sub := smallNumber(p.vals[w3cSubstatus])
	if sub == 0 {
		e.Layer = event.LayerApp
	} else {
		e.Layer = event.LayerWeb
	}
	if e.Cause != nil {
		return
	}
	e.Cause = iisCause(sub)
}

var (
	causeExec   = []byte("exec_forbidden")
	causeTLS    = []byte("tls_required")
	causeCert   = []byte("client_cert")
	causeConn   = []byte("conn_limit")
	causeIndex  = []byte("directory_index")
	causeConfig = []byte("config")
)

func iisCause(sub uint32) []byte {
	switch sub {
	case 0:
		return causeAppPolicy
	case 1, 20, 21:
		return causeExec
	case 2, 3, 6, 8, 503:
		return causeACL
	case 4, 5:
		return causeTLS
	case 7, 12, 13, 16, 17:
		return causeCert
	case 9, 501:
		return causeConn
	case 14:
		return causeIndex
	case 18, 19:
		return causeConfig
	case 502:
		return causeRateLimit
	}
	return nil
}

// appendUnpercent appends v with one layer of percent-encoding taken off.
func appendUnpercent(dst, v []byte) []byte {
	for i := 0; i < len(v); i++ {
		if v[i] == '%' && i+2 < len(v) {
			h, ok1 := hex(v[i+1])
			l, ok2 := hex(v[i+2])
			if ok1 && ok2 {
				dst = append(dst, h<<4|l)
				i += 2
				continue
			}
		}
		dst = append(dst, v[i])
	}
	return dst
}

// appendUnplus appends v with '+' as the space it was. A '+' of the client's looks
// the same.
func appendUnplus(dst, v []byte) []byte {
	for _, c := range v {
		if c == '+' {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}
