package sessionauthority

import (
	"context"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ValidateSessionOptions are the optional arguments of ValidateSession.
type ValidateSessionOptions struct {
	// Client has the facts about the browser or app. The facts are only for display.
	Client ClientInfo
	// ObserveOnly makes the service change nothing: it writes nothing and raises no alarm. The near
	// cache does not answer such a validation. ObserveOnly is for operators. The default is false.
	ObserveOnly bool
	// Passive says that the page sent the request by itself, without an action of the end user. A
	// passive validation does not count as a use of the session, and the near cache does not answer
	// it. The default is false.
	Passive bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// ValidateSession checks whether a token is good on a device. If the client has no near cache, the
// service answers each validation. If the client has a near cache, the cache may return an older
// answer, within the limits of CacheConfig.
//
// If the session is not good, ValidateSession returns no error, but a Validation that is not
// Active. If ValidateSession returns an error, it is unknown whether the session is good. Answer
// your own caller with the HTTP status 503 then, and never with 401.
func (c *Client) ValidateSession(
	ctx context.Context, accessToken, deviceID string, opts *ValidateSessionOptions,
) (Validation, error) {
	cached := c.cache != nil && (opts == nil || !opts.ObserveOnly && !opts.Passive)
	if cached {
		if found, ok := c.cache.kept.Get(accessToken, deviceID); ok {
			return *found, nil
		}
	}
	o := valueOf(opts)
	request := &pb.ValidateSessionRequest{
		AccessToken: presented(accessToken),
		DeviceId:    presented(deviceID),
		Client:      clientMessage(&o.Client),
		ObserveOnly: o.ObserveOnly,
		Passive:     o.Passive,
	}
	own, done := c.begin(ctx, o.Timeout)
	defer done()
	if cached {
		return c.cache.validate(own, ctx, accessToken, deviceID, request)
	}
	return c.batches.validate(own, ctx, request)
}

// ValidationResult is the result of ValidateSessions for one pair: a validation or an error.
type ValidationResult struct {
	Validation Validation
	Err        error
}

// ManyOptions are the optional arguments of ValidateSessions and CheckSessions.
type ManyOptions struct {
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// ValidateSessions validates up to 500 pairs of an access token and a device ID in one call. It
// returns the results in the order of pairs. If a pair breaks a rule, only the result of this pair
// has an error. ValidateSessions does not use the near cache.
func (c *Client) ValidateSessions(
	ctx context.Context, pairs []Presented, opts *ManyOptions,
) ([]ValidationResult, error) {
	o := valueOf(opts)
	request := &pb.BatchValidateSessionsRequest{}
	for _, pair := range pairs {
		request.Requests = append(request.Requests, &pb.ValidateSessionRequest{
			AccessToken: presented(pair.AccessToken),
			DeviceId:    presented(pair.DeviceID),
		})
	}
	response, err := call(ctx, c, o.Timeout, c.service.BatchValidateSessions, request)
	if err != nil {
		return nil, err
	}
	if len(response.GetResults()) != len(pairs) {
		return nil, wrongNumberOfAnswers()
	}
	results := make([]ValidationResult, len(pairs))
	for i, result := range response.GetResults() {
		if response := result.GetResponse(); response != nil {
			results[i].Validation = validationOf(response)
		} else {
			results[i].Err = errorOfItem(result.GetError())
		}
	}
	return results, nil
}

// StateResult is the result of CheckSessions for one session: a state or an error. If there is an
// error, it is unknown whether the session lives.
type StateResult struct {
	State SessionState
	Err   error
}

// CheckSessions checks whether up to 500 sessions still live. It is for connections that stay open
// after their tokens have expired. The check does not count as a use of the sessions. CheckSessions
// returns the results in the order of names. Don't use CheckSessions to admit a request, because it
// checks no token.
func (c *Client) CheckSessions(
	ctx context.Context, names []SessionName, opts *ManyOptions,
) ([]StateResult, error) {
	o := valueOf(opts)
	request := &pb.CheckSessionsRequest{}
	for _, name := range names {
		err := checkTexts(
			"user_id", name.UserID, "device_id", name.DeviceID, "session_id", name.SessionID,
		)
		if err != nil {
			return nil, err
		}
		request.Sessions = append(request.Sessions, &pb.SessionName{
			UserId: name.UserID, DeviceId: name.DeviceID, SessionId: name.SessionID,
		})
	}
	response, err := call(ctx, c, o.Timeout, c.service.CheckSessions, request)
	if err != nil {
		return nil, err
	}
	if len(response.GetResults()) != len(names) {
		return nil, wrongNumberOfAnswers()
	}
	results := make([]StateResult, len(names))
	for i, result := range response.GetResults() {
		if state := result.GetState(); state != nil {
			results[i].State = stateOf(state)
		} else {
			results[i].Err = errorOfItem(result.GetError())
		}
	}
	return results, nil
}
