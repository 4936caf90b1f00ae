package sessionauthority_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// held is a scripted service that does not answer the validation of the token "first" until a test
// closes leave.
type held struct {
	*scripted
	entered chan struct{}
	leave   chan struct{}
	batches chan []string // the tokens of each batch
}

func newHeld(t *testing.T) *held {
	h := &held{
		scripted: newScripted(t), entered: make(chan struct{}, 100),
		leave: make(chan struct{}), batches: make(chan []string, 100),
	}
	h.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		h.entered <- struct{}{}
		if r.GetAccessToken() == "first" {
			<-h.leave
		}
		return active(r.GetDeviceId()), nil
	}
	h.batch = func(
		_ context.Context, r *pb.BatchValidateSessionsRequest,
	) (*pb.BatchValidateSessionsResponse, error) {
		var tokens []string
		response := &pb.BatchValidateSessionsResponse{}
		for _, one := range r.GetRequests() {
			tokens = append(tokens, one.GetAccessToken())
			response.Results = append(response.Results, resultOf(one))
		}
		h.batches <- tokens
		return response, nil
	}
	return h
}

// resultOf returns an answer whose user ID contains the token, so that a test notices if a caller
// gets the answer of another caller. A token that starts with "bad" fails.
func resultOf(request *pb.ValidateSessionRequest) *pb.BatchValidateSessionsResult {
	if strings.HasPrefix(request.GetAccessToken(), "bad") {
		return &pb.BatchValidateSessionsResult{
			Outcome: &pb.BatchValidateSessionsResult_Error{Error: &pb.RequestError{
				Code:    int32(codes.Unavailable),
				Reason:  pb.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
				Message: request.GetAccessToken(),
			}},
		}
	}
	response := active(request.GetDeviceId())
	response.Session.UserId = "user of " + request.GetAccessToken()
	return &pb.BatchValidateSessionsResult{
		Outcome: &pb.BatchValidateSessionsResult_Response{Response: response},
	}
}

func (h *held) hold(client *sa.Client) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := client.ValidateSession(context.Background(), "first", testDevice, nil)
		done <- err
	}()
	<-h.entered
	return done
}

func TestALoneCallIsNoBatch(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	for range 5 {
		if _, err := client.ValidateSession(t.Context(), "token", testDevice, nil); err != nil {
			t.Fatal(err)
		}
	}
	if service.called("ValidateSession") != 5 || service.called("BatchValidateSessions") != 0 {
		t.Errorf("the calls are %v", service.calls)
	}
}

