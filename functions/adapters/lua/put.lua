-- put: let jobs wait, unless they wait or run already: a second telling changes nothing.
-- ARGV[2] job id   ARGV[3] due, unix ms   ARGV[4] tier   ARGV[5] model   ARGV[6] user
-- ARGV[7] not before, unix ms; 0: at once   ARGV[8].. the same six of the next, and so on
-- -> how many were put
local now, jobs, slots, most = now_ms(), name .. 'jobs', name .. 'slots', tonumber(cap)
local since, line, put = string.format('%.0f', now), nil, 0
for i = 2, #ARGV, 6 do
  local job, due, tier, model, user, run_at = unpack(ARGV, i, i + 5)
  local record = user .. '\0' .. model .. '\0' .. tier .. '\0' .. due .. '\0' .. since .. '\0'
  if redis.call('HSETNX', jobs, job, record) == 1 then
    put = put + 1
    if tonumber(run_at) > now then
      redis.call('ZADD', name .. 'delayed', run_at, job)
    elseif redis.call('HINCRBY', slots, user, 1) > most then
      lower(slots, user)
      line = line or functions_of_line()
      line.hold_back(job, due, user, tier)
      line.fill()
    elseif tier_limits == '' then
      redis.call('HINCRBY', name .. 'tiers', tier, 1)
      enter(job, due)
    else
      line = line or functions_of_line()
      line.advance(job, due, tier)
      line.fill()
    end
  end
end
return put
