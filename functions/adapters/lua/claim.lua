-- claim: the job that is due first, under a lease.
-- One whose user has its cap in flight is passed over while another's waits. A runner with a warm model may take a later
-- job of that model, unless that passes over one in the admin's lane or one that has waited past the bound. Both look at
-- the first 32 and no further, so a claim costs the same however many wait.
-- ARGV[2] worker   ARGV[3] its warm model, or ''   ARGV[4] '1' when the bell woke it: it rings for the next; else absent
-- -> the job id, or false when nothing waits
local queue, leases, jobs, flight = KEYS[1], name .. 'leases', name .. 'jobs', name .. 'flight'
local now, worker, warm, most = now_ms(), ARGV[2], ARGV[3], tonumber(cap)

-- Of the first 32: the first of the warm model whose user is under the cap, unless an earlier one may not be passed over;
-- or else the first whose user is under it, or else the first. Gives the job, its record, its user, and whether it is
-- known that others wait. The next few are read first, for it is mostly among them. A job without a record is none that
-- this code put there: it is dropped, and sweep puts it back.
local function choose()
  local LANE_MS = 366 * 24 * 3600 * 1000
  local bound_ms = tonumber((string.match(ARGV[1], '^%d+ %d+ %d+ %d+ (%d+)')))
  local first, best
  for _, last in ipairs({7, 31}) do
    local from = last == 7 and 0 or 8
    local found = redis.call('ZRANGE', queue, from, last)
    if #found == 0 then break end
    local kept, others = redis.call('HMGET', jobs, unpack(found)), #found > 1
    for i = 1, #found do
      local record = kept[i]
      if record then
        local user, model, due, since = string.match(record, '^([^%z]*)%z([^%z]*)%z[^%z]*%z(%-?%d+)%z(%d+)')
        first = first or {found[i], record, user}
        local suits, bars = model == warm, now - since > bound_ms or since - due > LANE_MS
        if (suits or bars or not best) and tonumber(redis.call('HGET', flight, user) or 0) < most then
          if suits then return found[i], record, user, others end
          best = best or {found[i], record, user}
          if bars or warm == '' then return best[1], best[2], best[3], others end
        end
      else
        redis.call('ZREM', queue, found[i])
        others = false
      end
    end
    if #found <= last - from then break end
  end
  best = best or first
  if best then return best[1], best[2], best[3], false end
end

if redis.call('ZCOUNT', leases, '-inf', now) + redis.call('ZCOUNT', name .. 'delayed', '-inf', now) > 0 then
  functions_of_line().due_back(now)
end
local job, record, user, more, due
if warm == '' then
  repeat
    job, due = unpack(redis.call('ZPOPMIN', queue))
    if not job then return false end
    record = redis.call('HGET', jobs, job)
  until record
  user = string.match(record, '^[^%z]*')
  if redis.call('HINCRBY', flight, user, 1) > most then
    redis.call('ZADD', queue, due, job)
    lower(flight, user)
    job = nil
  end
end
if not job then
  job, record, user, more = choose()
  if not job then return false end
  redis.call('ZREM', queue, job)
  redis.call('HINCRBY', flight, user, 1)
end
redis.call('ZADD', leases, now + lease_ms, job)
redis.call('HSET', jobs, job, record .. worker)
if not more and redis.call('EXISTS', queue) == 0 then
  functions_of_line().fill()
elseif ARGV[4] then
  ring()
end
if limit ~= '0' then functions_of_line().mind_limit() end
return job
