package parsers

import "bytes"

// members walks the members of a JSON object, or the elements of an array, for
// those who need a few known values of a small object and no names table.
type members struct {
	b []byte
	i int // of the next member; 0 before the first
	// key is empty in an array; raw has neither quotes nor resolved escapes.
	key, raw []byte
	kind     kind
}

// next moves to the next member. It returns false at the end and where the text
// is broken; done tells one from the other.
func (m *members) next() bool {
	object := len(m.b) > 0 && m.b[0] == '{'
	if m.i == 0 {
		if m.i = space(m.b, 1); m.i >= len(m.b) || m.b[m.i] == '}' || m.b[m.i] == ']' {
			return false
		}
	} else {
		m.i = space(m.b, m.i)
		if m.i >= len(m.b) || m.b[m.i] != ',' {
			return false
		}
		m.i = space(m.b, m.i+1)
	}
	if object {
		if m.i >= len(m.b) || m.b[m.i] != '"' {
			return false
		}
		end := stringEnd(m.b, m.i+1)
		if end < 0 {
			return false
		}
		m.key = m.b[m.i+1 : end]
		if m.i = space(m.b, end+1); m.i >= len(m.b) || m.b[m.i] != ':' {
			return false
		}
		m.i = space(m.b, m.i+1)
	}
	return m.value()
}

func (m *members) value() bool {
	if m.i >= len(m.b) {
		return false
	}
	from, ok := m.i, true
	switch m.b[m.i] {
	case '"':
		end := stringEnd(m.b, m.i+1)
		if end < 0 {
			return false
		}
		m.raw, m.kind, m.i = m.b[from+1:end], kindString, end+1
	case '{', '[':
		if m.kind = kindArray; m.b[m.i] == '{' {
			m.kind = kindObject
		}
		if m.i, ok = skipNested(m.b, m.i); ok {
			m.raw = m.b[from:m.i]
		}
	default:
		for m.i < len(m.b) && m.b[m.i] != ',' && m.b[m.i] != '}' && m.b[m.i] != ']' && m.b[m.i] > ' ' {
			m.i++
		}
		m.raw, m.kind = m.b[from:m.i], kindNumber
		ok = m.i > from
	}
	return ok
}

// done tells whether the walk ended at the end of the object or array, with
// nothing behind it.
func (m *members) done() bool {
	i := space(m.b, m.i)
	return i < len(m.b) && (m.b[i] == '}' || m.b[i] == ']') && space(m.b, i+1) == len(m.b)
}

// attributes offers the attributes of OpenTelemetry's JSON
// (https://opentelemetry.io/docs/specs/otlp/, "JSON Protobuf Encoding"):
// [{"key":"http.route","value":{"stringValue":"/a"}}, ...]. b is a whole array;
// what is not of that form is passed over.
func (p *jsonParser) attributes(b []byte, n *node, depth int) {
	if depth >= maxDepth {
		return
	}
	list := members{b: b}
	for i := 0; list.next(); i++ {
		if list.kind != kindObject {
			return
		}
		if n.record {
			// {"resourceLogs":[{"scopeLogs":[{"logRecords":[{...}]}]}]}, as the
			// collector's file exporter writes it.
			p.several = p.several || i > 0
			p.object(list.raw, 0, n, depth+1)
			continue
		}
		var key []byte
		value := members{}
		attr := members{b: list.raw}
		for attr.next() {
			switch {
			case attr.kind == kindString && string(attr.key) == "key":
				key = attr.raw
			case attr.kind == kindObject && string(attr.key) == "value":
				value.b = attr.raw
			}
		}
		if len(key) == 0 || !value.next() {
			continue
		}
		h := *p.keys.find(n, key) // deeper keys may take its slot
		switch string(value.key) {
		case "stringValue", "intValue", "doubleValue":
			if h.field != fieldNone {
				p.offer(&h, value.kind, value.raw)
			}
		case "arrayValue":
			if h.field == fieldRole || h.field == fieldFlags {
				p.offer(&h, kindAttributes, value.raw)
			}
		case "kvlistValue":
			values := members{b: value.raw}
			if h.node != nil && values.next() && values.kind == kindArray {
				p.attributes(values.raw, h.node, depth+1)
			}
		}
	}
}

// attributeList appends the words of an arrayValue:
// {"values":[{"stringValue":"viewer"}]}.
func (p *jsonParser) attributeList(to [][]byte, b []byte) [][]byte {
	values := members{b: b}
	if !values.next() || values.kind != kindArray {
		return to
	}
	list := members{b: values.raw}
	for list.next() {
		value := members{b: list.raw}
		if list.kind == kindObject && value.next() && (value.kind == kindString || value.kind == kindNumber) && bytes.HasSuffix(value.key, valueSuffix) {
			to = appendWord(to, p.text(value.raw))
		}
	}
	return to
}

var valueSuffix = []byte("Value")
