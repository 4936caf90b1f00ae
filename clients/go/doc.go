// Package sessionauthority asks a Session Authority whether a user's session on a device is still
// good, over gRPC: typed, with deadlines, with retries that are safe.
//
// Each method of Client is one method of the service. What a call may have beside its necessary
// arguments is in an options struct, and nil means none of it. A session that is not good is an
// answer with a Status. A call that fails returns an *Error: errors.Is with one of the Err values
// says why.
//
// ErrUnavailable says nothing of a session. Answer your own caller with 503 then, never with 401.
package sessionauthority
