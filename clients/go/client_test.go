package sessionauthority_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sa "github.com/session-authority/session-authority/clients/go"
	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

func refusal(code codes.Code, reason string) error {
	st, err := status.New(code, "a text").WithDetails(
		&errdetails.ErrorInfo{
			Reason: reason, Domain: "session-authority", Metadata: map[string]string{"a": "b"},
		},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func TestAValidationReturnsTheSession(t *testing.T) {
	service := newScripted(t)
	found, err := service.client(t).ValidateSession(t.Context(), "token", testDevice, nil)
	if err != nil || !found.Active || found.Session.UserID != "ada" {
		t.Fatalf("got %+v, %v", found, err)
	}
	if email := found.Session.Claims.Get("email"); email != "ada@example.org" {
		t.Errorf("the claim is %q", email)
	}
	if found.Session.SignInTime.IsZero() || found.Session.ExpireTime.IsZero() {
		t.Error("a time is missing")
	}
}

func TestAnAnswerIsActiveOnlyWithTheFlagTheStatusAndASession(t *testing.T) {
	for name, change := range map[string]func(*pb.ValidateSessionResponse){
		"not active":     func(r *pb.ValidateSessionResponse) { r.Active = false },
		"another status": func(r *pb.ValidateSessionResponse) { r.Status = 7 },
		"unknown status": func(r *pb.ValidateSessionResponse) { r.Status = 99 },
		"no session":     func(r *pb.ValidateSessionResponse) { r.Session = nil },
	} {
		t.Run(name, func(t *testing.T) {
			service := newScripted(t)
			service.validate = func(
				_ context.Context, r *pb.ValidateSessionRequest,
			) (*pb.ValidateSessionResponse, error) {
				response := active(r.GetDeviceId())
				change(response)
				return response, nil
			}
			found, err := service.client(t).ValidateSession(t.Context(), "token", testDevice, nil)
			if err != nil || found.Active || found.Session.UserID != "" {
				t.Fatalf("got %+v, %v", found, err)
			}
			if found.Status > sa.StatusWrongDevice {
				t.Errorf("this version does not know the status %v", found.Status)
			}
		})
	}
}

func TestACallIsRetriedAfterUnavailableAndCancelled(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Canceled} {
		t.Run(code.String(), func(t *testing.T) {
			service := newScripted(t)
			service.validate = func(
				_ context.Context, r *pb.ValidateSessionRequest,
			) (*pb.ValidateSessionResponse, error) {
				if service.called("ValidateSession") < 3 {
					return nil, refusal(code, "STOPPING")
				}
				return active(r.GetDeviceId()), nil
			}
			found, err := service.client(t).ValidateSession(t.Context(), "token", testDevice, nil)
			if err != nil || !found.Active || service.called("ValidateSession") != 3 {
				t.Fatalf("got %+v, %v after %d calls", found, err, service.called("ValidateSession"))
			}
		})
	}
}

func TestRetriesStopWhileTheServiceIsDown(t *testing.T) {
	service := newScripted(t)
	isDown := true
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		if isDown {
			return nil, refusal(codes.Unavailable, "STORE_UNAVAILABLE")
		}
		return active(r.GetDeviceId()), nil
	}
	client := service.client(t)
	validate := func() int {
		before := service.called("ValidateSession")
		_, err := client.ValidateSession(t.Context(), "token", testDevice, nil)
		if isDown != errors.Is(err, sa.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		return service.called("ValidateSession") - before
	}
	if attempts := validate(); attempts != 3 {
		t.Errorf("%d attempts at first", attempts)
	}
	for range 10 {
		validate()
	}
	if attempts := validate(); attempts != 1 {
		t.Errorf("%d attempts of a call while the service is down", attempts)
	}
	isDown = false
	for range 200 {
		validate()
	}
	isDown = true
	if attempts := validate(); attempts != 3 {
		t.Errorf("%d attempts after it was up", attempts)
	}
}

func TestACallIsNotRetriedAfterOtherFailures(t *testing.T) {
	for _, code := range []codes.Code{
		codes.ResourceExhausted, codes.Internal, codes.DeadlineExceeded, codes.InvalidArgument,
	} {
		service := newScripted(t)
		service.validate = func(
			context.Context, *pb.ValidateSessionRequest,
		) (*pb.ValidateSessionResponse, error) {
			return nil, status.Error(code, "no")
		}
		_, err := service.client(t).ValidateSession(t.Context(), "token", testDevice, nil)
		if err == nil || service.called("ValidateSession") != 1 {
			t.Errorf("%v: got %v after %d calls", code, err, service.called("ValidateSession"))
		}
	}
}

func TestAnErrorHasItsKindReasonAndDetails(t *testing.T) {
	service := newScripted(t)
	service.issue = func(
		context.Context, *pb.IssueDeviceRequest,
	) (*pb.IssueDeviceResponse, error) {
		return nil, refusal(codes.ResourceExhausted, "OVERLOADED")
	}
	_, err := service.client(t).IssueDevice(t.Context(), "ada", nil)
	var failed *sa.Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(err, sa.ErrOverloaded) || !errors.Is(err, sa.ErrUnavailable) ||
		errors.Is(err, sa.ErrInternal) {
		t.Errorf("it is of another kind: %v", err)
	}
	if failed.Reason != "OVERLOADED" || failed.Code != codes.ResourceExhausted ||
		failed.RetryAfter == nil || *failed.RetryAfter != time.Second ||
		failed.Metadata["a"] != "b" {
		t.Errorf("got %+v", failed)
	}
	if _, ok := status.FromError(err); ok {
		t.Error("an app's own handler would pass the status of this call on to its caller")
	}
}

func TestEverySignInHasARequestID(t *testing.T) {
	service := newScripted(t)
	var seen []string
	service.issue = func(
		_ context.Context, r *pb.IssueDeviceRequest,
	) (*pb.IssueDeviceResponse, error) {
		if seen = append(seen, r.GetRequestId()); len(seen) < 3 {
			return nil, status.Error(codes.Unavailable, "away")
		}
		return &pb.IssueDeviceResponse{AccessToken: "token"}, nil
	}
	issued, err := service.client(t).IssueDevice(t.Context(), "ada", nil)
	if err != nil || issued.AccessToken != "token" {
		t.Fatal(err)
	}
	if len(seen) != 3 || len(seen[0]) != 36 || seen[1] != seen[0] || seen[2] != seen[0] {
		t.Errorf("the request IDs are %q", seen)
	}
}

func TestACallEndsWithItsTimeout(t *testing.T) {
	service := newScripted(t)
	service.validate = func(
		ctx context.Context, _ *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client := service.client(t)
	_, err := client.ValidateSession(t.Context(), "token", testDevice,
		&sa.ValidateSessionOptions{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, sa.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestACallWhoseTimeIsOverIsNotMade(t *testing.T) {
	service := newScripted(t)
	_, err := service.client(t).ValidateSession(t.Context(), "token", testDevice,
		&sa.ValidateSessionOptions{Timeout: -time.Nanosecond})
	if !errors.Is(err, sa.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if calls := service.called("ValidateSession"); calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

func TestACallEndsWithItsCaller(t *testing.T) {
	service := newScripted(t)
	ctx, cancel := context.WithCancel(t.Context())
	service.validate = func(
		ctx context.Context, _ *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err := service.client(t).ValidateSession(ctx, "token", testDevice, nil)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, sa.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACallEndsWithItsClient(t *testing.T) {
	service := newScripted(t)
	client := service.client(t)
	service.validate = func(
		ctx context.Context, _ *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		go func() { _ = client.Close() }()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for range 2 {
		_, err := client.ValidateSession(t.Context(), "token", testDevice, nil)
		if !errors.Is(err, sa.ErrClientClosed) || !errors.Is(err, sa.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
}

func TestATokenGoesWithEachCall(t *testing.T) {
	service := newScripted(t)
	var seen []string
	service.validate = func(
		ctx context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		values, _ := metadata.FromIncomingContext(ctx)
		seen = append(seen, values.Get("authorization")...)
		return active(r.GetDeviceId()), nil
	}
	tokens := []string{"one\n", "two", "", "bad\x00"}
	next := 0
	client := service.client(t, sa.WithTokenSource(func() (string, error) {
		if next == len(tokens) {
			return "", errors.New("a secret text")
		}
		next++
		return tokens[next-1], nil
	}))
	// A header that a context has for other services must not replace this caller's token.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer other")
	for i := range 5 {
		_, err := client.ValidateSession(ctx, "token", testDevice, nil)
		if i < 2 && err != nil || i >= 2 && !errors.Is(err, sa.ErrUnavailable) {
			t.Errorf("call %d: got %v", i, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the text of the source: %v", err)
		}
	}
	if strings.Join(seen, ",") != "Bearer one,Bearer two" {
		t.Errorf("the service saw %q", seen)
	}
}

func TestCallsAndCloseEndWhileATokenSourceBlocks(t *testing.T) {
	service := newWatched(t)
	asked, release := make(chan struct{}, 10), make(chan struct{})
	defer close(release)
	client := service.client(t, sa.WithCache(sa.CacheConfig{}), sa.WithTokenSource(
		func() (string, error) {
			asked <- struct{}{}
			<-release
			return "token", nil
		},
	))
	validated, closed := make(chan error, 2), make(chan error, 1)
	validate := func(timeout time.Duration) {
		_, err := client.ValidateSession(t.Context(), "token", testDevice,
			&sa.ValidateSessionOptions{Timeout: timeout})
		validated <- err
	}
	within := func(what string, done chan error) error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatalf("%s waits for the source", what)
			return nil
		}
	}
	go validate(10 * time.Millisecond) // also starts the watch of the cache
	<-asked
	err := within("a call", validated)
	if !errors.Is(err, sa.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call whose time was over got %v", err)
	}
	go validate(time.Hour)
	go func() { closed <- client.Close() }()
	if err := within("Close", closed); err != nil {
		t.Error(err)
	}
	if err := within("a call", validated); !errors.Is(err, sa.ErrClientClosed) {
		t.Errorf("the call that Close ended got %v", err)
	}
}

func TestBytesThatAreNotUTF8AreReplacedInTokensAndRefusedInUserIDs(t *testing.T) {
	service := newScripted(t)
	var token string
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		token = r.GetAccessToken()
		return active(r.GetDeviceId()), nil
	}
	client := service.client(t)
	if _, err := client.ValidateSession(t.Context(), "a\xff", testDevice, nil); err != nil {
		t.Errorf("a token that an end user made up failed the call: %v", err)
	}
	if token != "a?" {
		t.Errorf("the service saw %q", token)
	}
	_, err := client.RevokeDevice(t.Context(), "a\xff", testDevice, nil)
	var failed *sa.Error
	if !errors.Is(err, sa.ErrInvalidRequest) || !errors.As(err, &failed) ||
		failed.Violations[0].Field != "user_id" {
		t.Errorf("got %v", err)
	}
}

func TestNewClientRefusesWrongArguments(t *testing.T) {
	for name, made := range map[string]struct {
		target string
		opts   []sa.Option
	}{
		"no target":        {"", nil},
		"a URL":            {"https://authority:443", nil},
		"a token in clear": {"authority:50051", []sa.Option{sa.WithToken("token")}},
		"one of two clear": {"ipv4:127.0.0.1:1,10.0.0.1:1", []sa.Option{sa.WithToken("token")}},
		"an empty token":   {"localhost:1", []sa.Option{sa.WithToken(" ")}},
		"no source":        {"localhost:1", []sa.Option{sa.WithTokenSource(nil)}},
		"no time":          {"localhost:1", []sa.Option{sa.WithTimeout(0)}},
		"no calls":         {"localhost:1", []sa.Option{sa.WithMaxInFlight(0)}},
		"no TLS":           {"localhost:1", []sa.Option{sa.WithTLS(nil)}},
	} {
		if client, err := sa.NewClient(made.target, made.opts...); err == nil {
			_ = client.Close()
			t.Errorf("%s: no error", name)
		}
	}
	for _, target := range []string{
		"localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "ipv4:127.0.0.1:1",
	} {
		client, err := sa.NewClient(target, sa.WithToken("token"))
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		_ = client.Close()
	}
}

func TestCallsGoToAllAddresses(t *testing.T) {
	first, second := newScripted(t), newScripted(t)
	client, err := sa.NewClient("ipv4:"+first.address+","+second.address,
		sa.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for first.called("ValidateSession") == 0 || second.called("ValidateSession") == 0 {
		if _, err := client.ValidateSession(t.Context(), "token", testDevice, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACallWaitsForASlot(t *testing.T) {
	service := newScripted(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	service.validate = func(
		_ context.Context, r *pb.ValidateSessionRequest,
	) (*pb.ValidateSessionResponse, error) {
		entered <- struct{}{}
		<-leave
		return active(r.GetDeviceId()), nil
	}
	client := service.client(t, sa.WithMaxInFlight(1), sa.WithoutBatching())
	done := make(chan error)
	go func() {
		_, err := client.ValidateSession(context.Background(), "token", testDevice, nil)
		done <- err
	}()
	<-entered
	_, err := client.ValidateSession(t.Context(), "token", testDevice,
		&sa.ValidateSessionOptions{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, sa.ErrUnavailable) || !strings.Contains(err.Error(), "WithMaxInFlight") {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheClaimsOfASessionCanNotBeChanged(t *testing.T) {
	claims := sa.NewClaims(map[string]string{"email": "ada@example.org"})
	claims.Map()["email"] = "eve@example.org"
	if claims.Get("email") != "ada@example.org" || claims.Len() != 1 {
		t.Error("a copy changed the claims")
	}
}
