// Command gin is an example app that uses Gin. It has a sign-in, a page for users who are signed
// in, and the page "My devices".
package main

import (
	"cmp"
	"log"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"

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
	gin.SetMode(gin.ReleaseMode)
	app := gin.New()
	app.GET("/sign-in", func(c *gin.Context) {
		pages.Show(c.Writer, http.StatusOK, pages.Page{})
	})
	app.POST("/sign-in", func(c *gin.Context) {
		ctx := c.Request.Context()
		visit := sessionhttp.FromContext(ctx) // first check the user's password here
		_, err := visit.SignIn(ctx, c.PostForm("user"), sessionhttp.SignIn{})
		switch {
		case err == nil:
			c.Redirect(http.StatusSeeOther, visit.NextPath("/"))
		case !sessionhttp.Answer(c.Writer, c.Request, err):
			c.String(http.StatusBadRequest, "that did not work\n")
		}
	})
	// All routes of this group need a session.
	private := app.Group("/", func(c *gin.Context) {
		if _, err := sessionhttp.FromContext(c.Request.Context()).Require(); err != nil {
			sessionhttp.Answer(c.Writer, c.Request, err)
			c.Abort()
		}
	})
	private.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "hello %s\n", sessionhttp.FromContext(c.Request.Context()).UserID())
	})
	return flow.Middleware(app)
}
