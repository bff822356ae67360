-- Keeps what a consumer of a group is busy with from being claimed by others.
-- KEYS: stream, meta
-- ARGV: group, consumer, epoch of the events, their offsets...
-- Returns: the offsets of those that are not this consumer's any more
local call = redis.call
local lost = {}
local there = call('HGET', KEYS[2], 'e') == ARGV[3]
for i = 4, #ARGV do
  local id = ARGV[i] .. '-0'
  local pending = there and redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if pending and not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  else
    lost[#lost + 1] = tonumber(ARGV[i])
  end
end
return lost
