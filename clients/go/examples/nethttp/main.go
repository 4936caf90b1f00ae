// Command nethttp is an example app that uses net/http. It has a sign-in, a first page for users
// who are signed in, a page that requires a recent sign-in, and the page "My devices".
package main

import (
	"cmp"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/examples/pages"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

func main() {
	// A service in production accepts only known callers. The environment variables AUTHORITY_CERT
	// and AUTHORITY_KEY, or AUTHORITY_TOKEN_FILE, name the files with the client's credentials.
	// AUTHORITY_CA names the file with the certificate of the service's CA.
	options, err := sessionauthority.OptionsFromEnvironment()
	if err != nil {
		log.Fatal(err)
	}
	// This timeout is longer than the default, because users would rather wait for a page than read
	// an error about an outage.
	options = append(options, sessionauthority.WithTimeout(5*time.Second))
	address := cmp.Or(os.Getenv("AUTHORITY"), "127.0.0.1:50051")
	authority, err := sessionauthority.NewClient(address, options...)
	if err != nil {
		log.Fatal(err)
	}
	flow, err := sessionhttp.NewFlow(authority, sessionhttp.Settings{
		SignInURL: "/sign-in",
		Devices:   &sessionhttp.DevicesPage{Path: "/devices", SecureAccountURL: "/password"},
		// Remove Cookies when you serve over HTTPS. Insecure cookies are only for http://localhost:
		// the middleware refuses requests of browsers to other hosts.
		Cookies: sessionhttp.Cookies{Insecure: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	listen := cmp.Or(os.Getenv("LISTEN"), "localhost:8000")
	log.Fatal(http.ListenAndServe(listen, newApp(flow)))
}

func newApp(flow *sessionhttp.Flow) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", firstPage)
	mux.HandleFunc("GET /sign-in", askToSignIn)
	mux.HandleFunc("POST /sign-in", signIn)
	mux.HandleFunc("POST /sign-out", signOut)
	recent := sessionhttp.MaxAge(5 * time.Minute)
	mux.Handle("GET /password", sessionhttp.Require(http.HandlerFunc(askForPassword), recent))
	mux.Handle("POST /password", sessionhttp.Require(http.HandlerFunc(changePassword), recent))
	return flow.Middleware(mux)
}

// firstPage shows the first page to a user who is signed in.
func firstPage(w http.ResponseWriter, r *http.Request) {
	session, err := sessionhttp.FromContext(r.Context()).Require()
	if err != nil {
		return // the middleware sends the response
	}
	isChanged := r.URL.Query().Get("done") == "password"
	pages.Show(w, http.StatusOK, pages.Page{User: session.UserID, IsChanged: isChanged})
}

// askToSignIn shows the sign-in form. A page that requires a recent sign-in also redirects
// signed-in users to this form.
func askToSignIn(w http.ResponseWriter, r *http.Request) {
	visit := sessionhttp.FromContext(r.Context())
	isAgain := visit.RequestedStepUp() != nil && visit.UserID() != ""
	pages.Show(w, http.StatusOK, pages.Page{Name: visit.UserID(), Again: isAgain})
}

// signIn signs in the user whom the form names.
func signIn(w http.ResponseWriter, r *http.Request) {
	visit, user := sessionhttp.FromContext(r.Context()), r.PostFormValue("user")
	// Check here who the user is, by a password, a passkey or OpenID Connect. This demo accepts
	// every name without a proof.
	_, err := visit.SignIn(r.Context(), user, sessionhttp.SignIn{
		RequestID: r.PostFormValue("request_id"),
	})
	isUsed := errors.Is(err, sessionauthority.ErrRequestIDReused) ||
		errors.Is(err, sessionauthority.ErrRequestIDSpent) // the form was sent a second time
	switch {
	case err == nil || isUsed:
		http.Redirect(w, r, visit.NextPath("/"), http.StatusSeeOther)
	case errors.Is(err, sessionauthority.ErrInvalidRequest): // the name is empty or much too long
		page := pages.Page{Name: user, Problem: "can't be that of a user"}
		pages.Show(w, http.StatusBadRequest, page)
	case !sessionhttp.Answer(w, r, err):
		log.Print(err)
		http.Error(w, "that did not work", http.StatusInternalServerError)
	}
}

func signOut(w http.ResponseWriter, r *http.Request) {
	visit := sessionhttp.FromContext(r.Context())
	if _, err := visit.SignOut(r.Context(), sessionhttp.SignOut{}); err != nil {
		log.Print(err)
		http.Error(w, "that did not work", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

func askForPassword(w http.ResponseWriter, r *http.Request) {
	user := sessionhttp.FromContext(r.Context()).UserID()
	pages.Show(w, http.StatusOK, pages.Page{User: user, IsChanging: true})
}

func changePassword(w http.ResponseWriter, r *http.Request) {
	// Change the password here.
	next := sessionhttp.FromContext(r.Context()).NextPath("/?done=password")
	http.Redirect(w, r, next, http.StatusSeeOther)
}
