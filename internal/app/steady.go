package app

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// leap is by how much the clock must be set, at least, to be noticed.
	leap = 30 * time.Second
	// leapHold is how long a clock that was set ahead is not believed.
	leapHold = 10 * time.Minute
)

// steady is the wall clock of event time. A clock that is set ahead by mistake
// would close slots of the future, and after it was set back every line would be
// late until real time has caught up. So a leap ahead, which the monotonic clock
// did not make, is believed only after it has lasted for leapHold; until then time
// goes on as if nothing had happened. It is safe for concurrent use.
type steady struct {
	// read returns the wall clock in nanoseconds since the epoch and a clock that
	// nobody can set.
	read func() (wall int64, mono time.Duration)
	log  *slog.Logger

	mu      sync.Mutex
	started bool
	wall    int64         // at the last call
	mono    time.Duration // at the last call
	held    time.Duration // how far the wall clock is ahead of what is believed
	since   time.Duration // mono at which it was set ahead
}

// newSteady returns a steady clock on the system's.
func newSteady(log *slog.Logger) *steady {
	start := time.Now()
	return &steady{log: log, read: func() (int64, time.Duration) {
		t := time.Now()
		return t.UnixNano(), t.Sub(start)
	}}
}

// now is the time in nanoseconds since the epoch.
func (s *steady) now() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	wall, mono := s.read()
	step := time.Duration(wall-s.wall) - (mono - s.mono)
	first := !s.started
	s.started, s.wall, s.mono = true, wall, mono
	switch {
	case first:
	case step >= leap:
		s.held += step
		s.since = mono
		s.log.Warn("the clock was set ahead; event time goes on without the leap unless it lasts", "by", step.Round(time.Second), "for", leapHold)
	case step <= -leap && s.held > 0:
		s.held = max(0, s.held+step)
		if s.held < leap {
			s.held = 0
		}
		s.log.Info("the clock was set back after it had been set ahead", "by", -step.Round(time.Second))
	case step <= -leap:
		s.log.Error("the clock was set back; lines count as late and are not judged until it has caught up with event time", "by", -step.Round(time.Second))
	}
	if s.held > 0 && mono-s.since >= leapHold {
		s.log.Warn("the clock that was set ahead is believed now", "by", s.held.Round(time.Second))
		s.held = 0
	}
	return wall - int64(s.held)
}
