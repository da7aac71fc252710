package detector

import (
	"cmp"
	"testing"

	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/event"
	"github.com/denywatch/denywatch/internal/tally"
)

// TestFlagNamesIncident: a flag that all who are refused have on, and others do
// not, is part of the scope, before and after a restart; one that everybody has
// on, or that some of the refused have off, is not.
func TestFlagNamesIncident(t *testing.T) {
	for name, c := range map[string]struct {
		with, denied uint32 // requests and denials with the flag
		want         string
		version      string // of the new version, which answers a third of the requests
		flag         string // "new_checkout" unless given
	}{
		"the refused have it":      {12, 10, "new_checkout", "", ""},
		"everybody has it":         {40, 10, "", "", ""},
		"half of the refused have": {12, 5, "", "", ""},
		"the new version refuses":  {12, 5, "", "v2", ""},
		"of too many flags":        {12, 10, "", "", tally.Other},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(Defaults())
			start, who := int64(1_700_000_040), uint64(1)
			slot := func(refused uint32) {
				l := slots.Leaf{Key: tally.Key{Service: "shop", Route: "/blog"}}
				l.Status[tally.S2xx], l.Status[tally.S403] = 40-refused, refused
				l.Denied[event.Refused] = refused
				denied := c.denied
				if refused == 0 {
					denied = 0
				}
				if c.version != "" {
					l.Flags = append(l.Flags, slots.Flag{Name: tally.VersionFlag + "v1", Requests: 27}, slots.Flag{Name: tally.VersionFlag + c.version, Requests: 13, Denied: refused})
				}
				l.Flags = append(l.Flags, []slots.Flag{{Name: "dark", Requests: 20, Denied: refused / 2}, {Name: cmp.Or(c.flag, "new_checkout"), Requests: c.with, Denied: denied}}...)
				for range refused {
					l.Hits = append(l.Hits, slots.Hit{Class: event.Refused, Named: true, Identity: who << 8, Requests: 1, Denials: 1})
					who++
				}
				home := slots.Leaf{Key: tally.Key{Service: "shop", Route: "/home"}}
				home.Status[tally.S2xx] = 40
				start += 60
				d.Close(&slots.Closed{Vantage: event.App, Step: 60, Start: start, Leaves: []slots.Leaf{l, home}})
			}
			for range 300 {
				slot(0)
			}
			for range 4 {
				slot(10)
			}
			check := func() {
				t.Helper()
				if is := d.Incidents(); len(is) != 1 || is[0].Scope.Route != "/blog" || is[0].Scope.Flag != c.want || is[0].Version != c.version {
					t.Fatalf("incidents %+v, want one with flag %q and version %q", is, c.want, c.version)
				}
			}
			check()
			kept := blocks{}
			if err := d.Save(kept); err != nil {
				t.Fatal(err)
			}
			d = New(Defaults())
			if err := d.Load(kept.each); err != nil {
				t.Fatal(err)
			}
			slot(10)
			check()
		})
	}
}

// TestFlagOfAnotherVantage: the flag that only the application tells of names the
// incident also when the web server knows more people.
func TestFlagOfAnotherVantage(t *testing.T) {
	d := New(Defaults())
	start, who := int64(1_700_000_040), uint64(1)
	slot := func(refused uint32) {
		for _, v := range [...]event.Vantage{event.Web, event.App} {
			l := slots.Leaf{Key: tally.Key{Service: "shop", Route: "/blog"}}
			l.Status[tally.S2xx], l.Status[tally.S403] = 40-refused, refused
			l.Denied[event.Refused] = refused
			for range refused {
				l.Hits = append(l.Hits, slots.Hit{Class: event.Refused, Named: v == event.Web, Identity: who << 8, Requests: 1, Denials: 1})
				who++
			}
			if v == event.App {
				l.Flags = []slots.Flag{{Name: "new_checkout", Requests: 12, Denied: refused}}
			}
			d.Close(&slots.Closed{Vantage: v, Step: 60, Start: start, Leaves: []slots.Leaf{l}})
		}
		start += 60
	}
	for range 300 {
		slot(0)
	}
	for range 4 {
		slot(10)
	}
	if is := d.Incidents(); len(is) != 1 || is[0].Vantages[0] != "web" || is[0].Scope.Flag != "new_checkout" {
		t.Errorf("incidents %+v, want one, led by the web server, with the flag", is)
	}
}

// blocks is a state in memory.
type blocks map[string][]byte

func (b blocks) Put(key string, value []byte) error {
	b[key] = append([]byte(nil), value...)
	return nil
}

func (b blocks) each(yield func(key string, value []byte) error) error {
	for k, v := range b {
		if err := yield(k, v); err != nil {
			return err
		}
	}
	return nil
}
