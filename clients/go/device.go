package sessionauthority

import "time"

// ClientInfo has the facts about the end user's browser or app. The facts are only for display:
// they don't decide whether a session is good.
type ClientInfo struct {
	IPAddress   string
	UserAgent   string
	DisplayName string
	AppVersion  string
	Hints       *ClientHints
	// Place is the place of the end user. It is nil if the place is unknown. In a request, Place
	// replaces the place that the service finds for IPAddress.
	Place *Place
}

// ClientHints has the values of a browser's Sec-CH-UA headers. If the browser did not send a value,
// the field of this value is empty (for Mobile: nil).
type ClientHints struct {
	Brands          []ClientBrand
	Platform        string
	PlatformVersion string
	Model           string
	Mobile          *bool
	FormFactors     []string
}

// ClientBrand is a name of a browser and the browser's version. For example, Name is "Google
// Chrome" and Version is "148.0.7778.96".
type ClientBrand struct {
	Name    string
	Version string
}

// Place is where an end user is. CountryCode is the code of the country in ISO 3166-1 alpha-2, such
// as "DE". An unknown City or CountryCode is empty.
type Place struct {
	City        string
	CountryCode string
}

// Device is a browser or an app installation of a user. An unknown text is empty, and an unknown
// time is zero.
type Device struct {
	DeviceID        string
	DisplayName     string
	OperatingSystem string
	Browser         string
	Model           string
	FormFactor      FormFactor
	LastClient      ClientInfo
	// SessionID is the ID of the user's live session on the device. It is empty if the user is
	// signed out on the device.
	SessionID          string
	CreateTime         time.Time
	SignInTime         time.Time
	LastSeenTime       time.Time
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
	// Current is true if ListDevices was called with the ID of this device as CurrentDeviceID.
	Current  bool
	SignedIn bool
	// City and CountryCode say where the device was last seen.
	City        string
	CountryCode string
	// AuthMethods says how the user proved their identity when the live session began, such as
	// "pwd".
	AuthMethods []string
	// LastAlarm is the newest theft alarm about the device. It is nil if there was no alarm in the
	// last 28 days.
	LastAlarm *DeviceAlarm
}

// DeviceAlarm is a theft alarm about a session on a device.
type DeviceAlarm struct {
	CreateTime  time.Time
	ReplayCause ReplayCause
}

// DevicePage is one page of the list of a user's devices. The device with the newest activity comes
// first in the list.
type DevicePage struct {
	Devices []Device
	// NextPageToken is the PageToken for the next call of ListDevices. It is empty on the last
	// page.
	NextPageToken string
	// TotalSize is the number of devices on all pages.
	TotalSize int
}

// SigningKey is a public key for verifying tokens. JWKJSON is the key as a JSON Web Key (RFC 7517).
type SigningKey struct {
	KeyID     string
	Algorithm string
	JWKJSON   string
}

// SigningKeys has all public keys of the service. JWKSJSON has the same keys as a JSON Web Key Set
// (RFC 7517).
type SigningKeys struct {
	Keys     []SigningKey
	JWKSJSON string
}

// Event is a report of the service: for example, that a user has signed in, or that a device was
// revoked. docs/events.md lists the fields that are set for each type of event.
type Event struct {
	EventID           string
	Type              EventType
	CreateTime        time.Time
	UserID            string
	SessionID         string
	Actor             string
	Reason            string
	DeviceID          string
	DeviceDisplayName string
	Client            ClientInfo
	OperatingSystem   string
	Browser           string
	Model             string
	FormFactor        FormFactor
	City              string
	CountryCode       string
	NewDevice         bool
	FirstDevice       bool
	ReplayCause       ReplayCause
	ReplayAction      ReplayAction
	ExceptDeviceID    string
	KeyID             string
}

// EventBatch is one message of a watch. It has the events of the message, which may be none, and
// the cursor after these events.
type EventBatch struct {
	Events []Event
	// Cursor is the position in the stream of events after this batch. The next watch can start
	// there. Store the cursor only after you have handled the events of the batch.
	Cursor string
	// ReadTime is set if the batch has a proof. The proof says that the watch has sent all events
	// from before this time. If the batch has no proof, ReadTime is zero.
	ReadTime time.Time
	// ReadUptime is the moment of ReadTime, by a monotonic clock of the server. The difference
	// between the ReadUptime values of two batches of one watch is the time between the proofs of
	// these batches. ReadUptime is set whenever ReadTime is set, except by older versions of the
	// service.
	ReadUptime time.Duration
}
