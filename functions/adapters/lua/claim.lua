-- claim: the job that is due first, under a lease.
-- One whose user has its cap in flight is passed over while another's waits. A runner with a warm model may take a later
-- job of that model, unless that passes over one in the admin's lane or one that has waited past the bound. Both look at
-- the first 32 and no further, so a claim costs the same however many wait.
-- ARGV[2] worker   ARGV[3] its warm model; absent: none
-- -> the job id, or false when nothing waits
local queue, leases, jobs, flight = KEYS[1], name .. 'leases', name .. 'jobs', name .. 'flight'
local now, worker, warm = now_ms(), ARGV[2], ARGV[3]
if redis.call('ZCOUNT', leases, '-inf', now) + redis.call('ZCOUNT', name .. 'delayed', '-inf', now) > 0 then
  functions_of_line().due_back(now)
end
local job, due, record
repeat
  job, due = unpack(redis.call('ZPOPMIN', queue))
  if not job then return false end
  record = redis.call('HGET', jobs, job) -- a job without one is dropped, as in due_back
until record
local user, model = string.match(record, '^([^%z]*)%z([^%z]*)')
local over = redis.call('HINCRBY', flight, user, 1) > tonumber(cap)
if over or warm and model ~= warm then
  local line = functions_of_line()
  redis.call('ZADD', queue, due, job)
  line.lower(flight, user)
  job, record, user = line.choose(now, warm, over)
  redis.call('ZREM', queue, job)
  redis.call('HINCRBY', flight, user, 1)
end
redis.call('ZADD', leases, now + lease_ms, job)
redis.call('HSET', jobs, job, record .. worker)
if redis.call('EXISTS', queue) == 0 then functions_of_line().fill() end
if limit ~= '0' then functions_of_line().mind_limit() end
return job
