// Package nearcache keeps the service's answers to validations while a watch proves that these
// answers still hold. The package makes no call: the client passes the answers and the messages of
// the watch to the cache.
//
// CACHE.md of the Python client has the rules. It says how stale an answer can be, and why. If the
// cache kept an active answer for too long, a thief could use a revoked token. So the cache drops
// an answer whenever it is not certain that the answer still holds.
package nearcache

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

const (
	// DefaultMaxEntries is the maximum number of kept answers, unless Settings have another number.
	DefaultMaxEntries = 10_000
	// DefaultMaxAge is the maximum time for which an answer is used, unless Settings have another
	// time.
	DefaultMaxAge = 60 * time.Second
	// MaxSilence is the maximum age of a watch's last proof. Settings may have a smaller value, but
	// no larger one. If the last proof is older, the cache returns no answer.
	MaxSilence = 15 * time.Second

	// When a signing key is revoked, or when the store gets another primary, some servers of the
	// service may learn of the change later than other servers. Until then, these servers may
	// accept tokens that they should refuse. So after the cache has learned of the change, it
	// stores no answer to a request that is sent within settling.
	settling = 15 * time.Second
	// During one watch, the server's clock may gain up to maxAhead on this machine's clock. If it
	// gains more, the watch counts as broken. A time service such as NTP may make a clock run a
	// little faster or slower, but the clock gains or loses at most about one second in 34 minutes.
	// No connection lasts longer than 34 minutes.
	maxAhead = 2 * time.Second
	// The cache has this number of event counters. The hash of a user's ID selects the user's
	// counter, so several users may share a counter. If an event of one user arrives, the cache may
	// refuse to store an answer about another user of the same counter. A shared counter never
	// makes the cache store an answer that it should refuse.
	counters = 4096
	// The longest spelling of a device ID has 45 characters without blanks at its ends. The service
	// ignores blanks at the ends of a device ID, however many there are. The cache stores no answer
	// for a device ID that is longer than maxDeviceIDLength.
	maxDeviceIDLength = 64
	// never is earlier than all times of this package. Subtracting one of these times from never
	// does not overflow.
	never = -1 << 62
)

// Settings are the limits of a cache. A field that is zero stands for its default.
type Settings struct {
	MaxEntries int
	MaxAge     time.Duration
	MaxSilence time.Duration
}

// Answer is the service's answer to a validation, as the cache keeps it. The fields except Value
// decide whether, and how long, the cache keeps Value.
type Answer[V any] struct {
	Value            V
	Active           bool
	RenewRecommended bool
	UserID           string
	SessionID        string
	Ends             time.Time // when the token or the session ends, whichever is earlier
}

// Ticket identifies the moment at which a request was sent. Watch is the number of the watch at
// this moment. The number grows when a watch begins or ends, and when an event empties the cache.
// Events is the number of events about users so far. A call of ForgetUser counts as such an event.
// sent is the time.
type Ticket struct {
	Watch  uint64
	Events uint64
	sent   time.Duration
}

// Cache keeps answers of type V. Any number of goroutines may use it at the same time.
type Cache[V any] struct {
	settings Settings
	now      func() (time.Duration, time.Time)
	seed     maphash.Seed

	mu         sync.Mutex
	entries    map[key]*entry[V]
	ofUser     map[string]map[*entry[V]]struct{}
	recent     list[V]
	counts     Stats
	watch      uint64
	events     uint64
	lastEvents [counters]uint64
	began      time.Duration // when the watch was requested; never if there is no watch
	firstRead  time.Duration // the time of the watch's first proof, by the server's clock
	hasRead    bool
	liveUntil  time.Duration
	keptFrom   time.Duration
}

type key struct{ accessToken, deviceID string }

type entry[V any] struct {
	key        key
	answer     Answer[V]
	until      time.Duration
	prev, next *entry[V] // the neighbors in the order of the last use
}

// New returns an empty cache. It returns an error if a setting is out of range. The function now
// returns two times: the time of a clock that never goes back, and the time of the wall clock.
func New[V any](settings Settings, now func() (time.Duration, time.Time)) (*Cache[V], error) {
	if settings.MaxEntries == 0 {
		settings.MaxEntries = DefaultMaxEntries
	}
	if settings.MaxAge == 0 {
		settings.MaxAge = DefaultMaxAge
	}
	if settings.MaxSilence == 0 {
		settings.MaxSilence = MaxSilence
	}
	switch {
	case settings.MaxEntries < 1:
		return nil, errors.New("MaxEntries: at least 1")
	case settings.MaxAge < 0:
		return nil, errors.New("MaxAge: more than nothing")
	case settings.MaxSilence < 0 || settings.MaxSilence > MaxSilence:
		return nil, fmt.Errorf("MaxSilence: more than nothing, and at most %v", MaxSilence)
	}
	c := &Cache[V]{
		settings:  settings,
		now:       now,
		seed:      maphash.MakeSeed(),
		began:     never,
		liveUntil: never,
		keptFrom:  never,
	}
	c.clear()
	return c, nil
}

