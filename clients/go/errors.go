package sessionauthority

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// The reasons why a call fails that a caller can act on, for errors.Is. A session that is not good
// is no error: it is an answer.
var (
	// ErrUnavailable: there was no answer in time. It says nothing of the session, and the call may
	// have been carried out. Answer your own caller with 503, never with 401.
	ErrUnavailable = errors.New("session authority: unavailable")
	// ErrOverloaded is an ErrUnavailable: the service has too much to do, nothing was done. Wait for
	// Error.RetryAfter.
	ErrOverloaded = errors.New("session authority: overloaded")
	// ErrNotReplicated is an ErrUnavailable: the call was carried out, but too few replicas had it in
	// time, and RequireReplicated insists. Repeat the call.
	ErrNotReplicated = errors.New("session authority: not replicated")
	// ErrClientClosed is an ErrUnavailable: the client was closed.
	ErrClientClosed = errors.New("session authority: the client is closed")
	// ErrInvalidRequest: the request breaks rules. Error.Violations has each field and its rule.
	ErrInvalidRequest = errors.New("session authority: invalid request")
	// ErrRequestIDReused is an ErrInvalidRequest: a request ID came back with other contents.
	ErrRequestIDReused = errors.New("session authority: request ID reused")
	// ErrRequestIDSpent: the session that a request ID started was since used, replaced or ended.
	// Sign in with a fresh request ID.
	ErrRequestIDSpent = errors.New("session authority: request ID spent")
	// ErrDeviceLimitReached: the user is signed in on as many devices as they may be.
	ErrDeviceLimitReached = errors.New("session authority: device limit reached")
	// ErrDeviceNotFound: the user has no such device.
	ErrDeviceNotFound = errors.New("session authority: device not found")
	// ErrSessionNotFound: the user is not signed in on the device.
	ErrSessionNotFound = errors.New("session authority: session not found")
	// ErrConflict: other calls for the user kept interfering. Nothing was done: call again.
	ErrConflict = errors.New("session authority: conflict")
	// ErrCursorExpired: a watch can't go on without missing events. Drop what you cache, and watch
	// anew without a cursor.
	ErrCursorExpired = errors.New("session authority: cursor expired")
	// ErrCallerUnknown: the service does not know who calls, by certificate or token.
	ErrCallerUnknown = errors.New("session authority: caller unknown")
	// ErrCallerNotAllowed: the access policy of the service does not let this caller do that.
	ErrCallerNotAllowed = errors.New("session authority: caller not allowed")
	// ErrInternal: a fault of the service. Its log has more under Error.Metadata["error_id"].
	ErrInternal = errors.New("session authority: internal error")
)

// wider has, for each sentinel that is a special case of another, that other one.
var wider = map[error]error{
	ErrOverloaded:      ErrUnavailable,
	ErrNotReplicated:   ErrUnavailable,
	ErrClientClosed:    ErrUnavailable,
	ErrRequestIDReused: ErrInvalidRequest,
}

// Error is a call that failed. errors.Is says why; errors.As gives the rest.
type Error struct {
	// Message is a text for people.
	Message string
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is the name in the contract's ErrorReason without its prefix, or "" if the service
	// gave none.
	Reason string
	// RetryAfter is how long to wait before another call. It is nil if the service did not say.
	RetryAfter *time.Duration
	// Violations has the fields that break their rules.
	Violations []FieldViolation
	// Metadata is what the service told beside the reason.
	Metadata map[string]string

	kind  error // a sentinel, or nil
	cause error // the error of the caller's own context, or nil
}

// FieldViolation is a field of the request that breaks its rule.
type FieldViolation struct {
	// Field is the path of the field in the contract: "claims.sub".
	Field       string
	Description string
}

// Error returns the kind of the error and the service's text.
func (e *Error) Error() string {
	if e.kind == nil {
		return "session authority: " + e.Code.String() + ": " + e.Message
	}
	if e.kind == ErrClientClosed || e.Message == "" {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.Message
}

// Is says whether the error is of the kind that a sentinel stands for.
func (e *Error) Is(target error) bool {
	for kind := e.kind; kind != nil; kind = wider[kind] {
		if kind == target {
			return true
		}
	}
	return false
}

// Unwrap returns the error of the caller's own context if that ended the call.
func (e *Error) Unwrap() error { return e.cause }

// copyForCaller returns the same error for another caller: each caller may add to its own.
func copyForCaller(err error) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	made := *known
	return &made
}
