package sessionhttp

import (
	"sync"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// sessionEnd is who is told when the session of one visit ends: the app's callbacks, and the
// middleware that then hangs up.
type sessionEnd struct {
	mutex     sync.Mutex
	hangUp    func()
	stopHang  func()
	stops     []func()
	keepsOpen bool
	// isKept: the connection outlives the request, which was taken over.
	isKept bool
}

// Ended returns a channel that is closed when the session has ended: signed out or revoked,
// replaced by another sign-in on this device, or expired. A token that ends or is renewed ends no
// session, and an outage of the service is no end. It returns a *Refusal if nobody is signed in, or
// if that is unknown.
func (v *Visit) Ended() (<-chan struct{}, error) {
	done := make(chan struct{})
	if _, err := v.OnEnded(func() { close(done) }); err != nil {
		return nil, err
	}
	return done, nil
}

// OnEnded has a function called once when the session has ended, in a goroutine of the flow, for
// which it must not wait. The function that is returned stops that; the end of the request does,
// too.
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

// KeepOpen has the middleware leave this connection open when the session ends.
func (v *Visit) KeepOpen() {
	v.end.mutex.Lock()
	defer v.end.mutex.Unlock()
	v.end.keepsOpen = true
	v.end.stopHanging()
}

// HangUpAtEnd has a connection hung up when the session ends, unless the app keeps it open. The app
// must have looked at the session, now or later: what is public goes on. It is for adapters.
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

// look: the app looks at the session. From now on what it serves depends on that.
func (e *sessionEnd) look(v *Visit, session *sessionauthority.Session) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if session == nil || e.hangUp == nil || e.stopHang != nil || e.keepsOpen {
		return
	}
	// If the flow is closed, the connection is not known to end.
	if stop, err := v.flow.endings.Listen(session, e.hangUp); err == nil {
		e.stopHang = stop
	}
}

// detach has the connection outlive its request. The function that is returned says that it is
// over.
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
