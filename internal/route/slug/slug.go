// Package slug learns which literals of route templates are names of things:
// "/blog/my-first-post" and "/blog/hello-world" become "/blog/{slug}". What the
// shapes of package route cannot see, because one path tells nothing, the many
// siblings of a path do.
//
// A Learner is told the routes of each slot and answers with their learned
// templates. It depends on nothing but the sequence of slots: not on the order
// inside a slot, the clock, or a hash seed. What has collapsed stays collapsed.
// Paths that never succeeded and are asked for by hardly anybody are what
// scanners try; all of a service's become one route, Unmatched.
package slug

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/route"
)

// Unmatched is the template of a service's paths that never succeeded.
const Unmatched = "_unmatched"

// Bounds. What does not fit is not learned, see Template.
const (
	maxNodes    = 1 << 15 // all services together
	maxServices = 1 << 10
	maxPending  = 1 << 16 // new routes of one slot
	maxDepth    = route.MaxSegments + 2
	maxText     = 1 << 10 // bytes of a service or route
)

const (
	// enough is the evidence at which literals collapse: four for each child
	// that is surely a slug, less for single words and what has routes below.
	enough = 160
	// series is how many children of one form ("item1", "item2") collapse.
	series = 20
	// many is how many light children collapse whatever they look like.
	many = 400
	// light is how many requests of late a child of few has.
	light = 16
	// heavy is how many requests of late a path needs to be a route of its own
	// although it never succeeded: a new wall is no scanner's noise.
	heavy = 32
	// halfLife is after how many slots requests count half.
	halfLife = 1024
)

// node is a segment of learned templates; a service is one without a parent.
type node struct {
	n        int // place in Learner.nodes
	depth    int // 0 for a service
	parent   *node
	seg      string
	children map[string]*node
	// rules say which literals collapsed, sorted: "" for slugs, ".pdf" for names
	// with an extension, "item#" for a series, "=it" for a locale.
	rules    []string
	requests uint32 // of late, with all below
	seen     uint32 // slot of the newest request, with all below
	ok       bool   // it or something below succeeded once
	known    bool   // never folds into Unmatched again
	template string // cached; "" unknown
	slot     counts // of the current slot, where it is among Learner.proven
	counted  bool   // it is
}

type key struct{ service, route string }

type counts struct{ requests, ok uint32 }

// Learner learns the slugs of all services. It has one writer: all methods are
// for one goroutine.
type Learner struct {
	services map[string]*node
	nodes    []*node // by number, nil where free
	free     []int   // free numbers, largest first
	live     int
	keep     map[string]bool
	kept     uint32         // how often keep was replaced
	proven   []*node        // that this slot has requests for and that are no noise
	pending  map[key]counts // and the rest
	level    uint           // of 2^level of the rest one is taken into account
	left     bool           // some route of this slot is not taken into account
	full     bool           // of the last slot something was left out or forgotten
	slot     uint32
	touched  map[*node]bool
	dirty    map[int]bool // blocks of nodes changed since Saved
	loaded   map[int][]record
}

// New returns a Learner that knows nothing. keep are the configured patterns;
// they are neither learned from nor changed.
func New(keep []string) *Learner {
	l := &Learner{}
	l.reset()
	l.Keep(keep)
	return l
}

func (l *Learner) reset() {
	*l = Learner{
		services: map[string]*node{}, keep: l.keep, kept: l.kept, pending: map[key]counts{},
		touched: map[*node]bool{}, dirty: map[int]bool{}, loaded: map[int][]record{},
	}
}

// Keep replaces the configured patterns.
func (l *Learner) Keep(patterns []string) {
	l.kept++
	l.keep = make(map[string]bool, len(patterns))
	for _, p := range patterns {
		l.keep[p] = true
	}
}

// given reports whether a template is none of a Learner's business: configured,
// of the application, or no path.
func (l *Learner) given(r string) bool {
	if r == "" || r[0] != '/' || len(r) > maxText || l.keep[r] {
		return true
	}
	if deep, ok := strings.CutSuffix(r, "/**"); ok {
		// The shapes end so only what is too deep or too long.
		if strings.Count(deep, "/") < route.MaxSegments && len(deep) < route.MaxBytes/2 {
			return true
		}
		r = deep
	}
	if strings.IndexByte(r, '{') < 0 {
		return false
	}
	for s := range strings.SplitSeq(r, "/") {
		if !route.Shaped(s) {
			return true
		}
	}
	return false
}

