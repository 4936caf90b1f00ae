package sessiongrpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/fakeauthority"
	"github.com/session-authority/session-authority/clients/go/sessiongrpc"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

const (
	patience = 20 * time.Second
	signIn   = "/example.v1.Account/SignIn"
	whoAmI   = "/example.v1.Account/WhoAmI"
	chat     = "/example.v1.Account/Chat"
	stuck    = "/example.v1.Account/Stuck"
	open     = "/example.v1.Account/Open"
)

type text = wrapperspb.StringValue

// app is a gRPC server with the interceptor, and a client of it. left has the error with which each
// stream's handler ended.
type app struct {
	service *fakeauthority.Fake
	client  *grpc.ClientConn
	left    chan error
	release chan struct{}
}

func newApp(t *testing.T, settings sessionhttp.Settings) *app {
	t.Helper()
	made := &app{
		service: fakeauthority.New(), left: make(chan error, 10), release: make(chan struct{}),
	}
	settings.Logger = slog.New(slog.DiscardHandler)
	flow, err := sessionhttp.NewFlow(made.service, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(flow.Close)
	guard, err := sessiongrpc.New(flow, signIn, open)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(guard.Unary),
		grpc.ChainStreamInterceptor(guard.Stream))
	server.RegisterService(made.description(), made)
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	made.client, err = grpc.NewClient("passthrough:///app",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return listener.Dial()
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.client.Close() })
	return made
}

func (a *app) description() *grpc.ServiceDesc {
	unary := func(name string, answer func(context.Context) (string, error)) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(
			_ any, ctx context.Context, decode func(any) error,
			interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			if err := decode(&text{}); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{FullMethod: "/example.v1.Account/" + name}
			return interceptor(ctx, &text{}, info, func(ctx context.Context, _ any) (any, error) {
				said, err := answer(ctx)
				return wrapperspb.String(said), err
			})
		}}
	}
	stream := func(name string, handle func(grpc.ServerStream) error) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error {
				err := handle(stream)
				a.left <- errors.Join(err, context.Cause(stream.Context()))
				return err
			}}
	}
	return &grpc.ServiceDesc{
		ServiceName: "example.v1.Account", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unary("SignIn", func(ctx context.Context) (string, error) {
				visit := sessiongrpc.FromContext(ctx)
				issued, err := visit.SignIn(ctx, "ada", sessionhttp.SignIn{})
				if err != nil {
					return "", err
				}
				return issued.AccessToken + " " + issued.Device.DeviceID, nil
			}),
			unary("WhoAmI", func(ctx context.Context) (string, error) {
				return sessiongrpc.FromContext(ctx).UserID(), nil
			}),
		},
		Streams: []grpc.StreamDesc{
			stream("Chat", echo),
			stream("Open", echo),
			stream("Stuck", func(stream grpc.ServerStream) error {
				if err := stream.SendMsg(wrapperspb.String("hello")); err != nil {
					return err
				}
				<-a.release // this handler watches neither its stream nor its context
				return stream.SendMsg(wrapperspb.String("late"))
			}),
		},
	}
}

// echo sends each received message back.
func echo(stream grpc.ServerStream) error {
	for {
		var said text
		if err := stream.RecvMsg(&said); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.SendMsg(&said); err != nil {
			return err
		}
	}
}

func (a *app) call(ctx context.Context, method string) (string, error) {
	var answer text
	err := a.client.Invoke(ctx, method, &text{}, &answer)
	return answer.Value, err
}

func (a *app) signedIn(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	if _, err := a.call(ctx, signIn); err != nil {
		t.Fatal(err)
	}
	for device, err := range a.service.Devices(ctx, "ada",
		&sessionauthority.ListDevicesOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		return metadata.AppendToOutgoingContext(ctx,
			"authorization", "Bearer "+a.service.Tokens("ada")[0], "x-device-id", device.DeviceID)
	}
	t.Fatal("nobody is signed in")
	return nil
}

