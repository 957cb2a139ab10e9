-- take: one of the places of all that may be at work at once, over all pools; it is free again when nobody keeps it.
-- KEYS[1] flight  zset  worker -> until when it is kept, unix ms
-- ARGV[1] how many places there are   ARGV[2] how long it is kept, ms   ARGV[3] worker, or '' to look only
-- -> 1 when there is one, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) and not redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 0 end
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3]) end
return 1
