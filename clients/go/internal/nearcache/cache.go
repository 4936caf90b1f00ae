// Package nearcache keeps answers of the service about sessions for as long as a watch proves that
// they still hold. It has only the answers and the rules. It sends nothing, and waits only for the
// cache's lock.
//
// CACHE.md of the Python client has the rules. It says how stale an answer can be, and why. A wrong
// "active" lets a thief in, so in any doubt the cache drops answers.
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
	// DefaultMaxEntries is how many answers are kept if Settings give no other number.
	DefaultMaxEntries = 10_000
	// DefaultMaxAge is how long an answer may be used at the most, if Settings give no other time.
	DefaultMaxAge = 60 * time.Second
	// MaxSilence is how old the last proof of a watch may be at the most.
	MaxSilence = 15 * time.Second

	// One server of the service may know earlier than another that a key was revoked, or that the
	// store has another primary. For this time, the other server may still accept tokens that it
	// should refuse, so no answer is stored.
	settling = 15 * time.Second
	// How far the server's clock may seem to run ahead of this machine's clock within one watch. A
	// time service such as NTP may make a clock run a little faster or slower. Then the clock gains
	// or loses at most about one second in 34 minutes, the longest life of a connection.
	maxAhead = 2 * time.Second
	// Users whose IDs have the same hash share a counter of events. A shared counter may keep an
	// answer from being stored, but never causes an answer to be stored.
	counters = 4096
	// The longest spelling of a device ID without padding has 45 characters. The service trims any
	// amount of padding.
	maxDeviceIDLength = 64
	// A time before all others. A Duration of this package can be subtracted from it without
	// overflow.
	never = -1 << 62
)

// Settings are the limits of a cache. A field that is zero has its default.
type Settings struct {
	MaxEntries int
	MaxAge     time.Duration
	MaxSilence time.Duration
}

// Answer is what the cache keeps of a validation, with the facts that decide how long it is kept.
type Answer[V any] struct {
	Value            V
	Active           bool
	RenewRecommended bool
	UserID           string
	SessionID        string
	Ends             time.Time // the end of the token or the session, whichever comes first
}

// Ticket has the moment when a request was sent: the number of the watch, the count of events about
// users so far, and the time. A call of ForgetUser counts as an event.
type Ticket struct {
	Watch  uint64
	Events uint64
	sent   time.Duration
}

// Cache keeps answers of type V. Any number of goroutines may use it.
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
	began      time.Duration // when the watch was requested, or never
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
	prev, next *entry[V] // in the order of use
}

// New returns an empty cache. now returns a time that never goes back, and the time of the wall
// clock.
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

// Get returns the answer for a token from a device, if the cache has one and its watch is live. The
// boolean is true if there is one.
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

// Ticket returns a ticket for Store. Call it before you send a request whose answer is to be
// stored. It returns false while no watch is live.
func (c *Cache[V]) Ticket() (Ticket, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return Ticket{c.watch, c.events, now}, now < c.liveUntil
}

// Store keeps an answer if it is active, needs no renewal, and no event of its user came after the
// ticket. It returns true if the answer was kept.
//
// An answer that needs a renewal may be of a superseded token, and no event reports when such a
// token stops being good.
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
	// The texts may be small parts of a large header. Copies of them don't keep the header in
	// memory.
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

// Discard drops one answer: the token was just renewed.
func (c *Cache[V]) Discard(accessToken, deviceID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[key{accessToken, deviceID}]; old != nil {
		c.drop(old, &c.counts.Dropped.Replaced)
	}
}

// ForgetUser drops the answers about a user. It also makes Store refuse the user's answers to
// requests that were sent before. An event of the user does the same, but comes later.
func (c *Cache[V]) ForgetUser(userID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetUser(userID)
}

// Clear drops all answers. It also makes Store refuse answers to requests that were sent before.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
	c.watch++
}

// VouchesFor reports whether the cache has an answer for any token of this session that certainly
// still holds.
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

// Still reports whether the watch of a ticket is live and has brought no event of the user since
// the ticket. Then an answer that was read after the ticket still holds.
func (c *Cache[V]) Still(ticket Ticket, userID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return ticket.Watch == c.watch && now < c.liveUntil &&
		c.lastEvents[c.counter(userID)] <= ticket.Events
}
