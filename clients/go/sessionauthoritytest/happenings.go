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

// Slow makes the fake wait for delay before each answer, until the returned function is called.
// Watches are not delayed.
func (a *Authority) Slow(delay time.Duration) (restore func()) {
	a.change(func(s *service) { s.delay = delay })
	return func() { a.change(func(s *service) { s.delay = 0 }) }
}

// LimitDevices makes sign-ins fail with ErrDeviceLimitReached if the user is already signed in on
// this many other devices, until the returned function is called.
func (a *Authority) LimitDevices(devices int) (restore func()) {
	a.change(func(s *service) { s.maxDevices = devices })
	return func() { a.change(func(s *service) { s.maxDevices = -1 }) }
}

// Replicas gives the fake replicas until the returned function is called. If confirm is true, the
// replicas confirm every change. If it is false, they confirm no change.
func (a *Authority) Replicas(confirm bool) (restore func()) {
	a.change(func(s *service) { s.replicas = &confirm })
	return func() { a.change(func(s *service) { s.replicas = nil }) }
}

// PassTime moves the fake's clock forward. The times of sessions, tokens and devices are converted
// to the clock of the machine: sign-ins get older, and expiry times come nearer. The times of
// events and of proofs are not converted.
func (a *Authority) PassTime(passed time.Duration) {
	a.change(func(s *service) { s.state.passed += passed })
}

// AgeTokens ages every token: less than half of its life is left, so renewing is recommended.
func (a *Authority) AgeTokens() { a.eachToken(func(made *token) { made.aged = true }) }

// ExpireTokens expires every token. The sessions go on.
func (a *Authority) ExpireTokens() { a.eachToken(func(made *token) { made.expired = true }) }

// ReplayTokens makes every token count as replayed when it is next presented, if its device is
// still signed in.
func (a *Authority) ReplayTokens() { a.eachToken(func(made *token) { made.replayed = true }) }

func (a *Authority) eachToken(change func(*token)) {
	a.change(func(s *service) {
		for _, made := range s.state.tokens {
			change(made)
		}
	})
}

// switchboard connects clients to the current listener of the fake, also after Stop and Start.
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
