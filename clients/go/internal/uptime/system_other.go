//go:build !linux

package uptime

import "time"

// systemUptime returns false, because the package knows no clock of this system that runs during
// sleep.
func systemUptime() (time.Duration, bool) { return 0, false }
