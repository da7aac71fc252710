package alerts

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/incident"
)

// Text is a transition in plain words: what broke, for whom, since when, why we
// think so, what next. Every field is one line without markup; a field with
// nothing to say is empty.
type Text struct {
	// Headline says what broke and for whom, or that it is over.
	Headline string
	// Badge is the severity in a word, "recovered" once it is over.
	Badge string
	// Reason is the share refused now and usually.
	Reason string
	// People counts those affected.
	People string
	// Contrast says who or what beside the scope is fine.
	Contrast string
	// Since says when it started and which change it followed.
	Since string
	// Layer says who refused, and the layer's own reason.
	Layer string
	// Evidence is the counts behind the reason, and from where they were seen.
	Evidence string
	// Sure says in a sentence how sure it is that this is no chance; empty once it
	// is over.
	Sure string
	// Back says how many of the people got in again, once it is over.
	Back string
	// Check is RegressionCheck: the only field of several lines, and not escaped.
	Check string
	// Likely is the probable cause and Next what to do; empty once it is over.
	Likely string
	Next   string
	// Note tells of limits of the numbers.
	Note string
	// Where names what the headline leaves out: journey, team, service.
	Where []string
	// Step is this transition as a line of the incident's time line, and Clock
	// the time of day that goes in front of it.
	Clock string
	Step  string
}

// StepSentence is Step as a sentence of its own, such as "Recovered after 40 min:
// 1,104 people on 122 accounts." for a recovery.
func (t Text) StepSentence() string { return upper(t.Step) + "." }

// Style says how texts are written for one sink. The zero Style is plain text
// with times in UTC.
type Style struct {
	// Escape makes a cleaned value that came from logs or markers safe for the
	// sink's markup; nil for plain text. It is not applied to our own words,
	// which hold no markup in any sink.
	Escape func(string) string
	// Location is the time zone of all times; nil means UTC.
	Location *time.Location
}

// Bounds on values inside texts, in runes.
const (
	maxRoute = 90
	maxValue = 40
	maxCause = 60
	maxHint  = 300
)

// Render writes t in plain text.
func Render(t incident.Transition) Text { return Style{}.Render(t) }

// Render writes t. It is a pure function of the style and the transition.
func (s Style) Render(t incident.Transition) Text {
	in := &t.Incident
	if s.Location == nil {
		s.Location = time.UTC
	}
	w := writer{Style: s, in: in, at: t.At, act: t.Act}
	over := t.Kind == incident.ResolvedKind
	text := Text{
		Headline: w.headline(t.Kind),
		Badge:    string(in.Severity),
		Reason:   w.reason(over),
		People:   w.people(over),
		Contrast: w.contrast(over),
		Since:    w.since(over),
		Layer:    w.layer(),
		Evidence: w.evidence(),
		Where:    w.where(),
		Clock:    t.At.In(s.Location).Format("15:04"),
		Step:     cmp.Or(w.acted(t.Kind), w.step(t.Kind)),
	}
	switch {
	case over && in.Resolution == incident.Accepted:
		text.Badge = "new normal"
	case over && in.Resolution == incident.Dismissed:
		text.Badge = "not a problem"
	case over && in.Resolution == incident.Merged:
		text.Badge = "merged"
	case over:
		text.Badge = "recovered"
		text.Back = w.back()
		text.Check = RegressionCheck(in)
	default:
		text.Sure = sure(in)
		text.Likely, text.Next = w.advice()
	}
	var notes []string
	switch {
	case in.Degraded:
		notes = append(notes, "Numbers are estimates: there was more traffic than could be counted one by one.")
	case in.Estimated:
		notes = append(notes, "Requests and refusals are estimates: the log is a sample. People are only those seen in it.")
	}
	if len(in.Merged) > 0 {
		notes = append(notes, w.merged())
	}
	if in.Flapping > 0 {
		notes = append(notes, "It comes and goes, "+count(int64(in.Flapping), "time", "times")+" within an hour; the next word is when it has been steady for half an hour.")
	}
	text.Note = strings.Join(notes, " ")
	if own := t.Words; own != nil {
		for _, x := range []struct {
			text *string
			own  string
		}{{&text.Headline, own.Headline}, {&text.Reason, own.Reason}, {&text.Next, own.Next}} {
			if x.own != "" {
				*x.text = w.val(x.own, maxWords)
			}
		}
	}
	return text
}

