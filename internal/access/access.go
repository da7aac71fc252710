// Package access is the declared half of the access model: rules that say who
// gets in where, by route, role, plan, country, flag, method and service. The
// learned half is the detector's.
//
// # Rules
//
// A rule has conditions and a verdict: allow, deny, or either, which takes a part
// of what earlier rules say back and leaves it to the statistics. All conditions
// that a rule has must hold; of a list one value must. Of the rules that match a
// request the last one decides. A request that no rule matches is undeclared, and
// judged as if there were no rules.
//
// Routes are patterns over route templates, as incidents show them, and are
// written as the patterns of package route: {name} and * stand for one segment or
// a part of it, ** at the end for any rest, also none. A pattern's {name} stands
// for a template's {id} too.
//
// # What a log does not say
//
// A verdict must not be guessed: where a web server's log knows no roles, a rule
// for a role may or may not be meant. So a condition on a value that the log does
// not have makes a rule a "maybe", and the verdict is given only if it is the same
// whether or not each maybe holds. Two things are taken for known: a request
// without a role and a plan at the application, of nobody who is named, is
// anonymous (value "_none"); a request with some flags does not have the others.
// The first is a presumption about the log, since an application might not log roles
// at all. So a verdict tells if it leans on it, and who uses it must have seen that
// the log does say roles.
//
// OPTIONS requests, by which browsers ask before they ask, match only rules that
// name the method.
//
// # Cost
//
// For names an application sends, a Model finds the rules of a route once; what
// they say of a request compares a few short texts and allocates nothing. Callers
// keep the verdict wherever it depends on nothing but what they key by (Needs).
package access

import (
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/denywatch/denywatch/internal/incident"
)

// Rule is one rule as it is configured. An empty condition holds always.
type Rule struct {
	// Route are patterns of route templates, at least one.
	Route []string `yaml:"route,one" json:"route"`
	// Method are request methods, Service names of services, Role, Plan and Geo
	// values as the log has them, "_none" for requests without a role or a plan.
	Method  []string `yaml:"method,one" json:"method,omitempty"`
	Service []string `yaml:"service,one" json:"service,omitempty"`
	Role    []string `yaml:"role,one" json:"role,omitempty"`
	Plan    []string `yaml:"plan,one" json:"plan,omitempty"`
	Geo     []string `yaml:"geo,one" json:"geo,omitempty"`
	// Flag are feature flags; one of them must be on.
	Flag []string `yaml:"flag,one" json:"flag,omitempty"`
	// Allow is the verdict: "true", "false" or "either".
	Allow string `yaml:"allow" json:"allow"`
	// Hint says where to mend it, or what to do next, in messages about the rule.
	Hint string `yaml:"hint" json:"-"`
}

// Verdict is what the model expects of a request.
type Verdict uint8

// The verdicts.
const (
	// Undeclared: no rule speaks of the request, or it cannot be told which.
	Undeclared Verdict = iota
	// Allow: the request should be let in.
	Allow
	// Deny: it should be refused.
	Deny
	// Either: both are right.
	Either
)

var verdictNames = [...]string{"undeclared", "allow", "deny", "either"}

// String returns the name used in output.
func (v Verdict) String() string { return verdictNames[v] }

// Dims is a set of dimensions.
type Dims uint8

// The dimensions of a request besides route and service.
const (
	Method Dims = 1 << iota
	Role
	Plan
	Geo
	Flag
)

// Query is a request as the model sees it. Nothing of it is kept.
type Query struct {
	Service           string
	Method, Plan, Geo []byte
	Roles, Flags      [][]byte
	// Anonymous tells that a missing role or plan means that there is none: that the
	// log would say it, and names nobody.
	Anonymous bool
}

// Decision is what the model says of a request.
type Decision struct {
	Verdict Verdict
	// Rule is the id of the rule that decided, 0 if Undeclared.
	Rule uint64
	// Presumed tells that the verdict takes a missing role for none.
	Presumed bool
}

// Model is a list of valid rules. It is not changed after New and safe for
// concurrent use; a nil Model has no rules.
type Model struct {
	rules []rule
	byID  map[uint64]int
}

// rule is a Rule made ready.
type rule struct {
	*Rule
	id       uint64
	verdict  Verdict
	patterns []Pattern
	needs    Dims
}

// New compiles rules, nil if there are none, and returns everything that is wrong
// with them. A Model with problems must not be used.
func New(rules []Rule) (*Model, []Problem) {
	if len(rules) == 0 {
		return nil, nil
	}
	m := &Model{byID: make(map[uint64]int, len(rules))}
	problems := validate(rules)
	if len(rules) > maxRules {
		return m, problems
	}
	for i := range rules {
		r := rule{Rule: &rules[i], verdict: verdict(rules[i].Allow)}
		for _, p := range r.Route {
			if c, msg := Compile(p); msg == "" {
				r.patterns = append(r.patterns, c)
			}
		}
		for _, d := range r.dims() {
			if len(d.list) > 0 {
				r.needs |= d.dim
			}
		}
		r.id = xxhash.Sum64String(r.Text())
		m.byID[r.id] = i
		m.rules = append(m.rules, r)
	}
	return m, problems
}

func verdict(allow string) Verdict {
	switch allow {
	case "true":
		return Allow
	case "false":
		return Deny
	}
	return Either
}

// dimension is one list of a rule's values.
type dimension struct {
	name string
	dim  Dims // 0 for the service, which is always known
	list []string
}

// dims are the rule's conditions but for the route.
func (r *Rule) dims() [6]dimension {
	return [...]dimension{{"method", Method, r.Method}, {"service", 0, r.Service}, {"role", Role, r.Role},
		{"plan", Plan, r.Plan}, {"geo", Geo, r.Geo}, {"flag", Flag, r.Flag}}
}

