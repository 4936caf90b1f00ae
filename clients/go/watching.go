package sessionauthority

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// WatchEventsOptions are the optional arguments of WatchEvents. Without options, a watch starts at
// the present moment and has all events.
type WatchEventsOptions struct {
	// Cursor starts the watch after the batch that had this cursor.
	Cursor string
	// Since starts the watch at this time. Use Since if you have no cursor.
	Since time.Time
	// Types limits the watch to events of these types. If Types is empty, the watch has events of
	// all types.
	Types []EventType
	// UserIDs limits the watch to events of these users. The watch also has events that name no
	// user, because such events concern all users. If UserIDs is empty, the watch has events of all
	// users.
	UserIDs []string
}

// WatchEvents returns an iterator over batches of events. The first batch comes at once. The
// iterator ends when the service or ctx ends the watch, when the connection breaks, or when the
// client is closed. If the watch ends with an error, this error is the last value of the iterator.
//
// Keep the cursor of the last batch. If the watch ends with ErrUnavailable, start another watch
// with this cursor. ErrCursorExpired means that the watch may have missed events. A watch has no
// timeout, and counts against the service's MAX_PER_CONNECTION.
func (c *Client) WatchEvents(
	ctx context.Context, opts *WatchEventsOptions,
) iter.Seq2[*EventBatch, error] {
	o := valueOf(opts)
	return func(yield func(*EventBatch, error) bool) {
		request, err := watchRequest(&o)
		if err != nil {
			yield(nil, err)
			return
		}
		if c.closed() {
			yield(nil, clientClosed())
			return
		}
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.ending, cancel)()
		err = c.readWatch(own, c.service, request, func(message *pb.WatchEventsResponse) bool {
			return yield(eventBatchOf(message), nil)
		})
		if err != nil {
			yield(nil, failureOf(ctx, err, c.closed()))
		}
	}
}

// readWatch requests a watch, and calls read with each message of the watch, until the watch ends
// or read returns false. It returns nil if the service ended the watch without an error, or if read
// returned false.
func (c *Client) readWatch(
	ctx context.Context,
	service pb.SessionAuthorityServiceClient,
	request *pb.WatchEventsRequest,
	read func(*pb.WatchEventsResponse) bool,
) error {
	ctx, err := c.withToken(ctx)
	if err != nil {
		return err
	}
	stream, err := service.WatchEvents(ctx, request)
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !read(message) {
			return nil
		}
	}
}

func watchRequest(o *WatchEventsOptions) (*pb.WatchEventsRequest, error) {
	if err := checkTexts("cursor", o.Cursor); err != nil {
		return nil, err
	}
	request := &pb.WatchEventsRequest{Cursor: o.Cursor, UserIds: o.UserIDs}
	for _, userID := range o.UserIDs {
		if err := checkTexts("user_ids", userID); err != nil {
			return nil, err
		}
	}
	for _, kind := range o.Types {
		request.Types = append(request.Types, pb.EventType(kind))
	}
	if !o.Since.IsZero() {
		request.StartTime = timestamppb.New(o.Since)
	}
	return request, nil
}
