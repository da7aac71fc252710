package parsers

import (
	"bytes"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// The logfmt format reads lines of key=value pairs (https://brandur.org/logfmt,
// and what loggers made of it): bare keys, empty values, strings quoted as by
// Go, lograge's and structlog's single quotes, and text in front of the first
// pair, such as the time and level of a console format or the head and tags of
// Ruby's logger. Names mean what they mean in JSON; user.id is a key with a dot.

const familyLogfmt = "logfmt"

// logfmtFamily is format "logfmt".
func logfmtFamily() fixedFamily {
	return fixedFamily{
		text: "logfmt", vantage: event.App,
		mapping: anyName,
		compile: func(c Config, loc *time.Location) func() Parser {
			prog := compileJSON(c, loc)
			return func() Parser { return &logfmtParser{jsonParser: newJSONParser(prog)} }
		},
	}
}

// anyName is the check of a mapping whose values are names that only the log
// itself can tell right from wrong.
func anyName(_, _ string) error { return nil }

// logfmtCandidates are the logfmt formats that Detect tries.
func logfmtCandidates() []candidate {
	return []candidate{{
		config: Config{Format: familyLogfmt}, why: "are key=value pairs (logfmt)",
		sign: func(line []byte, e *event.Event, err error) vote {
			switch {
			case err == nil && (len(e.Path) > 0 || len(e.Method) > 0), leadingPair(line):
				return voteYes
			case err == nil:
				return voteNo
			}
			return voteMaybe
		},
	}}
}

// leadingPair tells whether a line starts with a pair.
func leadingPair(b []byte) bool {
	for i, c := range b {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z', c == '_', c == '@':
		case i > 0 && (c-'0' <= 9 || c == '.' || c == '-' || c == '#'):
		case i > 0 && c == '=':
			return true
		default:
			return false
		}
	}
	return false
}

// headRank ranks what stands in front of the pairs behind everything in them.
const headRank = 255

type logfmtParser struct{ *jsonParser }