// Text writes the rule in one line without its hint, such as
// "allow /billing/** role=owner,admin". Equal texts are equal rules.
func (r *Rule) Text() string {
	s := verdict(r.Allow).String() + " " + strings.Join(r.Route, " ")
	for _, d := range r.dims() {
		if len(d.list) > 0 {
			s += " " + d.name + "=" + strings.Join(d.list, ",")
		}
	}
	return s
}

// Matches reports whether a valid pattern of a rule stands for a route template.
func Matches(pattern, template string) bool {
	p, _ := Compile(pattern)
	return p.Match(template)
}

// Example is a path that a valid pattern stands for.
func Example(pattern string) string {
	p, _ := Compile(pattern)
	path := ""
	for _, s := range p.segs {
		if head, tail, ok := wild(s); ok {
			s = head + "x" + tail
		}
		path += "/" + s
	}
	if p.deep || path == "" {
		path += "/"
	}
	return path
}

// Len is the number of rules.
func (m *Model) Len() int {
	if m == nil {
		return 0
	}
	return len(m.rules)
}

// Find returns the number of the rule with an id, in the order of New, and whether
// there is one.
func (m *Model) Find(id uint64) (int, bool) {
	if m == nil {
		return 0, false
	}
	i, ok := m.byID[id]
	return i, ok
}

// Describe returns the rule of an id for messages, nil if there is none.
func (m *Model) Describe(id uint64) *incident.AccessRule {
	i, ok := m.Find(id)
	if !ok {
		return nil
	}
	r := &m.rules[i]
	return &incident.AccessRule{Text: r.Text(), Allow: r.verdict == Allow, Routes: slices.Clone(r.Route), Methods: slices.Clone(r.Method),
		Roles: slices.Clone(r.Role), Plans: slices.Clone(r.Plan), Geos: slices.Clone(r.Geo), Flags: slices.Clone(r.Flag), Hint: r.Hint}
}

// Rules are those rules of a model that may speak of one route, the last one first.
// A nil Rules has none.
type Rules struct {
	list  []*rule
	needs Dims
}

// On returns the rules that may speak of a route template, nil if none does. It is
// for the first sight of a route, not for every request.
func (m *Model) On(template string) *Rules {
	if m == nil || !strings.HasPrefix(template, "/") {
		return nil
	}
	var rs *Rules
	segs := split(template)
	for i := len(m.rules) - 1; i >= 0; i-- {
		r := &m.rules[i]
		if !slices.ContainsFunc(r.patterns, func(p Pattern) bool { return p.match(segs) }) {
			continue
		}
		if rs == nil {
			rs = new(Rules)
		}
		rs.list = append(rs.list, r)
		rs.needs |= r.needs
	}
	return rs
}

// Needs is the set of dimensions that the verdict depends on.
func (rs *Rules) Needs() Dims { return rs.needs }

// Names reports whether some rule names values of a dimension.
func (m *Model) Names(d Dims) bool {
	return m != nil && slices.ContainsFunc(m.rules, func(r rule) bool { return r.needs&d != 0 })
}

// Preflight reports whether a method is that of requests which only ask what may be
// asked: rules that name no method do not speak of them.
func Preflight(method []byte) bool { return string(method) == "OPTIONS" }

// Decide tells what the rules expect of a request. It allocates nothing.
func (rs *Rules) Decide(q *Query) Decision {
	var d Decision
	maybe := Undeclared // the verdict of the maybes so far
	for _, r := range rs.list {
		fit, presumed := r.match(q)
		d.Presumed = d.Presumed || presumed
		switch {
		case fit == no:
			continue
		case maybe != Undeclared && maybe != r.verdict:
			return Decision{}
		case fit == yes:
			d.Verdict, d.Rule = r.verdict, r.id
			return d
		}
		maybe = r.verdict
	}
	return Decision{}
}

// fit is whether something holds.
type fit uint8

const (
	no fit = iota
	perhaps
	yes
)

// match tells whether the rule speaks of a request of its route, and whether that
// leans on Anonymous.
func (r *rule) match(q *Query) (f fit, presumed bool) {
	if len(r.Service) > 0 && !slices.Contains(r.Service, q.Service) {
		return no, false
	}
	f = yes
	switch {
	case len(r.Method) > 0:
		f = one(r.Method, q.Method)
	case Preflight(q.Method):
		return no, false
	}
	if len(r.Geo) > 0 {
		f = min(f, one(r.Geo, q.Geo))
	}
	if len(r.Flag) > 0 {
		f = min(f, anyOf(r.Flag, q.Flags))
	}
	if f == no {
		return no, false
	}
	if len(r.Role) > 0 {
		if presumed = len(q.Roles) == 0 && q.Anonymous; presumed {
			f = min(f, one(r.Role, nobody))
		} else {
			f = min(f, anyOf(r.Role, q.Roles))
		}
	}
	if len(r.Plan) > 0 {
		if len(q.Plan) == 0 && q.Anonymous {
			presumed = true
			f = min(f, one(r.Plan, nobody))
		} else {
			f = min(f, one(r.Plan, q.Plan))
		}
	}
	return f, presumed
}

var nobody = []byte(incident.NoRole)

// one compares a value with a list; an empty value may be any.
func one(list []string, v []byte) fit {
	if len(v) == 0 {
		return perhaps
	}
	for _, x := range list {
		if x == string(v) {
			return yes
		}
	}
	return no
}

// anyOf compares several values with a list; none at all may be any.
func anyOf(list []string, vs [][]byte) fit {
	if len(vs) == 0 {
		return perhaps
	}
	for _, v := range vs {
		if one(list, v) == yes {
			return yes
		}
	}
	return no
}
