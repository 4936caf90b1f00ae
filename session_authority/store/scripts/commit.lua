-- Purpose: makes the changes of a decision about one user, if the records on which the decision was
--          based have not changed and the once key does not exist. If one of these conditions is
--          false, the script changes nothing. Records, times to live and events change in one step,
--          because all commands that can fail come before the first change. (Exception: Redis
--          before 7 can't check permissions before a change, see before_writing.lua.) A key of
--          another type than expected counts as missing, and is replaced.
-- KEYS:    1 sessions hash   2 devices hash   3 claims hash (a session's claims are removed with
--          the session)
--          4 event stream
--          5 (optional) "once" key: a string that must not exist before the script, which writes it
-- ARGV:    1 how long to keep events, ms   2 maximum number of events in the stream, approximate
--          3 wake channel   4 wake message
--          5 time to live of the sessions hash and the claims hash, ms
--          6 time to live of the devices hash, ms. For 5 and 6, 0 means no change, and no time to
--          live is ever shortened
--          7 number of sessions that the user must have ('': any number)
--          8 value of the once key   9 time to live of the once key, ms
--          10 '1': remove all sessions
--          11 if the once key has this value, it counts as missing
--          12 number of checks, then for each check: number of the hash in KEYS (1 to 3), field,
--          value that the field must have ('': the field must not exist)
--          then the number of writes, and for each write: number of the hash in KEYS (1 to 3),
--          field, new value ('': remove the field)
--          then the events
-- Returns: {1, removed sessions…}: the changes were made. {0}: a checked value or the number of
--          sessions differs. {-1}: the once key exists
local at = 12

local function take()
  local value = ARGV[at]
  at = at + 1
  return value
end

local replaced = {}
for hash = 1, 3 do
  replaced[hash] = is_of_another_type(KEYS[hash], 'HLEN')
end

if KEYS[5] and redis.call('EXISTS', KEYS[5]) == 1 and not is_of_another_type(KEYS[5], 'GET')
  and redis.call('GET', KEYS[5]) ~= ARGV[11] then
  return {-1}
end
local sessions = replaced[1] and 0 or redis.call('HLEN', KEYS[1])
if ARGV[7] ~= '' and sessions ~= tonumber(ARGV[7]) then
  return {0}
end
for _ = 1, tonumber(take()) do
  local hash, field, expected = tonumber(take()), take(), take()
  local there = not replaced[hash] and redis.call('HGET', KEYS[hash], field) or ''
  if there ~= expected then
    return {0}
  end
end

local stream = KEYS[4]
require_permissions({
  {'HGET', KEYS[1], ''}, {'HVALS', KEYS[1]}, {'HSET', KEYS[1], '', ''}, {'HDEL', KEYS[1], ''},
  {'DEL', KEYS[1]}, {'PTTL', KEYS[1]}, {'PEXPIRE', KEYS[1], 1}, {'XLEN', stream},
  {'XADD', stream, '*', 'event', ''}, {'XTRIM', stream, 'MAXLEN', '~', ARGV[2]},
  {'SET', KEYS[5] or KEYS[1], ''}, {'TIME'},
})

local clears = ARGV[10] == '1'
-- Removals of claims have a list of their own, because they do not set `removes` below. A full
-- server accepts a commit for which `removes` is true. But a full server must refuse a sign-in that
-- removes only old claims.
local removals, writes, claims = {}, {}, {}
for _ = 1, tonumber(take()) do
  local write = {tonumber(take()), take(), take()}
  local list = writes
  if write[3] == '' then
    list = write[1] == 3 and claims or removals
  end
  list[#list + 1] = write
end

local function trim()
  redis.call('XTRIM', stream, 'MAXLEN', '~', ARGV[2])
end

-- A full server refuses a write that needs memory, unless the script has already made a write that
-- needs none. So a commit with events for which `removes` is true begins with a trim, which needs
-- no memory. A commit for which `removes` is false begins with a write that needs memory, so a full
-- server refuses the commit.
local tells, removes = at <= #ARGV, clears or #removals > 0 or replaced[1] or replaced[2]
  or replaced[3]
if tells then
  if is_of_another_type(stream, 'XLEN') then
    redis.call('DEL', stream)
  end
  if removes then
    trim()
  end
  while at <= #ARGV do
    redis.call('XADD', stream, 'MINID', '=', oldest(ARGV[1]), '*', 'event', take())
  end
  if not removes then
    trim()
  end
end

for hash = 1, 3 do
  if replaced[hash] then
    redis.call('DEL', KEYS[hash])
  end
end
local reply = {1}
if clears then
  for _, removed in ipairs(redis.call('HVALS', KEYS[1])) do
    reply[#reply + 1] = removed
  end
  redis.call('DEL', KEYS[1], KEYS[3])
end
for _, removal in ipairs(removals) do
  local hash, field = removal[1], removal[2]
  local removed = hash == 1 and redis.call('HGET', KEYS[1], field)
  if removed then
    reply[#reply + 1] = removed
  end
  redis.call('HDEL', KEYS[hash], field)
  if hash == 1 then
    redis.call('HDEL', KEYS[3], field)
  end
end
for _, write in ipairs(writes) do
  redis.call('HSET', KEYS[write[1]], write[2], write[3])
end
for _, removal in ipairs(claims) do
  redis.call('HDEL', KEYS[3], removal[2])
end
for hash, ttl in ipairs({tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[5])}) do
  if ttl > 0 and redis.call('PTTL', KEYS[hash]) < ttl then
    redis.call('PEXPIRE', KEYS[hash], ttl)
  end
end
if KEYS[5] then
  redis.call('SET', KEYS[5], ARGV[8], 'PX', ARGV[9])
end
if tells then
  redis.pcall('PUBLISH', ARGV[3], ARGV[4])  -- may fail: readers also poll the stream
end
return reply
