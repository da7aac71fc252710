package errorlog

import (
	"bytes"

	"github.com/denywatch/denywatch/internal/event"
)

const modSecurity = "ModSecurity: "

// modSecurity reads a message that begins with "ModSecurity: ". Both versions
// write what was done first and then what they know, as [name "value"] tags;
// some builds of version 2 write tags first.
func (l *Line) modSecurity(msg []byte) {
	b := msg[len(modSecurity):]
	for {
		b = bytes.TrimLeft(b, " ")
		if len(b) == 0 || b[0] != '[' {
			break
		}
		q := bytes.IndexByte(b, '"')
		if q < 0 {
			return
		}
		_, b = value(b[q+1:])
		if len(b) == 0 || b[0] != ']' {
			return
		}
		b = b[1:]
	}
	status := uint16(403)
	var ok bool
	if b, ok = bytes.CutPrefix(b, []byte("Access denied with ")); !ok {
		return // a warning, or a redirection told in other words
	}
	if code, ok := bytes.CutPrefix(b, []byte("code ")); ok {
		if len(code) < 3 || !digit(code[0]) || two(code[1:]) < 0 {
			return
		}
		status = uint16(code[0]-'0')*100 + uint16(two(code[1:]))
	} else if !bytes.HasPrefix(b, []byte("connection close")) {
		return // "redirection to"
	}
	l.Status = status
	if status < 400 || status == 401 || status == 405 {
		return
	}
	l.Cause, l.Layer, l.Denies = CauseWAF, event.LayerWeb, true
	// Version 3 quotes what the client sent before its tags.
	if i := bytes.Index(msg, []byte("' ) [")); i >= 0 {
		msg = msg[i:]
	}
	if id := tag(msg, `[id "`); number(id) {
		l.Rule = id
	}
}

// tag returns the value of the first tag that begins with name, which is
// `[name "`. Version 2 escapes the quotes of what the client wrote, so none of
// that can look like a tag.
func tag(msg []byte, name string) []byte {
	_, at := find(msg, 0, name)
	if at < 0 {
		return nil
	}
	v, _ := value(msg[at:])
	return v
}

// value reads to the next quote that is not escaped; rest is what follows it.
func value(b []byte) (v, rest []byte) {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// number says whether b is a rule's id: digits, no more than an int64 has.
func number(b []byte) bool {
	for _, c := range b {
		if !digit(c) {
			return false
		}
	}
	return len(b) > 0 && len(b) < 20
}
