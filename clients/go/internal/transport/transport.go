// Package transport owns how the service is reached: addresses, TLS, bearer tokens and
// keepalive. It makes no call.
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

// Settings says where the service is, and how to speak to it.
type Settings struct {
	Target string
	// TLS is nil for plaintext.
	TLS *tls.Config
	// Token returns the bearer token of this caller, or the error of the context when that ends. It
	// is nil without one.
	Token       func(context.Context) (string, error)
	DialOptions []grpc.DialOption
}

const (
	// The service accepts a ping every 10 seconds.
	pingInterval = 12 * time.Second
	pingTimeout  = 4 * time.Second
	// A service that was away for long is found again soon.
	firstReconnectPause = 100 * time.Millisecond
	maxReconnectPause   = 2 * time.Second
	// An attempt to connect may take so long, all handshakes included. A lost SYN is sent again
	// after 1 and 3 seconds; after a longer attempt a service that comes back would be found later
	// than by a new attempt.
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

// Open returns a new connection, which connects when it is first used.
func (s *Settings) Open() (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if s.TLS != nil {
		creds = credentials.NewTLS(s.TLS.Clone())
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A name server has no say in how calls are made.
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
		// An idle connection stays open, by its pings.
		grpc.WithIdleTimeout(0),
		// A proxy for the web has no business between services.
		grpc.WithNoProxy(),
		grpc.WithResolvers(addressBuilder("ipv4"), addressBuilder("ipv6")),
	}
	conn, err := grpc.NewClient(s.Target, append(options, s.DialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return conn, nil
}

// IsToken says whether a header may hold a token.
func IsToken(token string) bool {
	token = strings.TrimSpace(token)
	for _, letter := range []byte(token) {
		if letter < ' ' || letter > '~' {
			return false
		}
	}
	return token != ""
}

// isLocal says whether a target is this machine; of several addresses, all.
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
