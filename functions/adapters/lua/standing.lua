-- standing: where a job stands and what runs before it. Reads only.
-- ARGV[2] job id   ARGV[3] how many of those before it are looked at, to tell their tiers
-- -> where, how many are before it, the tiers of the first of them; false when it stands nowhere
-- A held job is behind its user's earlier ones and behind what is due before it in the line; others' held jobs, which may
-- be let in before it, are not counted.
local line, pool = functions_of_line()
local job, most = ARGV[2], tonumber(ARGV[3])
local record = line.read(job)
if not record then return false end
local key = line.key()
local place, ahead = key == pool.queue and 'queue' or 'parked', redis.call('ZRANK', key, job)
if not ahead then
  if record.worker ~= '' then return {'leased'} end
  if redis.call('ZSCORE', pool.delayed, job) then return {'delayed'} end
  local own = redis.call('ZRANK', pool.held .. record.user, job)
    or redis.call('ZRANK', pool.tier .. record.tier, job)
  place, ahead = 'held', own + redis.call('ZCOUNT', key, '-inf', '(' .. record.due)
end
local tiers = {}
if place ~= 'held' and ahead > 0 then
  local before = redis.call('ZRANGE', key, 0, math.min(ahead, most) - 1)
  for i, kept in ipairs(redis.call('HMGET', pool.jobs, unpack(before))) do
    tiers[i] = kept and line.parse(kept).tier or ''
  end
end
return {place, ahead, tiers}
