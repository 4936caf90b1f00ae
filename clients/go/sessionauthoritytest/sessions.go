package sessionauthoritytest

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// judged is the result of judging a token that a client presented. token is nil unless the token is
// good. revoked is the number of devices on which an alarm ended sessions.
type judged struct {
	status   pb.SessionStatus
	token    *token
	revoked  int32
	forgiven bool // a renewal with this superseded token would raise an alarm
}

// RenewSession renews a token. The response has no new token if the client must keep its token.
func (s *service) RenewSession(
	_ context.Context, request *pb.RenewSessionRequest,
) (*pb.RenewSessionResponse, error) {
	verdict := s.judge(request.GetAccessToken(), request.GetDeviceId(), true, false)
	response := &pb.RenewSessionResponse{
		Status: verdict.status, RevokedDevices: verdict.revoked,
	}
	presented := verdict.token
	if presented == nil {
		return response, nil
	}
	of, now := presented.session, s.state.now()
	if !request.GetPassive() {
		of.lastSeenAt = now
	}
	if presented.generation == of.generation {
		markSeen(presented, now, true)
		if rotateIfDue(presented, now) {
			s.rotations++
		}
	}
	handOut := func(text string, made *token) {
		presented = made
		response.AccessToken, response.Rotated = text, true
		response.TokenExpireTime = s.state.told(made.endsAt)
	}
	switch {
	case presented.generation < of.generation && of.firstSeenAt.IsZero():
		if now.Sub(of.renewedAt) > grace {
			of.renewedAt = now
		}
		handOut(s.state.handOut(of, s.tokenTTL))
	case presented.generation == of.generation && sameClaims(presented.claims, of.claims):
		of.newerClaims = false
	case presented.generation == of.generation && now.Before(presented.endsAt):
		handOut(s.state.reissue(presented))
	}
	response.Session = sessionMessage(s.state, presented)
	return response, nil
}

// UpdateSession changes the claims of a user's sessions on all devices, or on one device.
func (s *service) UpdateSession(
	_ context.Context, request *pb.UpdateSessionRequest,
) (*pb.UpdateSessionResponse, error) {
	userID, deviceID := request.GetUserId(), uuidOf(request.GetDeviceId())
	isNamed := request.GetDeviceId() != ""
	found := userIDRules(userID)
	if isNamed {
		found = append(found, deviceIDRules(request.GetDeviceId())...)
	}
	if err := refusal(append(found, claimRules(request.GetClaims())...)); err != nil {
		return nil, err
	}
	event := &pb.Event{Type: pb.EventType_EVENT_TYPE_SESSION_UPDATED, UserId: userID}
	var named *device
	updated, hasChanged := int32(0), false
	for _, d := range s.state.devices[userID] {
		if isNamed && d.deviceID != deviceID || !s.state.isLive(d) {
			continue
		}
		updated++
		if isNamed {
			named, event.SessionId = d, d.session.sessionID
		}
		if d.session.updated == nil || !sameClaims(d.session.updated, request.GetClaims()) {
			hasChanged = true
			d.session.claims = request.GetClaims()
			d.session.updated = map[string]string{}
			for name, fact := range request.GetClaims() {
				d.session.updated[name] = fact
			}
			d.session.newerClaims = true
		}
	}
	if isNamed && updated == 0 {
		return nil, failure(codes.NotFound, "SESSION_NOT_FOUND", "")
	}
	if hasChanged {
		s.tell(event, named)
	}
	return &pb.UpdateSessionResponse{UpdatedSessions: updated}, nil
}

// ValidateSession returns the verdict on a token.
func (s *service) ValidateSession(
	_ context.Context, request *pb.ValidateSessionRequest,
) (*pb.ValidateSessionResponse, error) {
	return s.validate(request), nil
}

