// Package endings owns the sessions of open connections: it tells a connection when its session has
// ended. Only the service's answer, or an event that names the session, ends a session: an outage
// is no sign-out.
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
	// While a watch is live, events tell that a session may have ended. Else each session is asked
	// for once in this time. The service proves every 10 seconds that a watch is alive.
	maxSilence = 15 * time.Second
	// The same for a caller that may not watch.
	unwatchedInterval = time.Minute
	// A session whose end is past by this machine's clock alone is asked for at most so often.
	minPause              = time.Second
	firstPause, longPause = 100 * time.Millisecond, 5 * time.Second
	// When a watch breaks there is mostly another one at once, and then one check is enough.
	watchAgain = time.Second
)

// openSession is a session, those who listen for its end, and when it is to be asked for.
type openSession struct {
	name        sessionauthority.SessionName
	absoluteEnd time.Time // zero if it is not known
	listeners   []*listener
	due         time.Time
	// place is the index in the schedule, -1 while the session is asked for.
	place int
}

type listener struct{ told func() }

// schedule is a heap of sessions, the next one that is due first.
type schedule []*openSession

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

// Push and Pop are for container/heap.
func (s *schedule) Push(x any) {
	opened := x.(*openSession)
	opened.place = len(*s)
	*s = append(*s, opened)
}

// Pop removes the last one.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	opened := (*s)[last]
	*s = (*s)[:last]
	opened.place = -1
	return opened
}

// openSessions is the memory. It waits for nothing and sends nothing, and its owner holds a lock.
type openSessions struct {
	ofUser   map[string]map[string]*openSession
	schedule schedule
	// watch counts the watches; isLive: the last one proves that nothing is missed.
	watch    int
	isLive   bool
	interval time.Duration
	failures int
}

// round is what is asked for together.
type round struct {
	sessions []*openSession
	sent     time.Time
	watch    int
	isLive   bool
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
	// It may have ended between its validation and now.
	o.plan(opened, now)
	return opened
}

// stop drops a listener. Without listeners the session is still known until it would be asked for:
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

// tell returns the listeners of the sessions that events ended.
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

// concernedBy returns the sessions of the user of an event; all sessions if it names no user. A
// signing key that was revoked ends no session.
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

// namesOne tells whether an event names the one session that it ended. Session IDs are never used
// again.
func namesOne(event *sessionauthority.Event) bool {
	isOfOne := event.Type == sessionauthority.EventDeviceRevoked ||
		event.Type == sessionauthority.EventDeviceEvicted
	return isOfOne && event.SessionID != ""
}

// concerns tells whether an event of a session's user may have ended the session.
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

// began: a watch tells of all that happens from now on. What happened before it is asked for. It
// returns the number of the watch.
func (o *openSessions) began(now time.Time) int {
	o.watch++
	o.isLive, o.interval = true, maxSilence
	for _, opened := range o.all() {
		o.plan(opened, now)
	}
	return o.watch
}

// lost: the watch of that number is broken; a watch that never began has the number 0. Interval is
// how often sessions are asked for meanwhile.
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

// takeDue returns the sessions that are to be asked for now.
func (o *openSessions) takeDue(now time.Time) round {
	taken := round{sent: now, watch: o.watch, isLive: o.isLive}
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

// answered returns the listeners of the sessions that have ended, and the first error of those that
// the service could not tell of.
func (o *openSessions) answered(
	asked round, results []sessionauthority.StateResult, now time.Time,
) (ended []*listener, failed error) {
	isWatched := asked.isLive && o.isLive && asked.watch == o.watch
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
			if next := asked.sent.Add(o.interval); !isWatched && next.Before(due) {
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

// unanswered plans to ask again, no sooner than after the pause. Only a session past its absolute
// end, which nothing puts off, has ended.
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

// plan has a session asked for at a time.
func (o *openSessions) plan(opened *openSession, due time.Time) {
	opened.due = due
	if opened.place < 0 {
		heap.Push(&o.schedule, opened)
	} else {
		heap.Fix(&o.schedule, opened.place)
	}
}

// planBy has a session asked for at a time, or earlier if it is planned earlier.
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
