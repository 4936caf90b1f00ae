package sessionauthority

import (
	"context"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ValidateSessionOptions are the optional arguments of ValidateSession.
type ValidateSessionOptions struct {
	// Client has the facts about the browser or app. They are only for display.
	Client ClientInfo
	// ObserveOnly makes the validation change nothing, and never uses the cache. It is for
	// operators. The default is false.
	ObserveOnly bool
	// Passive says that the page sent the request by itself, without the end user. The session does
	// not count as used, and the cache is not used. The default is false.
	Passive bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// ValidateSession checks whether a token is good on a device. Without a near cache, the answer
// holds right now. With a near cache, the answer may be older, within the limits of CacheConfig. A
// session that is not good is an answer, and no error. An error says nothing of the session: answer
// your own caller with 503, and never with 401.
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

// ValidationResult is the answer for one pair of ValidateSessions, or the error of this pair.
type ValidationResult struct {
	Validation Validation
	Err        error
}

// ManyOptions are the optional arguments of ValidateSessions and CheckSessions.
type ManyOptions struct {
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// ValidateSessions validates up to 500 pairs of access token and device ID at once. It returns the
// results in the same order. A pair that breaks a rule fails alone: its error is in its result. No
// answer comes from a cache.
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

// StateResult is the answer for one session of CheckSessions, or the error of this session. An
// error says nothing of the session.
type StateResult struct {
	State SessionState
	Err   error
}

// CheckSessions checks whether up to 500 sessions still live, for connections that outlast their
// tokens. No session counts as used. It returns the results in the same order. Don't use it to
// admit a request: it checks no token.
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
