package sessionauthority

import (
	"encoding/json"
	"iter"
	"maps"
	"time"
)

// Validation says whether a request is from the user, session and device that it names. Let the
// request in if, and only if, it is Active.
type Validation struct {
	Active bool
	Status SessionStatus
	// DeviceID is the presented device ID, or a fresh one.
	DeviceID string
	// DeviceIDAssigned says that DeviceID is fresh: give it to the client.
	DeviceIDAssigned bool
	// Session is the zero Session unless the validation is Active.
	Session Session
	// RenewRecommended says that RenewSession should be called now.
	RenewRecommended bool
	// RevokedDevices is on how many devices a replay alarm of this call signed the user out.
	RevokedDevices int
}

// Session is a sign-in of a user on a device that is still good.
type Session struct {
	UserID    string
	DeviceID  string
	SessionID string
	// Generation is the number of the token in the session: 1 at sign-in.
	Generation uint32
	// Claims are the facts that the sign-in, or UpdateSession after it, gave the session.
	Claims Claims
	// AuthMethods says how the user proved their identity. Many callers share it: don't change it.
	AuthMethods     []string
	SignInTime      time.Time
	TokenExpireTime time.Time
	// ExpireTime is when the session ends if it is not used again.
	ExpireTime time.Time
	// AbsoluteExpireTime is when the session ends however much it is used. It is zero if the service
	// is too old to tell it.
	AbsoluteExpireTime time.Time
}

// Name returns the session's name, for CheckSessions.
func (s *Session) Name() SessionName {
	return SessionName{UserID: s.UserID, DeviceID: s.DeviceID, SessionID: s.SessionID}
}

// Claims are facts about a user that no caller can change: answers of a cache are shared. The zero
// value has none.
type Claims struct{ facts map[string]string }

// NewClaims returns claims with these facts.
func NewClaims(facts map[string]string) Claims { return Claims{maps.Clone(facts)} }

// Get returns the fact of that name, or "" if there is none.
func (c Claims) Get(name string) string { return c.facts[name] }

// Lookup returns the fact of that name, and whether there is one.
func (c Claims) Lookup(name string) (string, bool) {
	fact, ok := c.facts[name]
	return fact, ok
}

// Len returns how many facts there are.
func (c Claims) Len() int { return len(c.facts) }

// All returns an iterator over the names and facts, in no particular order.
func (c Claims) All() iter.Seq2[string, string] { return maps.All(c.facts) }

// Map returns a copy that may be changed. It is never nil.
func (c Claims) Map() map[string]string {
	facts := make(map[string]string, len(c.facts))
	maps.Copy(facts, c.facts)
	return facts
}

// MarshalJSON writes the claims as an object.
func (c Claims) MarshalJSON() ([]byte, error) { return json.Marshal(c.Map()) }

// SessionName names a session without a token of it.
type SessionName struct {
	UserID    string
	DeviceID  string
	SessionID string
}

// SessionState says whether a session lives.
type SessionState struct {
	Status SessionStatus
	// ExpireTime and AbsoluteExpireTime are as those of Session. They are zero if the session does
	// not live.
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
}

// Active says that the session lives.
func (s SessionState) Active() bool { return s.Status == StatusActive }

// IssuedDevice is a sign-in that has just happened.
type IssuedDevice struct {
	Device           Device
	AccessToken      string
	TokenExpireTime  time.Time
	DeviceIDAssigned bool
	// NewDevice says that the user was never seen on this device.
	NewDevice bool
	// EvictedDevices were signed out to make room.
	EvictedDevices []Device
	Durability     Durability
}

// Renewal is what renewing a token led to.
type Renewal struct {
	Status SessionStatus
	// Session is the zero Session unless the renewal is Active.
	Session Session
	// Rotated says that AccessToken is set: hand it to the client.
	Rotated bool
	// AccessToken is empty if the client keeps the token that it has.
	AccessToken string
	// TokenExpireTime is zero if there is no AccessToken.
	TokenExpireTime time.Time
	RevokedDevices  int
	Durability      Durability
}

// Active says that the session is good.
func (r *Renewal) Active() bool {
	return r.Status == StatusActive && r.Session.SessionID != ""
}

// Presented is what an end user's request brought: a token and a device ID.
type Presented struct {
	AccessToken string
	DeviceID    string
}
