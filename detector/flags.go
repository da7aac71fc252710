package detector

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/baseline"
	"github.com/denywatch/denywatch/detector/slots"
	"github.com/denywatch/denywatch/internal/tally"
)

const (
	// pastFlags bounds the flags that are counted of a slot, by route.
	pastFlags = 1 << 12
	// flagShare is the share of the denials that had a flag on from which on it may
	// name an incident, flagCommon the share of all requests beyond which a flag is
	// on for everybody and says nothing.
	flagShare, flagCommon = 0.9, 0.8
	// flagEvidence is how improbable, in nats and after a price for the number of
	// flags, it must be that all the people refused have the flag on by chance.
	flagEvidence = 2.3
)

// pastFlag is how many requests for a route had a feature flag on in one slot, and
// how many of them were refused, in whatever class.
type pastFlag struct {
	route     int32
	name      string
	n, denied uint32
}

// addFlags counts a leaf's flags; leaves come in order of their routes.
func (p *pastSlot) addFlags(route int32, flags []slots.Flag) {
	for i := range flags {
		f := &flags[i]
		at := len(p.flags) - 1
		for at >= 0 && p.flags[at].route == route && p.flags[at].name != f.Name {
			at--
		}
		switch {
		case at >= 0 && p.flags[at].route == route:
			p.flags[at].n += f.Requests
			p.flags[at].denied += f.Denied
		case len(p.flags) < pastFlags:
			p.flags = append(p.flags, pastFlag{route, f.Name, f.Requests, f.Denied})
		}
	}
}

// tellFlag looks for a feature flag that all who are refused have on, while others
// in the finding's routes have it off, and for a version of the application that
// refuses them all while others answer too: that of the people refused everyone has it
// by chance would be as improbable as its share of requests to the power of their
// number. Flags are no dimension; they are counted by route and name a finding.
func (j *judge) tellFlag(f *finding) {
	if f.dir == baseline.Down {
		return
	}
	in := func(route int32) bool {
		return (f.scope.route == all || f.scope.route == route) && (f.scope.prefix == all || f.scope.prefix == j.routes[route].prefix)
	}
	type sum struct{ n, denied float64 }
	var total sum
	flags := map[string]sum{}
	for i := range j.past.slots {
		p := &j.past.slots[i]
		if p.start < f.from || len(p.flags) == 0 {
			continue
		}
		for k := range p.counts {
			if c := &p.counts[k]; in(j.cells[c.cell].route) {
				total.n += float64(c.n)
				total.denied += float64(c.denied)
			}
		}
		for k := range p.flags {
			if x := &p.flags[k]; in(x.route) {
				s := flags[x.name]
				flags[x.name] = sum{s.n + float64(x.n), s.denied + float64(x.denied)}
			}
		}
	}
	if total.denied < 3 {
		return
	}
	// The rarest that nearly all the refused have.
	tell := func(version bool) string {
		names := slices.DeleteFunc(slices.Collect(maps.Keys(flags)), func(n string) bool {
			return n == "" || n == tally.Other || strings.HasPrefix(n, tally.VersionFlag) != version
		})
		price := math.Log(float64(max(len(names), 1)))
		names = slices.DeleteFunc(names, func(n string) bool {
			return flags[n].denied < flagShare*total.denied || flags[n].n > flagCommon*total.n
		})
		if len(names) == 0 {
			return ""
		}
		name := slices.MinFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(flags[a].n, flags[b].n), cmp.Compare(a, b)) })
		if float64(f.who.count())*-math.Log(flags[name].n/total.n) < flagEvidence+price {
			return ""
		}
		return name
	}
	f.flag = tell(false)
	f.version = strings.TrimPrefix(tell(true), tally.VersionFlag)
}
