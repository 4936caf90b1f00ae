// Command chi is an example app that uses chi. It has a sign-in, a page for users who are signed
// in, and the page "My devices".
package main

import (
	"cmp"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/examples/pages"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

func main() {
	authority, err := sessionauthority.NewClient(cmp.Or(os.Getenv("AUTHORITY"), "127.0.0.1:50051"))
	if err != nil {
		log.Fatal(err)
	}
	flow, err := sessionhttp.NewFlow(authority, sessionhttp.Settings{
		SignInURL: "/sign-in",
		Devices:   &sessionhttp.DevicesPage{},
		Cookies:   sessionhttp.Cookies{Insecure: true}, // for http://localhost
	})
	if err != nil {
		log.Fatal(err)
	}
	listen := cmp.Or(os.Getenv("LISTEN"), "localhost:8000")
	log.Fatal(http.ListenAndServe(listen, newApp(flow)))
}

func newApp(flow *sessionhttp.Flow) http.Handler {
	app := chi.NewRouter()
	app.Use(flow.Middleware)
	app.Get("/sign-in", func(w http.ResponseWriter, r *http.Request) {
		pages.Show(w, http.StatusOK, pages.Page{})
	})
	app.Post("/sign-in", func(w http.ResponseWriter, r *http.Request) {
		visit := sessionhttp.FromContext(r.Context()) // first check the user's password here
		_, err := visit.SignIn(r.Context(), r.PostFormValue("user"), sessionhttp.SignIn{})
		switch {
		case err == nil:
			http.Redirect(w, r, visit.NextPath("/"), http.StatusSeeOther)
		case !sessionhttp.Answer(w, r, err):
			http.Error(w, "that did not work", http.StatusBadRequest)
		}
	})
	// All routes of this group need a session.
	app.Group(func(app chi.Router) {
		app.Use(func(next http.Handler) http.Handler { return sessionhttp.Require(next) })
		app.Get("/", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s\n", sessionhttp.FromContext(r.Context()).UserID())
		})
	})
	return app
}
