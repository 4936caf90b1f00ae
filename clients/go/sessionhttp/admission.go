package sessionhttp

import (
	"context"
	"errors"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// A token is renewed at the end of a request only if the app has responded within this time. Else
// the next request renews the token. While a slow app works, another request may renew the token.
// Long after that renewal, the token of the slow request would look stolen. So this time is far
// less than the default of ALARM_AFTER, which is 5 minutes.
const renewWithin = 10 * time.Second

// ErrHeadersAreOut is returned if the cookies can't be changed any more, because the headers of the
// response were already sent.
var ErrHeadersAreOut = errors.New("sessionhttp: the response's headers are out")

// Visit is a request, with its session if it has one. Only one goroutine may use it at a time.
type Visit struct {
	flow      *Flow
	presented presented
	status    sessionauthority.SessionStatus
	// session is nil if nobody is signed in. Else it points to held, a copy that belongs to this
	// visit.
	session *sessionauthority.Session
	held    sessionauthority.Session
	failure error
	refused *Refusal

	renewRecommended bool
	renewUntil       time.Time
	// lines are the Set-Cookie headers of the response. hasLines is true if they are decided.
	lines    []string
	hasLines bool
	closed   bool
	looked   bool
	// hadSession is true if the request had a session when the app looked.
	hadSession bool
	handsOut   bool
	// ended is true if the browser's session ended with this request.
	ended bool
	end   sessionEnd
	// inner is the visit of a second middleware inside this one. The app sees that visit. It is nil
	// if there is no second middleware.
	inner *Visit
}

// Open reads a request and finds out whether its session is good. Open is for adapters: Middleware
// calls it. The error is a *Refusal if the request is refused without a call of the service. An
// outage is no error of Open: Session and Require return it.
//
// An adapter calls Close when it sends the headers of the response, and Leave when the connection
// is over.
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

// ask finds out whether the session is good. It renews a browser's token at once in two cases.
// First, the token has expired: only a renewal shows whether the session is good. Second, the token
// is superseded and the service recommends a renewal. There are two possible causes: someone has
// copied the token, or an app has sent a queued upload with an old token. A browser has no queued
// uploads, and sends its newest token with each request. So a superseded token of a browser counts
// as copied: ask renews the token, and the renewal makes the service raise the alarm.
//
// A passive request renews, too: else the page would mistake an expired token for the end of the
// session. This renewal does not count as a use, either.
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
// answer, it returns a *Refusal that is ErrNoAnswer: an outage must not look like a sign-out.
func (v *Visit) Session() (*sessionauthority.Session, error) {
	v.look()
	if v.failure != nil {
		return nil, v.refuse(v.flow.noAnswer(&v.presented, v.failure))
	}
	return v.session, nil
}

// look notes that the app uses the session: from now on its response depends on the session.
func (v *Visit) look() {
	v.looked = true
	v.hadSession = v.hadSession || v.session != nil
	v.end.look(v, v.session)
}

// Require returns the session of the user. It returns a *Refusal if nobody is signed in
// (ErrSignInRequired), if the service gave no answer (ErrNoAnswer), or if the sign-in does not meet
// the demands (ErrStepUpRequired); then the session stays good. If a handler writes nothing after a
// refusal, the middleware answers.
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

// UserID returns the ID of the user who is signed in. It is empty if nobody is signed in, and also
// if the service gave no answer: then the handler must answer by itself.
func (v *Visit) UserID() string {
	v.look()
	if v.failure != nil || v.session == nil {
		return ""
	}
	return v.session.UserID
}

// DeviceID returns the ID of the browser or app. It is empty before the first sign-in.
func (v *Visit) DeviceID() string {
	if v.session != nil {
		return v.session.DeviceID
	}
	return v.presented.deviceID
}

// Status returns the status of the request's token, for logs. It is StatusUnspecified while the
// status is unknown.
func (v *Visit) Status() sessionauthority.SessionStatus { return v.status }

// Remembered returns false if the session ends with the browser. Pass this value to a sign-in that
// replaces this session, such as a step-up: EndWithBrowser: !visit.Remembered().
func (v *Visit) Remembered() bool {
	return v.session == nil || v.presented.brief != v.session.SessionID
}

// TimeLeft returns how long the session lasts from now on if it is not used again. It returns false
// if nobody is signed in. The time is exact on a path of Settings.PassivePaths. At other paths a
// near cache may answer with an old idle end, which a use has put off since. Then the time is too
// short, and never too long.
func (v *Visit) TimeLeft() (time.Duration, bool, error) {
	session, err := v.Session()
	if err != nil || session == nil {
		return 0, false, err
	}
	return max(session.ExpireTime.Sub(v.flow.now()), 0), true, nil
}

// Close returns the Set-Cookie headers of the response. It renews the token first if the service
// recommended a renewal, or if the app changed the claims. It does not renew if this was more than
// 10 seconds ago, or if the visit has made other cookies for the response. Close is for adapters,
// which call it when they send the headers.
func (v *Visit) Close(ctx context.Context) []string {
	if v.closed {
		return v.lines
	}
	v.closed = true
	if !v.hasLines && v.flow.now().Before(v.renewUntil) {
		// If the renewal fails, the token is still good. The next request renews it.
		if _, err := v.renew(ctx); err != nil {
			v.flow.log.Info("a token was not renewed", "error", err)
		}
	}
	return v.lines
}

// Leave notes that the connection is over, so that the end of the session calls no listener of this
// visit. Leave is for adapters.
func (v *Visit) Leave() { v.end.leave() }

func (v *Visit) renewSoon() {
	if !v.presented.app {
		v.renewUntil = v.flow.now().Add(renewWithin)
	}
}

// renew renews the token, or joins a renewal of the same token. A passive renewal does not count as
// a use, so only passive requests share it.
func (v *Visit) renew(ctx context.Context) (*sessionauthority.Renewal, error) {
	p := &v.presented
	key := flightKey{p.token, p.deviceID, p.passive}
	// The call may outlive the wait of this request, and the handler may then change the headers of
	// the request. So the facts about the client are read before the call.
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

// takeRefusal returns the last refusal, but each refusal only once. If the handler did not answer
// it, the middleware does.
func (v *Visit) takeRefusal() *Refusal {
	refused := v.refused
	v.refused = nil
	return refused
}

// answering turns an outage into a refusal, and returns all other errors unchanged.
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

// isOutage reports whether an error says only that there was no answer in time.
func isOutage(err error) bool {
	return errors.Is(err, sessionauthority.ErrUnavailable) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (v *Visit) logOutage(ctx context.Context, err error) {
	if ctx.Err() == nil { // else the client has disconnected
		v.flow.states.error("the Session Authority gives no answer, so a request that needs a"+
			" session gets 503; is the service running at the client's address, and is the client's"+
			" timeout long enough?", "error", err)
	}
}

// owns reports whether a Set-Cookie header of the app sets a cookie of the flow. If one middleware
// is inside another, the inner middleware has already removed the app's headers of this kind. The
// remaining headers come from the inner visit, so owns returns false for them, and the outer
// middleware keeps them.
func (v *Visit) owns(line string) bool {
	if !v.flow.cookies.isSetBy(line) || v.inner != nil && v.inner.writes(line) {
		return false
	}
	v.flow.log.Warn("the app sets a cookie of its own with a name of the Session Authority's, so it"+
		" was left out; give one of them another name: Settings.Cookies",
		"name", line[:max(0, indexOrEnd(line, '='))])
	return true
}

// writes reports whether a Set-Cookie header sets a cookie that this visit, or a visit inside it,
// may set.
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
