-- Makes a value stale; what has no stale copy is removed. Loads that are under way store nothing.
-- KEYS: value, lease, failure marker
redis.call('DEL', KEYS[2], KEYS[3])
local value = redis.pcall('GET', KEYS[1])
local stale = type(value) == 'string' and tonumber(string.match(value, '^tn1 %S+ (%d+) ')) or 0
if stale > 0 then
  if redis.call('PTTL', KEYS[1]) > stale then redis.call('PEXPIRE', KEYS[1], stale) end
else
  redis.call('UNLINK', KEYS[1])
end
redis.pcall('PUBLISH', KEYS[2], '')
return 1
