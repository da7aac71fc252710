package slug_test

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/denywatch/denywatch/internal/route"
	"github.com/denywatch/denywatch/internal/route/slug"
)

// labelled is a path with the template that a person would write.
type labelled struct{ path, want string }

type style struct {
	name  string
	paths []labelled
}

func readStyles(t testing.TB) []style {
	t.Helper()
	f, err := os.Open("testdata/labelled.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []style
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "# style: "); ok {
			all = append(all, style{name: name})
			continue
		}
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		path, want, ok := strings.Cut(s.Text(), "\t")
		if !ok || len(all) == 0 {
			t.Fatalf("malformed line %q", s.Text())
		}
		all[len(all)-1].paths = append(all[len(all)-1].paths, labelled{path, want})
	}
	return all
}

// shapes is the template of a path by shapes alone.
func shapes(r *route.Router, path string) string {
	p := route.Path([]byte(path))
	_, end := r.Key(p, nil)
	return string(r.Template(nil, p[:end], nil))
}

// tally counts segments: variable ones that were found, that were not, and
// literals that were taken for variable.
type tally struct {
	found, missed, wrong, kept int
	exact, all                 int
	bad                        []string
}

// add compares segment by segment. The folded routes of scanners have no
// segments; they count among the exact ones only.
func (c *tally) add(path, want, got string) {
	c.all++
	if got == want {
		c.exact++
	} else {
		c.bad = append(c.bad, fmt.Sprintf("%s: got %s, want %s", path, got, want))
	}
	if want == slug.Unmatched {
		return
	}
	w, g := strings.Split(want, "/"), strings.Split(got, "/")
	for i := 1; i < len(w); i++ {
		variable := strings.Contains(w[i], "{")
		is := i < len(g) && strings.Contains(g[i], "{")
		switch {
		case variable && is:
			c.found++
		case variable:
			c.missed++
		case is || i >= len(g):
			c.wrong++
		default:
			c.kept++
		}
	}
}

func (c *tally) sum(o *tally) {
	c.found += o.found
	c.missed += o.missed
	c.wrong += o.wrong
	c.kept += o.kept
	c.exact += o.exact
	c.all += o.all
}

// precision is the share of the segments taken for variable that are.
func (c *tally) precision() float64 { return ratio(c.found, c.found+c.wrong) }

// recall is the share of the variable segments that were found.
func (c *tally) recall() float64 { return ratio(c.found, c.found+c.missed) }

// literals is the share of the literal segments that were kept.
func (c *tally) literals() float64 { return ratio(c.kept, c.kept+c.wrong) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 1
	}
	return float64(a) / float64(b)
}

func (c *tally) String() string {
	return fmt.Sprintf("precision %.3f  recall %.3f  literals kept %.3f  templates exact %.3f", c.precision(), c.recall(), c.literals(), ratio(c.exact, c.all))
}

// TestLabelled prints and guards how well templates are found: of the segments
// that a person would call variable or literal, by the shapes of single paths,
// and after learning from traffic in the style of the paths.
func TestLabelled(t *testing.T) {
	r, _ := route.New(nil)
	var before, after tally
	paths := 0
	for i, s := range readStyles(t) {
		paths += len(s.paths)
		var a, b tally
		l := learn(r, s, uint64(i))
		for _, p := range s.paths {
			shape := shapes(r, p.path)
			a.add(p.path, p.want, shape)
			b.add(p.path, p.want, l.Template(ref("shop", shape)))
		}
		before.sum(&a)
		after.sum(&b)
		t.Logf("%-46s %3d paths\n  shapes  %v\n  learned %v", s.name, len(s.paths), &a, &b)
		if testing.Verbose() {
			t.Log("\n  " + strings.Join(b.bad, "\n  "))
		}
	}
	t.Logf("%d paths\n  shapes  %v\n  learned %v", paths, &before, &after)
	if paths < 500 {
		t.Errorf("only %d paths", paths)
	}
	if before.precision() < floorShapePrecision || before.recall() < floorShapeRecall {
		t.Errorf("shapes: %v", &before)
	}
	if after.precision() < floorPrecision || after.recall() < floorRecall || after.literals() < floorLiterals || ratio(after.exact, after.all) < floorExact {
		t.Errorf("learned: %v", &after)
	}
}

// What was reached; see TestLabelled.
const (
	floorShapePrecision = 0.99
	floorShapeRecall    = 0.64 // a third of the variable segments are slugs
	floorPrecision      = 0.99
	floorRecall         = 0.99
	floorLiterals       = 0.99
	floorExact          = 0.98
)

