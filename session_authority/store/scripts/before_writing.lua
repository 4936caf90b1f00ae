-- Purpose: defines functions that scripts call before they write. The checks come first, because
--          Redis does not undo the writes of a script that fails later. The service puts this text
--          before each script that needs it. The text alone changes nothing.
-- KEYS:    the keys of the script after this text
-- ARGV:    the arguments of the script after this text
-- Returns: nothing

-- Fails with the server's error if the Redis user may not run one of these commands. Does nothing
-- on Redis before 7, which has no function for this check.
local function require_permissions(commands)
  for _, command in ipairs(commands) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      redis.call(unpack(command))
    end
  end
end

-- Returns true if the type of a key is not the type that a reading command needs. A key of another
-- type has no record.
local function is_of_another_type(key, command)
  local reply = redis.pcall(command, key)
  return type(reply) == 'table' and string.find(tostring(reply.err), 'WRONGTYPE', 1, true) ~= nil
end

-- Returns the lowest ID of the events to keep. `memory` is how long events are kept, in ms. The
-- present time comes from the server's clock, which also gives new events their IDs.
local function oldest(memory)
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(memory)
end

