// Package sessionauthority is a client of the Session Authority, a gRPC service that answers
// whether a user's session on a device is still good. Its calls are typed, have deadlines, and are
// retried safely.
//
// Each method of [Client] calls one method of the service. An options struct has the optional
// arguments of a call, and nil stands for no options. A session that is not good is an answer with
// a Status. A call that fails returns an *[Error]. Use errors.Is with one of the Err values to find
// out why it failed.
//
// [ErrUnavailable] says nothing of a session. Answer your own caller with 503 then, and never with
// 401.
package sessionauthority
