package configs

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	yaml "go.yaml.in/yaml/v4"

	"github.com/denywatch/denywatch/internal/secret"
)

// The library's own decoding knows neither paths nor our words: it names Go
// types and gives no hint. So it only builds the node tree, and the decoder
// below walks that tree along the schema (the yaml tags of Config) and reports
// everything it does not understand.
//
// Options in a tag, after the name:
//
//	one     a list that may be written as its single element
//	switch  a bool that may also be written as an empty group, "console: {}"
//	named   a list of groups that is written as a group of groups by their names;
//	        the struct has a field Name for it. In paths a name stands in brackets.
//	inline  the settings of the struct belong to the group around it
//
// The tag "raw" of an inlined struct names those of its settings in whose text
// ${...} is not replaced. That way a package's own Config is a part of the
// schema as it stands.
//
// The tag "effect" says what a change of the setting asks of a reload (Diff).
type decoder struct {
	file string // as named in messages
	dir  string // where relative paths start
	env  func(string) (string, bool)

	problems []Problem
	dropped  int // problems beyond maxKept
	warnings []Problem
	notes    []Problem
	// at holds where each path that occurs in the file has its value; single
	// the lists that were written as one element, whose paths carry a "[0]" that
	// the file does not show.
	at     map[string]mark
	single map[string]bool
	// bad holds the paths that could not be decoded: what follows from that is
	// not reported again. It is complete once decoded is set.
	bad     map[string]bool
	decoded bool
	// hidden are the values that no message may show; hiddenAt lists them by the
	// path they are used at and by each group around it. plainSecrets are the
	// paths of secrets that are written in the file itself.
	hidden       map[string]bool
	hiddenAt     map[string][]string
	plainSecrets []string
	schema       []string // Schema(), once it is needed
	// Aliases can make a small file unfold into a huge one, or into itself.
	unfolding map[*yaml.Node]bool
	unfolded  int
}

type mark struct{ line, column int }

func newDecoder(file string, env func(string) (string, bool)) *decoder {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	dir := filepath.Dir(file)
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return &decoder{
		file: file, dir: dir, env: env,
		at: map[string]mark{}, single: map[string]bool{}, bad: map[string]bool{},
		hidden: map[string]bool{}, hiddenAt: map[string][]string{}, unfolding: map[*yaml.Node]bool{},
	}
}

// maxUnfolded bounds the nodes that are reached through aliases, maxKept the
// problems that are kept to be sorted.
const (
	maxUnfolded = 20_000
	maxKept     = 10_000
)

// resolve makes a path of the file absolute: relative ones start in the folder
// of the configuration, wherever the process was started.
func (d *decoder) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, name)
}

func (d *decoder) hide(path, text string) {
	if text == "" {
		return
	}
	d.hidden[text] = true
	for p := path; p != ""; p = parent(p) {
		d.hiddenAt[p] = append(d.hiddenAt[p], text)
	}
}

func (d *decoder) isHidden(path string) bool { return len(d.hiddenAt[path]) > 0 }

// find returns the place of path, or of the nearest thing around it.
func (d *decoder) find(path string) mark {
	for {
		if m, found := d.at[path]; found {
			return m
		}
		if path == "" {
			return mark{1, 1}
		}
		path = parent(path)
	}
}

func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// display is path as the file writes it.
func (d *decoder) display(path string) string {
	for i := 0; ; i += len("[0]") {
		j := strings.Index(path[i:], "[0]")
		if j < 0 {
			return path
		}
		if i += j; d.single[path[:i]] {
			return path[:i] + path[i+len("[0]"):]
		}
	}
}

func (d *decoder) problem(path, format string, args ...any) {
	d.problemAt(d.find(path), path, format, args...)
}

func (d *decoder) problemAt(m mark, path, format string, args ...any) {
	if !d.decoded {
		d.bad[path] = true
	}
	if len(d.problems) == maxKept {
		d.dropped++
		return
	}
	d.problems = append(d.problems, d.said(m, path, format, args...))
}

