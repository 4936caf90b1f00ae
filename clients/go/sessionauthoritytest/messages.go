package sessionauthoritytest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// started is the zero of the fake's monotonic clock. PassTime does not move the monotonic clock.
var started = time.Now()

// failure returns an error with the same code and details as an error of the real service. If text
// is empty, the error's message is reason.
func failure(code codes.Code, reason, text string, more ...protoadapt.MessageV1) error {
	return failureWith(code, reason, text, nil, more...)
}

func failureWith(
	code codes.Code, reason, text string, told map[string]string, more ...protoadapt.MessageV1,
) error {
	if text == "" {
		text = reason
	}
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: reason, Domain: "session-authority", Metadata: told,
	}}, more...)
	if code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	st, err := status.New(code, text).WithDetails(details...)
	if err != nil {
		return err
	}
	return st.Err()
}

// refusal returns the error of a request with fields that break rules. It returns nil if found is
// empty.
func refusal(found []broken) error {
	if len(found) == 0 {
		return nil
	}
	bad, told := &errdetails.BadRequest{}, map[string]string(nil)
	for _, one := range found {
		bad.FieldViolations = append(bad.FieldViolations,
			&errdetails.BadRequest_FieldViolation{Field: one.field, Description: one.rule})
		if one.field == "idle_timeout" {
			told = idleLimits
		}
	}
	return failureWith(codes.InvalidArgument, "INVALID_REQUEST", textOf(found), told, bad)
}

func textOf(found []broken) string {
	var texts []string
	for _, one := range found {
		texts = append(texts, one.field+": "+one.rule)
	}
	return strings.Join(texts, "; ")
}

// sameSignIn reports whether two requests with the same request ID want the same sign-in. Their
// fields client and require_replicated may differ.
func sameSignIn(one, other *pb.IssueDeviceRequest) bool {
	bare := func(request *pb.IssueDeviceRequest) *pb.IssueDeviceRequest {
		made := proto.CloneOf(request)
		made.Client, made.RequireReplicated = nil, false
		return made
	}
	return proto.Equal(bare(one), bare(other))
}

func sessionMessage(s *state, of *token) *pb.Session {
	return &pb.Session{
		UserId:             of.session.userID,
		DeviceId:           of.session.deviceID,
		SessionId:          of.session.sessionID,
		Generation:         of.generation,
		Claims:             of.claims,
		SignInTime:         s.told(of.session.signedInAt),
		TokenExpireTime:    s.told(of.endsAt),
		ExpireTime:         s.told(of.session.expiresAt()),
		AuthMethods:        of.session.authMethods,
		AbsoluteExpireTime: s.told(of.session.endsAt),
	}
}

// deviceMessage returns the message of the contract for a device. The field current is true if
// current is the ID of the device.
func deviceMessage(s *state, d *device, current string) *pb.Device {
	message := &pb.Device{
		DeviceId:     d.deviceID,
		DisplayName:  "Unknown device",
		LastClient:   d.client,
		CreateTime:   s.told(d.createdAt),
		SignInTime:   s.told(d.signedInAt),
		LastSeenTime: s.told(d.lastSeenAt),
		Current:      d.deviceID == current,
		SignedIn:     s.isLive(d),
		City:         d.client.GetPlace().GetCity(),
		CountryCode:  d.client.GetPlace().GetCountryCode(),
	}
	for _, shown := range []string{d.client.GetDisplayName(), d.displayName} {
		if shown != "" {
			message.DisplayName = shown
		}
	}
	if !d.alarmedAt.IsZero() && s.now().Sub(d.alarmedAt) <= alarmMemory {
		message.LastAlarm = &pb.DeviceAlarm{
			CreateTime: s.told(d.alarmedAt), ReplayCause: d.alarmCause,
		}
	}
	if message.GetSignedIn() {
		message.SessionId = d.session.sessionID
		message.AuthMethods = d.session.authMethods
		message.ExpireTime = s.told(d.session.expiresAt())
		message.AbsoluteExpireTime = s.told(d.session.endsAt)
	}
	return message
}

// checkedSession returns the result of CheckSessions for one session. The result has the state of
// the session, or an error if the name of the session breaks rules.
func checkedSession(s *state, named *pb.SessionName) *pb.CheckSessionsResult {
	if found := sessionNameRules(named); len(found) > 0 {
		failed := &pb.RequestError{
			Code:    int32(codes.InvalidArgument),
			Reason:  pb.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			Message: textOf(found),
		}
		for _, one := range found {
			failed.FieldViolations = append(failed.FieldViolations,
				&pb.FieldViolation{Field: one.field, Description: one.rule})
		}
		return &pb.CheckSessionsResult{Outcome: &pb.CheckSessionsResult_Error{Error: failed}}
	}
	return &pb.CheckSessionsResult{
		Outcome: &pb.CheckSessionsResult_State{State: stateMessage(s, named)},
	}
}

func stateMessage(s *state, named *pb.SessionName) *pb.SessionState {
	d := s.devices[named.GetUserId()][uuidOf(named.GetDeviceId())]
	switch {
	case d == nil || d.session == nil:
		return &pb.SessionState{Status: pb.SessionStatus_SESSION_STATUS_NO_SESSION}
	case d.session.sessionID != strings.ToLower(named.GetSessionId()):
		return &pb.SessionState{Status: pb.SessionStatus_SESSION_STATUS_SESSION_ENDED}
	case !s.isLive(d):
		return &pb.SessionState{Status: pb.SessionStatus_SESSION_STATUS_SESSION_EXPIRED}
	}
	return &pb.SessionState{
		Status:             statusActive,
		ExpireTime:         s.told(d.session.expiresAt()),
		AbsoluteExpireTime: s.told(d.session.endsAt),
	}
}

// eventMessage adds the ID, the actor, the time and the device to an event that is about to be
// written. d is the device of the event, or nil if the event is not about a single device.
func eventMessage(s *state, event *pb.Event, d *device) *pb.Event {
	event.EventId = strconv.Itoa(len(s.events) + 1)
	event.Actor = "fake"
	event.CreateTime = timestamppb.New(s.now())
	if d != nil {
		event.Device = &pb.EventDevice{
			DeviceId: d.deviceID, DisplayName: deviceMessage(s, d, "").GetDisplayName(),
		}
		event.Client = &pb.EventClient{
			Info: d.client, City: d.client.GetPlace().GetCity(),
			CountryCode: d.client.GetPlace().GetCountryCode(),
		}
	}
	return event
}

// isWanted reports whether an event passes the filters of a watch. An event passes if its type and
// its user are in the lists of the request. An empty list lets all events pass.
func isWanted(event *pb.Event, request *pb.WatchEventsRequest) bool {
	return (len(request.GetTypes()) == 0 || slices.Contains(request.GetTypes(), event.GetType())) &&
		(len(request.GetUserIds()) == 0 || event.GetUserId() == "" ||
			slices.Contains(request.GetUserIds(), event.GetUserId()))
}
