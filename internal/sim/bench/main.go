// Command bench measures the judge on labelled traffic: how many incidents it finds,
// how soon, under which name, and how often it is wrong, beside the rules that
// people usually write. `make bench-detect` runs it.
//
// The seeds of the sets dev and held-out are apart, so that what was tuned on one is
// judged on the other.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/sim"
)

// heldOut is the first seed of the set held-out.
const heldOut = 1 << 20

// settings are the products that are simulated.
var settings = []struct {
	name string
	sim.Setting
}{
	{"standard", sim.Setting{WarmUp: 7, Test: 7, Routes: 200, Roles: 5, Geos: 12, Rate: 3000}},
	{"hard", sim.Setting{WarmUp: 7, Test: 7, Routes: 200, Roles: 5, Geos: 12, Rate: 3000, Hard: true}},
	{"small", sim.Setting{WarmUp: 5, Test: 7, Routes: 14, Roles: 4, Geos: 6, Rate: 300, Loyal: 0.3, Anonymous: "anonymous"}},
	{"tiny", sim.Setting{WarmUp: 3, Test: 7, Routes: 8, Roles: 3, Geos: 4, Rate: 60, Loyal: 0.3}},
	{"thin", sim.Setting{WarmUp: 7, Test: 7, Routes: 60, Roles: 4, Geos: 8, Rate: 200}},
	{"busy", sim.Setting{WarmUp: 4, Test: 7, Routes: 150, Roles: 8, Geos: 14, Rate: 5000, Releases: 2, Anonymous: "anonymous"}},
	{"bare", sim.Setting{WarmUp: 7, Test: 7, Routes: 40, Roles: 1, Geos: 8, Rate: 800, NoUsers: true}},
	{"nowhere", sim.Setting{WarmUp: 5, Test: 7, Routes: 80, Roles: 5, Geos: 1, Rate: 1500, NoAccounts: true, Loyal: 0.6}},
	{"young", sim.Setting{WarmUp: 1, Test: 7, Routes: 200, Roles: 5, Geos: 12, Rate: 3000, Anonymous: "anonymous"}},
	{"eager", sim.Setting{WarmUp: 2, Test: 7, Routes: 120, Roles: 5, Geos: 10, Rate: 2000, Releases: 5}},
	{"newcomers", sim.Setting{WarmUp: 3, Test: 7, Routes: 200, Roles: 5, Geos: 12, Rate: 3000, NewRoutes: true}},
}

type options struct {
	setting  string
	set      string
	first, n int
	warm     int
	days     int
	perWeek  float64
	sample   uint
	rivals   bool
	quiet    bool
	verbose  bool
	logs     string
	against  string
}

