-- Purpose: ends the delivery of events to an endpoint, because the events were delivered, do not
--          concern the endpoint, or have become dead letters.
-- KEYS:    1 event stream   2 attempts hash   3 dead-letter stream
-- ARGV:    1 consumer group   2 maximum number of dead letters, approximate
--          3 number of entries, then the IDs of the entries
--          then, if the only entry becomes a dead letter, the fields and values of the dead letter
-- Returns: number of the entries whose delivery had not ended before
local entries = tonumber(ARGV[3])
require_permissions({
  {'HDEL', KEYS[2], ''}, {'XADD', KEYS[3], '*', 'event', ''},
})
local settled = 0
for i = 4, 3 + entries do
  settled = settled + redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
end
if settled > 0 and #ARGV > 3 + entries then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 4 + entries))
end
return settled
