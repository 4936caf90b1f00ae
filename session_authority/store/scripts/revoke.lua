-- Purpose: signs a user out on one device or on all, whatever their state: it compares nothing, so
--          it can't lose a race.
-- KEYS:    1 sessions hash   2 devices hash   3 event stream
-- ARGV:    1 how long to keep events, ms   2 most events to keep   3 wake channel   4 wake message
--          5 'one' or 'all'   6 the one device key, or with 'all' the one to leave signed in
--          ('': none)
--          7 '1': also forget the devices   8 the event, written only if a session was removed
-- Returns: the removed sessions
local one, named, forget = ARGV[5] == 'one', ARGV[6], ARGV[7] == '1'

-- The oldest event ID to keep, by the clock that gives new events their IDs.
local function oldest()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[1])
end

-- Removes every field of the hash that is meant, and returns their values.
local function remove(hash)
  local values = {}
  if one then
    values[1] = redis.call('HGET', hash, named) or nil
    redis.call('HDEL', hash, named)
    return values
  end
  local kept = named ~= '' and redis.call('HGET', hash, named)
  if not kept then
    values = redis.call('HVALS', hash)
    redis.call('DEL', hash)
    return values
  end
  local all = redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    if all[i] ~= named then
      values[#values + 1] = all[i + 1]
      redis.call('HDEL', hash, all[i])
    end
  end
  return values
end

local removed = remove(KEYS[1])
if forget then
  remove(KEYS[2])
end
if #removed > 0 then
  redis.call('XADD', KEYS[3], 'MINID', '=', oldest(), '*', 'event', ARGV[8])
  redis.call('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[2])
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return removed
