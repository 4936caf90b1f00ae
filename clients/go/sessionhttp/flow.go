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
	// shortestIdleTimeout is the minimum of Settings.BriefIdleTimeout. The service accepts no idle
	// timeout that is shorter than this minimum.
	shortestIdleTimeout = time.Minute
)

// Request has the facts of a request that an adapter passes to Flow.Open. Header and Host are the
// same as in an http.Request. Target is the path with the query, as the client sent them. Peer is
// the address at the other end of the connection. Peer is empty if the connection came through a
// Unix socket.
type Request = requests.Request

// Settings are the settings of the middleware: cookies, sign-in page, proxies, origins, and paths.
// The zero value trusts no proxy and no other origin.
type Settings struct {
	// Cookies has the names of the cookies, and the rules for writing them.
	Cookies Cookies
	// SignInURL is the URL of the sign-in page. If a browser without a session requests a page that
	// needs a session, the middleware redirects the browser to SignInURL. If SignInURL is empty,
	// the browser gets 401 in place of the redirect. If SignInURL is a path, the middleware adds
	// the field "next" to its query. "next" is the path that the browser requested.
	SignInURL string
	// TrustedProxies has the addresses and networks of the proxies that the app trusts. The flow
	// reads X-Forwarded-For and X-Forwarded-Proto only if one of the TrustedProxies sent the
	// request. "unix" stands for a proxy that connects through a Unix socket.
	TrustedProxies []string
	// DeviceHeader is the name of the header in which apps that are no browsers send their device
	// ID. Empty means X-Device-Id.
	DeviceHeader string
	// NoBearer makes the flow read tokens only from cookies, and not from the header Authorization.
	// NoBearer is for apps behind a proxy that adds its own "Authorization: Bearer" to the requests
	// of browsers.
	NoBearer bool
	// NoOriginCheck turns off the check of a request's origin, except for the page of devices and
	// its API. NoOriginCheck is for apps that have their own protection against forms of other
	// origins.
	NoOriginCheck bool
	// TrustedOrigins has origins other than the app's, such as "https://id.example". Pages of the
	// trusted origins may send requests that change something.
	TrustedOrigins []string
	// ReturnPaths has paths of the app to which other sites send browsers, such as "/callback". A
	// path that ends in "*", such as "/mail/*", stands for all paths with the same start, such as
	// "/mail/7". A browser that comes from another site sends no strict cookies. At a path of
	// ReturnPaths, a browser from another site gets a page that makes it request the same URL
	// again, with the strict cookies.
	ReturnPaths []string
	// BriefIdleTimeout is the idle timeout of a session that ends when the browser is closed. Zero
	// means 12 hours. The minimum is a minute. If the service refuses BriefIdleTimeout as too short
	// or too long, the session gets the nearest idle timeout that the service accepts.
	BriefIdleTimeout time.Duration
	// PassivePaths has paths that pages of the app request without an action of the user. The paths
	// have the same form as those of ReturnPaths. A request to a passive path doesn't count as a
	// use of the session, so the request does not move the idle end.
	PassivePaths []string
	// KeepConnections leaves WebSockets, event streams and gRPC streams open when their session
	// ends.
	KeepConnections bool
	// Devices has the settings of the page that lists a user's devices, and of the API of this
	// page. If Devices is nil, the middleware serves neither the page nor its API.
	Devices *DevicesPage
	// Logger gets the log lines of the flow, for example about outages and refused origins. nil
	// means slog.Default().
	Logger *slog.Logger
}

// Authority has the methods that a Flow uses to call the service. A *sessionauthority.Client is an
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

// Flow finds out for each request who is signed in. Any number of goroutines may use a Flow at the
// same time.
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

// NewFlow returns the flow of an app. If a setting is wrong, NewFlow returns an error that names
// the setting.
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
	if !slices.Contains(f.settings.ReturnPaths, f.devices.path) { // mails link to this page
		f.settings.ReturnPaths = append(slices.Clone(f.settings.ReturnPaths), f.devices.path)
	}
	return nil
}

// Close stops the watch that notices the end of sessions. It does not close the client of the
// service.
func (f *Flow) Close() { f.endings.Close() }

// AppHeader returns the name of the header in which apps that are no browsers send their device ID.
// hasBearer is false if the flow reads tokens only from cookies (Settings.NoBearer). AppHeader is
// for adapters.
func (f *Flow) AppHeader() (device string, hasBearer bool) {
	return f.settings.DeviceHeader, !f.settings.NoBearer
}

// LocalPath returns text if text is a path of this origin, with or without a query. LocalPath
// returns fallback for a text that is not a path of this origin. Call LocalPath before you redirect
// to a path that does not come from Visit.NextPath, such as a path in the "state" of an OpenID
// provider.
func LocalPath(text, fallback string) string { return requests.LocalPath(text, fallback) }
