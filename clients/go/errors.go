package sessionauthority

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// These sentinels say why a call failed. Use errors.Is to test for a sentinel. If a session is not
// good, the call does not fail: its answer has the status of the session.
var (
	// ErrUnavailable: this client got no answer in time, or the service could not answer. The error
	// does not say whether the session is good, and the service may have carried out the call.
	// Answer your own caller with the HTTP status 503, and never with 401.
	ErrUnavailable = errors.New("session authority: unavailable")
	// ErrOverloaded is a special case of ErrUnavailable. The service has too much to do, and did
	// not carry out the call. Wait for Error.RetryAfter before you call again.
	ErrOverloaded = errors.New("session authority: overloaded")
	// ErrNotReplicated is a special case of ErrUnavailable, for calls with RequireReplicated. The
	// service made the change, but too few replicas confirmed the change in time. Make the same
	// call again. Repeat a sign-in with the same request ID, and a renewal with the same token.
	ErrNotReplicated = errors.New("session authority: not replicated")
	// ErrClientClosed is a special case of ErrUnavailable: the Client was closed.
	ErrClientClosed = errors.New("session authority: the client is closed")
	// ErrInvalidRequest: the request breaks a rule. If a field breaks its rule, Error.Violations
	// names the field and the rule.
	ErrInvalidRequest = errors.New("session authority: invalid request")
	// ErrRequestIDReused is a special case of ErrInvalidRequest. An earlier sign-in had the same
	// request ID, but other contents.
	ErrRequestIDReused = errors.New("session authority: request ID reused")
	// ErrRequestIDSpent: an earlier sign-in had the same request ID, and its session was used,
	// replaced or ended since then. Sign the user in with a new request ID.
	ErrRequestIDSpent = errors.New("session authority: request ID spent")
	// ErrDeviceLimitReached: the user is signed in on as many devices as the service allows.
	ErrDeviceLimitReached = errors.New("session authority: device limit reached")
	// ErrDeviceNotFound: the user has no device with the given ID.
	ErrDeviceNotFound = errors.New("session authority: device not found")
	// ErrSessionNotFound: the user is not signed in on the given device.
	ErrSessionNotFound = errors.New("session authority: session not found")
	// ErrConflict: the service tried this call several times, but each time another call changed
	// the user's records. This call changed nothing: make it again.
	ErrConflict = errors.New("session authority: conflict")
	// ErrCursorExpired: a watch can't continue without missing events. Drop everything that you
	// cache, and start a new watch without a cursor.
	ErrCursorExpired = errors.New("session authority: cursor expired")
	// ErrCallerUnknown: the service does not know this caller. The call had neither a certificate
	// nor a token of a caller that the service knows.
	ErrCallerUnknown = errors.New("session authority: caller unknown")
	// ErrCallerNotAllowed: the access policy of the service does not let this caller make this
	// call.
	ErrCallerNotAllowed = errors.New("session authority: caller not allowed")
	// ErrInternal: the service has a fault. Search the service's log for Error.Metadata["error_id"]
	// to find the details.
	ErrInternal = errors.New("session authority: internal error")
)

// wider maps each sentinel that is a special case to its more general sentinel.
var wider = map[error]error{
	ErrOverloaded:      ErrUnavailable,
	ErrNotReplicated:   ErrUnavailable,
	ErrClientClosed:    ErrUnavailable,
	ErrRequestIDReused: ErrInvalidRequest,
}

// Error is the error of a call that failed. Use errors.Is with a sentinel, such as ErrUnavailable,
// to find out why the call failed. Use errors.As to get the details.
type Error struct {
	// Message is a text for people.
	Message string
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is the name of an ErrorReason of the service's API, without "ERROR_REASON_". It is
	// empty if the service gave no reason.
	Reason string
	// RetryAfter is how long to wait before the next call. It is nil if the service gave no such
	// time.
	RetryAfter *time.Duration
	// Violations has the fields that break their rules.
	Violations []FieldViolation
	// Metadata has the facts that the service sent in addition to the reason.
	Metadata map[string]string

	kind  error // a sentinel, or nil
	cause error // the error of the context that ended the call, or nil
}

// FieldViolation names a field of a request that breaks a rule. Description is the rule.
type FieldViolation struct {
	// Field is the path of the field in the request's protobuf message: "claims.sub".
	Field       string
	Description string
}

// Error returns the text of the sentinel and the Message. If the error has no sentinel, Error
// returns the Code and the Message.
func (e *Error) Error() string {
	if e.kind == nil {
		return "session authority: " + e.Code.String() + ": " + e.Message
	}
	if e.kind == ErrClientClosed || e.Message == "" {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.Message
}

// Is reports whether target is the sentinel of this error. It also returns true if target is the
// more general sentinel. For example, an error with the sentinel ErrOverloaded is also an
// ErrUnavailable.
func (e *Error) Is(target error) bool {
	for kind := e.kind; kind != nil; kind = wider[kind] {
		if kind == target {
			return true
		}
	}
	return false
}

// Unwrap returns the error of the context that ended the call. It returns nil if the call did not
// fail because of a context.
func (e *Error) Unwrap() error { return e.cause }

// copyForCaller returns a copy of an error. If several callers share a failed call, each caller
// gets a copy of its own, and may change it.
func copyForCaller(err error) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	made := *known
	return &made
}
