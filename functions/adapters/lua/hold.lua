-- hold: give back a lease that Redis has forgotten to the worker whom Postgres names.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- ARGV[1] job id   ARGV[2] due, unix ms   ARGV[3] worker   ARGV[4] lease length, ms
-- -> 1 when it was given, 0 when the job stands somewhere already
for i = 1, 3 do
  if redis.call('ZSCORE', KEYS[i], ARGV[1]) then return 0 end
end
redis.call('HSET', KEYS[4], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('ZADD', KEYS[2], now_ms() + ARGV[4], ARGV[1])
return 1
