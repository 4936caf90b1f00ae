// Command echo is an example app that uses Echo. It has a sign-in, a page for users who are signed
// in, and the page "My devices".
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"

	"github.com/labstack/echo/v5"

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
	app := echo.New()
	app.GET("/sign-in", func(c *echo.Context) error {
		pages.Show(c.Response(), http.StatusOK, pages.Page{})
		return nil
	})
	app.POST("/sign-in", func(c *echo.Context) error {
		ctx := c.Request().Context()
		visit := sessionhttp.FromContext(ctx) // first check the user's password here
		_, err := visit.SignIn(ctx, c.FormValue("user"), sessionhttp.SignIn{})
		if err != nil {
			return err
		}
		return c.Redirect(http.StatusSeeOther, visit.NextPath("/"))
	})
	app.GET("/", func(c *echo.Context) error {
		session, err := sessionhttp.FromContext(c.Request().Context()).Require()
		if err != nil {
			return err // the middleware replaces Echo's response 500
		}
		return c.String(http.StatusOK, "hello "+session.UserID+"\n")
	})
	return flow.Middleware(app)
}
