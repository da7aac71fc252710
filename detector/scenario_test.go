package detector_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/denywatch/denywatch/detector"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
)

// TestScenarios runs testdata/*.scenario. A scenario is read top to bottom, one
// step a line; # begins a comment.
//
//	seed N                     of the traffic (1)
//	start TIME                 of the first slot (2026-11-02T00:00:00Z, a Monday)
//	learn DURATION             silence after the cold start (2h)
//	traffic VANTAGE k=v ...    a flow: service, route, role, geo, plan; rate (requests a
//	                           minute), deny (share or percent), users, named=yes, layer,
//	                           cause, also=VANTAGE (sees the same, by address, no roles),
//	                           class of denial, also_class (what the other vantage sees),
//	                           entered=no (nobody says who was let in), like=N (has the
//	                           people of the Nth flow), passing=yes (all are strangers),
//	                           sample=N (one of N requests is logged)
//	set k=v ... -> k=v ...     changes the flows that match; flow=N is the Nth
//	run DURATION               lets time pass
//	gap DURATION               lets time pass without data
//	partial on|off             the slots that follow are partial
//	mark k=v ...               id, kind, expect, service, prefix, route, role, geo, version,
//	                           ago=DURATION; takes the current time
//	restart                    saves and loads the detector
//	accept                     the only open incident is accepted as the new normal
//	merge                      of two open incidents the later becomes a part of the other
//	reopen [WORD ...]          the incident that ended last is open again; with words, it
//	                           cannot be and that is said
//	expect none                nothing was opened since the last expectation, nothing is open
//	expect quiet               nothing was told since the last expectation
//	expect open k=v ...        exactly one incident is open, and it is like this: direction,
//	                           service, prefix, route, role, geo ("-" for unbound), layer,
//	                           class, resolution, used>=N, used<=N, back>=N,
//	                           cause, marker, fix, severity, lead, within=DURATION after its onset,
//	                           merged>=N, merged<=N, identities>=N, identities<=N, accounts>=N, accounts<=N,
//	                           rule=TEXT with _ for spaces, hint likewise, plan, flag
//	expect another k=v ...     one of several open incidents is like this
//	expect resolved k=v ...    none is open, and the last one is like this
//	expect told KIND,KIND,...  the transitions since the last "expect told"
//	expect count N             incidents opened in all
//	expect scan k=v ...        the last suspected scan is like this: service, prefix, route,
//	                           role, geo, class, top_route; identities, strangers, denials,
//	                           routes with >= or <=
//	expect noscan              no scan is suspected
//	expect verdict ID k=v ...  the marker's verdict is like this: verdict, ok, incidents
//	                           (how many), earlier (their ids and verdicts, the latest
//	                           first), until (DURATION after the marker), reason (a part of
//	                           it, _ for spaces), uncovered (the route of the busiest), and
//	                           of the first vantage with plain refusals requests, before,
//	                           denials, expected, identities, valid, partial, power and
//	                           covered (percent) with >= or <=
//	first_visit ROUTE ...      routes where strangers are welcome
//	min_identities N           people against a rule that are an incident
//	allow|deny|either ROUTE k=v ...   declares an access rule, the last of all so far:
//	                           role, plan, geo, flag, as lists; hint. In the middle of a
//	                           scenario it is a reload
//	expect doors k=v ...       the learned matrix has one door like this: route, role, state,
//	                           vantage; requests, valid, broken, leaked with >= or <=
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".scenario"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{w: newWorld(1), cfg: detector.Defaults(), now: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)}
			for i, line := range strings.Split(string(b), "\n") {
				line, _, _ = strings.Cut(line, "#")
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				if err := s.do(strings.Fields(line)); err != nil {
					t.Fatalf("%s:%d: %s: %v\n%s", f, i+1, line, err, s.story())
				}
				if err := s.traced(); err != nil {
					t.Fatalf("%s:%d: %s: %v", f, i+1, line, err)
				}
			}
		})
	}
}

type scenario struct {
	w       *world
	cfg     detector.Config
	d       *detector.Detector
	now     time.Time
	partial bool
	told    []incident.Transition
	checked int // of told, at the last expectation
	listed  int // of told, at the last "expect told"
	users   uint64
	rules   []access.Rule
}

// traced reports whether every incident states what its trace counts.
func (s *scenario) traced() error {
	if s.d == nil {
		return nil
	}
	for _, in := range s.d.Incidents() {
		tr, ok := s.d.Trace(in.ID)
		if !ok {
			return fmt.Errorf("incident %s has no trace", in.ID)
		}
		if err := checkTrace(&tr); err != nil {
			return err
		}
	}
	return nil
}

