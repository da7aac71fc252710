package access

import (
	"fmt"
	"strings"
)

// Pattern is a compiled pattern of routes.
type Pattern struct {
	segs []string
	deep bool // ends in "**"
}

// Compile makes a pattern ready. The text says what is wrong with it, empty if nothing
// is; the Pattern must not be used then.
func Compile(p string) (Pattern, string) {
	switch {
	case p == "":
		return Pattern{}, "is empty; write a route such as /billing/{id}, or a part of the product such as /billing/**"
	case !strings.HasPrefix(p, "/"):
		if m, rest, ok := strings.Cut(p, " "); ok && strings.HasPrefix(rest, "/") {
			return Pattern{}, fmt.Sprintf("%q: a route has no method; write %q, and method: %s beside it", p, rest, m)
		}
		return Pattern{}, fmt.Sprintf("%q: a route starts with /, such as /billing/**", p)
	case len(p) > maxRoute:
		return Pattern{}, fmt.Sprintf("is longer than %d bytes", maxRoute)
	case strings.ContainsAny(p, "?#"):
		return Pattern{}, fmt.Sprintf("%q: a route has no query string or fragment", p)
	}
	c := Pattern{segs: split(p)}
	for i, s := range c.segs {
		switch {
		case s == "":
			return Pattern{}, fmt.Sprintf("%q: an empty segment (//) matches nothing", p)
		case s == "**" && i == len(c.segs)-1:
			c.deep = true
		case strings.Contains(s, "**"):
			return Pattern{}, fmt.Sprintf("%q: ** may only stand at the end, as a segment of its own", p)
		case s == "*":
		case strings.Count(s, "*")+strings.Count(s, "{") > 1 || strings.Count(s, "{") != strings.Count(s, "}") || strings.Index(s, "}") < strings.Index(s, "{"):
			return Pattern{}, fmt.Sprintf("%q: segment %q needs one {name} with both braces, or one *", p, s)
		}
	}
	if c.deep {
		c.segs = c.segs[:len(c.segs)-1]
	}
	return c, ""
}

// split cuts a route or a pattern into its segments, none for "/".
func split(route string) []string {
	route = strings.Trim(route, "/")
	if route == "" {
		return nil
	}
	return strings.Split(route, "/")
}

// wild cuts a segment of a pattern at its placeholder.
func wild(seg string) (head, tail string, ok bool) {
	if i := strings.IndexByte(seg, '*'); i >= 0 {
		return seg[:i], seg[i+1:], true
	}
	if i := strings.IndexByte(seg, '{'); i >= 0 {
		return seg[:i], seg[strings.IndexByte(seg, '}')+1:], true
	}
	return seg, "", false
}

// fits reports whether a segment of a pattern stands for a segment of a route.
func fits(p, seg string) bool {
	head, tail, ok := wild(p)
	if !ok {
		return p == seg
	}
	return len(seg) > len(head)+len(tail) && strings.HasPrefix(seg, head) && strings.HasSuffix(seg, tail)
}

// Match reports whether the pattern stands for a route template.
func (p *Pattern) Match(template string) bool { return p.match(split(template)) }

// match reports whether the pattern stands for a route of these segments.
func (p *Pattern) match(segs []string) bool {
	if len(segs) < len(p.segs) || len(segs) > len(p.segs) && !p.deep {
		return false
	}
	for i, s := range p.segs {
		if !fits(s, segs[i]) {
			return false
		}
	}
	return true
}

// Covers reports whether p stands for every route that q stands for.
func (p *Pattern) Covers(q *Pattern) bool {
	if len(q.segs) < len(p.segs) || !p.deep && (q.deep || len(q.segs) > len(p.segs)) {
		return false
	}
	for i, s := range p.segs {
		head, tail, ok := wild(s)
		switch _, _, qWild := wild(q.segs[i]); {
		case ok && head == "" && tail == "", s == q.segs[i]:
		case qWild, !fits(s, q.segs[i]):
			return false
		}
	}
	return true
}

// Meets reports whether p and q can stand for the same route.
func (p *Pattern) Meets(q *Pattern) bool {
	if len(p.segs) > len(q.segs) {
		p, q = q, p
	}
	if len(p.segs) < len(q.segs) && !p.deep {
		return false
	}
	for i, s := range p.segs {
		o := q.segs[i]
		_, _, a := wild(s)
		_, _, b := wild(o)
		// Two placeholders may stand for the same text.
		if (!a || !b) && !fits(s, o) && !fits(o, s) {
			return false
		}
	}
	return true
}
