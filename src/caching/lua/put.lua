-- Stores a value that its caller knows to be current: loads that are under way store nothing.
-- KEYS: value, lease, failure marker
-- ARGV: value, life in ms
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.pcall('PUBLISH', KEYS[2], '')
return 1
