package sessionauthoritytest

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// service implements the methods of the contract. mu guards all fields below mu.
type service struct {
	pb.UnimplementedSessionAuthorityServiceServer

	tokenTTL       time.Duration
	alarmOnRenewal bool

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at each change that watches must see
	state      *state
	away       bool
	refused    error
	delay      time.Duration
	maxDevices int   // -1: no limit
	replicas   *bool // nil: there are no replicas
	calls      map[string]int
	rotations  int
}

func newService(tokenTTL time.Duration, alarmOnRenewal bool) *service {
	return &service{
		tokenTTL: tokenTTL, alarmOnRenewal: alarmOnRenewal, changed: make(chan struct{}),
		state: newState(), maxDevices: -1, calls: map[string]int{},
	}
}

// guard runs each unary method. It counts the call, returns an error if the fake is unavailable or
// refuses calls, and holds mu while the method runs.
func (s *service) guard(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	s.mu.Lock()
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[methodOf(info.FullMethod)]++
	if err := s.available(); err != nil {
		return nil, err
	}
	insists := false
	if insisting, can := request.(interface{ GetRequireReplicated() bool }); can {
		insists = insisting.GetRequireReplicated()
	}
	if insists && s.replicas == nil {
		return nil, refusal([]broken{{
			"require_replicated",
			"this service waits for no replicas (its setting REPLICAS_ACK is 0)",
		}})
	}
	response, err := handler(ctx, request)
	if err != nil {
		return nil, err
	}
	return response, s.tellDurability(response, insists)
}

// available returns the error that Unavailable or Refuse has set for every call. It returns nil if
// neither Unavailable nor Refuse has set an error.
func (s *service) available() error {
	if s.away {
		return failure(codes.Unavailable, "STORE_UNAVAILABLE", "")
	}
	return s.refused
}

func (s *service) tellDurability(response any, insists bool) error {
	message := response.(proto.Message).ProtoReflect()
	field := message.Descriptor().Fields().ByName("durability")
	renewal, isRenewal := response.(*pb.RenewSessionResponse)
	if field == nil || isRenewal && !renewal.GetRotated() {
		return nil
	}
	confirmed := s.replicas != nil && *s.replicas
	if insists && !confirmed {
		return failure(codes.Unavailable, "NOT_REPLICATED", "")
	}
	level := pb.Durability_DURABILITY_LOCAL
	if confirmed {
		level = pb.Durability_DURABILITY_REPLICATED
	}
	switch response := response.(type) {
	case *pb.IssueDeviceResponse:
		response.Durability = level
	case *pb.RenewSessionResponse:
		response.Durability = level
	case *pb.UpdateSessionResponse:
		response.Durability = level
	case *pb.UpdateDeviceResponse:
		response.Durability = level
	case *pb.RevokeDeviceResponse:
		response.Durability = level
	case *pb.RevokeAllResponse:
		response.Durability = level
	}
	return nil
}

// IssueDevice signs a user in.
func (s *service) IssueDevice(
	_ context.Context, request *pb.IssueDeviceRequest,
) (*pb.IssueDeviceResponse, error) {
	if err := refusal(signInRules(request)); err != nil {
		return nil, err
	}
	if known := s.state.signIns[request.GetRequestId()]; known != nil {
		return s.issueAgain(known, request)
	}
	now, presented := s.state.now(), uuidOf(request.GetDeviceId())
	deviceID := presented
	if deviceID == "" {
		deviceID = uuid.NewString()
	}
	devices := s.state.devices[request.GetUserId()]
	if err := s.checkLimit(devices, deviceID); err != nil {
		return nil, err
	}
	first := len(devices) == 0
	if devices == nil {
		devices = map[string]*device{}
		s.state.devices[request.GetUserId()] = devices
	}
	d, known := devices[deviceID]
	if !known {
		d = &device{deviceID: deviceID, createdAt: now}
		devices[deviceID] = d
	}
	made := s.startSession(request, d, now)
	text, handedOut := s.state.handOut(made, s.tokenTTL)
	s.tell(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_DEVICE_SIGNED_IN, UserId: request.GetUserId(),
		SessionId: made.sessionID, NewDevice: !known, FirstDevice: first,
	}, d)
	response := &pb.IssueDeviceResponse{
		Device:           deviceMessage(s.state, d, ""),
		AccessToken:      text,
		TokenExpireTime:  s.state.told(handedOut.endsAt),
		DeviceIdAssigned: presented == "",
		NewDevice:        !known,
	}
	if request.GetRequestId() != "" {
		s.state.signIns[request.GetRequestId()] = &signIn{
			proto.CloneOf(request), made, proto.CloneOf(response),
		}
	}
	return response, nil
}

func (s *service) startSession(request *pb.IssueDeviceRequest, d *device, now time.Time) *session {
	ttl := sessionTTL
	if request.GetSessionTtl() != nil {
		ttl = request.GetSessionTtl().AsDuration()
	}
	made := &session{
		userID: request.GetUserId(), deviceID: d.deviceID, sessionID: newSessionID(),
		claims: request.GetClaims(), authMethods: request.GetAuthMethods(),
		signedInAt: now, endsAt: now.Add(ttl), renewedAt: now, lastSeenAt: now, generation: 1,
		idleTimeout: request.GetIdleTimeout().AsDuration(),
	}
	if s.state.isLive(d) {
		made.replaced = d.session
	}
	d.client, d.signedInAt, d.lastSeenAt = shownClient(request.GetClient()), now, now
	d.session = made
	return made
}

func (s *service) issueAgain(
	known *signIn, request *pb.IssueDeviceRequest,
) (*pb.IssueDeviceResponse, error) {
	if !sameSignIn(known.request, request) {
		return nil, failure(codes.InvalidArgument, "REQUEST_ID_REUSED", "")
	}
	d := s.state.devices[known.session.userID][known.session.deviceID]
	isUnused := known.session.firstSeenAt.IsZero() && known.session.generation == 1
	if d == nil || d.session != known.session || !isUnused {
		return nil, failure(codes.Aborted, "REQUEST_ID_SPENT", "")
	}
	return proto.CloneOf(known.response), nil
}

func (s *service) checkLimit(devices map[string]*device, deviceID string) error {
	live := 0
	for _, d := range devices {
		if d.deviceID != deviceID && s.state.isLive(d) {
			live++
		}
	}
	if s.maxDevices >= 0 && live >= s.maxDevices {
		return failure(codes.ResourceExhausted, "DEVICE_LIMIT_REACHED", "")
	}
	return nil
}

// tell adds an event to the state, and wakes the watches. d is the device of the event, or nil.
func (s *service) tell(event *pb.Event, d *device) {
	s.state.events = append(s.state.events, eventMessage(s.state, event, d))
	s.wake()
}

func (s *service) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
