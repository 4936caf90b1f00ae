// Package sessionhttp guards apps of net/http, and of every router that speaks http.Handler: it
// knows who is signed in, request by request, renews tokens, writes the cookies, and answers
// requests that need a session and have none.
//
//	flow, err := sessionhttp.NewFlow(client, sessionhttp.Settings{SignInURL: "/sign-in"})
//	http.ListenAndServe(address, flow.Middleware(mux))
//
// A handler finds its visit in the context of the request:
//
//	session, err := sessionhttp.FromContext(r.Context()).Require()
//	if err != nil {
//		return // the middleware answers: a redirect to the sign-in, 401, or 503
//	}
//
// The decisions are those of the Python client, case by case: clients/vectors holds both to them.
package sessionhttp
