package main

import (
	"context"
	"sync"
	"time"

	sa "github.com/session-authority/session-authority/clients/go"
)

func validationLine(found *sa.Validation) map[string]any {
	return map[string]any{
		"active": found.Active, "status": found.Status.String(), "device_id": found.DeviceID,
		"device_id_assigned": found.DeviceIDAssigned,
		"renew_recommended":  found.RenewRecommended,
		"revoked_devices":    found.RevokedDevices,
		"session":            sessionLine(found.Active, &found.Session),
	}
}

func validate(r *run) (any, error) {
	var token, deviceID string
	if err := r.fields.need("access_token", &token, "device_id", &deviceID); err != nil {
		return nil, err
	}
	opts := &sa.ValidateSessionOptions{}
	err := r.fields.may(
		"user_agent", &opts.Client.UserAgent, "observe_only", &opts.ObserveOnly,
		"passive", &opts.Passive,
	)
	if err != nil {
		return nil, err
	}
	if opts.Timeout, err = r.fields.timeout(); err != nil {
		return nil, err
	}
	r.begun()
	started := time.Now()
	found, err := r.client.ValidateSession(context.Background(), token, deviceID, opts)
	ended := time.Now()
	if err != nil {
		return nil, err
	}
	line := validationLine(&found)
	line["started"], line["ended"] = moment(started), moment(ended)
	return line, nil
}

type item struct {
	AccessToken string `json:"access_token"`
	DeviceID    string `json:"device_id"`
}

func validateMany(r *run) (any, error) {
	var items []item
	if err := r.fields.need("items", &items); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	results := make([]any, len(items))
	var group sync.WaitGroup
	for i, one := range items {
		begun := make(chan struct{})
		group.Go(func() {
			close(begun)
			found, err := r.client.ValidateSession(context.Background(), one.AccessToken,
				one.DeviceID, &sa.ValidateSessionOptions{Timeout: timeout})
			results[i] = resultLine(&found, err)
		})
		<-begun
	}
	r.begun()
	group.Wait()
	return map[string]any{"results": results}, nil
}

func resultLine(found *sa.Validation, err error) map[string]any {
	if err != nil {
		return map[string]any{"error": errorLine(err)}
	}
	return map[string]any{"ok": validationLine(found)}
}

func validateBatch(r *run) (any, error) {
	var items []item
	if err := r.fields.need("items", &items); err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	var pairs []sa.Presented
	for _, one := range items {
		pairs = append(pairs, sa.Presented(one))
	}
	r.begun()
	found, err := r.client.ValidateSessions(context.Background(), pairs,
		&sa.ManyOptions{Timeout: timeout})
	if err != nil {
		return nil, err
	}
	results := []any{}
	for i := range found {
		results = append(results, resultLine(&found[i].Validation, found[i].Err))
	}
	return map[string]any{"results": results}, nil
}

func poll(r *run) (any, error) {
	var token, deviceID string
	var interval float64
	err := r.fields.need(
		"access_token", &token, "device_id", &deviceID, "interval_ms", &interval,
	)
	if err != nil {
		return nil, err
	}
	timeout, err := r.fields.timeout()
	if err != nil {
		return nil, err
	}
	opts := &sa.ValidateSessionOptions{Timeout: timeout}
	r.begun()
	asked, failed := 0, 0
	var lastActive any
	for ; ; time.Sleep(duration(interval)) {
		asked++
		started := time.Now()
		found, err := r.client.ValidateSession(context.Background(), token, deviceID, opts)
		ended := time.Now()
		switch {
		case err != nil:
			failed++
		case found.Active:
			if lastActive == nil {
				r.note(map[string]any{"active": true})
			}
			lastActive = moment(started)
		default:
			return map[string]any{
				"status": found.Status.String(), "asked": asked, "errors": failed,
				"last_active_started": lastActive, "denied_started": moment(started),
				"denied_ended": moment(ended),
			}, nil
		}
	}
}
