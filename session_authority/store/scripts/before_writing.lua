-- Purpose: what scripts ask before they write, as Redis undoes nothing of a script that fails. It
--          stands before each script that needs it, and does nothing by itself.
-- KEYS:    those of the script
-- ARGV:    those of the script
-- Returns: nothing

-- Fails, as the first of these commands that is not allowed would. Redis before 7 can't be asked.
local function require_permissions(commands)
  for _, command in ipairs(commands) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      redis.call(unpack(command))
    end
  end
end

-- Says if a key is of another type than this reading command is for, and so holds no record.
local function is_of_another_type(key, command)
  local reply = redis.pcall(command, key)
  return type(reply) == 'table' and string.find(tostring(reply.err), 'WRONGTYPE', 1, true) ~= nil
end

-- The oldest event ID to keep, of events that are kept for so many ms: by the clock that gives new
-- events their IDs.
local function oldest(memory)
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(memory)
end