func (a *app) stream(t *testing.T, ctx context.Context, method string) grpc.ClientStream {
	t.Helper()
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := a.client.NewStream(ctx, description, method)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func (a *app) revoke() {
	_, _ = a.service.RevokeAll(context.Background(), "ada",
		&sessionauthority.RevokeAllOptions{})
}

func expect(t *testing.T, err error, code codes.Code, said string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != said {
		t.Errorf("expected %s %q, got %v", code, said, err)
	}
}

func TestACallNeedsASession(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	_, err := a.call(t.Context(), whoAmI)
	expect(t, err, codes.Unauthenticated, "sign_in_required")
	ctx := a.signedIn(t)
	if user, err := a.call(ctx, whoAmI); user != "ada" || err != nil {
		t.Error(user, err)
	}
	a.service.Fail(sessionauthority.ErrUnavailable)
	_, err = a.call(ctx, whoAmI)
	expect(t, err, codes.Unavailable, "unavailable")
	a.service.Fail(nil)
	a.revoke()
	_, err = a.call(ctx, whoAmI)
	expect(t, err, codes.Unauthenticated, "sign_in_required")
}

func TestACookieIsNoSessionInGRPC(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	sent, _ := metadata.FromOutgoingContext(a.signedIn(t))
	cookie := "__Host-session=" + a.service.Tokens("ada")[0] +
		"; __Host-device=" + sent.Get("x-device-id")[0]
	ctx := metadata.AppendToOutgoingContext(t.Context(), "cookie", cookie)
	_, err := a.call(ctx, whoAmI)
	expect(t, err, codes.Unauthenticated, "sign_in_required")
}

func TestAStreamNeedsASession(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	err := a.stream(t, t.Context(), chat).RecvMsg(&text{})
	expect(t, err, codes.Unauthenticated, "sign_in_required")
}

func TestAStreamEndsWithTheSession(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	stream := a.stream(t, a.signedIn(t), chat)
	said := said(t, stream, "hi")
	if said != "hi" {
		t.Error(said)
	}
	await(t, "a watch", func() bool { return a.service.Watchers() == 1 })
	a.revoke()
	expect(t, stream.RecvMsg(&text{}), codes.Unauthenticated, "session_ended")
	if err := <-a.left; !errors.Is(err, sessionhttp.ErrSessionEnded) {
		t.Error("the handler does not see that the session has ended", err)
	}
	await(t, "the watch to end", func() bool { return a.service.Watchers() == 0 })
}

func TestAnotherSignInOnTheDeviceEndsAStreamWithoutAWatch(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	a.service.Silent = true
	ctx := a.signedIn(t)
	stream := a.stream(t, ctx, chat)
	said(t, stream, "hi")
	if _, err := a.call(ctx, signIn); err != nil {
		t.Fatal(err)
	}
	expect(t, stream.RecvMsg(&text{}), codes.Unauthenticated, "session_ended")
}

func TestAHandlerThatIgnoresTheEndDoesNotKeepTheStreamOpen(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	stream := a.stream(t, a.signedIn(t), stuck)
	var hello text
	if err := stream.RecvMsg(&hello); err != nil {
		t.Fatal(err)
	}
	await(t, "a watch", func() bool { return a.service.Watchers() == 1 })
	a.revoke()
	expect(t, stream.RecvMsg(&text{}), codes.Unauthenticated, "session_ended")
	close(a.release)
	if err := <-a.left; status.Code(errorIn(err)) != codes.Unauthenticated {
		t.Error("what it sends late does not fail", err)
	}
}

// errorIn returns the first of several joined errors.
func errorIn(err error) error {
	if joined, is := err.(interface{ Unwrap() []error }); is {
		return joined.Unwrap()[0]
	}
	return err
}

func TestAPublicStreamGoesOnIfItsHandlerDoesNotUseTheSession(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{})
	stream := a.stream(t, a.signedIn(t), open)
	said(t, stream, "hi")
	a.revoke()
	if said := said(t, stream, "still here"); said != "still here" {
		t.Error(said)
	}
	if a.service.Watchers() != 0 || a.service.Calls("CheckSessions") != 0 {
		t.Error("the flow watches or checks a session that no handler uses")
	}
}

func TestAStreamStaysOpenWithKeepConnections(t *testing.T) {
	a := newApp(t, sessionhttp.Settings{KeepConnections: true})
	stream := a.stream(t, a.signedIn(t), chat)
	said(t, stream, "hi")
	a.revoke()
	if said := said(t, stream, "still here"); said != "still here" {
		t.Error(said)
	}
}

func TestAFlowWithoutBearerTokensIsRefused(t *testing.T) {
	flow, err := sessionhttp.NewFlow(fakeauthority.New(), sessionhttp.Settings{NoBearer: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sessiongrpc.New(flow); err == nil {
		t.Error("it was accepted")
	}
}

func said(t *testing.T, stream grpc.ClientStream, words string) string {
	t.Helper()
	if err := stream.SendMsg(wrapperspb.String(words)); err != nil {
		t.Fatal(err)
	}
	var answer text
	if err := stream.RecvMsg(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.Value
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
