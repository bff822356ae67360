-- Keeps what a consumer of a group is busy with from being claimed by others.
-- KEYS: stream, meta
-- ARGV: group, consumer, epoch of the events, their offsets...
-- Returns: {epoch of the events, the offsets of those that are not this consumer's any more...}
local call = redis.call
local answer = {ARGV[3]}
-- Of a log that is gone nobody else is given anything.
if call('HGET', KEYS[2], 'e') ~= ARGV[3] then return answer end
local first = redis.pcall('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
first = not first.err and first[1] and tonumber(string.match(first[1][1], '^%d+'))
for i = 4, #ARGV do
  local id = ARGV[i] .. '-0'
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if pending.err then return answer end
  if not pending[1] or pending[1][2] ~= ARGV[2] then
    answer[#answer + 1] = tonumber(ARGV[i])
  elseif first and tonumber(ARGV[i]) >= first then  -- XCLAIM forgets what the stream does not keep
    call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end
return answer
