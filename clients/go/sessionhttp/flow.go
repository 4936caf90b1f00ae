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
	// The service accepts no shorter idle timeout.
	shortestIdleTimeout = time.Minute
)

// Request has the facts of a request that an adapter passes on. Header and Host are the same as in
// an http.Request. Target is the path with its query, as the client sent it. Peer is the address of
// the connection, and empty at a Unix socket.
type Request = requests.Request

// Settings are the settings of the middleware: cookies, sign-in page, proxies, origins, and paths.
// The zero value is the strictest.
type Settings struct {
	// Cookies has the names of the cookies, and the rules by which they are written.
	Cookies Cookies
	// SignInURL is where browsers without a session are sent. If it is empty, they get 401. If it
	// is a path, "next" is added to its query: the path that the browser wanted.
	SignInURL string
	// TrustedProxies has addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are
	// believed. "unix" stands for a proxy at a Unix socket.
	TrustedProxies []string
	// DeviceHeader is the name of the header in which apps that are no browsers send their device
	// ID. Empty means X-Device-Id.
	DeviceHeader string
	// NoBearer makes the flow use only cookies. It is for apps behind a proxy that adds an
	// "Authorization: Bearer" of its own to the requests of browsers.
	NoBearer bool
	// NoOriginCheck turns off the check of a request's origin, except for the page of devices and
	// its API. It is for apps with a protection of their own against forms of other origins.
	NoOriginCheck bool
	// TrustedOrigins has other origins whose pages may send forms, such as "https://id.example".
	TrustedOrigins []string
	// ReturnPaths has paths to which other sites send browsers, such as "/callback". A path with
	// "*" at its end, such as "/mail/*", stands for all paths that start like it. If a browser was
	// sent to such a path by another site and so brings no strict cookie, it gets a page that
	// requests the same URL again, with the cookies.
	ReturnPaths []string
	// BriefIdleTimeout is how long a session that ends with the browser may last unused. Zero means
	// 12 hours. The service accepts idle timeouts from its shortest one up to its own idle timeout.
	// If BriefIdleTimeout is outside these limits, the nearest limit applies.
	BriefIdleTimeout time.Duration
	// PassivePaths has paths that pages of the app request by themselves, spelled like ReturnPaths.
	// A request there doesn't count as a use of the session, so it does not put off the idle end.
	PassivePaths []string
	// KeepConnections leaves connections open when their session ends. These connections are
	// WebSockets, event streams and streams of gRPC.
	KeepConnections bool
	// Devices has the settings of the page of the user's devices, with its API. If it is nil, the
	// middleware serves no such page.
	Devices *DevicesPage
	// Logger gets log lines about outages and refused origins. nil means slog.Default().
	Logger *slog.Logger
}

// Authority has the calls of the service that a flow makes. A *sessionauthority.Client is an
// Authority.
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

// Flow finds out who is signed in, for each request. Any number of goroutines may use it at a time.
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

// NewFlow returns the flow of an app. If a setting is wrong, it returns an error that names the
// setting.
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
	if !slices.Contains(f.settings.ReturnPaths, f.devices.path) { // mails link to the page
		f.settings.ReturnPaths = append(slices.Clone(f.settings.ReturnPaths), f.devices.path)
	}
	return nil
}

// Close stops watching for the ends of sessions. It does not close the client.
func (f *Flow) Close() { f.endings.Close() }

// AppHeader returns the name of the header in which apps that are no browsers send their device ID.
// It returns false if the flow uses only cookies. AppHeader is for adapters.
func (f *Flow) AppHeader() (device string, hasBearer bool) {
	return f.settings.DeviceHeader, !f.settings.NoBearer
}

// LocalPath returns the text if it is a path of this origin, with or without a query. Else it
// returns the fallback. Use LocalPath before you redirect to a path that does not come from
// Visit.NextPath, such as a path from the state of an OpenID provider.
func LocalPath(text, fallback string) string { return requests.LocalPath(text, fallback) }
