// Package fakeauthority is a simple fake of the Session Authority, for tests of sessionhttp. The
// fake accepts each token that it has issued until the session of the token is revoked or replaced.
// It sends an event when a session is revoked or replaced. Nothing expires.
package fakeauthority

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// Fake implements sessionhttp.Authority in memory.
type Fake struct {
	mutex    sync.Mutex
	sessions map[string]*sessionauthority.Session // by token
	names    map[string]string                    // names of devices, by device ID
	watchers map[chan sessionauthority.Event]bool
	tokens   int
	failure  error
	calls    map[string]int
	// Silent makes WatchEvents fail with ErrCallerNotAllowed, as for a caller that may not watch
	// events.
	Silent bool
	// RenewRecommended is the value of RenewRecommended in each validation of a good token.
	RenewRecommended bool
}

// New returns a fake without sessions.
func New() *Fake {
	return &Fake{
		sessions: map[string]*sessionauthority.Session{}, names: map[string]string{},
		watchers: map[chan sessionauthority.Event]bool{}, calls: map[string]int{},
	}
}

// Fail makes each later call fail with this error. After Fail(nil), calls succeed again.
func (f *Fake) Fail(err error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.failure = err
}

// Calls returns how often the method with this name was called.
func (f *Fake) Calls(method string) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.calls[method]
}

// Watchers returns the number of calls of WatchEvents that have not ended.
func (f *Fake) Watchers() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return len(f.watchers)
}

func (f *Fake) called(method string) (unlock func(), err error) {
	f.mutex.Lock()
	f.calls[method]++
	return f.mutex.Unlock, f.failure
}

// IssueDevice signs a user in.
func (f *Fake) IssueDevice(
	_ context.Context, userID string, opts *sessionauthority.IssueDeviceOptions,
) (*sessionauthority.IssuedDevice, error) {
	unlock, err := f.called("IssueDevice")
	defer unlock()
	if err != nil {
		return nil, err
	}
	deviceID := opts.DeviceID
	if deviceID == "" {
		deviceID = uuid.NewString()
	}
	f.drop(func(s *sessionauthority.Session) bool {
		return s.UserID == userID && s.DeviceID == deviceID
	}, sessionauthority.EventDeviceSignedIn)
	now := time.Now()
	session := &sessionauthority.Session{
		UserID: userID, DeviceID: deviceID, SessionID: uuid.NewString(), Generation: 1,
		Claims: sessionauthority.NewClaims(opts.Claims), AuthMethods: opts.AuthMethods,
		SignInTime: now, TokenExpireTime: now.Add(time.Hour), ExpireTime: now.Add(24 * time.Hour),
		AbsoluteExpireTime: now.Add(240 * time.Hour),
	}
	return &sessionauthority.IssuedDevice{
		Device: f.deviceOf(session), AccessToken: f.newToken(session),
		TokenExpireTime: session.TokenExpireTime,
	}, nil
}

func (f *Fake) newToken(session *sessionauthority.Session) string {
	f.tokens++
	token := fmt.Sprintf("token-%d", f.tokens)
	f.sessions[token] = session
	return token
}

func (f *Fake) deviceOf(session *sessionauthority.Session) sessionauthority.Device {
	return sessionauthority.Device{
		DeviceID: session.DeviceID, DisplayName: f.names[session.DeviceID],
		SessionID: session.SessionID, SignInTime: session.SignInTime,
		LastSeenTime: session.SignInTime, ExpireTime: session.ExpireTime,
		AbsoluteExpireTime: session.AbsoluteExpireTime, SignedIn: true,
	}
}

// drop ends the sessions for which isMeant returns true, and deletes all their tokens. For each
// deleted token, drop sends an event of this kind. It returns the number of deleted tokens.
func (f *Fake) drop(
	isMeant func(*sessionauthority.Session) bool, kind sessionauthority.EventType,
) (dropped int) {
	for token, session := range f.sessions {
		if !isMeant(session) {
			continue
		}
		delete(f.sessions, token)
		dropped++
		event := sessionauthority.Event{
			Type: kind, UserID: session.UserID, DeviceID: session.DeviceID,
		}
		if kind == sessionauthority.EventDeviceRevoked {
			event.SessionID = session.SessionID
		}
		for watcher := range f.watchers {
			watcher <- event
		}
	}
	return dropped
}

// ValidateSession returns the session of a token. If the token is unknown or belongs to another
// device, the status is StatusSessionEnded.
func (f *Fake) ValidateSession(
	_ context.Context, token, deviceID string, _ *sessionauthority.ValidateSessionOptions,
) (sessionauthority.Validation, error) {
	unlock, err := f.called("ValidateSession")
	defer unlock()
	if err != nil {
		return sessionauthority.Validation{}, err
	}
	session := f.sessions[token]
	if session == nil || session.DeviceID != deviceID {
		return sessionauthority.Validation{Status: sessionauthority.StatusSessionEnded}, nil
	}
	return sessionauthority.Validation{
		Active: true, Status: sessionauthority.StatusActive, Session: *session,
		RenewRecommended: f.RenewRecommended,
	}, nil
}

