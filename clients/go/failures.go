package sessionauthority

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

const (
	errorDomain  = "session-authority"
	reasonPrefix = "ERROR_REASON_"
)

var kindByReason = map[string]error{
	"INVALID_REQUEST":      ErrInvalidRequest,
	"MALFORMED_MESSAGE":    ErrInvalidRequest,
	"MESSAGE_TOO_LARGE":    ErrInvalidRequest,
	"REQUEST_ID_REUSED":    ErrRequestIDReused,
	"REQUEST_ID_SPENT":     ErrRequestIDSpent,
	"DEVICE_LIMIT_REACHED": ErrDeviceLimitReached,
	"DEVICE_NOT_FOUND":     ErrDeviceNotFound,
	"SESSION_NOT_FOUND":    ErrSessionNotFound,
	"CONFLICT":             ErrConflict,
	"CURSOR_EXPIRED":       ErrCursorExpired,
	"CALLER_UNKNOWN":       ErrCallerUnknown,
	"CALLER_NOT_ALLOWED":   ErrCallerNotAllowed,
	"OVERLOADED":           ErrOverloaded,
	"STORE_UNAVAILABLE":    ErrUnavailable,
	"DEADLINE_TOO_SHORT":   ErrUnavailable,
	"STOPPING":             ErrUnavailable,
	"NOT_READY":            ErrUnavailable,
	"NOT_REPLICATED":       ErrNotReplicated,
	"INTERNAL":             ErrInternal,
}

// kindByCode has the sentinels for errors that have no reason in kindByReason. Such errors come
// from gRPC itself, or from a proxy between the client and the service.
var kindByCode = map[codes.Code]error{
	codes.Unavailable:       ErrUnavailable,
	codes.DeadlineExceeded:  ErrUnavailable,
	codes.Canceled:          ErrUnavailable,
	codes.ResourceExhausted: ErrOverloaded,
	codes.InvalidArgument:   ErrInvalidRequest,
	codes.Unauthenticated:   ErrCallerUnknown,
	codes.PermissionDenied:  ErrCallerNotAllowed,
}

func newError(code codes.Code, reason, message string) *Error {
	kind, ok := kindByReason[reason]
	if !ok {
		kind = kindByCode[code]
	}
	return &Error{Message: message, Code: code, Reason: reason, kind: kind}
}

// errorOf converts an error that gRPC returned for a failed call.
func errorOf(err error) *Error {
	st := status.FromContextError(err)
	// If gRPC has retried a call, it wraps the error that has the status in another error.
	var answered interface{ GRPCStatus() *status.Status }
	if errors.As(err, &answered) && answered.GRPCStatus() != nil {
		st = answered.GRPCStatus()
	}
	found := &Error{}
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				found.Reason = detail.GetReason()
				found.Metadata = detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			found.RetryAfter = &delay
		case *errdetails.BadRequest:
			found.Violations = nil
			for _, violation := range detail.GetFieldViolations() {
				found.Violations = append(found.Violations,
					FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		}
	}
	made := newError(st.Code(), found.Reason, st.Message())
	made.RetryAfter, made.Violations, made.Metadata =
		found.RetryAfter, found.Violations, found.Metadata
	return made
}

// errorOfItem converts the error of one request in a batch.
func errorOfItem(item *pb.RequestError) *Error {
	code := codes.Code(item.GetCode())
	if item.GetCode() < 0 || code > codes.Unauthenticated {
		code = codes.Unknown
	}
	reason := ""
	if name, ok := pb.ErrorReason_name[int32(item.GetReason())]; ok && item.GetReason() != 0 {
		reason = strings.TrimPrefix(name, reasonPrefix)
	}
	made := newError(code, reason, item.GetMessage())
	for _, violation := range item.GetFieldViolations() {
		made.Violations = append(made.Violations,
			FieldViolation{violation.GetField(), violation.GetDescription()})
	}
	return made
}

// failureOf returns the error that the caller gets if a call failed with err. ctx is the caller's
// context. If the call failed because ctx has ended, the returned error wraps the error of ctx.
// closed says whether the client is closed.
func failureOf(ctx context.Context, err error, closed bool) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	made := errorOf(err)
	switch {
	case closed && (made.Code == codes.Canceled || made.Code == codes.Unavailable):
		return clientClosed()
	case ctx.Err() != nil && (made.Code == codes.Canceled || made.Code == codes.DeadlineExceeded):
		made.cause = ctx.Err()
	case made.Code == codes.DeadlineExceeded:
		made.cause = context.DeadlineExceeded
	}
	return made
}

// endedContext returns the error for a call that got no answer before its context ended. message is
// the text of the error, unless the context was canceled.
func endedContext(ctx context.Context, message string) *Error {
	made := newError(codes.DeadlineExceeded, "", message)
	if made.cause = ctx.Err(); errors.Is(made.cause, context.Canceled) {
		made.Code, made.Message = codes.Canceled, "the caller gave up"
	}
	return made
}

func clientClosed() *Error {
	return &Error{Message: "the client is closed", Code: codes.Canceled, kind: ErrClientClosed}
}

// tooLate returns the error of a call that got no answer before its deadline.
func tooLate() *Error {
	made := newError(codes.DeadlineExceeded, "", "there was no answer in time")
	made.cause = context.DeadlineExceeded
	return made
}

// brokenRule returns the error of a request that this client does not send, because field breaks a
// rule.
func brokenRule(field, rule string) *Error {
	made := newError(codes.InvalidArgument, "", fmt.Sprintf("%s: %s", field, rule))
	made.Violations = []FieldViolation{{field, rule}}
	return made
}

// wrongNumberOfAnswers returns the error of a batch if the service did not send exactly one answer
// for each request in the batch.
func wrongNumberOfAnswers() *Error {
	return newError(codes.Internal, "INTERNAL", "the answer is not one for each request")
}
