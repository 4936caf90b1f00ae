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
	// DefaultTimeout is the time of a call that is given no other, retries included.
	DefaultTimeout = 300 * time.Millisecond
	// DefaultMaxInFlight is how many calls of a client may be under way at once. It is well below
	// the service's MAX_PER_CONNECTION (100): watches count there, too.
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

// WithTLS makes the connection over TLS. With a certificate in config this side shows who it is,
// too (mutual TLS). Without this option the connection is plaintext.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			return errors.New("WithTLS: the config must not be nil")
		}
		s.transport.TLS = config.Clone()
		return nil
	}
}

// WithToken has every call carry this caller's bearer token. A token goes to another machine over
// TLS only.
func WithToken(token string) Option {
	return func(s *settings) error {
		if !transport.IsToken(token) {
			return errors.New("WithToken: the token is empty, or holds what no header may")
		}
		s.transport.Token = func(context.Context) (string, error) { return token, nil }
		return nil
	}
}

// WithTokenSource is WithToken for a token that changes: source is asked for each call, and calls
// that ask at the same time share its answer. If source fails, the call fails with ErrUnavailable;
// the text of its error is not passed on. A source that blocks takes time of the calls that wait
// for it. Neither their ends nor Close wait for it.
func WithTokenSource(source func() (string, error)) Option {
	return func(s *settings) error {
		if source == nil {
			return errors.New("WithTokenSource: the source must not be nil")
		}
		s.transport.Token = sharedToken(source)
		return nil
	}
}

// sharedToken returns a function that asks source in a goroutine of its own, one at a time. No
// caller can end a source that blocks, so only this goroutine stays with it.
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

// WithTimeout sets the time of each call that is given no other, retries included.
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
// Further calls wait, within their time. Keep it below the service's MAX_PER_CONNECTION.
func WithMaxInFlight(calls int) Option {
	return func(s *settings) error {
		if calls < 1 {
			return errors.New("WithMaxInFlight: at least 1")
		}
		s.maxInFlight = calls
		return nil
	}
}

// WithoutBatching makes each validation a call of its own.
func WithoutBatching() Option {
	return func(s *settings) error {
		s.batching = false
		return nil
	}
}

// WithLogger sets where the client says that its cache went off or on. slog.Default() is the
// default.
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) error {
		s.logger = logger
		return nil
	}
}

// WithDialOptions adds options of gRPC, beside or instead of the client's own: a stats handler for
// traces and metrics, or another keepalive.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.transport.DialOptions = append(s.transport.DialOptions, options...)
		return nil
	}
}
