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

// IssueDeviceOptions are the optional arguments of IssueDevice.
type IssueDeviceOptions struct {
	// DeviceID is the device ID that the browser or app presented. If it is empty or malformed, the
	// service assigns a new one.
	DeviceID string
	// Client has the facts about the browser or app. They are only for display.
	Client ClientInfo
	// Claims are the facts about the user that each validation returns. They never grant
	// permissions.
	Claims map[string]string
	// AuthMethods says how the user proved their identity, such as "pwd".
	AuthMethods []string
	// SessionTTL is how long the session may last at most, from 1 second up to the service's
	// SESSION_TTL. If it is zero, SESSION_TTL holds.
	SessionTTL time.Duration
	// IdleTimeout is how long the session may last unused, up to the service's IDLE_TIMEOUT. The
	// minimum is 1 minute, or twice the service's TOUCH_INTERVAL if that is longer. If it is zero,
	// IDLE_TIMEOUT holds.
	IdleTimeout time.Duration
	// RequestID is a UUID. Two calls with the same RequestID make one sign-in. Set your own to
	// continue a sign-in that a crash interrupted. If it is empty, the client makes one, so that
	// its retries after a lost reply are safe, too.
	RequestID string
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// IssueDevice signs a user in on a device. Call it when the user has just proven their identity. It
// fails with ErrInvalidRequest, ErrDeviceLimitReached, ErrRequestIDReused, ErrRequestIDSpent or
// ErrNotReplicated.
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

// RenewSessionOptions are the optional arguments of RenewSession.
type RenewSessionOptions struct {
	// Client has the facts about the browser or app. They are only for display.
	Client ClientInfo
	// Passive says that the page sent the request by itself, without the end user. The session does
	// not count as used. The default is false.
	Passive bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// RenewSession swaps a token for the next one. Call it when a validation recommends it or when the
// token has expired. If the session is not good, RenewSession returns no error, but a Renewal that
// is not Active.
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

// UpdateSessionOptions are the optional arguments of UpdateSession.
type UpdateSessionOptions struct {
	// DeviceID is the device whose session is changed. If it is empty, the sessions on all devices
	// of the user are changed.
	DeviceID string
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// UpdateSession changes the claims of live sessions, such as an e-mail address. claims are all
// claims of the sessions from now on: a claim that is missing is removed. It returns how many live
// sessions have these claims now.
//
// Each session gets a token with the new claims at its next renewal. Validations recommend this
// renewal from now on. Claims never grant permissions.
//
// It fails with ErrSessionNotFound if the user is not signed in on the device, and with
// ErrInvalidRequest.
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

// checkTexts checks that each text is UTF-8. Its arguments are the name of a field, the text of
// this field, the name of the next field, and so on. Without this check gRPC would fail to encode
// the request, and its error would name no field.
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
