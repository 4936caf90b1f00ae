// Package requests reads HTTP requests: where a request comes from, which page the client wants,
// and which browser sent the request. The package knows nothing about sessions.
package requests

import "net/http"

// Request is an HTTP request of an end user, as the app's server received the request.
type Request struct {
	Method string
	// Header has the headers of the request. If a header was sent twice, its two values stay
	// separate.
	Header http.Header
	// Host is the value of the Host header. net/http removes the Host header from Header.
	Host string
	// Peer is the address at the other end of the connection, with or without a port. Peer is empty
	// if the connection came through a Unix socket.
	Peer string
	// Target is the path with the query, as the client sent them.
	Target string
	// Secure is true if the connection to the app's server is HTTPS.
	Secure bool
}

// hosts returns the hosts that the request names. If the field Host is not empty, only Host counts.
// With HTTP/2, Host is the request's authority. A client may send a Host header in addition to the
// authority, but this header does not count.
func (r *Request) hosts() []string {
	if r.Host != "" {
		return []string{r.Host}
	}
	return r.Header["Host"]
}

// HostText returns the host that the request names, or "localhost" if the request names none. If
// there are several Host headers, HostText returns their values in one text.
func (r *Request) HostText() string {
	lines := r.hosts()
	switch len(lines) {
	case 0:
		return "localhost"
	case 1:
		return lines[0]
	}
	joined := ""
	for _, line := range lines {
		joined += line
	}
	return joined
}
