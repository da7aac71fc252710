// Package marker holds the one schema for "something changed": releases, price
// and entitlement changes, security rules, flags, configuration.
package marker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind is what changed.
type Kind string

// The kinds.
const (
	Release      Kind = "release"
	Pricing      Kind = "pricing"
	Entitlement  Kind = "entitlement"
	SecurityRule Kind = "security_rule"
	Flag         Kind = "flag"
	Config       Kind = "config"
)

// Kinds lists all kinds, in the order in which help texts name them.
var Kinds = []Kind{Release, Pricing, Entitlement, SecurityRule, Flag, Config}

// Expect is the direction an announced change moves denials to.
type Expect string

// The expectations. The empty one announces nothing.
const (
	ExpectNone Expect = ""
	ExpectUp   Expect = "up"
	ExpectDown Expect = "down"
)

// List is a set of names that JSON may write as one string or as an array.
type List []string

// UnmarshalJSON accepts a string, an array of strings or null.
func (l *List) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = nil
		if one != "" {
			*l = List{one}
		}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return errors.New("must be a string or a list of strings")
	}
	*l = many
	return nil
}

// MarshalJSON writes a single name as a string.
func (l List) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

// Has reports whether name is in the list; an empty list has every name.
func (l List) Has(name string) bool {
	if len(l) == 0 {
		return true
	}
	for _, x := range l {
		if x == name {
			return true
		}
	}
	return false
}

// Scope is where a marker applies; an empty field means everywhere.
type Scope struct {
	Service List `json:"service,omitempty"`
	Prefix  List `json:"prefix,omitempty"`
	Route   List `json:"route,omitempty"`
	Role    List `json:"role,omitempty"`
	Geo     List `json:"geo,omitempty"`
}

// Marker is one change.
type Marker struct {
	ID       string    `json:"id"`
	Kind     Kind      `json:"kind"`
	Time     time.Time `json:"time"`
	Service  string    `json:"service,omitempty"`
	Version  string    `json:"version,omitempty"`
	Previous string    `json:"previous,omitempty"`
	Scope    Scope     `json:"scope,omitzero"`
	Expect   Expect    `json:"expect,omitempty"`
}

const maxText, maxList = 200, 100

// Normalise checks m and fills what may be left out: the time (now), the id
// (from service, kind, version and time) and the service (from the scope). The
// error names every problem.
func (m *Marker) Normalise(now time.Time) error {
	var errs []error
	bad := func(f string, a ...any) { errs = append(errs, fmt.Errorf(f, a...)) }
	if m.Kind == "" {
		m.Kind = Release
	}
	known := false
	for _, k := range Kinds {
		known = known || m.Kind == k
	}
	if !known {
		bad("kind: %q is unknown; use one of %v", clip(string(m.Kind)), Kinds)
	}
	switch m.Expect {
	case ExpectNone, ExpectUp, ExpectDown:
	default:
		bad("expect: %q is unknown; use up or down, or leave it out", clip(string(m.Expect)))
	}
	if m.Time.IsZero() {
		m.Time = now
	}
	m.Time = m.Time.UTC()
	if y := m.Time.Year(); y < 1970 || y > 2200 {
		bad("time: the year %d is out of range", y)
	}
	if m.Service == "" && len(m.Scope.Service) == 1 {
		m.Service = m.Scope.Service[0]
	}
	if m.Service != "" && len(m.Scope.Service) == 0 {
		m.Scope.Service = List{m.Service}
	}
	if m.ID == "" {
		parts := []string{}
		for _, p := range []string{m.Service, string(m.Kind), m.Version} {
			if p != "" && (p != string(Release) || m.Version == "") {
				parts = append(parts, p)
			}
		}
		if m.Version == "" {
			parts = append(parts, m.Time.Format(timeInID))
		}
		m.ID = strings.Join(parts, "-")
	}
	for _, f := range []struct{ name, v string }{{"id", m.ID}, {"service", m.Service}, {"version", m.Version}, {"previous", m.Previous}} {
		if len(f.v) > maxText {
			bad("%s: longer than %d bytes", f.name, maxText)
		}
		if strings.ContainsFunc(f.v, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }) {
			bad("%s: contains control characters or is not UTF-8", f.name)
		}
	}
	for _, f := range []struct {
		name string
		l    List
	}{{"service", m.Scope.Service}, {"prefix", m.Scope.Prefix}, {"route", m.Scope.Route}, {"role", m.Scope.Role}, {"geo", m.Scope.Geo}} {
		if len(f.l) > maxList {
			bad("scope.%s: more than %d names", f.name, maxList)
		}
		for _, s := range f.l {
			if s == "" || len(s) > maxText {
				bad("scope.%s: a name is empty or longer than %d bytes", f.name, maxText)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// timeInID is how an id tells a marker's time.
const timeInID = "20060102T150405Z"

// Repeated gives the id of a normalised marker its time, so that a change that
// happened once more (a release that is rolled back to) is another marker.
func (m *Marker) Repeated() { m.ID += "-" + m.Time.UTC().Format(timeInID) }

// Same reports whether a and b are equal in everything.
func Same(a, b Marker) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// SameChange reports whether a and b differ in id and time at most.
func SameChange(a, b Marker) bool {
	a.ID, b.ID, a.Time, b.Time = "", "", time.Time{}, time.Time{}
	return Same(a, b)
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
