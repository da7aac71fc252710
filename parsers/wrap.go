package parsers

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
)

// A wrapper is what carries the lines of a log: a container runtime or a system
// logger that puts a head in front of each line or makes it a value of JSON, and
// may break it into pieces. A wrapped parser takes the line out and gives it to
// the parser of its format.

// The wrappers, as Config.Wrapper names them.
const (
	// wrapperAuto is recognised by Resolve.
	wrapperAuto = "auto"
	wrapperNone = "none"
	// wrapperCRI is the format of Kubernetes' container logs
	// (https://github.com/kubernetes/design-proposals-archive, "CRI: Log
	// Management"): "TIME stdout F line"; pieces have P for F.
	wrapperCRI = "cri"
	// wrapperDocker is that of Docker's json-file driver:
	// {"log":"line\n","stream":"stdout","time":"..."}; a piece has no "\n".
	wrapperDocker = "docker"
	// wrapperSyslog is RFC 3164 and RFC 5424, with and without a priority and the
	// octet count of RFC 6587 in front, and what rsyslog writes to files.
	wrapperSyslog = "syslog"
	// wrapperJournald is what journalctl -o json writes.
	wrapperJournald = "journald"
	// wrapperShipper is what log shippers (Filebeat, Logstash, Fluentd, Fluent Bit,
	// Vector, CloudWatch, Cloud Logging) write to Kafka and files: an object with
	// the line as "message", "log" or "textPayload".
	wrapperShipper = "shipper"
)

var wrappers = []string{wrapperAuto, wrapperNone, wrapperCRI, wrapperDocker, wrapperSyslog, wrapperJournald, wrapperShipper}

// wrapperTexts are the wrappers that carry something, for people, in the order
// in which they are tried.
var wrapperTexts = []struct{ wrapper, text string }{
	{wrapperCRI, "Kubernetes' container log (CRI)"},
	{wrapperDocker, "Docker's json-file"},
	{wrapperJournald, "journald's JSON"},
	{wrapperSyslog, "syslog"},
	{wrapperShipper, "a log shipper's JSON"},
}

func wrapperText(wrapper string) string {
	for _, w := range wrapperTexts {
		if w.wrapper == wrapper {
			return w.text
		}
	}
	return wrapper
}

// wrapper is the wrapper of c: recognised together with the format, unless set.
func (c Config) wrapper() string {
	switch {
	case c.Wrapper != "":
		return c.Wrapper
	case c.normal().Format == familyAuto:
		return wrapperAuto
	}
	return wrapperNone
}

// maxJoined bounds a line that is put together from pieces.
const maxJoined = 1 << 20

// keptJoin is how much memory for it is kept when it is done.
const keptJoin = 1 << 18

// The streams of a container, which are written side by side.
const (
	streamOut = iota
	streamErr
	streamCount
	streamNone = -1
)

// wrapped is the parser of a format inside a wrapper.
type wrapped struct {
	wrapper string
	inner   Parser
	clock   clock
	scratch []byte
	joins   [streamCount]join
	// main is the stream that the last event came from. What comes from the other
	// one and is no event is no mistake: servers write their access log to
	// stdout and their error log to stderr.
	main int

	// Of the last line:
	message []byte
	stream  int
	stamp   []byte // when it was written, with a zone; nil if the wrapper does not tell
}

// join is the line of one stream that is being put together.
type join struct {
	buf    []byte
	open   bool // buf waits for more pieces
	tooBig bool
}

func newWrapped(wrapper string, inner Parser) *wrapped {
	return &wrapped{wrapper: wrapper, inner: inner, clock: clock{loc: time.UTC}, main: streamNone}
}

// Parse implements Parser. A piece of a line is ErrSkip until its last piece. An
// event whose own line has no time gets the wrapper's, unless that lacks year and
// zone (RFC 3164).
func (w *wrapped) Parse(line []byte, e *event.Event) error {
	if err := w.unwrap(line); err != nil {
		return err
	}
	err := w.inner.Parse(w.message, e)
	switch {
	case err == nil && !e.CauseOnly:
		w.main = w.stream
	case err == nil:
	case !errors.Is(err, ErrSkip) && w.stream != w.main && w.main != streamNone:
		return ErrOtherStream
	}
	if err == nil && e.Time == event.NoTime && w.stamp != nil {
		if t, ok := w.clock.any(w.stamp); ok {
			e.Time = t
		}
	}
	return err
}

