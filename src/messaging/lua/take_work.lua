-- Says what became of events that a consumer of a group was given, and gives it more.
-- KEYS: stream, meta, dead letters of the group
-- ARGV: 1 group, 2 consumer, 3 how many events at most, 4 epoch of the events that are settled,
--       5 a group that begins now: 'first' event that is kept or 'latest', 6 '1' where the group is known to have been,
--       7 what is pending for so many milliseconds is claimed, 8 where to look for it ('0-0', or where a search goes on), or '' not now,
--       9 look at so many of what this consumer has been given, because it may not have heard of them, 10 attempts at most, 11 dead letters to keep,
--       12 consumers that have nothing and were silent for so many milliseconds are forgotten, 13 '1': this one leaves,
--       14... of each event that is settled: offset, tag, outcome, and to it:
--         'done'; 'again': milliseconds until it is claimed, attempts; 'dead': event, attempts, why ('' fills up to 6)
-- Returns: {epoch, where the search goes on ('' not at all), events trimmed before anybody got them, events trimmed while
--           pending, dead letters of events whose consumers died, then of each event: offset, tag, event, attempts}
-- Values: dead letters: a stream of the event's id (i), the event (d), attempts (n) and why (w). meta: for each group (g:<group>)
--         the epoch, the offset of the latest event that it was given, and how many are pending, with spaces between.
local call = redis.call
local stream, dead = KEYS[1], KEYS[3]
local group, consumer, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local meta = call('HMGET', KEYS[2], 'e', 's', 'g:' .. group)
local epoch = meta[1]
if not epoch or call('EXISTS', stream) == 0 then return {epoch or '', '', 0, 0, 0} end

local function offset_of(id) return tonumber(string.match(id, '^%d+')) end
local function entry_of(id)
  local found = call('XRANGE', stream, id, id)[1]
  if not found then return nil end
  local fields = {}
  for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
  return {id = id, tag = fields.t or '', event = fields.d or ''}
end
local function pending(id) return call('XPENDING', stream, group, id, id, 1)[1] end
local function bury(id, name, event, attempts, why)
  call('XADD', dead, 'MAXLEN', ARGV[11], '*', 'i', name, 'd', event, 'n', attempts, 'w', why)
  call('XACK', stream, group, id)
end

-- The group: it goes with its stream, but the meta remembers where it was.
local answer = {epoch, '', 0, 0, 0}
local known_epoch, known, known_pending = string.match(meta[3] or '', '^(%x+) (%d+) (%d+)$')
local last
for _, each in ipairs(call('XINFO', 'GROUPS', stream)) do
  if each[2] == group then
    for i = 1, #each, 2 do
      if each[i] == 'last-delivered-id' then last = offset_of(each[i + 1]) end
    end
  end
end
if not last then
  local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if known_epoch == epoch then
    last = tonumber(known)
    answer[4] = tonumber(known_pending)  -- went with the stream
  elseif ARGV[5] == 'latest' and ARGV[6] ~= '1' and not known_epoch then
    last = tonumber(meta[2])
  else
    last = first and offset_of(first[1]) - 1 or tonumber(meta[2])
  end
  call('XGROUP', 'CREATE', stream, group, string.format('%d-0', last))
end
local function trimmed(id)
  call('XACK', stream, group, id)
  answer[4] = answer[4] + 1
end
local function remember()
  local now = string.format('%s %d %d', epoch, last, call('XPENDING', stream, group)[1])
  if now ~= meta[3] then call('HSET', KEYS[2], 'g:' .. group, now) end
end

-- What is settled, unless it is of another log, or another event has its offset now.
if ARGV[4] == epoch then
  for i = 14, #ARGV, 6 do
    local id, tag, outcome = ARGV[i] .. '-0', ARGV[i + 1], ARGV[i + 2]
    local entry = entry_of(id)
    if not entry or entry.tag == tag then
      local mine = outcome ~= 'done' and pending(id)
      if outcome == 'done' then
        call('XACK', stream, group, id)
      elseif mine and mine[2] == consumer then
        if outcome == 'dead' then
          bury(id, epoch .. '-' .. ARGV[i] .. '-' .. tag, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
        elseif not entry then
          trimmed(id)
        else
          local idle = math.max(0, tonumber(ARGV[7]) - tonumber(ARGV[i + 3]))
          call('XCLAIM', stream, group, consumer, 0, id, 'IDLE', string.format('%d', idle), 'RETRYCOUNT', ARGV[i + 4],
            'JUSTID')
        end
      end
    end
  end
end

local left = count
local function give(entry, attempts)
  answer[#answer + 1] = offset_of(entry.id)
  answer[#answer + 1] = entry.tag
  answer[#answer + 1] = entry.event
  answer[#answer + 1] = attempts
  left = left - 1
end

if ARGV[13] == '1' then
  -- With its consumer, what is pending would be gone.
  if #call('XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
    call('XGROUP', 'DELCONSUMER', stream, group, consumer)
  end
  remember()
  return answer
end
if left > 0 and ARGV[9] ~= '0' then
  for _, each in ipairs(call('XPENDING', stream, group, '-', '+', ARGV[9], consumer)) do
    local entry = entry_of(each[1])
    if entry then
      give(entry, each[4])
    else
      trimmed(each[1])
    end
  end
end
-- One at a time, and nothing else with it: where it kills who handles it, no other event shall count an attempt.
if left == count and ARGV[8] ~= '' and count > 0 then
  -- A search ends at what had been given when it began: where others go on meanwhile, it would never begin anew.
  local from, to = string.match(ARGV[8], '^(%d+%-%d+) ?(%d*)$')
  to = tonumber(to) or last
  local claimed = call('XAUTOCLAIM', stream, group, consumer, ARGV[7], from, 'COUNT', 1, 'JUSTID')
  if claimed[1] ~= '0-0' and offset_of(claimed[1]) <= to then answer[2] = string.format('%s %d', claimed[1], to) end
  answer[4] = answer[4] + #(claimed[3] or {})
  for _, id in ipairs(claimed[2]) do
    local entry, attempts = entry_of(id), pending(id)[4] + 1
    if not entry then
      trimmed(id)
    elseif attempts > tonumber(ARGV[10]) then
      bury(id, epoch .. '-' .. string.format('%d', offset_of(id)) .. '-' .. entry.tag, entry.event, attempts - 1,
        'nobody who was given it said what became of it')
      answer[5] = answer[5] + 1
    else
      call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', attempts, 'JUSTID')
      give(entry, attempts)
    end
  end
  for _, each in ipairs(call('XINFO', 'CONSUMERS', stream, group)) do
    local of = {}
    for i = 1, #each, 2 do of[each[i]] = each[i + 1] end
    if of.pending == 0 and of.name ~= consumer and of.idle > tonumber(ARGV[12]) then
      call('XGROUP', 'DELCONSUMER', stream, group, of.name)
    end
  end
end
if left == count and count > 0 then
  local read = call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', stream, '>')
  for _, found in ipairs(read and read[1] and read[1][2] or {}) do
    local offset, fields = offset_of(found[1]), {}
    for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
    if offset > last + 1 then answer[3] = answer[3] + offset - last - 1 end
    last = offset
    give({id = found[1], tag = fields.t or '', event = fields.d or ''}, 1)
  end
end
remember()
return answer