type writer struct {
	Style
	in  *incident.Incident
	at  time.Time
	act *incident.Act
}

func (w *writer) val(s string, limit int) string {
	s = Clean(s, limit)
	if w.Escape != nil {
		s = w.Escape(s)
	}
	return s
}

// place is the part of the product in the scope: "/billing/upgrade".
func (w *writer) place(sc *incident.Scope) string {
	switch {
	case sc.Route != "":
		return w.val(sc.Route, maxRoute)
	case sc.Prefix != "" && sc.Prefix != "/":
		return "everything under " + w.val(sc.Prefix, maxRoute)
	case sc.Service != "":
		return "all of " + w.val(sc.Service, maxValue)
	}
	return "the whole site"
}

// whom is the part of the people in the scope: "role member from BR"; empty
// for everyone.
func (w *writer) whom(sc *incident.Scope) string {
	var parts []string
	switch sc.Role {
	case "":
	case incident.NoRole:
		parts = append(parts, "visitors without a role")
	default:
		parts = append(parts, "role "+w.val(sc.Role, maxValue))
	}
	if sc.Plan != "" && sc.Plan != incident.NoRole {
		parts = append(parts, "plan "+w.val(sc.Plan, maxValue))
	}
	who := strings.Join(parts, ", ")
	if sc.Geo != "" {
		if who == "" {
			who = "people"
		}
		if sc.Geo == incident.NoRole {
			who += " from no known country"
		} else {
			who += " from " + w.val(sc.Geo, maxValue)
		}
	}
	if sc.Flag != "" {
		if who == "" {
			who = "people"
		}
		who += " with flag " + w.val(sc.Flag, maxValue)
	}
	return who
}

// verbs are what a place does to people and what is done to their requests, by
// the class of the refusal.
var verbs = map[string]struct{ does, done string }{
	event.Soft.String():         {"challenges", "challenged"},
	event.Unauthorized.String(): {"does not recognise", "answered with 401, not signed in"},
	event.Payment.String():      {"asks for payment from", "answered with 402, payment required"},
	event.Concealed.String():    {"hides from", "answered with 404 though the page exists"},
	event.Masked.String():       {"silently refuses", "refused behind another answer"},
}

// does is "refuses", or the word for another class of refusal.
func (w *writer) does() string {
	if v, ok := verbs[w.in.Class]; ok {
		return v.does
	}
	return "refuses"
}

// done is "refused", or the words for another class of refusal.
func (w *writer) done() string {
	if v, ok := verbs[w.in.Class]; ok {
		return v.done
	}
	return "refused"
}

// everyone is the share from which "everyone" is said.
const everyone = 0.95

func (w *writer) headline(kind incident.Kind) string {
	sc := &w.in.Scope
	place, whom := w.place(sc), w.whom(sc)
	if sc.Host != "" {
		place += " on " + w.val(sc.Host, maxValue)
	}
	if kind == incident.ResolvedKind {
		if whom == "" {
			whom = "people"
		}
		switch w.in.Resolution {
		case incident.Accepted:
			s := "The new normal: how " + place + " treats " + whom
			if w.act == nil {
				s += " has not changed for a day"
			}
			return s
		case incident.Dismissed:
			return "Not a problem: how " + place + " treats " + whom
		case incident.Merged:
			return "Merged into incident " + w.val(w.in.MergedInto, maxValue) + ": " + w.headline(incident.Opened)
		}
		switch w.in.Direction {
		case incident.Down:
			return "Recovered: " + place + " " + w.does() + " " + whom + " again"
		case incident.New:
			return "Recovered: " + place + " lets " + whom + " in"
		}
		return "Recovered: " + place + " lets " + whom + " in again"
	}
	var s string
	switch w.in.Direction {
	case incident.Down:
		if whom == "" {
			whom = "people"
		}
		if w.in.AccessRule != nil {
			s = place + " lets in " + whom + ", against your access rules"
			break
		}
		s = place + " lets in " + whom + " it used to refuse"
		if sc.Role != "" && sc.Geo == "" && sc.Flag == "" {
			s = place + " lets in " + whom + ", refused until now"
		}
	case incident.New:
		s = "new route " + place + " " + w.does() + " " + w.orEveryone(whom, "many people")
	default:
		s = place + " " + w.does() + " " + w.orEveryone(whom, "more people than usual")
	}
	if kind == incident.Reopened {
		return "Again: " + s
	}
	return upper(s)
}

