package sessionauthority

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// Many retries could keep an overloaded service down, so the client limits them by a count.
	// Each UNAVAILABLE adds 1 to the count, up to maxRetryTokens. Each success subtracts
	// retryTokensFor. While the count is at least half of maxRetryTokens, the client does not retry
	// after UNAVAILABLE.
	maxRetryTokens = 20
	retryTokensFor = 0.1
)

// pausesBetweenAttempts has the pauses before the second and the third attempt of a call. Retries
// are safe for every method. IssueDevice always has a request ID, the service treats two renewals
// of one token as one renewal, and setting the same claims again changes nothing.
var pausesBetweenAttempts = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond}

// retryThrottle counts failures, and stops retries while the service is down. The zero
// retryThrottle is ready to use.
type retryThrottle struct {
	mu    sync.Mutex
	spent float64
}

func (r *retryThrottle) succeeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = max(r.spent-retryTokensFor, 0)
}

// failed notes that a call failed with UNAVAILABLE. It returns true if the call may be made again.
func (r *retryThrottle) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = min(r.spent+1, maxRetryTokens)
	return r.spent < maxRetryTokens/2
}

// mayRetry reports whether a call that failed with code may be made again. own is the context of
// the call. If own has ended or the client is closed, the call may not be made again. After
// UNAVAILABLE the call may be made again, unless the throttle stops retries. After CANCELLED from
// the server the call may be made again, because a server that is stopping ends new calls with
// CANCELLED for some milliseconds. After any other code the call may not be made again.
func (c *Client) mayRetry(own context.Context, code codes.Code) bool {
	switch code {
	case codes.Unavailable:
		return c.throttle.failed() && own.Err() == nil && !c.closed()
	case codes.Canceled:
		return own.Err() == nil && !c.closed()
	default:
		return false
	}
}

// pauseBeforeAttempt waits before another attempt of a call. attempt is the index of the pause in
// pausesBetweenAttempts. pauseBeforeAttempt returns false if own, the context of the call, ends
// before the pause is over. The pauses are random, so that clients that lost the same server don't
// all retry at the same moment.
func pauseBeforeAttempt(own context.Context, attempt int) bool {
	pause := pausesBetweenAttempts[attempt]
	return sleep(own, time.Duration(float64(pause)*(0.8+0.4*rand.Float64())))
}

// sleep waits for the pause. It returns false if ctx ends before the pause is over. If the deadline
// of ctx comes before the end of the pause, sleep returns false at once.
func sleep(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
