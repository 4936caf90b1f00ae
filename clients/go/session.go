package sessionauthority

import (
	"encoding/json"
	"iter"
	"maps"
	"time"
)

// Validation is the service's answer about a token. Admit the end user's request if, and only if,
// Active is true.
type Validation struct {
	Active bool
	Status SessionStatus
	// DeviceID is the device ID that was presented, or a new device ID from the service.
	DeviceID string
	// DeviceIDAssigned is true if DeviceID is a new device ID from the service. If it is true, give
	// DeviceID to the browser or app.
	DeviceIDAssigned bool
	// Session is the session of the token. It is the zero Session unless Active is true.
	Session Session
	// RenewRecommended is true if you should call RenewSession for the token now.
	RenewRecommended bool
	// RevokedDevices is the number of devices on which this validation signed the user out because
	// of a theft alarm.
	RevokedDevices int
}

// Session is a session of a user on a device. The session was good when the service answered.
type Session struct {
	UserID    string
	DeviceID  string
	SessionID string
	// Generation is the number of the token in its session: 1 at sign-in, and 1 more for each next
	// token that a renewal makes.
	Generation uint32
	// Claims are the facts about the user from the sign-in, or from a later UpdateSession.
	Claims Claims
	// AuthMethods says how the user proved their identity, such as "pwd". Don't change the slice,
	// because several callers may share it.
	AuthMethods     []string
	SignInTime      time.Time
	TokenExpireTime time.Time
	// ExpireTime is when the session ends if it is not used again.
	ExpireTime time.Time
	// AbsoluteExpireTime is when the session ends even if it is used. It is zero if an older
	// version of the service does not send this time.
	AbsoluteExpireTime time.Time
}

// Name returns the session's name, for CheckSessions.
func (s *Session) Name() SessionName {
	return SessionName{UserID: s.UserID, DeviceID: s.DeviceID, SessionID: s.SessionID}
}

// Claims are facts about a user. Each fact has a name. Claims can't be changed, because several
// callers may share an answer of the near cache. The zero Claims have no facts.
type Claims struct{ facts map[string]string }

// NewClaims returns Claims with a copy of facts.
func NewClaims(facts map[string]string) Claims { return Claims{maps.Clone(facts)} }

// Get returns the fact with this name, or "" if there is no such fact.
func (c Claims) Get(name string) string { return c.facts[name] }

// Lookup returns the fact with this name. The boolean is true if there is such a fact.
func (c Claims) Lookup(name string) (string, bool) {
	fact, ok := c.facts[name]
	return fact, ok
}

// Len returns the number of facts.
func (c Claims) Len() int { return len(c.facts) }

// All returns an iterator over the names and facts, in no particular order.
func (c Claims) All() iter.Seq2[string, string] { return maps.All(c.facts) }

// Map returns a copy of the facts. The caller may change the copy. The copy is never nil.
func (c Claims) Map() map[string]string {
	facts := make(map[string]string, len(c.facts))
	maps.Copy(facts, c.facts)
	return facts
}

// MarshalJSON returns the claims as a JSON object.
func (c Claims) MarshalJSON() ([]byte, error) { return json.Marshal(c.Map()) }

// SessionName has the three IDs that identify a session. It has no token.
type SessionName struct {
	UserID    string
	DeviceID  string
	SessionID string
}

// SessionState says whether a session lives, and until when.
type SessionState struct {
	Status SessionStatus
	// ExpireTime and AbsoluteExpireTime have the same meanings as in Session. Both are zero if the
	// session does not live.
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
}

// Active reports whether the session lives.
func (s SessionState) Active() bool { return s.Status == StatusActive }

// IssuedDevice is the result of IssueDevice: a sign-in that has just happened.
type IssuedDevice struct {
	Device           Device
	AccessToken      string
	TokenExpireTime  time.Time
	DeviceIDAssigned bool
	// NewDevice is true if the service has no record of an earlier sign-in of the user on this
	// device.
	NewDevice bool
	// EvictedDevices are the devices on which this sign-in signed the user out, because the user
	// had reached the device limit.
	EvictedDevices []Device
	Durability     Durability
}

// Renewal is the result of RenewSession.
type Renewal struct {
	Status SessionStatus
	// Session is the session of the token. It is the zero Session if Status is not StatusActive.
	Session Session
	// Rotated is true if AccessToken is set. If Rotated is true, give AccessToken to the browser or
	// app.
	Rotated bool
	// AccessToken is the next token of the session. It is empty if the browser or app keeps the
	// token that it has.
	AccessToken string
	// TokenExpireTime is when AccessToken expires. It is zero if AccessToken is empty.
	TokenExpireTime time.Time
	RevokedDevices  int
	Durability      Durability
}

// Active reports whether Status is StatusActive and there is a Session.
func (r *Renewal) Active() bool {
	return r.Status == StatusActive && r.Session.SessionID != ""
}

// Presented has the access token and the device ID that an end user's request brought.
type Presented struct {
	AccessToken string
	DeviceID    string
}
