package sessionauthority

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// After ten failures without successes there are no retries: retries must not keep a service
	// down. Each failure adds 1 to a count, and each success subtracts a tenth. Retries stop while
	// the count is at least half of maxRetryTokens.
	maxRetryTokens = 20
	retryTokensFor = 0.1
)

// pausesBetweenAttempts has the pauses before a call is made again. Retries are safe for every
// method: IssueDevice always has a request ID, two renewals of one token count as one renewal, and
// setting the same claims again changes nothing.
var pausesBetweenAttempts = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond}

// retryThrottle stops retries while a service is down. Its zero value is ready to use.
type retryThrottle struct {
	mu    sync.Mutex
	spent float64
}

func (r *retryThrottle) succeeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = max(r.spent-retryTokensFor, 0)
}

// failed notes that a call failed with UNAVAILABLE. It reports whether the call may be made again.
func (r *retryThrottle) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = min(r.spent+1, maxRetryTokens)
	return r.spent < maxRetryTokens/2
}

// mayRetry reports whether a call that failed may be made again. own is the context of the call. A
// call may be made again after UNAVAILABLE, unless the throttle stops retries. A call may also be
// made again after CANCELLED from the server: a server that is stopping ends new calls with
// CANCELLED for some milliseconds.
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

// pauseBeforeAttempt waits before another attempt. It returns false if the deadline of the call
// comes before the end of the pause. The pauses are random: clients that lost a server together
// must not come back together.
func pauseBeforeAttempt(own context.Context, attempt int) bool {
	pause := pausesBetweenAttempts[attempt]
	return sleep(own, time.Duration(float64(pause)*(0.8+0.4*rand.Float64())))
}

// sleep waits for the pause. It returns false if the context ends before the pause is over, or
// returns false at once if the context's deadline comes before that.
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
