// Package devices owns the contents of the devices API: a user's devices in their order, page by
// page, as JSON, and the texts that users read. It calls no service, and answers no request.
package devices

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

const (
	// PageSize is the largest number of devices on a page.
	PageSize = 50
	// MaxNameLength is the largest number of characters of a name. The service has the same limit.
	MaxNameLength = 100
	maxAlarms     = 20
	// How long an alarm, and a device that is signed out, are shown. The service keeps alarms for
	// the same time.
	memory = 28 * 24 * time.Hour
	// The service writes a use of a session about once a minute, and a near cache may delay that.
	activeWithin = 5 * time.Minute
	// An event is written just after its cause, and the clocks of the store and the service differ.
	eventWithin = 5 * time.Second
)

var (
	eventForm  = regexp.MustCompile(`^evt_[A-Za-z0-9]{1,32}_([0-9]{13})_[0-9]{1,20}$`)
	cursorForm = regexp.MustCompile(`^([12])\.([0-9]{1,18})\.([0-9a-f-]{36})$`)
)

// ErrBadCursor means that the text is no cursor of a list.
var ErrBadCursor = errors.New("devices: bad cursor")

// Listing is a page of devices: this device first, then the devices that are signed in, then the
// devices that were seen, or had an alarm, in the last 28 days.
type Listing struct {
	Devices []sessionauthority.Device
	// Next is the cursor of the next page. It is empty on the last page.
	Next string
	// Alarms are the alarms of all devices, the newest first. They are on the first page only.
	Alarms []Alarm
	// Marked is the ID of the device whose sign-in a mail was about, or empty.
	Marked string
	Now    time.Time
}

// Alarm is a theft alarm. EventID is the event of the mail that linked to the page, if the mail was
// about this alarm, and otherwise empty.
type Alarm struct {
	DeviceID string
	At       time.Time
	EventID  string
}

type key struct {
	group    int
	age      int64 // negative microseconds of the last use
	deviceID string
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.group, other.group), cmp.Compare(k.age, other.age),
		cmp.Compare(k.deviceID, other.deviceID))
}

// List returns a page of a user's devices. after is the cursor of the page before, and eventID is
// the event that a mail was about. Both may be empty. The error is ErrBadCursor.
func List(
	devices []sessionauthority.Device, now time.Time, after, eventID string,
) (*Listing, error) {
	start := key{group: math.MinInt}
	if after != "" {
		var err error
		if start, err = parseCursor(after); err != nil {
			return nil, err
		}
	}
	var all []sessionauthority.Device
	for _, device := range devices {
		if isShown(&device, now) {
			all = append(all, device)
		}
	}
	slices.SortFunc(all, func(a, b sessionauthority.Device) int {
		return keyOf(&a).compare(keyOf(&b))
	})
	page := all
	for len(page) > 0 && keyOf(&page[0]).compare(start) <= 0 {
		page = page[1:]
	}
	made := &Listing{Devices: page, Now: now}
	if len(page) > PageSize {
		made.Devices = page[:PageSize]
		made.Next = cursorOf(&page[PageSize-1])
	}
	alarms, isTold := alarmsOf(all, now, eventID)
	if after == "" {
		made.Alarms = alarms
	}
	if !isTold {
		made.Marked = markedIn(all, eventID)
	}
	return made, nil
}

func isShown(device *sessionauthority.Device, now time.Time) bool {
	seen := device.LastSeenTime
	if seen.IsZero() {
		seen = device.SignInTime
	}
	isRecent := !seen.IsZero() && now.Sub(seen) <= memory
	return device.SignedIn || isRecent || alarmOf(device, now) != nil
}

func keyOf(device *sessionauthority.Device) key {
	made := key{group: 2, deviceID: device.DeviceID}
	switch {
	case device.Current:
		made.group = 0
	case device.SignedIn:
		made.group = 1
	}
	if !device.LastSeenTime.IsZero() {
		made.age = -device.LastSeenTime.UnixMicro()
	}
	return made
}

func cursorOf(device *sessionauthority.Device) string {
	k := keyOf(device)
	// This device is the only one of its group, so a cursor after it starts with the next group.
	return fmt.Sprintf("%d.%d.%s", max(k.group, 1), -k.age, k.deviceID)
}

func parseCursor(text string) (key, error) {
	found := cursorForm.FindStringSubmatch(text)
	if found == nil {
		return key{}, ErrBadCursor
	}
	group, _ := strconv.Atoi(found[1])
	micros, err := strconv.ParseInt(found[2], 10, 64)
	if err != nil {
		return key{}, ErrBadCursor
	}
	return key{group, -micros, found[3]}, nil
}

// alarmOf returns the last alarm about a device, as long as it is shown.
func alarmOf(device *sessionauthority.Device, now time.Time) *Alarm {
	alarm := device.LastAlarm
	if alarm == nil || now.Sub(alarm.CreateTime) > memory {
		return nil
	}
	return &Alarm{DeviceID: device.DeviceID, At: alarm.CreateTime}
}

func alarmsOf(
	devices []sessionauthority.Device, now time.Time, eventID string,
) (alarms []Alarm, isTold bool) {
	for index := range devices {
		if alarm := alarmOf(&devices[index], now); alarm != nil {
			alarms = append(alarms, *alarm)
		}
	}
	slices.SortStableFunc(alarms, func(a, b Alarm) int { return b.At.Compare(a.At) })
	alarms = alarms[:min(len(alarms), maxAlarms)]
	happened := momentOf(eventID)
	for index := range alarms {
		if isAbout(alarms[index].At, happened) {
			alarms[index].EventID = eventID
			isTold = true
		}
	}
	return alarms, isTold
}

func markedIn(devices []sessionauthority.Device, eventID string) string {
	happened := momentOf(eventID)
	nearest, marked := time.Duration(math.MaxInt64), ""
	for _, device := range devices {
		distance := device.SignInTime.Sub(happened).Abs()
		if isAbout(device.SignInTime, happened) && distance < nearest {
			nearest, marked = distance, device.DeviceID
		}
	}
	return marked
}

// momentOf returns the time in an event's ID, at which the event was written. It is zero for any
// other text.
func momentOf(eventID string) time.Time {
	found := eventForm.FindStringSubmatch(eventID)
	if found == nil {
		return time.Time{}
	}
	millis, _ := strconv.ParseInt(found[1], 10, 64)
	return time.UnixMilli(millis)
}

func isAbout(at, happened time.Time) bool {
	return !at.IsZero() && !happened.IsZero() && at.Sub(happened).Abs() <= eventWithin
}