// Get returns the kept answer for a token and a device ID. The boolean is false if the cache has no
// such answer, if the answer is too old, or if no watch is live.
func (c *Cache[V]) Get(accessToken, deviceID string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.entries[key{accessToken, deviceID}]; found != nil {
		now, wall := c.now()
		if now < c.liveUntil && now < found.until && wall.Before(found.answer.Ends) {
			c.recent.use(found)
			c.counts.Hits++
			return found.answer.Value, true
		}
	}
	c.counts.Misses++
	var none V
	return none, false
}

// Ticket returns a ticket for Store. Call Ticket before you send a request, and pass the ticket to
// Store together with the answer. The boolean is false while no watch is live.
func (c *Cache[V]) Ticket() (Ticket, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return Ticket{c.watch, c.events, now}, now < c.liveUntil
}

// Store keeps an answer if it is active and recommends no renewal. The watch of the ticket must
// still be live, and must have brought no event of the answer's user after the ticket. If deviceID
// is longer than maxDeviceIDLength, Store does not keep the answer. Store also refuses the answer
// to a request that was sent less than 15 seconds after a signing key was revoked or the store got
// another primary. Store returns true if it kept the answer.
//
// If an answer recommends a renewal, its token may be superseded. No event reports when a
// superseded token stops being good, so Store does not keep such an answer.
func (c *Cache[V]) Store(ticket Ticket, accessToken, deviceID string, answer Answer[V]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := key{accessToken, deviceID}
	if old := c.entries[name]; old != nil {
		c.drop(old, &c.counts.Dropped.Replaced)
	}
	if !answer.Active || answer.RenewRecommended || len(deviceID) > maxDeviceIDLength {
		return false
	}
	now, wall := c.now()
	if ticket.Watch != c.watch || now >= c.liveUntil || ticket.sent < c.keptFrom {
		return false
	}
	if c.lastEvents[c.counter(answer.UserID)] > ticket.Events {
		return false
	}
	// accessToken and deviceID may be small slices of a large header. Without the copies, the cache
	// would keep the whole header in memory.
	name = key{strings.Clone(accessToken), strings.Clone(deviceID)}
	made := &entry[V]{key: name, answer: answer}
	made.until = ticket.sent + c.settings.MaxAge
	if left := answer.Ends.Sub(wall); left < c.settings.MaxAge {
		made.until = min(made.until, now+left)
	}
	c.entries[name] = made
	if c.ofUser[answer.UserID] == nil {
		c.ofUser[answer.UserID] = map[*entry[V]]struct{}{}
	}
	c.ofUser[answer.UserID][made] = struct{}{}
	c.recent.push(made)
	c.makeRoom(now)
	return true
}

// Discard drops the answer for a token and a device ID. Call Discard after a renewal of the token.
func (c *Cache[V]) Discard(accessToken, deviceID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[key{accessToken, deviceID}]; old != nil {
		c.drop(old, &c.counts.Dropped.Replaced)
	}
}

// ForgetUser drops the answers about a user. From then on, Store refuses an answer about the user
// if the answer's ticket was made before the call of ForgetUser. Call ForgetUser after a change of
// the user's sessions. The event of the change has the same effect, but arrives later.
func (c *Cache[V]) ForgetUser(userID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetUser(userID)
}

// Clear drops all answers. From then on, Store refuses an answer if the answer's ticket was made
// before the call of Clear.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
	c.watch++
}

// VouchesFor reports whether the cache has an answer that still holds, for any token of this
// session. It returns false while no watch is live.
func (c *Cache[V]) VouchesFor(userID, sessionID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	if now >= c.liveUntil {
		return false
	}
	for kept := range c.ofUser[userID] {
		if now < kept.until && kept.answer.SessionID == sessionID {
			return true
		}
	}
	return false
}

// Still reports whether the watch of a ticket is still live and has brought no event of the user
// since the ticket. If Still returns true, an answer about the user that the service gave after the
// ticket still holds.
func (c *Cache[V]) Still(ticket Ticket, userID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return ticket.Watch == c.watch && now < c.liveUntil &&
		c.lastEvents[c.counter(userID)] <= ticket.Events
}
