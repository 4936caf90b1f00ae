package nearcache

import (
	"hash/maphash"
	"time"
)

// list is a linked list of the entries, in the order of their last use.
type list[V any] struct{ newest, oldest *entry[V] }

func (l *list[V]) push(e *entry[V]) {
	e.prev, e.next = l.newest, nil
	if l.newest != nil {
		l.newest.next = e
	} else {
		l.oldest = e
	}
	l.newest = e
}

func (l *list[V]) remove(e *entry[V]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.newest = e.prev
	}
}

func (l *list[V]) use(e *entry[V]) {
	if l.newest != e {
		l.remove(e)
		l.push(e)
	}
}

func (c *Cache[V]) clear() {
	c.entries = map[key]*entry[V]{}
	c.ofUser = map[string]map[*entry[V]]struct{}{}
	c.recent = list[V]{}
}

func (c *Cache[V]) empty() {
	if len(c.entries) > 0 {
		c.counts.Emptied++
		c.counts.Dropped.Emptied += uint64(len(c.entries))
		c.clear()
	}
}

func (c *Cache[V]) forgetUser(userID string) {
	c.events++
	c.lastEvents[c.counter(userID)] = c.events
	for kept := range c.ofUser[userID] {
		c.drop(kept, &c.counts.Dropped.Event)
	}
}

func (c *Cache[V]) drop(e *entry[V], count *uint64) {
	*count++
	delete(c.entries, e.key)
	c.recent.remove(e)
	kept := c.ofUser[e.answer.UserID]
	delete(kept, e)
	if len(kept) == 0 {
		delete(c.ofUser, e.answer.UserID)
	}
}

// makeRoom drops the least recently used entries until there are at most MaxEntries. It also drops
// up to two of the least recently used entries if they are too old to be used. Store calls makeRoom
// for each new entry, so few entries that are too old stay in the cache.
func (c *Cache[V]) makeRoom(now time.Duration) {
	for len(c.entries) > c.settings.MaxEntries {
		c.drop(c.recent.oldest, &c.counts.Dropped.Room)
	}
	for range 2 {
		oldest := c.recent.oldest
		if oldest == nil || oldest.until > now {
			break
		}
		c.drop(oldest, &c.counts.Dropped.Over)
	}
}

func (c *Cache[V]) counter(userID string) uint64 {
	return maphash.String(c.seed, userID) % counters
}

// Stats has the counts of a cache since the cache was made. Live is true while a watch is live.
// Entries is the present number of answers. Emptied is how often all answers were dropped at once.
type Stats struct {
	Live    bool
	Entries int
	Hits    uint64
	Misses  uint64
	Emptied uint64
	Dropped Dropped
	// Staleness is an upper limit for the age of the watch's last proof. It has a meaning only if
	// Live is true.
	Staleness time.Duration
}

// Dropped counts the answers that the cache has dropped, by reason. Event: an event of the user
// arrived, or ForgetUser was called. Emptied: all answers were dropped at once. Room: there were
// more than MaxEntries answers. Over: the answer was too old to be used. Replaced: the token was
// renewed, or a newer answer for the token arrived.
type Dropped struct{ Event, Emptied, Room, Over, Replaced uint64 }

// Stats returns the counts of the cache.
func (c *Cache[V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	stats := c.counts
	stats.Live, stats.Entries = now < c.liveUntil, len(c.entries)
	if stats.Live {
		stats.Staleness = max(now+c.settings.MaxSilence-c.liveUntil, 0)
	}
	return stats
}
