package sessionhttp

import (
	"errors"
	"net/http"
)

// Why a request is refused, for errors.Is. A Refusal carries the whole response.
var (
	// ErrSignInRequired: the request needs a session that is good, and has none.
	ErrSignInRequired = errors.New("sessionhttp: a sign-in is required")
	// ErrStepUpRequired: the request needs a sign-in that is more recent or stronger. The session
	// that it has stays good. Such a refusal is an ErrSignInRequired, too.
	ErrStepUpRequired = errors.New("sessionhttp: a more recent or a stronger sign-in is required")
	// ErrNoAnswer: the request needs a session, and the Session Authority does not say whether
	// there is one.
	ErrNoAnswer = errors.New("sessionhttp: it is unknown whether the user is signed in")
	// ErrCrossOrigin: a page of another origin sent the request, and it may change something.
	ErrCrossOrigin = errors.New("sessionhttp: a page of another origin sent the request")
	// ErrReturnHop: a browser comes from another site, without its strict cookies. It is to ask
	// again, from a page of this origin.
	ErrReturnHop = errors.New("sessionhttp: the browser is to ask again from this origin")
	// ErrInsecureHost: the app has insecure cookies, and is not at http://localhost.
	ErrInsecureHost = errors.New("sessionhttp: insecure cookies are for http://localhost only")
)

// Refusal says that a request can't be served. It is an error, and it is the http.Handler that says
// so to the client.
type Refusal struct {
	// Code is the reason in one word, such as "sign_in_required".
	Code string
	// Response is the whole response.
	Response *Response
	// StepUp is what the sign-in must be, if that is the reason.
	StepUp *StepUp

	kind, cause error
}

// Error returns the reason.
func (r *Refusal) Error() string { return r.kind.Error() }

// Is makes errors.Is find the sentinels of this package.
func (r *Refusal) Is(target error) bool {
	return target == r.kind || (r.kind == ErrStepUpRequired && target == ErrSignInRequired)
}

// Unwrap returns the failed call of the Session Authority that led to the refusal, if there was
// one.
func (r *Refusal) Unwrap() error { return r.cause }

// ServeHTTP answers the request.
func (r *Refusal) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.Response.ServeHTTP(w, req)
}

// Answer answers a request with the refusal that an error is. It returns false, and writes nothing,
// if the error is none.
func Answer(w http.ResponseWriter, r *http.Request, err error) bool {
	var refused *Refusal
	if !errors.As(err, &refused) {
		return false
	}
	refused.ServeHTTP(w, r)
	return true
}