// Parse implements Parser. A line without a status is ErrSkip: an ordinary line
// of the application's log.
func (p *logfmtParser) Parse(line []byte, e *event.Event) error {
	p.seen, p.scratch = 0, p.scratch[:0]
	p.escaped = bytes.IndexByte(line, '\\') >= 0
	p.keys.restart()
	i := p.head(line)
	pairs := 0
	for {
		for i < len(line) && blank(line[i]) {
			i++
		}
		if i >= len(line) {
			break
		}
		h, key := p.keys.again(p.prog.root, line[i:], '=')
		if h == nil {
			if key = keyLen(line[i:]); key < 0 { // a bare key, or text
				i -= key
				continue
			}
			h = p.keys.find(p.prog.root, bytes.Trim(line[i:i+key], `"`))
		}
		i += key + 1
		pairs++
		from, to, next := logfmtValue(line, i)
		if from < 0 {
			return ErrSyntax
		}
		if h.field != fieldNone && (from > i || !nothing(line[from:to]) || h.field == fieldUpstream) {
			p.offer(h, kindString, line[from:to])
		}
		i = next
	}
	if pairs == 0 {
		return ErrMismatch
	}
	return p.fill(e)
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// keyLen is the length of the key in front of the '=' at the start of b, or minus
// the length of what is no key of a pair.
func keyLen(b []byte) int {
	i := 0
	if b[0] == '"' { // a quoted key, or text
		end := stringEnd(b, 1)
		if end < 0 {
			return -len(b)
		}
		if i = end + 1; i < len(b) && b[i] == '=' && end > 1 {
			return i
		}
		return -i
	}
	for i < len(b) && !blank(b[i]) {
		if b[i] == '=' && i > 0 {
			return i
		}
		if b[i] == '=' || b[i] == '"' {
			break
		}
		i++
	}
	for i < len(b) && !blank(b[i]) {
		i++
	}
	return -i
}

// logfmtValue finds the value at b[i:] and the index behind it. from is -1 if a
// quoted value has no end.
func logfmtValue(b []byte, i int) (from, to, next int) {
	if i >= len(b) || blank(b[i]) {
		return i, i, i
	}
	switch b[i] {
	case '"':
		for end := i; ; {
			// Loggers that forget to escape quotes are forgiven where the text
			// after the quote shows that the value goes on.
			if end = stringEnd(b, end+1); end < 0 {
				return -1, 0, 0
			}
			if end+1 == len(b) || blank(b[end+1]) || b[end+1] == ',' {
				return i + 1, end, end + 1
			}
		}
	case '\'':
		for end := i + 1; ; end++ {
			n := bytes.IndexByte(b[end:], '\'')
			if n < 0 {
				break // an apostrophe
			}
			if end += n; end+1 == len(b) || blank(b[end+1]) && (b[end-1] != '\\') && pairFollows(b[end+1:]) {
				return i + 1, end, end + 1
			}
		}
	case '[':
		if n := bytes.IndexByte(b[i:], ']'); n >= 0 && (i+n+1 == len(b) || blank(b[i+n+1])) {
			return i, i + n + 1, i + n + 1
		}
	}
	for next = i; next < len(b) && !blank(b[next]); next++ {
	}
	if to = next; b[to-1] == ',' {
		to-- // "status=403, path=/a"
	}
	return i, to, next
}

// pairFollows tells whether b is white space and then a pair, a bare key or
// nothing.
func pairFollows(b []byte) bool {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for i, c := range b {
		if c == '=' {
			return i > 0
		}
		if blank(c) {
			return false
		}
	}
	return true
}

// nothing tells whether an unquoted value is one that loggers write for no value.
func nothing(v []byte) bool {
	switch string(v) {
	case "", "-", "null", "nil", "<nil>", "None", "undefined", "true", "false":
		return true
	}
	return false
}

// head reads what may stand in front of the pairs, a time and tags, and returns
// the index behind it. Words such as a level are passed over later.
func (p *logfmtParser) head(b []byte) int {
	i := 0
	stamp := hit{field: fieldTime, rank: headRank}
	switch {
	case len(b) > 24 && b[1] == ',' && b[2] == ' ' && b[3] == '[' && b[8] == '-':
		// Ruby: "W, [2026-11-23T17:20:00.123456 #4]  WARN -- shop: text"
		end := 4 + bytes.IndexByte(b[4:], ']')
		if end < 4 {
			return 0
		}
		p.offer(&stamp, kindString, b[4:4+isoReach(b[4:end])])
		i = end + 1
		rest := b[i:min(len(b), i+80)]
		if n := bytes.Index(rest, rubyDashes); n >= 0 {
			n += len(rubyDashes)
			if colon := bytes.IndexByte(rest[n:], ':'); colon >= 0 {
				i += n + colon + 1
			}
		}
	case len(b) > 20 && b[0] == '[' && b[5] == '-':
		if n := isoReach(b[1:]); n > 0 && b[1+n] == ']' {
			p.offer(&stamp, kindString, b[1:1+n])
			i = n + 2
		}
	case len(b) > 19 && b[4] == '-':
		if n := isoReach(b); n > 0 {
			p.offer(&stamp, kindString, b[:n])
			i = n
		}
	}
	for {
		for i < len(b) && b[i] == ' ' {
			i++
		}
		if i >= len(b) || b[i] != '[' {
			return i
		}
		end := bytes.IndexByte(b[i:], ']')
		if end < 0 {
			return i
		}
		if tag := b[i+1 : i+end]; identifier(tag) {
			h := hit{field: fieldRequestID, rank: headRank}
			p.offer(&h, kindString, tag)
		}
		i += end + 1
	}
}

var rubyDashes = []byte(" -- ")

// isoReach is the length of the ISO 8601 time at the start of b, 0 if there is
// none. A zone after a space is not taken.
func isoReach(b []byte) int {
	if len(b) < 19 || b[4] != '-' || b[7] != '-' || b[10] != 'T' && b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return 0
	}
	i := 19
	if i+1 < len(b) && (b[i] == '.' || b[i] == ',') {
		for i++; i < len(b) && b[i]-'0' <= 9; i++ {
		}
	}
	if i < len(b) && b[i] == 'Z' {
		return i + 1
	}
	if i < len(b) {
		_, n := offset(b[i:])
		i += n
	}
	return i
}

// identifier tells whether a tag can be a request's id: Rails' are UUIDs.
func identifier(v []byte) bool {
	if len(v) < 16 || len(v) > 64 {
		return false
	}
	for _, c := range v {
		if _, ok := hex(c); !ok && c != '-' {
			return false
		}
	}
	return true
}
