// Package walk tests an example program. In the test a user signs in, looks at the devices, and is
// signed out.
package walk

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/session-authority/session-authority/clients/go/sessionauthoritytest"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

const patience = 20 * time.Second

// Through signs a user in and out at the app that newApp returns, and checks the responses.
func Through(t *testing.T, newApp func(*sessionhttp.Flow) http.Handler) {
	authority := sessionauthoritytest.New(t)
	flow, err := sessionhttp.NewFlow(authority.Client(), sessionhttp.Settings{
		SignInURL: "/sign-in",
		Devices:   &sessionhttp.DevicesPage{},
		Cookies:   sessionhttp.Cookies{Insecure: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	server := httptest.NewServer(newApp(flow))
	t.Cleanup(server.Close)
	jar, _ := cookiejar.New(nil)
	person := &person{t, server.URL, &http.Client{Jar: jar, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}}

	person.expect("GET", "/", 303, "")
	person.expect("GET", "/devices", 303, "")
	person.expect("GET", "/sign-in?next=/devices", 200, "Sign in")
	person.expect("POST", "/sign-in?next=/devices", 303, "")
	person.expect("GET", "/", 200, "ello ada")
	person.expect("GET", "/devices", 200, "<session-devices")
	person.expect("GET", "/devices/api/devices", 200, `"current":true`)
	authority.Stop()
	person.expect("GET", "/", 503, "try again")
	authority.Start()
	person.await("GET", "/", 200) // the client waits before it connects again
	person.expect("GET", "/", 200, "ello ada")
	authority.SignOut("ada")
	person.expect("GET", "/", 303, "")
}

// person is a user with a browser.
type person struct {
	t       *testing.T
	site    string
	browser *http.Client
}

func (p *person) expect(method, path string, status int, words string) {
	p.t.Helper()
	found, body := p.send(method, path)
	if found != status || !strings.Contains(body, words) {
		p.t.Errorf("%s %s: %d %.300s", method, path, found, body)
	}
}

func (p *person) await(method, path string, status int) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		found, _ := p.send(method, path)
		if found == status {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s %s: still %d", method, path, found)
		}
	}
}

func (p *person) send(method, path string) (int, string) {
	p.t.Helper()
	form := strings.NewReader(url.Values{"user": {"ada"}}.Encode())
	request, err := http.NewRequest(method, p.site+path, form)
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := p.browser.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
