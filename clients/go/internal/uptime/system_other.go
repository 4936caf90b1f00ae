//go:build !linux

package uptime

import "time"

// systemUptime returns false: on this system the package knows no clock that runs during sleep.
func systemUptime() (time.Duration, bool) { return 0, false }
