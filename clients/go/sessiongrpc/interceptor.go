// Package sessiongrpc guards gRPC servers. It finds out who is signed in before a handler runs, and
// ends streams when the session ends.
//
// Clients send "authorization: Bearer ..." and "x-device-id" as metadata. A client that is not
// signed in gets UNAUTHENTICATED. Its text is "token_expired" if the client should renew its token,
// and "sign_in_required" otherwise. If the service gives no answer, the client gets UNAVAILABLE.
// The session of a stream is checked when the stream begins, and the stream ends with the session:
// UNAUTHENTICATED, "session_ended".
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

// Interceptor finds out for each call who is signed in. Flow.Middleware and an Interceptor may
// share a flow.
type Interceptor struct {
	flow         *sessionhttp.Flow
	deviceHeader string
	public       []string
}

// New returns an interceptor. public has methods ("/package.Service/Method") that are served to all
// clients, with a visit. New returns an error if the flow has NoBearer, because gRPC has no
// cookies.
func New(flow *sessionhttp.Flow, public ...string) (*Interceptor, error) {
	deviceHeader, hasBearer := flow.AppHeader()
	if !hasBearer {
		return nil, errors.New("sessiongrpc: gRPC has no cookies, so bearer tokens must be looked at")
	}
	return &Interceptor{flow, deviceHeader, slices.Clone(public)}, nil
}

// FromContext returns the visit of a call. It panics if the handler runs without an interceptor.
func FromContext(ctx context.Context) *sessionhttp.Visit { return sessionhttp.FromContext(ctx) }

// Unary is a grpc.UnaryServerInterceptor, for grpc.ChainUnaryInterceptor.
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

// Stream is a grpc.StreamServerInterceptor, for grpc.ChainStreamInterceptor. When the session ends,
// the call ends at once. The handler's context is canceled, and its sends and receives fail, as if
// the client had disconnected. This happens if the method is not public, or if the handler uses the
// session.
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

// noteLatePanic logs a panic of a handler whose call had already ended.
func noteLatePanic(handled <-chan result) {
	if late := <-handled; late.panicked != nil {
		slog.Error("a handler panicked after its session had ended", "panic", late.panicked)
	}
}

// handle runs a handler in a goroutine of its own. So a handler that waits for something other than
// its stream or its context does not keep the call open.
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

// endingStream is a stream that ends with its session.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the visit. It is canceled when the session has ended.
func (e *endingStream) Context() context.Context { return e.ctx }

// SendMsg sends a message. Once the session has ended, it returns an error.
func (e *endingStream) SendMsg(message any) error {
	if context.Cause(e.ctx) == sessionhttp.ErrSessionEnded {
		return errEnded
	}
	return e.ServerStream.SendMsg(message)
}

// RecvMsg receives a message. Once the session has ended, it returns an error.
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

// requestOf returns the call as the request of an app. The request always has the device header, so
// that the client counts as an app: there are no cookies in gRPC.
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

// peerOf returns the address of the peer. It is empty at a Unix socket.
func peerOf(ctx context.Context) string {
	from, has := peer.FromContext(ctx)
	if !has || from.Addr == nil {
		return "unknown" // without an address, no proxy is trusted
	}
	if _, isUnix := from.Addr.(*net.UnixAddr); isUnix {
		return ""
	}
	return from.Addr.String()
}

// statusOf turns a refusal into a status of gRPC, and returns all other errors unchanged.
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
