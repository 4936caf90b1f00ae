package sessionhttp_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

func devicesSite(t *testing.T, page sessionhttp.DevicesPage) (laptop, phone *site) {
	settings := sessionhttp.Settings{SignInURL: "/sign-in", Devices: &page}
	laptop = newSite(t, settings, nil).signIn()
	other := *laptop
	other.browser = newBrowser()
	return laptop, other.signIn()
}

type listed struct {
	Devices []struct {
		ID       string
		Current  bool
		SignedIn bool `json:"signed_in"`
		Name     *string
	}
	SecureAccountURL *string `json:"secure_account_url"`
}

func (s *site) list() listed {
	s.t.Helper()
	status, body := s.send("GET", "/devices/api/devices", "")
	var found listed
	if err := json.Unmarshal([]byte(body), &found); err != nil || status != http.StatusOK {
		s.t.Fatal(status, body, err)
	}
	return found
}

func (s *site) post(path, body string) (int, string) {
	return s.send("POST", "/devices/api"+path, body, "Content-Type", "application/json",
		"Sec-Fetch-Site", "same-origin")
}

func TestTheAPIListsRenamesAndSignsOut(t *testing.T) {
	laptop, phone := devicesSite(t, sessionhttp.DevicesPage{SecureAccountURL: "/password"})
	found := phone.list()
	if len(found.Devices) != 2 || !found.Devices[0].Current || found.Devices[1].Current ||
		*found.SecureAccountURL != "/password?next=/devices" {
		t.Fatalf("%+v", found)
	}
	there := found.Devices[1].ID
	status, body := phone.post("/devices/"+there+"/rename", `{"name": "Ada's <laptop>"}`)
	if status != 200 || !strings.Contains(body, `"current":false`) {
		t.Error(status, body)
	}
	if name := phone.list().Devices[1].Name; name == nil || *name != "Ada's <laptop>" {
		t.Error(name)
	}
	if status, body = phone.post("/devices/"+there+"/sign-out", ""); body != `{"signed_out":1}` {
		t.Error(status, body)
	}
	if status, _ := laptop.send("GET", "/devices/api/devices", ""); status != 401 {
		t.Error("the laptop is still in", status)
	}
	laptop.signIn()
	if _, body = phone.post("/sign-out-others", "{}"); body != `{"signed_out":1}` {
		t.Error(body)
	}
	laptop.signIn()
	_, body = phone.post("/devices/"+there+"/not-me", "")
	if body != `{"secure_account_url":"/password?next=/devices","signed_out":1}` {
		t.Error(body)
	}
	if _, body = phone.post("/sign-out", ""); body != `{"signed_out":1}` {
		t.Error(body)
	}
	if status, _ := phone.send("GET", "/devices/api/devices", ""); status != 401 {
		t.Error(status)
	}
}

func TestTheAPIRefusesWithACodeAndAText(t *testing.T) {
	_, phone := devicesSite(t, sessionhttp.DevicesPage{})
	stranger := "/devices/11111111-1111-4111-8111-111111111111"
	here := "/devices/" + phone.list().Devices[0].ID
	for _, each := range []struct {
		method, path, body, kind string
		status                   int
		code                     string
	}{
		{"POST", stranger + "/rename", `{"name": "x"}`, "application/json", 404, "unknown_device"},
		{"POST", stranger + "/sign-out", "", "", 404, "unknown_device"},
		{"POST", stranger + "/not-me", "", "", 404, "unknown_device"},
		{"POST", "/devices/nonsense/sign-out", "", "", 404, "unknown_device"},
		{"POST", here + "/rename", `{"name": 5}`, "application/json", 400, "bad_request"},
		{"POST", here + "/rename", `{"name": "\ud800"}`, "application/json", 400, "bad_request"},
		{"POST", here + "/rename", `{`, "application/json", 400, "bad_request"},
		{"POST", here + "/rename", "name=x", "application/x-www-form-urlencoded", 415,
			"unsupported_type"},
		{"POST", here + "/rename", strings.Repeat("x", 9000), "application/json", 413, "too_large"},
		{"POST", "/sign-out-others", "a=b", "text/plain", 415, "unsupported_type"},
		{"GET", here + "/rename", "", "", 405, "method_not_allowed"},
		{"POST", "/devices", "", "", 405, "method_not_allowed"},
		{"GET", "/nothing", "", "", 404, "not_found"},
		{"GET", "/devices?after=x", "", "", 400, "bad_request"},
	} {
		var headers []string
		if each.kind != "" {
			headers = []string{"Content-Type", each.kind}
		}
		status, body := phone.send(each.method, "/devices/api"+each.path, each.body, headers...)
		var answer struct {
			Error struct{ Code, Message string }
		}
		err := json.Unmarshal([]byte(body), &answer)
		if err != nil || status != each.status || answer.Error.Code != each.code ||
			answer.Error.Message == "" {
			t.Errorf("%s %s %.40s: %d %s", each.method, each.path, each.body, status, body)
		}
	}
}

