package sessionauthority

import (
	"encoding/json"
	"iter"
	"maps"
	"time"
)

// Validation is the result of a validation. Admit the request if, and only if, it is Active.
type Validation struct {
	Active bool
	Status SessionStatus
	// DeviceID is the device ID that was presented, or a new one.
	DeviceID string
	// DeviceIDAssigned is true if the service assigned a new DeviceID: give it to the browser or
	// app.
	DeviceIDAssigned bool
	// Session is the zero Session unless the validation is Active.
	Session Session
	// RenewRecommended is true if RenewSession should be called now.
	RenewRecommended bool
	// RevokedDevices is the number of devices on which a theft alarm of this call signed the user
	// out.
	RevokedDevices int
}

// Session is a session of a user on a device. It was valid when the service answered.
type Session struct {
	UserID    string
	DeviceID  string
	SessionID string
	// Generation is the number of the token in its session: 1 at sign-in, and 1 more with each
	// renewal.
	Generation uint32
	// Claims are the facts about the user from the sign-in, or from a later UpdateSession.
	Claims Claims
	// AuthMethods says how the user proved their identity, such as "pwd". Callers share this slice:
	// don't change it.
	AuthMethods     []string
	SignInTime      time.Time
	TokenExpireTime time.Time
	// ExpireTime is when the session ends if it is not used again.
	ExpireTime time.Time
	// AbsoluteExpireTime is when the session ends however much it is used. It is zero if the
	// service is older and does not send it.
	AbsoluteExpireTime time.Time
}

// Name returns the session's name, for CheckSessions.
func (s *Session) Name() SessionName {
	return SessionName{UserID: s.UserID, DeviceID: s.DeviceID, SessionID: s.SessionID}
}

// Claims are the facts about a user. They can't be changed, because callers share the answers of a
// cache. The zero value has no facts.
type Claims struct{ facts map[string]string }

// NewClaims returns claims with these facts.
func NewClaims(facts map[string]string) Claims { return Claims{maps.Clone(facts)} }

// Get returns the fact of that name, or "" if there is none.
func (c Claims) Get(name string) string { return c.facts[name] }

// Lookup returns the fact of that name. The boolean is true if there is such a fact.
func (c Claims) Lookup(name string) (string, bool) {
	fact, ok := c.facts[name]
	return fact, ok
}

// Len returns the number of facts.
func (c Claims) Len() int { return len(c.facts) }

// All returns an iterator over the names and facts, in no particular order.
func (c Claims) All() iter.Seq2[string, string] { return maps.All(c.facts) }

// Map returns a copy of the facts, which may be changed. It is never nil.
func (c Claims) Map() map[string]string {
	facts := make(map[string]string, len(c.facts))
	maps.Copy(facts, c.facts)
	return facts
}

// MarshalJSON writes the claims as an object.
func (c Claims) MarshalJSON() ([]byte, error) { return json.Marshal(c.Map()) }

// SessionName is the name of a session: the fields that identify it, without a token.
type SessionName struct {
	UserID    string
	DeviceID  string
	SessionID string
}

// SessionState is the state of a session.
type SessionState struct {
	Status SessionStatus
	// ExpireTime and AbsoluteExpireTime are the same times as in Session. They are zero if the
	// session does not live.
	ExpireTime         time.Time
	AbsoluteExpireTime time.Time
}

// Active reports whether the session lives.
func (s SessionState) Active() bool { return s.Status == StatusActive }

// IssuedDevice is a sign-in that has just happened.
type IssuedDevice struct {
	Device           Device
	AccessToken      string
	TokenExpireTime  time.Time
	DeviceIDAssigned bool
	// NewDevice is true if the service had not seen the user on this device before.
	NewDevice bool
	// EvictedDevices are the devices on which the user was signed out, because the user had reached
	// the device limit.
	EvictedDevices []Device
	Durability     Durability
}

// Renewal is the result of a renewal.
type Renewal struct {
	Status SessionStatus
	// Session is the zero Session unless the renewal is Active.
	Session Session
	// Rotated is true if there is an AccessToken: give it to the browser or app.
	Rotated bool
	// AccessToken is the next token. It is empty if the browser or app keeps the token that it has.
	AccessToken string
	// TokenExpireTime is zero if there is no AccessToken.
	TokenExpireTime time.Time
	RevokedDevices  int
	Durability      Durability
}

// Active reports whether there is a session and it is good.
func (r *Renewal) Active() bool {
	return r.Status == StatusActive && r.Session.SessionID != ""
}

// Presented is the token and the device ID of an end user's request.
type Presented struct {
	AccessToken string
	DeviceID    string
}
