-- Keeps places for another life. One that ran out and is still there was given to nobody since: it is kept too.
-- KEYS: places
-- ARGV: their life in ms, the time in ms or '' for the server's, member...
-- Returns: for each member 1, or 0 where it is not there any more
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function text(number) return string.format('%.0f', number) end
local answer, any = {}, false
for i = 3, #ARGV do
  local there = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if there then
    redis.call('ZADD', KEYS[1], 'XX', text(now + ARGV[1]), ARGV[i])
    any = true
  end
  answer[#answer + 1] = there and 1 or 0
end
if any then
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', KEYS[1], text(math.max(tonumber(last[2]) - now, 1)))
end
return answer