func (d *decoder) warn(path, format string, args ...any) {
	if len(d.warnings) < maxKept {
		d.warnings = append(d.warnings, d.said(d.find(path), path, format, args...))
	}
}

// result is all problems in the order of the file, nil if there are none.
func (d *decoder) result() *Problems {
	if len(d.problems) == 0 {
		return nil
	}
	list, more := sortByPlace(d.problems)
	d.redact(list)
	return &Problems{File: d.file, List: list, More: more + d.dropped}
}

// note is a warning of what may well be meant.
func (d *decoder) note(path, format string, args ...any) {
	if len(d.notes) < maxKept {
		d.notes = append(d.notes, d.said(d.find(path), path, format, args...))
	}
}

// sorted returns warnings in the order of the file.
func (d *decoder) sorted(list []Problem) []Warning {
	list, _ = sortByPlace(list)
	d.redact(list)
	var out []Warning
	for _, w := range list {
		out = append(out, Warning(w))
	}
	return out
}

// said makes a problem whose message fits into one line of a terminal.
func (d *decoder) said(m mark, path, format string, args ...any) Problem {
	message := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, fmt.Sprintf(format, args...))
	return Problem{File: d.file, Line: m.line, Column: m.column, Path: d.display(path), Message: message}
}

// redactFrom is the length from which a hidden text is searched in messages.
// Shorter ones occur in ordinary words; they are kept out by show.
const redactFrom = 6

// redact is the second barrier: the messages of this package do not show hidden
// values in the first place.
func (d *decoder) redact(list []Problem) {
	for i := range list {
		m := &list[i].Message
		for text := range d.hidden {
			if len(text) < redactFrom {
				continue
			}
			quoted := strconv.Quote(text)
			for _, t := range []string{text, quoted[1 : len(quoted)-1]} {
				if strings.Contains(*m, t) {
					*m = "is not valid (the value is not shown)"
				}
			}
		}
	}
}

// foreign makes the message of another package's validation fit for print. Such
// a message may hold a part of the value (the host of an address), so one that
// shares six characters with a value used at path, or below it, is withheld.
func (d *decoder) foreign(path, message string) string {
	for _, text := range d.hiddenAt[path] {
		n := min(redactFrom, len(text))
		for i := 0; i+n <= len(text); i++ {
			if strings.Contains(message, text[i:i+n]) {
				return "is not valid (the value is not shown)"
			}
		}
	}
	return message
}

// inside reports whether path lies below group.
func inside(path, group string) bool {
	rest, found := strings.CutPrefix(path, group)
	return found && rest != "" && (group == "" || rest[0] == '.' || rest[0] == '[')
}

// show is the value at path for a message, quoted, or other words for it.
func (d *decoder) show(path, value string) string {
	if d.isHidden(path) {
		return "the value given"
	}
	return clip(value)
}

// not ends a message with what was given instead, if that may be shown.
func (d *decoder) not(path, value string) string {
	if d.isHidden(path) {
		return ""
	}
	return ", not " + clip(value)
}

// field is one setting of a group.
type field struct {
	name            string
	index           []int
	effect          effectTag
	one, onOff, raw bool
	named           bool
}

// fields lists the settings of a struct type in order.
func fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		x := field{name: name, index: f.Index, effect: effectTag(f.Tag.Get("effect"))}
		for _, o := range strings.Split(options, ",") {
			switch o {
			case "one":
				x.one = true
			case "switch":
				x.onOff = true
			case "named":
				x.named = true
			case "inline":
				raw := strings.Fields(f.Tag.Get("raw"))
				for _, in := range fields(f.Type) {
					in.index = append(slices.Clone(f.Index), in.index...)
					in.raw = slices.Contains(raw, in.name)
					in.effect = cmp.Or(in.effect, x.effect)
					list = append(list, in)
				}
			}
		}
		if name != "" {
			list = append(list, x)
		}
	}
	return list
}

// defaulter is implemented by schema types whose zero value is not their
// default.
type defaulter interface{ setDefaults() }

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[secret.String]()
)

