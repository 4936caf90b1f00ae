// Package uptime has a clock that never goes back, and that runs while the machine sleeps. The near
// cache measures the age of a proof with this clock.
//
// Go's own monotonic clock stands still while a Linux machine sleeps. With that clock, a proof from
// before the sleep would still count as fresh after the sleep.
package uptime

import (
	"sync"
	"sync/atomic"
	"time"
)

// tolerance is how far Go's monotonic clock and the wall clock may move apart before the Clock
// checks whether the machine has slept. A time service such as NTP may make the clocks run a little
// faster or slower. Such a change of pace does not move the two clocks apart, because it affects
// both clocks alike.
const tolerance = 100 * time.Millisecond

// Clock returns the time since the Clock was made, and the time of the wall clock. Usually Clock
// reads only Go's clocks. If Go's monotonic clock and the wall clock have moved apart by tolerance
// or more, Clock also reads the system's clock that runs during sleep.
type Clock struct {
	// read returns two times. The first time is of Go's monotonic clock, which may stand still
	// during sleep. The second time is of the wall clock.
	read func() (time.Duration, time.Time)
	// slept returns the time of the system's clock that runs during sleep. The boolean is true if
	// the system has such a clock.
	slept func() (time.Duration, bool)

	mu    sync.Mutex
	since atomic.Pointer[reading]
}

// reading has the times of all clocks at one moment. ran is the time of Go's monotonic clock.
// system is the time of the system's clock that runs during sleep.
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

// reread reads all clocks, to find out whether the machine slept or the wall clock was set. It
// returns the same two times as Now.
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
		// The system has no clock that runs during sleep. So it is unknown whether the machine
		// slept or the wall clock was set forward. Both cases count as sleep here. If the wall
		// clock was set forward, proofs seem older than they are, and the cache drops more answers
		// than necessary.
		passed = max(passed, time.Duration(now.wall.UnixNano()-since.wall.UnixNano()))
	}
	now.passed = since.passed + passed
	c.since.Store(now)
	return now.passed, now.wall
}
