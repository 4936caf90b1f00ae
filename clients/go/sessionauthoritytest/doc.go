// Package sessionauthoritytest is a Session Authority for the tests of apps: it keeps everything in
// memory, without Redis or a network.
//
//	authority := sessionauthoritytest.New(t)
//	client := authority.Client()
//	signedIn := authority.SignIn("ada")
//	found, err := client.ValidateSession(ctx, signedIn.AccessToken, signedIn.DeviceID, nil)
//
// It speaks the whole contract, and gives the verdicts of the real service with its default
// settings: PassTime shows what becomes of a token after minutes or weeks. It knows less: tokens
// are no JWTs, and there are no signing keys. Every caller may do everything. Sessions have an idle
// end only if their sign-in asked for one, and then to the second. Pages, watches and optional
// device IDs are not checked. User agents are not parsed. Nobody is told of an ended token. Test
// what must be sure of those with `session-authority dev`.
package sessionauthoritytest