// unwrap takes the message out of line.
func (w *wrapped) unwrap(line []byte) error {
	w.message, w.stream, w.stamp, w.scratch = nil, streamNone, nil, w.scratch[:0]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	switch w.wrapper {
	case wrapperCRI:
		return w.cri(line)
	case wrapperDocker:
		return w.docker(line)
	case wrapperJournald:
		return w.journald(line)
	case wrapperShipper:
		return w.shipper(line)
	}
	return w.syslog(line)
}

func (w *wrapped) cri(line []byte) error {
	stamp, b := word(line)
	stream, b := word(b)
	tags, message := word(b)
	if len(stamp) == 0 || isoReach(stamp) != len(stamp) {
		return ErrWrapper
	}
	switch string(stream) {
	case "stdout":
		w.stream = streamOut
	case "stderr":
		w.stream = streamErr
	default:
		return ErrWrapper
	}
	tag := tags
	if i := bytes.IndexByte(tags, ':'); i >= 0 {
		tag = tags[:i] // more tags may follow one day
	}
	whole := string(tag) == "F"
	if !whole && string(tag) != "P" {
		return ErrWrapper
	}
	w.stamp = stamp
	return w.piece(message, whole)
}

func (w *wrapped) docker(line []byte) error {
	m := members{b: line}
	if len(line) == 0 || line[0] != '{' {
		return ErrWrapper
	}
	var log []byte
	logged := false
	for m.next() {
		switch {
		case m.kind != kindString:
		case string(m.key) == "log":
			log, logged = m.raw, true
		case string(m.key) == "time":
			w.stamp = m.raw
		case string(m.key) == "stream" && string(m.raw) == "stdout":
			w.stream = streamOut
		case string(m.key) == "stream" && string(m.raw) == "stderr":
			w.stream = streamErr
		}
	}
	if !m.done() {
		return ErrSyntax
	}
	if !logged || w.stream == streamNone {
		return ErrWrapper
	}
	if n := len(log); n >= 2 && bytes.IndexByte(log, '\\') == n-2 && log[n-1] == 'n' {
		return w.piece(log[:n-2], true) // nothing else is escaped
	}
	w.scratch = Unescape(w.scratch, log)
	text := w.scratch
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return w.piece(bytes.TrimSuffix(text[:n-1], []byte{'\r'}), true)
	}
	return w.piece(text, false)
}

// shipper takes the line out of the object that a log shipper made of it.
func (w *wrapped) shipper(line []byte) error {
	if len(line) == 0 || line[0] != '{' {
		return ErrWrapper
	}
	m := members{b: line}
	var text []byte
	found := false
	for m.next() {
		if m.kind != kindString && m.kind != kindNumber {
			continue
		}
		switch string(m.key) {
		case "message", "log", "textPayload":
			if m.kind == kindString && (!found || len(m.raw) > len(text)) { // Fluent Bit may keep both
				text, found = m.raw, true
			}
		case "@timestamp", "timestamp", "time":
			w.stamp = m.raw
		case "stream":
			switch string(m.raw) {
			case "stdout":
				w.stream = streamOut
			case "stderr":
				w.stream = streamErr
			}
		}
	}
	if !m.done() {
		return ErrSyntax
	}
	if !found {
		return ErrWrapper
	}
	if bytes.IndexByte(text, '\\') >= 0 {
		w.scratch = Unescape(w.scratch, text)
		text = w.scratch
	}
	text = bytes.TrimRight(text, "\r\n")
	if bsdStamp(text) > 0 || hasPrefix(text, "<") { // it may have been shipped from syslog
		if stamp := w.stamp; w.syslog(text) == nil {
			w.stamp = stamp
			return nil
		}
	}
	w.message = text
	return nil
}

