package marker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxProblems bounds how many mistakes of a body are named.
const maxProblems = 8

// Decode reads one marker from JSON. It is stricter than encoding/json,
// because a misspelled field would widen a marker to everything: unknown, doubled
// and differently written names are refused. The error names every problem. The
// marker is not normalised yet.
func Decode(body []byte) (Marker, error) {
	var m Marker
	if !utf8.Valid(body) {
		return m, errors.New("the body is not UTF-8")
	}
	switch text := bytes.TrimSpace(body); {
	case len(text) == 0:
		return m, errors.New("the body is empty")
	case text[0] == '[':
		return m, errors.New("the body is a list; send one marker in a request")
	case text[0] != '{':
		return m, errors.New("the body is not a JSON object")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			return m, fmt.Errorf("the body is not one JSON object; byte %d: %w", e.Offset, err)
		}
		return m, fmt.Errorf("the body is not one JSON object: %w", err)
	}
	p := &problems{}
	p.object("", whole, []field{
		{"id", str(&m.ID)},
		{"kind", str(&m.Kind)},
		{"time", instantOf(&m.Time)},
		{"service", str(&m.Service)},
		{"version", str(&m.Version)},
		{"previous", str(&m.Previous)},
		{"scope", func(p *problems, path string, raw json.RawMessage) {
			p.object(path, raw, []field{
				{"service", list(&m.Scope.Service)},
				{"prefix", list(&m.Scope.Prefix)},
				{"route", list(&m.Scope.Route)},
				{"role", list(&m.Scope.Role)},
				{"geo", list(&m.Scope.Geo)},
			})
		}},
		{"expect", str(&m.Expect)},
	})
	return m, p.err()
}

// field is a known member of an object and what takes its value.
type field struct {
	name string
	take func(p *problems, path string, raw json.RawMessage)
}

// str takes a string.
func str[T ~string](to *T) func(*problems, string, json.RawMessage) {
	return func(p *problems, path string, raw json.RawMessage) {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			p.add("%s: must be a string", path)
		}
		*to = T(s)
	}
}

// list takes a string or a list of strings.
func list(to *List) func(*problems, string, json.RawMessage) {
	return func(p *problems, path string, raw json.RawMessage) {
		if json.Unmarshal(raw, to) != nil {
			p.add("%s: must be a string or a list of strings", path)
		}
	}
}

// instantOf takes a time.
func instantOf(to *time.Time) func(*problems, string, json.RawMessage) {
	return func(p *problems, path string, raw json.RawMessage) {
		if json.Unmarshal(raw, to) != nil {
			p.add("%s: must be a time as in RFC 3339, such as \"2026-11-18T10:04:00Z\"", path)
		}
	}
}

// problems collects what is wrong with a body.
type problems struct {
	list []string
	more int
}

func (p *problems) add(format string, args ...any) {
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	switch {
	case len(p.list) == 0:
		return nil
	case p.more > 0:
		return fmt.Errorf("%s; and %d more", strings.Join(p.list, "; "), p.more)
	}
	return errors.New(strings.Join(p.list, "; "))
}

// object reads an object of the known fields from valid JSON. A null is an
// absent value.
func (p *problems) object(path string, raw json.RawMessage, known []field) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	switch t, err := dec.Token(); {
	case err != nil:
		p.add("%s: %v", path, err)
		return
	case t == nil:
		return
	case t != json.Delim('{'):
		p.add("%s: must be an object", path)
		return
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		key, _ := t.(string) // nothing else is a key
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}
		name := strings.TrimPrefix(path+"."+key, ".")
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key })
		switch {
		case err != nil:
			p.add("%s: %v", path, err)
			return
		case i < 0:
			p.add("%q: unknown field; use one of %s", clip(name), fieldNames(known))
		case seen[key]:
			p.add("%s: is given twice", name)
		default:
			seen[key] = true
			known[i].take(p, name, value)
		}
	}
}

func fieldNames(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}
