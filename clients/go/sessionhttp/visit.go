package sessionhttp

import (
	"context"
	"errors"
	"slices"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// SignIn has the options of Visit.SignIn. The zero value makes a session that does not end when the
// browser is closed. How long this session lasts depends on the service's settings.
type SignIn struct {
	// Claims are facts about the user, which the app can read from the session at each later
	// request.
	Claims map[string]string
	// AuthMethods say how the user proved their identity, such as "pwd" (RFC 8176).
	AuthMethods []string
	// SessionTTL is how long the session lasts at most. Zero means the maximum life in the
	// service's settings.
	SessionTTL time.Duration
	// RequestID identifies the sign-in. Two calls with the same RequestID, such as those of a
	// double click, make one sign-in within 15 minutes. Empty means that each call makes a sign-in
	// of its own.
	RequestID string
	// EndWithBrowser makes the browser delete the token, but not the device ID, when the user
	// closes the browser.
	EndWithBrowser bool
	// IdleTimeout is how long the session lasts after its last use. If the service's own idle
	// timeout is shorter, the service's own idle timeout applies. Zero means
	// Settings.BriefIdleTimeout if EndWithBrowser is true, and otherwise the service's own idle
	// timeout.
	IdleTimeout time.Duration
}

// SignIn signs in a user who has just proven their identity. SignIn sets the cookies in the headers
// of the response, so call SignIn before you write any part of the response. An app that is no
// browser gets no cookies: your response must contain the token and the device ID from the result.
//
// If another user was signed in in this browser, SignIn also signs that user out in this browser.
func (v *Visit) SignIn(
	ctx context.Context, userID string, how SignIn,
) (*sessionauthority.IssuedDevice, error) {
	if v.closed {
		return nil, ErrHeadersAreOut
	}
	before := v.session
	issued, err := v.issue(ctx, userID, how)
	if err != nil {
		return nil, v.answering(ctx, err)
	}
	now := v.flow.now()
	lines, err := v.flow.afterSignIn(&v.presented, issued, now, how.EndWithBrowser)
	if err != nil {
		return nil, err
	}
	v.lines, v.hasLines, v.handsOut = lines, true, true
	v.presented.brief = ""
	if how.EndWithBrowser {
		v.presented.brief = issued.Device.SessionID
	}
	v.status, v.failure, v.refused = sessionauthority.StatusActive, nil, nil
	v.session = sessionOf(userID, how, issued, now)
	if before != nil && before.UserID != userID && !v.presented.app {
		v.ended = true
		v.endOther(ctx, before)
	}
	return issued, nil
}

func sessionOf(
	userID string, how SignIn, issued *sessionauthority.IssuedDevice, now time.Time,
) *sessionauthority.Session {
	device := issued.Device
	made := &sessionauthority.Session{
		UserID: userID, DeviceID: device.DeviceID, SessionID: device.SessionID, Generation: 1,
		Claims:      sessionauthority.NewClaims(how.Claims),
		AuthMethods: slices.Clone(how.AuthMethods), SignInTime: device.SignInTime,
		TokenExpireTime: issued.TokenExpireTime, ExpireTime: device.ExpireTime,
		AbsoluteExpireTime: device.AbsoluteExpireTime,
	}
	if made.SignInTime.IsZero() {
		made.SignInTime = now
	}
	if made.ExpireTime.IsZero() {
		made.ExpireTime = issued.TokenExpireTime
	}
	return made
}

// issue signs the user in with the requested idle timeout. If the service finds this idle timeout
// too long, issue repeats the sign-in with the longest idle timeout that the service accepts. If
// the idle timeout comes from Settings.BriefIdleTimeout and is too short, issue repeats the sign-in
// with the shortest idle timeout that the service accepts.
func (v *Visit) issue(
	ctx context.Context, userID string, how SignIn,
) (*sessionauthority.IssuedDevice, error) {
	isOfSettings := how.EndWithBrowser && how.IdleTimeout == 0
	if isOfSettings {
		how.IdleTimeout = v.flow.settings.BriefIdleTimeout
	}
	asked := sessionauthority.IssueDeviceOptions{
		DeviceID: v.presented.deviceID, Client: v.flow.client(&v.presented),
		Claims: how.Claims, AuthMethods: how.AuthMethods, SessionTTL: how.SessionTTL,
		IdleTimeout: how.IdleTimeout, RequestID: how.RequestID,
	}
	defer v.flow.endings.Doubt(userID) // the sign-in may have replaced a session on this device
	issued, err := v.flow.authority.IssueDevice(ctx, userID, &asked)
	limit, has := idleLimit(err, how.IdleTimeout, isOfSettings)
	if !has {
		return issued, err
	}
	asked.IdleTimeout = limit
	return v.flow.authority.IssueDevice(ctx, userID, &asked)
}

// endOther ends the session of another user who was signed in in this browser before. If that
// session went on, an older request of this browser could renew its token. The late response to the
// older request would then replace the cookies of the new user.
func (v *Visit) endOther(ctx context.Context, session *sessionauthority.Session) {
	_, err := v.flow.authority.RevokeDevice(ctx, session.UserID, session.DeviceID,
		&sessionauthority.RevokeDeviceOptions{Reason: "sign_in_of_another_user"})
	v.flow.endings.Doubt(session.UserID)
	if err != nil { // the new user is signed in anyway
		v.flow.log.Warn("a user who was signed in in a browser before another user is not signed"+
			" out there", "error", err)
	}
}

// SignOut has the options of Visit.SignOut.
type SignOut struct {
	// DeviceID is the device on which to sign the user out. Empty means the device that sent the
	// request.
	DeviceID string
	// Reason is the reason in the event about this sign-out. Empty means "sign_out".
	Reason string
	// Forget also removes the device from the user's list of devices. The next sign-in on a removed
	// device counts as a sign-in on a new device.
	Forget bool
}

// SignOut signs the user out on the device that sent the request, or on another device if the
// options name one. SignOut returns true if it has ended a session. If the request has no session,
// SignOut ends no session and returns no error.
func (v *Visit) SignOut(ctx context.Context, how SignOut) (bool, error) {
	named := requests.DeviceID(how.DeviceID)
	if how.DeviceID != "" && named == "" {
		return false, errors.New("sessionhttp: SignOut: DeviceID is no device ID")
	}
	session, err := v.sessionToEnd(ctx)
	if err != nil {
		return false, err
	}
	isHere := named == "" || (session != nil && named == session.DeviceID)
	if isHere && v.closed {
		return false, ErrHeadersAreOut
	}
	revoked := false
	if session != nil {
		revoked, err = v.flow.authority.RevokeDevice(
			ctx, session.UserID, or(named, session.DeviceID),
			&sessionauthority.RevokeDeviceOptions{
				Reason: or(how.Reason, "sign_out"), Forget: how.Forget,
			})
		v.flow.endings.Doubt(session.UserID)
		if err != nil {
			return false, v.answering(ctx, err)
		}
	}
	if isHere {
		v.forget()
	}
	return revoked, nil
}

// SignOutOthers signs the user out on all devices except the device that sent the request. It
// returns the number of devices on which it signed the user out.
func (v *Visit) SignOutOthers(ctx context.Context) (int, error) {
	return v.signOutEverywhere(ctx, true)
}

// SignOutEverywhere signs the user out on all devices, including the device that sent the request.
// It returns the number of devices on which it signed the user out.
func (v *Visit) SignOutEverywhere(ctx context.Context) (int, error) {
	return v.signOutEverywhere(ctx, false)
}

func (v *Visit) signOutEverywhere(ctx context.Context, exceptCurrent bool) (int, error) {
	if _, err := v.sessionToEnd(ctx); err != nil {
		return 0, err
	}
	session, err := v.Require()
	if err != nil {
		return 0, err
	}
	if v.closed && !exceptCurrent {
		return 0, ErrHeadersAreOut
	}
	how := sessionauthority.RevokeAllOptions{Reason: "sign_out_everywhere"}
	if exceptCurrent {
		how.ExceptDeviceID = session.DeviceID
	}
	revoked, err := v.flow.authority.RevokeAll(ctx, session.UserID, &how)
	v.flow.endings.Doubt(session.UserID)
	if err != nil {
		return 0, v.answering(ctx, err)
	}
	if !exceptCurrent {
		v.forget()
	}
	return revoked, nil
}

// Devices returns the devices on which the user is signed in. The device with the latest use comes
// first. Current is true for the device that sent the request.
func (v *Visit) Devices(ctx context.Context) ([]sessionauthority.Device, error) {
	return v.listDevices(ctx, false)
}

func (v *Visit) listDevices(
	ctx context.Context, signedOut bool,
) ([]sessionauthority.Device, error) {
	session, err := v.Require()
	if err != nil {
		return nil, err
	}
	var found []sessionauthority.Device
	how := &sessionauthority.ListDevicesOptions{
		CurrentDeviceID: session.DeviceID, IncludeSignedOut: signedOut, PageSize: devicesInCall,
	}
	for device, err := range v.flow.authority.Devices(ctx, session.UserID, how) {
		if err != nil {
			return nil, v.answering(ctx, err)
		}
		found = append(found, device)
	}
	return found, nil
}

// devicesInCall is the maximum number of devices that one call of the service returns. Nearly every
// user has fewer devices, so one call is enough.
const devicesInCall = 1000

// Rename gives a device of the user a name. If name is empty, Rename removes the name of the
// device.
func (v *Visit) Rename(
	ctx context.Context, deviceID, name string,
) (*sessionauthority.Device, error) {
	session, err := v.Require()
	if err != nil {
		return nil, err
	}
	device, err := v.flow.authority.UpdateDevice(ctx, session.UserID, deviceID, name, nil)
	if err != nil {
		return nil, v.answering(ctx, err)
	}
	return device, nil
}

// UpdateClaims replaces the claims of the user, such as an e-mail address, in the sessions on all
// devices of the user. It returns the session of this request with the new claims.
//
// The browser that sent the request gets a token with the new claims in the response. If the token
// of the request had expired, the browser that sent the request gets the new claims with the
// response to its next request. Each of the user's other browsers gets the new claims with the
// response to its next request.
func (v *Visit) UpdateClaims(
	ctx context.Context, claims map[string]string,
) (*sessionauthority.Session, error) {
	session, err := v.Require()
	if err != nil {
		return nil, err
	}
	_, err = v.flow.authority.UpdateSession(ctx, session.UserID, claims, nil)
	if err != nil {
		return nil, v.answering(ctx, err)
	}
	changed := *session
	changed.Claims = sessionauthority.NewClaims(claims)
	v.session = &changed
	v.renewSoon()
	return v.session, nil
}

// Renew renews the token of an app that is no browser. Call Renew in the endpoint that apps use for
// renewals. Browsers need no endpoint for renewals, because the middleware renews their tokens. If
// the AccessToken of the result is empty, the app must keep its current token. Renew returns a
// *Refusal if the app must sign in again, or if the service gave no answer.
func (v *Visit) Renew(ctx context.Context) (*sessionauthority.Renewal, error) {
	if v.closed {
		return nil, ErrHeadersAreOut
	}
	if v.presented.token == "" {
		return nil, v.refuse(v.flow.signInRequired(&v.presented, v.status, false))
	}
	renewal, err := v.renew(ctx)
	if err != nil {
		return nil, v.answering(ctx, err)
	}
	v.failure, v.refused = nil, nil
	if !renewal.Active() {
		return nil, v.refuse(v.flow.signInRequired(&v.presented, renewal.Status, false))
	}
	return renewal, nil
}

// NextPath returns the path to which the app should send the user after a sign-in. The redirect to
// Settings.SignInURL has put this path into the field "next" in the query of the request. If the
// query has no "next", or if "next" is not a path of this origin, NextPath returns fallback.
func (v *Visit) NextPath(fallback string) string {
	return requests.NextIn(v.presented.request.Target, fallback)
}

// RequestedStepUp returns the StepUp in the query of the request, or nil if the query has none. If
// a page requires a more recent or stronger sign-in of a signed-in user, the redirect to
// Settings.SignInURL adds this StepUp to the query.
//
// Some sign-in pages redirect users who are already signed in. If RequestedStepUp is not nil, the
// sign-in page must let a signed-in user sign in again. An attacker may have written the query, so
// use the StepUp only to choose the sign-in, and never as a permission.
func (v *Visit) RequestedStepUp() *StepUp {
	return stepUpIn(v.presented.request.Target)
}

// sessionToEnd returns the session that a sign-out must end, or nil if nobody is signed in. If the
// token of an app has expired, sessionToEnd renews the token to find the session, because the
// session itself is still live.
func (v *Visit) sessionToEnd(ctx context.Context) (*sessionauthority.Session, error) {
	session, err := v.Session()
	if err != nil || session != nil {
		return session, err
	}
	if v.presented.token == "" || conducts[v.status] != renew {
		return nil, nil
	}
	if _, err := v.renew(ctx); err != nil {
		return nil, v.answering(ctx, err)
	}
	return v.Session()
}

func (v *Visit) forget() {
	v.session, v.status = nil, sessionauthority.StatusNoSession
	v.takeBack(v.flow.afterSignOut(&v.presented))
}
