-- Stores a value if its load still has the lease, which ends in any case.
-- KEYS: value, lease, failure marker, hold
-- ARGV: lease, value, life in ms
-- Returns: 1 when it is stored
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
local free = redis.call('EXISTS', KEYS[4]) == 0
if free then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[3])
end
redis.pcall('PUBLISH', KEYS[2], '')
return free and 1 or 0
