-- Purpose: removes the events that are old enough, by the clock that gave them their IDs.
-- KEYS:    1 event stream
-- ARGV:    1 how long to keep events, ms
-- Returns: how many events were removed
return redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest(ARGV[1]))