// piece adds a piece to the line of the stream and makes it the message if it is
// the last.
func (w *wrapped) piece(b []byte, last bool) error {
	j := &w.joins[w.stream]
	if !j.open {
		if last {
			w.message = b
			return nil
		}
		if cap(j.buf) > keptJoin {
			j.buf = nil
		}
		*j = join{buf: j.buf[:0], open: true}
	}
	if j.tooBig = j.tooBig || len(j.buf)+len(b) > maxJoined; !j.tooBig {
		j.buf = append(j.buf, b...)
	}
	if !last {
		return ErrPiece
	}
	if j.open = false; j.tooBig {
		return ErrTooLong
	}
	w.message = j.buf
	return nil
}

func (w *wrapped) journald(line []byte) error {
	if len(line) == 0 || line[0] != '{' {
		return ErrWrapper
	}
	m := members{b: line}
	var message []byte
	var k kind
	found, stamped := false, false
	for m.next() {
		switch string(m.key) {
		case "MESSAGE":
			message, k, found = m.raw, m.kind, true
		case "__REALTIME_TIMESTAMP": // microseconds
			w.stamp, stamped = m.raw, true
		}
	}
	if !m.done() {
		return ErrSyntax
	}
	if !stamped {
		return ErrWrapper
	}
	if found && k == kindArray {
		// Bytes, when they are not UTF-8; or several messages.
		first := members{b: message}
		if !first.next() {
			return ErrMessage
		}
		if first.kind != kindNumber {
			message, k = first.raw, first.kind
		}
	}
	switch {
	case found && k == kindString:
		if bytes.IndexByte(message, '\\') < 0 {
			w.message = message
			return nil
		}
		w.scratch = Unescape(w.scratch, message)
	case found && k == kindArray:
		bs := members{b: message}
		for bs.next() {
			n, end := number(bs.raw, 0)
			if bs.kind != kindNumber || end != len(bs.raw) || n > 255 {
				return ErrMessage
			}
			w.scratch = append(w.scratch, byte(n))
		}
	default: // null: longer than journalctl shows without --all
		return ErrMessage
	}
	w.message = w.scratch
	return nil
}

func (w *wrapped) syslog(line []byte) error {
	b := line
	if n, end := number(b, 0); end > 0 && end+1 < len(b) && b[end] == ' ' && b[end+1] == '<' {
		// RFC 6587, octet counting.
		if b = b[end+1:]; len(bytes.TrimRight(b, " \n")) > n {
			return ErrFrames
		}
	}
	priority := false
	if len(b) > 2 && b[0] == '<' {
		_, end := number(b, 1)
		if end < 2 || end > 4 || end >= len(b) || b[end] != '>' {
			return ErrWrapper
		}
		b, priority = b[end+1:], true
		if hasPrefix(b, "1 ") {
			return w.rfc5424(b[2:])
		}
	}
	tagged := priority
	switch n := bsdStamp(b); {
	case n > 0:
		b, tagged = b[n:], true
	default:
		if n = isoReach(b); n > 0 && n < len(b) && b[10] == 'T' && b[n] == ' ' {
			// rsyslog's own file format.
			w.stamp, b = b[:n], b[n+1:]
			break
		}
		if !priority {
			return ErrWrapper
		}
	}
	// HOST TAG[PID]: MESSAGE; the host may be missing.
	if host, rest := word(b); !bytes.HasSuffix(host, colonByte) {
		b = rest
	}
	if n := tagLen(b); n > 0 {
		b, tagged = b[n:], true
	}
	if !tagged {
		return ErrWrapper
	}
	w.message = syslogMessage(b)
	return nil
}

// rfc5424 reads what follows the version:
// TIME HOST APP PROCID MSGID STRUCTURED-DATA MESSAGE.
func (w *wrapped) rfc5424(b []byte) error {
	stamp, b := word(b)
	if string(stamp) != "-" {
		if isoReach(stamp) != len(stamp) || len(stamp) == 0 {
			return ErrWrapper
		}
		w.stamp = stamp
	}
	var id []byte
	for range 4 {
		id, b = word(b)
	}
	switch {
	case len(b) == 0:
		return ErrWrapper
	case b[0] == '-':
		b = b[1:]
	case b[0] == '[':
		for len(b) > 0 && b[0] == '[' {
			end := elementEnd(b)
			if end < 0 {
				return ErrWrapper
			}
			b = b[end:]
		}
	case string(id) == "-": // Heroku leaves structured data out
	default:
		return ErrWrapper
	}
	w.message = syslogMessage(b)
	return nil
}

