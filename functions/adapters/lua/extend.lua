-- extend: a sign of life from the runner that holds the job.
-- ARGV[2] job id   ARGV[3] worker
-- -> 1 extended, 0 when it is not this worker's here: Postgres knows whose it is
local record = redis.call('HGET', name .. 'jobs', ARGV[2])
if not record or string.match(record, '[^%z]*$') ~= ARGV[3] then return 0 end
redis.call('ZADD', name .. 'leases', now_ms() + lease_ms, ARGV[2])
return 1
