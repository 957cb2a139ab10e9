-- release: the runner that holds the job is done with it, or gives it back to the place it had.
-- ARGV[2] job id   ARGV[3] worker   ARGV[4] '1' to give it back, else '0'
-- -> 1 when it was this worker's to release, else 0
local job, jobs, slots = ARGV[2], name .. 'jobs', name .. 'slots'
local kept = redis.call('HGET', jobs, job)
local user, tier, worker = string.match(kept or '', '^([^%z]*)%z[^%z]*%z([^%z]*)%z.*%z([^%z]*)$')
if worker ~= ARGV[3] then return 0 end
if ARGV[4] == '1' or limit ~= '0' or tier_limits ~= '' then
  local line = functions_of_line()
  if ARGV[4] == '1' then
    line.come_back(job, line.parse(kept))
  else
    line.leave(job, line.parse(kept))
    redis.call('HDEL', jobs, job)
  end
  line.fill()
  return 1
end
-- What line.leave does with a leased job, without its functions.
redis.call('HDEL', jobs, job)
redis.call('ZREM', name .. 'leases', job)
lower(name .. 'flight', user)
redis.call('HINCRBY', name .. 'tiers', tier, -1)
local line
if lower(slots, user) < tonumber(cap) and redis.call('EXISTS', name .. 'held:' .. user) == 1 then
  line = functions_of_line()
  line.let_in(user)
end
if redis.call('EXISTS', KEYS[1]) == 0 then (line or functions_of_line()).fill() end
return 1
