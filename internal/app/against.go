package app

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/denywatch/denywatch/alerts"
	"github.com/denywatch/denywatch/configs"
	"github.com/denywatch/denywatch/internal/incident"
	"github.com/denywatch/denywatch/internal/marker"
	"github.com/denywatch/denywatch/internal/web"
)

// Change is what another configuration makes of an incident.
type Change string

// The changes.
const (
	Same    Change = "same"
	Added   Change = "added"   // told under the other configuration only
	Dropped Change = "dropped" // told under the first configuration only
	Later   Change = "later"   // told later under the other configuration
	Earlier Change = "earlier" // told earlier under the other configuration
)

// Difference is one incident under two configurations. It is a line of
// `replay --against OTHER --output jsonl`.
type Difference struct {
	Change Change `json:"change"`
	// Incident is under the first configuration, Other under the other one; nil
	// where it is not told.
	Incident *incident.Incident `json:"incident"`
	Other    *incident.Incident `json:"other"`
	// DelaySeconds is how much later, or earlier if negative, the other
	// configuration tells it, in event time.
	DelaySeconds float64 `json:"delay_seconds"`
}

// at is when the incident was told first.
func (d *Difference) at() time.Time {
	if d.Incident != nil {
		return d.Incident.OpenedAt
	}
	return d.Other.OpenedAt
}

// ReplayAgainst replays the same logs under opt.Config and under other, and tells
// which incidents other adds, drops, delays or tells earlier. It returns how many
// differ.
func ReplayAgainst(ctx context.Context, opt ReplayOptions, other *configs.Config) (int, error) {
	if slices.Contains(opt.Files, "-") {
		return 0, errors.New("standard input (-) can be read only once; give --against a file")
	}
	var told [2][]incident.Incident
	var by [2]*core
	var failed error
	for i, cfg := range []*configs.Config{opt.Config, other} {
		if cfg == nil {
			cfg = configs.Default()
		}
		c, _, incidents, err := opt.run(ctx, cfg)
		if c == nil {
			return 0, err
		}
		told[i], by[i], failed = incidents, c, err
	}
	diff := compare(told[0], told[1])
	n := 0
	for i := range diff {
		if diff[i].Change != Same {
			n++
		}
	}
	var err error
	if opt.JSON {
		err = differencesJSON(opt.Stdout, diff)
	} else {
		err = differences(opt.Stdout, opt.Colour, diff, by)
	}
	return n, errors.Join(err, failed)
}

// compare pairs the incidents that tell of the same: they move the same way, their
// times and scopes overlap, and of several the ones told closest to each other.
func compare(a, b []incident.Incident) []Difference {
	type pair struct{ i, k int }
	var pairs []pair
	for i := range a {
		for k := range b {
			if sameTrouble(&a[i], &b[k]) {
				pairs = append(pairs, pair{i, k})
			}
		}
	}
	apart := func(p pair) time.Duration { return a[p.i].OpenedAt.Sub(b[p.k].OpenedAt).Abs() }
	slices.SortStableFunc(pairs, func(p, q pair) int { return cmp.Compare(apart(p), apart(q)) })
	usedA, usedB := make([]bool, len(a)), make([]bool, len(b))
	var out []Difference
	for _, p := range pairs {
		if usedA[p.i] || usedB[p.k] {
			continue
		}
		usedA[p.i], usedB[p.k] = true, true
		d := Difference{Change: Same, Incident: &a[p.i], Other: &b[p.k], DelaySeconds: b[p.k].OpenedAt.Sub(a[p.i].OpenedAt).Seconds()}
		switch {
		case d.DelaySeconds > 0:
			d.Change = Later
		case d.DelaySeconds < 0:
			d.Change = Earlier
		}
		out = append(out, d)
	}
	for i := range a {
		if !usedA[i] {
			out = append(out, Difference{Change: Dropped, Incident: &a[i]})
		}
	}
	for k := range b {
		if !usedB[k] {
			out = append(out, Difference{Change: Added, Other: &b[k]})
		}
	}
	slices.SortStableFunc(out, func(x, y Difference) int { return x.at().Compare(y.at()) })
	return out
}

// sameTrouble reports whether two incidents can be one trouble.
func sameTrouble(a, b *incident.Incident) bool {
	down := func(x *incident.Incident) bool { return x.Direction == incident.Down }
	before := func(x, y *incident.Incident) bool { return x.ResolvedAt != nil && x.ResolvedAt.Before(y.StartedAt) }
	return down(a) == down(b) && a.Class == b.Class && !before(a, b) && !before(b, a) && overlap(&a.Scope, b.Scope)
}

func overlap(a *incident.Scope, b incident.Scope) bool {
	list := func(s string) marker.List {
		if s == "" {
			return nil
		}
		return marker.List{s}
	}
	return web.Overlaps(marker.Scope{Service: list(a.Service), Prefix: list(a.Prefix), Route: list(a.Route), Role: list(a.Role), Geo: list(a.Geo)}, b)
}

func differencesJSON(out io.Writer, diff []Difference) error {
	w := bufio.NewWriter(out)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for i := range diff {
		if err := e.Encode(&diff[i]); err != nil {
			return err
		}
	}
	return w.Flush()
}

// signs are what stands in front of a difference.
var signs = map[Change]struct{ sign, colour string }{
	Same: {"=", "2"}, Added: {"+", "32"}, Dropped: {"-", "31"}, Later: {"›", "33"}, Earlier: {"‹", "36"},
}

// differences writes them for people, each incident in the words of the configuration
// that tells it, of both in those of the other one.
func differences(out io.Writer, colour bool, diff []Difference, by [2]*core) error {
	w := bufio.NewWriter(out)
	counts := map[Change]int{}
	for i := range diff {
		d := &diff[i]
		counts[d.Change]++
		in, c := d.Other, by[1]
		if in == nil {
			in, c = d.Incident, by[0]
		}
		text := alerts.Render(c.opening(in))
		note := ""
		switch d.Change {
		case Later, Earlier:
			note = fmt.Sprintf("  %s %s", (time.Duration(d.DelaySeconds) * time.Second).Abs(), d.Change)
		case Added, Dropped:
			note = "  " + string(d.Change)
		}
		s := signs[d.Change]
		sign := s.sign
		if colour {
			sign = "\x1b[" + s.colour + "m" + sign + "\x1b[0m"
		}
		fmt.Fprintf(w, " %s %s  %s%s\n", sign, when(in), text.Headline, note)
	}
	switch {
	case len(diff) == 0:
		fmt.Fprintln(w, " Neither configuration tells anything of these logs.")
	case counts[Same] == len(diff):
		fmt.Fprintf(w, "\n The other configuration tells the same: %s.\n", count(len(diff), "incident", "incidents"))
	default:
		fmt.Fprintf(w, "\n The other configuration adds %d, drops %d, tells %d later and %d earlier; %d are the same.\n",
			counts[Added], counts[Dropped], counts[Later], counts[Earlier], counts[Same])
	}
	return w.Flush()
}
