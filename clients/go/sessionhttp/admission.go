package sessionhttp

import (
	"context"
	"errors"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// renewWithin is how long Visit.Close may still renew the token after the service recommended a
// renewal, or after the app changed the claims. If an app responds later, Close leaves the renewal
// to the next request. While a slow app works, another request may renew the same token. If the
// slow request renewed its old token more than ALARM_AFTER later, the service would take the token
// for stolen. This is why renewWithin is far less than the default of ALARM_AFTER, 5 minutes.
const renewWithin = 10 * time.Second

// ErrHeadersAreOut means that a method of Visit can't change the cookies any more, because the
// headers of the response were already sent. It also means that the app has hijacked the
// connection.
var ErrHeadersAreOut = errors.New("sessionhttp: the response's headers are out")

// Visit is one request of an end user, with the session of the request if there is one. Only one
// goroutine may use a Visit at a time.
type Visit struct {
	flow      *Flow
	presented presented
	status    sessionauthority.SessionStatus
	// session is nil if nobody is signed in. If somebody is signed in, session belongs to this
	// visit alone: session points to held, or to a session that SignIn or UpdateClaims made.
	session *sessionauthority.Session
	held    sessionauthority.Session
	failure error
	refused *Refusal

	renewRecommended bool
	renewUntil       time.Time
	// lines are the Set-Cookie headers that this visit adds to the response. hasLines is true once
	// the visit has set lines.
	lines    []string
	hasLines bool
	closed   bool
	looked   bool
	// hadSession is true if the request had a session when the app called Session, Require or
	// UserID.
	hadSession bool
	handsOut   bool
	// ended is true if this request ended the browser's session: the response deletes the token's
	// cookie, or a new user has signed in.
	ended bool
	end   sessionEnd
	// inner is the visit of a second middleware that is inside this visit's middleware. If inner is
	// not nil, the app uses inner and not this visit. inner is nil if there is no second
	// middleware.
	inner *Visit
}

// Open reads a request and finds out if the session of the request is good. Open is for adapters,
// which connect other frameworks than net/http to a Flow. If Open refuses the request without a
// call of the service, the error is a *Refusal. If the service is not available, Open returns no
// error, but Session and Require return an error.
//
// An adapter calls Close before it sends the headers of the response, and Leave when the request is
// over.
func (f *Flow) Open(ctx context.Context, request *Request) (*Visit, error) {
	visit, refused := f.open(ctx, request)
	if refused != nil {
		return nil, refused
	}
	return visit, nil
}

func (f *Flow) open(ctx context.Context, request *Request) (*Visit, *Refusal) {
	found, refused := f.present(request)
	if refused != nil {
		return nil, refused
	}
	visit := &Visit{flow: f, presented: found, status: found.status}
	if found.status == sessionauthority.StatusUnspecified {
		visit.ask(ctx)
	}
	return visit, nil
}

// ask validates the token at the service. ask renews an expired token of a browser at once, because
// only a renewal shows if the session is good. ask also renews a superseded token of a browser at
// once if the service recommends a renewal. A superseded token is either a stolen copy, or an old
// token in an upload that an app had queued. Browsers queue no uploads, and send their newest token
// with each request. This is why a superseded token of a browser counts as stolen: ask renews the
// token, and the renewal makes the service raise the alarm.
//
// ask also renews the token of a passive request. If ask did not renew the token of a passive
// request, the page would take an expired token for the end of the session. A renewal by a passive
// request does not count as a use of the session.
func (v *Visit) ask(ctx context.Context) {
	p := &v.presented
	found, err := v.flow.authority.ValidateSession(ctx, p.token, p.deviceID,
		&sessionauthority.ValidateSessionOptions{Client: v.flow.client(p), Passive: p.passive})
	if err != nil {
		v.fail(ctx, err)
		return
	}
	v.status, v.renewRecommended = found.Status, found.RenewRecommended
	if found.Active {
		v.setSession(&found.Session)
	}
	conduct := conducts[found.Status]
	switch {
	case (conduct == renew || (found.RenewRecommended && !found.Active)) && !p.app:
		if _, err := v.renew(ctx); err != nil {
			v.fail(ctx, err)
		}
	case conduct == wipe:
		v.takeBack(v.flow.afterDenial(p, found.Status))
	}
	if found.Active && found.RenewRecommended {
		v.renewSoon()
	}
}

// Session returns the session of the user, or nil if nobody is signed in. If the service gave no
// answer, Session returns a *Refusal with the reason ErrNoAnswer, because an app must not take an
// outage for a sign-out.
func (v *Visit) Session() (*sessionauthority.Session, error) {
	v.look()
	if v.failure != nil {
		return nil, v.refuse(v.flow.noAnswer(&v.presented, v.failure))
	}
	return v.session, nil
}

// look notes that the app asked for the session. After look, the response counts as personal for
// caches, and the connection may end with the session.
func (v *Visit) look() {
	v.looked = true
	v.hadSession = v.hadSession || v.session != nil
	v.end.look(v, v.session)
}

// Require returns the session of the user. If nobody is signed in, Require returns a *Refusal with
// the reason ErrSignInRequired. If the service gave no answer, the reason is ErrNoAnswer. If the
// sign-in does not meet the demands, the reason is ErrStepUpRequired. After ErrStepUpRequired the
// session stays good. If a demand itself is wrong, such as a negative age, the error is no
// *Refusal. If a handler writes nothing after a *Refusal, the middleware sends the response of the
// *Refusal.
func (v *Visit) Require(demands ...Demand) (*sessionauthority.Session, error) {
	var wanted StepUp
	for _, demand := range demands {
		if err := demand(&wanted); err != nil {
			return nil, err
		}
	}
	session, err := v.Session()
	if err != nil {
		return nil, err
	}
	if session == nil {
		return nil, v.refuse(v.flow.signInRequired(&v.presented, v.status, v.renewRecommended))
	}
	age := v.flow.now().Sub(session.SignInTime)
	if lack := wanted.lackOf(age, session.AuthMethods); lack != "" {
		return nil, v.refuse(v.flow.stepUpRequired(&v.presented, &wanted, lack))
	}
	return session, nil
}

// UserID returns the ID of the user who is signed in. The ID is empty if nobody is signed in, or if
// the service gave no answer. If the ID is empty, the handler must write a response, because the
// middleware writes none.
func (v *Visit) UserID() string {
	v.look()
	if v.failure != nil || v.session == nil {
		return ""
	}
	return v.session.UserID
}

// DeviceID returns the ID of the browser or app. The ID is empty if the request has no valid device
// ID, for example before the first sign-in.
func (v *Visit) DeviceID() string {
	if v.session != nil {
		return v.session.DeviceID
	}
	return v.presented.deviceID
}

// Status returns the status of the request's token, for logs. The status is StatusUnspecified if
// the service gave no answer.
func (v *Visit) Status() sessionauthority.SessionStatus { return v.status }

// Remembered returns false if the session ends when the browser is closed. It returns true if the
// session can outlive the browser, or if nobody is signed in. If a sign-in replaces this session,
// such as a step-up, pass EndWithBrowser: !visit.Remembered() to SignIn.
func (v *Visit) Remembered() bool {
	return v.session == nil || v.presented.brief != v.session.SessionID
}

// TimeLeft returns how long the session still lasts if it is not used again. The second result is
// false if nobody is signed in. The time is exact at the paths of Settings.PassivePaths. At paths
// that are not passive, the time may be too short, because a near cache may have kept an old idle
// end. The time is never too long.
func (v *Visit) TimeLeft() (time.Duration, bool, error) {
	session, err := v.Session()
	if err != nil || session == nil {
		return 0, false, err
	}
	return max(session.ExpireTime.Sub(v.flow.now()), 0), true, nil
}

// Close returns the Set-Cookie headers that the visit adds to the response. Close first renews a
// browser's token if the service recommended a renewal or the app changed the claims in the last 10
// seconds. Close does not renew the token if the visit already has cookies for the response, for
// example from SignIn. Close is for adapters, which call it before they send the headers.
func (v *Visit) Close(ctx context.Context) []string {
	if v.closed {
		return v.lines
	}
	v.closed = true
	if !v.hasLines && v.flow.now().Before(v.renewUntil) {
		// If this renewal fails, the token stays good, and the next request renews the token.
		if _, err := v.renew(ctx); err != nil {
			v.flow.log.Info("a token was not renewed", "error", err)
		}
	}
	return v.lines
}

// Leave notes that the request is over: a later end of the session calls no callback of this visit.
// If the app has hijacked the connection, Leave does nothing, because the callbacks stay until the
// connection is closed. Leave is for adapters.
func (v *Visit) Leave() { v.end.leave() }

func (v *Visit) renewSoon() {
	if !v.presented.app {
		v.renewUntil = v.flow.now().Add(renewWithin)
	}
}

// renew renews the token of the request. Requests with the same token may share one renewal. A
// passive request shares a renewal only with passive requests, because a passive renewal does not
// count as a use of the session.
func (v *Visit) renew(ctx context.Context) (*sessionauthority.Renewal, error) {
	p := &v.presented
	key := flightKey{p.token, p.deviceID, p.passive}
	// The facts about the client are read before the call. If this request is canceled, the call
	// goes on, while the app may change the headers of the request.
	how := &sessionauthority.RenewSessionOptions{Client: v.flow.client(p), Passive: p.passive}
	renewal, err := v.flow.renewals.share(ctx, key,
		func(ctx context.Context) (*sessionauthority.Renewal, error) {
			return v.flow.authority.RenewSession(ctx, key.token, key.device, how)
		})
	if err != nil {
		return nil, err
	}
	v.status, v.session = renewal.Status, nil
	lines, err := v.flow.afterRenewal(p, renewal, v.flow.now())
	if err != nil {
		return nil, err
	}
	if renewal.Active() {
		v.setSession(&renewal.Session)
		v.lines, v.hasLines = lines, true
		v.handsOut = renewal.AccessToken != ""
	} else {
		v.takeBack(lines)
	}
	return renewal, nil
}

func (v *Visit) setSession(session *sessionauthority.Session) {
	v.held = *session
	v.session = &v.held
}

func (v *Visit) takeBack(lines []string) {
	v.lines, v.hasLines, v.ended = lines, true, len(lines) > 0
}

func (v *Visit) refuse(refused *Refusal) *Refusal {
	v.refused = refused
	return refused
}

// takeRefusal returns the last refusal of this visit, and forgets the refusal, so that the next
// call returns nil. It returns nil if the visit has refused nothing.
func (v *Visit) takeRefusal() *Refusal {
	refused := v.refused
	v.refused = nil
	return refused
}

// answering returns a *Refusal with the reason ErrNoAnswer if err is an outage. If err is no
// outage, answering returns err unchanged.
func (v *Visit) answering(ctx context.Context, err error) error {
	if !isOutage(err) {
		return err
	}
	v.logOutage(ctx, err)
	return v.refuse(v.flow.noAnswer(&v.presented, err))
}

func (v *Visit) fail(ctx context.Context, err error) {
	if isOutage(err) {
		v.logOutage(ctx, err)
	} else {
		v.flow.states.error("the Session Authority refuses to say who is signed in", "error", err)
	}
	v.failure, v.status, v.session = err, sessionauthority.StatusUnspecified, nil
}

// isOutage reports whether a call failed without an answer of the service: the service was
// unavailable, or the call was canceled or took too long.
func isOutage(err error) bool {
	return errors.Is(err, sessionauthority.ErrUnavailable) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (v *Visit) logOutage(ctx context.Context, err error) {
	if ctx.Err() == nil { // no log line if the client has disconnected
		v.flow.states.error("the Session Authority gives no answer, so a request that needs a"+
			" session gets 503; is the service running at the client's address, and is the client's"+
			" timeout long enough?", "error", err)
	}
}

// owns reports whether the app has set a cookie with the name of one of the flow's cookies. line is
// the app's Set-Cookie header. If a second middleware is inside this visit's middleware, the second
// middleware has already removed the app's headers for cookies of the flow. If a header for a
// cookie of the flow remains, the header comes from the inner visit. owns returns false for a
// header of the inner visit, and the outer middleware keeps the header.
func (v *Visit) owns(line string) bool {
	if !v.flow.cookies.isSetBy(line) || v.inner != nil && v.inner.writes(line) {
		return false
	}
	v.flow.log.Warn("the app sets a cookie of its own with a name of the Session Authority's, so it"+
		" was left out; give one of them another name: Settings.Cookies",
		"name", line[:max(0, indexOrEnd(line, '='))])
	return true
}

// writes reports whether a Set-Cookie header has the name of a cookie that this visit or one of its
// inner visits may set.
func (v *Visit) writes(line string) bool {
	return v.flow.cookies.isSetBy(line) || v.inner != nil && v.inner.writes(line)
}

func indexOrEnd(text string, letter byte) int {
	for index := 0; index < len(text); index++ {
		if text[index] == letter {
			return index
		}
	}
	return len(text)
}
