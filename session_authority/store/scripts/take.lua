-- Purpose: returns events to the relay that holds the lease, and extends the lease. Only the holder
--          may take new events. If another relay took an event, the holder would not get this event
--          as a new event.
-- KEYS:    1 lease   2 event stream   3 attempts hash
-- ARGV:    1 relay   2 time to live of the lease, ms   3 consumer group   4 consumer
--          5 '>': take events that no relay has taken. ID of an entry: list the events after this
--          entry that were taken and whose delivery has not ended
--          6 maximum number of events (0: only extend the lease)
-- Returns: {0}: the relay does not hold the lease. {1, entries, attempts}: `attempts` has the
--          fields and values of the attempts hash. If ARGV 5 is '>', `attempts` is empty. If the
--          consumer group does not exist, the script fails with an error that contains NOGROUP
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
