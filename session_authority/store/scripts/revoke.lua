-- Purpose: signs a user out on one device or on all, whatever their state: it compares nothing, so
--          it can't lose a race. All that can fail precedes the first change. A key of another type
--          is removed: it holds no record, and would be in the way of the next.
-- KEYS:    1 sessions hash   2 devices hash   3 hash of claims, which go with their sessions
--          4 event stream
-- ARGV:    1 how long to keep events, ms   2 most events to keep   3 wake channel   4 wake message
--          5 'one' or 'all'   6 the one device key, or with 'all' the one to leave signed in
--          ('': none)
--          7 '1': also forget the devices   8 the event, written only if a session was removed
-- Returns: the removed sessions; '' for a key of another type. Many of one length are their length
--          and all of them as one string: that costs the caller far less to read
local one, named, forget = ARGV[5] == 'one', ARGV[6], ARGV[7] == '1'
local stream = KEYS[4]

-- The fields of a hash that are to go, nil if all are; and their values.
local function going(hash)
  if one then
    local value = redis.call('HGET', hash, named)
    return {named}, {value or nil}
  end
  if named == '' or not redis.call('HGET', hash, named) then
    return nil, redis.call('HVALS', hash)
  end
  local fields, values, all = {}, {}, redis.call('HGETALL', hash)
  for i = 1, #all, 2 do
    if all[i] ~= named then
      fields[#fields + 1], values[#values + 1] = all[i], all[i + 1]
    end
  end
  return fields, values
end

local function as_one(values)
  if #values < 8 or #values[1] > 63 then
    return values
  end
  for _, value in ipairs(values) do
    if #value ~= #values[1] then
      return values
    end
  end
  return {#values[1], table.concat(values)}
end

local fields, removed = {{}, {}, {}}, {}
if is_of_another_type(KEYS[1], 'HLEN') then
  fields[1], removed[1] = nil, ''
else
  fields[1], removed = going(KEYS[1])
end
if is_of_another_type(KEYS[2], 'HLEN') then
  fields[2] = nil
elseif forget then
  fields[2] = going(KEYS[2])
end
if is_of_another_type(KEYS[3], 'HLEN') then
  fields[3] = nil
else
  fields[3] = going(KEYS[3])
end

require_permissions({
  {'HDEL', KEYS[1], ''}, {'DEL', KEYS[1]}, {'XLEN', stream}, {'XADD', stream, '*', 'event', ''},
  {'XTRIM', stream, 'MAXLEN', '~', ARGV[2]}, {'TIME'},
})

if #removed > 0 then
  if is_of_another_type(stream, 'XLEN') then
    redis.call('DEL', stream)
  end
  -- Before the event: a full store lets a script grow once it has written what does not grow.
  redis.call('XTRIM', stream, 'MAXLEN', '~', ARGV[2])
  redis.call('XADD', stream, 'MINID', '=', oldest(ARGV[1]), '*', 'event', ARGV[8])
end
for hash = 1, 3 do
  if fields[hash] == nil then
    redis.call('DEL', KEYS[hash])
  else
    for _, field in ipairs(fields[hash]) do
      redis.call('HDEL', KEYS[hash], field)
    end
  end
end
if #removed > 0 then
  redis.pcall('PUBLISH', ARGV[3], ARGV[4])  -- only a wake-up: watchers look by themselves, too
end
return as_one(removed)