func (w *writer) orEveryone(whom, otherwise string) string {
	switch {
	case whom != "":
		return whom
	case w.in.ObservedRate >= everyone:
		return "everyone"
	}
	return otherwise
}

// ruled says who gets in where by the access rule that is broken: "Your access rules
// let role editor into everything under /billing".
func (w *writer) ruled() string {
	r := w.in.AccessRule
	var who []string
	part := func(one, many string, values []string) {
		if len(values) == 0 {
			return
		}
		shown := make([]string, 0, len(values))
		for _, v := range values {
			if v == incident.NoRole {
				v = "none"
			}
			shown = append(shown, w.val(v, maxValue))
		}
		noun := one
		if len(values) > 1 {
			noun = many
		}
		who = append(who, noun+" "+list(shown, contrastNames))
	}
	part("role", "roles", r.Roles)
	part("plan", "plans", r.Plans)
	part("country", "countries", r.Geos)
	part("flag", "flags", r.Flags)
	part("method", "methods", r.Methods)
	whom := "everyone"
	if len(who) > 0 {
		whom = strings.Join(who, ", ")
	}
	var places []string
	for _, p := range r.Routes {
		// The pattern itself tells how far the rule goes.
		if p == "/**" {
			p = "the whole site"
		} else {
			p = w.val(p, maxRoute)
		}
		places = append(places, p)
	}
	if r.Allow {
		return "your access rules let " + whom + " into " + list(places, contrastNames)
	}
	return "your access rules keep " + whom + " out of " + list(places, contrastNames)
}

func (w *writer) reason(over bool) string {
	their := "requests"
	if w.whom(&w.in.Scope) != "" || w.in.AccessRule != nil {
		their = "their requests"
	}
	be := "are"
	if over {
		be = "were"
	}
	share := percent(w.in.ObservedRate) + " of " + their
	switch {
	case w.in.ObservedRate >= 1:
		share = "all of " + their
		if their == "requests" {
			share = "all requests"
		}
	case w.in.ObservedRate <= 0:
		share = "none of " + their
		if their == "requests" {
			share = "no requests"
		}
	}
	if w.in.AccessRule != nil && w.in.Direction == incident.Down {
		return upper(w.ruled()) + "; " + number(w.in.Requests-w.in.Denials) + " of " + count(w.in.Requests, "request", "requests") + " got in."
	}
	if w.in.AccessRule != nil {
		return upper(w.ruled()) + "; " + share + " " + be + " " + w.done() + "."
	}
	usual := "usually " + percent(w.in.ExpectedRate)
	if w.in.ExpectedRate <= 0 {
		usual = "usually none"
	}
	if w.in.Direction == incident.New {
		usual = strings.Replace(usual, "usually", "its neighbours:", 1)
	}
	return upper(share) + " " + be + " " + w.done() + " (" + usual + ")."
}

