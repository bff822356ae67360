-- Decides by the units admitted in each sixtieth of the window; of the oldest one all count until it has left as a whole.
-- KEYS: log
-- ARGV: take | most | peek | refund, cost, time in microseconds or '' for the server's,
--       then of each limit: units, window in microseconds
-- Returns: {granted, then of each limit: left, retry, next, reset}, times in microseconds from now on; retry is -1 where
--          the cost is more than the limit
-- Value: of each limit the length of a segment, the number of the newest one (8 bytes each, most significant first) and how
--        many follow (1 byte); of each that is not empty, the oldest first, its age in segments and its units (1 and 4
--        bytes). It is written only when something is granted or refunded, and when the clock has gone back by more than
--        a window.
local parts = 60
local op, cost = ARGV[1], tonumber(ARGV[2])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local value = redis.call('GET', KEYS[1]) or ''

local limits = {}
local moved = false  -- the clock has gone back, or a window is another one: what was admitted counts as admitted now
local at = 1
for i = 4, #ARGV, 2 do
  local one = {units = tonumber(ARGV[i]), window = tonumber(ARGV[i + 1]), used = 0, log = {}}
  one.length = math.ceil(one.window / parts)
  one.newest = math.floor(now / one.length)
  local time = now
  if #value >= at + 16 then
    local length, newest, count = struct.unpack('>I8I8B', value, at)
    at = at + 17
    local strange = length ~= one.length or newest * length - now > one.window
    if not strange and newest > one.newest then  -- a little: time stands still
      one.newest, time = newest, newest * length
    end
    local first = math.floor((time - one.window) / one.length)
    for _ = 1, count do
      local age, units = struct.unpack('>BI4', value, at)
      at = at + 5
      if strange or newest - age >= first then
        one.log[#one.log + 1] = {segment = newest - age, units = units}
        one.used = one.used + units
      end
    end
    if strange and one.used > 0 then
      one.log, moved = {{segment = one.newest, units = one.used}}, true
    end
  end
  limits[#limits + 1] = one
end

local granted = cost
for _, each in ipairs(limits) do
  local left = math.max(each.units - each.used, 0)
  if op == 'most' then granted = math.min(granted, left) elseif cost > left then granted = 0 end
end
local refunded = 0
local added = (op == 'take' or op == 'most') and granted or 0
local wanted = (op == 'most' and granted == 0) and math.min(cost, 1) or cost

local answer = {granted}
for _, each in ipairs(limits) do
  local log = each.log
  local function falls_to(units)  -- when no more than that are counted
    local sum, last = each.used, nil
    for _, segment in ipairs(log) do
      if sum <= units then break end
      sum, last = sum - segment.units, segment.segment
    end
    return last and (last + 1) * each.length + each.window - now or 0
  end
  local retry = 0
  if op ~= 'refund' and granted == 0 and cost > 0 then
    retry = wanted > each.units and -1 or falls_to(each.units - wanted)
  end
  if op == 'refund' then
    local rest = cost
    while rest > 0 and #log > 0 do
      local part = math.min(rest, log[#log].units)
      rest, each.used, log[#log].units = rest - part, each.used - part, log[#log].units - part
      if log[#log].units == 0 then log[#log] = nil end
    end
    refunded = math.max(refunded, cost - rest)
  end
  if added > 0 then
    if #log == 0 or log[#log].segment ~= each.newest then log[#log + 1] = {segment = each.newest, units = 0} end
    log[#log].units = log[#log].units + added
    each.used = each.used + added
  end
  answer[#answer + 1] = math.max(each.units - each.used, 0)
  answer[#answer + 1] = retry
  answer[#answer + 1] = each.used == 0 and 0 or falls_to(math.min(each.used, each.units) - 1)
  answer[#answer + 1] = falls_to(0)
end
if op == 'refund' then answer[1] = refunded end
if added == 0 and refunded == 0 and (not moved or op == 'peek') then return answer end

local blocks, life, empty = {}, 1, true
for _, each in ipairs(limits) do
  if each.used > 0 then empty = false end
  life = math.max(life, math.ceil(((each.newest + 1) * each.length + each.window - now) / 1000))
  blocks[#blocks + 1] = struct.pack('>I8I8B', each.length, each.newest, #each.log)
  for _, segment in ipairs(each.log) do
    blocks[#blocks + 1] = struct.pack('>BI4', each.newest - segment.segment, segment.units)
  end
end
if empty then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], table.concat(blocks), 'PX', string.format('%.0f', life))
end
return answer
