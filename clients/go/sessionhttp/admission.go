package sessionhttp

import (
	"context"
	"errors"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// An app that needs longer leaves renewing to the next request. By then another request may have
// renewed long ago, and the token that this request brought would look stolen. So this is far less
// than the service's ALARM_AFTER, 5 minutes.
const renewWithin = 10 * time.Second

// ErrHeadersAreOut is returned where the cookies can't be changed any more: the response's headers
// are out.
var ErrHeadersAreOut = errors.New("sessionhttp: the response's headers are out")

// Visit is a request, with its session if it has one. Only one goroutine may use it at a time.
type Visit struct {
	flow      *Flow
	presented presented
	status    sessionauthority.SessionStatus
	// session is nil if nobody is signed in; else it is a copy of this visit's own.
	session *sessionauthority.Session
	held    sessionauthority.Session
	failure error
	refused *Refusal

	renewRecommended bool
	renewUntil       time.Time
	// lines are the Set-Cookie lines of the response; hasLines is true where they are decided.
	lines    []string
	hasLines bool
	closed   bool
	looked   bool
	// hadSession: there was a session when the app looked.
	hadSession bool
	handsOut   bool
	// ended: the browser's session ended with this request.
	ended bool
	end   sessionEnd
	// inner is the visit of the middleware inside this one, which the app saw; nil if there is none.
	inner *Visit
}

// Open reads a request and finds out whether its session is good. It is for adapters: Middleware
// calls it. The error is a *Refusal of a request that nobody need be asked about. An outage is
// none: Session and Require return it.
//
// An adapter calls Close as the response's headers go out, and Leave once the connection is over.
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

// ask finds out whether the session is good. A browser's token is renewed at once if it has
// expired, as only the renewal says whether its session is good; or if it was superseded and the
// service recommends that: the user's own browser renews, a queued upload does not.
//
// A page that asks by itself renews, too: else it would take an expired token for the end of the
// session. Its renewal does not count as a use, either.
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

// Session returns the session of the user, nil if nobody is signed in. It returns a *Refusal that
// is ErrNoAnswer if that is unknown: an outage must not look like a sign-out.
func (v *Visit) Session() (*sessionauthority.Session, error) {
	v.look()
	if v.failure != nil {
		return nil, v.refuse(v.flow.noAnswer(&v.presented, v.failure))
	}
	return v.session, nil
}

// look: from now on what the app serves depends on the session.
func (v *Visit) look() {
	v.looked = true
	v.hadSession = v.hadSession || v.session != nil
	v.end.look(v, v.session)
}

// Require returns the session of the user. It returns a *Refusal if nobody is signed in, if that is
// unknown, or if the sign-in does not meet the demands; then the session stays good. A handler that
// writes nothing after a refusal has the middleware answer.
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

// UserID returns the user who is signed in. It is empty if nobody is, or if that is unknown: then
// the handler answers by itself.
func (v *Visit) UserID() string {
	v.look()
	if v.failure != nil || v.session == nil {
		return ""
	}
	return v.session.UserID
}

// DeviceID returns the ID of the browser or app, empty before its first sign-in.
func (v *Visit) DeviceID() string {
	if v.session != nil {
		return v.session.DeviceID
	}
	return v.presented.deviceID
}

// Status returns what the token of the request is worth, for logs. It is StatusUnspecified while
// that is unknown.
func (v *Visit) Status() sessionauthority.SessionStatus { return v.status }

// Remembered returns false if the session ends with the browser. A sign-in that takes its place, as
// for a step-up, has EndWithBrowser: !visit.Remembered().
func (v *Visit) Remembered() bool {
	return v.session == nil || v.presented.brief != v.session.SessionID
}

// TimeLeft returns how long the session lasts from now on if it is not used again, and false if
// nobody is signed in. It is exact on a path of Settings.PassivePaths. Elsewhere a near cache may
// answer with an end that a use has put off since: then it is too short, and never too long.
func (v *Visit) TimeLeft() (time.Duration, bool, error) {
	session, err := v.Session()
	if err != nil || session == nil {
		return 0, false, err
	}
	return max(session.ExpireTime.Sub(v.flow.now()), 0), true, nil
}

// Close returns the Set-Cookie lines of the response. It renews the token first if that was
// recommended a moment ago. It is for adapters, as the headers go out.
func (v *Visit) Close(ctx context.Context) []string {
	if v.closed {
		return v.lines
	}
	v.closed = true
	if !v.hasLines && v.flow.now().Before(v.renewUntil) {
		// If it fails, the token is good for now. The next request renews it.
		if _, err := v.renew(ctx); err != nil {
			v.flow.log.Info("a token was not renewed", "error", err)
		}
	}
	return v.lines
}

// Leave says that the connection is over: nobody need be told of the session's end any more. It is
// for adapters.
func (v *Visit) Leave() { v.end.leave() }

func (v *Visit) renewSoon() {
	if !v.presented.app {
		v.renewUntil = v.flow.now().Add(renewWithin)
	}
}

// renew renews the token. A renewal that does not count as a use can't stand in for one that does.
func (v *Visit) renew(ctx context.Context) (*sessionauthority.Renewal, error) {
	p := &v.presented
	key := flightKey{p.token, p.deviceID, p.passive}
	// The call may outlive the request, whose headers are the handler's then.
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

// takeRefusal returns the last refusal, once: the middleware answers it where the handler did not.
func (v *Visit) takeRefusal() *Refusal {
	refused := v.refused
	v.refused = nil
	return refused
}

// answering turns an outage into a refusal, and leaves all other errors as they are.
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

// isOutage tells whether an error says nothing but that there is no answer in time.
func isOutage(err error) bool {
	return errors.Is(err, sessionauthority.ErrUnavailable) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (v *Visit) logOutage(ctx context.Context, err error) {
	if ctx.Err() == nil { // else the client has left
		v.flow.states.error("the Session Authority gives no answer, so a request that needs a"+
			" session gets 503; is the service running at the client's address, and is the client's"+
			" timeout long enough?", "error", err)
	}
}

// owns returns true if a Set-Cookie line of the app sets a cookie of the flow. Where an app has one
// middleware inside another, the inner one has left out what the app set, so its own lines are kept.
func (v *Visit) owns(line string) bool {
	if !v.flow.cookies.isSetBy(line) || v.inner != nil && v.inner.writes(line) {
		return false
	}
	v.flow.log.Warn("the app sets a cookie of its own with a name of the Session Authority's, so it"+
		" was left out; give one of them another name: Settings.Cookies",
		"name", line[:max(0, indexOrEnd(line, '='))])
	return true
}

// writes returns true if a Set-Cookie line sets a cookie that this visit, or one inside it, may set.
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
