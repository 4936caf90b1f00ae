-- Purpose: hands events to the relay that holds the lease, and prolongs the lease. Only the holder
--          may take events. If another relay took events, the holder would not get these events
--          until it lists the events that were taken and not settled.
-- KEYS:    1 lease   2 event stream   3 attempts hash
-- ARGV:    1 relay   2 lease's time to live, ms   3 consumer group   4 consumer
--          5 '>' for events that were never taken, or the entry after which to list events that
--          were taken and not settled
--          6 how many at the most; 0: only prolong
-- Returns: {0} the relay does not hold the lease; {1, entries, attempts} with the attempts as
--          fields and values in turn, only for a list. An error that names NOGROUP if the group is
--          gone
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[6] == '0' then
  return {1, {}, {}}
end
local group, consumer, count = ARGV[3], ARGV[4], ARGV[6]
local taken = redis.call(
  'XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', KEYS[2], ARGV[5]
)
local entries = taken and taken[1] and taken[1][2] or {}
local attempts = {}
if ARGV[5] ~= '>' then
  attempts = redis.call('HGETALL', KEYS[3])
end
return {1, entries, attempts}
