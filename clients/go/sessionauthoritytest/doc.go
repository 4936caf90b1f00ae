// Package sessionauthoritytest is a fake Session Authority for the tests of apps. The fake keeps
// everything in memory, without Redis or a network.
//
//	authority := sessionauthoritytest.New(t)
//	client := authority.Client()
//	signedIn := authority.SignIn("ada")
//	found, err := client.ValidateSession(ctx, signedIn.AccessToken, signedIn.DeviceID, nil)
//
// The fake has every method of the contract, and gives the same verdicts as the real service with
// default settings. Call PassTime to see what happens to a token after minutes or weeks. The fake
// differs from the real service in the following points. Tokens are no JWTs, and there are no
// signing keys. Every caller may call every method. A session has an idle end only if its sign-in
// sets an idle timeout, and this idle end is exact to the second. The fake does not check page
// tokens, page sizes, the types and user IDs of a watch, and the reason of a revocation. The fake
// does not check CurrentDeviceID and ExceptDeviceID. The fake does not parse user agents. The fake
// writes no event when a client presents a token of an ended session. Test the points in which the
// fake differs with `session-authority dev`.
package sessionauthoritytest
