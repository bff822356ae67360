-- Removes a value, its lease and its failure marker; with a hold, nothing is stored for so long, or for as long as an
-- earlier one says.
-- KEYS: value, lease, failure marker, hold
-- ARGV: hold's token, its life in ms or 0
local removed = redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
local hold = tonumber(ARGV[2])
if hold > 0 then redis.call('SET', KEYS[4], ARGV[1], 'PX', math.max(redis.call('PTTL', KEYS[4]), hold)) end
redis.pcall('PUBLISH', KEYS[2], '')
return removed
