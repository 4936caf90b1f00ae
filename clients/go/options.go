package sessionauthority

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/session-authority/session-authority/clients/go/internal/transport"
)

const (
	// DefaultTimeout is the default timeout of a call, unless WithTimeout sets another default
	// timeout. The timeout includes the time for retries.
	DefaultTimeout = 300 * time.Millisecond
	// DefaultMaxInFlight is how many calls of a client may be under way at once, unless
	// WithMaxInFlight sets another number. DefaultMaxInFlight is well below the service's
	// MAX_PER_CONNECTION (by default 100), because MAX_PER_CONNECTION limits the sum of calls and
	// watches.
	DefaultMaxInFlight = 64
)

// Option is an option of NewClient.
type Option func(*settings) error

type settings struct {
	transport   transport.Settings
	timeout     time.Duration
	maxInFlight int
	batching    bool
	cache       *CacheConfig
	logger      *slog.Logger
}

func newSettings(opts []Option) (settings, error) {
	made := settings{
		timeout:     DefaultTimeout,
		maxInFlight: DefaultMaxInFlight,
		batching:    true,
	}
	for _, opt := range opts {
		if err := opt(&made); err != nil {
			return settings{}, err
		}
	}
	if made.logger == nil {
		made.logger = slog.Default()
	}
	return made, nil
}

// WithTLS makes the client connect with TLS. If config has a certificate, the client presents it to
// the service (mutual TLS). Without this option the connection is plaintext.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			return errors.New("WithTLS: the config must not be nil")
		}
		s.transport.TLS = config.Clone()
		return nil
	}
}

// WithToken sends this caller's bearer token with every call. If the service is on another machine,
// NewClient refuses a token without WithTLS.
func WithToken(token string) Option {
	return func(s *settings) error {
		if !transport.IsToken(token) {
			return errors.New("WithToken: the token is empty, or holds what no header may")
		}
		s.transport.Token = func(context.Context) (string, error) { return token, nil }
		return nil
	}
}

// WithTokenSource sends a bearer token that changes. The function source returns the token that
// this caller must use now. The client calls source for each attempt of a call and for each watch.
// Calls that need the token at the same time share one result of source.
//
// If source returns an error, the call fails with ErrUnavailable. The text of source's error is not
// passed on, because it may have secrets. The time that source takes counts against the timeouts of
// the calls that wait for the token. If source blocks, these calls still end at their deadlines,
// and Close does not wait for source.
func WithTokenSource(source func() (string, error)) Option {
	return func(s *settings) error {
		if source == nil {
			return errors.New("WithTokenSource: the source must not be nil")
		}
		s.transport.Token = sharedToken(source)
		return nil
	}
}

// sharedToken returns a function that calls source in a separate goroutine, and waits for the
// result or for the end of its context. Only one such goroutine runs at a time. If source blocks,
// the goroutine stays blocked, because nothing can stop source. The callers of the returned
// function don't stay blocked.
func sharedToken(source func() (string, error)) func(context.Context) (string, error) {
	var asking singleflight.Group
	return func(ctx context.Context) (string, error) {
		answers := asking.DoChan("", func() (any, error) { return source() })
		select {
		case answer := <-answers:
			token, _ := answer.Val.(string)
			return token, answer.Err
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// WithTimeout sets the default timeout of a call. The timeout includes the time for retries.
// Without this option, DefaultTimeout applies.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout <= 0 {
			return errors.New("WithTimeout: the timeout must be positive")
		}
		s.timeout = timeout
		return nil
	}
}

// WithMaxInFlight sets how many calls of the client may be under way at once. A batch counts as one
// call. Further calls wait until a call has ended, and fail with ErrUnavailable if their timeouts
// are over first. Keep the number of calls below the service's MAX_PER_CONNECTION (by default 100),
// because MAX_PER_CONNECTION limits the sum of calls and watches. Without this option,
// DefaultMaxInFlight applies.
func WithMaxInFlight(calls int) Option {
	return func(s *settings) error {
		if calls < 1 {
			return errors.New("WithMaxInFlight: at least 1")
		}
		s.maxInFlight = calls
		return nil
	}
}

// WithoutBatching makes ValidateSession send each validation in a call of its own.
func WithoutBatching() Option {
	return func(s *settings) error {
		s.batching = false
		return nil
	}
}

// WithLogger sets the logger of the client. The client logs only that its near cache is off, and
// that the near cache is on again. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) error {
		s.logger = logger
		return nil
	}
}

// WithDialOptions adds gRPC dial options to the dial options of the client itself. For example, add
// a stats handler for traces and metrics. If the client itself sets an option of the same kind,
// such as the keepalive parameters, the added option replaces it.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.transport.DialOptions = append(s.transport.DialOptions, options...)
		return nil
	}
}
