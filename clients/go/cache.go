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

// CacheConfig has the limits of a near cache. A field that is zero has its default.
type CacheConfig struct {
	// MaxEntries is how many answers are kept. The default is 10,000. The least recently used
	// answers are dropped first.
	MaxEntries int
	// MaxAge is how long an answer may be used at the most. The default is 60 seconds. If MaxAge is
	// at most the service's GRACE (30 seconds), the cache accepts no superseded token for longer
	// than the service itself does.
	MaxAge time.Duration
	// MaxSilence is the maximum age of the watch's last proof. A proof says that the watch has sent
	// all events. The default is 15 seconds, which is also the maximum. A revocation can be missed
	// for this time and no longer. With less than 12 seconds the cache is often off: proofs come
	// every 10 to 11 seconds.
	MaxSilence time.Duration
}

// CacheStats has the counts of a near cache since its client was made.
type CacheStats = nearcache.Stats

// CacheDropped has the number of answers that were dropped, by reason.
type CacheDropped = nearcache.Dropped

// WithCache answers validations in this process for as long as the answers certainly hold. The
// first validation starts a watch, on a connection of its own. The caller needs both the role that
// may watch events and the role that may validate. While no watch is live, every validation is a
// call. CACHE.md of the Python client says how stale an answer can be: the rules are the same.
func WithCache(config CacheConfig) Option {
	return func(s *settings) error {
		s.cache = &config
		return nil
	}
}

// CacheStats returns the counts of the near cache. Without a cache, all counts are zero.
func (c *Client) CacheStats() CacheStats {
	if c.cache == nil {
		return CacheStats{}
	}
	return c.cache.kept.Stats()
}

// forget drops the cached answers about a user whose sessions this client has changed, or tried to
// change. The next validation need not wait for the event.
func (c *Client) forget(userID string) {
	if c.cache != nil {
		c.cache.kept.ForgetUser(userID)
	}
}

// forgetToken drops the cached answer about a token that was just renewed.
func (c *Client) forgetToken(accessToken, deviceID string) {
	if c.cache != nil {
		c.cache.kept.Discard(accessToken, deviceID)
	}
}

// cacheKeeper validates tokens that the near cache has no answer for. Callers that validate the
// same token at the same time share one request. The cacheKeeper also passes the events of a watch
// to the cache.
//
// A caller that joins a request gets an answer that may be as old as the request. So a caller joins
// only while the cache is live, and only if the watch has brought no event of any user since the
// request was sent. When the event of a revocation has arrived, callers join no request that was
// sent before the event arrived.
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

// validate returns the service's answer. own is the context of the call, and ctx is the context of
// its caller.
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
			// A caller with more time than the first caller asks again.
			if first || !hadTooLittleTime(landed.Err) || own.Err() != nil {
				return Validation{}, copyForCaller(landed.Err)
			}
		}
	}
}

// ask makes the call that callers share. The call has the first caller's deadline, but is not
// cancelled when the first caller is.
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

// flightKey returns a key that is equal if two callers can share a request. The key consists of the
// token, the device ID, the number of the watch of the cache, and the count of events about users
// so far.
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

// hadTooLittleTime reports whether a call failed only because it had too little time. If the
// service can't answer a call in time, it refuses the call with UNAVAILABLE and the reason
// DEADLINE_TOO_SHORT.
func hadTooLittleTime(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && errors.Is(err, ErrUnavailable) &&
		(failed.Code == codes.DeadlineExceeded || failed.Reason == "DEADLINE_TOO_SHORT")
}