func (w *writer) people(over bool) string {
	if w.in.Direction == incident.Down && w.in.AccessRule == nil {
		if w.in.Requests <= 0 {
			return ""
		}
		return number(w.in.Requests-w.in.Denials) + " of " + count(w.in.Requests, "request", "requests") + " got in."
	}
	s := w.heads()
	if s == "" {
		return ""
	}
	if w.in.Direction == incident.Down {
		return s + " got in."
	}
	if n := min(w.in.UsedToGetIn, w.in.Identities); n > 0 && w.in.Identities > 1 {
		if n == w.in.Identities {
			s += ", all of whom got in before"
		} else {
			s += ", " + number(n) + " of whom got in before"
		}
		if !over {
			return s + "."
		}
		s += ","
	}
	if over {
		if w.in.Identities == 1 {
			return s + " was affected."
		}
		return s + " were affected."
	}
	return s + "."
}

// heads is "212 people on 38 accounts".
func (w *writer) heads() string {
	if w.in.Identities <= 0 {
		return ""
	}
	s := count(w.in.Identities, "person", "people")
	if w.in.Accounts > 0 {
		s += " on " + count(w.in.Accounts, "account", "accounts")
	}
	return s
}

// back says how many of the people got in again: "22 of them got in again, the
// other 9 have not come back yet.".
func (w *writer) back() string {
	if w.in.GotInAgain == nil || w.in.Identities <= 1 {
		return ""
	}
	n, all := min(*w.in.GotInAgain, w.in.Identities), w.in.Identities
	switch n {
	case all:
		return "All of them got in again."
	case 0:
		return "None of them has come back yet."
	}
	rest := "the other " + number(all-n) + " have not come back yet"
	if all-n == 1 {
		rest = "one has not come back yet"
	}
	return number(n) + " of them got in again, " + rest + "."
}

// contrastNames bounds how many neighbours are named.
const contrastNames = 3

// mostly is the share of requests refused from which a door counts as locked.
const mostly = 0.5

// contrast says, as in "Roles owner and admin are fine.", what differs between the
// scope and its fine neighbours.
func (w *writer) contrast(over bool) string {
	if over {
		return ""
	}
	type group struct {
		one, many string
		names     []string
	}
	groups := []group{{"role", "roles", nil}, {"country", "countries", nil}, {"plan", "plans", nil},
		{"", "", nil}, {"host", "hosts", nil}, {"people without the flag", "people without the flag", nil}, {"everyone else", "everyone else", nil}}
	in := &w.in.Scope
	for i := range w.in.Contrast {
		if w.in.Direction == incident.Down && w.in.Contrast[i].ObservedRate < mostly {
			continue // it is as it was, but no locked door
		}
		c := &w.in.Contrast[i].Scope
		switch {
		case c.Role != in.Role && c.Role != "":
			groups[0].names = append(groups[0].names, w.val(c.Role, maxValue))
		case c.Geo != in.Geo && c.Geo != "":
			groups[1].names = append(groups[1].names, w.val(c.Geo, maxValue))
		case c.Plan != in.Plan && c.Plan != "":
			groups[2].names = append(groups[2].names, w.val(c.Plan, maxValue))
		case c.Route != in.Route && c.Route != "" || c.Prefix != in.Prefix && c.Prefix != "" || c.Service != in.Service && c.Service != "":
			groups[3].names = append(groups[3].names, w.place(c))
		case c.Host != in.Host && c.Host != "":
			groups[4].names = append(groups[4].names, w.val(c.Host, maxValue))
		case c.Flag == "" && in.Flag != "":
			groups[5].names = []string{""}
		default:
			groups[6].names = []string{""}
		}
	}
	var parts []string
	plural := false
	for i, g := range groups {
		if len(g.names) == 0 {
			continue
		}
		noun := g.one
		if len(g.names) > 1 {
			noun = g.many
		}
		parts = append(parts, strings.TrimSpace(noun+" "+list(g.names, contrastNames)))
		plural = plural || len(g.names) > 1 || i == 5
	}
	if len(parts) == 0 {
		return ""
	}
	be := " is "
	if plural || len(parts) > 1 {
		be = " are "
	}
	state := "fine"
	if w.in.Direction == incident.Down {
		state = "still refused"
	}
	names := list(parts, contrastNames)
	if last := len(parts) - 1; last > 0 && slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(s, " and ") }) {
		names = strings.Join(parts[:last], ", ") + ", and " + parts[last] + ","
	}
	return upper(names) + be + state + "."
}