// reopen says that the incident that ended last is not over.
func (s *scenario) reopen(words []string) error {
	var last *incident.Incident
	for _, in := range s.d.Incidents() {
		if in.State == incident.Resolved && (last == nil || !in.ResolvedAt.Before(*last.ResolvedAt)) {
			last = &in
		}
	}
	if last == nil {
		return fmt.Errorf("none is over")
	}
	t, err := s.d.Reopen(last.ID)
	if want := strings.Join(words, " "); want != "" {
		if err == nil {
			return fmt.Errorf("it was not refused")
		} else if !strings.Contains(err.Error(), want) {
			return err
		}
		return nil
	}
	if err == nil {
		s.told = append(s.told, t...)
		if _, again := s.d.Reopen(last.ID); again == nil {
			return fmt.Errorf("it could be opened twice")
		}
	}
	return err
}

// story lists what was told, for failures.
func (s *scenario) story() string {
	var b strings.Builder
	for i := range s.told {
		t := &s.told[i]
		in := &t.Incident
		fmt.Fprintf(&b, "  %s %s %s %s %+v since %s, %.4f against %.4f, %d of %d, %d people, %d accounts, layer %s %v, marker %q, rule %+v, seen by %v\n",
			t.At.Format("02 15:04"), t.Kind, in.ID, in.Direction, in.Scope, in.StartedAt.Format("02 15:04"), in.ObservedRate, in.ExpectedRate,
			in.Denials, in.Requests, in.Identities, in.Accounts, in.Layer, in.Causes, in.Marker, in.AccessRule, in.Vantages)
	}
	return b.String()
}

func pairs(words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		for _, op := range []string{">=", "<=", "="} {
			if k, v, ok := strings.Cut(w, op); ok {
				if op != "=" {
					k += op
				}
				m[k] = v
				break
			}
		}
	}
	if len(m) != len(words) {
		return nil, fmt.Errorf("want k=v, each once")
	}
	return m, nil
}

func share(s string) (float64, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		x, err := strconv.ParseFloat(p, 64)
		return x / 100, err
	}
	return strconv.ParseFloat(s, 64)
}

