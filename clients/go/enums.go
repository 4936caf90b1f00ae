package sessionauthority

import (
	"strconv"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// SessionStatus is the status of a presented token. Admit a request only if it is StatusActive.
type SessionStatus int32

// The statuses of the contract. StatusUnspecified also stands for a status that this version does
// not know. Don't admit a request with StatusUnspecified.
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

// String returns the name in the contract, without its prefix: "TOKEN_EXPIRED".
func (s SessionStatus) String() string { return nameOf(statusNames, int32(s)) }

// FormFactor is the kind of a device.
type FormFactor int32

// The form factors of the contract.
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

// String returns the name in the contract, without its prefix: "PHONE".
func (f FormFactor) String() string { return nameOf(formFactorNames, int32(f)) }

// EventType is the type of an event.
type EventType int32

// The types of events of the contract. EventUnspecified also stands for a type that this version
// does not know: then drop everything that you cache.
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

// String returns the name in the contract, without its prefix: "DEVICE_REVOKED".
func (t EventType) String() string { return nameOf(eventNames, int32(t)) }

// ReplayCause says why a token counts as replayed.
type ReplayCause int32

// The causes of the contract.
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

// String returns the name in the contract, without its prefix: "SECOND_COPY".
func (c ReplayCause) String() string { return nameOf(replayCauseNames, int32(c)) }

// ReplayAction is the service's action after a replay.
type ReplayAction int32

// The actions of the contract.
const (
	ReplayActionUnspecified ReplayAction = iota
	ReplayActionRevokeAll
	ReplayActionRevokeDevice
	ReplayActionDeny
)

var replayActionNames = []string{"UNSPECIFIED", "REVOKE_ALL", "REVOKE_DEVICE", "DENY"}

// String returns the name in the contract, without its prefix: "REVOKE_ALL".
func (a ReplayAction) String() string { return nameOf(replayActionNames, int32(a)) }

// Durability says how safe a change is.
type Durability int32

// The levels of the contract. DurabilityUnspecified: nothing was written, or the service is older
// and does not report the durability. DurabilityLocal: a failover can lose the change.
// DurabilityReplicated: the change is on as many replicas as the service is set to wait for.
const (
	DurabilityUnspecified Durability = iota
	DurabilityLocal
	DurabilityReplicated
)

var durabilityNames = []string{"UNSPECIFIED", "LOCAL", "REPLICATED"}

// String returns the name in the contract, without its prefix: "LOCAL".
func (d Durability) String() string { return nameOf(durabilityNames, int32(d)) }

func nameOf(names []string, number int32) string {
	if number < 0 || int(number) >= len(names) {
		return strconv.Itoa(int(number))
	}
	return names[number]
}

// known returns the number, or 0 if this version has no name for it.
func known[T ~int32](names []string, number int32) T {
	if number < 0 || int(number) >= len(names) {
		return 0
	}
	return T(number)
}

func statusOf(s pb.SessionStatus) SessionStatus {
	return known[SessionStatus](statusNames, int32(s))
}