// dayClock is how a time of another day is written.
const dayClock = "Mon 2 Jan 15:04"

// clock writes a time of day, with the date if it is not that of the transition.
func (w *writer) clock(t time.Time) string {
	t = t.In(w.Location)
	y, m, d := t.Date()
	if y2, m2, d2 := w.at.In(w.Location).Date(); y == y2 && m == m2 && d == d2 {
		return t.Format("15:04")
	}
	return t.Format(dayClock)
}

func (w *writer) since(over bool) string {
	zone := w.in.StartedAt.In(w.Location).Format(" MST")
	s := "Started " + w.clock(w.in.StartedAt) + zone
	if over {
		end := w.at
		if w.in.ResolvedAt != nil {
			end = *w.in.ResolvedAt
		}
		to := w.clock(end)
		if from := w.clock(w.in.StartedAt); len(from) > len(to) {
			// The start needs its date, so the end, on another day, does too.
			to = end.In(w.Location).Format(dayClock)
		}
		s = "From " + w.clock(w.in.StartedAt) + " to " + to + zone
	}
	if m := w.marker(); m != "" {
		s += ", " + m
	}
	return s + "."
}

var markerWords = map[string]string{
	"release":       "release",
	"pricing":       "price change",
	"entitlement":   "entitlement change",
	"security_rule": "security rule change",
	"flag":          "flag change",
	"config":        "configuration change",
}

// evidence is "427 of 700 requests refused, usually 3; seen from app and web".
func (w *writer) evidence() string {
	if w.in.Requests <= 0 {
		return ""
	}
	s := number(w.in.Denials) + " of " + count(w.in.Requests, "request", "requests") + " " + w.done()
	if usual := int64(math.Round(w.in.ExpectedRate * float64(w.in.Requests))); w.in.AccessRule == nil {
		s += ", usually " + number(usual)
	}
	var from []string
	for _, v := range w.in.Vantages {
		from = append(from, w.val(v, maxValue))
	}
	if len(from) > 0 {
		s += "; seen from " + list(from, contrastNames)
	}
	return s
}

// marker says which change the incident followed and how soon.
func (w *writer) marker() string {
	m := w.in.MarkerInfo
	if m == nil {
		if w.in.Marker == "" {
			return ""
		}
		return "after change " + w.val(w.in.Marker, maxValue)
	}
	var when string
	switch d := w.in.StartedAt.Sub(m.Time); {
	case m.Time.IsZero():
		when = "after "
	case d < -time.Minute:
		// The onset is an estimate; it may lie before the change.
		when = "around "
	case d < time.Minute:
		when = "right after "
	default:
		when = spanWords(d) + " after "
	}
	return when + w.change() + w.ofService(m.Service)
}

// change names the marker: "release v2.31.0".
func (w *writer) change() string { return w.changeOf(w.in.MarkerInfo, w.in.Marker) }

func (w *writer) changeOf(m *incident.MarkerInfo, id string) string {
	name, ok := markerWords[m.Kind]
	if !ok {
		name = "change"
	}
	switch {
	case m.Version != "":
		name += " " + w.val(m.Version, maxValue)
	case id != "":
		name += " " + w.val(id, maxValue)
	}
	return name
}

func (w *writer) ofService(service string) string {
	if service == "" {
		return ""
	}
	return " (service " + w.val(service, maxValue) + ")"
}

// causeWords put the layers' cause codes into words.
var causeWords = map[string]string{
	"acl":                   "an allow or deny rule",
	"acl_or_rate_limit":     "a deny rule or a rate limit",
	"authz":                 "the server's access rules",
	"client_cert":           "a missing or wrong client certificate",
	"conn_limit":            "a limit on connections",
	"directory_index":       "no index page in the folder",
	"exec_forbidden":        "running programs is not allowed there",
	"forward_proxy_blocked": "the proxy's block list",
	"fpm_limit_extensions":  "PHP-FPM does not run files of this type",
	"fs_permission":         "file or folder permissions",
	"name_too_long":         "a file name that is too long",
	"not_regular_file":      "not an ordinary file",
	"rate_limit":            "a rate limit",
	"rewrite_forbidden":     "rewriting is not allowed there",
	"sni_required":          "a connection without a host name",
	"symlink":               "a symbolic link that may not be followed",
	"tls_required":          "a connection without encryption",
	"waf":                   "a web application firewall rule",
}

