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

// conduct is the action after a verdict.
type conduct int

const (
	// The cookies stay: an old request in flight must not wipe a fresh sign-in.
	deny conduct = iota
	goOn
	// Renew the token, and follow the status of the renewal.
	renew
	// Deny, and delete the cookies.
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

// afterDenial returns the Set-Cookie headers of a response whose request has no good session.
func (f *Flow) afterDenial(p *presented, status sessionauthority.SessionStatus) []string {
	if conducts[status] == wipe && !p.app {
		return f.cookies.takeBack(true, p.brief != "")
	}
	return nil
}

// afterRenewal returns the Set-Cookie headers of a response to a renewal. Without a new token there
// are none: the browser keeps the cookies that it has.
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
// browser forgets the token when it is closed.
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
// device ID: else its next sign-in would look like a stranger's.
//
// A browser that did not send its strict cookies keeps its token: a form that another site sends
// here must not sign the end user out.
func (f *Flow) afterSignOut(p *presented) []string {
	if p.app || p.status == sessionauthority.StatusTokenMissing {
		return nil
	}
	return f.cookies.takeBack(false, p.brief != "")
}

// --- the answers of an app that needs a session --------------------------------------------------

// signInRequired returns the answer to a client that is not signed in: 401, or a redirect for a
// page. If an app must renew its token itself, the code says that. No client learns any other
// reason.
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

// stepUpRequired returns the answer to a session without the required sign-in: 401 by RFC 9470, or
// a redirect for a page. lack is what the session lacks.
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

// noAnswer returns the answer to an outage: 503. It says nothing of the session, so the client
// keeps its token and tries again.
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

// shown shortens a text for a log. Anybody may have written the text.
func shown(text string, bytes int) string {
	return strings.ToValidUTF8(text[:min(len(text), bytes)], "\uFFFD")
}
