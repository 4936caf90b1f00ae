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

// ErrSessionEnded is the cause (context.Cause) for which the context of an event stream is canceled
// when the session ends. Writes to the stream then return it, too.
var ErrSessionEnded error = errSessionEnded{}

// FromContext returns the visit of a request. It panics if the handler is not wrapped by
// Middleware.
func FromContext(ctx context.Context) *Visit {
	visit, _ := ctx.Value(contextKey{}).(*Visit)
	if visit == nil {
		panic("sessionhttp: Flow.Middleware is not around this handler")
	}
	return visit
}

// WithVisit returns a context that holds the visit, for FromContext. WithVisit is for adapters.
func WithVisit(ctx context.Context, visit *Visit) context.Context {
	return context.WithValue(ctx, contextKey{}, visit)
}

// Middleware wraps an app. It finds out who is signed in before the app runs, and writes the
// cookies when the headers are sent. The middleware answers a refusal of Visit.Require itself in
// two cases: if the handler writes nothing after the refusal, or only the status 200; and if the
// handler answers with a server error (500 and more) other than the status of the refusal.
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

// Require wraps a handler that needs a good session, and a sign-in that meets the demands. The
// result must be inside Middleware.
func Require(next http.Handler, demands ...Demand) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := FromContext(r.Context()).Require(demands...)
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case !Answer(w, r, err):
			panic(err) // a demand that can't be met, such as a negative age
		}
	})
}

// requestOf returns the facts of a request of net/http.
func requestOf(r *http.Request) *Request {
	peer := r.RemoteAddr
	if local, known := r.Context().Value(http.LocalAddrContextKey).(net.Addr); known &&
		local.Network() == "unix" {
		peer = ""
	} else if peer == "" {
		peer = "unknown" // without an address, no proxy is trusted
	}
	return &Request{
		Method: r.Method, Header: r.Header, Host: r.Host, Peer: peer, Target: targetOf(r),
		Secure: r.TLS != nil,
	}
}

// targetOf returns the path of a request with its query, as the client sent it. The app's router
// may have removed a prefix from r.URL, but r.RequestURI still has it.
func targetOf(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}
