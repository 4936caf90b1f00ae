-- Purpose: commits a decision on one user, if everything that it was taken on is still so; else
--          changes nothing. Records, their time to live, and the events that tell of them change in
--          one step.
-- KEYS:    1 sessions hash   2 devices hash   3 event stream
--          4 (optional) "once" key: a string that must not exist yet, and does afterwards
-- ARGV:    1 how long to keep events, ms   2 most events to keep   3 wake channel   4 wake message
--          5 sessions' time to live, ms   6 devices' time to live, ms (0: leave as it is; a time
--          is never shortened)
--          7 number of sessions that must be there ('': any)
--          8 value of the once key   9 its time to live, ms
--          10 '1': remove all sessions
--          11 number of checks, then for each: hash (1 or 2), field, value that must be there
--          ('': none)
--          then number of writes, then for each: hash (1 or 2), field, new value ('': remove)
--          then the events
-- Returns: {1, removed sessions…} committed; {0} something changed meanwhile; {-1} the once key
--          exists
local at = 11

-- The oldest event ID to keep, by the clock that gives new events their IDs.
local function oldest()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[1])
end

local function take()
  local value = ARGV[at]
  at = at + 1
  return value
end

if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then
  return {-1}
end
if ARGV[7] ~= '' and redis.call('HLEN', KEYS[1]) ~= tonumber(ARGV[7]) then
  return {0}
end
for _ = 1, tonumber(take()) do
  local hash, field, expected = KEYS[tonumber(take())], take(), take()
  if (redis.call('HGET', hash, field) or '') ~= expected then
    return {0}
  end
end

-- Removals go first: a full store refuses to grow, and after a removal it no longer does so within
-- this script.
local reply = {1}
if ARGV[10] == '1' then
  for _, removed in ipairs(redis.call('HVALS', KEYS[1])) do
    reply[#reply + 1] = removed
  end
  redis.call('DEL', KEYS[1])
end
local writes = {}
for i = 1, tonumber(take()) do
  local hash, field, value = tonumber(take()), take(), take()
  if value ~= '' then
    writes[#writes + 1] = {KEYS[hash], field, value}
  else
    local removed = hash == 1 and redis.call('HGET', KEYS[1], field)
    if removed then
      reply[#reply + 1] = removed
    end
    redis.call('HDEL', KEYS[hash], field)
  end
end
for _, write in ipairs(writes) do
  redis.call('HSET', write[1], write[2], write[3])
end
for hash = 1, 2 do
  local ttl = tonumber(ARGV[4 + hash])
  if ttl > 0 and redis.call('PTTL', KEYS[hash]) < ttl then
    redis.call('PEXPIRE', KEYS[hash], ttl)
  end
end
if KEYS[4] then
  redis.call('SET', KEYS[4], ARGV[8], 'PX', ARGV[9])
end
if at <= #ARGV then
  while at <= #ARGV do
    redis.call('XADD', KEYS[3], 'MINID', '=', oldest(), '*', 'event', take())
  end
  redis.call('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[2])
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return reply
