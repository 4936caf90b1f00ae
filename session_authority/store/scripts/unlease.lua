-- Purpose: gives a lease back.
-- KEYS:    1 lease
-- ARGV:    1 relay
-- Returns: 1 if it was the relay's, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
