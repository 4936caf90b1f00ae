package requests

import (
	"fmt"
	"net/netip"
	"strings"
)

const (
	// Any client can make X-Forwarded-For long.
	maxHops = 64
	// An IPv6 address in brackets, with a zone and a port; zones are names of interfaces.
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

// Address returns the end user's address: the nearest one that is not a trusted proxy's. It is
// empty if the address is unknown.
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

// IsSecure reports whether the end user's connection is HTTPS. The nearest trusted proxy says it,
// if there is one.
func (p Proxies) IsSecure(r *Request) bool {
	if lines := r.Header["X-Forwarded-Proto"]; len(lines) > 0 && p.Trusts(r.Peer) {
		last := lines[len(lines)-1]
		if told := strings.TrimSpace(last[strings.LastIndex(last, ",")+1:]); told != "" {
			return strings.EqualFold(told, "https")
		}
	}
	return r.Secure
}

// Trusts reports whether the app believes the headers of a proxy at this address. An empty address
// stands for a Unix socket.
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
// was written as IPv6 becomes IPv4.
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
