package sessionauthority

import (
	"context"
	"iter"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ListDevicesOptions are what a list of devices may have beside its user.
type ListDevicesOptions struct {
	// CurrentDeviceID is the device that asks: it is Current in the list.
	CurrentDeviceID string
	// IncludeSignedOut lists devices where the user is signed out, too.
	IncludeSignedOut bool
	// PageSize is how many devices one call brings, if not as many as the service chooses.
	PageSize int
	// PageToken is the NextPageToken of the page before.
	PageToken string
	// Timeout is the time of each call, if not the client's.
	Timeout time.Duration
}

// ListDevices returns a page of a user's devices, the newest activity first. Devices returns all.
func (c *Client) ListDevices(
	ctx context.Context, userID string, opts *ListDevicesOptions,
) (*DevicePage, error) {
	o := valueOf(opts)
	if err := checkTexts("user_id", userID, "page_token", o.PageToken); err != nil {
		return nil, err
	}
	request := &pb.ListDevicesRequest{
		UserId:           userID,
		CurrentDeviceId:  presented(o.CurrentDeviceID),
		PageSize:         int32(min(max(o.PageSize, -1), 1<<30)),
		PageToken:        o.PageToken,
		IncludeSignedOut: o.IncludeSignedOut,
	}
	response, err := call(ctx, c, o.Timeout, c.service.ListDevices, request)
	if err != nil {
		return nil, err
	}
	return &DevicePage{
		Devices:       devicesOf(response.GetDevices()),
		NextPageToken: response.GetNextPageToken(),
		TotalSize:     int(response.GetTotalSize()),
	}, nil
}

// Devices returns an iterator over all devices of a user, the newest activity first: "My devices".
// It calls ListDevices for each page; an error ends it.
func (c *Client) Devices(
	ctx context.Context, userID string, opts *ListDevicesOptions,
) iter.Seq2[Device, error] {
	o := valueOf(opts)
	return func(yield func(Device, error) bool) {
		paged := o
		for {
			page, err := c.ListDevices(ctx, userID, &paged)
			if err != nil {
				yield(Device{}, err)
				return
			}
			for _, device := range page.Devices {
				if !yield(device, nil) {
					return
				}
			}
			if paged.PageToken = page.NextPageToken; paged.PageToken == "" {
				return
			}
		}
	}
}

// UpdateDeviceOptions are what a renaming may have beside its device and name.
type UpdateDeviceOptions struct {
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// UpdateDevice names a device. An empty name removes the name. It fails with ErrDeviceNotFound.
func (c *Client) UpdateDevice(
	ctx context.Context, userID, deviceID, displayName string, opts *UpdateDeviceOptions,
) (*Device, error) {
	o := valueOf(opts)
	err := checkTexts("user_id", userID, "device_id", deviceID, "display_name", displayName)
	if err != nil {
		return nil, err
	}
	request := &pb.UpdateDeviceRequest{
		UserId:            userID,
		DeviceId:          deviceID,
		DisplayName:       displayName,
		RequireReplicated: o.RequireReplicated,
	}
	response, err := call(ctx, c, o.Timeout, c.service.UpdateDevice, request)
	if err != nil {
		return nil, err
	}
	device := deviceOf(response.GetDevice())
	return &device, nil
}

// RevokeDeviceOptions are what a sign-out may have beside its device.
type RevokeDeviceOptions struct {
	// Reason is for the event: "user_request".
	Reason string
	// Forget drops the device from the list, too.
	Forget bool
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// RevokeDevice signs a user out on a device. It returns true if the user was signed in there.
func (c *Client) RevokeDevice(
	ctx context.Context, userID, deviceID string, opts *RevokeDeviceOptions,
) (bool, error) {
	o := valueOf(opts)
	err := checkTexts("user_id", userID, "device_id", deviceID, "reason", o.Reason)
	if err != nil {
		return false, err
	}
	request := &pb.RevokeDeviceRequest{
		UserId:            userID,
		DeviceId:          deviceID,
		Reason:            o.Reason,
		Forget:            o.Forget,
		RequireReplicated: o.RequireReplicated,
	}
	defer c.forget(userID)
	response, err := call(ctx, c, o.Timeout, c.service.RevokeDevice, request)
	if err != nil {
		return false, err
	}
	return response.GetRevoked(), nil
}

// RevokeAllOptions are what signing a user out everywhere may have beside the user.
type RevokeAllOptions struct {
	// ExceptDeviceID is the one device where the user stays signed in.
	ExceptDeviceID string
	// Reason is for the event: "password_changed".
	Reason string
	// Forget drops the devices from the list, too.
	Forget bool
	// RequireReplicated has the call fail with ErrNotReplicated if too few replicas have the change
	// in time.
	RequireReplicated bool
	// Timeout is the time of this call, if not the client's.
	Timeout time.Duration
}

// RevokeAll signs a user out on all devices, or on all but one. It returns on how many the user was
// signed in.
func (c *Client) RevokeAll(
	ctx context.Context, userID string, opts *RevokeAllOptions,
) (int, error) {
	o := valueOf(opts)
	err := checkTexts("user_id", userID, "except_device_id", o.ExceptDeviceID, "reason", o.Reason)
	if err != nil {
		return 0, err
	}
	request := &pb.RevokeAllRequest{
		UserId:            userID,
		ExceptDeviceId:    o.ExceptDeviceID,
		Reason:            o.Reason,
		Forget:            o.Forget,
		RequireReplicated: o.RequireReplicated,
	}
	defer c.forget(userID)
	response, err := call(ctx, c, o.Timeout, c.service.RevokeAll, request)
	if err != nil {
		return 0, err
	}
	return int(response.GetRevokedDevices()), nil
}

// SigningKeys returns the public keys, for verifying tokens elsewhere. A token that verifies may be
// of a session that has ended.
func (c *Client) SigningKeys(ctx context.Context) (*SigningKeys, error) {
	response, err := call(ctx, c, 0, c.service.GetSigningKeys, &pb.GetSigningKeysRequest{})
	if err != nil {
		return nil, err
	}
	keys := &SigningKeys{JWKSJSON: response.GetJwksJson()}
	for _, key := range response.GetKeys() {
		keys.Keys = append(keys.Keys, SigningKey{
			KeyID: key.GetKeyId(), Algorithm: key.GetAlgorithm(), JWKJSON: key.GetJwkJson(),
		})
	}
	return keys, nil
}
