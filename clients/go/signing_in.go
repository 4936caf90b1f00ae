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
	// DeviceID is the device ID that the browser or app presented. If DeviceID is empty or
	// malformed, the service assigns a new device ID.
	DeviceID string
	// Client has the facts about the browser or app. The facts are only for display.
	Client ClientInfo
	// Claims are the facts about the user that each validation returns. Don't use claims to grant
	// permissions.
	Claims map[string]string
	// AuthMethods says how the user proved their identity, such as "pwd".
	AuthMethods []string
	// SessionTTL is the maximum life of the session, from 1 second up to the service's SESSION_TTL.
	// Zero stands for SESSION_TTL.
	SessionTTL time.Duration
	// IdleTimeout is how long the session may last without being used. The maximum is the service's
	// IDLE_TIMEOUT. The minimum is 1 minute or twice the service's TOUCH_INTERVAL, whichever is
	// longer. Zero stands for IDLE_TIMEOUT.
	IdleTimeout time.Duration
	// RequestID is a UUID that identifies the sign-in. If two calls within 15 minutes have the same
	// RequestID, they make only one sign-in. Set RequestID if you want to repeat the call after a
	// crash of your process. If RequestID is empty, the client makes a RequestID for this call, so
	// that its retries make only one sign-in.
	RequestID string
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// IssueDevice signs a user in on a device. Call it when the user has just proven their identity.
// Apart from the errors of any call, it can fail with ErrInvalidRequest, ErrDeviceLimitReached,
// ErrRequestIDReused, ErrRequestIDSpent or ErrNotReplicated.
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
	// Client has the facts about the browser or app. The facts are only for display.
	Client ClientInfo
	// Passive says that the page sent the request by itself, without an action of the end user. A
	// passive renewal does not count as a use of the session. The default is false.
	Passive bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// RenewSession exchanges a token for the next token of the same session. Call it if
// RenewRecommended of a validation is true, or if the token has expired. If the session is not
// good, RenewSession returns no error, but a Renewal that is not Active.
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
	// DeviceID is the ID of the device on which the session is changed. If DeviceID is empty, the
	// sessions on all devices of the user are changed.
	DeviceID string
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// UpdateSession changes the claims of a user's live sessions, such as an e-mail address. claims
// replaces all claims of these sessions: a claim that is missing in claims is removed.
// UpdateSession returns the number of live sessions that have these claims now.
//
// Each session gets a token with the new claims at its next renewal. Until that renewal,
// validations of the session return the old claims and recommend a renewal. Don't use claims to
// grant permissions.
//
// UpdateSession fails with ErrSessionNotFound if opts names a device on which the user is not
// signed in. It fails with ErrInvalidRequest if the request breaks a rule.
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

// checkTexts returns an error if a text is not valid UTF-8. The arguments are the name of a field,
// the text of this field, the name of the next field, and so on. gRPC, too, can't encode an invalid
// text, but gRPC's error would not name the field.
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