// value decodes n into v, which holds the default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, f field) {
	if len(d.unfolding) > 0 && !d.unfold(1, path) {
		return
	}
	if _, known := d.at[path]; !known {
		d.at[path] = mark{n.Line, n.Column}
	}
	if n.Kind == yaml.AliasNode {
		if n.Alias == nil || d.unfolding[n.Alias] {
			d.problem(path, "the alias *%s holds itself", n.Value)
			return
		}
		d.unfolding[n.Alias] = true
		d.value(n.Alias, v, path, f)
		delete(d.unfolding, n.Alias)
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map":
		default:
			d.problem(path, "the tag %s has no meaning here; write the plain value", clip(n.Tag))
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.group(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, f)
	case reflect.Map:
		d.names(n, v, path, f)
	default:
		d.scalar(n, v, path, f)
	}
}

// unfold accounts for n nodes that were reached through an alias.
func (d *decoder) unfold(n int, path string) bool {
	if d.unfolded > maxUnfolded {
		return false
	}
	if d.unfolded += n; d.unfolded > maxUnfolded {
		d.problem(path, "the aliases of this file unfold into more than %d values", maxUnfolded)
		return false
	}
	return true
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func setDefaults(v reflect.Value) {
	if x, has := v.Addr().Interface().(defaulter); has {
		x.setDefaults()
	}
}

// given names what the file holds instead of what was expected.
func (d *decoder) given(n *yaml.Node, path string) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of settings"
	case yaml.SequenceNode:
		return "a list"
	}
	return d.show(path, n.Value)
}

// instead names what the file holds where a group was expected. A text is not repeated:
// it may be the secret of a field that is not named, or "token:x" without its space.
func (d *decoder) instead(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return d.given(n, "")
	}
	if name, value, ok := strings.Cut(n.Value, ":"); ok && isName(name) && !strings.HasPrefix(value, "//") {
		return "a text; a space belongs behind the colon of name: value"
	}
	return "a text"
}

// group decodes a mapping into a struct.
func (d *decoder) group(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) { // "denials:" with everything below it commented out
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(path, "must be a group of settings (name: value), not %s", d.instead(n))
		return
	}
	known := map[string]field{}
	var names []string
	for _, f := range fields(v.Type()) {
		known[f.name] = f
		names = append(names, f.name)
	}
	d.entries(n, path, func(key, value *yaml.Node) {
		f, found := known[key.Value]
		if !found {
			d.unknown(key, path, names)
			return
		}
		d.value(value, v.FieldByIndex(f.index), join(path, f.name), f)
	})
}

// names decodes a mapping whose keys are free.
func (d *decoder) names(n *yaml.Node, v reflect.Value, path string, f field) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(path, "must be a group of settings (name: value), not %s", d.instead(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	d.entries(n, path, func(key, value *yaml.Node) {
		x := reflect.New(v.Type().Elem()).Elem()
		d.value(value, x, join(path, word(key.Value)), f)
		m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), x)
	})
	v.Set(m)
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// entries calls do for every entry of a mapping, then for those merged in with
// "<<" that the mapping does not set itself.
func (d *decoder) entries(n *yaml.Node, path string, do func(key, value *yaml.Node)) {
	line := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := mark{key.Line, key.Column}
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			d.problemAt(at, path, "a setting's name must be a word, not %s", d.given(key, path))
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if first, twice := line[key.Value]; twice {
			d.problemAt(at, join(path, word(key.Value)), "is given twice, first in line %d; keep one", first)
			continue
		}
		line[key.Value] = at.line
		do(key, value)
	}
	for _, m := range merged {
		d.merge(m, path, line, do)
	}
}

