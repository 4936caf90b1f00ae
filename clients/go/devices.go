package sessionauthority

import (
	"context"
	"iter"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ListDevicesOptions are the optional arguments of ListDevices and Devices.
type ListDevicesOptions struct {
	// CurrentDeviceID is the device that sent the request: it is Current in the list.
	CurrentDeviceID string
	// IncludeSignedOut lists devices where the user is signed out, too. The default is false.
	IncludeSignedOut bool
	// PageSize is the number of devices on a page, up to 1,000. If it is zero, the service's own
	// default of 50 holds.
	PageSize int
	// PageToken is the NextPageToken of the page before. It is empty for the first page.
	PageToken string
	// Timeout is the timeout of each call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// ListDevices returns a page of a user's devices, the newest activity first. Devices returns all of
// them.
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
// It calls ListDevices for each page. If a call fails, the iterator yields the error and ends.
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

// UpdateDeviceOptions are the optional arguments of UpdateDevice.
type UpdateDeviceOptions struct {
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// UpdateDevice names a device. An empty name removes the name. It returns the device, and fails
// with ErrDeviceNotFound if the user has no such device.
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

// RevokeDeviceOptions are the optional arguments of RevokeDevice.
type RevokeDeviceOptions struct {
	// Reason says why, for the event: "user_request".
	Reason string
	// Forget drops the device from the list, too. The default is false.
	Forget bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
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

// RevokeAllOptions are the optional arguments of RevokeAll.
type RevokeAllOptions struct {
	// ExceptDeviceID is the one device where the user stays signed in. If it is empty, the user is
	// signed out on all devices.
	ExceptDeviceID string
	// Reason says why, for the event: "password_changed".
	Reason string
	// Forget drops the devices from the list, too. The default is false.
	Forget bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas have the
	// change in time. A service that waits for no replicas refuses such a call. The default is
	// false.
	RequireReplicated bool
	// Timeout is the timeout of this call. If it is zero, the client's default timeout holds.
	Timeout time.Duration
}

// RevokeAll signs a user out on all devices, or on all devices but one. It returns the number of
// devices on which the user was signed in.
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
