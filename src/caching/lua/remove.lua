-- Removes a value, its lease and its failure marker; with a hold, nothing is stored for so long.
-- KEYS: value, lease, failure marker, hold
-- ARGV: hold's token, its life in ms or 0
local removed = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2]) end
redis.pcall('PUBLISH', KEYS[2], '')
return removed
