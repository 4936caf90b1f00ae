// Package uptime tells a time that no one sets, that never goes back, and that passes while the
// machine sleeps. A near cache measures by it how old a proof is.
//
// Go's own monotonic clock stands still while a Linux machine sleeps: what was proven before the
// sleep would count as fresh after it.
package uptime

import (
	"sync"
	"sync/atomic"
	"time"
)

// tolerance is how far the wall clock may have moved against Go's monotonic clock before the
// machine counts as having slept. A clock that is kept in time by its pace changes both alike.
const tolerance = 100 * time.Millisecond

// Clock tells the time since it was made, and the wall clock, by one reading of Go's clocks. It
// asks the system for the time with sleep only if these two have moved against each other.
type Clock struct {
	// read returns a time that no one sets, but that may stand still, and the wall clock.
	read func() (time.Duration, time.Time)
	// slept returns the system's time with sleep, and whether the system tells it.
	slept func() (time.Duration, bool)

	mu    sync.Mutex
	since atomic.Pointer[reading]
}

// reading is what all clocks said in the same moment.
type reading struct {
	ran    time.Duration
	wall   time.Time
	system time.Duration
	passed time.Duration // since the clock was made
}

// New returns a clock that starts at zero.
func New() *Clock {
	base := time.Now()
	return newClock(func() (time.Duration, time.Time) {
		now := time.Now()
		return now.Sub(base), now
	}, systemUptime)
}

func newClock(
	read func() (time.Duration, time.Time), slept func() (time.Duration, bool),
) *Clock {
	c := &Clock{read: read, slept: slept}
	first := &reading{}
	first.ran, first.wall = read()
	first.system, _ = slept()
	c.since.Store(first)
	return c
}

// Now returns the time since the clock was made, and the time of the wall clock.
func (c *Clock) Now() (time.Duration, time.Time) {
	since := c.since.Load()
	now, wall := c.read()
	ran := now - since.ran
	moved := time.Duration(wall.UnixNano()-since.wall.UnixNano()) - ran
	if -tolerance < moved && moved < tolerance {
		return since.passed + ran, wall
	}
	return c.reread()
}

// reread finds out whether the machine slept or the wall clock was set.
func (c *Clock) reread() (time.Duration, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, now := c.since.Load(), &reading{}
	now.ran, now.wall = c.read()
	var known bool
	now.system, known = c.slept()
	passed := now.ran - since.ran
	if known {
		passed = max(passed, now.system-since.system)
	} else {
		// Nothing tells sleep from a clock that was set. Counting it as sleep keeps less.
		passed = max(passed, time.Duration(now.wall.UnixNano()-since.wall.UnixNano()))
	}
	now.passed = since.passed + passed
	c.since.Store(now)
	return now.passed, now.wall
}
