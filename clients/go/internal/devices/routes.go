package devices

import (
	"slices"
	"strings"

	"github.com/session-authority/session-authority/clients/go/internal/requests"
)

// Action is the action that a request wants.
type Action int

// The actions. NoAction means that nothing is at the path, or that the path does not have this
// method.
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

// IsPublic reports whether the response is the same for everybody: no session is needed.
func (a Action) IsPublic() bool {
	return a == ServeElement || a == DescribeAPI || a == TellTexts
}

const named = "*"

var routes = []struct {
	path   []string // below the mount; "*" is a device ID
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

// Route is the route of a request.
type Route struct {
	Action Action
	// DeviceID is the device ID in the path, or empty.
	DeviceID string
	// Allow names the methods of the path, if the path does not have the request's method.
	Allow string
	// IsAPI is true if the path is below "api" or "static". Programs request these paths.
	IsAPI bool
}

// RouteOf returns the route of a request to a path below the mount.
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
