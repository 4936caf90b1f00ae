package requests

import (
	"fmt"
	"net/netip"
	"strings"
)

const (
	// maxHops is the maximum number of addresses that count in X-Forwarded-For, from its end. A
	// client can send a header of any length.
	maxHops = 64
	// maxAddressBytes is the maximum length of an address. The longest address is an IPv6 address
	// in brackets with a port and a zone. A zone is the name of a network interface.
	maxAddressBytes = 100
)

// Proxies are the proxies that an app trusts.
type Proxies struct {
	unix     bool
	networks []netip.Prefix
}

// NewProxies returns the proxies that an app trusts. Each text is an address, a network like
// "10.0.0.0/8", or "unix" for a proxy at a Unix socket.
func NewProxies(trusted []string) (Proxies, error) {
	var made Proxies
	for _, text := range trusted {
		if text == "unix" {
			made.unix = true
			continue
		}
		network, err := parseNetwork(text)
		if err != nil {
			return Proxies{}, err
		}
		made.networks = append(made.networks, network)
	}
	return made, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no address and no network", text)
		}
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address and no network", text)
	}
	if network.Masked() != network {
		return netip.Prefix{}, fmt.Errorf("%q has host bits set", text)
	}
	return network, nil
}

// Address returns the address of the end user's client. If no trusted proxy sent the request,
// Address returns the address of the connection. If a trusted proxy sent the request, Address
// returns the last address in X-Forwarded-For that is not the address of a trusted proxy. If
// X-Forwarded-For has only addresses of trusted proxies, Address returns the first of them. The
// result is empty if the address is unknown.
func (p Proxies) Address(r *Request) string {
	if !p.Trusts(r.Peer) {
		return plainAddress(r.Peer)
	}
	var hops []string
	for _, line := range r.Header["X-Forwarded-For"] {
		hops = append(hops, strings.Split(line, ",")...)
	}
	if len(hops) > maxHops {
		hops = hops[len(hops)-maxHops:]
	}
	for index := len(hops) - 1; index >= 0; index-- {
		hop := strings.TrimSpace(hops[index])
		plain := plainAddress(hop)
		if plain == "" || !p.Trusts(hop) || index == 0 {
			return plain
		}
	}
	return plainAddress(r.Peer)
}

// IsSecure reports whether the end user's connection is HTTPS. If a trusted proxy sent the request
// with X-Forwarded-Proto, the last value of this header decides. If no trusted proxy sent this
// header, Secure of the request decides.
func (p Proxies) IsSecure(r *Request) bool {
	if lines := r.Header["X-Forwarded-Proto"]; len(lines) > 0 && p.Trusts(r.Peer) {
		last := lines[len(lines)-1]
		if told := strings.TrimSpace(last[strings.LastIndex(last, ",")+1:]); told != "" {
			return strings.EqualFold(told, "https")
		}
	}
	return r.Secure
}

// Trusts reports whether peer is the address of a trusted proxy. An empty peer stands for a
// connection through a Unix socket.
func (p Proxies) Trusts(peer string) bool {
	if peer == "" {
		return p.unix
	}
	if len(p.networks) == 0 {
		return false
	}
	address, known := parseAddress(peer)
	if !known {
		return false
	}
	for _, network := range p.networks {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

func plainAddress(text string) string {
	address, known := parseAddress(text)
	if !known {
		return ""
	}
	return address.String()
}

// parseAddress reads an IP address with or without brackets, a port and a zone. The result has no
// port and no zone. An IPv4 address in the form of IPv6, such as ::ffff:192.0.2.1, becomes IPv4.
func parseAddress(text string) (netip.Addr, bool) {
	if len(text) > maxAddressBytes {
		return netip.Addr{}, false
	}
	if strings.HasPrefix(text, "[") {
		text, _, _ = strings.Cut(text[1:], "]")
	} else if strings.Count(text, ":") == 1 {
		text, _, _ = strings.Cut(text, ":")
	}
	text, _, _ = strings.Cut(text, "%")
	address, err := netip.ParseAddr(text)
	return address.Unmap(), err == nil
}