// RenewSession returns a new token for the session of a token. The old token stays good.
func (f *Fake) RenewSession(
	_ context.Context, token, _ string, _ *sessionauthority.RenewSessionOptions,
) (*sessionauthority.Renewal, error) {
	unlock, err := f.called("RenewSession")
	defer unlock()
	if err != nil {
		return nil, err
	}
	session := f.sessions[token]
	if session == nil {
		return &sessionauthority.Renewal{Status: sessionauthority.StatusSessionEnded}, nil
	}
	return &sessionauthority.Renewal{
		Status: sessionauthority.StatusActive, Session: *session, Rotated: true,
		AccessToken: f.newToken(session),
	}, nil
}

// UpdateSession changes the claims of a user's sessions.
func (f *Fake) UpdateSession(
	_ context.Context, userID string, claims map[string]string,
	_ *sessionauthority.UpdateSessionOptions,
) (changed int, err error) {
	unlock, err := f.called("UpdateSession")
	defer unlock()
	for _, session := range f.sessions {
		if err == nil && session.UserID == userID {
			session.Claims = sessionauthority.NewClaims(claims)
			changed++
		}
	}
	return changed, err
}

// Devices yields the devices on which a user is signed in, in no particular order.
func (f *Fake) Devices(
	_ context.Context, userID string, opts *sessionauthority.ListDevicesOptions,
) iter.Seq2[sessionauthority.Device, error] {
	unlock, err := f.called("Devices")
	defer unlock()
	found := map[string]sessionauthority.Device{}
	for _, session := range f.sessions {
		if session.UserID == userID {
			device := f.deviceOf(session)
			device.Current = device.DeviceID == opts.CurrentDeviceID
			found[device.DeviceID] = device
		}
	}
	return func(yield func(sessionauthority.Device, error) bool) {
		if err != nil {
			yield(sessionauthority.Device{}, err)
			return
		}
		for _, device := range found {
			if !yield(device, nil) {
				return
			}
		}
	}
}

// UpdateDevice changes the name of a device on which the user is signed in.
func (f *Fake) UpdateDevice(
	_ context.Context, userID, deviceID, name string, _ *sessionauthority.UpdateDeviceOptions,
) (*sessionauthority.Device, error) {
	unlock, err := f.called("UpdateDevice")
	defer unlock()
	if err != nil {
		return nil, err
	}
	for _, session := range f.sessions {
		if session.UserID == userID && session.DeviceID == deviceID {
			f.names[deviceID] = name
			device := f.deviceOf(session)
			return &device, nil
		}
	}
	return nil, sessionauthority.ErrDeviceNotFound
}

// RevokeDevice signs a user out on a device.
func (f *Fake) RevokeDevice(
	_ context.Context, userID, deviceID string, _ *sessionauthority.RevokeDeviceOptions,
) (bool, error) {
	unlock, err := f.called("RevokeDevice")
	defer unlock()
	if err != nil {
		return false, err
	}
	return f.drop(func(s *sessionauthority.Session) bool {
		return s.UserID == userID && s.DeviceID == deviceID
	}, sessionauthority.EventDeviceRevoked) > 0, nil
}

// RevokeAll signs a user out on all devices except opts.ExceptDeviceID.
func (f *Fake) RevokeAll(
	_ context.Context, userID string, opts *sessionauthority.RevokeAllOptions,
) (int, error) {
	unlock, err := f.called("RevokeAll")
	defer unlock()
	if err != nil {
		return 0, err
	}
	return f.drop(func(s *sessionauthority.Session) bool {
		return s.UserID == userID && s.DeviceID != opts.ExceptDeviceID
	}, sessionauthority.EventAllRevoked), nil
}

// CheckSessions returns the state of each named session: active or ended.
func (f *Fake) CheckSessions(
	_ context.Context, names []sessionauthority.SessionName, _ *sessionauthority.ManyOptions,
) ([]sessionauthority.StateResult, error) {
	unlock, err := f.called("CheckSessions")
	defer unlock()
	if err != nil {
		return nil, err
	}
	results := make([]sessionauthority.StateResult, len(names))
	for index, name := range names {
		results[index].State.Status = sessionauthority.StatusSessionEnded
		for _, session := range f.sessions {
			if session.Name() == name {
				results[index].State = sessionauthority.SessionState{
					Status:     sessionauthority.StatusActive,
					ExpireTime: session.ExpireTime, AbsoluteExpireTime: session.AbsoluteExpireTime,
				}
			}
		}
	}
	return results, nil
}

// WatchEvents yields the events from now on until ctx is done. If Fail has set an error,
// WatchEvents yields only this error.
func (f *Fake) WatchEvents(
	ctx context.Context, _ *sessionauthority.WatchEventsOptions,
) iter.Seq2[*sessionauthority.EventBatch, error] {
	return func(yield func(*sessionauthority.EventBatch, error) bool) {
		unlock, err := f.called("WatchEvents")
		if err == nil && f.Silent {
			err = sessionauthority.ErrCallerNotAllowed
		}
		events := make(chan sessionauthority.Event, 1000)
		if err == nil {
			f.watchers[events] = true
		}
		unlock()
		defer func() {
			f.mutex.Lock()
			delete(f.watchers, events)
			f.mutex.Unlock()
		}()
		if err != nil {
			yield(nil, err)
			return
		}
		batch := &sessionauthority.EventBatch{}
		for yield(batch, nil) {
			select {
			case event := <-events:
				batch = &sessionauthority.EventBatch{Events: []sessionauthority.Event{event}}
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

// Tokens returns the tokens of the sessions of a user.
func (f *Fake) Tokens(userID string) (tokens []string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for token, session := range f.sessions {
		if session.UserID == userID {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)
	return tokens
}
