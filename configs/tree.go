package configs

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v4"
)

// tree turns the text of the file into YAML nodes. It returns nil, with a
// problem reported, if there is nothing to decode.
func (d *decoder) tree(data []byte) *yaml.Node {
	if !d.readable(data) {
		return nil
	}
	braces := hideReferences(&data)
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil { // only options can be wrong, and there are none
		d.problem("", "%v", err)
		return nil
	}
	var doc yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		d.problem("", "the file is empty; it needs at least a source: \"sources: [{files: /var/log/nginx/access.log}]\"")
		return nil
	case err != nil:
		d.syntax(err, data, braces)
		return nil
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		d.problem("", "the file is empty; it needs at least a source: \"sources: [{files: /var/log/nginx/access.log}]\"")
		return nil
	}
	var second yaml.Node
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.syntax(err, data, braces)
	default:
		d.problemAt(mark{second.Line, second.Column}, "", "a second document starts here; one file holds one configuration")
	}
	restore(&doc, braces)
	return doc.Content[0]
}

// readable refuses what is no text, before the YAML library does it in words
// that nobody understands and without a place.
func (d *decoder) readable(data []byte) bool {
	at := func(i int) mark {
		line := bytes.Count(data[:i], []byte("\n")) + 1
		start := bytes.LastIndexByte(data[:i], '\n') + 1
		return mark{line, utf8.RuneCount(data[start:i]) + 1}
	}
	switch {
	case len(data) > maxFile:
		d.problem("", "the file is larger than 1 MiB; is it a configuration?")
		return false
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		d.problem("", "the file is UTF-16; save it as UTF-8")
		return false
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		if i < 2 {
			d.problem("", "the file is UTF-16 or no text at all; save it as UTF-8")
		} else {
			d.problemAt(at(i), "", "a NUL byte; the file is damaged or no text")
		}
		return false
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			d.problemAt(at(i), "", "not UTF-8; save the file as UTF-8")
			return false
		}
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff {
			d.problemAt(at(i), "", "an invisible control character (%U); delete it", r)
			return false
		}
		i += n
	}
	return true
}

// reference finds ${...}. Inside flow groups YAML would take the braces for its
// own.
var reference = regexp.MustCompile(`\$\{[^{}\r\n]*\}`)

// hideReferences replaces the braces of references by two characters of the
// private use area that do not occur in data, so that {token: ${TOKEN}} needs no
// quotes and every column stays as it is. It returns the two; restore puts the
// braces back.
func hideReferences(data *[]byte) (pair [2]string) {
	if !reference.Match(*data) {
		return pair
	}
	n := 0
	for r := rune(0xe000); r <= 0xf8ff && n < 2; r++ {
		if s := string(r); !bytes.Contains(*data, []byte(s)) {
			pair[n] = s
			n++
		}
	}
	if n < 2 { // 6399 different private characters: the file may use quotes
		return [2]string{}
	}
	*data = reference.ReplaceAllFunc(*data, func(m []byte) []byte {
		return []byte("$" + pair[0] + string(m[2:len(m)-1]) + pair[1])
	})
	return pair
}

// unhide puts the braces back into one text.
func unhide(s string, pair [2]string) string {
	if pair[0] == "" {
		return s
	}
	return strings.NewReplacer(pair[0], "{", pair[1], "}").Replace(s)
}

func restore(n *yaml.Node, pair [2]string) {
	if pair[0] == "" {
		return
	}
	n.Value = unhide(n.Value, pair)
	n.Tag = unhide(n.Tag, pair)
	for _, x := range n.Content {
		restore(x, pair)
	}
}

// words are the library's complaints in plain words.
var words = []struct{ complaint, plain string }{
	{"found character that cannot start any token", "this character cannot start a value; put the value in quotes"},
	{"did not find expected ',' or '}'", "expected a comma or } here; is a } missing, or a text with special characters not in quotes?"},
	{"did not find expected ',' or ']'", "expected a comma or ] here; is a ] missing, or a text with special characters not in quotes?"},
	{"mapping values are not allowed in this context", "a second colon in one line; put the value in quotes, or start a new line"},
	{"did not find expected key", "expected a setting's name here; does this line start in the same column as those around it?"},
	{"did not find expected '-' indicator", "expected \"- \" here; does this line start in the same column as those around it?"},
	{"could not find expected ':'", "expected a colon and a value (name: value)"},
	{"found unexpected end of stream", "the file ends inside a quoted text; is a closing quote missing?"},
	{"found unknown escape character", "unknown escape in a \"double-quoted\" text; use 'single quotes', where a backslash is a backslash"},
}

// syntax reports the library's error in plain words. It stops at the first.
func (d *decoder) syntax(err error, data []byte, pair [2]string) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		d.problem("", "cannot be read as YAML: %v", unhide(err.Error(), pair))
		return
	}
	at := mark{max(e.Mark.Line, 1), max(e.Mark.Column, 1)}
	message := unhide(e.Message, pair)
	for _, w := range words {
		if message == w.complaint {
			message = w.plain
		}
	}
	if strings.HasPrefix(message, "unknown anchor '") {
		message = "the alias (*) names no anchor (&); if it is a text such as a glob or a password, put it in quotes"
	}
	if e.ContextMsg == "while scanning a quoted scalar" && e.ContextMark.Line > 0 {
		at = mark{e.ContextMark.Line, e.ContextMark.Column}
	}
	lines := bytes.Split(data, []byte("\n"))
	if at.line <= len(lines) {
		line := lines[at.line-1]
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if i := bytes.IndexByte(indent, '\t'); i >= 0 {
			at.column = i + 1
			message = "a tab indents this line; YAML wants spaces"
		}
	}
	d.problemAt(at, "", "%s", message)
}

// root decodes the top group; it returns false if there is none.
func (d *decoder) root(n *yaml.Node, c *Config) bool {
	if n.Kind != yaml.MappingNode {
		d.problemAt(mark{n.Line, n.Column}, "", "must be a group of settings (name: value) such as \"sources:\", not %s", d.instead(n))
		return false
	}
	d.value(n, reflect.ValueOf(c).Elem(), "", field{})
	return true
}
