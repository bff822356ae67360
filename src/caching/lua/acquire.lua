-- One step: the value, if it is fresh under these stamps, or else a lease of its load.
-- KEYS: value, lease, failure marker, hold
-- ARGV: token, stamps, lease's life in ms, load | takeover (of a lease under other stamps) | force (of any lease),
--       the life in ms beyond which a value needs no load, header | bare, the value that was seen and cannot be used, and
--       the first line of the one that was seen
-- Returns: {hit, value, life} | {failed, life} | {busy, lease, life, held} | {lease, seconds, microseconds, held, same};
--          held is 1 while nothing may be stored, same is 1 if the value that was seen is still there
local enough = tonumber(ARGV[5])
local value = redis.pcall('GET', KEYS[1])
if ARGV[4] ~= 'force' and type(value) == 'string' and value ~= ARGV[7] then
  if ARGV[6] == 'bare' then return {'hit', value, 0} end
  local begin = 'tn1 ' .. ARGV[2] .. ' '
  if string.sub(value, 1, #begin) == begin then
    local stale = tonumber(string.match(value, '^(%d+) ', #begin + 1))
    local life = redis.call('PTTL', KEYS[1])
    if stale and life > stale + enough then return {'hit', value, life} end
  end
end
if ARGV[4] ~= 'force' and redis.call('GET', KEYS[3]) == ARGV[2] then return {'failed', redis.call('PTTL', KEYS[3])} end
local held = redis.call('EXISTS', KEYS[4])
local mine = ARGV[1] .. ' ' .. ARGV[2]
local lease = redis.call('GET', KEYS[2])
local theirs = lease and lease ~= mine and ARGV[4] ~= 'force'
if theirs and (ARGV[4] ~= 'takeover' or string.sub(lease, -#ARGV[2]) == ARGV[2]) then
  return {'busy', lease, redis.call('PTTL', KEYS[2]), held}
end
redis.call('SET', KEYS[2], mine, 'PX', ARGV[3])
local now = redis.call('TIME')
local same = type(value) == 'string' and #ARGV[8] > 0 and string.sub(value, 1, #ARGV[8]) == ARGV[8]
return {'lease', now[1], now[2], held, same and 1 or 0}
