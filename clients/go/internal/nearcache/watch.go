package nearcache

import (
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ofUser reports whether an event of this type concerns only the user that the event names. The
// revocation of a signing key concerns all users. An event of a type that this version does not
// know counts as an event that concerns all users.
func ofUser(kind pb.EventType) bool {
	switch kind {
	case pb.EventType_EVENT_TYPE_DEVICE_SIGNED_IN,
		pb.EventType_EVENT_TYPE_SESSION_REPLAYED,
		pb.EventType_EVENT_TYPE_ENDED_TOKEN_PRESENTED,
		pb.EventType_EVENT_TYPE_DEVICE_REVOKED,
		pb.EventType_EVENT_TYPE_ALL_REVOKED,
		pb.EventType_EVENT_TYPE_DEVICE_EVICTED,
		pb.EventType_EVENT_TYPE_SUPERSEDED_TOKEN_PRESENTED,
		pb.EventType_EVENT_TYPE_SESSION_UPDATED:
		return true
	default:
		return false
	}
}

// Begin notes the time at which the client requests a watch. Call Begin just before the request.
// Begin drops all answers.
func (c *Cache[V]) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	c.began, _ = c.now()
}

// Tell handles a message of the watch. It handles the events of the message first, and then the
// proof, if the message has one.
func (c *Cache[V]) Tell(message *pb.WatchEventsResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range message.GetEvents() {
		if ofUser(event.GetType()) && event.GetUserId() != "" {
			c.forgetUser(event.GetUserId())
			continue
		}
		c.empty()
		c.watch++ // so Store refuses the answers to earlier requests
		if event.GetType() == pb.EventType_EVENT_TYPE_SIGNING_KEY_REVOKED {
			c.settle()
		}
	}
	if read := message.GetReadUptime(); read != nil {
		c.prove(read.GetSeconds(), read.GetNanos())
	} else if read := message.GetReadTime(); read != nil {
		// An older version of the service does not send read_uptime.
		c.prove(read.GetSeconds(), read.GetNanos())
	}
}

// Lost notes that the watch has ended. It drops all answers, because without a watch no event
// reports that an answer does not hold any more.
//
// historyGone is true if the store may have another primary now. If it has, some servers of the
// service may still read from the old primary for some seconds, and no watch reports such a read.
// So the cache stores no answer to a request that is sent in the next 15 seconds.
func (c *Cache[V]) Lost(historyGone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	if historyGone {
		c.settle()
	}
}

// TimeLeft returns for how much longer the watch may send no proof before it counts as broken. It
// returns 0 if the watch already counts as broken.
func (c *Cache[V]) TimeLeft() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return max(max(c.liveUntil, c.began+c.settings.MaxSilence)-now, 0)
}

// prove handles a proof: the watch has sent all events from before a moment. seconds and nanos are
// this moment by the server's clock.
//
// prove calculates how old the proof is by this machine's clock, although the server's clock may
// show another time. The server read the time of the first proof after this client had requested
// the watch. The server's clock says how much time passed between the first proof and this proof.
// prove adds this duration to the time of the request. The sum is a time by this machine's clock
// that is never later than the real time of the proof. So the proof may seem older than it is, but
// never younger, even if the message was delayed or waited unread in this process.
//
// If a proof seems to be from the future, the two clocks don't run equally fast. For example, one
// clock was set or stood still during the watch. In this case no proof of this watch can be
// trusted, and the watch counts as broken. A difference of up to maxAhead is accepted.
func (c *Cache[V]) prove(seconds int64, nanos int32) {
	if c.began == never {
		return
	}
	const maxSeconds = 1 << 32 // the difference of two such times fits into a Duration
	if seconds < -maxSeconds || seconds > maxSeconds {
		c.lose()
		return
	}
	read := time.Duration(seconds)*time.Second + time.Duration(nanos)
	if !c.hasRead {
		c.firstRead, c.hasRead = read, true
	}
	now, _ := c.now()
	ahead := read - c.firstRead - (now - c.began)
	if ahead > maxAhead {
		c.lose()
		return
	}
	c.liveUntil = max(c.liveUntil, now+min(ahead, 0)+c.settings.MaxSilence)
}

func (c *Cache[V]) settle() {
	now, _ := c.now()
	c.keptFrom = now + settling
}

func (c *Cache[V]) lose() {
	c.liveUntil, c.began, c.hasRead = never, never, false
	c.watch++
	c.empty()
}
