package sessionauthoritytest

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"

	sa "github.com/session-authority/session-authority/clients/go"
)

// Unavailable makes every call fail with ErrUnavailable until the returned function is called.
func (a *Authority) Unavailable() (restore func()) {
	a.change(func(s *service) { s.away = true })
	return func() { a.change(func(s *service) { s.away = false }) }
}

// Refuse makes every call fail with a reason of the contract, such as "CALLER_NOT_ALLOWED", until
// the returned function is called.
func (a *Authority) Refuse(code codes.Code, reason string) (restore func()) {
	a.change(func(s *service) { s.refused = failure(code, reason, "") })
	return func() { a.change(func(s *service) { s.refused = nil }) }
}

// Slow makes the fake wait for delay before it executes a call, until the returned function is
// called. Slow does not delay watches.
func (a *Authority) Slow(delay time.Duration) (restore func()) {
	a.change(func(s *service) { s.delay = delay })
	return func() { a.change(func(s *service) { s.delay = 0 }) }
}

// LimitDevices limits the number of devices on which a user may be signed in, until the returned
// function is called. A sign-in on one more device fails with ErrDeviceLimitReached.
func (a *Authority) LimitDevices(devices int) (restore func()) {
	a.change(func(s *service) { s.maxDevices = devices })
	return func() { a.change(func(s *service) { s.maxDevices = -1 }) }
}

// Replicas makes the fake act like a service with replicas, until the returned function is called.
// If confirm is true, the replicas confirm every change. If confirm is false, the replicas confirm
// no change.
func (a *Authority) Replicas(confirm bool) (restore func()) {
	a.change(func(s *service) { s.replicas = &confirm })
	return func() { a.change(func(s *service) { s.replicas = nil }) }
}

// PassTime moves the clock of the fake forward. The machine's clock does not move, so the fake
// converts the times of sessions, tokens and devices in its responses to the machine's clock. After
// PassTime, sign-ins are older and expiry times are nearer. The times of events and of proofs are
// not converted: they are times of the fake's clock.
func (a *Authority) PassTime(passed time.Duration) {
	a.change(func(s *service) { s.state.passed += passed })
}

// AgeTokens makes every existing token count as old: less than half of its life is left, so the
// fake recommends a renewal.
func (a *Authority) AgeTokens() { a.eachToken(func(made *token) { made.aged = true }) }

// ExpireTokens makes every existing token count as expired. The sessions stay live.
func (a *Authority) ExpireTokens() { a.eachToken(func(made *token) { made.expired = true }) }

// ReplayTokens makes every existing token count as replayed when a client next presents it, if the
// session of the token is still live.
func (a *Authority) ReplayTokens() { a.eachToken(func(made *token) { made.replayed = true }) }

func (a *Authority) eachToken(change func(*token)) {
	a.change(func(s *service) {
		for _, made := range s.state.tokens {
			change(made)
		}
	})
}

// switchboard connects clients to the current listener of the fake. Each Start makes a new
// listener.
type switchboard struct {
	mu       sync.Mutex
	listener *bufconn.Listener
}

func (s *switchboard) replace(listener *bufconn.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = listener
}

func (s *switchboard) option() sa.Option {
	return sa.WithDialOptions(grpc.WithContextDialer(s.dial))
}