// learn feeds a Learner a day of traffic in the style of the labelled paths:
// routes and things are asked for by Zipf's law, a few per cent of the requests
// are refused, scanners try their paths, and people mistype.
func learn(r *route.Router, s style, seed uint64) *slug.Learner {
	rnd := rand.New(rand.NewPCG(403, seed))
	l := slug.New(nil)
	order := rnd.Perm(len(s.paths))
	things := map[string][]string{}
	zipf := func(n int) int { return int(math.Exp(rnd.Float64()*math.Log(float64(n)+1))) - 1 }
	for range 24 {
		slot := map[string][2]uint32{}
		see := func(path string, ok bool) {
			k := shapes(r, path)
			c := slot[k]
			c[0]++
			if ok {
				c[1]++
			}
			slot[k] = c
		}
		for range 2000 {
			p := s.paths[order[zipf(len(order))]]
			if p.want == slug.Unmatched && rnd.IntN(100) > 0 {
				continue // scanners try much, each a little
			}
			see(instance(rnd, p, things, zipf), p.want != slug.Unmatched && rnd.IntN(100) > 3)
		}
		for range 10 {
			p := s.paths[rnd.IntN(len(s.paths))]
			see(p.path, p.want != slug.Unmatched)
		}
		for range 20 {
			p := s.paths[rnd.IntN(len(s.paths))]
			see(p.path+"x"+text(rnd, 1), false)
			see("/"+probe(rnd), false)
		}
		for k, c := range slot {
			l.Observe(ref("shop", k), c[0], c[1])
		}
		l.EndSlot()
	}
	return l
}

func probe(rnd *rand.Rand) string {
	list := strings.Fields("wp-login.php .env .git/config phpmyadmin/index.php cgi-bin/test.cgi backup.sql old/wp-admin/install.php admin.php shell.php vendor/phpunit/eval-stdin.php")
	return list[rnd.IntN(len(list))]
}

// instance is another path of the same template: a thing of each kind, out of
// as many as such a product has.
func instance(rnd *rand.Rand, p labelled, things map[string][]string, zipf func(int) int) string {
	if p.want == slug.Unmatched {
		return p.path
	}
	segs, want := strings.Split(strings.TrimRight(p.path, "/"), "/"), strings.Split(p.want, "/")
	if len(segs) != len(want) {
		return p.path
	}
	for i := range segs {
		if !strings.Contains(want[i], "{") {
			continue
		}
		// What stands before says what kind of thing it is.
		kind := strings.Join(want[:i], "/") + "/" + want[i]
		const most = 400
		n := zipf(most)
		for len(things[kind]) <= n {
			like := segs[i]
			things[kind] = append(things[kind], another(rnd, like, want[i]))
		}
		segs[i] = things[kind][n]
	}
	return strings.Join(segs, "/")
}

var vocabulary = strings.Fields(`amber river stone garden paper cloud silver north quick bright hidden golden market winter summer coffee
	window bridge forest island copper velvet harbour lantern meadow orchard pebble quarry ribbon saddle timber valley walnut yellow zephyr
	anchor basket candle dragon engine falcon guitar hammer insect jacket kettle ladder magnet needle oyster pillow rocket salmon teapot umbrella
	how why what when best new great simple better first last easy with for and the our your from into about under over`)

func text(rnd *rand.Rand, n int) string {
	w := make([]string, n)
	for i := range w {
		w[i] = vocabulary[rnd.IntN(len(vocabulary))]
	}
	return strings.Join(w, "-")
}

// another is a segment like the given one, for the placeholders in want.
func another(rnd *rand.Rand, like, want string) string {
	i, j := strings.IndexByte(want, '{'), strings.IndexByte(want, '}')
	pre, tail := want[:i], want[j+1:]
	mid := strings.TrimSuffix(strings.TrimPrefix(like, pre), tail)
	switch want[i : j+1] {
	case route.Slug, route.User, route.File:
		if want[i:j+1] == route.File && len(mid) > 7 && strings.ContainsAny(mid, "0123456789") && !strings.Contains(mid, "x") {
			break
		}
		words := 1 + strings.Count(mid, "-")
		name := text(rnd, max(1, words+rnd.IntN(3)-1))
		if words == 1 {
			name = text(rnd, 1)
			if rnd.IntN(2) == 0 {
				name += vocabulary[rnd.IntN(len(vocabulary))]
			}
		}
		return pre + name + tail
	case route.Locale:
		return pre + strings.Fields("en de fr en-GB pt-BR it es nl no")[rnd.IntN(9)] + tail
	case route.Date, route.Year, route.Month, route.Day, route.Host, route.Version:
		return like
	}
	b := []byte(mid)
	for k, c := range b {
		switch {
		case c >= '0' && c <= '9':
			b[k] = byte('0' + rnd.IntN(10))
		case c >= 'a' && c <= 'f':
			b[k] = byte('a' + rnd.IntN(6))
		case c >= 'g' && c <= 'z' && len(mid) >= 8 && strings.ContainsAny(mid, "0123456789"):
			b[k] = byte('g' + rnd.IntN(20))
		case c >= 'A' && c <= 'Z' && len(mid) >= 8:
			b[k] = byte('A' + rnd.IntN(26))
		}
	}
	return pre + string(b) + tail
}