// Ref is a route that a Learner is asked about again and again: it remembers
// where the Learner found it. It belongs to one Learner.
type Ref struct {
	// Service and Route are not changed after the first use.
	Service, Route string
	node           *node
	kept           uint32 // Learner.kept that given holds for; 0 for none
	given          bool
}

// isGiven is Learner.given of the reference's route, remembered until the patterns
// change.
func (r *Ref) isGiven(l *Learner) bool {
	if r.kept != l.kept {
		r.kept, r.given = l.kept, l.given(r.Route)
	}
	return r.given
}

// find is Learner.find of the reference's route. A node keeps standing for the
// routes it was found for wherever it is moved, until it is forgotten: a literal
// that is there goes before every rule, and where a rule has been followed no
// such literal is made any more.
func (r *Ref) find(l *Learner) *node {
	if n := r.node; n != nil && n.n < len(l.nodes) && l.nodes[n.n] == n {
		return n
	}
	r.node = l.find(r.Service, r.Route)
	return r.node
}

// Observe adds requests for a route in the current slot, of which ok prove that
// there is something at the path: those that were not answered by 400, 404, 405
// or 410. It may be called any number of times for one route, in any order.
func (l *Learner) Observe(r *Ref, requests, ok uint32) {
	if requests == 0 || len(r.Service) > maxText || r.isGiven(l) {
		return
	}
	if n := r.find(l); n != nil && (n.ok || n.known) {
		if !n.counted {
			n.counted, n.slot = true, counts{}
			l.proven = append(l.proven, n)
		}
		n.slot = counts{add(n.slot.requests, requests), add(n.slot.ok, ok)}
		return
	}
	k := key{r.Service, r.Route}
	c, had := l.pending[k]
	if !had && l.level > 0 && !l.taken(k) {
		l.left = true
		return
	}
	l.pending[k] = counts{add(c.requests, requests), add(c.ok, ok)}
	for len(l.pending) > maxPending {
		l.level++
		l.left = true
		maps.DeleteFunc(l.pending, func(k key, _ counts) bool { return !l.taken(k) })
	}
}

// find returns the node of a route, nil where there is none.
func (l *Learner) find(service, route string) *node {
	at := l.services[service]
	depth := 0
	if at == nil {
		return nil
	}
	segments(route, func(seg string) bool {
		if depth++; depth > maxDepth {
			return false
		}
		at = at.children[at.learned(seg)]
		return at != nil
	})
	return at
}

// taken reports whether a route is among those that are taken into account; a
// choice that does not depend on the order of calls.
func (l *Learner) taken(k key) bool {
	h := fnv.New64a()
	h.Write([]byte(k.service))
	h.Write([]byte{0})
	h.Write([]byte(k.route))
	x := h.Sum64()
	x ^= x >> 31
	return x&(1<<min(l.level, 63)-1) == 0
}

func add(a, b uint32) uint32 {
	if a > math.MaxUint32-b {
		return math.MaxUint32
	}
	return a + b
}

// EndSlot learns from what was observed since the last EndSlot.
func (l *Learner) EndSlot() {
	l.full = l.left
	l.slot++
	for _, n := range l.proven {
		n.counted = false
		l.count(n, n.slot)
	}
	clear(l.proven)
	l.proven = l.proven[:0]
	keys := slices.SortedFunc(maps.Keys(l.pending), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.route, b.route))
	})
	for _, k := range keys {
		l.insert(k, l.pending[k])
	}
	clear(l.pending)
	l.level, l.left = 0, false
	l.collapse()
	if l.slot%halfLife == 0 {
		for _, n := range l.nodes {
			if n != nil {
				n.requests /= 2
				l.mark(n)
			}
		}
	}
	l.prune()
}

// segments yields the segments of a template.
func segments(route string, yield func(seg string) bool) {
	for rest := route; rest != ""; {
		rest = rest[1:]
		seg := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			seg, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		if !yield(seg) {
			return
		}
	}
}

func (l *Learner) insert(k key, c counts) {
	at := l.services[k.service]
	if at == nil {
		if len(l.services) >= maxServices {
			l.full = true
			return
		}
		at = l.add(nil, k.service)
	}
	depth := 0
	segments(k.route, func(seg string) bool {
		if depth++; depth > maxDepth {
			return false
		}
		seg = at.learned(seg)
		next := at.children[seg]
		if next == nil {
			next = l.add(at, seg)
		}
		at = next
		return true
	})
	l.count(at, c)
	// A wall on a route that nobody ever got through is found by its traffic.
	if at.ok || at.requests >= heavy && !probed(k.route) {
		at.known = true
	}
}

