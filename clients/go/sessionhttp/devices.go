package sessionhttp

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/session-authority/session-authority/clients/go/internal/devices"
	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

const (
	// maxBodyBytes is the maximum length of the body of a request to the API. The longest body
	// renames a device, and a name has at most 100 characters.
	maxBodyBytes = 8192
	maxFields    = 20
)

// DevicesPage has the settings of the page that lists a user's devices, and of the API of this
// page. The middleware serves the page at Path and the API below Path, so the app needs no routes
// for the page and the API. The page contains the custom element <session-devices>, which lists the
// devices, renames them, and signs them out. The custom element calls only the API of the page.
type DevicesPage struct {
	// Path is the path of the page. Empty means "/devices". The API is below Path: "/devices/api".
	// Path is the path that browsers see. If the app is mounted below a prefix, Path includes this
	// prefix.
	Path string
	// SecureAccountURL is the app's own page for choosing a new password: a path or an https URL.
	// The page of devices offers a link to SecureAccountURL to a user who says "That wasn't me". If
	// SecureAccountURL is a path, the middleware adds the field "next" to its query. "next" is the
	// path of the page of devices. Empty means that the app has no page for choosing a new
	// password.
	SecureAccountURL string
	// Language returns the language of the page's texts, such as "de", for example from a cookie of
	// the app. header has the headers of the request. If Language is nil or returns an empty text,
	// the header Accept-Language decides.
	Language func(header http.Header) string
}

type devicesPage struct {
	path      string
	secureURL string
	language  func(http.Header) string
}

var mountForm = regexp.MustCompile(`^(?:/[A-Za-z0-9._~-]+)+$`)

func newDevicesPage(page DevicesPage) (*devicesPage, error) {
	made := &devicesPage{path: or(page.Path, "/devices"), language: page.Language}
	if !mountForm.MatchString(made.path) {
		return nil, errors.New(`the Path must have no slash at its end, like "/devices"`)
	}
	for _, segment := range strings.Split(made.path, "/")[1:] {
		if strings.Trim(segment, ".") == "" {
			return nil, errors.New("the Path must name one path of this app")
		}
	}
	url := page.SecureAccountURL
	if url != "" {
		isURL := strings.HasPrefix(url, "https://") && len(url) > len("https://") &&
			printable.MatchString(url)
		if !isURL && requests.LocalPath(url, "") == "" {
			return nil, errors.New("SecureAccountURL: must be a path of the app, or an https URL")
		}
		made.secureURL = requests.WithNext(url, made.path)
	}
	return made, nil
}

// serves reports whether the path of a request is the path of the page, or is below it.
func (d *devicesPage) serves(target string) bool {
	path := requests.Path(target)
	return path == d.path || strings.HasPrefix(path, d.path+"/")
}

// public returns the response to a request for the script of the page, for the description of the
// API, or for the texts. A request of this kind needs no session. If a request needs a session,
// public returns nil. public does not call the service, because the page needs its script and its
// texts to report an outage of the service.
func (d *devicesPage) public(r *Request) *Response {
	route := devices.RouteOf(d.path, r.Method, r.Target)
	if !route.Action.IsPublic() {
		return nil
	}
	query, ok := queryOf(r.Target)
	if !ok {
		return d.failed(r, failure{code: "bad_request"})
	}
	switch route.Action {
	case devices.ServeElement:
		kept := "no-cache"
		if query["v"] == devices.ElementVersion() {
			kept = "public, max-age=31536000, immutable"
		}
		return &Response{Status: http.StatusOK, Body: devices.Element, Header: []Header{
			{"Content-Type", "text/javascript; charset=utf-8"},
			{"Content-Length", strconv.Itoa(len(devices.Element))},
			{"X-Content-Type-Options", "nosniff"},
			{"Cross-Origin-Resource-Policy", "same-origin"},
			{"Cache-Control", kept},
		}}
	case devices.DescribeAPI:
		document, err := devices.Description(d.path)
		if err != nil {
			panic(err) // can't happen: the document is embedded in the program
		}
		return told(http.StatusOK, json.RawMessage(document))
	}
	return told(http.StatusOK, d.textsFor(r, query["language"]))
}

// serve returns the response to a request for the page itself, for a part of the API that needs a
// session, or for an unknown path.
func (d *devicesPage) serve(visit *Visit, req *http.Request, r *Request) *Response {
	route := devices.RouteOf(d.path, r.Method, r.Target)
	if route.Action == devices.NoAction {
		if route.Allow == "" {
			return d.failed(r, failure{code: "not_found"})
		}
		return d.failed(r, failure{code: "method_not_allowed", header: []Header{
			{"Allow", route.Allow},
		}})
	}
	answered, err := d.act(visit, req, r, route)
	if err != nil {
		visit.takeRefusal() // d.failed answers in place of the refusal
		return d.failed(r, visit.failureOf(req.Context(), err))
	}
	return answered
}

