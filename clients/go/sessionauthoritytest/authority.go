package sessionauthoritytest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// patience is the timeout of the fake's clients. It is long because tests run on busy machines.
const patience = 20 * time.Second

// Config has the settings in which a fake differs from the service's defaults. Zero values mean the
// defaults.
type Config struct {
	// TokenTTL is the life of a token. Zero means one hour.
	TokenTTL time.Duration
	// AlarmOnRenewal is the service's setting REPLAY_ALARM=renewed: a superseded token raises an
	// alarm only when it is presented for renewal.
	AlarmOnRenewal bool
}

// Authority is a fake Session Authority. Goroutines may call its methods at the same time.
type Authority struct {
	t        testing.TB
	service  *service
	listener *switchboard

	starting sync.Mutex   // guards server
	server   *grpc.Server // nil while the fake is stopped
}

// SignedIn has the token and the device ID that a sign-in gives the client of an end user.
type SignedIn struct {
	UserID      string
	AccessToken string
	DeviceID    string
}

// Header returns the headers of requests by an app that is no browser.
func (s SignedIn) Header() http.Header {
	return http.Header{
		"Authorization": {"Bearer " + s.AccessToken}, "X-Device-Id": {s.DeviceID},
	}
}

// New returns a running fake, which is stopped at the end of its test.
func New(t testing.TB) *Authority { return NewWith(t, Config{}) }

// NewWith is like New, with a configuration.
func NewWith(t testing.TB, config Config) *Authority {
	t.Helper()
	if config.TokenTTL == 0 {
		config.TokenTTL = time.Hour
	}
	a := &Authority{
		t:        t,
		service:  newService(config.TokenTTL, config.AlarmOnRenewal),
		listener: &switchboard{},
	}
	a.Start()
	t.Cleanup(a.Stop)
	return a
}

// Client returns a client of the fake, which is closed at the end of the test. Its default timeout
// is longer than that of a client of the real service, because tests run on busy machines.
func (a *Authority) Client(opts ...sa.Option) *sa.Client {
	a.t.Helper()
	opts = append([]sa.Option{sa.WithTimeout(patience), a.listener.option()}, opts...)
	client, err := sa.NewClient("passthrough:///fake", opts...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Stop breaks all connections. Users and sessions are kept. After Start the fake answers again.
func (a *Authority) Stop() {
	a.starting.Lock()
	defer a.starting.Unlock()
	a.listener.replace(nil)
	if a.server != nil {
		a.server.Stop()
		a.server = nil
	}
}

// Start starts the fake again after Stop. New calls it.
func (a *Authority) Start() {
	a.starting.Lock()
	defer a.starting.Unlock()
	if a.server != nil {
		return
	}
	listener := bufconn.Listen(1 << 20)
	a.server = grpc.NewServer(grpc.UnaryInterceptor(a.service.guard))
	pb.RegisterSessionAuthorityServiceServer(a.server, a.service)
	go func(server *grpc.Server) { _ = server.Serve(listener) }(a.server)
	a.listener.replace(listener)
}

// SignIn signs a user in on a new device.
func (a *Authority) SignIn(userID string) SignedIn {
	a.t.Helper()
	return a.SignInWith(userID, nil, 0)
}

// SignInWith is like SignIn, with options. age is how long ago the user signed in. The token is
// new.
func (a *Authority) SignInWith(
	userID string, opts *sa.IssueDeviceOptions, age time.Duration,
) SignedIn {
	a.t.Helper()
	issued, err := a.Client().IssueDevice(context.Background(), userID, opts)
	if err != nil {
		a.t.Fatal(err)
	}
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	d := a.service.state.devices[userID][issued.Device.DeviceID]
	d.createdAt, d.signedInAt = d.createdAt.Add(-age), d.signedInAt.Add(-age)
	if d.session != nil {
		d.session.signedInAt = d.session.signedInAt.Add(-age)
	}
	return SignedIn{userID, issued.AccessToken, issued.Device.DeviceID}
}

// SignOut signs a user out everywhere, as from another device or by an operator. It returns on how
// many devices the user was signed in.
func (a *Authority) SignOut(userID string) int {
	a.t.Helper()
	revoked, err := a.Client().RevokeAll(context.Background(), userID, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return revoked
}

// Calls returns how often each method was called, by its name in the contract. Refused calls count,
// too.
func (a *Authority) Calls() map[string]int {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	return maps.Clone(a.service.calls)
}

// Rotations returns how often a session went on to its next generation.
func (a *Authority) Rotations() int {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	return a.service.rotations
}

// Reset forgets every user, and resets the counts. Watches end with ErrCursorExpired.
func (a *Authority) Reset() {
	a.change(func(s *service) {
		s.state, s.calls, s.rotations = newState(), map[string]int{}, 0
	})
}

func (a *Authority) change(change func(*service)) {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	change(a.service)
	a.service.wake()
}

func methodOf(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }

var errStopped = errors.New("the fake is stopped")

// dial connects to the current listener.
func (s *switchboard) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	listener := s.listener
	s.mu.Unlock()
	if listener == nil {
		return nil, errStopped
	}
	return listener.DialContext(ctx)
}
