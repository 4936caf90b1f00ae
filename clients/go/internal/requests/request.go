// Package requests owns the readers of HTTP requests: where a request comes from, which page it
// wants, and which browser sent it. It knows no session, and decides nothing about one.
package requests

import "net/http"

// Request is a request of an end user, as a server sees it.
type Request struct {
	Method string
	// Header has the header lines. Two lines of one header stay separate.
	Header http.Header
	// Host is the value of the Host header, which net/http keeps out of Header.
	Host string
	// Peer is the address at the other end of the connection, with or without a port. It is empty
	// at a Unix socket.
	Peer string
	// Target is the path with its query, as the client sent it.
	Target string
	// Secure is true if the connection itself is HTTPS.
	Secure bool
}

// hosts returns the hosts to which the request was sent. With HTTP/2, Host is the authority. A Host
// header in addition to it is only what the client wrote, and does not count.
func (r *Request) hosts() []string {
	if r.Host != "" {
		return []string{r.Host}
	}
	return r.Header["Host"]
}

// HostText returns the value of the Host header, or "localhost" if there is none.
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
