-- A part of a log.
-- KEYS: stream, meta
-- ARGV: offset of the first event, how many at most
-- Returns: {epoch, offset of the latest event, offset of the first one that is kept, then of each event: offset, tag, event};
--          epoch is '' where there is no log, the first offset 0 where no event is kept
local call = redis.call
local meta = call('HMGET', KEYS[2], 'e', 's')
if not meta[1] then return {'', 0, 0} end
local function offset_of(id) return tonumber(string.match(id, '^%d+')) end
local first = call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local answer = {meta[1], tonumber(meta[2]), first[1] and offset_of(first[1][1]) or 0}
for _, entry in ipairs(ARGV[2] ~= '0' and call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]) or {}) do
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  answer[#answer + 1] = offset_of(entry[1])
  answer[#answer + 1] = fields.t or ''
  answer[#answer + 1] = fields.d or ''
end
return answer
