package routing

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// Bounds of a configuration.
const (
	maxJourneys = 100
	maxSteps    = 50
	maxOwners   = 1000
	maxTeams    = 200
	maxValues   = 300
	maxValue    = 200
	maxMention  = 10
	// maxTeamName keeps the name of a team's own sink a valid one.
	maxTeamName = 40
	minEscalate = time.Minute
	maxEscalate = 7 * 24 * time.Hour
)

// Problem is a mistake in a Config.
type Problem struct {
	// Path is the setting, such as "owners[3].team"; Msg says what is wrong and how to
	// mend it.
	Path, Msg string
}

type checker struct {
	problems []Problem
	teams    map[string]bool
}

func (k *checker) bad(path, format string, args ...any) {
	k.problems = append(k.problems, Problem{path, fmt.Sprintf(format, args...)})
}

// Validate returns everything that is wrong. It does no I/O but to look up time zones.
func (c *Config) Validate() []Problem {
	k := &checker{teams: map[string]bool{}}
	for i := range c.Teams {
		k.teams[c.Teams[i].Name] = true
	}
	if len(c.Teams) > maxTeams {
		k.bad("teams", "has more than %d teams", maxTeams)
		return k.problems
	}
	for i := range c.Teams {
		k.team("teams["+c.Teams[i].Name+"]", &c.Teams[i])
	}
	k.digest("digest", &c.Digest.Digest)
	k.timezone("digest.timezone", c.Digest.Timezone)
	k.journeys(c.Journeys)
	k.owners(c.Owners)
	return k.problems
}

// name checks a team that is named at path.
func (k *checker) name(path, team string) {
	if team != "" && !k.teams[team] {
		k.bad(path, "there is no team %q; add it to teams:", alerts.Clean(team, maxTeamName))
	}
}

func (k *checker) text(path, s string) {
	switch {
	case s == "":
		k.bad(path, "must not be empty")
	case len(s) > maxValue:
		k.bad(path, "is longer than %d bytes", maxValue)
	case strings.ContainsFunc(s, unicode.IsControl):
		k.bad(path, "holds control characters")
	case s != strings.TrimSpace(s):
		k.bad(path, "has spaces at its start or end")
	}
}

func (k *checker) journeys(js []Journey) {
	if len(js) > maxJourneys {
		k.bad("journeys", "has more than %d journeys", maxJourneys)
		return
	}
	names := map[string]int{}
	for i := range js {
		j, at := &js[i], fmt.Sprintf("journeys[%d]", i)
		k.text(at+".name", j.Name)
		if first, twice := names[j.Name]; twice {
			k.bad(at+".name", "is the name of journeys[%d] already", first)
		}
		names[j.Name] = i
		if rank(j.Importance) < 0 {
			k.bad(at+".importance", "must be critical, high, normal or low")
		}
		k.name(at+".owner", j.Owner)
		switch {
		case len(j.Steps) == 0:
			k.bad(at+".steps", "is missing; list the routes of the journey, such as [/pricing, \"POST /billing/upgrade\"]")
		case len(j.Steps) > maxSteps:
			k.bad(at+".steps", "has more than %d steps", maxSteps)
		}
		for n, s := range j.Steps {
			method, route := cutMethod(s)
			if _, msg := access.Compile(route); msg != "" {
				k.bad(fmt.Sprintf("%s.steps[%d]", at, n), "%s", msg)
			} else if method != strings.ToUpper(method) {
				k.bad(fmt.Sprintf("%s.steps[%d]", at, n), "methods are written in capitals; write %q", strings.ToUpper(method)+" "+route)
			}
		}
	}
}

// directions and layers are the words of a Condition.
var (
	directions = []string{string(incident.Up), string(incident.Down), string(incident.New)}
	layers     = []string{event.LayerEdge.String(), event.LayerWeb.String(), event.LayerApp.String(), event.LayerUnknown.String()}
)

func (k *checker) owners(os []Owner) {
	if len(os) > maxOwners {
		k.bad("owners", "has more than %d rules", maxOwners)
		return
	}
	before := len(k.problems)
	var rules []condition
	for i := range os {
		at := fmt.Sprintf("owners[%d]", i)
		for _, p := range os[i].Condition.Validate() {
			k.bad(at+"."+p.Path, "%s", p.Msg)
		}
		if os[i].Team == "" {
			k.bad(at+".team", "is missing; name one of teams:")
		}
		k.name(at+".team", os[i].Team)
		rules = append(rules, compile(&os[i].Condition))
	}
	if len(k.problems) > before || len(rules) == 0 {
		return
	}
	if !rules[0].everything() {
		k.bad("owners[0]", `must match everything, so that somebody is told of what no other rule knows: { match: "**", team: ... }`)
	}
	for i := range rules {
		for n := i + 1; n < len(rules); n++ {
			if rules[n].covers(&rules[i]) {
				same := "the same and more"
				if rules[i].covers(&rules[n]) {
					same = "the same"
				}
				k.bad(fmt.Sprintf("owners[%d]", i), "is never reached: owners[%d] comes later and matches %s; the last match wins, so put exceptions after the rule they are of", n, same)
				break
			}
		}
	}
}

