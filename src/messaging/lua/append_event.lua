-- Appends an event to a log and publishes it.
-- KEYS: stream, meta, and where the event has an idempotency key, its own
-- ARGV: epoch of a log that begins now, tag, event, how many to keep, channel of the log, plain channel or '',
--       life of the log in milliseconds or '', life of the idempotency key in milliseconds
-- Returns: {id of the event, 1 where it was appended now, 0 where it had been before}
-- Values: stream: entries <offset>-0 with the tag (t) and the event (d). meta: a hash of the epoch (e) and the offset of the
--         latest event (s); offsets have no holes. A log whose meta is gone begins anew, with another epoch.
-- On the log's channel: the id, a line feed, the event.
local call = redis.call
local meta = call('HMGET', KEYS[2], 'e', 's')
if KEYS[3] then
  local before = call('GET', KEYS[3])
  -- Of a log that is gone it is not known any more.
  if before and meta[1] and string.sub(before, 1, #meta[1] + 1) == meta[1] .. '-' then return {before, 0} end
end
local epoch, offset = meta[1], tonumber(meta[2] or 0)
local function add()
  return redis.pcall('XADD', KEYS[1], 'MAXLEN', ARGV[4], string.format('%d-0', offset), 't', ARGV[2], 'd', ARGV[3])
end
local added
if epoch then
  offset = offset + 1
  added = add()
  -- A stream that is ahead of its meta is not this log.
  if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then epoch = false end
end
if not epoch then
  epoch, offset = ARGV[1], 1
  if call('TYPE', KEYS[1]).ok == 'stream' then call('DEL', KEYS[1]) end
  added = add()
end
if type(added) == 'table' and added.err then return added end
local number = string.format('%d', offset)
call('HSET', KEYS[2], 'e', epoch, 's', number)
if ARGV[7] ~= '' then
  call('PEXPIRE', KEYS[1], ARGV[7])
  call('PEXPIRE', KEYS[2], string.format('%d', 2 * ARGV[7]))
end
local id = epoch .. '-' .. number .. '-' .. ARGV[2]
if KEYS[3] then call('SET', KEYS[3], id, 'PX', ARGV[8]) end
call('PUBLISH', ARGV[5], id .. '\n' .. ARGV[3])
if ARGV[6] ~= '' then call('PUBLISH', ARGV[6], ARGV[3]) end
return {id, 1}
