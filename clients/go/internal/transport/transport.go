// Package transport opens connections to the service. It checks the settings of addresses, TLS and
// bearer tokens, and sets the keepalive. It makes no call.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Settings have the address of the service, and the options and credentials for connections to the
// service.
type Settings struct {
	Target string
	// TLS is the configuration of TLS. It is nil for plaintext.
	TLS *tls.Config
	// Token returns the bearer token of this caller. If the context ends before Token has the
	// token, Token returns the context's error. The field is nil if this caller has no token.
	Token       func(context.Context) (string, error)
	DialOptions []grpc.DialOption
}

const (
	// pingInterval is longer than 10 seconds, because the service allows one ping in 10 seconds.
	pingInterval = 12 * time.Second
	pingTimeout  = 4 * time.Second
	// The pauses between attempts to connect are short. So the client soon finds a service that
	// comes back, even after a long outage.
	firstReconnectPause = 100 * time.Millisecond
	maxReconnectPause   = 2 * time.Second
	// connectTimeout limits an attempt to connect, including all handshakes. TCP sends a lost SYN
	// again after 1, 3 and 7 seconds. An attempt of 5 seconds has time for two of these
	// repetitions. If the service comes back later, a new attempt reaches it sooner than the third
	// repetition.
	connectTimeout = 5 * time.Second
)

// Check returns an error if the settings can't be used.
func (s *Settings) Check() error {
	for _, scheme := range []string{"http://", "https://", "grpc://", "grpcs://"} {
		if strings.HasPrefix(s.Target, scheme) {
			return errors.New("target: host:port or dns:///host:port, no URL; WithTLS asks for TLS")
		}
	}
	if s.Target == "" {
		return errors.New("target: host:port or dns:///host:port")
	}
	if s.Token != nil && s.TLS == nil && !isLocal(s.Target) {
		return errors.New("token: goes to another machine over TLS only; give WithTLS")
	}
	return nil
}

// Open returns a new connection. The connection connects to the service when it is first used.
func (s *Settings) Open() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if s.TLS != nil {
		creds = credentials.NewTLS(s.TLS.Clone())
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A service config from DNS must not replace serviceConfig.
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  firstReconnectPause,
				Multiplier: 1.6,
				Jitter:     0.2,
				MaxDelay:   maxReconnectPause,
			},
			MinConnectTimeout: connectTimeout,
		}),
		// An idle connection stays open, and its pings go on.
		grpc.WithIdleTimeout(0),
		// Calls between services must not go through an HTTP proxy, such as one from HTTPS_PROXY.
		grpc.WithNoProxy(),
		grpc.WithResolvers(addressBuilder("ipv4"), addressBuilder("ipv6")),
	}
	conn, err := grpc.NewClient(s.Target, append(options, s.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return conn, nil
}

// IsToken reports whether token can be a bearer token in a header. It must not be empty, and must
// have only printable ASCII characters.
func IsToken(token string) bool {
	token = strings.TrimSpace(token)
	for _, letter := range []byte(token) {
		if letter < ' ' || letter > '~' {
			return false
		}
	}
	return token != ""
}

// isLocal reports whether all addresses of a target are on this machine.
func isLocal(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	for _, scheme := range []string{"dns:///", "dns:", "passthrough:///", "ipv4:", "ipv6:"} {
		if rest, found := strings.CutPrefix(target, scheme); found {
			target = rest
			break
		}
	}
	for address := range strings.SplitSeq(target, ",") {
		if !isLoopback(address) {
			return false
		}
	}
	return true
}

func isLoopback(address string) bool {
	host := address
	if colon := strings.LastIndexByte(address, ':'); colon > 0 && !isIP(address) {
		host = address[:colon]
	}
	host = strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost"
}

func isIP(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}
