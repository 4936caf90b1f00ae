// Package devices makes the contents of the devices API. It sorts a user's devices, splits the list
// into pages, makes JSON of each page, and has the texts that users read. It does not call the
// service, and does not answer requests.
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
	// PageSize is the maximum number of devices on one page of the list.
	PageSize = 50
	// MaxNameLength is the maximum number of characters of a device's name. The service has the
	// same limit.
	MaxNameLength = 100
	maxAlarms     = 20
	// memory is how long the list shows an alarm after it was raised, and a signed-out device after
	// its last use. The service keeps alarms for the same time.
	memory = 28 * 24 * time.Hour
	// activeWithin is how long after its last use a device counts as active. The service stores the
	// time of a use only about once a minute, and a near cache may delay this further.
	activeWithin = 5 * time.Minute
	// eventWithin is the maximum difference between the time of an event and the time of the alarm
	// or sign-in that caused the event. The service writes an event just after its cause, and the
	// clocks of the store and the service may differ.
	eventWithin = 5 * time.Second
)

var (
	eventForm  = regexp.MustCompile(`^evt_[A-Za-z0-9]{1,32}_([0-9]{13})_[0-9]{1,20}$`)
	cursorForm = regexp.MustCompile(`^([12])\.([0-9]{1,18})\.([0-9a-f-]{36})$`)
)

// ErrBadCursor means that the cursor of a page is malformed.
var ErrBadCursor = errors.New("devices: bad cursor")

// Listing is one page of the list of a user's devices. The list begins with the device that sent
// the request, and goes on with the other devices on which the user is signed in. The end of the
// list has the signed-out devices that were used, or had an alarm, in the last 28 days.
type Listing struct {
	Devices []sessionauthority.Device
	// Next is the cursor of the next page. Next is empty on the last page.
	Next string
	// Alarms are the alarms of the devices on all pages, at most 20, the newest first. Alarms is
	// empty on all pages except the first page.
	Alarms []Alarm
	// Marked is the ID of a device if the user came from a mail about a sign-in on this device.
	// Marked is empty if the user did not come from a mail about a sign-in.
	Marked string
	Now    time.Time
}

// Alarm is an alarm about a token of a device that may have been stolen. If the user came from a
// mail about this alarm, EventID is the ID of the event in the mail. EventID is empty if the user
// did not come from a mail about this alarm.
type Alarm struct {
	DeviceID string
	At       time.Time
	EventID  string
}

type key struct {
	group    int
	age      int64 // minus the time of the last use in Unix microseconds
	deviceID string
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.group, other.group), cmp.Compare(k.age, other.age),
		cmp.Compare(k.deviceID, other.deviceID))
}

// List returns one page of the list of a user's devices. after is Next of the previous page, or
// empty for the first page. eventID is the ID of the event in the mail from which the user came, or
// empty. List returns ErrBadCursor if after is malformed.
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
	// Group 0 has only the device that sent the request, and no cursor has the group 0.
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

// alarmOf returns the last alarm of a device. It returns nil if the device had no alarm in the last
// 28 days.
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

// momentOf returns the time at which an event was written, which is a part of the event's ID. The
// result is zero if the text is not the ID of an event.
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