// merge handles the value of "<<": a mapping or a list of mappings, mostly
// aliases. Earlier ones win.
func (d *decoder) merge(n *yaml.Node, path string, line map[string]int, do func(key, value *yaml.Node)) {
	if !d.unfold(1+len(n.Content), path) {
		return
	}
	switch {
	case n.Kind == yaml.AliasNode && n.Alias != nil && !d.unfolding[n.Alias]:
		d.unfolding[n.Alias] = true
		d.merge(n.Alias, path, line, do)
		delete(d.unfolding, n.Alias)
	case n.Kind == yaml.SequenceNode:
		for _, x := range n.Content {
			d.merge(x, path, line, do)
		}
	case n.Kind == yaml.MappingNode:
		d.entries(n, path, func(key, value *yaml.Node) {
			if _, set := line[key.Value]; !set {
				line[key.Value] = key.Line
				do(key, value)
			}
		})
	default:
		d.problemAt(mark{n.Line, n.Column}, path, "<< must name a group of settings by its alias")
	}
}

// word bounds a key of the file for use in a path.
func word(key string) string {
	q := clip(key)
	if q == `"`+key+`"` && key != "" && !strings.ContainsAny(key, " .[]") {
		return key
	}
	return q
}

// unknown reports a key that the group at path does not have, with the best
// hint.
func (d *decoder) unknown(key *yaml.Node, path string, names []string) {
	at := mark{key.Line, key.Column}
	name := key.Value
	near := suggest(name, names)
	for _, s := range strings.Fields(strangers[strings.ToLower(name)]) {
		if near == "" && slices.Contains(names, s) {
			near = s
		}
	}
	p := join(path, word(name))
	switch elsewhere := d.elsewhere(name); {
	case near != "":
		d.problemAt(at, p, "unknown field, did you mean %q?", near)
		d.bad[join(path, near)] = true
	case elsewhere != "":
		d.problemAt(at, p, "unknown field here; it is written as %s", elsewhere)
	default:
		sorted := slices.Sorted(slices.Values(names))
		d.problemAt(at, p, "unknown field; known here: %s", strings.Join(sorted, ", "))
	}
}

// elsewhere finds a setting of exactly that name in another group.
func (d *decoder) elsewhere(name string) string {
	if d.schema == nil {
		d.schema = Schema()
	}
	for _, s := range d.schema {
		if strings.HasSuffix(s, "."+name) {
			return s
		}
	}
	return ""
}

// Schema lists the paths of all settings in the order of the schema; a list has
// "[]" behind its name, as in "sources[].format".
func Schema() []string {
	var list []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for _, f := range fields(t) {
			ft := t.FieldByIndex(f.index).Type
			p := join(path, f.name)
			if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct {
				ft, p = ft.Elem(), p+"[]"
			}
			list = append(list, p)
			if ft.Kind() == reflect.Struct {
				walk(ft, p)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return list
}

// list decodes a sequence, or a single element where the schema allows it.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, f field) {
	if isNull(n) {
		return
	}
	elem := v.Type().Elem()
	if f.named {
		d.namedList(n, v, path)
		return
	}
	if n.Kind != yaml.SequenceNode {
		if !f.one || (elem.Kind() == reflect.Struct) != (n.Kind == yaml.MappingNode) {
			what := d.given(n, path)
			if elem.Kind() == reflect.Struct {
				what = d.instead(n)
			}
			d.problem(path, "must be %s, not %s", listOf(elem, f.one), what)
			return
		}
		d.single[path] = true
		d.element(n, v, path, 0, f)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i, x := range n.Content {
		d.element(x, v, path, i, f)
	}
}

// namedList decodes a mapping of names to groups.
func (d *decoder) namedList(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.problem(path, "must be a group of names, each with its settings, not %s", d.instead(n))
		return
	}
	d.entries(n, path, func(key, value *yaml.Node) {
		x := reflect.New(v.Type().Elem()).Elem()
		setDefaults(x)
		x.FieldByName("Name").SetString(key.Value)
		d.value(value, x, path+"["+word(key.Value)+"]", field{})
		v.Set(reflect.Append(v, x))
	})
}

func (d *decoder) element(n *yaml.Node, v reflect.Value, path string, i int, f field) {
	x := reflect.New(v.Type().Elem()).Elem()
	if x.Kind() == reflect.Struct {
		setDefaults(x)
	}
	p := path + "[" + strconv.Itoa(i) + "]"
	if isNull(n) {
		d.at[p] = mark{n.Line, n.Column}
		d.problem(p, "is empty; give a value or remove the line")
	} else {
		d.value(n, x, p, field{raw: f.raw})
	}
	if i == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 1))
	}
	v.Set(reflect.Append(v, x))
}

