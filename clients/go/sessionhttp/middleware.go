package sessionhttp

import (
	"context"
	"net"
	"net/http"
	"strings"
)

type contextKey struct{}

// errSessionEnded is the type of ErrSessionEnded.
type errSessionEnded struct{}

func (errSessionEnded) Error() string { return "sessionhttp: the session has ended" }

// ErrSessionEnded is the error of a connection that the middleware ends because the session has
// ended. ErrSessionEnded is the cause (context.Cause) for which the context of an event stream is
// canceled. Writes to an event stream return ErrSessionEnded after its session has ended. Reads and
// writes of a hijacked connection also return ErrSessionEnded.
var ErrSessionEnded error = errSessionEnded{}

// FromContext returns the Visit of a request. ctx is the context of the request. FromContext panics
// if the handler of the request is not inside Middleware.
func FromContext(ctx context.Context) *Visit {
	visit, _ := ctx.Value(contextKey{}).(*Visit)
	if visit == nil {
		panic("sessionhttp: Flow.Middleware is not around this handler")
	}
	return visit
}

// WithVisit returns a context from which FromContext returns the visit. WithVisit is for adapters.
func WithVisit(ctx context.Context, visit *Visit) context.Context {
	return context.WithValue(ctx, contextKey{}, visit)
}

// Middleware returns a handler that wraps the app next. The returned handler finds out who is
// signed in before it calls next, and adds the cookies when the headers are sent. If next gets a
// *Refusal from the Visit and writes nothing, or only the status 200, the middleware sends the
// response of the *Refusal. If next answers a *Refusal with a server error (500 and more), the
// middleware replaces the server error by the response of the *Refusal. A server error with the
// same status as the *Refusal is not replaced.
func (f *Flow) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := requestOf(r)
		isOfDevices := f.devices != nil && f.devices.serves(request.Target)
		if isOfDevices {
			if public := f.devices.public(request); public != nil {
				public.ServeHTTP(w, r)
				return
			}
		}
		visit, refused := f.open(r.Context(), request)
		if refused != nil {
			w.Header().Add("Vary", vary)
			refused.ServeHTTP(w, r)
			return
		}
		if outer, _ := r.Context().Value(contextKey{}).(*Visit); outer != nil {
			outer.inner = visit
		}
		ctx, cancel := context.WithCancelCause(WithVisit(r.Context(), visit))
		defer cancel(nil)
		defer visit.Leave()
		r = r.WithContext(ctx)
		writer := &responseWriter{ResponseWriter: w, request: r, visit: visit, cancel: cancel}
		if isOfDevices {
			f.devices.serve(visit, r, request).ServeHTTP(writer, r)
		} else {
			next.ServeHTTP(writer, r)
		}
		writer.finish()
	})
}

// Require returns a handler that calls next only if the request has a good session, and its sign-in
// meets the demands. The returned handler must be inside Middleware. It panics if a demand itself
// is wrong, such as a negative age.
func Require(next http.Handler, demands ...Demand) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := FromContext(r.Context()).Require(demands...)
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case !Answer(w, r, err):
			panic(err) // a demand itself is wrong, such as a negative age
		}
	})
}

// requestOf converts a request of net/http into a Request.
func requestOf(r *http.Request) *Request {
	peer := r.RemoteAddr
	if local, known := r.Context().Value(http.LocalAddrContextKey).(net.Addr); known &&
		local.Network() == "unix" {
		peer = ""
	} else if peer == "" {
		peer = "unknown" // an empty Peer would stand for a Unix socket
	}
	return &Request{
		Method: r.Method, Header: r.Header, Host: r.Host, Peer: peer, Target: targetOf(r),
		Secure: r.TLS != nil,
	}
}

// targetOf returns the path and the query of a request, as the client sent them. The app's router
// may have removed a prefix from r.URL. The prefix is still in r.RequestURI.
func targetOf(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}
