package sessionhttp

import (
	"context"
	"errors"
	"slices"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// SignIn has the options of Visit.SignIn. The zero value stands for a session that the browser
// remembers, with the times of the service's settings.
type SignIn struct {
	// Claims are the facts about the user that the app finds in each session.
	Claims map[string]string
	// AuthMethods say how the user proved their identity, such as "pwd" (RFC 8176).
	AuthMethods []string
	// SessionTTL is the life of the session. Zero means the life that the service has set.
	SessionTTL time.Duration
	// RequestID identifies the sign-in. Two calls with the same RequestID, such as those of a
	// double click, make one sign-in. Empty means that each call makes a sign-in of its own.
	RequestID string
	// EndWithBrowser makes the browser forget the session when the browser is closed. The browser
	// keeps its device ID. An unused session ends after Settings.BriefIdleTimeout.
	EndWithBrowser bool
	// IdleTimeout is how long the session may last unused. If the service's own idle timeout is
	// shorter, the service's own idle timeout applies. Zero means Settings.BriefIdleTimeout if
	// EndWithBrowser is true, and otherwise the service's own idle timeout.
	IdleTimeout time.Duration
}

// SignIn signs a user in who has just proven their identity. The response sets both cookies, so
// call SignIn before you write anything of the response. An app that is no browser gets the token
// and the device ID in your own response.
//
// Another user who was signed in in this browser is signed out here: the browser has the cookies of
// the new user.
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

// issue signs in with the requested idle timeout. If the requested idle timeout is longer than the
// service's longest, issue takes the service's longest. If the requested idle timeout comes from
// the settings and is shorter than the service's shortest, issue takes the service's shortest.
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

// endOther ends the session of the user who was signed in in this browser before. Else a late
// response could renew that session, and give its cookies back to the browser.
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
	// DeviceID is another device of the user. Empty means the device that sent the request.
	DeviceID string
	// Reason is the reason that events give. Empty means "sign_out".
	Reason string
	// Forget removes the device from the list, too. A later sign-in there counts as a sign-in on a
	// new device.
	Forget bool
}

// SignOut signs the user out here, or on another device of the user. Without a session there is
// nothing to do, and no error. It returns true if the user was signed in there.
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

// SignOutOthers signs the user out on all other devices. It returns on how many devices the user
// was signed in.
func (v *Visit) SignOutOthers(ctx context.Context) (int, error) {
	return v.signOutEverywhere(ctx, true)
}

// SignOutEverywhere signs the user out on all devices, including this one. It returns on how many
// devices the user was signed in.
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

// Devices returns the devices where the user is signed in, the newest activity first. The device
// that sent the request is Current.
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

// devicesInCall is the number of devices that one call returns. Nearly every user has fewer.
const devicesInCall = 1000

// Rename names a device of the user; an empty name removes the name.
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

// UpdateClaims changes the claims of the user, such as an e-mail address, here and on all other
// devices of the user. The new claims replace all existing claims. It returns the session with
// them.
//
// This browser gets a token with the new claims in this response. If the token of this request had
// expired, this browser gets the new token with the response to its next request. Every other
// browser of the user gets a new token with the response to its next request.
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

// Renew renews the token of an app that is no browser. Call it in your endpoint for renewals. The
// middleware itself renews the token of a browser. The AccessToken of the result is empty if the
// app keeps the token that it has.
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

// NextPath returns the path to which to send the user after a sign-in: "next" in the request's
// query, which a redirect to Settings.SignInURL put there. If there is no "next", or if it is of
// another origin, NextPath returns the fallback.
func (v *Visit) NextPath(fallback string) string {
	return requests.NextIn(v.presented.request.Target, fallback)
}

// RequestedStepUp returns the more recent or stronger sign-in that a page required of a signed-in
// user. The redirect to Settings.SignInURL put this step-up into the query. RequestedStepUp returns
// nil if the query has no step-up.
//
// A sign-in page that sends signed-in users away must not do so if this returns a step-up. Anybody
// may have written the query: it says what sign-in to request, and permits nothing.
func (v *Visit) RequestedStepUp() *StepUp {
	return stepUpIn(v.presented.request.Target)
}

// sessionToEnd returns the session of the user, even if an app's token has expired: the session
// goes on, and must not outlive a sign-out.
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
