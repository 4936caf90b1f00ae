package sessionauthority

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// IssueDeviceOptions are what a sign-in may have beside its user.
type IssueDeviceOptions struct {
	// DeviceID is what the browser or app presented. If it is empty or nonsense, a fresh one is
	// assigned.
	DeviceID string
	// Client is shown to the user.
	Client ClientInfo
	// Claims are what the app wants to find in each validation. They never are permissions.
	Claims map[string]string
	// AuthMethods says how the user proved their identity: "pwd".
	AuthMethods []string
	// SessionTTL is the life of the session, if not the service's own.
	SessionTTL time.Duration
	// IdleTimeout is how long the session may last unused, if not the service's own.
	IdleTimeout time.Duration
	// RequestID is a UUID. Repeated, it signs in once. Give your own to go on with a sign-in that a
	// crash interrupted; without one a retry of the client after a lost reply is safe, too.
	RequestID string
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time. A service that waits for no replicas refuses it.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// IssueDevice signs a user in on a device. The user has just proven their identity. It fails with
// ErrInvalidRequest, ErrDeviceLimitReached, ErrRequestIDReused or ErrRequestIDSpent.
func (c *Client) IssueDevice(
	ctx context.Context, userID string, opts *IssueDeviceOptions,
) (*IssuedDevice, error) {
	o := valueOf(opts)
	if o.RequestID == "" {
		o.RequestID = uuid.NewString()
	}
	if err := checkSignIn(userID, &o); err != nil {
		return nil, err
	}
	request := &pb.IssueDeviceRequest{
		UserId:            userID,
		DeviceId:          presented(o.DeviceID),
		Client:            clientMessage(&o.Client),
		Claims:            o.Claims,
		AuthMethods:       o.AuthMethods,
		RequestId:         o.RequestID,
		RequireReplicated: o.RequireReplicated,
	}
	if o.SessionTTL != 0 {
		request.SessionTtl = durationpb.New(o.SessionTTL)
	}
	if o.IdleTimeout != 0 {
		request.IdleTimeout = durationpb.New(o.IdleTimeout)
	}
	defer c.forget(userID)
	response, err := call(ctx, c, o.Timeout, c.service.IssueDevice, request)
	if err != nil {
		return nil, err
	}
	return &IssuedDevice{
		Device:           deviceOf(response.GetDevice()),
		AccessToken:      response.GetAccessToken(),
		TokenExpireTime:  timeOf(response.GetTokenExpireTime()),
		DeviceIDAssigned: response.GetDeviceIdAssigned(),
		NewDevice:        response.GetNewDevice(),
		EvictedDevices:   devicesOf(response.GetEvictedDevices()),
		Durability:       durabilityOf(response.GetDurability()),
	}, nil
}

func checkSignIn(userID string, o *IssueDeviceOptions) error {
	if err := checkTexts("user_id", userID, "request_id", o.RequestID); err != nil {
		return err
	}
	for i, method := range o.AuthMethods {
		if err := checkTexts(fmt.Sprintf("auth_methods[%d]", i), method); err != nil {
			return err
		}
	}
	return checkClaims(o.Claims)
}

// RenewSessionOptions are what a renewal may have beside its token.
type RenewSessionOptions struct {
	// Client is shown to the user.
	Client ClientInfo
	// Passive says that the end user did nothing: the session does not count as used.
	Passive bool
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// RenewSession swaps a token for the next one, when a validation recommends it or when the token
// has expired. A session that is not good is an answer: the Renewal is then not Active.
func (c *Client) RenewSession(
	ctx context.Context, accessToken, deviceID string, opts *RenewSessionOptions,
) (*Renewal, error) {
	o := valueOf(opts)
	request := &pb.RenewSessionRequest{
		AccessToken:       presented(accessToken),
		DeviceId:          presented(deviceID),
		Client:            clientMessage(&o.Client),
		Passive:           o.Passive,
		RequireReplicated: o.RequireReplicated,
	}
	defer c.forgetToken(accessToken, deviceID)
	response, err := call(ctx, c, o.Timeout, c.service.RenewSession, request)
	if err != nil {
		return nil, err
	}
	return renewalOf(response), nil
}

// UpdateSessionOptions are what a change of claims may have beside its user.
type UpdateSessionOptions struct {
	// DeviceID is the device whose session it is. Empty: the sessions on all devices of the user.
	DeviceID string
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// UpdateSession changes the claims of sessions that are under way. claims are all that they have
// from now on: a claim that is missing is removed. It returns how many live sessions have them now.
// Each session gets a token with them at its next renewal, which validations recommend from now on.
// It fails with ErrSessionNotFound if the user is not signed in on the device.
func (c *Client) UpdateSession(
	ctx context.Context, userID string, claims map[string]string, opts *UpdateSessionOptions,
) (int, error) {
	o := valueOf(opts)
	if err := checkTexts("user_id", userID, "device_id", o.DeviceID); err != nil {
		return 0, err
	}
	if err := checkClaims(claims); err != nil {
		return 0, err
	}
	request := &pb.UpdateSessionRequest{
		UserId:            userID,
		DeviceId:          o.DeviceID,
		Claims:            claims,
		RequireReplicated: o.RequireReplicated,
	}
	defer c.forget(userID)
	response, err := call(ctx, c, o.Timeout, c.service.UpdateSession, request)
	if err != nil {
		return 0, err
	}
	return int(response.GetUpdatedSessions()), nil
}

func valueOf[T any](opts *T) T {
	if opts == nil {
		var none T
		return none
	}
	return *opts
}

// checkTexts takes names of fields and their texts in turn. A text that UTF-8 can't hold does not
// reach the service, which would name no field.
func checkTexts(namesAndTexts ...string) error {
	for i := 0; i < len(namesAndTexts); i += 2 {
		if !utf8.ValidString(namesAndTexts[i+1]) {
			return brokenRule(namesAndTexts[i], "must be text that UTF-8 can hold")
		}
	}
	return nil
}

func checkClaims(claims map[string]string) error {
	for name, fact := range claims {
		if err := checkTexts("claims", name, "claims."+name, fact); err != nil {
			return err
		}
	}
	return nil
}