// Validate returns everything that is wrong with a condition.
func (c *Condition) Validate() []Problem {
	k := &checker{}
	for i, m := range c.Match {
		if _, msg := access.Compile(rooted(m)); msg != "" {
			k.bad(fmt.Sprintf("match[%d]", i), "%s", msg)
		}
	}
	lists := c.lists()
	for _, l := range append(lists[:], named{"match", c.Match}) {
		if l.list != nil && len(l.list) == 0 {
			k.bad(l.name, "is empty; leave it out to mean all")
		}
		if len(l.list) > maxValues {
			k.bad(l.name, "has more than %d values", maxValues)
			continue
		}
		for i, v := range l.list {
			at := fmt.Sprintf("%s[%d]", l.name, i)
			k.text(at, v)
			if slices.Contains(l.list[:i], v) {
				k.bad(at, "is given twice")
			}
		}
	}
	k.words("layer", c.Layer, layers)
	k.words("direction", c.Direction, directions)
	return k.problems
}

func (k *checker) words(path string, list, known []string) {
	for i, v := range list {
		if !slices.Contains(known, v) {
			k.bad(fmt.Sprintf("%s[%d]", path, i), "must be one of %s", strings.Join(known, ", "))
		}
	}
}

// slackID is the id of a user group or a user.
var slackID = regexp.MustCompile(`^[SUW][A-Z0-9]{7,20}$`)

func (k *checker) team(at string, t *Team) {
	if len(t.Name) > maxTeamName || alerts.ValidateSinkName(t.Name) != nil {
		k.bad(at, "a team's name has 1 to %d of a-z, 0-9, '-' and '_'", maxTeamName)
	}
	for _, m := range []named{{"critical", t.Mention.Critical}, {"high", t.Mention.High}, {"medium", t.Mention.Medium}, {"low", t.Mention.Low}} {
		if len(m.list) > maxMention {
			k.bad(at+".mention."+m.name, "has more than %d ids", maxMention)
		}
		for i, id := range m.list {
			if !slackID.MatchString(id) {
				k.bad(fmt.Sprintf("%s.mention.%s[%d]", at, m.name, i), "is no id of a user group (S...) or a user (U...); Slack shows it in the address of the group's or person's page")
			}
		}
	}
	k.timezone(at+".timezone", t.Timezone)
	k.quiet(at+".quiet_hours", &t.Quiet)
	k.escalation(at+".escalate", t)
	k.digest(at+".digest", &t.Digest)
}

func (k *checker) timezone(at, name string) {
	if _, err := time.LoadLocation(name); err != nil {
		k.bad(at, "is no time zone; write a name such as Europe/Berlin")
	}
}

func (k *checker) quiet(at string, q *Quiet) {
	for _, x := range []struct{ name, v string }{{"from", q.From}, {"to", q.To}} {
		if x.v != "" {
			if _, ok := clock(x.v); !ok {
				k.bad(at+"."+x.name, `must be a time of day such as "19:00"`)
			}
		}
	}
	switch {
	case (q.From == "") != (q.To == ""):
		k.bad(at, "needs both from and to, such as from: \"19:00\", to: \"08:00\"")
	case q.From != "" && q.From == q.To:
		k.bad(at+".to", "is the same as from; for whole days use days")
	}
	for i, d := range q.Days {
		if _, ok := weekday(d); !ok {
			k.bad(fmt.Sprintf("%s.days[%d]", at, i), "must be mon, tue, wed, thu, fri, sat or sun")
		}
	}
	if len(q.Days) >= 7 {
		k.bad(at+".days", "leaves no day on which anybody is told")
	}
	if !slices.Contains(incident.Severities[1:], q.Below) {
		k.bad(at+".below", "must be medium, high or critical: what is less urgent waits")
	}
}

func (k *checker) escalation(at string, t *Team) {
	some := false
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"critical", t.Escalate.Critical}, {"high", t.Escalate.High}, {"medium", t.Escalate.Medium}, {"low", t.Escalate.Low}} {
		if x.d != 0 && (x.d < minEscalate || x.d > maxEscalate) {
			k.bad(at+"."+x.name, "must be between 1m and 168h; leave it out never to escalate")
		}
		some = some || x.d != 0
	}
	k.name(at+".to", t.Escalate.To)
	switch {
	case some && t.Escalate.To == "":
		k.bad(at+".to", "is missing; name the team that is told when nobody acknowledges")
	case !some && t.Escalate.To != "":
		k.bad(at, "never happens; say after how long, such as critical: 15m")
	}
}
