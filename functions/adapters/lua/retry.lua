-- retry: whatever held the job, it now waits for its next try.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- ARGV[1] job id   ARGV[2] due, unix ms   ARGV[3] not before, unix ms
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[2] .. ' -')
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
return 1
