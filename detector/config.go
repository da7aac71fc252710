package detector

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/denywatch/denywatch/internal/access"
)

// Config is the judge's part of the configuration.
type Config struct {
	// AlertsPerWeek is how many false alarms a week the team accepts, spread over
	// everything that is watched.
	AlertsPerWeek float64 `yaml:"alerts_per_week"`
	// Learn is how long a vantage of a service is only watched, not judged, when
	// nothing is known of it yet.
	Learn time.Duration `yaml:"learn"`
	// MaxCells bounds how many leaves (route, role, country, ...) have a baseline
	// of their own, over all services, for each class of denial; the rest is
	// counted as "_other".
	MaxCells int `yaml:"max_cells"`
	// FirstVisit are routes, as templates, that people use before they were let in
	// anywhere: sign-up, log-in, an invitation. Refusals of strangers there are
	// taken as seriously as those of known people, and not for a scan. Routes where
	// most visitors are strangers are found out without it.
	FirstVisit []string `yaml:"first_visit"`
	// MinIdentities is how many distinct people must be refused against a declared
	// access rule, or let in against one, to make an incident of it.
	MinIdentities int `yaml:"min_identities"`
	// Statuses are the configured status codes that refuse, for incidents to tell; empty
	// if nobody knows them.
	Statuses []int `yaml:"-"`
	// Access are the declared access rules; nil if there are none.
	Access *access.Model `yaml:"-"`
}

// maxCells is the largest MaxCells: names are numbered in 20 bits.
const maxCells = 1<<20 - 2

// maxIdentities bounds MinIdentities.
const maxIdentities = 1000

// maxFirstVisit bounds FirstVisit.
const maxFirstVisit = 1000

// Defaults is the configuration of a team that configured nothing.
func Defaults() Config {
	return Config{AlertsPerWeek: 1, Learn: 2 * time.Hour, MaxCells: 50_000, MinIdentities: minPeople}
}

// Problem is a value that cannot be used.
type Problem struct {
	// Path is the option's name inside the detector's configuration, Msg says
	// what is wrong with it and what to write instead.
	Path, Msg string
}

// Validate returns everything that is wrong with c, nothing if New may have it.
func (c *Config) Validate() []Problem {
	var ps []Problem
	bad := func(path, format string, a ...any) {
		ps = append(ps, Problem{path, fmt.Sprintf(format, a...)})
	}
	switch a := c.AlertsPerWeek; {
	case math.IsNaN(a) || math.IsInf(a, 0):
		bad("alerts_per_week", "is not a number; give a number > 0 (1 is usual)")
	case a <= 0:
		bad("alerts_per_week", "%v would never alert; give a number > 0 (1 is usual)", a)
	case a > 10_000:
		bad("alerts_per_week", "%v is more than one a minute; give at most 10000 (1 is usual)", a)
	}
	switch {
	case c.Learn < 0:
		bad("learn", "%v is negative; give a duration such as 2h, or 0 to judge from the first minute", c.Learn)
	case c.Learn > 31*24*time.Hour:
		bad("learn", "%v would stay silent for more than a month; give a duration such as 2h", c.Learn)
	}
	switch {
	case c.MaxCells < 100:
		bad("max_cells", "%d is too few to tell routes apart; give at least 100 (50000 is usual, each takes about 200 bytes)", c.MaxCells)
	case c.MaxCells > maxCells:
		bad("max_cells", "%d is more than can be numbered; give at most %d", c.MaxCells, maxCells)
	}
	if c.MinIdentities < 1 || c.MinIdentities > maxIdentities {
		bad("min_identities", "%d is no number of people from 1 to %d (%d is usual)", c.MinIdentities, maxIdentities, minPeople)
	}
	if n := len(c.FirstVisit); n > maxFirstVisit {
		bad("first_visit", "%d are too many; give at most %d routes, or a template that stands for several", n, maxFirstVisit)
	}
	for i, r := range c.FirstVisit {
		if !strings.HasPrefix(r, "/") {
			bad(fmt.Sprintf("first_visit[%d]", i), "%q is no route; write it as incidents show it, such as /signup or /invite/{id}", r)
			break
		}
	}
	return ps
}
