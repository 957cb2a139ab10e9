-- hold: a lease for the worker whom Postgres names. The caps do not bind it: it is at work already.
-- ARGV[2] job id   ARGV[3] due, unix ms   ARGV[4] tier   ARGV[5] model   ARGV[6] user   ARGV[7] worker
-- ARGV[8] '1' to take it from wherever it stands, '0' only if it stands nowhere
-- -> 1 when it was given, else 0
local line, pool = functions_of_line()
local job, due, tier, model, user, worker, force = unpack(ARGV, 2)
local now = now_ms()
local record = line.read(job)
if record and force ~= '1' then return 0 end
if not record or record.worker ~= worker then
  -- What it takes up is counted before it leaves where it stood, so that nobody is let in instead.
  redis.call('HINCRBY', pool.slots, user, 1)
  redis.call('HINCRBY', pool.tiers, tier, 1)
  if record then line.leave(job, record) end
  redis.call('HINCRBY', pool.flight, user, 1)
  redis.call('HSET', pool.jobs, job, line.record(user, model, tier, due, record and record.since or now, worker))
end
redis.call('ZADD', pool.leases, now + lease_ms, job)
if pool.limit > 0 then line.mind_limit() end
line.fill()
return 1