func (f *flow) set(m map[string]string) (err error) {
	for k, v := range m {
		switch k {
		case "service":
			f.key.Service = v
		case "route":
			f.key.Route = v
		case "role":
			f.key.Role = v
		case "geo":
			f.key.Geo = v
		case "plan":
			f.key.Plan = v
		case "rate":
			f.rate, err = strconv.ParseFloat(v, 64)
		case "deny":
			f.deny, err = share(v)
		case "sample":
			f.sample, err = strconv.Atoi(v)
		case "users":
			f.users, err = strconv.Atoi(v)
		case "named":
			f.named = v == "yes"
		case "cause":
			f.cause = v
		case "class", "also_class":
			err = fmt.Errorf("unknown class %q", v)
			for d := event.Refused; d < event.Denials; d++ {
				if d.String() != v {
					continue
				}
				if err = nil; k == "class" {
					f.class = d
				} else {
					f.alsoAs = d
				}
			}
		case "flag":
			f.flag = v
		case "entered":
			f.silent = v == "no"
		case "passing":
			f.passing = v == "yes"
		case "cycle":
			f.cycle, err = strconv.ParseFloat(v, 64)
		case "layer":
			err = fmt.Errorf("unknown layer %q", v)
			for l := range event.Layers {
				if l.String() == v {
					f.layer, err = l, nil
				}
			}
		case "also":
			f.twice = true
			f.also, err = event.ParseVantage(v)
		default:
			err = fmt.Errorf("unknown key %q", k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *flow) like(m map[string]string) bool {
	for k, v := range m {
		has := map[string]string{"service": f.key.Service, "route": f.key.Route, "role": f.key.Role, "geo": f.key.Geo, "vantage": f.vantage.String()}
		if h, ok := has[k]; !ok || h != v && !(k == "route" && strings.HasSuffix(v, "/*") && strings.HasPrefix(h, v[:len(v)-1])) {
			return false
		}
	}
	return true
}

func (s *scenario) do(words []string) error {
	rest := words[1:]
	switch words[0] {
	case "seed":
		n, err := strconv.ParseUint(rest[0], 10, 64)
		s.w = newWorld(n)
		return err
	case "start":
		var err error
		s.now, err = time.Parse(time.RFC3339, rest[0])
		return err
	case "learn":
		var err error
		s.cfg.Learn, err = time.ParseDuration(rest[0])
		return err
	case "min_identities":
		var err error
		s.cfg.MinIdentities, err = strconv.Atoi(rest[0])
		return err
	case "allow", "deny", "either":
		return s.declare(words[0], rest)
	case "first_visit":
		s.cfg.FirstVisit = rest
		return nil
	case "traffic":
		v, err := event.ParseVantage(rest[0])
		if err != nil {
			return err
		}
		m, err := pairs(rest[1:])
		if err != nil {
			return err
		}
		f := &flow{vantage: v, users: 100, rate: 1, named: v == event.App, first: s.users, layer: event.LayerUnknown}
		s.users += 1 << 20
		if v, ok := m["like"]; ok {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > len(s.w.flows) {
				return fmt.Errorf("no flow %s", v)
			}
			f.first = s.w.flows[n-1].first
			delete(m, "like")
		}
		s.w.flows = append(s.w.flows, f)
		return f.set(m)
	case "set":
		for i, w := range rest {
			if w != "->" {
				continue
			}
			match, err := pairs(rest[:i])
			if err != nil {
				return err
			}
			to, err := pairs(rest[i+1:])
			if err != nil {
				return err
			}
			n := 0
			only := match["flow"]
			delete(match, "flow")
			for k, f := range s.w.flows {
				if only != "" && only != strconv.Itoa(k+1) {
					continue
				}
				if f.like(match) {
					n++
					if err := f.set(to); err != nil {
						return err
					}
				}
			}
			if n == 0 {
				return fmt.Errorf("no flow is like this")
			}
			return nil
		}
		return fmt.Errorf("want ->")
	case "run", "gap":
		d, err := time.ParseDuration(rest[0])
		if err != nil {
			return err
		}
		s.run(d, words[0] == "gap")
		return nil
	case "partial":
		s.partial = rest[0] == "on"
		return nil
	case "mark":
		m, err := pairs(rest)
		if err != nil {
			return err
		}
		return s.mark(m)
	case "accept":
		open := slices.DeleteFunc(s.d.Incidents(), func(in incident.Incident) bool { return in.State != incident.Open })
		if len(open) != 1 {
			return fmt.Errorf("%d incidents are open", len(open))
		}
		t, ok := s.d.Accept(open[0].ID)
		if !ok {
			return fmt.Errorf("it is not known")
		}
		s.told = append(s.told, t)
		if _, again := s.d.Accept(open[0].ID); again {
			return fmt.Errorf("it could be accepted twice")
		}
		return nil
	case "reopen":
		return s.reopen(rest)
	case "merge":
		open := slices.DeleteFunc(s.d.Incidents(), func(in incident.Incident) bool { return in.State != incident.Open })
		if len(open) != 2 {
			return fmt.Errorf("%d incidents are open", len(open))
		}
		if _, _, err := s.d.Merge(open[0].ID, open[0].ID); err == nil {
			return fmt.Errorf("it went into itself")
		}
		over, grown, err := s.d.Merge(open[1].ID, open[0].ID)
		if err == nil {
			s.told = append(s.told, over, grown)
		}
		return err
	case "restart":
		d, err := reload(s.d, s.cfg)
		s.d = d
		return err
	case "expect":
		return s.expect(rest)
	}
	return fmt.Errorf("unknown step")
}

func (s *scenario) declare(verdict string, words []string) error {
	m, err := pairs(words[1:])
	if err != nil {
		return err
	}
	r := access.Rule{Route: words[:1], Allow: map[string]string{"allow": "true", "deny": "false", "either": "either"}[verdict]}
	for k, v := range m {
		list := strings.Split(v, ",")
		switch k {
		case "role":
			r.Role = list
		case "plan":
			r.Plan = list
		case "geo":
			r.Geo = list
		case "flag":
			r.Flag = list
		case "hint":
			r.Hint = strings.ReplaceAll(v, "_", " ")
		default:
			return fmt.Errorf("unknown key %q", k)
		}
	}
	s.rules = append(slices.Clone(s.rules), r)
	var bad []access.Problem
	if s.cfg.Access, bad = access.New(s.rules); len(bad) > 0 {
		return fmt.Errorf("%v", bad)
	}
	s.w.access = s.cfg.Access
	if s.d != nil {
		s.d.Configure(s.cfg)
	}
	return nil
}

func (s *scenario) ready() {
	if s.d == nil {
		s.d = detector.New(s.cfg)
	}
}

func (s *scenario) run(d time.Duration, gap bool) {
	s.ready()
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(time.Minute) {
		for _, c := range s.w.slot(s.now.Unix(), 60) {
			if gap {
				c.Leaves = nil
			}
			c.Partial = s.partial
			s.told = append(s.told, s.d.Close(c)...)
		}
	}
}

func (s *scenario) mark(m map[string]string) error {
	s.ready()
	k := marker.Marker{Time: s.now}
	list := func(v string) marker.List { return strings.Split(v, ",") }
	for key, v := range m {
		switch key {
		case "id":
			k.ID = v
		case "kind":
			k.Kind = marker.Kind(v)
		case "expect":
			k.Expect = marker.Expect(v)
		case "version":
			k.Version = v
		case "service":
			k.Scope.Service = list(v)
		case "prefix":
			k.Scope.Prefix = list(v)
		case "route":
			k.Scope.Route = list(v)
		case "role":
			k.Scope.Role = list(v)
		case "geo":
			k.Scope.Geo = list(v)
		case "ago":
			d, err := time.ParseDuration(v)
			if err != nil {
				return err
			}
			k.Time = s.now.Add(-d)
		default:
			return fmt.Errorf("unknown key %q", key)
		}
	}
	if err := k.Normalise(s.now); err != nil {
		return err
	}
	s.d.Mark(k)
	return nil
}

func (s *scenario) expect(words []string) error {
	var open []incident.Incident
	var last *incident.Incident
	opened := 0
	all := s.d.Incidents()
	for i := range all {
		if all[i].State == incident.Open {
			open = append(open, all[i])
		}
	}
	for i := range s.told {
		last = &s.told[i].Incident
		if s.told[i].Kind == incident.Opened {
			opened++
		}
	}
	news := s.told[s.checked:]
	s.checked = len(s.told)
	m, perr := pairs(words[1:])
	switch words[0] {
	case "none":
		for i := range news {
			if k := news[i].Kind; k == incident.Opened || k == incident.Reopened {
				return fmt.Errorf("%s was %s", news[i].Incident.ID, k)
			}
		}
		if len(open) > 0 {
			return fmt.Errorf("%d are open", len(open))
		}
		return nil
	case "quiet":
		if len(news) > 0 {
			return fmt.Errorf("%d transitions", len(news))
		}
		return nil
	case "open":
		if len(open) != 1 {
			return fmt.Errorf("%d are open", len(open))
		}
		return firstErr(perr, like(&open[0], m))
	case "another":
		err := fmt.Errorf("none is open")
		for i := range open {
			if err = like(&open[i], m); err == nil {
				break
			}
		}
		return firstErr(perr, err)
	case "resolved":
		if len(open) > 0 || last == nil {
			return fmt.Errorf("%d are open, %d were opened", len(open), opened)
		}
		return firstErr(perr, like(last, m))
	case "told":
		var kinds []string
		for i := range s.told[s.listed:] {
			kinds = append(kinds, string(s.told[s.listed+i].Kind))
		}
		s.listed = len(s.told)
		if got := strings.Join(kinds, ","); got != words[1] {
			return fmt.Errorf("told %s", got)
		}
		return nil
	case "noscan":
		if scans := s.d.Scans(); len(scans) > 0 {
			return fmt.Errorf("suspected: %+v", scans)
		}
		return nil
	case "doors":
		err := fmt.Errorf("there is none")
		for _, d := range s.d.Doors() {
			err = alike(m, map[string]string{"vantage": d.Vantage, "route": d.Route, "role": d.Role, "state": string(d.State)},
				map[string]int64{"requests": int64(d.Requests), "valid": int64(d.Valid), "broken": int64(d.Broken), "leaked": int64(d.Leaked)})
			if err == nil {
				return perr
			}
		}
		return fmt.Errorf("%w\n%+v", err, s.d.Doors())
	case "scan":
		scans := s.d.Scans()
		if len(scans) == 0 {
			return fmt.Errorf("none is suspected")
		}
		sc := scans[len(scans)-1]
		return firstErr(perr, alike(m,
			map[string]string{"service": sc.Scope.Service, "prefix": sc.Scope.Prefix, "route": sc.Scope.Route, "role": sc.Scope.Role, "geo": sc.Scope.Geo, "class": sc.Class, "top_route": sc.TopRoute},
			map[string]int64{"identities": sc.Identities, "strangers": sc.Strangers, "denials": sc.Denials, "requests": sc.Requests, "routes": int64(sc.Routes)}))
	case "verdict":
		m, perr := pairs(words[2:])
		return firstErr(perr, s.verdict(words[1], m))
	case "count":
		if n, _ := strconv.Atoi(words[1]); n != opened {
			return fmt.Errorf("%d were opened", opened)
		}
		return nil
	}
	return fmt.Errorf("unknown expectation")
}

// verdict compares a marker's verdict with what is expected of it.
func (s *scenario) verdict(id string, m map[string]string) error {
	v, ok := s.d.Verdict(id)
	if !ok {
		return fmt.Errorf("no marker is remembered")
	}
	text := map[string]string{"verdict": string(v.Verdict), "ok": strconv.FormatBool(v.OK), "until": v.Until.Sub(v.Marker.Time).String(), "uncovered": ""}
	var earlier []string
	for _, e := range v.Earlier {
		earlier = append(earlier, e.ID+":"+string(e.Verdict))
	}
	text["earlier"] = strings.Join(earlier, ",")
	count := map[string]int64{"incidents": int64(len(v.Incidents)), "rows": int64(len(v.Evidence))}
	for _, e := range v.Evidence {
		if e.Class != incident.ClassRefused {
			continue
		}
		count["requests"], count["denials"], count["before"] = e.Since.Requests, e.Since.Denials, e.Before.Requests
		count["expected"], count["identities"], count["valid"] = int64(e.ExpectedDenials), e.Identities, e.Valid
		count["power"], count["covered"], count["partial"] = int64(100*e.Power), int64(100*e.Covered), int64(e.PartialSlots)
		if len(e.Uncovered) > 0 {
			text["uncovered"] = e.Uncovered[0].Scope.Route
		}
		break
	}
	reason := strings.ReplaceAll(m["reason"], "_", " ")
	if delete(m, "reason"); !strings.Contains(v.Reason, reason) {
		return fmt.Errorf("the reason is %q", v.Reason)
	}
	if err := alike(m, text, count); err != nil {
		return fmt.Errorf("%w in %+v", err, v)
	}
	return nil
}

func firstErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// like compares an incident with what is expected of it.
func like(in *incident.Incident, m map[string]string) error {
	cause, lead := "", in.Vantages[0]
	if len(in.Causes) > 0 {
		cause = in.Causes[0]
	}
	text := map[string]string{"direction": string(in.Direction), "service": in.Scope.Service, "prefix": in.Scope.Prefix, "route": in.Scope.Route,
		"role": in.Scope.Role, "geo": in.Scope.Geo, "layer": in.Layer, "cause": cause, "marker": in.Marker, "fix": in.Fix, "severity": string(in.Severity), "lead": lead,
		"vantages": strings.Join(in.Vantages, ","), "class": in.Class, "resolution": string(in.Resolution), "plan": in.Scope.Plan, "flag": in.Scope.Flag, "rule": "", "hint": ""}
	if in.AccessRule != nil {
		text["rule"], text["hint"] = strings.ReplaceAll(in.AccessRule.Text, " ", "_"), strings.ReplaceAll(in.AccessRule.Hint, " ", "_")
	}
	back := int64(-1)
	if in.GotInAgain != nil {
		back = *in.GotInAgain
	}
	count := map[string]int64{"identities": in.Identities, "accounts": in.Accounts, "denials": in.Denials, "requests": in.Requests, "contrast": int64(len(in.Contrast)), "used": in.UsedToGetIn, "back": back, "merged": int64(len(in.Merged))}
	if v, ok := m["within"]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		if took := in.OpenedAt.Sub(in.StartedAt); took > d {
			return fmt.Errorf("it took %v", took)
		}
	}
	return alike(m, text, count)
}

// alike compares what is expected with texts and numbers.
func alike(m, text map[string]string, count map[string]int64) error {
	for k, v := range m {
		if got, ok := text[k]; ok {
			if v == "-" {
				v = ""
			}
			if got != v {
				return fmt.Errorf("%s is %q", k, got)
			}
			continue
		}
		if k == "within" {
			continue
		}
		name, op := k[:max(len(k)-2, 0)], k[max(len(k)-2, 0):]
		got, ok := count[name]
		want, err := strconv.ParseInt(v, 10, 64)
		if !ok || err != nil {
			return fmt.Errorf("unknown key %q or number %q", k, v)
		}
		if op == ">=" && got < want || op == "<=" && got > want {
			return fmt.Errorf("%s are %d", name, got)
		}
	}
	return nil
}

// blocks keeps saved state in memory.
type blocks map[string][]byte

func (b blocks) Put(key string, value []byte) error {
	b[key] = append([]byte(nil), value...)
	return nil
}

func (b blocks) read(yield func(string, []byte) error) error {
	for k, v := range b {
		if err := yield(k, v); err != nil {
			return err
		}
	}
	return nil
}

// reload gives a detector that was saved and loaded.
func reload(d *detector.Detector, cfg detector.Config) (*detector.Detector, error) {
	b := blocks{}
	d.Rewrite()
	if err := d.Save(b); err != nil {
		return nil, err
	}
	n := detector.New(cfg)
	return n, n.Load(b.read)
}
