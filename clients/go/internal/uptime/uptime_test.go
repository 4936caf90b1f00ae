package uptime

import (
	"testing"
	"time"
)

func TestTheClockRunsWithGosClock(t *testing.T) {
	clock := New()
	before, _ := clock.Now()
	after, wall := clock.Now()
	if after < before || time.Since(wall) > time.Minute {
		t.Errorf("%v after %v, at %v", after, before, wall)
	}
}

func TestSleepCountsAsTimeThatPassed(t *testing.T) {
	for name, row := range map[string]struct {
		ran, wall, system time.Duration // how much time passes on each clock
		known             bool          // the system has a clock that runs during sleep
		want              time.Duration
	}{
		"nothing special":             {time.Second, time.Second, time.Second, true, time.Second},
		"the machine slept":           {time.Second, time.Hour, time.Hour, true, time.Hour},
		"the wall clock was set":      {time.Second, time.Hour, time.Second, true, time.Second},
		"the wall clock was set back": {time.Second, -time.Hour, time.Second, true, time.Second},
		"slept, then set back":        {time.Second, -time.Hour, time.Hour, true, time.Hour},
		"slept, or set":               {time.Second, time.Hour, 0, false, time.Hour},
		"set back":                    {time.Second, -time.Hour, 0, false, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			ran, wall, system := time.Duration(0), time.Unix(1800000000, 0), time.Duration(0)
			clock := newClock(
				func() (time.Duration, time.Time) { return ran, wall },
				func() (time.Duration, bool) { return system, row.known },
			)
			ran, wall, system = row.ran, wall.Add(row.wall), row.system
			for range 2 {
				if passed, _ := clock.Now(); passed != row.want {
					t.Errorf("%v passed, not %v", passed, row.want)
				}
			}
			ran, wall, system = ran+time.Second, wall.Add(time.Second), system+time.Second
			if passed, _ := clock.Now(); passed != row.want+time.Second {
				t.Errorf("%v passed in the end", passed)
			}
		})
	}
}
