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

// patience is the default timeout of a client that Client returns. patience is long, because tests
// run on busy machines.
const patience = 20 * time.Second

// Config has the settings of a fake. Zero values mean the default settings of the service.
type Config struct {
	// TokenTTL is how long a token is good before it must be renewed. Zero means one hour.
	TokenTTL time.Duration
	// AlarmOnRenewal stands for the service's setting REPLAY_ALARM=renewed. If AlarmOnRenewal is
	// true, a superseded token raises an alarm only when a client presents the token for renewal.
	AlarmOnRenewal bool
}

// Authority is a fake Session Authority. Any number of goroutines may call its methods at the same
// time.
type Authority struct {
	t        testing.TB
	service  *service
	listener *switchboard

	starting sync.Mutex   // guards server
	server   *grpc.Server // nil while the fake is stopped
}

// SignedIn is the result of a sign-in: it has the token and the device ID for the end user's
// browser or app.
type SignedIn struct {
	UserID      string
	AccessToken string
	DeviceID    string
}

// Header returns the headers with which an app that is no browser sends its token and its device
// ID.
func (s SignedIn) Header() http.Header {
	return http.Header{
		"Authorization": {"Bearer " + s.AccessToken}, "X-Device-Id": {s.DeviceID},
	}
}

// New returns a running fake with default settings. The end of the test stops the fake.
func New(t testing.TB) *Authority { return NewWith(t, Config{}) }

// NewWith returns a running fake with the settings in config. The end of the test stops the fake.
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

// Client returns a client of the fake. The end of the test closes the client. The client's default
// timeout is 20 seconds, because tests run on busy machines.
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

// Stop breaks all connections, and makes calls fail until Start is called. The fake keeps its users
// and sessions.
func (a *Authority) Stop() {
	a.starting.Lock()
	defer a.starting.Unlock()
	a.listener.replace(nil)
	if a.server != nil {
		a.server.Stop()
		a.server = nil
	}
}

// Start starts the fake again after Stop. It does nothing if the fake is running.
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

// SignInWith signs a user in with options, which may be nil. age is how long ago the sign-in seems
// to be. The token counts as new.
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

// SignOut signs a user out on all devices, as an operator or another device of the user can do. It
// returns the number of devices on which it signed the user out.
func (a *Authority) SignOut(userID string) int {
	a.t.Helper()
	revoked, err := a.Client().RevokeAll(context.Background(), userID, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return revoked
}

// Calls returns the number of calls of each method, by the name of the method in the contract. The
// number includes the calls that Unavailable or Refuse made fail.
func (a *Authority) Calls() map[string]int {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	return maps.Clone(a.service.calls)
}

// Rotations returns how often a renewal has moved a session to its next generation, for all
// sessions together.
func (a *Authority) Rotations() int {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	return a.service.rotations
}

// Reset deletes all users, sessions, tokens and events, sets the fake's clock back to the machine's
// clock, and resets the counts of Calls and Rotations. Watches that are open end with
// ErrCursorExpired.
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

// dial connects to the current listener. It returns errStopped while the fake is stopped.
func (s *switchboard) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	listener := s.listener
	s.mu.Unlock()
	if listener == nil {
		return nil, errStopped
	}
	return listener.DialContext(ctx)
}
