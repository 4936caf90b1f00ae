package sessionhttp

import (
	"context"
	"errors"
	"slices"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// SignIn says how Visit.SignIn signs a user in. The zero value is a session that the browser
// remembers, with the service's own times.
type SignIn struct {
	// Claims are what the app wants to find in each session.
	Claims map[string]string
	// AuthMethods say how the user proved their identity, such as "pwd" (RFC 8176).
	AuthMethods []string
	// SessionTTL is the life of the session, if not the service's own.
	SessionTTL time.Duration
	// RequestID makes one sign-in of several with the same ID, such as those of a double click.
	RequestID string
	// EndWithBrowser has the browser forget the session when it is closed, though not which device
	// it is. Unused, the session ends after Settings.BriefIdleTimeout.
	EndWithBrowser bool
	// IdleTimeout is how long the session may last unused, if not that, or the service's own, which
	// holds if it is shorter.
	IdleTimeout time.Duration
}

// SignIn signs a user in who has just proven their identity. The response sets both cookies, so
// this must come before anything is written. An app that is no browser gets token and device ID in
// your own response.
//
// Another user who was signed in in this browser is signed out there: the browser has the cookies
// of the new user.
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

// issue signs in with the idle time that is wanted, or with the service's longest if that is
// shorter. The time of the settings may also become longer, where the service's shortest is.
func (v *Visit) issue(
	ctx context.Context, userID string, how SignIn,
) (*sessionauthority.IssuedDevice, error) {
	isOfSettings := how.EndWithBrowser && how.IdleTimeout == 0
	if isOfSettings {
		how.IdleTimeout = v.flow.settings.BriefIdleTimeout
	}
	asked := sessionauthority.IssueDeviceOptions{
		DeviceID: v.presented.deviceID, Client: v.flow.client(&v.presented),
		Claims:      how.Claims,
		AuthMethods: how.AuthMethods, SessionTTL: how.SessionTTL, IdleTimeout: how.IdleTimeout,
		RequestID: how.RequestID,
	}
	issued, err := v.flow.authority.IssueDevice(ctx, userID, &asked)
	limit, has := idleLimit(err, how.IdleTimeout, isOfSettings)
	if !has {
		return issued, err
	}
	asked.IdleTimeout = limit
	return v.flow.authority.IssueDevice(ctx, userID, &asked)
}

// endOther ends the session of the user who was signed in in this browser before. Else a late
// response would renew that session, and bring it back.
func (v *Visit) endOther(ctx context.Context, session *sessionauthority.Session) {
	_, err := v.flow.authority.RevokeDevice(ctx, session.UserID, session.DeviceID,
		&sessionauthority.RevokeDeviceOptions{Reason: "sign_in_of_another_user"})
	v.flow.endings.Doubt(session.UserID)
	if err != nil { // the new user is signed in all the same
		v.flow.log.Warn("a user who was signed in in a browser before another user is not signed"+
			" out there", "error", err)
	}
}

// SignOut says how a device is signed out.
type SignOut struct {
	// DeviceID is another device of the user; empty is the one that asks.
	DeviceID string
	// Reason is for the events; empty is "sign_out".
	Reason string
	// Forget takes the device off the list, too: a later sign-in there is one on a new device.
	Forget bool
}

// SignOut signs the user out here, or on another device. Without a session there is nothing to do,
// and no error. It returns true if the user was signed in there.
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

// SignOutOthers signs the user out on all devices but this one. It returns on how many the user
// was signed in.
func (v *Visit) SignOutOthers(ctx context.Context) (int, error) {
	return v.signOutEverywhere(ctx, true)
}

// SignOutEverywhere signs the user out on all devices, this one among them. It returns on how many
// the user was signed in.
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
// that asks is Current.
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

// One call lists the devices of nearly every user.
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
// devices of the user. They replace all claims that there are. It returns the session with them.
//
// This browser gets a token with them with the response; every other one as it answers its next
// request.
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

// Renew renews the token of an app that is no browser, for your endpoint that renews. The token of
// a browser is renewed by the middleware. The renewal's AccessToken is empty if the app keeps the
// token that it has.
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

// NextPath returns where to send the user after a sign-in: the path of this origin that the
// request's query has as "next", as a redirect to Settings.SignInURL put it there, and otherwise
// the fallback.
func (v *Visit) NextPath(fallback string) string {
	return requests.NextIn(v.presented.request.Target, fallback)
}

// RequestedStepUp returns why the sign-in page is shown to a user who is signed in: the sign-in
// that a page required; otherwise nil. A sign-in page that sends users who are signed in away must
// not do so with a step-up. The query may be anybody's: it says what to ask the user for, and
// permits nothing.
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
