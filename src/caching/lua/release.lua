-- Ends a load that stores nothing; one that failed leaves a marker.
-- KEYS: lease, failure marker
-- ARGV: lease, stamps, the marker's life in ms or 0
-- Returns: 1 when the lease was still there
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
redis.pcall('PUBLISH', KEYS[1], '')
return 1
