package sessionauthoritytest

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"

	sa "github.com/session-authority/session-authority/clients/go"
)

// Unavailable has every call fail with ErrUnavailable until the function that it returns is called.
func (a *Authority) Unavailable() (restore func()) {
	a.change(func(s *service) { s.away = true })
	return func() { a.change(func(s *service) { s.away = false }) }
}

// Refuse has every call fail with a reason of the contract, such as "CALLER_NOT_ALLOWED", until the
// function that it returns is called.
func (a *Authority) Refuse(code codes.Code, reason string) (restore func()) {
	a.change(func(s *service) { s.refused = failure(code, reason, "") })
	return func() { a.change(func(s *service) { s.refused = nil }) }
}

// Slow has each answer take so long, until the function that it returns is called.
func (a *Authority) Slow(delay time.Duration) (restore func()) {
	a.change(func(s *service) { s.delay = delay })
	return func() { a.change(func(s *service) { s.delay = 0 }) }
}

// LimitDevices has sign-ins on more devices fail with ErrDeviceLimitReached, until the function
// that it returns is called.
func (a *Authority) LimitDevices(devices int) (restore func()) {
	a.change(func(s *service) { s.maxDevices = devices })
	return func() { a.change(func(s *service) { s.maxDevices = -1 }) }
}

// Replicas gives the store replicas, which confirm every change or none, until the function that it
// returns is called.
func (a *Authority) Replicas(confirm bool) (restore func()) {
	a.change(func(s *service) { s.replicas = &confirm })
	return func() { a.change(func(s *service) { s.replicas = nil }) }
}

// PassTime has the fake's clock go on. An app is told times by the clock of the machine: sign-ins
// grow older, and ends come nearer.
func (a *Authority) PassTime(passed time.Duration) {
	a.change(func(s *service) { s.state.passed += passed })
}

// AgeTokens leaves less than half of the life of each token: renewing is recommended.
func (a *Authority) AgeTokens() { a.eachToken(func(made *token) { made.aged = true }) }

// ExpireTokens ends the time of each token. The sessions go on.
func (a *Authority) ExpireTokens() { a.eachToken(func(made *token) { made.expired = true }) }

// ReplayTokens has each token count as replayed when it is next presented, on a device that is
// still signed in.
func (a *Authority) ReplayTokens() { a.eachToken(func(made *token) { made.replayed = true }) }

func (a *Authority) eachToken(change func(*token)) {
	a.change(func(s *service) {
		for _, made := range s.state.tokens {
			change(made)
		}
	})
}

// switchboard is where clients find the fake, also after it was stopped and started.
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
