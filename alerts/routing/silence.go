package routing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/access"
	"github.com/denywatch/denywatch/internal/incident"
)

// maxSilences bounds the silences of scopes.
const maxSilences = 1000

// silence is a silence of a scope made ready.
type silence struct {
	incident.Silencing
	condition
}

// newSilence makes a silence ready, unless its scope cannot be that of an incident.
func newSilence(s incident.Silencing) (*silence, error) {
	if s.Scope == nil || *s.Scope == (incident.Scope{}) {
		return nil, errors.New("it has no scope; name at least one of service, prefix, route, role, geo, plan, host, flag and layer")
	}
	c := new(Condition)
	for _, x := range []struct {
		list *[]string
		v    string
	}{
		{&c.Service, s.Scope.Service}, {&c.Role, s.Scope.Role}, {&c.Geo, s.Scope.Geo}, {&c.Plan, s.Scope.Plan},
		{&c.Host, s.Scope.Host}, {&c.Flag, s.Scope.Flag}, {&c.Layer, s.Scope.Layer}, {&c.Match, s.Scope.Route},
	} {
		if x.v != "" {
			*x.list = []string{x.v}
		}
	}
	if p := s.Scope.Prefix; p != "" {
		if s.Scope.Route != "" {
			return nil, errors.New("its scope has a route and a prefix; give one of them")
		}
		below := strings.TrimSuffix(strings.TrimRight(p, "/*"), "/") + "/" + all
		if _, msg := access.Compile(below); msg != "" {
			return nil, fmt.Errorf("its scope's prefix %s", msg)
		}
		c.Match = []string{below}
	}
	if ps := c.Validate(); len(ps) > 0 {
		path := strings.Replace(ps[0].Path, "match", "route", 1)
		return nil, fmt.Errorf("its scope's %s: %s", path, ps[0].Msg)
	}
	return &silence{s, compile(c)}, nil
}

// hush returns the silence that an incident is in, nil if there is none; of several
// the one that lasts longest.
func (d *Desk) hush(in *incident.Incident, now time.Time) *silence {
	var best *silence
	for _, s := range d.hushed {
		if now.Before(s.Act.Until) && s.fits(in) && (best == nil || cmp.Or(s.Act.Until.Compare(best.Act.Until), cmp.Compare(best.ID, s.ID)) > 0) {
			best = s
		}
	}
	return best
}

// Hush adds a silence of a scope, or replaces the one of its id, and returns which of
// the incidents are in it and not silenced yet: the caller silences each of them with
// the silence's act. The error says what is wrong with the scope.
func (d *Desk) Hush(x incident.Silencing, incidents []incident.Incident) ([]string, error) {
	s, err := newSilence(x)
	if err != nil {
		return nil, err
	}
	if len(d.hushed) >= maxSilences && d.hushed[x.ID] == nil {
		return nil, fmt.Errorf("there are %d silences already; take some back", maxSilences)
	}
	d.hushed[x.ID] = s
	d.dirty[silencePrefix+x.ID] = true
	var in []string
	for i := range incidents {
		id := incidents[i].ID
		if l := d.lives[id]; incidents[i].State == incident.Open && s.fits(&incidents[i]) && l != nil && l.Silence == nil {
			d.life(id).Hushed = x.ID
			in = append(in, id)
		}
	}
	return in, nil
}

// Unhush takes a silence of a scope back, before its time, and returns the open
// incidents that it silenced: the caller ends the silence of each. ok is false if there
// is none of that id.
func (d *Desk) Unhush(id string) (in []string, ok bool) {
	if d.hushed[id] == nil {
		return nil, false
	}
	delete(d.hushed, id)
	d.dirty[silencePrefix+id] = true
	for other, l := range d.lives {
		if l.Hushed == id && l.State == incident.Open {
			in = append(in, other)
		}
	}
	slices.Sort(in)
	return in, true
}

// Silences returns the silences that hold now: those of scopes, and of incidents for
// themselves, in the order in which they end.
func (d *Desk) Silences(now time.Time) []incident.Silencing {
	var out []incident.Silencing
	for _, s := range d.hushed {
		if now.Before(s.Act.Until) {
			out = append(out, s.Silencing)
		}
	}
	for id, l := range d.lives {
		if l.Silence != nil && l.Hushed == "" && now.Before(l.Silence.Until) {
			out = append(out, incident.Silencing{ID: id, Incident: id, Act: *l.Silence})
		}
	}
	slices.SortFunc(out, func(a, b incident.Silencing) int {
		return cmp.Or(a.Act.Until.Compare(b.Act.Until), cmp.Compare(a.ID, b.ID))
	})
	return out
}
