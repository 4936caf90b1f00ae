package sessionauthority_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

const testDevice = "123e4567-e89b-42d3-a456-426614174000"

// scripted is a service on loopback that answers with the functions of a test. If validate or batch
// is nil, each validation is active. The other methods need their functions.
type scripted struct {
	pb.UnimplementedSessionAuthorityServiceServer
	address string
	server  *grpc.Server

	mu       sync.Mutex
	calls    map[string]int
	validate func(context.Context, *pb.ValidateSessionRequest) (*pb.ValidateSessionResponse, error)
	batch    func(
		context.Context, *pb.BatchValidateSessionsRequest,
	) (*pb.BatchValidateSessionsResponse, error)
	check func(context.Context, *pb.CheckSessionsRequest) (*pb.CheckSessionsResponse, error)
	issue func(context.Context, *pb.IssueDeviceRequest) (*pb.IssueDeviceResponse, error)
	watch func(
		*pb.WatchEventsRequest, grpc.ServerStreamingServer[pb.WatchEventsResponse],
	) error
}

func newScripted(t testing.TB) *scripted {
	t.Helper()
	s := &scripted{calls: map[string]int{}}
	s.start(t, "127.0.0.1:0")
	return s
}

func (s *scripted) start(t testing.TB, address string, options ...grpc.ServerOption) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.server = grpc.NewServer(options...)
	pb.RegisterSessionAuthorityServiceServer(s.server, s)
	server := s.server
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

func (s *scripted) client(t testing.TB, opts ...sa.Option) *sa.Client {
	t.Helper()
	opts = append([]sa.Option{sa.WithTimeout(20 * time.Second)}, opts...)
	client, err := sa.NewClient(s.address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *scripted) count(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
}

func (s *scripted) called(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *scripted) ValidateSession(
	ctx context.Context, request *pb.ValidateSessionRequest,
) (*pb.ValidateSessionResponse, error) {
	s.count("ValidateSession")
	if s.validate == nil {
		return active(request.GetDeviceId()), nil
	}
	return s.validate(ctx, request)
}

func (s *scripted) BatchValidateSessions(
	ctx context.Context, request *pb.BatchValidateSessionsRequest,
) (*pb.BatchValidateSessionsResponse, error) {
	s.count("BatchValidateSessions")
	if s.batch != nil {
		return s.batch(ctx, request)
	}
	response := &pb.BatchValidateSessionsResponse{}
	for _, one := range request.GetRequests() {
		response.Results = append(response.Results, &pb.BatchValidateSessionsResult{
			Outcome: &pb.BatchValidateSessionsResult_Response{Response: active(one.GetDeviceId())},
		})
	}
	return response, nil
}

func (s *scripted) CheckSessions(
	ctx context.Context, request *pb.CheckSessionsRequest,
) (*pb.CheckSessionsResponse, error) {
	s.count("CheckSessions")
	return s.check(ctx, request)
}

func (s *scripted) IssueDevice(
	ctx context.Context, request *pb.IssueDeviceRequest,
) (*pb.IssueDeviceResponse, error) {
	s.count("IssueDevice")
	return s.issue(ctx, request)
}

func (s *scripted) WatchEvents(
	request *pb.WatchEventsRequest, stream grpc.ServerStreamingServer[pb.WatchEventsResponse],
) error {
	s.count("WatchEvents")
	return s.watch(request, stream)
}

// active returns the answer for a session of the user "ada" that lasts for another hour.
func active(device string) *pb.ValidateSessionResponse {
	later := timestamppb.New(time.Now().Add(time.Hour))
	return &pb.ValidateSessionResponse{
		Active:   true,
		Status:   pb.SessionStatus_SESSION_STATUS_ACTIVE,
		DeviceId: device,
		Session: &pb.Session{
			UserId: "ada", DeviceId: device, SessionId: "0123456789abcdef0123456789abcdef",
			Generation: 1, Claims: map[string]string{"email": "ada@example.org"},
			SignInTime: timestamppb.Now(), TokenExpireTime: later, ExpireTime: later,
			AbsoluteExpireTime: later,
		},
	}
}

// answerBatch makes each request of a batch fail with this error.
func (s *scripted) answerBatch(item *pb.RequestError) {
	s.batch = func(
		_ context.Context, r *pb.BatchValidateSessionsRequest,
	) (*pb.BatchValidateSessionsResponse, error) {
		response := &pb.BatchValidateSessionsResponse{}
		for range r.GetRequests() {
			response.Results = append(response.Results, &pb.BatchValidateSessionsResult{
				Outcome: &pb.BatchValidateSessionsResult_Error{Error: item},
			})
		}
		return response, nil
	}
}