// count adds requests to a node and all above it.
func (l *Learner) count(n *node, c counts) {
	for ; n != nil; n = n.parent {
		n.requests = add(n.requests, c.requests)
		n.seen = l.slot
		if c.ok > 0 && !n.ok {
			n.ok = true
			if n.parent != nil {
				l.touched[n.parent] = true
			}
		}
		l.mark(n)
	}
}

func (l *Learner) mark(n *node) { l.dirty[n.n/nodesBlock] = true }

func (l *Learner) add(parent *node, seg string) *node {
	n := &node{parent: parent, seg: strings.Clone(seg), children: map[string]*node{}, seen: l.slot}
	if k := len(l.free); k > 0 {
		n.n = l.free[k-1]
		l.free = l.free[:k-1]
		l.nodes[n.n] = n
	} else {
		n.n = len(l.nodes)
		l.nodes = append(l.nodes, n)
	}
	l.live++
	l.link(n)
	l.mark(n)
	return n
}

func (l *Learner) link(n *node) {
	if n.parent == nil {
		l.services[n.seg] = n
		return
	}
	n.depth = n.parent.depth + 1
	n.parent.children[n.seg] = n
	l.touched[n.parent] = true
}

// drop forgets a node that has no children.
func (l *Learner) drop(n *node) {
	if n.parent == nil {
		delete(l.services, n.seg)
	} else {
		delete(n.parent.children, n.seg)
	}
	delete(l.touched, n)
	l.nodes[n.n] = nil
	l.live--
	// Numbers are given out smallest first, so that they are the same after a
	// restart, when the free ones are found by looking.
	i, _ := slices.BinarySearchFunc(l.free, n.n, func(a, b int) int { return cmp.Compare(b, a) })
	l.free = slices.Insert(l.free, i, n.n)
	l.mark(n)
}

// Template returns the learned template of a route: the route itself until
// something of it collapsed. While more routes came in a slot than are
// remembered, those that are not are Unmatched too.
func (l *Learner) Template(r *Ref) string {
	route := r.Route
	if r.isGiven(l) {
		return route
	}
	braces := strings.IndexByte(route, '{') >= 0
	at := l.services[r.Service]
	if at == nil {
		return route
	}
	if n := r.node; n != nil && n.depth > 0 && n.depth < maxDepth && l.nodes[n.n] == n {
		if !braces && !n.ok && !n.known && n.seg != "" {
			return Unmatched
		}
		return n.path()
	}
	depth, pos, changed := 0, 0, false
	var tail []string
	segments(route, func(seg string) bool {
		pos += 1 + len(seg)
		learned := at.learned(seg)
		next := at.children[learned]
		changed = changed || learned != seg
		if next == nil || depth >= maxDepth {
			tail = append(tail, learned)
			if pos < len(route) {
				tail = append(tail, route[pos+1:])
			}
			return false
		}
		at = next
		depth++
		return true
	})
	switch {
	case tail != nil && !braces && l.full:
		return Unmatched
	case tail != nil && !changed:
		return route
	case tail != nil:
		return at.path() + "/" + strings.Join(tail, "/")
	case !braces && !at.ok && !at.known && at.seg != "":
		return Unmatched
	case !changed:
		return route
	}
	return at.path()
}

// path is the template of a node.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if n.template == "" {
		n.template = n.parent.path() + "/" + n.seg
	}
	return n.template
}

// prune forgets leaves when there are too many nodes: first those that never
// succeeded, then those not seen for longest, last those that collapsed.
func (l *Learner) prune() {
	for l.live > maxNodes {
		l.full = true
		var leaves []*node
		for _, n := range l.nodes {
			if n != nil && len(n.children) == 0 {
				leaves = append(leaves, n)
			}
		}
		slices.SortFunc(leaves, func(a, b *node) int {
			return cmp.Or(compareBool(len(a.rules) > 0, len(b.rules) > 0), compareBool(a.ok, b.ok), compareBool(a.known, b.known), cmp.Compare(a.seen, b.seen), cmp.Compare(a.requests, b.requests), cmp.Compare(a.n, b.n))
		})
		excess := l.live - maxNodes*3/4
		for _, n := range leaves[:min(excess, len(leaves))] {
			l.drop(n)
		}
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
