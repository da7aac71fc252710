package slug

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/route"
)

// has reports whether a rule applies to the node's children.
func (n *node) has(rule string) bool {
	_, ok := slices.BinarySearch(n.rules, rule)
	return ok
}

// learned is the segment under which a child of n is kept.
func (n *node) learned(seg string) string {
	if len(n.rules) == 0 || n.children[seg] != nil {
		return seg
	}
	for _, r := range rulesFor(seg) {
		if r.name != "" && n.has(r.rule) {
			return r.name
		}
	}
	return seg
}

// applied is a rule with the placeholder that it writes.
type applied struct{ rule, name string }

// rulesFor are the rules that a literal falls under, the strongest first; name
// is empty where there is none.
func rulesFor(seg string) (r [3]applied) {
	if route.LocaleCode(seg) {
		r[0] = applied{"=" + seg, route.Locale}
	}
	if f := form(seg); f != "" {
		r[1] = applied{f, strings.ReplaceAll(f, "#", route.ID)}
	}
	if ext, words := look(seg); words > 0 {
		r[2] = applied{ext, collapsed(ext)}
	}
	return r
}

// collapsed is the placeholder of names with an extension, or without.
func collapsed(ext string) string {
	switch ext {
	case "", ".html", ".htm", ".php", ".aspx", ".jsp", ".json", ".xml", ".amp":
		return route.Slug + ext
	}
	return route.File + ext
}

// Learned reports whether a segment of a template may have been written by a Learner
// in place of names: a segment that is nothing but {id} or another placeholder comes
// from an application or a pattern, where literals beside it are routes of their own.
func Learned(seg string) bool {
	switch {
	case strings.IndexByte(seg, '{') < 0:
		return false
	case seg[0] != '{' || strings.IndexByte(seg, '}') != len(seg)-1:
		return true
	}
	return seg == route.Slug || seg == route.File || seg == route.Locale
}

// form is the form of a literal with numbers, "item#" of "item12"; empty for
// one without and for what is no literal.
func form(seg string) string {
	if !strings.ContainsAny(seg, "0123456789") || strings.ContainsAny(seg, "{*#") {
		return ""
	}
	var b strings.Builder
	digit := false
	for i := range len(seg) {
		c := seg[i]
		if c >= '0' && c <= '9' {
			if !digit {
				b.WriteByte('#')
			}
			digit = true
			continue
		}
		digit = false
		b.WriteByte(c)
	}
	return b.String()
}

// look tells of a literal its extension and how many words it has; none when it
// cannot be a slug.
func look(seg string) (ext string, words int) {
	if seg == "" || seg[0] == '.' || seg[0] == '_' || reserved[strings.ToLower(seg)] {
		return "", 0
	}
	name := seg
	if i := strings.LastIndexByte(seg, '.'); i > 0 && len(seg)-i <= 6 && i < len(seg)-1 {
		alnum, alpha := true, false
		for _, c := range []byte(seg[i+1:]) {
			small := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			alpha = alpha || small
			alnum = alnum && (small || c >= '0' && c <= '9')
		}
		if alnum && alpha {
			name, ext = seg[:i], strings.ToLower(seg[i:])
		}
	}
	if reserved[strings.ToLower(name)] {
		return "", 0
	}
	words = 1
	blank := true
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			blank = false
		case c == '-', c == '_', c == '+', c == '.', c == '~', c == ',':
			if !blank {
				words++
			}
			blank = true
		case c == '%' && i+2 < len(name) && name[i+1] == '2' && name[i+2] == '0':
			words++
			i += 2
		case c == '%' && i+2 < len(name) && name[i+1] >= '8':
			// Beyond ASCII words are longer than they seem.
			words = max(words, 2)
			blank = false
			i += 2
		case c == '\'', c == '!', c == '%':
			blank = false
		default:
			return "", 0 // ':', '(', '{', '*', '=', '$', '@': syntax, not a name
		}
	}
	return ext, words
}

// collapse looks at all nodes whose children changed, parents first, until
// nothing changes any more.
func (l *Learner) collapse() {
	for len(l.touched) > 0 {
		work := slices.SortedFunc(maps.Keys(l.touched), func(a, b *node) int {
			return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.n, b.n))
		})
		clear(l.touched)
		for _, n := range work {
			if l.nodes[n.n] == n {
				l.judge(n)
			}
		}
	}
}

// strictness multiplies the evidence that a node needs: below the root of a
// service and of an API most children are routes.
func (n *node) strictness() int {
	switch seg := strings.ToLower(n.seg); {
	case n.depth == 0, n.depth == 1 && seg == route.Locale:
		return 2
	case seg == "api", seg == "rest", seg == "apis", seg == "rpc", seg == "graphql", seg == "admin", seg == "internal", seg == "wp-json",
		n.depth <= 3 && len(seg) >= 2 && len(seg) <= 8 && seg[0] == 'v' && seg[1] >= '0' && seg[1] <= '9':
		return 4
	}
	return 1
}

