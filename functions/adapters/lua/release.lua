-- release: the runner that holds the job is done with it; with a due time, it joins the queue again at that place.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- ARGV[1] job id   ARGV[2] worker   ARGV[3] '1' to give it back to the queue, else '0'
-- -> 1 when it was this worker's to release, else 0
local due, worker = string.match(redis.call('HGET', KEYS[4], ARGV[1]) or '', '^(%-?%d+) (.*)$')
if worker ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
if ARGV[3] == '1' then redis.call('ZADD', KEYS[1], due, ARGV[1]) end
return 1