// namedCauses bounds how many causes a text names.
const namedCauses = 2

func (w *writer) layer() string {
	var s string
	switch w.layerName() {
	case "app":
		s = "Refused by the app, not the edge or the web server"
	case "web":
		s = "Refused by the web server, before the app was asked"
	case "edge":
		s = "Refused at the edge (firewall, CDN or load balancer), before your servers"
	}
	if w.in.Direction == incident.Down {
		// Nobody refuses now: the layer is who used to.
		s = strings.Replace(s, "Refused", "Used to be refused", 1)
	}
	var causes []string
	for _, c := range w.in.Causes {
		if c == "" || c == "none" {
			continue
		}
		word, ok := causeWords[c]
		if !ok && isCode(c) {
			word = w.val(c, maxCause)
		}
		if word != "" {
			causes = append(causes, word)
		}
		if len(causes) == namedCauses {
			break
		}
	}
	var out []string
	if s != "" {
		out = append(out, s+".")
	}
	if reason := list(causes, namedCauses); reason != "" {
		out = append(out, "Reason given: "+reason+".")
	}
	if rules := w.rules(); rules != "" {
		out = append(out, rules+".")
	}
	if v := w.in.Version; v != "" {
		out = append(out, "Only version "+w.val(v, maxValue)+" refuses; other versions answer too.")
	}
	return strings.Join(out, " ")
}

// rules names the rules that refused most: "Rule 942100 (31 of 38 refusals)".
func (w *writer) rules() string {
	if w.in.Direction == incident.Down {
		return "" // those that still refuse
	}
	var names []string
	for _, r := range w.in.Rules {
		if r.Name == "" || strings.HasPrefix(r.Name, "_") {
			continue // several that are not told apart
		}
		n := number(r.Denials)
		if len(names) == 0 && r.Denials <= w.in.Denials {
			n += " of " + number(w.in.Denials) + " refusals"
		}
		names = append(names, w.val(r.Name, maxCause)+" ("+n+")")
		if len(names) == namedCauses {
			break
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "Rule " + names[0]
	}
	return "Rules " + list(names, namedCauses)
}

// isCode tells whether a cause is a code, as "plan_expired" is. An application
// may log a sentence instead, with names of people in it; texts leave it out.
func isCode(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-.:/", rune(c)) {
			return false
		}
	}
	return true
}

func (w *writer) layerName() string {
	if w.in.Layer != "" && w.in.Layer != "unknown" {
		return w.in.Layer
	}
	return w.in.Scope.Layer
}

// advice gives the likely cause and where to mend it.
func (w *writer) advice() (likely, next string) {
	likely, next = w.usualAdvice()
	if r := w.in.AccessRule; r != nil {
		if w.in.Direction == incident.Down {
			likely, next = "an access check is missing or no longer matches", "restore the check, or change the rule if this door is meant to be open"
		}
		// Nobody knows better than who wrote the rule.
		if r.Hint != "" {
			next = strings.TrimRight(w.val(r.Hint, maxHint), ".")
		}
	}
	return likely, next
}

