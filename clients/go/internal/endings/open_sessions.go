// Package endings owns the sessions of open connections: it calls the listeners of a connection
// when its session has ended. A session counts as ended after the service's answer, or after an
// event that names the session. During an outage, a session counts as ended only after its absolute
// end.
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
	maxNames = 500 // the contract's limit for one CheckSessions
	// While a watch is live, events report that a session may have ended. Else each session is
	// checked once in this interval. The service proves every 10 seconds that a watch is alive.
	maxSilence = 15 * time.Second
	// The interval of checks if the caller may not watch events.
	unwatchedInterval = time.Minute
	// The shortest time between two checks of a session that has ended by this machine's clock, but
	// not by the service's clock.
	minPause              = time.Second
	firstPause, longPause = 100 * time.Millisecond, 5 * time.Second
	// When a watch breaks, another watch usually starts at once. The checks wait for the new watch,
	// at most this long. A session that is checked before the new watch is live must be checked
	// again.
	watchAgain = time.Second
)

// openSession is a session, the listeners for its end, and the time of its next check.
type openSession struct {
	name        sessionauthority.SessionName
	absoluteEnd time.Time // zero if it is not known
	listeners   []*listener
	due         time.Time
	// place is the index in the schedule. It is -1 while the session is being checked.
	place int
}

type listener struct{ told func() }

// schedule is a heap of sessions. The session that is due first is at the front.
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

// openSessions has only the state and the rules. It never waits, and sends nothing. The caller of
// its methods holds a lock.
type openSessions struct {
	ofUser   map[string]map[string]*openSession
	schedule schedule
	// watch is the number of watches so far. isLive is true if the last watch proves that no event
	// is missed.
	watch    int
	isLive   bool
	interval time.Duration
	failures int
}

// round has the sessions that one call checks.
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

// stop removes a listener. A session without listeners is kept until its next check is due, because
// another listener may come at once.
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

// concernedBy returns the sessions of the event's user. If the event names no user, it returns all
// sessions. A signing key that was revoked ends no session.
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

// namesOne reports whether an event names the one session that it ended. Session IDs are never used
// again.
func namesOne(event *sessionauthority.Event) bool {
	isOfOne := event.Type == sessionauthority.EventDeviceRevoked ||
		event.Type == sessionauthority.EventDeviceEvicted
	return isOfOne && event.SessionID != ""
}

// concerns reports whether an event of the session's user may have ended the session.
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

// began notes that a watch has begun. The watch brings only events from now on, so began plans a
// check of all sessions at once. It returns the number of the watch.
func (o *openSessions) began(now time.Time) int {
	o.watch++
	o.isLive, o.interval = true, maxSilence
	for _, opened := range o.all() {
		o.plan(opened, now)
	}
	return o.watch
}

// lost notes that the watch with that number is broken. A watch that never began has the number 0.
// interval is the interval of checks from now on.
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

// takeDue returns the sessions whose checks are due now.
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

// answered handles the answers of the service. It returns the listeners of the sessions that have
// ended. If some answers are errors, it also returns one of these errors. An error says nothing of
// its session. If a watch began after the request, all sessions are checked again.
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

// unanswered plans the checks again, no sooner than after the pause, because the service did not
// answer. A session that is past its absolute end has ended, because nothing puts off the absolute
// end. unanswered returns the listeners of the sessions that have ended.
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

// plan sets the time of a session's next check.
func (o *openSessions) plan(opened *openSession, due time.Time) {
	opened.due = due
	if opened.place < 0 {
		heap.Push(&o.schedule, opened)
	} else {
		heap.Fix(&o.schedule, opened.place)
	}
}

// planBy sets the time of a session's next check, unless an earlier check is planned.
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
