package requests

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Requests with these methods change nothing (RFC 9110, section 9.2.1), so any page may send them.
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
// pages of the origins in trusted may send such requests. These origins are in the form that
// NormalOrigin returns.
//
// All browsers of today send Sec-Fetch-Site, but only over HTTPS and at localhost. If this header
// is missing, Origin is compared with Host. A client that sends neither Sec-Fetch-Site nor Origin
// counts as no browser, and its requests are accepted.
//
// The handshake of a WebSocket counts as such a request, though it is a GET: browsers let every
// page open a WebSocket, and send the cookies.
func IsForeign(r *Request, trusted map[string]bool) bool {
	if safeMethods[r.Method] && !IsWebSocket(r) {
		return false
	}
	sites, origins := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	// "none" means that the user opened the URL, as from a bookmark, and no page did.
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

// isAt reports whether the request went to this origin. Only host and port are compared, because a
// proxy that ends TLS may hide the scheme.
func isAt(origin string, hosts []string) bool {
	scheme, _, _ := strings.Cut(origin, ":")
	if len(hosts) != 1 || defaultPorts[scheme] == 0 {
		return false
	}
	here, known := NormalOrigin(scheme + "://" + hosts[0])
	return known && here == origin
}
