package sessionhttp

import (
	"sync"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// sessionEnd has the functions for the end of a visit's session. hangUp is the middleware's
// function that closes the connection. stops has the functions that remove the callbacks of the
// app.
type sessionEnd struct {
	mutex     sync.Mutex
	hangUp    func()
	stopHang  func()
	stops     []func()
	keepsOpen bool
	// isKept is true while the app has a hijacked connection, which may stay open after the end of
	// the request.
	isKept bool
}

// Ended returns a channel that is closed when the session ends. A session ends by a sign-out, a
// revocation, another sign-in on this device, or expiry. The channel stays open if only the token
// expires or is renewed, and also during an outage of the service. Ended returns a *Refusal if
// nobody is signed in, or if the service gave no answer.
func (v *Visit) Ended() (<-chan struct{}, error) {
	done := make(chan struct{})
	if _, err := v.OnEnded(func() { close(done) }); err != nil {
		return nil, err
	}
	return done, nil
}

// OnEnded makes the flow call told once, in a goroutine of the flow, when the session ends. told
// must not block. The returned function stop removes told, so that told is not called. The end of
// the request also removes told. If the app has hijacked the connection, the end of the connection
// removes told, and not the end of the request. OnEnded returns a *Refusal if nobody is signed in,
// or if the service gave no answer.
func (v *Visit) OnEnded(told func()) (stop func(), err error) {
	session, err := v.Require()
	if err != nil {
		return nil, err
	}
	stop, err = v.flow.endings.Listen(session, told)
	if err != nil {
		return nil, v.refuse(v.flow.noAnswer(&v.presented, err))
	}
	v.end.mutex.Lock()
	v.end.stops = append(v.end.stops, stop)
	v.end.mutex.Unlock()
	return stop, nil
}

// KeepOpen makes the middleware leave this connection open when the session ends.
func (v *Visit) KeepOpen() {
	v.end.mutex.Lock()
	defer v.end.mutex.Unlock()
	v.end.keepsOpen = true
	v.end.stopHanging()
}

// HangUpAtEnd makes the flow call hangUp when the session ends. hangUp is called only if the app
// has asked for the session, before or after the call of HangUpAtEnd. Connections that need no
// session stay open. hangUp is not called if the app has called KeepOpen, or if
// Settings.KeepConnections is true. HangUpAtEnd is for adapters.
func (v *Visit) HangUpAtEnd(hangUp func()) {
	if v.flow.settings.KeepConnections {
		return
	}
	v.end.mutex.Lock()
	v.end.hangUp = hangUp
	v.end.mutex.Unlock()
	if v.looked {
		v.end.look(v, v.session)
	}
}

// look makes the flow call hangUp when the session ends. It does nothing if hangUp or the session
// is nil, or if the app has called KeepOpen. Only the first call of look has an effect.
func (e *sessionEnd) look(v *Visit, session *sessionauthority.Session) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if session == nil || e.hangUp == nil || e.stopHang != nil || e.keepsOpen {
		return
	}
	// Listen fails if the flow is closed. If Listen fails, nothing calls hangUp at the end of the
	// session.
	if stop, err := v.flow.endings.Listen(session, e.hangUp); err == nil {
		e.stopHang = stop
	}
}

// detach keeps the callbacks of this visit after the end of the request, because the app has
// hijacked the connection. The caller calls the returned function left when the connection is
// closed.
func (v *Visit) detach() (left func()) {
	v.end.mutex.Lock()
	defer v.end.mutex.Unlock()
	v.end.isKept = true
	return func() {
		v.end.mutex.Lock()
		v.end.isKept = false
		v.end.mutex.Unlock()
		v.end.leave()
	}
}

func (e *sessionEnd) leave() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.isKept {
		return
	}
	e.stopHanging()
	e.hangUp = nil
	for _, stop := range e.stops {
		stop()
	}
	e.stops = nil
}

func (e *sessionEnd) stopHanging() {
	if e.stopHang != nil {
		e.stopHang()
		e.stopHang = nil
	}
}
