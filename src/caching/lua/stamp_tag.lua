-- Gives a tag a new stamp, and its tenant a new tags token.
-- KEYS: stamp of the tenant, stamp of the tag
-- ARGV: hard | soft, a whole stamp of a tenant for one that has none, and of a tag, life in ms
local function keep(key, stamp)
  redis.call('SET', key, stamp, 'PX', math.max(redis.call('PTTL', key), tonumber(ARGV[4])))
end
local tenant = redis.pcall('GET', KEYS[1])
if type(tenant) == 'string' and #tenant == #ARGV[2] then
  keep(KEYS[1], string.sub(tenant, 1, 24) .. string.sub(ARGV[2], 25))
else
  keep(KEYS[1], ARGV[2])
end
local tag = redis.pcall('GET', KEYS[2])
if ARGV[1] == 'soft' and type(tag) == 'string' and #tag == #ARGV[3] then
  keep(KEYS[2], string.sub(tag, 1, 12) .. string.sub(ARGV[3], 13))
else
  keep(KEYS[2], ARGV[3])
end
return 1
