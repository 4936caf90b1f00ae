package main

import (
	"context"

	sa "github.com/session-authority/session-authority/clients/go"
)

var commands = map[string]handler{
	"connect":        connect,
	"close":          closeClient,
	"validate":       validate,
	"validate_many":  validateMany,
	"validate_batch": validateBatch,
	"poll":           poll,
	"renew":          renew,
	"sign_in":        signIn,
	"revoke":         revoke,
	"revoke_all":     revokeAll,
	"list":           list,
	"check":          check,
	"watch":          watch,
	"stats":          stats,
	"http":           request,
}

type none struct{}

func connect(r *run) (any, error) {
	var name, target string
	if err := r.fields.need("client", &name, "target", &target); err != nil {
		return nil, err
	}
	var (
		batching = true
		inFlight int
		cache    struct {
			MaxEntries int     `json:"max_entries"`
			MaxAge     float64 `json:"max_age_ms"`
			MaxSilence float64 `json:"max_silence_ms"`
		}
	)
	if err := r.fields.may("batching", &batching, "max_in_flight", &inFlight); err != nil {
		return nil, err
	}
	hasCache, err := r.fields.read("cache", &cache)
	if err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	var opts []sa.Option
	if timeout != 0 {
		opts = append(opts, sa.WithTimeout(timeout))
	}
	if !batching {
		opts = append(opts, sa.WithoutBatching())
	}
	if inFlight != 0 {
		opts = append(opts, sa.WithMaxInFlight(inFlight))
	}
	if hasCache {
		opts = append(opts, sa.WithCache(sa.CacheConfig{
			MaxEntries: cache.MaxEntries, MaxAge: duration(cache.MaxAge),
			MaxSilence: duration(cache.MaxSilence),
		}))
	}
	client, err := sa.NewClient(target, opts...)
	if err != nil {
		return nil, badCommand(err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[name] = client
	return none{}, nil
}

func closeClient(r *run) (any, error) {
	var name string
	if err := r.fields.need("client", &name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	client := r.clients[name]
	r.mu.Unlock()
	if client == nil {
		return nil, badCommand("client: " + name + " is not connected")
	}
	return none{}, client.Close()
}

func revoke(r *run) (any, error) {
	var userID, deviceID, reason string
	if err := r.fields.need("user_id", &userID, "device_id", &deviceID); err != nil {
		return nil, err
	}
	if err := r.fields.may("reason", &reason); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	r.begun()
	revoked, err := r.client.RevokeDevice(context.Background(), userID, deviceID,
		&sa.RevokeDeviceOptions{Reason: reason, Timeout: timeout})
	return map[string]any{"revoked": revoked}, err
}

func revokeAll(r *run) (any, error) {
	var userID, except string
	if err := r.fields.need("user_id", &userID); err != nil {
		return nil, err
	}
	if err := r.fields.may("except_device_id", &except); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	r.begun()
	revoked, err := r.client.RevokeAll(context.Background(), userID,
		&sa.RevokeAllOptions{ExceptDeviceID: except, Timeout: timeout})
	return map[string]any{"revoked_devices": revoked}, err
}

func list(r *run) (any, error) {
	var userID string
	if err := r.fields.need("user_id", &userID); err != nil {
		return nil, err
	}
	opts := &sa.ListDevicesOptions{}
	err := r.fields.may(
		"current_device_id", &opts.CurrentDeviceID, "page_size", &opts.PageSize,
		"page_token", &opts.PageToken,
	)
	if err != nil {
		return nil, err
	}
	if opts.Timeout, err = r.fields.timeout(); err != nil {
		return nil, err
	}
	r.begun()
	page, err := r.client.ListDevices(context.Background(), userID, opts)
	if err != nil {
		return nil, err
	}
	devices := []any{}
	for _, device := range page.Devices {
		devices = append(devices, deviceLine(&device))
	}
	return map[string]any{
		"devices": devices, "next_page_token": page.NextPageToken, "total_size": page.TotalSize,
	}, nil
}

func check(r *run) (any, error) {
	var named []struct {
		UserID    string `json:"user_id"`
		DeviceID  string `json:"device_id"`
		SessionID string `json:"session_id"`
	}
	if err := r.fields.need("sessions", &named); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	var names []sa.SessionName
	for _, one := range named {
		names = append(names, sa.SessionName(one))
	}
	r.begun()
	results, err := r.client.CheckSessions(context.Background(), names,
		&sa.ManyOptions{Timeout: timeout})
	statuses := []string{}
	for _, result := range results {
		if result.Err != nil {
			return nil, result.Err
		}
		statuses = append(statuses, result.State.Status.String())
	}
	return map[string]any{"statuses": statuses}, err
}

func watch(r *run) (any, error) {
	opts := &sa.WatchEventsOptions{}
	if err := r.fields.may("cursor", &opts.Cursor); err != nil {
		return nil, err
	}
	r.begun()
	for batch, err := range r.client.WatchEvents(context.Background(), opts) {
		if err != nil {
			return nil, err
		}
		events := []string{}
		for _, event := range batch.Events {
			events = append(events, event.Type.String())
		}
		r.note(map[string]any{"events": events, "cursor": batch.Cursor})
	}
	return none{}, nil
}

func stats(r *run) (any, error) {
	r.begun()
	found := r.client.CacheStats()
	return map[string]any{
		"live": found.Live, "entries": found.Entries, "hits": found.Hits, "misses": found.Misses,
	}, nil
}

func deviceLine(device *sa.Device) map[string]any {
	return map[string]any{
		"device_id": device.DeviceID, "display_name": device.DisplayName,
		"session_id": device.SessionID, "current": device.Current, "signed_in": device.SignedIn,
	}
}

func signIn(r *run) (any, error) {
	var userID string
	if err := r.fields.need("user_id", &userID); err != nil {
		return nil, err
	}
	opts := &sa.IssueDeviceOptions{}
	err := r.fields.may(
		"device_id", &opts.DeviceID, "request_id", &opts.RequestID, "claims", &opts.Claims,
	)
	if err != nil {
		return nil, err
	}
	if opts.Timeout, err = r.fields.timeout(); err != nil {
		return nil, err
	}
	r.begun()
	issued, err := r.client.IssueDevice(context.Background(), userID, opts)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token": issued.AccessToken, "device": deviceLine(&issued.Device),
		"device_id_assigned": issued.DeviceIDAssigned, "new_device": issued.NewDevice,
	}, nil
}

func renew(r *run) (any, error) {
	var token, deviceID string
	if err := r.fields.need("access_token", &token, "device_id", &deviceID); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	r.begun()
	renewal, err := r.client.RenewSession(context.Background(), token, deviceID,
		&sa.RenewSessionOptions{Timeout: timeout})
	if err != nil {
		return nil, err
	}
	line := map[string]any{
		"active": renewal.Active(), "status": renewal.Status.String(), "rotated": renewal.Rotated,
		"access_token": nil, "session": sessionLine(renewal.Active(), &renewal.Session),
	}
	if renewal.AccessToken != "" {
		line["access_token"] = renewal.AccessToken
	}
	return line, nil
}

func sessionLine(isActive bool, session *sa.Session) any {
	if !isActive {
		return nil
	}
	return map[string]any{
		"user_id": session.UserID, "device_id": session.DeviceID,
		"session_id": session.SessionID, "generation": session.Generation,
		"claims": session.Claims,
	}
}
