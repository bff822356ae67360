-- Decides by the exact times of the units admitted in the last window, for one or several limits at once.
-- KEYS: log
-- ARGV: take | most | peek | refund, cost, time in microseconds or '' for the server's,
--       then of each limit: units, window in microseconds
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on; retry is -1 where
--          the cost is more than the limit
-- Value: slots used, newest slot (4 bytes each, most significant first), and slots of 8 bytes in a ring, each the time of
--        a unit. It is written only when something is granted or refunded, and when the clock has gone back by more than
--        a window.
local op, cost = ARGV[1], tonumber(ARGV[2])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local limits, longest = {}, nil
for i = 4, #ARGV, 2 do
  local one = {units = tonumber(ARGV[i]), window = tonumber(ARGV[i + 1])}
  limits[#limits + 1] = one
  if not longest or one.window > longest.window then longest = one end
end

local in_parts = longest.units > 2000
local value = in_parts and redis.call('GETRANGE', KEYS[1], 0, 7) or redis.call('GET', KEYS[1]) or ''
local slots = math.floor(((in_parts and redis.call('STRLEN', KEYS[1]) or #value) - 8) / 8)
local used, newest = 0, 0
if slots > 0 then used, newest = struct.unpack('>I4I4', value) end
if slots < 0 or used > slots or newest >= math.max(slots, 1) then slots, used, newest = 0, 0, 0 end
local function stamp(age)  -- 0: of the newest unit
  local at = 8 + 8 * ((newest - age) % slots)
  if in_parts then return (struct.unpack('>I8', redis.call('GETRANGE', KEYS[1], at, at + 7))) end
  return (struct.unpack('>I8', value, at + 1))
end

local restart = false  -- the clock has gone back: what was admitted counts as admitted now
if used > 0 then
  local last = stamp(0)
  if last > now then
    if last - now <= longest.window then now = last else restart = true end
  end
end
local function within(window)  -- how many units are younger
  if restart then return used end
  local low, high = 0, used
  while low < high do
    local middle = math.floor((low + high) / 2)
    if stamp(middle) > now - window then low = middle + 1 else high = middle end
  end
  return low
end
local function leaves_in(age, window)
  return (restart and now or stamp(age)) + window - now
end

local granted = cost
for _, each in ipairs(limits) do
  each.used = within(each.window)
  local left = math.max(each.units - each.used, 0)
  if op == 'most' then granted = math.min(granted, left) elseif cost > left then granted = 0 end
end
local live = within(longest.window)
local refunded = op == 'refund' and math.min(cost, live) or 0
local added = (op == 'take' or op == 'most') and granted or 0
local wanted = (op == 'most' and granted == 0) and math.min(cost, 1) or cost

local answer = {op == 'refund' and refunded or granted}
for _, each in ipairs(limits) do
  local after = math.max(each.used - refunded, 0) + added
  local retry = 0
  if op ~= 'refund' and granted == 0 and cost > 0 then
    if wanted > each.units then
      retry = -1
    elseif each.used > each.units - wanted then
      retry = leaves_in(each.units - wanted, each.window)
    end
  end
  local next_in, reset = 0, 0
  if after > 0 then
    local age = math.min(after, each.units) - 1 - added + refunded  -- as it was before
    next_in = each.units == 0 and 0 or age < refunded and each.window or leaves_in(age, each.window)
    reset = added > 0 and each.window or leaves_in(refunded, each.window)
  end
  answer[#answer + 1] = math.max(each.units - after, 0)
  answer[#answer + 1] = retry
  answer[#answer + 1] = next_in
  answer[#answer + 1] = reset
end
if added == 0 and refunded == 0 and (not restart or op == 'peek') then return answer end

local left = live - refunded
if left + added == 0 then
  redis.call('DEL', KEYS[1])
  return answer
end
local life = string.format('%.0f', math.ceil(longest.window / 1000))
local stamps = string.rep(struct.pack('>I8', now), added)
if not restart and left + added <= slots then
  newest = (newest - refunded + added) % slots
  local from = (newest - added + 1) % slots
  if added > slots - from then
    redis.call('SETRANGE', KEYS[1], 8 + 8 * from, string.sub(stamps, 1, 8 * (slots - from)))
    redis.call('SETRANGE', KEYS[1], 8, string.sub(stamps, 8 * (slots - from) + 1))
  elseif added > 0 then
    redis.call('SETRANGE', KEYS[1], 8 + 8 * from, stamps)
  end
  redis.call('SETRANGE', KEYS[1], 0, struct.pack('>I4I4', left + added, newest))
  if added > 0 then redis.call('PEXPIRE', KEYS[1], life) end
  return answer
end
-- A ring of another size, or with other times: the units in order, and room for as many again.
local old
if restart then
  old = string.rep(struct.pack('>I8', now), left)
else
  if in_parts then value = redis.call('GET', KEYS[1]) or '' end
  local last = slots > 0 and (newest - refunded) % slots or 0
  local first = slots > 0 and (last - left + 1) % slots or 0
  if left == 0 then
    old = ''
  elseif first <= last then
    old = string.sub(value, 9 + 8 * first, 16 + 8 * last)
  else
    old = string.sub(value, 9 + 8 * first, 8 + 8 * slots) .. string.sub(value, 9, 16 + 8 * last)
  end
end
local size = left + added
local room = math.max(size, math.min(longest.units, math.max(2 * size, 8)))
redis.call('SET', KEYS[1], struct.pack('>I4I4', size, size - 1) .. old .. stamps .. string.rep('\0', 8 * (room - size)),
           'PX', life)
return answer
