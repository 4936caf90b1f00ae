// Package sessiongrpc has interceptors that find out which user is signed in before a gRPC server's
// handler runs. If the session of a stream ends, the stream ends, too.
//
// Clients send two entries of metadata: "authorization: Bearer ..." with the access token, and
// "x-device-id" with the device ID. The flow's settings may give the second entry another name. If
// a client is not signed in, its call fails with UNAUTHENTICATED. The status message is
// "token_expired" if the client should renew its token, and "sign_in_required" if the end user must
// sign in. If the Session Authority gives no answer, the call fails with UNAVAILABLE.
//
// The session of a stream is checked when the stream begins. If the session ends later, the stream
// ends with UNAUTHENTICATED and the status message "session_ended".
package sessiongrpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

// Interceptor finds out for each call which user is signed in. An Interceptor may use the same flow
// as the HTTP handlers behind Flow.Middleware.
type Interceptor struct {
	flow         *sessionhttp.Flow
	deviceHeader string
	public       []string
}

// New returns an Interceptor that uses flow. public has the methods ("/package.Service/Method")
// that all clients may call, signed in or not. The handlers of these methods also get a visit. New
// returns an error if the setting NoBearer of the flow is true. Such a flow needs cookies, and gRPC
// has no cookies.
func New(flow *sessionhttp.Flow, public ...string) (*Interceptor, error) {
	deviceHeader, hasBearer := flow.AppHeader()
	if !hasBearer {
		return nil, errors.New("sessiongrpc: gRPC has no cookies, so bearer tokens must be looked at")
	}
	return &Interceptor{flow, deviceHeader, slices.Clone(public)}, nil
}

// FromContext returns the visit of a call. It panics if no Interceptor has handled the call.
func FromContext(ctx context.Context) *sessionhttp.Visit { return sessionhttp.FromContext(ctx) }

// Unary is the interceptor of unary calls. Pass it to grpc.ChainUnaryInterceptor.
func (i *Interceptor) Unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	visit, err := i.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, statusOf(err)
	}
	defer visit.Leave()
	response, err := handler(sessionhttp.WithVisit(ctx, visit), request)
	return response, statusOf(err)
}

// Stream is the interceptor of streams. Pass it to grpc.ChainStreamInterceptor.
//
// When the session ends, Stream ends the call at once. It cancels the handler's context, and makes
// the handler's sends and receives fail, as if the client had disconnected. In two cases Stream
// does not end the call: if the method is public and the handler does not use the session, or if
// the handler has called KeepOpen of the visit.
func (i *Interceptor) Stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	visit, err := i.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return statusOf(err)
	}
	ctx, cancel := context.WithCancelCause(sessionhttp.WithVisit(stream.Context(), visit))
	defer cancel(nil)
	ended := make(chan struct{})
	visit.HangUpAtEnd(func() {
		cancel(sessionhttp.ErrSessionEnded)
		close(ended)
	})
	handled := handle(server, &endingStream{stream, ctx}, handler)
	select {
	case result := <-handled:
		visit.Leave()
		if result.panicked != nil {
			panic(result.panicked)
		}
		if context.Cause(ctx) == sessionhttp.ErrSessionEnded {
			return errEnded
		}
		return statusOf(result.err)
	case <-ended:
		visit.Leave()
		go noteLatePanic(handled)
		return errEnded
	}
}

var errEnded = status.Error(codes.Unauthenticated, "session_ended")

type result struct {
	err      error
	panicked any
}

// noteLatePanic waits for the result of a handler after the handler's call has ended. If the
// handler panicked, noteLatePanic logs the panic.
func noteLatePanic(handled <-chan result) {
	if late := <-handled; late.panicked != nil {
		slog.Error("a handler panicked after its session had ended", "panic", late.panicked)
	}
}

// handle runs a handler in a separate goroutine, and sends its result to the returned channel. So
// the call can end while the handler still waits for something other than its stream or its
// context.
func handle(server any, stream grpc.ServerStream, handler grpc.StreamHandler) <-chan result {
	handled := make(chan result, 1)
	go func() {
		var made result
		defer func() {
			made.panicked = recover()
			handled <- made
		}()
		made.err = handler(server, stream)
	}()
	return handled
}

// endingStream is a stream that fails after its session has ended.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context of the stream, which has the visit. The context is canceled when the
// session ends.
func (e *endingStream) Context() context.Context { return e.ctx }

// SendMsg sends a message. It returns an error if the session has ended.
func (e *endingStream) SendMsg(message any) error {
	if context.Cause(e.ctx) == sessionhttp.ErrSessionEnded {
		return errEnded
	}
	return e.ServerStream.SendMsg(message)
}

// RecvMsg receives a message. It returns an error if the session has ended.
func (e *endingStream) RecvMsg(message any) error {
	if context.Cause(e.ctx) == sessionhttp.ErrSessionEnded {
		return errEnded
	}
	return e.ServerStream.RecvMsg(message)
}

func (i *Interceptor) admit(ctx context.Context, method string) (*sessionhttp.Visit, error) {
	visit, err := i.flow.Open(ctx, i.requestOf(ctx))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(i.public, method) {
		if _, err := visit.Require(); err != nil {
			return nil, err
		}
	}
	return visit, nil
}

// requestOf returns the call as a request for the flow. The request always has the device header,
// even if the client did not send it. A flow treats a client that sends this header as an app and
// not as a browser, so the flow does not look for cookies.
func (i *Interceptor) requestOf(ctx context.Context) *sessionhttp.Request {
	header := http.Header{}
	if sent, has := metadata.FromIncomingContext(ctx); has {
		for name, values := range sent {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if len(header[i.deviceHeader]) == 0 {
		header[i.deviceHeader] = []string{""}
	}
	return &sessionhttp.Request{Method: http.MethodPost, Header: header, Peer: peerOf(ctx)}
}

// peerOf returns the address of the machine that made the connection. The address is empty if the
// connection is a Unix socket.
func peerOf(ctx context.Context) string {
	from, has := peer.FromContext(ctx)
	if !has || from.Addr == nil {
		return "unknown" // no trusted proxy has this address
	}
	if _, isUnix := from.Addr.(*net.UnixAddr); isUnix {
		return ""
	}
	return from.Addr.String()
}

// statusOf converts an error that wraps a *sessionhttp.Refusal into a gRPC status. If err wraps no
// Refusal, statusOf returns err unchanged.
func statusOf(err error) error {
	var refused *sessionhttp.Refusal
	switch {
	case !errors.As(err, &refused):
		return err
	case errors.Is(err, sessionhttp.ErrNoAnswer):
		return status.Error(codes.Unavailable, refused.Code)
	}
	return status.Error(codes.Unauthenticated, refused.Code)
}
