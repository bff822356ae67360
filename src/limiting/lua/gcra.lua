-- Decides by the time at which all would be free again if nothing more came (the generic cell rate algorithm, ITU-T I.371):
-- units flow back one by one, and up to `burst` of them may be taken at once.
-- KEYS: times
-- ARGV: take | most | peek | refund, cost, time in microseconds or '' for the server's,
--       then of each limit: burst, microseconds for a unit
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on; retry is -1 where
--          the cost is more than the burst
-- Value: that time of each limit, in microseconds, decimal, separated by spaces. It is written only when something is
--        granted or refunded, and when the clock has gone back.
local op, cost = ARGV[1], tonumber(ARGV[2])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local limits = {}
local moved = false
local value = redis.call('GET', KEYS[1]) or ''
local free_at = string.gmatch(value, '%d+')
for i = 4, #ARGV, 2 do
  local one = {burst = tonumber(ARGV[i]), unit = tonumber(ARGV[i + 1])}
  one.whole = one.burst * one.unit
  one.free_at = math.max(tonumber(free_at() or now), now)
  if one.free_at > now + one.whole then  -- the clock has gone back, or the limit is another one
    one.free_at, moved = now + one.whole, true
  end
  limits[#limits + 1] = one
end

local granted = cost
for _, each in ipairs(limits) do
  each.left = each.unit == 0 and 0 or math.floor((now + each.whole - each.free_at) / each.unit)
  if op == 'most' then granted = math.min(granted, each.left) elseif cost > each.left then granted = 0 end
end
local added = (op == 'take' or op == 'most') and granted or 0
local wanted = (op == 'most' and granted == 0) and math.min(cost, 1) or cost
local refunded = 0

local answer, times, life = {granted}, {}, 0
for _, each in ipairs(limits) do
  local retry = 0
  if op ~= 'refund' and granted == 0 and cost > 0 then
    if wanted > each.burst then
      retry = -1
    elseif wanted > each.left then
      retry = each.free_at + wanted * each.unit - each.whole - now
    end
  end
  if op == 'refund' then
    local back = math.min(cost * each.unit, each.free_at - now)
    if back > 0 then refunded = math.max(refunded, math.ceil(back / each.unit)) end
    each.free_at = each.free_at - back
  end
  each.free_at = each.free_at + added * each.unit
  local left = each.unit == 0 and 0 or math.floor((now + each.whole - each.free_at) / each.unit)
  answer[#answer + 1] = left
  answer[#answer + 1] = retry
  answer[#answer + 1] = left >= each.burst and 0 or each.free_at + (left + 1) * each.unit - each.whole - now
  answer[#answer + 1] = each.free_at - now
  times[#times + 1] = string.format('%.0f', each.free_at)
  life = math.max(life, each.free_at - now)
end
if op == 'refund' then answer[1] = refunded end
if added == 0 and refunded == 0 and (not moved or op == 'peek') then return answer end
if life == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], table.concat(times, ' '), 'PX', string.format('%.0f', math.ceil(life / 1000)))
end
return answer
