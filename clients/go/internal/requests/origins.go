package requests

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// safeMethods are the methods that change nothing (RFC 9110, section 9.2.1). Pages of any origin
// may send requests with these methods.
var safeMethods = map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true}

var originForm = regexp.MustCompile(
	`^([A-Za-z][A-Za-z0-9+.-]*)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?$`)

var defaultPorts = map[string]int{"http": 80, "https": 443}

// NormalOrigin returns an origin as browsers write it: in lower case, and without the default port
// of its scheme. It returns false for a text that is no origin.
func NormalOrigin(text string) (string, bool) {
	found := originForm.FindStringSubmatch(text)
	if found == nil {
		return "", false
	}
	scheme, host := strings.ToLower(found[1]), strings.ToLower(found[2])
	if strings.HasPrefix(host, "[") {
		address, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !address.Is6() {
			return "", false
		}
		host = "[" + address.String() + "]"
	}
	if found[3] == "" {
		return scheme + "://" + host, true
	}
	port, _ := strconv.Atoi(found[3])
	if port == defaultPorts[scheme] && port != 0 {
		return scheme + "://" + host, true
	}
	if port <= 0 || port > 65535 {
		return "", false
	}
	return scheme + "://" + host + ":" + strconv.Itoa(port), true
}

// IsForeign reports whether a page of another origin sent a request that may change something. The
// result is false if the page's origin is in trusted. The origins in trusted have the form that
// NormalOrigin returns.
//
// All browsers of today send Sec-Fetch-Site, but only over HTTPS and at localhost. If this header
// is missing, IsForeign compares Origin with Host. If both Sec-Fetch-Site and Origin are missing,
// the client does not count as a browser, and the result is false.
//
// The handshake of a WebSocket counts as a request that may change something, although its method
// is GET. Browsers let pages of any origin open a WebSocket, and send the cookies with the
// handshake.
func IsForeign(r *Request, trusted map[string]bool) bool {
	if safeMethods[r.Method] && !IsWebSocket(r) {
		return false
	}
	sites, origins := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	// "none" means that no page sent the request: the user opened the URL, for example from a
	// bookmark.
	if len(sites) == 1 && (sites[0] == "same-origin" || sites[0] == "none") {
		return false
	}
	origin, known := "", false
	if len(origins) == 1 {
		origin, known = NormalOrigin(origins[0])
	}
	if known && trusted[origin] {
		return false
	}
	if len(sites) > 0 {
		return true
	}
	return len(origins) > 0 && (!known || !isAt(origin, r.hosts()))
}

// IsWebSocket reports whether a request is the handshake of a WebSocket.
func IsWebSocket(r *Request) bool {
	for _, line := range r.Header["Upgrade"] {
		if strings.Contains(strings.ToLower(line), "websocket") {
			return true
		}
	}
	return false
}

// isAt reports whether the Host header of a request names the host and the port of origin. hosts
// are the values of all Host headers. The scheme is not compared, because a proxy may have replaced
// HTTPS by HTTP.
func isAt(origin string, hosts []string) bool {
	scheme, _, _ := strings.Cut(origin, ":")
	if len(hosts) != 1 || defaultPorts[scheme] == 0 {
		return false
	}
	here, known := NormalOrigin(scheme + "://" + hosts[0])
	return known && here == origin
}
