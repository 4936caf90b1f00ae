package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/endings"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

const (
	defaultBriefIdleTimeout = 12 * time.Hour
	// The service's own limit.
	shortestIdleTimeout = time.Minute
)

// Request is what an adapter tells of a request. Header, Host and Target are as a http.Request has
// them; Peer is empty at a Unix socket.
type Request = requests.Request

// Settings say how an app wants its flow. The zero value is the strictest.
type Settings struct {
	// Cookies are the names and rules of the cookies.
	Cookies Cookies
	// SignInURL is where browsers without a session are sent instead of being answered 401. If it
	// is a path, "next" is added to its query: the path that the browser wanted.
	SignInURL string
	// TrustedProxies has addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are
	// believed; "unix" is a proxy at a Unix socket.
	TrustedProxies []string
	// DeviceHeader is where apps that are no browsers put their device ID; empty is X-Device-Id.
	DeviceHeader string
	// NoBearer has the flow look at cookies alone. It is for apps behind something that adds an
	// "Authorization: Bearer" of its own to what browsers send.
	NoBearer bool
	// NoOriginCheck is for apps that have a protection of their own against forms of other origins.
	NoOriginCheck bool
	// TrustedOrigins has other origins whose forms may come: "https://id.example".
	TrustedOrigins []string
	// ReturnPaths has paths to which other sites send browsers: "/callback", or "/mail/*" for all
	// that start like that. A browser that comes there without its strict cookies gets a page that
	// asks for the same URL again, with the cookies.
	ReturnPaths []string
	// BriefIdleTimeout is how long a session that ends with the browser may last unused; zero is 12
	// hours. The service's own idle time holds if that is shorter.
	BriefIdleTimeout time.Duration
	// PassivePaths has paths that pages ask for by themselves, spelled like ReturnPaths. A request
	// there doesn't count as a use of the session, so it does not put off the idle end.
	PassivePaths []string
	// KeepConnections leaves connections open when their session ends: WebSockets, event streams
	// and streams of gRPC.
	KeepConnections bool
	// Devices is the page of the user's devices with its API; nil serves none.
	Devices *DevicesPage
	// Logger gets outages and refused origins; nil is slog.Default().
	Logger *slog.Logger
}

// Authority is what a flow asks. A *sessionauthority.Client is one.
type Authority interface {
	ValidateSession(ctx context.Context, accessToken, deviceID string,
		opts *sessionauthority.ValidateSessionOptions) (sessionauthority.Validation, error)
	RenewSession(ctx context.Context, accessToken, deviceID string,
		opts *sessionauthority.RenewSessionOptions) (*sessionauthority.Renewal, error)
	IssueDevice(ctx context.Context, userID string,
		opts *sessionauthority.IssueDeviceOptions) (*sessionauthority.IssuedDevice, error)
	UpdateSession(ctx context.Context, userID string, claims map[string]string,
		opts *sessionauthority.UpdateSessionOptions) (int, error)
	Devices(ctx context.Context, userID string,
		opts *sessionauthority.ListDevicesOptions) iter.Seq2[sessionauthority.Device, error]
	UpdateDevice(ctx context.Context, userID, deviceID, displayName string,
		opts *sessionauthority.UpdateDeviceOptions) (*sessionauthority.Device, error)
	RevokeDevice(ctx context.Context, userID, deviceID string,
		opts *sessionauthority.RevokeDeviceOptions) (bool, error)
	RevokeAll(ctx context.Context, userID string,
		opts *sessionauthority.RevokeAllOptions) (int, error)
	CheckSessions(ctx context.Context, names []sessionauthority.SessionName,
		opts *sessionauthority.ManyOptions) ([]sessionauthority.StateResult, error)
	WatchEvents(ctx context.Context, opts *sessionauthority.WatchEventsOptions,
	) iter.Seq2[*sessionauthority.EventBatch, error]
}

// Flow knows who is signed in, request by request. Any number of requests may use it at a time.
type Flow struct {
	authority Authority
	settings  Settings
	cookies   cookies
	proxies   requests.Proxies
	origins   map[string]bool
	log       *slog.Logger
	states    *throttledLog
	renewals  singleFlight[*sessionauthority.Renewal]
	endings   *endings.Endings
	devices   *devicesPage
	now       func() time.Time
}

var printable = regexp.MustCompile(`^[!-~]*$`)

// NewFlow makes the flow of an app. It returns an error that names the setting which is wrong.
func NewFlow(authority Authority, settings Settings) (*Flow, error) {
	if authority == nil {
		return nil, errors.New("sessionhttp: there must be a client of the Session Authority")
	}
	made := &Flow{authority: authority, settings: settings, log: settings.Logger, now: time.Now}
	if made.log == nil {
		made.log = slog.Default()
	}
	made.states = newThrottledLog(made.log, time.Now)
	if err := made.check(); err != nil {
		return nil, fmt.Errorf("sessionhttp: %w", err)
	}
	made.endings = endings.New(authority, made.log)
	return made, nil
}

func (f *Flow) check() error {
	var err error
	if f.cookies, err = f.settings.Cookies.checked(); err != nil {
		return err
	}
	if !printable.MatchString(f.settings.SignInURL) {
		return errors.New("SignInURL: must be printable ASCII")
	}
	if f.proxies, err = requests.NewProxies(f.settings.TrustedProxies); err != nil {
		return fmt.Errorf("TrustedProxies: %w", err)
	}
	f.settings.DeviceHeader = http.CanonicalHeaderKey(or(f.settings.DeviceHeader, "X-Device-Id"))
	f.origins = map[string]bool{}
	for _, origin := range f.settings.TrustedOrigins {
		normal, known := requests.NormalOrigin(origin)
		if !known {
			return fmt.Errorf("TrustedOrigins: must have scheme://host or scheme://host:port in"+
				" ASCII, not %q", origin)
		}
		f.origins[normal] = true
	}
	for name, paths := range map[string][]string{
		"ReturnPaths": f.settings.ReturnPaths, "PassivePaths": f.settings.PassivePaths,
	} {
		if err := requests.CheckNamedPaths(paths); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	f.settings.BriefIdleTimeout = or(f.settings.BriefIdleTimeout, defaultBriefIdleTimeout)
	if f.settings.BriefIdleTimeout < shortestIdleTimeout {
		return errors.New("BriefIdleTimeout: must be a minute at least")
	}
	if f.settings.Devices == nil {
		return nil
	}
	if f.devices, err = newDevicesPage(*f.settings.Devices); err != nil {
		return fmt.Errorf("Devices: %w", err)
	}
	if !slices.Contains(f.settings.ReturnPaths, f.devices.path) { // mails link to it
		f.settings.ReturnPaths = append(slices.Clone(f.settings.ReturnPaths), f.devices.path)
	}
	return nil
}

// Close stops following the ends of sessions. It does not close the client.
func (f *Flow) Close() { f.endings.Close() }

// AppHeader returns the header where apps that are no browsers put their device ID. It returns
// false if the flow looks at cookies alone. It is for adapters.
func (f *Flow) AppHeader() (device string, hasBearer bool) {
	return f.settings.DeviceHeader, !f.settings.NoBearer
}

// LocalPath returns the text if it is a path of this origin, with or without a query, and otherwise
// the fallback. It is for a path to return to that comes from elsewhere than Visit.NextPath, such
// as from the state of an OpenID provider.
func LocalPath(text, fallback string) string { return requests.LocalPath(text, fallback) }
