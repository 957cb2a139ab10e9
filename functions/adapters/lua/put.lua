-- put: let a job wait, unless it waits or runs already: a second telling changes nothing.
-- KEYS[1] queue   KEYS[2] leases   KEYS[3] delayed   KEYS[4] holders   (as in claim)
-- ARGV[1] job id   ARGV[2] due, unix ms   ARGV[3] not before, unix ms; 0: at once
-- -> 1 when it was put, else 0
for i = 1, 3 do
  if redis.call('ZSCORE', KEYS[i], ARGV[1]) then return 0 end
end
if tonumber(ARGV[3]) > now_ms() then
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[2] .. ' -')
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
return 1
