package sessionauthoritytest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

const (
	pageSize    = 50
	proofOfLife = time.Second
)

// ListDevices returns a page of a user's devices.
func (s *service) ListDevices(
	_ context.Context, request *pb.ListDevicesRequest,
) (*pb.ListDevicesResponse, error) {
	if err := refusal(userIDRules(request.GetUserId())); err != nil {
		return nil, err
	}
	var listed []*device
	for _, d := range s.state.devices[request.GetUserId()] {
		if request.GetIncludeSignedOut() || s.state.isLive(d) {
			listed = append(listed, d)
		}
	}
	slices.SortFunc(listed, func(one, other *device) int {
		if order := other.lastSeenAt.Compare(one.lastSeenAt); order != 0 {
			return order
		}
		return strings.Compare(one.deviceID, other.deviceID)
	})
	size := int(request.GetPageSize())
	if size <= 0 {
		size = pageSize
	}
	start, _ := strconv.Atoi(request.GetPageToken()) // page tokens are not checked
	start = min(max(start, 0), len(listed))
	end := min(start+size, len(listed))
	response := &pb.ListDevicesResponse{TotalSize: int32(len(listed))}
	for _, d := range listed[start:end] {
		response.Devices = append(response.Devices,
			deviceMessage(s.state, d, uuidOf(request.GetCurrentDeviceId())))
	}
	if end < len(listed) {
		response.NextPageToken = strconv.Itoa(end)
	}
	return response, nil
}

// UpdateDevice changes the name of a device.
func (s *service) UpdateDevice(
	_ context.Context, request *pb.UpdateDeviceRequest,
) (*pb.UpdateDeviceResponse, error) {
	err := refusal(slices.Concat(
		userIDRules(request.GetUserId()), deviceIDRules(request.GetDeviceId()),
		displayNameRules(request.GetDisplayName()),
	))
	if err != nil {
		return nil, err
	}
	d := s.state.devices[request.GetUserId()][uuidOf(request.GetDeviceId())]
	if d == nil {
		return nil, failure(codes.NotFound, "DEVICE_NOT_FOUND", "")
	}
	d.displayName = cleaned(request.GetDisplayName())
	return &pb.UpdateDeviceResponse{Device: deviceMessage(s.state, d, "")}, nil
}

// RevokeDevice signs a user out on a device.
func (s *service) RevokeDevice(
	_ context.Context, request *pb.RevokeDeviceRequest,
) (*pb.RevokeDeviceResponse, error) {
	found := append(userIDRules(request.GetUserId()), deviceIDRules(request.GetDeviceId())...)
	if err := refusal(found); err != nil {
		return nil, err
	}
	devices := s.state.devices[request.GetUserId()]
	d := devices[uuidOf(request.GetDeviceId())]
	if d == nil {
		return &pb.RevokeDeviceResponse{}, nil
	}
	isRevoked := s.state.isLive(d)
	if isRevoked {
		ended := d.session
		d.session = nil
		s.tell(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_DEVICE_REVOKED, UserId: request.GetUserId(),
			SessionId: ended.sessionID, Reason: request.GetReason(),
		}, d)
	}
	d.session = nil
	if request.GetForget() {
		delete(devices, d.deviceID)
	}
	return &pb.RevokeDeviceResponse{Revoked: isRevoked}, nil
}

// RevokeAll signs a user out on all devices. If the request names a device to spare, the user stays
// signed in on that device.
func (s *service) RevokeAll(
	_ context.Context, request *pb.RevokeAllRequest,
) (*pb.RevokeAllResponse, error) {
	if err := refusal(userIDRules(request.GetUserId())); err != nil {
		return nil, err
	}
	spared := uuidOf(request.GetExceptDeviceId())
	revoked := s.state.endSessions(request.GetUserId(), spared)
	if revoked > 0 {
		s.tell(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_ALL_REVOKED, UserId: request.GetUserId(),
			Reason: request.GetReason(), ExceptDeviceId: spared,
		}, nil)
	}
	if request.GetForget() {
		devices := s.state.devices[request.GetUserId()]
		for deviceID := range devices {
			if deviceID != spared {
				delete(devices, deviceID)
			}
		}
	}
	return &pb.RevokeAllResponse{RevokedDevices: revoked}, nil
}

// GetSigningKeys returns an empty set of keys.
func (s *service) GetSigningKeys(
	context.Context, *pb.GetSigningKeysRequest,
) (*pb.GetSigningKeysResponse, error) {
	return &pb.GetSigningKeysResponse{JwksJson: `{"keys":[]}`}, nil
}

// WatchEvents sends the events after the cursor in the request. If the request has no cursor,
// WatchEvents sends the events since the start time, or from now on if there is no start time.
func (s *service) WatchEvents(
	request *pb.WatchEventsRequest, stream grpc.ServerStreamingServer[pb.WatchEventsResponse],
) error {
	own, start, err := s.beginWatch(request)
	if err != nil {
		return err
	}
	first := &pb.WatchEventsResponse{Cursor: strconv.Itoa(start)}
	if request.GetCursor() == "" && request.GetStartTime() == nil {
		s.prove(first, own)
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	proof := time.NewTicker(proofOfLife)
	defer proof.Stop()
	for {
		message, changed, err := s.nextMessage(own, &start, request)
		if err != nil {
			return err
		}
		if message == nil {
			select {
			case <-changed:
				continue
			case <-proof.C:
				message = &pb.WatchEventsResponse{Cursor: strconv.Itoa(start)}
				s.prove(message, own)
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

func (s *service) beginWatch(request *pb.WatchEventsRequest) (*state, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls["WatchEvents"]++
	if err := s.available(); err != nil {
		return nil, 0, err
	}
	start := len(s.state.events)
	if request.GetCursor() != "" {
		number, err := strconv.ParseUint(request.GetCursor(), 10, 31)
		if err != nil || int(number) > start {
			return nil, 0, failure(codes.OutOfRange, "CURSOR_EXPIRED", "")
		}
		start = int(number)
	} else if since := request.GetStartTime(); since != nil {
		start = 0
		for start < len(s.state.events) &&
			s.state.events[start].GetCreateTime().AsTime().Before(since.AsTime()) {
			start++
		}
	}
	return s.state, start, nil
}

// nextMessage returns a message with the events after start that the request wants, and moves start
// to the end of the events. If there are no events after start, it returns no message, but a
// channel that is closed at the next change.
func (s *service) nextMessage(
	own *state, start *int, request *pb.WatchEventsRequest,
) (*pb.WatchEventsResponse, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.available(); err != nil {
		return nil, nil, err
	}
	if s.state != own {
		return nil, nil, failure(codes.OutOfRange, "CURSOR_EXPIRED", "")
	}
	if len(own.events) == *start {
		return nil, s.changed, nil
	}
	message := &pb.WatchEventsResponse{}
	for _, event := range own.events[*start:] {
		if isWanted(event, request) {
			message.Events = append(message.Events, event)
		}
	}
	*start = len(own.events)
	message.Cursor = strconv.Itoa(*start)
	return message, nil, nil
}

// prove adds the read times to a message of a watch. With the read times, the message proves that
// the watch has sent all events before the read times.
func (s *service) prove(message *pb.WatchEventsResponse, own *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	message.ReadTime = timestamppb.New(own.now())
	message.ReadUptime = durationpb.New(time.Since(started))
}
