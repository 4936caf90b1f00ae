//go:build !linux

package uptime

import "time"

// systemUptime says that this system's time with sleep is not known here.
func systemUptime() (time.Duration, bool) { return 0, false }
