// Package nearcache keeps what the service said of sessions for as long as a watch proves that it
// still holds. It is the memory and its rules: it waits for nothing and sends nothing.
//
// The rules are those of CACHE.md of the Python client, which says how stale an answer can be, and
// why. A wrong "active" is theft, so each doubt drops answers.
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
	// DefaultMaxEntries is how many answers are kept if no other number is given.
	DefaultMaxEntries = 10_000
	// DefaultMaxAge is how long an answer may be used at the most.
	DefaultMaxAge = 60 * time.Second
	// MaxSilence is how old the last proof of a watch may be at the most.
	MaxSilence = 15 * time.Second

	// What one server of the service knows others may not know yet: that a key was revoked, or that
	// the store's primary is another one. For so long they may accept what they should not.
	settling = 15 * time.Second
	// How far the server's clock may seem to run ahead of this machine's within one watch. Clocks
	// that are kept in time by changing their pace gain a second on each other in half an hour at
	// the most, which is how long a connection lasts.
	maxAhead = 2 * time.Second
	// Users share a counter of events by their hash: that may keep an answer from being stored,
	// never the other way round.
	counters = 4096
	// The longest spelling of a device ID without padding has 45 characters. The service trims any
	// amount of padding.
	maxDeviceIDLength = 64
	// A time before all others, from which any of ours may be subtracted.
	never = -1 << 62
)

// Settings bound a cache. A zero means the default.
type Settings struct {
	MaxEntries int
	MaxAge     time.Duration
	MaxSilence time.Duration
}

// Answer is what is kept of a validation, and what decides how long.
type Answer[V any] struct {
	Value            V
	Active           bool
	RenewRecommended bool
	UserID           string
	SessionID        string
	Ends             time.Time // the first end of token and session
}

// Ticket says when a request was sent: on which watch, after how many events of it, at what time.
type Ticket struct {
	Watch  uint64
	Events uint64
	sent   time.Duration
}

// Cache holds answers of type V. Any number of goroutines may use it.
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
	began      time.Duration // never: no watch was asked for
	firstRead  time.Duration // of this watch, by the server's clock
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

// New returns an empty cache. now tells a time that never goes back, and the wall clock.
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

// Get returns the answer for a token from a device, if it certainly may still be given.
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

// Ticket is to be taken before a request is sent whose answer shall be stored. It returns false
// while no watch is live.
func (c *Cache[V]) Ticket() (Ticket, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return Ticket{c.watch, c.events, now}, now < c.liveUntil
}

// Store keeps an answer if it is active, needs no renewal, and no event of its user came between
// the request and now. It returns true if the answer was kept.
//
// An answer that needs a renewal may be of a superseded token, whose end no event tells.
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
	// The texts may be small parts of a large header, which must not stay in memory with them.
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

// ForgetUser drops what is known of a user, and every answer that is on its way: what an event of
// the user does, before the event comes.
func (c *Cache[V]) ForgetUser(userID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetUser(userID)
}

// Clear drops everything, and every answer that is on its way.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.empty()
	c.watch++
}

// VouchesFor says whether an answer that certainly still holds is of this session, whatever its
// token.
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

// Still says whether the watch of a ticket is live, and has told no event of a user since: what was
// read after the ticket still holds.
func (c *Cache[V]) Still(ticket Ticket, userID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, _ := c.now()
	return ticket.Watch == c.watch && now < c.liveUntil &&
		c.lastEvents[c.counter(userID)] <= ticket.Events
}
