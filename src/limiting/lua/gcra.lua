-- Decides by the time at which all would be free again if nothing more came (the generic cell rate algorithm, ITU-T I.371):
-- units flow back one by one, and up to `burst` of them may be taken at once.
-- KEYS: times
-- ARGV: take | peek | refund, cost of a request, number of requests, microseconds by which their units may be used later,
--       then of each limit: burst, microseconds for a unit; at the end the time in microseconds, instead of the server's
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on. Of the requests as
--          many are granted as there is room for. retry is that of one more, 0 where all were granted, -1 where its cost
--          is more than the burst
-- Value: that time of each limit, in microseconds, decimal, separated by spaces. It is written only when something is
--        granted or refunded, and when it is too far ahead because the clock has gone back or the limit is another one.
local ARGV, call, floor, format = ARGV, redis.call, math.floor, string.format
local op, cost, count, ahead, size = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0, #ARGV
local now
if size % 2 == 1 then
  now, size = ARGV[size] + 0, size - 1
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local value = call('GET', KEYS[1])

-- The usual question, without the tables of the general one.
if size == 6 and op == 'take' and count == 1 and ahead == 0 and cost > 0 then
  local burst, unit = ARGV[5] + 0, ARGV[6] + 0
  local at, whole = value and tonumber(value) or now, burst * unit
  if at and at <= now + whole then
    if at < now then at = now end
    local room = now + whole - at
    local next_at = at + cost * unit
    if cost * unit <= room and unit > 0 then
      local left = floor((room - cost * unit) / unit)
      call('SET', KEYS[1], format('%d', next_at), 'PX', format('%d', math.ceil((next_at - now) / 1000)))
      return {cost, left, 0, next_at + (left + 1) * unit - now - whole, next_at - now}
    end
  end
end

local bursts, unit_times, free_at = {}, {}, {}
local next_number = value and string.gmatch(value, '%d+')
local granted, moved = count, false
for i = 5, size, 2 do
  local burst, unit = ARGV[i] + 0, ARGV[i + 1] + 0
  local at = next_number and tonumber(next_number() or now) or now
  if at < now then at = now end
  if at > now + burst * unit then at, moved = now + burst * unit, true end
  local n = (i - 3) / 2
  bursts[n], unit_times[n], free_at[n] = burst, unit, at
  if op ~= 'refund' then
    local from = ahead > 0 and math.max(at, now + ahead) or at
    local room = unit > 0 and floor((now + burst * unit - from) / unit / cost) or cost > 0 and 0 or count
    if room < granted then granted = math.max(room, 0) end
  end
end
granted = granted * cost
local added = op == 'take' and granted or 0
local wants_more = op ~= 'refund' and granted < cost * count

local refunded, life, times = 0, 0, nil
local answer = {granted}
for n = 1, #bursts do
  local burst, unit, at = bursts[n], unit_times[n], free_at[n]
  if op == 'refund' then
    local back = math.min(cost * unit, at - now)
    if back > 0 then refunded = math.max(refunded, math.ceil(back / unit)) end
    at = at - back
  elseif added > 0 then
    if ahead > 0 then at = math.max(at, now + ahead) end
    at = at + added * unit
  end
  local full_at = now + burst * unit
  local left = unit > 0 and floor((full_at - at) / unit) or 0
  local retry = 0
  if wants_more then
    local from = ahead > 0 and math.max(at, now + ahead) or at
    if cost > burst then retry = -1 elseif from + cost * unit > full_at then retry = at + cost * unit - full_at end
  end
  local k = 4 * n
  answer[k - 2], answer[k - 1] = left, retry
  answer[k] = left < burst and at + (left + 1) * unit - full_at or 0
  answer[k + 1] = at - now
  times = times and times .. ' ' .. format('%d', at) or format('%d', at)
  if at - now > life then life = at - now end
end
if op == 'refund' then answer[1] = refunded end
if added == 0 and refunded == 0 and (not moved or op == 'peek') then return answer end
if life == 0 then
  call('DEL', KEYS[1])
else
  call('SET', KEYS[1], times, 'PX', format('%d', math.ceil(life / 1000)))
end
return answer
