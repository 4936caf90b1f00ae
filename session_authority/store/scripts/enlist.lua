-- Purpose: stores that a relay is alive, with the time of the server's clock. Removes relays that
--          are no longer alive.
-- KEYS:    1 sorted set of relays
-- ARGV:    1 relay   2 how long a relay counts as alive, ms   3 '0': the relay is about to end, so
--          it is removed
-- Returns: number of relays that are alive
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[3] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return redis.call('ZCARD', KEYS[1])