func TestAPostOfAnotherOriginIsRefusedEvenWithNoOriginCheck(t *testing.T) {
	page := sessionhttp.DevicesPage{}
	s := newSite(t, sessionhttp.Settings{NoOriginCheck: true, Devices: &page}, nil).signIn()
	status, body := s.send("POST", "/devices/api/sign-out-others", "", "Sec-Fetch-Site", "cross-site")
	if status != 403 || !strings.Contains(body, "foreign_origin") {
		t.Error(status, body)
	}
	if s.service.Calls("RevokeAll") != 0 {
		t.Error("it was done all the same")
	}
}

func TestTheAPIReportsOutagesAndRefusedCalls(t *testing.T) {
	_, phone := devicesSite(t, sessionhttp.DevicesPage{})
	for _, each := range []struct {
		err    error
		status int
		code   string
	}{
		{sessionauthority.ErrUnavailable, 503, "unavailable"},
		{sessionauthority.ErrCallerNotAllowed, 500, "misconfigured"},
		{sessionauthority.ErrOverloaded, 429, "too_many_requests"},
	} {
		phone.service.Fail(each.err)
		status, body := phone.send("GET", "/devices/api/devices", "")
		if status != each.status || !strings.Contains(body, each.code) {
			t.Error(each.err, status, body)
		}
	}
	if status, _ := phone.send("GET", "/devices/static/session-devices.js", ""); status != 200 {
		t.Error("the element waits for the service", status)
	}
}

func TestThePageHasTheElementAndLeadsToTheSignIn(t *testing.T) {
	_, phone := devicesSite(t, sessionhttp.DevicesPage{})
	response := phone.open("GET", "/devices?alarm=%22%3E", "", "Accept", "text/html")
	policy := response.Header.Get("Content-Security-Policy")
	if response.StatusCode != 200 || !strings.Contains(policy, "script-src 'self'") ||
		response.Header.Get("Cache-Control") != "no-store" {
		t.Error(response.StatusCode, response.Header)
	}
	failure := phone.open("GET", "/devices/none", "", "Accept", "text/html")
	if failure.StatusCode != 404 || failure.Header.Get("Content-Security-Policy") != policy {
		t.Error(failure.StatusCode, failure.Header)
	}
	_, body := phone.send("GET", "/devices?alarm=%22%3E", "", "Accept", "text/html",
		"Accept-Language", "de")
	if !strings.Contains(body, `alarm="&#34;&gt;"`) || !strings.Contains(body, `lang="de"`) {
		t.Error(body)
	}
	phone.browser = newBrowser()
	response = phone.open("GET", "/devices?alarm=x", "", "Accept", "text/html")
	if response.Header.Get("Location") != "/sign-in?next=/devices%3Falarm%3Dx" {
		t.Error(response.StatusCode, response.Header)
	}
}

// The OpenAPI description names each path and status. The routes must be the same.
func TestTheDescriptionNamesEachRoute(t *testing.T) {
	_, phone := devicesSite(t, sessionhttp.DevicesPage{})
	_, body := phone.send("GET", "/devices/api/openapi.json", "")
	var document struct {
		Servers []struct{ URL string }
		Paths   map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	if document.Servers[0].URL != "/devices" || len(document.Paths) < 7 {
		t.Error(document.Servers, len(document.Paths))
	}
	for path, methods := range document.Paths {
		for method, described := range methods {
			there := strings.ReplaceAll(path, "{id}", "11111111-1111-4111-8111-111111111111")
			status, answer := phone.send(strings.ToUpper(method), "/devices"+there, "")
			known := []int{}
			for code := range described.Responses {
				var number int
				_ = json.Unmarshal([]byte(code), &number)
				known = append(known, number)
			}
			if !slices.Contains(known, status) || strings.Contains(answer, `"code":"not_found"`) {
				t.Errorf("%s %s: %d %.80s", method, path, status, answer)
			}
			if strings.HasSuffix(path, "/sign-out") {
				phone.signIn()
			}
		}
	}
}

func TestWrongSettingsOfThePageAreRefused(t *testing.T) {
	for _, page := range []sessionhttp.DevicesPage{
		{Path: "devices"}, {Path: "/devices/"}, {Path: "/a/../b"}, {Path: "/a b"},
		{SecureAccountURL: "//elsewhere"}, {SecureAccountURL: "http://plain.example"},
	} {
		_, err := sessionhttp.NewFlow(&never{}, sessionhttp.Settings{Devices: &page})
		if err == nil {
			t.Errorf("%+v", page)
		}
	}
}

type never struct{ sessionhttp.Authority }
