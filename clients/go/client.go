package sessionauthority

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/session-authority/session-authority/clients/go/internal/transport"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// Client makes calls to one Session Authority. Make one Client for the whole process: any number of
// goroutines may call its methods at the same time. Call Close when the process does not need the
// Client any more.
type Client struct {
	settings  settings
	conn      *grpc.ClientConn
	service   pb.SessionAuthorityServiceClient
	slots     *semaphore.Weighted
	batches   *batchQueue
	throttle  retryThrottle
	cache     *cacheKeeper    // nil without WithCache
	ending    context.Context // ends when the client is closed
	end       context.CancelFunc
	closeOnce sync.Once
	closeErr  error

	mu      sync.Mutex
	shut    bool
	running sync.WaitGroup // counts the goroutines that Close waits for
}

// NewClient returns a client of the service at target. target is "host:port", "dns:///host:port",
// or a list of addresses: "ipv4:10.0.0.1:50051,10.0.0.2:50051". If target has several addresses,
// the client sends its calls to all of them in turn. NewClient does not wait for a connection. If
// target or an option can't be used, the error says which one can't be used.
func NewClient(target string, opts ...Option) (*Client, error) {
	made, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	made.transport.Target = target
	if err := made.transport.Check(); err != nil {
		return nil, err
	}
	conn, err := made.transport.Open()
	if err != nil {
		return nil, err
	}
	c := &Client{
		settings: made,
		conn:     conn,
		service:  pb.NewSessionAuthorityServiceClient(conn),
		slots:    semaphore.NewWeighted(int64(made.maxInFlight)),
	}
	c.ending, c.end = context.WithCancel(context.Background())
	c.batches = &batchQueue{client: c}
	if made.cache != nil {
		if c.cache, err = newCacheKeeper(c, *made.cache); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close closes the client's connections, and waits until the client's goroutines have ended. Calls
// and watches that are under way fail with ErrClientClosed. Every later call fails with
// ErrClientClosed, too. Close does not wait for a source of WithTokenSource that blocks.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.shut = true
		c.mu.Unlock()
		c.end()
		c.closeErr = c.conn.Close()
	})
	c.running.Wait()
	return c.closeErr
}

// enter registers a goroutine of the client: Close waits until the goroutine has called leave.
// enter returns false if the client is closed. The goroutine must not do any work in this case.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return false
	}
	c.running.Add(1)
	return true
}

func (c *Client) leave() { c.running.Done() }

// Timeout returns the default timeout of a call. The timeout includes the time for retries.
func (c *Client) Timeout() time.Duration { return c.settings.timeout }

func (c *Client) closed() bool { return c.ending.Err() != nil }

// method is the type of a method of the generated gRPC client.
type method[Q, R any] func(context.Context, Q, ...grpc.CallOption) (R, error)

// call waits for a free slot (see WithMaxInFlight), and makes a call of the service in this slot.
// The wait for the slot counts against timeout. If timeout is zero, the client's default timeout
// applies.
func call[Q, R any](
	ctx context.Context, c *Client, timeout time.Duration, method method[Q, R], request Q,
) (R, error) {
	var none R
	if c.closed() {
		return none, clientClosed()
	}
	own, done := c.begin(ctx, timeout)
	defer done()
	if err := c.acquire(own, ctx); err != nil {
		return none, err
	}
	defer c.slots.Release(1)
	return callInSlot(own, ctx, c, method, request)
}

// begin returns the context of a call. The context ends when the timeout is over, when the caller's
// context ctx ends, or when the client is closed. If the timeout is negative, the returned context
// has already ended. A caller may get a negative timeout from time.Until.
func (c *Client) begin(
	ctx context.Context, timeout time.Duration,
) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		timeout = c.settings.timeout
	}
	own, cancel := context.WithTimeout(ctx, timeout)
	stop := context.AfterFunc(c.ending, cancel)
	return own, func() {
		stop()
		cancel()
	}
}

// acquire waits for a free slot. It returns an error if own ends first. own is the context of the
// call, and is derived from ctx, the caller's context.
func (c *Client) acquire(own, ctx context.Context) error {
	if c.slots.TryAcquire(1) || c.slots.Acquire(own, 1) == nil {
		return nil
	}
	if c.closed() {
		return clientClosed()
	}
	if ctx.Err() != nil {
		return endedContext(ctx, noSlot)
	}
	return endedContext(own, noSlot)
}

const noSlot = "there was no place in time: too many calls of this client are under way" +
	" (WithMaxInFlight)"

// callInSlot makes a call, and retries it after some failures. The slot for the call must be
// acquired already. own is the context of the call, and is derived from ctx, the caller's context.
func callInSlot[Q, R any](
	own, ctx context.Context, c *Client, method method[Q, R], request Q,
) (R, error) {
	for made := 0; ; made++ {
		response, err := attempt(own, c, method, request)
		if err == nil {
			c.throttle.succeeded()
			return response, nil
		}
		isLast := made == len(pausesBetweenAttempts)
		if !c.mayRetry(own, errorOf(err).Code) || isLast || !pauseBeforeAttempt(own, made) {
			return response, failureOf(ctx, err, c.closed())
		}
	}
}

func attempt[Q, R any](
	own context.Context, c *Client, method method[Q, R], request Q,
) (R, error) {
	own, err := c.withToken(own)
	if err != nil {
		var none R
		return none, err
	}
	return method(own, request)
}

// withToken returns a context that carries this caller's bearer token as metadata.
func (c *Client) withToken(ctx context.Context) (context.Context, error) {
	if c.settings.transport.Token == nil {
		return ctx, nil
	}
	token, err := c.settings.transport.Token(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx, ctx.Err()
	}
	if err != nil {
		return ctx, newError(codes.Unavailable, "", "the token can't be had")
	}
	if !transport.IsToken(token) {
		return ctx, newError(codes.Unavailable, "", "the token is empty, or holds what no header may")
	}
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	outgoing = outgoing.Copy()
	outgoing.Set("authorization", "Bearer "+strings.TrimSpace(token))
	return metadata.NewOutgoingContext(ctx, outgoing), nil
}
