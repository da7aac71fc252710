package access

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Bounds of a model.
const (
	// maxRules bounds the rules: each route looks at every one of them once.
	maxRules = 500
	// maxValues bounds a list of values, maxValue one of them in bytes, which is as
	// long as the values of requests are kept.
	maxValues = 300
	maxValue  = 64
	maxRoute  = 200
	maxHint   = 300
)

// Problem is a mistake in a rule.
type Problem struct {
	// Path names the setting inside the list of rules, as in "[2].role[0]"; Msg says
	// what is wrong and what to write instead.
	Path, Msg string
}

// validate returns everything that is wrong with each of the rules by itself.
func validate(rules []Rule) (ps []Problem) {
	bad := func(path, format string, a ...any) { ps = append(ps, Problem{path, fmt.Sprintf(format, a...)}) }
	if len(rules) > maxRules {
		bad("", "has more than %d rules; patterns such as /billing/** and lists of roles say the same with fewer", maxRules)
		return ps
	}
	for i := range rules {
		r, at := &rules[i], fmt.Sprintf("[%d]", i)
		if r.Route == nil {
			bad(at+".route", "is missing; write a route such as /billing/{id}, or a part of the product such as /billing/**")
		}
		for k, p := range r.Route {
			if _, msg := Compile(p); msg != "" {
				bad(fmt.Sprintf("%s.route[%d]", at, k), "%s", msg)
			}
		}
		dims := r.dims()
		for _, d := range append(dims[:], dimension{name: "route", list: r.Route}) {
			path := at + "." + d.name
			if d.list != nil && len(d.list) == 0 {
				bad(path, "is empty; leave it out to mean all")
			}
			if len(d.list) > maxValues {
				bad(path, "has more than %d values", maxValues)
				continue
			}
			for k, v := range d.list {
				at := fmt.Sprintf("%s[%d]", path, k)
				switch {
				case slices.Contains(d.list[:k], v):
					bad(at, "is given twice")
				case d.name != "route":
					if msg := wrong(v, d.dim); msg != "" {
						bad(at, "%s", msg)
					}
				}
			}
		}
		switch r.Allow {
		case "true", "false", "either":
		case "":
			bad(at+".allow", "is missing; write true (they get in), false (they do not) or either (both are right)")
		default:
			bad(at+".allow", "must be true, false or either")
		}
		switch {
		case len(r.Hint) > maxHint:
			bad(at+".hint", "is longer than %d bytes", maxHint)
		case strings.ContainsFunc(r.Hint, unicode.IsControl):
			bad(at+".hint", "holds control characters; it is one line")
		}
	}
	return ps
}

// wrong says why a value can never be that of a request, nothing if it can.
func wrong(v string, d Dims) string {
	switch {
	case v == "":
		return "is empty; write " + string(nobody) + " for requests without a role or a plan, or leave the list out to mean all"
	case len(v) > maxValue:
		return fmt.Sprintf("is longer than %d bytes", maxValue)
	case strings.ContainsFunc(v, unicode.IsControl):
		return "holds control characters"
	case v != strings.TrimSpace(v):
		return "has spaces at its start or end"
	case d == Method && strings.ToUpper(v) != v:
		return fmt.Sprintf("methods are written in capitals; write %q", strings.ToUpper(v))
	case d == Geo && len(v) == 2 && strings.ToUpper(v) != v:
		return fmt.Sprintf("codes of countries are written in capitals; write %q", strings.ToUpper(v))
	case d&(Method|Geo|Flag) != 0 && v == string(nobody):
		return "only a role and a plan can be missing"
	case strings.Contains(v, "*"):
		return "a value is no pattern; list the values, or leave the list out to mean all"
	}
	return ""
}

// Kind is how two rules get in each other's way.
type Kind uint8

// The kinds of conflict.
const (
	// Duplicate: both say the same of the same requests.
	Duplicate Kind = iota
	// Contradiction: they say different things of the same requests.
	Contradiction
	// Shadowed: the earlier rule never decides, the later one matches all of it.
	Shadowed
	// Crossing: they say different things of some requests and neither is an
	// exception of the other, so that their order decides.
	Crossing
)

// Conflict is two rules that get in each other's way.
type Conflict struct {
	Kind Kind
	// Earlier and Later are the rules' numbers, from 0.
	Earlier, Later int
}

// Conflicts returns the rules that get in each other's way: for each rule the first
// later one that keeps it from ever deciding, else those that cross it. An exception
// that comes after the rule it is of is no conflict.
func (m *Model) Conflicts() []Conflict {
	var out []Conflict
	for i := range m.Len() {
		r := &m.rules[i]
		var crossing []Conflict
		for k := i + 1; k < len(m.rules); k++ {
			o := &m.rules[k]
			if o.covers(r) {
				kind := Shadowed
				if r.covers(o) {
					if kind = Contradiction; r.verdict == o.verdict {
						kind = Duplicate
					}
				}
				crossing = []Conflict{{kind, i, k}}
				break
			}
			if (r.verdict == Allow && o.verdict == Deny || r.verdict == Deny && o.verdict == Allow) && !r.covers(o) && r.meets(o) {
				crossing = append(crossing, Conflict{Crossing, i, k})
			}
		}
		out = append(out, crossing...)
	}
	return out
}

// covers reports whether r matches every request that o matches.
func (r *rule) covers(o *rule) bool {
	for i := range o.patterns {
		if !slices.ContainsFunc(r.patterns, func(p Pattern) bool { return p.Covers(&o.patterns[i]) }) {
			return false
		}
	}
	if len(r.Method) == 0 && slices.ContainsFunc(o.Method, preflight) {
		return false
	}
	mine, theirs := r.dims(), o.dims()
	for i, d := range mine {
		if len(d.list) > 0 && (len(theirs[i].list) == 0 || slices.ContainsFunc(theirs[i].list, func(v string) bool { return !slices.Contains(d.list, v) })) {
			return false
		}
	}
	return true
}

// meets reports whether some request may match both rules. Of roles and flags, of
// which a request can have several, only the same ones are taken to meet.
func (r *rule) meets(o *rule) bool {
	if !slices.ContainsFunc(r.patterns, func(p Pattern) bool {
		return slices.ContainsFunc(o.patterns, func(q Pattern) bool { return p.Meets(&q) })
	}) || len(r.Method) == 0 && onlyPreflight(o.Method) || len(o.Method) == 0 && onlyPreflight(r.Method) {
		return false
	}
	mine, theirs := r.dims(), o.dims()
	for i, d := range mine {
		if len(d.list) > 0 && len(theirs[i].list) > 0 && !slices.ContainsFunc(d.list, func(v string) bool { return slices.Contains(theirs[i].list, v) }) {
			return false
		}
	}
	return true
}

func preflight(method string) bool { return Preflight([]byte(method)) }

func onlyPreflight(methods []string) bool { return len(methods) == 1 && preflight(methods[0]) }
