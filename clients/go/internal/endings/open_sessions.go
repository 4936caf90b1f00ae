// Package endings keeps track of the sessions of open connections. It calls the listeners of a
// connection when the connection's session has ended. A session counts as ended if the service
// answers that it has ended, or if an event says that it has ended. If the service gives no answer,
// a session counts as ended only after its absolute end.
package endings

import (
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
)

const (
	maxNames = 500 // the service's limit for one CheckSessions
	// A live watch sends a message about every 10 seconds, so a watch without a message for
	// maxSilence counts as broken. While no watch is live, no event reports the end of a session.
	// So each session is checked at intervals of maxSilence.
	maxSilence = 15 * time.Second
	// If this caller may not watch events, each session is checked at intervals of
	// unwatchedInterval.
	unwatchedInterval = time.Minute
	// The next check of a session is planned for the end of the session, but no earlier than
	// minPause from now. By this machine's clock the end may be in the past, although the service
	// answers that the session still lives.
	minPause              = time.Second
	firstPause, longPause = 100 * time.Millisecond, 5 * time.Second
	// When a watch breaks, another watch usually starts soon. Every session must be checked when
	// the new watch begins. So after the break the checks wait for the new watch, for at most
	// watchAgain. Without this wait, sessions would be checked twice.
	watchAgain = time.Second
)

// openSession is a session of an open connection. It has the listeners for the end of the session,
// and the time at which its next check is due.
type openSession struct {
	name        sessionauthority.SessionName
	absoluteEnd time.Time // zero if unknown
	listeners   []*listener
	due         time.Time
	// place is the session's index in the schedule. It is -1 while the session is not in the
	// schedule, such as during a check.
	place int
}

type listener struct{ told func() }

// schedule is a heap of sessions. The session with the earliest check is at the front.
type schedule []*openSession

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push adds a session at the end, for container/heap.
func (s *schedule) Push(x any) {
	opened := x.(*openSession)
	opened.place = len(*s)
	*s = append(*s, opened)
}

// Pop removes the last session, for container/heap.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	opened := (*s)[last]
	*s = (*s)[:last]
	opened.place = -1
	return opened
}

// openSessions has the open sessions, and decides when each session is checked. It makes no call
// itself, and never waits. The mutex of Endings must be locked when a method is called.
type openSessions struct {
	ofUser   map[string]map[string]*openSession
	schedule schedule
	// watch is the number of watches that have begun so far. isLive is true from the first message
	// of a watch until this watch ends.
	watch    int
	isLive   bool
	interval time.Duration
	failures int
}

// round has the sessions that one CheckSessions checks, and the time at which this call was sent.
type round struct {
	sessions []*openSession
	sent     time.Time
}

func (o *openSessions) listen(
	session *sessionauthority.Session, told *listener, now time.Time,
) *openSession {
	known := o.ofUser[session.UserID]
	if known == nil {
		known = map[string]*openSession{}
		o.ofUser[session.UserID] = known
	}
	opened := known[session.SessionID]
	if opened == nil {
		opened = &openSession{
			name: session.Name(), absoluteEnd: session.AbsoluteExpireTime, place: -1,
		}
		known[session.SessionID] = opened
	}
	opened.listeners = append(opened.listeners, told)
	// The session may have ended between its validation and now.
	o.plan(opened, now)
	return opened
}

// stop removes a listener. If a session has no listeners any more, it is kept until its next check
// is due, because a new connection may soon add another listener.
func (o *openSessions) stop(opened *openSession, told *listener, now time.Time) {
	index := slices.Index(opened.listeners, told)
	if index < 0 {
		return
	}
	opened.listeners = slices.Delete(opened.listeners, index, index+1)
	if len(opened.listeners) == 0 && o.isOpen(opened) {
		o.planBy(opened, now.Add(o.interval))
	}
}

// tell handles the events of a watch. It returns the listeners of the sessions that the events
// ended.
func (o *openSessions) tell(events []sessionauthority.Event, now time.Time) (ended []*listener) {
	for index := range events {
		event := &events[index]
		for _, opened := range o.concernedBy(event) {
			switch {
			case namesOne(event) && event.SessionID == opened.name.SessionID:
				ended = append(ended, o.drop(opened)...)
			case !namesOne(event) && concerns(event, opened.name):
				o.plan(opened, now)
			}
		}
	}
	return ended
}

// concernedBy returns the sessions that the event may have ended. If the event names a user, these
// are the sessions of this user. The revocation of a signing key ends no session. Any other event
// that names no user may have ended all sessions.
func (o *openSessions) concernedBy(event *sessionauthority.Event) []*openSession {
	switch {
	case event.UserID != "":
		return slices.Collect(maps.Values(o.ofUser[event.UserID]))
	case event.Type == sessionauthority.EventSigningKeyRevoked:
		return nil
	}
	return o.all()
}

func (o *openSessions) all() []*openSession {
	var all []*openSession
	for _, known := range o.ofUser {
		all = slices.AppendSeq(all, maps.Values(known))
	}
	return all
}

// namesOne reports whether an event says that one session has ended, and names this session. The
// session then stays ended, because no later session gets the same ID.
func namesOne(event *sessionauthority.Event) bool {
	isOfOne := event.Type == sessionauthority.EventDeviceRevoked ||
		event.Type == sessionauthority.EventDeviceEvicted
	return isOfOne && event.SessionID != ""
}

