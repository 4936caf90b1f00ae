-- Purpose: gives up a lease, if the relay holds the lease.
-- KEYS:    1 lease
-- ARGV:    1 relay
-- Returns: 1 if the relay held the lease, 0 if it did not
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