func listOf(elem reflect.Type, one bool) string {
	what := "a list of texts, such as [a, b]"
	switch elem.Kind() {
	case reflect.Struct:
		what = "a list of groups of settings (- name: value)"
	case reflect.Int:
		what = "a list of numbers, such as [403, 451]"
	}
	if one && elem.Kind() == reflect.Struct {
		return "a group of settings (name: value) or " + what
	}
	if one {
		return "a text or " + what
	}
	return what
}

// scalar decodes one plain value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, f field) {
	t := v.Type()
	if f.onOff && (isNull(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0) {
		v.SetBool(true)
		return
	}
	if isNull(n) {
		d.problem(path, "has no value; give one or remove the line")
		return
	}
	if t == secretType && n.Kind == yaml.ScalarNode && !strings.Contains(n.Value, "${") {
		d.hide(path, n.Value)
	}
	if n.Kind != yaml.ScalarNode {
		if n.Kind == yaml.MappingNode && f.onOff {
			d.problem(path, "has no settings of its own; write true, or {}")
			return
		}
		d.problem(path, "must be %s, not %s", expected(v), d.given(n, path))
		return
	}
	text, replaced := n.Value, false
	if !f.raw {
		var ok bool
		if text, replaced, ok = d.expand(n.Value, path, t == secretType); !ok {
			return
		}
	}
	wrong := func(hint string) {
		d.problem(path, "must be %s%s%s", expected(v), d.not(path, text), hint)
	}
	// A quoted number is a text; only what a reference put there may be read as
	// something else, for it has no other way.
	quoted := n.ShortTag() == "!!str" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && !replaced
	switch {
	case t == secretType:
		if !replaced {
			d.plainSecrets = append(d.plainSecrets, path)
		}
		v.SetString(text)
	case t == durationType:
		x, err := time.ParseDuration(text)
		if err != nil {
			hint := ""
			if _, numErr := strconv.ParseFloat(text, 64); numErr == nil && !d.isHidden(path) {
				hint = " (the unit is missing)"
			}
			wrong(hint)
			return
		}
		v.SetInt(int64(x))
	case t == sizeType:
		x, err := ParseSize(text)
		if err != nil {
			wrong("")
			return
		}
		v.SetInt(int64(x))
	case t.Kind() == reflect.String:
		v.SetString(text)
	case t.Kind() == reflect.Bool:
		switch {
		case quoted:
			wrong(" in quotes")
		case text == "true" || text == "True" || text == "TRUE":
			v.SetBool(true)
		case text == "false" || text == "False" || text == "FALSE":
			v.SetBool(false)
		default:
			wrong("")
		}
	case t.Kind() == reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(x, 0) || math.IsNaN(x) || quoted {
			wrong(inQuotes(err == nil && quoted))
			return
		}
		v.SetFloat(x)
	case v.CanInt():
		x, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil || quoted {
			wrong(inQuotes(err == nil && quoted))
			return
		}
		v.SetInt(x)
	case v.CanUint():
		x, err := strconv.ParseUint(text, 10, t.Bits())
		if err != nil || quoted {
			wrong(inQuotes(err == nil && quoted))
			return
		}
		v.SetUint(x)
	default:
		panic("configs: the schema has a type that the decoder does not know: " + t.String())
	}
}

func inQuotes(yes bool) string {
	if yes {
		return " in quotes"
	}
	return ""
}

// expected says in plain words what v can hold.
func expected(v reflect.Value) string {
	switch t := v.Type(); {
	case t == durationType:
		return "a duration such as 30s"
	case t == sizeType:
		return "a size such as 1MiB"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case v.CanUint():
		return "a whole number, not negative"
	case v.CanInt():
		return "a whole number"
	}
	return "a text"
}