func (d *devicesPage) act(
	visit *Visit, req *http.Request, r *Request, route devices.Route,
) (*Response, error) {
	if _, err := visit.Require(); err != nil {
		return nil, err
	}
	query, ok := queryOf(r.Target)
	if !ok {
		return nil, badRequest{code: "bad_request"}
	}
	ctx := req.Context()
	switch route.Action {
	case devices.ShowPage:
		return d.page(r, query["alarm"]), nil
	case devices.ListDevices:
		return d.list(ctx, visit, query)
	case devices.RenameDevice:
		return d.rename(ctx, visit, req, route.DeviceID)
	}
	if _, err := readJSON(req); err != nil {
		return nil, err
	}
	switch route.Action {
	case devices.SignOutDevice:
		return d.signOut(ctx, visit, route.DeviceID)
	case devices.ReportDevice:
		return d.report(ctx, visit, route.DeviceID)
	case devices.SignOutOthers:
		count, err := visit.SignOutOthers(ctx)
		return signedOut(count), err
	default: // devices.SignOutHere
		isOut, err := visit.SignOut(ctx, SignOut{})
		return signedOut(count(isOut)), err
	}
}

func (d *devicesPage) page(r *Request, alarm string) *Response {
	return pageFor(http.StatusOK, devices.Page(d.path, d.textsFor(r, ""), alarm), nil)
}

// pageFor returns a response with a page for a person. more has more headers for the response.
func pageFor(status int, page string, more []Header) *Response {
	return made(status, "text/html; charset=utf-8", page, append([]Header{
		{"Content-Security-Policy", devices.PagePolicy()},
		{"X-Content-Type-Options", "nosniff"},
		{"Referrer-Policy", "same-origin"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
	}, more...))
}

// textsFor returns the texts in the language of a request. asked is the language that the query of
// the request names, or empty. textsFor prefers asked to the language that the app chooses and to
// Accept-Language.
func (d *devicesPage) textsFor(r *Request, asked string) *devices.Texts {
	choice := ""
	if d.language != nil {
		choice = d.language(r.Header)
	}
	var wanted []string
	for _, language := range []string{asked, choice} {
		if language != "" {
			wanted = append(wanted, language)
		}
	}
	if choice == "" {
		wanted = append(wanted, devices.Accepted(r.Header["Accept-Language"])...)
	}
	return devices.TextsFor(wanted)
}

// --- the contents of a request -------------------------------------------------------------------

// badRequest is the error for a wrong request to the API. code is the code of the error. field is
// the name of the wrong field, or empty.
type badRequest struct{ code, field string }

func (b badRequest) Error() string { return b.code }

// queryOf returns the fields in the query of a target, by name. If two fields have the same name,
// the result has the value of the last of the two fields. The second result is false if there are
// too many fields, or if a value is not valid UTF-8.
func queryOf(target string) (map[string]string, bool) {
	fields, ok := requests.Fields(requests.Query(target), maxFields, true)
	made := map[string]string{}
	for _, field := range fields {
		ok = ok && !strings.ContainsRune(field.Value, utf8.RuneError)
		made[field.Name] = field.Value
	}
	return made, ok
}

// readJSON returns the body of a request. It returns a badRequest if the content type is not
// application/json, or if the body is too large or incomplete. A request without a body needs no
// content type.
func readJSON(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	kind, _, _ := strings.Cut(strings.Join(r.Header["Content-Type"], ""), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case (len(body) > 0 || kind != "") && kind != "application/json":
		return nil, badRequest{code: "unsupported_type"}
	case len(body) > maxBodyBytes:
		return nil, badRequest{code: "too_large"}
	case err != nil: // the body is incomplete
		return nil, badRequest{code: "bad_request"}
	}
	return body, nil
}

// nameIn returns the text "name" in the JSON object of a request's body.
func nameIn(r *http.Request) (string, error) {
	body, err := readJSON(r)
	if err != nil {
		return "", err
	}
	var sent map[string]any
	if !utf8.Valid(body) || json.Unmarshal(body, &sent) != nil {
		return "", badRequest{code: "bad_request"}
	}
	name, isText := sent["name"].(string)
	if !isText || strings.ContainsRune(name, utf8.RuneError) { // RuneError: a lone surrogate
		return "", badRequest{code: "bad_request", field: "name"}
	}
	return name, nil
}

// deviceNamed returns the device ID in a path, in lower case and with hyphens. It returns the error
// "unknown_device" if the text is no device ID.
func deviceNamed(text string) (string, error) {
	named := requests.DeviceID(text)
	if named == "" {
		return "", badRequest{code: "unknown_device"}
	}
	return named, nil
}