func (s *service) validate(request *pb.ValidateSessionRequest) *pb.ValidateSessionResponse {
	verdict := s.judge(
		request.GetAccessToken(), request.GetDeviceId(), false, request.GetObserveOnly(),
	)
	response := &pb.ValidateSessionResponse{
		Active: verdict.token != nil, Status: verdict.status, RevokedDevices: verdict.revoked,
		RenewRecommended: verdict.forgiven, DeviceId: uuidOf(request.GetDeviceId()),
	}
	if response.GetDeviceId() == "" {
		response.DeviceId, response.DeviceIdAssigned = uuid.NewString(), true
		s.state.assigned[response.GetDeviceId()] = true
	}
	presented := verdict.token
	if presented == nil {
		return response
	}
	of, now := presented.session, s.state.now()
	isSuperseded := presented.generation < of.generation
	halfLife := presented.endsAt.Sub(presented.issuedAt) / 2
	response.RenewRecommended = presented.aged || presented.endsAt.Sub(now) < halfLife ||
		isSuperseded || of.newerClaims
	if !request.GetObserveOnly() {
		if !request.GetPassive() {
			s.state.devices[of.userID][of.deviceID].lastSeenAt, of.lastSeenAt = now, now
		}
		if !isSuperseded {
			markSeen(presented, now, !s.alarmOnRenewal)
		}
	}
	response.Session = sessionMessage(s.state, presented)
	return response
}

// BatchValidateSessions returns the verdicts on many tokens.
func (s *service) BatchValidateSessions(
	_ context.Context, request *pb.BatchValidateSessionsRequest,
) (*pb.BatchValidateSessionsResponse, error) {
	if err := refusal(batchRules(len(request.GetRequests()), "requests")); err != nil {
		return nil, err
	}
	response := &pb.BatchValidateSessionsResponse{}
	for _, one := range request.GetRequests() {
		response.Results = append(response.Results, &pb.BatchValidateSessionsResult{
			Outcome: &pb.BatchValidateSessionsResult_Response{Response: s.validate(one)},
		})
	}
	return response, nil
}

// CheckSessions returns the state of each named session, such as active, expired or ended.
func (s *service) CheckSessions(
	_ context.Context, request *pb.CheckSessionsRequest,
) (*pb.CheckSessionsResponse, error) {
	if err := refusal(batchRules(len(request.GetSessions()), "sessions")); err != nil {
		return nil, err
	}
	response := &pb.CheckSessionsResponse{}
	for _, named := range request.GetSessions() {
		response.Results = append(response.Results, checkedSession(s.state, named))
	}
	return response, nil
}

func (s *service) judge(text, deviceID string, renewing, observeOnly bool) judged {
	verdict, good := judge(s.state, text, deviceID, renewing, observeOnly)
	if verdict != statusReplayed {
		return judged{status: verdict, token: good}
	}
	presented := s.state.tokens[text]
	of := presented.session
	d := s.state.devices[of.userID][of.deviceID]
	if s.alarmOnRenewal && !renewing && uuidOf(deviceID) == of.deviceID {
		if !observeOnly {
			s.tellOfSuperseded(of, d)
		}
		return judged{status: statusSuperseded, forgiven: true}
	}
	if observeOnly {
		return judged{status: verdict}
	}
	cause := replayCause(s.state, presented, uuidOf(deviceID))
	d.alarmedAt, d.alarmCause = s.state.now(), cause
	revoked := s.state.endSessions(of.userID, "")
	s.tell(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_SESSION_REPLAYED, UserId: of.userID,
		SessionId: of.sessionID, ReplayCause: cause,
	}, d)
	return judged{status: verdict, revoked: revoked}
}

// tellOfSuperseded adds an event that a client presented a superseded token. For each session, it
// adds at most one event about a superseded token an hour.
func (s *service) tellOfSuperseded(of *session, d *device) {
	now := s.state.now()
	if of.toldAt.IsZero() || now.Sub(of.toldAt) >= time.Hour {
		of.toldAt = now
		s.tell(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED, UserId: of.userID,
		}, d)
	}
}
