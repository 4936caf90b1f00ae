package transport

import (
	"errors"
	"net/netip"
	"strings"

	"google.golang.org/grpc/resolver"
)

// addressBuilder makes resolvers for targets that list addresses:
// "ipv4:10.0.0.1:50051,10.0.0.2:50051". gRPC has such resolvers built in for other languages, but
// not for Go. The value of an addressBuilder is the scheme of its targets, "ipv4" or "ipv6".
type addressBuilder string

var _ resolver.Builder = addressBuilder("")

// Scheme returns "ipv4" or "ipv6".
func (b addressBuilder) Scheme() string { return string(b) }

// Build gives the addresses of the target to conn at once, and returns a resolver that does nothing
// more. It returns an error if the target is not a list of addresses of this scheme, each with a
// port.
func (b addressBuilder) Build(
	target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions,
) (resolver.Resolver, error) {
	var addresses []resolver.Address
	for text := range strings.SplitSeq(target.Endpoint(), ",") {
		address, err := netip.ParseAddrPort(text)
		if err != nil || address.Addr().Is4() != (b == "ipv4") {
			return nil, errors.New(b.Scheme() + ": wants address:port,address:port")
		}
		addresses = append(addresses, resolver.Address{Addr: text})
	}
	return standing{}, conn.UpdateState(resolver.State{Addresses: addresses})
}

// standing is a resolver of addresses that never change.
type standing struct{}

// ResolveNow does nothing.
func (standing) ResolveNow(resolver.ResolveNowOptions) {}

// Close does nothing.
func (standing) Close() {}
