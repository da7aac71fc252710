package app

import (
	"testing"

	"github.com/denywatch/denywatch/internal/incident"
)

// TestDescribeNone: an empty list is good news only if it is one of all that is open.
func TestDescribeNone(t *testing.T) {
	for _, c := range []struct {
		state      incident.State
		team, want string
	}{
		{"", "", "Nothing wrong: no incident is known.\n"},
		{incident.Open, "", "Nothing wrong: no incident is open.\n"},
		{incident.Resolved, "", "No incident that is over is known.\n"},
		{"", "growth", "No incident of team growth is known.\n"},
		{incident.Open, "gro\x1b[31mwth", "No incident of team gro [31mwth is open.\n"},
	} {
		if got := DescribeNone(c.state, c.team); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.state, c.team, got, c.want)
		}
	}
}
