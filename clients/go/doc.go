// Package sessionauthority is a client of the Session Authority, a gRPC service that answers
// whether a user's session on a device is still good. The calls are typed. Each call has a
// deadline, except a watch. After some failures the client retries a call, which is safe for every
// method.
//
// Most methods of [Client] call the service's method of the same name. An options struct has the
// optional arguments of a call, and nil stands for no options. If a session is not good, the call
// does not fail: its answer has a Status that says why. If a call fails, it returns an *[Error].
// Use errors.Is with one of the Err variables to find out why the call failed.
//
// [ErrUnavailable] does not say whether a session is good. If a call fails with ErrUnavailable,
// answer your own caller with the HTTP status 503, and never with 401.
package sessionauthority
