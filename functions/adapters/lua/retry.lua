-- retry: wherever the job stood, it now waits for its next try.
-- ARGV[2] job id   ARGV[3] due, unix ms   ARGV[4] tier   ARGV[5] model   ARGV[6] user   ARGV[7] not before, unix ms
local line, pool = functions_of_line()
local job, due, tier, model, user, run_at = unpack(ARGV, 2)
local record = line.read(job)
if record then line.leave(job, record) end
redis.call('HSET', pool.jobs, job, line.record(user, model, tier, due, record and record.since or now_ms(), ''))
redis.call('ZADD', pool.delayed, run_at, job)
line.fill()
