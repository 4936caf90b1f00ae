package sessionauthority

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// The reasons for failed calls to which a caller can react, for errors.Is. A session that is not
// good is no error: it is an answer.
var (
	// ErrUnavailable: there was no answer in time. This says nothing of the session, and the
	// service may have carried out the call. Answer your own caller with 503, and never with 401.
	ErrUnavailable = errors.New("session authority: unavailable")
	// ErrOverloaded is an ErrUnavailable: the service has too much to do, and nothing was done.
	// Wait for Error.RetryAfter.
	ErrOverloaded = errors.New("session authority: overloaded")
	// ErrNotReplicated is an ErrUnavailable: the change is done, but too few replicas had it in
	// time, and the call had RequireReplicated. Repeat the call: a sign-in with the same request
	// ID, a renewal with the same token.
	ErrNotReplicated = errors.New("session authority: not replicated")
	// ErrClientClosed is an ErrUnavailable: the client was closed.
	ErrClientClosed = errors.New("session authority: the client is closed")
	// ErrInvalidRequest: the request breaks rules. Error.Violations has each field and its rule.
	ErrInvalidRequest = errors.New("session authority: invalid request")
	// ErrRequestIDReused is an ErrInvalidRequest: a request ID was sent again with other contents.
	ErrRequestIDReused = errors.New("session authority: request ID reused")
	// ErrRequestIDSpent: the session that a request ID started was since used, replaced or ended.
	// Sign in with another request ID.
	ErrRequestIDSpent = errors.New("session authority: request ID spent")
	// ErrDeviceLimitReached: the user is signed in on as many devices as the service allows.
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
	// ErrCallerUnknown: the service does not know who calls. The call had no certificate or token
	// of a known caller.
	ErrCallerUnknown = errors.New("session authority: caller unknown")
	// ErrCallerNotAllowed: the access policy of the service does not let this caller make this
	// call.
	ErrCallerNotAllowed = errors.New("session authority: caller not allowed")
	// ErrInternal: a fault of the service. Its log has more under Error.Metadata["error_id"].
	ErrInternal = errors.New("session authority: internal error")
)

// wider maps each sentinel that is a special case of another sentinel to that other sentinel.
var wider = map[error]error{
	ErrOverloaded:      ErrUnavailable,
	ErrNotReplicated:   ErrUnavailable,
	ErrClientClosed:    ErrUnavailable,
	ErrRequestIDReused: ErrInvalidRequest,
}

// Error is the error of a call that failed. Use errors.Is with a sentinel to find out why it
// failed, and errors.As to get the details.
type Error struct {
	// Message is a text for people.
	Message string
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is a name of the contract's ErrorReason, without its prefix. It is empty if the
	// service gave no reason.
	Reason string
	// RetryAfter is how long to wait before another call. It is nil if the service did not say it.
	RetryAfter *time.Duration
	// Violations has the fields that break their rules.
	Violations []FieldViolation
	// Metadata has the facts that the service sent in addition to the reason.
	Metadata map[string]string

	kind  error // a sentinel, or nil
	cause error // the error of the context that ended the call, or nil
}

// FieldViolation is a field of the request that breaks a rule, and the rule.
type FieldViolation struct {
	// Field is the path of the field in the contract: "claims.sub".
	Field       string
	Description string
}

// Error returns the text of the sentinel and the service's message.
func (e *Error) Error() string {
	if e.kind == nil {
		return "session authority: " + e.Code.String() + ": " + e.Message
	}
	if e.kind == ErrClientClosed || e.Message == "" {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.Message
}

// Is reports whether target is the sentinel of this error, or a more general sentinel.
func (e *Error) Is(target error) bool {
	for kind := e.kind; kind != nil; kind = wider[kind] {
		if kind == target {
			return true
		}
	}
	return false
}

// Unwrap returns the error of the context that ended the call, or nil if no context did.
func (e *Error) Unwrap() error { return e.cause }

// copyForCaller returns a copy of an error for another caller, which may change its copy.
func copyForCaller(err error) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	made := *known
	return &made
}
