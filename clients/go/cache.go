package sessionauthority

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"

	"github.com/session-authority/session-authority/clients/go/internal/nearcache"
	"github.com/session-authority/session-authority/clients/go/internal/uptime"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// CacheConfig bounds a near cache. A zero means the default.
type CacheConfig struct {
	// MaxEntries is how many answers are kept: 10,000. The least recently used go first.
	MaxEntries int
	// MaxAge is how long an answer may be used at the most: 60 seconds. Up to the service's GRACE
	// (30 seconds) no superseded token is accepted for longer than by the service itself.
	MaxAge time.Duration
	// MaxSilence is how old the last proof may be that everything was told: 15 seconds, which is
	// also the most. A revocation can be missed for so long and no longer. Less than 12 seconds
	// makes the cache miss often: proofs come every 10.
	MaxSilence time.Duration
}

// CacheStats is what a near cache has done so far.
type CacheStats = nearcache.Stats

// CacheDropped counts why answers were dropped.
type CacheDropped = nearcache.Dropped

// WithCache answers validations in this process for as long as the answers certainly hold. The
// first validation starts a watch, on a connection of its own; the caller needs the role that may
// watch events as well as the one that may validate. While no watch is live, every validation is a
// call. CACHE.md of the Python client says how stale an answer can be: the rules are the same.
func WithCache(config CacheConfig) Option {
	return func(s *settings) error {
		s.cache = &config
		return nil
	}
}

// CacheStats returns what the near cache has done so far; without a cache, nothing.
func (c *Client) CacheStats() CacheStats {
	if c.cache == nil {
		return CacheStats{}
	}
	return c.cache.kept.Stats()
}

// forget drops what is known of a user whom this client has changed, or tried to change: the next
// validation need not wait for the event.
func (c *Client) forget(userID string) {
	if c.cache != nil {
		c.cache.kept.ForgetUser(userID)
	}
}

// forgetToken drops what is known of a token that was just renewed.
func (c *Client) forgetToken(accessToken, deviceID string) {
	if c.cache != nil {
		c.cache.kept.Discard(accessToken, deviceID)
	}
}

// cacheKeeper asks the service for what the near cache does not have, once for all callers that ask
// the same, and keeps the cache informed.
//
// A caller that joins a request gets what was true when the request was sent. So a caller joins
// only if the watch has told nothing since then, of any user, and only while the cache is live: a
// request that was sent before a revocation answers no caller that comes after the revocation.
type cacheKeeper struct {
	client  *Client
	kept    *nearcache.Cache[*Validation]
	flights singleflight.Group
	start   sync.Once
}

func newCacheKeeper(client *Client, config CacheConfig) (*cacheKeeper, error) {
	kept, err := nearcache.New[*Validation](nearcache.Settings(config), uptime.New().Now)
	if err != nil {
		return nil, err
	}
	return &cacheKeeper{client: client, kept: kept}, nil
}

// validate returns the service's answer. own is the context of the call, ctx that of its caller.
func (k *cacheKeeper) validate(
	own, ctx context.Context, accessToken, deviceID string, request *pb.ValidateSessionRequest,
) (Validation, error) {
	k.start.Do(k.startWatching)
	for {
		ticket, live := k.kept.Ticket()
		if !live {
			return k.client.batches.validate(own, ctx, request)
		}
		first := false
		flight := k.flights.DoChan(flightKey(ticket, accessToken, deviceID), func() (any, error) {
			first = true
			return k.ask(own, ticket, accessToken, deviceID, request)
		})
		select {
		case <-own.Done():
			if k.client.closed() {
				return Validation{}, clientClosed()
			}
			if ctx.Err() != nil {
				return Validation{}, endedContext(ctx, tooLate().Message)
			}
			return Validation{}, tooLate()
		case landed := <-flight:
			if landed.Err == nil {
				return landed.Val.(Validation), nil
			}
			// A caller that has more time than the first one asks again.
			if first || !hadTooLittleTime(landed.Err) || own.Err() != nil {
				return Validation{}, copyForCaller(landed.Err)
			}
		}
	}
}

// ask makes the call that callers share: in the first caller's time, but not cancelled with it.
func (k *cacheKeeper) ask(
	first context.Context,
	ticket nearcache.Ticket,
	accessToken, deviceID string,
	request *pb.ValidateSessionRequest,
) (Validation, error) {
	c := k.client
	if !c.enter() {
		return Validation{}, clientClosed()
	}
	defer c.leave()
	deadline, _ := first.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(first), deadline)
	defer cancel()
	defer context.AfterFunc(c.ending, cancel)()
	found, err := c.batches.validate(ctx, ctx, request)
	if err != nil {
		return Validation{}, err
	}
	k.kept.Store(ticket, accessToken, deviceID, answerOf(&found))
	return found, nil
}

func answerOf(found *Validation) nearcache.Answer[*Validation] {
	ends := found.Session.TokenExpireTime
	if found.Session.ExpireTime.Before(ends) {
		ends = found.Session.ExpireTime
	}
	return nearcache.Answer[*Validation]{
		Value:            found,
		Active:           found.Active,
		RenewRecommended: found.RenewRecommended,
		UserID:           found.Session.UserID,
		SessionID:        found.Session.SessionID,
		Ends:             ends,
	}
}

// flightKey has all that must be equal for two callers to share a request: the question, and all
// news.
func flightKey(ticket nearcache.Ticket, accessToken, deviceID string) string {
	key := make([]byte, 0, len(accessToken)+len(deviceID)+64)
	key = strconv.AppendUint(key, ticket.Watch, 10)
	key = append(key, ' ')
	key = strconv.AppendUint(key, ticket.Events, 10)
	key = append(key, ' ')
	key = strconv.AppendInt(key, int64(len(accessToken)), 10)
	key = append(key, ' ')
	key = append(key, accessToken...)
	return string(append(key, deviceID...))
}

// hadTooLittleTime says whether a call failed only since it had too little time. The service
// refuses a call that it can't answer in time as if the service was away.
func hadTooLittleTime(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && errors.Is(err, ErrUnavailable) &&
		(failed.Code == codes.DeadlineExceeded || failed.Reason == "DEADLINE_TOO_SHORT")
}
