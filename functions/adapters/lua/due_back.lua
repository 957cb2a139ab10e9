-- due_back: what has waited out its time joins the queue again. Put before the scripts that begin with it.
-- A lease that ran out and a retry whose moment has come both return to the place they had.
-- At most 16 of each a call, so that no claim pays for a crowd; the next call takes the next.
local function due_back(queue, leases, delayed, holders, now)
  local back = 0
  for _, set in ipairs({leases, delayed}) do
    for _, job in ipairs(redis.call('ZRANGE', set, '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)) do
      local due = string.match(redis.call('HGET', holders, job) or '', '^%-?%d+') or now
      redis.call('ZREM', set, job)
      redis.call('HDEL', holders, job)
      redis.call('ZADD', queue, due, job)
      back = back + 1
    end
  end
  return back
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
