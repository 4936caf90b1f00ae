package requests

import (
	"fmt"
	"net/netip"
	"strings"
)

const (
	// Anybody can make X-Forwarded-For long.
	maxHops = 64
	// An IPv6 address in brackets, with a zone and a port; zones are names of interfaces.
	maxAddressBytes = 100
)

// Proxies are the proxies whose word an app believes.
type Proxies struct {
	unix     bool
	networks []netip.Prefix
}

// NewProxies reads addresses, networks like "10.0.0.0/8", and "unix" for a proxy at a Unix socket.
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

// Address returns the end user's address: the nearest one that no trusted proxy has. It is empty if
// it is unknown.
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

// IsSecure tells whether the end user's connection is HTTPS, as far as the nearest trusted proxy
// says.
func (p Proxies) IsSecure(r *Request) bool {
	if lines := r.Header["X-Forwarded-Proto"]; len(lines) > 0 && p.Trusts(r.Peer) {
		last := lines[len(lines)-1]
		if told := strings.TrimSpace(last[strings.LastIndex(last, ",")+1:]); told != "" {
			return strings.EqualFold(told, "https")
		}
	}
	return r.Secure
}

// Trusts tells whether the app believes a proxy at this address. The empty address is a Unix
// socket.
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

// parseAddress reads an address with or without brackets, a port and a zone. An IPv4 address that
// came as an IPv6 one is what it is.
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
