package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// conduct is what the middleware does after the service has returned the status of a token.
type conduct int

const (
	// deny treats the client as not signed in, and leaves its cookies. If the late response to an
	// old request deleted the cookies, the browser could lose the cookies of a newer sign-in.
	deny conduct = iota
	goOn
	// renew renews the token, and then acts on the status of the renewal.
	renew
	// wipe treats the client as not signed in, and deletes its cookies.
	wipe
)

var conducts = map[sessionauthority.SessionStatus]conduct{
	sessionauthority.StatusUnspecified:    deny,
	sessionauthority.StatusActive:         goOn,
	sessionauthority.StatusTokenMissing:   deny,
	sessionauthority.StatusTokenInvalid:   deny,
	sessionauthority.StatusTokenExpired:   renew,
	sessionauthority.StatusNoSession:      deny,
	sessionauthority.StatusSessionExpired: deny,
	sessionauthority.StatusSuperseded:     deny,
	sessionauthority.StatusReplayed:       wipe,
	sessionauthority.StatusSessionEnded:   deny,
	sessionauthority.StatusWrongDevice:    deny,
}

const (
	shortestRetryAfter = time.Second
	longestRetryAfter  = time.Minute
)

// --- the cookies of the response -----------------------------------------------------------------

// afterDenial returns the Set-Cookie headers of the response to a request without a good session.
// It returns none if the browser keeps its cookies.
func (f *Flow) afterDenial(p *presented, status sessionauthority.SessionStatus) []string {
	if conducts[status] == wipe && !p.app {
		return f.cookies.takeBack(true, p.brief != "")
	}
	return nil
}

// afterRenewal returns the Set-Cookie headers of a response to a renewal. If the renewal made no
// new token, afterRenewal returns none, and the browser keeps its cookies. If the renewal found no
// good session, afterRenewal returns the headers of afterDenial.
func (f *Flow) afterRenewal(
	p *presented, renewal *sessionauthority.Renewal, now time.Time,
) ([]string, error) {
	session := &renewal.Session
	if !renewal.Active() {
		return f.afterDenial(p, renewal.Status), nil
	}
	if p.app || renewal.AccessToken == "" {
		return nil, nil
	}
	end := session.AbsoluteExpireTime
	if end.IsZero() {
		end = session.ExpireTime
	}
	brief := ""
	if p.brief == session.SessionID {
		brief = session.SessionID
	}
	return f.cookies.handOut(renewal.AccessToken, session.DeviceID, end, now, brief)
}

// afterSignIn returns the Set-Cookie headers of a response to a sign-in. If brief is true, the
// browser deletes the token when the user closes the browser.
func (f *Flow) afterSignIn(
	p *presented, issued *sessionauthority.IssuedDevice, now time.Time, brief bool,
) ([]string, error) {
	if p.app {
		return nil, nil
	}
	end := issued.Device.AbsoluteExpireTime
	if end.IsZero() {
		end = issued.Device.ExpireTime
	}
	if end.IsZero() {
		end = issued.TokenExpireTime
	}
	mark := ""
	if brief {
		mark = issued.Device.SessionID
	}
	return f.cookies.handOut(issued.AccessToken, issued.Device.DeviceID, end, now, mark)
}

// afterSignOut returns the Set-Cookie headers of a response to a sign-out. The browser keeps its
// device ID. Without the device ID, the next sign-in would count as a sign-in on a new device.
//
// If the request has no token, afterSignOut returns no headers, and the browser keeps its token. A
// request without a token may be a form that another site sends here, without the browser's strict
// cookies. A form of another site must not sign the end user out.
func (f *Flow) afterSignOut(p *presented) []string {
	if p.app || p.status == sessionauthority.StatusTokenMissing {
		return nil
	}
	return f.cookies.takeBack(false, p.brief != "")
}

// --- the answers of an app that needs a session --------------------------------------------------

