package sessionhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/devices"
)

// --- the actions of the API ----------------------------------------------------------------------

func (d *devicesPage) list(
	ctx context.Context, visit *Visit, query map[string]string,
) (*Response, error) {
	found, err := visit.listDevices(ctx, true)
	if err != nil {
		return nil, err
	}
	listing, err := devices.List(found, visit.flow.now(), query["after"], query["alarm"])
	if err != nil {
		return nil, badRequest{code: "bad_request", field: "after"}
	}
	return told(http.StatusOK, listing.JSON(d.secureURL)), nil
}

func (d *devicesPage) rename(
	ctx context.Context, visit *Visit, req *http.Request, deviceID string,
) (*Response, error) {
	name, err := nameIn(req)
	if err != nil {
		return nil, err
	}
	named, err := deviceNamed(deviceID)
	if err != nil {
		return nil, err
	}
	device, err := visit.Rename(ctx, named, name)
	if err != nil {
		return nil, err
	}
	device.Current = device.DeviceID == visit.DeviceID()
	body := map[string]any{"device": devices.DeviceJSON(device, visit.flow.now())}
	return told(http.StatusOK, body), nil
}

// signOut signs the user out on a device. If the device is not in the user's list, signOut returns
// the error "unknown_device".
func (d *devicesPage) signOut(
	ctx context.Context, visit *Visit, deviceID string,
) (*Response, error) {
	named, err := deviceNamed(deviceID)
	if err != nil {
		return nil, err
	}
	isOut, err := visit.SignOut(ctx, SignOut{DeviceID: named})
	if err != nil {
		return nil, err
	}
	if !isOut {
		if err := checkListed(ctx, visit, named); err != nil {
			return nil, err
		}
	}
	return signedOut(count(isOut)), nil
}

// report signs the user out on a device that the user does not know, and removes the device from
// the user's list. If the device stayed in the list, a stranger's next sign-in on it would be a
// sign-in on a known device. Apps usually mail users only about sign-ins on new devices.
func (d *devicesPage) report(
	ctx context.Context, visit *Visit, deviceID string,
) (*Response, error) {
	named, err := deviceNamed(deviceID)
	if err != nil {
		return nil, err
	}
	// checkListed runs before the sign-out, because the sign-out removes the device from the list.
	if err := checkListed(ctx, visit, named); err != nil {
		return nil, err
	}
	isOut, err := visit.SignOut(ctx, SignOut{DeviceID: named, Reason: "not_me", Forget: true})
	if err != nil {
		return nil, err
	}
	var url any
	if d.secureURL != "" {
		url = d.secureURL
	}
	body := map[string]any{"signed_out": count(isOut), "secure_account_url": url}
	return told(http.StatusOK, body), nil
}

func checkListed(ctx context.Context, visit *Visit, deviceID string) error {
	found, err := visit.listDevices(ctx, true)
	if err != nil {
		return err
	}
	for index := range found {
		if found[index].DeviceID == deviceID {
			return nil
		}
	}
	return badRequest{code: "unknown_device"}
}

func count(isOut bool) int {
	if isOut {
		return 1
	}
	return 0
}

func signedOut(count int) *Response {
	return told(http.StatusOK, map[string]int{"signed_out": count})
}

// --- the responses of the API --------------------------------------------------------------------

// statusOf has the HTTP status of each error code of the API. The text of an error has the key
// "error.CODE" in devices.Texts.
var statusOf = map[string]int{
	"bad_request": 400, "name_too_long": 400, "signed_out": 401, "foreign_origin": 403,
	"unknown_device": 404, "not_found": 404, "method_not_allowed": 405, "too_large": 413,
	"unsupported_type": 415, "too_many_requests": 429, "misconfigured": 500, "unavailable": 503,
}

// failure describes an error of the page or of the API. code is the code of the error, and field is
// the name of the wrong field or empty. header has the response headers that belong to the error.
// instead is the redirect to the sign-in that a browser gets in place of an error page. instead is
// nil if there is no redirect.
type failure struct {
	code, field string
	header      []Header
	instead     *Response
}

