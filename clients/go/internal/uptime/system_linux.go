package uptime

import (
	"syscall"
	"time"
	"unsafe"
)

const clockBoottime = 7 // CLOCK_BOOTTIME, of clock_gettime(2)

// systemUptime returns the time since the machine was started, including the time for which it
// slept. The boolean is false if the system call fails.
func systemUptime() (time.Duration, bool) {
	var now syscall.Timespec
	_, _, errno := syscall.RawSyscall(
		syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&now)), 0,
	)
	return time.Duration(now.Nano()), errno == 0
}
