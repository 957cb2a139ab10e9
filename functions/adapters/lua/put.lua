-- put: let a job wait, unless it waits or runs already: a second telling changes nothing.
-- ARGV[2] job id   ARGV[3] due, unix ms   ARGV[4] tier   ARGV[5] model   ARGV[6] user
-- ARGV[7] not before, unix ms; 0: at once
-- -> 1 when it was put, else 0
local line, pool = functions_of_line()
local job, due, tier, model, user, run_at = unpack(ARGV, 2)
local now = now_ms()
if redis.call('HSETNX', pool.jobs, job, line.record(user, model, tier, due, now, '')) == 0 then return 0 end
if tonumber(run_at) > now then
  redis.call('ZADD', pool.delayed, run_at, job)
else
  line.join(job, {user = user, tier = tier, due = due})
  line.fill()
end
return 1
