package collect

import (
	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/event"
)

// expected is what the access model says of a leaf's events.
type expected struct {
	access.Decision
	settled bool // it is the same for all of them, but for those Decide must be asked of
}

// ruled are the rules that may speak of a route.
type ruled struct {
	rules *access.Rules
	known bool
}

// leafID is a leaf's number and those of its names.
type leafID struct {
	leaf uint32
	leafNames
}

// declared tells what the access model makes of the event: the class of a refusal,
// event.Valid if the model asks for it, and the decision, whose rule is 0 if the event
// breaks none, or is the one that asks for it.
func (s *Stream) declared(id leafID, class event.Denial) (event.Denial, access.Decision) {
	d := s.decide(id)
	return broken(&s.ev, class, d)
}

// decide asks the access model once for a leaf, where that is all that it depends on.
func (s *Stream) decide(id leafID) access.Decision {
	for int(id.leaf) >= len(s.expected) {
		s.expected = append(s.expected, expected{})
	}
	e, x := &s.ev, &s.expected[id.leaf]
	single := len(e.Roles) <= 1 && !access.Preflight(e.Method)
	if x.settled && single {
		return x.Decision
	}
	rules := s.rulesOn(id.route)
	if rules == nil {
		x.settled = true
		return access.Decision{}
	}
	q := s.c.query(e, s.service(id.service))
	if len(q.Geo) == 0 && rules.Needs()&access.Geo != 0 {
		q.Geo = s.country(id.geo)
	}
	d := rules.Decide(&q)
	if single && id.service != restID && s.told(rules.Needs(), id) {
		*x = expected{d, true}
	}
	return d
}

// restID is the number of tally.Other among names.
const restID = 1

// roleLines is after how many lines without a role it is plain that a log names none.
const roleLines = 1000

// missRoles warns, once, that rules which name roles cannot work: the application's log
// shows none.
func (s *Stream) missRoles() {
	if s.roleful || s.c.Vantage != event.App || s.before < roleLines || s.leaves.n == 0 || !s.c.Access.Names(access.Role) {
		return
	}
	s.roleful = true
	s.c.Log.Warn("access rules name roles, and this log shows none: requests that name nobody are taken for anonymous, and rules for roles do nothing; map the field that holds the role (mapping: {role: FIELD})",
		"source", s.c.Source, "stream", s.name, "lines", s.before)
}

// told reports whether the leaf says all that a verdict needs to know.
func (s *Stream) told(needs access.Dims, id leafID) bool {
	for _, d := range [...]struct {
		dim access.Dims
		id  uint32
	}{{access.Role, id.role}, {access.Geo, id.geo}, {access.Plan, id.plan}} {
		if needs&d.dim != 0 && d.id <= restID {
			return false
		}
	}
	return needs&(access.Method|access.Flag) == 0
}

// rulesOn finds the rules of a route once.
func (s *Stream) rulesOn(route uint32) *access.Rules {
	for int(route) >= len(s.ruled) {
		s.ruled = append(s.ruled, ruled{})
	}
	r := &s.ruled[route]
	if !r.known {
		*r = ruled{s.c.Access.On(s.routes.list[route]), true}
	}
	return r.rules
}

// country is the event's country where the line does not say it.
func (s *Stream) country(geo uint32) []byte {
	switch {
	case s.c.Geo && geo > restID:
		s.geo = append(s.geo[:0], s.geos.list[geo]...)
	case !s.c.Geo && s.c.Country != nil:
		s.geo = append(s.geo[:0], s.c.Country(host(s.ev.Client))...)
	default:
		return nil
	}
	return s.geo
}

// query is the event as the access model sees it.
func (c *Config) query(e *event.Event, service string) access.Query {
	return access.Query{
		Service: service, Method: e.Method, Plan: e.Plan, Geo: e.Geo, Roles: e.Roles, Flags: e.Flags,
		// An application knows who asks; a server in front of it may not.
		Anonymous: c.Vantage == event.App && len(e.Roles) == 0 && len(e.User) == 0 && len(e.Account) == 0,
	}
}

// broken tells the class of an event and which rule of a decision it breaks, or keeps. A
// redirect is no leak, for it may lead to the log-in; nor does a challenge, or that
// nobody is signed in, break anything: whoever asks may get in after it.
func broken(e *event.Event, class event.Denial, d access.Decision) (event.Denial, access.Decision) {
	switch d.Verdict {
	case access.Deny:
		if class != event.NotDenied {
			return event.Valid, d
		}
		if e.Status/100 == 2 {
			return class, d
		}
	case access.Allow:
		switch class {
		case event.Refused, event.Payment, event.Concealed, event.Masked:
			return class, d
		}
	}
	return class, access.Decision{}
}
