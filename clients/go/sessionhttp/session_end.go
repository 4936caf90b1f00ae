package sessionhttp

import (
	"sync"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

// sessionEnd has the actions at the end of one visit's session: the callbacks of the app, and the
// function of the middleware that closes the connection.
type sessionEnd struct {
	mutex     sync.Mutex
	hangUp    func()
	stopHang  func()
	stops     []func()
	keepsOpen bool
	// isKept is true if the connection was hijacked and so outlives the request.
	isKept bool
}

// Ended returns a channel that is closed when the session has ended: signed out or revoked,
// replaced by another sign-in on this device, or expired. A token that ends or is renewed does not
// end the session, and an outage of the service does not, either. Ended returns a *Refusal if
// nobody is signed in, or if the service gave no answer.
func (v *Visit) Ended() (<-chan struct{}, error) {
	done := make(chan struct{})
	if _, err := v.OnEnded(func() { close(done) }); err != nil {
		return nil, err
	}
	return done, nil
}

// OnEnded calls told once when the session has ended, in a goroutine of the flow. told must not
// block. The returned function stop removes told again. The end of the request also removes told.
// If the app hijacks the connection, the end of the connection removes told instead.
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

// HangUpAtEnd calls hangUp when the session ends, unless the app keeps the connection open. This
// happens only if the app uses the session, before or after this call: public connections go on.
// HangUpAtEnd is for adapters.
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

// look notes that the app uses the session: from now on its response depends on the session.
func (e *sessionEnd) look(v *Visit, session *sessionauthority.Session) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if session == nil || e.hangUp == nil || e.stopHang != nil || e.keepsOpen {
		return
	}
	// If the flow is closed, nothing ends the connection.
	if stop, err := v.flow.endings.Listen(session, e.hangUp); err == nil {
		e.stopHang = stop
	}
}

// detach lets the connection outlive its request. It returns a function to call when the connection
// is over.
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
