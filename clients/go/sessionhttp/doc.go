// Package sessionhttp guards apps of net/http, and of every router that uses http.Handler. It finds
// out who is signed in for each request, renews tokens, and writes the cookies. If a request needs
// a session and has none, the package answers it.
//
//	flow, err := sessionhttp.NewFlow(client, sessionhttp.Settings{SignInURL: "/sign-in"})
//	http.ListenAndServe(address, flow.Middleware(mux))
//
// A handler gets its visit from the context of the request:
//
//	session, err := sessionhttp.FromContext(r.Context()).Require()
//	if err != nil {
//		return // the middleware answers: a redirect to the sign-in, 401, or 503
//	}
//
// The package makes the same decisions as the Python client. The cases in clients/vectors test both
// clients.
package sessionhttp
