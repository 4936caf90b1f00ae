package sessionauthority

import "time"

// ClientInfo is what is known of the end user's browser or app. It is shown to the user; nothing is
// decided by it.
type ClientInfo struct {
	IPAddress   string
	UserAgent   string
	DisplayName string
	AppVersion  string
	Hints       *ClientHints
	// Place goes before the place that the service has for the address.
	Place *Place
}

// ClientHints is what a browser says in its Sec-CH-UA headers. A field that is empty was not said.
type ClientHints struct {
	Brands          []ClientBrand
	Platform        string
	PlatformVersion string
	Model           string
	Mobile          *bool
	FormFactors     []string
}

// ClientBrand is a name under which a browser is known, with its version.
type ClientBrand struct {
	Name    string
	Version string
}

// Place is where an end user is: a city, and a country as ISO 3166-1 alpha-2 names it ("DE").
type Place struct {
	City        string
	CountryCode string
}

// Device is a browser or an app installation of a user. Texts are empty, and times are zero, where
// nothing is known.
type Device struct {
	DeviceID        string
	DisplayName     string
	OperatingSystem string
	Browser         string
	Model           string
	FormFactor      FormFactor
	LastClient      ClientInfo
	// SessionID names the live session. It is empty if the user is signed out.
	SessionID          string
	CreateTime         time.Time
	SignInTime         time.Time
	LastSeenTime       time.Time
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
	// Current says that it is the device that asks.
	Current  bool
	SignedIn bool
	// City and CountryCode say where the device was last seen.
	City        string
	CountryCode string
	// AuthMethods are those of the sign-in of the live session.
	AuthMethods []string
	// LastAlarm is the last theft alarm about the device in 28 days, nil without one.
	LastAlarm *DeviceAlarm
}

// DeviceAlarm is a theft alarm about a session on a device.
type DeviceAlarm struct {
	CreateTime  time.Time
	ReplayCause ReplayCause
}

// DevicePage is some of a user's devices, the newest activity first.
type DevicePage struct {
	Devices []Device
	// NextPageToken is empty on the last page.
	NextPageToken string
	// TotalSize is how many devices there are on all pages.
	TotalSize int
}

// SigningKey is a public key that tokens verify with (RFC 7517).
type SigningKey struct {
	KeyID     string
	Algorithm string
	JWKJSON   string
}

// SigningKeys are all public keys. JWKSJSON is a JWK set.
type SigningKeys struct {
	Keys     []SigningKey
	JWKSJSON string
}

// Event is something that happened to a session. docs/events.md says which fields are set when.
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

// EventBatch is events that came together, and where to go on after them.
type EventBatch struct {
	Events []Event
	// Cursor is where to go on. Keep it only once the events are dealt with.
	Cursor string
	// ReadTime is set in proofs of life: all that happened before it has been told. It is zero in
	// other batches.
	ReadTime time.Time
	// ReadUptime is the same moment by a clock of the server that no one sets: the difference
	// between two batches of one watch is how much later the second was read. Set with ReadTime.
	ReadUptime time.Duration
}
