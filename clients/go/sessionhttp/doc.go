// Package sessionhttp is the middleware for apps of net/http, and of every router that uses
// http.Handler. For each request, the package finds out who is signed in, renews the token if
// necessary, and writes the cookies. If a request needs a session and has none, the package answers
// the request.
//
//	flow, err := sessionhttp.NewFlow(client, sessionhttp.Settings{SignInURL: "/sign-in"})
//	http.ListenAndServe(address, flow.Middleware(mux))
//
// A handler gets the Visit of its request from the context of the request:
//
//	session, err := sessionhttp.FromContext(r.Context()).Require()
//	if err != nil {
//		return // the middleware sends a redirect to the sign-in, 401 or 503
//	}
//
// The package makes the same decisions as the Python client. The cases in clients/vectors test the
// Go client and the Python client.
package sessionhttp
