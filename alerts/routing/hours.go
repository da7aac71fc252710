package routing

import (
	"slices"
	"time"

	"github.com/denywatch/denywatch/internal/incident"
)

// Quiet are the hours in which a team is left alone. What is less urgent than Below
// waits for their end: an incident that is open still is told then, and of those that
// came and went there is one summary.
type Quiet struct {
	// From and To are times of day such as "19:00"; a To before From is on the next
	// day. Both empty: no such hours.
	From string `yaml:"from"`
	To   string `yaml:"to"`
	// Days are whole days: mon, tue, ...
	Days []string `yaml:"days,one"`
	// Below is the severity from which on people are told at any time.
	Below incident.Severity `yaml:"below"`
}

// DefaultQuietBelow is Quiet.Below if the file does not say.
const DefaultQuietBelow = incident.Critical

// Escalation says after how long without an acknowledgement another team is told, by
// severity; 0 is never.
type Escalation struct {
	Critical time.Duration `yaml:"critical"`
	High     time.Duration `yaml:"high"`
	Medium   time.Duration `yaml:"medium"`
	Low      time.Duration `yaml:"low"`
	To       string        `yaml:"to"`
}

// After is after how long an incident of a severity escalates, 0 for never.
func (e *Escalation) After(s incident.Severity) time.Duration {
	switch s {
	case incident.Critical:
		return e.Critical
	case incident.High:
		return e.High
	case incident.Medium:
		return e.Medium
	case incident.Low:
		return e.Low
	}
	return 0
}

// clock reads a time of day in minutes.
func clock(s string) (minutes int, ok bool) {
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func weekday(s string) (time.Weekday, bool) {
	i := slices.Index(weekdays, s)
	return time.Weekday(i), i >= 0
}

// quietAt reports whether the team is to be left alone with what is less urgent than
// Quiet.Below.
func (t *team) quietAt(now time.Time) bool {
	now = now.In(t.zone)
	if slices.Contains(t.Quiet.Days, weekdays[now.Weekday()]) {
		return true
	}
	if t.Quiet.From == "" {
		return false
	}
	from, _ := clock(t.Quiet.From)
	to, _ := clock(t.Quiet.To)
	at := now.Hour()*60 + now.Minute()
	if from < to {
		return at >= from && at < to
	}
	return at >= from || at < to
}