// concerns reports whether an event may have ended the session. The event must name the session's
// user or no user.
func concerns(event *sessionauthority.Event, name sessionauthority.SessionName) bool {
	switch event.Type {
	case sessionauthority.EventDeviceSignedIn:
		return event.SessionID != name.SessionID &&
			(event.DeviceID == "" || event.DeviceID == name.DeviceID)
	case sessionauthority.EventEndedTokenPresented, sessionauthority.EventSupersededTokenPresented:
		return false
	}
	return true
}

func (o *openSessions) doubt(userID string, now time.Time) {
	for _, opened := range o.ofUser[userID] {
		o.plan(opened, now)
	}
}

// began notes that a watch has begun. The watch brings only events from now on, and a session may
// have ended earlier. So began plans an immediate check of all sessions. It returns the number of
// the watch.
func (o *openSessions) began(now time.Time) int {
	o.watch++
	o.isLive, o.interval = true, maxSilence
	for _, opened := range o.all() {
		o.plan(opened, now)
	}
	return o.watch
}

// lost notes that a watch has ended. watch is the number that began returned, or 0 if the watch
// never began. interval is the interval of checks from now on.
func (o *openSessions) lost(watch int, now time.Time, interval time.Duration) {
	wait := interval
	if o.isLive && watch != o.watch {
		return // another watch has begun since
	}
	if o.isLive {
		wait = time.Duration((0.5 + rand.Float64()/2) * float64(watchAgain))
	}
	o.isLive, o.interval = false, interval
	for _, opened := range o.all() {
		o.planBy(opened, now.Add(wait))
	}
}

// takeDue returns a round with at most maxNames sessions whose checks are due, and removes these
// sessions from the schedule. takeDue drops due sessions that have no listeners.
func (o *openSessions) takeDue(now time.Time) round {
	taken := round{sent: now}
	for len(o.schedule) > 0 && !o.schedule[0].due.After(now) && len(taken.sessions) < maxNames {
		opened := heap.Pop(&o.schedule).(*openSession)
		if len(opened.listeners) > 0 {
			taken.sessions = append(taken.sessions, opened)
		} else {
			o.drop(opened)
		}
	}
	return taken
}

// answered handles the results of one CheckSessions. It returns the listeners of the sessions that
// have ended. If some results are errors, answered also returns one of these errors. A session
// whose result is an error may live or not, so it is checked again. If a watch started after the
// request was sent, a call of began has planned another check of each session. This check stays
// planned.
func (o *openSessions) answered(
	asked round, results []sessionauthority.StateResult, now time.Time,
) (ended []*listener, failed error) {
	var unknown []*openSession
	for index, opened := range asked.sessions {
		result := &results[index]
		switch {
		case !o.isOpen(opened):
		case result.Err != nil:
			unknown = append(unknown, opened)
			failed = result.Err
		case result.State.Active():
			if !result.State.AbsoluteExpireTime.IsZero() {
				opened.absoluteEnd = result.State.AbsoluteExpireTime
			}
			due := now.Add(max(result.State.ExpireTime.Sub(now), minPause))
			if next := asked.sent.Add(o.interval); !o.isLive && next.Before(due) {
				due = next
			}
			o.planBy(opened, due)
		default:
			ended = append(ended, o.drop(opened)...)
		}
	}
	if failed != nil {
		return append(ended, o.unanswered(unknown, now, 0)...), failed
	}
	o.failures = 0
	return ended, nil
}

// unanswered plans new checks of sessions for which the service gave no answer. The new checks are
// due after the pause or later, unless an earlier check is planned. A session counts as ended if
// its absolute end is over, because no use of a session moves the absolute end. unanswered returns
// the listeners of the sessions that have ended.
func (o *openSessions) unanswered(
	sessions []*openSession, now time.Time, pause time.Duration,
) (ended []*listener) {
	pause = max(pause, min(firstPause<<o.failures, longPause))
	o.failures = min(o.failures+1, 10)
	for _, opened := range sessions {
		switch {
		case !o.isOpen(opened):
		case !opened.absoluteEnd.IsZero() && !now.Before(opened.absoluteEnd):
			ended = append(ended, o.drop(opened)...)
		default:
			o.planBy(opened, now.Add(pause))
		}
	}
	return ended
}

// plan sets the time of a session's next check to due.
func (o *openSessions) plan(opened *openSession, due time.Time) {
	opened.due = due
	if opened.place < 0 {
		heap.Push(&o.schedule, opened)
	} else {
		heap.Fix(&o.schedule, opened.place)
	}
}

// planBy sets the time of a session's next check to due, unless an earlier check is planned.
func (o *openSessions) planBy(opened *openSession, due time.Time) {
	if opened.place < 0 || due.Before(opened.due) {
		o.plan(opened, due)
	}
}

func (o *openSessions) isOpen(opened *openSession) bool {
	return o.ofUser[opened.name.UserID][opened.name.SessionID] == opened
}

func (o *openSessions) drop(opened *openSession) []*listener {
	if o.isOpen(opened) {
		known := o.ofUser[opened.name.UserID]
		delete(known, opened.name.SessionID)
		if len(known) == 0 {
			delete(o.ofUser, opened.name.UserID)
		}
	}
	if opened.place >= 0 {
		heap.Remove(&o.schedule, opened.place)
	}
	listeners := opened.listeners
	opened.listeners = nil
	return listeners
}