// signInRequired returns the refusal for a client that is not signed in. If a browser requests a
// page, and the app has a SignInURL, the response is a redirect. If there is no SignInURL, or the
// client does not request a page, the response is 401. The code is "token_expired" if the client
// must renew its token itself, and otherwise "sign_in_required". The client does not learn a more
// exact reason, such as a revocation.
func (f *Flow) signInRequired(
	p *presented, status sessionauthority.SessionStatus, renewRecommended bool,
) *Refusal {
	if f.settings.SignInURL != "" && p.page {
		url := requests.WithNext(f.settings.SignInURL, p.wayBack())
		return &Refusal{Code: codeSignIn, Response: redirect(url), kind: ErrSignInRequired}
	}
	code := codeSignIn
	if renewRecommended || conducts[status] == renew {
		code = codeExpired
	}
	answer := refusal(http.StatusUnauthorized, code, false, "", nil,
		Header{"WWW-Authenticate", "Bearer"})
	return &Refusal{Code: code, Response: answer, kind: ErrSignInRequired}
}

// stepUpRequired returns the refusal for a session with a sign-in that does not meet the demands.
// If a browser requests a page, and the app has a SignInURL, the response is a redirect. If there
// is no SignInURL, or the client does not request a page, the response is 401, as in RFC 9470. lack
// is the result of StepUp.lackOf.
func (f *Flow) stepUpRequired(p *presented, wanted *StepUp, lack string) *Refusal {
	refused := &Refusal{Code: codeStepUp, StepUp: wanted, kind: ErrStepUpRequired}
	if f.settings.SignInURL != "" && p.page {
		url := requests.WithNext(f.settings.SignInURL, p.wayBack())
		refused.Response = redirect(requests.WithQuery(url, wanted.query()))
		return refused
	}
	challenge := fmt.Sprintf(`Bearer error="%s", error_description="%s"`, codeStepUp, lack)
	var more []member
	if seconds, has := wanted.seconds(); has {
		challenge += fmt.Sprintf(`, max_age="%d"`, seconds)
		more = append(more, member{"max_age", seconds})
	}
	if len(wanted.AuthMethods) > 0 {
		more = append(more, member{"auth_methods", wanted.AuthMethods})
	}
	refused.Response = refusal(http.StatusUnauthorized, codeStepUp, false, "", more,
		Header{"WWW-Authenticate", challenge})
	return refused
}

// noAnswer returns the refusal for an outage: 503 with Retry-After. The response does not say that
// the session has ended, so the client keeps its token and can try again.
func (f *Flow) noAnswer(p *presented, cause error) *Refusal {
	wait := shortestRetryAfter
	var failed *sessionauthority.Error
	if errors.As(cause, &failed) && failed.RetryAfter != nil {
		wait = min(max(*failed.RetryAfter, shortestRetryAfter), longestRetryAfter)
	}
	seconds := int64((wait + time.Second - 1) / time.Second)
	name := codeUnavailable
	if !p.repeatable {
		name = textUnavailableForForm
	}
	answer := refusal(http.StatusServiceUnavailable, codeUnavailable, p.page, name, nil,
		Header{"Retry-After", strconv.FormatInt(seconds, 10)})
	return &Refusal{Code: codeUnavailable, Response: answer, kind: ErrNoAnswer, cause: cause}
}

func (f *Flow) crossOrigin(p *presented, mounted bool) *Refusal {
	r := p.request
	f.log.Info("refused a request that a page of another origin sent; if it may, name its origin"+
		" in Settings.TrustedOrigins", "method", shown(r.Method, 20),
		"origin", shown(strings.Join(r.Header["Origin"], ", "), 200),
		"sec_fetch_site", shown(strings.Join(r.Header["Sec-Fetch-Site"], ", "), 100),
		"host", shown(r.HostText(), 200))
	refused := &Refusal{Code: codeForeign, kind: ErrCrossOrigin}
	if mounted {
		refused.Response = f.devices.failed(r, failure{code: "foreign_origin"})
	} else {
		refused.Response = refusal(http.StatusForbidden, codeForeign, p.page, codeForeign, nil)
	}
	return refused
}

func (f *Flow) insecureHost(p *presented) *Refusal {
	f.states.error("refused a request: insecure cookies are for http://localhost only; open the"+
		" app there, or serve it over HTTPS without Cookies{Insecure: true}",
		"host", shown(p.request.HostText(), 200))
	answer := refusal(http.StatusBadRequest, codeInsecure, p.page, codeInsecure,
		[]member{{"message", insecureMessage}})
	return &Refusal{Code: codeInsecure, Response: answer, kind: ErrInsecureHost}
}

// shown returns the start of a text for a log, at most this many bytes, as valid UTF-8. Any client
// may have written the text.
func shown(text string, bytes int) string {
	return strings.ToValidUTF8(text[:min(len(text), bytes)], "\uFFFD")
}
