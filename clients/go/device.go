package sessionauthority

import "time"

// ClientInfo has the facts about the end user's browser or app. They are for display, and decide
// nothing.
type ClientInfo struct {
	IPAddress   string
	UserAgent   string
	DisplayName string
	AppVersion  string
	Hints       *ClientHints
	// Place, from the app, replaces the place that the service finds for the address.
	Place *Place
}

// ClientHints has the values of a browser's Sec-CH-UA headers. A value that the browser did not
// send is empty, or nil for Mobile.
type ClientHints struct {
	Brands          []ClientBrand
	Platform        string
	PlatformVersion string
	Model           string
	Mobile          *bool
	FormFactors     []string
}

// ClientBrand is a name under which a browser is known, and its version: "Google Chrome",
// "148.0.7778.96".
type ClientBrand struct {
	Name    string
	Version string
}

// Place is the place of an end user: a city, and a country as ISO 3166-1 alpha-2 names it ("DE"). A
// field is empty if it is not known.
type Place struct {
	City        string
	CountryCode string
}

// Device is a browser or an app installation of a user. A text is empty, and a time is zero, if it
// is not known.
type Device struct {
	DeviceID        string
	DisplayName     string
	OperatingSystem string
	Browser         string
	Model           string
	FormFactor      FormFactor
	LastClient      ClientInfo
	// SessionID is the ID of the live session. It is empty if the user is signed out.
	SessionID          string
	CreateTime         time.Time
	SignInTime         time.Time
	LastSeenTime       time.Time
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
	// Current is true for the device that sent the request.
	Current  bool
	SignedIn bool
	// City and CountryCode say where the device was last seen.
	City        string
	CountryCode string
	// AuthMethods are the methods of the sign-in of the live session.
	AuthMethods []string
	// LastAlarm is the last theft alarm about the device in 28 days. It is nil if there was none.
	LastAlarm *DeviceAlarm
}

// DeviceAlarm is a theft alarm about a session on a device.
type DeviceAlarm struct {
	CreateTime  time.Time
	ReplayCause ReplayCause
}

// DevicePage has some of a user's devices, the newest activity first.
type DevicePage struct {
	Devices []Device
	// NextPageToken is empty on the last page.
	NextPageToken string
	// TotalSize is the number of devices on all pages.
	TotalSize int
}

// SigningKey is a public key for verifying tokens (RFC 7517).
type SigningKey struct {
	KeyID     string
	Algorithm string
	JWKJSON   string
}

// SigningKeys are all public keys of the service. JWKSJSON is a JWK set.
type SigningKeys struct {
	Keys     []SigningKey
	JWKSJSON string
}

// Event is an event of a session. docs/events.md says which fields are set for which type.
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

// EventBatch has events that came together, and the cursor after them.
type EventBatch struct {
	Events []Event
	// Cursor is the position after these events, for the next watch. Keep it only after you have
	// handled the events.
	Cursor string
	// ReadTime is set in batches that prove that the watch is alive: the watch has sent all events
	// from before this time. It is zero in other batches.
	ReadTime time.Time
	// ReadUptime is the same moment by a monotonic clock of the server. The difference between the
	// ReadUptime of two batches of one watch is the time between the reads of the server.
	// ReadUptime is set whenever ReadTime is set.
	ReadUptime time.Duration
}
