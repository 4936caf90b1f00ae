package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/session-authority/session-authority/clients/go/examples/walk"
	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

func TestAUserSignsInSeesTheDevicesAndSignsOut(t *testing.T) { walk.Through(t, newApp) }

func TestGinStreamsAndLeavesRefusalsToTheMiddleware(t *testing.T) {
	authority := sessionauthoritytest.New(t)
	flow, err := sessionhttp.NewFlow(authority.Client(), sessionhttp.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	gin.SetMode(gin.ReleaseMode)
	app := gin.New()
	app.GET("/stream", func(c *gin.Context) {
		parts := 0
		c.Stream(func(io.Writer) bool {
			parts++
			c.SSEvent("", "hello")
			return parts < 2
		})
	})
	app.GET("/private", func(c *gin.Context) {
		_, _ = sessionhttp.FromContext(c.Request.Context()).Require()
	})
	server := httptest.NewServer(flow.Middleware(app))
	t.Cleanup(server.Close)
	for path, wanted := range map[string]struct {
		status int
		body   string
	}{
		"/stream":  {200, "data:hello\n\ndata:hello\n\n"},
		"/private": {401, `{"error": "sign_in_required"}`},
	} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != wanted.status || string(body) != wanted.body || err != nil {
			t.Errorf("%s: %d %q %v", path, response.StatusCode, body, err)
		}
	}
}
