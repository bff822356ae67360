-- Gives a tenant a new soft token.
-- KEYS: stamp of the tenant
-- ARGV: a whole stamp, life in ms
local stamp = redis.pcall('GET', KEYS[1])
local new = ARGV[1]
if type(stamp) == 'string' and #stamp == #new then
  new = string.sub(stamp, 1, 12) .. string.sub(new, 13, 23) .. string.sub(stamp, 24)
end
redis.call('SET', KEYS[1], new, 'PX', math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])))
return 1
