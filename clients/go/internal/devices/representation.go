package devices

import (
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

var kinds = map[sessionauthority.FormFactor]string{
	sessionauthority.FormFactorDesktop:  "desktop",
	sessionauthority.FormFactorPhone:    "phone",
	sessionauthority.FormFactorTablet:   "tablet",
	sessionauthority.FormFactorTV:       "tv",
	sessionauthority.FormFactorConsole:  "console",
	sessionauthority.FormFactorWearable: "watch",
	sessionauthority.FormFactorBot:      "bot",
}

type deviceJSON struct {
	ID           string     `json:"id"`
	Current      bool       `json:"current"`
	SignedIn     bool       `json:"signed_in"`
	Name         *string    `json:"name"`
	Kind         string     `json:"kind"`
	Browser      *string    `json:"browser"`
	System       *string    `json:"system"`
	Model        *string    `json:"model"`
	Address      *string    `json:"address"`
	Place        *placeJSON `json:"place"`
	AuthMethods  []string   `json:"auth_methods"`
	SignedInAt   *string    `json:"signed_in_at"`
	LastActiveAt *string    `json:"last_active_at"`
	ActiveNow    bool       `json:"active_now"`
	EndsAt       *string    `json:"ends_at"`
	// SignedOutAt is always nil, because the service does not say when a session ended.
	SignedOutAt *string    `json:"signed_out_at"`
	Alarm       *alarmJSON `json:"alarm"`
}

type placeJSON struct {
	City        *string `json:"city"`
	CountryCode *string `json:"country_code"`
}

type alarmJSON struct {
	EventID  *string `json:"event_id"`
	DeviceID string  `json:"device_id"`
	Kind     string  `json:"kind"`
	At       string  `json:"at"`
}

type listJSON struct {
	Devices          []deviceJSON `json:"devices"`
	Next             *string      `json:"next"`
	Marked           *string      `json:"marked"`
	Alarms           []alarmJSON  `json:"alarms"`
	Now              string       `json:"now"`
	SecureAccountURL *string      `json:"secure_account_url"`
}

// JSON returns the listing in the form of the API, for json.Marshal. secureAccountURL may be empty.
func (l *Listing) JSON(secureAccountURL string) any {
	made := listJSON{
		Devices: []deviceJSON{}, Next: maybe(l.Next), Marked: maybe(l.Marked),
		Alarms: []alarmJSON{}, Now: moment(l.Now), SecureAccountURL: maybe(secureAccountURL),
	}
	for index := range l.Devices {
		made.Devices = append(made.Devices, deviceOf(&l.Devices[index], l.Now))
	}
	for _, alarm := range l.Alarms {
		made.Alarms = append(made.Alarms, alarmOfJSON(&alarm))
	}
	return made
}

// DeviceJSON returns a device in the form of the API, for json.Marshal.
func DeviceJSON(device *sessionauthority.Device, now time.Time) any { return deviceOf(device, now) }

func deviceOf(device *sessionauthority.Device, now time.Time) deviceJSON {
	seen := device.LastSeenTime
	isRecent := !seen.IsZero() && now.Sub(seen) <= activeWithin
	made := deviceJSON{
		ID: device.DeviceID, Current: device.Current, SignedIn: device.SignedIn,
		Name: maybe(nameOf(device)), Kind: "other", Browser: maybe(device.Browser),
		System: maybe(device.OperatingSystem), Model: maybe(device.Model),
		Address: maybe(device.LastClient.IPAddress), AuthMethods: device.AuthMethods,
		SignedInAt: maybeMoment(device.SignInTime), LastActiveAt: maybeMoment(seen),
		ActiveNow: device.SignedIn && (device.Current || isRecent),
	}
	if kind, known := kinds[device.FormFactor]; known {
		made.Kind = kind
	}
	if device.City != "" || device.CountryCode != "" {
		made.Place = &placeJSON{maybe(device.City), maybe(device.CountryCode)}
	}
	if made.AuthMethods == nil {
		made.AuthMethods = []string{}
	}
	if device.SignedIn {
		made.EndsAt = maybeMoment(device.ExpireTime)
	}
	if alarm := alarmOf(device, now); alarm != nil {
		told := alarmOfJSON(alarm)
		made.Alarm = &told
	}
	return made
}

// nameOf returns the name that the user or the app gave to a device. The name is empty if the
// service itself made the display name, for example from the browser and the system.
func nameOf(device *sessionauthority.Device) string {
	made := []string{
		"", "Unknown device", device.Browser, device.Model, device.OperatingSystem,
		device.Browser + " on " + device.Model, device.Browser + " on " + device.OperatingSystem,
	}
	for _, name := range made {
		if device.DisplayName == name {
			return ""
		}
	}
	return device.DisplayName
}

func alarmOfJSON(alarm *Alarm) alarmJSON {
	return alarmJSON{maybe(alarm.EventID), alarm.DeviceID, "token_replayed", moment(alarm.At)}
}

// moment returns a time in the form of RFC 3339, in UTC and to the second.
func moment(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

func maybeMoment(at time.Time) *string {
	if at.IsZero() {
		return nil
	}
	text := moment(at)
	return &text
}

func maybe(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
