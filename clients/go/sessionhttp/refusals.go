package sessionhttp

import (
	"errors"
	"net/http"
)

// These are the reasons for a refusal, for errors.Is. A Refusal carries the whole response.
var (
	// ErrSignInRequired means that the request needs a good session, and has none.
	ErrSignInRequired = errors.New("sessionhttp: a sign-in is required")
	// ErrStepUpRequired means that the request needs a sign-in that is more recent or stronger. The
	// session of the request stays good. errors.Is finds ErrSignInRequired in such a refusal, too.
	ErrStepUpRequired = errors.New("sessionhttp: a more recent or a stronger sign-in is required")
	// ErrNoAnswer means that the request needs a session, and the Session Authority gives no answer
	// about it.
	ErrNoAnswer = errors.New("sessionhttp: it is unknown whether the user is signed in")
	// ErrCrossOrigin means that a page of another origin sent the request, and that the request may
	// change something.
	ErrCrossOrigin = errors.New("sessionhttp: a page of another origin sent the request")
	// ErrReturnHop means that a browser comes from another site, without its strict cookies. It
	// must send the request again, from a page of this origin.
	ErrReturnHop = errors.New("sessionhttp: the browser is to ask again from this origin")
	// ErrInsecureHost means that the app has insecure cookies, and is not at http://localhost.
	ErrInsecureHost = errors.New("sessionhttp: insecure cookies are for http://localhost only")
)

// Refusal is the error of a request that can't be served. It is also an http.Handler, which sends
// the response to the client.
type Refusal struct {
	// Code is the reason in one word, such as "sign_in_required".
	Code string
	// Response is the whole response.
	Response *Response
	// StepUp is the required sign-in if the refusal is ErrStepUpRequired. Else it is nil.
	StepUp *StepUp

	kind, cause error
}

// Error returns the reason as a text.
func (r *Refusal) Error() string { return r.kind.Error() }

// Is lets errors.Is find the errors of this package.
func (r *Refusal) Is(target error) bool {
	return target == r.kind || (r.kind == ErrStepUpRequired && target == ErrSignInRequired)
}

// Unwrap returns the failed call of the Session Authority that led to the refusal, if there was
// one.
func (r *Refusal) Unwrap() error { return r.cause }

// ServeHTTP sends the response to the client.
func (r *Refusal) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.Response.ServeHTTP(w, req)
}

// Answer answers a request if the error is a *Refusal. Else it writes nothing and returns false.
func Answer(w http.ResponseWriter, r *http.Request, err error) bool {
	var refused *Refusal
	if !errors.As(err, &refused) {
		return false
	}
	refused.ServeHTTP(w, r)
	return true
}
