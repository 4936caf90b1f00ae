package main

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	sa "github.com/session-authority/session-authority/clients/go"
)

// refusal is the error for a command that can't be carried out.
type refusal struct{ kind, message string }

func (e *refusal) Error() string { return e.message }

func badCommand(message string) error { return &refusal{"bad_command", message} }

// fields are the fields of a command, by name.
type fields map[string]json.RawMessage

// read decodes the field with this name into the pointer into. It returns false if the field is
// absent or null.
func (f fields) read(name string, into any) (bool, error) {
	text, isThere := f[name]
	if !isThere || string(text) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, badCommand(name + ": is of another kind")
	}
	return true, nil
}

// need reads fields that a command must have. Its arguments are the name of a field, the pointer
// for the value of this field, the name of the next field, and so on.
func (f fields) need(namesAndTargets ...any) error {
	for i := 0; i < len(namesAndTargets); i += 2 {
		name := namesAndTargets[i].(string)
		isThere, err := f.read(name, namesAndTargets[i+1])
		if err != nil {
			return err
		}
		if !isThere {
			return badCommand(name + ": is missing")
		}
	}
	return nil
}

// may reads fields that a command may have. It takes the same arguments as the method need.
func (f fields) may(namesAndTargets ...any) error {
	for i := 0; i < len(namesAndTargets); i += 2 {
		if _, err := f.read(namesAndTargets[i].(string), namesAndTargets[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// timeout returns the timeout of a call. 0 means the client's default timeout.
func (f fields) timeout() (time.Duration, error) {
	var milliseconds float64
	err := f.may("timeout_ms", &milliseconds)
	return duration(milliseconds), err
}

func duration(milliseconds float64) time.Duration {
	return time.Duration(milliseconds * float64(time.Millisecond))
}

// moment returns a time in Unix milliseconds, with fractions.
func moment(at time.Time) float64 { return float64(at.UnixMicro()) / 1e3 }

// kinds has the name of each error of the client in replies. If two errors match the same failed
// call, the more exact error comes first in kinds.
var kinds = []struct {
	err  error
	name string
}{
	{sa.ErrOverloaded, "overloaded"},
	{sa.ErrNotReplicated, "not_replicated"},
	{sa.ErrUnavailable, "unavailable"},
	{sa.ErrRequestIDReused, "request_id_reused"},
	{sa.ErrInvalidRequest, "invalid_request"},
	{sa.ErrRequestIDSpent, "request_id_spent"},
	{sa.ErrDeviceLimitReached, "device_limit_reached"},
	{sa.ErrDeviceNotFound, "device_not_found"},
	{sa.ErrSessionNotFound, "session_not_found"},
	{sa.ErrConflict, "conflict"},
	{sa.ErrCursorExpired, "cursor_expired"},
	{sa.ErrCallerUnknown, "caller_unknown"},
	{sa.ErrCallerNotAllowed, "caller_not_allowed"},
	{sa.ErrInternal, "internal_error"},
}

func errorLine(err error) map[string]any {
	line := map[string]any{
		"kind": "crashed", "code": nil, "reason": "", "message": err.Error(),
		"retry_after_ms": nil, "violations": []any{},
	}
	var refused *refusal
	if errors.As(err, &refused) {
		line["kind"] = refused.kind
	}
	var failed *sa.Error
	if !errors.As(err, &failed) {
		return line
	}
	line["kind"] = "other"
	for _, kind := range kinds {
		if errors.Is(err, kind.err) {
			line["kind"] = kind.name
			break
		}
	}
	line["code"], line["reason"], line["message"] =
		codeName(failed.Code), failed.Reason, failed.Message
	if failed.RetryAfter != nil {
		line["retry_after_ms"] = float64(*failed.RetryAfter) / float64(time.Millisecond)
	}
	violations := []any{}
	for _, one := range failed.Violations {
		violations = append(violations,
			map[string]string{"field": one.Field, "description": one.Description})
	}
	line["violations"] = violations
	return line
}

// codeName returns the name of a code in the form of gRPC's specification: "NOT_FOUND".
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for i, letter := range code.String() {
		if i > 0 && 'A' <= letter && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}
