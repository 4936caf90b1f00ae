// Package sessionauthoritytest is a Session Authority for the tests of apps. It keeps everything in
// memory, without Redis or a network.
//
//	authority := sessionauthoritytest.New(t)
//	client := authority.Client()
//	signedIn := authority.SignIn("ada")
//	found, err := client.ValidateSession(ctx, signedIn.AccessToken, signedIn.DeviceID, nil)
//
// It has every method of the contract, and gives the verdicts of the real service with its default
// settings: use PassTime to see what becomes of a token after minutes or weeks. It does less than
// the real service. Tokens are no JWTs, and there are no signing keys. Every caller may do
// everything. A session has an idle end only if its sign-in sets an idle timeout, and this end is
// exact to the second. The fake does not check the page of a list request, the request of a watch,
// the reason of a revocation, CurrentDeviceID and ExceptDeviceID. User agents are not parsed. No
// event reports that a client presented a token of an ended session. Test these things with
// `session-authority dev`.
package sessionauthoritytest
