-- Purpose: forgets the events that are old enough, by the clock that gave them their IDs.
-- KEYS:    1 event stream
-- ARGV:    1 how long to keep events, ms
-- Returns: how many are forgotten
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return redis.call('XTRIM', KEYS[1], 'MINID', '=', now - tonumber(ARGV[1]))
