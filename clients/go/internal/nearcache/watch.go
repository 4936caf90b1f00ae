package nearcache

import (
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ofUser reports whether events of this type concern only the user that they name. Events of all
// other types concern all users. This includes events whose type this version does not know.
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

// Begin notes that the client is about to request a watch, at this moment.
func (c *Cache[V]) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	c.began, _ = c.now()
}

// Tell handles a message of the watch: first its events, then its proof that there were no others.
func (c *Cache[V]) Tell(message *pb.WatchEventsResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range message.GetEvents() {
		if ofUser(event.GetType()) && event.GetUserId() != "" {
			c.forgetUser(event.GetUserId())
			continue
		}
		c.empty()
		c.watch++ // so no answer to an earlier request is stored
		if event.GetType() == pb.EventType_EVENT_TYPE_SIGNING_KEY_REVOKED {
			c.settle()
		}
	}
	if read := message.GetReadUptime(); read != nil {
		c.prove(read.GetSeconds(), read.GetNanos())
	} else if read := message.GetReadTime(); read != nil {
		// The service is older and does not send its uptime.
		c.prove(read.GetSeconds(), read.GetNanos())
	}
}

// Lost drops all answers because the watch is broken, so that nothing is certain any more.
//
// historyGone means that the store's history has changed, because its primary was replaced. Other
// servers of the service may read from the old primary for a little longer, and no watch reports
// such a read. So the cache stores no answer to a request that is sent in the next 15 seconds.
func (c *Cache[V]) Lost(historyGone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	if historyGone {
		c.settle()
	}
}

// TimeLeft returns how long the watch may still be silent before it counts as broken. It returns 0
// if the watch is broken already.
func (c *Cache[V]) TimeLeft() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return max(max(c.liveUntil, c.began+c.settings.MaxSilence)-now, 0)
}

// prove notes a proof: the watch has sent all events from before this moment, by the server's
// clock.
//
// The server read the first proof's time after this client had requested the watch. Add the
// difference between the times of a later proof and of the first proof to the moment of the
// request. The sum is a moment by this machine's clock, and the server read the later proof's time
// at this moment or after it. The server's clock and this machine's clock need not show the same
// time. A message that was delayed on its way, or that waited unread in this process, proves only
// what it proved when it was sent. If a proof seems to be from the future, the two clocks don't run
// equally fast: one clock was set, or one clock stood still. Then no proof of this watch can be
// trusted, and the watch counts as broken.
func (c *Cache[V]) prove(seconds int64, nanos int32) {
	if c.began == never {
		return
	}
	const maxSeconds = 1 << 32 // differences of such times fit into a Duration
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