var retryHeader = Header{"Retry-After", "1"}

// failureOf converts an error into a failure. err is a badRequest, a *Refusal, or the error of a
// call of the service.
func (v *Visit) failureOf(ctx context.Context, err error) failure {
	var bad badRequest
	var refused *Refusal
	switch {
	case errors.As(err, &bad):
		return failure{code: bad.code, field: bad.field}
	case errors.Is(err, ErrSignInRequired) && errors.As(err, &refused):
		made := failure{code: "signed_out"}
		if challenge := refused.Response.value("WWW-Authenticate"); challenge != "" {
			made.header = []Header{{"WWW-Authenticate", challenge}}
		}
		if refused.Response.Status == http.StatusSeeOther {
			made.instead = refused.Response
		}
		return made
	case errors.As(err, &refused):
		wait := refused.Response.value("Retry-After")
		return v.failureOfService(ctx, refused.cause, Header{"Retry-After", wait})
	case errors.Is(err, sessionauthority.ErrDeviceNotFound):
		return failure{code: "unknown_device"}
	case errors.Is(err, sessionauthority.ErrInvalidRequest):
		return brokenRule(err)
	}
	return v.failureOfService(ctx, err, retryHeader)
}

func (v *Visit) failureOfService(ctx context.Context, err error, retry Header) failure {
	made := failure{code: "unavailable", header: []Header{retry}}
	var failed *sessionauthority.Error
	isUnimplemented := errors.As(err, &failed) && failed.Code == codes.Unimplemented
	switch {
	case errors.Is(err, sessionauthority.ErrCallerUnknown),
		errors.Is(err, sessionauthority.ErrCallerNotAllowed), isUnimplemented:
		made = failure{code: "misconfigured"}
	case errors.Is(err, sessionauthority.ErrOverloaded):
		made.code = "too_many_requests"
	}
	if statusOf[made.code] >= 500 && ctx.Err() == nil {
		v.flow.states.error("the Session Authority refuses a call for a request", "error", err)
	}
	return made
}

func brokenRule(err error) failure {
	made := failure{code: "bad_request"}
	var failed *sessionauthority.Error
	errors.As(err, &failed)
	for _, rule := range failed.Violations {
		switch rule.Field {
		case "device_id":
			return failure{code: "unknown_device"}
		case "display_name":
			made.field = "name"
			limit := "at most " + strconv.Itoa(devices.MaxNameLength)
			if strings.Contains(rule.Description, limit) {
				made.code = "name_too_long"
			}
		}
	}
	return made
}

// failed returns the response for a failure. A request to the API gets JSON. For a path outside the
// API, the response is why.instead if it is not nil, and otherwise a page with the text of the
// error.
func (d *devicesPage) failed(r *Request, why failure) *Response {
	route := devices.RouteOf(d.path, r.Method, r.Target)
	if why.instead != nil && !route.IsAPI {
		return why.instead
	}
	var field any
	if why.field != "" {
		field = why.field
	}
	message := d.textsFor(r, "").Text("error." + why.code)
	if !route.IsAPI {
		page := devices.FailurePage(d.textsFor(r, ""), message)
		return pageFor(statusOf[why.code], page, why.header)
	}
	body := map[string]any{"error": map[string]any{
		"code": why.code, "message": message, "field": field,
	}}
	return told(statusOf[why.code], body, why.header...)
}

// told returns a response of the API that has value as JSON. header has more headers for the
// response.
func told(status int, value any, header ...Header) *Response {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // can't happen: each value can be written as JSON
	}
	return &Response{Status: status, Body: body, Header: append([]Header{
		{"Content-Type", "application/json"},
		{"Content-Length", strconv.Itoa(len(body))},
		{"X-Content-Type-Options", "nosniff"},
		{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
		noStore,
	}, header...)}
}