// elementEnd is the index behind the element of structured data at the start of
// b, or -1. Values are quoted; in them '"', '\' and ']' are escaped.
func elementEnd(b []byte) int {
	quoted := false
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ']' && !quoted:
			return i + 1
		}
	}
	return -1
}

// bsdStamp is the length of RFC 3164's "Mmm dd hh:mm:ss " at the start of b, 0 if
// there is none.
func bsdStamp(b []byte) int {
	if len(b) < 15 || month(b, 0) == 0 || b[3] != ' ' {
		return 0
	}
	i := 4
	if b[i] == ' ' {
		i++
	}
	_, i = number(b, i)
	if len(b) < i+9 || b[i] != ' ' || b[i+3] != ':' || b[i+6] != ':' ||
		two(b, i+1) < 0 || two(b, i+4) < 0 || two(b, i+7) < 0 {
		return 0
	}
	if i += 9; i < len(b) && b[i] == '.' { // rsyslog can write fractions
		_, i = number(b, i+1)
	}
	if i >= len(b) || b[i] != ' ' {
		return 0
	}
	return i + 1
}

// maxTag bounds a tag; RFC 3164 has 32.
const maxTag = 64

// tagLen is the length of the tag "nginx[17]:" at the start of b, 0 if there is
// none.
func tagLen(b []byte) int {
	for i := 0; i < len(b) && i < maxTag; i++ {
		switch c := b[i]; {
		case c == ':':
			if i > 0 && (i+1 == len(b) || b[i+1] == ' ') {
				return i + 1
			}
			return 0
		case c == '[' && i > 0:
			end := bytes.IndexByte(b[i:], ']')
			if end < 0 || end > maxTag {
				return 0
			}
			if i += end; i+1 < len(b) && b[i+1] != ':' {
				return 0
			}
		case c|0x20 >= 'a' && c|0x20 <= 'z', c-'0' <= 9, c == '_', c == '-', c == '.', c == '/', c == '@', c == '(', c == ')':
		default:
			return 0
		}
	}
	return 0
}

// syslogMessage is a message without what may stand in front of it: spaces, the
// byte order mark of RFC 5424, and the mark of structured messages.
func syslogMessage(b []byte) []byte {
	b = bytes.TrimLeft(b, " ")
	b = bytes.TrimPrefix(b, byteOrderMark)
	if hasPrefix(b, "@cee:") {
		b = bytes.TrimLeft(b[len("@cee:"):], " ")
	}
	return b
}

var byteOrderMark = []byte("\ufeff")

// peel takes the messages out of lines, those of each stream apart where there
// are streams; n is how many of the lines are wrapped so.
func peel(wrapper string, lines [][]byte) (all [][]byte, streams [streamCount][][]byte, n int) {
	w := newWrapped(wrapper, nil)
	for _, l := range lines {
		err := w.unwrap(l)
		if err == nil || errors.Is(err, ErrPiece) || errors.Is(err, ErrTooLong) || errors.Is(err, ErrMessage) {
			n++
		}
		if err != nil || len(bytes.TrimSpace(w.message)) == 0 {
			continue
		}
		m := bytes.Clone(w.message)
		all = append(all, m)
		if w.stream != streamNone {
			streams[w.stream] = append(streams[w.stream], m)
		}
	}
	return all, streams, n
}

// recogniseWrapper finds the wrapper that most of lines have.
func recogniseWrapper(lines [][]byte) string {
	for _, w := range wrapperTexts {
		if _, _, n := peel(w.wrapper, lines); 2*n > len(lines) {
			return w.wrapper
		}
	}
	return wrapperNone
}

// checkWrapper returns what is wrong with the name of a wrapper.
func checkWrapper(name string) error {
	for _, w := range wrappers {
		if name == w || name == "" {
			return nil
		}
	}
	return fmt.Errorf("%q is unknown%s; known are %s", clip(name), didYouMean(name, wrappers), strings.Join(wrappers, ", "))
}
