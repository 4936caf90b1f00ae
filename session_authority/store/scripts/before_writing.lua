-- Purpose: functions with which scripts check before they write, as Redis does not undo the writes
--          of a script that fails. This text is put before each script that needs it, and does
--          nothing by itself.
-- KEYS:    those of the script
-- ARGV:    those of the script
-- Returns: nothing

-- If the user may not run one of these commands, the script fails with the error of this command.
-- Redis before 7 has no function for this check, so there the script goes on.
local function require_permissions(commands)
  for _, command in ipairs(commands) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      redis.call(unpack(command))
    end
  end
end

-- Returns true if a key has another type than this reading command needs, and so has no record.
local function is_of_another_type(key, command)
  local reply = redis.pcall(command, key)
  return type(reply) == 'table' and string.find(tostring(reply.err), 'WRONGTYPE', 1, true) ~= nil
end

-- Returns the ID of the oldest event to keep. `memory` is how long events are kept, in ms. The time
-- comes from the server's clock, which also gives new events their IDs.
local function oldest(memory)
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(memory)
end