// judge decides which children of n are routes and which are names.
func (l *Learner) judge(n *node) {
	l.locales(n)
	l.forms(n)
	type class struct {
		evidence, light int
		members         []*node
	}
	classes := map[string]*class{}
	if len(n.children) < enough/4 {
		return
	}
	for _, seg := range slices.Sorted(maps.Keys(n.children)) {
		ext, words := look(seg)
		if words == 0 || n.has(ext) {
			continue
		}
		c := n.children[seg]
		k := classes[ext]
		if k == nil {
			k = &class{}
			classes[ext] = k
		}
		k.members = append(k.members, c)
		if !c.ok {
			continue
		}
		few := c.requests <= light || c.requests <= n.requests/200
		if few {
			k.light++
		}
		k.evidence += weight(c, words, few)
	}
	for _, ext := range slices.Sorted(maps.Keys(classes)) {
		k := classes[ext]
		strict := n.strictness()
		if k.evidence < enough*strict && k.light < many*strict {
			continue
		}
		shared := map[string]int{}
		for _, c := range k.members {
			for s := range c.children {
				shared[s]++
			}
		}
		l.rule(n, ext)
		into := n.children[collapsed(ext)]
		for _, c := range k.members {
			if c.apart(n, len(k.members), shared) {
				continue
			}
			if into == nil {
				into = l.add(n, collapsed(ext))
			}
			l.merge(into, c)
		}
	}
}

// weight is how much a child that succeeded says that its siblings are names.
func weight(c *node, words int, few bool) int {
	below := 0
	for s := range c.children {
		if strings.IndexByte(s, '{') >= 0 && !strings.Contains(s, route.Slug) {
			return 0 // a collection: its members are told by their shape
		}
		below++
	}
	switch {
	case words >= 3 && below <= 8:
		return 4
	case !few:
		return words - 1 // a word that many ask for is a page
	case below == 0:
		return min(2+words, 4)
	case below <= 8:
		return min(1+words, 4)
	}
	return 1
}

// apart reports whether a child stays a route of its own beside the names that
// collapse: for its traffic, or for a sub-tree that its siblings do not have.
func (n *node) apart(parent *node, siblings int, shared map[string]int) bool {
	own, placeholders := 0, 0
	for s := range n.children {
		if shared[s] >= 3 {
			continue
		}
		own++
		if strings.IndexByte(s, '{') >= 0 {
			placeholders++
		}
	}
	_, words := look(n.seg)
	share := parent.requests / uint32(max(siblings, 1))
	switch {
	case placeholders > 0:
		return true
	case words > 2:
		return n.requests >= 200 && n.requests > parent.requests/2 && own > 0
	case own >= 2 && n.requests >= 64 && n.requests > 4*share:
		return true
	}
	return words == 1 && n.requests >= 200 && n.requests > 10*share
}

func (l *Learner) rule(n *node, r string) {
	if i, ok := slices.BinarySearch(n.rules, r); !ok {
		n.rules = slices.Insert(n.rules, i, r)
		l.mark(n)
	}
}

// forms collapses what differs in numbers only.
func (l *Learner) forms(n *node) {
	if len(n.children) < series {
		return
	}
	members := map[string][]*node{}
	for _, seg := range slices.Sorted(maps.Keys(n.children)) {
		if f := form(seg); f != "" && n.children[seg].ok && !n.has(f) {
			members[f] = append(members[f], n.children[seg])
		}
	}
	for _, f := range slices.Sorted(maps.Keys(members)) {
		if len(members[f]) < series {
			continue
		}
		l.rule(n, f)
		name := strings.ReplaceAll(f, "#", route.ID)
		into := n.children[name]
		if into == nil {
			into = l.add(n, name)
		}
		for _, seg := range slices.Sorted(maps.Keys(n.children)) {
			if form(seg) == f {
				l.merge(into, n.children[seg])
			}
		}
	}
}

// locales finds the two-letter codes that are words, but stand where others are
// locales and have the same pages below.
func (l *Learner) locales(n *node) {
	into := n.children[route.Locale]
	if into == nil || !into.ok {
		return
	}
	for _, seg := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[seg]
		if !route.LocaleCode(seg) || !c.ok || len(c.children) == 0 {
			continue
		}
		same := 0
		for s := range c.children {
			if into.children[into.learned(s)] != nil {
				same++
			}
		}
		if same >= 2 && same*2 >= len(c.children) {
			l.rule(n, "="+seg)
			l.merge(into, c)
		}
	}
}

// merge adds from and all below to into, and forgets from.
func (l *Learner) merge(into, from *node) {
	into.requests = add(into.requests, from.requests)
	into.seen = max(into.seen, from.seen)
	into.ok = into.ok || from.ok
	into.known = into.known || from.known
	for _, r := range from.rules {
		if !into.has(r) {
			l.rule(into, r)
			l.absorb(into, r)
		}
	}
	for _, seg := range slices.Sorted(maps.Keys(from.children)) {
		c := from.children[seg]
		name := into.learned(seg)
		to := into.children[name]
		if to == nil && name == seg {
			delete(from.children, seg)
			l.move(c, into)
			continue
		}
		if to == nil {
			to = l.add(into, name)
		}
		l.merge(to, c)
	}
	l.drop(from)
	l.mark(into)
	l.touched[into] = true
	if into.parent != nil {
		l.touched[into.parent] = true
	}
}

// absorb applies a rule that n got from another node to the children it has.
func (l *Learner) absorb(n *node, rule string) {
	for _, seg := range slices.Sorted(maps.Keys(n.children)) {
		for _, r := range rulesFor(seg) {
			if r.name == "" || r.rule != rule || r.name == seg {
				continue
			}
			to := n.children[r.name]
			if to == nil {
				to = l.add(n, r.name)
			}
			l.merge(to, n.children[seg])
			break
		}
	}
}

// move hangs a node with all below under another parent.
func (l *Learner) move(n, parent *node) {
	n.parent = parent
	n.depth = parent.depth + 1
	n.template = ""
	parent.children[n.seg] = n
	l.mark(n)
	l.touched[parent] = true
	l.rename(n)
}

// rename forgets the cached templates below n.
func (l *Learner) rename(n *node) {
	for _, c := range n.children {
		c.template = ""
		c.depth = n.depth + 1
		l.rename(c)
	}
}
