package nearcache

import (
	"time"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// ofUser says whether events of a type concern the user that they name. Any other event concerns
// all users, above all one that this version does not know.
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

// Begin says that a watch is about to be asked for, from now on.
func (c *Cache[V]) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	c.began, _ = c.now()
}

// Tell takes what the watch said: first what happened, then that there was nothing else.
func (c *Cache[V]) Tell(message *pb.WatchEventsResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range message.GetEvents() {
		if ofUser(event.GetType()) && event.GetUserId() != "" {
			c.forgetUser(event.GetUserId())
			continue
		}
		c.empty()
		c.watch++ // so nothing is stored that was asked for before
		if event.GetType() == pb.EventType_EVENT_TYPE_SIGNING_KEY_REVOKED {
			c.settle()
		}
	}
	if read := message.GetReadUptime(); read != nil {
		c.prove(read.GetSeconds(), read.GetNanos())
	} else if read := message.GetReadTime(); read != nil {
		// The service is too old to tell its uptime.
		c.prove(read.GetSeconds(), read.GetNanos())
	}
}

// Lost says that the watch is broken: nothing is certain any more.
//
// With historyGone the store's history is another one than it was: its primary was replaced. Other
// servers may read the old one for a little longer, and no watch tells what it does not know. So
// nothing is kept for as long as that.
func (c *Cache[V]) Lost(historyGone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
	if historyGone {
		c.settle()
	}
}

// TimeLeft returns how long the watch may be silent from now on before it counts as broken: 0 if it
// is broken already.
func (c *Cache[V]) TimeLeft() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return max(max(c.liveUntil, c.began+c.settings.MaxSilence)-now, 0)
}

// prove says that all that happened before a moment, by the server's clock, was told.
//
// The first one was read after this side had asked, so a later one is at least as much younger than
// that as the server's clock says. Clocks need not agree, and a message that was long on its way,
// or lay here unread, proves no more than it did when it was sent. A proof that would be younger
// than now shows that the two clocks don't run alike: one was set, or one stood still. Then no
// proof of this watch is worth anything, and the watch counts as broken.
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
