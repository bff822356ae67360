-- Decides by the exact times of the units admitted in the last window, for one or several limits at once.
-- KEYS: log
-- ARGV: take | peek | refund, cost of a request, number of requests, microseconds by which their units may be used later,
--       then of each limit: units, window in microseconds; at the end the time in microseconds, instead of the server's
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on. Of the requests as
--          many are granted as there is room for. retry is that of one more, 0 where all were granted, -1 where its cost
--          is more than the limit
-- Value: slots used, newest slot (4 bytes each, most significant first), what is to be added to times (8 bytes, signed), and
--        slots of 8 bytes in a ring, each the time of a unit. It is written only when something is granted or refunded, and
--        when the clock has gone back by more than a tenth of the longest window.
local ARGV, call, floor = ARGV, redis.call, math.floor
local pack, unpack, sub = struct.pack, struct.unpack, string.sub
local op, cost, count, ahead, size, key = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0, #ARGV, KEYS[1]
local now
if size % 2 == 1 then
  now, size = ARGV[size] + 0, size - 1
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local longest, most = 0, 0  -- window, and its units
for i = 5, size, 2 do
  local window = ARGV[i + 1] + 0
  if window > longest then longest, most = window, ARGV[i] + 0 end
end

local in_parts = most > 2000
local value = in_parts and call('GETRANGE', key, 0, 15) or call('GET', key) or ''
local slots = floor(((in_parts and call('STRLEN', key) or #value) - 16) / 8)
local used, newest, base = 0, 0, 0
if slots > 0 then used, newest, base = unpack('>I4I4i8', value) end
if slots < 0 or used > slots or newest >= math.max(slots, 1) then slots, used, newest, base = 0, 0, 0, 0 end
local function stamp(age)  -- 0: of the newest unit
  local from = 16 + 8 * ((newest - age) % slots)
  if in_parts then return base + unpack('>I8', call('GETRANGE', key, from, from + 7)) end
  return base + unpack('>I8', value, from + 1)
end

local last, moved = now, false
if used > 0 then
  last = stamp(0)
  if last - now > longest / 10 then  -- the clock has gone back: the newest is from now, the others are as old as they were
    base, last, moved = base - (last - now), now, true
  end
end
local function within(window)  -- how many units are younger
  local low, high = 0, used
  if used > 0 and stamp(used - 1) > now - window then low = used end
  while low < high do
    local middle = floor((low + high) / 2)
    if stamp(middle) > now - window then low = middle + 1 else high = middle end
  end
  return low
end

local live = within(longest)
local inside, granted = {}, count
for i = 5, size, 2 do
  local window = ARGV[i + 1] + 0
  local units = window == longest and live or within(window)
  inside[#inside + 1] = units
  if op ~= 'refund' then
    local room = cost > 0 and floor((ARGV[i] - units) / cost) or count
    if room < granted then granted = room > 0 and room or 0 end
  end
end
granted = granted * cost
local refunded = op == 'refund' and math.min(cost, live) or 0
local added = op == 'take' and granted or 0
local wants_more = op ~= 'refund' and granted < cost * count
local fresh = math.max(now + ahead, last)  -- the time of the units that are added

local function leaves_in(age, window)  -- the unit of this age after the decision
  return (age < added and fresh or stamp(age - added + refunded)) + window - now
end
local answer = {op == 'refund' and refunded or granted}
for n = 1, #inside do
  local units, window = ARGV[3 + 2 * n] + 0, ARGV[4 + 2 * n] + 0
  local after = math.max(inside[n] - refunded, 0) + added
  local retry = 0
  if wants_more then
    if cost > units then
      retry = -1
    elseif after > units - cost then
      retry = leaves_in(units - cost, window)
    end
  end
  local k = 4 * n
  answer[k - 2], answer[k - 1] = after < units and units - after or 0, retry
  if after == 0 then
    answer[k], answer[k + 1] = 0, 0
  else
    answer[k] = units > 0 and leaves_in((after < units and after or units) - 1, window) or 0
    answer[k + 1] = leaves_in(0, window)
  end
end
if added == 0 and refunded == 0 then
  if moved and op ~= 'peek' then call('SETRANGE', key, 0, pack('>I4I4i8', used, newest, base)) end
  return answer
end

local left = live - refunded
if left + added == 0 then
  call('DEL', key)
  return answer
end
local life = string.format('%d', math.ceil(((added > 0 and fresh or last) - now + longest) / 1000))
local stamps = added > 0 and pack('>I8', fresh - base) or ''
if added > 1 then stamps = string.rep(stamps, added) end
if left + added <= slots then
  newest = (newest - refunded + added) % slots
  local from = (newest - added + 1) % slots
  local before_end = math.min(added, slots - from)
  local header = pack('>I4I4i8', left + added, newest, base)
  if slots <= 40 and not in_parts then  -- one command, also for replicas
    local ring
    if before_end == added then
      ring = sub(value, 17, 16 + 8 * from) .. stamps .. sub(value, 17 + 8 * (from + added))
    else
      ring = sub(stamps, 8 * before_end + 1) .. sub(value, 17 + 8 * (added - before_end), 16 + 8 * from) ..
                 sub(stamps, 1, 8 * before_end)
    end
    call('SET', key, header .. ring, 'PX', life)
    return answer
  end
  if added > 0 then call('SETRANGE', key, 16 + 8 * from, sub(stamps, 1, 8 * before_end)) end
  if added > before_end then call('SETRANGE', key, 16, sub(stamps, 8 * before_end + 1)) end
  call('SETRANGE', key, 0, header)
  if added > 0 then call('PEXPIRE', key, life) end
  return answer
end
-- A larger ring: the units in order, and room for as many again.
local old = ''
if left > 0 then
  if in_parts then value = call('GET', key) end
  local end_slot = (newest - refunded) % slots
  local first = (end_slot - left + 1) % slots
  if first <= end_slot then
    old = sub(value, 17 + 8 * first, 24 + 8 * end_slot)
  else
    old = sub(value, 17 + 8 * first) .. sub(value, 17, 24 + 8 * end_slot)
  end
end
local total = left + added
local room = math.max(total, math.min(most, math.max(2 * total, 8)))
call('SET', key, pack('>I4I4i8', total, total - 1, base) .. old .. stamps .. string.rep('\0', 8 * (room - total)), 'PX',
     life)
return answer
