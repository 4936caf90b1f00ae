package sessionhttp

import (
	"errors"
	"net/http"
)

// These errors are the reasons for a *Refusal. Use errors.Is to find the reason of a *Refusal.
var (
	// ErrSignInRequired means that the request needs a good session, and has none.
	ErrSignInRequired = errors.New("sessionhttp: a sign-in is required")
	// ErrStepUpRequired means that the request needs a more recent or a stronger sign-in than the
	// session has. The session of the request stays good. For a *Refusal with this reason,
	// errors.Is also finds ErrSignInRequired.
	ErrStepUpRequired = errors.New("sessionhttp: a more recent or a stronger sign-in is required")
	// ErrNoAnswer means that the request needs a session, but the Session Authority gave no answer
	// about the session.
	ErrNoAnswer = errors.New("sessionhttp: it is unknown whether the user is signed in")
	// ErrCrossOrigin means that a page of another origin sent the request, and that the request may
	// change something.
	ErrCrossOrigin = errors.New("sessionhttp: a page of another origin sent the request")
	// ErrReturnHop means that the browser comes from another site, and so sent no strict cookies.
	// The browser must send the request again, from a page of this origin.
	ErrReturnHop = errors.New("sessionhttp: the browser is to ask again from this origin")
	// ErrInsecureHost means that Cookies.Insecure is true, but the browser sent the request to a
	// host other than localhost.
	ErrInsecureHost = errors.New("sessionhttp: insecure cookies are for http://localhost only")
)

// Refusal is the error of a request that the middleware or a Visit refuses. A *Refusal is also an
// http.Handler, which sends Response to the client.
type Refusal struct {
	// Code is the reason in one word, such as "sign_in_required".
	Code string
	// Response is the response for the client.
	Response *Response
	// StepUp is the required sign-in if the reason is ErrStepUpRequired. StepUp is nil for all
	// reasons except ErrStepUpRequired.
	StepUp *StepUp

	kind, cause error
}

// Error returns the text of the reason.
func (r *Refusal) Error() string { return r.kind.Error() }

// Is reports whether target is the reason of the refusal, for errors.Is. ErrSignInRequired also
// matches the reason ErrStepUpRequired.
func (r *Refusal) Is(target error) bool {
	return target == r.kind || (r.kind == ErrStepUpRequired && target == ErrSignInRequired)
}

// Unwrap returns the error of the call of the Session Authority that led to the refusal. It returns
// nil if no failed call led to the refusal.
func (r *Refusal) Unwrap() error { return r.cause }

// ServeHTTP sends Response to the client.
func (r *Refusal) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.Response.ServeHTTP(w, req)
}

// Answer sends the response of err to the client and returns true if err is a *Refusal. If err is
// no *Refusal, Answer writes nothing and returns false.
func Answer(w http.ResponseWriter, r *http.Request, err error) bool {
	var refused *Refusal
	if !errors.As(err, &refused) {
		return false
	}
	refused.ServeHTTP(w, r)
	return true
}
