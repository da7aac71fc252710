package routing

import (
	"cmp"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/incident"
)

// where is the part of the product that a scope speaks of: one route, or all below a
// prefix.
type where struct {
	route  string
	prefix access.Pattern
}

func whereOf(s *incident.Scope) where {
	if s.Route != "" {
		return where{route: s.Route}
	}
	// A prefix is whole segments; one that is no pattern is nobody's part.
	p, _ := access.Compile(strings.TrimSuffix(s.Prefix, "/") + "/**")
	return where{prefix: p}
}

// within reports whether a pattern stands for all of w.
func (w *where) within(p *access.Pattern) bool {
	if w.route != "" {
		return p.Match(w.route)
	}
	return p.Covers(&w.prefix)
}

// meets reports whether a pattern stands for some of w.
func (w *where) meets(p *access.Pattern) bool {
	if w.route != "" {
		return p.Match(w.route)
	}
	return p.Meets(&w.prefix)
}

// condition is a Condition made ready.
type condition struct {
	*Condition
	patterns []access.Pattern
}

// all is the pattern of everything, as people write it.
const all = "**"

func compile(c *Condition) condition {
	out := condition{Condition: c}
	for _, m := range c.Match {
		p, _ := access.Compile(rooted(m))
		out.patterns = append(out.patterns, p)
	}
	return out
}

func rooted(match string) string {
	if match == all {
		return "/" + all
	}
	return match
}

// named is one list of a condition.
type named struct {
	name string
	list []string
}

func (c *Condition) lists() [8]named {
	return [...]named{{"service", c.Service}, {"role", c.Role}, {"plan", c.Plan}, {"geo", c.Geo},
		{"host", c.Host}, {"flag", c.Flag}, {"layer", c.Layer}, {"direction", c.Direction}}
}

// Text writes the condition in one line, such as "/billing/** layer=edge"; "**" if it
// fits everything.
func (c *Condition) Text() string {
	words := slices.Clone(c.Match)
	for _, l := range c.lists() {
		if len(l.list) > 0 {
			words = append(words, l.name+"="+strings.Join(l.list, ","))
		}
	}
	return cmp.Or(strings.Join(words, " "), all)
}

// values are what an incident says of the lists, in their order.
func values(in *incident.Incident) [8]string {
	s := &in.Scope
	layer := in.Layer
	if s.Layer != "" {
		layer = s.Layer
	}
	return [...]string{s.Service, s.Role, s.Plan, s.Geo, s.Host, s.Flag, layer, string(in.Direction)}
}

// fits reports whether all of the incident lies in the condition.
func (c *condition) fits(in *incident.Incident) bool {
	vs := values(in)
	for i, l := range c.lists() {
		if len(l.list) > 0 && !slices.Contains(l.list, vs[i]) {
			return false
		}
	}
	if len(c.patterns) == 0 {
		return true
	}
	w := whereOf(&in.Scope)
	return slices.ContainsFunc(c.patterns, func(p access.Pattern) bool { return w.within(&p) })
}

// everything reports whether the condition fits every incident.
func (c *condition) everything() bool {
	for _, l := range c.lists() {
		if len(l.list) > 0 {
			return false
		}
	}
	root, _ := access.Compile("/" + all)
	return len(c.patterns) == 0 || slices.ContainsFunc(c.patterns, func(p access.Pattern) bool { return p.Covers(&root) })
}

// covers reports whether c fits all that o fits.
func (c *condition) covers(o *condition) bool {
	mine, theirs := c.lists(), o.lists()
	for i := range mine {
		if len(mine[i].list) > 0 && (len(theirs[i].list) == 0 || !subset(theirs[i].list, mine[i].list)) {
			return false
		}
	}
	root, _ := access.Compile("/" + all)
	ps := o.patterns
	if len(ps) == 0 {
		ps = []access.Pattern{root}
	}
	return len(c.patterns) == 0 || !slices.ContainsFunc(ps, func(q access.Pattern) bool {
		return !slices.ContainsFunc(c.patterns, func(p access.Pattern) bool { return p.Covers(&q) })
	})
}

func subset(part, whole []string) bool {
	return !slices.ContainsFunc(part, func(v string) bool { return !slices.Contains(whole, v) })
}
