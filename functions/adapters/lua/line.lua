-- line: how jobs get into the line, and what leaving it sets free. Put after pool.lua.
-- A job needs a slot of its user's, then one of its tier's. A user's cap binds while others wait: where the line would
-- be empty, held jobs fill it whoever's they are.
local function functions_of_line()
  local MOST_FILLED = 31 -- one less than a claim looks at, so that among them it sees whoever is under the cap
  local BLOCKED = 2 ^ 40 -- what a blocked user's slots are raised by
  local workers = string.match(ARGV[1], '^%d+ %d+ %d+ (%d+)')
  local pool = {
    queue = KEYS[1], parked = name .. 'parked', leases = name .. 'leases', delayed = name .. 'delayed',
    held = name .. 'held:', heads = name .. 'heads:', tier = name .. 'tier:', jobs = name .. 'jobs',
    slots = name .. 'slots', flight = name .. 'flight', tiers = name .. 'tiers', closed = name .. 'closed',
    blocked = name .. 'blocked', cap = tonumber(cap), limit = tonumber(limit), workers = tonumber(workers),
  }
  local line = {blocked = BLOCKED}

  -- The record of a job, in its parts; nil for none. text is all of it but the worker.
  function line.parse(record)
    if not record then return nil end
    local text, user, model, tier, due, since, worker =
      string.match(record, '^(([^%z]*)%z([^%z]*)%z([^%z]*)%z(%-?%d+)%z(%d+)%z)(.*)$')
    return {text = text, user = user, model = model, tier = tier, due = due, since = tonumber(since), worker = worker}
  end

  -- A record, for a job that came at this moment, unix ms.
  function line.record(user, model, tier, due, since, worker)
    return table.concat({user, model, tier, due, string.format('%.0f', since), worker}, '\0')
  end

  function line.read(job)
    return line.parse(redis.call('HGET', pool.jobs, job))
  end

  -- Where the line is.
  function line.key()
    return redis.call('EXISTS', pool.closed) == 1 and pool.parked or pool.queue
  end

  function line.tier_limit(tier)
    for name, most in string.gmatch(tier_limits, '([^,=]+)=(%d+)') do
      if name == tier then return tonumber(most) end
    end
    return math.huge
  end

  -- The first of a user's held jobs stands for all of them; a blocked user's are not shown.
  function line.show(user)
    local job, due = unpack(redis.call('ZRANGE', pool.held .. user, 0, 0, 'WITHSCORES'))
    if job and tonumber(redis.call('HGET', pool.slots, user) or 0) < BLOCKED then
      redis.call('ZADD', pool.heads .. line.read(job).tier, due, user)
    end
  end

  function line.hold_back(job, due, user, tier)
    local held = pool.held .. user
    redis.call('ZADD', held, due, job)
    redis.call('HINCRBY', pool.tiers, tier, 0) -- so that whoever fills the line looks among this tier's heads
    if redis.call('ZRANK', held, job) > 0 then return end
    local second = redis.call('ZRANGE', held, 1, 1)[1]
    if second then redis.call('ZREM', pool.heads .. line.read(second).tier, user) end
    line.show(user)
  end

  function line.unhold(job, user, tier)
    local held = pool.held .. user
    local rank = redis.call('ZRANK', held, job)
    redis.call('ZREM', held, job)
    if rank == 0 then
      redis.call('ZREM', pool.heads .. tier, user)
      line.show(user)
    end
  end

  -- On with a job that has a slot of its user's.
  function line.advance(job, due, tier)
    if redis.call('HINCRBY', pool.tiers, tier, 1) <= line.tier_limit(tier) then
      enter(job, due)
    else
      redis.call('HINCRBY', pool.tiers, tier, -1)
      redis.call('ZADD', pool.tier .. tier, due, job)
    end
  end

  -- A job that stands nowhere, in by the front door. The record is kept already.
  function line.join(job, record)
    if redis.call('HINCRBY', pool.slots, record.user, 1) <= pool.cap then
      line.advance(job, record.due, record.tier)
    else
      lower(pool.slots, record.user)
      line.hold_back(job, record.due, record.user, record.tier)
    end
  end

  function line.let_in(user)
    local job = redis.call('ZRANGE', pool.held .. user, 0, 0)[1]
    local record = line.read(job)
    line.unhold(job, user, record.tier)
    redis.call('HINCRBY', pool.slots, user, 1)
    line.advance(job, record.due, record.tier)
  end

  -- Jobs that wait for this tier, as far as it has slots; 16 a call, so that no caller pays for a crowd.
  function line.admit(tier)
    for _ = 1, 16 do
      if tonumber(redis.call('HGET', pool.tiers, tier) or 0) >= line.tier_limit(tier) then return end
      local job, due = unpack(redis.call('ZPOPMIN', pool.tier .. tier))
      if not job then return end
      redis.call('HINCRBY', pool.tiers, tier, 1)
      enter(job, due)
    end
  end

  function line.vacate(user)
    if lower(pool.slots, user) < pool.cap and redis.call('EXISTS', pool.held .. user) == 1 then line.let_in(user) end
  end

  function line.free(user, tier)
    redis.call('HINCRBY', pool.tiers, tier, -1)
    if tier_limits ~= '' then line.admit(tier) end
    line.vacate(user)
  end

  -- Whose held job is due first, of those whose tier has a slot.
  function line.next_head()
    local user, least
    local tiers = redis.call('HGETALL', pool.tiers)
    for i = 1, #tiers, 2 do
      if tonumber(tiers[i + 1]) < line.tier_limit(tiers[i]) then
        local head = redis.call('ZRANGE', pool.heads .. tiers[i], 0, 0, 'WITHSCORES')
        if head[1] and (not least or tonumber(head[2]) < least) then user, least = head[1], tonumber(head[2]) end
      end
    end
    return user
  end

  -- An empty line takes as many of the held jobs as there are workers free, so that none idles while work waits.
  function line.fill()
    if redis.call('EXISTS', line.key()) == 1 then return end
    local room = math.max(1, math.min(MOST_FILLED, pool.workers - redis.call('ZCARD', pool.leases)))
    for _ = 1, room do
      local user = line.next_head()
      if not user then return end
      line.let_in(user)
    end
  end

  function line.close(reason)
    redis.call('SADD', pool.closed, reason)
    if redis.call('EXISTS', pool.queue) == 1 then redis.call('RENAME', pool.queue, pool.parked) end
  end

  function line.open(reason)
    if redis.call('SREM', pool.closed, reason) == 0 or redis.call('EXISTS', pool.closed) == 1 then return end
    if redis.call('EXISTS', pool.parked) == 0 then return end
    redis.call('RENAME', pool.parked, pool.queue)
    ring()
  end

  -- A pool with as many in flight as it may have is closed until one of them ends.
  function line.mind_limit()
    if pool.limit > 0 and redis.call('ZCARD', pool.leases) >= pool.limit then line.close('limit') else line.open('limit') end
  end

  function line.end_lease(job, record)
    redis.call('ZREM', pool.leases, job)
    lower(pool.flight, record.user)
    if pool.limit > 0 then line.mind_limit() end
  end

  -- Back into the line with the slots it has; a blocked user's job waits for the end of the block.
  function line.come_back(job, record)
    line.end_lease(job, record)
    redis.call('HSET', pool.jobs, job, record.text)
    if tonumber(redis.call('HGET', pool.slots, record.user)) >= BLOCKED then
      line.free(record.user, record.tier)
      line.hold_back(job, record.due, record.user, record.tier)
    else
      enter(job, record.due)
    end
  end

  -- Out of wherever it stands; what it took up is another's now. Its record is the caller's to keep or drop.
  function line.leave(job, record)
    if record.worker ~= '' then
      line.end_lease(job, record)
      line.free(record.user, record.tier)
    elseif redis.call('ZREM', line.key(), job) == 1 then
      line.free(record.user, record.tier)
    elseif redis.call('ZREM', pool.tier .. record.tier, job) == 1 then
      line.vacate(record.user)
    elseif redis.call('ZREM', pool.delayed, job) == 0 then
      line.unhold(job, record.user, record.tier)
    end
  end

  -- What has waited out its time waits in the line again: a lease that ran out at the place it had, a retry whose moment
  -- has come at the place it had. At most 16 of each a call, so that no claim pays for a crowd. A job without a record is
  -- none that this code put there: it is dropped, and sweep puts it back. Gives how many came back.
  function line.due_back(now)
    local lapsed = redis.call('ZRANGE', pool.leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)
    local ripe = redis.call('ZRANGE', pool.delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)
    for _, job in ipairs(lapsed) do
      local record = line.read(job)
      if record then line.come_back(job, record) else redis.call('ZREM', pool.leases, job) end
    end
    for _, job in ipairs(ripe) do
      local record = line.read(job)
      redis.call('ZREM', pool.delayed, job)
      if record then line.join(job, record) end
    end
    line.fill()
    return #lapsed + #ripe
  end

  return line, pool
end
