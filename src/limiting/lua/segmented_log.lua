-- Decides by the units admitted in each sixtieth of the window; of the oldest one all count until it has left as a whole.
-- KEYS: log
-- ARGV: take | peek | refund, cost of a request, number of requests, microseconds by which their units may be used later,
--       then of each limit: units, window in microseconds; at the end the time in microseconds, instead of the server's
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on. Of the requests as
--          many are granted as there is room for. retry is that of one more, 0 where all were granted, -1 where its cost
--          is more than the limit
-- Value: of each limit the length of a segment, the number of the newest one (8 bytes each, most significant first), units
--        in all (4 bytes), how many segments follow (1 byte); of each that is not empty, the oldest first, the last byte
--        of its number and its units (1 and 4 bytes). It is written only when something is granted or refunded, and when
--        the clock has gone back by more than a tenth of the window or a window is another one.
local ARGV, call, floor = ARGV, redis.call, math.floor
local pack, unpack, sub = struct.pack, struct.unpack, string.sub
local op, cost, count, ahead, size = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0, #ARGV
local now
if size % 2 == 1 then
  now, size = ARGV[size] + 0, size - 1
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local value = call('GET', KEYS[1]) or ''

-- The usual question and answer, without the tables of the general one.
if size == 6 and op == 'take' and count == 1 and ahead == 0 and cost > 0 then
  local units, window = ARGV[5] + 0, ARGV[6] + 0
  local length = math.ceil(window / 60)
  local segment, oldest, from = floor(now / length), floor((now - window) / length), 22
  local old_length, newest, used, segments = length, segment, 0, 0
  if value ~= '' then old_length, newest, used, segments = unpack('>I8I8I4B', value) end
  if old_length == length and newest <= segment and #value <= 21 + 5 * segments then
    if newest < oldest then used, segments, from = 0, 0, #value + 1 end
    local first = segment
    while segments > 0 do
      local number, inside = unpack('>BI4', value, from)
      first = newest - (newest - number) % 256
      if first >= oldest then break end
      first, from, segments, used = segment, from + 5, segments - 1, used - inside
    end
    if used + cost <= units then
      local log, inside = sub(value, from), 0
      if segments > 0 and newest == segment then
        local _, old = unpack('>BI4', log, #log - 4)
        log, segments, inside = sub(log, 1, -6), segments - 1, old
      end
      used = used + cost
      local reset = (segment + 1) * length + window - now
      call('SET', KEYS[1],
           pack('>I8I8I4B', length, segment, used, segments + 1) .. log .. pack('>BI4', segment % 256, inside + cost),
           'PX', string.format('%d', math.ceil(reset / 1000)))
      return {cost, units - used, 0, (first + 1) * length + window - now, reset}
    end
  end
end

local limits, moved, at, granted = {}, false, 1, count
for i = 5, size, 2 do
  local units, window = ARGV[i] + 0, ARGV[i + 1] + 0
  local length = math.ceil(window / 60)
  local one = {units = units, window = window, length = length, newest = 0, used = 0, segments = 0, log = ''}
  if #value >= at + 20 then
    local old_length, newest, used, segments = unpack('>I8I8I4B', value, at)
    local first = at + 21
    at = first + 5 * segments
    if old_length ~= length then  -- what was admitted counts as admitted now
      newest = floor(now / length)
      if used > 0 then one.log, one.segments, moved = pack('>BI4', newest % 256, used), 1, true end
      one.newest, one.used = newest, used
    elseif newest >= floor((now - window) / length) then
      local shift = 0
      if (newest - 1) * length - now > window / 10 then shift, moved = newest - floor(now / length), true end
      local oldest = floor((now - window) / length) + shift
      while segments > 0 do
        local number, inside = unpack('>BI4', value, first)
        if newest - (newest - number) % 256 >= oldest then break end
        first, segments, used = first + 5, segments - 1, used - inside
      end
      local log = sub(value, first, at - 1)
      if shift > 0 then  -- the clock has gone back: the newest is from now, and the others are as old as they were
        local shifted = {}
        for each = 1, 5 * segments, 5 do
          local number, inside = unpack('>BI4', log, each)
          shifted[#shifted + 1] = pack('>BI4', (number - shift) % 256, inside)
        end
        log, newest = table.concat(shifted), newest - shift
      end
      one.newest, one.used, one.segments, one.log = newest, used, segments, log
    end
  end
  limits[#limits + 1] = one
  if op ~= 'refund' then
    local room = cost > 0 and floor((units - one.used) / cost) or count
    if room < granted then granted = room > 0 and room or 0 end
  end
end
granted = granted * cost
local added = op == 'take' and granted or 0
local wants_more = op ~= 'refund' and granted < cost * count

-- When no more than `units` are counted of those in the log.
local function falls_to(units, one)
  local sum, from, last = one.used, 1, nil
  while sum > units and from < #one.log do
    local number, inside = unpack('>BI4', one.log, from)
    sum, from, last = sum - inside, from + 5, number
  end
  return last and (one.newest - (one.newest - last) % 256 + 1) * one.length + one.window - now or 0
end

local refunded = 0
local answer = {granted}
for n = 1, #limits do
  local one = limits[n]
  if op == 'refund' then
    local rest = cost
    while rest > 0 and one.segments > 0 do
      local number, inside = unpack('>BI4', one.log, -5 + #one.log + 1)
      local part = math.min(rest, inside)
      rest, one.used, one.log = rest - part, one.used - part, sub(one.log, 1, -6)
      if part < inside then
        one.log = one.log .. pack('>BI4', number, inside - part)
      else
        one.segments = one.segments - 1
        if one.segments > 0 then
          local before = unpack('>B', one.log, #one.log - 4)
          one.newest = one.newest - (one.newest - before) % 256
        end
      end
    end
    refunded = math.max(refunded, cost - rest)
  elseif added > 0 then
    local segment, inside = floor((now + ahead) / one.length), 0
    if one.segments > 0 and one.newest >= segment then
      segment = one.newest
      local _, old = unpack('>BI4', one.log, #one.log - 4)
      inside, one.log, one.segments = old, sub(one.log, 1, -6), one.segments - 1
    end
    one.log, one.segments = one.log .. pack('>BI4', segment % 256, inside + added), one.segments + 1
    one.newest, one.used = segment, one.used + added
  end
  local units, used, retry = one.units, one.used, 0
  if wants_more then
    if cost > units then retry = -1 elseif used > units - cost then retry = falls_to(units - cost, one) end
  end
  local k = 4 * n
  answer[k - 2], answer[k - 1] = used < units and units - used or 0, retry
  if used == 0 then
    answer[k], answer[k + 1] = 0, 0
  else
    answer[k] = falls_to((used < units and used or units) - 1, one)
    answer[k + 1] = (one.newest + 1) * one.length + one.window - now
  end
end
if op == 'refund' then answer[1] = refunded end
if added == 0 and refunded == 0 and (not moved or op == 'peek') then return answer end

local blocks, life, empty = {}, 1, true
for n = 1, #limits do
  local one = limits[n]
  if one.used > 0 then
    empty = false
    local ends = (one.newest + 1) * one.length + one.window - now
    if ends > life then life = ends end
  end
  blocks[n] = pack('>I8I8I4B', one.length, one.newest, one.used, one.segments) .. one.log
end
if empty then
  call('DEL', KEYS[1])
else
  call('SET', KEYS[1], #blocks == 1 and blocks[1] or table.concat(blocks), 'PX',
       string.format('%d', math.ceil(life / 1000)))
end
return answer
