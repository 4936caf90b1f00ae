package sessionauthority

import (
	"context"
	"iter"
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ListDevicesOptions are the optional arguments of ListDevices and Devices.
type ListDevicesOptions struct {
	// CurrentDeviceID is the ID of the device that sent the end user's request. In the list, the
	// field Current of this device is true.
	CurrentDeviceID string
	// IncludeSignedOut adds the devices on which the user is signed out to the list. The default is
	// false.
	IncludeSignedOut bool
	// PageSize is the maximum number of devices on a page, up to 1,000. Zero stands for the
	// service's default, 50.
	PageSize int
	// PageToken is the NextPageToken of the previous page. It is empty for the first page.
	PageToken string
	// Timeout is the timeout of each call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// ListDevices returns one page of the list of a user's devices. The device with the newest activity
// comes first in the list. Use Devices to get the whole list.
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

// Devices returns an iterator over the whole list of a user's devices, for a page such as "My
// devices". The device with the newest activity comes first. The iterator calls ListDevices for
// each page. If such a call fails, the iterator yields the error and ends.
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
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// UpdateDevice sets the name of a device, and returns the device with this name. An empty
// displayName removes the name. UpdateDevice fails with ErrDeviceNotFound if deviceID is no device
// of the user.
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
	// Reason is the reason that the event of the revocation will have, such as "user_request".
	Reason string
	// Forget also removes the device from the list of the user's devices. The default is false.
	Forget bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// RevokeDevice signs a user out on a device. It returns true if the user was signed in on the
// device.
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
	// ExceptDeviceID is the ID of the device on which the user stays signed in. If ExceptDeviceID
	// is empty, the user is signed out on all devices.
	ExceptDeviceID string
	// Reason is the reason that the event of the revocation will have, such as "password_changed".
	Reason string
	// Forget also removes the devices from the list of the user's devices, except the device of
	// ExceptDeviceID. The default is false.
	Forget bool
	// RequireReplicated makes the call fail with ErrNotReplicated if too few replicas confirm the
	// change in time. If the service is not set to wait for replicas, it refuses a call that has
	// RequireReplicated. The default is false.
	RequireReplicated bool
	// Timeout is the timeout of this call. Zero stands for the client's default timeout.
	Timeout time.Duration
}

// RevokeAll signs a user out on all devices, or on all devices except ExceptDeviceID. It returns
// the number of devices on which this call signed the user out.
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

// SigningKeys returns the service's public keys, with which you can verify the signatures of tokens
// yourself. The session of a token may have ended, even if the signature is valid.
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