// usualAdvice goes by the table in the design of the detector: symptom, cause, place.
func (w *writer) usualAdvice() (likely, next string) {
	in, sc, layer := w.in, &w.in.Scope, w.layerName()
	kind, roll := "", ""
	if in.MarkerInfo != nil {
		kind = in.MarkerInfo.Kind
		if kind == "release" {
			roll = ", or roll back"
		}
	}
	main := ""
	if len(in.Causes) > 0 {
		main = in.Causes[0]
	}
	switch in.Direction {
	case incident.Down:
		return "an access check was removed or no longer matches",
			"find out whether this door is meant to be open; if not, restore the check" + roll
	case incident.New:
		return "access to the new route was not set up for everyone who needs it",
			"compare the access rules of the new route with those of its neighbours"
	}
	switch {
	case sc.Flag != "":
		return "the feature flag and the access rules disagree", "check flag and access rules together"
	case main == "fs_permission" || main == "symlink":
		return "wrong file or folder permissions", "check owner and permissions of the files, and what the last deployment did to them"
	case main == "directory_index":
		return "the index page is missing and listing the folder is off", "restore the index page, or check the server's index setting"
	case main == "rate_limit" || main == "conn_limit":
		return "a limit on requests hits ordinary use", "compare the limit with what the product itself sends"
	case (sc.Role != "" || sc.Plan != "") && layer != "edge":
		return "role or entitlement mismatch", "compare " + w.check() + w.versions() + roll
	case sc.Geo != "":
		return "a country or reputation rule", "look at the country rules in the security layer"
	case layer == "edge":
		return "firewall, CDN or bot protection", "look at the security layer's events for this path"
	case layer == "web" && sc.Route == "" && kind != "config":
		return "wrong file or folder permissions, or a deny rule", "check permissions of the folder and the server's rules for it"
	case layer == "web":
		return "a rewrite or deny rule", "look at the latest changes of the server's configuration"
	case kind == "pricing" || kind == "entitlement":
		return "the changed prices or entitlements leave these people out", "compare who may use this before and after the change"
	case kind == "security_rule":
		return "the changed security rule is too wide", "look at what the rule matches"
	case in.MarkerInfo != nil:
		return "the " + w.change() + " changed who gets in", "compare " + w.check() + w.versions() + roll
	}
	return "", "look at what changed at " + w.clock(in.StartedAt) + in.StartedAt.In(w.Location).Format(" MST")
}

func (w *writer) check() string {
	if w.in.Scope.Route != "" {
		return "the permission check of this route"
	}
	return "the permission checks"
}

func (w *writer) versions() string {
	m := w.in.MarkerInfo
	switch {
	case m == nil || m.Version == "":
		return " before and after " + w.clock(w.in.StartedAt)
	case m.Previous == "":
		return " in " + w.val(m.Version, maxValue) + " with the version before"
	}
	return " in " + w.val(m.Version, maxValue) + " with " + w.val(m.Previous, maxValue)
}

func (w *writer) where() []string {
	var xs []string
	if w.in.Journey != "" {
		xs = append(xs, w.val(w.in.Journey, maxValue)+" journey")
	}
	if w.in.Team != "" {
		xs = append(xs, "team "+w.val(w.in.Team, maxValue))
	}
	if sc := w.in.Scope; sc.Service != "" && (sc.Route != "" || sc.Prefix != "" && sc.Prefix != "/") {
		xs = append(xs, "service "+w.val(sc.Service, maxValue))
	}
	return xs
}

// step is the transition in the incident's time line.
func (w *writer) step(kind incident.Kind) string {
	heads := w.affected()
	switch kind {
	case incident.Opened:
		return withHeads("opened", heads)
	case incident.Reopened:
		return withHeads("opened again", heads)
	case incident.Grew:
		if heads == "" {
			return "grew"
		}
		return "grew to " + heads
	case incident.ResolvedKind:
		end := w.at
		if w.in.ResolvedAt != nil {
			end = *w.in.ResolvedAt
		}
		how := "recovered after "
		switch w.in.Resolution {
		case incident.Accepted:
			how = "taken as the new normal after "
		case incident.Dismissed:
			how = "called not a problem after "
		case incident.Merged:
			return "merged into incident " + w.val(w.in.MergedInto, maxValue)
		}
		return withHeads(w.fixed()+how+Span(end.Sub(w.in.StartedAt)), heads)
	}
	return w.val(string(kind), maxValue)
}

// affected is heads, or what came through a door that should be locked.
func (w *writer) affected() string {
	switch {
	case w.in.Direction != incident.Down:
		return w.heads()
	case w.in.Requests > 0:
		return count(w.in.Requests-w.in.Denials, "request", "requests") + " let in"
	}
	return ""
}

