-- How many places of a tenant and name are taken.
-- KEYS: places
-- ARGV: optionally the time in ms instead of the server's
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
return redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
