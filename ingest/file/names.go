package file

import (
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How rotation names a file: the marker that it puts behind the base name.
var (
	// logrotate's default, and most loggers': access.log.1. More than three
	// digits are a port or a process number rather than a generation.
	numberMarker = regexp.MustCompile(`^\.[0-9]{1,3}$`)
	// logrotate's dateext with any of its usual dateformats (-%Y%m%d,
	// -%Y%m%d-%H, -%Y%m%d-%s, .%Y-%m-%d, -%Y-%m), with the index some loggers add.
	dateMarker = regexp.MustCompile(`^[-._](19|20)[0-9]{2}[-._]?(0[1-9]|1[0-2])` +
		`([-._]?[0-3][0-9]([-._T]?[0-2][0-9]([-._:]?[0-5][0-9]([-._:]?[0-5][0-9])?)?)?)?([-._]([0-9]{1,3}|1[0-9]{9}))?$`)
	// dateformat -%s.
	epochMarker = regexp.MustCompile(`^[-._]1[0-9]{9}$`)
)

// compressedExts are the endings of files that a glob leaves out.
var compressedExts = []string{".gz", ".zst", ".bz2", ".xz", ".lz4", ".Z"}

// order says by what the generations of one scheme are sorted.
type order uint8

const (
	byNumber order = iota + 1
	byDate
	byOld
)

// rotated is one reading of a file name as a generation of a base name.
type rotated struct {
	base  string
	order order
	// key sorts generations of the same order, the oldest first.
	key string
}

func isCompressedName(name string) bool {
	return slices.Contains(compressedExts, filepath.Ext(name))
}

// trimCompressed cuts the ending of a compressed file off.
func trimCompressed(name string) string {
	if isCompressedName(name) {
		return strings.TrimSuffix(name, filepath.Ext(name))
	}
	return name
}

// readings returns how name (of a file, without folder or with) can be read as a
// rotated generation: with the marker at its end (access.log.1) and in front of
// its extension (access.1.log, access-20260101.log). Compression endings do not
// count.
func readings(name string) []rotated {
	dir, file := filepath.Split(trimCompressed(name))
	var out []rotated
	if stem, ok := strings.CutSuffix(file, ".old"); ok && stem != "" {
		out = append(out, rotated{base: dir + stem, order: byOld})
	}
	if base, o, key := cutMarker(file); o != 0 {
		out = append(out, rotated{base: dir + base, order: o, key: key})
	}
	if ext := filepath.Ext(file); len(ext) > 1 && (ext[1] < '0' || ext[1] > '9') {
		if base, o, key := cutMarker(strings.TrimSuffix(file, ext)); o != 0 {
			out = append(out, rotated{base: dir + base + ext, order: o, key: key})
		}
	}
	return out
}

// cutMarker splits name before the longest marker it ends in.
func cutMarker(name string) (base string, o order, key string) {
	for i := 1; i < len(name); i++ {
		switch name[i] {
		case '.', '-', '_':
		default:
			continue
		}
		marker := name[i:]
		switch {
		case numberMarker.MatchString(marker):
			n, _ := strconv.Atoi(marker[1:]) // at most three digits
			return name[:i], byNumber, string(rune(0x1000 - n))
		case dateMarker.MatchString(marker), epochMarker.MatchString(marker):
			return name[:i], byDate, digits(marker)
		}
	}
	return "", 0, ""
}

// digits returns the digits of s, so that dates of one format sort as text.
func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// readingAs returns the reading of name as a generation of base.
func readingAs(name, base string) (rotated, bool) {
	for _, r := range readings(name) {
		if r.base == base {
			return r, true
		}
	}
	return rotated{}, false
}

// aged is what decides the age of a generation.
type aged struct {
	rotated
	live  bool // the base name itself
	mtime time.Time
}

// olderFirst returns the comparison that sorts the generations of one base, the
// oldest first and the live file last. Generations that are all named in one
// scheme are sorted by their names, which are exact; mixed ones, left by a
// change of configuration, by modification time, which renaming and compressing
// keep.
func olderFirst(all []aged) func(a, b aged) int {
	scheme, mixed := order(0), false
	for _, a := range all {
		if a.live {
			continue
		}
		mixed = mixed || scheme != 0 && scheme != a.order
		scheme = a.order
	}
	return func(a, b aged) int {
		if a.live != b.live {
			if a.live {
				return 1
			}
			return -1
		}
		if !mixed {
			if c := strings.Compare(a.key, b.key); c != 0 {
				return c
			}
		}
		return a.mtime.Compare(b.mtime)
	}
}

// GroupRotated splits paths into the rotated generations of one log each, the
// oldest first; groups come in the order of their first member. It looks at
// names only: a name without its compression ending that ends in .N or a date
// (access.log.1, access.log-20260101, access.log.2026-01-01, access.log.old) or
// has it in front of its extension (access.1.log, access-20260101.log) belongs
// to the name without it, whether that is among paths or not. Dates are taken
// to be older than numbers, numbers count downwards, .old comes next and the
// base name is the newest. Paths that say the same (access.log.1 and
// access.log.1.gz) keep their order. The caller, who can read the first event of
// each, may know better.
func GroupRotated(paths []string) [][]string {
	type member struct {
		path string
		rank int
		key  string
	}
	var bases []string
	groups := map[string][]member{}
	for _, p := range paths {
		m := member{path: p, rank: 3}
		base := p
		if p != "-" {
			base = trimCompressed(p)
			if rs := readings(p); len(rs) > 0 {
				base, m.key = rs[0].base, rs[0].key
				m.rank = map[order]int{byDate: 0, byNumber: 1, byOld: 2}[rs[0].order]
			}
		}
		if _, ok := groups[base]; !ok {
			bases = append(bases, base)
		}
		groups[base] = append(groups[base], m)
	}
	out := make([][]string, 0, len(bases))
	for _, base := range bases {
		g := groups[base]
		slices.SortStableFunc(g, func(a, b member) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.key, b.key))
		})
		set := make([]string, len(g))
		for i, m := range g {
			set[i] = m.path
		}
		out = append(out, set)
	}
	return out
}
