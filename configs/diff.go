package configs

import (
	"reflect"
	"strings"
)

// Effect is what a changed setting asks of a reload. Positions, baselines and
// incidents survive all of them.
type Effect uint8

// The effects, from the mildest.
const (
	// Live: the new value holds from the reload on.
	Live Effect = iota
	// Recount: requests are counted differently from now on, so that rates may
	// jump though nobody's access changed. The reload sets a marker of kind
	// config, and the new counts become a new epoch.
	Recount
	// Restart: the new value holds after the next restart; until then the old
	// one does.
	Restart
)

// String returns the effect in words for a log line.
func (e Effect) String() string {
	switch e {
	case Recount:
		return "counts anew"
	case Restart:
		return "needs a restart"
	}
	return "live"
}

// Change is one setting that differs between two configurations. It holds no
// values, so it may be logged.
type Change struct {
	// Path names the setting. Sources, sinks and callers stand under their
	// names, as in "sources[web].format"; without a setting behind it the whole
	// entry is new or gone.
	Path   string
	Effect Effect
}

// Changes is what differs, in the order of the schema.
type Changes []Change

// Effect is the strongest effect of any change; Live for none.
func (c Changes) Effect() Effect {
	e := Live
	for _, x := range c {
		e = max(e, x.Effect)
	}
	return e
}

// Having lists the paths of the changes with that effect.
func (c Changes) Having(e Effect) []string {
	var list []string
	for _, x := range c {
		if x.Effect == e {
			list = append(list, x.Path)
		}
	}
	return list
}

// String lists the changes for a log line, such as "listen (needs a restart)".
func (c Changes) String() string {
	list := make([]string, len(c))
	for i, x := range c {
		list[i] = x.Path + " (" + x.Effect.String() + ")"
	}
	return strings.Join(list, ", ")
}

// Diff tells what a reload from before to after changes. Entries of a list are
// matched by name, so their order does not count.
func Diff(before, after *Config) Changes {
	var c Changes
	c.group(reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem(), "", Live)
	return c
}

func (c *Changes) add(path string, e Effect) { *c = append(*c, Change{path, e}) }

func (c *Changes) group(a, b reflect.Value, path string, e Effect) {
	for _, f := range fields(a.Type()) {
		c.setting(a.FieldByIndex(f.index), b.FieldByIndex(f.index), join(path, f.name), f.effect.or(e))
	}
}

func (c *Changes) setting(a, b reflect.Value, path string, e Effect) {
	switch t := a.Type(); {
	case t.Kind() == reflect.Struct:
		c.group(a, b, path, e)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && hasName(t.Elem()):
		c.entries(a, b, path, e)
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		if a.Len()+b.Len() > 0 && !reflect.DeepEqual(a.Interface(), b.Interface()) {
			c.add(path, e)
		}
	case !a.Equal(b):
		c.add(path, e)
	}
}

// hasName reports whether entries of a list have names to match them by; a list
// whose entries have none is compared as a whole.
func hasName(t reflect.Type) bool {
	_, ok := t.FieldByName("Name")
	return ok
}

// entries compares two lists of named groups.
func (c *Changes) entries(a, b reflect.Value, path string, e Effect) {
	named := func(list reflect.Value, name string) (reflect.Value, bool) {
		for i := range list.Len() {
			if list.Index(i).FieldByName("Name").String() == name {
				return list.Index(i), true
			}
		}
		return reflect.Value{}, false
	}
	for i := range a.Len() {
		name := a.Index(i).FieldByName("Name").String()
		p := path + "[" + name + "]"
		if other, kept := named(b, name); kept {
			c.group(a.Index(i), other, p, e)
		} else {
			c.add(p, e)
		}
	}
	for i := range b.Len() {
		name := b.Index(i).FieldByName("Name").String()
		if _, kept := named(a, name); !kept {
			c.add(path+"["+name+"]", e)
		}
	}
}

// effectTag is the "effect" tag of a schema field; a group hands its own down.
type effectTag string

func (t effectTag) or(inherited Effect) Effect {
	switch t {
	case "live":
		return Live
	case "recount":
		return Recount
	case "restart":
		return Restart
	}
	return inherited
}
