package sessionauthority

import (
	"context"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ValidateSessionOptions are what a validation may have beside its token and device.
type ValidateSessionOptions struct {
	// Client is shown to the user.
	Client ClientInfo
	// ObserveOnly changes nothing, and never looks into the cache. It is for operators.
	ObserveOnly bool
	// Passive says that the end user did nothing, a page asks by itself: the session does not count
	// as used. The cache is left out.
	Passive bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// ValidateSession says whether device, user and token are good: right now, or as far as a cache can
// know. A session that is not good is an answer. An error says nothing of the session: answer your
// own caller with 503, never with 401.
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

// ValidationResult is the answer for one pair among many, or its own error.
type ValidationResult struct {
	Validation Validation
	Err        error
}

// ManyOptions are what a call about many sessions may have.
type ManyOptions struct {
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// ValidateSessions validates up to 500 pairs of token and device at once. The results have the same
// order. A pair that breaks a rule fails alone. No answer comes from a cache.
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

// StateResult is the answer for one session among many, or its own error: an error says nothing of
// the session.
type StateResult struct {
	State SessionState
	Err   error
}

// CheckSessions says whether up to 500 sessions still live, for connections that outlast their
// tokens. Nothing counts as used. It admits no request: it knows no token.
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
