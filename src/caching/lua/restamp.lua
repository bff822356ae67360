-- Notes in a value that its tags are current under another tags token of its tenant.
-- KEYS: value
-- ARGV: the value's first line up to now, token
if redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], 28, ARGV[2])
return 1
