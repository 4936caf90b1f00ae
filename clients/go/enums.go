package sessionauthority

import (
	"strconv"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// SessionStatus is the status of a presented token. Admit a request only if the status of its token
// is StatusActive.
type SessionStatus int32

// These are the statuses of the service's API. StatusUnspecified also stands for a status that this
// version of the client does not know. Don't admit a request with StatusUnspecified.
const (
	StatusUnspecified SessionStatus = iota
	StatusActive
	StatusTokenMissing
	StatusTokenInvalid
	StatusTokenExpired
	StatusNoSession
	StatusSessionExpired
	StatusSuperseded
	StatusReplayed
	StatusSessionEnded
	StatusWrongDevice
)

var statusNames = []string{
	"UNSPECIFIED", "ACTIVE", "TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "NO_SESSION",
	"SESSION_EXPIRED", "SUPERSEDED", "REPLAYED", "SESSION_ENDED", "WRONG_DEVICE",
}

// String returns the status's name in the service's API, without "SESSION_STATUS_":
// "TOKEN_EXPIRED".
func (s SessionStatus) String() string { return nameOf(statusNames, int32(s)) }

// FormFactor is the kind of a device.
type FormFactor int32

// These are the form factors of the service's API.
const (
	FormFactorUnspecified FormFactor = iota
	FormFactorDesktop
	FormFactorPhone
	FormFactorTablet
	FormFactorTV
	FormFactorConsole
	FormFactorWearable
	FormFactorBot
)

var formFactorNames = []string{
	"UNSPECIFIED", "DESKTOP", "PHONE", "TABLET", "TV", "CONSOLE", "WEARABLE", "BOT",
}

// String returns the form factor's name in the service's API, without "FORM_FACTOR_": "PHONE".
func (f FormFactor) String() string { return nameOf(formFactorNames, int32(f)) }

// EventType is the type of an event.
type EventType int32

// These are the types of events in the service's API. EventUnspecified also stands for a type that
// this version of the client does not know. If you get an event of this type, drop everything that
// you cache.
const (
	EventUnspecified EventType = iota
	EventDeviceSignedIn
	EventSessionReplayed
	EventEndedTokenPresented
	EventDeviceRevoked
	EventAllRevoked
	EventDeviceEvicted
	EventSigningKeyRevoked
	EventSupersededTokenPresented
	EventSessionUpdated
)

var eventNames = []string{
	"UNSPECIFIED", "DEVICE_SIGNED_IN", "SESSION_REPLAYED", "ENDED_TOKEN_PRESENTED",
	"DEVICE_REVOKED", "ALL_REVOKED", "DEVICE_EVICTED", "SIGNING_KEY_REVOKED",
	"SUPERSEDED_TOKEN_PRESENTED", "SESSION_UPDATED",
}

// String returns the type's name in the service's API, without "EVENT_TYPE_": "DEVICE_REVOKED".
func (t EventType) String() string { return nameOf(eventNames, int32(t)) }

// ReplayCause says why a token counts as replayed.
type ReplayCause int32

// These are the causes in the service's API.
const (
	ReplayCauseUnspecified ReplayCause = iota
	ReplayCauseSupersededToken
	ReplayCauseSecondCopy
	ReplayCauseLeftDevice
	ReplayCauseReplacedSession
)

var replayCauseNames = []string{
	"UNSPECIFIED", "SUPERSEDED_TOKEN", "SECOND_COPY", "LEFT_DEVICE", "REPLACED_SESSION",
}

// String returns the cause's name in the service's API, without "REPLAY_CAUSE_": "SECOND_COPY".
func (c ReplayCause) String() string { return nameOf(replayCauseNames, int32(c)) }

// ReplayAction is the service's action after a replay.
type ReplayAction int32

// These are the actions in the service's API.
const (
	ReplayActionUnspecified ReplayAction = iota
	ReplayActionRevokeAll
	ReplayActionRevokeDevice
	ReplayActionDeny
)

var replayActionNames = []string{"UNSPECIFIED", "REVOKE_ALL", "REVOKE_DEVICE", "DENY"}

// String returns the action's name in the service's API, without "REPLAY_ACTION_": "REVOKE_ALL".
func (a ReplayAction) String() string { return nameOf(replayActionNames, int32(a)) }

// Durability says whether a failover of the service's store can lose a change.
type Durability int32

// These are the levels in the service's API. DurabilityUnspecified means that the call wrote
// nothing, or that an older version of the service does not report the durability. DurabilityLocal
// means that a failover can lose the change. DurabilityReplicated means that the change is on as
// many replicas as the service is set to wait for.
const (
	DurabilityUnspecified Durability = iota
	DurabilityLocal
	DurabilityReplicated
)

var durabilityNames = []string{"UNSPECIFIED", "LOCAL", "REPLICATED"}

// String returns the level's name in the service's API, without "DURABILITY_": "LOCAL".
func (d Durability) String() string { return nameOf(durabilityNames, int32(d)) }

func nameOf(names []string, number int32) string {
	if number < 0 || int(number) >= len(names) {
		return strconv.Itoa(int(number))
	}
	return names[number]
}

// known returns number as a value of the enum T. It returns 0 if names has no name for number.
func known[T ~int32](names []string, number int32) T {
	if number < 0 || int(number) >= len(names) {
		return 0
	}
	return T(number)
}

func statusOf(s pb.SessionStatus) SessionStatus {
	return known[SessionStatus](statusNames, int32(s))
}