func main() {
	var o options
	flag.StringVar(&o.setting, "setting", "standard", "kind of product, several with commas, or all: "+strings.Join(names(), ", "))
	flag.StringVar(&o.set, "set", "dev", "which seeds: dev or held-out")
	flag.IntVar(&o.first, "first", 1, "number of the first seed of the set")
	flag.IntVar(&o.n, "seeds", 1, "how many seeds of every setting")
	flag.IntVar(&o.warm, "warm", -1, "days before the first happening; -1: the setting's")
	flag.IntVar(&o.days, "days", -1, "days with happenings; -1: the setting's")
	flag.Float64Var(&o.perWeek, "alerts-per-week", 1, "the judge's knob")
	flag.UintVar(&o.sample, "sample", 1, "N: only one of N requests is logged")
	flag.BoolVar(&o.rivals, "rivals", false, "measure the usual rules too")
	flag.BoolVar(&o.quiet, "quiet", false, "nothing happens")
	flag.BoolVar(&o.verbose, "v", false, "tell every miss, false incident and wrong scope")
	flag.StringVar(&o.logs, "logs", "", "write app.jsonl, markers.jsonl and truth.jsonl of one seed to this folder instead of judging")
	flag.StringVar(&o.against, "against", "", "score this output of `replay --output jsonl` of the log of one seed instead of judging")
	flag.Parse()
	if err := o.run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func names() (out []string) {
	for i := range settings {
		out = append(out, settings[i].name)
	}
	return out
}

// seed is the number of a seed of the set.
func (o *options) seed(i int) (uint64, error) {
	switch o.set {
	case "dev":
		return uint64(o.first + i), nil
	case "held-out":
		return uint64(heldOut + o.first + i), nil
	}
	return 0, fmt.Errorf("set %q is unknown; use dev or held-out", o.set)
}

func (o *options) run(w io.Writer) error {
	all := newScore()
	var order []string
	rivals := map[string]*score{}
	chosen := strings.Split(o.setting, ",")
	for _, name := range chosen {
		if name != "all" && !slices.Contains(names(), name) {
			return fmt.Errorf("setting %q is unknown; use some of %s, or all", name, strings.Join(names(), ", "))
		}
	}
	for i := range settings {
		if !slices.Contains(chosen, settings[i].name) && o.setting != "all" {
			continue
		}
		part := newScore()
		for k := range o.n {
			set := settings[i].Setting
			var err error
			if set.Seed, err = o.seed(k); err != nil {
				return err
			}
			set.Start = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
			set.Quiet = o.quiet
			if o.warm >= 0 {
				set.WarmUp = o.warm
			}
			if o.days > 0 {
				set.Test = o.days
			}
			t, err := sim.NewTrial(set)
			if err != nil {
				return err
			}
			test := t.Start.AddDate(0, 0, t.WarmUp)
			one := newScore()
			one.days = float64(set.Test)
			note := func(what string, l *sim.Label, f *found) {
				if o.verbose {
					fmt.Fprintf(w, "%s %d: %s%s\n", settings[i].name, set.Seed, what, describe(l, f))
				}
			}
			switch {
			case o.logs != "":
				return write(o.logs, t)
			case o.against != "":
				told, err := readTold(o.against, t)
				if err != nil {
					return err
				}
				one.judge(t.Labels(), test, told, note)
			default:
				var g *gang
				if o.rivals {
					g = newGang()
				}
				one.judge(t.Labels(), test, watch(t, o, one, g), note)
				if g == nil {
					break
				}
				names, scores := g.scores(t)
				order = names
				for i, name := range names {
					if rivals[name] == nil {
						rivals[name] = newScore()
					}
					rivals[name].add(scores[i])
				}
			}
			part.add(one)
		}
		if len(chosen) > 1 || o.setting == "all" {
			k := part.total()
			fmt.Fprintf(w, "%-9s recall %d/%d, exact %d, false %.2f a week and %d before, median %.0f min, ratio %.2f, CPU %.1f s a week\n", settings[i].name, k.hits, k.n, k.exact,
				float64(part.wrong)*7/part.days, part.early, quantile(k.delays, 0.5), quantile(k.ratios(), 0.5), part.cpu*7/part.days)
		}
		all.add(part)
	}
	return report(w, all, order, rivals)
}

// describe says what a note is about.
func describe(l *sim.Label, f *found) string {
	var b strings.Builder
	if l != nil {
		fmt.Fprintf(&b, " %s %s %s from %s to %s, bound %d;", l.Kind, l.Direction, short(&l.Scope), l.From.Format("02 15:04"), l.To.Format("02 15:04"), l.Bound)
	}
	if f != nil {
		in := &f.numbers
		fmt.Fprintf(&b, " told %s %s %s, at first %s, %.4f against %.4f, %d of %d, %d people, %d used to get in, over %s, marker %q", f.opened.Format("02 15:04"),
			in.Direction, short(&f.last), short(&f.first), in.ObservedRate, in.ExpectedRate, in.Denials, in.Requests, in.Identities, in.UsedToGetIn, f.resolved.Format("02 15:04"), f.marker)
	}
	return b.String()
}

// short is a scope for notes.
func short(s *incident.Scope) string {
	return strings.Join(strings.Fields(s.Prefix+" "+s.Route+" "+s.Role+" "+s.Geo), " ") + "."
}

// watch lets the judge, and its rivals unless g is nil, see a trial.
func watch(t *sim.Trial, o *options, s *score, g *gang) []found {
	cfg := detector.Defaults()
	cfg.AlertsPerWeek = o.perWeek
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s.watched = float64(t.WarmUp + t.Test)
	before := heap()
	d := detector.New(cfg)
	for _, m := range t.Markers() {
		d.Mark(m)
	}
	f := newFeed(t, max(uint32(o.sample), 1))
	at := map[string]int{}
	var told []found
	var judged, simulated time.Duration
	clock := cpu()
	lap := func(into *time.Duration) {
		now := cpu()
		*into += now - clock
		clock = now
	}
	for {
		c := f.next()
		lap(&simulated)
		if c == nil {
			break
		}
		trs := d.Close(c)
		lap(&judged)
		for i := range trs {
			in := &trs[i].Incident
			scope := in.Scope
			scope.Service = ""
			if trs[i].Kind == incident.Opened || trs[i].Kind == incident.Reopened {
				at[in.ID] = len(told)
				told = append(told, found{opened: trs[i].At, rise: in.Direction != incident.Down, first: scope, marker: in.Marker})
			}
			f := &told[at[in.ID]]
			f.last, f.numbers = scope, *in
			if in.ResolvedAt != nil {
				f.resolved = *in.ResolvedAt
			}
		}
		if g != nil {
			g.see(c)
		}
		lap(new(time.Duration))
	}
	for _, in := range d.Incidents() {
		if k, ok := at[in.ID]; ok {
			told[k].last = in.Scope
			told[k].last.Service = ""
			told[k].numbers = in
		}
	}
	s.series = d.Stats().Series
	s.bytes = int(heap() - before)
	s.cpu, s.simulated = judged.Seconds(), simulated.Seconds()
	s.work = float64(s.series) * s.watched * 1440
	runtime.KeepAlive(d)
	return told
}

// readTold reads what replay told about a trial.
func readTold(path string, t *sim.Trial) ([]found, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var told []found
	for d := json.NewDecoder(file); ; {
		var in incident.Incident
		if err := d.Decode(&in); err == io.EOF {
			return told, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		in.Scope.Service = ""
		f := found{opened: in.OpenedAt, rise: in.Direction != incident.Down, first: in.Scope, last: in.Scope, marker: in.Marker, numbers: in}
		if in.ResolvedAt != nil {
			f.resolved = *in.ResolvedAt
		}
		told = append(told, f)
	}
}

// write writes a trial's log, late lines late, with its markers and labels.
func write(dir string, t *sim.Trial) error {
	lines := func(name string, list func(e *json.Encoder) error) error {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer file.Close()
		if err := list(json.NewEncoder(file)); err != nil {
			return err
		}
		return file.Close()
	}
	if err := lines("markers.jsonl", func(e *json.Encoder) error {
		for _, m := range t.Markers() {
			if err := e.Encode(m); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := lines("truth.jsonl", func(e *json.Encoder) error {
		for _, l := range t.Labels() {
			if err := e.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "app.jsonl"))
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	type late struct {
		start int64
		lines []byte
	}
	var waiting []late
	var line []byte
	for {
		start, visits, ok := t.Minute()
		for len(waiting) > 0 && (!ok || waiting[0].start+lateBy <= start) {
			if _, err := w.Write(waiting[0].lines); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
		if !ok {
			break
		}
		var slow []byte
		slices.SortFunc(visits, func(a, b sim.Visit) int {
			return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Person, b.Person), cmp.Compare(a.Route, b.Route))
		})
		for i := range visits {
			if visits[i].Late {
				slow = t.AppendJSON(slow, &visits[i])
				continue
			}
			line = t.AppendJSON(line[:0], &visits[i])
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		if slow != nil {
			waiting = append(waiting, late{start, slow})
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// lateBy is by how many seconds late lines are late.
const lateBy = 300
