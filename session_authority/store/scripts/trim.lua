-- Purpose: removes the events that are older than ARGV 1, by the server's clock. The IDs of events
--          contain times of the same clock.
-- KEYS:    1 event stream
-- ARGV:    1 how long to keep events, ms
-- Returns: number of events that were removed
return redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest(ARGV[1]))