func TestALoneCallCarriesTheMetadataOfItsCaller(t *testing.T) {
	service := newHeld(t)
	var traces []string
	service.validate = func(
		ctx context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		values, _ := metadata.FromIncomingContext(ctx)
		traces = append(traces, values.Get("traceparent")...)
		return active(r.GetDeviceId()), nil
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-1-1-01")
	_, err := service.client(t).ValidateSession(ctx, "token", testDevice, nil)
	if err != nil || len(traces) != 1 {
		t.Errorf("a call that no other joined was queued: the service saw %q, %v", traces, err)
	}
}

func TestValidationsThatWaitAreSentInBatches(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	done := service.hold(client)
	const callers = 20
	var group sync.WaitGroup
	for i := range callers {
		token := fmt.Sprint("token ", i)
		if i%2 == 1 {
			token = fmt.Sprint("bad ", i)
		}
		group.Go(func() {
			found, err := client.ValidateSession(context.Background(), token, testDevice, nil)
			if i%2 == 1 {
				if !errors.Is(err, sa.ErrUnavailable) || !strings.Contains(err.Error(), token) {
					t.Errorf("%s: got %v", token, err)
				}
			} else if err != nil || found.Session.UserID != "user of "+token {
				t.Errorf("%s: got %+v, %v", token, found, err)
			}
		})
	}
	group.Wait() // the first call is still under way: these callers did not wait for its end
	close(service.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if calls := service.called("BatchValidateSessions"); calls == 0 || calls > callers/2 {
		t.Errorf("%d batches for %d callers", calls, callers)
	}
}

func TestACallerThatGaveUpIsInNoBatch(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	done := service.hold(client)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.ValidateSession(gone, "gone", testDevice, nil); !errors.Is(
		err, context.Canceled,
	) {
		t.Errorf("got %v", err)
	}
	var group sync.WaitGroup
	for _, token := range []string{"one", "two"} {
		group.Go(func() {
			if _, err := client.ValidateSession(t.Context(), token, testDevice, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	close(service.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for len(service.batches) > 0 {
		if tokens := <-service.batches; strings.Contains(strings.Join(tokens, ","), "gone") {
			t.Errorf("a batch has %q", tokens)
		}
	}
}

func TestAFirstCallerThatGivesUpCancelsNoOtherCaller(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := client.ValidateSession(ctx, "first", testDevice, nil)
		done <- err
	}()
	<-service.entered
	other := make(chan error)
	go func() {
		_, err := client.ValidateSession(context.Background(), "other", testDevice, nil)
		other <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v", err)
	}
	if err := <-other; err != nil {
		t.Errorf("the other got %v", err)
	}
	close(service.leave)
}

func TestABatchHasTheLatestDeadlineOfItsCallers(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	done := service.hold(client)
	letGo := make(chan struct{})
	service.batch = func(
		ctx context.Context, r *pb.BatchValidateSessionsRequest,
	) (*pb.BatchValidateSessionsResponse, error) {
		select {
		case <-letGo:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		response := &pb.BatchValidateSessionsResponse{}
		for _, one := range r.GetRequests() {
			response.Results = append(response.Results, resultOf(one))
		}
		return response, nil
	}
	patient := make(chan error)
	go func() {
		_, err := client.ValidateSession(context.Background(), "patient", testDevice, nil)
		patient <- err
	}()
	var hasty sync.WaitGroup
	for i := range 20 { // one of these callers is the first in the batch
		hasty.Go(func() {
			_, err := client.ValidateSession(context.Background(), fmt.Sprint(i), testDevice,
				&sa.ValidateSessionOptions{Timeout: 500 * time.Millisecond})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a hasty caller got %v", err)
			}
		})
	}
	hasty.Wait()
	close(letGo)
	if err := <-patient; err != nil {
		t.Errorf("the patient caller got %v", err)
	}
	close(service.leave)
	<-done
}

func TestALargeRequestIsSentAlone(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	done := service.hold(client)
	large := strings.Repeat("x", 9000)
	if _, err := client.ValidateSession(t.Context(), large, testDevice, nil); err != nil {
		t.Error(err)
	}
	if service.called("ValidateSession") != 2 {
		t.Errorf("the calls are %v", service.calls)
	}
	close(service.leave)
	<-done
}

func TestABatchWithAWrongNumberOfAnswersFails(t *testing.T) {
	service := newHeld(t)
	client := service.client(t)
	done := service.hold(client)
	service.batch = func(
		context.Context, *pb.BatchValidateSessionsRequest,
	) (*pb.BatchValidateSessionsResponse, error) {
		return &pb.BatchValidateSessionsResponse{
			Results: []*pb.BatchValidateSessionsResult{{}},
		}, nil
	}
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			_, err := client.ValidateSession(t.Context(), fmt.Sprint(i), testDevice, nil)
			if !errors.Is(err, sa.ErrInternal) {
				t.Errorf("got %v", err)
			}
		})
	}
	group.Wait()
	close(service.leave)
	<-done
}

func TestCloseFailsTheCallsThatWait(t *testing.T) {
	service := newHeld(t)
	client := service.client(t, sa.WithMaxInFlight(1))
	done := service.hold(client)
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			_, err := client.ValidateSession(t.Context(), fmt.Sprint(i), testDevice, nil)
			if !errors.Is(err, sa.ErrClientClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, sa.ErrClientClosed) {
		t.Errorf("got %v", err)
	}
	group.Wait()
	close(service.leave)
}
