-- Purpose: finds out which commands of sign-ins and revocations the Redis user may not run. After
--          the script, nothing is changed. Redis before 7 has no function for this check. On such a
--          server, the script runs the commands on a key without data: HSET creates the key, and
--          HDEL removes it.
-- KEYS:    1 a key without data
-- ARGV:    1 wake channel
-- Returns: names of the commands that the user may not run
local key, channel = KEYS[1], ARGV[1]
local commands = {
  {'EXISTS', key}, {'GET', key}, {'HGET', key, 'f'}, {'HGETALL', key}, {'HLEN', key},
  {'HRANDFIELD', key}, {'HVALS', key}, {'PTTL', key}, {'XLEN', key}, {'TIME'},
  {'PUBLISH', channel, ''}, {'SET', key, '', 'XX'}, {'XTRIM', key, 'MAXLEN', '~', '1'},
  {'XADD', key, 'NOMKSTREAM', '*', 'event', ''}, {'HSET', key, 'f', ''},
  {'PEXPIRE', key, '1000'}, {'HDEL', key, 'f'}, {'DEL', key},
}
if redis.acl_check_cmd then
  commands[#commands + 1] = {'EVAL', '', '0'}
  commands[#commands + 1] = {'EVALSHA', '', '0'}
end

local function may(command)
  if redis.acl_check_cmd then
    return redis.acl_check_cmd(unpack(command))
  end
  local reply = redis.pcall(unpack(command))
  -- The server's error for a missing permission is "The user executing the script can't run this
  -- command or subcommand".
  return not (type(reply) == 'table' and string.find(tostring(reply.err), " can't ", 1, true))
end

local missing = {}
for _, command in ipairs(commands) do
  if not may(command) then
    missing[#missing + 1] = command[1]
  end
end
return missing
