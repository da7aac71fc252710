package collect

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/denywatch/denywatch/internal/tally"
)

// maxName bounds a role, country, plan, host, service or flag in bytes.
const maxName = 64

// names numbers the values of one dimension: 0 is the empty value, 1 Other.
type names struct {
	ids  map[string]uint32
	list []string
	max  int
	// recent is a direct-mapped cache in front of ids; nil until the first value.
	recent []recentName
}

// recentName is a raw value with its number.
type recentName struct {
	raw string
	id  uint32
}

// recentNames is a power of two.
const recentNames = 64

func newNames(most int) *names {
	return &names{ids: map[string]uint32{}, list: []string{"", tally.Other}, max: most}
}

// id numbers b; folded tells that the bound was reached and b counts as Other.
func (n *names) id(b []byte) (id uint32, folded bool) {
	if len(b) == 0 {
		return 0, false
	}
	if n.recent == nil {
		n.recent = make([]recentName, recentNames)
	}
	r := &n.recent[(int(b[0])+int(b[len(b)-1])*7+len(b))%recentNames]
	if r.raw == string(b) {
		return r.id, false
	}
	if id, ok := n.ids[string(b)]; ok {
		if n.list[id] == string(b) {
			*r = recentName{n.list[id], id}
		}
		return id, false
	}
	return n.add(string(b), clean(b))
}

// add numbers a new value under its raw and its clean form.
func (n *names) add(raw, name string) (id uint32, folded bool) {
	id, ok := n.ids[name]
	if !ok {
		if len(n.list) >= n.max {
			return 1, true
		}
		id = uint32(len(n.list))
		n.list = append(n.list, name)
		n.ids[name] = id
	}
	if raw != name && len(raw) <= 4*maxName && len(n.ids) < 2*n.max {
		n.ids[raw] = id
	}
	return id, false
}

// fading numbers the values of a dimension of which ever new ones come, such as versions.
// When there is no room for one, all are forgotten at the next turn, and those still in
// use come back. No number stands for two values in the life of a stream.
type fading struct {
	*names
	prefix string // of names
	from   uint32 // the number of list[0]
	full   bool
}

func newFading(most int, prefix string, from uint32) fading {
	return fading{names: newNames(most), prefix: prefix, from: from}
}

// id numbers b and says its name; folded tells that the bound was reached and b counts as
// Other.
func (f *fading) id(b []byte) (id uint32, name string, folded bool) {
	i := uint32(0)
	if len(b) > 0 {
		var ok bool
		if i, ok = f.ids[string(b)]; !ok {
			i, folded = f.add(string(b), f.prefix+clean(b))
			f.full = f.full || folded
		}
	}
	return f.from + i, f.list[i], folded
}

// turn forgets all values if there was no room for one.
func (f *fading) turn() {
	if f.full {
		*f = newFading(f.max, f.prefix, f.from+uint32(len(f.list)))
	}
}

// clean makes a value fit for keys, messages and labels: valid UTF-8 without
// control characters, at most maxName bytes.
func clean(b []byte) string {
	s := strings.ToValidUTF8(string(b), "\ufffd")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\ufffd'
		}
		return r
	}, s)
	if len(s) <= maxName {
		return s
	}
	cut := maxName - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// capitals is a country as it is counted: codes of two letters are written in
// capitals, as in ISO 3166-1 and in databases. Cloudflare logs small ones, those
// of the pseudo-countries t1 (Tor) and xx (unknown) too. Names stay as they are.
func capitals(geo []byte, code *[2]byte) []byte {
	if len(geo) != len(code) {
		return geo
	}
	for i, c := range geo {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		code[i] = c
	}
	return code[:]
}

// roles makes one value of several roles: the first of the configured priority,
// else all of them sorted and joined.
func joinRoles(dst []byte, roles [][]byte, priority []string) []byte {
	switch len(roles) {
	case 0:
		return dst
	case 1:
		return append(dst, roles[0]...)
	}
	for _, p := range priority {
		for _, r := range roles {
			if string(r) == p {
				return append(dst, r...)
			}
		}
	}
	slices.SortFunc(roles, bytes.Compare)
	for i, r := range roles {
		if i > 0 {
			if bytes.Equal(r, roles[i-1]) {
				continue
			}
			dst = append(dst, '+')
		}
		dst = append(dst, r...)
		if len(dst) > maxName {
			break
		}
	}
	return dst
}

// leafTable finds a leaf's number by the numbers of its names.
type leafTable struct {
	ents []leafEnt // open addressing, a power of two
	n    uint32
}

type leafEnt struct {
	key  uint64 // of leafNames
	leaf uint32 // 1 + number; 0 free
}

// leafNames are the numbers of a leaf's names.
type leafNames struct{ route, role, geo, service, plan, host uint32 }

// key packs them, which the bounds of the dictionaries keep small enough.
func (n *leafNames) key() uint64 {
	key := uint64(n.route)
	key = key*maxRoles + uint64(n.role)
	key = key*maxGeos + uint64(n.geo)
	key = key*maxServices + uint64(n.service)
	key = key*maxPlans + uint64(n.plan)
	return key*maxHosts + uint64(n.host)
}

// The keys fit: a negative array length would not compile.
var _ [1<<63/maxRoutes/maxRoles/maxGeos/maxServices/maxPlans/maxHosts - 1]struct{}

// find returns the leaf's number and whether it is new.
func (t *leafTable) find(key uint64) (leaf uint32, fresh bool) {
	t.ready()
	e := t.slot(key)
	if e.leaf != 0 {
		return e.leaf - 1, false
	}
	t.n++
	*e = leafEnt{key, t.n}
	return t.n - 1, true
}

// home is where key is looked for first. There is room.
func (t *leafTable) home(key uint64) uint64 {
	hi, lo := bits.Mul64(key, 0xd6e8feb86659fd93)
	return (hi ^ lo) & uint64(len(t.ents)-1)
}

func (t *leafTable) slot(key uint64) *leafEnt {
	mask := uint64(len(t.ents) - 1)
	for i := t.home(key); ; i = (i + 1) & mask {
		if e := &t.ents[i]; e.leaf == 0 || e.key == key {
			return e
		}
	}
}

// ready makes room for one more leaf.
func (t *leafTable) ready() {
	if int(t.n)*2 < len(t.ents) {
		return
	}
	old := t.ents
	t.ents = make([]leafEnt, max(64, 2*len(old)))
	for i := range old {
		if old[i].leaf != 0 {
			*t.slot(old[i].key) = old[i]
		}
	}
}

func (t *leafTable) reset() {
	clear(t.ents)
	t.n = 0
}
