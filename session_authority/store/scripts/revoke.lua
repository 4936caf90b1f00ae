-- Purpose: removes a user's session on one device, or the sessions on all devices. The script
--          compares no records, so changes at the same time can't prevent the revocation. All
--          commands that can fail come before the first change. (Exception: Redis before 7 can't
--          check permissions before a change, see before_writing.lua.) A key of another type than
--          expected is removed, because it has no record.
-- KEYS:    1 sessions hash   2 devices hash   3 claims hash (a session's claims are removed with
--          the session)
--          4 event stream
-- ARGV:    1 how long to keep events, ms   2 maximum number of events in the stream, approximate
--          3 wake channel   4 wake message
--          5 'one' or 'all'   6 with 'one', the key of the device. With 'all', the key of the
--          device that stays signed in ('': no device)
--          7 '1': also remove the device records   8 the event. It is written only if a session, or
--          a sessions hash of another type, was removed
-- Returns: the removed sessions. '' stands for a sessions hash of another type. Eight or more
--          sessions of the same length are returned as this length and one string, because the
--          caller reads one string far faster
local one, named, forget = ARGV[5] == 'one', ARGV[6], ARGV[7] == '1'
local stream = KEYS[4]

-- Returns the fields to remove from a hash, and their values. If the whole hash is to be removed,
-- the fields are nil.
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
  local size = values[1] and #values[1]
  if #values < 8 or size > 63 then
    return values
  end
  for i = 2, #values do
    if #values[i] ~= size then
      return values
    end
  end
  return {size, table.concat(values)}
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
  -- A full server accepts a write that needs memory only after the script has made a write that
  -- needs none. So the trim comes before the event.
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
  redis.pcall('PUBLISH', ARGV[3], ARGV[4])  -- may fail: readers also poll the stream
end
return as_one(removed)
