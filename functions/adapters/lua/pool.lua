-- pool: the keys of one pool, and a job's record. Put before every script of the queue.
-- KEYS[1] is the pool's queue. Its other keys carry the same braces, so that one cluster slot holds them all:
--   queue    zset  job -> due, unix ms (lower runs first): what a runner may claim this instant
--   parked   zset  the same while the pool is closed; then there is no queue
--   leases   zset  job -> lease end, unix ms
--   delayed  zset  job -> moment of its next try, unix ms
--   held:U   zset  job -> due: what user U has waiting beyond its share of the pool
--   heads:T  zset  user -> due of the first of its held jobs, where that one is of tier T
--   tier:T   zset  job -> due: has a slot of its user's and waits for one of its tier's
--   jobs     hash  job -> record: user, model, tier, due, moment it came (both unix ms), worker; after each but the last
--                  a NUL, which no text from Postgres holds. The worker is empty unless the job is leased.
--   slots    hash  user -> jobs in the line, leased or waiting for their tier; BLOCKED more while the user is blocked
--   flight   hash  user -> leased jobs
--   blocked  set   users who are blocked
--   tiers    hash  tier -> jobs in the line or leased
--   closed   set   why nothing may be claimed; open while it is empty
--   mark     text  how often the pool was compared with Postgres (functions/adapters/rebuild.py)
--   bell     list  rung when something comes into an empty line; at most one ring, forgotten after a few seconds
-- The line is the queue of an open pool, and what is parked of a closed one.
-- ARGV[1] "<most jobs of a user in flight> <lease length, ms> <most jobs of the pool in flight, 0: any> <its workers>
--          <how long a job may be passed over for a warm model, ms> <most jobs of a tier in flight, as LOW=2,USER=10>"
-- ARGV[2].. are each script's own
-- There is little here, because a claim runs it all: to make a function or a table costs more than a call of Redis.
local name = string.sub(KEYS[1], 1, -6)
local cap, lease_ms, limit, tier_limits = string.match(ARGV[1], '^(%d+) (%d+) (%d+) %d+ %d+ (.*)$')

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A runner that waits for work looks now, and not when its time has come; whoever finds more than it takes rings again.
local function ring()
  if redis.call('RPUSH', name .. 'bell', '') > 1 then redis.call('LTRIM', name .. 'bell', -1, -1) end
  redis.call('PEXPIRE', name .. 'bell', 5000)
end

-- Into the line. A closed pool has no queue, so what is counted twice tells in one call which of the three it is.
local function enter(job, due)
  local found = redis.call('EXISTS', name .. 'closed', name .. 'closed', KEYS[1])
  redis.call('ZADD', found < 2 and KEYS[1] or name .. 'parked', due, job)
  if found == 0 then ring() end
end

-- One less in a hash of counts, where nothing counts as none.
local function lower(counts, of)
  local left = redis.call('HINCRBY', counts, of, -1)
  if left == 0 then redis.call('HDEL', counts, of) end
  return left
end
