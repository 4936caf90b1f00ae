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
	// DefaultTimeout is the timeout of a call without a timeout of its own, retries included.
	DefaultTimeout = 300 * time.Millisecond
	// DefaultMaxInFlight is how many calls of a client may be under way at once. It is well below
	// the service's MAX_PER_CONNECTION (100), because watches count there, too.
	DefaultMaxInFlight = 64
)

// Option changes how a client works.
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

// WithTLS makes the connection with TLS. If config has a certificate, this caller proves its own
// identity, too (mutual TLS). Without this option the connection is plaintext.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			return errors.New("WithTLS: the config must not be nil")
		}
		s.transport.TLS = config.Clone()
		return nil
	}
}

// WithToken sends this caller's bearer token with every call. A token is sent to another machine
// only over TLS.
func WithToken(token string) Option {
	return func(s *settings) error {
		if !transport.IsToken(token) {
			return errors.New("WithToken: the token is empty, or holds what no header may")
		}
		s.transport.Token = func(context.Context) (string, error) { return token, nil }
		return nil
	}
}

// WithTokenSource is WithToken for a token that changes. The client calls source for each attempt
// of a call and for each watch. Calls that need the token at the same time share one result. If
// source fails, the call fails with ErrUnavailable. The text of source's error may have secrets,
// and is not passed on. The time that source needs counts against the timeouts of the calls that
// wait for it. If source blocks, these calls still end at their deadlines, and Close does not wait
// for source.
func WithTokenSource(source func() (string, error)) Option {
	return func(s *settings) error {
		if source == nil {
			return errors.New("WithTokenSource: the source must not be nil")
		}
		s.transport.Token = sharedToken(source)
		return nil
	}
}

// sharedToken returns a function that runs source in a goroutine of its own. Only one such
// goroutine runs at a time. No caller can end a source that blocks, so only this goroutine stays
// blocked.
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

// WithTimeout sets the default timeout of each call, retries included. Without this option it is
// DefaultTimeout.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout <= 0 {
			return errors.New("WithTimeout: the timeout must be positive")
		}
		s.timeout = timeout
		return nil
	}
}

// WithMaxInFlight sets how many calls of the client may be under way at once. A batch is one call.
// Further calls wait, within their timeouts, and fail with ErrUnavailable after that. Keep the
// number below the service's MAX_PER_CONNECTION (100): watches count there, too. Without this
// option it is DefaultMaxInFlight.
func WithMaxInFlight(calls int) Option {
	return func(s *settings) error {
		if calls < 1 {
			return errors.New("WithMaxInFlight: at least 1")
		}
		s.maxInFlight = calls
		return nil
	}
}

// WithoutBatching sends each validation in a call of its own.
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

// WithDialOptions adds options of gRPC to the client's own ones, such as a stats handler for traces
// and metrics. An added option replaces the client's own option of the same kind, such as the
// keepalive.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.transport.DialOptions = append(s.transport.DialOptions, options...)
		return nil
	}
}
