package devices

import (
	"slices"
	"strings"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// Action says what a request to the page of devices or to its API should do.
type Action int

// These are all actions. NoAction means that the path is unknown, or that the path does not accept
// the request's method.
const (
	NoAction Action = iota
	ShowPage
	ServeElement
	DescribeAPI
	TellTexts
	ListDevices
	RenameDevice
	SignOutDevice
	ReportDevice
	SignOutOthers
	SignOutHere
)

// IsPublic reports whether the action needs no session.
func (a Action) IsPublic() bool {
	return a == ServeElement || a == DescribeAPI || a == TellTexts
}

const named = "*"

var routes = []struct {
	path   []string // below the mount; "*" stands for a device ID
	method string
	action Action
}{
	{nil, "GET", ShowPage},
	{[]string{"static", ElementName}, "GET", ServeElement},
	{[]string{"api", "openapi.json"}, "GET", DescribeAPI},
	{[]string{"api", "messages"}, "GET", TellTexts},
	{[]string{"api", "devices"}, "GET", ListDevices},
	{[]string{"api", "devices", named, "rename"}, "POST", RenameDevice},
	{[]string{"api", "devices", named, "sign-out"}, "POST", SignOutDevice},
	{[]string{"api", "devices", named, "not-me"}, "POST", ReportDevice},
	{[]string{"api", "sign-out-others"}, "POST", SignOutOthers},
	{[]string{"api", "sign-out"}, "POST", SignOutHere},
}

// Route says which action a request wants, and on which device.
type Route struct {
	Action Action
	// DeviceID is the device ID in the path, or empty.
	DeviceID string
	// Allow names the methods that the path accepts, if the path does not accept the request's
	// method. Allow is empty if the path is unknown, or if the request's method is right.
	Allow string
	// IsAPI is true if the path below the mount begins with "api" or "static". Programs request
	// these paths, so errors at these paths are JSON and not pages.
	IsAPI bool
}

// RouteOf returns the route of a request. mount is the path of the page of devices, and the target
// is this path or below it.
func RouteOf(mount, method, target string) Route {
	below := strings.TrimRight(strings.TrimPrefix(requests.Path(target), mount), "/")
	segments := strings.Split(below, "/")[1:]
	made := Route{IsAPI: len(segments) > 0 && (segments[0] == "api" || segments[0] == "static")}
	if method == "HEAD" {
		method = "GET"
	}
	for _, route := range routes {
		deviceID, fits := match(route.path, segments)
		switch {
		case !fits:
			continue
		case route.method == method:
			made.Action, made.DeviceID = route.action, deviceID
			return made
		case route.method == "GET":
			made.Allow = "GET, HEAD"
		default:
			made.Allow = route.method
		}
	}
	return made
}

func match(pattern, segments []string) (deviceID string, fits bool) {
	return deviceID, slices.EqualFunc(pattern, segments, func(wanted, given string) bool {
		if wanted == named {
			deviceID = given
			return true
		}
		return wanted == given
	})
}
