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

// CacheConfig has the limits of a near cache. A field that is zero stands for its default.
type CacheConfig struct {
	// MaxEntries is the maximum number of kept answers. The default is 10,000. If there are more
	// answers, the cache drops the least recently used answers.
	MaxEntries int
	// MaxAge is the maximum time for which an answer is used, counted from the moment when the
	// request was sent. The default is 60 seconds. If MaxAge is at most the service's GRACE (by
	// default 30 seconds), the cache accepts no superseded token for longer than the service itself
	// does.
	MaxAge time.Duration
	// MaxSilence is the maximum age of the last proof of the cache's watch. A proof says that the
	// watch has sent all events before a moment. If the last proof is older than MaxSilence, the
	// cache is off. So the cache can miss a revocation for MaxSilence at most. The default is 15
	// seconds, and larger values are refused. If MaxSilence is less than 12 seconds, the cache is
	// often off, because proofs come every 10 to 11 seconds.
	MaxSilence time.Duration
}

// CacheStats has the counts of a near cache since the client was made.
type CacheStats = nearcache.Stats

// CacheDropped counts the answers that a near cache has dropped, by reason.
type CacheDropped = nearcache.Dropped

// WithCache gives the client a near cache. The cache keeps the service's answers to validations.
// While a watch proves that a kept answer still holds, the client returns the kept answer and makes
// no call. The first validation that may use the cache starts the watch, on a connection of its
// own. This caller needs the permissions to watch events and to validate. While no watch is live,
// every validation is a call.
//
// CACHE.md of the Python client says how stale a kept answer can be. The same rules apply to this
// client.
func WithCache(config CacheConfig) Option {
	return func(s *settings) error {
		s.cache = &config
		return nil
	}
}

// CacheStats returns the counts of the near cache. If the client has no near cache, all counts are
// zero.
func (c *Client) CacheStats() CacheStats {
	if c.cache == nil {
		return CacheStats{}
	}
	return c.cache.kept.Stats()
}

// forget drops the cached answers about a user. The client calls it after each call that changes
// the user's sessions, even if the call failed. So the next validation sees the change, although
// the event of the change may not have arrived yet.
func (c *Client) forget(userID string) {
	if c.cache != nil {
		c.cache.kept.ForgetUser(userID)
	}
}

// forgetToken drops the cached answer about a token. The client calls it after each renewal of a
// token, even if the renewal failed.
func (c *Client) forgetToken(accessToken, deviceID string) {
	if c.cache != nil {
		c.cache.kept.Discard(accessToken, deviceID)
	}
}

// cacheKeeper validates the tokens for which the near cache has no answer. If several callers
// validate the same token on the same device at the same time, they share one request. cacheKeeper
// also passes the events of a watch to the cache.
//
// If a caller joins the request of another caller, the answer may be as old as the request. So a
// caller joins a request only while a watch is live, and only if no event has arrived since the
// request was sent. For example, when the event of a revocation has arrived, no caller joins a
// request that was sent before the event.
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

// validate returns the service's answer to a validation. ctx is the caller's context. own is the
// context of the call: it is derived from ctx, and has the call's deadline.
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
			// If the shared request failed only because the first caller had too little time, a
			// caller that still has time makes another request.
			if first || !hadTooLittleTime(landed.Err) || own.Err() != nil {
				return Validation{}, copyForCaller(landed.Err)
			}
		}
	}
}

// ask makes a validation that several callers may share, and stores the answer in the cache. The
// call has the deadline of the first caller. If only the first caller's context is canceled, the
// call goes on.
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

// flightKey returns the key of a shared request: two callers can share a request if their keys are
// equal. The key consists of the token, the device ID, and two numbers of the ticket. These numbers
// are the number of the cache's watch and the number of events about users so far.
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

// hadTooLittleTime reports whether a call failed only because its deadline was too early. If the
// service can't answer a call before the deadline, it refuses the call with UNAVAILABLE and the
// reason DEADLINE_TOO_SHORT.
func hadTooLittleTime(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && errors.Is(err, ErrUnavailable) &&
		(failed.Code == codes.DeadlineExceeded || failed.Reason == "DEADLINE_TOO_SHORT")
}