// fixed names the change that the recovery followed: "rolled back to v2.30.4, ".
func (w *writer) fixed() string {
	m, cause := w.in.FixInfo, w.in.MarkerInfo
	switch {
	case m == nil:
		return ""
	case cause != nil && cause.Previous != "" && m.Version == cause.Previous:
		return "rolled back to " + w.val(m.Version, maxValue) + ", "
	}
	return "after " + w.changeOf(m, w.in.Fix) + ": "
}

// acted is a step that a person, or the lack of one, made; else empty.
func (w *writer) acted(kind incident.Kind) string {
	by := ""
	if w.act != nil && w.act.By != "" {
		by = " by " + w.val(w.act.By, maxValue)
	}
	switch kind {
	case incident.Acknowledged:
		return "acknowledged" + by
	case incident.Silenced:
		s := "silenced" + by
		if w.act != nil && !w.act.Until.IsZero() {
			s += " until " + w.day(w.act.Until)
		}
		return s
	case incident.Unsilenced:
		if w.act == nil {
			return "no longer silenced, for the time is over"
		}
		return "silence ended" + by
	case incident.Reopened:
		if w.act == nil {
			return ""
		}
		return withHeads("opened again"+by, w.affected())
	case incident.Assigned:
		if w.in.Team == "" {
			return "now with no team in particular"
		}
		return "now with team " + w.val(w.in.Team, maxValue)
	case incident.Escalated:
		return "not acknowledged yet: more people are told"
	case incident.MergedKind:
		return withHeads("merged with"+w.other()+by, w.affected())
	case incident.Split:
		return withHeads("now without"+w.other()+", parted"+by, w.affected())
	case incident.ResolvedKind:
		if w.act == nil {
			return ""
		}
		if w.in.Resolution == incident.Merged {
			return w.step(kind) + by
		}
		how := "taken as the new normal"
		if w.in.Resolution == incident.Dismissed {
			how = "called not a problem"
		}
		return how + by + " after " + Span(w.at.Sub(w.in.StartedAt))
	}
	return ""
}

// other names the other incident of a merge or a split.
func (w *writer) other() string {
	if w.act == nil || w.act.Other == "" {
		return " another incident"
	}
	return " incident " + w.val(w.act.Other, maxValue)
}

// merged says what was merged into the incident, as in "The numbers are also those of
// /billing/plans, role editor (incident ab12)".
func (w *writer) merged() string {
	var names []string
	for i := range w.in.Merged {
		p := &w.in.Merged[i]
		s := w.place(&p.Scope)
		if whom := w.whom(&p.Scope); whom != "" {
			s += ", " + whom
		}
		names = append(names, s+" (incident "+w.val(p.ID, maxValue)+")")
	}
	return "The numbers are also those of " + list(names, contrastNames) + "."
}

// day is a time of day, with the date if that is not the transition's.
func (w *writer) day(t time.Time) string {
	t, at := t.In(w.Location), w.at.In(w.Location)
	if t.YearDay() == at.YearDay() && t.Year() == at.Year() {
		return t.Format("15:04")
	}
	return t.Format("2 Jan 15:04")
}

func withHeads(s, heads string) string {
	if heads == "" {
		return s
	}
	return s + ": " + heads
}

// Line says in one line what an incident is about and how bad it is, for lists.
func Line(t *incident.Transition) string {
	in := t.Incident
	w := writer{Style: Style{Location: time.UTC}, in: &in, at: t.At, act: t.Act}
	s := w.headline(incident.Opened)
	if in.State == incident.Resolved {
		s = w.headline(incident.ResolvedKind)
	}
	parts := []string{string(in.Severity)}
	if heads := w.heads(); heads != "" {
		parts = append(parts, heads)
	}
	if in.Journey != "" {
		parts = append(parts, w.val(in.Journey, maxValue))
	}
	return s + " (" + strings.Join(append(parts, w.val(in.ID, maxValue)), ", ") + ")"
}
