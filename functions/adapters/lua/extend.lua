-- extend: a sign of life from the runner that holds the job.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- ARGV[1] job id   ARGV[2] worker   ARGV[3] lease length, ms
-- -> 1 extended; 0 nobody holds it (Redis forgot, or the job was called off: ask Postgres); -1 it is another's now
local holder = redis.call('HGET', KEYS[4], ARGV[1])
if not holder then
  return redis.call('ZSCORE', KEYS[1], ARGV[1]) and -1 or 0
end
if string.match(holder, ' (.*)$') ~= ARGV[2] then return -1 end
redis.call('ZADD', KEYS[2], now_ms() + ARGV[3], ARGV[1])
return 1
