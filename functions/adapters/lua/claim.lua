-- claim: move the job that is due first under a lease.
-- KEYS[1] queue   zset  job id -> due, unix ms (lower runs first)
-- KEYS[2] leases  zset  job id -> lease end, unix ms
-- KEYS[3] delayed zset  job id -> moment of the next try, unix ms
-- KEYS[4] holders hash  job id -> "due worker", for jobs that are leased or delayed
-- ARGV[1] lease length, ms   ARGV[2] worker
-- -> the job id, or false when nothing waits
local now = now_ms()
due_back(KEYS[1], KEYS[2], KEYS[3], KEYS[4], now)
local best = redis.call('ZPOPMIN', KEYS[1])
if #best == 0 then return false end
redis.call('ZADD', KEYS[2], now + ARGV[1], best[1])
redis.call('HSET', KEYS[4], best[1], string.format('%.0f', best[2]) .. ' ' .. ARGV[2])
return best[1]
