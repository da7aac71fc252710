package app

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/denywatch/denywatch/internal/collect"
)

// topMost bounds the rows of each table of `parse --stats`.
const topMost = 15

// fieldStats counts what the events of a log say.
type fieldStats struct {
	events int
	filled map[string]int
	tables map[string]map[string]int
}

func newFieldStats() *fieldStats {
	return &fieldStats{filled: map[string]int{}, tables: map[string]map[string]int{}}
}

// statTables are the values that are counted, in the order in which they are
// shown.
var statTables = []string{"status", "route", "denial", "layer", "cause", "role", "geo"}

// maxStatValues bounds the values of one table; the rest is counted together.
const maxStatValues = 10_000

func (s *fieldStats) add(x *collect.Explained) {
	s.events++
	fill := func(name, v string) {
		if v != "" && v != "0" {
			s.filled[name]++
		}
	}
	fill("time", x.Time)
	fill("service", x.Service)
	fill("host", x.Host)
	fill("method", x.Method)
	fill("path", x.Path)
	fill("route", x.Route)
	fill("status", fmt.Sprint(x.Status))
	fill("upstream_status", fmt.Sprint(x.UpstreamStatus))
	fill("client", x.Client)
	fill("user", x.User)
	fill("account", x.Account)
	fill("role", x.Role)
	fill("plan", x.Plan)
	fill("geo", x.Geo)
	fill("flags", strings.Join(x.Flags, ","))
	fill("request_id", x.RequestID)
	for _, t := range [...]struct{ name, v string }{
		{"status", fmt.Sprint(x.Status)}, {"route", x.Route}, {"denial", x.Denial}, {"layer", x.Layer}, {"cause", x.Cause}, {"role", x.Role}, {"geo", x.Geo},
	} {
		if t.v == "" {
			continue
		}
		m := s.tables[t.name]
		if m == nil {
			m = map[string]int{}
			s.tables[t.name] = m
		}
		if _, ok := m[t.v]; !ok && len(m) >= maxStatValues {
			t.v = "(others)"
		}
		m[t.v]++
	}
}

// write shows the counts: which fields are filled, and the most frequent values.
func (s *fieldStats) write(w io.Writer) {
	if s.events == 0 {
		return
	}
	fmt.Fprintln(w, "\nFIELDS FILLED")
	for _, f := range strings.Fields("time service host method path route status upstream_status client user account role plan geo flags request_id") {
		if n := s.filled[f]; n > 0 {
			fmt.Fprintf(w, "  %-16s %6.2f %%\n", f, 100*float64(n)/float64(s.events))
		} else {
			fmt.Fprintf(w, "  %-16s      -\n", f)
		}
	}
	for _, name := range statTables {
		m := s.tables[name]
		if len(m) == 0 {
			continue
		}
		values := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(m[b]-m[a], strings.Compare(a, b)) })
		fmt.Fprintf(w, "\n%s (%s)\n", strings.ToUpper(name), count(len(values), "value", "values"))
		for i, v := range values {
			if i == topMost {
				fmt.Fprintf(w, "  ... and %s more\n", group3(uint64(len(values)-topMost)))
				break
			}
			fmt.Fprintf(w, "  %12s  %s\n", group3(uint64(m[v])), printable(v))
		}
	}
}
