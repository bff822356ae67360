-- Takes one of the places of a tenant and name, unless as many as the limit are taken.
-- KEYS: places
-- ARGV: member, limit, its life in ms, optionally the time in ms instead of the server's
-- Returns: {1 where it was taken, how many are taken now}
-- Value: a sorted set of members `<id>:<life in ms>`, by the time at which they run out. It is written only when a place
--        is taken, which also removes those that ran out, and when the clock has gone back.
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local life = tonumber(ARGV[3])
local function text(number) return string.format('%.0f', number) end
local function expire()
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', KEYS[1], text(math.max(tonumber(last[2]) - now, 1)))
end

-- No place is kept for longer than its life from now on.
local moved = false
local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now + life), '+inf', 'WITHSCORES')
for i = 1, #ahead, 2 do
  local most = now + (tonumber(string.match(ahead[i], ':(%d+)$')) or life)
  if tonumber(ahead[i + 1]) > most then
    redis.call('ZADD', KEYS[1], 'XX', text(most), ahead[i])
    moved = true
  end
end

local taken = redis.call('ZCOUNT', KEYS[1], '(' .. text(now), '+inf')
if taken >= tonumber(ARGV[2]) then
  if moved then expire() end
  return {0, taken}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
redis.call('ZADD', KEYS[1], text(now + life), ARGV[1])
expire()
return {1, taken + 1}
